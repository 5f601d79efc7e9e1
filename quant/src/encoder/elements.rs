//! Buckets of codecs without symbols: casts and low-rank factors.

use super::bucket::{Bucket, Common, Scratch, keep_finite};
use crate::cast::Cast;
use crate::feedback::Gains;
use crate::frame::Settings;
use crate::lowrank::{Factors, Shape, accumulate, factorise};
use crate::norm::sum_of_squares;
use crate::stats::FrameStats;

impl Bucket<'_> {
    /// Appends the factors of each matrix, and the elements of all else.
    pub(super) fn factorise(
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

    /// Appends the elements.
    pub(super) fn cast(
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

/// Matrices with larger elements are sent as zeros, since their errors need not be finite. 2^125.
const LARGEST: f32 = 4.253_53e37;

/// Measures are numbers even where gradients are not.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}
