//! Who makes up the steps of a view: decided by its rank 0, known to all others.

use std::collections::BTreeMap;

use super::{Command, Node, Phase, Place};
use crate::id::{Millis, Rank, Step};
use crate::quorum::{Decision, LEFT_OUT_MAX, Quorum};

/// What is known of who makes up the steps of a view, if that is decided step by step.
#[derive(Clone, Debug)]
pub(super) struct Decisions {
    quorum: Quorum,
    members: u32,
    /// Decisions on the step under way and later ones.
    made: BTreeMap<Step, Vec<Rank>>,
    /// Of the decider: the last step of which each member was part.
    last: BTreeMap<Rank, Step>,
    /// Of the decider: since when there are enough contributions to the step under way.
    since: Option<Millis>,
    /// Of the decider: when the wait for the rest ends, if it has not.
    due: Option<Millis>,
}

impl Decisions {
    pub(super) fn new(quorum: Quorum, members: u32) -> Self {
        Self {
            quorum,
            members,
            made: BTreeMap::new(),
            last: BTreeMap::new(),
            since: None,
            due: None,
        }
    }

    pub(super) fn of(&self, step: Step) -> Option<&[Rank]> {
        self.made.get(&step).map(Vec::as_slice)
    }

    /// Takes over a decision that the decider can have made; the first on a step counts.
    pub(super) fn learn(&mut self, step: Step, ranks: Vec<Rank>) {
        let least = self.quorum.least_of(self.members) as usize;
        let ascending = ranks.is_sorted_by(|a, b| a < b);
        let known = ranks.last().is_some_and(|last| *last < self.members);
        if ascending && known && ranks.len() >= least {
            self.made.entry(step).or_insert(ranks);
        }
    }

    /// Decides on `step`, the one under way, if it is time: `there` are those whose contributions are. All
    /// make up the first step of a view: only then is it known that everybody has arrived in it.
    pub(super) fn decide(&mut self, now: Millis, step: Step, there: Vec<Rank>) -> bool {
        self.due = None;
        if there.len() < self.members as usize {
            if there.len() < self.quorum.least_of(self.members) as usize {
                return false;
            }
            let due = self
                .since
                .get_or_insert(now)
                .saturating_add(self.quorum.wait);
            self.due = (now < due).then_some(due);
            let left_out = (0..self.members).filter(|rank| there.binary_search(rank).is_err());
            let mut last = left_out.map(|rank| self.last.get(&rank));
            let may = |last: Option<&Step>| last.is_some_and(|last| step - last <= LEFT_OUT_MAX);
            if now < due || !last.all(may) {
                return false;
            }
        }
        self.last.extend(there.iter().map(|rank| (*rank, step)));
        self.since = None;
        self.made.insert(step, there);
        true
    }

    pub(super) fn due(&self) -> Option<Millis> {
        self.due
    }

    /// Forgets what was decided on steps before `step`.
    pub(super) fn forget_before(&mut self, step: Step) {
        self.made = self.made.split_off(&step);
    }
}

impl Node {
    /// Takes over a decision of rank 0, or of whoever supplies it.
    pub(super) fn decided(&mut self, decision: Decision, out: &mut Vec<Command>) {
        if let Phase::Following(place, _) | Phase::Linking(place) | Phase::Training(place) =
            &mut self.phase
        {
            place.round.learn(decision);
        }
        self.advance(out);
    }

    /// Decides on the step under way, if that is this node's part and it is time.
    pub(super) fn decide(&mut self, out: &mut Vec<Command>) {
        let Phase::Training(place) = &mut self.phase else {
            return;
        };
        let decides = place.view.rank_of(self.id) == Some(0) && !place.frozen;
        if !decides || place.round.step() >= self.steps {
            return;
        }
        if let Some(decision) = place.round.decide(self.now) {
            let (step, size) = (decision.step, place.view.size());
            let left_out = (0..size).filter(|rank| !decision.ranks.contains(rank));
            let left_out: Vec<String> = left_out.map(|rank| rank.to_string()).collect();
            let before = step
                .checked_sub(1)
                .and_then(|before| self.made.get(&before));
            let was_late = before.is_some_and(|made| made.ranks.len() < size as usize);
            let reason = match &left_out[..] {
                [] if was_late => format!("step {step} is made by all again"),
                [] => String::new(),
                [rank] => format!("step {step} goes on without rank {rank}"),
                ranks => format!("step {step} goes on without ranks {}", ranks.join(", ")),
            };
            if !reason.is_empty() {
                out.push(Command::Explain(reason));
            }
            out.push(Command::Decide(decision));
        }
    }

    /// Asks for the contribution to the step under way, unless that is going to be made without it. With
    /// a quorum, steps may have been decided while the trainer was busy: only once it has applied them is
    /// it known which is the newest.
    pub(super) fn ask(&mut self, out: &mut Vec<Command>) {
        let idle = self.quorum.is_none() || self.applying == 0;
        let steps = self.steps;
        let may = |place: &Place| {
            !(place.computing || place.frozen || place.hold || place.round.is_left_out())
                && place.round.step() < steps
        };
        let step = match &self.phase {
            Phase::Training(place) if idle && may(place) => place.round.step(),
            _ => return,
        };
        let contribution = self.contribution(step);
        if let Some(place) = self.place_mut() {
            place.computing = contribution.is_some();
        }
        out.extend(contribution);
    }
}

#[cfg(test)]
#[path = "quorum_tests.rs"]
mod tests;
