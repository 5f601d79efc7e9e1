//! Why a coordinator could not start, or its run not be completed.

use std::net::SocketAddr;
use std::path::PathBuf;

use ecq_cluster::{ConfigError, Failure};

/// A run that cannot be coordinated, or that failed.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// No run can have this configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Somebody else listens there.
    #[error("{address} is in use; choose another --listen, or port 0 for any that is free")]
    PortInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address is not to be had for another reason.
    #[error("cannot listen on {address}: {source}; choose an address of this machine")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// There are files of a run already.
    #[error(
        "the run directory {} already holds a run, and ecq overwrites nothing; choose another \
         --run-dir or --name", path.display()
    )]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The run directory cannot be made.
    #[error("cannot make the run directory {}: {source}; choose another --run-dir", path.display())]
    RunDir {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of the run cannot be written.
    #[error(
        "cannot write {}: {source}; see to space and permissions, or choose another --run-dir",
        path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The run's store cannot be used.
    #[error("{}: {source}; see to space and permissions; what is no store of ecq cannot be resumed", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The directory holds another run.
    #[error(
        "the run in {} has another configuration ({}); resume it with its own, or leave the run's \
         options out", path.display(), keys.join(", ")
    )]
    OtherRun {
        /// The directory.
        path: PathBuf,
        /// Keys of the configuration that differ.
        keys: Vec<String>,
    },
    /// The run's store is of another version of ecq.
    #[error(
        "{} has format {found}, this version of ecq reads {expected}; go on with the version that \
         began the run", path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The format of this version.
        expected: i64,
        /// The file's.
        found: i64,
    },
    /// The run failed.
    #[error("the run failed: {0}")]
    Failed(Failure),
}
