//! What nodes and the coordinator say to each other, as domain types.

use crate::id::{Digest, NodeId, Rank, Step, ViewNumber};
use crate::view::{Member, View};

/// First message of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The run that the node means to join; `None` takes whichever the coordinator runs.
    pub run: Option<String>,
    /// The rank that the node asks for; `None` takes any.
    pub rank: Option<Rank>,
    /// Version of the node's program; must equal the coordinator's.
    pub version: String,
    /// `host:port` on which other members reach the node.
    pub address: String,
    /// Whether it only follows, and never is a member.
    pub observe: bool,
    /// The residual that its process still has, if it comes back.
    pub residual: Option<Residual>,
}

/// What a process has computed as a member and not sent, and still has when it comes back as a new node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residual {
    /// As whom.
    pub node: NodeId,
    /// The residual is known as it was before any step from this one on.
    pub first: Step,
}

/// What becomes of the residual of a member of an earlier view, where it is not lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legacy {
    /// Its last contribution was sent whole and has been applied. (It is void all the same, like any other, if
    /// all who have applied it are lost: then a later view begins with that step, or before.)
    Flushed {
        /// The member.
        node: NodeId,
        /// The step of that contribution.
        step: Step,
    },
    /// A new member goes on with it, as it was after the last contribution that counts.
    Kept {
        /// Whose it was.
        node: NodeId,
        /// Who has it now.
        by: NodeId,
    },
}

/// What a node must have in common with all others before it may train with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Digest of the replica at step 0.
    pub replica: Digest,
    /// Digest of the data set.
    pub data: Digest,
    /// Length of the flat parameter vector.
    pub parameters: u64,
    /// Number of training samples.
    pub samples: u64,
}

/// A checkpoint that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The first step that is not applied to it.
    pub step: Step,
    /// Whose residual it holds.
    pub rank: Rank,
    /// The view that made the step before it: if another has made that step since, it counts no more.
    pub view: ViewNumber,
    /// Digest of its replica.
    pub digest: Digest,
}

/// A node's words to the coordinator that the protocol acts on.
#[derive(Clone, Debug, PartialEq)]
pub enum ToCoordinator {
    /// Asks to take part.
    Hello(Hello),
    /// First words of a member in place of [`ToCoordinator::Hello`], after its session broke: it has
    /// gone on training.
    Return {
        /// The member.
        node: NodeId,
        /// The view that it heard of last.
        view: ViewNumber,
        /// Whether it stands still until the next view.
        frozen: bool,
    },
    /// Data are loaded and the replica is initialised.
    Prepared {
        /// What must be the same on all nodes.
        fingerprint: Fingerprint,
        /// Checkpoints of this run that the node could go on from.
        kept: Vec<Kept>,
    },
    /// Still here.
    Heartbeat,
    /// The replica after `step`.
    Digest {
        /// The step just applied.
        step: Step,
        /// Digest of the replica after it.
        digest: Digest,
    },
    /// The step under way, which will not be applied before the next view is there.
    Frozen {
        /// The view whose members were asked.
        view: ViewNumber,
        /// The first step that is not applied.
        next: Step,
    },
    /// A node that follows the view has applied what its members have.
    CaughtUp {
        /// The view.
        view: ViewNumber,
    },
    /// The stream from or to another member broke.
    PeerLost {
        /// The view in which it was a member.
        view: ViewNumber,
        /// The member that cannot be reached.
        rank: Rank,
        /// What was seen.
        reason: String,
    },
    /// All steps are applied and, for rank 0, the model is delivered.
    Finished {
        /// The view in which the node has finished.
        view: ViewNumber,
        /// Number of steps applied.
        steps: Step,
        /// Digest of the final replica.
        digest: Digest,
    },
    /// The node ends before the run does.
    Leave(Failure),
    /// The member has applied its last contribution, which was sent whole, and makes no other: the next
    /// view should do without it.
    Depart {
        /// The step to which it has contributed.
        step: Step,
        /// Why it leaves.
        failure: Failure,
    },
}

