//! A replica that is no longer like the others, because its machine's memory is bad.

mod harness;

use ecq_nn::ModelName;
use ecq_nn::data::{self, DataName};
use harness::{Cluster, Program, flip, read};
use serde_json::{Value, json};

/// The bytes with which tensor `name` of the model begins at step 0.
fn beginning_of(name: &str) -> Vec<u8> {
    let digits = data::load(DataName::Digits, None).expect("it is embedded");
    let model = ModelName::Mlp
        .build(&[8], digits.shape, digits.task)
        .expect("it takes images");
    let parameters = model.initialise(0);
    let mut position = 0;
    for tensor in model.tensors() {
        if tensor.name == name {
            let values = &parameters[position..position + 8];
            return values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
        }
        position += tensor.shape.iter().product::<usize>();
    }
    panic!("the model has no {name}");
}

/// It is found out by its digest, named with the step and the tensor, and comes back with the replica of the
/// majority.
#[test]
fn a_replica_that_differs_is_named_and_repaired() {
    let mut cluster = Cluster::start(&[
        "-n",
        "3",
        // The others wait for it, so that it is not too late to come back.
        "--min-nodes",
        "3",
        "--hidden",
        "8",
        "--run-dir",
        "run",
        "--digest-every",
        "5",
        "--steps",
        "500",
    ]);
    let mut spoilt = cluster.node(&[]);
    spoilt.until(|line| line.contains("waiting for the other nodes").then_some(()));
    spoilt.signal("STOP");
    // The exponent of one weight.
    let places = flip(spoilt.pid(), &beginning_of("fc2.weight"), 4 * 3 + 3);
    assert!(places > 0, "its replica is in its memory");
    spoilt.signal("CONT");
    let mut nodes: Vec<Program> = (0..2).map(|_| cluster.node(&[])).collect();
    spoilt.until(|line| line.contains("trying to come back").then_some(()));
    nodes.push(spoilt);
    let ended = cluster.finish();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    for part in [
        "replicas differ in a tensor step=4 tensor=\"fc2.weight\" ranks=[0] tensors=1",
        "replicas differ after step 4: rank 0 holds",
    ] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    let found: Vec<Value> = read(cluster.run().join("differences.jsonl"))
        .lines()
        .map(|line| serde_json::from_str(line).expect("it is JSON"))
        .collect();
    let expected = json!({ "step": 4, "tensor": "fc2.weight", "ranks": [0], "nodes": [1] });
    assert_eq!(found, [expected]);
    for node in nodes {
        let ended = node.finish();
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    }
}
