//! Floating-point casts: every element on its own, no scale, no feedback.

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

use crate::simd::{Simd, kernel};

/// Number format of a cast codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cast {
    /// IEEE binary32, little-endian: the baseline.
    Fp32,
    /// IEEE binary16, little-endian, rounded to nearest even, saturating at ±65504.
    Fp16,
    /// The upper half of binary32, rounded to nearest even, saturating at the largest finite number.
    Bf16,
}

impl Cast {
    /// Bytes of an element.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Fp32 => 4,
            Self::Fp16 | Self::Bf16 => 2,
        }
    }

    /// Appends the elements of `values`, in which what was sent is then replaced by the error of the
    /// cast. Returns the number of NaN and infinities, which are sent as zero and keep their place.
    pub(crate) fn encode(self, simd: Simd, values: &mut [f32], frame: &mut Vec<u8>) -> u64 {
        let start = frame.len();
        frame.resize(start + values.len() * self.width(), 0);
        let bytes = &mut frame[start..];
        match self {
            Self::Fp32 => to_fp32(simd, values, bytes.as_chunks_mut().0),
            Self::Fp16 => to_fp16(values, bytes.as_chunks_mut().0),
            Self::Bf16 => to_half(values, bytes.as_chunks_mut().0, |v| {
                let rounded = bf16::from_f32(v);
                let sent = if rounded.is_finite() {
                    rounded
                } else {
                    bf16::MAX.copysign(rounded)
                };
                (sent.to_le_bytes(), sent.to_f32())
            }),
        }
    }

    /// Whether every element of `body` is a finite number; no encoder sends another.
    pub(crate) fn is_finite(self, body: &[u8]) -> bool {
        match self {
            Self::Fp32 => body
                .as_chunks::<4>()
                .0
                .iter()
                .all(|b| f32::from_le_bytes(*b).is_finite()),
            Self::Fp16 => body
                .as_chunks::<2>()
                .0
                .iter()
                .all(|b| f16::from_le_bytes(*b).is_finite()),
            Self::Bf16 => body
                .as_chunks::<2>()
                .0
                .iter()
                .all(|b| bf16::from_le_bytes(*b).is_finite()),
        }
    }

    /// Adds weight · value for each element.
    pub(crate) fn accumulate(self, simd: Simd, body: &[u8], weight: f32, target: &mut [f32]) {
        match self {
            Self::Fp32 => add_fp32(simd, body.as_chunks().0, weight, target),
            Self::Bf16 => add_bf16(simd, body.as_chunks().0, weight, target),
            Self::Fp16 => {
                let mut floats = [0.0; RUN];
                let body = body.as_chunks::<2>().0;
                for (target, body) in target.chunks_mut(RUN).zip(body.chunks(RUN)) {
                    let mut halves = [f16::ZERO; RUN];
                    for (half, bytes) in halves.iter_mut().zip(body) {
                        *half = f16::from_le_bytes(*bytes);
                    }
                    let floats = &mut floats[..target.len()];
                    halves[..target.len()].convert_to_f32_slice(floats);
                    add(simd, floats, weight, target);
                }
            }
        }
    }
}

/// Elements that are converted together: the hardware does eight at a time.
const RUN: usize = 512;

kernel! {
    fn add(floats: &[f32], weight: f32, target: &mut [f32]) {
        for (sum, x) in target.iter_mut().zip(floats) {
            *sum += weight * x;
        }
    }
}

fn to_fp16(values: &mut [f32], bytes: &mut [[u8; 2]]) -> u64 {
    let (mut nonfinite, mut halves, mut sent) = (0, [f16::ZERO; RUN], [0.0; RUN]);
    for (values, bytes) in values.chunks_mut(RUN).zip(bytes.chunks_mut(RUN)) {
        let (halves, sent) = (&mut halves[..values.len()], &mut sent[..values.len()]);
        for (sent, value) in sent.iter_mut().zip(&*values) {
            let finite = if value.is_finite() { *value } else { 0.0 };
            *sent = finite.clamp(f16::MIN.to_f32_const(), f16::MAX.to_f32_const());
        }
        halves.convert_from_f32_slice(sent);
        halves.convert_to_f32_slice(sent);
        for ((value, sent), (half, bytes)) in
            values.iter_mut().zip(sent).zip(halves.iter().zip(bytes))
        {
            *bytes = half.to_le_bytes();
            if value.is_finite() {
                *value -= *sent;
            } else {
                nonfinite += 1;
            }
        }
    }
    nonfinite
}

kernel! {
    fn add_fp32(body: &[[u8; 4]], weight: f32, target: &mut [f32]) {
        for (sum, bytes) in target.iter_mut().zip(body) {
            *sum += weight * f32::from_le_bytes(*bytes);
        }
    }
}

kernel! {
    fn add_bf16(body: &[[u8; 2]], weight: f32, target: &mut [f32]) {
        for (sum, bytes) in target.iter_mut().zip(body) {
            let bits = u32::from(u16::from_le_bytes(*bytes)) << 16;
            *sum += weight * f32::from_bits(bits);
        }
    }
}

kernel! {
    fn to_fp32(values: &mut [f32], bytes: &mut [[u8; 4]]) -> u64 {
        let mut nonfinite = 0_u32;
        for (value, bytes) in values.iter_mut().zip(bytes) {
            let finite = value.is_finite();
            *bytes = if finite { *value } else { 0.0 }.to_le_bytes();
            nonfinite += u32::from(!finite);
            *value = if finite { 0.0 } else { *value };
        }
        u64::from(nonfinite)
    }
}

fn to_half(values: &mut [f32], bytes: &mut [[u8; 2]], cast: impl Fn(f32) -> ([u8; 2], f32)) -> u64 {
    let mut nonfinite = 0;
    for (value, bytes) in values.iter_mut().zip(bytes) {
        if value.is_finite() {
            let sent;
            (*bytes, sent) = cast(*value);
            *value -= sent;
        } else {
            nonfinite += 1;
        }
    }
    nonfinite
}

/// Rounded to nearest even, at most the largest finite number.
pub(crate) fn saturated(value: f32) -> f16 {
    f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}
