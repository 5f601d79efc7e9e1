//! Chains of segments: what a run leaves whose rank 0 was killed, frozen or cut off.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use ecq_cluster::{Member, View};
use ecq_nn::data::{Shape, Task};
use tempfile::TempDir;

use super::error::LogError;
use super::format::{Entry, Header, RunFacts};
use super::log::{Log, name};
use crate::rules::DataFacts;

fn header(view: u64, first_step: u64, config: &str) -> Header {
    let member = |node| Member {
        node,
        address: String::new(),
    };
    let view = View {
        number: view,
        first_step,
        consumed: 0,
        members: (1..3).map(member).collect(),
    };
    let run = RunFacts {
        config: config.to_owned(),
        data: DataFacts {
            shape: Shape::Flat(1),
            task: Task::Classes(2),
            samples: 3,
        },
        steps: 9,
        parameters: 4,
    };
    Header::new(&view, run)
}

/// A step made in a view; its frame says so.
fn entry(view: u64, step: u64) -> Entry {
    Entry {
        step,
        view,
        members: 2,
        digest: None,
        frames: BTreeMap::from([((0, 0), Bytes::from(vec![view as u8, step as u8]))]),
    }
}

/// Writes the segment of a view with entries (view, step).
fn segment(dir: &Path, view: u64, first_step: u64, entries: &[(u64, u64)]) {
    let mut bytes = Vec::new();
    header(view, first_step, "seed = 1").encode(&mut bytes);
    for (view, step) in entries {
        entry(*view, *step).encode(&mut bytes);
    }
    std::fs::write(dir.join(name(view)), bytes).expect("there is room");
}

/// The views that have made the steps of a log, in order.
fn views(dir: &Path) -> Result<Vec<u64>, LogError> {
    let mut steps = Log::open(dir)?.steps();
    let mut views = Vec::new();
    while let Some(logged) = steps.read()? {
        assert_eq!(logged.entry.step, views.len() as u64);
        views.push(logged.entry.view);
    }
    Ok(views)
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

#[test]
fn a_step_that_the_former_rank_0_had_not_applied_is_in_the_next_segment() {
    let dir = directory();
    segment(dir.path(), 1, 0, &[(1, 0), (1, 1)]);
    segment(dir.path(), 2, 3, &[(1, 2), (2, 3)]);
    // View 3 has made nothing, view 4 has no segment.
    segment(dir.path(), 3, 4, &[(2, 3)]);
    segment(dir.path(), 5, 4, &[(2, 3), (5, 4)]);
    assert_eq!(
        views(dir.path()).expect("nothing is missing"),
        [1, 1, 1, 2, 5]
    );
}

#[test]
fn a_step_of_a_rank_0_that_was_cut_off_is_void() {
    let dir = directory();
    segment(dir.path(), 1, 0, &[(1, 0), (1, 1), (1, 2)]);
    segment(dir.path(), 2, 2, &[(1, 1), (2, 2)]);
    assert_eq!(views(dir.path()).expect("nothing is missing"), [1, 1, 2]);
}

#[test]
fn torn_ends_do_not_count() {
    let dir = directory();
    segment(dir.path(), 1, 0, &[(1, 0), (1, 1), (1, 2)]);
    segment(dir.path(), 2, 3, &[]);
    segment(dir.path(), 3, 3, &[(1, 2), (3, 3)]);
    let cut = |view, by| {
        let path = dir.path().join(name(view));
        let bytes = std::fs::read(&path).expect("it is there");
        std::fs::write(path, &bytes[..bytes.len() - by]).expect("there is room");
    };
    cut(1, 3);
    cut(2, 50);
    assert_eq!(views(dir.path()).expect("nothing is missing"), [1, 1, 1, 3]);
    cut(3, 1);
    assert_eq!(views(dir.path()).expect("only the end is"), [1, 1, 1]);
}

#[test]
fn what_is_missing_or_contradicts_itself_is_named() {
    let dir = directory();
    segment(dir.path(), 1, 0, &[(1, 0), (1, 1)]);
    segment(dir.path(), 2, 4, &[(1, 3), (2, 4)]);
    let error = views(dir.path()).expect_err("step 2 is not there");
    assert!(
        matches!(&error, LogError::Gap { missing: 2, found: 3, path, .. } if path.ends_with(name(2))),
        "{error}"
    );
    segment(dir.path(), 2, 2, &[(1, 1), (1, 2)]);
    let error = views(dir.path()).expect_err("view 1 has not made step 2");
    assert!(
        matches!(
            error,
            LogError::View {
                step: 2,
                view: 1,
                ..
            }
        ),
        "{error}"
    );
    let mut bytes = Vec::new();
    header(2, 2, "seed = 1").encode(&mut bytes);
    let other = Entry {
        members: 1,
        ..entry(1, 1)
    };
    other.encode(&mut bytes);
    std::fs::write(dir.path().join(name(2)), &bytes).expect("there is room");
    let error = views(dir.path()).expect_err("step 1 is another one");
    assert!(
        matches!(error, LogError::Contradiction { step: 1, .. }),
        "{error}"
    );
}

#[test]
fn segments_of_other_runs_or_views_are_named() {
    let dir = directory();
    let error = views(dir.path()).expect_err("there is nothing");
    assert!(matches!(error, LogError::Empty(_)), "{error}");
    segment(dir.path(), 1, 0, &[(1, 0)]);
    let mut bytes = Vec::new();
    header(2, 1, "seed = 2").encode(&mut bytes);
    std::fs::write(dir.path().join(name(2)), &bytes).expect("there is room");
    let error = views(dir.path())
        .expect_err("it has another seed")
        .to_string();
    assert!(error.contains("seed = 2"), "{error}");
    std::fs::rename(dir.path().join(name(1)), dir.path().join(name(2))).expect("it is there");
    let error = views(dir.path()).expect_err("it is of view 1").to_string();
    assert!(error.ends_with("it is of view 1"), "{error}");
}
