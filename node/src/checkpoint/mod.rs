//! Checkpoints: what a node needs to go on from a step as if it had never stopped.
//!
//! ```text
//! DIR/step-00000100.rank-2/model.safetensors   the parameters, as the final model has them
//!                          state.safetensors   the optimizer, and what the encoder remembers: residual and all
//! ```
//!
//! Every member keeps its own, since residuals are private. A directory has its name only when all that
//! is in it is durable. The metadata of `state.safetensors` say of which run it is (its `config.toml`), and the
//! digest of the replica, which is checked when it is taken up.

mod error;
mod keep;
mod take_up;

pub use error::CheckpointError;
pub(crate) use keep::Checkpoints;

const MODEL: &str = "model.safetensors";
const STATE: &str = "state.safetensors";

/// Where checkpoints of runs go if nobody says so, each in a directory with the run's name.
const DEFAULT_DIR: &str = "checkpoints";
