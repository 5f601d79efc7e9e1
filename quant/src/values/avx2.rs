//! In AVX2: tables of up to 16 values are looked up in registers.

#![allow(unsafe_code, reason = "calls by instruction set")]

use std::arch::x86_64::*;

use super::portable::{self, LANES};
use super::{Accumulate, Remember, Sums, Table};
use crate::simd::avx2::{gather_floats, load_floats, store_floats, widen_bytes};
use crate::simd::{Path, Simd, prefetch};

pub(super) fn accumulate(simd: Simd, given: &Accumulate<'_>, target: &mut [f32]) {
    assert_eq!(simd.path(), Path::Avx2, "what makes the calls below sound");
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    unsafe {
        match given.alphabet {
            0..=8 => accumulate_lanes::<8>(given, target),
            9..=16 => accumulate_lanes::<16>(given, target),
            _ => accumulate_lanes::<256>(given, target),
        }
    }
}

pub(super) fn remember(simd: Simd, given: &Remember<'_>, residual: &mut [f32]) -> Sums {
    assert_eq!(simd.path(), Path::Avx2, "what makes the calls below sound");
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    unsafe {
        match (given.alphabet, given.carry != 0.0) {
            (0..=8, false) => remember_lanes::<8, false>(given, residual),
            (0..=8, true) => remember_lanes::<8, true>(given, residual),
            (9..=16, false) => remember_lanes::<16, false>(given, residual),
            (9..=16, true) => remember_lanes::<16, true>(given, residual),
            (_, false) => remember_lanes::<256, false>(given, residual),
            (_, true) => remember_lanes::<256, true>(given, residual),
        }
    }
}

/// A table of N values.
struct Lookup<'a, const N: usize> {
    low: __m256,
    high: __m256,
    all: &'a [f32; 256],
}

impl<'a, const N: usize> Lookup<'a, N> {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(table: &'a Table) -> Self {
        let chunks = table.values.as_chunks::<8>().0;
        Self {
            low: load_floats(&chunks[0]),
            high: load_floats(&chunks[1]),
            all: &table.values,
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, symbols: __m256i) -> __m256 {
        match N {
            8 => _mm256_permutevar8x32_ps(self.low, symbols),
            16 => {
                // Bit 3 says which half; the permutations look at the bits below.
                let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(symbols));
                let low = _mm256_permutevar8x32_ps(self.low, symbols);
                let high = _mm256_permutevar8x32_ps(self.high, symbols);
                _mm256_blendv_ps(low, high, upper)
            }
            _ => gather_floats(self.all, symbols),
        }
    }
}

#[target_feature(enable = "avx2")]
fn accumulate_lanes<const N: usize>(given: &Accumulate<'_>, target: &mut [f32]) {
    let lookup = Lookup::<N>::new(given.table);
    let (symbols, last_symbols) = given.symbols.as_chunks::<8>();
    let (target, last) = target.as_chunks_mut::<8>();
    for (i, (symbols, target)) in symbols.iter().zip(target).enumerate() {
        prefetch(given.ahead, 8 * i);
        let values = lookup.of(widen_bytes(symbols));
        store_floats(_mm256_add_ps(load_floats(target), values), target);
    }
    portable::accumulate(given.table, last_symbols, last);
}

#[target_feature(enable = "avx2")]
fn remember_lanes<const N: usize, const CARRIES: bool>(
    given: &Remember<'_>,
    residual: &mut [f32],
) -> Sums {
    let lookup = Lookup::<N>::new(given.table);
    let carry = _mm256_set1_ps(given.carry);
    // Sixteen lanes in two halves, as on every path.
    let mut errors = [_mm256_setzero_ps(); 2];
    let mut residuals = errors;
    let values = given.values.as_chunks::<16>().0;
    let symbols = given.symbols.as_chunks::<16>().0;
    let rows = values.iter().zip(symbols);
    for (i, ((v, symbols), h)) in rows.zip(residual.as_chunks_mut::<16>().0).enumerate() {
        prefetch(given.ahead[0], 16 * i);
        prefetch(given.ahead[1], 16 * i);
        let v = v.as_chunks::<8>().0;
        let (symbols, h) = (symbols.as_chunks::<8>().0, h.as_chunks_mut::<8>().0);
        for half in 0..2 {
            let value = lookup.of(widen_bytes(&symbols[half]));
            let error = _mm256_sub_ps(load_floats(&v[half]), value);
            errors[half] = _mm256_add_ps(errors[half], _mm256_mul_ps(error, error));
            if CARRIES {
                let next = _mm256_add_ps(_mm256_mul_ps(carry, load_floats(&h[half])), error);
                store_floats(next, &mut h[half]);
                residuals[half] = _mm256_add_ps(residuals[half], _mm256_mul_ps(next, next));
            } else {
                store_floats(error, &mut h[half]);
            }
        }
    }
    let mut lanes = [[0.0; LANES]; 2];
    for (lanes, sums) in lanes.iter_mut().zip([errors, residuals]) {
        for (lanes, sum) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
            store_floats(sum, lanes);
        }
    }
    let done = residual.len() / LANES * LANES;
    portable::remember_into(&mut lanes, given, done, residual);
    portable::total(lanes, given.carry)
}
