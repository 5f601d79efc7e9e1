//! One codec on its way through encoder and decoder, with a clock.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use ecq_quant::{
    Aggregator, BUCKET_ELEMENTS_MAX, CodecSpec, Decoder, Encoder, FrameId, FrameStats, Simd,
};
use serde::Serialize;

use super::values::Values;
use crate::cli::BenchCodecArgs;

/// What was measured; speeds are GB/s of 32-bit floats.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    /// As asked for.
    pub(super) codec: String,
    /// With all settings.
    pub(super) canonical: String,
    pub(super) simd: &'static str,
    pub(super) threads: u16,
    pub(super) elements: usize,
    pub(super) distribution: String,
    pub(super) memcpy_gbps: f64,
    pub(super) encode_gbps: f64,
    pub(super) decode_gbps: f64,
    pub(super) encode_vs_memcpy: f64,
    pub(super) decode_vs_memcpy: f64,
    /// Everything on the wire.
    pub(super) bits_per_element: f64,
    /// Order-0 entropy of the symbols, and the numbers that are sent as they are.
    pub(super) entropy_bits: f64,
    pub(super) scale_bits: f64,
    /// ‖q − v‖²/‖v‖² of the first frames, before feedback has anything to add.
    pub(super) relative_squared_error: f64,
    /// Bits above ½ log₂(1/NMSE), the least for Gaussian values, after the best gain.
    pub(super) rate_distortion_gap_bits: f64,
    /// ω̂ as the encoder measured it in the last step.
    pub(super) omega: f64,
}

/// Measures one codec.
pub(super) fn measure(
    spec: &CodecSpec,
    text: &str,
    simd: Simd,
    args: &BenchCodecArgs,
    values: &Values,
) -> Measured {
    let Values { flat, layout } = values;
    let buckets = layout.buckets(BUCKET_ELEMENTS_MAX);
    let mut encoder = Encoder::new(spec, layout, 0).with_simd(simd);
    let mut decoder = Decoder::new(spec, layout, 0).with_simd(simd);
    let aggregator = Aggregator::new(decoder.clone());
    let mut target = vec![0.0_f32; flat.len()];
    let mut frames = Vec::new();
    let first = encoder.encode_all(0, 0, 1, &buckets, flat, &mut frames);
    let symbol_bits = entropy(&mut decoder, &buckets, &frames, &mut target);
    let quality = Quality::of(flat, &target);
    let (mut copy, mut encode, mut decode) = (f64::MAX, f64::MAX, f64::MAX);
    let mut last = first;
    for step in (1..).take(args.repeat.into()) {
        copy = copy.min(seconds(|| {
            target.copy_from_slice(black_box(flat));
            black_box(&mut target);
        }));
        encode = encode.min(seconds(|| {
            last = encoder.encode_all(step, 0, 1, &buckets, flat, &mut frames);
        }));
        let given = frames_of(step, &frames);
        decode = decode.min(seconds(|| {
            let done = aggregator.accumulate_all(&buckets, &given, 1.0, &mut target);
            done.expect("an encoder's frames decode");
        }));
    }
    let bytes = 4.0 * flat.len() as f64;
    let bits = |bytes: u64| bytes as f64 * 8.0 / flat.len() as f64;
    let entropy_bits = symbol_bits / flat.len() as f64 + bits(first.number_bytes);
    let scale_bits = bits(first.scale_bytes);
    Measured {
        codec: text.to_owned(),
        canonical: spec.to_string(),
        simd: simd.name(),
        threads: args.threads,
        elements: flat.len(),
        distribution: args.distribution.clone(),
        memcpy_gbps: bytes / copy / 1e9,
        encode_gbps: bytes / encode / 1e9,
        decode_gbps: bytes / decode / 1e9,
        encode_vs_memcpy: copy / encode,
        decode_vs_memcpy: copy / decode,
        bits_per_element: FrameStats::bits_per_element(&first),
        entropy_bits,
        scale_bits,
        relative_squared_error: quality.error,
        rate_distortion_gap_bits: entropy_bits + scale_bits - quality.bound_bits,
        omega: last.omega(),
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn frames_of(step: u64, frames: &[Vec<u8>]) -> Vec<(FrameId, &[u8])> {
    let id = |bucket| FrameId {
        step,
        rank: 0,
        bucket,
    };
    (0..)
        .zip(frames)
        .map(|(bucket, frame)| (id(bucket), &frame[..]))
        .collect()
}

/// Bits of the symbols of step 0, each stream's of a frame at its order-0 entropy; what they say goes to `target`.
fn entropy(
    decoder: &mut Decoder,
    buckets: &[Range<usize>],
    frames: &[Vec<u8>],
    target: &mut [f32],
) -> f64 {
    let mut bits = 0.0;
    for (range, (id, frame)) in buckets.iter().zip(frames_of(0, frames)) {
        decoder
            .accumulate(frame, id, range.clone(), 1.0, &mut target[range.clone()])
            .expect("an encoder's frames decode");
        let mut streams = BTreeMap::<u8, [u64; 256]>::new();
        for (stream, symbols) in decoder.symbols() {
            let counts = streams.entry(stream).or_insert([0; 256]);
            symbols
                .iter()
                .for_each(|symbol| counts[usize::from(*symbol)] += 1);
        }
        for counts in streams.values() {
            let total: u64 = counts.iter().sum();
            let cost = |count: &u64| *count as f64 * (total as f64 / *count as f64).log2();
            bits += counts
                .iter()
                .filter(|count| **count > 0)
                .map(cost)
                .sum::<f64>();
        }
    }
    bits
}

struct Quality {
    /// ‖q − v‖²/‖v‖².
    error: f64,
    /// ½ log₂ of ‖v‖² over the error that is left after the best gain.
    bound_bits: f64,
}

impl Quality {
    fn of(values: &[f32], found: &[f32]) -> Self {
        let (mut vv, mut qq, mut vq, mut ee) = (0.0, 0.0, 0.0, 0.0);
        for (v, q) in values.iter().zip(found) {
            let (v, q) = (f64::from(*v), f64::from(*q));
            vv += v * v;
            qq += q * q;
            vq += v * q;
            ee += (q - v) * (q - v);
        }
        let left = 1.0 - if qq > 0.0 { vq * vq / (vv * qq) } else { 0.0 };
        Self {
            error: if vv > 0.0 { ee / vv } else { 0.0 },
            // Errors below those of the floats themselves say nothing.
            bound_bits: -0.5 * left.clamp(1e-15, 1.0).log2(),
        }
    }
}
