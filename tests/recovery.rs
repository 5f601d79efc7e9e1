//! What survives the death of the coordinator, and of everybody.

mod harness;

use std::path::Path;

use harness::{Cluster, Ended, Program, directory, ecq, end_well, read};
use serde_json::Value;

/// Small steps, so that much happens in little time.
const RUN: [&str; 6] = ["--model", "softmax", "--digest-every", "100", "--name", "x"];

fn summary(dir: &Path) -> Value {
    serde_json::from_str(&read(dir.join("summary.json"))).expect("it is JSON")
}

/// The digest of a run that nothing disturbs.
fn undisturbed(args: &[&str]) -> Value {
    let dir = directory();
    let launch = [&["launch", "--run-dir", "run"][..], &RUN, args].concat();
    let ended = ecq(dir.path(), &launch);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    summary(&dir.path().join("run"))["replica_digest"].take()
}

/// The run has completed, every step was reported once and in order, and the file of lines says what the
/// store does.
fn is_whole(ended: &Ended, run: &Path, steps: u64) {
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let lines = read(run.join("metrics.jsonl"));
    let reported: Vec<u64> = lines
        .lines()
        .filter(|line| line.contains("train_loss"))
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("it is JSON");
            line["step"].as_u64().expect("a number")
        })
        .collect();
    assert!(
        reported.iter().copied().eq(1..=steps),
        "every step once: {reported:?}"
    );
    assert_eq!(summary(run)["steps"], steps);
}

fn views(run: &Path) -> usize {
    read(run.join("history.jsonl")).lines().count()
}

fn cluster(args: &[&str]) -> Cluster {
    Cluster::start(
        &[
            &["--run-dir", "run", "--lease-seconds", "2"][..],
            &RUN,
            args,
        ]
        .concat(),
    )
}

/// The coordinator is away until all steps are applied: no step waits for it, and what it has missed is
/// told again.
#[test]
fn nobody_waits_for_a_coordinator_and_nothing_is_lost_with_it() {
    let args = ["-n", "3", "--steps", "3000"];
    let mut cluster = cluster(&args);
    let mut nodes: Vec<Program> = (0..3).map(|_| cluster.node(&[])).collect();
    cluster.until("view 1: 3 members train");
    cluster.kill_coordinator();
    for node in &mut nodes {
        node.until(|line| {
            let applied = line.contains("all steps are applied");
            (applied && line.contains("without the coordinator")).then_some(())
        });
    }
    cluster.resume();
    let run = cluster.run();
    let ended = cluster.finish();
    is_whole(&ended, &run, 3000);
    assert_eq!(views(&run), 1);
    assert_eq!(summary(&run)["replica_digest"], undisturbed(&args));
    end_well(nodes);
    // Who asks again hears how it went.
    let again = ["coordinator", "--resume", "--run-dir", "run", "--json"];
    let ended = ecq(cluster.dir(), &again);
    let told: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    assert_eq!(told, summary(&run));
}

#[test]
fn nodes_that_have_not_begun_join_the_coordinator_that_is_back() {
    let mut cluster = cluster(&["-n", "2", "--steps", "50"]);
    let first = cluster.node(&[]);
    cluster.until("waiting for nodes: 1 of 2");
    cluster.kill_coordinator();
    cluster.resume();
    cluster.until("waiting for nodes: 1 of 2");
    let second = cluster.node(&[]);
    let run = cluster.run();
    is_whole(&cluster.finish(), &run, 50);
    end_well([first, second]);
}

/// It dies while it waits for the answer of a node that is frozen, after another was killed.
#[test]
fn a_change_of_view_that_is_interrupted_is_made_again() {
    let mut cluster = cluster(&["-n", "3", "--steps", "5000"]);
    let mut nodes: Vec<Program> = (0..3).map(|_| cluster.node(&[])).collect();
    cluster.until("view 1: 3 members train");
    nodes[2].signal("STOP");
    let killed = nodes.remove(1);
    killed.signal("KILL");
    cluster.until("view 1 ends: waiting for");
    cluster.kill_coordinator();
    nodes[0].until(|line| line.contains("without the coordinator").then_some(()));
    cluster.resume();
    nodes[1].signal("CONT");
    let run = cluster.run();
    is_whole(&cluster.finish(), &run, 5000);
    assert!(views(&run) >= 2);
    killed.finish();
    end_well(nodes);
}

/// A member is lost, and the others train on under other ranks and keep newer checkpoints. Then everything
/// stops, and the one that was lost comes back first: nobody goes back to where it was.
#[test]
fn who_was_lost_takes_nobody_back() {
    let steps = 10_000;
    let args = ["-n", "3", "--steps", "10000", "--checkpoint-every", "50"];
    let mut cluster = cluster(&args);
    let start = |cluster: &Cluster, dir: &str| cluster.node(&["--checkpoint-dir", dir]);
    let mut nodes: Vec<Program> = ["c0", "c1", "c2"]
        .iter()
        .map(|dir| start(&cluster, dir))
        .collect();
    cluster.until("view 1: 3 members train");
    let kept = |node: &mut Program| {
        node.until(|line| line.contains("kept a checkpoint").then_some(()));
    };
    nodes.iter_mut().for_each(kept);
    let lost = nodes.remove(1);
    lost.signal("KILL");
    cluster.until("view 2: 2 members train");
    for node in &mut nodes {
        node.until(|line| line.contains("view 2: training").then_some(()));
        kept(node);
        kept(node);
    }
    cluster.kill_coordinator();
    for node in nodes.into_iter().chain([lost]) {
        node.signal("KILL");
        node.finish();
    }
    cluster.resume();
    let mut nodes = vec![start(&cluster, "c1")];
    cluster.until("checkpoints: 1 are ready");
    nodes.extend(["c0", "c2"].map(|dir| start(&cluster, dir)));
    let run = cluster.run();
    is_whole(&cluster.finish(), &run, steps);
    let views = harness::views(&run);
    let (second, third) = (&views[1], &views[2]);
    assert_eq!(third.nodes.len(), 2, "those who trained on");
    assert!(third.first_step >= second.first_step + 50, "{views:?}");
    assert_eq!(
        summary(&run)["residuals_lost"],
        1,
        "that of the one which was lost"
    );
    end_well(nodes);
}

