//! The lossless stage: symbols to bytes and back.

mod digits;
mod golomb;
mod pack;
mod rans;
mod varint;

use std::fmt;

pub(crate) use varint::{read as read_varint, write as append_varint};

use crate::error::DecodeError;
use crate::simd::Simd;

/// How symbols become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Coding {
    /// The shortest of the others, but that gaps are not tried on long streams that are not sparse.
    Auto,
    /// Fixed width: ⌈log₂ symbols⌉ bits each.
    Pack,
    /// Static range asymmetric numeral system: within a fraction of a percent of the order-0
    /// entropy.
    Rans,
    /// Golomb-coded gaps between the symbols that are not zero: for the sparsest streams.
    Golomb,
}

/// Streams of so many symbols are short enough to try every code on.
const SHORT: usize = 4096;

/// The coding that a frame was made with, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coded {
    Pack = 0,
    Rans = 1,
    Golomb = 2,
}

/// What the symbols of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alphabet {
    /// How many there are: 2 to 255.
    pub(crate) size: usize,
    /// The one that stands for the value 0, or for nothing sent; in sparse streams the likeliest.
    pub(crate) zero: u8,
}

/// Memory that is kept from stream to stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    rans: rans::Scratch,
    gaps: golomb::Scratch,
}

impl Coding {
    /// Appends the symbols to `bytes`; says which code was used.
    pub(crate) fn encode(
        self,
        simd: Simd,
        scratch: &mut Scratch,
        Alphabet { size, zero }: Alphabet,
        symbols: &[u8],
        bytes: &mut Vec<u8>,
    ) -> Coded {
        let Scratch {
            rans: scratch,
            gaps,
        } = scratch;
        let start = bytes.len();
        let packed = pack::bytes(size, symbols.len());
        match self {
            Self::Pack => {}
            Self::Golomb => {
                golomb::encode(simd, gaps, size, zero, symbols, bytes);
                return Coded::Golomb;
            }
            Self::Rans => {
                rans::prepare(simd, scratch, size, zero, symbols, bytes)
                    .encode(simd, scratch, bytes);
                return Coded::Rans;
            }
            Self::Auto => {
                let prepared = rans::prepare(simd, scratch, size, zero, symbols, bytes);
                // Gaps are slow to code where there are many, and then hardly shorter; short streams take
                // no time, and gaps spare them a model.
                let is_sparse = prepared.is_sparse || symbols.len() <= SHORT;
                if prepared.estimate < packed as u64 || is_sparse {
                    prepared.encode(simd, scratch, bytes);
                    let middle = bytes.len();
                    if is_sparse {
                        golomb::encode(simd, gaps, size, zero, symbols, bytes);
                        let shorter = (middle - start).min(packed);
                        if bytes.len() - middle < shorter {
                            bytes.drain(start..middle);
                            return Coded::Golomb;
                        }
                        bytes.truncate(middle);
                    }
                    if middle - start < packed {
                        return Coded::Rans;
                    }
                }
                bytes.truncate(start);
            }
        }
        pack::encode(simd, size, symbols, bytes);
        Coded::Pack
    }
}

impl Coded {
    /// The code with this number in a frame.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Pack),
            1 => Some(Self::Rans),
            2 => Some(Self::Golomb),
            _ => None,
        }
    }

    /// Fills `symbols` from exactly all of `bytes`. Every symbol is then one of the alphabet.
    pub(crate) fn decode(
        self,
        simd: Simd,
        scratch: &mut Scratch,
        Alphabet { size, zero }: Alphabet,
        bytes: &[u8],
        symbols: &mut [u8],
    ) -> Result<(), DecodeError> {
        match self {
            Self::Pack => pack::decode(simd, size, bytes, symbols),
            Self::Rans => rans::decode(simd, &mut scratch.rans, size, bytes, symbols),
            Self::Golomb => golomb::decode(simd, &mut scratch.gaps, size, zero, bytes, symbols),
        }
    }
}

/// Bound on the bytes of `count` coded symbols, whatever they are.
pub(crate) fn bytes_max(coding: Coding, alphabet: usize, count: usize) -> usize {
    match coding {
        // The others are used only where they are shorter.
        Coding::Auto | Coding::Pack => pack::bytes(alphabet, count),
        Coding::Rans => rans::bytes_max(alphabet, count),
        Coding::Golomb => golomb::bytes_max(alphabet, count),
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Pack => "pack",
            Self::Rans => "rans",
            Self::Golomb => "golomb",
        })
    }
}
