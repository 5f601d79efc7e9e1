//! Static rANS (Duda, "Asymmetric numeral systems", 2013): 12-bit model, four interleaved states.
//!
//! ```text
//! frequencies     one a symbol of the alphabet, 1 or 2 bytes each (below 128: itself; else the low
//!                 seven bits with the top bit set, then the rest); they add up to 4096
//! states          four u32, little-endian: where the decoder begins
//! words           u16, little-endian, in the order in which the decoder takes them
//! ```
//!
//! Symbol *i* belongs to state *i* mod 4. The decoder must end with all four states at their
//! start value and with no word left: a stream that lies about its length or content does not.

use crate::error::DecodeError;

const MODEL_BITS: u32 = 12;
const MODEL_SIZE: u32 = 1 << MODEL_BITS;
/// States stay in [2^16, 2^32); a word is 16 bits.
const LOWEST: u32 = 1 << 16;
const STATES: usize = 4;

/// Bound on the bytes of `count` symbols: a symbol costs at most its 12 model bits, and a state
/// holds back at most a word.
pub(super) fn bytes_max(alphabet: usize, count: usize) -> usize {
    2 * alphabet + 4 * STATES + (count * MODEL_BITS as usize).div_ceil(8) + 2 * STATES
}

/// A symbol's share of the model.
#[derive(Clone, Copy, Debug)]
struct Share {
    start: u32,
    frequency: u32,
    /// ⌈2^44 / frequency⌉: a multiplication instead of a division. Exact for every state *x* below
    /// 2^32, since the quotient comes out too large by less than x/2^44 < 2^-12 ≤ 1/frequency.
    reciprocal: u64,
}

impl Share {
    fn quotient(self, state: u32) -> u32 {
        ((u128::from(state) * u128::from(self.reciprocal)) >> 44) as u32
    }
}

pub(super) fn encode(alphabet: usize, symbols: &[u8], bytes: &mut Vec<u8>) {
    let mut shares = Vec::with_capacity(alphabet);
    let mut start = 0;
    for frequency in model(alphabet, symbols) {
        let reciprocal = (1_u64 << 44).div_ceil(u64::from(frequency).max(1));
        shares.push(Share {
            start,
            frequency,
            reciprocal,
        });
        start += frequency;
        if frequency >= 128 {
            bytes.push((frequency & 127) as u8 | 128);
            bytes.push((frequency >> 7) as u8);
        } else {
            bytes.push(frequency as u8);
        }
    }
    let mut states = [LOWEST; STATES];
    // A stack: the last symbol is encoded first, and the decoder reads the words backwards.
    let mut words: Vec<u16> = Vec::with_capacity(symbols.len() / 4);
    for (i, symbol) in symbols.iter().enumerate().rev() {
        let share = shares[usize::from(*symbol)];
        let state = &mut states[i % STATES];
        if u64::from(*state) >= u64::from(share.frequency) << (32 - MODEL_BITS) {
            words.push(*state as u16);
            *state >>= 16;
        }
        let quotient = share.quotient(*state);
        let remainder = *state - quotient * share.frequency;
        *state = (quotient << MODEL_BITS) + remainder + share.start;
    }
    for state in states {
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
}

/// Frequencies that add up to 2^12, none zero for a symbol that occurs. Integer arithmetic only, so
/// that every machine finds the same.
fn model(alphabet: usize, symbols: &[u8]) -> Vec<u32> {
    // Four histograms, because equal neighbours would wait for each other's count.
    let mut counts = [[0_u32; 256]; 4];
    let chunks = symbols.chunks_exact(4);
    for symbol in chunks.remainder() {
        counts[0][usize::from(*symbol)] += 1;
    }
    for chunk in chunks {
        for (histogram, symbol) in counts.iter_mut().zip(chunk) {
            histogram[usize::from(*symbol)] += 1;
        }
    }
    let total = (symbols.len() as u64).max(1);
    let mut frequencies: Vec<u32> = (0..alphabet)
        .map(|symbol| {
            let count: u64 = counts
                .iter()
                .map(|histogram| u64::from(histogram[symbol]))
                .sum();
            let share = (count * u64::from(MODEL_SIZE) / total) as u32;
            if count > 0 { share.max(1) } else { 0 }
        })
        .collect();
    // What rounding left over goes to the most frequent symbol, which notices it least. What rare
    // symbols took too much comes from there too, but never more than half of a share at a time:
    // with many of both there is none that could bear it alone.
    let mut sum: u32 = frequencies.iter().sum();
    while sum != MODEL_SIZE {
        // Invariant: at most 255 symbols, so that a sum above 4096 has a share of at least 2.
        let Some(largest) = frequencies.iter_mut().max() else {
            break;
        };
        let before = *largest;
        *largest = if sum < MODEL_SIZE {
            before + (MODEL_SIZE - sum)
        } else {
            before - (sum - MODEL_SIZE).min(before / 2)
        };
        sum = sum - before + *largest;
    }
    frequencies
}

pub(super) fn decode(alphabet: usize, bytes: &[u8], symbols: &mut [u8]) -> Result<(), DecodeError> {
    let (table, bytes) = read_model(alphabet, bytes)?;
    let Some((states, words)) = bytes.split_at_checked(4 * STATES) else {
        return Err(DecodeError::Symbols("the coder's states are missing"));
    };
    let mut states: [u32; STATES] = std::array::from_fn(|i| {
        u32::from_le_bytes(std::array::from_fn(|byte| states[4 * i + byte]))
    });
    let (words, odd) = words.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(DecodeError::Symbols("half a word at the end"));
    }
    let mut words = words.iter();
    for chunk in symbols.chunks_mut(STATES) {
        for (symbol, state) in chunk.iter_mut().zip(&mut states) {
            let slot = table[(*state & (MODEL_SIZE - 1)) as usize];
            *symbol = slot.symbol;
            *state = u32::from(slot.frequency) * (*state >> MODEL_BITS) + u32::from(slot.offset);
            if *state < LOWEST {
                let Some(word) = words.next() else {
                    return Err(DecodeError::Symbols("the words end before the symbols do"));
                };
                *state = *state << 16 | u32::from(u16::from_le_bytes(*word));
            }
        }
    }
    if words.next().is_some() || states != [LOWEST; STATES] {
        return Err(DecodeError::Symbols(
            "the coder does not end where it began",
        ));
    }
    Ok(())
}

