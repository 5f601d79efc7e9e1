//! From one view to the next: who is asked, what is stored, who is told.

use super::change::{Change, Decision, Supply};
use super::vote::Vote;
use super::{Command, Coordinator, Phase};
use crate::id::{NodeId, Rank, Step, ViewNumber};
use crate::message::{Failure, Installation, ToNode};
use crate::view::{Member, View};

impl Coordinator {
    /// Lets a node follow the view until it has caught up.
    pub(super) fn follow(&mut self, view: &View, node: NodeId, out: &mut Vec<Command>) {
        for member in &view.members {
            self.observe(view.number, member.node, node, out);
        }
        let donor = view.size().saturating_sub(1); // Rank 0 has the evaluations to do.
        let residual = self.inherit(node);
        let view = view.clone();
        let message = ToNode::Follow {
            view,
            donor,
            residual,
        };
        out.push(Command::Send { to: node, message });
    }

    /// Lets a member stream to a node that follows the view.
    pub(super) fn observe(
        &mut self,
        view: ViewNumber,
        to: NodeId,
        node: NodeId,
        out: &mut Vec<Command>,
    ) {
        if let Some(seat) = self.seats.get_mut(node) {
            seat.caught_up = None;
            let address = seat.address.clone();
            let observer = Member { node, address };
            let message = ToNode::Observe { view, observer };
            out.push(Command::Send { to, message });
        }
    }

    /// Makes members of those who have caught up.
    pub(super) fn admit(&mut self, out: &mut Vec<Command>) {
        let Phase::Training(view) = &self.phase else {
            return;
        };
        let done = |member| {
            self.seats
                .get(member)
                .is_some_and(|seat| seat.finished.is_some())
        };
        if view.members.iter().any(|member| done(member.node)) {
            return; // There is nothing left to do.
        }
        let ready = |node: &NodeId| self.may_train(*node, view.number);
        if self.seats.waiting(view).iter().any(ready) {
            self.change(out);
        }
    }

    pub(super) fn observes(&self, node: NodeId) -> bool {
        self.seats.get(node).is_some_and(|seat| seat.observe)
    }

    /// Whether a node that follows the view can be a member of the next.
    fn may_train(&self, node: NodeId, view: ViewNumber) -> bool {
        let seat = self.seats.get(node);
        seat.is_some_and(|seat| seat.caught_up == Some(view) && !seat.observe)
    }

    pub(super) fn store(&mut self, view: View, change: Change, out: &mut Vec<Command>) {
        out.push(Command::Persist(view.clone()));
        self.phase = Phase::Storing(view, change);
    }

    pub(super) fn persisted(&mut self, number: ViewNumber, out: &mut Vec<Command>) {
        let Phase::Storing(view, change) = &self.phase else {
            return;
        };
        if view.number != number {
            return;
        }
        let (view, change) = (view.clone(), change.clone());
        self.history.push(view.clone());
        let present = |member: &Member| self.seats.get(member.node).is_some();
        if !view.members.iter().all(present) {
            // Somebody was lost meanwhile.
            self.phase = Phase::Changing(view, change);
            return self.decide(out);
        }
        let stays = |node: &NodeId| view.rank_of(*node).is_some();
        let decision = change.decide(self.config.reach(), stays);
        self.install(view, decision.and_then(|decision| decision.supply), out);
    }

    pub(super) fn install(&mut self, view: View, supply: Option<Supply>, out: &mut Vec<Command>) {
        let (donor, to, lacking) = match supply {
            Some(supply) => (Some(supply.donor), supply.to, supply.lacking),
            None => (None, Vec::new(), view.first_step),
        };
        // One that leaves may be gone before all is supplied, and nobody hears of that but from its end.
        self.donor = donor.filter(|node| view.rank_of(*node).is_none());
        let behind: Vec<Member> = to
            .into_iter()
            .filter_map(|node| self.seats.member(node))
            .collect();
        let hold = view.size() < self.config.min_nodes;
        let installation = |to: NodeId, restore: Option<Rank>| {
            let gives = donor == Some(to);
            ToNode::Install(Installation {
                view: view.clone(),
                hold,
                supply: behind.iter().filter(|_| gives).cloned().collect(),
                lacking: if gives { lacking } else { view.first_step },
                restore,
            })
        };
        for member in &view.members {
            let to = member.node;
            let message = installation(to, self.restores.get(&to).copied());
            out.push(Command::Send { to, message });
            if let Some(seat) = self.seats.get_mut(to) {
                seat.finished = None;
            }
        }
        self.release(&view, |to| installation(to, None), out);
        self.restores.clear();
        self.vote = Vote::default();
        for node in self.seats.waiting(&view) {
            self.follow(&view, node, out);
        }
        self.phase = Phase::Training(view);
        if !self.departures.is_empty() {
            // Of members of this view, who have said so while it was being stored.
            self.change(out);
        }
    }

    /// Asks everybody to stand still.
    pub(super) fn change(&mut self, out: &mut Vec<Command>) {
        let Phase::Training(view) = &self.phase else {
            return;
        };
        let may_train = |node: &NodeId| self.may_train(*node, view.number);
        let followers = self.seats.waiting(view).into_iter().filter(may_train);
        let present = |node| self.seats.get(node).is_some();
        let change = Change::new(self.awake, view, present, followers);
        for to in change.asked() {
            let view = view.number;
            let message = ToNode::Freeze { view };
            out.push(Command::Send { to, message });
        }
        self.phase = Phase::Changing(view.clone(), change);
        self.decide(out);
    }

    pub(super) fn frozen(
        &mut self,
        from: NodeId,
        number: ViewNumber,
        next: Step,
        out: &mut Vec<Command>,
    ) {
        match &mut self.phase {
            Phase::Changing(view, change) if view.number == number => change.answer(from, next),
            _ => return,
        }
        self.decide(out);
    }

    /// Goes on to the next view once all answers are there.
    pub(super) fn decide(&mut self, out: &mut Vec<Command>) {
        let Phase::Changing(view, change) = &self.phase else {
            return;
        };
        let nobody_stays = change
            .asked()
            .all(|node| self.departures.contains_key(&node));
        if nobody_stays && self.config.checkpoint_every.is_some() {
            let view = view.clone();
            for node in change.asked().collect::<Vec<_>>() {
                let text = "nobody is left to go on".to_owned();
                let message = ToNode::Excluded(Failure::Stopped(text));
                out.push(Command::Send { to: node, message });
                self.seats.free(node);
            }
            self.departures.clear();
            self.phase = Phase::Recovering(view);
            return;
        }
        if nobody_stays {
            let failure = self.loss.take();
            let failure = failure.unwrap_or(Failure::MemberLost("no member is left".into()));
            return self.fail(failure, out);
        }
        let change = change.clone();
        let stays = |node: &NodeId| !self.departures.contains_key(node);
        let Some(Decision {
            first_step,
            members,
            astray,
            ..
        }) = change.decide(self.config.reach(), stays)
        else {
            return;
        };
        if let Some((node, next)) = astray.first().copied() {
            let who = self.name(node);
            let text = format!("{who} stands at step {next} where others begin {first_step}");
            return self.lose(node, Failure::MemberLost(text), out);
        }
        let members: Vec<NodeId> = members.into_iter().filter(stays).collect();
        self.bequeath(first_step, &members, out);
        let view = View {
            number: self.history.last().saturating_add(1),
            first_step,
            consumed: self
                .history
                .consumed(first_step, |members| self.config.samples_per_step(members)),
            members: members
                .iter()
                .filter_map(|node| self.seats.member(*node))
                .collect(),
        };
        self.store(view, change, out);
    }
}
