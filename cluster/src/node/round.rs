//! Which frames have arrived for the step under way and later ones.

use std::collections::{BTreeMap, BTreeSet};

use super::quorum::Decisions;
use crate::id::{Millis, Rank, Step, ViewNumber};
use crate::message::FrameKey;
use crate::quorum::{Decision, Quorum, reach};
use crate::view::View;

/// What becomes of an arriving frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts: keep it until its step is applied.
    Keep,
    /// The same frame is held already.
    Duplicate,
    /// Its step has been applied.
    Late,
    /// Its sender is further ahead than any correct member can be.
    Early,
    /// It belongs to another view.
    Foreign,
    /// No such member or bucket, or a frame of our own coming back.
    Unknown,
}

/// The frames held for the step under way and later ones.
///
/// To send step *t* + 1 a member must have applied step *t*, for which it needed all that make it up. So
/// what a member sees in flight are steps within [`reach`] of its own. Nobody waits for a node that
/// only follows the view: it holds as many as it is behind.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    view: ViewNumber,
    members: u32,
    /// Nothing for a node that follows.
    own: Option<Rank>,
    buckets: u32,
    step: Step,
    /// By step and rank, which buckets.
    held: BTreeMap<Step, BTreeMap<Rank, BTreeSet<u32>>>,
    contributed: bool,
    reach: Step,
    /// Who makes up the steps, if that is not simply everybody.
    decisions: Option<Decisions>,
}

impl Round {
    /// The round of `view` for its member of rank `own`, or for a node that follows it.
    pub(crate) fn new(
        view: &View,
        own: Option<Rank>,
        buckets: u32,
        quorum: Option<Quorum>,
    ) -> Self {
        Self {
            view: view.number,
            members: view.size(),
            own,
            buckets,
            step: view.first_step,
            held: BTreeMap::new(),
            contributed: false,
            reach: reach(quorum),
            decisions: quorum.map(|quorum| Decisions::new(quorum, view.size())),
        }
    }

    /// Goes on from `step`, before which everything is applied.
    pub(crate) fn skip_to(&mut self, step: Step) {
        self.step = step;
        self.held = self.held.split_off(&step);
        if let Some(decisions) = &mut self.decisions {
            decisions.forget_before(step);
        }
    }

    /// The step under way.
    pub(crate) fn step(&self) -> Step {
        self.step
    }

    /// Judges a frame of another member, and remembers it if it counts.
    pub(crate) fn arrive(&mut self, key: FrameKey) -> Verdict {
        if key.view != self.view {
            Verdict::Foreign
        } else if key.rank >= self.members
            || Some(key.rank) == self.own
            || key.bucket >= self.buckets
        {
            Verdict::Unknown
        } else if key.step < self.step {
            Verdict::Late
        } else if self.is_beyond(key.step) {
            Verdict::Early
        } else {
            let held = self.held.entry(key.step).or_default();
            if held.entry(key.rank).or_default().insert(key.bucket) {
                Verdict::Keep
            } else {
                Verdict::Duplicate
            }
        }
    }

    /// Whether no correct member can be so far while this one is where it is.
    fn is_beyond(&self, step: Step) -> bool {
        self.own.is_some() && step > self.step.saturating_add(self.reach)
    }

    /// Notes that the own contribution to `step` is complete and under way to the others. Only the
    /// step under way has been asked for, so no other counts, unless it comes too late.
    pub(crate) fn contribute(&mut self, step: Step) {
        self.contributed |= step == self.step;
    }

    /// Notes who makes up a step.
    pub(super) fn learn(&mut self, decision: Decision) {
        let Decision { view, step, ranks } = decision;
        if view == self.view
            && step >= self.step
            && !self.is_beyond(step)
            && let Some(decisions) = &mut self.decisions
        {
            decisions.learn(step, ranks);
        }
    }

    /// Decides who makes up the step under way, where that is this member's part and has to be decided.
    pub(super) fn decide(&mut self, now: Millis) -> Option<Decision> {
        let (view, step) = (self.view, self.step);
        if self.decisions.as_ref()?.of(step).is_some() {
            return None;
        }
        let there = (0..self.members)
            .filter(|rank| self.is_there(*rank))
            .collect();
        let decisions = self.decisions.as_mut()?;
        if !decisions.decide(now, step, there) {
            return None;
        }
        let ranks = decisions.of(step)?.to_vec();
        Some(Decision { view, step, ranks })
    }

    /// When it is time to decide, if that is known.
    pub(super) fn due(&self) -> Option<Millis> {
        self.decisions.as_ref()?.due()
    }

