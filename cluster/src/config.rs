//! What a run is: the resolved configuration, the same text on disk and on the wire.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::{Millis, Rank, Step};
use crate::quorum::{self, Quorum};

/// A run, completely described. `config.toml` in the run directory holds exactly these keys.
///
/// Names of data sets, models, codecs and schedules are texts here; the crates that implement them
/// parse them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run; a node that was told another one is refused.
    pub name: String,
    /// Number of members.
    pub nodes: u32,
    /// Fewest members that train; with fewer the run waits for nodes to come back.
    pub min_nodes: u32,
    /// Data set.
    pub data: String,
    /// Where a node looks for the data set unless it was told otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Model.
    pub model: String,
    /// Widths of the hidden layers, for models that have some.
    pub hidden: Vec<usize>,
    /// Codec of the gradients, as a spec string.
    pub codec: String,
    /// Steps to train for; exclusive with `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Step>,
    /// Passes over the training set to train for; exclusive with `steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Samples a node takes a step, unless `global-batch` is set.
    pub batch_size: u32,
    /// Samples that all members together take a step, however many they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_batch: Option<u32>,
    /// Learning rate at the first step.
    pub lr: f64,
    /// How the learning rate moves over the run.
    pub lr_schedule: String,
    /// Momentum of SGD.
    pub momentum: f64,
    /// From which every random number of the run comes.
    pub seed: u64,
    /// Replicas are compared after each step whose count is a multiple of this, and at the end.
    pub digest_every: Step,
    /// Whether the run leaves the log of its frames.
    #[serde(default)]
    pub record: bool,
    /// Seconds of silence after which a node counts as lost.
    pub lease_seconds: f64,
    /// Fewest contributions that make up a step; without it a step waits for all members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u32>,
    /// Seconds for which a step waits for the others once it has its quorum.
    #[serde(default = "quorum_wait")]
    pub quorum_wait: f64,
    /// Every member keeps a checkpoint after each step whose count is a multiple of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<Step>,
    /// Checkpoints that a member keeps, the latest.
    #[serde(default = "keep_checkpoints")]
    pub keep_checkpoints: u32,
}

fn keep_checkpoints() -> u32 {
    3
}

fn quorum_wait() -> f64 {
    0.05
}

