//! Gradients to test with, and the shortest ways through a codec.

#![allow(dead_code, reason = "each test file uses its own part")]

use ecq_quant::{CodecSpec, Decoder, Encoder, FrameId, FrameStats, Layout};

pub(crate) const SEED: u64 = 42;

/// Uniform in (0, 1), a pure function of its arguments.
pub(crate) fn uniform(seed: u64, index: u64) -> f64 {
    let mut x =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index.wrapping_mul(0xd134_2543_de82_ef95);
    x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^= x >> 32;
    ((x >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Independent standard Gaussians (Box–Muller).
pub(crate) fn gaussian(seed: u64, count: usize) -> Vec<f32> {
    let draw = |i: u64| {
        let radius = (-2.0 * uniform(seed, 2 * i).ln()).sqrt();
        (radius * (std::f64::consts::TAU * uniform(seed, 2 * i + 1)).cos()) as f32
    };
    (0..count as u64).map(draw).collect()
}

pub(crate) fn spec(text: &str) -> CodecSpec {
    text.parse().expect("it is a codec")
}

pub(crate) fn id(step: u64) -> FrameId {
    FrameId {
        step,
        rank: 0,
        bucket: 0,
    }
}

/// One tensor through an encoder: the frame and what was measured.
pub(crate) fn encode(encoder: &mut Encoder, step: u64, gradient: &[f32]) -> (Vec<u8>, FrameStats) {
    let mut frame = Vec::new();
    let stats = encoder.encode(id(step), 1, 0..gradient.len(), gradient, &mut frame);
    (frame, stats)
}

/// What a frame says.
pub(crate) fn decode(spec: &CodecSpec, step: u64, frame: &[u8], count: usize) -> Vec<f32> {
    let mut values = vec![0.0; count];
    Decoder::new(spec, &Layout::new([count]), SEED)
        .accumulate(frame, id(step), 0..count, 1.0, &mut values)
        .expect("it is a frame of this codec");
    values
}

/// One tensor through a fresh codec and back.
pub(crate) fn round_trip(text: &str, gradient: &[f32]) -> Vec<f32> {
    let spec = spec(text);
    let mut encoder = Encoder::new(&spec, &Layout::new([gradient.len()]), SEED);
    let (frame, _) = encode(&mut encoder, 0, gradient);
    decode(&spec, 0, &frame, gradient.len())
}

pub(crate) fn norm_squared(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum()
}
