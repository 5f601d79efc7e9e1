//! Uniform levels: QSGD and ECQ-SGD, TernGrad, int8, and subtractive dither.

use super::{Group, Parameters, usable};
use crate::coding::Alphabet;
use crate::feedback::{RUN, add_lanes};
use crate::norm::{Norm, Scale, sum_of_squares};
use crate::rounding::Rounding;
use crate::simd::{kernel, prefetch};
use crate::values::Sums;

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
                let scaled = Scaled {
                    per_unit,
                    unit: scale / levels,
                    most,
                    zero,
                    rounding,
                    carry: group.carry,
                };
                let ahead = group.ahead;
                let runs = values.chunks(RUN).zip(symbols.chunks_mut(RUN));
                let runs = runs.zip(group.residual.chunks_mut(RUN));
                for (first, ((values, symbols), residual)) in (first..).step_by(RUN).zip(runs) {
                    let sums = if group.carry == 0.0 {
                        stochastic::<false>(simd, &scaled, first, ahead, values, symbols, residual)
                    } else {
                        stochastic::<true>(simd, &scaled, first, ahead, values, symbols, residual)
                    };
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

/// What the stochastic kernel is told of a group.
#[derive(Clone, Copy, Debug)]
struct Scaled {
    per_unit: f32,
    unit: f32,
    most: f32,
    zero: i32,
    rounding: Rounding,
    carry: f32,
}

kernel! {
    /// The symbol of v is s ± ⌊|v|/unit + u⌋, u uniform in [0, 1); and what [`crate::values::remember`]
    /// does with it, at once.
    fn stochastic<const CARRIES: bool>(
        group: &Scaled,
        first: u32,
        ahead: [&[f32]; 2],
        values: &[f32],
        symbols: &mut [u8],
        residual: &mut [f32],
    ) -> Sums {
        let Scaled { per_unit, unit, most, zero, rounding, carry } = *group;
        let (mut errors, mut residuals) = ([0.0_f32; 16], [0.0_f32; 16]);
        let (vs, v_rest) = values.as_chunks::<16>();
        let (ss, s_rest) = symbols.as_chunks_mut::<16>();
        let (hs, h_rest) = residual.as_chunks_mut::<16>();
        let mut index = first;
        for ((v, symbols), h) in vs.iter().zip(ss).zip(hs) {
            let place = index.wrapping_sub(first) as usize;
            prefetch(ahead[0], place);
            prefetch(ahead[1], place);
            let u = rounding.uniforms(index);
            index = index.wrapping_add(16);
            for i in 0..16 {
                let level = stochastic_level(v[i], per_unit, u[i], most);
                symbols[i] = (level + zero) as u8;
                let error = v[i] - level as f32 * unit;
                h[i] = if CARRIES { carry * h[i] + error } else { error };
                errors[i] += error * error;
                if CARRIES {
                    residuals[i] += h[i] * h[i];
                }
            }
        }
        for (i, ((v, symbol), h)) in v_rest.iter().zip(s_rest).zip(h_rest).enumerate() {
            let u = rounding.uniform(index.wrapping_add(i as u32));
            let level = stochastic_level(*v, per_unit, u, most);
            *symbol = (level + zero) as u8;
            let error = v - level as f32 * unit;
            *h = if CARRIES { carry * *h + error } else { error };
            errors[i] += error * error;
            if CARRIES {
                residuals[i] += *h * *h;
            }
        }
        let error = add_lanes(errors);
        Sums {
            error,
            residual: if CARRIES { add_lanes(residuals) } else { error },
        }
    }
}

kernel! {
    /// The symbol of v is s + ⌊v/unit⌉.
    fn nearest(per_unit: f32, most: f32, zero: i32, values: &[f32], symbols: &mut [u8]) {
        for (value, symbol) in values.iter().zip(symbols) {
            let level = (value * per_unit).clamp(-most, most);
            *symbol = (truncate(round(level)) + zero) as u8;
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
            *symbol = (truncate(round(level.clamp(-most, most))) + zero) as u8;
        }
    }
}

/// ±⌊|v|·per_unit + u⌋ with the sign of v, at most `most`: truncation rounds towards zero on both sides.
/// Rounding of the product may lift the largest value past s, and clipping leaves larger ones.
#[inline(always)]
#[allow(
    unsafe_code,
    reason = "without the checks of `as`, which take longer than all the rest"
)]
fn stochastic_level(v: f32, per_unit: f32, u: f32, most: f32) -> i32 {
    let signed = f32::from_bits(u.to_bits() | v.to_bits() & 0x8000_0000);
    let level = v * per_unit + signed;
    let level = if level < most { level } else { most };
    let level = if level > -most { level } else { -most };
    // SAFETY: between −127 and 127; comparisons with NaN are false.
    unsafe { level.to_int_unchecked() }
}

/// The integer part of a number of magnitude below 2¹⁵.
#[inline(always)]
#[allow(
    unsafe_code,
    reason = "without the checks of `as`, which take longer than all the rest"
)]
pub(super) fn truncate(x: f32) -> i32 {
    let x = if x < 32_767.0 { x } else { 32_767.0 };
    let x = if x > -32_767.0 { x } else { -32_767.0 };
    // SAFETY: comparisons with NaN are false, so x is between the bounds.
    unsafe { x.to_int_unchecked() }
}

/// The nearest integer, ties to even, of a number of magnitude below 2²²: beyond 1.5·2²³ floats are
/// integers.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    (x + 12_582_912.0) - 12_582_912.0
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
