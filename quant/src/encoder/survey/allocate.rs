//! Bits to tensors: which levels (or steps) lose least at a given size.
//!
//! Quantization noise adds up over tensors like it does over layers (Lin, Talathi, Annapureddy,
//! "Fixed point quantization of deep convolutional networks", ICML 2016), so bits go where a bit takes
//! off most of the noise: every tensor has the candidate that minimises error + λ · bits, with the least λ
//! that the budget allows (Shoham and Gersho, "Efficient bit allocation for an arbitrary set of
//! quantizers", 1988). Two remedies for what λ cannot say: the largest tensors are also tried one or two
//! candidates off, since they leave too much or too little to the others where they just miss one; and
//! what remains is spent on single tensors.
//!
//! Tensors with the same choice share a stream, and each stream has its price. So the candidates are also
//! thinned out, which makes more tensors agree.

use super::bill::Bill;
use super::curve::{Candidates, Point};
use super::hull::Hull;

/// Tensors that have one choice: one, or all that are too small to matter.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) elements: u64,
    /// For each candidate.
    pub(super) curve: Vec<Point>,
}

/// Distances of candidates that are tried, in sixteenths of an octave.
const GRIDS: [u8; 4] = [1, 4, 8, 16];

/// λ is found to within a factor of 2^(80/2²⁴).
const BISECTIONS: u32 = 24;

/// How many of the largest classes are also tried off their choice.
const LARGEST: usize = 3;

/// Steps of spending what is left.
const FILLS: usize = 64;

/// The cost of any choice for classes.
#[derive(Clone, Debug)]
pub(super) struct Allocator {
    pub(super) candidates: Candidates,
    pub(super) classes: Vec<Class>,
}

impl Allocator {
    /// Bits of streams and error, where class *i* has candidate `chosen(i)`.
    pub(super) fn cost(&self, chosen: impl Fn(usize) -> u8) -> Point {
        // By candidate: bits, elements.
        let mut streams = [(0.0_f64, 0_u64); 128];
        let (mut error, mut extra) = (0.0, 0.0);
        for (i, class) in self.classes.iter().enumerate() {
            let index = usize::from(chosen(i));
            let point = class.curve[index];
            streams[index].0 += point.bits;
            streams[index].1 += class.elements;
            error += point.error;
            extra += point.extra;
        }
        let used = streams.iter().filter(|(_, elements)| *elements > 0).count();
        let several = used > 1;
        let bits = (0_u8..)
            .zip(&streams)
            .filter(|(_, (_, elements))| *elements > 0)
            .map(|(index, (bits, elements))| {
                stream(self.candidates.symbols(index), *bits, *elements)
                    + if several { 64.0 } else { 0.0 }
            })
            .sum::<f64>();
        let places = if several {
            16.0 * self.classes.len() as f64
        } else {
            0.0
        };
        Point {
            bits: bits + places + extra,
            extra,
            error,
        }
    }

    /// The finest candidate for all that takes at most so many bits; else the coarsest.
    pub(super) fn same(&self, bits: f64) -> u8 {
        let fits = |index: &u8| self.cost(|_| *index).bits <= bits;
        (0..self.candidates.count()).rev().find(fits).unwrap_or(0)
    }

    /// A candidate for each class: the least error for so many bits.
    pub(super) fn mixed(&self, bits: f64) -> Vec<u8> {
        let mut best = vec![self.same(bits); self.classes.len()];
        let mut least = self.cost(|class| best[class]);
        let mut largest: Vec<usize> = (0..self.classes.len()).collect();
        largest.sort_by_key(|class| std::cmp::Reverse(self.classes[*class].elements));
        largest.truncate(LARGEST);
        for sixteenths in GRIDS {
            let grid = self.candidates.every(sixteenths);
            let hulls = self.classes.iter().map(|class| Hull::of(class, &grid));
            let hulls: Vec<Hull> = hulls.collect();
            let mut found = self.by_slope(&hulls, None, bits);
            self.fill(&grid, &mut found, bits);
            let mut error = self.cost(|class| found[class]).error;
            for class in &largest {
                let at = grid.partition_point(|index| *index < found[*class]);
                for near in at.saturating_sub(2)..(at + 3).min(grid.len()) {
                    if near == at {
                        continue;
                    }
                    let mut other = self.by_slope(&hulls, Some((*class, grid[near])), bits);
                    self.fill(&grid, &mut other, bits);
                    let cost = self.cost(|class| other[class]);
                    if cost.bits <= bits && cost.error < error {
                        (found, error) = (other, cost.error);
                    }
                }
            }
            let cost = self.cost(|class| found[class]);
            if cost.bits <= bits && (least.bits > bits || cost.error < least.error) {
                (best, least) = (found, cost);
            }
        }
        best
    }

