//! Error feedback: what quantization lost is added to the next gradients.

use crate::norm::sum_of_squares;
use crate::quantizer::fits_single;
use crate::simd::{Simd, kernel};

/// The gains of ECQ-SGD's error feedback.
///
/// v = g + αh is quantized to q, and h ← (β − α)h + (v − q), which is the paper's
/// h ← βh + (g − q). α weighs the past, β forgets it. α = β = 1 is classic error feedback
/// (Seide et al. 2014; Karimireddy et al. 2019), α = 0 is plain quantization.
///
/// With ω the relative variance E‖q − v‖²/‖v‖² of an unbiased quantizer, ‖h‖ stays bounded only if
/// λ = (β − α)² + α²ω < 1, and then E‖h‖² = ω‖g‖²/(1 − λ) for white gradients. α = β = 1 therefore
/// needs ω < 1: ℓ∞ with s = 1, or ℓ2 with s below about 0.42·√bucket, diverge unless they are
/// guarded. α = β/(1 + ω) is the best choice and always stable. Quantizers that are not unbiased but
/// contract (‖v − q‖ < ‖v‖: nearest rounding, signs, selections) are stable with α = β = 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// Weight of the residual in what is quantized, 0 to 1.
    pub alpha: f32,
    /// Memory of the residual, 0 to 1; below 1 some of the error is forgotten for good.
    pub beta: f32,
    /// Whether α is bounded where the measured ω makes λ exceed [`LAMBDA_MAX`].
    pub guard: bool,
}

/// The guard lets no λ exceed this, where α can prevent it.
pub const LAMBDA_MAX: f64 = 0.9;

impl Gains {
    /// No feedback.
    pub(crate) const NONE: Self = Self {
        alpha: 0.0,
        beta: 0.0,
        guard: false,
    };

    /// λ = (β − α)² + α²ω: the factor by which the residual's energy changes in a step.
    pub fn lambda(self, omega: f64) -> f64 {
        let (alpha, beta) = (f64::from(self.alpha), f64::from(self.beta));
        (beta - alpha) * (beta - alpha) + alpha * alpha * omega
    }
}

/// The run-time guard: measures ω̂ of a bucket's frames and bounds α by it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    /// ‖v − q‖² and ‖v‖² of past frames, each half as much as the one after it.
    error: f64,
    input: f64,
}

impl Guard {
    /// The decayed sums of ‖v − q‖² and ‖v‖².
    pub(crate) fn measures(&self) -> [f64; 2] {
        [self.error, self.input]
    }

    pub(crate) fn resume(&mut self, [error, input]: [f64; 2]) {
        (self.error, self.input) = (error, input);
    }

    /// The gains for the next frame, and whether they had to be bounded.
    pub(crate) fn bound(&self, gains: Gains) -> (Gains, bool) {
        if !gains.guard || self.input <= 0.0 {
            return (gains, false);
        }
        let omega = self.error / self.input;
        let best = f64::from(gains.beta) / (1.0 + omega);
        if gains.lambda(omega) <= LAMBDA_MAX || best >= f64::from(gains.alpha) {
            return (gains, false);
        }
        let alpha = best as f32;
        (Gains { alpha, ..gains }, true)
    }

    /// Takes in a frame's measures.
    pub(crate) fn observe(&mut self, error: f64, input: f64) {
        let (error, input) = (self.error / 2.0 + error, self.input / 2.0 + input);
        if error.is_finite() && input.is_finite() {
            (self.error, self.input) = (error, input);
        }
    }
}

/// No gradient has a larger magnitude: a group with one holds numbers that cannot be trusted, like one with a NaN. Up to
/// here whatever is computed of a group (norms, levels, factors) stays finite. 2^100.
const LARGEST: f32 = 1.267_650_6e30;

/// A residual that grows beyond ends here: it would else leave no room for the next gradient's groups
/// to be usable again. 2^99.
const RESIDUAL_MAX: f32 = LARGEST / 2.0;

/// h, or the bound that it outgrows.
#[inline(always)]
pub(crate) fn bounded(h: f32) -> f32 {
    h.clamp(-RESIDUAL_MAX, RESIDUAL_MAX)
}

