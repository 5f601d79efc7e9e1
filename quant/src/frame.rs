//! The frame's header: `FORMAT.md`, version 2.

use crate::error::DecodeError;

/// Which frame it is: one bucket of one member's contribution to one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId {
    /// The step to which it contributes.
    pub step: u64,
    /// The member that sends it.
    pub rank: u32,
    /// Index of the bucket in the flat vector.
    pub bucket: u32,
}

const MAGIC: [u8; 2] = *b"EQ";
const VERSION: u8 = 2;
/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 32;
/// Where the checksum stands; it covers everything after it and everything before it.
const CHECKSUM_AT: usize = 28;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) codec: u8,
    pub(crate) id: FrameId,
    pub(crate) samples: u32,
    pub(crate) elements: u32,
}

impl Header {
    /// Begins a frame; its checksum is still missing.
    pub(crate) fn write(&self, frame: &mut Vec<u8>) {
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&[VERSION, self.codec]);
        frame.extend_from_slice(&self.id.step.to_le_bytes());
        for field in [self.id.rank, self.id.bucket, self.samples, self.elements, 0] {
            frame.extend_from_slice(&field.to_le_bytes());
        }
    }

    /// Reads a header, with nothing verified but that it is one of this version.
    pub(crate) fn read(frame: &[u8]) -> Result<Self, DecodeError> {
        let Some(header) = frame.first_chunk::<HEADER_BYTES>() else {
            return Err(DecodeError::Truncated {
                found: frame.len(),
                expected: HEADER_BYTES,
            });
        };
        let found = [header[0], header[1]];
        if found != MAGIC {
            return Err(DecodeError::Magic { found });
        }
        if header[2] != VERSION {
            return Err(DecodeError::Version {
                found: header[2],
                expected: VERSION,
            });
        }
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        Ok(Self {
            codec: header[3],
            id: FrameId {
                step: u64::from_le_bytes(std::array::from_fn(|i| header[4 + i])),
                rank: word(12),
                bucket: word(16),
            },
            samples: word(20),
            elements: word(24),
        })
    }
}

/// Bytes of a quantized frame's settings, after the header.
pub(crate) const SETTINGS_BYTES: usize = 8;

/// What a quantized frame says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Of the codec's name and settings, see [`crate::spec::CodecSpec::fingerprint`].
    pub(crate) fingerprint: u32,
    /// Number of the lossless code; 0 where no symbols are sent, or several streams with codes of their own.
    pub(crate) coding: u8,
    /// Number of streams where there is a bit budget, else 0.
    pub(crate) streams: u8,
    /// Levels a sign, where a budget chose them and there is one stream; else 0.
    pub(crate) levels: u8,
}

impl Settings {
    /// Those of a codec's frames, as far as they are all the same.
    pub(crate) fn of(fingerprint: u32) -> Self {
        Self {
            fingerprint,
            coding: 0,
            streams: 0,
            levels: 0,
        }
    }

    /// Appends the settings.
    pub(crate) fn append(&self, frame: &mut Vec<u8>) {
        let start = frame.len();
        frame.resize(start + SETTINGS_BYTES, 0);
        self.write(&mut frame[start..]);
    }

    /// Writes over the beginning of `bytes`.
    pub(crate) fn write(&self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.fingerprint.to_le_bytes());
        bytes[4..SETTINGS_BYTES].copy_from_slice(&[self.coding, self.streams, self.levels, 0]);
    }

    /// Takes the settings off the front of a body.
    pub(crate) fn read(body: &mut &[u8]) -> Result<Self, DecodeError> {
        let Some((settings, rest)) = body.split_first_chunk::<SETTINGS_BYTES>() else {
            return Err(DecodeError::Truncated {
                found: HEADER_BYTES + body.len(),
                expected: HEADER_BYTES + SETTINGS_BYTES,
            });
        };
        *body = rest;
        let [a, b, c, d, coding, streams, levels, reserved] = *settings;
        if reserved != 0 {
            return Err(DecodeError::Field {
                field: "reserved byte",
                found: reserved.into(),
                expected: 0,
            });
        }
        Ok(Self {
            fingerprint: u32::from_le_bytes([a, b, c, d]),
            coding,
            streams,
            levels,
        })
    }
}

/// What precedes a stream, where there are several.
pub(crate) const STREAM_BYTES: usize = 8;

/// What such a stream says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Levels a sign, where a budget chose them; else 0.
    pub(crate) levels: u8,
    /// Number of the lossless code.
    pub(crate) coding: u8,
    /// Length of what follows.
    pub(crate) bytes: u32,
}

impl Stream {
    /// Writes over the beginning of `bytes`.
    pub(crate) fn write(&self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&[self.levels, self.coding, 0, 0]);
        bytes[4..STREAM_BYTES].copy_from_slice(&self.bytes.to_le_bytes());
    }

    /// Takes it off the front of a body.
    pub(crate) fn read(body: &mut &[u8]) -> Result<Self, DecodeError> {
        let Some(([levels, coding, 0, 0, length @ ..], rest)) =
            body.split_first_chunk::<STREAM_BYTES>()
        else {
            return Err(DecodeError::Symbols("no beginning of a stream"));
        };
        *body = rest;
        Ok(Self {
            levels: *levels,
            coding: *coding,
            bytes: u32::from_le_bytes(*length),
        })
    }
}

/// Completes a frame with its checksum.
pub(crate) fn seal(frame: &mut [u8]) {
    let checksum = checksum(frame);
    if let Some(place) = frame.get_mut(CHECKSUM_AT..HEADER_BYTES) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Whether the bytes are those that were sealed.
pub(crate) fn verify(frame: &[u8]) -> Result<(), DecodeError> {
    let stated = frame
        .get(CHECKSUM_AT..HEADER_BYTES)
        .and_then(|bytes| bytes.try_into().ok());
    let expected = stated.map_or(0, u32::from_le_bytes);
    let found = checksum(frame);
    if found == expected {
        Ok(())
    } else {
        Err(DecodeError::Checksum { found, expected })
    }
}

/// CRC-32C of the frame without the four bytes of the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    let (header, rest) = frame.split_at(CHECKSUM_AT.min(frame.len()));
    crc32c::crc32c_append(crc32c::crc32c(header), rest.get(4..).unwrap_or(&[]))
}
