//! Fixed-width packing, least significant bit first: the r = ⌈log₂(2s+1)⌉ bits of the ECQ-SGD paper.

use crate::error::DecodeError;

/// Bits of a symbol.
fn width(alphabet: usize) -> usize {
    alphabet.next_power_of_two().trailing_zeros() as usize
}

/// Bytes that `count` symbols take: ⌈count · width / 8⌉.
pub(super) fn bytes(alphabet: usize, count: usize) -> usize {
    (count * width(alphabet)).div_ceil(8)
}

pub(super) fn encode(alphabet: usize, symbols: &[u8], bytes: &mut Vec<u8>) {
    let width = width(alphabet);
    let start = bytes.len();
    bytes.resize(start + self::bytes(alphabet, symbols.len()), 0);
    let packed = &mut bytes[start..];
    // Eight symbols fill `width` bytes.
    for (symbols, bytes) in symbols.chunks(8).zip(packed.chunks_mut(width)) {
        let places = (0..).step_by(width).zip(symbols);
        let word = places.fold(0_u64, |word, (at, symbol)| word | u64::from(*symbol) << at);
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
    }
}

pub(super) fn decode(alphabet: usize, bytes: &[u8], symbols: &mut [u8]) -> Result<(), DecodeError> {
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
    let width = width(alphabet);
    let mask = (1_u64 << width) - 1;
    let mut largest = 0;
    for (symbols, bytes) in symbols.chunks_mut(8).zip(bytes.chunks(width)) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let mut word = u64::from_le_bytes(word);
        for symbol in symbols {
            *symbol = (word & mask) as u8;
            largest = largest.max(*symbol);
            word >>= width;
        }
        if word != 0 {
            return Err(DecodeError::Symbols("bits after the last symbol"));
        }
    }
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
            encode(alphabet, &symbols, &mut packed);
            let r = (alphabet as f64).log2().ceil() as usize;
            prop_assert_eq!(packed.len(), (symbols.len() * r).div_ceil(8));
            let mut found = vec![0xaa; symbols.len()];
            prop_assert_eq!(decode(alphabet, &packed, &mut found), Ok(()));
            prop_assert_eq!(found, symbols);
        }
    }

    #[test]
    fn what_no_encoder_writes_is_an_error() {
        let mut symbols = [0; 3];
        assert!(matches!(
            decode(3, &[], &mut symbols),
            Err(DecodeError::Truncated { .. })
        ));
        assert!(matches!(
            decode(3, &[0, 0], &mut symbols),
            Err(DecodeError::Trailing { .. })
        ));
        assert!(matches!(
            decode(3, &[0b11], &mut symbols),
            Err(DecodeError::Symbols(_))
        ));
        assert!(matches!(
            decode(3, &[0b0100_0000], &mut symbols),
            Err(DecodeError::Symbols(_))
        ));
    }
}
