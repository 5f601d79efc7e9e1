//! Levels fitted to a frame, those that minimise the variance of stochastic rounding.
//!
//! Faghri et al., "Adaptive gradient quantization for data-parallel SGD" (ALQ), NeurIPS 2020. With
//! neighbours a and b, the level l between them is best where
//! ∫ₐˡ (x − a) dF = ∫ₗᵇ (b − x) dF: the expected error Σ (high − x)(x − low) of either side then
//! changes equally. Each level in turn, again and again (coordinate descent).

use super::{BINS, Measures};

const SWEEPS: usize = 12;

/// Memory of a fit, kept from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Fitter {
    /// Sums of weight and of weight · x below each bin's lower end.
    below: Vec<(f64, f64)>,
    /// The levels as ends of bins, 0 and 1 among them.
    ends: Vec<usize>,
}

impl Fitter {
    /// `count` levels in (0, 1), strictly ascending.
    pub(super) fn levels(
        &mut self,
        count: usize,
        measured: &Measures,
    ) -> impl ExactSizeIterator<Item = f32> {
        self.fit(count, measured);
        let inner = self.ends[1..=count].iter();
        inner.map(|end| *end as f32 / BINS as f32)
    }

    fn fit(&mut self, count: usize, measured: &Measures) {
        let Self { below, ends } = self;
        below.clear();
        below.push((0.0, 0.0));
        let (mut mass, mut moment) = (0.0, 0.0);
        for (bin, weight) in measured.weights.iter().enumerate() {
            let x = (bin as f64 + 0.5) / BINS as f64;
            (mass, moment) = (mass + weight, moment + weight * x);
            below.push((mass, moment));
        }
        let between = |low: usize, high: usize| {
            let ((mass, moment), (mass0, moment0)) = (below[high], below[low]);
            (mass - mass0, moment - moment0)
        };
        // Levels lie on the ends of bins; they begin evenly spaced.
        ends.clear();
        ends.extend((0..=count + 1).map(|j| j * BINS / (count + 1)));
        for _ in 0..SWEEPS {
            for j in 1..=count {
                let (low, high) = (ends[j - 1], ends[j + 1]);
                let at = |end: usize| end as f64 / BINS as f64;
                // How much more the lower side would gain from a lower level; grows with the level.
                let balance = |end: usize| {
                    let (lower, upper) = (between(low, end), between(end, high));
                    (lower.1 - at(low) * lower.0) - (at(high) * upper.0 - upper.1)
                };
                let (mut left, mut right) = (low + 1, high - 1);
                while left < right {
                    let middle = (left + right) / 2;
                    if balance(middle) < 0.0 {
                        left = middle + 1;
                    } else {
                        right = middle;
                    }
                }
                if low < left && left < high {
                    ends[j] = left;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a density that falls linearly the optimum can be checked by moving levels.
    #[test]
    fn no_single_level_can_be_moved_to_advantage() {
        let mut measures = Measures::default();
        for bin in 0..BINS {
            measures.weights[bin] = (BINS - bin) as f64 * (BINS - bin) as f64;
        }
        let cost = |levels: &[f32]| {
            let all: Vec<f64> = std::iter::once(0.0)
                .chain(levels.iter().map(|l| f64::from(*l)))
                .chain([1.0])
                .collect();
            let error = |x: f64| {
                let at = all.partition_point(|l| *l <= x).clamp(1, all.len() - 1);
                (all[at] - x) * (x - all[at - 1])
            };
            (0..BINS)
                .map(|bin| measures.weights[bin] * error((bin as f64 + 0.5) / BINS as f64))
                .sum::<f64>()
        };
        let fitted: Vec<f32> = Fitter::default().levels(3, &measures).collect();
        let best = cost(&fitted);
        assert!(best < 0.8 * cost(&[0.25, 0.5, 0.75]), "{fitted:?}");
        for j in 0..3 {
            for shift in [-0.01, 0.01] {
                let mut moved = fitted.clone();
                moved[j] += shift;
                assert!(cost(&moved) > best, "{fitted:?} {j} {shift}");
            }
        }
    }

    #[test]
    fn levels_ascend_whatever_the_values_are() {
        let empty = Measures::default();
        let mut single = Measures::default();
        single.weights[0] = 1.0;
        let mut last = Measures::default();
        last.weights[BINS - 1] = 1.0;
        for measures in [empty, single, last] {
            for count in [0, 1, 3, 126] {
                let levels: Vec<f32> = Fitter::default().levels(count, &measures).collect();
                assert_eq!(levels.len(), count);
                assert!(levels.is_sorted_by(|a, b| a < b));
                assert!(levels.iter().all(|l| *l > 0.0 && *l < 1.0));
            }
        }
    }
}
