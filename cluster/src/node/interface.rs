//! What goes into a node's machine, and what comes out.

use crate::id::{Digest, Rank, Step, ViewNumber};
use crate::message::{Failure, Fingerprint, FrameKey, Kept, Refusal, ToCoordinator, ToNode};
use crate::quorum::{Decision, Quorum};
use crate::view::{Member, View};

use super::Verdict;

/// What happens to a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The coordinator spoke.
    Message(ToNode),
    /// Data are loaded and the replica is initialised, as [`Command::Prepare`] asked.
    Prepared {
        /// What must be the same on all nodes.
        fingerprint: Fingerprint,
        /// Number of frames in a contribution.
        buckets: u32,
        /// Number of steps of the run.
        steps: Step,
        /// Replicas are compared after every so many steps.
        digest_every: Step,
        /// When steps go on without late members, if they ever do.
        quorum: Option<Quorum>,
        /// Checkpoints of this run that are here.
        kept: Vec<Kept>,
    },
    /// Streams to all other members of the view are open, as [`Command::Link`] asked.
    Linked(ViewNumber),
    /// A member has opened its stream to this node, which follows the view.
    Opened {
        /// The view.
        view: ViewNumber,
        /// The member.
        rank: Rank,
        /// The first step to which its whole contribution comes.
        first: Step,
    },
    /// A snapshot of a member's replica is here. It counts if [`Command::Adopt`] comes back.
    Snapshot {
        /// The view for which it was asked.
        view: ViewNumber,
        /// The first step that is not applied to it.
        next: Step,
        /// Its digest.
        digest: Digest,
    },
    /// The member that was asked has no snapshot to give.
    NotFetched {
        /// The view that is followed.
        view: ViewNumber,
        /// What was seen.
        reason: String,
    },
    /// A frame of another member has arrived. The verdict comes back as [`Command::Keep`] or
    /// [`Command::Drop`].
    Frame(FrameKey),
    /// Who makes up a step, as rank 0 says or whoever supplies it.
    Decision(Decision),
    /// All frames of the own contribution are encoded and on their way.
    Contributed {
        /// The view in which they are.
        view: ViewNumber,
        /// The step.
        step: Step,
    },
    /// A step is applied; the digest is there where [`Command::Apply`] asked for one.
    Applied {
        /// The step.
        step: Step,
        /// Digest of the replica after it.
        digest: Option<Digest>,
    },
    /// The final model has been handed over, as [`Command::Deliver`] asked.
    Delivered,
    /// A stream from or to another member broke.
    PeerLost {
        /// The view for which it was opened.
        view: ViewNumber,
        /// The member.
        rank: Rank,
        /// What was seen.
        reason: String,
    },
    /// The session with the coordinator broke.
    CoordinatorLost(String),
    /// There is a new session, as [`Command::Reconnect`] asked. Nothing has been said in it.
    Reconnected,
    /// There is none, and there is no use in trying any longer.
    CoordinatorGone(String),
    /// The node is told to leave: a member sends what it has in a last contribution first.
    Stop(Failure),
    /// The node cannot go on: a full disk, a loss that is not a number, a second signal.
    Failed(Failure),
    /// Time has passed.
    Tick,
}

/// What the shell must do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Speak to the coordinator.
    Send(ToCoordinator),
    /// Load data and initialise a replica for the run with this `config.toml`.
    Prepare {
        /// The text.
        config: String,
        /// Whether checkpoints of the run may be here.
        begun: bool,
    },
    /// Open a new session with the coordinator; try for as long as that makes sense. Training goes on
    /// meanwhile, and what is said is lost.
    Reconnect,
    /// Take up the checkpoint before `step` of this rank.
    Restore {
        /// The first step that is not applied to it.
        step: Step,
        /// Whose residual it holds.
        rank: Rank,
    },
    /// Take back what was computed after the last step that was applied, residual included. End the
    /// streams of the view before, once they are empty. Open a stream to every other member of this
    /// view, and take theirs.
    Link(View),
    /// Forget the replica and all frames; take the streams that the members of the view open.
    Follow(View),
    /// Take up the residual that [`Hello::residual`](crate::Hello::residual) told of, as it was before this
    /// step; without a step, none.
    Inherit(Option<Step>),
    /// Get a snapshot to which at least the steps before `at_least` are applied.
    Fetch {
        /// The view that is followed.
        view: ViewNumber,
        /// The member to ask.
        from: Member,
        /// The first step to which all members' contributions come.
        at_least: Step,
    },
    /// Take over the snapshot to which the steps before `next` are applied.
    Adopt {
        /// The first step that is not applied to it.
        next: Step,
    },
    /// Open a stream to a node that follows the view, for contributions from `first` on.
    Stream {
        /// The node.
        to: Member,
        /// The next contribution.
        first: Step,
    },
    /// Forward what is held of these steps, which were the last to be applied, to nodes that lack them.
    Supply {
        /// The first of them.
        first: Step,
        /// The first after them.
        end: Step,
        /// Who made them up, where that was decided.
        decisions: Vec<Decision>,
        /// The nodes.
        to: Vec<Member>,
    },
    /// Tell the other members, and who follows, who makes up a step.
    Decide(Decision),
    /// Compute, encode and broadcast the contribution to this step.
    Compute(Step),
    /// The same, but whole, with the residual: nothing is kept back.
    Flush(Step),
    /// Hold the frame until its step is applied.
    Keep(FrameKey),
    /// Forget the frame: it does not count.
    Drop(FrameKey, Verdict),
    /// Sum the contributions of `ranks` to this step in rank order and step the optimizer. Members are asked
    /// for theirs before, with [`Command::Compute`]; one that is not summed goes back to the residual. The
    /// frames are held until as many steps more are applied as members can be apart: others may lack them.
    Apply {
        /// The view whose members contribute.
        view: ViewNumber,
        /// How many they are.
        members: u32,
        /// Whose contributions make up the step, ascending.
        ranks: Vec<Rank>,
        /// The step.
        step: Step,
        /// Whether the digest of the replica after it is wanted.
        digest: bool,
    },
    /// Evaluate the final model and hand it to the coordinator.
    Deliver,
    /// What the node is doing or waiting for has changed.
    Explain(String),
    /// The node's part is over; nothing follows. With the number of steps applied.
    Exit(Result<Step, Ending>),
}

/// Why a node's part ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// The coordinator would not have it.
    #[error("the coordinator refused this node: {0}")]
    Refused(#[from] Refusal),
    /// The run goes on without it.
    #[error("the run goes on without this node: {0}")]
    Excluded(Failure),
    /// The run failed.
    #[error("the run failed: {0}")]
    Aborted(Failure),
    /// The coordinator is gone.
    #[error("lost the coordinator: {0}")]
    CoordinatorLost(String),
    /// This node could not go on.
    #[error("{0}")]
    Failed(Failure),
}
