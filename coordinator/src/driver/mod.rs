//! The one task that owns the state machine and carries out its commands.

mod beginning;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ecq_cluster::coordinator::{Command, Coordinator, Event, Outcome};
use ecq_cluster::{
    Digest, Failure, Fingerprint, Hello, Legacy, Millis, NodeId, Refusal, RunConfig, Step,
    ToCoordinator, ToNode, View,
};
use ecq_proto::v1::{CoordinatorMessage, RunStatus};
use ecq_proto::{CoordinatorWords, NodeWords};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::differences::Differences;
use crate::error::CoordinatorError;
use crate::history::History;
use crate::metrics::Metrics;
use crate::residuals::Residuals;
use crate::run_dir::{METRICS, MODEL, RunDir, SUMMARY, unwritable};
use crate::store::Store;
use crate::summary::Summary;

/// A session's sending end.
pub(crate) type Words = mpsc::Sender<Result<CoordinatorMessage, Status>>;

/// Everything that the driver hears.
#[derive(Debug)]
pub(crate) enum Input {
    /// A session has been opened.
    Connected { session: NodeId, words: Words },
    /// A node spoke.
    Said { session: NodeId, words: NodeWords },
    /// A session has ended, for this reason if the node broke the contract.
    Disconnected {
        session: NodeId,
        status: Option<Status>,
    },
}

/// Least time between two words of what is stored.
const RECORDED_INTERVAL: Duration = Duration::from_millis(200);

/// A coordinator at work.
#[derive(Debug)]
pub(crate) struct Driver {
    config: RunConfig,
    machine: Coordinator,
    commands: Vec<Command>,
    start: Instant,
    inputs: mpsc::Receiver<Input>,
    sessions: BTreeMap<NodeId, Words>,
    /// Members that have come back, by their new sessions.
    returned: BTreeMap<NodeId, NodeId>,
    /// The first identity that no node of the run has had.
    next_node: NodeId,
    dir: RunDir,
    store: Store,
    history: History,
    metrics: Metrics,
    residuals: Residuals,
    /// What becomes of residuals with the next view.
    legacies: Vec<Legacy>,
    differences: Differences,
    /// How many steps and evaluations are stored.
    stored: (usize, usize),
    /// When members were told.
    told: Instant,
    /// What nodes said of model and data; the machine sees to it that all members say the same.
    prepared: BTreeMap<NodeId, Fingerprint>,
    status: watch::Sender<RunStatus>,
    deliverer: watch::Sender<Option<NodeId>>,
    /// Why a node was refused last, until another is welcome: who waits for a seat asks twice a second.
    refused: Option<Refusal>,
}

impl Driver {
    /// The first identity that no node of the run has had.
    pub(crate) fn next_node(&self) -> NodeId {
        self.next_node
    }

    /// How the run goes.
    pub(crate) fn status(&self) -> watch::Receiver<RunStatus> {
        self.status.subscribe()
    }

    /// Who delivers the model, once there is a view.
    pub(crate) fn deliverer(&self) -> watch::Receiver<Option<NodeId>> {
        self.deliverer.subscribe()
    }

    /// Coordinates until the run is over; returns what it amounts to.
    pub(crate) async fn run(
        mut self,
        stop: CancellationToken,
    ) -> Result<Summary, CoordinatorError> {
        let result = match self.coordinate(&stop).await {
            Ok(Outcome::Completed { steps, digest }) => self.summarise(steps, digest),
            Ok(Outcome::Failed(failure)) => Err(CoordinatorError::Failed(failure)),
            Err(error) => {
                // The run cannot go on without its records: everybody must hear of it.
                self.handle(Event::Stop(error.to_string()));
                let _told = self.carry_out();
                Err(error)
            }
        };
        let reason = match &result {
            Ok(_) => "completed".to_owned(),
            Err(CoordinatorError::Failed(failure)) => format!("failed: {failure}"),
            Err(error) => format!("failed: {error}"),
        };
        self.status.send_modify(|status| status.reason = reason);
        result
    }

