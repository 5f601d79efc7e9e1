//! Clusters of processes train, leave what they promise, and do the same again from the same seed.

mod harness;

use std::path::Path;

use ecq_nn::data::{self, DataName};
use ecq_nn::optim::{Schedule, Sgd};
use ecq_nn::{Batch, ModelName, Sampler};
use ecq_quant::{CodecSpec, Decoder, Encoder, FrameId, Layout, aggregate};
use harness::{directory, ecq, names, read};
use safetensors::SafeTensors;
use serde_json::Value;

/// Launches a run of 20 steps in `dir/NAME` and returns its summary.
fn launch(dir: &Path, name: &str, args: &[&str]) -> Value {
    let fixed = [
        "launch",
        "--name",
        name,
        "--run-dir",
        name,
        "--steps",
        "20",
        "--json",
    ];
    let ended = ecq(dir, &[&fixed, args].concat());
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("standard output is JSON and nothing else")
}

/// What is known of every step.
const STEP_KEYS: [&str; 12] = [
    "step",
    "epoch",
    "train_loss",
    "train_accuracy",
    "samples",
    "bits_per_element",
    "bytes_sent",
    "bytes_sent_total",
    "gradient_norm",
    "residual_norm",
    "step_seconds",
    "wall_seconds",
];

fn digest(summary: &Value) -> &str {
    summary["replica_digest"]
        .as_str()
        .expect("there is a digest")
}

#[test]
fn a_run_leaves_what_it_promises() {
    let dir = directory();
    let args = ["-n", "2", "--batch-size", "32", "--digest-every", "1"];
    let summary = launch(dir.path(), "run", &args);
    let run = dir.path().join("run");
    let found = names(&run);
    let events = found
        .iter()
        .filter(|name| name.starts_with("events.out.tfevents."))
        .count();
    assert_eq!(events, 1, "{found:?}");
    for name in [
        "config.toml",
        "logs",
        "metrics.jsonl",
        "model.safetensors",
        "summary.json",
    ] {
        assert!(
            found.iter().any(|found| found == name),
            "{name} in {found:?}"
        );
    }
    assert!(
        found.iter().all(|name| !name.ends_with(".partial")),
        "{found:?}"
    );
    let logs = ["coordinator.log", "rank-0.log", "rank-1.log"];
    assert_eq!(names(&run.join("logs")), logs);
    for log in logs {
        assert!(!read(run.join("logs").join(log)).is_empty(), "{log}");
    }
    assert_eq!(
        serde_json::from_str::<Value>(&read(run.join("summary.json"))).ok(),
        Some(summary.clone())
    );
    plausible(&summary);

    let metrics = read(run.join("metrics.jsonl"));
    let lines: Vec<Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let steps: Vec<u64> = lines
        .iter()
        .filter(|line| line.get("train_loss").is_some())
        .filter_map(|line| line["step"].as_u64())
        .collect();
    assert_eq!(steps, (1..=20).collect::<Vec<_>>());
    for line in &lines {
        let keys: &[&str] = if line.get("train_loss").is_some() {
            &STEP_KEYS
        } else {
            &["step", "test_loss", "test_accuracy", "wall_seconds"]
        };
        for key in keys {
            assert!(line[key].is_number(), "{key} in {line}");
        }
    }
    let last = lines.last().expect("there are lines");
    assert_eq!(
        (&last["step"], &last["test_loss"]),
        (&Value::from(20), &summary["test_loss"])
    );

    let model = std::fs::read(run.join("model.safetensors")).expect("it is there");
    let model = SafeTensors::deserialize(&model).expect("it is a safetensors file");
    assert_eq!(
        model.tensor("fc1.weight").expect("it is there").shape(),
        [256, 64]
    );
    assert_eq!(model.tensor("fc3.bias").expect("it is there").shape(), [10]);
}

#[test]
fn the_table_is_on_standard_output_and_nothing_else() {
    let dir = directory();
    let args = ["launch", "-n", "2", "--steps", "3", "--name", "table"];
    let ended = ecq(dir.path(), &args);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let mut table = ended.stdout.lines().map(|line| line.split_once("  "));
    let first = table
        .next()
        .flatten()
        .map(|(key, value)| (key, value.trim()));
    assert_eq!(first, Some(("run", "table")), "{}", ended.stdout);
    let last = table
        .next_back()
        .flatten()
        .map(|(key, value)| (key, value.trim()));
    assert_eq!(
        last,
        Some(("replicas identical", "yes")),
        "{}",
        ended.stdout
    );
    assert!(table.all(|row| row.is_some()), "{}", ended.stdout);
    for child in ["[coordinator] ", "[0] ", "[1] "] {
        let said = ended.stderr.lines().any(|line| line.starts_with(child));
        assert!(said, "{child}: {}", ended.stderr);
    }
    assert_eq!(names(&dir.path().join("runs")), ["table"]);
}

