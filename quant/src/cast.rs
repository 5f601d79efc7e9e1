//! Floating-point casts: every element on its own, no scale, no feedback.

use half::f16;

/// Number format of a cast codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cast {
    /// IEEE binary32, little-endian: the baseline.
    Fp32,
    /// IEEE binary16, little-endian, rounded to nearest even, saturating at ±65504.
    Fp16,
}

impl Cast {
    /// Bytes of an element.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Fp32 => 4,
            Self::Fp16 => 2,
        }
    }

    /// Appends the elements of `values` and overwrites them with the error of the cast. Returns the
    /// number of NaN and infinities, which are sent as zero.
    pub(crate) fn encode(self, values: &mut [f32], frame: &mut Vec<u8>) -> u64 {
        let mut nonfinite = 0;
        frame.reserve(values.len() * self.width());
        for value in values {
            let finite = if value.is_finite() { *value } else { 0.0 };
            nonfinite += u64::from(!value.is_finite());
            let sent = match self {
                Self::Fp32 => {
                    frame.extend_from_slice(&finite.to_le_bytes());
                    finite
                }
                Self::Fp16 => {
                    let sent = saturated(finite);
                    frame.extend_from_slice(&sent.to_le_bytes());
                    sent.to_f32()
                }
            };
            *value = finite - sent;
        }
        nonfinite
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
        }
    }

    /// Adds weight · value for each element.
    pub(crate) fn accumulate(self, body: &[u8], weight: f32, target: &mut [f32]) {
        match self {
            Self::Fp32 => {
                for (sum, bytes) in target.iter_mut().zip(body.as_chunks::<4>().0) {
                    *sum += weight * f32::from_le_bytes(*bytes);
                }
            }
            Self::Fp16 => {
                for (sum, bytes) in target.iter_mut().zip(body.as_chunks::<2>().0) {
                    *sum += weight * f16::from_le_bytes(*bytes).to_f32();
                }
            }
        }
    }
}

fn saturated(value: f32) -> f16 {
    f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}
