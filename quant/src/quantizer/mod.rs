//! Quantizers: from the values of a scale group to symbols and a few numbers.
//!
//! A quantizer decides for each value of a group which symbol stands for it; what the symbols of the
//! group are worth follows from the group's *parameters* alone ([`Quantizer::meaning`]), the same way
//! for encoder and decoder. What no symbol can say, an *escape* does, with a number of its own in the
//! frame's *extras*.

pub(crate) mod book;
pub(crate) mod deadzone;
pub(crate) mod sign;
pub(crate) mod sparse;
pub(crate) mod uniform;

use crate::coding::Alphabet;
use crate::norm::Scale;
use crate::rounding::Rounding;
use crate::simd::Simd;
use crate::values::{Sums, Table};
use book::Book;
use deadzone::DeadZone;
use sign::Sign;
use sparse::Sparse;
use uniform::Uniform;

/// How the values of a group become symbols.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Quantizer {
    Uniform(Uniform),
    DeadZone(DeadZone),
    Book(Book),
    Sign(Sign),
    Sparse(Sparse),
}

/// A group on its way through a quantizer.
pub(crate) struct Group<'a> {
    pub(crate) simd: Simd,
    /// v, all finite. Where an escape's number is sent, it is subtracted here.
    pub(crate) values: &'a mut [f32],
    /// Largest magnitude of the values.
    pub(crate) largest: f32,
    /// One for each value.
    pub(crate) symbols: &'a mut [u8],
    /// Position of the first value in its frame.
    pub(crate) first: u32,
    pub(crate) rounding: Rounding,
    /// The escapes' numbers.
    pub(crate) extras: &'a mut Vec<u8>,
    /// Memory for selections.
    pub(crate) selection: &'a mut Vec<u32>,
    /// ‖v‖².
    pub(crate) energy: f64,
    /// Gradient and residual of what comes next, to be asked for from memory on the way.
    pub(crate) ahead: [&'a [f32]; 2],
    /// h, for quantizers that update it on the way; and β − α.
    pub(crate) residual: &'a mut [f32],
    pub(crate) carry: f32,
    /// The sums, if the quantizer has updated h.
    pub(crate) remembered: Option<Remembered>,
}

/// Sums over a group, once its residual is updated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Remembered {
    /// ‖v − q‖².
    pub(crate) error: f64,
    /// ‖h‖².
    pub(crate) residual: f64,
    /// Whether squares left single precision, so that the sums are worth nothing.
    pub(crate) inexact: bool,
}

impl Remembered {
    /// Adds a run's sums.
    pub(crate) fn add(&mut self, sums: Sums) {
        self.error += f64::from(sums.error);
        self.residual += f64::from(sums.residual);
        self.inexact |= !fits_single(sums.error) || !fits_single(sums.residual);
    }
}

/// Whether a sum of squares in single precision has lost nothing to overflow or underflow.
pub(crate) fn fits_single(sum: f32) -> bool {
    (1e-24..1e30).contains(&sum)
}

/// A group's numbers; how many of them are sent depends on the quantizer.
pub(crate) type Parameters = [f32; 2];

/// Numbers that accompany escapes in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    /// A signed level, `i16`.
    Level,
    /// The value itself, `f32`.
    Fp32,
    /// The value itself, binary16.
    Fp16,
}

impl Extra {
    /// The numbers in a frame's extras.
    pub(crate) fn numbers(self, bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
        bytes
            .chunks_exact(self.width())
            .map(move |bytes| match (self, bytes) {
                (Self::Level, [a, b]) => f32::from(i16::from_le_bytes([*a, *b])),
                (Self::Fp16, [a, b]) => half::f16::from_le_bytes([*a, *b]).to_f32(),
                (_, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]),
                _ => 0.0,
            })
    }

    /// Bytes of a number.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Level | Self::Fp16 => 2,
            Self::Fp32 => 4,
        }
    }
}

impl Quantizer {
    /// The symbols, for the frame's book.
    pub(crate) fn alphabet(&self) -> Alphabet {
        match self {
            Self::Uniform(q) => q.alphabet(),
            Self::DeadZone(q) => q.alphabet(),
            Self::Book(q) => q.alphabet(),
            // A gradient's zeros count as not negative.
            Self::Sign(_) => Alphabet { size: 2, zero: 1 },
            Self::Sparse(q) => q.alphabet(),
        }
    }

    /// Numbers sent with each group: 0, 1 or 2.
    pub(crate) fn parameters(&self) -> usize {
        match self {
            Self::Uniform(_) | Self::DeadZone(_) | Self::Book(_) => 1,
            Self::Sign(q) => q.parameters(),
            Self::Sparse(q) => q.parameters(),
        }
    }

    /// The escape symbol and what is sent with each.
    pub(crate) fn escape(&self) -> Option<(u8, Extra)> {
        match self {
            Self::DeadZone(q) => q.escape(),
            Self::Sparse(q) => q.escape(),
            Self::Uniform(_) | Self::Book(_) | Self::Sign(_) => None,
        }
    }

    /// Whether values are shifted by the frame's random numbers, see [`uniform`].
    pub(crate) fn is_dithered(&self) -> bool {
        matches!(self, Self::Uniform(q) if q.rounding == uniform::Rounds::Dithered)
    }

    /// Whether which elements are sent follows from the seed, so that no symbols are.
    pub(crate) fn is_drawn(&self) -> bool {
        matches!(self, Self::Sparse(q) if q.is_drawn())
    }

    /// Chooses the symbols of a group, or says that its scale cannot be used: it is then sent as
    /// zeros.
    pub(crate) fn quantize(&self, group: &mut Group<'_>) -> Option<Parameters> {
        match self {
            Self::Uniform(q) => q.quantize(group),
            Self::DeadZone(q) => q.quantize(group),
            Self::Book(q) => q.quantize(group),
            Self::Sign(q) => q.quantize(group),
            Self::Sparse(q) => q.quantize(group),
        }
    }

    /// What each symbol of a group with these parameters is worth. Entries are not finite if the
    /// parameters are not what an encoder sends.
    pub(crate) fn meaning(&self, parameters: Parameters, table: &mut Table) {
        let [a, b] = parameters;
        let values = &mut table.values;
        match self {
            Self::Uniform(_) | Self::DeadZone(_) => {
                let Alphabet { size, zero } = self.alphabet();
                for (symbol, value) in (0_i32..).zip(&mut values[..size]) {
                    *value = (symbol - i32::from(zero)) as f32 * a;
                }
                if let Some((escape, _)) = self.escape() {
                    values[usize::from(escape)] = 0.0;
                }
            }
            Self::Book(q) => q.meaning(a, values),
            Self::Sign(q) => values[..2].copy_from_slice(&q.meaning(parameters)),
            Self::Sparse(q) => q.meaning([a, b], values),
        }
    }

    /// Whether E q(v) = v, so that ω is a variance: what the guard of error feedback is for.
    pub(crate) fn is_unbiased(&self) -> bool {
        match self {
            Self::Uniform(q) => q.rounding != uniform::Rounds::Nearest,
            Self::Book(q) => q.stochastic,
            Self::DeadZone(_) | Self::Sign(_) | Self::Sparse(_) => false,
        }
    }
}

/// The scale, if there is one to use.
fn usable(scale: Scale) -> Option<f32> {
    match scale {
        Scale::Normal(scale) => Some(scale),
        Scale::Unusable => None,
    }
}
