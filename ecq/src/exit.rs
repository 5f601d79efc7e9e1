//! Exit codes, all of them.

use std::io::ErrorKind::NotFound;

use ecq_cluster::{ConfigError, Failure};
use ecq_coordinator::CoordinatorError;
use ecq_node::{CheckpointError, LogError, NodeError};

/// Why the program ended with something else than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A fault of ecq itself.
    Internal,
    /// Wrong arguments or configuration.
    Usage,
    /// The coordinator cannot be reached or refused the node.
    Join,
    /// Replicas or replays differ, or the loss is no longer finite.
    Diverged,
    /// A member or the coordinator was lost.
    Lost,
    /// Data or a log are missing or malformed.
    Data,
    /// A port, a file or the disk.
    Io,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// What a child of the launcher ended with.
    Child(u8),
}

/// The table for help texts.
pub const TABLE: &str = "\
Exit codes:
  0    the run completed
  1    a fault of ecq itself
  2    wrong arguments or configuration (also: a run directory that holds a run already)
  3    cannot join: the coordinator is unreachable or refused the node
  4    diverged: replicas, or a replay and its run, differ, or the loss is not finite
  5    a member or the coordinator was lost
  6    data, or the log to replay, missing or malformed
  7    input/output: port in use, run directory not writable, disk full
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)
  128+n  from launch: a child died of signal n";

/// The number of [`Code::Lost`].
pub(crate) const LOST: u8 = 5;
/// The number of [`Code::Terminated`].
pub(crate) const TERMINATED: u8 = 143;

impl Code {
    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Join => 3,
            Self::Diverged => 4,
            Self::Lost => LOST,
            Self::Data => 6,
            Self::Io => 7,
            Self::Interrupted => 130,
            Self::Terminated => TERMINATED,
            Self::Child(number) => number,
        }
    }
}

/// A command that failed: what the user reads and what the shell sees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    /// The exit code.
    pub code: Code,
    /// One clear message.
    pub message: String,
}

impl Failed {
    /// A failure with this code and message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A mistake in arguments or configuration.
    pub fn usage(error: impl std::fmt::Display) -> Self {
        Self::new(Code::Usage, error.to_string())
    }

    /// Trouble with a file, in words.
    pub fn io(error: impl std::fmt::Display) -> Self {
        Self::new(Code::Io, error.to_string())
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<ecq_nn::data::DataError> for Failed {
    fn from(error: ecq_nn::data::DataError) -> Self {
        Self::new(Code::Data, error.to_string())
    }
}

impl From<NodeError> for Failed {
    fn from(error: NodeError) -> Self {
        let code = match &error {
            NodeError::Listen { .. } | NodeError::Record(_) => Code::Io,
            NodeError::Address(_) | NodeError::Config(_) | NodeError::Unsupported(_) => Code::Usage,
            NodeError::Unreachable { .. } | NodeError::Refused(_) => Code::Join,
            NodeError::Data(_) => Code::Data,
            NodeError::Aborted(failure)
            | NodeError::Failed(failure)
            | NodeError::Excluded(failure) => of_failure(failure),
            NodeError::CoordinatorLost(_) | NodeError::CoordinatorGone(_) => Code::Lost,
            NodeError::Checkpoint(CheckpointError::Io { .. }) => Code::Io,
            NodeError::Checkpoint(CheckpointError::Malformed { .. }) => Code::Data,
            NodeError::Checkpoint(CheckpointError::Occupied { .. }) => Code::Usage,
        };
        Self::new(code, error.to_string())
    }
}

impl From<LogError> for Failed {
    fn from(error: LogError) -> Self {
        let code = match &error {
            LogError::Unreadable { source, .. } if source.kind() != NotFound => Code::Io,
            _ => Code::Data,
        };
        Self::new(code, error.to_string())
    }
}

impl From<CoordinatorError> for Failed {
    fn from(error: CoordinatorError) -> Self {
        let code = match &error {
            CoordinatorError::Config(_)
            | CoordinatorError::Occupied { .. }
            | CoordinatorError::Foreign { .. }
            | CoordinatorError::OtherRun { .. } => Code::Usage,
            CoordinatorError::PortInUse { .. }
            | CoordinatorError::Listen { .. }
            | CoordinatorError::RunDir { .. }
            | CoordinatorError::Store { .. }
            | CoordinatorError::Io { .. } => Code::Io,
            CoordinatorError::Failed(failure) => of_failure(failure),
        };
        Self::new(code, error.to_string())
    }
}

fn of_failure(failure: &Failure) -> Code {
    match failure {
        Failure::MemberLost(_) => Code::Lost,
        Failure::ReplicasDiffer(_) | Failure::Diverged(_) => Code::Diverged,
        // Somebody else was stopped; who was told so itself knows the signal.
        Failure::Stopped(_) => Code::Lost,
        Failure::Fault(_) => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table() {
        use Code::*;
        for code in [
            Internal,
            Usage,
            Join,
            Diverged,
            Lost,
            Data,
            Io,
            Interrupted,
            Terminated,
        ] {
            let line = format!("\n  {:<4} ", code.number());
            assert!(TABLE.contains(&line), "{code:?}");
        }
    }
}
