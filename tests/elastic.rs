//! Members come and go while training goes on, and what comes out is a function of the seed and of the
//! history of views: each run is computed again, from its history, by a single process.

mod harness;

use std::collections::BTreeMap;
use std::path::Path;

use ecq_nn::data::{self, DataName};
use ecq_nn::optim::{Schedule, Sgd};
use ecq_nn::{Batch, ModelName, Sampler};
use ecq_quant::{CodecSpec, Decoder, Encoder, FrameId, Layout, aggregate};
use harness::{
    Cluster, Ended, Program, Residual, View, directory, end_well, read, residuals, signal, views,
};
use safetensors::SafeTensors;

/// Small steps, so that much happens in little time, and leases that end soon.
const RUN: [&str; 8] = [
    "--model",
    "softmax",
    "--run-dir",
    "run",
    "--lease-seconds",
    "2",
    "--digest-every",
    "100",
];

/// What `node` begins with: what another had when it was left out, if it goes on with that.
fn inherited(encoders: &BTreeMap<u64, Encoder>, said: &[Residual], heir: u64) -> Option<Encoder> {
    let of = said.iter().find_map(|residual| match residual {
        Residual::Kept { node, by } if *by == heir => Some(*node),
        _ => None,
    })?;
    let encoder = encoders.get(&of).cloned();
    encoder.or_else(|| inherited(encoders, said, of))
}

/// Trains as the history says, with the batch that a view of so many members takes a step.
fn replay(views: &[View], steps: u64, global_batch: Option<u64>) -> Vec<f32> {
    let digits = data::load(DataName::Digits, None).expect("it is embedded");
    let mut model = ModelName::Softmax
        .build(&[], digits.shape, digits.task)
        .expect("it takes images");
    let mut parameters = model.initialise(0);
    let spec: CodecSpec = "ecq".parse().expect("it is a codec");
    let layout = Layout::of_shapes(model.tensors().iter().map(|tensor| &tensor.shape));
    let all = 0..parameters.len();
    let mut encoders: BTreeMap<u64, Encoder> = BTreeMap::new();
    let said = residuals(views);
    let mut decoder = Decoder::new(&spec, &layout, 0);
    let mut sgd = Sgd::new(0.9, parameters.len());
    let mut sampler = Sampler::new(0, digits.train.len());
    let (mut indices, mut batch) = (Vec::new(), Batch::default());
    let mut gradient = vec![0.0; parameters.len()];
    let mut consumed = 0;
    for step in 0..steps {
        let view = views.iter().rev().find(|view| view.first_step <= step);
        let nodes = &view.expect("the first view makes step 0").nodes;
        let members = nodes.len() as u64;
        let mut frames = Vec::new();
        for (rank, node) in (0..).zip(nodes) {
            let share = global_batch.map_or(64, |batch| {
                batch / members + u64::from(u64::from(rank) < batch % members)
            });
            sampler.indices(consumed, share as usize, &mut indices);
            consumed += share;
            digits.train.gather(&indices, &mut batch);
            model.loss_and_gradient(&parameters, &batch, &mut gradient);
            let id = FrameId {
                step,
                rank,
                bucket: 0,
            };
            let mut frame = Vec::new();
            if !encoders.contains_key(node) {
                let fresh = || Encoder::new(&spec, &layout, 0);
                let encoder = inherited(&encoders, &said, *node).unwrap_or_else(fresh);
                encoders.insert(*node, encoder);
            }
            let encoder = encoders.get_mut(node).expect("it is there");
            let flush = Residual::Flushed { node: *node, step };
            let encode = if said.contains(&flush) {
                Encoder::flush
            } else {
                Encoder::encode
            };
            let (share, all) = (share as u32, all.clone());
            encode(encoder, id, share, all, &gradient, &mut frame);
            frames.push((id, frame));
        }
        let frames: Vec<(FrameId, &[u8])> = frames.iter().map(|(id, f)| (*id, &f[..])).collect();
        aggregate(&mut decoder, &frames, all.clone(), &mut gradient).expect("they decode");
        let lr = Schedule::Linear.at(0.1, step, steps);
        sgd.apply(lr, &gradient, &mut parameters);
    }
    parameters
}

