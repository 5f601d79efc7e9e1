//! A mini-batch.

use ndarray::Array2;

/// Samples side by side, gathered in place.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// One row a sample.
    pub inputs: Array2<f32>,
    /// The class of each sample.
    pub labels: Vec<u8>,
}

impl Batch {
    /// Makes room for `samples` rows of `features`; contents are unspecified.
    pub(crate) fn resize(&mut self, samples: usize, features: usize) {
        if self.inputs.dim() != (samples, features) {
            self.inputs = Array2::zeros((samples, features));
        }
        self.labels.resize(samples, 0);
    }
}
