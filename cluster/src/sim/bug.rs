//! Mistakes that can be planted in the simulated shells.

use std::fmt;
use std::str::FromStr;

/// A mistake that somebody could make in a shell. Each breaks one invariant first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A view is acted on while it is still being stored.
    ActBeforeDurable,
    /// Frames of another view and of strangers are kept.
    MissingFence,
    /// Contributions are summed in the order in which they came.
    ArrivalOrder,
    /// A second copy of a frame is kept too.
    KeepDuplicates,
    /// A step is reported as applied and was not.
    LoseApply,
    /// One node's arithmetic rounds differently.
    OddRounding,
    /// Contributions are computed without waiting for earlier steps to be applied.
    ComputeAhead,
    /// The news that the run has failed does not get through.
    LoseAbort,
    /// Nobody is told that a stream broke.
    IgnoreBrokenStreams,
}

impl Bug {
    /// All of them, with their names and the invariant that each breaks first.
    pub const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::ActBeforeDurable, "act-before-durable", "history"),
        (Self::MissingFence, "missing-fence", "fencing"),
        (Self::ArrivalOrder, "arrival-order", "order"),
        (Self::KeepDuplicates, "keep-duplicates", "order"),
        (Self::LoseApply, "lose-apply", "steps"),
        (Self::OddRounding, "odd-rounding", "agreement"),
        (Self::ComputeAhead, "compute-ahead", "ahead"),
        (Self::LoseAbort, "lose-abort", "ending"),
        (Self::IgnoreBrokenStreams, "ignore-broken-streams", "ending"),
    ];
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(bug, ..)| bug == self);
        f.write_str(named.map_or("", |(_, name, _)| name))
    }
}

/// A name that no bug has.
#[derive(Debug, thiserror::Error)]
#[error("no bug is called {0:?}; there are {names}", names = Bug::ALL.map(|(_, name, _)| name).join(", "))]
pub struct BugError(String);

impl FromStr for Bug {
    type Err = BugError;

    fn from_str(text: &str) -> Result<Self, BugError> {
        let named = Self::ALL.iter().find(|(_, name, _)| *name == text);
        let bug = named.map(|(bug, ..)| *bug);
        bug.ok_or_else(|| BugError(text.to_owned()))
    }
}
