//! The training protocol as sans-IO state machines.
//!
//! A run is a replicated log: the replica after step *t* is a pure function of the seed and of the
//! contributions (encoded gradients) that the members of a [`View`] broadcast for steps `0..=t`,
//! summed in rank order. This crate decides *who* contributes and *when* a step is complete. It
//! never sees a gradient: identifiers, sizes and digests pass through it, megabytes do not.
//!
//! ```text
//!            ToCoordinator                        ToNode
//!   Node ───────────────────▶  Coordinator ───────────────────▶  Node
//!    │ Command: Prepare, Link, Compute, Apply, …                   │
//!    ▼                                                             ▼
//!  shell: sockets, threads, replica                              shell
//! ```
//!
//! Both machines have one entrance, `handle(now, event, &mut commands)`, and one hint for the
//! shell, `deadline()`, the time at which they want a [`Tick`](coordinator::Event::Tick). They hold
//! no clock, socket, task or random source, so that the simulator in [`sim`] can drive whole
//! clusters from one seed and check the invariants after each event: same replicas, rank order, no
//! step lost or doubled, one durable history, no stranger's frame, nobody ahead, nobody hanging.
//!
//! Membership changes while training goes on. When a member is lost, or a node that follows the
//! view has caught up, everybody stands still between two steps, and the next view begins where the
//! one that came farthest stands: see [`coordinator`]. What was computed for a step that no member
//! has applied is void, so that a replica is a function of the seed and of the history of views; with a
//! [`Quorum`], of the decisions too.

pub mod config;
pub mod coordinator;
pub mod id;
pub mod message;
pub mod node;
pub mod sim;

mod quorum;
mod view;

pub use config::{ConfigError, RunConfig};
pub use id::{Digest, Millis, NodeId, Rank, Step, ViewNumber};
pub use message::{
    Evaluation, Failure, Fingerprint, FrameKey, Hello, Installation, Kept, Legacy, Refusal,
    Residual, StepReport, TensorSums, ToCoordinator, ToNode,
};
pub use node::Verdict;
pub use quorum::{Decision, LEFT_OUT_MAX, Quorum};
pub use view::{Member, View};