/// The run has completed, through at least so many views, and its model is what its history makes.
fn is_its_history(
    ended: &Ended,
    dir: &Path,
    views_min: usize,
    steps: u64,
    batch: Option<u64>,
) -> Vec<Residual> {
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("replicas identical    yes"),
        "{}",
        ended.stdout
    );
    let history = views(&dir.join("run"));
    assert!(history.len() >= views_min, "{history:?}");
    let expected = replay(&history, steps, batch);
    let file = std::fs::read(dir.join("run/model.safetensors")).expect("it is there");
    let file = SafeTensors::deserialize(&file).expect("it is a safetensors file");
    let mut found = BTreeMap::new();
    for (name, tensor) in file.tensors() {
        found.insert(name, tensor.data().to_vec());
    }
    // `bias` after `weight`, as the model has them.
    let found: Vec<u8> = found.into_values().rev().flatten().collect();
    let expected: Vec<u8> = expected
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    assert!(found == expected, "not what {history:?} makes");
    let lines = read(dir.join("run/metrics.jsonl"));
    let steps_reported = lines
        .lines()
        .filter(|line| line.contains("train_loss"))
        .count();
    assert_eq!(steps_reported as u64, steps, "every step once");
    residuals(&history)
}

/// `kill -9` of each rank: the others go on, and the launcher says so.
#[test]
fn whoever_is_killed_the_others_go_on() {
    for victim in ["0", "1", "2"] {
        let dir = directory();
        let args = [&["launch", "-n", "3", "--steps", "3000"][..], &RUN].concat();
        let mut program = Program::start(dir.path(), &args);
        let pid = program.pid_of(victim);
        // Before the first step there is no residual to lose.
        let made = |line: &str| line.starts_with("step ") && !line.starts_with("step 0/");
        program.until(|line| made(line).then_some(()));
        signal(pid, "KILL");
        let ended = program.finish();
        let said = format!("rank {victim} was killed by signal 9; the others go on without it");
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
        let residuals = is_its_history(&ended, dir.path(), 2, 3000, None);
        let lost = |it: &Residual| matches!(it, Residual::Lost { .. });
        assert!(residuals.iter().any(lost), "{residuals:?}");
        assert!(ended.stdout.contains("residuals lost"), "{}", ended.stdout);
    }
}

/// T20: kills, freezes and departures at random moments, and whoever ends is started again.
#[test]
fn whatever_strikes_a_run_comes_through() {
    let dir = directory();
    let chaos = ["--chaos", "kill=0.4,freeze=0.2,leave=0.2,seed=5"];
    let launch = [
        "launch",
        "-n",
        "4",
        "--steps",
        "15000",
        "--global-batch",
        "64",
    ];
    let ended = harness::ecq(dir.path(), &[&launch[..], &RUN, &chaos].concat());
    assert!(ended.stderr.contains("chaos: "), "{}", ended.stderr);
    is_its_history(&ended, dir.path(), 2, 15_000, Some(64));
}

fn cluster(args: &[&str]) -> Cluster {
    Cluster::start(&[&RUN, args].concat())
}

/// T12: a node that comes back takes a member's replica and trains on with the others.
#[test]
fn who_comes_back_trains_on_with_the_others() {
    let args = [
        "-n",
        "3",
        "--steps",
        "20000",
        "--global-batch",
        "100",
        "--record",
    ];
    let mut cluster = cluster(&args);
    let mut nodes = cluster.recorders(3);
    nodes.remove(1).signal("KILL");
    cluster.until("2 members train");
    nodes.push(cluster.recorder(&[]));
    cluster.until("3 members train");
    // And one that leaves in order, with a last contribution that keeps nothing back.
    let leaver = nodes.remove(0);
    leaver.signal("TERM");
    let left = leaver.finish();
    assert_eq!(left.code(), Some(143));
    assert!(
        left.stderr.contains("left with nothing kept back"),
        "{}",
        left.stderr
    );
    let ended = cluster.finish();
    assert!(ended.stderr.contains("told to stop"), "{}", ended.stderr);
    let residuals = is_its_history(&ended, cluster.dir(), 4, 20_000, Some(100));
    let flushed = residuals.iter().filter_map(|it| match it {
        Residual::Flushed { step, .. } => Some(*step),
        _ => None,
    });
    assert!(
        matches!(flushed.collect::<Vec<_>>()[..], [step] if step > 0),
        "{residuals:?}"
    );
    // The frames alone make the same, those of the last contribution among them.
    cluster.is_proved();
    end_well(nodes);
}

