//! Who may take part, and what happens when somebody no longer does.

mod nodes;

use ecq_cluster::{Digest, Failure, Hello, Refusal, ToCoordinator, ToNode, View};
use ecq_coordinator::{CoordinatorError, Options, Service};
use ecq_proto::v1::{NodeMessage, ReplicaDigest, node_message};
use nodes::{Running, START, config, fingerprint, hello};

async fn refusal(running: &Running, hello: Hello) -> Refusal {
    let mut node = running.connect().await;
    node.say(ToCoordinator::Hello(hello)).await;
    let Some(ToNode::Refused(refusal)) = node.hear().await else {
        panic!("expected a refusal")
    };
    assert_eq!(node.hear().await, None, "the session ends with the refusal");
    refusal
}

/// T10: another initial replica is refused with both digests, and the run goes on without it.
#[tokio::test]
async fn another_initial_replica_is_refused_with_both_digests() {
    let running = Running::start(config(2)).await;
    let first = running.join(None).await;
    first
        .say(ToCoordinator::Prepared {
            fingerprint: fingerprint(),
            kept: Vec::new(),
        })
        .await;
    let mut stranger = running.join(None).await;
    let replica = Digest([9; 32]);
    let other = ecq_cluster::Fingerprint {
        replica,
        ..fingerprint()
    };
    stranger
        .say(ToCoordinator::Prepared {
            fingerprint: other,
            kept: Vec::new(),
        })
        .await;
    let Some(ToNode::Refused(refusal)) = stranger.hear().await else {
        panic!("expected a refusal")
    };
    assert_eq!(
        refusal,
        Refusal::Replica {
            expected: START,
            found: replica
        }
    );
    let text = refusal.to_string();
    assert!(
        text.contains(&START.to_string()) && text.contains(&replica.to_string()),
        "{text}"
    );
    let mut second = running.join(None).await;
    second
        .say(ToCoordinator::Prepared {
            fingerprint: fingerprint(),
            kept: Vec::new(),
        })
        .await;
    assert_eq!(second.view().await.size(), 2);
    drop(first);
}

#[tokio::test]
async fn who_does_not_fit_is_refused() {
    let running = Running::start(config(2)).await;
    let run = Some("elsewhere".to_owned());
    let found = refusal(&running, Hello { run, ..hello() }).await;
    assert!(matches!(found, Refusal::WrongRun { .. }));
    let found = refusal(
        &running,
        Hello {
            version: "0.0.0".into(),
            ..hello()
        },
    )
    .await;
    assert!(matches!(found, Refusal::Version { .. }));
    let found = refusal(
        &running,
        Hello {
            rank: Some(2),
            ..hello()
        },
    )
    .await;
    assert!(matches!(
        found,
        Refusal::Rank {
            rank: 2,
            last: 1,
            ..
        }
    ));
    let _seated = (running.join(Some(1)).await, running.join(None).await);
    assert_eq!(refusal(&running, hello()).await, Refusal::Full { nodes: 2 });
}

/// Expects the run to have failed, everywhere and with the same reason.
async fn failed(running: Running, survivors: Vec<nodes::Node>, part: &str) -> Failure {
    for mut node in survivors {
        let failure = loop {
            match node.hear().await {
                Some(ToNode::Freeze { .. }) => {}
                Some(ToNode::Abort(failure) | ToNode::Excluded(failure)) => break failure,
                other => panic!("expected the end, heard {other:?}"),
            }
        };
        assert!(failure.to_string().contains(part), "{failure}");
        assert_eq!(node.hear().await, None, "the session ends with the abort");
    }
    let (result, dir) = running.end().await;
    let Err(CoordinatorError::Failed(failure)) = result else {
        panic!("{result:?}")
    };
    assert!(failure.to_string().contains(part), "{failure}");
    assert!(!dir.path().join("run/summary.json").exists());
    assert!(dir.path().join("run/config.toml").exists());
    failure
}

/// Members are asked where they stand, and answer that at `next`; returns the view that follows.
async fn change(members: &mut [nodes::Node], number: u64, next: u64) -> View {
    for member in &mut *members {
        let view = number;
        assert_eq!(member.hear().await, Some(ToNode::Freeze { view }));
        member.say(ToCoordinator::Frozen { view, next }).await;
    }
    let mut view = None;
    for member in members {
        view = Some(member.view().await);
    }
    view.expect("somebody is left")
}

