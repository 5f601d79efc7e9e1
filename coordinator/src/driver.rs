//! The one task that owns the state machine and carries out its commands.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ecq_cluster::coordinator::{Command, Coordinator, Event, Outcome};
use ecq_cluster::{Digest, Failure, Millis, NodeId, RunConfig, Step, ToCoordinator, ToNode, View};
use ecq_proto::NodeWords;
use ecq_proto::v1::{CoordinatorMessage, RunStatus};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::error::CoordinatorError;
use crate::history::History;
use crate::metrics::{Dimensions, Metrics};
use crate::run_dir::{RunDir, unwritable};
use crate::summary::Summary;

/// A session's sending end.
pub(crate) type Words = mpsc::Sender<Result<CoordinatorMessage, Status>>;

/// Everything that the driver hears.
#[derive(Debug)]
pub(crate) enum Input {
    /// A session has been opened.
    Connected { node: NodeId, words: Words },
    /// A node spoke.
    Said { node: NodeId, words: NodeWords },
    /// A session has ended.
    Disconnected(NodeId),
}

/// A coordinator at work.
#[derive(Debug)]
pub(crate) struct Driver {
    config: RunConfig,
    machine: Coordinator,
    commands: Vec<Command>,
    start: Instant,
    inputs: mpsc::Receiver<Input>,
    sessions: BTreeMap<NodeId, Words>,
    dir: RunDir,
    history: History,
    metrics: Metrics,
    /// What the members said of model and data; the machine sees to it that all say the same.
    prepared: Option<(u64, u64)>,
    status: watch::Sender<RunStatus>,
    deliverer: watch::Sender<Option<NodeId>>,
}

impl Driver {
    #[allow(clippy::type_complexity, reason = "two watches, taken apart at once")]
    pub(crate) fn new(
        config: RunConfig,
        text: String,
        dir: RunDir,
        inputs: mpsc::Receiver<Input>,
    ) -> Result<
        (
            Self,
            watch::Receiver<RunStatus>,
            watch::Receiver<Option<NodeId>>,
        ),
        CoordinatorError,
    > {
        let name = config.name.clone();
        let (status, statuses) = watch::channel(RunStatus {
            name,
            ..RunStatus::default()
        });
        let (deliverer, deliverers) = watch::channel(None);
        let driver = Self {
            machine: Coordinator::new(&config, text, ecq_proto::VERSION.to_owned()),
            commands: Vec::new(),
            start: Instant::now(),
            inputs,
            sessions: BTreeMap::new(),
            history: History::create(&dir)?,
            metrics: Metrics::create(&dir)?,
            prepared: None,
            status,
            deliverer,
            dir,
            config,
        };
        Ok((driver, statuses, deliverers))
    }

