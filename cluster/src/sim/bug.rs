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
    /// A contribution that the change of view made void is applied all the same.
    KeepVoid,
    /// The residual is not what it was before a contribution that the change of view made void.
    KeepResidual,
    /// What a member lacks when the view changes is not forwarded to it.
    LoseSupply,
    /// A snapshot is not what it says.
    WrongSnapshot,
    /// The coordinator does not hear that a node has caught up.
    NeverAdmit,
    /// A coordinator that is started again does not know of the last view.
    ForgetView,
    /// A member that leaves keeps something back in its last contribution.
    KeepBack,
    /// A node that comes back goes on with a residual from which contributions are missing that are void.
    KeepVoidResidual,
    /// A member applies its own contribution whatever was decided.
    IgnoreDecision,
    /// A contribution is applied and goes back to the residual too.
    TakeBackApplied,
    /// Whoever is left out of a step forgets what it has computed for it.
    ForgetLeftOut,
    /// A step goes on with fewer contributions than it must have.
    SmallQuorum,
}

/// The mistake that a simulation makes, if it makes one.
///
/// None can be made but in the tests of this crate and with its feature `planted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted(Option<Bug>);

impl Planted {
    /// This one.
    #[cfg(any(test, feature = "planted"))]
    pub fn bug(bug: Bug) -> Self {
        Self(Some(bug))
    }

    /// How a command asks for it: of cargo, and of the simulator.
    pub(super) fn words(self) -> (&'static str, String) {
        self.0.map_or_else(Default::default, |bug| {
            (" --features planted", format!(" --bug {bug}"))
        })
    }

    pub(super) fn is(self, bug: Bug) -> bool {
        cfg!(any(test, feature = "planted")) && self.0 == Some(bug)
    }
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::ActBeforeDurable,
        Self::MissingFence,
        Self::ArrivalOrder,
        Self::KeepDuplicates,
        Self::LoseApply,
        Self::OddRounding,
        Self::ComputeAhead,
        Self::LoseAbort,
        Self::IgnoreBrokenStreams,
        Self::KeepVoid,
        Self::KeepResidual,
        Self::LoseSupply,
        Self::WrongSnapshot,
        Self::NeverAdmit,
        Self::ForgetView,
        Self::KeepBack,
        Self::KeepVoidResidual,
        Self::IgnoreDecision,
        Self::TakeBackApplied,
        Self::ForgetLeftOut,
        Self::SmallQuorum,
    ];

    /// The invariant that it breaks first.
    pub fn breaks(self) -> &'static str {
        match self {
            Self::ActBeforeDurable | Self::ForgetView => "history",
            Self::MissingFence => "fencing",
            Self::ArrivalOrder | Self::KeepDuplicates | Self::IgnoreDecision => "order",
            Self::TakeBackApplied | Self::ForgetLeftOut => "mass",
            Self::SmallQuorum => "quorum",
            Self::KeepVoid => "fencing",
            Self::LoseApply => "steps",
            Self::OddRounding | Self::WrongSnapshot => "agreement",
            Self::ComputeAhead => "ahead",
            Self::KeepResidual => "mass",
            Self::IgnoreBrokenStreams | Self::LoseSupply => "wait",
            Self::NeverAdmit => "healing",
            Self::LoseAbort => "ending",
            Self::KeepBack | Self::KeepVoidResidual => "residuals",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ActBeforeDurable => "act-before-durable",
            Self::MissingFence => "missing-fence",
            Self::ArrivalOrder => "arrival-order",
            Self::KeepDuplicates => "keep-duplicates",
            Self::LoseApply => "lose-apply",
            Self::OddRounding => "odd-rounding",
            Self::ComputeAhead => "compute-ahead",
            Self::LoseAbort => "lose-abort",
            Self::IgnoreBrokenStreams => "ignore-broken-streams",
            Self::KeepVoid => "keep-void",
            Self::KeepResidual => "keep-residual",
            Self::LoseSupply => "lose-supply",
            Self::WrongSnapshot => "wrong-snapshot",
            Self::NeverAdmit => "never-admit",
            Self::ForgetView => "forget-view",
            Self::KeepBack => "keep-back",
            Self::KeepVoidResidual => "keep-void-residual",
            Self::IgnoreDecision => "ignore-decision",
            Self::TakeBackApplied => "take-back-applied",
            Self::ForgetLeftOut => "forget-left-out",
            Self::SmallQuorum => "small-quorum",
        })
    }
}

/// A name that no bug has.
#[derive(Debug, thiserror::Error)]
#[error("no bug is called {0:?}; there are {known}", known = names())]
pub struct BugError(String);

fn names() -> String {
    Bug::ALL.map(|bug| bug.to_string()).join(", ")
}

impl FromStr for Bug {
    type Err = BugError;

    fn from_str(text: &str) -> Result<Self, BugError> {
        let mut bugs = Self::ALL.into_iter();
        let named = bugs.find(|bug| bug.to_string() == text);
        named.ok_or_else(|| BugError(text.to_owned()))
    }
}
