//! Buckets of codecs without symbols: casts and low-rank factors.

use super::bucket::{Bucket, Common, Scratch};
use crate::cast::Cast;
use crate::feedback::{Gains, bound_residual, bounded};
use crate::frame::Settings;
use crate::lowrank::{Factors, Shape, accumulate, factorise};
use crate::norm::sum_of_squares;
use crate::simd::kernel;
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
            let usable = known.is_usable();
            if usable {
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
                    if !(Factors { p, q }).are_finite(simd, shape) {
                        p.fill(0.0);
                        q.fill(0.0);
                    }
                    frame.extend(p.iter().chain(&*q).flat_map(|x| x.to_le_bytes()));
                    accumulate(simd, shape, &Factors { p, q }, -1.0, values);
                }
            }
            if usable {
                stats.error_squared += sum_of_squares(simd, values);
                let carry = gains.beta - gains.alpha;
                let residual = self.residual.get_mut(within).unwrap_or_default();
                for (h, error) in residual.iter_mut().zip(&*values) {
                    *h = carry * *h + *error;
                }
                bound_residual(residual);
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
        let mut stats = FrameStats {
            number_bytes: (self.gradient.len() * cast.width()) as u64,
            ..FrameStats::default()
        };
        let carry = gains.beta - gains.alpha;
        let mut bytes = [0; 4 * RUN];
        for start in (0..self.gradient.len()).step_by(RUN) {
            let within = start..(start + RUN).min(self.gradient.len());
            let gradient = &self.gradient[within.clone()];
            let values = &mut scratch.values;
            let known = self.compensate(simd, gains, within.clone(), gradient, values);
            if known.largest.is_finite() {
                stats.gradient_norm_squared += known.gradient;
                stats.input_norm_squared += known.input;
            } else {
                stats.gradient_norm_squared += sum_of_finite_squares(gradient);
                stats.input_norm_squared += sum_of_finite_squares(values);
            }
            let bytes = &mut bytes[..cast.width() * values.len()];
            let nonfinite = cast.encode(simd, values, bytes);
            frame.extend_from_slice(bytes);
            let residual = self.residual.get_mut(within).unwrap_or_default();
            if nonfinite == 0 {
                carry_on(simd, carry, values, residual);
            } else {
                stats.nonfinite_groups += nonfinite;
                let mut residual = residual.iter_mut();
                for error in values.iter_mut() {
                    let h = residual.next();
                    if !error.is_finite() {
                        *error = 0.0;
                    } else if let Some(h) = h {
                        *h = kept(carry, *h, *error);
                    }
                }
            }
            stats.error_squared += sum_of_squares(simd, values);
            let residual = self.residual.get(start..start + values.len());
            stats.residual_norm_squared += sum_of_squares(simd, residual.unwrap_or_default());
        }
        stats
    }
}

/// Elements that are cast together: what is made of them stays near.
const RUN: usize = 1024;

/// What is kept of an element.
#[inline(always)]
fn kept(carry: f32, h: f32, error: f32) -> f32 {
    bounded(carry * h + error)
}

kernel! {
    /// h ← carry · h + error.
    fn carry_on(carry: f32, errors: &[f32], residual: &mut [f32]) {
        for (h, error) in residual.iter_mut().zip(errors) {
            *h = kept(carry, *h, *error);
        }
    }
}

/// Measures are numbers even where gradients are not.
fn sum_of_finite_squares(values: &[f32]) -> f64 {
    let finite = values.iter().filter(|value| value.is_finite());
    finite.map(|value| f64::from(*value).powi(2)).sum()
}
