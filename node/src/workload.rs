//! From the run's configuration to everything that a trainer needs.

use std::ops::Range;
use std::path::Path;

use ecq_cluster::{Digest, Fingerprint, RunConfig};
use ecq_nn::data::{self, DataName, Dataset};
use ecq_proto::limits::CHUNK_BYTES;

use crate::error::NodeError;
use crate::rules::{DataFacts, Names, Rules, supported};

/// The rules of a run and the data that it trains on, ready for its first step.
pub(crate) struct Workload {
    pub(crate) rules: Rules,
    pub(crate) dataset: Dataset,
}

impl Workload {
    /// Loads the data and initialises the replica. Takes as long as reading the data does.
    pub(crate) fn prepare(config: RunConfig, data_dir: Option<&Path>) -> Result<Self, NodeError> {
        let name: DataName = supported(config.data.parse())?;
        let names = Names::of(&config)?;
        let dataset = data::load(name, data_dir.or(config.data_dir.as_deref()))?;
        Ok(Self {
            rules: Rules::new(config, names, DataFacts::of(&dataset))?,
            dataset,
        })
    }

    /// What all members must have in common.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            replica: self.rules.replica.digest(),
            data: Digest(self.dataset.fingerprint()),
            parameters: self.rules.replica.parameters.len() as u64,
            samples: self.dataset.train.len() as u64,
        }
    }

    /// Bound on the bytes of a frame of this run.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        let decoder = self.rules.decoder();
        let bound = |range: &Range<usize>| decoder.frame_bytes_max(range.clone());
        self.rules.buckets.iter().map(bound).max().unwrap_or(0)
    }

    /// Bound on the messages that carry a contribution.
    pub(crate) fn chunks_max(&self) -> usize {
        self.rules.buckets.len() * self.frame_bytes_max().div_ceil(CHUNK_BYTES).max(1)
    }
}
