//! The options of a run: flags over environment over file over defaults.

use std::path::{Path, PathBuf};

use clap::Args;
use ecq_cluster::RunConfig;
use serde::Deserialize;

use crate::exit::Failed;

/// Options of a run as they are given, on the command line, in the environment or in a file; the
/// keys of the file are the names of the flags.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(allow_negative_numbers = true)]
#[command(next_help_heading = "Run options (also keys of the configuration file)")]
pub struct RunOptions {
    /// Name of the run [default: made of data, model, codec and time]
    #[arg(long, env = "ECQ_NAME")]
    pub name: Option<String>,
    /// Number of nodes [default: 4]
    #[arg(long, short, env = "ECQ_NODES", value_name = "N")]
    pub nodes: Option<u32>,
    /// Fewest nodes that train: with fewer left, the run waits until some come back [default: 1]
    #[arg(long, env = "ECQ_MIN_NODES", value_name = "N")]
    pub min_nodes: Option<u32>,
    /// Data set: digits (embedded), mnist or fashion-mnist [default: digits]
    #[arg(long, env = "ECQ_DATA", value_name = "SET")]
    pub data: Option<String>,
    /// Folder of data sets that are not embedded; looked for in DIR/mnist, DIR/MNIST/raw and DIR
    #[arg(long, env = "ECQ_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Model: softmax or mlp [default: mlp]
    #[arg(long, env = "ECQ_MODEL")]
    pub model: Option<String>,
    /// Widths of the MLP's hidden layers [default: 256,128]
    #[arg(long, env = "ECQ_HIDDEN", value_delimiter = ',', value_name = "WIDTHS")]
    pub hidden: Option<Vec<usize>>,
    /// Codec of the gradients, such as ecq or ecq:levels=1,alpha=0.38 (grammar: ecq launch --help)
    /// [default: ecq]
    #[arg(long, env = "ECQ_CODEC")]
    pub codec: Option<String>,
    /// Number of steps, instead of epochs
    #[arg(long, env = "ECQ_STEPS", value_name = "T")]
    pub steps: Option<u64>,
    /// Passes over the training set [default: 30]
    #[arg(long, env = "ECQ_EPOCHS", value_name = "E")]
    pub epochs: Option<u64>,
    /// Samples a node takes a step [default: 64]
    #[arg(long, env = "ECQ_BATCH_SIZE", value_name = "B")]
    pub batch_size: Option<u32>,
    /// Samples that all nodes together take a step, shared over whoever is there, instead of a batch
    /// size for each
    #[arg(long, env = "ECQ_GLOBAL_BATCH", value_name = "B")]
    pub global_batch: Option<u32>,
    /// Learning rate at the first step, never scaled by the number of nodes [default: 0.1]
    #[arg(long, env = "ECQ_LR")]
    pub lr: Option<f64>,
    /// Learning-rate schedule: linear (to zero) or constant [default: linear]
    #[arg(long, env = "ECQ_LR_SCHEDULE", value_name = "SCHEDULE")]
    pub lr_schedule: Option<String>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long, env = "ECQ_MOMENTUM", value_name = "M")]
    pub momentum: Option<f64>,
    /// Seed from which every random number comes [default: 0]
    #[arg(long, env = "ECQ_SEED")]
    pub seed: Option<u64>,
    /// Compare the replicas' digests every so many steps, and at the end [default: 10]
    #[arg(long, env = "ECQ_DIGEST_EVERY", value_name = "STEPS")]
    pub digest_every: Option<u64>,
    /// Record the frames of every step, for ecq replay [default: false]
    #[arg(
        long,
        env = "ECQ_RECORD",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new(),
        hide_possible_values = true,
        value_name = "BOOL"
    )]
    pub record: Option<bool>,
    /// Seconds of silence after which a node counts as lost [default: 5]
    #[arg(long, env = "ECQ_LEASE_SECONDS", value_name = "SECONDS")]
    pub lease_seconds: Option<f64>,
    /// Fewest contributions that make up a step: it goes on without members that are late, which keep their
    /// gradients, but never nine times in a row [default: a step waits for all]
    #[arg(long, env = "ECQ_QUORUM", value_name = "K")]
    pub quorum: Option<u32>,
    /// Seconds for which a step waits for late members once it has its quorum [default: 0.05]
    #[arg(long, env = "ECQ_QUORUM_WAIT", value_name = "SECONDS")]
    pub quorum_wait: Option<f64>,
    /// Keep a checkpoint after every so many steps, on each node, to go on from with --resume
    /// [default: none]
    #[arg(long, env = "ECQ_CHECKPOINT_EVERY", value_name = "STEPS")]
    pub checkpoint_every: Option<u64>,
    /// How many checkpoints each node keeps, the latest; at least 2 [default: 3]
    #[arg(long, env = "ECQ_KEEP_CHECKPOINTS", value_name = "N")]
    pub keep_checkpoints: Option<u32>,
    /// Directory for what the run leaves [default: runs/NAME]
    #[arg(long, env = "ECQ_RUN_DIR", value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
}

