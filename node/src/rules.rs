//! What the updates of a run follow: everything that can be known without its data.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use ecq_cluster::{Failure, Rank, RunConfig, Step};
use ecq_nn::data::{Dataset, Shape, Task};
use ecq_nn::optim::{Schedule, Sgd};
use ecq_nn::{Model, ModelName};
use ecq_quant::{
    Aggregator, BUCKET_ELEMENTS_MAX, BucketFrames, CodecSpec, Decoder, FrameId, Layout,
};

use crate::deliver::{self, Origin};
use crate::error::NodeError;
use crate::replica::Replica;

/// What a run needs to know of its data to make the same updates without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataFacts {
    /// What a sample is.
    pub(crate) shape: Shape,
    /// What is to be said of it.
    pub(crate) task: Task,
    /// Number of training samples.
    pub(crate) samples: usize,
}

impl DataFacts {
    pub(crate) fn of(dataset: &Dataset) -> Self {
        Self {
            shape: dataset.shape,
            task: dataset.task,
            samples: dataset.train.len(),
        }
    }
}

/// The names of a configuration, understood.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) model: ModelName,
    pub(crate) schedule: Schedule,
    pub(crate) codec: CodecSpec,
}

impl Names {
    pub(crate) fn of(config: &RunConfig) -> Result<Self, NodeError> {
        Ok(Self {
            model: supported(config.model.parse())?,
            schedule: supported(config.lr_schedule.parse())?,
            codec: supported(config.codec.parse())?,
        })
    }
}

pub(crate) fn supported<T, E: std::fmt::Display>(parsed: Result<T, E>) -> Result<T, NodeError> {
    parsed.map_err(|error| NodeError::Unsupported(error.to_string()))
}

/// Model, optimizer and codec of a run, and the replica before its first step: with the frames of every
/// step they make every later replica.
pub(crate) struct Rules {
    pub(crate) config: RunConfig,
    pub(crate) steps: Step,
    pub(crate) model: Box<dyn Model>,
    pub(crate) schedule: Schedule,
    pub(crate) replica: Replica,
    pub(crate) codec: CodecSpec,
    pub(crate) layout: Layout,
    pub(crate) buckets: Vec<Range<usize>>,
}

impl Rules {
    /// An error says why the model cannot be trained on such data.
    pub(crate) fn new(config: RunConfig, names: Names, data: DataFacts) -> Result<Self, NodeError> {
        let Names {
            model,
            schedule,
            codec,
        } = names;
        let model = supported(model.build(&config.hidden, data.shape, data.task))?;
        let parameters = model.initialise(config.seed);
        let optimizer = Sgd::new(config.momentum as f32, parameters.len());
        let layout = Layout::of_shapes(model.tensors().iter().map(|tensor| &tensor.shape));
        Ok(Self {
            steps: config.total_steps(data.samples as u64),
            replica: Replica {
                parameters,
                optimizer,
            },
            buckets: layout.buckets(BUCKET_ELEMENTS_MAX),
            config,
            model,
            schedule,
            codec,
            layout,
        })
    }

    /// A decoder of the run's frames.
    pub(crate) fn decoder(&self) -> Decoder {
        Decoder::new(&self.codec, &self.layout, self.config.seed)
    }

    /// What every replica does in a step, and nothing else does: sums the frames of `ranks`, ascending, in
    /// `sum`, and steps the optimizer. An error says what is wrong with the frames.
    pub(crate) fn apply(
        &mut self,
        step: Step,
        ranks: &[Rank],
        frames: &BTreeMap<(Rank, u32), Bytes>,
        aggregator: &mut Aggregator,
        sum: &mut [f32],
    ) -> Result<(), String> {
        let members = ranks.len();
        let (held, needed) = (frames.len(), members * self.buckets.len());
        let known = |(rank, bucket): &(Rank, u32)| {
            ranks.binary_search(rank).is_ok() && (*bucket as usize) < self.buckets.len()
        };
        if held != needed || !frames.keys().all(known) {
            return Err(format!(
                "it has {held} frames where {members} members have {needed}"
            ));
        }
        let of_bucket = |bucket: u32| -> BucketFrames<'_> {
            let frame = |rank: &Rank| {
                let rank = *rank;
                Some((
                    FrameId { step, rank, bucket },
                    &frames.get(&(rank, bucket))?[..],
                ))
            };
            ranks.iter().filter_map(frame).collect()
        };
        let of_step: Vec<BucketFrames<'_>> =
            (0..).take(self.buckets.len()).map(of_bucket).collect();
        aggregator
            .aggregate_all(&self.buckets, &of_step, sum)
            .map_err(|error| error.to_string())?;
        let lr = self.schedule.at(self.config.lr as f32, step, self.steps);
        let Replica {
            parameters,
            optimizer,
        } = &mut self.replica;
        optimizer.apply(lr, sum, parameters);
        Ok(())
    }

    /// The model as a safetensors file, after so many steps.
    pub(crate) fn pack(&self, steps: Step) -> Result<Bytes, Failure> {
        let origin = Origin {
            config: &self.config,
            codec: &self.codec,
            steps,
            digest: self.replica.digest(),
        };
        deliver::pack(&origin, self.model.tensors(), &self.replica.parameters)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small run on the digits.
    pub(crate) fn digits(model: &str) -> Rules {
        let config = RunConfig {
            checkpoint_every: None,
            keep_checkpoints: 3,
            name: "test".into(),
            nodes: 2,
            min_nodes: 1,
            data: "digits".into(),
            data_dir: None,
            model: model.into(),
            hidden: vec![8],
            codec: "ecq".into(),
            steps: Some(5),
            epochs: None,
            batch_size: 4,
            global_batch: None,
            lr: 0.1,
            lr_schedule: "constant".into(),
            momentum: 0.9,
            seed: 1,
            digest_every: 2,
            record: false,
            lease_seconds: 5.0,
            quorum: None,
            quorum_wait: 0.0,
        };
        let names = Names::of(&config).expect("they are known");
        let data = DataFacts {
            shape: Shape::Flat(64),
            task: Task::Classes(10),
            samples: 1438,
        };
        Rules::new(config, names, data).expect("the model takes them")
    }
}
