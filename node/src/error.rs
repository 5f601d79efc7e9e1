//! Why a node could not do its part.

use std::net::SocketAddr;

use ecq_cluster::{ConfigError, Failure, Refusal};
use ecq_nn::data::DataError;

use crate::checkpoint::CheckpointError;
use crate::record::RecordError;

/// A node's end before the end of its run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The port to take streams on is not to be had.
    #[error("cannot listen on {address}: {source}; choose another with --listen, or port 0")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Nobody answers at the coordinator's address.
    #[error("cannot reach the coordinator at {address} ({reason}); is it running there?")]
    Unreachable {
        /// The address.
        address: String,
        /// The last attempt's failure.
        reason: String,
    },
    /// Not `host:port`.
    #[error("{0:?} is not an address; expected host:port")]
    Address(String),
    /// The coordinator would not have this node.
    #[error("the coordinator refused this node: {0}")]
    Refused(#[from] Refusal),
    /// The run's configuration does not parse here.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The run's configuration names something that this program does not have.
    #[error("the run's configuration cannot be carried out here: {0}")]
    Unsupported(String),
    /// The data set could not be loaded.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The log of the run cannot be written: a step that is not recorded must not count.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A checkpoint cannot be kept or taken up.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run goes on without this node.
    #[error("the run goes on without this node: {0}")]
    Excluded(Failure),
    /// The run failed elsewhere.
    #[error("the run failed: {0}")]
    Aborted(Failure),
    /// This node's training could not go on.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// The session with the coordinator broke.
    #[error("lost the coordinator: {0}")]
    CoordinatorLost(String),
    /// It did not come back while this member trained on.
    #[error("lost the coordinator, and it did not come back: {0}")]
    CoordinatorGone(String),
}

impl NodeError {
    /// What the others are told when this node leaves because of it.
    pub(crate) fn as_failure(&self) -> Failure {
        match self {
            Self::Failed(failure) | Self::Aborted(failure) | Self::Excluded(failure) => {
                failure.clone()
            }
            other => Failure::Fault(other.to_string()),
        }
    }
}
