//! One bucket of a step: from gradient to frame.

use std::ops::Range;

use crate::coding::{self, Coding};
use crate::encoder::survey;
use crate::feedback::{Compensated, Gains, Guard, compensate};
use crate::frame::{FrameId, Header, seal};
use crate::layout::{Layout, Part};
use crate::quantizer::Quantizer;
use crate::simd::Simd;
use crate::spec::{Budget, CodecMethod, CodecSpec};
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
    pub(super) factor: Vec<f32>,
    pub(super) table: Table,
    pub(super) coder: coding::Scratch,
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
pub(super) struct Plan<'a> {
    /// The frame's quantizer, as the receiver knows it.
    pub(super) frame: Quantizer,
    /// Those of the parts of tensors in it, where they differ.
    pub(super) parts: Vec<Quantizer>,
    pub(super) bucket: usize,
    pub(super) coding: Coding,
    pub(super) budget: Option<&'a Budget>,
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
                    parts: Vec::new(),
                    bucket: *bucket,
                    coding: *coding,
                    budget: budget.as_ref(),
                };
                self.survey(&mut plan, common, gains, scratch);
                self.quantize(&plan, common, gains, scratch, frame)
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

    /// Fits what the plan leaves open to the bucket's values.
    fn survey(&self, plan: &mut Plan<'_>, common: &Common, gains: Gains, scratch: &mut Scratch) {
        if !survey::is_needed(plan) {
            return;
        }
        let parts: Vec<Part> = common.layout.parts(self.range.clone()).collect();
        let mut measured = Vec::with_capacity(parts.len());
        for part in &parts {
            let mut measures = survey::Measures::default();
            for group in part.groups(plan.bucket) {
                let within = group.start - self.range.start..group.end - self.range.start;
                let gradient = &self.gradient[within.clone()];
                let values = &mut scratch.values;
                let known = self.compensate(common.simd, gains, within, gradient, values);
                if known.largest.is_finite() {
                    measures.take(plan, common.simd, values, known.largest);
                }
            }
            measured.push(measures);
        }
        let tensors: Vec<usize> = parts.iter().map(|part| part.tensor).collect();
        survey::decide(plan, &tensors, &measured);
    }
}

/// A residual that outgrows the floats stays at their end: infinity would never leave it again.
pub(super) fn keep_finite(residual: &mut [f32]) {
    residual
        .iter_mut()
        .for_each(|h| *h = h.clamp(-f32::MAX, f32::MAX));
}
