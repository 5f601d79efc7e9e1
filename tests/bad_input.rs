//! Every bad input gives one clear error, its exit code, and leaves nothing behind (T18).

mod harness;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use harness::{directory, ecq, names};

/// Runs `launch` with these arguments in an empty directory and expects it to fail before it has
/// written anything.
fn refused(args: &[&str], code: i32, parts: &[&str]) {
    let dir = directory();
    let args = [&["launch"], args].concat();
    let ended = ecq(dir.path(), &args);
    assert_eq!(ended.code(), Some(code), "{args:?}: {}", ended.stderr);
    for part in parts {
        assert!(
            ended.stderr.contains(part),
            "{args:?} lacks {part:?}: {}",
            ended.stderr
        );
    }
    assert_eq!(ended.stdout, "", "{args:?}");
    assert!(
        names(dir.path()).is_empty(),
        "{args:?} left {:?}",
        names(dir.path())
    );
}

#[test]
fn unknown_names_list_the_known_ones() {
    refused(
        &["--data", "cifar"],
        2,
        &["unknown data set \"cifar\"", "digits, mnist"],
    );
    refused(
        &["--model", "vgg"],
        2,
        &["unknown model \"vgg\"", "softmax, mlp"],
    );
    refused(
        &["--codec", "zip"],
        2,
        &["unknown codec \"zip\"", "fp32, fp16, bf16, fp8"],
    );
    refused(
        &["--codec", "qsgd:fraction=1"],
        2,
        &["no key \"fraction\"", "levels, norm, bucket, coding"],
    );
    refused(
        &["--lr-schedule", "cosine"],
        2,
        &["schedule \"cosine\"", "constant, linear"],
    );
    refused(&["--nonsense"], 2, &["--nonsense"]);
}

#[test]
fn values_out_of_range_are_named() {
    refused(&["-n", "0"], 2, &["nodes = 0", "1 to 1024"]);
    refused(&["-n", "many"], 2, &["many"]);
    refused(&["--steps", "3", "--epochs", "2"], 2, &["not both"]);
    refused(&["--epochs", "0"], 2, &["epochs = 0"]);
    refused(&["--batch-size", "0"], 2, &["batch-size"]);
    refused(&["--lr", "nan"], 2, &["lr = NaN"]);
    refused(&["--momentum", "1"], 2, &["momentum = 1"]);
    refused(
        &["--codec", "ecq:levels=200"],
        2,
        &["levels=\"200\"", "1 to 127"],
    );
}

#[test]
fn data_that_are_missing_name_files_and_origin() {
    let parts = [
        "train-images-idx3-ubyte.gz",
        "--data-dir",
        "ECQ_DATA_DIR",
        "https://",
    ];
    refused(&["--data", "mnist"], 6, &parts);
    refused(
        &["--data", "fashion-mnist", "--data-dir", "/nowhere"],
        6,
        &["/nowhere", "zalando"],
    );
}

#[test]
fn data_that_are_broken_name_file_offset_and_reason() {
    let images = |magic: u32, length: usize| {
        let mut bytes: Vec<u8> = [magic, 2, 28, 28]
            .iter()
            .flat_map(|n| n.to_be_bytes())
            .collect();
        bytes.resize(length, 0);
        bytes
    };
    for (bytes, parts) in [
        (
            images(2051, 100),
            ["train-images-idx3-ubyte", "byte 100", "truncated"],
        ),
        (
            images(2049, 16 + 2 * 784),
            ["train-images-idx3-ubyte", "byte 4", "magic number 2049"],
        ),
    ] {
        let data = directory();
        for name in [
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        ] {
            fs::write(data.path().join(name), "").expect("it is writable");
        }
        fs::write(data.path().join("train-images-idx3-ubyte"), bytes).expect("it is writable");
        let dir = data.path().to_string_lossy();
        refused(&["--data", "mnist", "--data-dir", &dir], 6, &parts);
    }
}

