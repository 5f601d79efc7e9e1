//! However a run ends, no process is left (T15: each `finish` waits for all descendants), and the
//! exit code says why.

mod harness;

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use harness::{Program, directory, signal};

/// A run that would go on for hours, and is in the middle of training.
fn endless(dir: &Path) -> Program {
    let args = [
        "launch",
        "-n",
        "2",
        "--run-dir",
        "run",
        "--steps",
        "100000000",
    ];
    let mut program = Program::start(dir, &args);
    program.until(|line| line.contains("training as rank 0").then_some(()));
    program
}

#[test]
fn an_interrupt_ends_everybody() {
    let dir = directory();
    let program = endless(dir.path());
    program.signal("INT");
    let ended = program.finish();
    assert_eq!(ended.code(), Some(130), "{}", ended.stderr);
    assert_eq!(ended.complaint(), "interrupted");
    assert!(!dir.path().join("run/summary.json").exists());
}

#[test]
fn a_termination_ends_everybody() {
    let dir = directory();
    let program = endless(dir.path());
    program.signal("TERM");
    assert_eq!(program.finish().code(), Some(143));
}

#[test]
fn a_launcher_that_is_killed_takes_its_children_along() {
    let dir = directory();
    let program = endless(dir.path());
    program.signal("KILL");
    assert_eq!(program.finish().status.signal(), Some(9));
}

#[test]
fn a_node_that_is_killed_before_training_ends_the_run_and_is_named() {
    let dir = directory();
    let args = [
        "launch",
        "-n",
        "3",
        "--run-dir",
        "run",
        "--hidden",
        "20000,2000",
    ];
    let mut program = Program::start(dir.path(), &args);
    let pid = program.pid_of("1");
    program.until(|line| line.contains("loading data and").then_some(()));
    signal(pid, "KILL");
    let ended = program.finish();
    assert_eq!(ended.code(), Some(137), "{}", ended.stderr);
    assert!(ended.complaint().contains("rank 1 was killed by signal 9"));
    let left = harness::names(&dir.path().join("run"));
    assert!(
        left.iter().all(|name| !name.ends_with(".partial")),
        "{left:?}"
    );
}

#[test]
fn a_coordinator_that_is_killed_ends_the_run_and_is_named() {
    let dir = directory();
    let args = [
        "launch",
        "-n",
        "2",
        "--run-dir",
        "run",
        "--steps",
        "100000000",
    ];
    let mut program = Program::start(dir.path(), &args);
    let pid = program.pid_of("coordinator");
    program.until(|line| line.contains("training as rank 1").then_some(()));
    signal(pid, "KILL");
    let ended = program.finish();
    assert_eq!(ended.code(), Some(137), "{}", ended.stderr);
    let complaint = ended.complaint();
    assert!(
        complaint.contains("the coordinator was killed by signal 9"),
        "{complaint}"
    );
}

#[test]
fn a_node_that_cannot_obey_is_killed() {
    let dir = directory();
    let args = [
        "launch",
        "-n",
        "2",
        "--run-dir",
        "run",
        "--steps",
        "100000000",
    ];
    let mut program = Program::start(dir.path(), &args);
    let pid = program.pid_of("1");
    program.until(|line| line.contains("training as rank 1").then_some(()));
    signal(pid, "STOP");
    program.signal("INT");
    // The others have obeyed; the second signal spares us the grace time.
    program.until(|line| line.contains("[coordinator] error: ").then_some(()));
    program.signal("INT");
    let ended = program.finish();
    assert_eq!(ended.code(), Some(130), "{}", ended.stderr);
}

#[test]
fn training_that_diverges_says_so() {
    let dir = directory();
    // The paper's quantizer with full feedback: λ = ω > 1.
    let codec = "ecq:norm=l2,levels=1,alpha=1,beta=1";
    let args = [
        "launch",
        "-n",
        "2",
        "--run-dir",
        "run",
        "--lr",
        "5",
        "--codec",
        codec,
    ];
    let ended = harness::ecq(dir.path(), &args);
    assert_eq!(ended.code(), Some(4), "{}", ended.stderr);
    assert!(
        ended.complaint().contains("training diverged"),
        "{}",
        ended.stderr
    );
}