/// The coordinator's words to a node.
#[derive(Clone, Debug, PartialEq)]
pub enum ToNode {
    /// The node is part of the run; it should load its data and initialise its replica.
    Welcome {
        /// The node's identity in views.
        node: NodeId,
        /// The resolved `config.toml`.
        config: String,
        /// Whether the run has had a view: what the node has kept of it counts.
        begun: bool,
    },
    /// The node may not take part.
    Refused(Refusal),
    /// The view is about to change: apply nothing more, and answer with [`ToCoordinator::Frozen`].
    Freeze {
        /// The view in force, or the last that was announced.
        view: ViewNumber,
    },
    /// A view is durable: apply what comes before its first step, then train in it.
    Install(Installation),
    /// Not a member yet: follow the view, with a snapshot from `donor`.
    Follow {
        /// The view.
        view: View,
        /// The member that is asked for the snapshot first.
        donor: Rank,
        /// The step before which the residual counts that the node has told of, if it does.
        residual: Option<Step>,
    },
    /// Send contributions to this node too: it follows the view.
    Observe {
        /// The view.
        view: ViewNumber,
        /// The node.
        observer: Member,
    },
    /// All members have finished with the same replica; streams may be closed.
    End,
    /// The run goes on without this node, which may come back as a new one.
    Excluded(Failure),
    /// The run has failed.
    Abort(Failure),
}

/// How a view begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The view.
    pub view: View,
    /// Whether its members wait for more of them before they train.
    pub hold: bool,
    /// Members that lack contributions to steps before the first; this node has applied them and
    /// forwards what it holds of them.
    pub supply: Vec<Member>,
    /// The first step that any of them lacks.
    pub lacking: Step,
    /// The run goes on from its checkpoints: this node takes up the one of this rank.
    pub restore: Option<Rank>,
}

/// Why a node may not take part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node was told to join another run.
    #[error(
        "this coordinator runs {running:?}, but the node was told to join {asked:?}; \
         point --coordinator at the right one or drop --run"
    )]
    WrongRun {
        /// The coordinator's run.
        running: String,
        /// What the node asked for.
        asked: String,
    },
    /// Different programs need not agree to the bit.
    #[error("the node runs ecq {found}, the coordinator ecq {expected}; install the same version")]
    Version {
        /// The coordinator's version.
        expected: String,
        /// The node's version.
        found: String,
    },
    /// All seats are taken or training has begun.
    #[error("the run already has its {nodes} nodes; start it with a larger --nodes")]
    Full {
        /// The number of seats.
        nodes: u32,
    },
    /// Another node holds the rank, or there is no such rank.
    #[error("rank {rank} {why}; ranks go from 0 to {last}, or leave out --rank to take any")]
    Rank {
        /// The rank asked for.
        rank: Rank,
        /// What is the matter with it.
        why: String,
        /// The highest rank.
        last: Rank,
    },
    /// The initial replicas differ.
    #[error(
        "the node's initial replica has digest {found} where the run's has {expected}; all nodes \
         need the same program, seed, model and data set"
    )]
    Replica {
        /// Digest that the run started from.
        expected: Digest,
        /// The node's digest.
        found: Digest,
    },
    /// The data sets differ.
    #[error(
        "the node's data set has digest {found} where the run's has {expected}; give all nodes \
         the same files"
    )]
    Data {
        /// Digest of the data that the run trains on.
        expected: Digest,
        /// The node's digest.
        found: Digest,
    },
}

impl Refusal {
    /// Whether the node may be taken later: what it asks for may be held by one that is lost, which is not
    /// known before its lease ends.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Rank { rank, last, .. } => rank <= last,
            Self::WrongRun { .. }
            | Self::Version { .. }
            | Self::Replica { .. }
            | Self::Data { .. } => false,
        }
    }
}

