//! The coder in AVX-512: sixteen states a vector, one or four vectors.

#![allow(unsafe_code, reason = "calls by instruction set")]

use std::arch::x86_64::*;

use super::{BITS, DecodeTable, ESCAPED, EncodeTable, LOWEST, SLOTS, Stack, portable};
use crate::simd::avx512::{
    gather_256, gather_4096, load, narrow_bytes, store, store_words, widen_bytes, widen_words,
};
use crate::simd::{Path, Simd};

/// See [`portable::encode`].
pub(super) fn encode(
    simd: Simd,
    table: &EncodeTable,
    groups: &[u8],
    states: &mut [u32],
    stack: &mut Stack<'_>,
) {
    assert_eq!(
        simd.path(),
        Path::Avx512,
        "what makes the calls below sound"
    );
    if states.len() < 16 {
        return portable::encode(table, groups, states, stack);
    }
    // The last row may be short.
    let (rows, last) = groups.split_at(groups.len() / states.len() * states.len());
    portable::encode(table, last, states, stack);
    let rows = rows.as_chunks::<16>().0;
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    unsafe {
        match states.as_chunks_mut::<16>().0 {
            [a, b, c, d] if table.small => {
                encode_rows::<4, true>(table, rows, [a, b, c, d], stack);
            }
            [a, b, c, d] => encode_rows::<4, false>(table, rows, [a, b, c, d], stack),
            [a] => encode_rows::<1, false>(table, rows, [a], stack),
            _ => portable::encode(table, groups, states, stack),
        }
    }
}

/// See [`portable::decode`].
pub(super) fn decode(
    simd: Simd,
    table: &DecodeTable,
    words: &[u16],
    states: &mut [u32],
    found: &mut [u8],
) -> Option<usize> {
    assert_eq!(
        simd.path(),
        Path::Avx512,
        "what makes the calls below sound"
    );
    if states.len() < 16 {
        return portable::decode(table, words, states, found);
    }
    let whole = found.len() / states.len() * states.len();
    let (rows, last) = found.split_at_mut(whole);
    let rows = rows.as_chunks_mut::<16>().0;
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    let next = unsafe {
        match states.as_chunks_mut::<16>().0 {
            [a, b, c, d] => decode_rows::<4>(table, words, [a, b, c, d], rows),
            [a] => decode_rows::<1>(table, words, [a], rows),
            _ => None,
        }
    }?;
    portable::pop_row(table, words, next, states, last)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi2,popcnt")]
fn encode_rows<const K: usize, const SMALL: bool>(
    table: &EncodeTable,
    rows: &[[u8; 16]],
    states: [&mut [u32; 16]; K],
    stack: &mut Stack<'_>,
) {
    let mut x: [__m512i; K] = std::array::from_fn(|k| load(&*states[k]));
    let symbols: [__m512i; 4] = registers(&table.symbols);
    let low = _mm512_set1_epi32(4095);
    let downwards = _mm256_setr_epi16(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let Stack {
        words,
        height,
        escapes,
    } = stack;
    for row in rows.chunks_exact(K).rev() {
        for k in (0..K).rev() {
            let bytes = widen_bytes(&row[k]);
            let symbol = if SMALL {
                look_up(&symbols, bytes)
            } else {
                gather_256(&table.symbols, bytes)
            };
            let escaped = _mm512_test_epi32_mask(symbol, _mm512_set1_epi32(ESCAPED as i32));
            if escaped != 0 {
                escapes.extend(
                    (0..16)
                        .rev()
                        .filter(|i| escaped >> i & 1 == 1)
                        .map(|i| row[k][i]),
                );
            }
            let slots = _mm512_and_si512(symbol, low);
            let first = _mm512_and_si512(_mm512_srli_epi32::<12>(symbol), low);
            // Too large for the next state: a word leaves, the highest lane's first.
            let full = _mm512_cmpge_epu32_mask(x[k], _mm512_slli_epi32::<19>(slots));
            let leaving = _mm256_permutexvar_epi16(downwards, _mm512_cvtepi32_epi16(x[k]));
            let leaving = _mm256_maskz_compress_epi16(full.reverse_bits(), leaving);
            // Invariant: the stack has a row of room beyond its words.
            if let Some(place) = words[*height..].first_chunk_mut::<16>() {
                store_words(leaving, place);
            }
            *height += full.count_ones() as usize;
            let rest = _mm512_mask_srli_epi32::<16>(x[k], full, x[k]);
            x[k] = _mm512_add_epi32(spread(rest, slots), first);
        }
    }
    for (state, lanes) in states.into_iter().zip(x) {
        store(lanes, state);
    }
}

/// ⌊x/y⌋ · SLOTS + x mod y for x < 2³¹, y < SLOTS and a quotient below 2¹⁹. The reciprocal is the CPU's
/// approximation and a step of Newton's method, so that the quotient's relative error is below 2⁻²²
/// whatever the CPU approximates; a quarter less, and it is right or too small by one, which the
/// remainder tells.
#[inline]
#[target_feature(enable = "avx512f")]
fn spread(x: __m512i, y: __m512i) -> __m512i {
    let divisor = _mm512_cvtepi32_ps(y);
    let near = _mm512_rcp14_ps(divisor);
    let missing = _mm512_fnmadd_ps(divisor, near, _mm512_set1_ps(1.0));
    let reciprocal = _mm512_fmadd_ps(near, missing, near);
    let quotient = _mm512_fmsub_ps(_mm512_cvtepi32_ps(x), reciprocal, _mm512_set1_ps(0.25));
    let quotient = _mm512_cvttps_epi32(quotient);
    let rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, y));
    let spread = _mm512_add_epi32(_mm512_slli_epi32::<BITS>(quotient), rest);
    let short = _mm512_cmpge_epi32_mask(rest, y);
    let others = _mm512_sub_epi32(_mm512_set1_epi32(SLOTS as i32), y);
    _mm512_mask_add_epi32(spread, short, spread, others)
}

