//! The static model of a stream of bytes: how many of 4096 slots each byte value has.
//!
//! Byte values are groups of symbols ([`super::super::digits`]). Their frequencies are written in
//! whichever form makes the stream shorter: one number a byte value, or one a symbol, from which
//! those of the byte values follow as products. The value 255 is the escape, with at least one slot:
//! it stands for all that have none, which are then given as they are.

use super::super::digits;
use crate::error::DecodeError;

pub(super) const BITS: u32 = 12;
pub(super) const SLOTS: u32 = 1 << BITS;
/// The byte value that stands for one without a slot.
pub(super) const ESCAPE: usize = 255;
/// Symbols' probabilities are multiples of 2⁻¹⁴.
const SYMBOL_ONE: u64 = 1 << 14;

/// Slots of each byte value. They add up to [`SLOTS`], and the escape has at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) slots: [u16; 256],
}

/// How often each byte value occurs, as far as it was counted.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: [u32; 256],
    /// One of so many bytes was counted.
    every: u32,
}

impl Histogram {
    /// Counts all of a short stream, and one run of 64 in four of a long one: beyond some 2¹⁶ counts
    /// a model gets no better. Which of the four is drawn: gradients of matrices have periods.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let every = if bytes.len() >= 1 << 16 { 4 } else { 1 };
        // Four histograms, because equal neighbours would wait for each other's count.
        let mut lanes = [[0_u32; 256]; 4];
        for (i, runs) in (0_u32..).zip(bytes.chunks(64 * every)) {
            // The last runs are fewer: one of those that there are.
            let place = drawn(i) % runs.len().div_ceil(64);
            let run = runs.chunks(64).nth(place).unwrap_or_default();
            let quads = run.as_chunks::<4>();
            for quad in quads.0 {
                for (lane, byte) in lanes.iter_mut().zip(quad) {
                    lane[usize::from(*byte)] += 1;
                }
            }
            for byte in quads.1 {
                lanes[0][usize::from(*byte)] += 1;
            }
        }
        Self {
            counts: std::array::from_fn(|byte| lanes.iter().map(|lane| lane[byte]).sum()),
            every: every as u32,
        }
    }

    /// How often each symbol occurs: every byte gives its digits.
    fn symbols(&self, alphabet: usize) -> [u64; 256] {
        let mut counts = [0; 256];
        for (byte, count) in self
            .counts
            .iter()
            .enumerate()
            .take(digits::values(alphabet))
        {
            let mut left = byte;
            for _ in 0..digits::per_byte(alphabet) {
                counts[left % alphabet] += u64::from(*count);
                left /= alphabet;
            }
        }
        counts
    }

    /// Whether less than one symbol in 16 is another than `frequent`, as far as they were counted.
    pub(super) fn is_sparse(&self, alphabet: usize, frequent: u8) -> bool {
        let symbols = self.symbols(alphabet);
        let all: u64 = symbols.iter().sum();
        all - symbols[usize::from(frequent)] < all / 16
    }

    /// Bytes that the coder will write for the stream under `model`, its states not included.
    fn coded_bytes(&self, model: &Model) -> u64 {
        let cost = |slots: u16| u64::from((BITS << 8) - log2(u32::from(slots)));
        let escaped = cost(model.slots[ESCAPE]) + (8 << 8);
        let counts = self.counts.iter().zip(&model.slots);
        let cost = counts
            .map(|(count, slots)| {
                u64::from(*count) * if *slots == 0 { escaped } else { cost(*slots) }
            })
            .sum::<u64>();
        (cost * u64::from(self.every)) >> (8 + 3)
    }
}

/// Pseudo-random, of the index alone.
fn drawn(index: u32) -> usize {
    let mut x = index.wrapping_mul(0x9e37_79b9);
    x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
    x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
    (x ^ x >> 16) as usize
}

/// log₂ with eight fractional bits, by squaring: the same on every machine.
fn log2(x: u32) -> u32 {
    let whole = x.max(1).ilog2();
    let mut mantissa = (u64::from(x.max(1)) << 31) >> whole;
    let mut log = whole;
    for _ in 0..8 {
        mantissa = (mantissa * mantissa) >> 31;
        log <<= 1;
        if mantissa >= 1 << 32 {
            mantissa >>= 1;
            log |= 1;
        }
    }
    log
}

impl Model {
    /// The model for a stream of groups of symbols below `alphabet`. Appends its description, and
    /// says how many bytes the stream will take with it.
    pub(super) fn fit(histogram: &Histogram, alphabet: usize, bytes: &mut Vec<u8>) -> (Self, u64) {
        let start = bytes.len();
        let symbols = symbol_probabilities(&histogram.symbols(alphabet), alphabet);
        let product = Self::product(&symbols[..alphabet], alphabet);
        bytes.push(Form::Symbols as u8);
        write_numbers(&symbols[..alphabet], bytes);
        let size = |model: &Self, written: usize| (written as u64) + histogram.coded_bytes(model);
        let by_symbols = size(&product, bytes.len() - start);
        if digits::per_byte(alphabet) == 1 && alphabet > 64 {
            return (product, by_symbols);
        }
        let joint = Self::normalised(&histogram.counts.map(u64::from));
        let middle = bytes.len();
        bytes.push(Form::Bytes as u8);
        write_numbers(&joint.slots[..digits::values(alphabet)], bytes);
        let by_bytes = size(&joint, bytes.len() - middle);
        if by_bytes < by_symbols {
            bytes.drain(start..middle);
            (joint, by_bytes)
        } else {
            bytes.truncate(middle);
            (product, by_symbols)
        }
    }

