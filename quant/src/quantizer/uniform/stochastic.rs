//! Stochastic rounding, with the residual's update at once.

use crate::feedback::add_lanes;
use crate::rounding::Rounding;
use crate::simd::{Path, Simd, kernel, prefetch};
use crate::values::Sums;

/// Elements that share a row of random words: one takes the low half of a word, one the high half.
pub(super) const ROW: usize = 32;

/// What the stochastic kernel is told of a group: how values become numbers of a fixed point.
///
/// v is brought to v/unit + s in units of 2^−fraction, to the nearest, and a random number of so many
/// bits is added; the integer part is then the symbol. 2s levels and their fractions have 20 bits
/// together (16 for the fraction at most), so that the rounding of floats before is never seen: what
/// is a level already stays one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaled {
    /// 2^fraction / unit.
    pub(super) per_unit: f32,
    /// What a value's number has added: s levels, and [`ANCHOR`].
    pub(super) middle: f32,
    /// The number of the highest level.
    pub(super) most: f32,
    /// Bits of the fraction.
    pub(super) fraction: u32,
    /// Level 0, as the bits of a number say it.
    pub(super) zero: i32,
    pub(super) unit: f32,
    pub(super) levels: u8,
    pub(super) rounding: Rounding,
    pub(super) carry: f32,
}

/// 2²³: between here and its double, floats are the integers, and their low bits count them.
pub(super) const ANCHOR: f32 = 8_388_608.0;

impl Scaled {
    pub(super) fn new(levels: u8, scale: f32, rounding: Rounding, carry: f32) -> Self {
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
            levels,
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

    /// What the symbol of a number is worth.
    #[inline(always)]
    fn value(&self, found: u32) -> f32 {
        (found as i32 - self.zero) as f32 * self.unit
    }

    /// What the first symbols are worth.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn values<const N: usize>(&self) -> [f32; N] {
        std::array::from_fn(|symbol| (symbol as i32 - i32::from(self.levels)) as f32 * self.unit)
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

/// Elements of a group on their way.
pub(super) struct Run<'a> {
    /// Position of the first in its frame.
    pub(super) first: u32,
    /// What comes next, to be asked for from memory on the way.
    pub(super) ahead: [&'a [f32]; 2],
    pub(super) values: &'a [f32],
    pub(super) symbols: &'a mut [u8],
    pub(super) residual: &'a mut [f32],
}

/// Whole rows of a run.
pub(super) struct Rows<'a> {
    pub(super) values: &'a [[f32; ROW]],
    pub(super) symbols: &'a mut [[u8; ROW]],
    pub(super) residual: &'a mut [[f32; ROW]],
}

impl<'a> Run<'a> {
    /// Whole rows, and what is left.
    #[inline(always)]
    pub(super) fn split(self) -> (Rows<'a>, Run<'a>) {
        let (values, v_rest) = self.values.as_chunks();
        let (symbols, s_rest) = self.symbols.as_chunks_mut();
        let (residual, h_rest) = self.residual.as_chunks_mut();
        let rest = Run {
            first: self.first.wrapping_add((ROW * values.len()) as u32),
            ahead: [&[]; 2],
            values: v_rest,
            symbols: s_rest,
            residual: h_rest,
        };
        let rows = Rows {
            values,
            symbols,
            residual,
        };
        (rows, rest)
    }
}

/// The symbol of v is s + ⌊v/unit + u⌋, u uniform in [0, 1); and what [`crate::values::remember`] does with
/// it, at once.
pub(super) fn stochastic(simd: Simd, group: &Scaled, run: Run<'_>) -> Sums {
    let carries = group.carry != 0.0;
    let [errors, residuals] = match simd.path() {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => super::avx512::stochastic(simd, group, run),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => super::avx2::stochastic(simd, group, run),
        Path::Portable => finish(simd, group, run, Lanes::default()),
    };
    let error = add_lanes(errors);
    Sums {
        error,
        residual: if carries { add_lanes(residuals) } else { error },
    }
}

/// What is left of a run, all of it in plain floats: what every CPU runs, and what the vector kernels are held
/// to. Gives the sums with those of before.
pub(super) fn finish(simd: Simd, group: &Scaled, rest: Run<'_>, sums: Lanes) -> Lanes {
    match rest.values {
        [] => sums,
        _ if group.carry != 0.0 => rows::<true>(simd, group, rest, sums),
        _ => rows::<false>(simd, group, rest, sums),
    }
}

/// Sums of (v − q)² and h² in lanes; those of h² only where they are not the same.
pub(super) type Lanes = [[f32; 16]; 2];

kernel! {
    /// Adds to the sums.
    fn rows<const CARRIES: bool>(group: &Scaled, run: Run<'_>, sums: Lanes) -> Lanes {
        let group = *group;
        let [mut errors, mut residuals] = sums;
        let mut row = |random: &[u32; 16], half: usize, v: &[f32], symbols: &mut [u8], h: &mut [f32]| {
            for (i, ((v, symbol), h)) in v.iter().zip(symbols).zip(h).enumerate() {
                let found = group.symbol(*v, group.random(half, random[i]));
                *symbol = found as u8;
                let error = v - group.value(found);
                *h = if CARRIES { group.carry * *h + error } else { error };
                errors[i] += error * error;
                if CARRIES {
                    residuals[i] += *h * *h;
                }
            }
        };
        let (first, ahead) = (run.first, run.ahead);
        let (Rows { values, symbols, residual }, rest) = run.split();
        let mut place = 0;
        for ((v, symbols), h) in values.iter().zip(symbols).zip(residual) {
            let random = group.rounding.words(first.wrapping_add(place as u32));
            let (v, symbols, h) = (v.as_chunks::<16>().0, symbols.as_chunks_mut::<16>().0, h.as_chunks_mut::<16>().0);
            for half in 0..2 {
                prefetch(ahead[0], place + 16 * half);
                prefetch(ahead[1], place + 16 * half);
                row(&random, half, &v[half], &mut symbols[half], &mut h[half]);
            }
            place += ROW;
        }
        let random = group.rounding.words(rest.first);
        let Run { values, symbols, residual, .. } = rest;
        let rest = values.chunks(16).zip(symbols.chunks_mut(16)).zip(residual.chunks_mut(16));
        for (half, ((v, symbols), h)) in rest.enumerate() {
            row(&random, half, v, symbols, h);
        }
        [errors, residuals]
    }
}
