//! Frames to messages and back: cutting without a copy, assembling within a bound.

use bytes::{Bytes, BytesMut};
use ecq_cluster::{Decision, FrameKey};
use ecq_proto::limits::CHUNK_BYTES;
use ecq_proto::v1::{self, FrameChunk, FrameHeader, Idle};
use prost::Message as _;

/// The messages that carry `frame`, in order. The payloads are slices of it.
pub(super) fn cut(key: FrameKey, mut frame: Bytes) -> impl Iterator<Item = FrameChunk> {
    let frame_bytes = frame.len() as u64;
    let mut header = Some(FrameHeader {
        step: key.step,
        bucket: key.bucket,
        frame_bytes,
        rank: key.rank,
    });
    std::iter::from_fn(move || {
        if header.is_none() && frame.is_empty() {
            return None;
        }
        let data = frame.split_to(frame.len().min(CHUNK_BYTES));
        Some(sealed(FrameChunk {
            header: header.take(),
            data,
            ..FrameChunk::default()
        }))
    })
}

/// The message that carries a decision.
pub(super) fn decision(decision: &Decision) -> FrameChunk {
    sealed(FrameChunk {
        decision: Some(v1::Decision {
            step: decision.step,
            ranks: decision.ranks.clone(),
        }),
        ..FrameChunk::default()
    })
}

/// The message with its checksum.
pub(super) fn sealed(mut chunk: FrameChunk) -> FrameChunk {
    chunk.checksum = checksum(&chunk);
    chunk
}

/// Of all of a message but the data.
fn checksum(chunk: &FrameChunk) -> u32 {
    let said = FrameChunk {
        data: Bytes::new(),
        checksum: 0,
        ..chunk.clone()
    };
    crc32c::crc32c(&said.encode_to_vec())
}

/// Counts the frames that chunks make up.
#[derive(Debug, Default)]
pub(super) struct Counter {
    frames: u64,
    /// Bytes that the frame under way still lacks.
    lacking: u64,
}

impl Counter {
    pub(super) fn count(&mut self, chunk: &FrameChunk) {
        if let Some(header) = &chunk.header {
            self.lacking = header.frame_bytes;
        } else if chunk.data.is_empty() {
            return;
        }
        self.lacking = self.lacking.saturating_sub(chunk.data.len() as u64);
        self.frames += u64::from(self.lacking == 0);
    }

    /// The sign of life that says how many there were.
    pub(super) fn idle(&self) -> FrameChunk {
        sealed(FrameChunk {
            idle: Some(Idle {
                frames: self.frames,
            }),
            ..FrameChunk::default()
        })
    }
}

/// A stream that is not a sequence of frames.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkError {
    #[error("a frame of {found} bytes, where at most {expected} can be")]
    TooLarge { found: u64, expected: u64 },
    #[error("{found} bytes for a frame that announced {expected}")]
    Overrun { found: u64, expected: u64 },
    #[error("a chunk outside of any frame")]
    Stray,
    #[error("a new frame before the last was complete")]
    Interrupted,
    #[error("a message does not have the checksum {expected:08x} that it says")]
    Damaged { expected: u32 },
    #[error("{found} frames have arrived of {sent} that were sent")]
    Lost { found: u64, sent: u64 },
}

/// Whether the message is the one that was sealed; the data are not looked at.
pub(super) fn verify(chunk: &FrameChunk) -> Result<(), ChunkError> {
    let expected = chunk.checksum;
    if checksum(chunk) == expected {
        Ok(())
    } else {
        Err(ChunkError::Damaged { expected })
    }
}

/// Puts the frames of one stream together.
#[derive(Debug)]
pub(super) struct Assembler {
    frame_bytes_max: u64,
    open: Option<(FrameHeader, BytesMut)>,
    /// Frames that were complete.
    frames: u64,
}

impl Assembler {
    /// Takes frames of up to `frame_bytes_max` bytes, and allocates no more than that.
    pub(super) fn new(frame_bytes_max: u64) -> Self {
        Self {
            frame_bytes_max,
            open: None,
            frames: 0,
        }
    }

