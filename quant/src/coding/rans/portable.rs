//! The coder in plain integers: what every CPU runs, and what the vector kernels are held to.

use super::{BITS, DecodeTable, ESCAPED, EncodeTable, LOWEST, SLOTS, Stack};
use crate::simd::kernel;

/// Encodes `groups` from the last to the first.
pub(super) fn encode(
    table: &EncodeTable,
    groups: &[u8],
    states: &mut [u32],
    stack: &mut Stack<'_>,
) {
    let lanes = states.len();
    for row in groups.chunks(lanes).rev() {
        for (byte, state) in row.iter().zip(states.iter_mut()).rev() {
            push(table, *byte, state, stack);
        }
    }
}

/// Encodes one byte.
#[inline(always)]
pub(super) fn push(table: &EncodeTable, byte: u8, state: &mut u32, stack: &mut Stack<'_>) {
    let symbol = table.symbols[usize::from(byte)];
    let (slots, first) = (symbol & 4095, symbol >> 12 & 4095);
    if symbol & ESCAPED != 0 {
        stack.escapes[stack.escaped] = byte;
        stack.escaped += 1;
    }
    let mut x = *state;
    if x >= slots << 19 {
        // Invariant: a byte pushes at most one word, and the stack has room for one each.
        stack.words[stack.height] = x as u16;
        stack.height += 1;
        x >>= 16;
    }
    // (x / slots) · SLOTS + x mod slots + first.
    *state = x + x / slots * (SLOTS - slots) + first;
}

/// Decodes as many bytes as `found` is long. `words` ends with a row of padding. Gives the number of
/// words taken, or nothing if that is more than there are.
pub(super) fn decode(
    table: &DecodeTable,
    words: &[u16],
    states: &mut [u32],
    found: &mut [u8],
) -> Option<usize> {
    let lanes = states.len();
    let mut next = 0;
    for row in found.chunks_mut(lanes) {
        next = pop_row(table, words, next, states, row)?;
    }
    Some(next)
}

/// Decodes a row of at most one byte a state.
#[inline(always)]
pub(super) fn pop_row(
    table: &DecodeTable,
    words: &[u16],
    mut next: usize,
    states: &mut [u32],
    row: &mut [u8],
) -> Option<usize> {
    for (byte, state) in row.iter_mut().zip(states) {
        let entry = table[(*state & (SLOTS - 1)) as usize];
        let (slots, place) = (entry & 4095, entry >> 12 & 4095);
        *byte = (entry >> 24) as u8;
        *state = slots * (*state >> BITS) + place;
        if *state < LOWEST {
            *state = *state << 16 | u32::from(*words.get(next)?);
            next += 1;
        }
    }
    Some(next)
}

kernel! {
    /// Appends the words, the last one first.
    pub(super) fn append_reversed(words: &[u16], bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.resize(start + 2 * words.len(), 0);
        let places = bytes[start..].as_chunks_mut::<2>().0;
        for (place, word) in places.iter_mut().zip(words.iter().rev()) {
            *place = word.to_le_bytes();
        }
    }
}
