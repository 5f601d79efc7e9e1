//! What goes into the coordinator's machine, and what comes out.

use crate::id::{Digest, NodeId, Step, ViewNumber};
use crate::message::{Failure, Legacy, ToCoordinator, ToNode};
use crate::view::View;

/// What happens to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A node spoke.
    Message {
        /// The speaker.
        from: NodeId,
        /// Its words.
        message: ToCoordinator,
    },
    /// A node's session ended.
    Disconnected(NodeId),
    /// The view handed over in [`Command::Persist`] is on stable storage.
    Persisted(ViewNumber),
    /// Somebody asked the coordinator to end the run.
    Stop(String),
    /// Time has passed.
    Tick,
}

/// What the shell must do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Speak to a node.
    Send {
        /// The node.
        to: NodeId,
        /// The words.
        message: ToNode,
    },
    /// Store this with the view that is stored next.
    Bequeath(Legacy),
    /// Store the view durably, then report [`Event::Persisted`].
    Persist(View),
    /// What the run is doing or waiting for has changed.
    Explain(String),
    /// The run is over; nothing follows.
    Conclude(Outcome),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Every member applied every step and all hold the same replica.
    Completed {
        /// Number of steps.
        steps: Step,
        /// Digest of the final replica.
        digest: Digest,
    },
    /// It ended early.
    Failed(Failure),
}
