//! The step loop's arithmetic, on a thread of its own.

mod evaluation;
mod left_out;
mod order;
mod residual;

use std::ops::Range;
use std::sync::mpsc;
use std::time::Instant;

use bytes::Bytes;
use ecq_cluster::{
    Failure, NodeId, Rank, RunConfig, Step, StepReport, TensorSums, View, ViewNumber,
};
use ecq_nn::{Batch, Loss, Sampler};
use ecq_quant::{Aggregator, Encoder, FrameId, FrameStats};
use tokio::sync::mpsc as channel;

use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::driver::Input;
use crate::error::NodeError;
use crate::exchange::{Broadcast, Snapshot, Wanted};
use crate::record::{Entry, RecordError, Recorder};
use crate::rules::Rules;
use crate::workload::Workload;
use left_out::Contribution;
pub(crate) use order::Order;
pub(crate) use residual::Heritage;
use residual::{Past, norm};

/// How a bucket becomes a frame.
type Encode = fn(&mut Encoder, FrameId, u32, Range<usize>, &[f32], &mut Vec<u8>) -> FrameStats;

/// The view in which the trainer computes.
#[derive(Debug)]
struct Seat {
    view: View,
    rank: Rank,
    /// Until the last step is applied.
    broadcast: Option<Broadcast>,
}

/// Owns everything that a step reads and writes.
pub(crate) struct Trainer {
    workload: Workload,
    sampler: Sampler,
    encoder: Encoder,
    past: Past,
    /// The contribution that is neither applied nor taken back.
    under_way: Option<Contribution>,
    /// What its process had as another node, until this one is a member.
    heritage: Option<Heritage>,
    aggregator: Aggregator,
    seat: Option<Seat>,
    wanted: Vec<Wanted>,
    /// The first step that is not applied.
    next: Step,
    events: channel::Sender<Input>,
    /// After how many steps the model is evaluated, if this node is never a member.
    evaluate_every: Option<Step>,
    /// If the run keeps some.
    checkpoints: Option<Checkpoints>,
    /// If the run is recorded.
    recorder: Option<Recorder>,
    indices: Vec<usize>,
    batch: Batch,
    gradient: Vec<f32>,
    report: StepReport,
    /// Whether the guard of error feedback has acted.
    guarded: bool,
    /// When the first step began.
    begun: Option<Instant>,
    started: Instant,
    contributed: Instant,
}

impl Trainer {
    /// Starts the thread; it ends when the orders do.
    pub(crate) fn spawn(
        workload: Workload,
        observe: Option<Step>,
        checkpoints: Option<Checkpoints>,
        recorder: Option<Recorder>,
        heritage: Option<Heritage>,
        events: channel::Sender<Input>,
    ) -> std::io::Result<mpsc::Sender<Order>> {
        let (orders, received) = mpsc::channel();
        let now = Instant::now();
        let seed = workload.rules.config.seed;
        let encoder = Encoder::new(&workload.rules.codec, &workload.rules.layout, seed);
        let mut trainer = Self {
            sampler: Sampler::new(seed, workload.dataset.train.len()),
            past: Past::new(&encoder),
            encoder,
            under_way: None,
            heritage,
            aggregator: Aggregator::new(workload.rules.decoder()),
            seat: None,
            wanted: Vec::new(),
            next: 0,
            events,
            evaluate_every: observe.map(|every| evaluation::every(every, &workload)),
            checkpoints,
            recorder,
            indices: Vec::new(),
            batch: Batch::default(),
            gradient: vec![0.0; workload.rules.replica.parameters.len()],
            report: StepReport::default(),
            guarded: false,
            begun: None,
            started: now,
            contributed: now,
            workload,
        };
        std::thread::Builder::new()
            .name("trainer".into())
            .spawn(move || {
                for order in received {
                    if let Order::HandOver { node, reply } = order {
                        let _is_not_waited_for = reply.send(trainer.hand_over(node));
                        return;
                    }
                    let done = trainer.obey(order);
                    let answers = done.unwrap_or_else(|error| vec![Input::Failed(error)]);
                    for answer in answers {
                        if trainer.events.blocking_send(answer).is_err() {
                            return;
                        }
                    }
                }
            })?;
        Ok(orders)
    }

