//! The arithmetic of PowerSGD (Vogels, Karimireddy, Jaggi, NeurIPS 2019): a matrix as the product of two
//! thin ones.
//!
//! One power iteration a step, begun where the last step's ended: P = orthonormalise(M Q), Q ← Mᵀ P, and
//! P Qᵀ is the projection of M onto P's columns. The paper averages P and Q over the workers on the
//! way; here messages are broadcast and every member sends the factors of *its own* M, so one
//! message suffices and replicas add the same products in the same order.
//!
//! Factors are stored column after column. All sums have one order, with 16 lanes, on every path.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::feedback::add_lanes;
use crate::norm::{largest, sum_of_squares};
use crate::simd::{Simd, kernel};

/// How a part of a tensor becomes a matrix, and of which rank its factors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) rank: usize,
}

impl Shape {
    /// The shape of `elements` with `columns` a row (0: a vector). A part that is not made of whole rows
    /// becomes the most square matrix of its size. Nothing if factors would not be smaller than the
    /// elements: these are then sent as they are.
    pub(crate) fn plan(elements: usize, columns: usize, rank: usize) -> Option<Self> {
        let columns = match columns {
            0 => return None,
            columns if elements.is_multiple_of(columns) => columns,
            _ => (1..=elements.isqrt())
                .rev()
                .find(|d| elements.is_multiple_of(*d))?,
        };
        let rows = elements / columns;
        let rank = rank.min(rows).min(columns);
        let smaller = rank * (rows + columns) < elements;
        smaller.then_some(Self {
            rows,
            columns,
            rank,
        })
    }

    /// Numbers in both factors.
    pub(crate) fn numbers(self) -> usize {
        self.rank * (self.rows + self.columns)
    }
}

/// Factors P, then Q.
pub(crate) struct Factors<'a> {
    pub(crate) p: &'a [f32],
    pub(crate) q: &'a [f32],
}

impl Factors<'_> {
    /// Whether every element of the product, and every partial sum of it, is finite.
    pub(crate) fn are_finite(&self, simd: Simd, shape: Shape) -> bool {
        let bound = f64::from(largest(simd, self.p)) * f64::from(largest(simd, self.q));
        bound * shape.rank as f64 <= f64::from(f32::MAX) / 2.0
    }
}

/// Columns that are zero begin anew: pseudo-random in (−1, 1), from the run's seed.
fn restart(seed: u64, tensor: u32, shape: Shape, q: &mut [f32]) {
    for (rank, column) in (0_u32..).zip(q.chunks_exact_mut(shape.columns)) {
        if column.iter().any(|x| *x != 0.0) {
            continue;
        }
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..12].copy_from_slice(&tensor.to_le_bytes());
        key[12..16].copy_from_slice(&rank.to_le_bytes());
        key[16..].copy_from_slice(b"low-rank factors");
        let mut chacha = ChaCha8Rng::from_seed(key);
        for x in column {
            *x = ((chacha.next_u32() >> 8) as f32 + 0.5) / 8_388_608.0 - 1.0;
        }
    }
}

/// Factors of a finite matrix. `q` holds the last step's factor, or zeros, and then this step's.
pub(crate) fn factorise(
    simd: Simd,
    seed: u64,
    tensor: u32,
    shape: Shape,
    matrix: &[f32],
    p: &mut [f32],
    q: &mut [f32],
) {
    restart(seed, tensor, shape, q);
    for column in q.chunks_exact_mut(shape.columns) {
        // Only directions matter; with entries near 1 nothing overflows or vanishes.
        scale_to_one(simd, column);
    }
    let unit = power_of_two(largest(simd, matrix));
    multiply(simd, 1.0 / unit, shape.columns, matrix, q, p);
    orthonormalise(simd, shape.rows, p);
    multiply_transposed(simd, 1.0 / unit, shape.columns, matrix, p, q);
    for x in q {
        *x *= unit;
    }
}

/// The power of two at or below a magnitude, within what can be inverted.
fn power_of_two(magnitude: f32) -> f32 {
    let below = f32::from_bits(magnitude.to_bits() & 0x7f80_0000);
    below.clamp(f32::MIN_POSITIVE, 8.507_059e37) // 2^126
}

fn scale_to_one(simd: Simd, column: &mut [f32]) {
    let inverse = 1.0 / power_of_two(largest(simd, column));
    column.iter_mut().for_each(|x| *x *= inverse);
}