/// Why a run or a node's part in it ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A member died, froze or was cut off.
    #[error("{0}")]
    MemberLost(String),
    /// Replicas are no longer the same.
    #[error("{0}")]
    ReplicasDiffer(String),
    /// Training left the finite numbers.
    #[error("{0}")]
    Diverged(String),
    /// Somebody asked for the end.
    #[error("{0}")]
    Stopped(String),
    /// A node could not do its part: data, disk, an internal fault.
    #[error("{0}")]
    Fault(String),
}

impl Failure {
    /// The same failure with the name of whoever reported it.
    pub(crate) fn by(self, who: &str) -> Self {
        match self {
            Self::MemberLost(text) => Self::MemberLost(format!("{who}: {text}")),
            Self::ReplicasDiffer(text) => Self::ReplicasDiffer(format!("{who}: {text}")),
            Self::Diverged(text) => Self::Diverged(format!("{who}: {text}")),
            Self::Stopped(text) => Self::Stopped(format!("{who}: {text}")),
            Self::Fault(text) => Self::Fault(format!("{who}: {text}")),
        }
    }
}

/// Identity of one frame: one bucket of one member's contribution to one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameKey {
    /// View in which it was sent.
    pub view: ViewNumber,
    /// Step to which it contributes.
    pub step: Step,
    /// The member.
    pub rank: Rank,
    /// Index of the bucket in the flat parameter vector.
    pub bucket: u32,
}

/// What one member measured in one step. Metrics only: no decision is taken from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// The step.
    pub step: Step,
    /// Loss summed over the member's mini-batch.
    pub loss_sum: f64,
    /// Samples of the mini-batch whose class was predicted, of a sequence the share of its positions. Not a
    /// number where there are no classes.
    pub correct: f64,
    /// Size of the mini-batch.
    pub samples: u64,
    /// Bytes of the encoded contribution: headers, scales and symbols.
    pub frame_bytes: u64,
    /// Bytes written to the exchange sockets since the last report.
    pub socket_bytes: u64,
    /// ‖g‖², the local gradient.
    pub gradient_norm_squared: f64,
    /// ‖h‖² after the step.
    pub residual_norm_squared: f64,
    /// ‖v‖², what was quantized.
    pub input_norm_squared: f64,
    /// ‖Q(v) − v‖².
    pub error_squared: f64,
    /// Scale groups sent as zeros because they held NaN or infinity.
    pub nonfinite_groups: u64,
    /// Frames for which the guard of error feedback bounded α.
    pub guarded_frames: u64,
    /// 1 if the step went on without this member: what is counted of its mini-batch is then 0.
    pub left_out: u64,
    /// 1 if it had computed a contribution all the same, which went back to its residual.
    pub taken_back: u64,
    /// Seconds in the forward and backward pass.
    pub compute_seconds: f32,
    /// Seconds in feedback, quantizer and coder.
    pub encode_seconds: f32,
    /// Seconds spent waiting for the other members' frames.
    pub wait_seconds: f32,
    /// Seconds in decoding, summing and the optimizer.
    pub apply_seconds: f32,
    /// Seconds from the start of this step to its end.
    pub step_seconds: f32,
    /// Seconds from the start of the member's first step to the end of this one.
    pub elapsed_seconds: f64,
}

/// The model on the test split. Metrics only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Number of steps applied before it.
    pub steps: Step,
    /// Mean loss.
    pub loss: f64,
    /// Share of test samples whose class was predicted, 0 to 1. Not a number where there are no classes.
    pub accuracy: f64,
}

/// What the tensors of a replica amount to after a step. No decision is taken from it: digests say that
/// replicas differ, this says where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorSums {
    /// The step just applied.
    pub step: Step,
    /// The name of each tensor, and CRC-32C of its values; parameters before the optimizer's.
    pub sums: Vec<(String, u32)>,
}
