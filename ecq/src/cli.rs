//! The command line as it is typed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{
    ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
};
use ecq_quant::CodecSpec;

use crate::exit::{Failed, TABLE};
use crate::launch::ChaosSpec;
use crate::options::{Resolved, RunOptions};

/// Distributed training with quantized gradient communication.
#[derive(Debug, Parser)]
#[command(name = "ecq", version, propagate_version = true, after_help = TABLE)]
#[command(allow_negative_numbers = true)]
pub struct Cli {
    /// How log lines look: text, or json with an object a line
    #[arg(long, global = true, env = "ECQ_LOG_FORMAT", default_value = "text")]
    #[arg(hide_possible_values = true, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines look. Which ones there are is up to `RUST_LOG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As the flag and the variable have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train with a coordinator and node processes on this machine
    Launch(LaunchArgs),
    /// Run a coordinator by hand; nodes join it
    Coordinator(CoordinatorArgs),
    /// Run a node by hand; it joins a coordinator
    Node(NodeArgs),
    /// Make the model of a recorded run again, or compare two
    Replay(ReplayArgs),
    /// Compare codecs over seeds on real clusters
    Experiment(ExperimentCommand),
    /// Write or check a configuration file
    Config(ConfigArgs),
    /// Measure parts of ecq on this machine
    Bench(BenchCommand),
}

/// Where the options of a run come from.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The options as given in flags and environment.
    #[command(flatten)]
    pub options: RunOptions,
    /// Configuration file; flags and environment win over it
    #[arg(
        long,
        value_name = "FILE.toml",
        env = "ECQ_CONFIG",
        help_heading = "Options"
    )]
    pub config: Option<PathBuf>,
    /// Print the summary as JSON, and nothing else, on standard output
    #[arg(long, help_heading = "Options")]
    pub json: bool,
    /// Go on with the run in --run-dir (or of --name), if it has begun: members that train on take their
    /// places again; otherwise nodes go on from their checkpoints
    #[arg(long, help_heading = "Options")]
    pub resume: bool,
}

impl RunArgs {
    /// Flags over environment over file over defaults.
    pub fn resolve(&self) -> Result<Resolved, Failed> {
        let file = self
            .config
            .as_deref()
            .map(RunOptions::from_file)
            .transpose()?;
        let mut options = self.options.clone().over(file.unwrap_or_default());
        if self.resume {
            let named = options
                .name
                .as_ref()
                .map(|name| Path::new("runs").join(name));
            let dir = options.run_dir.clone().or(named).ok_or_else(|| {
                Failed::usage("which run is to go on? give --run-dir DIR or --name NAME")
            })?;
            let config = dir.join("config.toml");
            if config.is_file() {
                options = options.over(RunOptions::from_file(&config)?);
            }
            options.run_dir = Some(dir);
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_millis() as u64);
        options.resolve(now)
    }
}

const LAUNCH_HELP: &str = "\
Examples:
  ecq launch
  ecq launch -n 8 --codec ecq:preset=paper --epochs 20
  ecq launch --data mnist --data-dir ~/data --model mlp --epochs 5 --codec ecq";

/// `ecq launch`.
#[derive(Args, Debug)]
#[command(
    after_help = LAUNCH_HELP,
    after_long_help = format!("{LAUNCH_HELP}\n\n{}\n\n{TABLE}", CodecSpec::grammar())
)]
pub struct LaunchArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Inject faults on purpose: the chance of each a node and second, such as
    /// kill=0.02,freeze=0.01,leave=0.01,coordinator=0.01,seed=7; who ends is started again
    #[arg(long, value_name = "FAULTS", help_heading = "Options")]
    pub chaos: Option<ChaosSpec>,
}

/// `ecq coordinator`.
#[derive(Args, Debug)]
#[command(after_long_help = format!("{}\n\n{TABLE}", CodecSpec::grammar()))]
pub struct CoordinatorArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Address to listen on; port 0 lets the system choose
    #[arg(
        long,
        env = "ECQ_LISTEN",
        default_value = "0.0.0.0:7070",
        value_name = "IP:PORT"
    )]
    pub listen: SocketAddr,
    /// Write the address listened on to this file, once nodes can join
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,
    /// Number of nodes, as launchers of the field say it
    #[arg(long, env = "WORLD_SIZE", hide = true)]
    pub world_size: Option<u32>,
    /// Standard input is a lifeline: its end is the order to stop.
    #[arg(long, hide = true)]
    pub lifeline: bool,
}

