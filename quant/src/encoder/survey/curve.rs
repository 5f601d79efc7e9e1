//! What a budget chooses from: size and error of a tensor for every number of levels, or every step.
//!
//! Both follow from a histogram of the tensor's magnitudes; they are computed for some candidates, and
//! lie on smooth curves between them.

use super::Measures;
use crate::quantizer::Quantizer;

/// Magnitudes of the dead-zone quantizer are counted up to so many root mean squares.
pub(super) const DEAD_ZONE_REACH: f32 = 32.0;

/// 2^(−k/16).
const SIXTEENTHS: [f32; 16] = [
    1.0,
    0.957_603_3,
    0.917_004,
    0.878_126_1,
    0.840_896_4,
    0.805_245_2,
    0.771_105_4,
    0.738_413_1,
    std::f32::consts::FRAC_1_SQRT_2,
    0.677_127_8,
    0.648_419_8,
    0.620_928_9,
    0.594_603_6,
    0.569_394_3,
    0.545_253_9,
    0.522_136_9,
];

/// The numbers of levels that are computed.
const KNOTS: [u8; 31] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 23, 26, 30, 34, 39, 45, 52, 60,
    70, 82, 96, 111, 127,
];

/// What can be chosen, from the coarsest on: candidate *i* is *i* + 1 levels, or a step of
/// 3.4 · 2^(−*i*/16) root mean squares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::encoder) enum Candidates {
    Levels,
    /// Of a dead zone, with levels for six root mean squares, or as far as 126 of them reach: 3.5 with the finest
    /// step. What is beyond has an escape or not.
    Steps {
        escape: bool,
    },
}

impl Candidates {
    pub(in crate::encoder) fn of(quantizer: &Quantizer) -> Self {
        match quantizer {
            Quantizer::DeadZone(q) => Self::Steps { escape: q.escape },
            _ => Self::Levels,
        }
    }

    pub(in crate::encoder) fn count(self) -> u8 {
        match self {
            Self::Levels => 127,
            Self::Steps { .. } => 112,
        }
    }

    /// Step of a candidate.
    fn step(index: u8) -> f32 {
        // Invariant: fewer than 2^31 octaves.
        let octaves = (1_u32 << (index / 16)) as f32;
        3.4 * SIXTEENTHS[usize::from(index % 16)] / octaves
    }

    /// Levels of a sign.
    fn levels(self, index: u8) -> u8 {
        match self {
            Self::Levels => index + 1,
            Self::Steps { .. } => (6.0 / Self::step(index)).ceil().clamp(3.0, 126.0) as u8,
        }
    }

    /// The quantizer with a candidate; steps are `fine` of what they are.
    pub(in crate::encoder) fn apply(
        self,
        quantizer: &Quantizer,
        index: u8,
        fine: f32,
    ) -> Quantizer {
        match quantizer {
            Quantizer::Uniform(q) => {
                let mut q = q.clone();
                q.levels = self.levels(index);
                Quantizer::Uniform(q)
            }
            Quantizer::DeadZone(q) => {
                let mut q = q.clone();
                q.step = Self::step(index) * fine;
                q.levels = self.levels(index);
                Quantizer::DeadZone(q)
            }
            other => other.clone(),
        }
    }

    /// Number of symbols.
    pub(super) fn symbols(self, index: u8) -> u32 {
        let escape = matches!(self, Self::Steps { escape: true });
        2 * u32::from(self.levels(index)) + 1 + u32::from(escape)
    }

    /// The coarsest, and from each one the next that is so many sixteenths of an octave finer; all if it
    /// is one.
    pub(super) fn every(self, sixteenths: u8) -> Vec<u8> {
        let next = |index: &u8| match self {
            _ if sixteenths == 1 => Some(index + 1),
            Self::Steps { .. } => index.checked_add(sixteenths),
            Self::Levels => {
                let levels = f32::from(*index) + 1.0;
                let finer = match sixteenths {
                    16.. => 2.0,
                    n => 1.0 / SIXTEENTHS[usize::from(n)],
                };
                let more = (levels * finer + 0.5) as u8 - 1;
                Some(more.max(index + 1))
            }
        };
        let next = |index: &u8| next(index).filter(|index| *index < self.count());
        std::iter::successors(Some(0), next).collect()
    }

    /// Candidates that are computed.
    fn knots(self) -> Vec<u8> {
        match self {
            Self::Levels => KNOTS.map(|levels| levels - 1).to_vec(),
            Self::Steps { .. } => (0..self.count()).step_by(3).collect(),
        }
    }

    /// The square of the distance of neighbouring values, to which errors are nearly proportional.
    fn square(self, index: u8) -> f64 {
        let distance = match self {
            Self::Levels => 1.0 / (f64::from(index) + 1.0),
            Self::Steps { .. } => f64::from(Self::step(index)),
        };
        distance * distance
    }
}

/// Size and error of a tensor for one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::encoder) struct Point {
    /// Bits of the symbols at their entropy.
    pub(in crate::encoder) bits: f64,
    /// Bits of escapes' numbers.
    pub(in crate::encoder) extra: f64,
    /// Σ (v − q)², expected.
    pub(in crate::encoder) error: f64,
}

