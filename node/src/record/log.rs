//! The segments of a run, put together to its steps in order.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use ecq_cluster::{LEFT_OUT_MAX, Step, ViewNumber};

use super::error::LogError;
use super::format::{Entry, Header, RunFacts};
use super::segment::Segment;

/// The name of a view's segment.
pub(super) fn name(view: ViewNumber) -> String {
    format!("view-{view:06}.ecqr")
}

fn number(name: &str) -> Option<ViewNumber> {
    let number = name.strip_prefix("view-")?.strip_suffix(".ecqr")?;
    number.parse().ok()
}

/// A log whose segments belong together.
#[derive(Debug)]
pub(crate) struct Log {
    run: RunFacts,
    /// In the order of their views, with what each begins with.
    segments: Vec<(PathBuf, Header)>,
}

impl Log {
    /// Reads the headers of all segments in a directory.
    pub(crate) fn open(dir: &Path) -> Result<Self, LogError> {
        let unreadable = |source| LogError::Unreadable {
            path: dir.to_owned(),
            source,
        };
        let mut found: Vec<(ViewNumber, PathBuf)> = Vec::new();
        for file in std::fs::read_dir(dir).map_err(unreadable)? {
            let file = file.map_err(unreadable)?;
            let view = file.file_name().to_str().and_then(number);
            found.extend(view.map(|view| (view, file.path())));
        }
        found.sort();
        let mut segments: Vec<(PathBuf, Header)> = Vec::new();
        for (view, path) in found {
            let Some((_, header)) = Segment::open(&path)? else {
                continue;
            };
            let foreign = |reason| {
                let path = path.clone();
                Err(LogError::Foreign { path, reason })
            };
            if header.view != view {
                return foreign(format!("it is of view {}", header.view));
            }
            if let Some((first, known)) = segments.first()
                && let Some(difference) = difference(&known.run, &header.run)
            {
                let first = first.display();
                return foreign(format!("it is of another run than {first}, {difference}"));
            }
            segments.push((path, header));
        }
        let Some((_, first)) = segments.first() else {
            return Err(LogError::Empty(dir.to_owned()));
        };
        Ok(Self {
            run: first.run.clone(),
            segments,
        })
    }

    /// What all segments say of the run.
    pub(crate) fn run(&self) -> &RunFacts {
        &self.run
    }

    /// The first segment: whoever complains about the run names it.
    pub(crate) fn first(&self) -> &Path {
        // Invariant: a log has at least one segment.
        self.segments
            .first()
            .map_or(Path::new(""), |(path, _)| path)
    }

    /// Number of views that have a segment.
    pub(crate) fn views(&self) -> usize {
        self.segments.len()
    }

    /// Reads the steps, from the first.
    pub(crate) fn steps(self) -> Steps {
        // What was made at or after the first step of a later view is void.
        let mut end = Step::MAX;
        let mut waiting = Vec::new();
        for (path, header) in self.segments.into_iter().rev() {
            let begin = header.first_step;
            waiting.push((path, header, end));
            end = end.min(begin);
        }
        Steps {
            waiting,
            current: None,
            next: 0,
            last: VecDeque::new(),
        }
    }
}

fn difference(known: &RunFacts, found: &RunFacts) -> Option<String> {
    if known.config == found.config {
        return (known != found).then(|| "with another shape of data".to_owned());
    }
    let mut lines = known.config.lines().zip(found.config.lines());
    let (known, found) = lines.find(|(known, found)| known != found)?;
    Some(format!("with {found:?} instead of {known:?}"))
}

/// A step, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) entry: Entry,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
}

/// The steps of a log in order, each once.
#[derive(Debug)]
pub(crate) struct Steps {
    /// The segments that are not read yet, the next one last; with the step from which on they do not
    /// count.
    waiting: Vec<(PathBuf, Header, Step)>,
    current: Option<(Segment, Header, Step)>,
    next: Step,
    /// The last steps, as many as can stand twice.
    last: VecDeque<Entry>,
}

impl Steps {
    /// The next step; nothing at the end of the log.
    pub(crate) fn read(&mut self) -> Result<Option<Logged>, LogError> {
        loop {
            let Some((segment, header, end)) = &mut self.current else {
                let Some((path, header, end)) = self.waiting.pop() else {
                    return Ok(None);
                };
                let opened = Segment::open(&path)?;
                self.current = opened.map(|(segment, _)| (segment, header, end));
                continue;
            };
            let Some((offset, entry)) = segment.entry()? else {
                self.current = None;
                continue;
            };
            let path = segment.path().to_owned();
            let (step, view) = (entry.step, entry.view);
            // A segment begins with the last steps before its view.
            let own = step >= header.first_step;
            if own != (view == header.view) || view > header.view {
                return Err(LogError::View {
                    path,
                    offset,
                    step,
                    view,
                });
            }
            if step >= *end {
                tracing::debug!(step, view, "void: a later view begins no later");
                continue;
            }
            if step > self.next {
                return Err(LogError::Gap {
                    path,
                    offset,
                    missing: self.next,
                    found: step,
                });
            }
            if step < self.next {
                if !self.last.contains(&entry) {
                    return Err(LogError::Contradiction { path, offset, step });
                }
                continue;
            }
            self.next += 1;
            self.last.push_back(entry.clone());
            if self.last.len() as u64 > LEFT_OUT_MAX + 1 {
                self.last.pop_front();
            }
            return Ok(Some(Logged {
                entry,
                path,
                offset,
            }));
        }
    }
}