    /// Feeds the machine until it concludes.
    async fn coordinate(&mut self, stop: &CancellationToken) -> Result<Outcome, CoordinatorError> {
        self.handle(Event::Tick);
        loop {
            if let Some(outcome) = self.carry_out()? {
                return Ok(outcome);
            }
            let deadline = self.machine.deadline();
            let wake = async {
                match deadline {
                    Some(at) => {
                        let at = self.start + Duration::from_millis(at);
                        tokio::time::sleep_until(at.into()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            // In this order: a heartbeat that has arrived is heard before leases are looked at.
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    Some(Event::Stop("the coordinator was told to stop".to_owned()))
                }
                Some(input) = self.inputs.recv() => self.hear(input)?,
                () = wake => Some(Event::Tick),
            };
            if let Some(event) = event {
                self.handle(event);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.start.elapsed().as_millis() as Millis;
        self.machine.handle(now, event, &mut self.commands);
    }

    /// Turns what was heard into an event for the machine; metrics are not for it.
    fn hear(&mut self, input: Input) -> Result<Option<Event>, CoordinatorError> {
        Ok(match input {
            Input::Connected { session, words } => {
                self.sessions.insert(session, words);
                None
            }
            Input::Said { session, words } => match words {
                NodeWords::Protocol(message) => {
                    if let ToCoordinator::Return { node, .. } = message {
                        self.welcome_back(session, node);
                    }
                    let node = self.node_of(session);
                    self.note(node, &message);
                    Some(Event::Message {
                        from: node,
                        message,
                    })
                }
                NodeWords::Sums(sums) => {
                    self.differences.take(self.node_of(session), sums)?;
                    None
                }
                measured => {
                    let node = self.node_of(session);
                    self.measure(node, measured)
                        .map_err(|error| unwritable(&self.dir.path(METRICS), error))?;
                    self.record()?;
                    None
                }
            },
            Input::Disconnected { session, status } => {
                let node = self.node_of(session);
                self.returned.remove(&session);
                self.prepared.remove(&node);
                if let (Some(words), Some(status)) = (self.sessions.remove(&node), status) {
                    tracing::warn!(node, reason = status.message(), "hung up on a node");
                    let _does_not_listen = words.try_send(Err(status));
                }
                Some(Event::Disconnected(node))
            }
        })
    }

    /// A member that has come back has the identity that it had.
    fn welcome_back(&mut self, session: NodeId, node: NodeId) {
        if let Some(words) = self.sessions.remove(&session) {
            tracing::info!(node, "a member is back");
            self.sessions.insert(node, words);
            self.returned.insert(session, node);
        }
    }

    fn node_of(&self, session: NodeId) -> NodeId {
        self.returned.get(&session).copied().unwrap_or(session)
    }

    /// Stores the metrics that are new, and tells members now and then that they may forget them.
    fn record(&mut self) -> Result<(), CoordinatorError> {
        let (steps, evaluations) = self.stored;
        let history = &self.metrics.history[steps..];
        let evaluated = &self.metrics.evaluated[evaluations..];
        if !history.is_empty() || !evaluated.is_empty() {
            self.store.record(history, evaluated)?;
            self.stored = (self.metrics.history.len(), self.metrics.evaluated.len());
        }
        if self.told.elapsed() >= RECORDED_INTERVAL {
            self.told = Instant::now();
            let recorded = CoordinatorWords::Recorded {
                steps: self.metrics.history.len() as Step,
                evaluated: self.metrics.evaluated.last().map_or(0, |line| line.step),
            };
            for words in self.sessions.values() {
                // Who does not listen needs the room for what matters more.
                if words.capacity() > words.max_capacity() / 2 {
                    let _full_meanwhile = words.try_send(Ok(recorded.clone().into()));
                }
            }
        }
        Ok(())
    }

    /// Remembers what the shell needs of words that are for the machine.
    fn note(&mut self, node: NodeId, message: &ToCoordinator) {
        match message {
            ToCoordinator::Hello(hello) => {
                let Hello { address, rank, .. } = hello;
                match self.refused {
                    None => tracing::info!(node, address, rank, "hello"),
                    // It may be the same one, which asks again and again.
                    Some(_) => tracing::debug!(node, address, rank, "hello"),
                }
            }
            ToCoordinator::Prepared { fingerprint, .. } => {
                // Like the machine: what a node says first counts.
                self.prepared.entry(node).or_insert(*fingerprint);
            }
            _ => {}
        }
    }

    fn measure(&mut self, node: NodeId, words: NodeWords) -> std::io::Result<()> {
        match words {
            NodeWords::Reports(reports) => {
                if let Some(last) = reports.last() {
                    let norm = last.residual_norm_squared.max(0.0).sqrt();
                    self.residuals.report(node, norm);
                }
                self.metrics.report(node, reports)?;
            }
            NodeWords::Evaluation(evaluation) => {
                tracing::debug!(
                    steps = evaluation.steps,
                    loss = format!("{:.4}", evaluation.loss),
                    accuracy = format!("{:.2} %", evaluation.accuracy * 100.0),
                    "evaluated"
                );
                self.metrics.evaluation(evaluation)?;
            }
            NodeWords::Protocol(_) | NodeWords::Sums(_) => {}
        }
        self.publish();
        Ok(())
    }

    /// Carries out the machine's commands; returns how the run ended, if it did.
    fn carry_out(&mut self) -> Result<Option<Outcome>, CoordinatorError> {
        while !self.commands.is_empty() {
            for command in std::mem::take(&mut self.commands) {
                match command {
                    Command::Send { to, message } => self.send(to, message),
                    Command::Bequeath(legacy) => self.legacies.push(legacy),
                    Command::Persist(view) => {
                        let legacies = std::mem::take(&mut self.legacies);
                        let notes = self.residuals.install(&view, &legacies);
                        self.store.append(&view, notes)?;
                        self.history.append(&view, notes)?;
                        self.install(&view)?;
                        self.handle(Event::Persisted(view.number));
                    }
                    Command::Explain(reason) => {
                        tracing::info!("{reason}");
                        let done = self.metrics.history.len() as Step;
                        self.store.explain(self.metrics.elapsed(), done, &reason)?;
                        self.status.send_modify(|status| status.reason = reason);
                    }
                    Command::Conclude(outcome) => return Ok(Some(outcome)),
                }
            }
        }
        Ok(None)
    }

    /// A session that does not fetch its words is as good as broken: its end will be heard.
    fn send(&mut self, to: NodeId, message: ToNode) {
        let last = matches!(
            message,
            ToNode::Refused(_) | ToNode::Excluded(_) | ToNode::Abort(_) | ToNode::End
        );
        match &message {
            ToNode::Refused(refusal) if self.refused.as_ref() != Some(refusal) => {
                tracing::warn!(node = to, "refused: {refusal}");
                self.refused = Some(refusal.clone());
            }
            ToNode::Welcome { .. } if self.refused.take().is_some() => {
                tracing::info!(node = to, "welcome");
            }
            _ => {}
        }
        let sent = self
            .sessions
            .get(&to)
            .map(|words| words.try_send(Ok(message.into())));
        if last || !matches!(sent, Some(Ok(()))) {
            self.sessions.remove(&to);
        }
    }

    fn install(&mut self, view: &View) -> Result<(), CoordinatorError> {
        let deliverer = view.members.first().map(|member| member.node);
        let found = deliverer.and_then(|node| self.prepared.get(&node));
        let found = found.expect("the members of a view are prepared");
        if self.metrics.dimensions().is_none() {
            self.store.begin(found)?;
            self.metrics
                .begin(beginning::dimensions(&self.config, found));
        }
        let (first, made) = (view.first_step, self.metrics.history.len() as Step);
        if first < made {
            match first {
                0 => tracing::warn!(
                    "no checkpoint is there to go on from: the run begins anew at step 0, and the {made} \
                     steps that it had made are made again"
                ),
                _ => {
                    tracing::info!("going back from step {made} to the checkpoints of step {first}")
                }
            }
            self.metrics.truncate(view.first_step)?;
            self.store.truncate(view.first_step)?;
            self.stored = (self.metrics.history.len(), self.metrics.evaluated.len());
            self.dir.discard(MODEL);
        }
        let members = view.members.iter().map(|member| member.node).collect();
        self.metrics
            .install(view.first_step, members)
            .map_err(|error| unwritable(&self.dir.path(METRICS), error))?;
        self.record()?;
        self.differences.install(view);
        self.deliverer.send_replace(deliverer);
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let done = self.metrics.history.last();
        let steps_total = self
            .metrics
            .dimensions()
            .map_or(0, |dimensions| dimensions.steps);
        self.status.send_modify(|status| {
            status.steps_done = self.metrics.history.len() as u64;
            status.steps_total = steps_total;
            status.train_loss = done.map(|metrics| metrics.train_loss);
            status.bits_per_element = done.map(|metrics| metrics.bits_per_element);
            status.test_accuracy = self.metrics.evaluation.map(|e| e.accuracy);
            status.elapsed_seconds = self.metrics.elapsed();
        });
    }

    fn summarise(&mut self, steps: Step, digest: Digest) -> Result<Summary, CoordinatorError> {
        if let Some(missing) = self.missing(steps) {
            return Err(CoordinatorError::Failed(Failure::Fault(missing)));
        }
        // A summary says that the rest is there.
        let synced = self.metrics.sync();
        synced.map_err(|error| unwritable(&self.dir.path(METRICS), error))?;
        let loss = self.residuals.loss();
        let summary = Summary::new(&self.config, &self.metrics, loss, steps, digest);
        let text = serde_json::to_string_pretty(&summary)
            .map_err(|error| unwritable(&self.dir.path(SUMMARY), error.into()))?;
        self.dir.put(SUMMARY, text.as_bytes())?;
        tracing::info!(steps, digest = digest.short(), "all replicas are identical");
        Ok(summary)
    }

    /// What a completed run would have and this one has not: a summary would be a lie.
    fn missing(&self, steps: Step) -> Option<String> {
        let reported = self.metrics.history.len() as Step;
        if reported != steps {
            return Some(format!("only {reported} of {steps} steps were reported"));
        }
        if self.metrics.evaluation.is_none() {
            return Some("the model was not evaluated".to_owned());
        }
        if !self.dir.path(MODEL).is_file() {
            return Some("no model was delivered".to_owned());
        }
        None
    }
}
