//! Members are late and lost at the same time: steps go on without whoever is late, while nodes die, leave, join,
//! stand still and come back, and while the coordinator is away. Each run ends with equal replicas, and its
//! record proves every digest.

mod harness;

use harness::{
    Cluster, Program, Residual, directory, ecq, end_well, is_proved, read, residuals, signal, views,
};
use serde_json::Value;

/// Four members, of which two make a step without patience for the others: in most steps somebody is late, be there
/// four or three.
const RUN: [&str; 18] = [
    "-n",
    "4",
    "--quorum",
    "2",
    "--quorum-wait",
    "0",
    "--model",
    "softmax",
    "--run-dir",
    "run",
    "--name",
    "x",
    "--lease-seconds",
    "2",
    "--digest-every",
    "50",
    "--record",
    "--steps",
];

fn cluster(steps: &str, args: &[&str]) -> (Cluster, Vec<Program>) {
    let mut cluster = Cluster::start(&[&RUN[..], &[steps], args].concat());
    let nodes = cluster.recorders(4);
    (cluster, nodes)
}

fn launch(dir: &std::path::Path, args: &[&str]) -> Program {
    Program::start(dir, &[&["launch"], &RUN[..], args].concat())
}

/// Somebody was late, and what came too late went back to its residual.
fn was_late(summary: &Value) {
    for what in ["left_out", "taken_back"] {
        assert!(summary[what].as_u64().is_some_and(|n| n > 0), "{summary}");
    }
}

/// The run has completed, with late members, and as its record says.
fn completes(cluster: &mut Cluster) {
    let (_, summary) = cluster.completes();
    was_late(&summary);
    cluster.is_proved();
}

/// Whoever dies in the middle of the run: rank 0 takes its undelivered decisions with it, and another decides.
#[test]
fn a_member_is_killed_be_it_the_one_who_decides() {
    for victim in ["0", "2"] {
        let dir = directory();
        let mut program = launch(dir.path(), &["1500"]);
        let pid = program.pid_of(victim);
        program.until(|line| line.contains(" goes on without rank ").then_some(()));
        signal(pid, "KILL");
        let ended = program.finish();
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
        let run = dir.path().join("run");
        let summary = read(run.join("summary.json"));
        was_late(&serde_json::from_str(&summary).expect("it is JSON"));
        is_proved(dir.path());
        let views = views(&run);
        assert!(views.len() >= 2, "{views:?}");
        assert!(views[1].first_step > 0, "{views:?}");
    }
}

/// One leaves, with a last contribution that no step goes on without, and another takes its seat.
#[test]
fn one_leaves_and_another_joins() {
    let (mut cluster, mut nodes) = cluster("2000", &[]);
    let leaver = nodes.remove(1);
    leaver.signal("TERM");
    let left = leaver.finish();
    assert_eq!(left.code(), Some(143), "{}", left.stderr);
    let said = "left with nothing kept back";
    assert!(left.stderr.contains(said), "{}", left.stderr);
    nodes.push(cluster.recorder(&[]));
    cluster.until("4 members train");
    completes(&mut cluster);
    let residuals = residuals(&views(&cluster.run()));
    let flushed = |it: &Residual| matches!(it, Residual::Flushed { .. });
    assert!(residuals.iter().any(flushed), "{residuals:?}");
    end_well(nodes);
}

/// A member stands still while nobody could change the view: the others make the steps that may leave it out, and wait.
#[test]
fn late_members_are_gone_on_without_while_the_coordinator_is_away() {
    let (mut cluster, mut nodes) = cluster("1500", &["--min-nodes", "4"]);
    cluster.kill_coordinator();
    nodes[3].signal("STOP");
    for node in &mut nodes[..3] {
        node.until(|line| line.contains("without the coordinator").then_some(()));
    }
    nodes[3].signal("CONT");
    cluster.resume();
    cluster.until("a member is back");
    completes(&mut cluster);
    end_well(nodes);
}

#[test]
fn a_run_that_is_stopped_goes_on_from_checkpoints() {
    let dir = directory();
    let mut program = launch(dir.path(), &["1500", "--checkpoint-every", "100"]);
    program.until(|line| line.contains("kept a checkpoint steps=500").then_some(()));
    program.signal("INT");
    assert_eq!(program.finish().code(), Some(130));
    let ended = ecq(dir.path(), &["launch", "--resume", "--run-dir", "run"]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    // What is before the checkpoints is in the log.
    assert!(
        !ended.stderr.contains("has a gap there"),
        "{}",
        ended.stderr
    );
    let run = dir.path().join("run");
    let summary = read(run.join("summary.json"));
    was_late(&serde_json::from_str(&summary).expect("it is JSON"));
    is_proved(dir.path());
    let views = views(&run);
    assert!(
        views.last().is_some_and(|view| view.first_step >= 400),
        "{views:?}"
    );
}

/// It misses all the steps that may leave it out and its lease, and the others wait for it in the next view.
#[test]
fn who_was_frozen_comes_back() {
    let (mut cluster, mut nodes) = cluster("1500", &["--min-nodes", "4"]);
    nodes[2].signal("STOP");
    cluster.until("3 of at least 4 are there");
    nodes[2].signal("CONT");
    nodes[2].until(|line| line.contains("trying to come back").then_some(()));
    cluster.until("4 members train");
    completes(&mut cluster);
    assert!(views(&cluster.run()).len() >= 3);
    end_well(nodes);
}
