//! The lossless stage: symbols to bytes and back.

mod pack;
mod rans;

use std::fmt;

use crate::error::DecodeError;

/// How symbols become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Whichever of the others makes the frame smaller.
    Auto,
    /// Fixed width: ⌈log₂(2s+1)⌉ bits a symbol.
    Pack,
    /// Static range asymmetric numeral system: within a fraction of a percent of the order-0
    /// entropy.
    Rans,
}

/// The coding that a frame was made with, as its header says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coded {
    Pack = 0,
    Rans = 1,
}

impl Coding {
    /// Appends the symbols, all below `alphabet`, to `bytes`; says which code was used.
    pub(crate) fn encode(self, alphabet: usize, symbols: &[u8], bytes: &mut Vec<u8>) -> Coded {
        let start = bytes.len();
        if self != Self::Pack {
            rans::encode(alphabet, symbols, bytes);
            let coded = bytes.len() - start;
            if self == Self::Rans || coded < pack::bytes(alphabet, symbols.len()) {
                return Coded::Rans;
            }
            bytes.truncate(start);
        }
        pack::encode(alphabet, symbols, bytes);
        Coded::Pack
    }
}

impl Coded {
    /// The code with this number in a header.
    pub(crate) fn from_header(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Pack),
            1 => Some(Self::Rans),
            _ => None,
        }
    }

    /// Fills `symbols` from exactly all of `bytes`. Every symbol is below `alphabet`.
    pub(crate) fn decode(
        self,
        alphabet: usize,
        bytes: &[u8],
        symbols: &mut [u8],
    ) -> Result<(), DecodeError> {
        match self {
            Self::Pack => pack::decode(alphabet, bytes, symbols),
            Self::Rans => rans::decode(alphabet, bytes, symbols),
        }
    }
}

/// Bound on the bytes of `count` coded symbols, whatever they are.
pub(crate) fn bytes_max(alphabet: usize, count: usize) -> usize {
    pack::bytes(alphabet, count).max(rans::bytes_max(alphabet, count))
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Pack => "pack",
            Self::Rans => "rans",
        })
    }
}