/// A configuration that no run can have.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, or keys that are unknown, missing or of the wrong type.
    #[error("the run configuration does not parse: {0}")]
    Parse(#[from] toml::de::Error),
    /// Cannot be written as TOML.
    #[error("the run configuration cannot be written as TOML: {0}")]
    Write(#[from] toml::ser::Error),
    /// A value out of its range.
    #[error("{key} = {found}: {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it was set to.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
}

impl RunConfig {
    /// Reads and validates a resolved configuration.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        config.validate()?;
        Ok(config)
    }

    /// The text of `config.toml`.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        Ok(toml::to_string(self)?)
    }

    /// Checks every number against its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |ok: bool, key, found: String, expected| {
            if ok {
                Ok(())
            } else {
                Err(ConfigError::Value {
                    key,
                    found,
                    expected,
                })
            }
        };
        let plain = |c: char| !c.is_control() && c != '/';
        let name_ok = !self.name.is_empty() && self.name.chars().all(plain);
        let name_ok = name_ok && self.name != "." && self.name != "..";
        check(
            name_ok,
            "name",
            format!("{:?}", self.name),
            "a name that can be one of a directory: printable, without /",
        )?;
        let nodes_ok = (1..=NODES_MAX).contains(&self.nodes);
        check(
            nodes_ok,
            "nodes",
            self.nodes.to_string(),
            "a run has 1 to 1024 nodes",
        )?;
        let min_ok = (1..=self.nodes).contains(&self.min_nodes);
        check(
            min_ok,
            "min-nodes",
            self.min_nodes.to_string(),
            "at least 1, and no more than nodes",
        )?;
        let global_ok = self.global_batch.is_none_or(|batch| batch >= self.nodes);
        check(
            global_ok,
            "global-batch",
            self.global_batch.unwrap_or_default().to_string(),
            "at least 1 sample for each of the nodes",
        )?;
        let hidden = format!("{:?}", self.hidden);
        check(
            self.hidden.iter().all(|w| *w > 0),
            "hidden",
            hidden,
            "layers have at least 1 unit",
        )?;
        let batch_ok = self.batch_size >= 1;
        check(
            batch_ok,
            "batch-size",
            self.batch_size.to_string(),
            "at least 1 sample a node",
        )?;
        let lr_ok = self.lr.is_finite() && self.lr > 0.0;
        check(lr_ok, "lr", self.lr.to_string(), "a finite number above 0")?;
        let momentum_ok = (0.0..1.0).contains(&self.momentum);
        check(
            momentum_ok,
            "momentum",
            self.momentum.to_string(),
            "at least 0 and below 1",
        )?;
        let seed_ok = i64::try_from(self.seed).is_ok();
        check(
            seed_ok,
            "seed",
            self.seed.to_string(),
            "below 2^63, the largest integer of TOML",
        )?;
        let every_ok = self.digest_every >= 1;
        check(
            every_ok,
            "digest-every",
            self.digest_every.to_string(),
            "at least 1 step",
        )?;
        let lease_ok = (0.5..=3600.0).contains(&self.lease_seconds);
        check(
            lease_ok,
            "lease-seconds",
            self.lease_seconds.to_string(),
            "from 0.5 to 3600",
        )?;
        let quorum_ok = self
            .quorum
            .is_none_or(|least| (1..=self.nodes).contains(&least));
        check(
            quorum_ok,
            "quorum",
            self.quorum.unwrap_or_default().to_string(),
            "at least 1, and no more than nodes",
        )?;
        let wait_ok = (0.0..=3600.0).contains(&self.quorum_wait);
        check(
            wait_ok,
            "quorum-wait",
            self.quorum_wait.to_string(),
            "from 0 to 3600",
        )?;
        check(
            self.checkpoint_every != Some(0),
            "checkpoint-every",
            "0".to_owned(),
            "at least 1 step",
        )?;
        check(
            self.keep_checkpoints >= 2,
            "keep-checkpoints",
            self.keep_checkpoints.to_string(),
            "at least 2: while some members write one, others only have the one before",
        )?;
        match (self.steps, self.epochs) {
            (Some(1..), None) | (None, Some(1..)) => Ok(()),
            (Some(0), None) => check(false, "steps", "0".into(), "at least 1"),
            (None, Some(0)) => check(false, "epochs", "0".into(), "at least 1"),
            (None, None) => check(false, "steps", "nothing".into(), "set steps or epochs"),
            (Some(steps), Some(epochs)) => {
                let found = format!("{steps} and epochs = {epochs}");
                check(false, "steps", found, "set steps or epochs, not both")
            }
        }
    }

    /// Samples that a view of `members` takes a step.
    pub fn samples_per_step(&self, members: u32) -> u64 {
        let shares = u64::from(members) * u64::from(self.batch_size);
        self.global_batch.map_or(shares, u64::from)
    }

    /// Where in a step's samples those of `rank` begin, and how many they are. A global batch is
    /// shared as evenly as it goes; lower ranks have one more.
    pub fn share(&self, rank: Rank, members: u32) -> (u64, u32) {
        let Some(batch) = self.global_batch else {
            return (
                u64::from(rank) * u64::from(self.batch_size),
                self.batch_size,
            );
        };
        let (each, more) = (batch / members.max(1), batch % members.max(1));
        let begin = u64::from(rank) * u64::from(each) + u64::from(rank.min(more));
        (begin, each + u32::from(rank < more))
    }

    /// Number of steps of the run over a training set of `samples`: the given number, or as many as
    /// it takes `nodes` members for every sample to have been seen `epochs` times. It stays the same
    /// when members come and go.
    pub fn total_steps(&self, samples: u64) -> Step {
        self.steps.unwrap_or_else(|| {
            let seen = samples.saturating_mul(self.epochs.unwrap_or(1));
            seen.div_ceil(self.samples_per_step(self.nodes)).max(1)
        })
    }

    /// When steps go on without late members, if they ever do.
    pub fn policy(&self) -> Option<Quorum> {
        self.quorum.map(|least| Quorum {
            least,
            wait: (self.quorum_wait * 1e3) as Millis,
        })
    }

    /// Steps that the members of a view can be apart.
    pub fn reach(&self) -> Step {
        quorum::reach(self.policy())
    }

    /// The lease in milliseconds.
    pub fn lease(&self) -> Millis {
        (self.lease_seconds * 1e3) as Millis
    }
}

