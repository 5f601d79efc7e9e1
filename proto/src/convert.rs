//! Conversions between wire messages and domain types.

use ecq_cluster::{
    Digest, Evaluation, Failure, Fingerprint, Hello, Installation, Kept, Member, Refusal, Residual,
    Step, StepReport, TensorSums, ToCoordinator, ToNode, View,
};

use crate::v1::{self, coordinator_message, failure, node_message, refusal};

/// A message that a correct peer cannot have sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field is absent, or of a kind that this version does not know.
    #[error("message without its {0}: the peer runs another version of ecq")]
    Missing(&'static str),
    /// A digest of the wrong length.
    #[error("a digest has 32 bytes, not {0}")]
    Digest(usize),
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// What a node may say: words that the protocol acts on, and metrics that it does not.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeWords {
    /// For the state machine.
    Protocol(ToCoordinator),
    /// What the node measured in some steps.
    Reports(Vec<StepReport>),
    /// The model on the test split.
    Evaluation(Evaluation),
    /// What the tensors of the replica amount to whose digest follows.
    Sums(TensorSums),
}

impl From<NodeWords> for v1::NodeMessage {
    fn from(words: NodeWords) -> Self {
        use node_message::Kind;
        let kind = match words {
            NodeWords::Protocol(ToCoordinator::Hello(hello)) => {
                let Hello {
                    run,
                    rank,
                    version,
                    address,
                    observe,
                    residual,
                } = hello;
                Kind::Hello(v1::Hello {
                    run,
                    rank,
                    version,
                    address,
                    observe,
                    residual: residual.map(Into::into),
                })
            }
            NodeWords::Protocol(ToCoordinator::Return { node, view, frozen }) => {
                Kind::Return(v1::Return { node, view, frozen })
            }
            NodeWords::Protocol(ToCoordinator::Prepared { fingerprint, kept }) => {
                Kind::Prepared(v1::Prepared {
                    replica: fingerprint.replica.0.to_vec(),
                    data: fingerprint.data.0.to_vec(),
                    parameters: fingerprint.parameters,
                    samples: fingerprint.samples,
                    kept: kept.into_iter().map(Into::into).collect(),
                })
            }
            NodeWords::Protocol(ToCoordinator::Heartbeat) => Kind::Heartbeat(v1::Heartbeat {}),
            NodeWords::Protocol(ToCoordinator::Digest { step, digest }) => {
                Kind::Digest(v1::ReplicaDigest {
                    step,
                    digest: digest.0.to_vec(),
                })
            }
            NodeWords::Protocol(ToCoordinator::PeerLost { view, rank, reason }) => {
                Kind::PeerLost(v1::PeerLost { view, rank, reason })
            }
            NodeWords::Protocol(ToCoordinator::Frozen { view, next }) => {
                Kind::Frozen(v1::Frozen { view, next })
            }
            NodeWords::Protocol(ToCoordinator::CaughtUp { view }) => {
                Kind::CaughtUp(v1::CaughtUp { view })
            }
            NodeWords::Protocol(ToCoordinator::Finished {
                view,
                steps,
                digest,
            }) => Kind::Finished(v1::Finished {
                view,
                steps,
                digest: digest.0.to_vec(),
            }),
            NodeWords::Protocol(ToCoordinator::Leave(failure)) => Kind::Leave(failure.into()),
            NodeWords::Protocol(ToCoordinator::Depart { step, failure }) => {
                let failure = Some(failure.into());
                Kind::Depart(v1::Depart { step, failure })
            }
            NodeWords::Reports(reports) => Kind::Reports(v1::StepReports {
                reports: reports.into_iter().map(Into::into).collect(),
            }),
            NodeWords::Evaluation(found) => Kind::Evaluation(v1::Evaluation {
                steps: found.steps,
                loss: found.loss,
                accuracy: found.accuracy,
            }),
            NodeWords::Sums(TensorSums { step, sums }) => {
                let sum = |(name, sum)| v1::TensorSum { name, sum };
                let sums = sums.into_iter().map(sum).collect();
                Kind::Sums(v1::TensorSums { step, sums })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::NodeMessage> for NodeWords {
    type Error = WireError;

    fn try_from(message: v1::NodeMessage) -> Result<Self, WireError> {
        use node_message::Kind;
        let protocol = match message.kind.ok_or(WireError::Missing("kind"))? {
            Kind::Hello(v1::Hello {
                run,
                rank,
                version,
                address,
                observe,
                residual,
            }) => ToCoordinator::Hello(Hello {
                run,
                rank,
                version,
                address,
                observe,
                residual: residual.map(Into::into),
            }),
            Kind::Return(v1::Return { node, view, frozen }) => {
                ToCoordinator::Return { node, view, frozen }
            }
            Kind::Prepared(found) => {
                let kept: Result<Vec<Kept>, WireError> =
                    found.kept.into_iter().map(TryInto::try_into).collect();
                ToCoordinator::Prepared {
                    fingerprint: Fingerprint {
                        replica: digest(&found.replica)?,
                        data: digest(&found.data)?,
                        parameters: found.parameters,
                        samples: found.samples,
                    },
                    kept: kept?,
                }
            }
            Kind::Heartbeat(v1::Heartbeat {}) => ToCoordinator::Heartbeat,
            Kind::Digest(found) => ToCoordinator::Digest {
                step: found.step,
                digest: digest(&found.digest)?,
            },
            Kind::PeerLost(v1::PeerLost { view, rank, reason }) => {
                ToCoordinator::PeerLost { view, rank, reason }
            }
            Kind::Frozen(v1::Frozen { view, next }) => ToCoordinator::Frozen { view, next },
            Kind::CaughtUp(v1::CaughtUp { view }) => ToCoordinator::CaughtUp { view },
            Kind::Finished(found) => ToCoordinator::Finished {
                view: found.view,
                steps: found.steps,
                digest: digest(&found.digest)?,
            },
            Kind::Leave(failure) => ToCoordinator::Leave(failure.try_into()?),
            Kind::Depart(found) => ToCoordinator::Depart {
                step: found.step,
                failure: found
                    .failure
                    .ok_or(WireError::Missing("failure"))?
                    .try_into()?,
            },
            Kind::Reports(found) => {
                let reports = found.reports.into_iter().map(Into::into).collect();
                return Ok(Self::Reports(reports));
            }
            Kind::Sums(v1::TensorSums { step, sums }) => {
                let sum = |v1::TensorSum { name, sum }| (name, sum);
                let sums = sums.into_iter().map(sum).collect();
                return Ok(Self::Sums(TensorSums { step, sums }));
            }
            Kind::Evaluation(v1::Evaluation {
                steps,
                loss,
                accuracy,
            }) => {
                return Ok(Self::Evaluation(Evaluation {
                    steps,
                    loss,
                    accuracy,
                }));
            }
        };
        Ok(Self::Protocol(protocol))
    }
}

impl From<Kept> for v1::Kept {
    fn from(kept: Kept) -> Self {
        Self {
            step: kept.step,
            rank: kept.rank,
            view: kept.view,
            digest: kept.digest.0.to_vec(),
        }
    }
}

impl TryFrom<v1::Kept> for Kept {
    type Error = WireError;

    fn try_from(kept: v1::Kept) -> Result<Self, WireError> {
        Ok(Self {
            step: kept.step,
            rank: kept.rank,
            view: kept.view,
            digest: digest(&kept.digest)?,
        })
    }
}

/// What the coordinator may say: words for a node's state machine, and of its metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum CoordinatorWords {
    /// For the state machine.
    Protocol(ToNode),
    /// Metrics that are stored and need not be sent again.
    Recorded {
        /// Number of steps of which all reports are there.
        steps: Step,
        /// Steps applied before the last evaluation that is.
        evaluated: Step,
    },
}

impl From<CoordinatorWords> for v1::CoordinatorMessage {
    fn from(words: CoordinatorWords) -> Self {
        match words {
            CoordinatorWords::Protocol(message) => message.into(),
            CoordinatorWords::Recorded { steps, evaluated } => {
                let recorded = v1::Recorded { steps, evaluated };
                Self {
                    kind: Some(coordinator_message::Kind::Recorded(recorded)),
                }
            }
        }
    }
}

impl From<ToNode> for v1::CoordinatorMessage {
    fn from(message: ToNode) -> Self {
        use coordinator_message::Kind;
        let kind = match message {
            ToNode::Welcome {
                node,
                config,
                begun,
            } => Kind::Welcome(v1::Welcome {
                node,
                config,
                begun,
            }),
            ToNode::Refused(refusal) => Kind::Refused(refusal.into()),
            ToNode::Freeze { view } => Kind::Freeze(v1::Freeze { view }),
            ToNode::Install(found) => Kind::Install(v1::Installation {
                view: Some(found.view.into()),
                hold: found.hold,
                supply: found.supply.into_iter().map(Into::into).collect(),
                lacking: found.lacking,
                restore: found.restore,
            }),
            ToNode::Follow {
                view,
                donor,
                residual,
            } => Kind::Follow(v1::Follow {
                view: Some(view.into()),
                donor,
                residual,
            }),
            ToNode::Observe { view, observer } => Kind::Observe(v1::Observe {
                view,
                observer: Some(observer.into()),
            }),
            ToNode::Excluded(failure) => Kind::Excluded(failure.into()),
            ToNode::End => Kind::End(v1::End {}),
            ToNode::Abort(failure) => Kind::Abort(failure.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::CoordinatorMessage> for CoordinatorWords {
    type Error = WireError;

    fn try_from(message: v1::CoordinatorMessage) -> Result<Self, WireError> {
        use coordinator_message::Kind;
        let protocol = match message.kind.ok_or(WireError::Missing("kind"))? {
            Kind::Welcome(v1::Welcome {
                node,
                config,
                begun,
            }) => ToNode::Welcome {
                node,
                config,
                begun,
            },
            Kind::Refused(refusal) => ToNode::Refused(refusal.try_into()?),
            Kind::Freeze(v1::Freeze { view }) => ToNode::Freeze { view },
            Kind::Install(found) => ToNode::Install(Installation {
                view: found.view.ok_or(WireError::Missing("view"))?.into(),
                hold: found.hold,
                supply: found.supply.into_iter().map(Into::into).collect(),
                lacking: found.lacking,
                restore: found.restore,
            }),
            Kind::Recorded(v1::Recorded { steps, evaluated }) => {
                return Ok(Self::Recorded { steps, evaluated });
            }
            Kind::Follow(found) => ToNode::Follow {
                view: found.view.ok_or(WireError::Missing("view"))?.into(),
                donor: found.donor,
                residual: found.residual,
            },
            Kind::Observe(found) => ToNode::Observe {
                view: found.view,
                observer: found.observer.ok_or(WireError::Missing("observer"))?.into(),
            },
            Kind::Excluded(failure) => ToNode::Excluded(failure.try_into()?),
            Kind::End(v1::End {}) => ToNode::End,
            Kind::Abort(failure) => ToNode::Abort(failure.try_into()?),
        };
        Ok(Self::Protocol(protocol))
    }
}

impl From<View> for v1::View {
    fn from(view: View) -> Self {
        Self {
            number: view.number,
            first_step: view.first_step,
            consumed: view.consumed,
            members: view.members.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::View> for View {
    fn from(view: v1::View) -> Self {
        Self {
            number: view.number,
            first_step: view.first_step,
            consumed: view.consumed,
            members: view.members.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Failure> for v1::Failure {
    fn from(failure: Failure) -> Self {
        use failure::Kind;
        let (kind, reason) = match failure {
            Failure::MemberLost(reason) => (Kind::MemberLost, reason),
            Failure::ReplicasDiffer(reason) => (Kind::ReplicasDiffer, reason),
            Failure::Diverged(reason) => (Kind::Diverged, reason),
            Failure::Stopped(reason) => (Kind::Stopped, reason),
            Failure::Fault(reason) => (Kind::Fault, reason),
        };
        Self {
            kind: kind.into(),
            reason,
        }
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = WireError;

    fn try_from(failure: v1::Failure) -> Result<Self, WireError> {
        use failure::Kind;
        let kind = failure.kind();
        let reason = failure.reason;
        match kind {
            Kind::Unspecified => Err(WireError::Missing("kind of failure")),
            Kind::MemberLost => Ok(Self::MemberLost(reason)),
            Kind::ReplicasDiffer => Ok(Self::ReplicasDiffer(reason)),
            Kind::Diverged => Ok(Self::Diverged(reason)),
            Kind::Stopped => Ok(Self::Stopped(reason)),
            Kind::Fault => Ok(Self::Fault(reason)),
        }
    }
}

impl From<Refusal> for v1::Refusal {
    fn from(refused: Refusal) -> Self {
        use refusal::Kind;
        let difference = |expected: Digest, found: Digest| v1::Difference {
            expected: expected.0.to_vec(),
            found: found.0.to_vec(),
        };
        let kind = match refused {
            Refusal::WrongRun { running, asked } => Kind::WrongRun(v1::WrongRun { running, asked }),
            Refusal::Version { expected, found } => {
                Kind::Version(v1::WrongVersion { expected, found })
            }
            Refusal::Full { nodes } => Kind::Full(nodes),
            Refusal::Rank { rank, why, last } => Kind::Rank(v1::WrongRank { rank, why, last }),
            Refusal::Replica { expected, found } => Kind::Replica(difference(expected, found)),
            Refusal::Data { expected, found } => Kind::Data(difference(expected, found)),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::Refusal> for Refusal {
    type Error = WireError;

    fn try_from(refused: v1::Refusal) -> Result<Self, WireError> {
        use refusal::Kind;
        Ok(
            match refused.kind.ok_or(WireError::Missing("kind of refusal"))? {
                Kind::WrongRun(v1::WrongRun { running, asked }) => {
                    Self::WrongRun { running, asked }
                }
                Kind::Version(v1::WrongVersion { expected, found }) => {
                    Self::Version { expected, found }
                }
                Kind::Full(nodes) => Self::Full { nodes },
                Kind::Rank(v1::WrongRank { rank, why, last }) => Self::Rank { rank, why, last },
                Kind::Replica(found) => Self::Replica {
                    expected: digest(&found.expected)?,
                    found: digest(&found.found)?,
                },
                Kind::Data(found) => Self::Data {
                    expected: digest(&found.expected)?,
                    found: digest(&found.found)?,
                },
            },
        )
    }
}

/// Both sides have the same fields under the same names.
macro_rules! same_fields {
    ($domain:ty, $wire:ty, $($field:ident),+ $(,)?) => {
        impl From<$domain> for $wire {
            fn from(domain: $domain) -> Self {
                Self { $($field: domain.$field),+ }
            }
        }

        impl From<$wire> for $domain {
            fn from(wire: $wire) -> Self {
                Self { $($field: wire.$field),+ }
            }
        }
    };
}

same_fields!(Member, v1::Member, node, address);

same_fields!(Residual, v1::Residual, node, first);

same_fields!(
    StepReport,
    v1::StepReport,
    step,
    loss_sum,
    correct,
    samples,
    frame_bytes,
    socket_bytes,
    gradient_norm_squared,
    residual_norm_squared,
    input_norm_squared,
    error_squared,
    nonfinite_groups,
    guarded_frames,
    left_out,
    taken_back,
    compute_seconds,
    encode_seconds,
    wait_seconds,
    apply_seconds,
    step_seconds,
    elapsed_seconds,
);

fn digest(bytes: &[u8]) -> Result<Digest, WireError> {
    bytes
        .try_into()
        .map(Digest)
        .map_err(|_| WireError::Digest(bytes.len()))
}
