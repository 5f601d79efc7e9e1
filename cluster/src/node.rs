//! A node's side of the protocol: when to compute, what counts, when to apply.

use crate::id::{Digest, Millis, NodeId, Rank, Step};
use crate::message::{Failure, Fingerprint, FrameKey, Hello, Refusal, ToCoordinator, ToNode};
use crate::round::{Round, Verdict};
use crate::view::View;

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
    },
    /// Streams to all other members are open, as [`Command::Link`] asked.
    Linked,
    /// A frame of another member has arrived. The verdict comes back as [`Command::Keep`] or
    /// [`Command::Drop`].
    Frame(FrameKey),
    /// All frames of the own contribution are encoded and on their way.
    Contributed(Step),
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
        /// The member.
        rank: Rank,
        /// What was seen.
        reason: String,
    },
    /// The session with the coordinator broke.
    CoordinatorLost(String),
    /// The node cannot go on: a signal, a full disk, a loss that is not a number.
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
    },
    /// Open a stream to every other member of the view, and take theirs.
    Link(View),
    /// Compute, encode and broadcast the contribution to this step.
    Compute(Step),
    /// Hold the frame until its step is applied.
    Keep(FrameKey),
    /// Forget the frame: it does not count.
    Drop(FrameKey, Verdict),
    /// Sum all contributions to this step in rank order and step the optimizer. Follows
    /// [`Command::Compute`] of the same step, precedes that of the next.
    Apply {
        /// The step.
        step: Step,
        /// Whether the digest of the replica after it is wanted.
        digest: bool,
    },
    /// Evaluate the final model and hand it to the coordinator.
    Deliver,
    /// What the node is doing or waiting for has changed.
    Explain(String),
    /// The node's part is over; nothing follows.
    Exit(Result<Step, Ending>),
}

