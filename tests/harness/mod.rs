//! Starting the program as a user does, and waiting for what it does: for lines, for ends, never for
//! time. A watchdog turns what would hang into a failure.
//!
//! Every process is started through a shell that hands a copy of its standard output to the
//! program under a number that the program does not know and so leaves open: the pipe ends when
//! the last process that descends from it has ended. Reading to its end is therefore waiting for
//! all descendants, and a test that finishes has proved that no orphan was left.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod cluster;
mod history;
mod memory;
mod proxy;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use cluster::{Cluster, end_well, is_proved};
pub(crate) use history::{Residual, View, residuals, views};
pub(crate) use memory::flip;
pub(crate) use proxy::{Proxy, Way};

/// Longer than anything here takes on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(120);

/// A run of the program.
pub(crate) struct Program {
    child: Mortal,
    stdout: JoinHandle<String>,
    lines: mpsc::Receiver<String>,
    stderr: Vec<String>,
    /// Dropped at the end; the watchdog bites if that takes too long.
    watchdog: mpsc::Sender<()>,
}

/// A process that does not outlive its test, should that fail half-way; its children follow it.
struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        // Neither does anything to a process that has ended and was waited for.
        let _ended_already = self.0.kill();
        let _ended_already = self.0.wait();
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The one message of a failure.
    pub(crate) fn complaint(&self) -> &str {
        let complaint = self
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix("error: "));
        complaint.unwrap_or_else(|| panic!("no complaint in:\n{}", self.stderr))
    }
}

impl Program {
    /// Starts `ecq` with these arguments in `dir`, without any of our variables.
    pub(crate) fn start<S: AsRef<str>>(dir: &Path, args: &[S]) -> Self {
        Self::start_with(dir, args, &[])
    }

    /// The same with variables.
    pub(crate) fn start_with<S: AsRef<str>>(
        dir: &Path,
        args: &[S],
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "exec 9>&1; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_ecq"),
        ]);
        command
            .args(args.iter().map(AsRef::as_ref))
            .current_dir(dir);
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("ECQ_") || NAMES.contains(&&*name) {
                command.env_remove(&variable);
            }
        }
        command.envs(variables.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("there is a shell");
        let mut stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            stdout
                .read_to_string(&mut text)
                .expect("the program writes text");
            text
        });
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let (watchdog, fed) = mpsc::channel::<()>();
        let pid = child.id();
        std::thread::spawn(move || {
            if fed.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
                signal(pid, "KILL");
            }
        });
        Self {
            child: Mortal(child),
            stdout,
            lines,
            stderr: Vec::new(),
            watchdog,
        }
    }

    /// Waits for a line on standard error from which `find` takes something.
    pub(crate) fn until<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> T {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|_| {
                panic!(
                    "what is waited for does not come; so far:\n{}",
                    self.stderr.join("\n")
                )
            });
            let found = find(&line);
            self.stderr.push(line);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// The process that a launcher has started as `child`: `coordinator`, or a rank.
    pub(crate) fn pid_of(&mut self, child: &str) -> u32 {
        let prefix = format!("[{child}] ");
        self.until(|line| {
            let rest = line.strip_prefix(&prefix)?.split_once("pid=")?.1;
            rest.split_whitespace().next()?.parse().ok()
        })
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.0.id(), name);
    }

    /// Its process; the shell that started it has become it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Waits until the program and all that descend from it have ended.
    pub(crate) fn finish(mut self) -> Ended {
        let status = self.child.0.wait().expect("it is our child");
        let (all_ended, ended) = mpsc::channel();
        let stdout = self.stdout;
        std::thread::spawn(move || {
            let text = stdout.join().expect("the program writes text");
            let _nobody_waits = all_ended.send(text);
        });
        let stdout = ended.recv_timeout(DEADLINE).expect("every descendant ends");
        drop(self.watchdog);
        self.stderr.extend(self.lines.iter());
        Ended {
            status,
            stdout,
            stderr: self.stderr.join("\n"),
        }
    }
}

/// Variables of launchers and batch systems that the program reads.
const NAMES: [&str; 9] = [
    "RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "RUN_ID",
    "RUST_LOG",
    "SLURM_PROCID",
    "OMPI_COMM_WORLD_RANK",
    "JOB_COMPLETION_INDEX",
];

/// Sends a signal to a process that we have started.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(
        sent.is_ok_and(|status| status.success()),
        "process {pid} takes the signal {name}"
    );
}

/// Runs `ecq` to its end.
pub(crate) fn ecq<S: AsRef<str>>(dir: &Path, args: &[S]) -> Ended {
    Program::start(dir, args).finish()
}

/// An empty directory that goes away.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("it is a directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry
            .expect("it can be read")
            .file_name()
            .to_string_lossy()
            .into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// The contents of a file that must be there.
pub(crate) fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
