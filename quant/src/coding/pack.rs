//! Fixed-width packing, least significant bit first: the r = ⌈log₂(2s+1)⌉ bits of the ECQ-SGD paper.

use crate::error::DecodeError;
use crate::simd::{Simd, kernel};

/// Bits of a symbol.
fn width(alphabet: usize) -> usize {
    alphabet.next_power_of_two().trailing_zeros() as usize
}

/// Bytes that `count` symbols take: ⌈count · width / 8⌉.
pub(super) fn bytes(alphabet: usize, count: usize) -> usize {
    (count * width(alphabet)).div_ceil(8)
}

pub(super) fn encode(simd: Simd, alphabet: usize, symbols: &[u8], bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.resize(start + self::bytes(alphabet, symbols.len()), 0);
    let packed = &mut bytes[start..];
    match width(alphabet) {
        1 => pack::<1>(simd, symbols, packed),
        2 => pack::<2>(simd, symbols, packed),
        3 => pack::<3>(simd, symbols, packed),
        4 => pack::<4>(simd, symbols, packed),
        5 => pack::<5>(simd, symbols, packed),
        6 => pack::<6>(simd, symbols, packed),
        7 => pack::<7>(simd, symbols, packed),
        _ => packed.copy_from_slice(symbols),
    }
}

kernel! {
    /// Eight symbols fill W bytes.
    fn pack<const W: usize>(symbols: &[u8], packed: &mut [u8]) {
        let join = |symbols: &[u8]| {
            let places = (0..).step_by(W).zip(symbols);
            places.fold(0_u64, |word, (at, symbol)| word | u64::from(*symbol) << at)
        };
        let (whole, rest) = symbols.as_chunks::<8>();
        let (packed, last) = packed.split_at_mut(whole.len() * W);
        for (symbols, bytes) in whole.iter().zip(packed.as_chunks_mut::<W>().0) {
            bytes.copy_from_slice(&join(symbols).to_le_bytes()[..W]);
        }
        last.copy_from_slice(&join(rest).to_le_bytes()[..last.len()]);
    }
}

kernel! {
    /// The largest symbol, or nothing if bits are left over.
    fn unpack<const W: usize>(packed: &[u8], symbols: &mut [u8]) -> Option<u8> {
        let (whole, rest) = symbols.as_chunks_mut::<8>();
        let (packed, last) = packed.split_at(whole.len() * W);
        let split = |bytes: &[u8], symbols: &mut [u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            let word = u64::from_le_bytes(word);
            for (at, symbol) in (0..).step_by(W).zip(&mut *symbols) {
                *symbol = (word >> at) as u8 & ((1 << W) - 1);
            }
            word >> (W * symbols.len()).min(63)
        };
        let mut largest = 0;
        for (bytes, symbols) in packed.as_chunks::<W>().0.iter().zip(whole) {
            split(bytes, symbols);
            largest = symbols.iter().fold(largest, |most, symbol| most.max(*symbol));
        }
        let left = split(last, rest);
        largest = rest.iter().fold(largest, |most, symbol| most.max(*symbol));
        (left == 0).then_some(largest)
    }
}

pub(super) fn decode(
    simd: Simd,
    alphabet: usize,
    bytes: &[u8],
    symbols: &mut [u8],
) -> Result<(), DecodeError> {
    let expected = self::bytes(alphabet, symbols.len());
    if bytes.len() < expected {
        return Err(DecodeError::Truncated {
            found: bytes.len(),
            expected,
        });
    }
    if bytes.len() > expected {
        return Err(DecodeError::Trailing {
            extra: bytes.len() - expected,
        });
    }
    let largest = match width(alphabet) {
        1 => unpack::<1>(simd, bytes, symbols),
        2 => unpack::<2>(simd, bytes, symbols),
        3 => unpack::<3>(simd, bytes, symbols),
        4 => unpack::<4>(simd, bytes, symbols),
        5 => unpack::<5>(simd, bytes, symbols),
        6 => unpack::<6>(simd, bytes, symbols),
        7 => unpack::<7>(simd, bytes, symbols),
        _ => {
            symbols.copy_from_slice(bytes);
            Some(symbols.iter().fold(0, |most, symbol| most.max(*symbol)))
        }
    };
    let Some(largest) = largest else {
        return Err(DecodeError::Symbols("bits after the last symbol"));
    };
    if usize::from(largest) >= alphabet {
        return Err(DecodeError::Symbols("a symbol beyond the alphabet"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// T4: the size is the formula's, to the byte, for every width.
        #[test]
        fn symbols_survive_in_exactly_the_promised_bytes(
            levels in 1usize..128,
            raw in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let alphabet = 2 * levels + 1;
            let symbols: Vec<u8> = raw.iter().map(|r| (usize::from(*r) % alphabet) as u8).collect();
            let mut packed = Vec::new();
            encode(Simd::best(), alphabet, &symbols, &mut packed);
            let r = (alphabet as f64).log2().ceil() as usize;
            prop_assert_eq!(packed.len(), (symbols.len() * r).div_ceil(8));
            let mut found = vec![0xaa; symbols.len()];
            for simd in Simd::available() {
                prop_assert_eq!(decode(*simd, alphabet, &packed, &mut found), Ok(()));
                prop_assert_eq!(&found, &symbols);
            }
        }
    }

    #[test]
    fn what_no_encoder_writes_is_an_error() {
        let mut symbols = [0; 3];
        assert!(matches!(
            decode(Simd::best(), 3, &[], &mut symbols),
            Err(DecodeError::Truncated { .. })
        ));
        assert!(matches!(
            decode(Simd::best(), 3, &[0, 0], &mut symbols),
            Err(DecodeError::Trailing { .. })
        ));
        assert!(matches!(
            decode(Simd::best(), 3, &[0b11], &mut symbols),
            Err(DecodeError::Symbols(_))
        ));
        assert!(matches!(
            decode(Simd::best(), 3, &[0b0100_0000], &mut symbols),
            Err(DecodeError::Symbols(_))
        ));
    }
}
