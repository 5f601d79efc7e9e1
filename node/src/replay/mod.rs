//! A run again, from its log: seed and frames make every replica, without data and without gradients.

mod difference;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use ecq_cluster::{Digest, Failure, Quorum, Rank, RunConfig, Step};
use ecq_nn::data::Shape;
use ecq_quant::Aggregator;

use crate::record::{Entry, Log, LogError, Logged, RunFacts, Steps};
use crate::rules::{DataFacts, Names, Rules};
pub use difference::{FrameDifference, Kind, ValueDifference};

/// Bound on the parameters of a model that is made on a log's word alone.
const PARAMETERS_MAX: u128 = 1 << 36;

/// What a replay has read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames applied.
    pub frames: u64,
    /// Their bytes.
    pub frame_bytes: u64,
}

/// A replica that follows a log, step by step.
pub struct Replay {
    rules: Rules,
    aggregator: Aggregator,
    sum: Vec<f32>,
    log: Steps,
    views: usize,
    applied: Step,
    last: Option<Logged>,
    tally: Tally,
}

impl Replay {
    /// Opens the log in a directory; the replica is the one before the first step.
    ///
    /// # Errors
    ///
    /// If there is no log, or its segments do not belong together, or nothing here can follow it.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let log = Log::open(dir)?;
        let rules = rules(log.run()).map_err(|reason| LogError::Unsupported {
            path: log.first().to_owned(),
            reason,
        })?;
        Ok(Self {
            aggregator: Aggregator::new(rules.decoder()),
            sum: vec![0.0; rules.replica.parameters.len()],
            rules,
            views: log.views(),
            log: log.steps(),
            applied: 0,
            last: None,
            tally: Tally::default(),
        })
    }

    /// Applies the next step; says whether there was one.
    ///
    /// # Errors
    ///
    /// If the log cannot be followed any further: it is malformed, has a gap, or its frames do not make
    /// up the step. The replica is then worth nothing.
    pub fn advance(&mut self) -> Result<bool, LogError> {
        let Some(logged) = self.log.read()? else {
            return Ok(false);
        };
        if self.applied == self.rules.steps {
            return Err(refuse(&logged, "the run has no such step".to_owned()));
        }
        let Entry {
            step,
            members,
            frames,
            ..
        } = &logged.entry;
        let ranks = ranks(*members, frames, self.rules.config.policy())
            .map_err(|reason| refuse(&logged, reason))?;
        self.rules
            .apply(*step, &ranks, frames, &mut self.aggregator, &mut self.sum)
            .map_err(|reason| refuse(&logged, reason))?;
        self.applied += 1;
        self.tally.frames += logged.entry.frames.len() as u64;
        self.tally.frame_bytes += logged.entry.frame_bytes();
        self.last = Some(logged);
        Ok(true)
    }

    /// The run's configuration.
    pub fn config(&self) -> &RunConfig {
        &self.rules.config
    }

    /// Steps of the run.
    pub fn steps(&self) -> Step {
        self.rules.steps
    }

    /// Steps applied.
    pub fn applied(&self) -> Step {
        self.applied
    }

    /// Views that have left a segment.
    pub fn views(&self) -> usize {
        self.views
    }

    /// What has been applied.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Length of the flat parameter vector.
    pub fn parameters(&self) -> usize {
        self.rules.replica.parameters.len()
    }

    /// Digest of the replica.
    pub fn digest(&self) -> Digest {
        self.rules.replica.digest()
    }

    /// What the log says of the digest after the step applied last, if it does.
    pub fn logged_digest(&self) -> Option<Digest> {
        self.last.as_ref()?.entry.digest
    }

    /// The model as a safetensors file: the same bytes that a run of so many steps leaves.
    ///
    /// # Errors
    ///
    /// If it cannot be written in that format.
    pub fn pack(&self) -> Result<Bytes, Failure> {
        self.rules.pack(self.applied)
    }
}

/// Who makes up a step of these frames: all members, or with a quorum those whose frames are there.
fn ranks(
    members: u32,
    frames: &BTreeMap<(Rank, u32), Bytes>,
    quorum: Option<Quorum>,
) -> Result<Vec<Rank>, String> {
    let Some(quorum) = quorum else {
        return Ok((0..members).collect());
    };
    let mut ranks: Vec<Rank> = frames.keys().map(|(rank, _)| *rank).collect();
    ranks.dedup();
    let (found, least) = (ranks.len(), quorum.least_of(members));
    if found < least as usize || ranks.last().is_some_and(|last| *last >= members) {
        return Err(format!(
            "it has the frames of ranks {ranks:?}, where at least {least} of {members} make up a step"
        ));
    }
    Ok(ranks)
}

fn refuse(logged: &Logged, reason: String) -> LogError {
    LogError::Frames {
        path: logged.path.clone(),
        offset: logged.offset,
        step: logged.entry.step,
        reason,
    }
}

/// What a log's replica follows, if that can be had here.
fn rules(run: &RunFacts) -> Result<Rules, String> {
    let config = RunConfig::from_toml(&run.config).map_err(|error| error.to_string())?;
    let names = Names::of(&config).map_err(|error| error.to_string())?;
    // The model is made only if its size is the one that the log says, and a possible one.
    let DataFacts { shape, task, .. } = run.data;
    let inputs = match shape {
        Shape::Sequence { length, vocabulary } => length.max(vocabulary),
        _ => shape.features(),
    };
    let outputs = task.outputs();
    let widths = [&[inputs], &config.hidden[..], &[outputs]].concat();
    let weights = widths
        .windows(2)
        .map(|pair| pair[0] as u128 * pair[1] as u128);
    let possible = weights.sum::<u128>() <= PARAMETERS_MAX;
    let made = possible.then(|| names.model.build(&config.hidden, shape, task));
    let made = made.transpose().map_err(|error| error.to_string())?;
    if made.is_none_or(|model| model.parameters() as u64 != run.parameters) {
        return Err(format!(
            "a model of {shape}, hidden layers of {:?} and {outputs} outputs does not have the {} \
             parameters that the log says",
            config.hidden, run.parameters
        ));
    }
    let rules = Rules::new(config, names, run.data).map_err(|error| error.to_string())?;
    if rules.steps != run.steps {
        return Err(format!(
            "the log is of {} steps, and its configuration makes {} here",
            run.steps, rules.steps
        ));
    }
    Ok(rules)
}
