//! The quantizer of QSGD and ECQ-SGD: uniform levels, stochastic rounding.

use crate::coding::Coding;
use crate::norm::Norm;
use crate::rounding::Rounding;

/// q(v) = scale/s · sgn(v) · l with l ∈ {0, …, s}: |v|·s/scale is rounded up with the probability
/// of its fractional part, so E q(v) = v.
///
/// Alistarh et al., "QSGD", NeurIPS 2017; Wu et al., "Error Compensated Quantized SGD", ICML 2018.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uniform {
    /// s, the number of non-zero levels a sign: 1 to 127.
    pub levels: u8,
    /// What the scale of a group is.
    pub norm: Norm,
    /// Elements of a scale group; 0 makes each tensor one group.
    pub bucket: u32,
    /// How the levels become bytes.
    pub coding: Coding,
}

impl Uniform {
    /// Number of symbols, 2s + 1.
    pub(crate) fn alphabet(&self) -> usize {
        2 * usize::from(self.levels) + 1
    }

    /// What one level is worth in a group of this scale. Encoder and decoder must agree to the bit.
    pub(crate) fn unit(&self, scale: f32) -> f32 {
        scale / f32::from(self.levels)
    }

    /// Quantizes a group. `symbols` receives l + s for the signed level l, `values` is overwritten
    /// with the quantization error v − q(v); `index` is the first element's position in its frame.
    pub(crate) fn quantize(
        &self,
        scale: f32,
        rounding: Rounding,
        index: u32,
        values: &mut [f32],
        symbols: &mut [u8],
    ) {
        let levels = i32::from(self.levels);
        let per_unit = f32::from(self.levels) / scale;
        let unit = self.unit(scale);
        for (i, (value, symbol)) in (index..).zip(values.iter_mut().zip(symbols)) {
            // Truncation rounds down, since nothing here is negative. Rounding of the product may
            // lift the largest value past s.
            let level = (value.abs() * per_unit + rounding.uniform(i)) as i32;
            let level = level.min(levels);
            let signed = if *value < 0.0 { -level } else { level };
            *symbol = (signed + levels) as u8;
            *value -= signed as f32 * unit;
        }
    }

    /// Adds weight · q for a group of symbols.
    pub(crate) fn accumulate(&self, scale: f32, symbols: &[u8], weight: f32, target: &mut [f32]) {
        let levels = i32::from(self.levels);
        let unit = self.unit(scale);
        for (sum, symbol) in target.iter_mut().zip(symbols) {
            let value = (i32::from(*symbol) - levels) as f32 * unit;
            *sum += weight * value;
        }
    }
}
