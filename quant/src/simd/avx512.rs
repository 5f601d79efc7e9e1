//! Loads, stores and look-ups for the AVX-512 kernels, each sound because of the type it takes.

#![allow(
    unsafe_code,
    reason = "the memory accesses of the kernels, and nothing else"
)]

use std::arch::x86_64::*;

/// Whether this CPU has what the kernels are compiled for.
pub(crate) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
}

/// Sixteen lanes of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load(from: &[u32; 16]) -> __m512i {
    // SAFETY: 64 readable bytes behind the reference; unaligned.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// Writes sixteen lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store(lanes: __m512i, to: &mut [u32; 16]) {
    // SAFETY: 64 writable bytes behind the reference; unaligned.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), lanes) }
}

/// The first 64 bytes; zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn load_bytes(from: &[u8]) -> __m512i {
    let mask = u64::MAX >> (64 - from.len().clamp(1, 64));
    let mask = if from.is_empty() { 0 } else { mask };
    // SAFETY: only bytes of the slice are read, the mask leaves out the others; unaligned.
    unsafe { _mm512_maskz_loadu_epi8(mask, from.as_ptr().cast()) }
}

/// Writes 64 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store_bytes(bytes: __m512i, to: &mut [u8; 64]) {
    // SAFETY: 64 writable bytes behind the reference; unaligned.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), bytes) }
}

/// Writes the first 32 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store_half(bytes: __m512i, to: &mut [u8; 32]) {
    // SAFETY: 32 writable bytes behind the reference; unaligned.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_castsi512_si256(bytes)) }
}

/// Sixteen words, each in a lane.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
pub(crate) fn widen_words(from: &[u16; 16]) -> __m512i {
    // SAFETY: 32 readable bytes behind the reference; unaligned.
    _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
}

/// Sixteen bytes, each in a lane.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
pub(crate) fn widen_bytes(from: &[u8; 16]) -> __m512i {
    // SAFETY: 16 readable bytes behind the reference; unaligned.
    _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(from.as_ptr().cast()) })
}

/// Writes the low byte of each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
pub(crate) fn narrow_bytes(lanes: __m512i, to: &mut [u8; 16]) {
    // SAFETY: 16 writable bytes behind the reference; unaligned.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(lanes)) }
}

/// Writes sixteen words.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
pub(crate) fn store_words(words: __m256i, to: &mut [u16; 16]) {
    // SAFETY: 32 writable bytes behind the reference; unaligned.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), words) }
}

/// `table[lane mod 4096]` for each lane.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn gather_4096(table: &[u32; 4096], lanes: __m512i) -> __m512i {
    let index = _mm512_and_si512(lanes, _mm512_set1_epi32(4095));
    // SAFETY: every index is below the table's length.
    unsafe { _mm512_i32gather_epi32::<4>(index, table.as_ptr().cast()) }
}

/// Sixteen floats.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_floats(from: &[f32; 16]) -> __m512 {
    // SAFETY: 64 readable bytes behind the reference; unaligned.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

/// Writes sixteen floats.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store_floats(lanes: __m512, to: &mut [f32; 16]) {
    // SAFETY: 64 writable bytes behind the reference; unaligned.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), lanes) }
}

/// `table[lane mod 256]` for each lane.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn gather_floats(table: &[f32; 256], lanes: __m512i) -> __m512 {
    let index = _mm512_and_si512(lanes, _mm512_set1_epi32(255));
    // SAFETY: every index is below the table's length.
    unsafe { _mm512_i32gather_ps::<4>(index, table.as_ptr()) }
}