/// A run that can be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// What the run is.
    pub config: RunConfig,
    /// Where it leaves its files.
    pub run_dir: PathBuf,
}

impl RunOptions {
    /// Reads a configuration file.
    pub fn from_file(path: &Path) -> Result<Self, Failed> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failed::usage(format!("cannot read {}: {error}", path.display())))?;
        toml::from_str(&text).map_err(|error| Failed::usage(format!("{}: {error}", path.display())))
    }

    /// These options where they are given, else `file`'s.
    ///
    /// Steps and epochs exclude each other, so one here outweighs both there.
    #[must_use]
    pub fn over(self, file: Self) -> Self {
        let length_given = self.steps.is_some() || self.epochs.is_some();
        let (steps, epochs) = if length_given {
            (self.steps, self.epochs)
        } else {
            (file.steps, file.epochs)
        };
        Self {
            name: self.name.or(file.name),
            nodes: self.nodes.or(file.nodes),
            min_nodes: self.min_nodes.or(file.min_nodes),
            data: self.data.or(file.data),
            data_dir: self.data_dir.or(file.data_dir),
            model: self.model.or(file.model),
            hidden: self.hidden.or(file.hidden),
            codec: self.codec.or(file.codec),
            steps,
            epochs,
            batch_size: self.batch_size.or(file.batch_size),
            global_batch: self.global_batch.or(file.global_batch),
            lr: self.lr.or(file.lr),
            lr_schedule: self.lr_schedule.or(file.lr_schedule),
            momentum: self.momentum.or(file.momentum),
            seed: self.seed.or(file.seed),
            digest_every: self.digest_every.or(file.digest_every),
            record: self.record.or(file.record),
            lease_seconds: self.lease_seconds.or(file.lease_seconds),
            quorum: self.quorum.or(file.quorum),
            quorum_wait: self.quorum_wait.or(file.quorum_wait),
            checkpoint_every: self.checkpoint_every.or(file.checkpoint_every),
            keep_checkpoints: self.keep_checkpoints.or(file.keep_checkpoints),
            run_dir: self.run_dir.or(file.run_dir),
        }
    }

    /// Fills in the defaults and checks every value. `now` is in milliseconds of the Unix epoch and
    /// makes the name of a nameless run.
    pub fn resolve(self, now: u64) -> Result<Resolved, Failed> {
        let data = self.data.unwrap_or_else(|| "digits".to_owned());
        let model = self.model.unwrap_or_else(|| "mlp".to_owned());
        let codec: ecq_quant::CodecSpec = self
            .codec
            .as_deref()
            .unwrap_or("ecq")
            .parse()
            .map_err(Failed::usage)?;
        if self.quorum.is_some() && codec.gains().is_none() {
            return Err(Failed::usage(format!(
                "quorum: {codec} has no residual to which a late gradient could go back; choose a codec with \
                 error feedback, such as {}",
                match codec.name() {
                    "fp32" => "ecq".to_owned(), // It loses nothing, and has none.
                    name => format!("{name}:alpha=1,beta=1"),
                }
            )));
        }
        let codec = codec.to_string();
        let name = self.name.unwrap_or_else(|| {
            let codec = codec.split(':').next().unwrap_or_default();
            format!("{data}-{model}-{codec}-{}", timestamp(now))
        });
        let epochs = self
            .epochs
            .or(if self.steps.is_none() { Some(30) } else { None });
        let config = RunConfig {
            nodes: self.nodes.unwrap_or(4),
            min_nodes: self.min_nodes.unwrap_or(1),
            data_dir: self.data_dir,
            hidden: self.hidden.unwrap_or_else(|| vec![256, 128]),
            codec,
            steps: self.steps,
            epochs,
            batch_size: self.batch_size.unwrap_or(64),
            global_batch: self.global_batch,
            lr: self.lr.unwrap_or(0.1),
            lr_schedule: self.lr_schedule.unwrap_or_else(|| "linear".to_owned()),
            momentum: self.momentum.unwrap_or(0.9),
            seed: self.seed.unwrap_or(0),
            digest_every: self.digest_every.unwrap_or(10),
            record: self.record.unwrap_or(false),
            lease_seconds: self.lease_seconds.unwrap_or(5.0),
            quorum: self.quorum,
            quorum_wait: self.quorum_wait.unwrap_or(0.05),
            checkpoint_every: self.checkpoint_every,
            keep_checkpoints: self.keep_checkpoints.unwrap_or(3),
            name,
            data,
            model,
        };
        config.validate()?;
        let run_dir = self
            .run_dir
            .unwrap_or_else(|| Path::new("runs").join(&config.name));
        Ok(Resolved { config, run_dir })
    }
}

