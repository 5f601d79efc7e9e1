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
use crate::coordinator::{SUMMARY, read_summary, show};
use crate::exit::{Code, Failed, LOST, TERMINATED};
use crate::options::Resolved;
use crate::preflight;
use crate::stop::Stop;

pub use chaos::ChaosSpec;
use chaos::{Chaos, Struck};
use child::{Child, Ended, Place};
use output::Output;

/// How long the last progress may take to be shown.
const COURTESY: Duration = Duration::from_millis(500);
/// How long children may take to end in order before they are killed.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) async fn command(args: LaunchArgs, logs: LogFormat) -> Result<(), Failed> {
    let resolved = args.run.resolve()?;
    let stop = Stop::on_signals()?;
    let summary = if args.run.resume && resolved.run_dir.join(SUMMARY).is_file() {
        tracing::info!("the run has completed");
        read_summary(&resolved.run_dir)?
    } else {
        let how = How {
            shown: Some(logs),
            chaos: args.chaos,
            resume: args.run.resume,
        };
        run(&resolved, &stop, how).await?
    };
    if !args.run.json {
        // Where to find everything, after the children's last lines.
        tracing::info!("the run is in {}", resolved.run_dir.display());
    }
    show(&summary, args.run.json)
}

/// How to run a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    /// The children's output in this format, and the progress, appear on standard error.
    pub(crate) shown: Option<LogFormat>,
    /// Faults on purpose.
    pub(crate) chaos: Option<ChaosSpec>,
    /// Go on with the run that the directory holds.
    pub(crate) resume: bool,
}

/// Runs a cluster to its end and returns its summary.
///
/// No process outlives this function, whatever happens: closing a child's standard input is the
/// order to end, the end of this process closes it, and who does not obey is killed.
pub(crate) async fn run(resolved: &Resolved, stop: &Stop, how: How) -> Result<Summary, Failed> {
    preflight::data(&resolved.config)?;
    let logs = prepare(&resolved.run_dir, how.resume)?;
    let mut children = Children::default();
    let lease = Duration::from_millis(resolved.config.lease());
    children.chaos = how.chaos.map(|spec| Chaos::new(spec, lease));
    let outcome = cluster(resolved, &logs, stop, how, &mut children).await;
    children.end(stop).await;
    if let Some(failed) = stop.cause() {
        return Err(failed);
    }
    if let Some((_, failed)) = children.failure.filter(|_| !children.completed) {
        return Err(failed);
    }
    outcome?;
    read_summary(&resolved.run_dir)
}

/// Makes the run directory with its folder of logs.
fn prepare(run_dir: &Path, resume: bool) -> Result<PathBuf, Failed> {
    let occupied = std::fs::read_dir(run_dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !resume {
        let text = "is not empty, and ecq overwrites nothing; choose another --run-dir or --name";
        return Err(Failed::usage(format!(
            "the run directory {} {text}",
            run_dir.display()
        )));
    }
    if resume && !occupied {
        tracing::warn!(
            "there is no run in {} to go on with: one begins",
            run_dir.display()
        );
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
    How { shown, resume, .. }: How,
    children: &mut Children,
) -> Result<(), Failed> {
    let config = &resolved.config;
    let output = Output::new(shown.is_some());
    let place = Place {
        logs,
        format: shown.unwrap_or(LogFormat::Text),
        output: &output,
    };
    let (coordinator, address) = Child::coordinator(resolved, "127.0.0.1:0", resume, &place)?;
    children.watch(coordinator);
    let address = tokio::select! {
        address = address => address.map_err(|_| Failed::new(Code::Internal, "no address"))?,
        settled = children.settle(stop, |_| Ok(None)) => return settled,
    };
    for rank in 0..config.nodes {
        children.watch(Child::node(resolved, rank, &address, &place)?);
    }
    let begun = children.begun.clone();
    let progress = tokio::spawn(progress::follow(address.clone(), output.clone(), begun));
    let settled = children.settle(stop, |who| match who {
        Struck::Node(rank) => Child::node(resolved, rank, &address, &place).map(Some),
        Struck::Coordinator => {
            let started = Child::coordinator(resolved, &address, true, &place);
            started.map(|(child, _address)| Some(child))
        }
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
    /// Whether the last node has failed. With checkpoints the coordinator waits for others to come.
    deserted: bool,
    /// The processes of nodes that run.
    nodes: BTreeMap<Rank, u32>,
    /// The coordinator's process, while it runs.
    coordinator: Option<u32>,
    /// Whoever injects faults.
    chaos: Option<Chaos>,
    /// The failure that counts so far, with its weight.
    failure: Option<(u8, Failed)>,
}

impl Children {
    fn watch(&mut self, child: Child) {
        self.nodes.extend(child.node_process());
        self.coordinator = child.coordinator_process().or(self.coordinator);
        self.running.spawn(child.wait(self.release.clone()));
    }

    /// Waits until all have ended, or it is time to stop: because somebody says so, the coordinator
    /// has failed, or a node has before training began. Later the others go on without it.
    ///
    /// Whom chaos has ended `start` starts again.
    async fn settle(
        &mut self,
        stop: &Stop,
        start: impl Fn(Struck) -> Result<Option<Child>, Failed>,
    ) -> Result<(), Failed> {
        let mut strikes = tokio::time::interval(chaos::INTERVAL);
        loop {
            let ended = tokio::select! {
                ended = self.running.join_next() => ended,
                _ = strikes.tick(), if self.chaos.is_some() => {
                    for who in self.strike() {
                        if let Some(child) = start(who)? {
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
            let failed = self.failure.is_some();
            if failed && (is_coordinator || self.deserted || !self.begun.is_cancelled()) {
                return Ok(());
            }
            if self.completed && self.chaos.is_some() {
                return Ok(()); // Who is on the way back need not arrive.
            }
        }
    }

    fn strike(&mut self) -> Vec<Struck> {
        let (nodes, coordinator) = (&self.nodes, self.coordinator);
        let chaos = self.chaos.as_mut().filter(|_| self.begun.is_cancelled());
        chaos.map_or_else(Vec::new, |chaos| {
            chaos.strike(Instant::now(), nodes, coordinator)
        })
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
        let who = match ended.rank() {
            Some(rank) => {
                self.nodes.remove(&rank);
                Struck::Node(rank)
            }
            None => {
                self.coordinator = None;
                Struck::Coordinator
            }
        };
        let failed = ended.failure();
        let chaos = self.chaos.as_mut().filter(|_| failed.is_some());
        let struck = chaos.is_some_and(|chaos| chaos.has_struck(Instant::now(), who));
        if struck && is_coordinator {
            return false; // It is started again.
        }
        let Some(failed) = failed.filter(|_| !struck) else {
            self.completed |= is_coordinator;
            return is_coordinator;
        };
        self.deserted = !is_coordinator && self.nodes.is_empty();
        if self.begun.is_cancelled()
            && !is_coordinator
            && !self.deserted
            && !self.release.is_cancelled()
        {
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
