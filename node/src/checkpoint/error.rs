//! Why a checkpoint can neither be kept nor taken up.

use std::path::PathBuf;

/// A checkpoint that is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be written or read.
    #[error("the checkpoint {}: {source}; see to space and permissions", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error(
        "the checkpoint {}: {reason}; remove it, and the run goes on from another", path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        reason: String,
    },
    /// A run that begins would mix its checkpoints with others.
    #[error(
        "{} holds checkpoints already; to go on from them give the coordinator --resume, or choose \
         another --checkpoint-dir or --name", path.display()
    )]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
}
