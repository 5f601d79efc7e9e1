//! The identifiers of the protocol.

use std::fmt;
use std::str::FromStr;

/// Position of a member in its view; contributions are summed in this order.
pub type Rank = u32;

/// Number of an optimizer step, from 0.
pub type Step = u64;

/// Number of a view, from 1; a message of another view is never acted on.
pub type ViewNumber = u64;

/// One connection of one node to the coordinator. A node that comes back is a new one.
pub type NodeId = u64;

/// Milliseconds on the clock of whoever calls `handle`; only differences mean anything.
pub type Millis = u64;

/// 256-bit digest of a replica or of a data set, shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The first 16 digits: enough for people to tell replicas apart.
    pub fn short(&self) -> String {
        self.to_string().chars().take(16).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits, not {0:?}")]
pub struct DigestError(String);

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError(text.to_owned());
        if text.len() != 64 || !text.is_ascii() {
            return Err(malformed());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Digest(std::array::from_fn(|i| (i * 9) as u8));
        assert_eq!(digest.to_string().parse::<Digest>().ok(), Some(digest));
        assert!("12".parse::<Digest>().is_err());
        assert!("zz".repeat(32).parse::<Digest>().is_err());
    }
}