#[tokio::test]
async fn a_member_whose_session_breaks_is_left_out_of_the_next_view() {
    let running = Running::start(config(3)).await;
    let mut members = running.cluster(3).await;
    drop(members.remove(1));
    let view = change(&mut members, 1, 1).await;
    assert_eq!((view.number, view.first_step), (2, 1));
    let nodes: Vec<_> = view.members.iter().map(|member| member.node).collect();
    assert_eq!(nodes, [members[0].id, members[1].id]);
    let history = std::fs::read_to_string(running.dir.path().join("run/history.jsonl"));
    let history = history.expect("it is durable");
    assert_eq!(history.lines().count(), 2, "{history}");
    // The last one's loss is that of the run.
    drop(members.pop());
    assert_eq!(members[0].hear().await, Some(ToNode::Freeze { view: 2 }));
    drop(members);
    let failure = failed(running, Vec::new(), "rank 0 is lost").await;
    assert!(matches!(failure, Failure::MemberLost(_)));
}

#[tokio::test]
async fn a_member_that_falls_silent_costs_its_lease() {
    let running = Running::start(ecq_cluster::RunConfig {
        lease_seconds: 0.5,
        ..config(2)
    })
    .await;
    let members = running.cluster(2).await;
    failed(running, members, "nothing was heard").await;
}

#[tokio::test]
async fn replicas_that_differ_fail_the_run_with_both_digests() {
    let running = Running::start(config(2)).await;
    let members = running.cluster(2).await;
    let other = Digest([9; 32]);
    members[0]
        .say(ToCoordinator::Digest {
            step: 0,
            digest: START,
        })
        .await;
    members[1]
        .say(ToCoordinator::Digest {
            step: 0,
            digest: other,
        })
        .await;
    let failure = failed(running, members, "replicas differ after step 0").await;
    assert!(matches!(failure, Failure::ReplicasDiffer(_)));
    let text = failure.to_string();
    assert!(
        text.contains(&START.to_string()) && text.contains(&other.to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn a_broken_stream_is_a_reason_for_another_view() {
    let running = Running::start(config(2)).await;
    let mut members = running.cluster(2).await;
    let lost = ToCoordinator::PeerLost {
        view: 1,
        rank: 1,
        reason: "cut".into(),
    };
    members[0].say(lost).await;
    let view = change(&mut members, 1, 0).await;
    assert_eq!(
        (view.number, view.members.len()),
        (2, 2),
        "streams are opened anew"
    );
    running.stop.cancel();
    failed(running, members, "told to stop").await;
}

#[tokio::test]
async fn a_coordinator_that_is_stopped_tells_everybody() {
    let running = Running::start(config(2)).await;
    let members = running.cluster(2).await;
    running.stop.cancel();
    let failure = failed(running, members, "told to stop").await;
    assert!(matches!(failure, Failure::Stopped(_)));
}

/// Words that no node of ours says: whoever says them is cut off, and nobody else is.
#[tokio::test]
async fn nonsense_costs_only_its_speaker() {
    let running = Running::start(config(1)).await;
    let short = ReplicaDigest {
        step: 0,
        digest: vec![1; 31],
    };
    for kind in [None, Some(node_message::Kind::Digest(short))] {
        let node = running.connect().await;
        node.raw(NodeMessage { kind }).await;
    }
    let early = running.connect().await;
    early
        .say(ToCoordinator::Finished {
            view: 1,
            steps: 2,
            digest: START,
        })
        .await;
    early
        .say(ToCoordinator::Digest {
            step: 0,
            digest: START,
        })
        .await;
    early.report(0, 1.0).await;
    let members = running.cluster(1).await;
    members[0].say(ToCoordinator::Hello(hello())).await;
    members[0]
        .say(ToCoordinator::Prepared {
            fingerprint: fingerprint(),
            kept: Vec::new(),
        })
        .await;
    members[0]
        .say(ToCoordinator::Leave(Failure::Fault("enough".into())))
        .await;
    failed(running, Vec::new(), "rank 0: enough").await;
}

#[tokio::test]
async fn what_is_taken_is_not_taken_twice() {
    let running = Running::start(config(1)).await;
    let options = |listen, name| Options {
        listen,
        config: config(1),
        run_dir: running.dir.path().join(name),
        resume: false,
    };
    let error = Service::bind(options(running.address, "new"))
        .await
        .expect_err("the port is taken");
    assert!(
        matches!(error, CoordinatorError::PortInUse { .. }),
        "{error}"
    );
    assert!(
        !running.dir.path().join("new").exists(),
        "nothing is left behind"
    );
    let any = ([127, 0, 0, 1], 0).into();
    let error = Service::bind(options(any, "run"))
        .await
        .expect_err("the directory is taken");
    assert!(
        matches!(error, CoordinatorError::Occupied { .. }),
        "{error}"
    );
    std::fs::write(running.dir.path().join("file"), "").expect("it is writable");
    let error = Service::bind(options(any, "file/run"))
        .await
        .expect_err("a file is in the way");
    assert!(matches!(error, CoordinatorError::RunDir { .. }), "{error}");
}
