//! What becomes of the residuals of those who go.
//!
//! A member that leaves in order has sent its residual in a last contribution, and says so when that is
//! applied. It is a member until the next view is there, so that this view begins after that step whoever
//! else has come so far. One that was left out may come back with its residual, as it was before the first
//! step to which its contributions do not count.

use super::{Command, Coordinator, Phase};
use crate::id::{NodeId, Step};
use crate::message::{Failure, Legacy, ToNode};
use crate::view::View;

impl Coordinator {
    /// A member has made its last contribution: the next view does without it.
    pub(super) fn depart(
        &mut self,
        from: NodeId,
        step: Step,
        failure: Failure,
        out: &mut Vec<Command>,
    ) {
        let is_member = match &self.phase {
            Phase::Training(view) | Phase::Changing(view, _) | Phase::Storing(view, _) => {
                view.rank_of(from).is_some()
            }
            Phase::Gathering | Phase::Recovering(_) | Phase::Over => false,
        };
        let failure = failure.by(&self.name(from));
        if !is_member {
            return self.lose(from, failure, out);
        }
        out.push(Command::Explain(failure.to_string()));
        self.departures.insert(from, step);
        self.loss = Some(failure);
        self.change(out);
        self.decide(out);
    }

    /// Says what becomes of residuals with a view that begins at `first_step` with these members.
    pub(super) fn bequeath(&self, first_step: Step, members: &[NodeId], out: &mut Vec<Command>) {
        for (node, step) in &self.departures {
            let (node, step) = (*node, *step);
            if step < first_step && !members.contains(&node) {
                out.push(Command::Bequeath(Legacy::Flushed { node, step }));
            }
        }
        for by in members.iter().copied() {
            let seat = self.seats.get(by).filter(|_| !self.history.has_member(by));
            if let Some(node) = seat.and_then(|seat| seat.heir_of) {
                out.push(Command::Bequeath(Legacy::Kept { node, by }));
            }
        }
    }

    /// The step before which the residual counts that a node has told of; it goes on with that from here.
    pub(super) fn inherit(&mut self, by: NodeId) -> Option<Step> {
        let residual = self.seats.get(by)?.residual?;
        let gone = self.seats.get(residual.node).is_none();
        let first = self.history.left_out(residual.node);
        // With a quorum, contributions may count for longer, and go back for longer, than it is known for.
        let known = gone && self.config.quorum.is_none();
        let first = first.filter(|first| known && *first >= residual.first);
        if let Some(seat) = self.seats.get_mut(by) {
            seat.heir_of = first.map(|_| residual.node);
        }
        first
    }

    /// Lets go of those who have left, now that there is a view without them; its `installation` says what one of
    /// them may still have to do.
    pub(super) fn release(
        &mut self,
        view: &View,
        installation: impl Fn(NodeId) -> ToNode,
        out: &mut Vec<Command>,
    ) {
        let gone = |node: &NodeId| view.rank_of(*node).is_none();
        let gone: Vec<NodeId> = self.departures.keys().copied().filter(gone).collect();
        for to in gone {
            self.departures.remove(&to);
            if self.seats.get(to).is_some() {
                let message = installation(to);
                out.push(Command::Send { to, message });
                self.seats.free(to);
            }
        }
    }
}
