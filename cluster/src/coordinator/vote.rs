//! Comparing the replicas' digests.

use std::collections::BTreeMap;

use crate::id::{Digest, Rank, Step};

/// Digests that the members of a view have reported, by step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vote {
    open: BTreeMap<Step, BTreeMap<Rank, Digest>>,
}

/// What the digests of a step amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// Not all members have reported.
    Open,
    /// All hold the same replica.
    Agreed,
    /// More than half hold the same; these do not.
    Odd { ranks: Vec<Rank>, who: String },
    /// No replica is that of more than half.
    Split(String),
}

impl Vote {
    /// Takes a member's digest after `step`. The step leaves the books, and with it earlier ones,
    /// when all `members` have reported it.
    pub(crate) fn cast(&mut self, step: Step, rank: Rank, digest: Digest, members: u32) -> Tally {
        let ballots = self.open.entry(step).or_default();
        ballots.insert(rank, digest);
        if ballots.len() < members as usize {
            return Tally::Open;
        }
        let later = self.open.split_off(&step.saturating_add(1));
        let ballots = std::mem::replace(&mut self.open, later)
            .remove(&step)
            .unwrap_or_default();
        let mut counts: BTreeMap<Digest, usize> = BTreeMap::new();
        for digest in ballots.values() {
            *counts.entry(*digest).or_default() += 1;
        }
        if counts.len() == 1 {
            return Tally::Agreed;
        }
        let held: Vec<String> = ballots
            .iter()
            .map(|(rank, digest)| format!("rank {rank} holds {digest}"))
            .collect();
        let who = format!("replicas differ after step {step}: {}", held.join(", "));
        match counts
            .into_iter()
            .find(|(_, count)| 2 * count > ballots.len())
        {
            Some((common, _)) => {
                let odd = ballots.iter().filter(|(_, digest)| **digest != common);
                Tally::Odd {
                    ranks: odd.map(|(rank, _)| *rank).collect(),
                    who,
                }
            }
            None => Tally::Split(who),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_digests_close_the_step() {
        let mut vote = Vote::default();
        assert_eq!(vote.cast(2, 0, Digest([1; 32]), 2), Tally::Open);
        assert_eq!(vote.cast(3, 0, Digest([1; 32]), 2), Tally::Open);
        assert_eq!(vote.cast(3, 1, Digest([1; 32]), 2), Tally::Agreed);
        assert!(vote.open.is_empty(), "what came before can be forgotten");
    }

    #[test]
    fn who_differs_from_most_is_named() {
        let mut vote = Vote::default();
        vote.cast(4, 0, Digest([1; 32]), 3);
        vote.cast(4, 1, Digest([2; 32]), 3);
        let Tally::Odd { ranks, who } = vote.cast(4, 2, Digest([1; 32]), 3) else {
            panic!("one of three differs");
        };
        assert_eq!(ranks, [1]);
        assert!(who.contains("after step 4") && who.contains("rank 1 holds 0202"));
    }

    #[test]
    fn without_a_majority_nobody_is_right() {
        let mut vote = Vote::default();
        vote.cast(4, 0, Digest([1; 32]), 2);
        let tally = vote.cast(4, 1, Digest([2; 32]), 2);
        assert!(matches!(tally, Tally::Split(_)), "{tally:?}");
    }
}