fn plausible(summary: &Value) {
    let number = |key: &str| {
        summary[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{key}: {summary}"))
    };
    for (key, expected) in [("nodes", 2.0), ("steps", 20.0), ("parameters", 50_826.0)] {
        assert_eq!(number(key), expected, "{key}");
    }
    assert!((number("epochs") - 20.0 * 64.0 / 1438.0).abs() < 1e-9);
    for (key, range) in [
        ("test_accuracy", 0.2..=1.0),
        ("test_loss", 0.1..=2.3),
        ("train_loss", 0.1..=2.4),
        ("bits_per_element", 1.0..=2.6),
        ("wall_seconds", 1e-3..=100.0),
        ("median_step_seconds", 1e-4..=10.0),
    ] {
        assert!(range.contains(&number(key)), "{key}: {}", number(key));
    }
    let bits = number("bits_per_element");
    assert!((number("compression_vs_fp32") - 32.0 / bits).abs() < 1e-9);
    // One copy of the contribution crosses the socket, and little else.
    let payload = bits / 8.0 * number("parameters");
    let sent = number("bytes_sent_per_node_per_step");
    assert!(
        (payload..payload * 1.1).contains(&sent),
        "{sent} bytes sent for {payload}"
    );
    assert_eq!(digest(summary).len(), 64);
    assert_eq!(summary["replicas_identical"], Value::Bool(true));
}

#[test]
fn the_seed_decides_and_nothing_else() {
    let dir = directory();
    let run = |name, seed| launch(dir.path(), name, &["-n", "3", "--seed", seed]);
    let (first, again, other) = (run("first", "7"), run("again", "7"), run("other", "8"));
    assert_eq!(digest(&first), digest(&again));
    assert_eq!(first["test_loss"], again["test_loss"]);
    assert_ne!(digest(&first), digest(&other));
}

#[test]
fn every_codec_trains_in_clusters_of_every_size() {
    let dir = directory();
    let codecs = [
        "fp32",
        "fp16",
        "qsgd",
        "ecq:preset=paper",
        "ecq:preset=one-level,coding=pack",
        "deadzone",
        "dither",
        "topk:fraction=0.05,values=two-bit",
        "randomk:fraction=0.5",
        "powersgd",
    ];
    let nodes = ["2", "4", "1", "8", "2", "3", "2", "2", "3", "2"];
    for (i, (codec, nodes)) in codecs.iter().zip(nodes).enumerate() {
        let summary = launch(dir.path(), &i.to_string(), &["-n", nodes, "--codec", codec]);
        let loss = summary["test_loss"].as_f64().expect("there is a loss");
        assert!(loss < 2.2, "{codec} on {nodes} nodes: {loss}");
    }
}

/// T11: a cluster of one is plain SGD with the same codec, to the bit.
#[test]
fn a_cluster_of_one_is_sgd_with_the_codec() {
    let dir = directory();
    let codec = "ecq:levels=2";
    launch(
        dir.path(),
        "alone",
        &["-n", "1", "--seed", "5", "--codec", codec],
    );

    let digits = data::load(DataName::Digits, None).expect("it is embedded");
    let mut model = ModelName::Mlp
        .build(&[256, 128], digits.shape, digits.task)
        .expect("it takes images");
    let mut parameters = model.initialise(5);
    let spec: CodecSpec = codec.parse().expect("it is a codec");
    let layout = Layout::of_shapes(model.tensors().iter().map(|tensor| &tensor.shape));
    let mut encoder = Encoder::new(&spec, &layout, 5);
    let mut decoder = Decoder::new(&spec, &layout, 5);
    let mut sgd = Sgd::new(0.9, parameters.len());
    let mut sampler = Sampler::new(5, digits.train.len());
    let (mut indices, mut batch, mut frame) = (Vec::new(), Batch::default(), Vec::new());
    let mut gradient = vec![0.0; parameters.len()];
    let all = 0..parameters.len();
    for step in 0..20 {
        sampler.indices(step * 64, 64, &mut indices);
        digits.train.gather(&indices, &mut batch);
        model.loss_and_gradient(&parameters, &batch, &mut gradient);
        let id = FrameId {
            step,
            rank: 0,
            bucket: 0,
        };
        encoder.encode(id, 64, all.clone(), &gradient, &mut frame);
        aggregate(&mut decoder, &[(id, &frame)], all.clone(), &mut gradient).expect("it decodes");
        sgd.apply(
            Schedule::Linear.at(0.1, step, 20),
            &gradient,
            &mut parameters,
        );
    }

    let file = std::fs::read(dir.path().join("alone/model.safetensors")).expect("it is there");
    let file = SafeTensors::deserialize(&file).expect("it is a safetensors file");
    let mut rest = &parameters[..];
    for tensor in model.tensors() {
        let (expected, after) = rest.split_at(tensor.shape.iter().product());
        let found = file.tensor(&tensor.name).expect("it is there");
        let expected: Vec<u8> = expected
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert!(found.data() == expected, "{} differs", tensor.name);
        rest = after;
    }
}

#[test]
fn the_environment_counts_and_flags_outweigh_it() {
    let dir = directory();
    let args = [
        "launch",
        "--steps",
        "5",
        "-n",
        "1",
        "--run-dir",
        "run",
        "--json",
    ];
    let variables = [
        ("ECQ_NODES", "3"),
        ("ECQ_SEED", "9"),
        ("ECQ_CODEC", "fp16"),
        ("ECQ_BATCH_SIZE", ""),
        // A length in a flag outweighs another kind of length here.
        ("ECQ_EPOCHS", "2"),
        // What batch systems and services leave behind is no business of a launcher's children.
        ("RANK", "77"),
        ("RUN_ID", "another"),
        ("WORLD_SIZE", "many"),
        ("MASTER_PORT", "tcp://10.0.0.1:7070"),
        ("ECQ_ADVERTISE", "10.0.0.1"),
    ];
    let ended = harness::Program::start_with(dir.path(), &args, &variables).finish();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let summary: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    for (key, expected) in [("nodes", 1), ("seed", 9), ("steps", 5)] {
        assert_eq!(summary[key], expected, "{key}");
    }
    assert_eq!(summary["codec"], "fp16");
}
