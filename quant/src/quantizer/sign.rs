//! One bit a value: signs.

use super::{Group, Parameters, usable};
use crate::norm::{Scale, sum_of_magnitudes};
use crate::simd::kernel;

/// Whether a value is negative (symbol 0) or not (symbol 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// q(v) = mean|v| · sgn v. Karimireddy et al., "Error feedback fixes SignSGD", ICML 2019.
    OneMean,
    /// The mean of the negative values and that of the others. Seide et al., "1-bit stochastic
    /// gradient descent", Interspeech 2014.
    TwoMeans,
}

impl Sign {
    pub(super) fn parameters(self) -> usize {
        match self {
            Self::OneMean => 1,
            Self::TwoMeans => 2,
        }
    }

    pub(super) fn quantize(self, group: &mut Group<'_>) -> Option<Parameters> {
        let simd = group.simd;
        usable(Scale::of(group.largest))?;
        let negative = signs(simd, group.values, group.symbols) as f64;
        let magnitudes = sum_of_magnitudes(simd, group.values);
        let count = group.values.len() as f64;
        match self {
            Self::OneMean => Some([(magnitudes / count) as f32, 0.0]),
            Self::TwoMeans => {
                let sum: f64 = group.values.iter().map(|v| f64::from(*v)).sum();
                let mean = |sum: f64, count: f64| (sum.max(0.0) / count.max(1.0)) as f32;
                let below = mean((magnitudes - sum) / 2.0, negative);
                Some([below, mean((magnitudes + sum) / 2.0, count - negative)])
            }
        }
    }

    /// Values of the two symbols; parameters are magnitudes.
    pub(super) fn meaning(self, [below, above]: Parameters) -> [f32; 2] {
        match self {
            Self::OneMean => [-below, below],
            Self::TwoMeans => [-below, above],
        }
    }
}

kernel! {
    /// Symbols, and the number of negative values.
    fn signs(values: &[f32], symbols: &mut [u8]) -> u64 {
        let mut negative = 0;
        for (values, symbols) in values.chunks(128).zip(symbols.chunks_mut(128)) {
            let mut here = 0_u8;
            for (value, symbol) in values.iter().zip(symbols) {
                *symbol = u8::from(*value >= 0.0);
                here = here.wrapping_add(1 - *symbol);
            }
            negative += u64::from(here);
        }
        negative
    }
}
