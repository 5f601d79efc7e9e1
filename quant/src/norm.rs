//! The scale of a group.

use std::fmt;

/// Smallest scale that is used. Below it a level's value and its inverse leave the normal numbers;
/// such a group is sent as zeros and its mass stays in the residual.
const SCALE_MIN: f32 = 7.888_609e-31; // 2^-100

/// How the scale of a group is taken from its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// ‖v‖∞, the largest magnitude. Relative variance on Gaussian data with s = 4 and 512 elements:
    /// 0.11.
    Linf,
    /// ‖v‖₂, the norm of QSGD and ECQ-SGD. Everything depends on s/√n: with few levels in large
    /// groups most values are sent as zero and few as much too large.
    L2,
}

/// What a group's scale is, or why it has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// Between 2⁻¹⁰⁰ and the largest number.
    Normal(f32),
    /// Zero, or too small or too large for a scale: sent as zeros.
    Unusable,
    /// There is a NaN or an infinity in the group.
    NonFinite,
}

impl Norm {
    /// The scale of `values`.
    pub(crate) fn scale(self, values: &[f32]) -> Scale {
        // Magnitudes order like the integers that their bits are, and NaN comes after infinity: one
        // pass of integer maxima, which vectorises, finds both.
        let magnitude = |v: &f32| (v.to_bits() & 0x7fff_ffff) as i32;
        let largest = values.iter().map(magnitude).fold(0, i32::max);
        let largest = f32::from_bits(largest as u32);
        if !largest.is_finite() {
            return Scale::NonFinite;
        }
        let scale = match self {
            Self::Linf => largest,
            Self::L2 => sum_of_squares(values).sqrt() as f32,
        };
        if (SCALE_MIN..=f32::MAX).contains(&scale) {
            Scale::Normal(scale)
        } else {
            Scale::Unusable
        }
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

/// Σ x², in double precision and eight lanes: one order of additions on every CPU, wide enough for
/// its vectors.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(*value) * f64::from(*value);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_of_all_signs_and_of_single_elements() {
        for values in [&[-3.0, -4.0][..], &[3.0, 4.0], &[-4.0, 3.0]] {
            assert_eq!(Norm::Linf.scale(values), Scale::Normal(4.0));
            assert_eq!(Norm::L2.scale(values), Scale::Normal(5.0));
        }
        assert_eq!(Norm::Linf.scale(&[-2.5]), Scale::Normal(2.5));
        assert_eq!(Norm::L2.scale(&[-2.5]), Scale::Normal(2.5));
    }

    #[test]
    fn scales_that_are_none() {
        for norm in [Norm::Linf, Norm::L2] {
            assert_eq!(norm.scale(&[]), Scale::Unusable);
            assert_eq!(norm.scale(&[0.0, -0.0]), Scale::Unusable);
            assert_eq!(norm.scale(&[1e-40, -1e-31]), Scale::Unusable);
            assert_eq!(norm.scale(&[1.0, f32::NAN]), Scale::NonFinite);
            assert_eq!(norm.scale(&[f32::NAN, 1.0]), Scale::NonFinite);
            assert_eq!(norm.scale(&[f32::NEG_INFINITY]), Scale::NonFinite);
        }
        assert_eq!(Norm::L2.scale(&[3e38; 4]), Scale::Unusable);
        assert_eq!(Norm::Linf.scale(&[3e38; 4]), Scale::Normal(3e38));
    }
}
