//! One bucket of a step: from gradient to frame.

use std::ops::Range;

use crate::cast::Cast;
use crate::coding::{self, Coding};
use crate::encoder::survey;
use crate::feedback::{Compensated, Gains, Guard, RUN, compensate};
use crate::frame::{FrameId, Header, STREAM_BYTES, Settings, Stream, seal};
use crate::layout::{Layout, Part};
use crate::lowrank::{Factors, Shape, accumulate, factorise};
use crate::norm::sum_of_squares;
use crate::quantizer::uniform::take_dithered;
use crate::quantizer::{Group, Parameters, Quantizer, Remembered};
use crate::rounding::Rounding;
use crate::simd::Simd;
use crate::spec::{Budget, CodecMethod, CodecSpec};
use crate::stats::FrameStats;
use crate::values::{Remember, Table, remember, sum_of_errors};

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
    guard: Guard,
    /// Warm starts of low-rank factors, one for each part of a tensor.
    factors: Vec<Vec<f32>>,
}

/// Memory that is kept from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// v of the group under way.
    values: Vec<f32>,
    /// Takes the error where there is no residual.
    spare: Vec<f32>,
    /// What the velocity becomes, if the group is finite.
    velocity: Vec<f32>,
    symbols: Vec<u8>,
    extras: Vec<u8>,
    selection: Vec<u32>,
    factor: Vec<f32>,
    table: Table,
    coder: coding::Scratch,
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
    fn compensate(
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

    fn quantize(
        &mut self,
        plan: &Plan<'_>,
        common: &Common,
        gains: Gains,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) -> FrameStats {
        let settings_at = frame.len();
        let mut settings = Settings::of(common.fingerprint);
        settings.append(frame);
        if let Quantizer::Book(book) = &plan.frame {
            book.write(frame);
        }
        let scales_at = frame.len();
        scratch.symbols.resize(self.range.len(), 0);
        scratch.extras.clear();
        if let Some((_, extra)) = plan.frame.escape() {
            scratch
                .extras
                .reserve(extra.width() * (self.range.len() / 32 + 64));
        }
        let rounding = Rounding::new(common.seed, self.id);
        let mut stats = FrameStats::default();
        for (i, part) in common.layout.parts(self.range.clone()).enumerate() {
            let quantizer = plan.parts.get(i).unwrap_or(&plan.frame);
            for group in part.groups(plan.bucket) {
                let within = group.start - self.range.start..group.end - self.range.start;
                self.quantize_group(
                    quantizer, common, gains, rounding, within, scratch, frame, &mut stats,
                );
            }
        }
        stats.scale_bytes = (frame.len() - scales_at) as u64;
        if let Some((_, extra)) = plan.frame.escape() {
            // Invariant: there are fewer than elements.
            let count = (scratch.extras.len() / extra.width()) as u32;
            frame.extend_from_slice(&count.to_le_bytes());
            frame.extend_from_slice(&scratch.extras);
            stats.number_bytes = scratch.extras.len() as u64;
        }
        let (coder, symbols) = (&mut scratch.coder, &scratch.symbols);
        if plan.budget.is_some() {
            // What was given different levels is differently distributed: a stream each.
            for (part, quantizer) in common.layout.parts(self.range.clone()).zip(&plan.parts) {
                let within = part.range.start - self.range.start..part.range.end - self.range.start;
                let at = frame.len();
                frame.extend_from_slice(&[0; STREAM_BYTES]);
                let alphabet = quantizer.alphabet();
                let symbols = &symbols[within];
                let coded = plan
                    .coding
                    .encode(common.simd, coder, alphabet, symbols, frame);
                let stream = Stream {
                    levels: match quantizer {
                        Quantizer::Uniform(q) => q.levels,
                        _ => 0,
                    },
                    coding: coded as u8,
                    // Invariant: a bucket has less than 2^32 elements, of which none takes 8 bytes.
                    bytes: (frame.len() - at - STREAM_BYTES) as u32,
                };
                stream.write(&mut frame[at..]);
            }
        } else if !plan.frame.is_drawn() {
            let alphabet = plan.frame.alphabet();
            let coded = plan
                .coding
                .encode(common.simd, coder, alphabet, symbols, frame);
            settings.coding = coded as u8;
        }
        settings.write(&mut frame[settings_at..]);
        stats
    }

    /// Appends a group's parameters, sets its symbols, updates its residual.
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of what one frame needs"
    )]
    fn quantize_group(
        &mut self,
        quantizer: &Quantizer,
        common: &Common,
        gains: Gains,
        rounding: Rounding,
        within: Range<usize>,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
        stats: &mut FrameStats,
    ) {
        let simd = common.simd;
        let momentum = common.spec.momentum();
        let gradient = &self.gradient[within.clone()];
        if !self.velocity.is_empty() {
            scratch.velocity.clear();
            let velocity = &self.velocity[within.clone()];
            scratch
                .velocity
                .extend(velocity.iter().zip(gradient).map(|(u, g)| momentum * u + g));
        }
        let gradient = if self.velocity.is_empty() {
            gradient
        } else {
            &scratch.velocity
        };
        let known = self.compensate(simd, gains, within.clone(), gradient, &mut scratch.values);
        let finite = known.largest.is_finite();
        if finite {
            stats.gradient_norm_squared += known.gradient;
            stats.input_norm_squared += known.input;
        } else {
            // Nothing of such a group can be trusted: zeros are sent, its residual stays as it was.
            stats.nonfinite_groups += 1;
            scratch.values.fill(0.0);
        }
        let zero = quantizer.alphabet().zero;
        let next = (within.end + within.len().min(RUN)).min(self.gradient.len());
        let (until, after) = self
            .residual
            .split_at_mut(within.end.min(self.residual.len()));
        let ahead = [
            &self.gradient[within.end..next],
            after.get(..next - within.end).unwrap_or_default(),
        ];
        let residual = match until.get_mut(within.clone()) {
            Some(residual) if finite => residual,
            _ => {
                scratch.spare.resize(within.len(), 0.0);
                &mut scratch.spare[..within.len()]
            }
        };
        let mut group = Group {
            simd,
            values: &mut scratch.values,
            largest: if finite { known.largest } else { 0.0 },
            symbols: &mut scratch.symbols[within.clone()],
            // Invariant: an element's place in its frame is below the frame's length, a u32.
            first: within.start as u32,
            rounding,
            extras: &mut scratch.extras,
            selection: &mut scratch.selection,
            energy: if finite { known.input } else { 0.0 },
            ahead,
            residual,
            carry: gains.beta - gains.alpha,
            remembered: None,
        };
        let parameters = quantizer.quantize(&mut group).unwrap_or_else(|| {
            group.symbols.fill(zero);
            [0.0; 2]
        });
        for parameter in &parameters[..quantizer.parameters()] {
            frame.extend_from_slice(&parameter.to_le_bytes());
        }
        if !finite {
            return;
        }
        let remembered = match group.remembered {
            Some(remembered) => remembered,
            None => remember_group(quantizer, parameters, &mut group, &mut scratch.table),
        };
        if remembered.inexact {
            quantizer.meaning(parameters, &mut scratch.table);
            if quantizer.is_dithered() {
                scratch.table = Table::default();
            }
            stats.error_squared += sum_of_errors(&scratch.table, group.symbols, group.values);
            keep_finite(group.residual);
            stats.residual_norm_squared += sum_of_squares(simd, group.residual);
        } else {
            stats.error_squared += remembered.error;
            stats.residual_norm_squared += remembered.residual;
        }
        // Momentum factor masking: what was sent begins anew.
        let velocity = self
            .velocity
            .get_mut(within.clone())
            .unwrap_or_default()
            .iter_mut();
        for ((u, next), symbol) in velocity
            .zip(&scratch.velocity)
            .zip(&scratch.symbols[within])
        {
            *u = if *symbol == zero { *next } else { 0.0 };
        }
    }

    fn factorise(
        &mut self,
        rank: usize,
        common: &Common,
        gains: Gains,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) -> FrameStats {
        let simd = common.simd;
        let mut stats = FrameStats::default();
        Settings::of(common.fingerprint).append(frame);
        let numbers_at = frame.len();
        let parts = common.layout.parts(self.range.clone()).count();
        self.state.factors.resize(parts, Vec::new());
        for (index, part) in common.layout.parts(self.range.clone()).enumerate() {
            let within = part.range.start - self.range.start..part.range.end - self.range.start;
            let gradient = &self.gradient[within.clone()];
            let values = &mut scratch.values;
            let known = self.compensate(simd, gains, within.clone(), gradient, values);
            let finite = known.largest.is_finite();
            if finite {
                stats.gradient_norm_squared += known.gradient;
                stats.input_norm_squared += known.input;
            } else {
                stats.nonfinite_groups += 1;
                values.fill(0.0);
            }
            match Shape::plan(part.range.len(), part.columns, rank) {
                None => {
                    frame.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                    values.fill(0.0);
                }
                Some(shape) => {
                    let (p, q) = (&mut scratch.factor, &mut self.state.factors[index]);
                    p.resize(shape.rank * shape.rows, 0.0);
                    q.resize(shape.rank * shape.columns, 0.0);
                    // Invariant: a layout has less than 2^32 tensors.
                    let tensor = part.tensor as u32;
                    factorise(simd, common.seed, tensor, shape, values, p, q);
                    if known.largest > LARGEST || !(Factors { p, q }).are_finite(simd, shape) {
                        p.fill(0.0);
                        q.fill(0.0);
                    }
                    frame.extend(p.iter().chain(&*q).flat_map(|x| x.to_le_bytes()));
                    accumulate(simd, shape, &Factors { p, q }, -1.0, values);
                }
            }
            if finite {
                stats.error_squared += sum_of_squares(simd, values);
                let carry = gains.beta - gains.alpha;
                let residual = self.residual.get_mut(within).unwrap_or_default();
                for (h, error) in residual.iter_mut().zip(&*values) {
                    *h = carry * *h + *error;
                }
                keep_finite(residual);
            }
        }
        stats.number_bytes = (frame.len() - numbers_at) as u64;
        stats.residual_norm_squared = sum_of_squares(simd, self.residual);
        stats
    }

    fn cast(
        &mut self,
        cast: Cast,
        common: &Common,
        gains: Gains,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) -> FrameStats {
        let simd = common.simd;
        let whole = 0..self.gradient.len();
        self.compensate(simd, gains, whole, self.gradient, &mut scratch.values);
        let values = &mut scratch.values;
        let mut stats = FrameStats {
            gradient_norm_squared: finite(sum_of_squares(simd, self.gradient)),
            input_norm_squared: finite(sum_of_squares(simd, values)),
            ..FrameStats::default()
        };
        stats.nonfinite_groups = cast.encode(simd, values, frame);
        stats.number_bytes = (values.len() * cast.width()) as u64;
        let carry = gains.beta - gains.alpha;
        if stats.nonfinite_groups > 0 || !self.residual.is_empty() {
            let mut residual = self.residual.iter_mut();
            for error in values.iter_mut() {
                let h = residual.next();
                if !error.is_finite() {
                    *error = 0.0;
                } else if let Some(h) = h {
                    *h = carry * *h + *error;
                }
            }
        }
        keep_finite(self.residual);
        stats.error_squared = sum_of_squares(simd, values);
        stats.residual_norm_squared = sum_of_squares(simd, self.residual);
        stats
    }
}

