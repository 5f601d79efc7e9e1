//! Which frames have arrived for the step under way and the one after it.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Rank, Step, ViewNumber};
use crate::message::FrameKey;

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

/// The frames held for `step` and `step + 1`.
///
/// No member can be more than one step ahead of another: to send step *t* + 1 it must have applied
/// step *t*, for which it needed ours. So two steps are all that can be in flight.
#[derive(Debug)]
pub(crate) struct Round {
    view: ViewNumber,
    members: u32,
    own: Rank,
    buckets: u32,
    step: Step,
    held: BTreeMap<Step, BTreeSet<(Rank, u32)>>,
    contributed: bool,
}

impl Round {
    pub(crate) fn new(
        view: ViewNumber,
        first: Step,
        members: u32,
        own: Rank,
        buckets: u32,
    ) -> Self {
        Self {
            view,
            members,
            own,
            buckets,
            step: first,
            held: BTreeMap::new(),
            contributed: false,
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
        } else if key.rank >= self.members || key.rank == self.own || key.bucket >= self.buckets {
            Verdict::Unknown
        } else if key.step < self.step {
            Verdict::Late
        } else if key.step > self.step + 1 {
            Verdict::Early
        } else if self
            .held
            .entry(key.step)
            .or_default()
            .insert((key.rank, key.bucket))
        {
            Verdict::Keep
        } else {
            Verdict::Duplicate
        }
    }

    /// Notes that the own contribution to `step` is complete and under way to the others. Only the
    /// step under way has been asked for, so no other counts.
    pub(crate) fn contribute(&mut self, step: Step) {
        self.contributed |= step == self.step;
    }

    /// Whether all contributions to the step under way are here; if so, moves on to the next step.
    pub(crate) fn advance(&mut self) -> bool {
        let expected = (self.members as usize - 1) * self.buckets as usize;
        let arrived = self.held.get(&self.step).map_or(0, BTreeSet::len);
        if arrived < expected || !self.contributed {
            return false;
        }
        self.held.remove(&self.step);
        self.contributed = false;
        self.step += 1;
        true
    }

    /// The ranks whose contribution to the step under way is not complete.
    pub(crate) fn missing(&self) -> Vec<Rank> {
        let held = self.held.get(&self.step);
        let complete = |rank: Rank| {
            let frames = held.map_or(0, |held| held.range((rank, 0)..=(rank, u32::MAX)).count());
            frames == self.buckets as usize
        };
        (0..self.members)
            .filter(|rank| *rank != self.own && !complete(*rank))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut round = Round::new(1, 0, 3, 1, 2);
        for (rank, bucket) in [(2, 1), (0, 0), (2, 0)] {
            assert_eq!(round.arrive(key(0, rank, bucket)), Verdict::Keep);
        }
        round.contribute(0);
        assert!(!round.advance());
        assert_eq!(round.missing(), [0]);
        assert_eq!(round.arrive(key(0, 0, 1)), Verdict::Keep);
        assert!(round.advance());
        assert_eq!(round.step(), 1);
    }

    #[test]
    fn frames_are_told_apart_by_their_identity() {
        let mut round = Round::new(1, 5, 2, 0, 1);
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
        let mut round = Round::new(1, 0, 1, 0, 4);
        assert!(!round.advance());
        round.contribute(0);
        assert!(round.advance());
    }
}
