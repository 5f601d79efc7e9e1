//! The one task that owns the state machine and carries out its commands.

mod commands;
mod input;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc as orders;
use std::time::{Duration, Instant};

use ecq_cluster::node::{Command, Ending, Event, Node};
use ecq_cluster::{
    Digest, Failure, FrameKey, Hello, Millis, NodeId, Rank, Step, StepReport, ToNode, ViewNumber,
};
use ecq_proto::NodeWords;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::address;
use crate::error::NodeError;
use crate::exchange::{Broadcast, Incoming, Meter, Snapshot, Voice};
use crate::frames::Frames;
use crate::record::Recorder;
use crate::session::Session;
use crate::telemetry::{FLUSH_INTERVAL, Telemetry};
use crate::trainer::{Heritage, Order, Trainer};
use crate::{Options, Report, Stop, deliver};
pub(crate) use input::{Input, Prepared};

/// Inputs that may wait for the driver; streams and trainer stop when it is this far behind.
const INPUTS_MAX: usize = 1024;

/// A node speaks at least this often; the shortest lease is five times as long.
const HEARTBEAT: Millis = 100;

/// What the driver must know of the workload, which is the trainer's.
#[derive(Clone, Debug, Default)]
struct Facts {
    run: String,
    steps: Step,
    frame_bytes_max: u64,
    chunks_max: usize,
    replica_bytes: usize,
    /// Whether the codec has error feedback.
    feedback: bool,
    lease: Duration,
    /// Steps that members can be apart.
    reach: Step,
}

/// A node at work.
pub(crate) struct Driver {
    options: Options,
    machine: Node,
    commands: Vec<Command>,
    start: Instant,
    session: Session,
    incoming: Incoming,
    /// The address under which the others reach it, as long as the log does not say it.
    unsaid: Option<String>,
    meter: Meter,
    telemetry: Telemetry,
    events: mpsc::Sender<Input>,
    inputs: mpsc::Receiver<Input>,
    id: NodeId,
    facts: Facts,
    trainer: Option<orders::Sender<Order>>,
    /// What the process had as another node, until the trainer takes it.
    heritage: Option<Heritage>,
    /// ‖h‖ after the last contribution that was applied.
    residual_norm: f64,
    /// What others lack of a step, on its way to them.
    supplies: JoinSet<()>,
    /// The streams of the view in force, as long as the trainer keeps them open.
    voice: Option<Voice>,
    frames: Frames,
    /// The frame that the machine judges, unless one with its identity was held already.
    arrived: Option<FrameKey>,
    /// Members that have not confirmed our last contribution.
    unconfirmed: BTreeSet<Rank>,
    /// The last step's end, held back until all have: only then are its bytes counted.
    last_step: Option<(Step, Option<Digest>, Option<StepReport>)>,
    /// The snapshot that has arrived last.
    snapshot: Option<Snapshot>,
    /// This node's ranks in the views that it has been a member of.
    ranks: BTreeMap<ViewNumber, Rank>,
    digest: Option<Digest>,
    /// Whether the model is on its way.
    delivering: bool,
    /// Why this node cannot go on, in more detail than the others are told.
    fault: Option<NodeError>,
}

