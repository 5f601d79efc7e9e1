//! `ecq launch`: a coordinator and nodes as processes on this machine.

mod chaos;
mod child;
mod output;
mod progress;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ecq_cluster::Rank;
use ecq_coordinator::Summary;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::{LaunchArgs, LogFormat};
use crate::coordinator::show;
use crate::exit::{Code, Failed, LOST, TERMINATED};
use crate::options::Resolved;
use crate::preflight;
use crate::stop::Stop;

use chaos::Chaos;
pub use chaos::ChaosSpec;
use child::{Child, Ended, Place};
use output::Output;

/// How long the last progress may take to be shown.
const COURTESY: Duration = Duration::from_millis(500);
/// How long children may take to end in order before they are killed.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) async fn command(args: LaunchArgs, logs: LogFormat) -> Result<(), Failed> {
    let resolved = args.run.resolve()?;
    let stop = Stop::on_signals()?;
    let summary = run(&resolved, &stop, Some(logs), args.chaos).await?;
    if !args.run.json {
        // Where to find everything, after the children's last lines.
        tracing::info!("the run is in {}", resolved.run_dir.display());
    }
    show(&summary, args.run.json)
}

/// Runs a cluster to its end and returns its summary. With `shown`, the children's output in this
/// format and the progress appear on standard error.
///
/// No process outlives this function, whatever happens: closing a child's standard input is the
/// order to end, the end of this process closes it, and who does not obey is killed.
pub(crate) async fn run(
    resolved: &Resolved,
    stop: &Stop,
    shown: Option<LogFormat>,
    chaos: Option<ChaosSpec>,
) -> Result<Summary, Failed> {
    preflight::data(&resolved.config)?;
    let logs = prepare(&resolved.run_dir)?;
    let mut children = Children::default();
    let lease = Duration::from_millis(resolved.config.lease());
    children.chaos = chaos.map(|spec| Chaos::new(spec, lease));
    let outcome = cluster(resolved, &logs, stop, shown, &mut children).await;
    children.end(stop).await;
    if let Some(failed) = stop.cause() {
        return Err(failed);
    }
    if let Some((_, failed)) = children.failure.filter(|_| !children.completed) {
        return Err(failed);
    }
    outcome?;
    summary(&resolved.run_dir)
}

/// Makes the run directory with its folder of logs.
fn prepare(run_dir: &Path) -> Result<PathBuf, Failed> {
    let occupied = std::fs::read_dir(run_dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        let text = "is not empty, and ecq overwrites nothing; choose another --run-dir or --name";
        return Err(Failed::usage(format!(
            "the run directory {} {text}",
            run_dir.display()
        )));
    }
    let logs = run_dir.join("logs");
    std::fs::create_dir_all(&logs).map_err(|error| {
        let dir = run_dir.display();
        Failed::io(format!(
            "cannot make the run directory {dir}: {error}; choose another --run-dir"
        ))
    })?;
    Ok(logs)
}

/// Starts everything and waits until it has ended or something has failed.
async fn cluster(
    resolved: &Resolved,
    logs: &Path,
    stop: &Stop,
    shown: Option<LogFormat>,
    children: &mut Children,
) -> Result<(), Failed> {
    let Resolved { config, run_dir } = resolved;
    let output = Output::new(shown.is_some());
    let place = Place {
        logs,
        format: shown.unwrap_or(LogFormat::Text),
        output: &output,
    };
    let (coordinator, address) = Child::coordinator(config, run_dir, &place)?;
    children.watch(coordinator);
    let address = tokio::select! {
        address = address => address.map_err(|_| Failed::new(Code::Internal, "no address"))?,
        settled = children.settle(stop, |_| Ok(None)) => return settled,
    };
    for rank in 0..config.nodes {
        children.watch(Child::node(config, rank, &address, &place)?);
    }
    let begun = children.begun.clone();
    let progress = tokio::spawn(progress::follow(address.clone(), output.clone(), begun));
    let settled = children.settle(stop, |rank| {
        Child::node(config, rank, &address, &place).map(Some)
    });
    settled.await?;
    if let Some(chaos) = &children.chaos {
        tracing::info!("chaos: {} in all", chaos.tally);
    }
    // The last status came before the coordinator's end: it only has to be read.
    let _progress_is_a_courtesy = tokio::time::timeout(COURTESY, progress).await;
    output.finish();
    Ok(())
}

