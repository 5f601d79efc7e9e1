//! In AVX-512: tables of up to 32 values are looked up in registers.

#![allow(unsafe_code, reason = "calls by instruction set")]

use std::arch::x86_64::*;

use super::portable::{self, LANES};
use super::{Accumulate, Remember, Sums, Table};
use crate::simd::avx512::{gather_floats, load_floats, store_floats, widen_bytes};
use crate::simd::{Path, Simd, prefetch};

pub(super) fn accumulate(simd: Simd, given: &Accumulate<'_>, target: &mut [f32]) {
    assert_eq!(
        simd.path(),
        Path::Avx512,
        "what makes the calls below sound"
    );
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    unsafe {
        match given.alphabet {
            0..=16 => accumulate_lanes::<16>(given, target),
            17..=32 => accumulate_lanes::<32>(given, target),
            _ => accumulate_lanes::<256>(given, target),
        }
    }
}

pub(super) fn remember(simd: Simd, given: &Remember<'_>, residual: &mut [f32]) -> Sums {
    assert_eq!(
        simd.path(),
        Path::Avx512,
        "what makes the calls below sound"
    );
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    unsafe {
        match (given.alphabet, given.carry != 0.0) {
            (0..=16, false) => remember_lanes::<16, false>(given, residual),
            (0..=16, true) => remember_lanes::<16, true>(given, residual),
            (17..=32, false) => remember_lanes::<32, false>(given, residual),
            (17..=32, true) => remember_lanes::<32, true>(given, residual),
            (_, false) => remember_lanes::<256, false>(given, residual),
            (_, true) => remember_lanes::<256, true>(given, residual),
        }
    }
}

/// A table of N values.
struct Lookup<'a, const N: usize> {
    low: __m512,
    high: __m512,
    all: &'a [f32; 256],
}

impl<'a, const N: usize> Lookup<'a, N> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(table: &'a Table) -> Self {
        let chunks = table.values.as_chunks::<16>().0;
        Self {
            low: load_floats(&chunks[0]),
            high: load_floats(&chunks[1]),
            all: &table.values,
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of(&self, symbols: __m512i) -> __m512 {
        match N {
            16 => _mm512_permutexvar_ps(symbols, self.low),
            32 => _mm512_permutex2var_ps(self.low, symbols, self.high),
            _ => gather_floats(self.all, symbols),
        }
    }
}

#[target_feature(enable = "avx512f,avx512vl")]
fn accumulate_lanes<const N: usize>(given: &Accumulate<'_>, target: &mut [f32]) {
    let lookup = Lookup::<N>::new(given.table);
    let (symbols, last_symbols) = given.symbols.as_chunks::<16>();
    let (target, last) = target.as_chunks_mut::<16>();
    for (i, (symbols, target)) in symbols.iter().zip(target).enumerate() {
        prefetch(given.ahead, 16 * i);
        let values = lookup.of(widen_bytes(symbols));
        store_floats(_mm512_add_ps(load_floats(target), values), target);
    }
    portable::accumulate(given.table, last_symbols, last);
}

#[target_feature(enable = "avx512f,avx512vl")]
fn remember_lanes<const N: usize, const CARRIES: bool>(
    given: &Remember<'_>,
    residual: &mut [f32],
) -> Sums {
    let lookup = Lookup::<N>::new(given.table);
    let carry = _mm512_set1_ps(given.carry);
    let (mut errors, mut residuals) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    let values = given.values.as_chunks::<16>().0;
    let symbols = given.symbols.as_chunks::<16>().0;
    let rows = values.iter().zip(symbols);
    for (i, ((v, symbols), h)) in rows.zip(residual.as_chunks_mut::<16>().0).enumerate() {
        prefetch(given.ahead[0], 16 * i);
        prefetch(given.ahead[1], 16 * i);
        let error = _mm512_sub_ps(load_floats(v), lookup.of(widen_bytes(symbols)));
        errors = _mm512_add_ps(errors, _mm512_mul_ps(error, error));
        if CARRIES {
            let next = _mm512_add_ps(_mm512_mul_ps(carry, load_floats(h)), error);
            store_floats(next, h);
            residuals = _mm512_add_ps(residuals, _mm512_mul_ps(next, next));
        } else {
            store_floats(error, h);
        }
    }
    let mut lanes = [[0.0; LANES]; 2];
    store_floats(errors, &mut lanes[0]);
    store_floats(residuals, &mut lanes[1]);
    let done = residual.len() / LANES * LANES;
    portable::remember_into(&mut lanes, given, done, residual);
    portable::total(lanes, given.carry)
}
