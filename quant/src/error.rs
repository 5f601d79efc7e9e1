//! Why a frame cannot be decoded.

/// A frame that its alleged sender cannot have encoded for this run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than a header, or than the header promises.
    #[error("the frame ends after {found} bytes, {expected} were expected: it is truncated")]
    Truncated {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be at least.
        expected: usize,
    },
    /// More bytes than the header promises.
    #[error("{extra} bytes follow the end of the frame")]
    Trailing {
        /// Bytes too many.
        extra: usize,
    },
    /// Not a frame at all.
    #[error("the frame begins with {found:02x?} where every frame begins with \"EQ\"")]
    Magic {
        /// The first two bytes.
        found: [u8; 2],
    },
    /// Another version of the format.
    #[error("the frame has format version {found}, this program reads version {expected}")]
    Version {
        /// The frame's version.
        found: u8,
        /// Ours.
        expected: u8,
    },
    /// The bytes changed on the way.
    #[error("the frame's checksum is {expected:08x}, its bytes have {found:08x}: it is corrupt")]
    Checksum {
        /// Computed over the bytes.
        found: u32,
        /// Stated in the frame.
        expected: u32,
    },
    /// A header field does not have the value that this run, step and sender imply.
    #[error("the frame's {field} is {found}, expected {expected}")]
    Field {
        /// Which field.
        field: &'static str,
        /// The frame's value.
        found: u64,
        /// The value expected.
        expected: u64,
    },
    /// Another codec or other settings of it.
    #[error(
        "the frame was made by another codec or with other settings than this run's \
         (fingerprint {found:08x}, expected {expected:08x})"
    )]
    Settings {
        /// The frame's fingerprint.
        found: u32,
        /// That of this run's codec.
        expected: u32,
    },
    /// A scale or an element that is no usable number.
    #[error("the frame holds a number that no encoder sends: {0}")]
    Number(&'static str),
    /// The coded symbols contradict themselves.
    #[error("the frame's symbols do not decode: {0}")]
    Symbols(&'static str),
}
