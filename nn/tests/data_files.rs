//! Data sets from files: what is accepted, and what is said about the rest.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ecq_nn::data::{self, DataName, Dataset};
use ecq_nn::{Batch, Targets};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

fn images(count: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = [2051, count, 28, 28]
        .iter()
        .flat_map(|n| n.to_be_bytes())
        .collect();
    bytes.extend((0..count * 784).map(|i| (i % 251) as u8));
    bytes
}

fn labels(count: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = [2049, count].iter().flat_map(|n| n.to_be_bytes()).collect();
    bytes.extend((0..count).map(|i| (i % 10) as u8));
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";

/// A complete data set of 12 and 5 images in `folder`, plain or compressed.
fn write_set(folder: &Path, compressed: bool) {
    fs::create_dir_all(folder).expect("a temporary folder is writable");
    let files = [
        (TRAIN_IMAGES, images(12)),
        (TRAIN_LABELS, labels(12)),
        ("t10k-images-idx3-ubyte", images(5)),
        ("t10k-labels-idx1-ubyte", labels(5)),
    ];
    for (name, bytes) in files {
        put(folder, name, &bytes, compressed);
    }
}

fn put(folder: &Path, name: &str, bytes: &[u8], compressed: bool) -> PathBuf {
    let (name, bytes) = if compressed {
        (format!("{name}.gz"), gz(bytes))
    } else {
        (name.into(), bytes.to_vec())
    };
    let path = folder.join(name);
    fs::write(&path, bytes).expect("a temporary folder is writable");
    path
}

fn load(dir: &TempDir) -> Result<Dataset, String> {
    data::load(DataName::Mnist, Some(dir.path())).map_err(|error| error.to_string())
}

#[test]
fn canonical_files_load_from_every_customary_place() {
    let mut fingerprints = Vec::new();
    for (folder, compressed) in [("mnist", true), ("MNIST/raw", false), ("", true)] {
        let dir = TempDir::new().expect("there is room");
        write_set(&dir.path().join(folder), compressed);
        let found = load(&dir).expect("it is complete");
        assert_eq!(
            (found.train.len(), found.test.len(), found.shape.features()),
            (12, 5, 784)
        );
        let mut batch = Batch::default();
        found.train.gather(&[11, 0], &mut batch);
        assert_eq!(batch.targets, Targets::Classes(vec![1, 0]));
        let expected = ((11.0 * 784.0 % 251.0) / 255.0 - 0.1307) / 0.3081;
        assert!((batch.inputs.dense()[[0, 0]] - expected).abs() < 1e-5);
        fingerprints.push(found.fingerprint());
    }
    assert!(fingerprints.windows(2).all(|pair| pair[0] == pair[1]));
    let digits = data::load(DataName::Digits, None).expect("it is embedded");
    assert_ne!(digits.fingerprint(), fingerprints[0]);
}

#[test]
fn what_is_missing_is_named_with_its_origin() {
    let error = data::load(DataName::FashionMnist, None).expect_err("it is not embedded");
    let error = error.to_string();
    for part in [
        "--data-dir",
        "ECQ_DATA_DIR",
        "t10k-labels-idx1-ubyte.gz",
        "zalandoresearch",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let dir = TempDir::new().expect("there is room");
    write_set(dir.path(), true);
    fs::remove_file(dir.path().join("t10k-images-idx3-ubyte.gz")).expect("it was written");
    let error = load(&dir).expect_err("a file is missing");
    assert!(error.contains("no t10k-images-idx3-ubyte.gz"), "{error}");
    assert!(error.contains("MNIST/raw"), "{error}");
}

#[test]
fn files_of_different_folders_do_not_mix() {
    let dir = TempDir::new().expect("there is room");
    write_set(&dir.path().join("mnist"), true);
    // Another data set's, of which only these are there; it would come first.
    write_set(&dir.path().join("MNIST/raw"), true);
    put(
        &dir.path().join("MNIST/raw"),
        TRAIN_IMAGES,
        &images(7),
        true,
    );
    let labels = dir.path().join(format!("mnist/{TRAIN_LABELS}.gz"));
    fs::remove_file(labels).expect("it was written");
    let error = load(&dir).expect_err("12 labels are not those of 7 images");
    assert!(
        error.contains("12 labels") && error.contains("7 images"),
        "{error}"
    );
    fs::remove_dir_all(dir.path().join("MNIST")).expect("it was written");
    let error = load(&dir).expect_err("a file is missing");
    assert!(error.contains(&format!("no {TRAIN_LABELS}.gz")), "{error}");
}

/// Spoils one file and returns what is said about it.
fn complaint(name: &str, bytes: &[u8]) -> String {
    let dir = TempDir::new().expect("there is room");
    write_set(dir.path(), false);
    put(dir.path(), name, bytes, false);
    load(&dir).expect_err("the file is spoiled")
}

#[test]
fn malformed_files_are_named_with_offset_and_reason() {
    let edit = |bytes: Vec<u8>, at: usize, value: u8| {
        let mut bytes = bytes;
        bytes[at] = value;
        bytes
    };
    let truncated = |bytes: Vec<u8>, length: usize| bytes[..length].to_vec();
    let with_tail = [&labels(12)[..], &[0]].concat();
    let cases: [(&str, Vec<u8>, &str); 11] = [
        (TRAIN_IMAGES, labels(12), "magic number 2049, expected 2051"),
        (TRAIN_LABELS, images(12), "magic number 2051, expected 2049"),
        (TRAIN_IMAGES, vec![], "byte 0: the file is truncated"),
        (
            TRAIN_IMAGES,
            truncated(images(12), 10),
            "byte 8: the file is truncated",
        ),
        (
            TRAIN_IMAGES,
            truncated(images(12), 5000),
            "byte 5000: the file is truncated",
        ),
        (
            TRAIN_LABELS,
            truncated(labels(12), 19),
            "byte 19: the file is truncated",
        ),
        (
            TRAIN_LABELS,
            with_tail,
            "byte 20: bytes after the last of 12 labels",
        ),
        (TRAIN_LABELS, labels(11), "11 labels, but"),
        (
            TRAIN_LABELS,
            edit(labels(12), 10, 10),
            "byte 10: label 10, expected 0 to 9",
        ),
        (
            TRAIN_IMAGES,
            edit(images(12), 11, 27),
            "images of 27 rows, expected 28",
        ),
        (
            TRAIN_IMAGES,
            edit(images(12), 4, 0xff),
            "expected 1 to 1048576",
        ),
    ];
    for (name, bytes, expected) in cases {
        let error = complaint(name, &bytes);
        assert!(error.contains(name) && error.contains(expected), "{error}");
    }
}

#[test]
fn broken_compression_is_an_error() {
    for (bytes, expected) in [
        (gz(&images(12))[..200].to_vec(), "truncated"),
        (b"not compressed at all".to_vec(), "cannot read"),
    ] {
        let dir = TempDir::new().expect("there is room");
        write_set(dir.path(), true);
        let path = dir.path().join(format!("{TRAIN_IMAGES}.gz"));
        fs::write(&path, bytes).expect("a temporary folder is writable");
        let error = load(&dir).expect_err("the stream is broken");
        assert!(
            error.contains(TRAIN_IMAGES) && error.contains(expected),
            "{error}"
        );
    }
}
