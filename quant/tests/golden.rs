//! The bytes of format version 2. If this fails, old recordings can no longer be read, or replicas of
//! this version part from those of the last: make a new version instead.
//!
//! `golden/v2.txt` has a line a frame: codec, step, length, CRC-32C of all bytes, CRC-32C of the sum after
//! it was added with weight 0.25 to the gradient, and for the short ones the bytes in hexadecimal.

mod gradients;

use ecq_quant::{CodecSpec, Decoder, Encoder, FrameId, Layout, Simd};
use gradients::spec;

const GOLDEN: &str = include_str!("golden/v2.txt");

/// All codecs with their defaults, and settings that lead to other bytes.
fn codecs() -> Vec<String> {
    let others = [
        "qsgd:bucket=8,coding=pack",
        "ecq:bucket=8,coding=pack",
        "ecq:preset=paper,bucket=tensor,coding=rans",
        "ecq:levels=1,coding=rans",
        "ecq:levels=1,norm=l2,bucket=tensor,coding=golomb",
        "ecq:levels=20,coding=rans",
        "ecq:bits=3,bucket=8",
        "deadzone:escape=off,step=1",
        "deadzone:bits=2",
        "fp8:format=e5m2,bucket=8",
        "minifloat:format=e3m2,rounding=stochastic",
        "log:base=sqrt2",
        "topk:fraction=0.2,values=fp16",
        "topk:fraction=0.2,values=sign",
        "topk:fraction=0.2,values=two-bit,momentum=0.9",
        "randomk:fraction=0.2,values=fp16",
    ];
    CodecSpec::names()
        .chain(others)
        .map(str::to_owned)
        .collect()
}

/// Exact values, so that no library's logarithm is part of the format.
fn gradient(count: i32) -> Vec<f32> {
    let cube = |x: i32| (x * x * x) as f32;
    (0..count)
        .map(|i| cube((i.wrapping_mul(37) % 23) - 11) / 512.0 + (i % 7) as f32 / 64.0)
        .collect()
}

/// Two steps of a small model of a matrix and a vector, and one of a large vector.
fn frames(codec: &str, simd: Simd) -> Vec<(u64, Layout, Vec<u8>)> {
    let mut frames = Vec::new();
    for (shapes, steps) in [(vec![vec![5, 8], vec![4]], 2), (vec![vec![200_000]], 1)] {
        let layout = Layout::of_shapes(&shapes);
        let mut encoder = Encoder::new(&spec(codec), &layout, 2018).with_simd(simd);
        for step in 0..steps {
            let mut frame = Vec::new();
            let elements = layout.elements();
            encoder.encode(
                id(step),
                64,
                0..elements,
                &gradient(elements as i32),
                &mut frame,
            );
            frames.push((step, layout.clone(), frame));
        }
    }
    frames
}

fn id(step: u64) -> FrameId {
    FrameId {
        step,
        rank: 3,
        bucket: 0,
    }
}

/// What a frame adds to the gradient.
fn sum(codec: &str, simd: Simd, layout: &Layout, step: u64, frame: &[u8]) -> Vec<f32> {
    let mut sum = gradient(layout.elements() as i32);
    let all = 0..sum.len();
    Decoder::new(&spec(codec), layout, 2018)
        .with_simd(simd)
        .accumulate(frame, id(step), all, 0.25, &mut sum)
        .expect("it is a frame of this codec");
    sum
}

#[test]
fn frames_are_those_of_version_2() {
    let mut found = String::new();
    for codec in codecs() {
        for (step, layout, frame) in frames(&codec, Simd::best()) {
            let checksum = crc32c::crc32c(&frame);
            let sum = sum(&codec, Simd::best(), &layout, step, &frame);
            let sum: Vec<u8> = sum.iter().flat_map(|x| x.to_le_bytes()).collect();
            let length = frame.len();
            found += &format!(
                "{codec} {step} {length} {checksum:08x} {:08x} ",
                crc32c::crc32c(&sum)
            );
            if layout.elements() < 100 {
                found.extend(frame.iter().map(|byte| format!("{byte:02x}")));
            }
            found = found.trim_end().to_owned() + "\n";
        }
    }
    for (found, golden) in found.lines().zip(GOLDEN.lines()) {
        assert_eq!(found, golden);
    }
    assert_eq!(found.lines().count(), GOLDEN.lines().count(), "{found}");
}

/// Every path writes the same frames and reads the same sums from them.
#[test]
fn golden_frames_decode_alike_on_every_path() {
    for codec in codecs() {
        let expected = frames(&codec, Simd::PORTABLE);
        for simd in Simd::available() {
            let found = frames(&codec, *simd);
            for ((step, layout, frame), (.., other)) in expected.iter().zip(&found) {
                assert!(frame == other, "{codec} on {simd}");
                let sums = [Simd::PORTABLE, *simd].map(|simd| {
                    let sum = sum(&codec, simd, layout, *step, frame);
                    sum.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                });
                assert!(sums[0] == sums[1], "{codec} on {simd}");
            }
        }
    }
}
