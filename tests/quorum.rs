//! Late members: steps go on without them, replicas stay the same, and no gradient is lost. A run is made again
//! from who was late, by a single process that holds everybody's residual: had one contribution not gone back
//! to its owner's residual, or twice, no later frame of it would be the same.

mod harness;

use std::collections::BTreeSet;
use std::path::Path;

use ecq_cluster::LEFT_OUT_MAX;
use ecq_nn::data::{self, DataName};
use ecq_nn::optim::{Schedule, Sgd};
use ecq_nn::{ModelName, Sampler};
use ecq_quant::{CodecSpec, Decoder, Encoder, FrameId, Layout, aggregate};
use harness::{Program, directory, is_proved, read, signal};
use safetensors::SafeTensors;
use serde_json::Value;

const NODES: u32 = 3;
const STEPS: u64 = 3000;

/// A step as the log has it, and whether whoever was late had computed something.
#[derive(Debug)]
struct Step {
    ranks: BTreeSet<u32>,
    taken_back: bool,
}

/// The steps of a recorded run of one view.
fn steps(run: &Path) -> Vec<Step> {
    let log = std::fs::read(run.join("record/view-000001.ecqr")).expect("it is recorded");
    let number = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().expect("four bytes"));
    let metrics = read(run.join("metrics.jsonl"));
    let metrics = metrics
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).expect("JSON") });
    let mut metrics = metrics.filter(|line| line.get("train_loss").is_some());
    let (mut steps, mut at) = (Vec::new(), 8);
    while at < log.len() {
        let body = at + 16;
        if log[at..at + 4] == *b"STEP" {
            let frames = body + 20 + if log[body + 20] == 0 { 1 } else { 33 };
            let mut frame = frames + 4;
            let mut ranks = BTreeSet::new();
            for _ in 0..number(frames) {
                ranks.insert(number(frame));
                frame += 12 + number(frame + 8) as usize;
            }
            let line = metrics.next().expect("every step is reported");
            let left_out = NODES as usize - ranks.len();
            assert_eq!(line["left_out"], left_out, "{line}");
            let taken_back = line["taken_back"].as_u64() == Some(1);
            steps.push(Step { ranks, taken_back });
        }
        at = body + number(at + 4) as usize + 4;
    }
    steps
}

/// Trains as the log says.
fn train(steps: &[Step]) -> Vec<f32> {
    let digits = data::load(DataName::Digits, None).expect("it is embedded");
    let mut model = ModelName::Softmax
        .build(&[], digits.shape, digits.task)
        .expect("it takes images");
    let mut parameters = model.initialise(0);
    let spec: CodecSpec = "ecq".parse().expect("it is a codec");
    let layout = Layout::of_shapes(model.tensors().iter().map(|tensor| &tensor.shape));
    let all = 0..parameters.len();
    let mut encoders: Vec<Encoder> = (0..NODES)
        .map(|_| Encoder::new(&spec, &layout, 0))
        .collect();
    let mut decoder = Decoder::new(&spec, &layout, 0);
    let mut sgd = Sgd::new(0.9, parameters.len());
    let mut sampler = Sampler::new(0, digits.train.len());
    let (mut indices, mut batch) = (Vec::new(), ecq_nn::Batch::default());
    let mut gradient = vec![0.0; parameters.len()];
    for (step, made) in (0..).zip(steps) {
        let mut frames = Vec::new();
        for (rank, encoder) in (0..).zip(&mut encoders) {
            let part = made.ranks.contains(&rank);
            if !part && !made.taken_back {
                continue;
            }
            let position = (step * u64::from(NODES) + u64::from(rank)) * 64;
            sampler.indices(position, 64, &mut indices);
            digits.train.gather(&indices, &mut batch);
            model.loss_and_gradient(&parameters, &batch, &mut gradient);
            let id = FrameId {
                step,
                rank,
                bucket: 0,
            };
            let mut frame = Vec::new();
            encoder.encode(id, 64, all.clone(), &gradient, &mut frame);
            if part {
                frames.push((id, frame));
            } else {
                let done = encoder.take_back(|residual| {
                    decoder.accumulate(&frame, id, all.clone(), 1.0, residual)
                });
                done.expect("it is its own");
            }
        }
        let frames: Vec<(FrameId, &[u8])> = frames.iter().map(|(id, f)| (*id, &f[..])).collect();
        aggregate(&mut decoder, &frames, all.clone(), &mut gradient).expect("they decode");
        let lr = Schedule::Linear.at(0.1, step, steps.len() as u64);
        sgd.apply(lr, &gradient, &mut parameters);
    }
    parameters
}

