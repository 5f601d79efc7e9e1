//! From the run's configuration to everything that a trainer needs.

use std::ops::Range;
use std::path::Path;

use ecq_cluster::{Digest, Fingerprint, RunConfig, Step};
use ecq_nn::data::{self, DataName, Dataset};
use ecq_nn::optim::{Schedule, Sgd};
use ecq_nn::{Model, ModelName};
use ecq_proto::limits::CHUNK_BYTES;
use ecq_quant::{BUCKET_ELEMENTS_MAX, CodecSpec, Decoder, Layout};

use crate::error::NodeError;
use crate::replica::Replica;

/// Data, model, replica and codec of a run, ready for its first step.
pub(crate) struct Workload {
    pub(crate) config: RunConfig,
    pub(crate) steps: Step,
    pub(crate) dataset: Dataset,
    pub(crate) model: Box<dyn Model>,
    pub(crate) schedule: Schedule,
    pub(crate) replica: Replica,
    pub(crate) codec: CodecSpec,
    pub(crate) layout: Layout,
    pub(crate) buckets: Vec<Range<usize>>,
}

impl Workload {
    /// Loads the data and initialises the replica. Takes as long as reading the data does.
    pub(crate) fn prepare(config: RunConfig, data_dir: Option<&Path>) -> Result<Self, NodeError> {
        let name: DataName = supported(config.data.parse())?;
        let model: ModelName = supported(config.model.parse())?;
        let schedule: Schedule = supported(config.lr_schedule.parse())?;
        let codec: CodecSpec = supported(config.codec.parse())?;
        let dataset = data::load(name, data_dir.or(config.data_dir.as_deref()))?;
        let model = model.build(&config.hidden, dataset.features, dataset.classes);
        let parameters = model.initialise(config.seed);
        let optimizer = Sgd::new(config.momentum as f32, parameters.len());
        let layout = Layout::of_shapes(model.tensors().iter().map(|tensor| &tensor.shape));
        Ok(Self {
            steps: config.total_steps(dataset.train.len() as u64),
            replica: Replica {
                parameters,
                optimizer,
            },
            buckets: layout.buckets(BUCKET_ELEMENTS_MAX),
            config,
            dataset,
            model,
            schedule,
            codec,
            layout,
        })
    }

    /// What all members must have in common.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            replica: self.replica.digest(),
            data: Digest(self.dataset.fingerprint()),
            parameters: self.replica.parameters.len() as u64,
            samples: self.dataset.train.len() as u64,
        }
    }

    /// Bound on the bytes of a frame of this run.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        let decoder = Decoder::new(&self.codec, &self.layout, self.config.seed);
        let bound = |range: &Range<usize>| decoder.frame_bytes_max(range.clone());
        self.buckets.iter().map(bound).max().unwrap_or(0)
    }

    /// Bound on the messages that carry a contribution.
    pub(crate) fn chunks_max(&self) -> usize {
        self.buckets.len() * self.frame_bytes_max().div_ceil(CHUNK_BYTES).max(1)
    }
}

fn supported<T, E: std::fmt::Display>(parsed: Result<T, E>) -> Result<T, NodeError> {
    parsed.map_err(|error| NodeError::Unsupported(error.to_string()))
}
