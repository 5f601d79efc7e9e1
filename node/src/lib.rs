//! The worker: one replica, its step loop, and its streams to everyone else.
//!
//! ```text
//!   session ◀──────▶ coordinator          words of ecq_cluster, metrics
//!      │
//!   driver            one task; owns the state machine ecq_cluster::node::Node
//!      │  ▲
//!      ▼  │
//!   trainer           one thread; owns replica, data, encoder, decoder
//!      │
//!   exchange ◀─────▶ other members        frames, one long-lived stream a direction
//! ```
//!
//! The trainer computes on a thread of its own and never inside the async runtime, so that a step
//! of any length starves neither heartbeats nor streams. Everything that the driver hears arrives
//! in one channel and goes through the state machine, which alone decides when a step is computed
//! and applied. Frames travel from the encoder to the sockets and from the sockets to the decoder
//! as [`bytes::Bytes`]; the driver only passes them on.
//!
//! [`replay`] makes the replicas of a recorded run again, from the log of frames that it has left.

mod address;
mod checkpoint;
mod connect;
mod deliver;
mod driver;
mod error;
mod exchange;
mod frames;
mod record;
pub mod replay;
mod replica;
mod rules;
mod session;
mod telemetry;
mod trainer;
mod workload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ecq_cluster::{Digest, Failure, Rank, Refusal, Step};
use tokio_util::sync::CancellationToken;

pub use checkpoint::CheckpointError;
pub use error::NodeError;
pub use record::{Defect, LogError, RecordError};

/// Where a node finds its run and how it is found.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` of the coordinator.
    pub coordinator: String,
    /// Address on which to take the other members' streams; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// `host` or `host:port` under which the other members reach this node; by default the address
    /// from which it reaches the coordinator, with the port that it listens on.
    pub advertise: Option<String>,
    /// The run to join; `None` joins whichever the coordinator runs.
    pub run: Option<String>,
    /// The rank to ask for.
    pub rank: Option<Rank>,
    /// Only follow the run, and evaluate the model after every so many steps; 0 for once an epoch.
    pub observe: Option<Step>,
    /// Where the data set is, if not where the run's configuration says.
    pub data_dir: Option<PathBuf>,
    /// Where checkpoints go, if not in `checkpoints/NAME`.
    pub checkpoint_dir: Option<PathBuf>,
    /// Where the log of a recorded run goes, if not in `record/NAME`.
    pub record_dir: Option<PathBuf>,
    /// How long to try to reach the coordinator and to get a seat, at the start and when either is lost.
    pub connect_timeout: Duration,
}

/// What a node did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its rank in the last view, if it was a member.
    pub rank: Option<Rank>,
    /// Number of steps applied.
    pub steps: Step,
    /// Digest of its final replica, if it had one of the run's.
    pub digest: Option<Digest>,
}

/// How a node is told to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// To leave, with a last contribution that keeps nothing back.
    pub in_order: CancellationToken,
    /// Not to wait for that any longer.
    pub at_once: CancellationToken,
}

/// Between two attempts to get a seat.
const RETRY: Duration = Duration::from_millis(500);

/// Takes part in a run until its end; `stop` makes the node leave.
///
/// A node that the others have gone on without, because it was frozen or cut off, comes back as a
/// new one: with a member's replica, and with its own residual as it was after the last contribution that
/// counts.
pub async fn run(options: Options, stop: Stop) -> Result<Report, NodeError> {
    let (mut loss, mut heritage) = (None, None);
    // Since when it has asked in vain for a seat, and what the last answer was.
    let mut asking: Option<(Instant, Refusal)> = None;
    loop {
        let start = async {
            if asking.is_some() {
                tokio::time::sleep(RETRY).await;
            }
            let again = asking.is_some();
            driver::Driver::start(options.clone(), heritage.take(), again).await
        };
        let driver = tokio::select! {
            driver = start => driver,
            () = stop.in_order.cancelled() => {
                return Err(NodeError::Failed(Failure::Stopped("told to stop".to_owned())));
            }
        };
        let driver = match (driver, loss.take()) {
            (Ok(driver), _) => driver,
            // Nobody answers any more: how that began says more.
            (Err(NodeError::Unreachable { .. }), Some(loss)) => return Err(loss),
            (Err(error), _) => return Err(error),
        };
        match driver.run(&stop, &mut heritage).await {
            Err(error @ (NodeError::Excluded(_) | NodeError::CoordinatorLost(_))) => {
                tracing::warn!("{error}; trying to come back");
                (loss, asking) = (Some(error), None);
            }
            // Whoever had the seat before may be gone, and not be missed yet.
            Err(NodeError::Refused(refusal)) if refusal.may_pass() => {
                if asking.as_ref().is_none_or(|(_, last)| *last != refusal) {
                    tracing::info!("{refusal}; trying again, for somebody may leave a seat");
                }
                let since = asking.take().map_or_else(Instant::now, |(since, _)| since);
                asking = Some((since, refusal.clone()));
                let error = NodeError::Refused(refusal);
                if since.elapsed() >= options.connect_timeout {
                    return Err(error);
                }
                loss = Some(error);
            }
            ended => return ended,
        }
    }
}
