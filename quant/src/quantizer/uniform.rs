//! Uniform levels: QSGD and ECQ-SGD, TernGrad, int8, and subtractive dither.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod stochastic;

use super::{Group, Parameters, usable};
use crate::coding::Alphabet;
use crate::feedback::RUN;
use crate::norm::{Norm, Scale, sum_of_squares};
use crate::rounding::Rounding;
use crate::simd::kernel;
use stochastic::{Run, Scaled, stochastic};

/// q(v) = unit · l with l ∈ {−s, …, s} and unit = scale/s, the group's parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Uniform {
    /// s, the number of non-zero levels a sign: 1 to 127.
    pub(crate) levels: u8,
    /// What the scale of a group is.
    pub(crate) norm: Norm,
    /// How a value between two levels becomes one of them.
    pub(crate) rounding: Rounds,
    /// Values beyond so many standard deviations (about 0) are clipped first: TernGrad's remedy for
    /// outliers, which would be the scale of all others.
    pub(crate) clip: Option<f32>,
}

/// How a value between two levels becomes one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounds {
    /// Up with the probability of the fractional part, so that E q(v) = v. Alistarh et al., "QSGD",
    /// NeurIPS 2017; Wu et al., "Error Compensated Quantized SGD", ICML 2018.
    Stochastic,
    /// To the nearest, ties to even.
    Nearest,
    /// l = ⌊v/unit + u⌉ and q = unit · (l − u), with u uniform in [−½, ½) drawn from the run's seed by
    /// sender and receiver alike: unbiased, with an error that is uniform and independent of v.
    /// Roberts, "Picture coding using pseudo-random noise", 1962.
    Dithered,
}

impl Uniform {
    pub(crate) fn alphabet(&self) -> Alphabet {
        Alphabet {
            size: 2 * usize::from(self.levels) + 1,
            zero: self.levels,
        }
    }

    pub(super) fn quantize(&self, group: &mut Group<'_>) -> Option<Parameters> {
        let Group {
            simd,
            largest,
            first,
            rounding,
            ..
        } = *group;
        let scale = match self.clip {
            None => self.norm.scale(simd, group.values, largest),
            Some(deviations) => {
                let variance = sum_of_squares(simd, group.values) / group.values.len() as f64;
                Scale::of(largest.min(deviations * variance.sqrt() as f32))
            }
        };
        let scale = usable(scale)?;
        let levels = f32::from(self.levels);
        let per_unit = levels / scale;
        let (values, symbols) = (&*group.values, &mut *group.symbols);
        let (most, zero) = (levels, i32::from(self.levels));
        match self.rounding {
            Rounds::Stochastic => {
                let scaled = Scaled::new(self.levels, scale, rounding, group.carry);
                let ahead = group.ahead;
                let runs = values.chunks(RUN).zip(symbols.chunks_mut(RUN));
                let runs = runs.zip(group.residual.chunks_mut(RUN));
                for (first, ((values, symbols), residual)) in (first..).step_by(RUN).zip(runs) {
                    let run = Run {
                        first,
                        ahead,
                        values,
                        symbols,
                        residual,
                    };
                    let sums = stochastic(simd, &scaled, run);
                    group.remembered.get_or_insert_default().add(sums);
                }
            }
            Rounds::Nearest => nearest(simd, per_unit, most, zero, values, symbols),
            Rounds::Dithered => {
                dithered(simd, per_unit, most, zero, rounding, first, values, symbols);
            }
        }
        Some([scale / levels, 0.0])
    }
}

kernel! {
    /// The symbol of v is s + ⌊v/unit⌉.
    fn nearest(per_unit: f32, most: f32, zero: i32, values: &[f32], symbols: &mut [u8]) {
        for (value, symbol) in values.iter().zip(symbols) {
            let level = (value * per_unit).clamp(-most, most);
            *symbol = (round(level).0 + zero) as u8;
        }
    }
}

kernel! {
    /// The symbol of v is s + ⌊v/unit + u⌉, u uniform in [−½, ½).
    fn dithered(
        per_unit: f32,
        most: f32,
        zero: i32,
        rounding: Rounding,
        first: u32,
        values: &[f32],
        symbols: &mut [u8],
    ) {
        for (i, (value, symbol)) in (first..).zip(values.iter().zip(symbols)) {
            let level = value * per_unit + (rounding.uniform(i) - 0.5);
            *symbol = (round(level.clamp(-most, most)).0 + zero) as u8;
        }
    }
}

/// The nearest integer, ties to even, and its float. Of magnitudes beyond 2²², for which it does not
/// hold, the result is some integer.
#[inline(always)]
pub(super) fn round(x: f32) -> (i32, f32) {
    // Between 2²³ and 2²⁴ floats are the integers, and their bits count them.
    const MIDDLE: f32 = 12_582_912.0;
    let moved = x + MIDDLE;
    let level = (moved.to_bits() as i32).wrapping_sub(MIDDLE.to_bits() as i32);
    (level, moved - MIDDLE)
}

kernel! {
    /// Takes unit · (l − u) off each value: what a receiver makes of its symbol.
    pub(crate) fn take_dithered(
        unit: f32,
        zero: i32,
        rounding: Rounding,
        first: u32,
        symbols: &[u8],
        values: &mut [f32],
    ) {
        for (i, (value, symbol)) in (first..).zip(values.iter_mut().zip(symbols)) {
            *value -= undithered(unit, zero, rounding.uniform(i), *symbol);
        }
    }
}

kernel! {
    /// target += weight · unit · (l − u).
    pub(crate) fn accumulate_dithered(
        unit: f32,
        zero: i32,
        rounding: Rounding,
        first: u32,
        weight: f32,
        symbols: &[u8],
        target: &mut [f32],
    ) {
        for (i, (sum, symbol)) in (first..).zip(target.iter_mut().zip(symbols)) {
            *sum += weight * undithered(unit, zero, rounding.uniform(i), *symbol);
        }
    }
}

#[inline(always)]
fn undithered(unit: f32, zero: i32, uniform: f32, symbol: u8) -> f32 {
    ((i32::from(symbol) - zero) as f32 - (uniform - 0.5)) * unit
}
