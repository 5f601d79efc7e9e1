//! Comparing the replicas' digests.

use std::collections::BTreeMap;

use crate::id::{Digest, Rank, Step};

/// Digests that members have reported, by step.
#[derive(Debug, Default)]
pub(crate) struct Vote {
    open: BTreeMap<Step, BTreeMap<Rank, Digest>>,
}

impl Vote {
    /// Takes a member's digest after `step`. Says who holds what if not all agree.
    ///
    /// A step leaves the books when all `members` have agreed on it.
    pub(crate) fn cast(
        &mut self,
        step: Step,
        rank: Rank,
        digest: Digest,
        members: u32,
    ) -> Result<(), String> {
        let ballots = self.open.entry(step).or_default();
        ballots.insert(rank, digest);
        if ballots.values().any(|other| *other != digest) {
            let held: Vec<String> = ballots
                .iter()
                .map(|(rank, digest)| format!("rank {rank} holds {digest}"))
                .collect();
            return Err(format!(
                "replicas differ after step {step}: {}",
                held.join(", ")
            ));
        }
        if ballots.len() == members as usize {
            self.open.remove(&step);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_digests_close_the_step_and_a_different_one_is_named() {
        let mut vote = Vote::default();
        assert_eq!(vote.cast(3, 0, Digest([1; 32]), 2), Ok(()));
        assert_eq!(vote.cast(3, 1, Digest([1; 32]), 2), Ok(()));
        assert!(vote.open.is_empty());
        assert_eq!(vote.cast(4, 1, Digest([1; 32]), 2), Ok(()));
        let complaint = vote
            .cast(4, 0, Digest([2; 32]), 2)
            .expect_err("they differ");
        assert!(complaint.contains("after step 4"));
        assert!(complaint.contains("rank 0 holds 0202") && complaint.contains("rank 1 holds 0101"));
    }
}