fn model(run: &Path) -> Vec<u8> {
    let file = std::fs::read(run.join("model.safetensors")).expect("it is there");
    let file = SafeTensors::deserialize(&file).expect("it is a safetensors file");
    let tensor = |name: &str| file.tensor(name).expect("the model has it").data().to_vec();
    let mut names: Vec<&str> = file.names().into_iter().collect();
    names.sort_unstable_by(|a, b| b.cmp(a)); // `bias` after `weight`, as the model has them.
    names.into_iter().flat_map(tensor).collect()
}

fn launch(dir: &Path, wait: &str) -> Program {
    let steps = STEPS.to_string();
    let run = [
        "launch",
        "-n",
        "3",
        "--model",
        "softmax",
        "--steps",
        &steps,
        "--run-dir",
        "run",
    ];
    let late = [
        "--quorum",
        "2",
        "--quorum-wait",
        wait,
        "--lease-seconds",
        "60",
        "--record",
    ];
    Program::start(dir, &[&run[..], &late].concat())
}

/// The run has completed, and is what its log makes; returns its steps.
fn is_its_log(dir: &Path, program: Program) -> Vec<Step> {
    let ended = program.finish();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    for part in ["replicas identical    yes", "left out"] {
        assert!(ended.stdout.contains(part), "{}", ended.stdout);
    }
    let run = dir.join("run");
    is_proved(dir);
    let steps = steps(&run);
    assert_eq!(steps.len() as u64, STEPS);
    let fewest = steps.iter().map(|step| step.ranks.len()).min();
    assert_eq!(fewest, Some(2), "the quorum, and never fewer");
    let expected = train(&steps);
    let expected: Vec<u8> = expected
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    assert!(model(&run) == expected, "it is not what its log makes");
    steps
}

/// The step that goes on without rank 2, where a line says so.
fn left_out_of(line: &str) -> Option<u64> {
    let step = line.strip_suffix(" goes on without rank 2")?;
    step.rsplit_once("step ")?.1.parse().ok()
}

/// The others make all the steps that may leave it out while a node stands still, each time.
#[test]
fn a_node_that_is_stopped_again_and_again_does_not_hold_up_the_others() {
    let dir = directory();
    let mut program = launch(dir.path(), "0.02");
    let pid = program.pid_of("2");
    // The first step leaves out nobody.
    let made = |line: &str| line.starts_with("step ") && !line.starts_with("step 0/");
    program.until(|line| made(line).then_some(()));
    for _ in 0..3 {
        signal(pid, "STOP");
        // So many in a row: what was late before does not count.
        let (mut last, mut count) = (0, 0);
        while count < LEFT_OUT_MAX {
            let step = program.until(left_out_of);
            count = if step == last + 1 { count + 1 } else { 1 };
            last = step;
        }
        signal(pid, "CONT");
        program.until(|line| line.contains("is made by all again").then_some(()));
    }
    is_its_log(dir.path(), program);
}

/// Without patience somebody is late in most steps, rank 0 too, and often after it has computed all there is to
/// compute: all of that comes back with a later contribution.
#[test]
fn what_comes_too_late_is_not_lost() {
    let dir = directory();
    let steps = is_its_log(dir.path(), launch(dir.path(), "0"));
    for rank in 0..NODES {
        let late = |step: &&Step| !step.ranks.contains(&rank) && step.taken_back;
        let count = steps.iter().filter(late).count();
        assert!(count > 0, "rank {rank} has never been late");
    }
}
