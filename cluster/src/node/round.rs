//! Which frames have arrived for the step under way and the one after it.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Rank, Step, ViewNumber};
use crate::message::FrameKey;
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
/// No member can be more than one step ahead of another: to send step *t* + 1 it must have applied
/// step *t*, for which it needed ours. So two steps are all that a member sees in flight. Nobody
/// waits for a node that only follows the view: it holds as many as it is behind.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    view: ViewNumber,
    members: u32,
    /// Nothing for a node that follows.
    own: Option<Rank>,
    buckets: u32,
    step: Step,
    held: BTreeMap<Step, BTreeSet<(Rank, u32)>>,
    contributed: bool,
}

impl Round {
    /// The round of `view` for its member of rank `own`, or for a node that follows it.
    pub(crate) fn new(view: &View, own: Option<Rank>, buckets: u32) -> Self {
        Self {
            view: view.number,
            members: view.size(),
            own,
            buckets,
            step: view.first_step,
            held: BTreeMap::new(),
            contributed: false,
        }
    }

    /// Goes on from `step`, before which everything is applied.
    pub(crate) fn skip_to(&mut self, step: Step) {
        self.step = step;
        self.held = self.held.split_off(&step);
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
        } else if self.own.is_some() && key.step > self.step + 1 {
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

    /// Moves on to the next step if all contributions to the one under way are here; says whether.
    pub(crate) fn advance(&mut self) -> bool {
        if !self.is_complete() {
            return false;
        }
        self.held.remove(&self.step);
        self.contributed = false;
        self.step += 1;
        true
    }

    /// Whether all contributions to the step under way are here.
    pub(crate) fn is_complete(&self) -> bool {
        let others = self.members as usize - usize::from(self.own.is_some());
        let arrived = self.held.get(&self.step).map_or(0, BTreeSet::len);
        arrived == others * self.buckets as usize && (self.contributed || self.own.is_none())
    }

    /// The ranks whose contribution to the step under way is not complete.
    pub(crate) fn missing(&self) -> Vec<Rank> {
        let held = self.held.get(&self.step);
        let complete = |rank: Rank| {
            let frames = held.map_or(0, |held| held.range((rank, 0)..=(rank, u32::MAX)).count());
            frames == self.buckets as usize
        };
        (0..self.members)
            .filter(|rank| Some(*rank) != self.own && !complete(*rank))
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
        Round::new(&view, own, buckets)
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
        assert!(!round.advance());
        assert_eq!(round.missing(), [0]);
        assert_eq!(round.arrive(key(0, 0, 1)), Verdict::Keep);
        assert!(round.advance());
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
        assert!(!round.advance());
        round.contribute(0);
        assert!(round.advance());
    }

    #[test]
    fn who_follows_holds_all_that_comes_and_contributes_nothing() {
        let mut round = round(2, 2, None, 1);
        for step in [9, 7, 8] {
            for rank in [0, 1] {
                assert_eq!(round.arrive(key(step, rank, 0)), Verdict::Keep);
            }
        }
        assert!(!round.advance(), "steps 2 to 6 are missing");
        round.skip_to(8);
        assert_eq!(round.arrive(key(7, 0, 0)), Verdict::Late);
        assert!(round.advance() && round.advance() && !round.advance());
        assert_eq!((round.step(), round.missing()), (10, vec![0, 1]));
    }
}
