//! The mean of all members' gradients, in one order of additions.

use std::ops::Range;

use crate::decoder::Decoder;
use crate::error::DecodeError;
use crate::frame::FrameId;

/// Why the frames of a bucket cannot be summed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AggregateError {
    /// A frame does not decode.
    #[error("the frame of rank {} for bucket {}: {source}", id.rank, id.bucket)]
    Frame {
        /// Which frame.
        id: FrameId,
        /// What is the matter with it.
        source: DecodeError,
    },
    /// Frames not in ascending order of ranks, the order in which every replica must add them.
    #[error("the frame of rank {found} comes after that of rank {previous}; ranks must ascend")]
    Order {
        /// The rank out of order.
        found: u32,
        /// The one before it.
        previous: u32,
    },
    /// No frame, or none with a sample behind it.
    #[error("no frame has a sample behind it, so there is no mean")]
    Empty,
}

/// Overwrites `target` with the mean of the frames, weighted by their sample counts:
/// Σ (samplesᵣ / Σ samples) · qᵣ, added in rank order. Equal to the bit on every replica.
pub fn aggregate(
    decoder: &mut Decoder,
    frames: &[(FrameId, &[u8])],
    range: Range<usize>,
    target: &mut [f32],
) -> Result<(), AggregateError> {
    let mut previous = None;
    for (FrameId { rank, .. }, _) in frames {
        match previous {
            Some(before) if before >= *rank => {
                return Err(AggregateError::Order {
                    found: *rank,
                    previous: before,
                });
            }
            _ => previous = Some(*rank),
        }
    }
    let samples: Vec<u32> = frames
        .iter()
        .map(|(id, frame)| {
            Decoder::samples(frame).map_err(|source| AggregateError::Frame { id: *id, source })
        })
        .collect::<Result<_, _>>()?;
    let total: u64 = samples.iter().map(|samples| u64::from(*samples)).sum();
    if total == 0 {
        return Err(AggregateError::Empty);
    }
    target.fill(0.0);
    for ((id, frame), samples) in frames.iter().zip(samples) {
        let weight = (f64::from(samples) / total as f64) as f32;
        decoder
            .accumulate(frame, *id, range.clone(), weight, target)
            .map_err(|source| AggregateError::Frame { id: *id, source })?;
    }
    Ok(())
}