/// What the low twelve bits of a state mean.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    symbol: u8,
    frequency: u16,
    /// Position within the symbol's range.
    offset: u16,
}

type Table = [Slot; MODEL_SIZE as usize];

fn read_model(alphabet: usize, bytes: &[u8]) -> Result<(Box<Table>, &[u8]), DecodeError> {
    let missing = DecodeError::Symbols("the model is incomplete");
    let mut table = Box::new([Slot::default(); MODEL_SIZE as usize]);
    let mut bytes = bytes.iter();
    let mut filled = 0;
    for symbol in 0..alphabet {
        let low = *bytes.next().ok_or(missing.clone())?;
        let high = if low < 128 {
            0
        } else {
            *bytes.next().ok_or(missing.clone())?
        };
        let frequency = usize::from(low & 127) | usize::from(high) << 7;
        let Some(slots) = table.get_mut(filled..filled + frequency) else {
            return Err(DecodeError::Symbols("the model's frequencies exceed 4096"));
        };
        for (offset, slot) in (0..).zip(slots) {
            // Invariants: an alphabet has at most 255 symbols, a frequency is at most 4096.
            *slot = Slot {
                symbol: symbol as u8,
                frequency: frequency as u16,
                offset,
            };
        }
        filled += frequency;
    }
    if filled != MODEL_SIZE as usize {
        return Err(DecodeError::Symbols(
            "the model's frequencies fall short of 4096",
        ));
    }
    Ok((table, bytes.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(alphabet: usize, symbols: &[u8]) -> usize {
        let mut bytes = vec![0xee];
        encode(alphabet, symbols, &mut bytes);
        assert!(bytes.len() - 1 <= bytes_max(alphabet, symbols.len()));
        let mut found = vec![0xaa; symbols.len()];
        assert_eq!(decode(alphabet, &bytes[1..], &mut found), Ok(()));
        assert_eq!(found, symbols);
        bytes.len() - 1
    }

    /// A stream with these weights of symbols, in a fixed pseudo-random order.
    fn stream(weights: &[u32], count: u32) -> Vec<u8> {
        let total: u32 = weights.iter().sum();
        let draw = |i: u32| {
            let mut x = i.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
            x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
            x = (x ^ x >> 13).wrapping_mul(0xc2b2_ae35);
            let mut rest = (x >> 8) % total;
            weights
                .iter()
                .position(|w| rest.checked_sub(*w).map(|r| rest = r).is_none())
        };
        (0..count)
            .map(|i| draw(i).expect("a draw is below the total") as u8)
            .collect()
    }

    fn entropy_bits(symbols: &[u8]) -> f64 {
        let mut counts = [0_u32; 256];
        symbols.iter().for_each(|s| counts[usize::from(*s)] += 1);
        let n = symbols.len() as f64;
        let bits = |c: &u32| f64::from(*c) * (n / f64::from(*c)).log2();
        counts.iter().filter(|c| **c > 0).map(bits).sum()
    }

    #[test]
    fn large_streams_come_within_one_percent_of_their_entropy() {
        let weights: [&[u32]; 4] = [
            &[1, 2, 5, 10, 20, 10, 5, 2, 1],
            &[1, 4, 1],
            &[1, 98, 1],
            &[3, 7, 19, 50, 120, 200, 120, 50, 19, 7, 3],
        ];
        for weights in weights {
            let symbols = stream(weights, 1 << 20);
            let bytes = round_trip(weights.len(), &symbols) as f64;
            let fixed = 2.0 * weights.len() as f64 + 16.0;
            let entropy = entropy_bits(&symbols) / 8.0;
            assert!(
                bytes <= 1.01 * entropy + fixed,
                "{bytes} for {entropy} of entropy"
            );
        }
    }

    #[test]
    fn reciprocals_divide_exactly() {
        for frequency in 1..=MODEL_SIZE {
            let reciprocal = (1_u64 << 44).div_ceil(u64::from(frequency));
            let share = Share {
                start: 0,
                frequency,
                reciprocal,
            };
            let largest = u32::MAX - u32::MAX % frequency;
            for state in [
                0,
                1,
                frequency - 1,
                frequency,
                LOWEST,
                largest - 1,
                largest,
                u32::MAX,
            ] {
                assert_eq!(
                    share.quotient(state),
                    state / frequency,
                    "{state} / {frequency}"
                );
            }
        }
    }

    #[test]
    fn rare_symbols_beside_many_frequent_ones_survive() {
        // 127 symbols have shares of exactly 32 each, another has a little less, and the rest occurs
        // once each: all that the rare ones take too much has to come from many.
        for alphabet in [255, 201, 129] {
            let rare = usize::from(alphabet - 128);
            let frequent = (0..127).flat_map(|symbol| std::iter::repeat_n(symbol, 20_000));
            let last = std::iter::repeat_n(127, 20_000 - rare);
            let symbols: Vec<u8> = frequent.chain(last).chain(128..alphabet).collect();
            let bytes = round_trip(usize::from(alphabet), &symbols) as f64;
            assert!(
                bytes < 1.03 * entropy_bits(&symbols) / 8.0 + 600.0,
                "{bytes}"
            );
        }
    }

    #[test]
    fn degenerate_streams_survive() {
        assert_eq!(round_trip(3, &[]), 4 + 16);
        round_trip(3, &[2]);
        round_trip(255, &[254; 5]);
        assert!(
            round_trip(9, &[4; 100_000]) < 40,
            "one symbol carries no information"
        );
        let all: Vec<u8> = (0..255).collect();
        round_trip(255, &all);
        let mut rare = vec![1; 100_000];
        rare[77] = 0;
        rare[78] = 2;
        round_trip(3, &rare);
    }

    proptest! {
        #[test]
        fn any_symbols_survive(
            levels in 1usize..128,
            raw in proptest::collection::vec(any::<u8>(), 0..600),
            skew in 1u8..=255,
        ) {
            let alphabet = 2 * levels + 1;
            let fold = |r: &u8| (usize::from(r % skew) % alphabet) as u8;
            let symbols: Vec<u8> = raw.iter().map(fold).collect();
            round_trip(alphabet, &symbols);
        }

        #[test]
        fn any_bytes_decode_or_are_an_error(
            alphabet in 3usize..256,
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            count in 0usize..300,
        ) {
            let mut symbols = vec![0; count];
            let _ = decode(alphabet, &bytes, &mut symbols);
        }
    }
}
