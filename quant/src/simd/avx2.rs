//! Loads, stores and look-ups for the AVX2 kernels, each sound because of the type it takes.

#![allow(
    unsafe_code,
    reason = "the memory accesses of the kernels, and nothing else"
)]

use std::arch::x86_64::*;

/// Whether this CPU has what the kernels are compiled for.
pub(crate) fn detected() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
}

/// Eight lanes of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load(from: &[u32; 8]) -> __m256i {
    // SAFETY: 32 readable bytes behind the reference; unaligned.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

/// Writes eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store(lanes: __m256i, to: &mut [u32; 8]) {
    // SAFETY: 32 writable bytes behind the reference; unaligned.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), lanes) }
}

/// Writes 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store_bytes(bytes: __m256i, to: &mut [u8; 32]) {
    // SAFETY: 32 writable bytes behind the reference; unaligned.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes) }
}

/// Eight words, each in a lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn widen_words(from: &[u16; 8]) -> __m256i {
    // SAFETY: 16 readable bytes behind the reference; unaligned.
    _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(from.as_ptr().cast()) })
}

/// Eight bytes, each in a lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn widen_bytes(from: &[u8; 8]) -> __m256i {
    _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*from)))
}

/// The low byte of each lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn narrow_bytes(lanes: __m256i) -> [u8; 8] {
    let bytes = _mm256_shuffle_epi8(
        lanes,
        _mm256_setr_epi8(
            0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, //
            0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
        ),
    );
    let low = _mm_cvtsi128_si32(_mm256_castsi256_si128(bytes)) as u32;
    let high = _mm_cvtsi128_si32(_mm256_extracti128_si256::<1>(bytes)) as u32;
    (u64::from(low) | u64::from(high) << 32).to_le_bytes()
}

/// Writes the low word of each lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn narrow_words(lanes: __m256i, to: &mut [u16; 8]) {
    let words = _mm256_packus_epi32(
        _mm256_and_si256(lanes, _mm256_set1_epi32(0xffff)),
        _mm256_setzero_si256(),
    );
    let words = _mm256_permute4x64_epi64::<0b00_00_10_00>(words);
    // SAFETY: 16 writable bytes behind the reference; unaligned.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_castsi256_si128(words)) }
}

/// `table[byte]` for each byte. Not a gather, which is slower on many CPUs.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn look_up(table: &[u32; 256], bytes: &[u8; 8]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = bytes.map(|byte| table[usize::from(byte)] as i32);
    _mm256_setr_epi32(a, b, c, d, e, f, g, h)
}

/// `table[lane mod 4096]` for each lane. Not a gather, which is slower on many CPUs.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn look_up_4096(table: &[u32; 4096], lanes: __m256i) -> __m256i {
    let mut places = [0; 8];
    store(lanes, &mut places);
    let [a, b, c, d, e, f, g, h] = places.map(|place| table[place as usize % 4096] as i32);
    _mm256_setr_epi32(a, b, c, d, e, f, g, h)
}

/// For each mask of eight lanes, which lane goes where when the set ones move together at the
/// bottom, in ascending order.
pub(crate) static COMPRESS: [[u32; 8]; 256] = compress();

/// For each mask of eight lanes, which of the lanes at the bottom each set one receives.
pub(crate) static EXPAND: [[u32; 8]; 256] = expand();

const fn compress() -> [[u32; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut to) = (0, 0);
        while lane < 8 {
            if mask >> lane & 1 == 1 {
                table[mask][to] = lane as u32;
                to += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
}

const fn expand() -> [[u32; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut from) = (0, 0);
        while lane < 8 {
            if mask >> lane & 1 == 1 {
                table[mask][lane] = from;
                from += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
}

/// Eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_floats(from: &[f32; 8]) -> __m256 {
    // SAFETY: 32 readable bytes behind the reference; unaligned.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

/// Writes eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store_floats(lanes: __m256, to: &mut [f32; 8]) {
    // SAFETY: 32 writable bytes behind the reference; unaligned.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), lanes) }
}

/// `table[lane mod 256]` for each lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn gather_floats(table: &[f32; 256], lanes: __m256i) -> __m256 {
    let index = _mm256_and_si256(lanes, _mm256_set1_epi32(255));
    // SAFETY: every index is below the table's length.
    unsafe { _mm256_i32gather_ps::<4>(table.as_ptr(), index) }
}