    /// Coordinates until the machine concludes.
    pub(crate) async fn run(
        mut self,
        stop: CancellationToken,
    ) -> Result<Summary, CoordinatorError> {
        let mut stopping = false;
        self.handle(Event::Tick);
        loop {
            match self.carry_out() {
                Ok(Some(outcome)) => return self.conclude(outcome),
                Ok(None) => {}
                Err(error) => {
                    // The run cannot go on without its records: everybody must hear of it.
                    self.handle(Event::Stop(error.to_string()));
                    let _told = self.carry_out();
                    return Err(error);
                }
            }
            let deadline = self.machine.deadline();
            let wake = async {
                match deadline {
                    Some(at) => {
                        tokio::time::sleep_until((self.start + Duration::from_millis(at)).into())
                            .await;
                    }
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                input = self.inputs.recv() => input.and_then(|input| self.hear(input)),
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    Some(Event::Stop("the coordinator was told to stop".to_owned()))
                }
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
    fn hear(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::Connected { node, words } => {
                self.sessions.insert(node, words);
                None
            }
            Input::Said {
                node,
                words: NodeWords::Protocol(message),
            } => {
                match &message {
                    ToCoordinator::Hello(hello) => {
                        tracing::info!(node, address = hello.address, rank = hello.rank, "hello");
                    }
                    ToCoordinator::Prepared(found) => {
                        self.prepared
                            .get_or_insert((found.parameters, found.samples));
                    }
                    _ => {}
                }
                Some(Event::Message {
                    from: node,
                    message,
                })
            }
            Input::Said { node, words } => {
                let measured = self.measure(node, words);
                measured
                    .err()
                    .map(|error| Event::Stop(format!("cannot write metrics: {error}")))
            }
            Input::Disconnected(node) => {
                self.sessions.remove(&node);
                Some(Event::Disconnected(node))
            }
        }
    }

    fn measure(&mut self, node: NodeId, words: NodeWords) -> std::io::Result<()> {
        let Some(rank) = self.machine.view().and_then(|view| view.rank_of(node)) else {
            return Ok(());
        };
        match words {
            NodeWords::Reports(reports) => self.metrics.report(rank, reports)?,
            NodeWords::Evaluation(evaluation) => {
                tracing::debug!(
                    steps = evaluation.steps,
                    loss = format!("{:.4}", evaluation.loss),
                    accuracy = format!("{:.2} %", evaluation.accuracy * 100.0),
                    "evaluated"
                );
                self.metrics.evaluation(evaluation)?;
            }
            NodeWords::Protocol(_) => {}
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
                    Command::Persist(view) => {
                        self.history.append(&view)?;
                        self.install(&view);
                        self.handle(Event::Persisted(view.number));
                    }
                    Command::Explain(reason) => {
                        tracing::info!("{reason}");
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
        let last = matches!(message, ToNode::Refused(_) | ToNode::Abort(_) | ToNode::End);
        if let ToNode::Refused(refusal) = &message {
            tracing::warn!(node = to, "refused: {refusal}");
        }
        let sent = self
            .sessions
            .get(&to)
            .map(|words| words.try_send(Ok(message.into())));
        if last || !matches!(sent, Some(Ok(()))) {
            self.sessions.remove(&to);
        }
    }

    fn install(&mut self, view: &View) {
        let (parameters, samples) = self.prepared.unwrap_or_default();
        let steps = self.config.total_steps(samples);
        let members = view.size();
        self.metrics.begin(Dimensions {
            members,
            parameters,
            samples,
            steps,
        });
        self.deliverer
            .send_replace(view.members.first().map(|member| member.node));
        self.publish();
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

    fn conclude(mut self, outcome: Outcome) -> Result<Summary, CoordinatorError> {
        let (steps, digest) = match outcome {
            Outcome::Completed { steps, digest } => (steps, digest),
            Outcome::Failed(failure) => {
                self.explain_end(format!("failed: {failure}"));
                return Err(CoordinatorError::Failed(failure));
            }
        };
        let summary = self.summarise(steps, digest)?;
        self.explain_end("completed".to_owned());
        Ok(summary)
    }

    fn summarise(&mut self, steps: Step, digest: Digest) -> Result<Summary, CoordinatorError> {
        let reported = self.metrics.history.len() as u64;
        if reported != steps || !self.dir.path("model.safetensors").is_file() {
            let text = format!("{reported} of {steps} steps were reported, or no model delivered");
            return Err(CoordinatorError::Failed(Failure::Fault(text)));
        }
        let summary = Summary::new(&self.config, &self.metrics, steps, digest);
        let path = self.dir.path("summary.json");
        let text = serde_json::to_string_pretty(&summary)
            .map_err(|error| unwritable(&path, error.into()))?;
        self.dir.put("summary.json", text.as_bytes())?;
        tracing::info!(steps, digest = digest.short(), "all replicas are identical");
        Ok(summary)
    }

    fn explain_end(&self, reason: String) {
        self.status.send_modify(|status| status.reason = reason);
    }
}
