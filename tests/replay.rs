//! Recorded runs are made again from their frames alone, whoever died while they were made.

mod harness;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use harness::{Ended, Program, directory, ecq, names, read, signal};
use serde_json::Value;

/// Runs of one name, whose nodes are missed soon.
const RUN: [&str; 4] = ["--name", "run", "--lease-seconds", "2"];

/// Recorded, and of small steps.
const SMALL: [&str; 5] = ["--record", "--model", "softmax", "--digest-every", "10"];

/// The arguments of a small run.
fn small<'a>(command: &'a str, run: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&[command, "--run-dir", run][..], &RUN, &SMALL, args].concat()
}

/// A run that must succeed.
fn run(dir: &Path, args: &[&str]) {
    let ended = ecq(dir, args);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
}

/// The same of a small one.
fn launch(dir: &Path, name: &str, args: &[&str]) {
    run(dir, &small("launch", name, args));
}

fn replay(dir: &Path, args: &[&str]) -> Ended {
    ecq(dir, &[&["replay"], args].concat())
}

/// The result of a replay that must succeed.
fn replayed(dir: &Path, args: &[&str]) -> Value {
    let ended = replay(dir, &[args, &["--json"]].concat());
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("it is JSON")
}

fn summary(dir: &Path, run: &str) -> Value {
    let text = read(dir.join(run).join("summary.json"));
    serde_json::from_str(&text).expect("it is JSON")
}

fn bytes(dir: &Path, file: &str) -> Vec<u8> {
    std::fs::read(dir.join(file)).expect("it is there")
}

/// The first steps of the views of a run.
fn first_steps(dir: &Path, run: &str) -> Vec<u64> {
    let history = read(dir.join(run).join("history.jsonl"));
    let first_step = |line: &str| {
        let view: Value = serde_json::from_str(line).expect("it is JSON");
        view["first_step"].as_u64().expect("it is a number")
    };
    history.lines().map(first_step).collect()
}

/// The complaint of a replay that must end with this code.
fn complaint(ended: &Ended, code: i32) -> &str {
    assert_eq!(ended.code(), Some(code), "{}{}", ended.stdout, ended.stderr);
    ended.complaint()
}

#[test]
fn a_recorded_run_is_made_again_to_the_byte() {
    let dir = directory();
    let dir = dir.path();
    launch(dir, "run", &["-n", "3", "--steps", "65"]);
    let found = replayed(dir, &["run", "--verify", "--out", "model"]);
    let said = summary(dir, "run");
    assert_eq!(found["digest"], said["replica_digest"]);
    assert_eq!(
        (&found["step"], &found["frames"]),
        (&65.into(), &195.into())
    );
    let verified = &found["verified"];
    assert_eq!(verified["digests"], 7, "{verified}");
    assert_eq!(
        (&verified["summary"], &verified["model"]),
        (&true.into(), &true.into())
    );
    assert!(bytes(dir, "model") == bytes(dir, "run/model.safetensors"));
    let again = replay(dir, &["run", "--out", "model"]);
    assert!(complaint(&again, 2).contains("overwrites nothing"));
    // Recording has changed nothing, and who does not ask for it has no log.
    let other = ["launch", "--run-dir", "other", "-n", "3", "--steps", "65"];
    run(dir, &[&other[..], &RUN, &["--model", "softmax"]].concat());
    assert!(bytes(dir, "other/model.safetensors") == bytes(dir, "model"));
    assert!(!names(&dir.join("other")).contains(&"record".to_owned()));
    assert!(complaint(&replay(dir, &["other"]), 6).contains("started with --record"));
    // What the run says of itself must be what the frames make.
    let mut model = bytes(dir, "model");
    *model.last_mut().expect("it has bytes") ^= 1;
    std::fs::write(dir.join("run/model.safetensors"), model).expect("there is room");
    let ended = replay(dir, &["run", "--verify"]);
    assert!(
        complaint(&ended, 4).contains("after step 64, the last, the frames make another model")
    );
}

#[test]
fn any_step_can_be_had() {
    let dir = directory();
    let dir = dir.path();
    let constant = ["-n", "2", "--lr-schedule", "constant"];
    launch(dir, "long", &[&constant[..], &["--steps", "40"]].concat());
    launch(dir, "short", &[&constant[..], &["--steps", "23"]].concat());
    let found = replayed(
        dir,
        &["long", "--verify", "--to-step", "23", "--out", "model"],
    );
    assert_eq!(found["digest"], summary(dir, "short")["replica_digest"]);
    assert!(bytes(dir, "model") == bytes(dir, "short/model.safetensors"));
    let same = replay(dir, &["--diff", "long", "short"]);
    assert_eq!(same.code(), Some(0), "{}", same.stderr);
    assert!(
        same.stdout.starts_with("steps: 40 in A, 23 in B\n"),
        "{}",
        same.stdout
    );
    assert!(
        same.stdout.contains("the same for 23 steps"),
        "{}",
        same.stdout
    );
    let beyond = replay(dir, &["long", "--to-step", "41"]);
    assert!(complaint(&beyond, 2).contains("the run has 40 steps"));
}

