//! Bits to tensors: which levels (or steps) lose least at a given size.
//!
//! Quantization noise adds up over tensors like it does over layers (Lin, Talathi, Annapureddy,
//! "Fixed point quantization of deep convolutional networks", ICML 2016), so bits go where a bit takes
//! off most of the noise: candidates on the lower convex hull of (rate, distortion) of each tensor,
//! in the order of their slopes, as long as the budget lasts. Rate and distortion of every candidate
//! follow from one histogram of the tensor's values. If one choice for all tensors does better within
//! the same budget, which rounding can bring about, that is taken.

use super::Measures;
use crate::quantizer::Quantizer;
use crate::spec::Budget;

/// What is chosen for a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Choice {
    Levels(u8),
    Step(f32),
}

/// Magnitudes of the dead-zone quantizer are counted up to so many root mean squares.
pub(super) const DEAD_ZONE_REACH: f32 = 32.0;

/// What a stream of symbols costs beside them: its beginning, its model, the coder's states.
const STREAM_BITS: f64 = 8.0 * 80.0;

const LEVELS: [u8; 23] = [
    1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15, 18, 21, 25, 31, 37, 44, 53, 63, 75, 90, 107, 127,
];

/// Steps in root mean squares, each a factor 2^(1/4) finer.
const STEPS: [f32; 25] = [
    3.3, 2.775, 2.333, 1.962, 1.65, 1.387, 1.167, 0.981, 0.825, 0.694, 0.583, 0.491, 0.413, 0.347,
    0.292, 0.245, 0.206, 0.173, 0.146, 0.123, 0.103, 0.0867, 0.0729, 0.0613, 0.0516,
];

/// Size and error of a tensor for one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    /// Bits, scales included.
    rate: f64,
    /// Σ (v − q)², expected.
    distortion: f64,
}

/// One choice a part.
pub(super) fn allocate(
    quantizer: &Quantizer,
    budget: &Budget,
    tensors: &[usize],
    measured: &[Measures],
) -> Vec<Choice> {
    let candidates: Vec<Choice> = match quantizer {
        Quantizer::DeadZone(_) => STEPS.map(Choice::Step).to_vec(),
        _ => LEVELS.map(Choice::Levels).to_vec(),
    };
    let points: Vec<Vec<Point>> = measured
        .iter()
        .map(|part| {
            candidates
                .iter()
                .map(|choice| point(quantizer, *choice, part))
                .collect()
        })
        .collect();
    let bits = |part: usize| budget.bits(tensors[part]) * measured[part].elements as f64;
    let chosen = if budget.is_shared() {
        choose(&points, (0..points.len()).map(bits).sum())
    } else {
        let alone = |part: usize| choose(&points[part..=part], bits(part));
        (0..points.len()).flat_map(alone).collect()
    };
    chosen.into_iter().map(|index| candidates[index]).collect()
}

/// Index of the candidate for each part.
fn choose(points: &[Vec<Point>], budget: f64) -> Vec<usize> {
    // Steps along each part's hull, by how much noise a bit takes off.
    let hulls: Vec<Vec<usize>> = points.iter().map(|points| hull(points)).collect();
    let mut steps: Vec<(f64, usize, usize)> = Vec::new();
    for (part, hull) in hulls.iter().enumerate() {
        for (step, pair) in hull.windows(2).enumerate() {
            let (from, to) = (points[part][pair[0]], points[part][pair[1]]);
            steps.push((
                (from.distortion - to.distortion) / (to.rate - from.rate),
                part,
                step,
            ));
        }
    }
    // The steepest first; of one part in their order, since a hull's slopes fall.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut at = vec![0; points.len()];
    let total = |chosen: &dyn Fn(usize) -> usize, of: fn(&Point) -> f64| -> f64 {
        points
            .iter()
            .enumerate()
            .map(|(part, points)| of(&points[chosen(part)]))
            .sum()
    };
    let mut rate = total(&|part| hulls[part][0], |point| point.rate);
    for (_, part, step) in steps {
        let more = points[part][hulls[part][step + 1]].rate - points[part][hulls[part][step]].rate;
        if at[part] == step && rate + more <= budget {
            at[part] += 1;
            rate += more;
        }
    }
    let chosen: Vec<usize> = at.iter().zip(&hulls).map(|(at, hull)| hull[*at]).collect();
    let candidates = points.first().map_or(0, Vec::len);
    let affordable = (0..candidates).filter(|i| total(&|_| *i, |point| point.rate) <= budget);
    let distortion = |i: usize| total(&|_| i, |point| point.distortion);
    let same = affordable.min_by(|a, b| distortion(*a).total_cmp(&distortion(*b)));
    match same {
        Some(same) if distortion(same) < total(&|part| chosen[part], |point| point.distortion) => {
            vec![same; points.len()]
        }
        _ => chosen,
    }
}

