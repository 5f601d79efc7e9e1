//! The bytes of format version 1. If this fails, old recordings can no longer be read, or replicas of
//! this version part from those of the last: make a new version instead.

mod gradients;

use ecq_quant::{Encoder, FrameId, Layout};
use gradients::spec;

/// Exact values, so that no library's logarithm is part of the format.
fn gradient() -> Vec<f32> {
    (0_i32..24)
        .map(|i| ((i * 37 % 23) - 11) as f32 / 8.0)
        .collect()
}

fn frames(text: &str) -> String {
    let layout = Layout::new([20, 4]);
    let mut encoder = Encoder::new(&spec(text), &layout, 2018);
    let mut hex = String::new();
    for step in [0, 1] {
        let id = FrameId {
            step,
            rank: 3,
            bucket: 0,
        };
        let mut frame = Vec::new();
        encoder.encode(id, 64, 0..24, &gradient(), &mut frame);
        hex.extend(frame.iter().map(|byte| format!("{byte:02x}")));
        hex.push('\n');
    }
    hex
}

#[test]
fn frames_are_those_of_version_1() {
    for (text, golden) in [
        ("fp32", include_str!("golden/fp32.hex")),
        ("fp16", include_str!("golden/fp16.hex")),
        (
            "qsgd:bucket=8,coding=pack",
            include_str!("golden/qsgd-pack.hex"),
        ),
        (
            "ecq:bucket=8,coding=pack",
            include_str!("golden/ecq-pack.hex"),
        ),
        (
            "ecq:preset=paper,bucket=tensor,coding=rans",
            include_str!("golden/ecq-paper-rans.hex"),
        ),
    ] {
        assert_eq!(frames(text), golden, "{text}");
    }
}
