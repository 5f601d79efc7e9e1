//! Golomb-coded gaps between the symbols that are not zero (Golomb, "Run-length encodings", 1966), for
//! streams so sparse that twelve bits of probability are too coarse.
//!
//! ```text
//! number of symbols that are not zero     LEB128; nothing follows a 0
//! bytes of the gaps                       LEB128
//! gaps                                    bits, least significant first
//! kind of code of the symbols             a byte: 0 pack, 1 rans; only if there are several
//! the symbols, without the zero           by that code
//! ```
//!
//! A gap is the number of zeros before a symbol. It is divided by *m*: the quotient stands as so many
//! ones and a zero, the remainder in ⌊log₂ m⌋ or ⌈log₂ m⌉ bits (truncated binary). *m* ≈ ln 2 · count /
//! number, the best for gaps of independent symbols, follows from what the decoder knows already.

use super::{pack, rans, varint};
use crate::error::DecodeError;
use crate::simd::Simd;

/// *m*, from 1.
fn divisor(count: usize, nonzero: usize) -> u64 {
    ((count as u64 * 177 / (nonzero as u64).max(1) + 128) >> 8).max(1)
}

/// Memory that is kept from stream to stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    symbols: Vec<u8>,
    places: Vec<u32>,
    gaps: Vec<u8>,
    coder: rans::Scratch,
}

/// Bound on the bytes of any stream of `count` symbols: a gap's ones add up to count/m, its other bits
/// are at most 2 + log₂ m.
pub(super) fn bytes_max(alphabet: usize, count: usize) -> usize {
    let values = pack::bytes(alphabet, count).max(rans::bytes_max(alphabet, count));
    2 * varint::BYTES_MAX + 1 + (5 * count).div_ceil(16) + 8 + values
}

pub(super) fn encode(
    simd: Simd,
    scratch: &mut Scratch,
    alphabet: usize,
    zero: u8,
    symbols: &[u8],
    bytes: &mut Vec<u8>,
) {
    let Scratch {
        symbols: values,
        places,
        gaps,
        coder,
    } = scratch;
    values.clear();
    gaps.clear();
    places.clear();
    // Eight symbols are looked at together: most are zero.
    for (start, run) in (0..).step_by(8).zip(symbols.chunks(8)) {
        if run.iter().all(|symbol| *symbol == zero) {
            continue;
        }
        for (place, symbol) in (start..).zip(run).filter(|(_, symbol)| **symbol != zero) {
            places.push(place);
            values.push(symbol - u8::from(*symbol > zero));
        }
    }
    varint::write(values.len() as u64, bytes);
    if values.is_empty() {
        return;
    }
    let m = divisor(symbols.len(), values.len());
    let mut bits = BitWriter {
        bytes: gaps,
        held: 0,
        count: 0,
    };
    let mut next = 0;
    for place in places.iter() {
        write_gap(&mut bits, u64::from(place - next), m);
        next = place + 1;
    }
    bits.finish();
    varint::write(gaps.len() as u64, bytes);
    bytes.extend_from_slice(gaps);
    let kinds = alphabet - 1;
    if kinds < 2 {
        return;
    }
    let start = bytes.len();
    bytes.push(1);
    let packed = pack::bytes(kinds, values.len());
    let prepared = rans::prepare(simd, coder, kinds, 0, values, bytes);
    if prepared.estimate < packed as u64 {
        prepared.encode(simd, coder, bytes);
        if bytes.len() - start <= packed {
            return;
        }
    }
    bytes.truncate(start);
    bytes.push(0);
    pack::encode(simd, kinds, values, bytes);
}

