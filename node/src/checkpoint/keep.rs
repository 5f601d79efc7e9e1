//! Keeping checkpoints, and knowing which there are.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ecq_cluster::{Digest, Kept, Rank, RunConfig, Step, ViewNumber};
use ecq_quant::{Encoder, Values};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::{CheckpointError, DEFAULT_DIR, MODEL, STATE};
use crate::deliver;
use crate::rules::Rules;

/// The checkpoints of a node.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    pub(super) dir: PathBuf,
    /// The text that tells one run from others.
    pub(super) config: String,
    every: Step,
    keep: usize,
}

impl Checkpoints {
    /// The checkpoints of a node, if its run keeps some; in `dir`, or in `checkpoints/NAME`.
    pub(crate) fn new(config: &RunConfig, dir: Option<&Path>) -> Option<Self> {
        let every = config.checkpoint_every?;
        let named = || Path::new(DEFAULT_DIR).join(&config.name);
        Some(Self {
            dir: dir.map_or_else(named, Path::to_owned),
            // Invariant: it was parsed from such a text.
            config: config.to_toml().unwrap_or_default(),
            every,
            keep: config.keep_checkpoints as usize,
        })
    }

    /// Those of this run. Before a run has `begun` there are none, and must not be any of another.
    pub(crate) fn kept(&self, begun: bool) -> Result<Vec<Kept>, CheckpointError> {
        let found = self.found()?;
        if !begun && !found.is_empty() {
            return Err(CheckpointError::Occupied {
                path: self.dir.clone(),
            });
        }
        let mut kept = Vec::new();
        for (step, rank, path) in found {
            // One that is damaged is as good as none.
            let whole = read(&path).inspect_err(|error| tracing::warn!("{error}; it is left out"));
            let ours = whole
                .ok()
                .map(|whole| whole.facts)
                .filter(|facts| facts.get("config") == Some(&self.config));
            kept.extend(ours.and_then(|facts| {
                Some(Kept {
                    step,
                    rank,
                    view: facts.get("view")?.parse().ok()?,
                    digest: facts.get("replica_digest")?.parse().ok()?,
                })
            }));
        }
        Ok(kept)
    }