kernel! {
    /// P = scale · M Q.
    fn multiply(scale: f32, columns: usize, matrix: &[f32], q: &[f32], p: &mut [f32]) {
        let rows = matrix.len() / columns;
        for (i, row) in matrix.chunks_exact(columns).enumerate() {
            for (r, column) in q.chunks_exact(columns).enumerate() {
                let mut lanes = [0.0_f32; 16];
                let (xs, x_rest) = row.as_chunks::<16>();
                let (ys, y_rest) = column.as_chunks::<16>();
                for (x, y) in xs.iter().zip(ys) {
                    for lane in 0..16 {
                        lanes[lane] += x[lane] * scale * y[lane];
                    }
                }
                for (lane, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
                    lanes[lane] += x * scale * y;
                }
                p[r * rows + i] = add_lanes(lanes);
            }
        }
    }
}

kernel! {
    /// Q = scale · Mᵀ P.
    fn multiply_transposed(scale: f32, columns: usize, matrix: &[f32], p: &[f32], q: &mut [f32]) {
        let rows = matrix.len() / columns;
        q.fill(0.0);
        for (i, row) in matrix.chunks_exact(columns).enumerate() {
            for (r, column) in q.chunks_exact_mut(columns).enumerate() {
                let factor = p[r * rows + i];
                for (sum, x) in column.iter_mut().zip(row) {
                    *sum += x * scale * factor;
                }
            }
        }
    }
}

/// Gram–Schmidt, twice for each column. One that vanishes, because it depends on those before it,
/// becomes zero.
fn orthonormalise(simd: Simd, rows: usize, p: &mut [f32]) {
    for r in 0..p.len() / rows {
        let (before, rest) = p.split_at_mut(r * rows);
        let column = &mut rest[..rows];
        scale_to_one(simd, column);
        let original = sum_of_squares(simd, column);
        for _ in 0..2 {
            for other in before.chunks_exact(rows) {
                let product = dot(simd, other, column) as f32;
                for (x, y) in column.iter_mut().zip(other) {
                    *x -= product * y;
                }
            }
        }
        let norm = sum_of_squares(simd, column);
        // Below this only rounding errors are left.
        if norm <= 1e-10 * original || norm == 0.0 {
            column.fill(0.0);
        } else {
            let inverse = (1.0 / norm.sqrt()) as f32;
            column.iter_mut().for_each(|x| *x *= inverse);
        }
    }
}

kernel! {
    fn dot(xs: &[f32], ys: &[f32]) -> f64 {
        let mut lanes = [0.0_f64; 8];
        let (x8, x_rest) = xs.as_chunks::<8>();
        let (y8, y_rest) = ys.as_chunks::<8>();
        for (x, y) in x8.iter().zip(y8) {
            for lane in 0..8 {
                lanes[lane] += f64::from(x[lane]) * f64::from(y[lane]);
            }
        }
        for (lane, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
            lanes[lane] += f64::from(*x) * f64::from(*y);
        }
        lanes.iter().sum()
    }
}

/// target += weight · P Qᵀ: the products of a row and a column are added in the order of the rank, then
/// weighted, then added.
pub(crate) fn accumulate(
    simd: Simd,
    shape: Shape,
    factors: &Factors<'_>,
    weight: f32,
    target: &mut [f32],
) {
    add_product(simd, shape.columns, factors.p, factors.q, weight, target);
}

