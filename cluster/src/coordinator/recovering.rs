//! A coordinator that begins in the middle of a run.
//!
//! All that it has is the history, which is durable, and that is enough. Members that trained on without
//! it come back and are where they were: if all have heard of the last view and nobody stands still, nothing
//! has to be done. Otherwise the view changes, as it does when a member is lost. Who does not come back
//! within the lease is lost.
//!
//! If no member is left, the run goes on from checkpoints as soon as there are as many nodes as it began
//! with: at the latest step for which those of all members are there. Without checkpoints it can so begin
//! anew, from the seed, as long as it has made no step: its first view may be stored, and nobody have heard of it.

use std::collections::BTreeMap;

use super::change::Change;
use super::seats::Seats;
use super::{Command, Coordinator, Phase};
use crate::config::RunConfig;
use crate::id::{Digest, Millis, NodeId, Rank, Step, ViewNumber};
use crate::message::{Failure, Fingerprint, Legacy, ToNode};
use crate::view::View;

impl Coordinator {
    /// A coordinator of a run that has this history of views, of which it is known that it has made `made`
    /// steps, and that began with replicas and data of this fingerprint; the rest is as for
    /// [`Coordinator::new`].
    pub fn resume(
        config: &RunConfig,
        text: String,
        version: String,
        views: impl IntoIterator<Item = View>,
        made: Step,
        standard: Option<Fingerprint>,
    ) -> Self {
        let mut coordinator = Self::new(config, text, version);
        coordinator.seats = Seats::new(config.nodes, standard);
        for view in views {
            coordinator.phase = Phase::Recovering(view.clone());
            coordinator.history.push(view);
        }
        if let Phase::Recovering(view) = &coordinator.phase
            && config.checkpoint_every.is_none()
            && (made > 0 || view.first_step > 0)
        {
            // Only its members can go on. Their leases begin when time does.
            let view = view.clone();
            coordinator.seats.expect(&view, 0);
            coordinator.phase = Phase::Training(view);
        }
        coordinator
    }

    /// A member is back that trained on without a session. Only this process's own absence excuses it:
    /// what it has not heard of is not said again.
    pub(super) fn returned(
        &mut self,
        now: Millis,
        from: NodeId,
        view: ViewNumber,
        frozen: bool,
        out: &mut Vec<Command>,
    ) {
        if let Phase::Recovering(last) = &self.phase
            && last.rank_of(from).is_some()
        {
            self.revive(now, &last.clone(), out);
        }
        let expected = view <= self.history.last();
        let Some(seat) = self
            .seats
            .get_mut(from)
            .filter(|seat| seat.absent && expected)
        else {
            let text = format!("{} came back too late", self.name(from));
            let failure = Failure::MemberLost(text);
            let message = ToNode::Excluded(failure.clone());
            out.push(Command::Send { to: from, message });
            return self.lose(from, failure, out);
        };
        (seat.absent, seat.heard) = (false, now);
        match &mut self.phase {
            Phase::Training(last) if last.number == view && !frozen => {
                let last = last.clone();
                for node in self.seats.waiting(&last) {
                    self.observe(last.number, from, node, out);
                }
            }
            Phase::Training(_) => self.change(out),
            Phase::Changing(last, change) => {
                change.forgive(now);
                let view = last.number;
                let message = ToNode::Freeze { view };
                out.push(Command::Send { to: from, message });
            }
            _ => {}
        }
    }

    /// The run goes on where it is. Nodes that came meanwhile are newcomers, as far as there is room.
    fn revive(&mut self, now: Millis, view: &View, out: &mut Vec<Command>) {
        let mut room = (self.config.nodes as usize).saturating_sub(view.members.len());
        self.phase = Phase::Training(view.clone());
        let came: Vec<NodeId> = self.seats.nodes().collect();
        self.seats.expect(view, now);
        for node in came {
            let observes = self.observes(node);
            if room == 0 && !observes {
                let text = "the members of the run are back".to_owned();
                self.exclude(node, Failure::MemberLost(text), out);
            } else if self
                .seats
                .get(node)
                .is_some_and(|seat| seat.fingerprint.is_some())
            {
                self.follow(view, node, out);
            }
            room = room.saturating_sub(usize::from(!observes));
        }
    }

