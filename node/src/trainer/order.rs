//! What the driver asks of the trainer, in order.

use std::collections::BTreeMap;

use bytes::Bytes;
use ecq_cluster::{NodeId, Rank, Step, View, ViewNumber};
use tokio::sync::oneshot;

use super::Heritage;
use crate::exchange::{Broadcast, Snapshot, Wanted};

/// What the driver asks of the trainer, in order.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take back what is computed and not applied; train in this view from here on.
    Enter {
        view: View,
        rank: Rank,
        broadcast: Broadcast,
    },
    /// Take over another member's replica.
    Adopt(Snapshot),
    /// Take up the checkpoint before `step` of this rank.
    Restore { step: Step, rank: Rank },
    /// Give a snapshot when it is late enough.
    Give(Wanted),
    /// Compute, encode and broadcast the contribution to this step.
    Compute(Step),
    /// The same, but whole, with the residual.
    Flush(Step),
    /// Take up the residual that the process had as another node, as it was before this step, or none.
    Inherit(Option<Step>),
    /// Give up what `node`, this one, would still have if it came back, and end.
    HandOver {
        node: NodeId,
        reply: oneshot::Sender<Option<Heritage>>,
    },
    /// Apply this step.
    Apply {
        /// The view that has made it.
        view: ViewNumber,
        step: Step,
        digest: bool,
        /// Number of members of that view.
        members: u32,
        /// Those of them whose contributions make up the step, ascending.
        ranks: Vec<Rank>,
        /// Their frames by (rank, bucket).
        frames: BTreeMap<(Rank, u32), Bytes>,
    },
    /// Evaluate the final model and pack it up, as rank 0 of this view.
    Finish(View),
}
