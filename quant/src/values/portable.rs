//! In plain floats: what every CPU runs, and what the vector kernels are held to.

use super::{Remember, Sums, Table};
use crate::feedback::add_lanes;

/// Sums are taken in so many lanes on every path.
pub(super) const LANES: usize = 16;

pub(super) fn accumulate(table: &Table, symbols: &[u8], target: &mut [f32]) {
    for (sum, symbol) in target.iter_mut().zip(symbols) {
        *sum += table.values[usize::from(*symbol)];
    }
}

pub(super) fn remember(given: &Remember<'_>, residual: &mut [f32]) -> Sums {
    let mut lanes = [[0.0; LANES]; 2];
    remember_into(&mut lanes, given, 0, residual);
    total(lanes, given.carry)
}

/// Elements from `start` on, which is a multiple of [`LANES`].
#[inline(always)]
pub(super) fn remember_into(
    lanes: &mut [[f32; LANES]; 2],
    given: &Remember<'_>,
    start: usize,
    residual: &mut [f32],
) {
    let inputs = given.values.iter().zip(given.symbols);
    for (i, ((v, symbol), h)) in inputs.zip(residual).enumerate().skip(start) {
        let error = v - given.table.values[usize::from(*symbol)];
        lanes[0][i % LANES] += error * error;
        if given.carry == 0.0 {
            *h = error;
        } else {
            *h = given.carry * *h + error;
            lanes[1][i % LANES] += *h * *h;
        }
    }
}

/// Where nothing is carried, h is the error.
pub(super) fn total([errors, residuals]: [[f32; LANES]; 2], carry: f32) -> Sums {
    let error = add_lanes(errors);
    Sums {
        error,
        residual: if carry == 0.0 {
            error
        } else {
            add_lanes(residuals)
        },
    }
}