/// The summary that the coordinator has left.
fn summary(run_dir: &Path) -> Result<Summary, Failed> {
    let path = run_dir.join("summary.json");
    let read = std::fs::read(&path).map_err(|error| error.to_string());
    read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()))
        .map_err(|error| Failed::new(Code::Internal, format!("{}: {error}", path.display())))
}

/// The processes of a cluster.
#[derive(Default)]
struct Children {
    running: JoinSet<Ended>,
    /// Cancelled to close all lifelines.
    release: CancellationToken,
    /// Cancelled when training has begun.
    begun: CancellationToken,
    /// Whether the run has completed.
    completed: bool,
    /// The processes of nodes that run.
    nodes: BTreeMap<Rank, u32>,
    /// Whoever injects faults.
    chaos: Option<Chaos>,
    /// The failure that counts so far, with its weight.
    failure: Option<(u8, Failed)>,
}

impl Children {
    fn watch(&mut self, child: Child) {
        self.nodes.extend(child.node_process());
        self.running.spawn(child.wait(self.release.clone()));
    }

    /// Waits until all have ended, or it is time to stop: because somebody says so, the coordinator
    /// has failed, or a node has before training began. Later the others go on without it.
    ///
    /// Whom chaos has ended `start` starts again.
    async fn settle(
        &mut self,
        stop: &Stop,
        start: impl Fn(Rank) -> Result<Option<Child>, Failed>,
    ) -> Result<(), Failed> {
        let mut strikes = tokio::time::interval(chaos::INTERVAL);
        loop {
            let ended = tokio::select! {
                ended = self.running.join_next() => ended,
                _ = strikes.tick(), if self.chaos.is_some() => {
                    for rank in self.strike() {
                        if let Some(child) = start(rank)? {
                            self.watch(child);
                        }
                    }
                    continue;
                }
                () = stop.token.cancelled() => return Ok(()),
            };
            let is_coordinator = match ended {
                None => return Ok(()),
                Some(ended) => self.note(ended),
            };
            if self.failure.is_some() && (is_coordinator || !self.begun.is_cancelled()) {
                return Ok(());
            }
            if self.completed && self.chaos.is_some() {
                return Ok(()); // Who is on the way back need not arrive.
            }
        }
    }

    fn strike(&mut self) -> Vec<Rank> {
        let chaos = self.chaos.as_mut().filter(|_| self.begun.is_cancelled());
        chaos.map_or_else(Vec::new, |chaos| chaos.strike(Instant::now(), &self.nodes))
    }

    /// Ends whoever is left: in order within the grace time, else by force.
    async fn end(&mut self, stop: &Stop) {
        self.release.cancel();
        let patience = tokio::time::sleep(GRACE);
        tokio::pin!(patience);
        loop {
            tokio::select! {
                ended = self.running.join_next() => match ended {
                    None => return,
                    Some(ended) => drop(self.note(ended)),
                },
                () = &mut patience => break,
                () = stop.again.cancelled() => break,
            }
        }
        // Dropping a waiting task kills its child.
        self.running.shutdown().await;
    }

    /// The first failure counts, unless it is only the consequence of another: that a member was
    /// lost is what its survivors say, and whoever ends after we have said so was told to.
    ///
    /// Returns whether it was the coordinator. Once that has completed the run, no failure counts.
    fn note(&mut self, ended: Result<Ended, tokio::task::JoinError>) -> bool {
        let Ok(ended) = ended else {
            return false;
        };
        let is_coordinator = ended.is_coordinator();
        let struck = ended.rank().is_some_and(|rank| {
            self.nodes.remove(&rank);
            let chaos = self.chaos.as_mut();
            chaos.is_some_and(|chaos| chaos.has_struck(Instant::now(), rank))
        });
        let Some(failed) = ended.failure().filter(|_| !struck) else {
            self.completed |= is_coordinator;
            return is_coordinator;
        };
        if self.begun.is_cancelled() && !is_coordinator && !self.release.is_cancelled() {
            tracing::warn!("{failed}; the others go on without it");
        }
        let weight = match failed.code.number() {
            TERMINATED if self.release.is_cancelled() => 0,
            LOST => 1,
            _ => 2,
        };
        if self
            .failure
            .as_ref()
            .is_none_or(|(heaviest, _)| weight > *heaviest)
        {
            self.failure = Some((weight, failed));
        }
        is_coordinator
    }
}
