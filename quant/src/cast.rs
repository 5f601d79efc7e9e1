//! Floating-point casts: every element on its own, without a scale.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

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
    /// Number in the header of frames of fp32, which are also the last ones of members that leave.
    pub(crate) const FLUSH: u8 = 0;

    /// Bytes of an element.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Fp32 => 4,
            Self::Fp16 | Self::Bf16 => 2,
        }
    }

    /// Writes the elements of `values` to `bytes`, of [`Cast::width`] each, and leaves in their place the
    /// error of the cast. Returns the number of NaN and infinities, which are sent as zero and keep their
    /// place.
    pub(crate) fn encode(self, simd: Simd, values: &mut [f32], bytes: &mut [u8]) -> u64 {
        match self {
            Self::Fp32 => to_fp32(simd, values, bytes.as_chunks_mut().0),
            Self::Fp16 => to_fp16(values, bytes.as_chunks_mut().0),
            Self::Bf16 => to_bf16(simd, values, bytes.as_chunks_mut().0),
        }
    }

    /// Whether every element of `body` is a finite number; no encoder sends another.
    pub(crate) fn is_finite(self, simd: Simd, body: &[u8]) -> bool {
        match self {
            Self::Fp32 => largest_exponent_32(simd, body.as_chunks().0) < 0x7f80_0000,
            Self::Fp16 => largest_exponent_16(simd, 0x7c00, body.as_chunks().0) < 0x7c00,
            Self::Bf16 => largest_exponent_16(simd, 0x7f80, body.as_chunks().0) < 0x7f80,
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

kernel! {
    fn to_bf16(values: &mut [f32], bytes: &mut [[u8; 2]]) -> u64 {
        let mut nonfinite = 0_u32;
        for (value, bytes) in values.iter_mut().zip(bytes) {
            let bits = value.to_bits();
            let finite = bits & 0x7f80_0000 != 0x7f80_0000;
            // To the nearest, of two the even; what becomes an infinity is the largest number instead.
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
            let saturated = bits & 0x8000_0000 | 0x7f7f_0000;
            let sent = if rounded & 0x7f80_0000 == 0x7f80_0000 { saturated } else { rounded };
            let sent = if finite { sent } else { 0 };
            *bytes = ((sent >> 16) as u16).to_le_bytes();
            nonfinite += u32::from(!finite);
            *value = if finite { *value - f32::from_bits(sent) } else { *value };
        }
        u64::from(nonfinite)
    }
}

kernel! {
    fn largest_exponent_32(body: &[[u8; 4]]) -> u32 {
        let exponents = body.iter().map(|bytes| u32::from_le_bytes(*bytes) & 0x7f80_0000);
        exponents.fold(0, u32::max)
    }
}

kernel! {
    fn largest_exponent_16(mask: u16, body: &[[u8; 2]]) -> u16 {
        let exponents = body.iter().map(|bytes| u16::from_le_bytes(*bytes) & mask);
        exponents.fold(0, u16::max)
    }
}

/// Rounded to nearest even, at most the largest finite number.
pub(crate) fn saturated(value: f32) -> f16 {
    f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use proptest::prelude::*;

    fn encoded(cast: Cast, simd: Simd, values: &[f32]) -> (Vec<u8>, Vec<u32>, u64) {
        let (mut errors, mut bytes) = (values.to_vec(), vec![7; cast.width() * values.len()]);
        let nonfinite = cast.encode(simd, &mut errors, &mut bytes);
        let errors = errors.into_iter().map(f32::to_bits).collect();
        (bytes, errors, nonfinite)
    }

    proptest! {
        /// Any bits: every path sends the nearest number there is, or 0 for what is none.
        #[test]
        fn numbers_are_cast_to_the_nearest_on_every_path(
            bits in proptest::collection::vec(any::<u32>(), 0..100),
            upper in any::<u16>(),
        ) {
            let ties = [0x7fff, 0x8000, 0x8001].map(|low| u32::from(upper) << 16 | low);
            let values: Vec<f32> = bits.into_iter().chain(ties).map(f32::from_bits).collect();
            for cast in [Cast::Fp32, Cast::Fp16, Cast::Bf16] {
                let expected = encoded(cast, Simd::PORTABLE, &values);
                for simd in Simd::available() {
                    prop_assert_eq!(&encoded(cast, *simd, &values), &expected);
                    prop_assert!(cast.is_finite(*simd, &expected.0));
                }
                let infinite = values.iter().filter(|value| !value.is_finite()).count();
                prop_assert_eq!(expected.2, infinite as u64);
            }
            let (bytes, errors, _) = encoded(Cast::Bf16, Simd::best(), &values);
            for ((value, bytes), error) in values.iter().zip(bytes.as_chunks().0).zip(errors) {
                let nearest = match bf16::from_f32(*value) {
                    _ if !value.is_finite() => bf16::ZERO,
                    number if number.is_finite() => number,
                    number => bf16::MAX.copysign(number),
                };
                prop_assert_eq!(bf16::from_le_bytes(*bytes), nearest);
                let left = if value.is_finite() { value - nearest.to_f32() } else { *value };
                prop_assert_eq!(error, left.to_bits());
            }
        }

        #[test]
        fn what_is_not_finite_is_found_on_every_path(
            place in 0_usize..50,
            infinity in prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
        ) {
            let bytes = |cast| match cast {
                Cast::Fp32 => infinity.to_le_bytes().to_vec(),
                Cast::Fp16 => f16::from_f32(infinity).to_le_bytes().to_vec(),
                Cast::Bf16 => bf16::from_f32(infinity).to_le_bytes().to_vec(),
            };
            for cast in [Cast::Fp32, Cast::Fp16, Cast::Bf16] {
                let mut body = vec![0; 50 * cast.width()];
                body[place * cast.width()..][..cast.width()].copy_from_slice(&bytes(cast));
                for simd in Simd::available() {
                    prop_assert!(!cast.is_finite(*simd, &body));
                }
            }
        }
    }
}
