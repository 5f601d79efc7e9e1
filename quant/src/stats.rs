//! What the encoder measures in passing.

use std::ops::AddAssign;

/// Measures of one frame; those of several add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FrameStats {
    /// Number of elements.
    pub elements: u64,
    /// Bytes of the frame, everything included.
    pub frame_bytes: u64,
    /// Bytes of scales and other numbers of whole groups among them.
    pub scale_bytes: u64,
    /// Bytes of numbers that are sent as they are, not as symbols: elements of casts, factors, chosen
    /// values, levels beyond the symbols.
    pub number_bytes: u64,
    /// ‖g‖², the gradient that came in, without the groups (elements, for casts) that
    /// [`FrameStats::nonfinite_groups`] counts.
    pub gradient_norm_squared: f64,
    /// ‖v‖², what was quantized, likewise.
    pub input_norm_squared: f64,
    /// ‖v − q‖², the quantization error.
    pub error_squared: f64,
    /// ‖h‖² after the frame.
    pub residual_norm_squared: f64,
    /// Scale groups (parts of tensors, for powersgd) that held NaN, infinity or a magnitude beyond 2^100 and were
    /// sent as zeros, and elements of casts that were NaN or infinity; their residual stayed as it was.
    pub nonfinite_groups: u64,
    /// Frames for which the guard bounded α.
    pub guarded_frames: u64,
}

impl FrameStats {
    /// ω̂ = ‖v − q‖²/‖v‖², the measured relative variance of the quantizer; 0 where nothing came in.
    pub fn omega(&self) -> f64 {
        ratio(self.error_squared, self.input_norm_squared)
    }

    /// ρ = ‖h‖²/‖g‖², how much more than a gradient the residual holds.
    pub fn residual_ratio(&self) -> f64 {
        ratio(self.residual_norm_squared, self.gradient_norm_squared)
    }

    /// All bytes ÷ elements × 8.
    pub fn bits_per_element(&self) -> f64 {
        self.frame_bytes as f64 * 8.0 / (self.elements.max(1)) as f64
    }
}

fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

impl AddAssign for FrameStats {
    fn add_assign(&mut self, other: Self) {
        self.elements += other.elements;
        self.frame_bytes += other.frame_bytes;
        self.scale_bytes += other.scale_bytes;
        self.number_bytes += other.number_bytes;
        self.gradient_norm_squared += other.gradient_norm_squared;
        self.input_norm_squared += other.input_norm_squared;
        self.error_squared += other.error_squared;
        self.residual_norm_squared += other.residual_norm_squared;
        self.nonfinite_groups += other.nonfinite_groups;
        self.guarded_frames += other.guarded_frames;
    }
}