impl Driver {
    /// Listens for peers, reaches the coordinator and introduces itself; who asks `again` for a seat says where it
    /// listens once it has one.
    pub(crate) async fn start(
        options: Options,
        heritage: Option<Heritage>,
        again: bool,
    ) -> Result<Self, NodeError> {
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
            observe: options.observe.is_some(),
            residual: heritage.as_ref().map(Heritage::residual),
        };
        let address = hello.address.clone();
        let mut commands = Vec::new();
        let machine = Node::new(0, hello, HEARTBEAT, &mut commands);
        let mut driver = Self {
            unsaid: Some(address),
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
            facts: Facts::default(),
            trainer: None,
            heritage,
            residual_norm: 0.0,
            supplies: JoinSet::new(),
            voice: None,
            frames: Frames::default(),
            arrived: None,
            unconfirmed: BTreeSet::new(),
            last_step: None,
            snapshot: None,
            ranks: BTreeMap::new(),
            digest: None,
            delivering: false,
            fault: None,
        };
        if !again {
            driver.introduce();
        }
        Ok(driver)
    }

    /// Says where it is to be found, once.
    fn introduce(&mut self) {
        if let Some(address) = self.unsaid.take() {
            let (pid, listening) = (std::process::id(), self.incoming.address());
            tracing::info!(pid, address, %listening, "started");
        }
    }

    /// Takes part until the machine says that it is over. `left` is what is then left for a node that comes
    /// back.
    pub(crate) async fn run(
        mut self,
        stop: &Stop,
        left: &mut Option<Heritage>,
    ) -> Result<Report, NodeError> {
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        // Until when a last contribution may take, once this node is told to stop.
        let mut patience: Option<Instant> = None;
        let told = || Failure::Stopped("told to stop".to_owned());
        loop {
            if let Some(result) = self.carry_out() {
                if let Err(Ending::Excluded(_) | Ending::CoordinatorLost(_) | Ending::Refused(_)) =
                    &result
                {
                    *left = self.hand_over().await;
                }
                if patience.is_some() {
                    self.take_stock();
                }
                return self.conclude(result).await;
            }
            let stopping = patience.is_some();
            let at_last = patience.unwrap_or_else(Instant::now);
            let deadline = self.machine.deadline().unwrap_or(Millis::MAX / 2);
            let deadline = self.start + Duration::from_millis(deadline);
            let event = tokio::select! {
                input = self.inputs.recv() => input.and_then(|input| self.hear(input)),
                () = stop.in_order.cancelled(), if !stopping => {
                    patience = Some(Instant::now() + self.facts.lease);
                    Some(match self.facts.feedback {
                        true => Event::Stop(told()),
                        false => Event::Failed(told()),
                    })
                }
                () = stop.at_once.cancelled(), if stopping => Some(Event::Failed(told())),
                () = tokio::time::sleep_until(at_last.into()), if stopping => {
                    Some(Event::Failed(told()))
                }
                _ = flush.tick() => {
                    self.report();
                    None
                }
                () = tokio::time::sleep_until(deadline.into()) => Some(Event::Tick),
            };
            let event = event.or_else(|| self.last_step());
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
                match &message {
                    ToNode::Welcome { node, .. } => {
                        self.id = *node;
                        self.introduce();
                    }
                    // Who has not confirmed anything by now may never do.
                    ToNode::Install(_) => self.unconfirmed.clear(),
                    _ => {}
                }
                Event::Message(message)
            }
            Input::SessionLost(reason) => Event::CoordinatorLost(reason),
            Input::Reconnected(Ok(session)) => {
                self.session = session;
                Event::Reconnected
            }
            Input::Reconnected(Err(error)) => {
                self.fault = Some(NodeError::CoordinatorGone(error.to_string()));
                Event::CoordinatorGone(error.to_string())
            }
            Input::Recorded { steps, evaluated } => {
                self.telemetry.stored(steps, evaluated);
                return None;
            }
            Input::Prepared(prepared) => match *prepared {
                Ok(prepared) => self.prepared(prepared),
                Err(error) => self.failed(error),
            },
            Input::Linked {
                view,
                result: Ok(broadcast),
            } => self.linked(view, broadcast)?,
            Input::Linked {
                view,
                result: Err((rank, reason)),
            } => Event::PeerLost { view, rank, reason },
            Input::Opened { view, rank, first } => Event::Opened { view, rank, first },
            Input::Wanted(wanted) => {
                self.order(Order::Give(wanted));
                return None;
            }
            Input::Snapshot {
                view,
                result: Ok(snapshot),
            } => {
                let (next, digest) = (snapshot.next, snapshot.digest);
                self.snapshot = Some(snapshot);
                Event::Snapshot { view, next, digest }
            }
            Input::Snapshot {
                view,
                result: Err(reason),
            } => Event::NotFetched { view, reason },
            Input::Frame(key, frame) => {
                self.arrived = self.frames.insert(key, frame).then_some(key);
                Event::Frame(key)
            }
            Input::Decision(decision) => Event::Decision(decision),
            Input::PeerLost { view, rank, reason } => {
                self.confirmed(view, rank);
                Event::PeerLost { view, rank, reason }
            }
            Input::Received { view, rank } => {
                self.confirmed(view, rank);
                return None;
            }
            Input::Contributed {
                view,
                step,
                rank,
                frames,
            } => {
                for (bucket, frame) in (0..).zip(frames) {
                    let key = FrameKey {
                        view,
                        step,
                        rank,
                        bucket,
                    };
                    self.frames.insert(key, frame);
                }
                Event::Contributed { view, step }
            }
            Input::Applied {
                step,
                digest,
                report,
            } => {
                if step + 1 == self.facts.steps {
                    self.last_step = Some((step, digest, report));
                    return None;
                }
                self.applied(step, digest, report)
            }
            Input::Summed(sums) => {
                self.say(NodeWords::Sums(sums));
                return None;
            }
            Input::Evaluated(evaluation) => {
                self.report();
                self.telemetry.evaluated(evaluation);
                self.say(NodeWords::Evaluation(evaluation));
                return None;
            }
            Input::Packed(_) if std::mem::replace(&mut self.delivering, true) => return None,
            Input::Packed(model) => {
                let (channel, node, events) =
                    (self.session.channel(), self.id, self.events.clone());
                let patience = self.options.connect_timeout;
                tokio::spawn(async move {
                    let delivered = deliver::send(channel, node, model, patience).await;
                    let _driver_is_gone = events.send(Input::Delivered(delivered)).await;
                });
                return None;
            }
            Input::Delivered(Ok(())) => {
                self.delivering = false;
                Event::Delivered
            }
            Input::Delivered(Err(reason)) => Event::Failed(Failure::Fault(reason)),
            Input::Failed(error) => self.failed(error),
        })
    }

    fn applied(&mut self, step: Step, digest: Option<Digest>, report: Option<StepReport>) -> Event {
        if let Some(report) = report {
            self.residual_norm = report.residual_norm_squared.sqrt();
            self.telemetry.push(report);
        }
        self.digest = digest.or(self.digest);
        Event::Applied { step, digest }
    }

    /// Nothing more is to be expected of the stream to a member of the view.
    fn confirmed(&mut self, view: ViewNumber, rank: Rank) {
        if self
            .machine
            .view()
            .is_some_and(|(current, _)| current.number == view)
        {
            self.unconfirmed.remove(&rank);
        }
    }

    /// The end of the last step, once it is applied here and everybody has our contribution to it.
    fn last_step(&mut self) -> Option<Event> {
        let (step, digest, report) = self.last_step.take_if(|_| self.unconfirmed.is_empty())?;
        Some(self.applied(step, digest, report))
    }

    fn prepared(&mut self, prepared: Prepared) -> Event {
        let Prepared {
            workload,
            checkpoints,
            kept,
        } = prepared;
        let fingerprint = workload.fingerprint();
        tracing::info!(
            parameters = fingerprint.parameters,
            samples = fingerprint.samples,
            steps = workload.rules.steps,
            digest = fingerprint.replica.short(),
            "prepared"
        );
        self.facts = Facts {
            run: workload.rules.config.name.clone(),
            steps: workload.rules.steps,
            frame_bytes_max: workload.frame_bytes_max() as u64,
            chunks_max: workload.chunks_max(),
            replica_bytes: workload.rules.replica.bytes(),
            feedback: workload.rules.codec.gains().is_some(),
            lease: Duration::from_millis(workload.rules.config.lease()),
            reach: workload.rules.config.reach(),
        };
        let event = Event::Prepared {
            fingerprint,
            // Invariant: buckets of 2^20 elements; a model of 2^52 parameters does not fit here.
            buckets: u32::try_from(workload.rules.buckets.len()).unwrap_or(u32::MAX),
            steps: workload.rules.steps,
            digest_every: workload.rules.config.digest_every,
            quorum: workload.rules.config.policy(),
            kept,
        };
        let recorder = Recorder::new(&workload, self.options.record_dir.as_deref());
        match Trainer::spawn(
            workload,
            self.options.observe,
            checkpoints,
            recorder,
            self.heritage.take(),
            self.events.clone(),
        ) {
            Ok(orders) => {
                self.trainer = Some(orders);
                event
            }
            Err(error) => {
                let text = format!("cannot start the trainer's thread: {error}");
                Event::Failed(Failure::Fault(text))
            }
        }
    }

    fn linked(&mut self, number: ViewNumber, broadcast: Broadcast) -> Option<Event> {
        let (view, rank) = self.machine.view()?;
        let rank = rank.filter(|_| view.number == number)?;
        let view = view.clone();
        self.voice = Some(broadcast.voice());
        self.order(Order::Enter {
            view,
            rank,
            broadcast,
        });
        Some(Event::Linked(number))
    }

    fn failed(&mut self, error: NodeError) -> Event {
        let failure = error.as_failure();
        self.fault = Some(error);
        Event::Failed(failure)
    }

    /// What is left for a node that comes back. The trainer may first have something to say.
    async fn hand_over(&mut self) -> Option<Heritage> {
        if self.trainer.is_none() {
            return self.heritage.take();
        }
        let (reply, mut answer) = oneshot::channel();
        self.order(Order::HandOver {
            node: self.id,
            reply,
        });
        let heritage = loop {
            tokio::select! {
                heritage = &mut answer => break heritage.ok().flatten()?,
                _nobody_listens = self.inputs.recv() => {}
            }
        };
        tracing::info!(norm = heritage.norm(), "there is still the residual");
        Some(heritage)
    }

    /// Says what a node that leaves takes with it.
    fn take_stock(&self) {
        if self.machine.has_flushed() {
            tracing::info!("left with nothing kept back");
        } else if self.residual_norm > 0.0 {
            let norm = self.residual_norm;
            tracing::warn!(norm, "left at once: the residual is lost");
        }
    }

    async fn conclude(mut self, result: Result<Step, Ending>) -> Result<Report, NodeError> {
        let rank = self.machine.view().and_then(|(_, rank)| rank);
        // Others may go on only when they have these.
        let supplied = async { while self.supplies.join_next().await.is_some() {} };
        let _given_up = tokio::time::timeout(self.facts.lease, supplied).await;
        self.session.close().await;
        self.incoming.close().await;
        match result {
            Ok(steps) => {
                let digest = self.digest;
                let shown = digest.map_or_else(String::new, |digest| digest.short());
                tracing::info!(steps, digest = shown, "finished");
                Ok(Report {
                    rank,
                    steps,
                    digest,
                })
            }
            Err(Ending::Refused(refusal)) => Err(NodeError::Refused(refusal)),
            Err(Ending::Excluded(failure)) => Err(NodeError::Excluded(failure)),
            Err(Ending::Aborted(failure)) => Err(NodeError::Aborted(failure)),
            Err(Ending::CoordinatorLost(reason)) => {
                Err(self.fault.unwrap_or(NodeError::CoordinatorLost(reason)))
            }
            Err(Ending::Failed(failure)) => Err(self.fault.unwrap_or(NodeError::Failed(failure))),
        }
    }
}