/// `ecq node`.
#[derive(Args, Debug)]
#[command(after_help = TABLE)]
pub struct NodeArgs {
    /// The coordinator's address [env: MASTER_ADDR and MASTER_PORT]
    #[arg(long, env = "ECQ_COORDINATOR", value_name = "HOST:PORT")]
    pub coordinator: Option<String>,
    /// The coordinator's host, as launchers of the field say it
    #[arg(long, env = "MASTER_ADDR", hide = true)]
    pub master_addr: Option<String>,
    /// The coordinator's port, as launchers of the field say it
    #[arg(long, env = "MASTER_PORT", hide = true, default_value = "7070")]
    pub master_port: u16,
    /// Address on which to take the other members' streams; port 0 lets the system choose
    #[arg(
        long,
        env = "ECQ_NODE_LISTEN",
        default_value = "0.0.0.0:0",
        value_name = "IP:PORT"
    )]
    pub listen: SocketAddr,
    /// Host, or host:port, under which other members reach this node [default: the address from
    /// which it reaches the coordinator]
    #[arg(long, env = "ECQ_ADVERTISE", value_name = "HOST[:PORT]")]
    pub advertise: Option<String>,
    /// Refuse to join any other run than this
    #[arg(long, env = "RUN_ID", value_name = "NAME")]
    pub run: Option<String>,
    /// Rank to ask for [default: any]
    #[arg(long, env = "RANK")]
    pub rank: Option<u32>,
    /// Only follow the run, with the same replica, and evaluate it: members do not wait for this node
    #[arg(long)]
    pub observe: bool,
    /// With --observe: evaluate after every so many steps [default: once an epoch]
    #[arg(long, value_name = "STEPS", requires = "observe")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub evaluate_every: Option<u64>,
    /// Where the data set is on this machine
    #[arg(long, env = "ECQ_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where this node keeps the checkpoints of a run with --checkpoint-every
    /// [default: checkpoints/NAME]
    #[arg(long, env = "ECQ_CHECKPOINT_DIR", value_name = "DIR")]
    pub checkpoint_dir: Option<PathBuf>,
    /// Where the log of a run with --record goes, as far as this node writes it
    /// [default: record/NAME]
    #[arg(long, env = "ECQ_RECORD_DIR", value_name = "DIR")]
    pub record_dir: Option<PathBuf>,
    /// Seconds to try to reach the coordinator and to get a seat, at the start and when either is lost
    #[arg(
        long,
        env = "ECQ_CONNECT_TIMEOUT",
        default_value_t = 30.0,
        value_name = "SECONDS"
    )]
    pub connect_timeout: f64,
    /// Standard input is a lifeline: its end is the order to stop.
    #[arg(long, hide = true)]
    pub lifeline: bool,
}

const REPLAY_HELP: &str = "\
A run that was started with --record leaves the frames of every step. With the run's seed they
make the model after any step, bit for bit: no data, no gradients. --verify compares with every
digest in the log and, at the end of a run directory's log, with its summary.json and
model.safetensors.

Examples:
  ecq launch --record --run-dir run && ecq replay run --verify
  ecq replay run --to-step 100 --out step-100.safetensors
  ecq replay --diff run other

The exit code is 4 if something differs, and 6 if the log is incomplete or malformed.";

/// `ecq replay`.
#[derive(Args, Debug)]
#[command(after_help = REPLAY_HELP)]
pub struct ReplayArgs {
    /// Run directory, or a directory of segments (view-000001.ecqr and so on)
    #[arg(value_name = "RUN", required_unless_present = "diff")]
    pub run: Option<PathBuf>,
    /// Say where two runs part: the first step, tensor and value, and whose frame
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "run")]
    pub diff: Option<Vec<PathBuf>>,
    /// Stop when so many steps are applied [default: all that are in the log]
    #[arg(long, value_name = "N")]
    pub to_step: Option<u64>,
    /// Compare with all digests in the log, and with what the run has left
    #[arg(long, conflicts_with = "diff")]
    pub verify: bool,
    /// Write the model to this file, which must not be there
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "diff")]
    pub out: Option<PathBuf>,
    /// Print the result as JSON, and nothing else, on standard output
    #[arg(long)]
    pub json: bool,
}

/// `ecq experiment`.
#[derive(Args, Debug)]
pub struct ExperimentCommand {
    /// What to do with it.
    #[command(subcommand)]
    pub action: ExperimentAction,
}

/// `ecq experiment run`.
#[derive(Debug, Subcommand)]
pub enum ExperimentAction {
    /// Run an experiment; writes table.md, loss.svg and results.json
    Run(ExperimentArgs),
}

const EXPERIMENT_HELP: &str = "\
The file holds a title, codecs = [...], seeds = [...] and a table [run] of options that all runs
share, with the keys of `ecq config init`. A run that fails stands in the table, the others go on, and
the exit code is the first failure's.";

