//! Steps that go on without late members.
//!
//! With a quorum the member of rank 0 of a view decides who makes up each step, as soon as all are there,
//! or enough of them and the rest are late. Its decision is part of the log: everybody applies the step
//! with exactly these contributions. Who is left out keeps its gradient, in its residual.

use crate::id::{Millis, Rank, Step, ViewNumber};

/// Steps in a row that may leave out the same member: the next one waits for it. So a gradient comes so
/// many steps late at most, a residual holds no more than so many of them, and members are at most one step
/// more apart, for which frames and decisions are held.
pub const LEFT_OUT_MAX: Step = 8;

/// When a step goes on without late members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Fewest contributions that make up a step; all, if the view has fewer members.
    pub least: u32,
    /// How long the step waits for the others once so many are there.
    pub wait: Millis,
}

impl Quorum {
    /// Fewest contributions that make up a step of a view of so many members.
    pub fn least_of(self, members: u32) -> u32 {
        self.least.min(members)
    }
}

/// Steps that members can be apart: one, as a step needs the contribution of each, and as many more as may
/// leave one out.
pub(crate) fn reach(quorum: Option<Quorum>) -> Step {
    quorum.map_or(1, |_| LEFT_OUT_MAX + 1)
}

/// Who makes up a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The view in which it is made.
    pub view: ViewNumber,
    /// The step.
    pub step: Step,
    /// Whose contributions are summed, ascending.
    pub ranks: Vec<Rank>,
}
