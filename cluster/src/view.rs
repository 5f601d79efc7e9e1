//! Views: who makes up a step.

use crate::id::{NodeId, Rank, Step, ViewNumber};

/// A node that trains: it computes local gradients and broadcasts contributions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The member's connection to the coordinator.
    pub node: NodeId,
    /// `host:port` on which the member takes the other members' streams.
    pub address: String,
}

/// From `first_step` until the next view's first step, every step sums exactly the contributions
/// of `members`, in rank order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Number of the view, from 1, without gaps.
    pub number: ViewNumber,
    /// The first step that this view makes.
    pub first_step: Step,
    /// Samples that the run has consumed before it: where the members go on in the training set.
    pub consumed: u64,
    /// The members; a member's index is its rank.
    pub members: Vec<Member>,
}

impl View {
    /// Number of members.
    pub fn size(&self) -> u32 {
        // Invariant: a view is made from at most `RunConfig::nodes` seats, a u32.
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// The rank of `node`, if it is a member.
    pub fn rank_of(&self, node: NodeId) -> Option<Rank> {
        let position = self.members.iter().position(|member| member.node == node)?;
        Rank::try_from(position).ok()
    }
}