    fn obey(&mut self, order: Order) -> Result<Vec<Input>, NodeError> {
        match order {
            Order::Enter {
                view,
                rank,
                broadcast,
            } => {
                if let Some(own) = self.under_way.take() {
                    self.past.take_back(own.step, &mut self.encoder);
                }
                self.heritage = None;
                self.record(|recorder| recorder.enter(&view, rank))?;
                self.seat = Some(Seat {
                    view,
                    rank,
                    broadcast: Some(broadcast),
                });
            }
            Order::Adopt(snapshot) => self.adopt(&snapshot)?,
            Order::Restore { step, rank } => {
                if let Some(checkpoints) = &self.checkpoints {
                    let rules = &mut self.workload.rules;
                    checkpoints.take_up(step, rank, rules, &mut self.encoder)?;
                }
                self.past.forget();
                if let Some(recorder) = &mut self.recorder {
                    recorder.restored(step, rank);
                }
                tracing::info!(step, rank, "going on from a checkpoint");
                self.next = step;
            }
            Order::Give(wanted) => {
                self.wanted.push(wanted);
                self.give();
            }
            Order::Inherit(step) => self.inherit(step)?,
            Order::HandOver { .. } => {} // Invariant: it ends the thread.
            Order::Compute(step) => return self.compute(step, Encoder::encode),
            Order::Flush(step) => return self.compute(step, Encoder::flush),
            Order::Apply {
                view,
                step,
                digest,
                members,
                ranks,
                frames,
            } => {
                let entry = Entry {
                    step,
                    view,
                    members,
                    digest: None,
                    frames,
                };
                return self.apply(entry, digest, &ranks);
            }
            Order::Finish(view) => return self.finish(&view),
        }
        Ok(Vec::new())
    }

    fn adopt(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let Snapshot { next, digest, data } = snapshot;
        if !self.workload.rules.replica.restore(data, *digest) {
            let text = format!(
                "the snapshot before step {next} does not have the digest {} that it came with",
                digest.short()
            );
            return Err(Failure::Fault(text));
        }
        self.next = *next;
        Ok(())
    }

    /// Gives snapshots to whoever waits for no later step.
    fn give(&mut self) {
        let next = self.next;
        let ready = |wanted: &mut Wanted| wanted.at_least <= next;
        let ready: Vec<Wanted> = self.wanted.extract_if(.., ready).collect();
        if ready.is_empty() {
            return;
        }
        let replica = &self.workload.rules.replica;
        let snapshot = Snapshot {
            next,
            digest: replica.digest(),
            data: replica.to_bytes(),
        };
        for wanted in ready {
            let _asks_no_longer = wanted.reply.send(snapshot.clone());
        }
    }

    /// Takes up the residual that its process had as another node, as it was before `step`.
    fn inherit(&mut self, step: Option<Step>) -> Result<(), Failure> {
        let rules = &self.workload.rules;
        let Some(heritage) = &self.heritage else {
            return Ok(()); // Invariant: it has told of one.
        };
        let Some(step) = step else {
            let norm = heritage.norm();
            tracing::warn!(norm, "the residual is lost: contributions to it are void");
            self.encoder = Encoder::new(&rules.codec, &rules.layout, rules.config.seed);
            return Ok(());
        };
        if heritage.config != rules.config {
            let text = "its residual is that of another run; start the node again";
            return Err(Failure::Fault(text.to_owned()));
        }
        self.encoder.clone_from(heritage.before(step));
        tracing::info!(
            norm = norm(&self.encoder),
            of = heritage.node,
            step,
            "going on with the residual from before this step"
        );
        Ok(())
    }

    /// What `node`, which has this trainer, would still have if it came back.
    fn hand_over(self, node: NodeId) -> Option<Heritage> {
        let own = self.seat.map(|_| Heritage {
            node,
            config: self.workload.rules.config,
            encoder: self.encoder,
            past: self.past,
        });
        own.or(self.heritage)
    }

    fn compute(&mut self, step: Step, encode: Encode) -> Result<Vec<Input>, NodeError> {
        let Some(mut seat) = self.seat.take() else {
            return Err(Failure::Fault(format!("step {step} comes before any view")).into());
        };
        let computed = self.contribute(step, &mut seat, encode);
        self.seat = Some(seat);
        computed.map(|contributed| vec![contributed])
    }

    fn contribute(
        &mut self,
        step: Step,
        seat: &mut Seat,
        encode: Encode,
    ) -> Result<Input, NodeError> {
        self.started = Instant::now();
        self.begun.get_or_insert(self.started);
        let loss = self.gradient(step, seat);
        let mean = loss.mean();
        if !mean.is_finite() {
            let text = format!(
                "training diverged: the loss is {mean} at step {step}; \
                 try a smaller --lr or a codec setting inside its stable region"
            );
            return Err(Failure::Diverged(text).into());
        }
        let computed = Instant::now();
        self.past.save(step, &self.encoder);
        let (stats, frames) = self.encode(step, loss.samples, seat, encode);
        self.under_way = Some(Contribution {
            step,
            rank: seat.rank,
            frames: frames.clone(),
        });
        if stats.guarded_frames > 0 && !std::mem::replace(&mut self.guarded, true) {
            tracing::warn!(
                step,
                omega = stats.omega(),
                "the codec's alpha would let the residual grow without bound: from here on the guard \
                 uses beta/(1 + omega) where that is less (guard=off in the codec: it does not)"
            );
        }
        self.contributed = Instant::now();
        self.report = StepReport {
            step,
            loss_sum: loss.sum,
            correct: loss.correct,
            samples: loss.samples,
            frame_bytes: frames.iter().map(|frame| frame.len() as u64).sum(),
            gradient_norm_squared: stats.gradient_norm_squared,
            residual_norm_squared: stats.residual_norm_squared,
            input_norm_squared: stats.input_norm_squared,
            error_squared: stats.error_squared,
            nonfinite_groups: stats.nonfinite_groups,
            guarded_frames: stats.guarded_frames,
            compute_seconds: (computed - self.started).as_secs_f32(),
            encode_seconds: (self.contributed - computed).as_secs_f32(),
            ..StepReport::default()
        };
        Ok(Input::Contributed {
            view: seat.view.number,
            step,
            rank: seat.rank,
            frames,
        })
    }