/// Candidates on the lower convex hull, by ascending rate; the cheapest one first.
fn hull(points: &[Point]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    let key = |i: &usize| (points[*i].rate, points[*i].distortion);
    order.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        let Point { rate, distortion } = points[next];
        if hull
            .last()
            .is_some_and(|last| points[*last].distortion <= distortion)
        {
            continue; // More bits for nothing.
        }
        while let [.., before, last] = hull[..] {
            let (a, b) = (points[before], points[last]);
            let slope_in = (a.distortion - b.distortion) * (rate - b.rate);
            let slope_out = (b.distortion - distortion) * (b.rate - a.rate);
            if slope_in > slope_out {
                break;
            }
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

fn point(quantizer: &Quantizer, choice: Choice, part: &Measures) -> Point {
    let (mut histogram, mut distortion) = ([0.0_f64; 129], 0.0);
    histogram[0] = part.zeros as f64;
    let mut escapes = 0.0;
    match (choice, quantizer) {
        (Choice::Step(step), Quantizer::DeadZone(q)) => {
            let step = f64::from(step);
            let (mut energy, mut products, mut squares) = (0.0, 0.0, 0.0);
            for (x, count, weight) in part.bins() {
                let level = (x / step + 0.5).floor();
                energy += weight * x * x;
                products += weight * x * level;
                squares += weight * level * level;
                if level > f64::from(q.levels) && q.escape {
                    escapes += count;
                } else {
                    histogram[level.min(f64::from(q.levels)) as usize] += count;
                }
            }
            // With the gain that minimises it.
            distortion = if squares > 0.0 {
                energy - products * products / squares
            } else {
                energy
            };
        }
        (Choice::Levels(levels), _) => {
            let levels = f64::from(levels);
            for (x, count, weight) in part.bins() {
                let level = (x.min(1.0) * levels).floor();
                let up = x.min(1.0) * levels - level;
                distortion += weight * up * (1.0 - up) / (levels * levels);
                histogram[level as usize] += count * (1.0 - up);
                histogram[level as usize + 1] += count * up;
            }
        }
        (Choice::Step(_), _) => {}
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
    let escaped = cost(escapes) + 16.0 * escapes;
    Point {
        rate: cost(histogram[0]) + nonzero + escaped + 32.0 * part.groups as f64 + STREAM_BITS,
        distortion: distortion.max(0.0),
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
    }

    #[test]
    fn a_hull_is_convex_and_begins_with_the_cheapest() {
        let point = |rate, distortion| Point { rate, distortion };
        let points = [
            point(3.0, 4.0),
            point(1.0, 10.0),
            point(2.0, 9.5),
            point(4.0, 4.5),
            point(5.0, 3.0),
        ];
        assert_eq!(hull(&points), [1, 0, 4]);
    }

    /// Against all combinations: within the budget, and no worse than one choice for all.
    #[test]
    fn what_is_chosen_beats_any_single_choice_and_comes_near_the_best_of_all() {
        let rates = |scale: f64| -> Vec<Point> {
            (0..5)
                .map(|i| Point {
                    rate: 100.0 * f64::from(i + 1),
                    distortion: scale / 4.0_f64.powi(i),
                })
                .collect()
        };
        let points = [rates(1000.0), rates(10.0), rates(1.0)];
        for budget in [300.0, 500.0, 700.0, 900.0, 1500.0] {
            let chosen = choose(&points, budget);
            let sum = |chosen: &[usize], of: fn(&Point) -> f64| -> f64 {
                chosen
                    .iter()
                    .zip(&points)
                    .map(|(i, points)| of(&points[*i]))
                    .sum()
            };
            assert!(sum(&chosen, |p| p.rate) <= budget);
            let distortion = sum(&chosen, |p| p.distortion);
            for single in 0..5 {
                let same = [single; 3];
                if sum(&same, |p| p.rate) <= budget {
                    assert!(distortion <= sum(&same, |p| p.distortion));
                }
            }
            let all = (0..125).map(|i| [i / 25, i / 5 % 5, i % 5]);
            let affordable = all.filter(|all| sum(all, |p| p.rate) <= budget);
            let best = affordable
                .map(|all| sum(&all, |p| p.distortion))
                .fold(f64::MAX, f64::min);
            assert!(
                distortion <= best * 1.0001,
                "{budget}: {distortion} for {best}"
            );
        }
    }
}
