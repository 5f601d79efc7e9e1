//! The deterministic dead-zone quantizer: nearest level of a step in proportion to the group's root
//! mean square, values by least squares. The best rate inside error feedback, which makes
//! unbiasedness unnecessary: at about one bit it loses half of what stochastic rounding does.

use super::uniform::round;
use super::{Extra, Group, Parameters, usable};
use crate::coding::Alphabet;
use crate::norm::Scale;
use crate::simd::{Simd, kernel, prefetch};

/// l = ⌊v/(c·rms)⌉ and q(v) = gain · l, with gain = ⟨v, l⟩/⟨l, l⟩ the group's parameter, which
/// minimises ‖v − q‖².
///
/// The step is never so large that the largest value of a group would fall to zero: at most
/// [`REACH`] times that. Without it, nothing of a group whose values are all alike would ever be sent, and inside
/// error feedback groups become so: residuals fill the dead zone. With c beyond 2√3 that is what happens to
/// white gradients too, and only the largest values are sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeadZone {
    /// c, the step in units of the root mean square.
    pub(crate) step: f32,
    /// Largest level with a symbol of its own: 1 to 126.
    pub(crate) levels: u8,
    /// Whether larger ones are sent by an escape, or as the largest. A code that cannot deliver
    /// outliers quickly oscillates under momentum.
    pub(crate) escape: bool,
}

/// A step is at most so many times the largest value, which is then nearer to level 1 than to 0.
const REACH: f32 = 1.9;

/// Largest level that is sent at all.
const LEVEL_MAX: f32 = 32_000.0;

impl DeadZone {
    pub(crate) fn alphabet(&self) -> Alphabet {
        Alphabet {
            size: 2 * usize::from(self.levels) + 1 + usize::from(self.escape),
            zero: self.levels,
        }
    }

    pub(super) fn escape(&self) -> Option<(u8, Extra)> {
        self.escape.then_some((2 * self.levels + 1, Extra::Level))
    }

    pub(super) fn quantize(&self, group: &mut Group<'_>) -> Option<Parameters> {
        let simd = group.simd;
        let mean_square = group.energy / group.values.len() as f64;
        let step = self.step * usable(Scale::of(mean_square.sqrt() as f32))?;
        let step = usable(Scale::of(step.min(REACH * group.largest)))?;
        let most = if self.escape {
            LEVEL_MAX
        } else {
            f32::from(self.levels)
        };
        let (values, symbols) = (&*group.values, &mut *group.symbols);
        let ahead = group.ahead[0];
        let sums = levels(simd, 1.0 / step, most, self.levels, ahead, values, symbols);
        let [products, squares] = sums;
        if squares == 0.0 {
            return Some([0.0, 0.0]);
        }
        let gain = step * (products / squares) as f32;
        let (highest, _) = round((group.largest * (1.0 / step)).min(LEVEL_MAX));
        if self.escape && highest > i32::from(self.levels) {
            self.send_escapes(step, gain, group);
        }
        Some([gain, 0.0])
    }

    fn send_escapes(&self, step: f32, gain: f32, group: &mut Group<'_>) {
        let escape = 2 * self.levels + 1;
        let per_step = 1.0 / step;
        for (value, symbol) in group.values.iter_mut().zip(&mut *group.symbols) {
            if *symbol != escape {
                continue;
            }
            let (level, worth) = round((*value * per_step).clamp(-LEVEL_MAX, LEVEL_MAX));
            // Invariant: LEVEL_MAX fits.
            group
                .extras
                .extend_from_slice(&(level as i16).to_le_bytes());
            *value -= worth * gain;
        }
    }
}

/// Symbols of the levels, and Σ t·l and Σ l² with t = v/step.
fn levels(
    simd: Simd,
    per_step: f32,
    most: f32,
    levels: u8,
    ahead: &[f32],
    values: &[f32],
    symbols: &mut [u8],
) -> [f64; 2] {
    let mut sums = [0.0; 2];
    // In single precision as long as the sums are short.
    for (values, symbols) in values.chunks(1024).zip(symbols.chunks_mut(1024)) {
        let part = levels_of_run(simd, per_step, most, levels, ahead, values, symbols);
        sums[0] += f64::from(part[0]);
        sums[1] += f64::from(part[1]);
    }
    sums
}

kernel! {
    fn levels_of_run(
        per_step: f32,
        most: f32,
        levels: u8,
        ahead: &[f32],
        values: &[f32],
        symbols: &mut [u8],
    ) -> [f32; 2] {
        let mut products = [0.0_f32; 16];
        let mut squares = [0.0_f32; 16];
        let zero = i32::from(levels);
        let one = |value: f32, symbol: &mut u8, products: &mut f32, squares: &mut f32| {
            let t = value * per_step;
            let (level, worth) = round(t.clamp(-most, most));
            *products += t * worth;
            *squares += worth * worth;
            // The escape is the symbol above the largest level.
            let escape = i32::from(level.abs() > zero) * (2 * zero + 1);
            *symbol = if escape > 0 { escape } else { level + zero } as u8;
        };
        let (chunks, rest) = values.as_chunks::<16>();
        let (symbol_chunks, symbol_rest) = symbols.as_chunks_mut::<16>();
        for (i, (values, symbols)) in chunks.iter().zip(symbol_chunks).enumerate() {
            prefetch(ahead, 16 * i);
            for lane in 0..16 {
                one(values[lane], &mut symbols[lane], &mut products[lane], &mut squares[lane]);
            }
        }
        for (lane, (value, symbol)) in rest.iter().zip(symbol_rest).enumerate() {
            one(*value, symbol, &mut products[lane], &mut squares[lane]);
        }
        [products.iter().sum(), squares.iter().sum()]
    }
}
