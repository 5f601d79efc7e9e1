//! Error feedback: what quantization lost is added to the next gradients.

/// The gains of ECQ-SGD's error feedback.
///
/// v = g + αh is quantized to q, and h ← (β − α)h + (v − q), which is the paper's
/// h ← βh + (g − q). α weighs the past, β forgets it. α = β = 1 is classic error feedback
/// (Seide et al. 2014; Karimireddy et al. 2019), α = 0 is plain quantization.
///
/// With ω the quantizer's relative variance E‖q − v‖²/‖v‖², ‖h‖ stays bounded only if
/// λ = (β − α)² + α²ω < 1, and then E‖h‖² = ω‖g‖²/(1 − λ) for white gradients. α = β = 1 therefore
/// needs ω < 1: ℓ∞ with s = 1, or ℓ2 with s below about 0.42·√bucket, **diverge**. In general
/// α = β/(1 + ω) is the best choice and always stable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// Weight of the residual in what is quantized, 0 to 1.
    pub alpha: f32,
    /// Memory of the residual, 0 to 1; below 1 some of the error is forgotten for good.
    pub beta: f32,
}

/// A member's residual h over the whole flat vector.
#[derive(Clone, Debug)]
pub(crate) struct Feedback {
    pub(crate) gains: Gains,
    pub(crate) residual: Vec<f32>,
}

impl Feedback {
    pub(crate) fn new(gains: Gains, elements: usize) -> Self {
        Self {
            gains,
            residual: vec![0.0; elements],
        }
    }
}

impl Gains {
    /// v = g + αh.
    pub(crate) fn compensate(self, gradient: &[f32], residual: &[f32], values: &mut [f32]) {
        for ((v, g), h) in values.iter_mut().zip(gradient).zip(residual) {
            *v = *g + self.alpha * *h;
        }
    }

    /// h ← (β − α)h + (v − q), given the error v − q.
    pub(crate) fn remember(self, error: &[f32], residual: &mut [f32]) {
        let carry = self.beta - self.alpha;
        for (h, e) in residual.iter_mut().zip(error) {
            *h = carry * *h + *e;
        }
    }
}
