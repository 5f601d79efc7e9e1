//! The one task that owns the state machine and carries out its commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc as orders;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ecq_cluster::node::{Command, Ending, Event, Node};
use ecq_cluster::{
    Digest, Evaluation, Failure, FrameKey, Hello, Millis, NodeId, Rank, RunConfig, Step,
    StepReport, ToCoordinator, ToNode, View,
};
use ecq_proto::NodeWords;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::address;
use crate::error::NodeError;
use crate::exchange::{self, Broadcast, Gate, Incoming, Meter, Plan};
use crate::session::Session;
use crate::telemetry::{FLUSH_INTERVAL, Telemetry};
use crate::trainer::{Order, Trainer};
use crate::workload::Workload;
use crate::{Options, Report, deliver};

/// Inputs that may wait for the driver; streams and trainer stop when it is this far behind.
const INPUTS_MAX: usize = 1024;

/// A node speaks at least this often; the shortest lease is five times as long.
const HEARTBEAT: Millis = 100;

/// Everything that the driver hears.
pub(crate) enum Input {
    /// The coordinator spoke.
    Said(ToNode),
    /// The session broke.
    SessionLost(String),
    /// Data and replica are ready, or are not to be had.
    Prepared(Box<Result<Workload, NodeError>>),
    /// Streams to the others are open, or one cannot be opened.
    Linked(Result<Broadcast, (Rank, String)>),
    /// A frame of another member.
    Frame(FrameKey, Bytes),
    /// A stream from or to another member broke.
    PeerLost { rank: Rank, reason: String },
    /// A member has received all of the stream to it, which has ended.
    Received { rank: Rank },
    /// The own contribution is on its way.
    Contributed(Step),
    /// A step is applied.
    Applied {
        step: Step,
        digest: Option<Digest>,
        report: StepReport,
    },
    /// The model on the test split.
    Evaluated(Evaluation),
    /// The final model, packed.
    Packed(Bytes),
    /// The coordinator has the model, or will not.
    Delivered(Result<(), String>),
    /// The trainer cannot go on.
    Failed(Failure),
}

/// A node at work.
pub(crate) struct Driver {
    options: Options,
    machine: Node,
    commands: Vec<Command>,
    start: Instant,
    session: Session,
    incoming: Incoming,
    meter: Meter,
    telemetry: Telemetry,
    events: mpsc::Sender<Input>,
    inputs: mpsc::Receiver<Input>,
    id: NodeId,
    steps: Step,
    /// Ready before there is a view, and with the trainer from then on.
    workload: Option<Workload>,
    trainer: Option<orders::Sender<Order>>,
    frames: BTreeMap<FrameKey, Bytes>,
    /// Members that have not confirmed our last contribution.
    unconfirmed: BTreeSet<Rank>,
    /// The last step's end, held back until all have: only then are its bytes counted.
    last_step: Option<(Step, Option<Digest>, StepReport)>,
    digest: Option<Digest>,
    /// Why this node cannot go on, in more detail than the others are told.
    fault: Option<NodeError>,
}

impl Driver {
    /// Listens for peers, reaches the coordinator and introduces itself.
    pub(crate) async fn start(options: Options) -> Result<Self, NodeError> {
        if !address::has_port(&options.coordinator) {
            return Err(NodeError::Address(options.coordinator));
        }
        let listen = |source| NodeError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let (events, inputs) = mpsc::channel(INPUTS_MAX);
        let meter = Meter::default();
        let incoming = Incoming::serve(listener, meter.clone(), events.clone()).map_err(listen)?;
        let patience = options.connect_timeout;
        let session = Session::open(&options.coordinator, patience, events.clone()).await?;
        let hello = Hello {
            run: options.run.clone(),
            rank: options.rank,
            version: ecq_proto::VERSION.to_owned(),
            address: address::advertised(&options, incoming.address().port()).await?,
        };
        tracing::info!(pid = std::process::id(), address = hello.address, "started");
        let mut commands = Vec::new();
        let machine = Node::new(0, hello, HEARTBEAT, &mut commands);
        Ok(Self {
            telemetry: Telemetry::new(meter.clone()),
            options,
            machine,
            commands,
            start: Instant::now(),
            session,
            incoming,
            meter,
            events,
            inputs,
            id: 0,
            steps: 0,
            workload: None,
            trainer: None,
            frames: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            last_step: None,
            digest: None,
            fault: None,
        })
    }