    /// Step, rank and place of all that are there, whosever they are.
    fn found(&self) -> Result<Vec<(Step, Rank, PathBuf)>, CheckpointError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| failed(&self.dir, error))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| failed(&self.dir, error))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let place = name.and_then(|name| {
                let (step, rank) = name.strip_prefix("step-")?.split_once(".rank-")?;
                Some((step.parse().ok()?, rank.parse().ok()?))
            });
            found.extend(place.map(|(step, rank)| (step, rank, path)));
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn path(&self, step: Step, rank: Rank) -> PathBuf {
        self.dir.join(format!("step-{step:08}.rank-{rank}"))
    }

    /// Whether one is to be kept once so many steps are applied.
    pub(crate) fn due(&self, steps: Step) -> bool {
        steps.is_multiple_of(self.every)
    }

    /// Keeps a checkpoint of the member of a view to which the steps before `step` are applied; whole and
    /// durable, or not at all. Of its earlier ones the last stay.
    pub(crate) fn keep(
        &self,
        step: Step,
        (view, rank): (ViewNumber, Rank),
        rules: &Rules,
        encoder: &Encoder,
    ) -> Result<(), CheckpointError> {
        let path = self.path(step, rank);
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let malformed = |reason| CheckpointError::Malformed {
            path: path.clone(),
            reason,
        };
        let model = rules
            .pack(step)
            .map_err(|failure| malformed(failure.to_string()))?;
        let facts = BTreeMap::from([
            ("config", self.config.clone()),
            ("step", step.to_string()),
            ("view", view.to_string()),
            ("rank", rank.to_string()),
            ("replica_digest", rules.replica.digest().to_string()),
            ("model_digest", digest_of_file(&model).to_string()),
        ]);
        let state = state(facts, rules, encoder).map_err(malformed)?;
        let write = || -> io::Result<()> {
            remove(&partial)?;
            fs::create_dir_all(&partial)?;
            for (name, contents) in [(MODEL, &model[..]), (STATE, &state)] {
                let mut file = File::create_new(partial.join(name))?;
                file.write_all(contents)?;
                file.sync_all()?;
            }
            File::open(&partial)?.sync_all()?;
            // A step that is made anew has another checkpoint.
            remove(&path)?;
            fs::rename(&partial, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|error| failed(&path, error))?;
        let earlier = |(kept, of, _): &(Step, Rank, PathBuf)| *of == rank && *kept <= step;
        let mut earlier: Vec<_> = self.found()?.into_iter().filter(earlier).collect();
        earlier.truncate(earlier.len().saturating_sub(self.keep));
        for (_, _, path) in earlier {
            remove(&path).map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }

    /// Forgets what a rank has kept after `step`: it is made anew.
    pub(super) fn forget_after(&self, step: Step, rank: Rank) -> Result<(), CheckpointError> {
        let later = |(kept, of, _): &(Step, Rank, PathBuf)| *of == rank && *kept > step;
        for (_, _, path) in self.found()?.into_iter().filter(later) {
            remove(&path).map_err(|error| failed(&path, error))?;
        }
        Ok(())
    }
}

/// Optimizer and codec's memory, with these facts and a digest of all.
fn state(
    mut facts: BTreeMap<&str, String>,
    rules: &Rules,
    encoder: &Encoder,
) -> Result<Vec<u8>, String> {
    let velocity = bytes(rules.replica.optimizer.state());
    let memory: Vec<(String, Dtype, Vec<u8>)> = encoder
        .memory()
        .into_iter()
        .map(|memory| match memory.values {
            Values::Single(values) => (memory.name, Dtype::F32, bytes(&values)),
            Values::Double(values) => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                (memory.name, Dtype::F64, bytes.collect())
            }
        })
        .collect();
    let optimizer = ("optimizer.velocity".to_owned(), Dtype::F32, velocity);
    let tensors = std::iter::once(&optimizer).chain(&memory);
    let known = facts.iter().map(|(name, fact)| (*name, fact.as_bytes()));
    let contents = tensors.clone().map(|(name, _, bytes)| (&**name, &**bytes));
    let digest = digest_of(known.chain(contents)).to_string();
    facts.insert("state_digest", digest);
    let tensors = tensors.map(|(name, kind, bytes)| {
        let size = if *kind == Dtype::F64 { 8 } else { 4 };
        (name.clone(), (*kind, vec![bytes.len() / size], &bytes[..]))
    });
    deliver::serialize(&facts, tensors.collect())
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// BLAKE3 of facts and tensors, in the order of their names.
fn digest_of<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> Digest {
    let mut tensors: Vec<(&str, &[u8])> = tensors.collect();
    tensors.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for (name, bytes) in tensors {
        for part in [name.as_bytes(), bytes] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Digest(hasher.finalize().into())
}

/// BLAKE3 of a file.
fn digest_of_file(file: &[u8]) -> Digest {
    Digest(blake3::hash(file).into())
}

/// Whether a state has the digest that it was kept with.
fn is_whole(facts: &HashMap<String, String>, tensors: &SafeTensors<'_>) -> bool {
    let tensors = tensors.tensors();
    let contents = tensors
        .iter()
        .map(|(name, tensor)| (&**name, tensor.data()));
    let known = facts.iter().filter(|(name, _)| *name != "state_digest");
    let known = known.map(|(name, fact)| (&**name, fact.as_bytes()));
    facts.get("state_digest") == Some(&digest_of(known.chain(contents)).to_string())
}

/// The files of a checkpoint, all of which is what was kept.
pub(super) struct Whole {
    pub(super) facts: HashMap<String, String>,
    pub(super) model: Vec<u8>,
    pub(super) state: Vec<u8>,
}

/// Reads a checkpoint, and sees that it is whole.
pub(super) fn read(path: &Path) -> Result<Whole, CheckpointError> {
    let read = |name| {
        let path = path.join(name);
        fs::read(&path).map_err(|error| failed(&path, error))
    };
    let malformed = |name: &str, reason: &str| CheckpointError::Malformed {
        path: path.join(name),
        reason: reason.to_owned(),
    };
    let (model, state) = (read(MODEL)?, read(STATE)?);
    let unreadable = |_| malformed(STATE, "it is no safetensors file");
    let (_, header) = SafeTensors::read_metadata(&state).map_err(unreadable)?;
    let tensors = SafeTensors::deserialize(&state).map_err(unreadable)?;
    let facts = header.metadata().clone().unwrap_or_default();
    let model_digest = digest_of_file(&model).to_string();
    for (name, whole) in [
        (STATE, is_whole(&facts, &tensors)),
        (MODEL, facts.get("model_digest") == Some(&model_digest)),
    ] {
        if !whole {
            return Err(malformed(
                name,
                "it does not have the digest that it was kept with",
            ));
        }
    }
    Ok(Whole {
        facts,
        model,
        state,
    })
}

fn failed(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Removes a directory that may not be there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "keep_test.rs"]
mod tests;
