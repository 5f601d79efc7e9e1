//! What the machine commands, carried out: streams, snapshots, orders for the trainer.

use std::ops::Range;
use std::time::Duration;

use ecq_cluster::node::{Command, Ending};
use ecq_cluster::{Decision, Member, Rank, RunConfig, Step, ToCoordinator, View, ViewNumber};
use ecq_proto::{NodeWords, limits};

use super::{Driver, Input, Prepared};
use crate::checkpoint::Checkpoints;
use crate::error::NodeError;
use crate::exchange::{self, Gate, Plan, Source};
use crate::session::Session;
use crate::trainer::Order;
use crate::workload::Workload;

/// Reports in a message that are sent again.
const REPORTS: usize = 1000;
/// How long a node that follows waits before it asks the next member for a snapshot.
const RETRY: Duration = Duration::from_millis(200);

impl Driver {
    /// Carries out the machine's commands; returns how it ended, if it did.
    pub(super) fn carry_out(&mut self) -> Option<Result<Step, Ending>> {
        for command in std::mem::take(&mut self.commands) {
            match command {
                Command::Send(message) => {
                    if matches!(
                        message,
                        ToCoordinator::Finished { .. } | ToCoordinator::Depart { .. }
                    ) {
                        self.report();
                    }
                    let back = matches!(message, ToCoordinator::Return { .. });
                    self.say(NodeWords::Protocol(message));
                    if back {
                        self.report_again();
                    }
                }
                Command::Prepare { config, begun } => self.prepare(config, begun),
                Command::Reconnect => self.reconnect(),
                Command::Restore { step, rank } => self.order(Order::Restore { step, rank }),
                Command::Link(view) => self.link(view),
                Command::Follow(view) => {
                    self.frames.clear();
                    self.open(&view, None);
                }
                Command::Fetch {
                    view,
                    from,
                    at_least,
                } => self.fetch(view, from.address, at_least),
                Command::Adopt { .. } => {
                    if let Some(snapshot) = self.snapshot.take() {
                        self.digest = Some(snapshot.digest);
                        self.order(Order::Adopt(snapshot));
                    }
                }
                Command::Stream { to, first } => {
                    if let (Some(plan), Some(voice)) = (self.plan(), &self.voice) {
                        voice.add(exchange::stream(plan, to, first, &self.meter));
                    }
                }
                Command::Supply {
                    first,
                    end,
                    decisions,
                    to,
                } => self.supply(first..end, &decisions, &to),
                Command::Decide(decision) => self.decide(&decision),
                Command::Inherit(step) => self.order(Order::Inherit(step)),
                Command::Compute(step) => self.order(Order::Compute(step)),
                Command::Flush(step) => self.order(Order::Flush(step)),
                Command::Keep(_) => {}
                Command::Drop(key, verdict) => {
                    tracing::debug!(?key, ?verdict, "a frame does not count");
                    // The own ones come back from a member that forwards all that it holds of a step.
                    if let Some(key) = self.arrived.take_if(|arrived| *arrived == key) {
                        self.frames.remove(key);
                    }
                }
                Command::Apply {
                    view,
                    members,
                    ranks,
                    step,
                    digest,
                } => {
                    let reach = self.facts.reach;
                    let frames = self.frames.of_step(view, step, &ranks, reach);
                    self.order(Order::Apply {
                        view,
                        step,
                        digest,
                        members,
                        ranks,
                        frames,
                    });
                }
                Command::Deliver => {
                    if let Some((view, _)) = self.machine.view() {
                        let view = view.clone();
                        self.order(Order::Finish(view));
                    }
                }
                Command::Explain(reason) => tracing::info!("{reason}"),
                Command::Exit(result) => return Some(result),
            }
        }
        None
    }

    fn reconnect(&self) {
        let (address, patience) = (
            self.options.coordinator.clone(),
            self.options.connect_timeout,
        );
        let events = self.events.clone();
        tokio::spawn(async move {
            let opened = Session::open(&address, patience, events.clone()).await;
            let _driver_is_gone = events.send(Input::Reconnected(opened)).await;
        });
    }

    /// Sends metrics that may have been lost with the coordinator, a few at a time.
    fn report_again(&mut self) {
        let (reports, evaluations) = self.telemetry.again();
        for reports in reports.chunks(REPORTS) {
            self.say(NodeWords::Reports(reports.to_vec()));
        }
        for evaluation in evaluations {
            self.say(NodeWords::Evaluation(evaluation));
        }
    }

