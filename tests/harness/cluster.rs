//! A coordinator and nodes by hand.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Ended, Program, directory, ecq, read};

/// A coordinator and nodes by hand, in a directory of their own.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    coordinator: Option<Program>,
    address: String,
}

impl Cluster {
    /// Starts a coordinator with these arguments; it waits for nodes.
    pub(crate) fn start<S: AsRef<str>>(args: &[S]) -> Self {
        let dir = directory();
        let fixed = [
            "coordinator",
            "--listen",
            "127.0.0.1:0",
            "--address-file",
            "address",
        ];
        let args = args.iter().map(AsRef::as_ref);
        let args: Vec<&str> = fixed.into_iter().chain(args).collect();
        let mut coordinator = Program::start(dir.path(), &args);
        coordinator.until(|line| line.contains("waiting for nodes: 0 of").then_some(()));
        let address = read(dir.path().join("address"));
        Self {
            dir,
            coordinator: Some(coordinator),
            address,
        }
    }

    /// Starts a node with these arguments.
    pub(crate) fn node(&self, more: &[&str]) -> Program {
        self.node_by(self.address(), more)
    }

    /// Starts a node that reaches the coordinator at this address.
    pub(crate) fn node_by(&self, address: &str, more: &[&str]) -> Program {
        let args = ["node", "--coordinator", address];
        Program::start(self.dir.path(), &[&args[..], more].concat())
    }

    /// Starts a node that writes its part of the record of the run in `run`.
    pub(crate) fn recorder(&self, more: &[&str]) -> Program {
        self.node(&[&["--record-dir", "run/record"], more].concat())
    }

    /// So many of them, which are the members of the first view.
    pub(crate) fn recorders(&mut self, count: usize) -> Vec<Program> {
        let nodes = (0..count).map(|_| self.recorder(&[])).collect();
        self.until(&format!("view 1: {count} members train"));
        nodes
    }

    /// Where the coordinator listens.
    pub(crate) fn address(&self) -> &str {
        self.address.trim()
    }

    /// Waits until the coordinator says something with this part.
    pub(crate) fn until(&mut self, part: &str) {
        let coordinator = self.coordinator.as_mut().expect("it runs");
        coordinator.until(|line| line.contains(part).then_some(()));
    }

    /// `kill -9`; returns when the coordinator is gone.
    pub(crate) fn kill_coordinator(&mut self) {
        if let Some(coordinator) = self.coordinator.take() {
            coordinator.signal("KILL");
            coordinator.finish();
        }
    }

    /// Starts it again, where it was, from nothing but its run directory `run`.
    pub(crate) fn resume(&mut self) {
        let listen = ["coordinator", "--listen", self.address()];
        let args = [&listen[..], &["--resume", "--run-dir", "run"]].concat();
        self.coordinator = Some(Program::start(self.dir.path(), &args));
    }

    /// How the run ended.
    pub(crate) fn finish(&mut self) -> Ended {
        let coordinator = self.coordinator.take();
        coordinator.expect("it runs").finish()
    }

    /// The run in `run` has completed with equal replicas; returns its summary.
    pub(crate) fn completes(&mut self) -> (Ended, Value) {
        let ended = self.finish();
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
        let summary = read(self.run().join("summary.json"));
        (ended, serde_json::from_str(&summary).expect("it is JSON"))
    }

    /// Its record proves every digest, to the end.
    pub(crate) fn is_proved(&self) {
        is_proved(self.dir());
    }

    /// Where everything is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The run directory, if it is `run`.
    pub(crate) fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }
}

/// The record of the run in `run` proves every digest, to the end.
pub(crate) fn is_proved(dir: &Path) {
    let replayed = ecq(dir, &["replay", "run", "--verify"]);
    assert_eq!(replayed.code(), Some(0), "{}", replayed.stderr);
}

/// All of them have ended as they should.
pub(crate) fn end_well(nodes: impl IntoIterator<Item = Program>) {
    for node in nodes {
        let ended = node.finish();
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    }
}