/// The same for all of a residual.
pub(crate) fn bound_residual(residual: &mut [f32]) {
    residual.iter_mut().for_each(|h| *h = bounded(*h));
}

/// What is known of a group once v is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Compensated {
    /// Largest magnitude; NaN or infinity if there is one.
    pub(crate) largest: f32,
    /// ‖g‖².
    pub(crate) gradient: f64,
    /// ‖v‖².
    pub(crate) input: f64,
}

impl Compensated {
    /// Whether every v is a number that can be sent.
    pub(crate) fn is_usable(&self) -> bool {
        // Not so for a NaN.
        self.largest <= LARGEST
    }
}

/// Elements whose squares are added in single precision.
pub(crate) const RUN: usize = 4096;

/// v = g + αh, with the sums of squares in passing. Without a residual v = g.
pub(crate) fn compensate(
    simd: Simd,
    alpha: f32,
    gradient: &[f32],
    residual: Option<&[f32]>,
    values: &mut [f32],
) -> Compensated {
    let mut whole = Compensated::default();
    let mut largest = 0;
    for start in (0..gradient.len()).step_by(RUN) {
        let run = start..(start + RUN).min(gradient.len());
        let (gradient, values) = (&gradient[run.clone()], &mut values[run.clone()]);
        let (bits, sums) = match residual {
            Some(residual) => compensate_run(simd, alpha, gradient, &residual[run], values),
            None => {
                values.copy_from_slice(gradient);
                measure_run(simd, gradient)
            }
        };
        // Magnitudes order like their bits, NaN last.
        largest = largest.max(bits);
        // Where squares leave single precision, once more in double.
        let or = |sum: f32, of: &[f32]| {
            if fits_single(sum) || bits == 0 {
                f64::from(sum)
            } else {
                sum_of_squares(simd, of)
            }
        };
        whole.gradient += or(sums[0], gradient);
        whole.input += or(sums[1], values);
    }
    whole.largest = f32::from_bits(largest);
    whole
}

kernel! {
    fn compensate_run(
        alpha: f32,
        gradient: &[f32],
        residual: &[f32],
        values: &mut [f32],
    ) -> (u32, [f32; 2]) {
        let (mut largest, mut gradients, mut inputs) = ([0; 16], [0.0; 16], [0.0; 16]);
        let (gs, g_rest) = gradient.as_chunks::<16>();
        let (hs, h_rest) = residual.as_chunks::<16>();
        let (vs, v_rest) = values.as_chunks_mut::<16>();
        for ((g, h), v) in gs.iter().zip(hs).zip(vs) {
            for i in 0..16 {
                v[i] = g[i] + alpha * h[i];
                gradients[i] += g[i] * g[i];
                inputs[i] += v[i] * v[i];
                largest[i] = largest[i].max((v[i].to_bits() & 0x7fff_ffff) as i32);
            }
        }
        for (i, ((g, h), v)) in g_rest.iter().zip(h_rest).zip(v_rest).enumerate() {
            *v = *g + alpha * *h;
            gradients[i] += *g * *g;
            inputs[i] += *v * *v;
            largest[i] = largest[i].max((v.to_bits() & 0x7fff_ffff) as i32);
        }
        let largest = largest.into_iter().fold(0, i32::max) as u32;
        (largest, [add_lanes(gradients), add_lanes(inputs)])
    }
}

kernel! {
    fn measure_run(gradient: &[f32]) -> (u32, [f32; 2]) {
        let (mut largest, mut squares) = ([0; 16], [0.0; 16]);
        let (gs, rest) = gradient.as_chunks::<16>();
        for g in gs {
            for i in 0..16 {
                squares[i] += g[i] * g[i];
                largest[i] = largest[i].max((g[i].to_bits() & 0x7fff_ffff) as i32);
            }
        }
        for (i, g) in rest.iter().enumerate() {
            squares[i] += *g * *g;
            largest[i] = largest[i].max((g.to_bits() & 0x7fff_ffff) as i32);
        }
        let squares = add_lanes(squares);
        (largest.into_iter().fold(0, i32::max) as u32, [squares; 2])
    }
}

/// Σ of lanes, neighbours last: one order of additions on every path.
#[inline(always)]
pub(crate) fn add_lanes(mut lanes: [f32; 16]) -> f32 {
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}
