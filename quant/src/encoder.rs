//! A member's sending side.

use std::ops::Range;

use crate::cast::Cast;
use crate::feedback::Feedback;
use crate::frame::{FrameId, HEADER_BYTES, Header, seal};
use crate::layout::Layout;
use crate::norm::{Norm, Scale, sum_of_squares};
use crate::rounding::Rounding;
use crate::spec::CodecSpec;
use crate::stats::FrameStats;
use crate::uniform::Uniform;

/// Turns a member's gradients into frames and remembers what that lost.
#[derive(Clone, Debug)]
pub struct Encoder {
    spec: CodecSpec,
    layout: Layout,
    seed: u64,
    feedback: Option<Feedback>,
    /// v of the group or bucket under way, then its error v − q.
    values: Vec<f32>,
    symbols: Vec<u8>,
}

impl Encoder {
    /// An encoder with an empty residual; `seed` is the run's.
    pub fn new(spec: &CodecSpec, layout: &Layout, seed: u64) -> Self {
        Self {
            spec: *spec,
            layout: layout.clone(),
            seed,
            feedback: spec
                .gains()
                .map(|gains| Feedback::new(gains, layout.elements())),
            values: Vec::new(),
            symbols: Vec::new(),
        }
    }

    /// The residual h over the flat vector; empty without error feedback.
    pub fn residual(&self) -> &[f32] {
        self.feedback
            .as_ref()
            .map_or(&[], |feedback| &feedback.residual)
    }

    /// Replaces `frame` by the encoded gradient of the bucket `range`, and updates the residual
    /// there. `samples` is the size of the mini-batch behind the gradient.
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
        assert_eq!(
            gradient.len(),
            range.len(),
            "the gradient is that of the bucket"
        );
        assert!(
            range.end <= self.layout.elements(),
            "the bucket lies in the layout"
        );
        let elements = u32::try_from(range.len()).expect("a bucket has less than 2^32 elements");
        frame.clear();
        Header {
            codec: self.spec.number(),
            id,
            samples,
            elements,
        }
        .write(frame);
        let mut stats = match self.spec.quantizer() {
            None => self.cast(self.spec.cast().unwrap_or(Cast::Fp32), gradient, frame),
            Some(quantizer) => self.quantize(quantizer, id, range.clone(), gradient, frame),
        };
        seal(frame);
        stats.elements = u64::from(elements);
        stats.frame_bytes = frame.len() as u64;
        stats.gradient_norm_squared = finite(sum_of_squares(gradient));
        stats.residual_norm_squared = self
            .feedback
            .as_ref()
            .map_or(0.0, |f| sum_of_squares(&f.residual[range]));
        stats
    }

    fn cast(&mut self, cast: Cast, gradient: &[f32], frame: &mut Vec<u8>) -> FrameStats {
        self.values.clear();
        self.values.extend_from_slice(gradient);
        let nonfinite_groups = cast.encode(&mut self.values, frame);
        FrameStats {
            input_norm_squared: finite(sum_of_squares(gradient)),
            error_squared: sum_of_squares(&self.values),
            nonfinite_groups,
            ..FrameStats::default()
        }
    }

    fn quantize(
        &mut self,
        quantizer: Uniform,
        id: FrameId,
        range: Range<usize>,
        gradient: &[f32],
        frame: &mut Vec<u8>,
    ) -> FrameStats {
        let Self {
            spec: _,
            layout,
            seed,
            feedback,
            values,
            symbols,
        } = self;
        let rounding = Rounding::new(*seed, id);
        let mut stats = FrameStats::default();
        let settings_at = frame.len();
        let coding_at = settings_at + 2;
        frame.extend_from_slice(&[quantizer.levels, norm_number(quantizer.norm), 0, 0]);
        frame.extend_from_slice(&quantizer.bucket.to_le_bytes());
        debug_assert_eq!(frame.len(), HEADER_BYTES + SETTINGS_BYTES);
        symbols.clear();
        symbols.resize(range.len(), 0);
        for group in layout.groups(range.clone(), quantizer.bucket as usize) {
            let within = group.start - range.start..group.end - range.start;
            let gradient = &gradient[within.clone()];
            values.clear();
            values.extend_from_slice(gradient);
            if let Some(Feedback { gains, residual }) = feedback {
                gains.compensate(gradient, &residual[group.clone()], values);
            }
            let scale = quantizer.norm.scale(values);
            let symbols = &mut symbols[within.clone()];
            // Invariant: an element's place in its frame is below the frame's length, a u32.
            let first = within.start as u32;
            let energy = sum_of_squares(values);
            match scale {
                Scale::Normal(scale) => {
                    quantizer.quantize(scale, rounding, first, values, symbols);
                    frame.extend_from_slice(&scale.to_le_bytes());
                }
                Scale::Unusable | Scale::NonFinite => {
                    symbols.fill(quantizer.levels);
                    frame.extend_from_slice(&0.0_f32.to_le_bytes());
                }
            }
            if scale == Scale::NonFinite {
                // Nothing of such a group can be trusted: its residual stays as it was.
                stats.nonfinite_groups += 1;
                continue;
            }
            stats.input_norm_squared += energy;
            stats.error_squared += sum_of_squares(values);
            if let Some(Feedback { gains, residual }) = feedback {
                gains.remember(values, &mut residual[group]);
            }
        }
        let coded = quantizer
            .coding
            .encode(quantizer.alphabet(), symbols, frame);
        frame[coding_at] = coded as u8;
        stats
    }
}

/// Bytes of a quantizer's settings, after the header.
pub(crate) const SETTINGS_BYTES: usize = 8;

/// The norm's number in a frame.
pub(crate) fn norm_number(norm: Norm) -> u8 {
    match norm {
        Norm::Linf => 0,
        Norm::L2 => 1,
    }
}

/// Measures are numbers even where gradients are not.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}