    /// Whether the step under way is made without this member.
    pub(super) fn is_left_out(&self) -> bool {
        let decisions = self.decisions.as_ref();
        let ranks = decisions.and_then(|decisions| decisions.of(self.step));
        ranks.is_some_and(|ranks| self.own.is_some_and(|own| !ranks.contains(&own)))
    }

    /// Moves on to the next step if all that makes up the one under way is here; says who did.
    pub(crate) fn advance(&mut self) -> Option<Vec<Rank>> {
        let ranks: Vec<Rank> = match &self.decisions {
            Some(decisions) => decisions.of(self.step)?.to_vec(),
            None => (0..self.members).collect(),
        };
        if !ranks.iter().all(|rank| self.is_there(*rank)) {
            return None;
        }
        self.contributed = false;
        self.skip_to(self.step.saturating_add(1));
        Some(ranks)
    }

    /// Whether the whole contribution of `rank` to the step under way is here.
    fn is_there(&self, rank: Rank) -> bool {
        if Some(rank) == self.own {
            return self.contributed;
        }
        let held = self.held.get(&self.step).and_then(|held| held.get(&rank));
        held.map_or(0, BTreeSet::len) == self.buckets as usize
    }

    /// The ranks whose contribution to the step under way is not complete.
    pub(crate) fn missing(&self) -> Vec<Rank> {
        (0..self.members)
            .filter(|rank| Some(*rank) != self.own && !self.is_there(*rank))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Member;

    fn round(first_step: Step, members: u64, own: Option<Rank>, buckets: u32) -> Round {
        let member = |node| Member {
            node,
            address: String::new(),
        };
        let view = View {
            number: 1,
            first_step,
            consumed: 0,
            members: (0..members).map(member).collect(),
        };
        Round::new(&view, own, buckets, None)
    }

    fn key(step: Step, rank: Rank, bucket: u32) -> FrameKey {
        FrameKey {
            view: 1,
            step,
            rank,
            bucket,
        }
    }

    #[test]
    fn a_step_is_complete_when_every_bucket_of_every_member_is_here() {
        let mut round = round(0, 3, Some(1), 2);
        for (rank, bucket) in [(2, 1), (0, 0), (2, 0)] {
            assert_eq!(round.arrive(key(0, rank, bucket)), Verdict::Keep);
        }
        round.contribute(0);
        assert!(round.advance().is_none());
        assert_eq!(round.missing(), [0]);
        assert_eq!(round.arrive(key(0, 0, 1)), Verdict::Keep);
        assert!(round.advance().is_some());
        assert_eq!(round.step(), 1);
    }

    #[test]
    fn frames_are_told_apart_by_their_identity() {
        let mut round = round(5, 2, Some(0), 1);
        assert_eq!(round.arrive(key(6, 1, 0)), Verdict::Keep);
        assert_eq!(round.arrive(key(6, 1, 0)), Verdict::Duplicate);
        assert_eq!(round.arrive(key(4, 1, 0)), Verdict::Late);
        assert_eq!(round.arrive(key(7, 1, 0)), Verdict::Early);
        assert_eq!(round.arrive(key(5, 0, 0)), Verdict::Unknown);
        assert_eq!(round.arrive(key(5, 2, 0)), Verdict::Unknown);
        assert_eq!(round.arrive(key(5, 1, 1)), Verdict::Unknown);
        assert_eq!(
            round.arrive(FrameKey {
                view: 2,
                ..key(5, 1, 0)
            }),
            Verdict::Foreign
        );
    }

    #[test]
    fn alone_the_own_contribution_completes_the_step() {
        let mut round = round(0, 1, Some(0), 4);
        assert!(round.advance().is_none());
        round.contribute(0);
        assert!(round.advance().is_some());
    }

    #[test]
    fn who_follows_holds_all_that_comes_and_contributes_nothing() {
        let mut round = round(2, 2, None, 1);
        for step in [9, 7, 8] {
            for rank in [0, 1] {
                assert_eq!(round.arrive(key(step, rank, 0)), Verdict::Keep);
            }
        }
        assert!(round.advance().is_none(), "steps 2 to 6 are missing");
        round.skip_to(8);
        assert_eq!(round.arrive(key(7, 0, 0)), Verdict::Late);
        for complete in [true, true, false] {
            assert_eq!(round.advance().is_some(), complete);
        }
        assert_eq!((round.step(), round.missing()), (10, vec![0, 1]));
    }
}