/// T9: a run that is interrupted and resumed ends with the same bits as one that never stopped; so does one
/// of whose checkpoints the last is gone for one node.
#[test]
fn a_run_that_is_resumed_is_the_run_that_never_stopped() {
    let args = ["-n", "3", "--steps", "3000"];
    let expected = undisturbed(&args);
    for spoil in [false, true] {
        let dir = directory();
        let run = dir.path().join("run");
        let keep = ["--run-dir", "run", "--checkpoint-every", "250"];
        let launch = [&["launch"][..], &RUN, &args, &keep].concat();
        let mut program = Program::start(dir.path(), &launch);
        program.until(|line| line.contains("kept a checkpoint steps=1000").then_some(()));
        program.signal("INT");
        assert_eq!(program.finish().code(), Some(130));
        if spoil {
            let mut kept = harness::names(&run.join("checkpoints"));
            kept.retain(|name| name.ends_with(".rank-1"));
            assert_eq!(kept.len(), 3, "the last three: {kept:?}");
            let last = run.join("checkpoints").join(&kept[2]);
            std::fs::remove_dir_all(last).expect("it is there");
        }
        let ended = ecq(dir.path(), &["launch", "--resume", "--run-dir", "run"]);
        assert!(
            ended.stderr.contains("going on from a checkpoint"),
            "{}",
            ended.stderr
        );
        is_whole(&ended, &run, 3000);
        assert_eq!(views(&run), 2);
        assert_eq!(summary(&run)["replica_digest"], expected);
    }
}

/// Nothing is thrown away without a word.
#[test]
fn a_run_whose_checkpoints_are_gone_begins_anew_and_says_so() {
    let dir = directory();
    let launch = ["launch", "-n", "2", "--steps", "2000", "--run-dir", "run"];
    let keep = ["--checkpoint-every", "100", "--record"];
    let mut program = Program::start(dir.path(), &[&launch[..], &RUN, &keep].concat());
    program.until(|line| line.contains("kept a checkpoint steps=500").then_some(()));
    program.signal("INT");
    assert_eq!(program.finish().code(), Some(130));
    let run = dir.path().join("run");
    std::fs::remove_dir_all(run.join("checkpoints")).expect("they are there");
    let ended = ecq(dir.path(), &["launch", "--resume", "--run-dir", "run"]);
    let said = "no checkpoint is there to go on from: the run begins anew at step 0";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    is_whole(&ended, &run, 2000);
    assert_eq!(summary(&run)["residuals_lost"], 0);
    harness::is_proved(dir.path());
}

#[test]
fn a_run_is_resumed_as_what_it_is() {
    let dir = directory();
    let launch = ["launch", "-n", "2", "--steps", "20", "--run-dir", "run"];
    let ended = ecq(dir.path(), &[&launch[..], &RUN].concat());
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    std::fs::remove_file(dir.path().join("run/summary.json")).expect("it is there");
    let other = [
        "coordinator",
        "--listen",
        "127.0.0.1:0",
        "--resume",
        "--run-dir",
        "run",
    ];
    let ended = ecq(
        dir.path(),
        &[&other[..], &["--lr", "0.5", "--seed", "9"]].concat(),
    );
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    assert!(ended.complaint().contains("(lr, seed)"), "{}", ended.stderr);
    let ended = ecq(dir.path(), &["coordinator", "--resume"]);
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    assert!(ended.complaint().contains("--run-dir"), "{}", ended.stderr);
}

/// It follows from the middle of the run to its end, and the others do not notice.
#[test]
fn an_observer_evaluates_and_changes_nothing() {
    let args = ["-n", "2", "--steps", "4000"];
    let mut cluster = cluster(&args);
    let nodes: Vec<Program> = (0..2).map(|_| cluster.node(&[])).collect();
    cluster.until("view 1: 2 members train");
    let mut observer = cluster.node(&["--observe", "--evaluate-every", "10"]);
    observer.until(|line| line.contains("evaluated steps=").then_some(()));
    let run = cluster.run();
    is_whole(&cluster.finish(), &run, 4000);
    assert_eq!(views(&run), 1);
    assert_eq!(summary(&run)["replica_digest"], undisturbed(&args));
    end_well(nodes.into_iter().chain([observer]));
}

/// With checkpoints a run waits for nodes; a launcher has none to send.
#[test]
fn a_launcher_whose_nodes_are_all_lost_ends_and_the_run_can_be_resumed() {
    let dir = directory();
    let launch = ["launch", "-n", "1", "--steps", "2000", "--run-dir", "run"];
    let keep = ["--checkpoint-every", "100"];
    let mut program = Program::start(dir.path(), &[&launch[..], &RUN, &keep].concat());
    let node = program.pid_of("0");
    program.until(|line| line.contains("kept a checkpoint").then_some(()));
    harness::signal(node, "KILL");
    let ended = program.finish();
    assert_eq!(ended.code(), Some(128 + 9), "{}", ended.stderr);
    let ended = ecq(dir.path(), &["launch", "--resume", "--run-dir", "run"]);
    is_whole(&ended, &dir.path().join("run"), 2000);
}