#[test]
fn a_run_directory_that_cannot_be_used_is_left_alone() {
    let dir = directory();
    fs::write(dir.path().join("file"), "in the way").expect("it is writable");
    let ended = ecq(dir.path(), &["launch", "--run-dir", "file/run"]);
    assert_eq!(ended.code(), Some(7), "{}", ended.stderr);
    assert!(
        ended
            .complaint()
            .contains("cannot make the run directory file/run")
    );
    fs::create_dir(dir.path().join("used")).expect("it is writable");
    fs::write(dir.path().join("used/notes"), "of somebody").expect("it is writable");
    let ended = ecq(dir.path(), &["launch", "--run-dir", "used"]);
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    assert!(ended.complaint().contains("overwrites nothing"));
    assert_eq!(names(dir.path()), ["file", "used"]);
    assert_eq!(names(&dir.path().join("used")), ["notes"]);
}

#[test]
fn a_coordinator_that_cannot_start_leaves_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let taken = listener.local_addr().expect("it is bound").to_string();
    let in_use = format!("{taken} is in use");
    let any = "127.0.0.1:0";
    for (listen, more, code, part) in [
        (&*taken, ["--address-file", "address"], 7, &*in_use),
        (any, ["--nodes", "0"], 2, "nodes = 0"),
        (any, ["--data", "cifar"], 2, "unknown data set"),
        (
            any,
            ["--run-dir", "file/run"],
            7,
            "cannot make the run directory file/run",
        ),
        (
            any,
            ["--address-file", "file/address"],
            7,
            "cannot write file/address",
        ),
        ("nowhere", ["--nodes", "1"], 2, "nowhere"),
    ] {
        let dir = directory();
        fs::write(dir.path().join("file"), "in the way").expect("it is writable");
        let args = [&["coordinator", "--listen", listen], &more[..]].concat();
        let ended = ecq(dir.path(), &args);
        assert_eq!(ended.code(), Some(code), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{args:?}: {}", ended.stderr);
        assert_eq!(names(dir.path()), ["file"], "{args:?}");
    }
}

#[test]
fn a_coordinator_keeps_what_another_run_left() {
    let dir = directory();
    fs::write(dir.path().join("config.toml"), "of another run").expect("it is writable");
    let args = ["coordinator", "--listen", "127.0.0.1:0", "--run-dir", "."];
    let ended = ecq(dir.path(), &args);
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    assert!(ended.complaint().contains("already holds a run"));
    assert_eq!(names(dir.path()), ["config.toml"]);
}

#[test]
fn a_node_without_coordinator_says_so() {
    let dir = directory();
    let ended = ecq(dir.path(), &["node"]);
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    assert!(ended.complaint().contains("--coordinator"));
    let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = free.local_addr().expect("it is bound").to_string();
    drop(free);
    let args = [
        "node",
        "--coordinator",
        &address,
        "--connect-timeout",
        "0.3",
    ];
    let ended = ecq(dir.path(), &args);
    assert_eq!(ended.code(), Some(3), "{}", ended.stderr);
    assert!(
        ended
            .complaint()
            .contains(&format!("cannot reach the coordinator at {address}"))
    );
}

#[test]
fn a_configuration_file_is_checked() {
    let check = |text: &str| {
        let dir = directory();
        fs::write(dir.path().join("run.toml"), text).expect("it is writable");
        ecq(dir.path(), &["config", "check", "run.toml"])
    };
    let fine = check("nodes = 2\ncodec = 'ecq:levels=1,alpha=0.38'\nepochs = 3");
    assert_eq!(fine.code(), Some(0), "{}", fine.stderr);
    for (text, part) in [
        ("nodes = 0", "nodes = 0"),
        ("node = 2", "unknown field `node`"),
        ("nodes = 'two'", "nodes"),
        ("codec = 'ecq:bucket=0'", "bucket"),
        ("data = 'imagenet'", "digits, mnist, fashion-mnist"),
        ("model = ", "run.toml"),
    ] {
        let ended = check(text);
        assert_eq!(ended.code(), Some(2), "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{text}: {}", ended.stderr);
    }
    let ended = ecq(Path::new("/"), &["config", "check", "/nowhere.toml"]);
    assert_eq!(ended.code(), Some(2));
}

#[test]
fn the_template_is_a_valid_configuration() {
    let dir = directory();
    let template = ecq(dir.path(), &["config", "init"]);
    assert_eq!(template.code(), Some(0));
    fs::write(dir.path().join("run.toml"), &template.stdout).expect("it is writable");
    assert_eq!(
        ecq(dir.path(), &["config", "check", "run.toml"]).code(),
        Some(0)
    );
}