/// `20261123-130855.042`: UTC, from milliseconds of the Unix epoch; runs that a script starts one after
/// the other have names of their own.
///
/// Days to dates as in the proleptic Gregorian calendar, counted from 1 March of year 0.
fn timestamp(now: u64) -> String {
    let (now, milliseconds) = (now / 1000, now % 1000);
    let (days, seconds) = (now / 86_400 + 719_468, now % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}.{milliseconds:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_defaults_fill_the_rest() {
        let file: RunOptions =
            toml::from_str("nodes = 2\nlr = 0.5\nepochs = 3\nbatch-size = 8").expect("it is TOML");
        let flags = RunOptions {
            nodes: Some(8),
            steps: Some(7),
            ..RunOptions::default()
        };
        let resolved = flags.over(file).resolve(0).expect("all is well");
        let config = resolved.config;
        assert_eq!((config.nodes, config.lr, config.batch_size), (8, 0.5, 8));
        assert_eq!(
            (config.steps, config.epochs),
            (Some(7), None),
            "steps outweigh epochs"
        );
        assert_eq!((config.momentum, config.seed), (0.9, 0));
        assert!(
            config
                .codec
                .starts_with("ecq:levels=4,norm=linf,bucket=512"),
            "{}",
            config.codec
        );
    }

    #[test]
    fn unknown_keys_and_bad_values_are_usage_errors() {
        assert!(toml::from_str::<RunOptions>("node = 2").is_err());
        let wrong = RunOptions {
            nodes: Some(0),
            ..RunOptions::default()
        };
        assert_eq!(
            wrong.resolve(0).expect_err("no nodes").code,
            crate::exit::Code::Usage
        );
        let wrong = RunOptions {
            codec: Some("qsgd".into()),
            quorum: Some(2),
            ..RunOptions::default()
        };
        let error = wrong.resolve(0).expect_err("a gradient would be lost");
        assert!(error.message.contains("qsgd:alpha=1,beta=1"), "{error}");
        let wrong = RunOptions {
            codec: Some("zip".into()),
            ..RunOptions::default()
        };
        let error = wrong.resolve(0).expect_err("no such codec");
        assert!(error.message.contains("fp32, fp16, bf16, fp8"), "{error}");
    }

    #[test]
    fn names_carry_the_time() {
        assert_eq!(timestamp(0), "19700101-000000.000");
        assert_eq!(timestamp(951_827_696_001), "20000229-123456.001");
        assert_eq!(timestamp(1_795_439_335_042), "20261123-130855.042");
        let resolved = RunOptions::default()
            .resolve(0)
            .expect("defaults are valid");
        assert_eq!(
            resolved.run_dir,
            Path::new("runs/digits-mlp-ecq-19700101-000000.000")
        );
    }
}
