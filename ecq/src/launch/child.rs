//! One process of the cluster: its arguments, its lifeline, its output.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use clap::CommandFactory as _;
use ecq_cluster::{Rank, RunConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::output::Output;
use crate::cli::{Cli, LogFormat};
use crate::coordinator::LISTENING;
use crate::exit::{Code, Failed};
use crate::options::Resolved;
use crate::replay::RECORD;

/// Where what a child says goes.
pub(super) struct Place<'a> {
    /// The folder of logs.
    pub(super) logs: &'a Path,
    /// How log lines look.
    pub(super) format: LogFormat,
    /// Where they are shown.
    pub(super) output: &'a Output,
}

/// Where nodes keep their checkpoints, in the run directory.
const CHECKPOINTS: &str = "checkpoints";

/// The name of the child that is no node.
const COORDINATOR: &str = "coordinator";

/// A running child.
pub(super) struct Child {
    name: String,
    process: tokio::process::Child,
    lifeline: Option<ChildStdin>,
    streams: [JoinHandle<Option<String>>; 2],
}

/// A child that has ended.
pub(super) struct Ended {
    name: String,
    status: std::io::Result<ExitStatus>,
    complaint: Option<String>,
}

impl Child {
    /// Starts the coordinator; its address comes once it listens.
    pub(super) fn coordinator(
        Resolved { config, run_dir }: &Resolved,
        listen: &str,
        resume: bool,
        place: &Place<'_>,
    ) -> Result<(Self, oneshot::Receiver<String>), Failed> {
        let mut command = this_program("coordinator")?;
        command.args(["--listen", listen, "--run-dir"]).arg(run_dir);
        command.args(resume.then_some("--resume"));
        command.args(arguments(config)?);
        let (found, address) = oneshot::channel();
        Ok((
            Self::start(COORDINATOR, command, COORDINATOR, place, Some(found))?,
            address,
        ))
    }

    /// Starts a node.
    pub(super) fn node(
        Resolved { config, run_dir }: &Resolved,
        rank: Rank,
        coordinator: &str,
        place: &Place<'_>,
    ) -> Result<Self, Failed> {
        let mut command = this_program("node")?;
        command.args(["--listen", "127.0.0.1:0", "--coordinator", coordinator]);
        command.args(["--rank", &rank.to_string(), "--run", &config.name]);
        if config.checkpoint_every.is_some() {
            command
                .arg("--checkpoint-dir")
                .arg(run_dir.join(CHECKPOINTS));
        }
        if config.record {
            command.arg("--record-dir").arg(run_dir.join(RECORD));
        }
        Self::start(
            &rank.to_string(),
            command,
            &format!("rank-{rank}"),
            place,
            None,
        )
    }

    fn start(
        name: &str,
        mut command: Command,
        log: &str,
        place: &Place<'_>,
        address: Option<oneshot::Sender<String>>,
    ) -> Result<Self, Failed> {
        let failed = |error: std::io::Error| Failed::io(format!("cannot start {name}: {error}"));
        command
            .arg("--lifeline")
            .env("ECQ_LOG_FORMAT", place.format.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C goes to the launcher alone, which ends its children in order.
            .process_group(0)
            .kill_on_drop(true);
        // A node that is started again goes on in its log.
        let log = File::options()
            .create(true)
            .append(true)
            .open(place.logs.join(format!("{log}.log")))
            .map_err(failed)?;
        let mut process = command.spawn().map_err(failed)?;
        let lifeline = process.stdin.take();
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let said = relay(stdout, log.try_clone().map_err(failed)?, None, address);
        let logged = relay(
            stderr,
            log,
            Some((format!("[{name}] "), place.output.clone())),
            None,
        );
        let streams = [tokio::spawn(said), tokio::spawn(logged)];
        Ok(Self {
            name: name.to_owned(),
            process,
            lifeline,
            streams,
        })
    }

    /// The node's rank and its process.
    pub(super) fn node_process(&self) -> Option<(Rank, u32)> {
        Some((self.name.parse().ok()?, self.process.id()?))
    }

    /// The coordinator's process.
    pub(super) fn coordinator_process(&self) -> Option<u32> {
        self.process.id().filter(|_| self.name == COORDINATOR)
    }

    /// Waits for the child's end; `release` closes its lifeline.
    pub(super) async fn wait(mut self, release: CancellationToken) -> Ended {
        let status = tokio::select! {
            status = self.process.wait() => status,
            () = release.cancelled() => {
                drop(self.lifeline.take());
                self.process.wait().await
            }
        };
        let mut complaint = None;
        for stream in self.streams {
            complaint = complaint.or(stream.await.ok().flatten());
        }
        Ended {
            name: self.name,
            status,
            complaint,
        }
    }
}

impl Ended {
    /// The rank of a node.
    pub(super) fn rank(&self) -> Option<Rank> {
        self.name.parse().ok()
    }

