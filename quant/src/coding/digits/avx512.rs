//! Digits in AVX-512: those of 64 bytes are looked up at once.

#![allow(unsafe_code, reason = "calls by instruction set")]

use std::arch::x86_64::*;

use super::PLANE;
use crate::simd::avx512::{load_bytes, store_bytes};
use crate::simd::{Path, Simd};

/// Fewer bytes than this are divided before the tables are made.
pub(super) const WORTHWHILE: usize = 2048;

/// See [`super::ungroup_blocks`].
pub(super) fn ungroup_blocks<const K: usize>(
    simd: Simd,
    radix: u8,
    bytes: &[u8],
    symbols: &mut [u8],
) {
    assert_eq!(
        simd.path(),
        Path::Avx512,
        "what makes the calls below sound"
    );
    // SAFETY: a `Simd` of this path exists only where the CPU has the instructions.
    unsafe {
        match usize::from(radix).pow(K as u32) {
            0..=64 => blocks::<K, 1>(radix, bytes, symbols),
            65..=128 => blocks::<K, 2>(radix, bytes, symbols),
            _ => blocks::<K, 4>(radix, bytes, symbols),
        }
    }
}

/// The bytes are below 64 · `QUARTERS`.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn blocks<const K: usize, const QUARTERS: usize>(radix: u8, bytes: &[u8], symbols: &mut [u8]) {
    let mut tables = [[_mm512_setzero_si512(); 4]; K];
    let mut unit = 1;
    for quarters in &mut tables {
        let mut digits = [0; 256];
        for (byte, digit) in (0..=u8::MAX).zip(&mut digits) {
            *digit = byte / unit % radix;
        }
        for (quarter, digits) in quarters.iter_mut().zip(digits.as_chunks::<64>().0) {
            *quarter = load_bytes(digits);
        }
        unit = unit.saturating_mul(radix);
    }
    let blocks = symbols.chunks_exact_mut(K * PLANE);
    for (block, bytes) in blocks.zip(bytes.as_chunks::<PLANE>().0) {
        let bytes = load_bytes(bytes);
        let upper = _mm512_movepi8_mask(bytes);
        for (plane, [a, b, c, d]) in block.as_chunks_mut::<PLANE>().0.iter_mut().zip(&tables) {
            let low = _mm512_permutex2var_epi8(*a, bytes, *b);
            let digits = match QUARTERS {
                1 => _mm512_permutexvar_epi8(bytes, *a),
                2 => low,
                _ => {
                    let high = _mm512_permutex2var_epi8(*c, bytes, *d);
                    _mm512_mask_blend_epi8(upper, low, high)
                }
            };
            store_bytes(digits, plane);
        }
    }
}