pub(super) fn decode(
    simd: Simd,
    scratch: &mut Scratch,
    alphabet: usize,
    zero: u8,
    mut bytes: &[u8],
    symbols: &mut [u8],
) -> Result<(), DecodeError> {
    symbols.fill(zero);
    let count = varint::read(&mut bytes).unwrap_or(u64::MAX);
    if count > symbols.len() as u64 {
        return Err(DecodeError::Symbols(
            "more symbols that are not zero than symbols",
        ));
    }
    if count == 0 {
        return match bytes {
            [] => Ok(()),
            more => Err(DecodeError::Trailing { extra: more.len() }),
        };
    }
    let count = count as usize;
    let length = varint::read(&mut bytes).and_then(|length| usize::try_from(length).ok());
    let gaps = length.and_then(|length| bytes.split_at_checked(length));
    let (gaps, bytes) = gaps.ok_or(DecodeError::Symbols("the gaps are incomplete"))?;
    let Scratch {
        symbols: values,
        coder,
        ..
    } = scratch;
    values.resize(count, 0);
    let kinds = alphabet - 1;
    match (kinds, bytes.split_first()) {
        (1, None) => values.fill(0),
        (2.., Some((0, packed))) => pack::decode(simd, kinds, packed, values)?,
        (2.., Some((1, coded))) => rans::decode(simd, coder, kinds, coded, values)?,
        _ => {
            return Err(DecodeError::Symbols(
                "unknown code of the symbols that are not zero",
            ));
        }
    }
    let m = divisor(symbols.len(), count);
    let mut bits = BitReader { bytes: gaps, at: 0 };
    let mut rest = symbols;
    for value in &*values {
        let gap = read_gap(&mut bits, m, rest.len() as u64)?;
        // Invariant: the gap is less than what is left.
        let (here, after) = std::mem::take(&mut rest)[gap..]
            .split_first_mut()
            .ok_or(DecodeError::Symbols("a gap reaches beyond the end"))?;
        *here = value + u8::from(*value >= zero);
        rest = after;
    }
    bits.finish()
}

/// ⌈log₂ m⌉, and the number of remainders that take a bit less.
fn remainder_bits(m: u64) -> (u32, u64) {
    let bits = m.next_power_of_two().trailing_zeros();
    (bits, (1 << bits) - m)
}

fn write_gap(bits: &mut BitWriter<'_>, gap: u64, m: u64) {
    let (mut quotient, remainder) = (gap / m, gap % m);
    while quotient >= 32 {
        bits.write(0xffff_ffff, 32);
        quotient -= 32;
    }
    bits.write((1 << quotient) - 1, quotient as u32 + 1);
    let (width, short) = remainder_bits(m);
    if width == 0 {
        return;
    }
    if remainder < short {
        bits.write(remainder, width - 1);
    } else {
        bits.write((remainder + short) >> 1, width - 1);
        bits.write((remainder + short) & 1, 1);
    }
}

/// A gap below `limit`.
fn read_gap(bits: &mut BitReader<'_>, m: u64, limit: u64) -> Result<usize, DecodeError> {
    let beyond = DecodeError::Symbols("a gap reaches beyond the end");
    let mut gap = 0;
    while bits.read(1)? == 1 {
        gap += m;
        if gap >= limit {
            return Err(beyond);
        }
    }
    let (width, short) = remainder_bits(m);
    if width > 0 {
        let high = bits.read(width - 1)?;
        gap += if high < short {
            high
        } else {
            (high << 1 | bits.read(1)?) - short
        };
    }
    if gap >= limit {
        return Err(beyond);
    }
    Ok(gap as usize)
}

struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter<'_> {
    /// Appends up to 33 bits.
    fn write(&mut self, value: u64, bits: u32) {
        self.held |= value << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    fn finish(self) {
        if self.count > 0 {
            self.bytes.push(self.held as u8);
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl BitReader<'_> {
    /// Up to 32 bits.
    fn read(&mut self, bits: u32) -> Result<u64, DecodeError> {
        let end = self.at + bits as usize;
        if end > 8 * self.bytes.len() {
            return Err(DecodeError::Symbols("the gaps end before the symbols do"));
        }
        let mut word = [0; 8];
        let from = &self.bytes[self.at / 8..];
        let length = from.len().min(8);
        word[..length].copy_from_slice(&from[..length]);
        let value = u64::from_le_bytes(word) >> (self.at % 8);
        self.at = end;
        Ok(value & ((1 << bits) - 1))
    }

    /// All but the padding must have been read, and that is zeros.
    fn finish(mut self) -> Result<(), DecodeError> {
        let left = 8 * self.bytes.len() - self.at;
        if left >= 8 || self.read(left as u32)? != 0 {
            return Err(DecodeError::Symbols("bits after the last gap"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(alphabet: usize, zero: u8, symbols: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(
            Simd::best(),
            &mut Scratch::default(),
            alphabet,
            zero,
            symbols,
            &mut bytes,
        );
        bytes
    }

    fn decoded(
        alphabet: usize,
        zero: u8,
        bytes: &[u8],
        count: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        let mut symbols = vec![0xaa; count];
        let scratch = &mut Scratch::default();
        decode(Simd::best(), scratch, alphabet, zero, bytes, &mut symbols).map(|()| symbols)
    }

    /// A stream in which `per_million` symbols in a million are not zero, of `alphabet` kinds.
    fn sparse(alphabet: u64, zero: u8, per_million: u64, count: u64) -> Vec<u8> {
        let draw = |i: u64| {
            let mut x = i.wrapping_add(77).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
            x = (x ^ x >> 29).wrapping_mul(0xd6e8_feb8_6659_fd93);
            x ^= x >> 32;
            if x % 1_000_000 < per_million {
                let value = ((x >> 40) % (alphabet - 1)) as u8;
                value + u8::from(value >= zero)
            } else {
                zero
            }
        };
        (0..count).map(draw).collect()
    }

    fn entropy_bytes(symbols: &[u8]) -> f64 {
        let mut counts = [0_u32; 256];
        symbols.iter().for_each(|s| counts[usize::from(*s)] += 1);
        let n = symbols.len() as f64;
        let bits = |c: &u32| f64::from(*c) * (n / f64::from(*c)).log2();
        counts.iter().filter(|c| **c > 0).map(bits).sum::<f64>() / 8.0
    }

    #[test]
    fn sparse_streams_come_within_one_percent_of_their_entropy() {
        for alphabet in [2, 3, 5, 9] {
            for per_million in [200, 1_000, 3_000, 10_000, 20_000, 40_000] {
                let zero = (alphabet / 2) as u8;
                let symbols = sparse(alphabet, zero, per_million, 1 << 20);
                let bytes = encoded(alphabet as usize, zero, &symbols).len() as f64;
                let entropy = entropy_bytes(&symbols);
                assert!(
                    bytes <= 1.01 * entropy + 12.0,
                    "{alphabet} symbols, {per_million} ppm: {bytes} bytes for {entropy}"
                );
            }
        }
    }

    #[test]
    fn zeros_cost_nothing_and_bits_cannot_hide() {
        assert_eq!(encoded(3, 1, &[1; 1000]), [0]);
        assert_eq!(decoded(3, 1, &[0], 1000), Ok(vec![1; 1000]));
        assert!(decoded(3, 1, &[0, 0], 1000).is_err());
        assert!(decoded(3, 1, &[], 10).is_err());
        assert!(decoded(3, 1, &[11], 10).is_err());
        let good = encoded(3, 1, &[1, 1, 2, 1, 0, 1]);
        for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut edited = good.clone();
            edited[at] ^= 1 << bit;
            if let Ok(other) = decoded(3, 1, &edited, 6) {
                assert_eq!(encoded(3, 1, &other), edited, "no two forms of a stream");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_symbols_survive(
            alphabet in 2usize..=255,
            raw in proptest::collection::vec(any::<u8>(), 0..600),
            zero: u8,
            skew in 1u8..=255,
        ) {
            let zero = (usize::from(zero) % alphabet) as u8;
            let fold = |r: &u8| if r.is_multiple_of(skew) { (usize::from(*r) % alphabet) as u8 } else { zero };
            let symbols: Vec<u8> = raw.iter().map(fold).collect();
            let bytes = encoded(alphabet, zero, &symbols);
            prop_assert!(bytes.len() <= bytes_max(alphabet, symbols.len()));
            prop_assert_eq!(decoded(alphabet, zero, &bytes, symbols.len()), Ok(symbols));
        }

        #[test]
        fn any_bytes_decode_or_are_an_error(
            alphabet in 2usize..=255,
            zero: u8,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            count in 0usize..300,
        ) {
            let zero = (usize::from(zero) % alphabet) as u8;
            if let Ok(symbols) = decoded(alphabet, zero, &bytes, count) {
                prop_assert!(symbols.iter().all(|symbol| usize::from(*symbol) < alphabet));
            }
        }
    }
}
