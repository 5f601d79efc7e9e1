//! The mean of all members' gradients, in one order of additions.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::decoder::Decoder;
use crate::error::DecodeError;
use crate::frame::FrameId;
use crate::layout::cover;

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
    let samples = |(id, frame): &(FrameId, &[u8])| {
        Decoder::samples(frame).map_err(|source| AggregateError::Frame { id: *id, source })
    };
    let mut total = 0;
    for frame in frames {
        total += u64::from(samples(frame)?);
    }
    if total == 0 {
        return Err(AggregateError::Empty);
    }
    target.fill(0.0);
    for given @ (id, frame) in frames {
        let weight = (f64::from(samples(given)?) / total as f64) as f32;
        decoder
            .accumulate(frame, *id, range.clone(), weight, target)
            .map_err(|source| AggregateError::Frame { id: *id, source })?;
    }
    Ok(())
}

/// Frames of one bucket, in rank order.
pub type BucketFrames<'a> = Vec<(FrameId, &'a [u8])>;

/// [`aggregate`] for all buckets of a step, on all threads of the current rayon pool; equal to the
/// bit for any number of them. In steady state it allocates nothing; rayon does now and then, to hand over
/// work.
#[derive(Debug)]
pub struct Aggregator {
    prototype: Decoder,
    /// One for each thread that has been decoding.
    decoders: Mutex<Vec<Decoder>>,
}

impl Aggregator {
    /// An aggregator of frames like this decoder's.
    pub fn new(decoder: Decoder) -> Self {
        Self {
            prototype: decoder,
            decoders: Mutex::default(),
        }
    }

    /// Overwrites `target` with the means of the buckets' frames.
    ///
    /// # Errors
    ///
    /// If any frame cannot be added: the first of them. `target` is then partly overwritten, and worth nothing.
    ///
    /// # Panics
    ///
    /// If the buckets do not cover `target` in ascending order, without gaps.
    pub fn aggregate_all(
        &self,
        buckets: &[Range<usize>],
        frames: &[BucketFrames<'_>],
        target: &mut [f32],
    ) -> Result<(), AggregateError> {
        self.for_each(buckets, frames, target, |decoder, frames, range, target| {
            aggregate(decoder, frames, range, target)
        })
    }

    /// Adds one member's frames, weighted, to `target`: [`Decoder::accumulate`] for each bucket.
    ///
    /// # Errors
    ///
    /// If any frame cannot be added: the first of them. Others may have been.
    ///
    /// # Panics
    ///
    /// If the buckets do not cover `target` in ascending order, without gaps.
    pub fn accumulate_all(
        &self,
        buckets: &[Range<usize>],
        frames: &[(FrameId, &[u8])],
        weight: f32,
        target: &mut [f32],
    ) -> Result<(), AggregateError> {
        self.for_each(
            buckets,
            frames,
            target,
            |decoder, (id, frame), range, target| {
                let done = decoder.accumulate(frame, *id, range, weight, target);
                done.map_err(|source| AggregateError::Frame { id: *id, source })
            },
        )
    }

    fn for_each<F: Sync>(
        &self,
        buckets: &[Range<usize>],
        frames: &[F],
        target: &mut [f32],
        work: impl Fn(&mut Decoder, &F, Range<usize>, &mut [f32]) -> Result<(), AggregateError> + Sync,
    ) -> Result<(), AggregateError> {
        assert_eq!(buckets.len(), frames.len(), "frames for each bucket");
        assert!(cover(buckets, target.len()), "buckets cover the target");
        self.halve(buckets, frames, target, &work)
    }

    /// One half beside the other, down to single buckets: without a list of what there is to do.
    fn halve<F: Sync>(
        &self,
        buckets: &[Range<usize>],
        frames: &[F],
        target: &mut [f32],
        work: &(
             impl Fn(&mut Decoder, &F, Range<usize>, &mut [f32]) -> Result<(), AggregateError> + Sync
         ),
    ) -> Result<(), AggregateError> {
        if let ([bucket], [frames]) = (buckets, frames) {
            let idle = self.idle().pop();
            let mut decoder = idle.unwrap_or_else(|| self.prototype.clone());
            let done = work(&mut decoder, frames, bucket.clone(), target);
            self.idle().push(decoder);
            return done;
        }
        if buckets.is_empty() {
            return Ok(());
        }
        let middle = buckets.len() / 2;
        let (buckets, more_buckets) = buckets.split_at(middle);
        let (frames, more_frames) = frames.split_at(middle);
        let (target, more_target) = target.split_at_mut(elements(buckets));
        let (done, more_done) = rayon::join(
            || self.halve(buckets, frames, target, work),
            || self.halve(more_buckets, more_frames, more_target, work),
        );
        done.and(more_done)
    }

    /// Decoders that no thread has.
    fn idle(&self) -> MutexGuard<'_, Vec<Decoder>> {
        self.decoders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many there are in the buckets.
fn elements(buckets: &[Range<usize>]) -> usize {
    buckets.iter().map(ExactSizeIterator::len).sum()
}