/// The first 64 entries of a table.
#[inline]
#[target_feature(enable = "avx512f")]
fn registers(table: &[u32; 256]) -> [__m512i; 4] {
    let chunks = table.as_chunks::<16>().0;
    std::array::from_fn(|i| load(&chunks[i]))
}

/// `table[lane]` for lanes below 64.
#[inline]
#[target_feature(enable = "avx512f")]
fn look_up(table: &[__m512i; 4], lanes: __m512i) -> __m512i {
    let upper = _mm512_test_epi32_mask(lanes, _mm512_set1_epi32(32));
    let low = _mm512_permutex2var_epi32(table[0], lanes, table[1]);
    let high = _mm512_permutex2var_epi32(table[2], lanes, table[3]);
    _mm512_mask_blend_epi32(upper, low, high)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi2,popcnt")]
fn decode_rows<const K: usize>(
    table: &DecodeTable,
    words: &[u16],
    states: [&mut [u32; 16]; K],
    rows: &mut [[u8; 16]],
) -> Option<usize> {
    let mut x: [__m512i; K] = std::array::from_fn(|k| load(&*states[k]));
    let low = _mm512_set1_epi32(4095);
    let lowest = _mm512_set1_epi32(LOWEST as i32);
    let mut next = 0;
    for row in rows.chunks_exact_mut(K) {
        for k in 0..K {
            let entry = gather_4096(table, x[k]);
            narrow_bytes(_mm512_srli_epi32::<24>(entry), &mut row[k]);
            let slots = _mm512_and_si512(entry, low);
            let place = _mm512_and_si512(_mm512_srli_epi32::<12>(entry), low);
            let upper = _mm512_srli_epi32::<BITS>(x[k]);
            let moved = _mm512_add_epi32(_mm512_mullo_epi32(slots, upper), place);
            let empty = _mm512_cmplt_epu32_mask(moved, lowest);
            let taken = widen_words(words.get(next..)?.first_chunk::<16>()?);
            let refilled = _mm512_or_si512(
                _mm512_slli_epi32::<16>(moved),
                _mm512_maskz_expand_epi32(empty, taken),
            );
            x[k] = _mm512_mask_mov_epi32(moved, empty, refilled);
            next += empty.count_ones() as usize;
        }
    }
    for (state, lanes) in states.into_iter().zip(x) {
        store(lanes, state);
    }
    Some(next)
}
