//! Everything that the driver hears.

use bytes::Bytes;
use ecq_cluster::{
    Decision, Digest, Evaluation, FrameKey, Kept, Rank, Step, StepReport, TensorSums, ToNode,
    ViewNumber,
};

use crate::checkpoint::Checkpoints;
use crate::error::NodeError;
use crate::exchange::{Broadcast, Snapshot, Wanted};
use crate::session::Session;
use crate::workload::Workload;

/// What a node needs to train, from memory and disk.
pub(crate) struct Prepared {
    pub(crate) workload: Workload,
    /// If the run keeps some.
    pub(crate) checkpoints: Option<Checkpoints>,
    /// Those that are there.
    pub(crate) kept: Vec<Kept>,
}

/// Everything that the driver hears.
pub(crate) enum Input {
    /// The coordinator spoke.
    Said(ToNode),
    /// The session broke.
    SessionLost(String),
    /// Data and replica are ready, or are not to be had.
    Prepared(Box<Result<Prepared, NodeError>>),
    /// Streams to the others are open, or one cannot be opened.
    Linked {
        view: ViewNumber,
        result: Result<Broadcast, (Rank, String)>,
    },
    /// A member has opened its stream to this node, which follows the view.
    Opened {
        view: ViewNumber,
        rank: Rank,
        first: Step,
    },
    /// Somebody who follows the view asks for a snapshot.
    Wanted(Wanted),
    /// The snapshot that was asked for.
    Snapshot {
        view: ViewNumber,
        result: Result<Snapshot, String>,
    },
    /// A frame of another member.
    Frame(FrameKey, Bytes),
    /// Who makes up a step.
    Decision(Decision),
    /// A stream from or to another member broke.
    PeerLost {
        view: ViewNumber,
        rank: Rank,
        reason: String,
    },
    /// A member has received all of the stream to it, which has ended.
    Received { view: ViewNumber, rank: Rank },
    /// The own contribution is on its way.
    Contributed {
        view: ViewNumber,
        step: Step,
        rank: Rank,
        frames: Vec<Bytes>,
    },
    /// A step is applied; with a report if this node has contributed.
    Applied {
        step: Step,
        digest: Option<Digest>,
        report: Option<StepReport>,
    },
    /// What the replica's tensors amount to, before a step that is applied with a digest.
    Summed(TensorSums),
    /// The model on the test split.
    Evaluated(Evaluation),
    /// The final model, packed.
    Packed(Bytes),
    /// The coordinator has the model, or will not.
    Delivered(Result<(), String>),
    /// The trainer cannot go on.
    Failed(NodeError),
    /// There is a new session in place of one that broke, or none to be had.
    Reconnected(Result<Session, NodeError>),
    /// So many steps' reports, and evaluations after no more, are stored and need not be sent again.
    Recorded { steps: Step, evaluated: Step },
}
