//! `ecq bench codec`: what scripts read of it, and what it says to mistakes.

mod harness;

use harness::{directory, ecq};
use serde_json::Value;

/// The rows of a run over few elements.
fn rows(args: &[&str]) -> Vec<Value> {
    let dir = directory();
    let few = [
        "bench",
        "codec",
        "--json",
        "--elements",
        "40000",
        "--repeat",
        "1",
    ];
    let ended = ecq(dir.path(), &[&few, args].concat());
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("an array of objects")
}

#[test]
fn every_codec_has_a_row_with_everything_that_is_promised() {
    let rows = rows(&[]);
    assert!(rows.len() > 20);
    for row in &rows {
        let codec = row["codec"].as_str().expect("its name");
        assert!(row["simd"].is_string());
        for key in [
            "encode_gbps",
            "decode_gbps",
            "encode_vs_memcpy",
            "decode_vs_memcpy",
            "bits_per_element",
        ] {
            assert!(
                row[key].as_f64().is_some_and(|x| x > 0.0),
                "{codec}: {key} {}",
                row[key]
            );
        }
        for key in [
            "entropy_bits",
            "scale_bits",
            "relative_squared_error",
            "omega",
        ] {
            assert!(
                row[key].as_f64().is_some_and(|x| x >= 0.0),
                "{codec}: {key} {}",
                row[key]
            );
        }
        assert!(row["rate_distortion_gap_bits"].is_f64(), "{codec}");
    }
    let row = |codec: &str| {
        rows.iter()
            .find(|row| row["codec"] == codec)
            .expect("a row")
    };
    assert_eq!(row("fp32")["relative_squared_error"], 0.0);
    let error = row("ecq")["relative_squared_error"]
        .as_f64()
        .expect("a number");
    assert!((0.10..0.13).contains(&error), "{error}");
}

/// Sizes and errors do not depend on the instructions, the threads or the clock.
#[test]
fn only_speeds_differ_between_paths() {
    let facts = |args: &[&str]| -> Vec<Value> {
        let codecs = [
            "--codec", "ecq", "--codec", "deadzone", "--codec", "powersgd",
        ];
        let rows = rows(&[&codecs, args].concat());
        rows.into_iter()
            .map(|mut row| {
                let row = row.as_object_mut().expect("an object");
                row.retain(|key, _| !key.contains("gbps") && !key.contains("memcpy"));
                row.retain(|key, _| key != "simd" && key != "threads");
                Value::Object(row.clone())
            })
            .collect()
    };
    let expected = facts(&[]);
    assert_eq!(facts(&["--simd", "portable"]), expected);
    assert_eq!(facts(&["--threads", "3"]), expected);
    assert_ne!(facts(&["--distribution", "laplace"]), expected);
}

#[test]
fn mistakes_are_named() {
    let dir = directory();
    for (args, code, said) in [
        (["--codec", "zip"], 2, "unknown codec"),
        (
            ["--simd", "mmx"],
            2,
            "expected auto, avx512, avx2 or portable",
        ),
        (["--distribution", "cauchy"], 2, "unknown distribution"),
        (["--distribution", "none.safetensors"], 6, "cannot be read"),
        (["--elements", "0"], 2, "elements"),
        (["--repeat", "0"], 2, "repeat"),
    ] {
        let ended = ecq(dir.path(), &[&["bench", "codec"], &args[..]].concat());
        assert_eq!(ended.code(), Some(code), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}
