//! The coder in AVX2: eight states a vector, two or eight vectors.

#![allow(unsafe_code, reason = "calls by instruction set")]

use std::arch::x86_64::*;

use super::{BITS, DecodeTable, ESCAPED, EncodeTable, LOWEST, SLOTS, Stack, portable};
use crate::simd::avx2::{
    COMPRESS, EXPAND, load, look_up, look_up_4096, narrow_bytes, narrow_words, store, widen_words,
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
    assert_eq!(simd.path(), Path::Avx2, "what makes the calls below sound");
    if states.len() < 16 {
        return portable::encode(table, groups, states, stack);
    }
    // The last row may be short.
    let (rows, last) = groups.split_at(groups.len() / states.len() * states.len());
    portable::encode(table, last, states, stack);
    let rows = rows.as_chunks::<8>().0;
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    unsafe {
        match states.as_chunks_mut::<8>().0 {
            [a, b, c, d, e, f, g, h] => {
                encode_rows::<8>(table, rows, [a, b, c, d, e, f, g, h], stack);
            }
            [a, b] => encode_rows::<2>(table, rows, [a, b], stack),
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
    assert_eq!(simd.path(), Path::Avx2, "what makes the calls below sound");
    if states.len() < 16 {
        return portable::decode(table, words, states, found);
    }
    let whole = found.len() / states.len() * states.len();
    let (rows, last) = found.split_at_mut(whole);
    let rows = rows.as_chunks_mut::<8>().0;
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    let next = unsafe {
        match states.as_chunks_mut::<8>().0 {
            [a, b, c, d, e, f, g, h] => {
                decode_rows::<8>(table, words, [a, b, c, d, e, f, g, h], rows)
            }
            [a, b] => decode_rows::<2>(table, words, [a, b], rows),
            _ => None,
        }
    }?;
    portable::pop_row(table, words, next, states, last)
}

#[target_feature(enable = "avx2,bmi2,popcnt")]
fn encode_rows<const K: usize>(
    table: &EncodeTable,
    rows: &[[u8; 8]],
    states: [&mut [u32; 8]; K],
    stack: &mut Stack<'_>,
) {
    let mut x: [__m256i; K] = std::array::from_fn(|k| load(&*states[k]));
    let low = _mm256_set1_epi32(4095);
    let downwards = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    for row in rows.chunks_exact(K).rev() {
        for k in (0..K).rev() {
            let symbol = look_up(&table.symbols, &row[k]);
            // The flag of an escape is the lane's sign.
            const { assert!(ESCAPED == 1 << 31) };
            let escaped = _mm256_movemask_ps(_mm256_castsi256_ps(symbol));
            if escaped != 0 {
                for i in (0..8).rev().filter(|i| escaped >> i & 1 == 1) {
                    stack.escapes[stack.escaped] = row[k][i];
                    stack.escaped += 1;
                }
            }
            let slots = _mm256_and_si256(symbol, low);
            let first = _mm256_and_si256(_mm256_srli_epi32::<12>(symbol), low);
            // Too large for the next state: a word leaves, the highest lane's first.
            let fits = _mm256_cmpgt_epi32(_mm256_slli_epi32::<19>(slots), x[k]);
            let turned = _mm256_permutevar8x32_epi32(x[k], downwards);
            let turned_fits = _mm256_permutevar8x32_epi32(fits, downwards);
            let full = 255 & !_mm256_movemask_ps(_mm256_castsi256_ps(turned_fits)) as usize;
            let leaving = _mm256_permutevar8x32_epi32(turned, load(&COMPRESS[full]));
            // Invariant: the stack has a row of room beyond its words.
            if let Some(place) = stack.words[stack.height..].first_chunk_mut::<8>() {
                narrow_words(leaving, place);
            }
            stack.height += full.count_ones() as usize;
            let rest = _mm256_blendv_epi8(_mm256_srli_epi32::<16>(x[k]), x[k], fits);
            x[k] = _mm256_add_epi32(spread(rest, slots), first);
        }
    }
    for (state, lanes) in states.into_iter().zip(x) {
        store(lanes, state);
    }
}

/// ⌊x/y⌋ · SLOTS + x mod y for x < 2³¹, y < SLOTS and a quotient below 2¹⁹. That of floats has a
/// relative error below 2⁻²²; a quarter less, and it is right or too small by one, which the remainder
/// tells.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(x: __m256i, y: __m256i) -> __m256i {
    let quotient = _mm256_div_ps(_mm256_cvtepi32_ps(x), _mm256_cvtepi32_ps(y));
    let quotient = _mm256_cvttps_epi32(_mm256_sub_ps(quotient, _mm256_set1_ps(0.25)));
    let rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, y));
    let spread = _mm256_add_epi32(_mm256_slli_epi32::<{ BITS as i32 }>(quotient), rest);
    let others = _mm256_sub_epi32(_mm256_set1_epi32(SLOTS as i32), y);
    let enough = _mm256_cmpgt_epi32(y, rest);
    _mm256_add_epi32(spread, _mm256_andnot_si256(enough, others))
}

#[target_feature(enable = "avx2,bmi2,popcnt")]
fn decode_rows<const K: usize>(
    table: &DecodeTable,
    words: &[u16],
    states: [&mut [u32; 8]; K],
    rows: &mut [[u8; 8]],
) -> Option<usize> {
    let mut x: [__m256i; K] = std::array::from_fn(|k| load(&*states[k]));
    let low = _mm256_set1_epi32(4095);
    let lowest = _mm256_set1_epi32(LOWEST as i32);
    let mut next = 0;
    for row in rows.chunks_exact_mut(K) {
        for k in 0..K {
            let entry = look_up_4096(table, x[k]);
            row[k] = narrow_bytes(_mm256_srli_epi32::<24>(entry));
            let slots = _mm256_and_si256(entry, low);
            let place = _mm256_and_si256(_mm256_srli_epi32::<12>(entry), low);
            let upper = _mm256_srli_epi32::<{ BITS as i32 }>(x[k]);
            let moved = _mm256_add_epi32(_mm256_mullo_epi32(slots, upper), place);
            let empty = _mm256_cmpgt_epi32(lowest, moved);
            let mask = _mm256_movemask_ps(_mm256_castsi256_ps(empty)) as usize;
            let taken = widen_words(words.get(next..)?.first_chunk::<8>()?);
            let taken = _mm256_permutevar8x32_epi32(taken, load(&EXPAND[mask]));
            let refilled = _mm256_or_si256(_mm256_slli_epi32::<16>(moved), taken);
            x[k] = _mm256_blendv_epi8(moved, refilled, empty);
            next += mask.count_ones() as usize;
        }
    }
    for (state, lanes) in states.into_iter().zip(x) {
        store(lanes, state);
    }
    Some(next)
}
