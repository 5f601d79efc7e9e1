//! Static range asymmetric numeral system (Duda, "Asymmetric numeral systems", 2013) over groups of
//! symbols: 12-bit model, 4 to 64 interleaved states, 16-bit words.
//!
//! ```text
//! model           see `model.rs`
//! escapes         their number as LEB128, then the byte values that have no slot, in order
//! states          one u32 each, little-endian: where the decoder begins
//! words           u16, little-endian, in the order in which the decoder takes them
//! ```
//!
//! Byte *i* belongs to state *i* mod 64, mod 16 in streams of less than 2¹⁶ bytes, and mod 4 in those of
//! less than 2¹², in which more states would weigh too much. States stay in [2¹⁵, 2³¹). A decoder must end with all states at 2¹⁵
//! and with no word left: a stream that lies about its length or content does not.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod model;
mod portable;

use super::digits;
use super::varint;
use crate::error::DecodeError;
use crate::simd::{Path, Simd};
use crate::values::count;
use model::{BITS, ESCAPE, Histogram, Model, SLOTS};

/// States begin, and after decoding end, here.
const LOWEST: u32 = 1 << 15;
/// The most states there are.
const STATES_MAX: usize = 64;

/// Number of states for a stream of so many bytes.
fn states(bytes: usize) -> usize {
    match bytes {
        0..4_096 => 4,
        4_096..65_536 => 16,
        _ => STATES_MAX,
    }
}

/// Memory that is kept from stream to stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    words: Vec<u16>,
    escapes: Vec<u8>,
    slots: Option<Box<DecodeTable>>,
}

/// Bound on the bytes of `count` symbols. A group of symbols costs at most its twelve bits of the
/// model and eight of an escape; a state holds back at most a word.
pub(super) fn bytes_max(alphabet: usize, count: usize) -> usize {
    let groups = digits::bytes(alphabet, count);
    let model = 1 + 2 * digits::values(alphabet).max(alphabet);
    model + varint::BYTES_MAX + (groups * 5).div_ceil(2) + 6 * STATES_MAX
}

/// A stream whose model is fitted, but which is not coded yet.
pub(super) struct Prepared {
    model: Model,
    /// About how many bytes it will take.
    pub(super) estimate: u64,
    /// Whether few symbols are others than the likeliest.
    pub(super) is_sparse: bool,
    start: usize,
}

/// Fits the model and appends it; `fill` is the likeliest symbol.
pub(super) fn prepare(
    simd: Simd,
    scratch: &mut Scratch,
    alphabet: usize,
    fill: u8,
    symbols: &[u8],
    bytes: &mut Vec<u8>,
) -> Prepared {
    let start = bytes.len();
    digits::group(simd, alphabet, fill, symbols, &mut scratch.bytes);
    let histogram = Histogram::of(&scratch.bytes);
    let (model, estimate) = Model::fit(&histogram, alphabet, bytes);
    let states = 2 * states(scratch.bytes.len()) as u64;
    Prepared {
        model,
        estimate: estimate + states,
        is_sparse: histogram.is_sparse(alphabet, fill),
        start,
    }
}

impl Prepared {
    /// Completes the stream.
    pub(super) fn encode(self, simd: Simd, scratch: &mut Scratch, bytes: &mut Vec<u8>) {
        let Scratch {
            bytes: groups,
            words,
            escapes,
            ..
        } = scratch;
        if groups.is_empty() {
            bytes.truncate(self.start);
            return;
        }
        let table = EncodeTable::new(&self.model);
        // A word at most for each byte, and room for whole vectors beyond.
        words.resize(groups.len() + STATES_MAX, 0);
        escapes.resize(groups.len() + STATES_MAX, 0);
        let mut states = [LOWEST; STATES_MAX];
        let states = &mut states[..self::states(groups.len())];
        let mut stack = Stack {
            words,
            height: 0,
            escapes,
            escaped: 0,
        };
        match simd.path() {
            Path::Portable => portable::encode(&table, groups, states, &mut stack),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => avx2::encode(simd, &table, groups, states, &mut stack),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => avx512::encode(simd, &table, groups, states, &mut stack),
        }
        let Stack {
            height, escaped, ..
        } = stack;
        varint::write(escaped as u64, bytes);
        bytes.extend(escapes[..escaped].iter().rev());
        bytes.extend(states.iter().flat_map(|state| state.to_le_bytes()));
        portable::append_reversed(simd, &words[..height], bytes);
    }
}

/// What the encoder leaves behind: a stack, since the decoder takes last what was encoded first.
struct Stack<'a> {
    /// Longer than the stream by a row of states, so that vectors can be written whole.
    words: &'a mut [u16],
    height: usize,
    /// Bytes without a slot, the last one first; likewise.
    escapes: &'a mut [u8],
    escaped: usize,
}

/// What the encoder must know of each byte value: its slots in bits 0–11, the first of them in 12–23,
/// and [`ESCAPED`] if it has none and these are the escape's.
struct EncodeTable {
    symbols: [u32; 256],
    /// Byte values below 64 only: a quarter of the look-ups is then enough.
    small: bool,
}

