//! An experiment runs its grid on real clusters and writes its report.

mod harness;

use harness::{directory, ecq, names, read};

const SPEC: &str = "title = 'Two codecs'\ncodecs = ['fp32', 'ecq']\nseeds = [1, 2]\n\
                    [run]\nnodes = 2\nsteps = 12\n";

#[test]
fn a_grid_becomes_a_table_and_a_plot() {
    let dir = directory();
    std::fs::write(dir.path().join("two.toml"), SPEC).expect("it is writable");
    let ended = ecq(dir.path(), &["experiment", "run", "two.toml"]);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let out = dir.path().join("two");
    assert_eq!(names(&out), ["loss.svg", "results.json", "table.md"]);
    let table = read(out.join("table.md"));
    assert!(
        table.contains("# Two codecs") && table.contains("| `fp32` | 32.0"),
        "{table}"
    );
    assert!(
        table.contains("| `ecq` | ") && !table.contains("failed"),
        "{table}"
    );
    let plot = read(out.join("loss.svg"));
    assert_eq!(
        plot.matches("class=\"band\"").count(),
        4,
        "two codecs in two panels"
    );
    let results: serde_json::Value =
        serde_json::from_str(&read(out.join("results.json"))).expect("it is JSON");
    let cells = results.as_array().expect("it is a list");
    assert_eq!(cells.len(), 4);
    assert!(
        cells
            .iter()
            .all(|cell| cell["curve"].as_array().is_some_and(|c| c.len() == 12))
    );
}

#[test]
fn a_run_that_fails_stands_in_the_table() {
    let dir = directory();
    let spec = SPEC.replace("'ecq'", "'ecq:norm=l2,levels=1,alpha=1,beta=1'") + "lr = 5.0\n";
    let spec = spec
        .replace("steps = 12", "steps = 200")
        .replace("[1, 2]", "[1]");
    std::fs::write(dir.path().join("two.toml"), spec).expect("it is writable");
    let ended = ecq(
        dir.path(),
        &["experiment", "run", "two.toml", "--out", "out"],
    );
    assert_eq!(ended.code(), Some(4), "{}", ended.stderr);
    let table = read(dir.path().join("out/table.md"));
    assert!(
        table.contains("seed 1 failed") && table.contains("diverged"),
        "{table}"
    );
}

/// Runs an experiment with this file, called `two.toml`, and expects it to be refused with nothing
/// but the file left.
fn refused(spec: &str, variables: &[(&str, &str)], code: i32, part: &str) {
    let dir = directory();
    std::fs::write(dir.path().join("two.toml"), spec).expect("it is writable");
    let args = ["experiment", "run", "two.toml"];
    let ended = harness::Program::start_with(dir.path(), &args, variables).finish();
    assert_eq!(ended.code(), Some(code), "{spec}: {}", ended.stderr);
    assert!(ended.stderr.contains(part), "{spec}: {}", ended.stderr);
    assert_eq!(names(dir.path()), ["two.toml"], "{spec}");
}

#[test]
fn mistakes_leave_nothing_behind() {
    let more = |line: &str| format!("{SPEC}{line}");
    for (spec, code, part) in [
        (SPEC.replace("'ecq'", "'zip'"), 2, "unknown codec \"zip\""),
        (more("node = 3"), 2, "unknown field `node`"),
        (more("data = 'cifar'"), 2, "digits, mnist, fashion-mnist"),
        (more("lr = -1.0"), 2, "lr = -1"),
        (more("data = 'mnist'"), 6, "ECQ_DATA_DIR"),
    ] {
        refused(&spec, &[], code, part);
    }
    let nowhere = [("ECQ_DATA_DIR", "/nowhere")];
    refused(&more("data = 'mnist'"), &nowhere, 6, "/nowhere");
    let ended = ecq(directory().path(), &["experiment", "run", "two.toml"]);
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    assert!(ended.complaint().contains("cannot read two.toml"));
}

#[test]
fn results_are_not_written_where_they_cannot_or_must_not() {
    let dir = directory();
    std::fs::write(dir.path().join("two.toml"), SPEC).expect("it is writable");
    let run = |out| ecq(dir.path(), &["experiment", "run", "two.toml", "--out", out]);
    let ended = run("two.toml/out");
    assert_eq!(ended.code(), Some(7), "{}", ended.stderr);
    assert!(ended.complaint().contains("cannot make two.toml/out/runs"));
    std::fs::create_dir_all(dir.path().join("kept/runs")).expect("it is writable");
    let ended = run("kept");
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    assert!(ended.complaint().contains("overwrites nothing"));
}
