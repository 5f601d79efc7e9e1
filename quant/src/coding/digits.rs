//! Several symbols of a small alphabet as the digits of one byte, so that the entropy coder has
//! fewer steps to take: five of 3, three of 5, two of 7 to 15.
//!
//! The digits of a byte are not neighbours. Symbols are taken in blocks of *k* planes of 64: byte *j*
//! of a block is Σₜ symbol(64·t + j) · alphabetᵗ. Whole planes then come and go as vectors. The last
//! block has planes of ⌈rest/k⌉ symbols, and digits that are missing in it are `fill`.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::simd::{Path, Simd, kernel};

/// Symbols of a full plane.
const PLANE: usize = 64;

/// *k*, the number of symbols in a byte: the largest with alphabetᵏ ≤ 255. One byte value always
/// remains free, for the coder's escape.
pub(super) fn per_byte(alphabet: usize) -> usize {
    match alphabet {
        0..=2 => 7,
        3 => 5,
        4..=6 => 3,
        7..=15 => 2,
        _ => 1,
    }
}

/// Number of byte values, alphabetᵏ.
pub(super) fn values(alphabet: usize) -> usize {
    alphabet.pow(per_byte(alphabet) as u32)
}

/// Bytes for `count` symbols: ⌈count/k⌉.
pub(super) fn bytes(alphabet: usize, count: usize) -> usize {
    count.div_ceil(per_byte(alphabet))
}

/// Replaces `bytes` by `symbols` in groups.
pub(super) fn group(simd: Simd, alphabet: usize, fill: u8, symbols: &[u8], bytes: &mut Vec<u8>) {
    bytes.resize(self::bytes(alphabet, symbols.len()), 0);
    let radix = alphabet as u8;
    match per_byte(alphabet) {
        1 => bytes.copy_from_slice(symbols),
        2 => group_planes::<2>(simd, radix, fill, symbols, bytes),
        3 => group_planes::<3>(simd, radix, fill, symbols, bytes),
        5 => group_planes::<5>(simd, radix, fill, symbols, bytes),
        _ => group_planes::<7>(simd, radix, fill, symbols, bytes),
    }
}

/// The inverse, for bytes that are all below [`values`].
pub(super) fn ungroup(simd: Simd, alphabet: usize, bytes: &[u8], symbols: &mut [u8]) {
    let radix = alphabet as u8;
    match per_byte(alphabet) {
        1 => symbols.copy_from_slice(bytes),
        2 => ungroup_planes::<2>(simd, radix, bytes, symbols),
        3 => ungroup_planes::<3>(simd, radix, bytes, symbols),
        5 => ungroup_planes::<5>(simd, radix, bytes, symbols),
        _ => ungroup_planes::<7>(simd, radix, bytes, symbols),
    }
}

kernel! {
    fn group_planes<const K: usize>(radix: u8, fill: u8, symbols: &[u8], bytes: &mut [u8]) {
        let mut blocks = symbols.chunks_exact(K * PLANE);
        let (full, last) = bytes.split_at_mut(symbols.len() / (K * PLANE) * PLANE);
        for (block, bytes) in blocks.by_ref().zip(full.as_chunks_mut::<PLANE>().0) {
            let planes = block.as_chunks::<PLANE>().0;
            *bytes = planes[K - 1];
            for plane in planes[..K - 1].iter().rev() {
                for (byte, symbol) in bytes.iter_mut().zip(plane) {
                    *byte = *byte * radix + *symbol;
                }
            }
        }
        let rest = blocks.remainder();
        let width = last.len();
        for (j, byte) in last.iter_mut().enumerate() {
            let digit = |t: usize| rest.get(t * width + j).copied().unwrap_or(fill);
            *byte = (0..K).rev().fold(0, |byte, t| byte * radix + digit(t));
        }
    }
}

fn ungroup_planes<const K: usize>(simd: Simd, radix: u8, bytes: &[u8], symbols: &mut [u8]) {
    // Whole blocks first: the last one has other planes.
    let split = symbols.len() / (K * PLANE);
    let (full, last) = bytes.split_at(split * PLANE);
    let (blocks, rest) = symbols.split_at_mut(split * K * PLANE);
    match simd.path() {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 if full.len() >= avx512::WORTHWHILE => {
            avx512::ungroup_blocks::<K>(simd, radix, full, blocks);
        }
        _ => ungroup_blocks::<K>(simd, radix, full, blocks),
    }
    let width = last.len().max(1);
    for (i, symbol) in rest.iter_mut().enumerate() {
        let byte = last[i % width];
        *symbol = byte / radix.pow((i / width) as u32) % radix;
    }
}

kernel! {
    fn ungroup_blocks<const K: usize>(radix: u8, bytes: &[u8], symbols: &mut [u8]) {
        // ⌈2¹⁶/radix⌉: the product's excess over the quotient stays below 2⁸·radix/2¹⁶ < 1/radix.
        let inverse = (1_u32 << 16).div_ceil(u32::from(radix)) as u16;
        for (block, bytes) in symbols.chunks_exact_mut(K * PLANE).zip(bytes.as_chunks::<PLANE>().0) {
            // Loops, since `map` is not always inlined.
            let mut left = [0_u16; PLANE];
            for (left, byte) in left.iter_mut().zip(bytes) {
                *left = u16::from(*byte);
            }
            let (planes, _) = block.as_chunks_mut::<PLANE>();
            for plane in &mut planes[..K - 1] {
                for (left, symbol) in left.iter_mut().zip(plane) {
                    let quotient = ((u32::from(*left) * u32::from(inverse)) >> 16) as u16;
                    *symbol = (*left - quotient * u16::from(radix)) as u8;
                    *left = quotient;
                }
            }
            for (left, symbol) in left.iter().zip(&mut planes[K - 1]) {
                *symbol = *left as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_byte_value_stays_free() {
        for alphabet in 2..=255 {
            assert!(values(alphabet) <= 255, "{alphabet}");
            let more = alphabet.pow(per_byte(alphabet) as u32 + 1);
            assert!(more > 255, "{alphabet}");
        }
    }

    proptest! {
        #[test]
        fn digits_survive_on_every_path(
            alphabet in 2usize..=255,
            raw in proptest::collection::vec(any::<u8>(), 0..1000),
            repeat in prop::sample::select(vec![1, 1, 1, 20]),
        ) {
            let symbols: Vec<u8> = raw.iter().map(|r| (usize::from(*r) % alphabet) as u8).collect();
            let symbols = symbols.repeat(repeat);
            let mut expected = Vec::new();
            group(Simd::PORTABLE, alphabet, 0, &symbols, &mut expected);
            prop_assert!(expected.iter().all(|byte| usize::from(*byte) < values(alphabet)));
            for simd in Simd::available() {
                let mut bytes = vec![77; 3];
                group(*simd, alphabet, 0, &symbols, &mut bytes);
                prop_assert_eq!(&bytes, &expected);
                let mut found = vec![0xaa; symbols.len()];
                ungroup(*simd, alphabet, &bytes, &mut found);
                prop_assert_eq!(&found, &symbols);
            }
        }
    }
}
