//! The step loop's arithmetic, on a thread of its own.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Instant;

use bytes::Bytes;
use ecq_cluster::{Digest, Evaluation, Failure, Rank, Step, StepReport};
use ecq_nn::{Batch, Loss, Sampler};
use ecq_quant::{Aggregator, BucketFrames, Decoder, Encoder, FrameId, FrameStats};
use tokio::sync::mpsc as channel;

use crate::deliver;
use crate::driver::Input;
use crate::exchange::Broadcast;
use crate::workload::Workload;

/// Samples evaluated at a time.
const EVALUATION_BATCH: usize = 256;

/// What the driver asks of the trainer, in order.
#[derive(Debug)]
pub(crate) enum Order {
    /// Compute, encode and broadcast the contribution to this step.
    Compute(Step),
    /// Apply this step.
    Apply {
        step: Step,
        digest: bool,
        /// The other members' frames by (rank, bucket).
        frames: BTreeMap<(Rank, u32), Bytes>,
    },
    /// Evaluate the final model and pack it up.
    Finish,
}

/// Owns everything that a step reads and writes.
pub(crate) struct Trainer {
    workload: Workload,
    sampler: Sampler,
    encoder: Encoder,
    aggregator: Aggregator,
    /// Until the last contribution is on its way.
    broadcast: Option<Broadcast>,
    events: channel::Sender<Input>,
    rank: Rank,
    members: u32,
    indices: Vec<usize>,
    batch: Batch,
    gradient: Vec<f32>,
    /// The own contribution to the step under way, one frame a bucket.
    own: Vec<Bytes>,
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
        rank: Rank,
        members: u32,
        broadcast: Broadcast,
        events: channel::Sender<Input>,
    ) -> std::io::Result<mpsc::Sender<Order>> {
        let (orders, received) = mpsc::channel();
        let now = Instant::now();
        let seed = workload.config.seed;
        let mut trainer = Self {
            sampler: Sampler::new(seed, workload.dataset.train.len()),
            encoder: Encoder::new(&workload.codec, &workload.layout, seed),
            aggregator: Aggregator::new(Decoder::new(&workload.codec, &workload.layout, seed)),
            broadcast: Some(broadcast),
            events,
            rank,
            members,
            indices: Vec::new(),
            batch: Batch::default(),
            gradient: vec![0.0; workload.replica.parameters.len()],
            own: Vec::new(),
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
                    let done = match order {
                        Order::Compute(step) => trainer.compute(step),
                        Order::Apply {
                            step,
                            digest,
                            frames,
                        } => trainer.apply(step, digest, &frames),
                        Order::Finish => trainer.finish(),
                    };
                    let answers = done.unwrap_or_else(|failure| vec![Input::Failed(failure)]);
                    for answer in answers {
                        if trainer.events.blocking_send(answer).is_err() {
                            return;
                        }
                    }
                }
            })?;
        Ok(orders)
    }

    fn compute(&mut self, step: Step) -> Result<Vec<Input>, Failure> {
        self.started = Instant::now();
        self.begun.get_or_insert(self.started);
        let loss = self.gradient(step);
        let mean = loss.mean();
        if !mean.is_finite() {
            let text = format!(
                "training diverged: the loss is {mean} at step {step}; \
                 try a smaller --lr or a codec setting inside its stable region"
            );
            return Err(Failure::Diverged(text));
        }
        let computed = Instant::now();
        let stats = self.encode(step, loss.samples);
        if stats.guarded_frames > 0 && !std::mem::replace(&mut self.guarded, true) {
            tracing::warn!(
                step,
                omega = stats.omega(),
                "the codec's alpha would let the residual grow without bound: from here on the guard \
                 uses beta/(1 + omega) where that is less (guard=off in the codec: it does not)"
            );
        }
        if step + 1 == self.workload.steps {
            self.broadcast = None;
        }
        self.contributed = Instant::now();
        self.report = StepReport {
            step,
            loss_sum: loss.sum,
            correct: loss.correct,
            samples: loss.samples,
            frame_bytes: self.own.iter().map(|frame| frame.len() as u64).sum(),
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
        Ok(vec![Input::Contributed(step)])
    }

    /// The mean gradient over this member's share of the step's samples.
    fn gradient(&mut self, step: Step) -> Loss {
        let Workload {
            config,
            dataset,
            model,
            replica,
            ..
        } = &mut self.workload;
        let share = u64::from(config.batch_size);
        let consumed = (step * u64::from(self.members) + u64::from(self.rank)) * share;
        self.sampler
            .indices(consumed, config.batch_size as usize, &mut self.indices);
        dataset.train.gather(&self.indices, &mut self.batch);
        model.loss_and_gradient(&replica.parameters, &self.batch, &mut self.gradient)
    }

    /// Quantizes and encodes bucket after bucket, each on its way before the next is begun.
    fn encode(&mut self, step: Step, samples: u64) -> FrameStats {
        // Invariant: a mini-batch has `batch_size` samples, a u32.
        let samples = u32::try_from(samples).unwrap_or(u32::MAX);
        let mut stats = FrameStats::default();
        self.own.clear();
        for (bucket, range) in (0..).zip(&self.workload.buckets) {
            let id = FrameId {
                step,
                rank: self.rank,
                bucket,
            };
            let mut frame = Vec::new();
            let gradient = &self.gradient[range.clone()];
            stats += self
                .encoder
                .encode(id, samples, range.clone(), gradient, &mut frame);
            let frame = Bytes::from(frame);
            if let Some(broadcast) = &self.broadcast {
                broadcast.send(step, bucket, &frame);
            }
            self.own.push(frame);
        }
        stats
    }

    fn apply(
        &mut self,
        step: Step,
        digest: bool,
        frames: &BTreeMap<(Rank, u32), Bytes>,
    ) -> Result<Vec<Input>, Failure> {
        let complete = Instant::now();
        let of_bucket = |bucket: u32| -> BucketFrames<'_> {
            (0..self.members)
                .filter_map(|rank| {
                    let frame = if rank == self.rank {
                        self.own.get(bucket as usize)
                    } else {
                        frames.get(&(rank, bucket))
                    };
                    frame.map(|frame| (FrameId { step, rank, bucket }, &frame[..]))
                })
                .collect()
        };
        let buckets = &self.workload.buckets;
        let frames: Vec<BucketFrames<'_>> = (0..).take(buckets.len()).map(of_bucket).collect();
        self.aggregator
            .aggregate_all(buckets, &frames, &mut self.gradient)
            .map_err(|error| Failure::Fault(format!("step {step}: {error}")))?;
        let Workload {
            config,
            schedule,
            replica,
            steps,
            ..
        } = &mut self.workload;
        let lr = schedule.at(config.lr as f32, step, *steps);
        replica
            .optimizer
            .apply(lr, &self.gradient, &mut replica.parameters);
        let digest = digest.then(|| replica.digest());
        let applied = Instant::now();
        self.report.wait_seconds = (complete - self.contributed).as_secs_f32();
        self.report.apply_seconds = (applied - complete).as_secs_f32();
        self.report.step_seconds = (applied - self.started).as_secs_f32();
        let begun = self.begun.unwrap_or(self.started);
        self.report.elapsed_seconds = (applied - begun).as_secs_f64();
        Ok(self.applied(step, digest))
    }

    fn applied(&mut self, step: Step, digest: Option<Digest>) -> Vec<Input> {
        let mut answers = vec![Input::Applied {
            step,
            digest,
            report: self.report,
        }];
        if self.rank == 0 && self.completes_epoch(step) && step + 1 < self.workload.steps {
            answers.push(Input::Evaluated(self.evaluate(step + 1)));
        }
        answers
    }

    /// Whether the cluster has seen the whole training set once more after `step`.
    fn completes_epoch(&self, step: Step) -> bool {
        let epoch = self.workload.dataset.train.len() as u64;
        let share = self.workload.config.samples_per_step();
        (step + 1) * share / epoch > step * share / epoch
    }

    fn evaluate(&mut self, steps: Step) -> Evaluation {
        let Workload {
            dataset,
            model,
            replica,
            ..
        } = &mut self.workload;
        let mut loss = Loss::default();
        let all: Vec<usize> = (0..dataset.test.len()).collect();
        for indices in all.chunks(EVALUATION_BATCH) {
            dataset.test.gather(indices, &mut self.batch);
            loss += model.evaluate(&replica.parameters, &self.batch);
        }
        Evaluation {
            steps,
            loss: loss.mean(),
            accuracy: loss.accuracy(),
        }
    }

    fn finish(&mut self) -> Result<Vec<Input>, Failure> {
        let evaluation = self.evaluate(self.workload.steps);
        let digest = self.workload.replica.digest();
        let model = deliver::pack(&self.workload, digest)?;
        Ok(vec![Input::Evaluated(evaluation), Input::Packed(model)])
    }
}
