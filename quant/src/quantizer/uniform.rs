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
                let scaled = Scaled::new(self.levels, scale, rounding, group.carry);
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

/// Elements that share a row of random words: one takes the low half of a word, one the high half.
const ROW: usize = 32;

/// What the stochastic kernel is told of a group: how values become numbers of a fixed point.
///
/// v is brought to v/unit + s in units of 2^−fraction, to the nearest, and a random number of so many
/// bits is added; the integer part is then the symbol. 2s levels and their fractions have 20 bits
/// together (16 for the fraction at most), so that the rounding of floats before is never seen: what
/// is a level already stays one.
#[derive(Clone, Copy, Debug)]
struct Scaled {
    /// 2^fraction / unit.
    per_unit: f32,
    /// What a value's number has added: s levels, and [`ANCHOR`].
    middle: f32,
    /// The number of the highest level.
    most: f32,
    /// Bits of the fraction.
    fraction: u32,
    /// Level 0, as the bits of a number say it.
    zero: i32,
    unit: f32,
    rounding: Rounding,
    carry: f32,
}

/// 2²³: between here and its double, floats are the integers, and their low bits count them.
const ANCHOR: f32 = 8_388_608.0;

impl Scaled {
    fn new(levels: u8, scale: f32, rounding: Rounding, carry: f32) -> Self {
        let s = f32::from(levels);
        let fraction = (19 - levels.next_power_of_two().ilog2()).min(16);
        let one = (1_u32 << fraction) as f32;
        let unit = scale / s;
        Self {
            per_unit: one * (s / scale),
            middle: ANCHOR + s * one,
            most: ANCHOR + 2.0 * s * one,
            fraction,
            // Invariant: below 2^31, since ANCHOR's bits are.
            zero: (ANCHOR.to_bits() >> fraction) as i32 + i32::from(levels),
            unit,
            rounding,
            carry,
        }
    }

    /// The symbol of v in the lowest byte, other bits above. `random` has as many bits as the fraction.
    #[inline(always)]
    fn symbol(&self, v: f32, random: u32) -> u32 {
        // Clipping leaves values beyond the highest level.
        let number = v * self.per_unit + self.middle;
        let number = if number < self.most {
            number
        } else {
            self.most
        };
        let number = if number > ANCHOR { number } else { ANCHOR };
        (number.to_bits() + random) >> self.fraction
    }

    /// The halves of a word.
    #[inline(always)]
    fn random(&self, half: usize, word: u32) -> u32 {
        if half == 0 {
            word & ((1 << self.fraction) - 1)
        } else {
            word >> (32 - self.fraction)
        }
    }
}

kernel! {
    /// The symbol of v is s + ⌊v/unit + u⌋, u uniform in [0, 1); and what [`crate::values::remember`]
    /// does with it, at once.
    fn stochastic<const CARRIES: bool>(
        group: &Scaled,
        first: u32,
        ahead: [&[f32]; 2],
        values: &[f32],
        symbols: &mut [u8],
        residual: &mut [f32],
    ) -> Sums {
        let group = *group;
        let (mut errors, mut residuals) = ([0.0_f32; 16], [0.0_f32; 16]);
        let mut row = |random: &[u32; 16], half: usize, v: &[f32], symbols: &mut [u8], h: &mut [f32]| {
            for (i, ((v, symbol), h)) in v.iter().zip(symbols).zip(h).enumerate() {
                let found = group.symbol(*v, group.random(half, random[i]));
                *symbol = found as u8;
                let error = v - (found as i32 - group.zero) as f32 * group.unit;
                *h = if CARRIES { group.carry * *h + error } else { error };
                errors[i] += error * error;
                if CARRIES {
                    residuals[i] += *h * *h;
                }
            }
        };
        let (vs, v_rest) = values.as_chunks::<ROW>();
        let (ss, s_rest) = symbols.as_chunks_mut::<ROW>();
        let (hs, h_rest) = residual.as_chunks_mut::<ROW>();
        let mut place = 0;
        for ((v, symbols), h) in vs.iter().zip(ss).zip(hs) {
            let random = group.rounding.words(first.wrapping_add(place as u32));
            let (v, symbols, h) = (v.as_chunks::<16>().0, symbols.as_chunks_mut::<16>().0, h.as_chunks_mut::<16>().0);
            for half in 0..2 {
                prefetch(ahead[0], place + 16 * half);
                prefetch(ahead[1], place + 16 * half);
                row(&random, half, &v[half], &mut symbols[half], &mut h[half]);
            }
            place += ROW;
        }
        let random = group.rounding.words(first.wrapping_add(place as u32));
        let rest = v_rest.chunks(16).zip(s_rest.chunks_mut(16)).zip(h_rest.chunks_mut(16));
        for (half, ((v, symbols), h)) in rest.enumerate() {
            row(&random, half, v, symbols, h);
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
