//! The scale of a group.

use std::fmt;

use crate::simd::{Simd, kernel};

/// Smallest scale that is used. Below it a level's value and its inverse leave the normal numbers;
/// such a group is sent as zeros and its mass stays in the residual.
const SCALE_MIN: f32 = 7.888_609e-31; // 2^-100

/// How the scale of a group is taken from its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Norm {
    /// ‖v‖∞, the largest magnitude. Relative variance on Gaussian data with s = 4 and 512 elements:
    /// 0.11.
    Linf,
    /// ‖v‖₂, the norm of QSGD and ECQ-SGD. Everything depends on s/√n: with few levels in large
    /// groups most values are sent as zero and few as much too large.
    L2,
}

/// What a group's scale is, or that it has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// From 2⁻¹⁰⁰ on.
    Normal(f32),
    /// Zero, or too small for a scale: sent as zeros.
    Unusable,
}

impl Scale {
    /// The scale, if it is one.
    pub(crate) fn of(scale: f32) -> Self {
        if scale >= SCALE_MIN {
            Self::Normal(scale)
        } else {
            Self::Unusable
        }
    }
}

impl Norm {
    /// The scale of finite `values`, the largest magnitude of which is `largest`.
    pub(crate) fn scale(self, simd: Simd, values: &[f32], largest: f32) -> Scale {
        Scale::of(match self {
            Self::Linf => largest,
            Self::L2 => sum_of_squares(simd, values).sqrt() as f32,
        })
    }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linf => "linf",
            Self::L2 => "l2",
        })
    }
}

kernel! {
    /// Largest magnitude; NaN or infinity if there is one. Magnitudes order like the integers that
    /// their bits are, and NaN comes after infinity: one pass of integer maxima finds all.
    pub(crate) fn largest(values: &[f32]) -> f32 {
        let magnitude = |v: &f32| (v.to_bits() & 0x7fff_ffff) as i32;
        let largest = values.iter().map(magnitude).fold(0, i32::max);
        f32::from_bits(largest as u32)
    }
}

kernel! {
    /// Σ x², in double precision and eight lanes: one order of additions on every CPU, wide enough
    /// for its vectors.
    pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
        sum(values, |x| x * x)
    }
}

kernel! {
    /// Σ |x|, likewise.
    pub(crate) fn sum_of_magnitudes(values: &[f32]) -> f64 {
        sum(values, f64::abs)
    }
}

#[inline(always)]
fn sum(values: &[f32], of: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += of(f64::from(*value));
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += of(f64::from(*value));
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(norm: Norm, values: &[f32]) -> Scale {
        let simd = Simd::best();
        norm.scale(simd, values, largest(simd, values))
    }

    #[test]
    fn scales_of_all_signs_and_of_single_elements() {
        for values in [&[-3.0, -4.0][..], &[3.0, 4.0], &[-4.0, 3.0]] {
            assert_eq!(scale(Norm::Linf, values), Scale::Normal(4.0));
            assert_eq!(scale(Norm::L2, values), Scale::Normal(5.0));
        }
        assert_eq!(scale(Norm::Linf, &[-2.5]), Scale::Normal(2.5));
        assert_eq!(scale(Norm::L2, &[-2.5]), Scale::Normal(2.5));
    }

    #[test]
    fn scales_that_are_none() {
        for norm in [Norm::Linf, Norm::L2] {
            assert_eq!(scale(norm, &[]), Scale::Unusable);
            assert_eq!(scale(norm, &[0.0, -0.0]), Scale::Unusable);
            assert_eq!(scale(norm, &[1e-40, -1e-31]), Scale::Unusable);
        }
    }

    #[test]
    fn the_largest_magnitude_gives_away_what_is_not_finite() {
        for simd in Simd::available() {
            assert!(largest(*simd, &[1.0, f32::NAN, f32::INFINITY]).is_nan());
            assert_eq!(largest(*simd, &[f32::NEG_INFINITY, 1.0]), f32::INFINITY);
            assert_eq!(largest(*simd, &[-3.0, 2.0]), 3.0);
        }
    }
}
