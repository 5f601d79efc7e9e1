//! Whether a replay comes to what the run says of itself.

use std::fmt;
use std::io;
use std::path::Path;

use ecq_coordinator::Summary;
use ecq_node::replay::Replay;
use serde::Serialize;

use super::internal;
use crate::exit::{Code, Failed};

/// What has been compared, and is equal.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Verified {
    /// Digests in the log.
    digests: u64,
    /// Whether the digest in `summary.json` was compared too.
    summary: bool,
    /// Whether the bytes of `model.safetensors` were.
    model: bool,
}

impl Verified {
    /// Compares the digest after the step applied last, if the log has it.
    pub(super) fn step(&mut self, replay: &Replay) -> Result<(), Failed> {
        let Some(logged) = replay.logged_digest() else {
            return Ok(());
        };
        let found = replay.digest();
        if logged != found {
            let step = replay.applied() - 1;
            return Err(differ(format!(
                "at step {step} the run had the digest {logged}, and its frames make {found}"
            )));
        }
        self.digests += 1;
        Ok(())
    }

    /// Compares a replay of a whole log with the files of the run, if it has completed.
    pub(super) fn files(&mut self, replay: &Replay, run_dir: &Path) -> Result<(), Failed> {
        let path = run_dir.join("summary.json");
        if let Some(text) = read(&path)? {
            let malformed = |error| Failed::new(Code::Data, format!("{}: {error}", path.display()));
            let summary: Summary = serde_json::from_slice(&text).map_err(malformed)?;
            let (steps, applied) = (summary.steps, replay.applied());
            if applied < steps {
                let text = format!(
                    "the run has made {steps} steps, and its log ends before step {applied}"
                );
                return Err(Failed::new(Code::Data, text));
            }
            let (said, found) = (summary.replica_digest, replay.digest().to_string());
            if said != found {
                let path = path.display();
                return Err(differ(format!(
                    "after step {}, the last, {path} has the digest {said}, and the frames make {found}",
                    steps.saturating_sub(1)
                )));
            }
            self.summary = true;
        }
        let path = run_dir.join("model.safetensors");
        if let Some(model) = read(&path)? {
            if model != replay.pack().map_err(internal)? {
                let (step, path) = (replay.applied().saturating_sub(1), path.display());
                return Err(differ(format!(
                    "after step {step}, the last, the frames make another model than {path}"
                )));
            }
            self.model = true;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failed> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failed::io(format!(
            "cannot read {}: {error}",
            path.display()
        ))),
    }
}

fn differ(text: String) -> Failed {
    Failed::new(Code::Diverged, text)
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} digests", self.digests)?;
        for (compared, name) in [
            (self.summary, "summary.json"),
            (self.model, "model.safetensors"),
        ] {
            if compared {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}