    /// Reads what [`Model::fit`] wrote; gives the rest of the bytes.
    pub(super) fn read(alphabet: usize, bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let missing = DecodeError::Symbols("the model is missing");
        let (form, mut bytes) = bytes.split_first().ok_or(missing)?;
        let mut numbers = [0; 256];
        if *form == Form::Symbols as u8 {
            read_numbers(&mut numbers[..alphabet], SYMBOL_ONE as u16, &mut bytes)?;
            let model = Self::product(&numbers[..alphabet], alphabet);
            return model.check().map(|model| (model, bytes));
        }
        if *form != Form::Bytes as u8 {
            return Err(DecodeError::Symbols("unknown form of the model"));
        }
        let values = digits::values(alphabet);
        read_numbers(&mut numbers[..values], SLOTS as u16, &mut bytes)?;
        let sum: u32 = numbers.iter().map(|slots| u32::from(*slots)).sum();
        if sum >= SLOTS {
            return Err(DecodeError::Symbols("the model has more than 4095 slots"));
        }
        numbers[ESCAPE] = (SLOTS - sum) as u16;
        let model = Self { slots: numbers };
        model.check().map(|model| (model, bytes))
    }

    /// Nothing if the escape has all slots, which are more than tables can say.
    fn check(self) -> Result<Self, DecodeError> {
        if u32::from(self.slots[ESCAPE]) == SLOTS {
            return Err(DecodeError::Symbols("the model has nothing but the escape"));
        }
        Ok(self)
    }

    /// The model of bytes whose digits are independent.
    fn product(symbols: &[u16], alphabet: usize) -> Self {
        let mut weights = [0_u64; 256];
        for (byte, weight) in weights
            .iter_mut()
            .enumerate()
            .take(digits::values(alphabet))
        {
            let mut left = byte;
            *weight = 1 << 48;
            for _ in 0..digits::per_byte(alphabet) {
                *weight = (*weight * u64::from(symbols[left % alphabet])) / SYMBOL_ONE;
                left /= alphabet;
            }
        }
        Self::normalised(&weights)
    }

    /// Slots in proportion to the weights, which are at most 2⁴⁸ each. What would have less than half a
    /// slot has none and falls to the escape.
    fn normalised(weights: &[u64; 256]) -> Self {
        let total = weights.iter().map(|w| u128::from(*w)).sum::<u128>().max(1);
        let share = |weight: u128| (weight * u128::from(SLOTS) + total / 2) / total;
        let mut slots = [0_u16; 256];
        let mut pool = 0;
        for (slots, weight) in slots.iter_mut().zip(weights) {
            // Invariant: a share is at most SLOTS.
            *slots = share(u128::from(*weight)) as u16;
            if *slots == 0 {
                pool += u128::from(*weight);
            }
        }
        slots[ESCAPE] = (share(pool) as u16).max(1);
        // What rounding left over goes to the most frequent value, which notices it least; what it
        // took too much comes from there, but never more than half of its share at a time.
        let mut sum: u32 = slots.iter().map(|s| u32::from(*s)).sum();
        while sum != SLOTS {
            // Invariant: at most 256 values, so that a sum above 4096 has a share of at least 16.
            let Some(largest) = slots.iter_mut().max() else {
                break;
            };
            let before = u32::from(*largest);
            let after = if sum < SLOTS {
                before + (SLOTS - sum)
            } else {
                before - (sum - SLOTS).min(before / 2)
            };
            *largest = after as u16;
            sum = sum - before + after;
        }
        Self { slots }
    }
}

/// The forms in which a model is written.
enum Form {
    Symbols = 0,
    Bytes = 1,
}

/// Probabilities of the symbols in units of 2⁻¹⁴; none is zero for a symbol that was counted.
fn symbol_probabilities(counts: &[u64; 256], alphabet: usize) -> [u16; 256] {
    let total = counts[..alphabet].iter().sum::<u64>().max(1);
    let mut probabilities = [0; 256];
    for (probability, count) in probabilities.iter_mut().zip(counts) {
        let rounded = (count * SYMBOL_ONE + total / 2) / total;
        *probability = if *count > 0 { rounded.max(1) } else { 0 } as u16;
    }
    probabilities
}

/// Numbers below 2¹⁵ in one byte (below 128) or two, a run of zeros as a zero and its length less one.
fn write_numbers(numbers: &[u16], bytes: &mut Vec<u8>) {
    let mut numbers = numbers;
    while let Some((first, rest)) = numbers.split_first() {
        numbers = rest;
        match *first {
            0 => {
                let more = rest.iter().take(255).take_while(|n| **n == 0).count();
                bytes.extend_from_slice(&[0, more as u8]);
                numbers = &rest[more..];
            }
            small @ 1..128 => bytes.push(small as u8),
            large => bytes.extend_from_slice(&[(large & 127) as u8 | 128, (large >> 7) as u8]),
        }
    }
}

fn read_numbers(numbers: &mut [u16], max: u16, bytes: &mut &[u8]) -> Result<(), DecodeError> {
    let mut next = || {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(u16::from(*first))
    };
    let incomplete = DecodeError::Symbols("the model is incomplete");
    let mut at = 0;
    while at < numbers.len() {
        let low = next().ok_or(incomplete.clone())?;
        if low == 0 {
            let more = usize::from(next().ok_or(incomplete.clone())?);
            at += 1 + more;
            continue; // They are zero already.
        }
        let number = if low < 128 {
            low
        } else {
            low & 127 | next().ok_or(incomplete.clone())? << 7
        };
        if number > max {
            return Err(DecodeError::Symbols("a number of the model is too large"));
        }
        numbers[at] = number;
        at += 1;
    }
    if at > numbers.len() {
        return Err(DecodeError::Symbols("a run in the model is too long"));
    }
    Ok(())
}
