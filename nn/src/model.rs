//! What a model is, and the models by name.

use std::fmt;
use std::str::FromStr;

use crate::batch::Batch;
use crate::chain::Chain;
use crate::data::{Shape, Task};
use crate::loss::Loss;

/// A tensor of the flat parameter vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// PyTorch-style name, such as `fc1.weight`.
    pub name: String,
    /// Its dimensions; the last one varies fastest.
    pub shape: Vec<usize>,
}

/// A model over a flat vector of parameters that it does not own: the replica owns it.
pub trait Model: Send {
    /// The tensors in the order in which they make up the flat vector.
    fn tensors(&self) -> &[TensorSpec];

    /// Length of the flat vector.
    fn parameters(&self) -> usize {
        self.tensors()
            .iter()
            .map(|tensor| tensor.shape.iter().product::<usize>())
            .sum()
    }

    /// The initial parameters, a pure function of the seed.
    fn initialise(&self, seed: u64) -> Vec<f32>;

    /// Overwrites `gradient` with the gradient of the mean loss over the batch.
    fn loss_and_gradient(
        &mut self,
        parameters: &[f32],
        batch: &Batch,
        gradient: &mut [f32],
    ) -> Loss;

    /// The loss over the batch.
    fn evaluate(&mut self, parameters: &[f32], batch: &Batch) -> Loss;
}

/// The models there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelName {
    /// Multinomial logistic regression: one dense layer.
    Softmax,
    /// Dense layers with rectifiers between them.
    Mlp,
}

impl ModelName {
    /// Builds the model for such data. Hidden layers are the MLP's; the softmax regression has none.
    pub fn build(
        self,
        hidden: &[usize],
        shape: Shape,
        task: Task,
    ) -> Result<Box<dyn Model>, Unsuitable> {
        match shape {
            Shape::Flat(_) | Shape::Image { .. } => {
                let hidden = if self == Self::Softmax { &[] } else { hidden };
                let chain = Chain::new(shape.features(), hidden, task.outputs());
                Ok(Box::new(chain))
            }
            Shape::Sparse(_) | Shape::Sequence { .. } => Err(Unsuitable {
                model: self.to_string(),
                data: shape.to_string(),
                takes: "dense rows or images",
            }),
        }
    }
}

/// A model that cannot be trained on these data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model {model} cannot be trained on {data}: it takes {takes}")]
pub struct Unsuitable {
    /// The model.
    pub model: String,
    /// What a sample is.
    pub data: String,
    /// What it should be.
    pub takes: &'static str,
}

/// A name that nothing here has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} {found:?}; known: {known}")]
pub struct UnknownName {
    /// What was named.
    pub kind: &'static str,
    /// The name.
    pub found: String,
    /// What there is.
    pub known: &'static str,
}

impl FromStr for ModelName {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "softmax" => Ok(Self::Softmax),
            "mlp" => Ok(Self::Mlp),
            _ => Err(UnknownName {
                kind: "model",
                found: text.to_owned(),
                known: "softmax, mlp",
            }),
        }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Softmax => "softmax",
            Self::Mlp => "mlp",
        })
    }
}