    /// Goes on from checkpoints, or from the seed if there are none.
    pub(super) fn recover(&mut self, out: &mut Vec<Command>) {
        let nodes: Vec<NodeId> = self.seats.members().iter().map(|m| m.node).collect();
        let kept = self.kept(&nodes);
        let per_step = |members| self.config.samples_per_step(members);
        let first_step = kept.as_ref().map_or(0, |(step, _)| *step);
        let members = match &kept {
            Some((_, holders)) => holders.iter().map(|(_, node)| *node).collect(),
            None => nodes,
        };
        let members = members.into_iter();
        let view = View {
            number: self.history.last().saturating_add(1),
            first_step,
            consumed: self.history.consumed(first_step, per_step),
            members: members.filter_map(|node| self.seats.member(node)).collect(),
        };
        for (rank, by) in kept.into_iter().flat_map(|(_, holders)| holders) {
            self.restores.insert(by, rank);
            let maker = self.history.maker_before(first_step);
            let member = maker.and_then(|maker| maker.members.get(rank as usize));
            let kept = member.map(|member| Legacy::Kept {
                node: member.node,
                by,
            });
            out.extend(kept.map(Command::Bequeath));
        }
        let change = Change::at(&view, first_step);
        self.store(view, change, out);
    }

    /// The step of the checkpoints to go on from, and which node takes up which rank's. The latest of which
    /// every member's is there, or else that of which most are. What views have made that no longer
    /// stand does not count. Nothing if there are none.
    fn kept(&self, nodes: &[NodeId]) -> Option<(Step, Vec<(Rank, NodeId)>)> {
        let mut found: BTreeMap<(Step, Digest), BTreeMap<Rank, Vec<NodeId>>> = BTreeMap::new();
        for node in nodes {
            let seat = self.seats.get(*node);
            for kept in seat.into_iter().flat_map(|seat| &seat.kept) {
                let maker = self.history.maker_before(kept.step);
                let stands = |maker: &&View| maker.number == kept.view;
                if maker.filter(stands).is_some_and(|it| kept.rank < it.size()) {
                    let ranks = found.entry((kept.step, kept.digest)).or_default();
                    ranks.entry(kept.rank).or_default().push(*node);
                }
            }
        }
        let choices = found.into_iter().map(|((step, _), ranks)| {
            let holders = self.holders(ranks);
            let size = self.history.maker_before(step).map_or(0, View::size);
            let missing = size as usize - holders.len();
            // Those of which something is missing come after all that are whole.
            ((std::cmp::Reverse(missing), step), (step, holders))
        });
        let best = choices.max_by_key(|(order, _)| *order);
        best.map(|(_, choice)| choice)
    }

    /// Gives each rank's checkpoint to a node that has it: to the one that asked for the rank, or to any
    /// that has no other yet, first where there is least choice.
    fn holders(&self, ranks: BTreeMap<Rank, Vec<NodeId>>) -> Vec<(Rank, NodeId)> {
        let asked = |rank: Rank, node: &NodeId| {
            let seat = self.seats.get(*node);
            seat.is_some_and(|seat| seat.rank == Some(rank))
        };
        let mut order: Vec<(Rank, Vec<NodeId>)> = ranks.into_iter().collect();
        order.sort_by_key(|(rank, nodes)| {
            (!nodes.iter().any(|node| asked(*rank, node)), nodes.len())
        });
        let mut taken: BTreeMap<NodeId, Rank> = BTreeMap::new();
        for (rank, nodes) in order {
            let free = |node: &&NodeId| !taken.contains_key(node);
            let mut own = nodes.iter().filter(free);
            let own = own.find(|node| asked(rank, node));
            if let Some(node) = own.or_else(|| nodes.iter().find(free)) {
                taken.insert(*node, rank);
            }
        }
        let mut holders: Vec<_> = taken.into_iter().map(|(node, rank)| (rank, node)).collect();
        holders.sort_unstable();
        holders
    }
}
