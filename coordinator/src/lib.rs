//! The coordinator: who takes part, how the run goes, what it leaves. No gradient ever passes
//! through it.
//!
//! ```text
//! nodes ◀── sessions (gRPC) ──▶ driver ──▶ store   one task; owns ecq_cluster's Coordinator
//!   │                             │
//!   ├── reports, evaluations ─────┼──▶ metrics ──▶ store, metrics.jsonl, TensorBoard events
//!   └── final model ──────────────┘──▶ model.safetensors, history.jsonl, summary.json
//! ```
//!
//! One task owns the state machine and hears everything through one channel; sessions only carry
//! words. Metrics go past the machine, because nothing is decided from them.

mod differences;
mod driver;
mod error;
mod history;
mod metrics;
mod model;
mod residuals;
mod run_dir;
mod service;
mod session;
mod store;
mod summary;
mod tensorboard;

use std::net::SocketAddr;
use std::path::PathBuf;

use ecq_cluster::RunConfig;

pub use error::CoordinatorError;
pub use service::Service;
pub use summary::Summary;

/// What to coordinate, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The run.
    pub config: RunConfig,
    /// Directory for what the run leaves; made if it is not there.
    pub run_dir: PathBuf,
    /// Whether to go on with the run that the directory holds, if it holds one.
    pub resume: bool,
}
