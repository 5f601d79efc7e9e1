//! The last frame of a member that leaves: everything that it has computed and not sent.

use std::ops::Range;

use super::{Encoder, part_of};
use crate::cast::Cast;
use crate::frame::{FrameId, Header, seal};
use crate::norm::sum_of_squares;
use crate::stats::FrameStats;

impl Encoder {
    /// Replaces `frame` by g + h of the bucket `range`, whole, as a frame of fp32, which decoders of every
    /// codec take. Afterwards h is zero there, whatever α and β are; so is the velocity of a
    /// codec that corrects for momentum, which sends mu + g + h. Elements of the gradient that are not finite
    /// count as zeros: what was computed before them is sent all the same.
    ///
    /// # Panics
    ///
    /// If `gradient` does not have the length of `range`, or `range` reaches beyond the layout.
    pub fn flush(
        &mut self,
        id: FrameId,
        samples: u32,
        range: Range<usize>,
        gradient: &[f32],
        frame: &mut Vec<u8>,
    ) -> FrameStats {
        self.expect_bucket(&range, gradient);
        let (simd, momentum) = (self.common.simd, self.common.spec.momentum());
        let finite = |g: &f32| if g.is_finite() { *g } else { 0.0 };
        let mut values: Vec<f32> = gradient.iter().map(finite).collect();
        let mut stats = FrameStats {
            elements: range.len() as u64,
            gradient_norm_squared: sum_of_squares(simd, &values),
            nonfinite_groups: gradient.iter().filter(|g| !g.is_finite()).count() as u64,
            ..FrameStats::default()
        };
        let velocity = part_of(&mut self.velocity, range.clone());
        for (v, u) in values.iter_mut().zip(&mut *velocity) {
            *v += momentum * *u;
        }
        velocity.fill(0.0);
        let residual = part_of(&mut self.residual, range);
        for (v, h) in values.iter_mut().zip(&mut *residual) {
            *v = (*v + *h).clamp(-f32::MAX, f32::MAX);
        }
        residual.fill(0.0);
        stats.input_norm_squared = sum_of_squares(simd, &values);
        frame.clear();
        Header {
            codec: Cast::FLUSH,
            id,
            samples,
            // Invariant: a bucket has less than 2^32 elements.
            elements: values.len() as u32,
        }
        .write(frame);
        frame.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        seal(frame);
        stats.frame_bytes = frame.len() as u64;
        stats.number_bytes = 4 * stats.elements;
        stats
    }
}
