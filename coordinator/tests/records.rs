//! What is recorded of a run is all there, in order, and true.

mod nodes;

use std::path::Path;

use ecq_cluster::{Evaluation, Failure, Fingerprint, RunConfig, StepReport, ToCoordinator, ToNode};
use ecq_coordinator::{CoordinatorError, Summary};
use ecq_proto::NodeWords;
use nodes::{FINAL, Node, Running, config, fingerprint, hello};
use prost::Message as _;
use serde_json::Value;

/// A report in which only the loss differs between members and steps.
fn report(step: u64, loss_sum: f64) -> StepReport {
    StepReport {
        step,
        loss_sum,
        correct: 4.0,
        samples: 5,
        frame_bytes: 130,
        socket_bytes: 150,
        gradient_norm_squared: 4.0,
        residual_norm_squared: 9.0,
        input_norm_squared: 8.0,
        error_squared: 2.0,
        nonfinite_groups: 0,
        guarded_frames: 0,
        left_out: 0,
        taken_back: 0,
        compute_seconds: 0.125,
        encode_seconds: 0.0625,
        wait_seconds: 0.03125,
        apply_seconds: 0.03125,
        step_seconds: 0.25,
        elapsed_seconds: 0.25 * step.saturating_add(1) as f64,
    }
}

/// How far the members of a run go.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    Reports,
    Evaluation,
    Nothing,
}

/// Trains both members to the end, leaving something out.
async fn complete(members: &mut [Node], left_out: Left, reports: [Vec<StepReport>; 2]) {
    // The evaluation comes before most of what it follows.
    if left_out != Left::Evaluation {
        let evaluation = Evaluation {
            steps: 2,
            loss: 0.5,
            accuracy: 0.75,
        };
        members[0].words(NodeWords::Evaluation(evaluation)).await;
    }
    if left_out != Left::Reports {
        for (node, reports) in members.iter().zip(reports) {
            node.words(NodeWords::Reports(reports)).await;
        }
    }
    let delivered = members[0].deliver(9, b"the model").await;
    delivered.expect("rank 0 delivers");
    for node in &*members {
        let (steps, digest) = (2, FINAL);
        node.say(ToCoordinator::Finished {
            view: 1,
            steps,
            digest,
        })
        .await;
    }
    for node in members {
        assert_eq!(node.hear().await, Some(ToNode::End));
        assert_eq!(node.hear().await, None, "the session ends with the run");
    }
}

fn usual() -> [Vec<StepReport>; 2] {
    [
        vec![report(0, 10.0), report(1, 8.0)],
        vec![report(1, 12.0), report(0, 20.0)],
    ]
}

/// A whole run of two.
async fn run(reports: [Vec<StepReport>; 2]) -> (Summary, tempfile::TempDir) {
    let running = Running::start(config(2)).await;
    let mut members = running.cluster(2).await;
    complete(&mut members, Left::Nothing, reports).await;
    drop(members);
    let (result, dir) = running.end().await;
    (result.expect("the run completed"), dir)
}

fn lines(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("run/metrics.jsonl")).expect("it is there");
    let json = |line| serde_json::from_str(line).expect("each line is JSON");
    text.lines().map(json).collect()
}

#[tokio::test]
async fn metrics_have_a_line_a_step_and_evaluations_follow_their_steps() {
    let (_, dir) = run(usual()).await;
    let lines = lines(dir.path());
    let of = |key: &str| -> Vec<f64> {
        let values = lines.iter().map(|line| line[key].as_f64());
        values.flatten().collect()
    };
    for (key, expected) in [
        ("step", &[1.0, 2.0, 2.0][..]),
        ("epoch", &[0.5, 1.0]),
        ("train_loss", &[3.0, 2.0]),
        ("train_accuracy", &[0.8, 0.8]),
        ("samples", &[10.0, 10.0]),
        ("bits_per_element", &[1.6, 1.6]),
        ("frame_bytes", &[130.0, 130.0]),
        ("bytes_sent", &[150.0, 150.0]),
        ("bytes_sent_total", &[150.0, 300.0]),
        ("gradient_norm", &[2.0, 2.0]),
        ("residual_norm", &[3.0, 3.0]),
        ("residual_ratio", &[2.25, 2.25]),
        ("omega", &[0.25, 0.25]),
        ("nonfinite_groups", &[0.0, 0.0]),
        ("guarded_frames", &[0.0, 0.0]),
        ("step_seconds", &[0.25, 0.25]),
        ("compute_seconds", &[0.125, 0.125]),
        ("encode_seconds", &[0.0625, 0.0625]),
        ("wait_seconds", &[0.03125, 0.03125]),
        ("apply_seconds", &[0.03125, 0.03125]),
        ("test_loss", &[0.5]),
        ("test_accuracy", &[0.75]),
    ] {
        assert_eq!(of(key), expected, "{key}");
    }
    assert_eq!(of("wall_seconds").len(), 3);
}