    /// With one λ for all classes, but for one that is fixed.
    fn by_slope(&self, hulls: &[Hull], fixed: Option<(usize, u8)>, bits: f64) -> Vec<u8> {
        let choose = |lambda: f64| -> Vec<u8> {
            let one = |(i, hull): (usize, &Hull)| match fixed {
                Some((fixed, index)) if fixed == i => index,
                _ => hull.at(lambda),
            };
            hulls.iter().enumerate().map(one).collect()
        };
        // From where a bit is worth all errors to where it is worth next to nothing.
        let errors = self.classes.iter().map(|class| class.curve[0].error);
        let mut high = errors.sum::<f64>().max(f64::MIN_POSITIVE);
        let mut low = high / (1_u128 << 80) as f64;
        let mut best = choose(high);
        for _ in 0..BISECTIONS {
            let middle = (low * high).sqrt();
            let found = choose(middle);
            if self.cost(|class| found[class]).bits <= bits {
                (high, best) = (middle, found);
            } else {
                low = middle;
            }
        }
        best
    }

    /// Spends what is left on one class at a time, where a bit takes off most.
    fn fill(&self, grid: &[u8], chosen: &mut [u8], bits: f64) {
        let mut bill = Bill::new(self, chosen);
        for _ in 0..FILLS {
            let cost = bill.total();
            let mut best: Option<(f64, usize, u8)> = None;
            for (class, index) in chosen.iter().enumerate() {
                let next = grid.partition_point(|other| other <= index);
                let Some(finer) = grid.get(next) else {
                    continue;
                };
                let other = bill.with(class, *index, *finer);
                let gain = (cost.error - other.error) / (other.bits - cost.bits).max(1.0);
                let affordable = other.bits <= bits && gain > 0.0;
                if affordable && best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, class, *finer));
                }
            }
            let Some((_, class, finer)) = best else {
                return;
            };
            bill.change(class, chosen[class], finer);
            chosen[class] = finer;
        }
    }
}

/// Bits of a stream of symbols whose entropy is known: as the lossless codes take them.
pub(super) fn stream(symbols: u32, entropy: f64, elements: u64) -> f64 {
    let width = symbols.next_power_of_two().trailing_zeros();
    let packed = elements as f64 * f64::from(width);
    let states = match elements {
        0..8_192 => 8.0,
        8_192..131_072 => 32.0,
        _ => 128.0,
    };
    let model = 6.0 + 1.5 * f64::from(symbols).min(elements as f64);
    (entropy + 8.0 * (states + model)).min(packed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Classes of Gaussian-like curves: each level more costs less and gains less.
    pub(in super::super) fn allocator(scales: &[(u64, f64)]) -> Allocator {
        let class = |&(elements, scale): &(u64, f64)| Class {
            elements,
            curve: (1..=127)
                .map(|s| Point {
                    bits: elements as f64 * (f64::from(s) + 0.7).log2(),
                    extra: 0.0,
                    error: elements as f64 * scale / f64::from(s * s),
                })
                .collect(),
        };
        Allocator {
            candidates: Candidates::Levels,
            classes: scales.iter().map(class).collect(),
        }
    }

    /// Within the budget, no worse than one choice for all, and near the best of all combinations.
    #[test]
    fn what_is_chosen_beats_any_single_choice_and_comes_near_the_best_of_all() {
        let scales: [&[(u64, f64)]; 4] = [
            &[(200_000, 1.0), (32_000, 4.0), (1_200, 16.0)],
            &[(100_000, 1.0), (100_000, 1.0), (100_000, 1.0)],
            &[(1_000_000, 1.0), (500_000, 100.0), (900, 1e6)],
            &[(3_000, 1.0), (2_000, 9.0), (700, 25.0)],
        ];
        for scales in scales {
            let allocator = allocator(scales);
            for same in [1, 2, 3, 7, 20] {
                for slack in [0.997, 1.0, 1.2] {
                    let bits = allocator.cost(|_| same).bits * slack;
                    let chosen = allocator.mixed(bits);
                    let cost = allocator.cost(|class| chosen[class]);
                    assert!(cost.bits <= bits, "{scales:?} {same} {slack}");
                    let single = allocator.cost(|_| allocator.same(bits)).error;
                    assert!(cost.error <= single, "{scales:?} {same} {slack}");
                    let mut best = f64::MAX;
                    let grid = Candidates::Levels.every(3);
                    let n = grid.len();
                    for i in 0..n.pow(3) {
                        let at = [i % n, i / n % n, i / n / n].map(|at| grid[at]);
                        let cost = || allocator.cost(|class| at[class]);
                        let error: f64 = (0..3)
                            .map(|c| allocator.classes[c].curve[usize::from(at[c])].error)
                            .sum();
                        if error < best && cost().bits <= bits {
                            best = error;
                        }
                    }
                    assert!(
                        cost.error <= best * 1.03,
                        "{scales:?} {same} {slack}: {} of {best}",
                        cost.error / best
                    );
                }
            }
        }
    }
}
