//! T19: a node that computes for longer than its lease is not a node that is lost.

mod harness;

use harness::{directory, ecq};
use serde_json::Value;

#[test]
fn a_step_longer_than_the_lease_costs_nothing() {
    let dir = directory();
    // Both nodes keep both cores busy for much longer than the lease in each step.
    let args = [
        "launch",
        "-n",
        "2",
        "--run-dir",
        "run",
        "--steps",
        "2",
        "--json",
    ];
    let load = [
        "--batch-size",
        "120000",
        "--hidden",
        "512",
        "--lease-seconds",
        "0.5",
    ];
    let ended = ecq(dir.path(), &[&args[..], &load].concat());
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let summary: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    let step = summary["median_step_seconds"]
        .as_f64()
        .expect("it was measured");
    // Not a statement about speed: a step shorter than the lease would prove nothing.
    assert!(
        step > 0.5,
        "the load is too light to prove anything: {step} s a step"
    );
}
