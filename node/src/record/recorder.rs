//! Writing the log: what the trainer of rank 0 has applied, before anybody else knows.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ecq_cluster::{Rank, Step, View, ViewNumber};

use super::error::RecordError;
use super::format::{Entry, Header, RunFacts};
use super::log::name;
use crate::rules::DataFacts;
use crate::workload::Workload;

/// Where logs of runs go if nobody says so, each in a directory with the run's name.
const DEFAULT_DIR: &str = "record";

/// Writes the log while this node has rank 0, and is ready to while it has not.
#[derive(Debug)]
pub(crate) struct Recorder {
    dir: PathBuf,
    run: RunFacts,
    segment: Option<Segment>,
    /// The steps applied last, as many as members can be apart, for the segment of a view that begins after
    /// them.
    last: VecDeque<Entry>,
    /// A step of which it is known that it is in the log.
    recorded: Option<Step>,
    reach: usize,
    buffer: Vec<u8>,
}

/// The segment that is being written.
#[derive(Debug)]
struct Segment {
    view: ViewNumber,
    path: PathBuf,
    file: File,
}

impl Recorder {
    /// The recorder of a node, if its run is to be recorded; in `dir`, or in `record/NAME`.
    pub(crate) fn new(workload: &Workload, dir: Option<&Path>) -> Option<Self> {
        let config = &workload.rules.config;
        if !config.record {
            return None;
        }
        let named = || Path::new(DEFAULT_DIR).join(&config.name);
        Some(Self {
            dir: dir.map_or_else(named, Path::to_owned),
            run: RunFacts {
                // Invariant: it was parsed from such a text.
                config: config.to_toml().unwrap_or_default(),
                data: DataFacts::of(&workload.dataset),
                steps: workload.rules.steps,
                parameters: workload.rules.replica.parameters.len() as u64,
            },
            segment: None,
            last: VecDeque::new(),
            recorded: None,
            reach: usize::try_from(config.reach()).unwrap_or(usize::MAX),
            buffer: Vec::new(),
        })
    }

    /// Goes on from what `rank` had when it had applied the steps before `next`. Rank 0 records a step before it
    /// keeps anything of it.
    pub(crate) fn restored(&mut self, next: Step, rank: Rank) {
        self.last.clear();
        self.recorded = next.checked_sub(1).filter(|_| rank == 0);
    }

    /// Begins the segment of a view if this node has rank 0 in it, with the last steps before the view.
    pub(crate) fn enter(&mut self, view: &View, rank: Rank) -> Result<(), RecordError> {
        if self
            .segment
            .as_ref()
            .is_some_and(|it| it.view == view.number)
        {
            return Ok(());
        }
        self.segment = None;
        if rank != 0 {
            return Ok(());
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RecordError { path, source }
        };
        std::fs::create_dir_all(&self.dir).map_err(failed(&self.dir))?;
        let path = self.dir.join(name(view.number));
        let file = File::create_new(&path).map_err(failed(&path))?;
        let segment = self.segment.insert(Segment {
            view: view.number,
            path,
            file,
        });
        self.buffer.clear();
        Header::new(view, self.run.clone()).encode(&mut self.buffer);
        segment.write(&self.buffer)?;
        tracing::info!("recording to {}", segment.path.display());
        for entry in &self.last {
            self.buffer.clear();
            entry.encode(&mut self.buffer);
            segment.write(&self.buffer)?;
        }
        let last = self.last.back().map(|entry| entry.step);
        if let Some(before) = view
            .first_step
            .checked_sub(1)
            .filter(|it| last != Some(*it) && self.recorded != Some(*it))
        {
            tracing::warn!(
                "this node has not applied step {before} itself; if whoever recorded before has not \
                 either, the log has a gap there"
            );
        }
        Ok(())
    }

    /// Writes down a step that was applied.
    pub(crate) fn applied(&mut self, entry: Entry) -> Result<(), RecordError> {
        if let Some(segment) = &mut self.segment {
            self.buffer.clear();
            entry.encode(&mut self.buffer);
            segment.write(&self.buffer)?;
        }
        // A replica that was taken over may begin anywhere.
        if self
            .last
            .back()
            .is_some_and(|last| last.step + 1 != entry.step)
        {
            self.last.clear();
        }
        self.last.push_back(entry);
        if self.last.len() > self.reach {
            self.last.pop_front();
        }
        Ok(())
    }
}

impl Segment {
    /// One write, so that nothing is left in this process.
    fn write(&mut self, block: &[u8]) -> Result<(), RecordError> {
        self.file.write_all(block).map_err(|source| RecordError {
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use ecq_cluster::{Member, Step};
    use ecq_nn::data::{Shape, Task};

    use super::*;
    use crate::record::Log;

    fn recorder(dir: &Path) -> Recorder {
        Recorder {
            dir: dir.to_owned(),
            run: RunFacts {
                config: "seed = 1".to_owned(),
                data: DataFacts {
                    shape: Shape::Flat(1),
                    task: Task::Classes(2),
                    samples: 3,
                },
                steps: 4,
                parameters: 4,
            },
            segment: None,
            last: VecDeque::new(),
            recorded: None,
            reach: 1,
            buffer: Vec::new(),
        }
    }

    fn view(number: ViewNumber, first_step: Step) -> View {
        let member = Member {
            node: number,
            address: String::new(),
        };
        View {
            number,
            first_step,
            consumed: 0,
            members: vec![member],
        }
    }

    fn entry(view: ViewNumber, step: Step) -> Entry {
        Entry {
            step,
            view,
            members: 1,
            digest: None,
            frames: BTreeMap::from([((0, 0), Bytes::from(vec![step as u8]))]),
        }
    }

    fn steps(dir: &Path) -> Vec<Step> {
        let mut log = Log::open(dir).expect("it is a log").steps();
        let mut steps = Vec::new();
        while let Some(logged) = log.read().expect("nothing is missing") {
            steps.push(logged.entry.step);
        }
        steps
    }

    /// The first is killed when the others have applied a step that it has not, the second after the last
    /// step, when there is nothing left to do but to deliver the model.
    #[test]
    fn whoever_is_next_begins_with_the_step_it_has_applied_last() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let dir = dir.path().join("not").join("there");
        let [mut first, mut second, mut third] = [(); 3].map(|()| recorder(&dir));
        first.enter(&view(1, 0), 0).expect("it can be written");
        first.applied(entry(1, 0)).expect("it can be written");
        for other in [&mut second, &mut third] {
            other.enter(&view(1, 0), 1).expect("nothing is written");
            for step in [0, 1] {
                other.applied(entry(1, step)).expect("nothing is written");
            }
        }
        assert_eq!(steps(&dir), [0]);
        second.enter(&view(2, 2), 0).expect("it can be written");
        third.enter(&view(2, 2), 1).expect("nothing is written");
        assert_eq!(steps(&dir), [0, 1]);
        second.applied(entry(2, 2)).expect("it can be written");
        for step in [2, 3] {
            third.applied(entry(2, step)).expect("nothing is written");
        }
        third.enter(&view(3, 4), 0).expect("it can be written");
        assert_eq!(steps(&dir), [0, 1, 2, 3]);
        third.enter(&view(3, 4), 0).expect("it is the same");
        let error = second
            .enter(&view(3, 4), 0)
            .expect_err("nothing is overwritten");
        assert!(error.to_string().contains("view-000003.ecqr"), "{error}");
    }
}