    /// Takes part until the machine says that it is over.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<Report, NodeError> {
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        let mut stopping = false;
        loop {
            if let Some(result) = self.carry_out() {
                return self.conclude(result).await;
            }
            let deadline = self.machine.deadline().unwrap_or(Millis::MAX / 2);
            let deadline = self.start + Duration::from_millis(deadline);
            let event = tokio::select! {
                input = self.inputs.recv() => input.and_then(|input| self.hear(input)),
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    Some(Event::Failed(Failure::Stopped("told to stop".to_owned())))
                }
                _ = flush.tick() => {
                    self.report();
                    None
                }
                () = tokio::time::sleep_until(deadline.into()) => Some(Event::Tick),
            };
            if let Some(event) = event {
                let now = self.start.elapsed().as_millis() as Millis;
                self.machine.handle(now, event, &mut self.commands);
            }
        }
    }

    /// Turns what was heard into an event for the machine.
    fn hear(&mut self, input: Input) -> Option<Event> {
        Some(match input {
            Input::Said(message) => {
                if let ToNode::Welcome { node, .. } = &message {
                    self.id = *node;
                }
                Event::Message(message)
            }
            Input::SessionLost(reason) => Event::CoordinatorLost(reason),
            Input::Prepared(prepared) => match *prepared {
                Ok(workload) => self.prepared(workload),
                Err(error) => self.failed(error),
            },
            Input::Linked(Ok(broadcast)) => self.linked(broadcast)?,
            Input::Linked(Err((rank, reason))) | Input::PeerLost { rank, reason } => {
                Event::PeerLost { rank, reason }
            }
            Input::Frame(key, frame) => {
                self.frames.entry(key).or_insert(frame);
                Event::Frame(key)
            }
            Input::Contributed(step) => Event::Contributed(step),
            Input::Applied {
                step,
                digest,
                report,
            } => {
                if step + 1 == self.steps {
                    self.last_step = Some((step, digest, report));
                    return self.last_step();
                }
                self.applied(step, digest, report)
            }
            Input::Received { rank } => {
                self.unconfirmed.remove(&rank);
                return self.last_step();
            }
            Input::Evaluated(evaluation) => {
                self.report();
                self.say(NodeWords::Evaluation(evaluation));
                return None;
            }
            Input::Packed(model) => {
                let (channel, node, events) =
                    (self.session.channel(), self.id, self.events.clone());
                tokio::spawn(async move {
                    let delivered = deliver::send(channel, node, model).await;
                    let _driver_is_gone = events.send(Input::Delivered(delivered)).await;
                });
                return None;
            }
            Input::Delivered(Ok(())) => Event::Delivered,
            Input::Delivered(Err(reason)) => Event::Failed(Failure::Fault(reason)),
            Input::Failed(failure) => Event::Failed(failure),
        })
    }

    fn applied(&mut self, step: Step, digest: Option<Digest>, report: StepReport) -> Event {
        self.telemetry.push(report);
        self.digest = digest.or(self.digest);
        Event::Applied { step, digest }
    }

    /// The end of the last step, once it is applied here and everybody has our contribution to it.
    fn last_step(&mut self) -> Option<Event> {
        let (step, digest, report) = self.last_step.take_if(|_| self.unconfirmed.is_empty())?;
        Some(self.applied(step, digest, report))
    }

    fn prepared(&mut self, workload: Workload) -> Event {
        let fingerprint = workload.fingerprint();
        tracing::info!(
            parameters = fingerprint.parameters,
            samples = fingerprint.samples,
            steps = workload.steps,
            digest = fingerprint.replica.short(),
            "prepared"
        );
        self.steps = workload.steps;
        let event = Event::Prepared {
            fingerprint,
            // Invariant: buckets of 2^20 elements; a model of 2^52 parameters does not fit here.
            buckets: u32::try_from(workload.buckets.len()).unwrap_or(u32::MAX),
            steps: workload.steps,
            digest_every: workload.config.digest_every,
        };
        self.workload = Some(workload);
        event
    }

    fn linked(&mut self, broadcast: Broadcast) -> Option<Event> {
        let (view, rank) = self.machine.view()?;
        let workload = self.workload.take()?;
        let events = self.events.clone();
        match Trainer::spawn(workload, rank, view.size(), broadcast, events) {
            Ok(orders) => {
                self.trainer = Some(orders);
                Some(Event::Linked)
            }
            Err(error) => {
                let text = format!("cannot start the trainer's thread: {error}");
                Some(Event::Failed(Failure::Fault(text)))
            }
        }
    }

    fn failed(&mut self, error: NodeError) -> Event {
        let failure = error.as_failure();
        self.fault = Some(error);
        Event::Failed(failure)
    }

    /// Carries out the machine's commands; returns how it ended, if it did.
    fn carry_out(&mut self) -> Option<Result<Step, Ending>> {
        for command in std::mem::take(&mut self.commands) {
            match command {
                Command::Send(message) => {
                    if matches!(message, ToCoordinator::Finished { .. }) {
                        self.report();
                    }
                    self.say(NodeWords::Protocol(message));
                }
                Command::Prepare { config } => self.prepare(config),
                Command::Link(view) => self.link(view),
                Command::Compute(step) => self.order(Order::Compute(step)),
                Command::Keep(_) => {}
                Command::Drop(key, verdict) => {
                    tracing::debug!(?key, ?verdict, "a frame does not count");
                    if verdict != ecq_cluster::Verdict::Duplicate {
                        self.frames.remove(&key);
                    }
                }
                Command::Apply { step, digest } => {
                    let frames = self.take_frames(step);
                    self.order(Order::Apply {
                        step,
                        digest,
                        frames,
                    });
                }
                Command::Deliver => self.order(Order::Finish),
                Command::Explain(reason) => tracing::info!("{reason}"),
                Command::Exit(result) => return Some(result),
            }
        }
        None
    }

    fn prepare(&self, config: String) {
        let data_dir = self.options.data_dir.clone();
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let prepared = RunConfig::from_toml(&config)
                .map_err(NodeError::from)
                .and_then(|config| Workload::prepare(config, data_dir.as_deref()));
            let _driver_is_gone = events.blocking_send(Input::Prepared(Box::new(prepared)));
        });
    }

    fn link(&mut self, view: View) {
        let (Some(workload), Some((_, rank))) = (&self.workload, self.machine.view()) else {
            return;
        };
        self.unconfirmed = (0..view.size()).filter(|member| *member != rank).collect();
        self.incoming.open(Gate {
            run: workload.config.name.clone(),
            view: view.number,
            members: view.size(),
            rank,
            frame_bytes_max: workload.frame_bytes_max() as u64,
        });
        let plan = Plan {
            run: workload.config.name.clone(),
            view,
            rank,
            chunks: workload.chunks_max(),
            patience: self.options.connect_timeout,
        };
        let (meter, events) = (self.meter.clone(), self.events.clone());
        tokio::spawn(async move {
            let linked = exchange::link(plan, &meter, &events).await;
            let _driver_is_gone = events.send(Input::Linked(linked)).await;
        });
    }

    fn take_frames(&mut self, step: Step) -> BTreeMap<(Rank, u32), Bytes> {
        let (taken, kept) = std::mem::take(&mut self.frames)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(key, _)| key.step == step);
        self.frames = kept;
        taken
            .into_iter()
            .map(|(key, frame)| ((key.rank, key.bucket), frame))
            .collect()
    }

    /// The trainer ends only after the driver, or after it has reported a failure.
    fn order(&mut self, order: Order) {
        if self
            .trainer
            .as_ref()
            .is_none_or(|trainer| trainer.send(order).is_err())
        {
            tracing::debug!("the trainer takes no more orders");
        }
    }

    /// Sends the metrics collected so far.
    fn report(&mut self) {
        if let Some(reports) = self.telemetry.take() {
            self.say(NodeWords::Reports(reports));
        }
    }

    /// Words that cannot be said are not lost on anybody: the session is over, and its end is
    /// reported by the task that listens to it.
    fn say(&mut self, words: NodeWords) {
        if let Err(reason) = self.session.say(words) {
            tracing::debug!(reason, "not said");
        }
    }

    async fn conclude(self, result: Result<Step, Ending>) -> Result<Report, NodeError> {
        let rank = self.machine.view().map_or(0, |(_, rank)| rank);
        self.session.close().await;
        match (result, self.digest) {
            (Ok(steps), Some(digest)) => {
                tracing::info!(steps, digest = digest.short(), "finished");
                Ok(Report {
                    rank,
                    steps,
                    digest,
                })
            }
            (Ok(_), None) => {
                let text = "the coordinator ended the run before this node took part";
                Err(NodeError::CoordinatorLost(text.to_owned()))
            }
            (Err(Ending::Refused(refusal)), _) => Err(NodeError::Refused(refusal)),
            (Err(Ending::Aborted(failure)), _) => Err(NodeError::Aborted(failure)),
            (Err(Ending::CoordinatorLost(reason)), _) => Err(NodeError::CoordinatorLost(reason)),
            (Err(Ending::Failed(failure)), _) => {
                Err(self.fault.unwrap_or(NodeError::Failed(failure)))
            }
        }
    }
}
