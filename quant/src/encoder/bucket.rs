//! One bucket of a step: from gradient to frame.

use std::ops::Range;

use crate::coding::{self, Coding};
use crate::encoder::survey::{Fit, Measures};
use crate::feedback::{Compensated, Gains, Guard, compensate};
use crate::frame::{FrameId, Header, seal};
use crate::layout::{Layout, Part};
use crate::quantizer::Quantizer;
use crate::simd::Simd;
use crate::spec::{CodecMethod, CodecSpec};
use crate::stats::FrameStats;
use crate::values::Table;

/// What all buckets of an encoder have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) spec: CodecSpec,
    /// The spec's.
    pub(super) fingerprint: u32,
    pub(super) layout: Layout,
    pub(super) seed: u64,
    pub(super) simd: Simd,
}

/// What is remembered of a bucket from step to step, besides residual and velocity.
#[derive(Clone, Debug, Default)]
pub(super) struct BucketState {
    pub(super) guard: Guard,
    /// Warm starts of low-rank factors, one for each part of a tensor.
    pub(super) factors: Vec<Vec<f32>>,
}

/// Memory that is kept from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// v of the group under way.
    pub(super) values: Vec<f32>,
    /// Takes the error where there is no residual.
    pub(super) spare: Vec<f32>,
    /// What the velocity becomes, if the group is finite.
    pub(super) velocity: Vec<f32>,
    pub(super) symbols: Vec<u8>,
    pub(super) extras: Vec<u8>,
    pub(super) selection: Vec<u32>,
    /// Symbols of a stream whose parts are not neighbours.
    pub(super) gathered: Vec<u8>,
    /// The residual before a frame that may be too large.
    pub(super) before: Vec<f32>,
    pub(super) factor: Vec<f32>,
    pub(super) table: Table,
    pub(super) coder: coding::Scratch,
    /// Where books are fitted.
    pub(super) fit: Option<Box<Fit>>,
}

/// A bucket on its way into a frame.
pub(super) struct Bucket<'a> {
    pub(super) id: FrameId,
    pub(super) samples: u32,
    pub(super) range: Range<usize>,
    pub(super) gradient: &'a [f32],
    /// Empty without error feedback.
    pub(super) residual: &'a mut [f32],
    /// Empty without momentum correction.
    pub(super) velocity: &'a mut [f32],
    pub(super) state: &'a mut BucketState,
}

/// How the groups of a frame are quantized.
pub(super) struct Plan {
    /// The frame's quantizer, as the receiver knows it.
    pub(super) frame: Quantizer,
    /// Those that a budget chose.
    pub(super) streams: Option<Streams>,
    pub(super) bucket: usize,
    pub(super) coding: Coding,
}

/// Quantizers of the parts of tensors in a frame; parts with the same one share a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Streams {
    /// At least one; at most 255.
    pub(super) quantizers: Vec<Quantizer>,
    /// Which of them a part has.
    pub(super) of_parts: Vec<u8>,
}

impl Plan {
    /// Of a part.
    pub(super) fn quantizer(&self, part: usize) -> &Quantizer {
        let stream = self.streams.as_ref().and_then(|streams| {
            let index = streams.of_parts.get(part)?;
            streams.quantizers.get(usize::from(*index))
        });
        stream.unwrap_or(&self.frame)
    }
}

impl Bucket<'_> {
    /// Replaces `frame`.
    pub(super) fn encode(
        mut self,
        common: &Common,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) -> FrameStats {
        frame.clear();
        Header {
            codec: common.spec.number(),
            id: self.id,
            samples: self.samples,
            elements: u32::try_from(self.range.len())
                .expect("a bucket has less than 2^32 elements"),
        }
        .write(frame);
        let (gains, guarded) = match common.spec.gains() {
            Some(gains) if common.spec.is_unbiased() => self.state.guard.bound(gains),
            Some(gains) => (gains, false),
            None => (Gains::NONE, false),
        };
        let mut stats = match common.spec.method() {
            CodecMethod::Cast(cast) => self.cast(*cast, common, gains, scratch, frame),
            CodecMethod::Quantized {
                quantizer,
                bucket,
                coding,
                budget,
            } => {
                let mut plan = Plan {
                    frame: quantizer.clone(),
                    streams: None,
                    bucket: *bucket,
                    coding: *coding,
                };
                match budget {
                    Some(budget) => {
                        self.quantize_within(budget, plan, common, gains, scratch, frame)
                    }
                    None => {
                        self.fit(&mut plan, common, gains, scratch);
                        self.quantize(&plan, common, gains, scratch, frame)
                    }
                }
            }
            CodecMethod::LowRank { rank } => self.factorise(*rank, common, gains, scratch, frame),
        };
        seal(frame);
        self.state
            .guard
            .observe(stats.error_squared, stats.input_norm_squared);
        stats.elements = self.range.len() as u64;
        stats.frame_bytes = frame.len() as u64;
        stats.guarded_frames = u64::from(guarded);
        if self.residual.is_empty() {
            stats.residual_norm_squared = 0.0;
        }
        stats
    }

    /// v = g + αh of some elements of the bucket, or their gradient where there is no feedback.
    pub(super) fn compensate(
        &self,
        simd: Simd,
        gains: Gains,
        within: Range<usize>,
        gradient: &[f32],
        values: &mut Vec<f32>,
    ) -> Compensated {
        values.resize(within.len(), 0.0);
        let residual = self.residual.get(within);
        compensate(simd, gains.alpha, gradient, residual, values)
    }

    /// Fits a book to the bucket's values, if it is one to be fitted.
    fn fit(&self, plan: &mut Plan, common: &Common, gains: Gains, scratch: &mut Scratch) {
        let Quantizer::Book(book) = &plan.frame else {
            return;
        };
        if !book.is_fitted() {
            return;
        }
        let mut fit = scratch.fit.take().unwrap_or_default();
        let fitted = fit.fit(book, |measures| {
            for part in common.layout.parts(self.range.clone()) {
                self.measure(&part, plan, common, gains, scratch, measures);
            }
        });
        plan.frame = Quantizer::Book(fitted);
        scratch.fit = Some(fit);
    }

    /// Takes in the groups of a part.
    pub(super) fn measure(
        &self,
        part: &Part,
        plan: &Plan,
        common: &Common,
        gains: Gains,
        scratch: &mut Scratch,
        measures: &mut Measures,
    ) {
        for group in part.groups(plan.bucket) {
            let within = group.start - self.range.start..group.end - self.range.start;
            let gradient = &self.gradient[within.clone()];
            let values = &mut scratch.values;
            let known = self.compensate(common.simd, gains, within, gradient, values);
            if known.is_usable() {
                measures.take(plan, common.simd, values, known.largest);
            }
        }
    }
}
