//! The coder in AVX-512: sixteen states a vector, one or four vectors.

#![allow(unsafe_code, reason = "calls by instruction set")]

use std::arch::x86_64::*;

use super::{BITS, DecodeTable, ESCAPE, EncodeTable, LOWEST, SLOTS, Stack, portable};
use crate::simd::avx512::{
    gather_4096, load, load_bytes, narrow_bytes, store, store_bytes, store_words, widen_words,
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
            [a] if table.small => encode_rows::<1, true>(table, rows, [a], stack),
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

/// Bytes and lanes are in descending order here, so that what leaves them compresses into the order of the
/// stack.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,avx2,bmi2,popcnt")]
fn encode_rows<const K: usize, const SMALL: bool>(
    table: &EncodeTable,
    rows: &[[u8; 16]],
    states: [&mut [u32; 16]; K],
    stack: &mut Stack<'_>,
) {
    let turned = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let mut x: [__m512i; K] =
        std::array::from_fn(|k| _mm512_permutexvar_epi32(turned, load(&*states[k])));
    let entries = Entries::<SMALL>::new(table);
    let downwards: [u8; 64] = std::array::from_fn(|i| (16 * K - 1).wrapping_sub(i) as u8);
    let downwards = load_bytes(&downwards);
    let row_mask = u64::MAX >> (64 - 16 * K);
    let low = _mm512_set1_epi32(4095);
    let [_, escape_b, escape_c, _] = table.symbols[ESCAPE]
        .to_le_bytes()
        .map(|byte| _mm512_set1_epi8(byte as i8));
    for row in rows.chunks_exact(K).rev() {
        let bytes = _mm512_permutexvar_epi8(downwards, load_bytes(row.as_flattened()));
        let planes = entries.planes(bytes);
        // First slots are the upper twelve bits of an entry, and no other's than the escape's are its.
        // Invariant: the stack has a row of room beyond what is on it.
        let escaped = _mm512_mask_cmpeq_epi8_mask(row_mask, planes[2], escape_c);
        let escaped = _mm512_mask_cmpeq_epi8_mask(escaped, planes[1], escape_b);
        if let Some(place) = stack.escapes[stack.escaped..].first_chunk_mut::<64>() {
            store_bytes(_mm512_maskz_compress_epi8(escaped, bytes), place);
        }
        stack.escaped += escaped.count_ones() as usize;
        for k in (0..K).rev() {
            let symbol = spread_planes(&planes, &PLACES[K - 1 - k]);
            let slots = _mm512_and_si512(symbol, low);
            let first = _mm512_srli_epi32::<12>(symbol);
            // Too large for the next state: a word leaves.
            let full = _mm512_cmpge_epu32_mask(x[k], _mm512_slli_epi32::<19>(slots));
            let leaving = _mm256_maskz_compress_epi16(full, _mm512_cvtepi32_epi16(x[k]));
            if let Some(place) = stack.words[stack.height..].first_chunk_mut::<16>() {
                store_words(leaving, place);
            }
            stack.height += full.count_ones() as usize;
            let rest = _mm512_mask_srli_epi32::<16>(x[k], full, x[k]);
            x[k] = _mm512_add_epi32(spread(rest, slots), first);
        }
    }
    for (state, lanes) in states.into_iter().zip(x) {
        store(_mm512_permutexvar_epi32(turned, lanes), state);
    }
}

/// The three lower bytes of the entries of an [`EncodeTable`], a plane of bytes each, in registers: 64 byte
/// values are looked up at once, where a gather takes its entries one by one.
struct Entries<const SMALL: bool>([[__m512i; 4]; 3]);

impl<const SMALL: bool> Entries<SMALL> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(table: &EncodeTable) -> Self {
        Self(std::array::from_fn(|plane| {
            let bytes = table.symbols.map(|symbol| symbol.to_le_bytes()[plane]);
            let quarters = bytes.as_chunks::<64>().0;
            std::array::from_fn(|quarter| load_bytes(&quarters[quarter]))
        }))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn planes(&self, bytes: __m512i) -> [__m512i; 3] {
        if SMALL {
            // What is not below 64 has no slot.
            let above = _mm512_cmpge_epu8_mask(bytes, _mm512_set1_epi8(64));
            return [0, 1, 2].map(|plane| {
                let known = _mm512_permutexvar_epi8(bytes, self.0[plane][0]);
                _mm512_mask_permutexvar_epi8(known, above, _mm512_set1_epi8(63), self.0[plane][3])
            });
        }
        let upper = _mm512_movepi8_mask(bytes);
        [0, 1, 2].map(|plane| {
            let [a, b, c, d] = self.0[plane];
            let low = _mm512_permutex2var_epi8(a, bytes, b);
            let high = _mm512_permutex2var_epi8(c, bytes, d);
            _mm512_mask_blend_epi8(upper, low, high)
        })
    }
}

/// For each vector, where the bytes of its lanes are in two planes, and in a third.
static PLACES: [[u8; 64]; 4] = {
    let mut places = [[0; 64]; 4];
    let mut at = 0;
    while at < 256 {
        // The second byte of a lane is that of the second plane.
        places[at / 64][at % 64] = (at / 4) as u8 + if at % 4 == 1 { 64 } else { 0 };
        at += 1;
    }
    places
};

/// Three planes of bytes as lanes, whose highest bytes are 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn spread_planes([a, b, c]: &[__m512i; 3], places: &[u8; 64]) -> __m512i {
    let places = load_bytes(places);
    let lower = _mm512_maskz_permutex2var_epi8(0x3333_3333_3333_3333, *a, places, *b);
    _mm512_mask_permutexvar_epi8(lower, 0x4444_4444_4444_4444, places, *c)
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
