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
//! What is here now is a cluster with a fixed set of members: it gathers, installs one view, trains
//! and ends, and names whoever was lost. Views carry a number and a first step already, because a
//! change of membership is the installation of the next one.

pub mod config;
pub mod coordinator;
pub mod id;
pub mod message;
pub mod node;
pub mod sim;

mod round;
mod seats;
mod view;
mod vote;

pub use config::{ConfigError, RunConfig};
pub use id::{Digest, Millis, NodeId, Rank, Step, ViewNumber};
pub use message::{
    Evaluation, Failure, Fingerprint, FrameKey, Hello, Refusal, StepReport, ToCoordinator, ToNode,
};
pub use round::Verdict;
pub use view::{Member, View};
