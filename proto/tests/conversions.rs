//! Whatever is said arrives as it was said; what nobody can have said is an error.

use ecq_cluster::{
    Digest, Evaluation, Failure, Fingerprint, Hello, Installation, Kept, Member, Refusal, Residual,
    StepReport, TensorSums, ToCoordinator, ToNode, View,
};
use ecq_proto::{CoordinatorWords, NodeWords, WireError, v1};

const A: Digest = Digest([1; 32]);
const B: Digest = Digest([2; 32]);

#[test]
fn words_of_nodes_survive_the_wire() {
    let hello = Hello {
        run: Some("run".into()),
        rank: Some(0),
        version: "1".into(),
        address: "127.0.0.1:1".into(),
        observe: false,
        residual: Some(Residual { node: 6, first: 7 }),
    };
    let fingerprint = Fingerprint {
        replica: A,
        data: B,
        parameters: 3,
        samples: 4,
    };
    let lost = ToCoordinator::PeerLost {
        view: 1,
        rank: 2,
        reason: "broken".into(),
    };
    let report = StepReport {
        step: 9,
        loss_sum: 1.5,
        encode_seconds: 0.25,
        ..Default::default()
    };
    let words = [
        NodeWords::Protocol(ToCoordinator::Hello(Hello {
            run: None,
            rank: None,
            residual: None,
            ..hello.clone()
        })),
        NodeWords::Protocol(ToCoordinator::Hello(hello)),
        NodeWords::Protocol(ToCoordinator::Prepared {
            fingerprint,
            kept: vec![Kept {
                view: 5,
                step: 8,
                rank: 1,
                digest: B,
            }],
        }),
        NodeWords::Protocol(ToCoordinator::Return {
            node: 3,
            view: 2,
            frozen: true,
        }),
        NodeWords::Protocol(ToCoordinator::Heartbeat),
        NodeWords::Protocol(ToCoordinator::Digest { step: 5, digest: A }),
        NodeWords::Protocol(lost),
        NodeWords::Protocol(ToCoordinator::Frozen { view: 3, next: 7 }),
        NodeWords::Protocol(ToCoordinator::CaughtUp { view: 4 }),
        NodeWords::Protocol(ToCoordinator::Finished {
            view: 2,
            steps: 6,
            digest: B,
        }),
        NodeWords::Protocol(ToCoordinator::Leave(Failure::Diverged("NaN".into()))),
        NodeWords::Protocol(ToCoordinator::Depart {
            step: 8,
            failure: Failure::Stopped("told to stop".into()),
        }),
        NodeWords::Reports(vec![report, StepReport::default()]),
        NodeWords::Sums(TensorSums {
            step: 5,
            sums: vec![("0.weight".into(), 7), ("0.bias".into(), u32::MAX)],
        }),
        NodeWords::Evaluation(Evaluation {
            steps: 1,
            loss: 2.0,
            accuracy: 0.5,
        }),
    ];
    for words in words {
        let wire = v1::NodeMessage::from(words.clone());
        assert_eq!(NodeWords::try_from(wire), Ok(words));
    }
}

#[test]
fn words_of_the_coordinator_survive_the_wire() {
    let member = Member {
        node: 7,
        address: "host:1".into(),
    };
    let view = View {
        number: 1,
        first_step: 5,
        consumed: 640,
        members: vec![member.clone()],
    };
    let refusals = [
        Refusal::WrongRun {
            running: "a".into(),
            asked: "b".into(),
        },
        Refusal::Version {
            expected: "1".into(),
            found: "2".into(),
        },
        Refusal::Full { nodes: 4 },
        Refusal::Rank {
            rank: 4,
            why: "is taken".into(),
            last: 3,
        },
        Refusal::Replica {
            expected: A,
            found: B,
        },
        Refusal::Data {
            expected: B,
            found: A,
        },
    ];
    let failures = [
        Failure::MemberLost("a".into()),
        Failure::ReplicasDiffer("b".into()),
        Failure::Diverged("c".into()),
        Failure::Stopped("d".into()),
        Failure::Fault("e".into()),
    ];
    let messages = refusals
        .into_iter()
        .map(ToNode::Refused)
        .chain(failures.into_iter().map(ToNode::Abort))
        .chain([
            ToNode::Welcome {
                node: 1,
                config: "name = 'x'".into(),
                begun: true,
            },
            ToNode::Freeze { view: 1 },
            ToNode::Install(Installation {
                view: view.clone(),
                hold: true,
                supply: vec![member.clone()],
                lacking: 4,
                restore: Some(2),
            }),
            ToNode::Follow {
                view: view.clone(),
                donor: 3,
                residual: Some(9),
            },
            ToNode::Observe {
                view: 2,
                observer: member,
            },
            ToNode::Excluded(Failure::MemberLost("f".into())),
            ToNode::End,
        ]);
    for message in messages {
        let wire = v1::CoordinatorMessage::from(message.clone());
        assert_eq!(
            CoordinatorWords::try_from(wire),
            Ok(CoordinatorWords::Protocol(message))
        );
    }
    let recorded = CoordinatorWords::Recorded {
        steps: 7,
        evaluated: 5,
    };
    let wire = v1::CoordinatorMessage::from(recorded.clone());
    assert_eq!(CoordinatorWords::try_from(wire), Ok(recorded));
}

#[test]
fn impossible_messages_are_errors() {
    assert_eq!(
        NodeWords::try_from(v1::NodeMessage { kind: None }),
        Err(WireError::Missing("kind"))
    );
    let short = v1::ReplicaDigest {
        step: 1,
        digest: vec![0; 31],
    };
    let short = v1::NodeMessage {
        kind: Some(v1::node_message::Kind::Digest(short)),
    };
    assert_eq!(NodeWords::try_from(short), Err(WireError::Digest(31)));
    let nameless = v1::Failure {
        kind: 99,
        reason: String::new(),
    };
    let nameless = v1::CoordinatorMessage {
        kind: Some(v1::coordinator_message::Kind::Abort(nameless)),
    };
    assert_eq!(
        CoordinatorWords::try_from(nameless),
        Err(WireError::Missing("kind of failure"))
    );
}
