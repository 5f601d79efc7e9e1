//! Models, data, optimizers: what a node trains.
//!
//! A [`Model`] works on a flat parameter vector, the same one that the codecs cut into frames and
//! that the digest is taken of; its [`TensorSpec`]s say which range is which tensor. Forward and
//! backward passes are written out layer by layer, so that every weight, activation, error and
//! gradient is there to be looked at, and each layer is checked against finite differences.
//!
//! ```
//! use ecq_nn::data::{self, DataName};
//! use ecq_nn::optim::Sgd;
//! use ecq_nn::{Batch, ModelName, Sampler};
//!
//! let digits = data::load(DataName::Digits, None)?;
//! let mut model = ModelName::Softmax.build(&[], digits.shape, digits.task)?;
//! let mut parameters = model.initialise(1);
//! let mut gradient = vec![0.0; parameters.len()];
//! let mut sgd = Sgd::new(0.9, parameters.len());
//! let (mut sampler, mut indices) = (Sampler::new(1, digits.train.len()), Vec::new());
//! let mut batch = Batch::default();
//! for step in 0..20 {
//!     sampler.indices(step * 64, 64, &mut indices);
//!     digits.train.gather(&indices, &mut batch);
//!     model.loss_and_gradient(&parameters, &batch, &mut gradient);
//!     sgd.apply(0.1, &gradient, &mut parameters);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Initialisation, sampling and the optimizer are pure functions of seed and input with arithmetic
//! in a fixed order: equal on every machine. Gradients come from a matrix product that uses the
//! CPU's vectors, and may differ in the last bit between CPU models.

mod batch;
mod chain;
mod dense;
#[cfg(test)]
mod finite_differences;
mod initialise;
mod loss;
mod matmul;
mod model;
mod relu;
mod sampler;

pub mod data;
pub mod optim;

pub use batch::{Batch, Inputs, SparseRows, Targets};
pub use loss::Loss;
pub use model::{Model, ModelName, TensorSpec, UnknownName, Unsuitable};
pub use sampler::Sampler;