/// T13: a node that stands still longer than its lease is left out, and welcomed back. The other waits
/// for it, so that it is not too late for that.
#[test]
fn who_was_frozen_comes_back_by_itself() {
    let counts = ["-n", "2", "--min-nodes", "2", "--steps", "5000"];
    let mut cluster = cluster(&[&counts[..], &["--checkpoint-every", "100"]].concat());
    let mut nodes: Vec<Program> = (0..2).map(|_| cluster.node(&[])).collect();
    // There is a residual to lose.
    nodes[1].until(|line| line.contains("kept a checkpoint").then_some(()));
    nodes[1].signal("STOP");
    cluster.until("1 of at least 2 are there");
    nodes[1].signal("CONT");
    nodes[1].until(|line| line.contains("trying to come back").then_some(()));
    cluster.until("2 members train");
    let ended = cluster.finish();
    let residuals = is_its_history(&ended, cluster.dir(), 3, 5000, None);
    // What seemed lost is there again. (On a busy machine others may have been left out, too.)
    let is_kept = |node: u64| {
        let kept = |it: &Residual| matches!(it, Residual::Kept { node: of, .. } if *of == node);
        residuals.iter().any(kept)
    };
    let lost = residuals.iter().find_map(|it| match it {
        Residual::Lost { node } => Some(*node),
        _ => None,
    });
    assert!(lost.is_some_and(is_kept), "{residuals:?}");
    end_well(nodes);
}

#[test]
fn below_the_least_number_of_nodes_the_run_waits() {
    let mut cluster = cluster(&["-n", "2", "--min-nodes", "2", "--steps", "2000"]);
    let mut nodes: Vec<Program> = (0..2).map(|_| cluster.node(&[])).collect();
    cluster.until("view 1: 2 members train");
    nodes.remove(0).signal("KILL");
    cluster.until("waiting for nodes, 1 of at least 2 are there");
    nodes.push(cluster.node(&[]));
    cluster.until("2 members train");
    let ended = cluster.finish();
    is_its_history(&ended, cluster.dir(), 3, 2000, None);
    end_well(nodes);
}

/// Who is started again before it is missed finds its own seat taken, and waits for it.
#[test]
fn a_seat_is_waited_for() {
    let mut cluster = cluster(&["-n", "2", "--min-nodes", "2", "--steps", "2000"]);
    let mut nodes: Vec<Program> = (0..2).map(|_| cluster.node(&[])).collect();
    cluster.until("view 1: 2 members train");
    let frozen = nodes.remove(0);
    frozen.signal("STOP");
    let mut another = cluster.node(&[]);
    another.until(|line| line.contains("has its 2 nodes").then_some(()));
    frozen.signal("KILL");
    let ended = cluster.finish();
    is_its_history(&ended, cluster.dir(), 3, 2000, None);
    // However often it has asked, each says so once.
    let waited = another.finish();
    assert_eq!(waited.code(), Some(0), "{}", waited.stderr);
    let count = |text: &str, part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(
        count(&waited.stderr, "trying again"),
        1,
        "{}",
        waited.stderr
    );
    assert_eq!(count(&ended.stderr, "refused: "), 1, "{}", ended.stderr);
    end_well(nodes);
    // One that never gets a seat says so in the end.
    let full = Cluster::start(&["-n", "1", "--steps", "100000000", "--run-dir", "full"]);
    let mut node = full.node(&[]);
    node.until(|line| line.contains("training as rank 0").then_some(()));
    let ended = full.node(&["--connect-timeout", "2"]).finish();
    assert_eq!(ended.code(), Some(3), "{}", ended.stderr);
    let complaint = ended.complaint();
    assert!(complaint.contains("already has its 1 nodes"), "{complaint}");
}

#[test]
fn a_run_whose_last_node_is_lost_fails_and_says_why() {
    let mut cluster = cluster(&["-n", "1", "--steps", "100000000"]);
    let node = cluster.node(&[]);
    cluster.until("view 1: 1 members train");
    node.signal("KILL");
    let ended = cluster.finish();
    assert_eq!(ended.code(), Some(5), "{}", ended.stderr);
    assert!(
        ended.complaint().contains("rank 0 is lost"),
        "{}",
        ended.stderr
    );
}
