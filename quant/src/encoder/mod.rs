//! The sending side.

mod bucket;
mod budget;
mod elements;
mod flush;
mod groups;
mod state;
mod survey;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;

use crate::feedback::bound_residual;
use crate::frame::FrameId;
use crate::layout::{Layout, cover};
use crate::simd::Simd;
use crate::spec::CodecSpec;
use crate::stats::FrameStats;
use bucket::{Bucket, BucketState, Common, Scratch};
pub use state::{ForeignMemory, Memory, Values};

/// Turns a member's gradients into frames and remembers what that lost.
#[derive(Debug)]
pub struct Encoder {
    common: Common,
    /// h over the flat vector; empty without error feedback. Nothing in it depends on how the vector
    /// is cut into buckets or groups.
    residual: Vec<f32>,
    /// Velocities, where the codec corrects for momentum.
    velocity: Vec<f32>,
    /// What is kept of each bucket: measures and warm starts, which a change of buckets may lose.
    buckets: BTreeMap<u32, BucketState>,
    /// One for each thread that has been encoding.
    scratch: Mutex<Vec<Scratch>>,
}

impl Clone for Encoder {
    fn clone(&self) -> Self {
        Self {
            common: self.common.clone(),
            residual: self.residual.clone(),
            velocity: self.velocity.clone(),
            buckets: self.buckets.clone(),
            scratch: Mutex::default(),
        }
    }

    /// Becomes what `source` is, in the memory that is here: how a step is made ready to be taken back.
    fn clone_from(&mut self, source: &Self) {
        self.common.clone_from(&source.common);
        self.residual.clone_from(&source.residual);
        self.velocity.clone_from(&source.velocity);
        self.buckets.clone_from(&source.buckets);
    }
}

impl Encoder {
    /// An encoder with an empty residual; `seed` is the run's.
    pub fn new(spec: &CodecSpec, layout: &Layout, seed: u64) -> Self {
        let zeros = |wanted: bool| vec![0.0; if wanted { layout.elements() } else { 0 }];
        Self {
            residual: zeros(spec.gains().is_some()),
            velocity: zeros(spec.momentum() > 0.0),
            buckets: BTreeMap::new(),
            scratch: Mutex::default(),
            common: Common {
                spec: spec.clone(),
                fingerprint: spec.fingerprint(),
                layout: layout.clone(),
                seed,
                simd: Simd::best(),
            },
        }
    }