const ESCAPED: u32 = 1 << 31;

impl EncodeTable {
    fn new(model: &Model) -> Self {
        let mut symbols = [0; 256];
        let mut first = 0;
        for (symbol, slots) in symbols.iter_mut().zip(model.slots) {
            *symbol = u32::from(slots) | first << 12;
            first += u32::from(slots);
        }
        for value in 0..ESCAPE {
            if model.slots[value] == 0 {
                symbols[value] = symbols[ESCAPE] | ESCAPED;
            }
        }
        let small = model.slots[64..ESCAPE].iter().all(|slots| *slots == 0);
        Self { symbols, small }
    }
}

/// For each of the 4096 slots: the number of slots of its byte value in bits 0–11, its place among them in
/// 12–23, the byte value in 24–31.
type DecodeTable = [u32; SLOTS as usize];

fn fill_decode_table(model: &Model, table: &mut DecodeTable) {
    let mut rest = &mut table[..];
    for (value, slots) in (0_u32..).zip(model.slots) {
        // Invariant: the slots add up to the table's length.
        let (own, others) = rest.split_at_mut(usize::from(slots));
        for (place, entry) in (0_u32..).zip(own) {
            *entry = u32::from(slots) | place << 12 | value << 24;
        }
        rest = others;
    }
}

/// Fills `symbols` from exactly all of `bytes`; every symbol is below `alphabet`.
pub(super) fn decode(
    simd: Simd,
    scratch: &mut Scratch,
    alphabet: usize,
    bytes: &[u8],
    symbols: &mut [u8],
) -> Result<(), DecodeError> {
    let groups = digits::bytes(alphabet, symbols.len());
    if groups == 0 {
        return match bytes {
            [] => Ok(()),
            more => Err(DecodeError::Trailing { extra: more.len() }),
        };
    }
    let (model, mut bytes) = Model::read(alphabet, bytes)?;
    let escapes = varint::read(&mut bytes).ok_or(DecodeError::Symbols("no number of escapes"))?;
    let escapes = usize::try_from(escapes).unwrap_or(usize::MAX);
    let Some((escapes, bytes)) = bytes.split_at_checked(escapes) else {
        return Err(DecodeError::Symbols("more escapes than bytes"));
    };
    let mut states = [LOWEST; STATES_MAX];
    let states = &mut states[..self::states(groups)];
    let Some((starts, bytes)) = bytes.split_at_checked(4 * states.len()) else {
        return Err(DecodeError::Symbols("the coder's states are missing"));
    };
    for (state, start) in states.iter_mut().zip(starts.as_chunks::<4>().0) {
        *state = u32::from_le_bytes(*start);
        if !(LOWEST..LOWEST << 16).contains(state) {
            return Err(DecodeError::Symbols("a state out of range"));
        }
    }
    let (coded, odd) = bytes.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(DecodeError::Symbols("half a word at the end"));
    }
    // Before memory is taken for them.
    if coded.len() > groups {
        return Err(DecodeError::Symbols(
            "more words than there are steps to take them",
        ));
    }
    let Scratch {
        bytes: found,
        words,
        slots,
        ..
    } = scratch;
    // A row of zeros beyond the end, so that a row can be decoded before its words are counted.
    words.clear();
    words.extend(coded.iter().map(|word| u16::from_le_bytes(*word)));
    words.resize(coded.len() + STATES_MAX, 0);
    found.resize(groups, 0);
    let table = slots.get_or_insert_with(|| Box::new([0; SLOTS as usize]));
    fill_decode_table(&model, table);
    let taken = match simd.path() {
        Path::Portable => portable::decode(table, words, states, found),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => avx2::decode(simd, table, words, states, found),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => avx512::decode(simd, table, words, states, found),
    };
    if taken != Some(coded.len()) || states.iter().any(|state| *state != LOWEST) {
        return Err(DecodeError::Symbols(
            "the coder does not end where it began",
        ));
    }
    put_back(simd, escapes, alphabet, found)?;
    digits::ungroup(simd, alphabet, found, symbols);
    Ok(())
}

/// Replaces each escape by the byte value it stands for.
fn put_back(
    simd: Simd,
    escapes: &[u8],
    alphabet: usize,
    found: &mut [u8],
) -> Result<(), DecodeError> {
    let values = digits::values(alphabet);
    let mut escapes = escapes.iter();
    // Runs are looked at as vectors first: escapes are rare.
    for run in found.chunks_mut(256) {
        if count(simd, ESCAPE as u8, run) == 0 {
            continue;
        }
        for byte in run.iter_mut().filter(|byte| usize::from(**byte) == ESCAPE) {
            let escape = escapes.next();
            let value = escape.filter(|value| usize::from(**value) < values);
            *byte = *value.ok_or(DecodeError::Symbols("an escape stands for no symbols"))?;
        }
    }
    if escapes.next().is_some() {
        return Err(DecodeError::Symbols("escapes that stand nowhere"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
