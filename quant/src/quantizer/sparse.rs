//! Sparse codecs: a few values of a group are sent, the others are not.
//!
//! Which ones are is a stream of symbols like any other, so that positions cost what the entropy of
//! the mask is.

use super::{Extra, Group, Parameters, usable};
use crate::cast::saturated;
use crate::coding::Alphabet;
use crate::norm::Scale;
use crate::rounding::Rounding;

/// Chosen values, in one of four forms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sparse {
    pub(crate) choice: Choice,
    pub(crate) form: Form,
}

/// Which values of a group are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    /// The fraction with the largest magnitudes, ⌈fraction · n⌉ of n; of equal ones the first. Aji and
    /// Heafield, EMNLP 2017; Lin et al., "Deep gradient compression", ICLR 2018.
    Top(f32),
    /// As many at random, drawn from the run's seed by sender and receiver alike: no position is
    /// sent. Stich et al., "Sparsified SGD with memory", NeurIPS 2018.
    Random(f32),
    /// Those of a magnitude of at least so many root mean squares of the group. After Strom,
    /// Interspeech 2015, whose threshold is absolute.
    Beyond(f32),
}

/// How the chosen values are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Fp32,
    /// In binary16, saturating.
    Fp16,
    /// As ± their mean magnitude: sparse ternary compression, Sattler et al., 2019.
    Sign,
    /// As ± the mean of those below or above their mean magnitude: two bits each, as in SparseLoCo.
    TwoBit,
}

impl Sparse {
    pub(super) fn is_drawn(self) -> bool {
        matches!(self.choice, Choice::Random(_))
    }

    pub(super) fn alphabet(self) -> Alphabet {
        match self.form {
            Form::Fp32 | Form::Fp16 => Alphabet { size: 2, zero: 0 },
            Form::Sign => Alphabet { size: 3, zero: 1 },
            Form::TwoBit => Alphabet { size: 5, zero: 2 },
        }
    }

    pub(super) fn parameters(self) -> usize {
        match self.form {
            Form::Fp32 | Form::Fp16 => 0,
            Form::Sign => 1,
            Form::TwoBit => 2,
        }
    }

    pub(super) fn escape(self) -> Option<(u8, Extra)> {
        match self.form {
            Form::Fp32 => Some((1, Extra::Fp32)),
            Form::Fp16 => Some((1, Extra::Fp16)),
            Form::Sign | Form::TwoBit => None,
        }
    }

    pub(super) fn quantize(self, group: &mut Group<'_>) -> Option<Parameters> {
        if !self.is_drawn() {
            // The receiver cannot tell which groups of a drawn selection are empty.
            usable(Scale::of(group.largest))?;
        }
        let zero = self.alphabet().zero;
        match self.choice {
            Choice::Top(fraction) => self.top(fraction, group),
            Choice::Beyond(deviations) => {
                let mean = group.energy / group.values.len() as f64;
                // At least the largest is sent: a group whose values are all alike would never be.
                let threshold = (deviations * mean.sqrt() as f32).min(group.largest);
                for (value, symbol) in group.values.iter().zip(&mut *group.symbols) {
                    let chosen = value.abs() >= threshold && *value != 0.0;
                    *symbol = if chosen { CHOSEN } else { zero };
                }
            }
            Choice::Random(fraction) => {
                let (first, rounding) = (group.first, group.rounding);
                draw(
                    fraction,
                    first,
                    rounding,
                    CHOSEN,
                    group.selection,
                    group.symbols,
                );
            }
        }
        Some(match self.form {
            Form::Fp32 | Form::Fp16 => {
                send(self.form, group);
                [0.0; 2]
            }
            Form::Sign => {
                let mean = mean_of_chosen(group, |_| true);
                replace(group, |value| if value < 0.0 { 0 } else { 2 });
                [mean, 0.0]
            }
            Form::TwoBit => {
                let mean = mean_of_chosen(group, |_| true);
                let low = mean_of_chosen(group, |v| v.abs() < mean);
                let high = mean_of_chosen(group, |v| v.abs() >= mean);
                replace(group, |v| match (v < 0.0, v.abs() >= mean) {
                    (true, true) => 0,
                    (true, false) => 1,
                    (false, false) => 3,
                    (false, true) => 4,
                });
                [low, high]
            }
        })
    }