kernel! {
    fn add_product(columns: usize, p: &[f32], q: &[f32], weight: f32, target: &mut [f32]) {
        let rows = target.len() / columns;
        // Sums of a run of columns, short enough to stay in registers.
        const RUN: usize = 64;
        let mut sums = [0.0_f32; RUN];
        for (i, row) in target.chunks_exact_mut(columns).enumerate() {
            for (start, run) in (0..).step_by(RUN).zip(row.chunks_mut(RUN)) {
                let sums = &mut sums[..run.len()];
                sums.fill(0.0);
                for (r, column) in q.chunks_exact(columns).enumerate() {
                    let factor = p[r * rows + i];
                    for (sum, x) in sums.iter_mut().zip(&column[start..]) {
                        *sum += factor * x;
                    }
                }
                for (target, sum) in run.iter_mut().zip(sums) {
                    *target += weight * *sum;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn uniform(i: u64) -> f32 {
        let mut x = i.wrapping_add(5).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 29).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((x >> 40) as f32 / 16_777_216.0 - 0.5) * 2.0
    }

    /// The error of `steps` factorisations of one matrix, each from the last one's Q.
    fn errors(matrix: &[f32], shape: Shape, steps: usize) -> Vec<f64> {
        let mut q = vec![0.0; shape.rank * shape.columns];
        let mut p = vec![0.0; shape.rank * shape.rows];
        let one = |_| {
            let simd = Simd::best();
            factorise(simd, 7, 3, shape, matrix, &mut p, &mut q);
            let mut rest = matrix.to_vec();
            accumulate(simd, shape, &Factors { p: &p, q: &q }, -1.0, &mut rest);
            sum_of_squares(simd, &rest)
        };
        (0..steps).map(one).collect()
    }

    #[test]
    fn matrices_of_that_rank_come_back_whole() {
        let (rows, columns) = (37, 50);
        let product = |i: u64, j: u64| -> f32 {
            (0..3)
                .map(|r| uniform(r * 1000 + i) * uniform(9000 + r * 1000 + j))
                .sum()
        };
        let cells = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j)));
        let matrix: Vec<f32> = cells.map(|(i, j)| product(i, j)).collect();
        let shape = Shape {
            rows: 37,
            columns: 50,
            rank: 3,
        };
        let norm = sum_of_squares(Simd::best(), &matrix);
        assert!(errors(&matrix, shape, 1)[0] < 1e-9 * norm);
        let too_low = Shape { rank: 1, ..shape };
        assert!(errors(&matrix, too_low, 1)[0] > 1e-2 * norm);
        // More than there is: the columns that are left over vanish.
        let shape = Shape { rank: 5, ..shape };
        assert!(errors(&matrix, shape, 2)[1] < 1e-9 * norm);
    }

    /// For a diagonal matrix the best approximation is known: the largest entries.
    #[test]
    fn warm_starts_converge_to_the_best_approximation() {
        let n = 40;
        let entry = |i: usize| 0.85_f32.powi(i as i32);
        let mut matrix = vec![0.0; n * n];
        (0..n).for_each(|i| matrix[i * n + i] = entry(i));
        let shape = Shape {
            rows: n,
            columns: n,
            rank: 4,
        };
        let best: f64 = (4..n).map(|i| f64::from(entry(i)).powi(2)).sum();
        let errors = errors(&matrix, shape, 30);
        assert!(errors[29] < 1.001 * best, "{} for {best}", errors[29]);
        assert!(errors[0] > 1.05 * best, "the first step is not there yet");
    }

    #[test]
    fn matrices_that_are_not_worth_it_are_no_shape() {
        assert_eq!(Shape::plan(10, 0, 2), None);
        assert_eq!(Shape::plan(1000, 1000, 2), None);
        assert_eq!(Shape::plan(16, 4, 2), None);
        assert_eq!(
            Shape::plan(200, 20, 2),
            Some(Shape {
                rows: 10,
                columns: 20,
                rank: 2
            })
        );
        // Cut out of a tensor: 3 · 5 · 7 · 11 elements.
        assert_eq!(
            Shape::plan(1155, 100, 2),
            Some(Shape {
                rows: 35,
                columns: 33,
                rank: 2
            })
        );
        assert_eq!(Shape::plan(1009, 100, 2), None, "a prime");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the matrix: finite factors, an error that is no larger than the matrix, and the
        /// same bits on every path.
        #[test]
        fn a_projection_never_grows(
            rows in 1usize..20,
            columns in 1usize..40,
            rank in 1usize..5,
            exponent in -126i32..120,
            sparsity in 0u64..4,
        ) {
            let shape = Shape { rows, columns, rank: rank.min(rows).min(columns) };
            let scale = 2_f32.powi(exponent);
            let zero = |i: u64| sparsity > 0 && !i.is_multiple_of(sparsity + 1);
            let cell = |i: u64| if zero(i) { 0.0 } else { uniform(i) * scale };
            let matrix: Vec<f32> = (0..(rows * columns) as u64).map(cell).collect();
            let run = |simd: Simd| {
                let mut q = vec![0.0; shape.rank * columns];
                let mut p = vec![0.0; shape.rank * rows];
                factorise(simd, 7, 3, shape, &matrix, &mut p, &mut q);
                let mut rest = matrix.clone();
                accumulate(simd, shape, &Factors { p: &p, q: &q }, -1.0, &mut rest);
                (p, q, rest)
            };
            let (p, q, rest) = run(Simd::PORTABLE);
            let finite = (Factors { p: &p, q: &q }).are_finite(Simd::best(), shape);
            prop_assert!(finite);
            let (before, after) = (sum_of_squares(Simd::best(), &matrix), sum_of_squares(Simd::best(), &rest));
            prop_assert!(after <= before * 1.0001 + 1e-80, "{} from {}", after, before);
            for simd in Simd::available() {
                let bits = |(p, q, rest): (Vec<f32>, Vec<f32>, Vec<f32>)| {
                    [p, q, rest].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                prop_assert_eq!(bits(run(*simd)), bits((p.clone(), q.clone(), rest.clone())));
            }
        }
    }
}