/// The process of each node of a launch.
fn nodes(program: &mut Program, number: usize) -> BTreeMap<String, u32> {
    let found = RefCell::new(BTreeMap::new());
    program.until(|line| {
        let mut found = found.borrow_mut();
        found.extend(node(line));
        (found.len() == number).then_some(())
    });
    found.into_inner()
}

/// The rank and the process of a node that says it has started.
fn node(line: &str) -> Option<(String, u32)> {
    let (rank, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let pid = rest.split_once("pid=")?.1.split_whitespace().next()?;
    let is_node = rank.parse::<u32>().is_ok();
    Some((rank.to_owned(), pid.parse().ok()?)).filter(|_| is_node)
}

/// `kill -9` of whoever records, and then of who records after it: no step is missing.
#[test]
fn a_run_whose_rank_0_is_killed_has_a_whole_log() {
    let dir = directory();
    let dir = dir.path();
    let args = ["-n", "3", "--steps", "3000"];
    let mut program = Program::start(dir, &small("launch", "run", &args));
    let nodes = nodes(&mut program, 3);
    for (victim, view) in [("0", 1), ("1", 2)] {
        let records = format!("view-00000{view}.ecqr");
        program.until(|line| line.contains(&records).then_some(()));
        signal(nodes[victim], "KILL");
    }
    let ended = program.finish();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let found = replayed(dir, &["run", "--verify"]);
    assert_eq!(found["step"], 3000);
    assert!(found["views"].as_u64() >= Some(3), "{found}");
    assert_eq!(found["verified"]["model"], true);
    // Without the segment of the first view its steps are missing.
    let second = first_steps(dir, "run")[1];
    std::fs::remove_file(dir.join("run/record/view-000001.ecqr")).expect("it is there");
    let ended = replay(dir, &["run"]);
    // Unless it had made but one: that is in the next segment too.
    if second > 1 {
        let gap = complaint(&ended, 6);
        assert!(gap.contains("view-000002.ecqr, byte "), "{gap}");
        assert!(gap.contains("step 0 is missing"), "{gap}");
    }
}

/// T20, recorded: kills, freezes and departures at random moments.
#[test]
fn whatever_strikes_a_run_its_log_is_whole() {
    let dir = directory();
    let dir = dir.path();
    let args = ["-n", "4", "--steps", "10000"];
    let chaos = ["--chaos", "kill=0.5,freeze=0.3,leave=0.2,seed=3"];
    launch(dir, "run", &[&args[..], &chaos].concat());
    let found = replayed(dir, &["run", "--verify"]);
    assert_eq!(
        (&found["step"], &found["verified"]["model"]),
        (&10_000.into(), &true.into())
    );
}

#[test]
fn where_two_runs_part_is_named() {
    let dir = directory();
    let dir = dir.path();
    let args = ["-n", "2", "--steps", "3000"];
    let mut program = Program::start(dir, &small("launch", "disturbed", &args));
    let pid = program.pid_of("1");
    program.until(|line| line.contains("recording to").then_some(()));
    signal(pid, "KILL");
    assert_eq!(program.finish().code(), Some(0));
    launch(dir, "calm", &["-n", "2", "--steps", "3000"]);
    let ended = replay(dir, &["--diff", "disturbed", "calm"]);
    let step = first_steps(dir, "disturbed")[1];
    let parting = complaint(&ended, 4);
    assert!(
        parting.starts_with(&format!("the runs part at step {step}: fc1.")),
        "{parting}"
    );
    assert!(
        parting.ends_with("only B has a frame of rank 1 for bucket 0"),
        "{parting}"
    );
    assert_eq!(ended.stdout, "", "the configurations are the same");

    launch(
        dir,
        "seeded",
        &["-n", "2", "--steps", "3000", "--seed", "1"],
    );
    let ended = replay(dir, &["--diff", "calm", "seeded", "--json"]);
    let parting = complaint(&ended, 4);
    assert!(
        parting.contains("part at step 0, before it is applied: fc1.weight[0, 0] is "),
        "{parting}"
    );
    let found: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    assert_eq!(found["settings"][0]["key"], "seed");
    assert_eq!(
        (&found["parting"]["step"], &found["equal"]),
        (&0.into(), &false.into())
    );

    let wide = ["launch", "--run-dir", "wide", "--steps", "3", "--record"];
    run(dir, &[&wide[..], &RUN].concat());
    let ended = replay(dir, &["--diff", "calm", "wide"]);
    assert!(complaint(&ended, 2).contains("other tensors"));
}

/// Where the body of the block at `offset` begins and ends, as `node/RECORD.md` says.
fn body(segment: &[u8], offset: usize) -> std::ops::Range<usize> {
    let length = segment[offset + 4..offset + 12]
        .try_into()
        .expect("8 bytes");
    let begin = offset + 16;
    begin..begin + u64::from_le_bytes(length) as usize
}

#[test]
fn a_log_that_is_not_what_was_written_is_refused() {
    let dir = directory();
    let dir = dir.path();
    launch(dir, "run", &["-n", "2", "--steps", "20"]);
    let path = "run/record/view-000001.ecqr";
    let whole = bytes(dir, path);
    let with = |bytes: &[u8]| {
        std::fs::write(dir.join(path), bytes).expect("there is room");
        replay(dir, &["run", "--verify"])
    };

    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle] ^= 0x10;
    let ended = with(&flipped);
    let wrong = complaint(&ended, 6);
    assert!(wrong.contains("view-000001.ecqr, byte "), "{wrong}");
    assert!(wrong.ends_with("checksum"), "{wrong}");

    // A torn end is what a kill leaves; but this run has said how many steps it has made.
    let torn = &whole[..whole.len() - 1];
    let ended = with(torn);
    assert!(ended.stderr.contains("is torn"), "{}", ended.stderr);
    assert!(complaint(&ended, 6).contains("has made 20 steps, and its log ends before step 19"));
    let ended = replay(dir, &["run"]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("step    19 of 20"),
        "{}",
        ended.stdout
    );
    // Nobody has compared what is not there, whichever it is that lacks it.
    launch(dir, "twin", &["-n", "2", "--steps", "20"]);
    for (runs, name) in [(["run", "twin"], "A"), (["twin", "run"], "B")] {
        let ended = replay(dir, &["--diff", runs[0], runs[1]]);
        let found = complaint(&ended, 6);
        let expected = format!("where the log of {name} does, before step 19 of 20");
        assert!(found.contains(&expected), "{found}");
        let same = "the runs are the same for 19 steps";
        assert!(ended.stdout.starts_with(same), "{}", ended.stdout);
        let ended = replay(dir, &["--diff", runs[0], runs[1], "--json"]);
        let found: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
        assert_eq!(
            (&found["equal"], &found["steps"]),
            (&false.into(), &19.into())
        );
        let less = ["--diff", runs[0], runs[1], "--to-step", "19"];
        let ended = replay(dir, &less);
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    }

    // A digest that the frames do not make, with a checksum that is right.
    let mut lying = whole.clone();
    let mut offset = body(&whole, 8).end + 4;
    let digest = loop {
        let body = body(&lying, offset);
        if lying[body.start + 20] == 1 {
            break body;
        }
        offset = body.end + 4;
    };
    lying[digest.start + 21] ^= 1;
    let sum = crc32c::crc32c(&lying[digest.clone()]).to_le_bytes();
    lying[digest.end..digest.end + 4].copy_from_slice(&sum);
    let ended = with(&lying);
    assert!(complaint(&ended, 4).starts_with("at step 9 the run had the digest "));

    std::fs::write(dir.join(path), &whole).expect("there is room");
    launch(dir, "other", &["-n", "2", "--steps", "21"]);
    let (from, to) = (
        dir.join("other/record/view-000001.ecqr"),
        dir.join("run/record/view-000002.ecqr"),
    );
    std::fs::copy(from, to).expect("there is room");
    let ended = replay(dir, &["run"]);
    let foreign = complaint(&ended, 6);
    assert!(
        foreign.contains("view-000002.ecqr does not belong here"),
        "{foreign}"
    );
}