    /// Marks the largest magnitudes.
    fn top(self, fraction: f32, group: &mut Group<'_>) {
        let zero = self.alphabet().zero;
        let count = chosen(fraction, group.values.len());
        let order = &mut *group.selection;
        order.clear();
        // Magnitudes order like their bits.
        order.extend(group.values.iter().map(|v| v.to_bits() & 0x7fff_ffff));
        let (_, least, _) = order.select_nth_unstable_by(count - 1, |a, b| b.cmp(a));
        let least = (*least).max(1);
        let above = group
            .values
            .iter()
            .filter(|v| v.to_bits() & 0x7fff_ffff > least)
            .count();
        let mut ties = count.saturating_sub(above);
        for (value, symbol) in group.values.iter().zip(&mut *group.symbols) {
            let bits = value.to_bits() & 0x7fff_ffff;
            let tie = bits == least && ties > 0;
            ties -= usize::from(tie);
            *symbol = if tie || bits > least { CHOSEN } else { zero };
        }
    }

    pub(super) fn meaning(self, [a, b]: Parameters, values: &mut [f32; 256]) {
        match self.form {
            Form::Fp32 | Form::Fp16 => values[..2].fill(0.0),
            Form::Sign => values[..3].copy_from_slice(&[-a, 0.0, a]),
            Form::TwoBit => values[..5].copy_from_slice(&[-b, -a, 0.0, a, b]),
        }
    }
}

/// What chosen elements are marked with, until the form says which symbol they have.
const CHOSEN: u8 = 255;

/// ⌈fraction · n⌉, at least 1.
fn chosen(fraction: f32, count: usize) -> usize {
    ((f64::from(fraction) * count as f64).ceil() as usize).clamp(1, count.max(1))
}

/// Gives ⌈fraction · n⌉ of n symbols the value `mark` and all others 0: those with the smallest random
/// numbers.
pub(crate) fn draw(
    fraction: f32,
    first: u32,
    rounding: Rounding,
    mark: u8,
    selection: &mut Vec<u32>,
    symbols: &mut [u8],
) {
    if symbols.is_empty() {
        return;
    }
    selection.clear();
    let numbers = (first..).zip(&*symbols).map(|(i, _)| rounding.bits(i));
    selection.extend(numbers);
    let count = chosen(fraction, symbols.len());
    let (_, most, _) = selection.select_nth_unstable(count - 1);
    let most = *most;
    let below = selection[..count]
        .iter()
        .filter(|bits| **bits < most)
        .count();
    let mut ties = count - below;
    for (i, symbol) in (first..).zip(symbols) {
        let bits = rounding.bits(i);
        let tie = bits == most && ties > 0;
        ties -= usize::from(tie);
        *symbol = if tie || bits < most { mark } else { 0 };
    }
}

/// Gives the chosen values symbols.
fn replace(group: &mut Group<'_>, symbol_of: impl Fn(f32) -> u8) {
    for (value, symbol) in group.values.iter().zip(&mut *group.symbols) {
        if *symbol == CHOSEN {
            *symbol = symbol_of(*value);
        }
    }
}

/// Sends the chosen values themselves.
fn send(form: Form, group: &mut Group<'_>) {
    for (value, symbol) in group.values.iter_mut().zip(&mut *group.symbols) {
        if *symbol != CHOSEN {
            continue;
        }
        *symbol = 1;
        let rest = match form {
            Form::Fp16 => {
                let sent = saturated(*value);
                group.extras.extend_from_slice(&sent.to_le_bytes());
                *value - sent.to_f32()
            }
            _ => {
                group.extras.extend_from_slice(&value.to_le_bytes());
                0.0
            }
        };
        *value = rest;
    }
}

fn mean_of_chosen(group: &Group<'_>, of: impl Fn(f32) -> bool) -> f32 {
    let chosen = group
        .values
        .iter()
        .zip(&*group.symbols)
        .filter(|(_, symbol)| **symbol == CHOSEN);
    let (mut sum, mut count) = (0.0, 0_u32);
    for (value, _) in chosen.filter(|(value, _)| of(**value)) {
        sum += f64::from(value.abs());
        count += 1;
    }
    (sum / f64::from(count.max(1))) as f32
}