    pub(super) fn prepare(&self, config: String, begun: bool) {
        let data_dir = self.options.data_dir.clone();
        let checkpoint_dir = self.options.checkpoint_dir.clone();
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let prepared = RunConfig::from_toml(&config)
                .map_err(NodeError::from)
                .and_then(|config| {
                    let checkpoints = Checkpoints::new(&config, checkpoint_dir.as_deref());
                    let kept = checkpoints.as_ref().map(|it| it.kept(begun));
                    Ok(Prepared {
                        kept: kept.transpose()?.unwrap_or_default(),
                        workload: Workload::prepare(config, data_dir.as_deref())?,
                        checkpoints,
                    })
                });
            let _driver_is_gone = events.blocking_send(Input::Prepared(Box::new(prepared)));
        });
    }

    /// Lets frames of a view in.
    pub(super) fn open(&self, view: &View, rank: Option<Rank>) {
        self.incoming.open(Gate {
            run: self.facts.run.clone(),
            view: view.number,
            members: view.size(),
            rank,
            frame_bytes_max: self.facts.frame_bytes_max,
            silence: self.facts.lease.max(limits::SILENCE_MIN),
        });
    }

    /// What the streams of this member have in common.
    pub(super) fn plan(&self) -> Option<Plan> {
        let (view, rank) = self.machine.view()?;
        Some(Plan {
            run: self.facts.run.clone(),
            view: view.number,
            rank: rank?,
            chunks: self.facts.chunks_max,
            steps: self.contributions_max(),
            // Whoever cannot be reached for so long is lost anyway.
            patience: self.facts.lease,
        })
    }

    pub(super) fn link(&mut self, view: View) {
        let rank = view.rank_of(self.id);
        self.ranks.extend(rank.map(|rank| (view.number, rank)));
        self.open(&view, rank);
        let Some(plan) = self.plan() else {
            return;
        };
        self.unconfirmed = (0..view.size())
            .filter(|member| Some(*member) != rank)
            .collect();
        let (meter, events) = (self.meter.clone(), self.events.clone());
        tokio::spawn(async move {
            let result = exchange::link(plan, view.members, &meter, &events).await;
            let view = view.number;
            let _driver_is_gone = events.send(Input::Linked { view, result }).await;
        });
    }

    pub(super) fn fetch(&self, view: ViewNumber, address: String, at_least: Step) {
        let source = Source {
            run: self.facts.run.clone(),
            address,
            at_least,
            bytes: self.facts.replica_bytes,
            patience: self.facts.lease,
        };
        let (meter, events) = (self.meter.clone(), self.events.clone());
        tokio::spawn(async move {
            let result = exchange::fetch(source, &meter).await;
            if result.is_err() {
                // The next member is asked, but not in a hurry.
                tokio::time::sleep(RETRY).await;
            }
            let _driver_is_gone = events.send(Input::Snapshot { view, result }).await;
        });
    }

    /// Says who makes up a step. Whoever's stream has no room for that is lost in this view.
    fn decide(&mut self, decision: &Decision) {
        let full = self.voice.as_ref().map(|voice| voice.decide(decision));
        for rank in full.unwrap_or_default() {
            let (view, events) = (decision.view, self.events.clone());
            let reason = format!("it takes no decision on step {}", decision.step);
            tokio::spawn(async move {
                let lost = Input::PeerLost { view, rank, reason };
                let _driver_is_gone = events.send(lost).await;
            });
        }
    }

    /// Contributions that may be under way on a stream.
    fn contributions_max(&self) -> usize {
        usize::try_from(2 * self.facts.reach + 1).unwrap_or(usize::MAX)
    }

    /// Forwards what is held of steps to members that lack them and are still in the view in which they
    /// were made. One that cannot be reached counts as lost in the view that begins.
    pub(super) fn supply(&mut self, steps: Range<Step>, decisions: &[Decision], to: &[Member]) {
        // A member that has left may still be the only one who can.
        let next = self.machine.view().map(|(next, _)| next.clone());
        for (view, frames) in self.frames.held(steps) {
            let Some(rank) = self.ranks.get(&view).copied() else {
                continue;
            };
            for member in to {
                let plan = Plan {
                    run: self.facts.run.clone(),
                    view,
                    rank,
                    chunks: self.facts.chunks_max,
                    steps: self.contributions_max(),
                    patience: self.facts.lease,
                };
                let (frames, address) = (frames.clone(), member.address.clone());
                let made = decisions.iter().filter(|made| made.view == view);
                let made: Vec<Decision> = made.cloned().collect();
                let (meter, events) = (self.meter.clone(), self.events.clone());
                let lost = next
                    .as_ref()
                    .and_then(|next| Some((next.number, next.rank_of(member.node)?)));
                self.supplies.spawn(async move {
                    let done = exchange::supply(plan, made, frames, &address, &meter).await;
                    if let (Err(reason), Some((view, rank))) = (done, lost) {
                        let lost = Input::PeerLost { view, rank, reason };
                        let _driver_is_gone = events.send(lost).await;
                    }
                });
            }
        }
    }

    /// The trainer ends only after the driver, or after it has reported a failure.
    pub(super) fn order(&mut self, order: Order) {
        if self
            .trainer
            .as_ref()
            .is_none_or(|trainer| trainer.send(order).is_err())
        {
            tracing::debug!("the trainer takes no more orders");
        }
    }

    /// Words that cannot be said are not lost on anybody: the session is over, and its end is
    /// reported by the task that listens to it.
    pub(super) fn say(&mut self, words: NodeWords) {
        if let Err(reason) = self.session.say(words) {
            tracing::debug!(reason, "not said");
        }
    }

    /// Sends the metrics collected so far.
    pub(super) fn report(&mut self) {
        if let Some(reports) = self.telemetry.take() {
            self.say(NodeWords::Reports(reports));
        }
    }
}