#[test]
fn a_node_that_cannot_record_ends_and_says_why() {
    let dir = directory();
    let dir = dir.path();
    let start = |run| {
        let args = [
            "-n",
            "1",
            "--steps",
            "5",
            "--listen",
            "127.0.0.1:0",
            "--address-file",
            "address",
        ];
        let mut coordinator = Program::start(dir, &small("coordinator", run, &args));
        coordinator.until(|line| line.contains("waiting for nodes: 0 of").then_some(()));
        (coordinator, read(dir.join("address")))
    };
    let (coordinator, address) = start("first");
    std::fs::write(dir.join("taken"), "").expect("there is room");
    let node = ["node", "--coordinator", &address, "--record-dir", "taken"];
    let ended = ecq(dir, &node);
    assert!(
        complaint(&ended, 7).starts_with("cannot record to taken"),
        "{}",
        ended.stderr
    );
    // It was the only one.
    let ended = coordinator.finish();
    assert!(
        ended.complaint().contains("cannot record to taken"),
        "{}",
        ended.stderr
    );

    let (coordinator, address) = start("second");
    let ended = ecq(dir, &["node", "--coordinator", &address]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert_eq!(coordinator.finish().code(), Some(0));
    assert_eq!(names(&dir.join("record/run")), ["view-000001.ecqr"]);
    assert_eq!(replayed(dir, &["record/run", "--verify"])["step"], 5);
}