    /// The same with these instructions; the frames are equal.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.common.simd = simd;
        self
    }

    /// The same with a residual from before, such as that of an encoder with other buckets. What of it is beyond
    /// 2^99 ends there.
    ///
    /// # Panics
    ///
    /// If it does not have the layout's length, or the codec has no error feedback.
    #[must_use]
    pub fn with_residual(mut self, residual: Vec<f32>) -> Self {
        assert_eq!(
            residual.len(),
            self.residual.len(),
            "a residual is as long as the flat vector"
        );
        self.residual = residual;
        bound_residual(&mut self.residual);
        self
    }

    /// The residual h over the flat vector; empty without error feedback.
    pub fn residual(&self) -> &[f32] {
        &self.residual
    }

    /// Takes back what was sent: `add` is given the residual, for h ← h + q with q as its receivers decode it. What
    /// is then beyond 2^99 ends there: it would make its group unusable for ever.
    pub fn take_back<T>(&mut self, add: impl FnOnce(&mut [f32]) -> T) -> T {
        let added = add(&mut self.residual);
        bound_residual(&mut self.residual);
        added
    }

    /// What callers promise of a bucket's gradient.
    fn expect_bucket(&self, range: &Range<usize>, gradient: &[f32]) {
        assert_eq!(
            gradient.len(),
            range.len(),
            "the gradient is that of the bucket"
        );
        assert!(
            range.end <= self.common.layout.elements(),
            "the bucket lies in the layout"
        );
    }

    /// Replaces `frame` by the encoded gradient of the bucket `range`, and updates the residual
    /// there. `samples` is the size of the mini-batch behind the gradient.
    ///
    /// In steady state nothing is allocated, but for `bits=`: how a budget is spent is planned anew for each
    /// frame, with a quarter of a megabyte for few tensors and some two for five hundred, which is as many as
    /// are told apart. In all that is up to 55 MB, one after the other.
    ///
    /// # Panics
    ///
    /// If `gradient` does not have the length of `range`, or `range` reaches beyond the layout.
    pub fn encode(
        &mut self,
        id: FrameId,
        samples: u32,
        range: Range<usize>,
        gradient: &[f32],
        frame: &mut Vec<u8>,
    ) -> FrameStats {
        self.expect_bucket(&range, gradient);
        let mut scratch = take(&self.scratch);
        let Self {
            common,
            residual,
            velocity,
            buckets,
            ..
        } = self;
        let bucket = Bucket {
            id,
            samples,
            residual: part_of(residual, range.clone()),
            velocity: part_of(velocity, range.clone()),
            range,
            gradient,
            state: buckets.entry(id.bucket).or_default(),
        };
        let stats = bucket.encode(common, &mut scratch, frame);
        give_back(&self.scratch, scratch);
        stats
    }

    /// Encodes all buckets of a step, on all threads of the current rayon pool: `frames` receives one
    /// frame each. The frames and the residual are those that [`Encoder::encode`] makes of them one
    /// after the other. Besides what these allocate there are two lists of the buckets, and what rayon needs to
    /// hand over work.
    ///
    /// # Panics
    ///
    /// If the buckets do not cover the flat vector in ascending order, without gaps, or `gradient` does not have
    /// its length.
    pub fn encode_all(
        &mut self,
        step: u64,
        rank: u32,
        samples: u32,
        buckets: &[Range<usize>],
        gradient: &[f32],
        frames: &mut Vec<Vec<u8>>,
    ) -> FrameStats {
        let elements = self.common.layout.elements();
        assert_eq!(gradient.len(), elements, "the gradient is the flat vector");
        assert!(cover(buckets, elements), "buckets cover the flat vector");
        frames.resize_with(buckets.len(), Vec::new);
        let mut rest = (gradient, &mut self.residual[..], &mut self.velocity[..]);
        for index in (0..).take(buckets.len()) {
            self.buckets.entry(index).or_default();
        }
        let states = self.buckets.iter_mut().take(buckets.len());
        let tasks: Vec<(Bucket<'_>, &mut Vec<u8>)> = buckets
            .iter()
            .zip(states)
            .zip(frames.iter_mut())
            .map(|((range, (index, state)), frame)| {
                let bucket = Bucket {
                    id: FrameId {
                        step,
                        rank,
                        bucket: *index,
                    },
                    samples,
                    gradient: rest
                        .0
                        .split_off(..range.len())
                        .expect("buckets fit the gradient"),
                    residual: next_of(&mut rest.1, range.len()),
                    velocity: next_of(&mut rest.2, range.len()),
                    range: range.clone(),
                    state,
                };
                (bucket, frame)
            })
            .collect();
        let (common, pool) = (&self.common, &self.scratch);
        let stats: Vec<FrameStats> = tasks
            .into_par_iter()
            .map(|(bucket, frame)| {
                let mut scratch = take(pool);
                let stats = bucket.encode(common, &mut scratch, frame);
                give_back(pool, scratch);
                stats
            })
            .collect();
        // In their order, so that rounding is the same for any number of threads.
        stats
            .into_iter()
            .fold(FrameStats::default(), |mut sum, stats| {
                sum += stats;
                sum
            })
    }
}

fn take(pool: &Mutex<Vec<Scratch>>) -> Scratch {
    let mut pool = pool
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    pool.pop().unwrap_or_default()
}

fn give_back(pool: &Mutex<Vec<Scratch>>, scratch: Scratch) {
    pool.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .push(scratch);
}

/// The part of a vector that may be empty as a whole.
fn part_of(vector: &mut [f32], range: Range<usize>) -> &mut [f32] {
    vector.get_mut(range).unwrap_or_default()
}

/// The next part, likewise.
fn next_of<'a>(rest: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
    rest.split_off_mut(..count).unwrap_or_default()
}