/// An experiment to run.
#[derive(Args, Debug)]
#[command(after_help = EXPERIMENT_HELP)]
pub struct ExperimentArgs {
    /// The experiment
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// Where to write the results [default: FILE without .toml]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Folder of data sets that are not embedded; wins over the file's data-dir
    #[arg(long, env = "ECQ_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep the directories of the single runs, in DIR/runs
    #[arg(long)]
    pub keep_runs: bool,
}

/// `ecq bench`.
#[derive(Args, Debug)]
pub struct BenchCommand {
    /// What to measure.
    #[command(subcommand)]
    pub action: BenchAction,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchAction {
    /// Speed, size and error of gradient codecs, side by side
    Codec(BenchCodecArgs),
}

const BENCH_CODEC_HELP: &str = "\
encode, decode  GB/s of 32-bit floats, the best of --repeat rounds, and the ratio to a plain copy
                of as many floats in the same rounds; decode adds to a sum
bits/elem       all that is on the wire
entropy         order-0 entropy of the symbols, and numbers that are sent as they are
scales          numbers of whole groups
NMSE            |q - v|^2 / |v|^2 of the first frames, before feedback has anything to add
gap             entropy and scales less Shannon's bound at that error, after the best gain, if the
                values were Gaussian; means nothing for sparse ones, or where errors are those of floats
omega           |q - v|^2 / |v|^2 with feedback, as the encoder measured it last

Generated values are a matrix with 1024 columns, cut into frames of 2^20 elements. A file's tensors
of type F32 are taken in the order of their names.

Examples:
  ecq bench codec
  ecq bench codec --codec ecq --codec deadzone:step=3 --distribution laplace
  ecq bench codec --distribution gradients.safetensors --json";

/// `ecq bench codec`.
#[derive(Args, Debug)]
#[command(
    after_help = BENCH_CODEC_HELP,
    after_long_help = format!("{BENCH_CODEC_HELP}\n\n{}", CodecSpec::grammar())
)]
pub struct BenchCodecArgs {
    /// Number of elements; a file has its own
    #[arg(long, default_value_t = 25_000_000, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=2_000_000_000))]
    pub elements: u64,
    /// gauss, laplace, sparse (99 % zeros, else gauss), or a file of 32-bit floats that ends with
    /// .safetensors
    #[arg(long, default_value = "gauss", value_name = "NAME|FILE.safetensors")]
    pub distribution: String,
    /// Codec, once for each [default: all, and some settings of ecq]
    #[arg(long, value_name = "CODEC")]
    pub codec: Vec<String>,
    /// Instructions: auto, avx512, avx2 or portable
    #[arg(long, default_value = "auto", value_name = "PATH")]
    pub simd: String,
    /// Threads that encode and decode; the plain copy that ratios are to is always one thread's
    #[arg(long, default_value_t = 1, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Rounds, of which the best counts
    #[arg(long, default_value_t = 5, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub repeat: u16,
    /// Print an array of objects instead of the table
    #[arg(long)]
    pub json: bool,
}

/// `ecq config`.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// `ecq config init` and `ecq config check`.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Print a configuration file with every key, its meaning and its default
    Init,
    /// Check a configuration file; ends with code 2 if no run can have it
    Check {
        /// The file
        file: PathBuf,
    },
}

/// Reads the arguments and the environment. An empty variable counts as unset: that is how compose
/// files pass on what was not given.
pub fn parse() -> Result<Cli, clap::Error> {
    let matches = without_empty_variables(Cli::command()).try_get_matches()?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let run = match &mut cli.command {
        Command::Launch(args) => Some(&mut args.run),
        Command::Coordinator(args) => Some(&mut args.run),
        Command::Node(_)
        | Command::Replay(_)
        | Command::Experiment(_)
        | Command::Config(_)
        | Command::Bench(_) => None,
    };
    if let (Some(run), Some((_, matches))) = (run, matches.subcommand()) {
        one_length(&mut run.options, matches);
    }
    Ok(cli)
}

/// Steps and epochs exclude each other, so one in a flag outweighs the other in the environment.
fn one_length(options: &mut RunOptions, matches: &ArgMatches) {
    let from = |id| matches.value_source(id);
    let (flag, variable) = (ValueSource::CommandLine, ValueSource::EnvVariable);
    if from("steps") == Some(flag) && from("epochs") == Some(variable) {
        options.epochs = None;
    }
    if from("epochs") == Some(flag) && from("steps") == Some(variable) {
        options.steps = None;
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let unset =
        |variable: &std::ffi::OsStr| std::env::var_os(variable).is_some_and(|v| v.is_empty());
    command
        .mut_args(|arg| {
            if arg.get_env().is_some_and(unset) {
                arg.env(Resettable::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(without_empty_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