    /// The mean gradient over this member's share of the step's samples.
    fn gradient(&mut self, step: Step, seat: &Seat) -> Loss {
        let Workload {
            dataset,
            rules:
                Rules {
                    config,
                    model,
                    replica,
                    ..
                },
        } = &mut self.workload;
        let (begin, count) = config.share(seat.rank, seat.view.size());
        let position = consumed(config, &seat.view, step) + begin;
        self.sampler
            .indices(position, count as usize, &mut self.indices);
        dataset.train.gather(&self.indices, &mut self.batch);
        model.loss_and_gradient(&replica.parameters, &self.batch, &mut self.gradient)
    }

    /// Quantizes and encodes bucket after bucket, each on its way before the next is begun.
    fn encode(
        &mut self,
        step: Step,
        samples: u64,
        seat: &mut Seat,
        encode: Encode,
    ) -> (FrameStats, Vec<Bytes>) {
        // Invariant: a mini-batch has a share of a batch whose size is a u32.
        let samples = u32::try_from(samples).unwrap_or(u32::MAX);
        let mut stats = FrameStats::default();
        let mut frames = Vec::with_capacity(self.workload.rules.buckets.len());
        for (bucket, range) in (0..).zip(&self.workload.rules.buckets) {
            let id = FrameId {
                step,
                rank: seat.rank,
                bucket,
            };
            let mut frame = Vec::new();
            let gradient = &self.gradient[range.clone()];
            stats += encode(
                &mut self.encoder,
                id,
                samples,
                range.clone(),
                gradient,
                &mut frame,
            );
            let frame = Bytes::from(frame);
            if let Some(broadcast) = &mut seat.broadcast {
                broadcast.send(step, bucket, &frame);
            }
            frames.push(frame);
        }
        (stats, frames)
    }

    fn apply(
        &mut self,
        mut entry: Entry,
        digest: bool,
        ranks: &[Rank],
    ) -> Result<Vec<Input>, NodeError> {
        let complete = Instant::now();
        let step = entry.step;
        let Workload { rules, .. } = &mut self.workload;
        rules
            .apply(
                step,
                ranks,
                &entry.frames,
                &mut self.aggregator,
                &mut self.gradient,
            )
            .map_err(|reason| Failure::Fault(format!("step {step}: {reason}")))?;
        self.next = step + 1;
        entry.digest = digest.then(|| rules.replica.digest());
        let digest = entry.digest;
        let sums = digest.map(|_| TensorSums {
            step,
            sums: rules.replica.sums(rules.model.tensors()),
        });
        let applied = Instant::now();
        self.report.wait_seconds = (complete - self.contributed).as_secs_f32();
        self.report.apply_seconds = (applied - complete).as_secs_f32();
        self.report.step_seconds = (applied - self.started).as_secs_f32();
        let begun = self.begun.unwrap_or(self.started);
        self.report.elapsed_seconds = (applied - begun).as_secs_f64();
        let report = self.settle(step, ranks)?;
        // Before anybody hears of the step.
        let view = entry.view;
        self.record(|recorder| recorder.applied(entry))?;
        self.give();
        self.keep(view)?;
        if let Some(seat) = self
            .seat
            .as_mut()
            .filter(|_| step + 1 == self.workload.rules.steps)
        {
            seat.broadcast = None;
        }
        let mut answers: Vec<Input> = sums.map(Input::Summed).into_iter().collect();
        answers.push(Input::Applied {
            step,
            digest,
            report,
        });
        answers.extend(self.due(step + 1).map(Input::Evaluated));
        Ok(answers)
    }

    /// Keeps a checkpoint, if it is time for one and there is anything left to go on with.
    fn keep(&self, view: ViewNumber) -> Result<(), CheckpointError> {
        if let (Some(checkpoints), Some(seat)) = (&self.checkpoints, &self.seat)
            && self.next < self.workload.rules.steps
            && checkpoints.due(self.next)
        {
            let rules = &self.workload.rules;
            checkpoints.keep(self.next, (view, seat.rank), rules, &self.encoder)?;
            tracing::info!(steps = self.next, "kept a checkpoint");
        }
        Ok(())
    }

    /// Lets the recorder write, if there is one. Without a record this node must contribute to nothing
    /// more: nobody else is sure to have the step that is missing.
    fn record(
        &mut self,
        write: impl FnOnce(&mut Recorder) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let written = self.recorder.as_mut().map_or(Ok(()), write);
        if written.is_err() {
            self.seat = None;
        }
        written
    }
}

/// Samples that the run has consumed before `step` of the view.
fn consumed(config: &RunConfig, view: &View, step: Step) -> u64 {
    view.consumed + (step - view.first_step) * config.samples_per_step(view.size())
}