/// A point for each candidate.
pub(super) fn curve(candidates: Candidates, part: &Measures) -> Vec<Point> {
    let bins: Vec<_> = part.bins().collect();
    let knots = candidates.knots();
    let mut points = Vec::with_capacity(candidates.count().into());
    let mut last: Option<(u8, Point)> = None;
    for knot in knots {
        let next = point(candidates, knot, part, &bins);
        if let Some((from, before)) = last {
            for index in from + 1..knot {
                let t = f64::from(index - from) / f64::from(knot - from);
                let mix = |a: f64, b: f64| a + t * (b - a);
                let relative = |index, point: Point| point.error / candidates.square(index);
                let error = mix(relative(from, before), relative(knot, next));
                points.push(Point {
                    bits: mix(before.bits, next.bits),
                    extra: mix(before.extra, next.extra),
                    error: error * candidates.square(index),
                });
            }
        }
        points.push(next);
        last = Some((knot, next));
    }
    points
}

fn point(candidates: Candidates, index: u8, part: &Measures, bins: &[(f64, f64, f64)]) -> Point {
    let (mut histogram, mut error) = ([0.0_f64; 129], 0.0);
    histogram[0] = part.zeros as f64;
    let mut escapes = 0.0;
    match candidates {
        Candidates::Steps { escape } => {
            let step = f64::from(Candidates::step(index));
            let most = f64::from(candidates.levels(index));
            let (mut energy, mut products, mut squares) = (0.0, 0.0, 0.0);
            for (x, count, weight) in bins {
                let level = (x / step + 0.5).floor();
                if level > most && escape {
                    escapes += count;
                } else {
                    histogram[level.min(most) as usize] += count;
                }
                let level = if escape { level } else { level.min(most) };
                energy += weight * x * x;
                products += weight * x * level;
                squares += weight * level * level;
            }
            // With the gain that minimises it.
            error = if squares > 0.0 {
                energy - products * products / squares
            } else {
                energy
            };
        }
        Candidates::Levels => {
            let levels = f64::from(index) + 1.0;
            for (x, count, weight) in bins {
                let level = (x.min(1.0) * levels).floor();
                let up = x.min(1.0) * levels - level;
                error += weight * up * (1.0 - up) / (levels * levels);
                histogram[level as usize] += count * (1.0 - up);
                histogram[level as usize + 1] += count * up;
            }
        }
    }
    let elements = (part.elements as f64).max(1.0);
    let cost = |count: f64| {
        if count > 0.0 {
            count * log2(elements / count)
        } else {
            0.0
        }
    };
    // Half of the values of a level are negative.
    let nonzero: f64 = histogram[1..]
        .iter()
        .map(|count| cost(*count) + count)
        .sum();
    Point {
        bits: cost(histogram[0]) + nonzero + cost(escapes),
        extra: 16.0 * escapes,
        error: error.max(0.0),
    }
}

/// log₂ x of x ≥ 1 to 2⁻²⁰, by squaring: the same on every machine.
fn log2(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits(x.to_bits() & ((1 << 52) - 1) | 1023 << 52);
    let (mut log, mut bit) = (f64::from(exponent), 0.5);
    for _ in 0..20 {
        mantissa *= mantissa;
        if mantissa >= 2.0 {
            mantissa /= 2.0;
            log += bit;
        }
        bit /= 2.0;
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_logarithms() {
        for x in [1.0, 1.5, 2.0, 3.0, 1000.0, 1e9] {
            assert!((log2(x) - x.log2()).abs() < 2e-6, "{x}");
        }
        for (k, x) in (0_i32..).zip(SIXTEENTHS) {
            assert!((x - (-f64::from(k) / 16.0).exp2() as f32).abs() < 1e-6);
        }
    }

    #[test]
    fn candidates_grow_finer_and_no_number_of_levels_is_left_out() {
        let steps = Candidates::Steps { escape: true };
        for candidates in [Candidates::Levels, steps] {
            let all: Vec<u8> = (0..candidates.count()).collect();
            assert!(all.is_sorted_by(|a, b| candidates.square(*a) > candidates.square(*b)));
            for sixteenths in [4, 8, 16] {
                let some = candidates.every(sixteenths);
                assert!(some.is_sorted_by(|a, b| a < b) && some.len() < 32);
            }
        }
        assert_eq!(Candidates::Levels.every(16), [0, 1, 3, 7, 15, 31, 63]);
    }

    /// Points between those that are computed are what computing them would give.
    #[test]
    fn curves_are_smooth() {
        let mut part = Measures::default();
        for bin in 0..super::super::BINS {
            let x = bin as f64 / 900.0;
            part.counts[bin] = (20_000.0 * (-x * x / 2.0).exp()) as u32;
            part.weights[bin] = f64::from(part.counts[bin]);
            part.elements += u64::from(part.counts[bin]);
        }
        let bins: Vec<_> = part.bins().collect();
        for (index, found) in (0..).zip(curve(Candidates::Levels, &part)) {
            let exact = point(Candidates::Levels, index, &part, &bins);
            assert!((found.bits / exact.bits - 1.0).abs() < 0.003, "{index}");
            assert!((found.error / exact.error - 1.0).abs() < 0.02, "{index}");
        }
    }
}