    pub(super) fn is_coordinator(&self) -> bool {
        self.name == COORDINATOR
    }

    /// What is to be said of it, if it failed.
    pub(super) fn failure(&self) -> Option<Failed> {
        let who = match self.name.parse::<Rank>() {
            Ok(rank) => format!("rank {rank}"),
            Err(_) => format!("the {}", self.name),
        };
        let (code, how) = match &self.status {
            Ok(status) if status.success() => return None,
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => (code, format!("ended with exit code {code}")),
                (None, Some(signal)) => (128 + signal, format!("was killed by signal {signal}")),
                (None, None) => (1, "ended".to_owned()),
            },
            Err(error) => (1, format!("cannot be waited for: {error}")),
        };
        let why = self
            .complaint
            .as_ref()
            .map(|text| format!(": {text}"))
            .unwrap_or_default();
        // Invariant: exit codes and 128 + signals fit a byte.
        let code = Code::Child(u8::try_from(code).unwrap_or(1));
        Some(Failed::new(code, format!("{who} {how}{why}")))
    }
}

/// This program with a subcommand. Flags tell it everything, so it is kept from the variables that
/// it would read: they were meant for the launcher, or for nodes that a batch system starts.
fn this_program(subcommand: &str) -> Result<Command, Failed> {
    let program = std::env::current_exe().map_err(|error| {
        Failed::new(
            Code::Internal,
            format!("cannot find this program's own file: {error}"),
        )
    })?;
    let mut command = Command::new(program);
    command.arg(subcommand);
    let cli = Cli::command();
    let arguments = cli
        .find_subcommand(subcommand)
        .into_iter()
        .flat_map(clap::Command::get_arguments);
    for variable in arguments.filter_map(clap::Arg::get_env) {
        command.env_remove(variable);
    }
    Ok(command)
}

/// The flags that say what `config` says: its keys are the names of flags.
fn arguments(config: &RunConfig) -> Result<Vec<OsString>, Failed> {
    let internal = |error: toml::ser::Error| Failed::new(Code::Internal, error.to_string());
    let table = toml::Table::try_from(config).map_err(internal)?;
    let flag = |(key, value): (String, toml::Value)| {
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Array(values) => values
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
            other => other.to_string(),
        };
        OsString::from(format!("--{key}={value}"))
    };
    Ok(table.into_iter().map(flag).collect())
}

/// Writes a child's lines to its log and, with a prefix, to the output. Returns the last line
/// that begins with `error: `, without that.
async fn relay(
    stream: Option<impl AsyncRead + Unpin>,
    mut log: File,
    shown: Option<(String, Output)>,
    mut address: Option<oneshot::Sender<String>>,
) -> Option<String> {
    let mut lines = BufReader::new(stream?).lines();
    let mut complaint = None;
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(found) = line.strip_prefix(LISTENING).filter(|_| address.is_some()) {
            let _launch_is_over = address.take().map(|address| address.send(found.to_owned()));
        }
        complaint = line
            .strip_prefix("error: ")
            .map(str::to_owned)
            .or(complaint);
        // In one piece, since both of the child's streams write here.
        // A full disk must not end the run: what it leaves matters more than its log.
        let _not_logged = log.write_all(format!("{line}\n").as_bytes());
        if let Some((prefix, output)) = &shown {
            output.line(&format!("{prefix}{line}"));
        }
    }
    complaint
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn a_configuration_survives_its_flags() {
        let options = crate::options::RunOptions {
            name: Some("a b=c".into()),
            data_dir: Some("/some where".into()),
            ..Default::default()
        };
        let resolved = options.resolve(0).expect("it is valid");
        let flags = arguments(&resolved.config).expect("it is writable");
        let program = ["ecq", "coordinator"].map(OsString::from);
        let cli = crate::cli::Cli::parse_from(program.into_iter().chain(flags));
        let crate::cli::Command::Coordinator(args) = cli.command else {
            panic!("a coordinator")
        };
        assert_eq!(
            args.run.resolve().expect("it is valid").config,
            resolved.config
        );
    }
}
