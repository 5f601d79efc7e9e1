//! Dense layers in a row, with rectifiers between them and a loss at the end.

use ndarray::Array2;

use crate::batch::Batch;
use crate::dense::Dense;
use crate::initialise;
use crate::loss::{self, Loss};
use crate::model::{Model, TensorSpec};
use crate::relu;

/// The softmax regression (no hidden layer) and the MLP.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    layers: Vec<Dense>,
    tensors: Vec<TensorSpec>,
    /// Output of each layer, then, on the way back, its error; kept while the batch size stays.
    activations: Vec<Array2<f32>>,
    errors: Vec<Array2<f32>>,
}

impl Chain {
    pub(crate) fn new(features: usize, hidden: &[usize], outputs: usize) -> Self {
        let widths: Vec<usize> = std::iter::once(features)
            .chain(hidden.iter().copied())
            .chain([outputs])
            .collect();
        let mut layers = Vec::new();
        let mut tensors = Vec::new();
        let mut start = 0;
        for (i, pair) in widths.windows(2).enumerate() {
            let (inputs, outputs) = (pair[0], pair[1]);
            let layer = Dense::new(inputs, outputs, start);
            start = layer.end();
            layers.push(layer);
            let name = |tensor| format!("fc{}.{tensor}", i + 1);
            tensors.push(TensorSpec {
                name: name("weight"),
                shape: vec![outputs, inputs],
            });
            tensors.push(TensorSpec {
                name: name("bias"),
                shape: vec![outputs],
            });
        }
        Self {
            layers,
            tensors,
            activations: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn resize(&mut self, samples: usize) {
        if self
            .activations
            .first()
            .is_some_and(|first| first.nrows() == samples)
        {
            return;
        }
        let zeros = |layer: &Dense| Array2::zeros((samples, layer.outputs));
        self.activations = self.layers.iter().map(zeros).collect();
        self.errors = self.activations.clone();
    }

    /// Leaves the scores in the last activation.
    fn forward(&mut self, parameters: &[f32], batch: &Batch) {
        let inputs = batch.inputs.dense();
        self.resize(inputs.nrows());
        let last = self.layers.len() - 1;
        for (i, layer) in self.layers.iter().enumerate() {
            let (before, after) = self.activations.split_at_mut(i);
            let input = before.last().unwrap_or(inputs).view();
            layer.forward(parameters, input, after[0].view_mut());
            if i < last {
                relu::forward(after[0].view_mut());
            }
        }
    }
}

impl Model for Chain {
    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn initialise(&self, seed: u64) -> Vec<f32> {
        let mut parameters = vec![0.0; self.parameters()];
        let mut rest = &mut parameters[..];
        for (index, tensor) in self.tensors.iter().enumerate() {
            let (values, after) = rest.split_at_mut(tensor.shape.iter().product());
            initialise::uniform(seed, index, self.layers[index / 2].inputs, values);
            rest = after;
        }
        parameters
    }

    fn loss_and_gradient(
        &mut self,
        parameters: &[f32],
        batch: &Batch,
        gradient: &mut [f32],
    ) -> Loss {
        self.forward(parameters, batch);
        let last = self.layers.len() - 1;
        self.errors[last].assign(&self.activations[last]);
        let inputs = batch.inputs.dense();
        let scores = self.errors[last].view_mut();
        let loss = loss::of(scores, &batch.targets, inputs.nrows());
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let (before, after) = self.errors.split_at_mut(i);
            let input = if i == 0 {
                inputs.view()
            } else {
                self.activations[i - 1].view()
            };
            layer.backward_parameters(input, after[0].view(), gradient);
            if let Some(error) = before.last_mut() {
                layer.backward_input(parameters, after[0].view(), error.view_mut());
                relu::backward(input, error.view_mut());
            }
        }
        loss
    }

    fn evaluate(&mut self, parameters: &[f32], batch: &Batch) -> Loss {
        self.forward(parameters, batch);
        let last = self.layers.len() - 1;
        let scores = self.activations[last].view_mut();
        loss::of(scores, &batch.targets, batch.inputs.samples())
    }
}