/// Bound on the members of a run: each keeps a stream to every other.
const NODES_MAX: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RunConfig {
        RunConfig {
            name: "test".into(),
            nodes: 4,
            min_nodes: 1,
            data: "mnist".into(),
            data_dir: None,
            model: "mlp".into(),
            hidden: vec![256, 128],
            codec: "ecq".into(),
            steps: None,
            epochs: Some(5),
            batch_size: 64,
            global_batch: None,
            lr: 0.1,
            lr_schedule: "linear".into(),
            momentum: 0.9,
            seed: 1,
            digest_every: 10,
            record: true,
            lease_seconds: 5.0,
            quorum: Some(3),
            quorum_wait: 0.25,
            checkpoint_every: None,
            keep_checkpoints: 3,
        }
    }

    #[test]
    fn it_survives_its_own_text() {
        let text = config().to_toml().expect("it is writable");
        assert_eq!(RunConfig::from_toml(&text).expect("it parses"), config());
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let text = config().to_toml().expect("it is writable") + "\nlearning-rate = 1.0\n";
        let error = RunConfig::from_toml(&text)
            .expect_err("no such key")
            .to_string();
        assert!(error.contains("learning-rate"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_named() {
        type Spoil = fn(&mut RunConfig);
        let wrong: [(&str, Spoil); 20] = [
            ("name", |c| c.name.clear()),
            ("nodes", |c| c.nodes = 0),
            ("min-nodes", |c| c.min_nodes = 0),
            ("min-nodes", |c| c.min_nodes = 5),
            ("global-batch", |c| c.global_batch = Some(3)),
            ("hidden", |c| c.hidden = vec![0]),
            ("batch-size", |c| c.batch_size = 0),
            ("lr", |c| c.lr = f64::NAN),
            ("momentum", |c| c.momentum = 1.0),
            ("seed", |c| c.seed = u64::MAX),
            ("digest-every", |c| c.digest_every = 0),
            ("lease-seconds", |c| c.lease_seconds = f64::NAN),
            ("quorum", |c| c.quorum = Some(0)),
            ("quorum", |c| c.quorum = Some(5)),
            ("quorum-wait", |c| c.quorum_wait = -1.0),
            ("checkpoint-every", |c| c.checkpoint_every = Some(0)),
            ("keep-checkpoints", |c| c.keep_checkpoints = 1),
            ("steps", |c| c.steps = Some(3)),
            ("steps", |c| c.epochs = None),
            ("epochs", |c| c.epochs = Some(0)),
        ];
        for (key, spoil) in wrong {
            let mut config = config();
            spoil(&mut config);
            let error = config.validate().expect_err(key).to_string();
            assert!(error.starts_with(key), "{key}: {error}");
        }
    }

    #[test]
    fn shares_cover_a_global_batch_once() {
        let config = RunConfig {
            global_batch: Some(64),
            ..config()
        };
        for members in 1..=9 {
            let mut next = 0;
            for rank in 0..members {
                let (begin, count) = config.share(rank, members);
                assert_eq!(begin, next);
                assert!((64 / members..=64 / members + 1).contains(&count));
                next += u64::from(count);
            }
            assert_eq!(next, config.samples_per_step(members));
        }
    }

    #[test]
    fn epochs_round_up_to_whole_steps() {
        assert_eq!(config().total_steps(60_000), 1172);
        assert_eq!(
            RunConfig {
                steps: Some(7),
                epochs: None,
                ..config()
            }
            .total_steps(60_000),
            7
        );
    }
}
