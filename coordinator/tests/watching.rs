//! Watchers see each new reason and the end.

mod nodes;

use ecq_cluster::ToCoordinator;
use ecq_proto::v1::{RunStatus, WatchRequest};
use nodes::{DEADLINE, Running, config, fingerprint};
use tonic::Streaming;

async fn watch(running: &Running) -> Streaming<RunStatus> {
    let watching = running.client().await.watch(WatchRequest {}).await;
    watching.expect("watching is free").into_inner()
}

async fn next(statuses: &mut Streaming<RunStatus>) -> Option<RunStatus> {
    let next = tokio::time::timeout(DEADLINE, statuses.message()).await;
    next.expect("in time").expect("the stream ends in order")
}

/// The first status whose reason contains `part`.
async fn until(statuses: &mut Streaming<RunStatus>, part: &str) -> RunStatus {
    loop {
        let status = next(statuses).await.expect("the run goes on");
        if status.reason.contains(part) {
            return status;
        }
    }
}

#[tokio::test]
async fn every_reason_on_the_way_is_seen() {
    let running = Running::start(config(2)).await;
    let mut statuses = watch(&running).await;
    let status = until(&mut statuses, "0 of 2 have joined").await;
    assert_eq!((&*status.name, status.train_loss), ("run", None));
    let first = running.join(None).await;
    until(&mut statuses, "1 of 2 have joined").await;
    let second = running.join(None).await;
    until(&mut statuses, "0 of 2 are ready").await;
    first
        .say(ToCoordinator::Prepared {
            fingerprint: fingerprint(),
            kept: Vec::new(),
        })
        .await;
    until(&mut statuses, "1 of 2 are ready").await;
    second
        .say(ToCoordinator::Prepared {
            fingerprint: fingerprint(),
            kept: Vec::new(),
        })
        .await;
    let status = until(&mut statuses, "2 members train").await;
    assert_eq!((status.steps_done, status.steps_total), (0, 2));
    for node in [&first, &second] {
        node.report(0, 2.5).await;
    }
    let status = loop {
        let status = next(&mut statuses).await.expect("the run goes on");
        if status.steps_done > 0 {
            break status;
        }
    };
    assert_eq!(
        (status.train_loss, status.bits_per_element),
        (Some(0.5), Some(1.6))
    );
}

#[tokio::test]
async fn a_failure_is_the_last_thing_that_is_seen() {
    let running = Running::start(config(2)).await;
    let mut statuses = watch(&running).await;
    let mut members = running.cluster(2).await;
    drop(members.pop());
    until(&mut statuses, "view 1 ends").await;
    drop(members);
    until(&mut statuses, "failed: rank 0 is lost").await;
    assert_eq!(next(&mut statuses).await, None);
}
