//! Symbols to values and on: what both ends do with a group once its symbols are known.
//!
//! A group's symbols are worth what its [`Table`] says. The receiver adds that to its sum
//! ([`accumulate`]); the sender takes it off the values and keeps the rest ([`remember`]). Both take
//! the values from a table, so that they cannot differ.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(test)]
mod tests;

use crate::simd::{Path, Simd, kernel};

/// What each symbol of a group is worth.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) values: [f32; 256],
}

impl Default for Table {
    fn default() -> Self {
        Self { values: [0.0; 256] }
    }
}

/// Sums over a run of elements.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// Σ (v − q)².
    pub(crate) error: f32,
    /// Σ h².
    pub(crate) residual: f32,
}

/// What [`accumulate`] reads.
pub(crate) struct Accumulate<'a> {
    /// Symbols are below.
    pub(crate) alphabet: usize,
    /// The weight is in it already.
    pub(crate) table: &'a Table,
    pub(crate) symbols: &'a [u8],
    /// What follows the target, to be asked for from memory on the way.
    pub(crate) ahead: &'a [f32],
}

/// target += table\[symbol\] for each element.
pub(crate) fn accumulate(simd: Simd, given: &Accumulate<'_>, target: &mut [f32]) {
    match simd.path() {
        Path::Portable => portable::accumulate(given.table, given.symbols, target),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => avx2::accumulate(simd, given, target),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => avx512::accumulate(simd, given, target),
    }
}

/// What [`remember`] reads.
pub(crate) struct Remember<'a> {
    pub(crate) alphabet: usize,
    pub(crate) table: &'a Table,
    /// β − α.
    pub(crate) carry: f32,
    pub(crate) values: &'a [f32],
    pub(crate) symbols: &'a [u8],
    /// Gradient and residual of what comes next, to be asked for from memory on the way.
    pub(crate) ahead: [&'a [f32]; 2],
}

/// h ← carry · h + (v − table\[symbol\]) for each element, and the sums of squares. Without a carry h is not
/// read.
pub(crate) fn remember(simd: Simd, given: &Remember<'_>, residual: &mut [f32]) -> Sums {
    match simd.path() {
        Path::Portable => portable::remember(given, residual),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => avx2::remember(simd, given, residual),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => avx512::remember(simd, given, residual),
    }
}

/// ‖v − q‖² in double precision, for what single cannot hold.
pub(crate) fn sum_of_errors(table: &Table, symbols: &[u8], values: &[f32]) -> f64 {
    let errors = values
        .iter()
        .zip(symbols)
        .map(|(v, symbol)| v - table.values[usize::from(*symbol)]);
    errors
        .map(|error| f64::from(error) * f64::from(error))
        .sum()
}

kernel! {
    /// How often `symbol` occurs.
    pub(crate) fn count(symbol: u8, symbols: &[u8]) -> usize {
        let mut count = 0;
        // Runs short enough for a count in a byte, which vectorises best.
        for run in symbols.chunks(128) {
            let equal = run.iter().map(|other| u8::from(*other == symbol));
            count += usize::from(equal.fold(0_u8, |sum, one| sum.wrapping_add(one)));
        }
        count
    }
}

/// Where `symbol` occurs, in order; quick where it is rare.
pub(crate) fn places(simd: Simd, symbol: u8, symbols: &[u8]) -> impl Iterator<Item = usize> + '_ {
    const RUN: usize = 512;
    let runs = symbols.chunks(RUN).enumerate();
    let with = runs.filter(move |(_, run)| count(simd, symbol, run) > 0);
    with.flat_map(move |(index, run)| {
        let places = run
            .iter()
            .enumerate()
            .filter(move |(_, other)| **other == symbol);
        places.map(move |(place, _)| index * RUN + place)
    })
}