/// h ← (β − α)h + (v − q) for a group whose symbols are known.
fn remember_group(
    quantizer: &Quantizer,
    parameters: Parameters,
    group: &mut Group<'_>,
    table: &mut Table,
) -> Remembered {
    let alphabet = quantizer.alphabet();
    quantizer.meaning(parameters, table);
    if quantizer.is_dithered() {
        let (unit, zero) = (parameters[0], i32::from(alphabet.zero));
        let Group {
            simd,
            rounding,
            first,
            ..
        } = *group;
        take_dithered(
            simd,
            unit,
            zero,
            rounding,
            first,
            group.symbols,
            group.values,
        );
        *table = Table::default();
    }
    let mut remembered = Remembered::default();
    let runs = group.values.chunks(RUN).zip(group.symbols.chunks(RUN));
    for ((values, symbols), residual) in runs.zip(group.residual.chunks_mut(RUN)) {
        let given = Remember {
            alphabet: alphabet.size,
            table,
            carry: group.carry,
            values,
            symbols,
        };
        remembered.add(remember(group.simd, &given, residual));
    }
    remembered
}

/// Matrices with larger elements are sent as zeros, since their errors need not be finite. 2^125.
const LARGEST: f32 = 4.253_53e37;

/// A residual that outgrows the floats stays at their end: infinity would never leave it again.
fn keep_finite(residual: &mut [f32]) {
    residual
        .iter_mut()
        .for_each(|h| *h = h.clamp(-f32::MAX, f32::MAX));
}

/// Measures are numbers even where gradients are not.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}