    /// Compares with what the sender has counted, which sends nothing any more.
    pub(super) fn compare(&self, sent: u64) -> Result<(), ChunkError> {
        let found = self.frames;
        if found == sent {
            Ok(())
        } else {
            Err(ChunkError::Lost { found, sent })
        }
    }

    /// Takes the next chunk; returns the frame that it completes.
    pub(super) fn take(
        &mut self,
        chunk: FrameChunk,
    ) -> Result<Option<(FrameHeader, Bytes)>, ChunkError> {
        let FrameChunk { header, data, .. } = chunk;
        let Some(header) = header else {
            let (header, mut frame) = self.open.take().ok_or(ChunkError::Stray)?;
            within(header.frame_bytes, frame.len() + data.len())?;
            frame.extend_from_slice(&data);
            return Ok(self.keep(header, frame));
        };
        if self.open.is_some() {
            return Err(ChunkError::Interrupted);
        }
        let (found, expected) = (header.frame_bytes, self.frame_bytes_max);
        if found > expected {
            return Err(ChunkError::TooLarge { found, expected });
        }
        within(header.frame_bytes, data.len())?;
        if data.len() as u64 == header.frame_bytes {
            self.frames += 1;
            return Ok(Some((header, data)));
        }
        // Invariant: at most `frame_bytes_max`, a size of a frame in memory.
        let mut frame = BytesMut::with_capacity(header.frame_bytes as usize);
        frame.extend_from_slice(&data);
        Ok(self.keep(header, frame))
    }

    fn keep(&mut self, header: FrameHeader, frame: BytesMut) -> Option<(FrameHeader, Bytes)> {
        if frame.len() as u64 == header.frame_bytes {
            self.frames += 1;
            return Some((header, frame.freeze()));
        }
        self.open = Some((header, frame));
        None
    }
}

fn within(announced: u64, found: usize) -> Result<(), ChunkError> {
    let found = found as u64;
    if found > announced {
        return Err(ChunkError::Overrun {
            found,
            expected: announced,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FrameKey = FrameKey {
        view: 1,
        step: 3,
        rank: 1,
        bucket: 2,
    };

    #[test]
    fn every_length_survives_cutting_and_assembling() {
        let lengths = [
            0,
            1,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            3 * CHUNK_BYTES + 5,
        ];
        for length in lengths {
            let frame: Bytes = (0..length).map(|i| ((i * 31) >> 3) as u8).collect();
            let mut assembler = Assembler::new(length as u64);
            let mut frames = Vec::new();
            for chunk in cut(KEY, frame.clone()) {
                assert!(chunk.data.len() <= CHUNK_BYTES);
                frames.extend(assembler.take(chunk).expect("it was cut from a frame"));
            }
            let [(header, found)] = &frames[..] else {
                panic!("{} frames", frames.len())
            };
            assert_eq!((header.step, header.rank, header.bucket), (3, 1, 2));
            assert_eq!(*found, frame);
        }
    }

    #[test]
    fn a_lying_stream_is_an_error_and_allocates_nothing() {
        let header = |frame_bytes| {
            Some(FrameHeader {
                step: 0,
                bucket: 0,
                frame_bytes,
                rank: 0,
            })
        };
        let chunk = |header, length: usize| FrameChunk {
            header,
            data: Bytes::from(vec![0; length]),
            ..FrameChunk::default()
        };
        let huge = Assembler::new(100).take(chunk(header(u64::MAX), 1));
        assert_eq!(
            huge,
            Err(ChunkError::TooLarge {
                found: u64::MAX,
                expected: 100
            })
        );
        let stray = Assembler::new(100).take(chunk(None, 1));
        assert_eq!(stray, Err(ChunkError::Stray));
        let overrun = Assembler::new(100).take(chunk(header(5), 6));
        assert_eq!(
            overrun,
            Err(ChunkError::Overrun {
                found: 6,
                expected: 5
            })
        );
        let mut assembler = Assembler::new(100);
        assert_eq!(assembler.take(chunk(header(5), 4)), Ok(None));
        assert_eq!(
            assembler.take(chunk(header(5), 4)),
            Err(ChunkError::Interrupted)
        );
        let late = assembler.take(chunk(None, 2));
        assert_eq!(
            late,
            Err(ChunkError::Overrun {
                found: 6,
                expected: 5
            })
        );
    }
}