/// Why a node's part ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// The coordinator would not have it.
    #[error("the coordinator refused this node: {0}")]
    Refused(#[from] Refusal),
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

#[derive(Debug)]
enum Phase {
    Greeting,
    Preparing,
    Ready,
    /// In the view, opening streams; the others' frames may come already.
    Linking(Round),
    Training(Round),
    Finishing,
    Over,
}

/// A node's state machine.
#[derive(Debug)]
pub struct Node {
    phase: Phase,
    id: NodeId,
    rank: Rank,
    buckets: u32,
    steps: Step,
    digest_every: Step,
    heartbeat: Millis,
    beat_due: Millis,
    final_digest: Option<Digest>,
    view: Option<View>,
    reason: String,
}

impl Node {
    /// A node that introduces itself with `hello` and speaks at least every `heartbeat`.
    pub fn new(now: Millis, hello: Hello, heartbeat: Millis, out: &mut Vec<Command>) -> Self {
        out.push(Command::Send(ToCoordinator::Hello(hello)));
        Self {
            phase: Phase::Greeting,
            id: 0,
            rank: 0,
            buckets: 0,
            steps: 0,
            digest_every: 1,
            heartbeat,
            beat_due: now.saturating_add(heartbeat),
            final_digest: None,
            view: None,
            reason: String::new(),
        }
    }

    /// The view in which the node trains, and its rank there.
    pub fn view(&self) -> Option<(&View, Rank)> {
        self.view.as_ref().map(|view| (view, self.rank))
    }

    /// When the next heartbeat is due.
    pub fn deadline(&self) -> Option<Millis> {
        (!matches!(self.phase, Phase::Over)).then_some(self.beat_due)
    }

    /// Takes an event and appends what is to be done about it.
    pub fn handle(&mut self, now: Millis, event: Event, out: &mut Vec<Command>) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        match event {
            Event::Message(message) => self.message(message, out),
            Event::Prepared {
                fingerprint,
                buckets,
                steps,
                digest_every,
            } if matches!(self.phase, Phase::Preparing) => {
                (self.buckets, self.steps, self.digest_every) = (buckets, steps, digest_every);
                self.phase = Phase::Ready;
                out.push(Command::Send(ToCoordinator::Prepared(fingerprint)));
            }
            Event::Prepared { .. } => {} // Nobody asked.
            Event::Linked => self.linked(out),
            Event::Frame(key) => self.frame(key, out),
            Event::Contributed(step) => {
                if let Phase::Training(round) = &mut self.phase {
                    round.contribute(step);
                }
                self.advance(out);
            }
            Event::Applied { step, digest } => self.applied(step, digest, out),
            Event::Delivered => self.finish(out),
            Event::PeerLost { rank, reason } => self.peer_lost(rank, reason, out),
            Event::CoordinatorLost(reason) => self.exit(Err(Ending::CoordinatorLost(reason)), out),
            Event::Failed(failure) => self.fail(failure, out),
            Event::Tick => {}
        }
        self.beat(now, out);
        self.explain(out);
    }

    fn message(&mut self, message: ToNode, out: &mut Vec<Command>) {
        match message {
            ToNode::Welcome { node, config } => {
                if matches!(self.phase, Phase::Greeting) {
                    self.id = node;
                    self.phase = Phase::Preparing;
                    out.push(Command::Prepare { config });
                }
            }
            ToNode::Refused(refusal) => self.exit(Err(Ending::Refused(refusal)), out),
            ToNode::Install(view) => {
                if matches!(self.phase, Phase::Ready) {
                    self.install(view, out);
                }
            }
            ToNode::End if matches!(self.phase, Phase::Finishing) => {
                self.exit(Ok(self.steps), out);
            }
            ToNode::End => {
                let text = "it ended the run before this node had applied every step";
                self.exit(Err(Ending::CoordinatorLost(text.to_owned())), out);
            }
            ToNode::Abort(failure) => self.exit(Err(Ending::Aborted(failure)), out),
        }
    }

    fn install(&mut self, view: View, out: &mut Vec<Command>) {
        let Some(rank) = view.rank_of(self.id) else {
            return;
        };
        let (number, first) = (view.number, view.first_step);
        if first >= self.steps {
            let text = format!(
                "view {number} begins at step {first}, but the run has {} steps; all nodes need \
                 the same version and data set",
                self.steps
            );
            return self.fail(Failure::Fault(text), out);
        }
        let round = Round::new(number, first, view.size(), rank, self.buckets);
        self.phase = Phase::Linking(round);
        self.rank = rank;
        self.view = Some(view.clone());
        out.push(Command::Link(view));
    }

    fn linked(&mut self, out: &mut Vec<Command>) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Linking(round) => {
                out.push(Command::Compute(round.step()));
                self.phase = Phase::Training(round);
            }
            other => self.phase = other,
        }
    }

    fn frame(&mut self, key: FrameKey, out: &mut Vec<Command>) {
        let verdict = match &mut self.phase {
            Phase::Linking(round) | Phase::Training(round) => round.arrive(key),
            Phase::Finishing | Phase::Over => Verdict::Late,
            Phase::Greeting | Phase::Preparing | Phase::Ready => Verdict::Foreign,
        };
        if verdict == Verdict::Keep {
            out.push(Command::Keep(key));
            self.advance(out);
        } else {
            out.push(Command::Drop(key, verdict));
        }
    }

    /// Applies the step under way if it is complete, and goes on to the next.
    fn advance(&mut self, out: &mut Vec<Command>) {
        let Phase::Training(round) = &mut self.phase else {
            return;
        };
        let step = round.step();
        if !round.advance() {
            return;
        }
        let last = step + 1 == self.steps;
        let digest = last || (step + 1).is_multiple_of(self.digest_every);
        out.push(Command::Apply { step, digest });
        if last {
            self.phase = Phase::Finishing;
        } else {
            out.push(Command::Compute(step + 1));
        }
    }

    fn applied(&mut self, step: Step, digest: Option<Digest>, out: &mut Vec<Command>) {
        if !matches!(self.phase, Phase::Training(_) | Phase::Finishing) {
            return;
        }
        if let Some(digest) = digest {
            out.push(Command::Send(ToCoordinator::Digest { step, digest }));
        }
        if step.checked_add(1) == Some(self.steps) {
            self.final_digest = digest;
            if self.rank == 0 {
                out.push(Command::Deliver);
            } else {
                self.finish(out);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<Command>) {
        if let Some(digest) = self.final_digest {
            out.push(Command::Send(ToCoordinator::Finished {
                steps: self.steps,
                digest,
            }));
        }
    }

    /// Once all contributions have arrived, nobody's streams are needed any more.
    fn peer_lost(&mut self, rank: Rank, reason: String, out: &mut Vec<Command>) {
        if let (Some(view), Phase::Linking(_) | Phase::Training(_)) = (&self.view, &self.phase) {
            let lost = ToCoordinator::PeerLost {
                view: view.number,
                rank,
                reason,
            };
            out.push(Command::Send(lost));
        }
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<Command>) {
        out.push(Command::Send(ToCoordinator::Leave(failure.clone())));
        self.exit(Err(Ending::Failed(failure)), out);
    }

    fn exit(&mut self, result: Result<Step, Ending>, out: &mut Vec<Command>) {
        self.phase = Phase::Over;
        out.push(Command::Exit(result));
    }

    fn beat(&mut self, now: Millis, out: &mut Vec<Command>) {
        if now >= self.beat_due && !matches!(self.phase, Phase::Over) {
            self.beat_due = now.saturating_add(self.heartbeat);
            out.push(Command::Send(ToCoordinator::Heartbeat));
        }
    }

    fn explain(&mut self, out: &mut Vec<Command>) {
        let reason = match &self.phase {
            Phase::Greeting => "waiting for the coordinator's welcome".to_owned(),
            Phase::Preparing => "loading data and initialising the replica".to_owned(),
            Phase::Ready => "waiting for the other nodes".to_owned(),
            Phase::Linking(_) => "connecting to the other members".to_owned(),
            Phase::Training(_) => format!("training as rank {}", self.rank),
            Phase::Finishing => "all steps are applied, waiting for the others".to_owned(),
            Phase::Over => return,
        };
        if reason != self.reason {
            self.reason.clone_from(&reason);
            out.push(Command::Explain(reason));
        }
    }

    /// The ranks for whose contribution the step under way waits.
    pub fn waiting_for(&self) -> Vec<Rank> {
        match &self.phase {
            Phase::Training(round) => round.missing(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "node_test.rs"]
mod tests;