#[tokio::test]
async fn what_the_run_waited_for_can_be_asked_afterwards() {
    let (_, dir) = run(usual()).await;
    let db = rusqlite::Connection::open(dir.path().join("run/run.sqlite")).expect("it is there");
    let mut query = db
        .prepare("SELECT step, reason FROM reasons ORDER BY rowid")
        .expect("there is such a table");
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows: Vec<(i64, String)> = rows
        .and_then(Iterator::collect)
        .expect("it has such columns");
    let step_of = |reason: &str| rows.iter().find(|row| row.1 == reason).map(|row| row.0);
    assert_eq!(step_of("waiting for nodes: 0 of 2 have joined"), Some(0));
    assert_eq!(step_of("view 1: 2 members train"), Some(0));
    assert_eq!(step_of("1 of 2 members have finished"), Some(2), "{rows:?}");
}

#[tokio::test]
async fn a_completed_run_leaves_its_files_and_nothing_half_written() {
    let (_, dir) = run(usual()).await;
    let dir = dir.path().join("run");
    let text = std::fs::read_to_string(dir.join("config.toml")).expect("it is there");
    assert_eq!(RunConfig::from_toml(&text).expect("it parses"), config(2));
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .expect("it is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    assert!(names.remove(1).starts_with("events.out.tfevents."));
    let expected = [
        "config.toml",
        "history.jsonl",
        "metrics.jsonl",
        "model.safetensors",
        "run.sqlite",
        "summary.json",
    ];
    assert_eq!(names, expected);
}

/// Counts have no bound on the wire, and losses need not be numbers.
#[tokio::test]
async fn absurd_reports_neither_bring_the_coordinator_down_nor_spoil_its_files() {
    let absurd = |step| StepReport {
        correct: f64::INFINITY,
        samples: u64::MAX,
        frame_bytes: u64::MAX,
        socket_bytes: u64::MAX,
        nonfinite_groups: u64::MAX,
        ..report(step, f64::NAN)
    };
    let reports = || vec![absurd(u64::MAX), absurd(2), absurd(0), absurd(1)];
    let (summary, dir) = run([reports(), reports()]).await;
    assert!(summary.train_loss.is_nan());
    assert_eq!(lines(dir.path())[0]["train_loss"], Value::Null);
    let text = std::fs::read_to_string(dir.path().join("run/summary.json"));
    let text = text.expect("it is there");
    assert!(text.contains("\"train_loss\": null"), "{text}");
    // What is null in the file is not a number to whoever reads it.
    let read: Summary = serde_json::from_str(&text).expect("it can be read");
    assert!(read.train_loss.is_nan());
}

/// What a node that did not stay said of its model is not the run's, and strangers report nothing.
#[tokio::test]
async fn only_members_count() {
    let running = Running::start(config(2)).await;
    let mut passing = running.join(Some(0)).await;
    let other = Fingerprint {
        parameters: 1,
        samples: 1,
        ..fingerprint()
    };
    passing
        .say(ToCoordinator::Prepared {
            fingerprint: other,
            kept: Vec::new(),
        })
        .await;
    let why = Failure::Fault("no data".into());
    passing.say(ToCoordinator::Leave(why)).await;
    passing.hang_up();
    assert_eq!(passing.hear().await, None);

    let mut members = running.cluster(2).await;
    let mut stranger = running.connect().await;
    stranger.say(ToCoordinator::Hello(hello())).await;
    stranger.report(0, 1e9).await;
    let refused = stranger.hear().await;
    assert!(matches!(refused, Some(ToNode::Refused(_))), "{refused:?}");
    drop(stranger);
    complete(&mut members, Left::Nothing, usual()).await;
    drop(members);
    let (result, _dir) = running.end().await;
    let summary = result.expect("the run completed");
    assert_eq!((summary.parameters, summary.bits_per_element), (650, 1.6));
    assert_eq!((summary.epochs, summary.train_loss), (1.0, 2.5));
}

/// A summary of what was not measured would be a lie.
#[tokio::test]
async fn a_run_without_reports_or_evaluation_is_not_a_completed_run() {
    for (left_out, part) in [
        (Left::Reports, "only 0 of 2 steps were reported"),
        (Left::Evaluation, "not evaluated"),
    ] {
        let running = Running::start(config(2)).await;
        let mut members = running.cluster(2).await;
        complete(&mut members, left_out, usual()).await;
        drop(members);
        let (result, dir) = running.end().await;
        let Err(CoordinatorError::Failed(failure)) = result else {
            panic!("{result:?}")
        };
        assert!(failure.to_string().contains(part), "{failure}");
        assert!(!dir.path().join("run/summary.json").exists());
    }
}

/// As TensorFlow's `event.proto` has it.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(message, optional, tag = "5")]
    summary: Option<Scalars>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scalars {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// Reads TFRecords, verifying every checksum.
fn events(mut bytes: &[u8]) -> Vec<Event> {
    let mut take = |count| {
        let (taken, rest) = bytes.split_at_checked(count)?;
        bytes = rest;
        Some(taken)
    };
    let verify = |data: &[u8], check: &[u8]| {
        let turned = crc32c::crc32c(data).rotate_right(15);
        assert_eq!(turned.wrapping_add(0xa282_ead8).to_le_bytes(), check);
    };
    let mut events = Vec::new();
    while let Some(length) = take(8) {
        verify(length, take(4).expect("a length has a checksum"));
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let data = take(length as usize).expect("the record is whole");
        verify(data, take(4).expect("a record has a checksum"));
        events.push(Event::decode(data).expect("a record is an event"));
    }
    events
}

#[tokio::test]
async fn tensorboard_finds_every_scalar_at_its_step() {
    let (_, dir) = run(usual()).await;
    let path = std::fs::read_dir(dir.path().join("run"))
        .expect("it is there")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("/events.out.tfevents."))
        .expect("there is an event file");
    let events = events(&std::fs::read(path).expect("it is readable"));
    assert!(events.iter().all(|event| event.wall_time > 0.0));
    let scalars = |tag: &str| -> Vec<(i64, f32)> {
        let mut found = Vec::new();
        for event in &events {
            let values = event.summary.iter().flat_map(|summary| &summary.value);
            let tagged = values.filter(|value| value.tag == tag);
            found.extend(tagged.map(|value| (event.step, value.simple_value)));
        }
        found
    };
    for (tag, expected) in [
        ("train/loss", &[(1, 3.0), (2, 2.0)][..]),
        ("train/accuracy", &[(1, 0.8), (2, 0.8)]),
        ("train/grad_norm", &[(1, 2.0), (2, 2.0)]),
        ("codec/bits_per_element", &[(1, 1.6), (2, 1.6)]),
        ("codec/omega", &[(1, 0.25), (2, 0.25)]),
        ("codec/residual_norm", &[(1, 3.0), (2, 3.0)]),
        ("comm/bytes_sent", &[(1, 150.0), (2, 150.0)]),
        ("time/step_seconds", &[(1, 0.25), (2, 0.25)]),
        ("test/loss", &[(2, 0.5)]),
        ("test/accuracy", &[(2, 0.75)]),
    ] {
        assert_eq!(scalars(tag), expected, "{tag}");
    }
}
