//! Whoever is not a member cannot do a run harm, whatever it says; seats are free again for others.

mod nodes;

use std::time::Duration;

use ecq_cluster::{Digest, Failure, Fingerprint, Hello, RunConfig, ToCoordinator, ToNode};
use ecq_proto::v1::{NodeMessage, ReplicaDigest, node_message};
use nodes::{FINAL, Node, Running, config, fingerprint, hello};
use tonic::Code;

fn short_lease() -> RunConfig {
    RunConfig {
        lease_seconds: 0.5,
        ..config(2)
    }
}

/// What the coordinator's last words to a node are, before it closes the session in order.
async fn last_words(node: &mut Node) -> String {
    let words = node.hear().await.expect("something is said");
    assert_eq!(node.hear().await, None, "nothing follows {words:?}");
    match words {
        ToNode::Refused(refusal) => refusal.to_string(),
        ToNode::Abort(failure) => failure.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn words_before_the_greeting_end_the_session() {
    let running = Running::start(config(2)).await;
    let finished = ToCoordinator::Finished {
        view: 1,
        steps: 2,
        digest: FINAL,
    };
    let leave = ToCoordinator::Leave(Failure::Fault("whatever".into()));
    let prepared = ToCoordinator::Prepared {
        fingerprint: fingerprint(),
        kept: Vec::new(),
    };
    for words in [ToCoordinator::Heartbeat, finished, leave, prepared] {
        let mut node = running.connect().await;
        node.say(words).await;
        assert_eq!(node.hung_up_on().await.code(), Code::FailedPrecondition);
    }
    drop(running.cluster(2).await);
}

#[tokio::test]
async fn who_never_greets_is_hung_up_on() {
    let running = Running::start(short_lease()).await;
    let mut silent = running.connect().await;
    assert_eq!(silent.hung_up_on().await.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn nonsense_ends_a_session_with_the_reason_and_frees_the_seat() {
    let running = Running::start(config(2)).await;
    let long = ReplicaDigest {
        step: 0,
        digest: vec![0; 33],
    };
    for (kind, part) in [
        (None, "kind"),
        (Some(node_message::Kind::Digest(long)), "33"),
    ] {
        let mut node = running.join(Some(0)).await;
        node.raw(NodeMessage { kind }).await;
        let status = node.hung_up_on().await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(part), "{status}");
    }
    drop(running.cluster(2).await);
}

#[tokio::test]
async fn a_rank_that_is_taken_is_not_given_twice_and_gaps_are_filled() {
    let running = Running::start(config(2)).await;
    let first = running.join(Some(1)).await;
    let mut second = running.connect().await;
    let rank = Some(1);
    let asked = ToCoordinator::Hello(Hello { rank, ..hello() });
    second.say(asked).await;
    let reason = last_words(&mut second).await;
    assert!(reason.contains("rank 1 is taken"), "{reason}");
    let mut third = running.join(None).await;
    for node in [&first, &third] {
        node.say(ToCoordinator::Prepared {
            fingerprint: fingerprint(),
            kept: Vec::new(),
        })
        .await;
    }
    assert_eq!(third.view().await.rank_of(third.id), Some(0));
}

#[tokio::test]
async fn other_data_are_refused_with_both_digests() {
    let running = Running::start(config(2)).await;
    let first = running.join(Some(0)).await;
    first
        .say(ToCoordinator::Prepared {
            fingerprint: fingerprint(),
            kept: Vec::new(),
        })
        .await;
    let data = Digest([0xab; 32]);
    let mut stranger = running.join(Some(1)).await;
    let other = Fingerprint {
        data,
        ..fingerprint()
    };
    stranger
        .say(ToCoordinator::Prepared {
            fingerprint: other,
            kept: Vec::new(),
        })
        .await;
    let reason = last_words(&mut stranger).await;
    for digest in [data, fingerprint().data] {
        assert!(reason.contains(&digest.to_string()), "{reason}");
    }
}

/// The heart of rank 0 beats for as long as it takes: only the silent member is named.
#[tokio::test]
async fn a_heart_that_beats_keeps_a_lease() {
    let running = Running::start(short_lease()).await;
    let mut members = running.cluster(2).await;
    let mut one = members.pop().expect("there are two");
    let mut zero = members.pop().expect("there are two");
    let mut beats = tokio::time::interval(Duration::from_millis(50));
    let heard = loop {
        tokio::select! {
            heard = zero.hear() => break heard,
            _ = beats.tick() => {}
        }
        zero.say(ToCoordinator::Heartbeat).await;
    };
    assert_eq!(heard, Some(ToNode::Freeze { view: 1 }), "it is still there");
    // The other may only have been frozen: it is told.
    let reason = last_words(&mut one).await;
    assert!(
        reason.contains("rank 1 is lost: nothing was heard"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_node_that_falls_silent_while_others_gather_only_loses_its_seat() {
    let running = Running::start(short_lease()).await;
    let mut silent = running.join(Some(1)).await;
    let reason = last_words(&mut silent).await;
    assert!(reason.contains("nothing was heard"), "{reason}");
    drop(running.cluster(2).await);
}

#[tokio::test]
async fn a_stop_ends_a_coordinator_that_nobody_has_joined() {
    let running = Running::start(config(2)).await;
    running.stop.cancel();
    let (result, _dir) = running.end().await;
    let error = result.expect_err("it was stopped").to_string();
    assert!(error.contains("told to stop"), "{error}");
}

/// Clients that never hang up do not keep the coordinator from its end.
#[tokio::test]
async fn who_does_not_hang_up_is_not_waited_for_long() {
    let running = Running::start(config(2)).await;
    let members = running.cluster(2).await;
    running.stop.cancel();
    let (result, _dir) = running.end().await;
    let error = result.expect_err("it was stopped").to_string();
    assert!(error.contains("told to stop"), "{error}");
    drop(members);
}
