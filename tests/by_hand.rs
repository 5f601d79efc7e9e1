//! Coordinator and nodes started by hand, ports chosen by the system (T14).

mod harness;

use std::path::Path;

use harness::{Program, directory, read};

/// Starts a coordinator; returns it with its address.
fn coordinator(dir: &Path, args: &[&str]) -> (Program, String) {
    let fixed = [
        "coordinator",
        "--listen",
        "127.0.0.1:0",
        "--name",
        "hand",
        "--run-dir",
        "run",
    ];
    let file = ["--address-file", "address"];
    let mut program = Program::start(dir, &[&fixed[..], &file, args].concat());
    // The file is written before the machine says what it waits for.
    program.until(|line| line.contains("waiting for nodes: 0 of").then_some(()));
    (program, read(dir.join("address")))
}

#[test]
fn nodes_join_take_ranks_and_train() {
    let dir = directory();
    let (coordinator, address) = coordinator(dir.path(), &["-n", "3", "--steps", "20"]);
    let (host, port) = address.split_once(':').expect("host and port");
    let by_flag = [
        "node",
        "--coordinator",
        &address,
        "--rank",
        "2",
        "--run",
        "hand",
    ];
    let asked = Program::start(dir.path(), &by_flag);
    let variables = [("MASTER_ADDR", host), ("MASTER_PORT", port), ("RANK", "0")];
    let by_variables = Program::start_with(dir.path(), &["node"], &variables);
    let any = Program::start(dir.path(), &["node", "--coordinator", &address]);
    for (rank, node) in [(2, asked), (0, by_variables), (1, any)] {
        let ended = node.finish();
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(&format!("training as rank {rank}")),
            "{}",
            ended.stderr
        );
    }
    let ended = coordinator.finish();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(
        ended
            .stdout
            .starts_with(&format!("listening on {address}\n")),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("replicas identical"),
        "{}",
        ended.stdout
    );
}

#[test]
fn who_does_not_fit_is_refused_and_the_run_goes_on() {
    let dir = directory();
    let (coordinator, address) = coordinator(dir.path(), &["-n", "2", "--steps", "5"]);
    let mut first = Program::start(
        dir.path(),
        &["node", "--coordinator", &address, "--rank", "1"],
    );
    first.until(|line| line.contains("waiting for the other nodes").then_some(()));
    for (args, part) in [
        (["--run", "elsewhere"], "this coordinator runs \"hand\""),
        (["--rank", "1"], "rank 1 is taken"),
        (["--rank", "7"], "rank 7 does not exist"),
    ] {
        // Ranks that are taken may become free: so long it is tried.
        let node = ["node", "--coordinator", &address, "--connect-timeout", "2"];
        let args = [&node[..], &args].concat();
        let ended = harness::ecq(dir.path(), &args);
        assert_eq!(ended.code(), Some(3), "{}", ended.stderr);
        assert!(ended.complaint().contains(part), "{}", ended.stderr);
    }
    let second = Program::start(dir.path(), &["node", "--coordinator", &address]);
    for program in [second, first, coordinator] {
        let ended = program.finish();
        assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    }
}

/// Writes a data set in MNIST's files: two blank images to learn from and two to test with.
fn write_blank_mnist(dir: &Path) {
    for part in ["train", "t10k"] {
        let write = |kind: &str, header: &[u32], length: usize| {
            let mut bytes: Vec<u8> = header.iter().flat_map(|n| n.to_be_bytes()).collect();
            bytes.resize(bytes.len() + length, 0);
            std::fs::write(dir.join(format!("{part}-{kind}-ubyte")), bytes).expect("there is room");
        };
        write("images-idx3", &[2051, 2, 28, 28], 2 * 28 * 28);
        write("labels-idx1", &[2049, 2], 2);
    }
}

#[test]
fn a_node_without_data_leaves_its_seat_to_another() {
    let dir = directory();
    let args = ["-n", "1", "--steps", "2", "--data", "mnist"];
    let (coordinator, address) = coordinator(dir.path(), &args);
    let node = ["node", "--coordinator", &address, "--data-dir"];
    let ended = harness::ecq(dir.path(), &[&node[..], &["missing"]].concat());
    assert_eq!(ended.code(), Some(6), "{}", ended.stderr);
    assert!(ended.complaint().contains("missing"), "{}", ended.stderr);

    let data = directory();
    write_blank_mnist(data.path());
    let data = data.path().to_string_lossy();
    let ended = harness::ecq(dir.path(), &[&node[..], &[&data]].concat());
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let ended = coordinator.finish();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
}

#[test]
fn a_coordinator_that_is_killed_is_reported_by_its_nodes() {
    let dir = directory();
    let (coordinator, address) = coordinator(dir.path(), &["-n", "1", "--steps", "100000000"]);
    let args = [
        "node",
        "--coordinator",
        &address,
        "--connect-timeout",
        "0.5",
    ];
    let mut node = Program::start(dir.path(), &args);
    node.until(|line| line.contains("training as rank 0").then_some(()));
    coordinator.signal("KILL");
    drop(coordinator.finish());
    let ended = node.finish();
    assert_eq!(ended.code(), Some(5), "{}", ended.stderr);
    assert!(
        ended.complaint().contains("lost the coordinator"),
        "{}",
        ended.stderr
    );
}
