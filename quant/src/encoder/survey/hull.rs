//! What a class is best given at any price of a bit.

use super::allocate::Class;

/// The candidates of a class that are the best for some λ: the lower convex hull of its curve.
pub(super) struct Hull {
    /// From the coarsest on.
    corners: Vec<u8>,
    /// What a bit takes off from each to the next; falling.
    slopes: Vec<f64>,
}

impl Hull {
    pub(super) fn of(class: &Class, grid: &[u8]) -> Self {
        let point = |index: u8| {
            let point = class.curve[usize::from(index)];
            (point.bits + point.extra, point.error)
        };
        let slope = |from: u8, to: u8| {
            let ((from_bits, from_error), (to_bits, to_error)) = (point(from), point(to));
            (from_error - to_error) / (to_bits - from_bits)
        };
        let mut order = grid.to_vec();
        order.sort_by(|a, b| {
            let ((a_bits, a_error), (b_bits, b_error)) = (point(*a), point(*b));
            a_bits.total_cmp(&b_bits).then(a_error.total_cmp(&b_error))
        });
        let mut hull = Self {
            corners: Vec::with_capacity(order.len()),
            slopes: Vec::with_capacity(order.len()),
        };
        for index in order {
            let worse = |last: &u8| point(index).1 >= point(*last).1;
            if hull.corners.last().is_some_and(worse) {
                continue; // It takes no fewer bits.
            }
            // What is less worth its bits than what follows is no corner.
            while let (Some(last), Some(before)) = (hull.corners.last(), hull.slopes.last())
                && slope(*last, index) >= *before
            {
                hull.corners.pop();
                hull.slopes.pop();
            }
            if let Some(last) = hull.corners.last() {
                hull.slopes.push(slope(*last, index));
            }
            hull.corners.push(index);
        }
        hull
    }

    /// The candidate that minimises error + λ · bits.
    pub(super) fn at(&self, lambda: f64) -> u8 {
        let worth = self.slopes.partition_point(|slope| *slope > lambda);
        self.corners.get(worth).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::allocate::tests::allocator;
    use super::super::curve::Candidates;
    use super::*;

    #[test]
    fn a_hull_has_the_best_candidate_for_every_slope() {
        let allocator = allocator(&[(30_000, 2.0)]);
        let mut class = allocator.classes[0].clone();
        // Neither monotonic nor convex.
        for (i, point) in class.curve.iter_mut().enumerate() {
            point.bits += [0.0, 900.0, -700.0, 3000.0][i % 4];
            point.error *= [1.0, 1.2, 0.7][i % 3];
        }
        let grid = Candidates::Levels.every(1);
        let hull = Hull::of(&class, &grid);
        let price = |index: u8, lambda: f64| {
            let point = class.curve[usize::from(index)];
            point.error + lambda * point.bits
        };
        for exponent in -400..400 {
            let lambda = (f64::from(exponent) / 10.0).exp2();
            let least = grid.iter().map(|index| price(*index, lambda));
            let least = least.fold(f64::MAX, f64::min);
            assert!(
                price(hull.at(lambda), lambda) <= least * (1.0 + 1e-12),
                "{lambda}"
            );
        }
    }
}
