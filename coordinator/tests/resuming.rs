//! A coordinator that is started again, by its words. What comes of whole runs is in `tests/recovery.rs`.

mod nodes;

use ecq_cluster::{RunConfig, ToCoordinator, ToNode};
use ecq_coordinator::{CoordinatorError, Options, Service};
use nodes::{Running, config};

/// A run with a view, whose coordinator has ended.
async fn begun() -> tempfile::TempDir {
    let running = Running::start(config(2)).await;
    let members = running.cluster(2).await;
    running.stop.cancel();
    let (result, dir) = running.end().await;
    result.expect_err("it was stopped");
    drop(members);
    dir
}

#[tokio::test]
async fn members_take_their_places_and_strangers_do_not() {
    let running = Running::resume(config(2), begun().await).await;
    for (node, view, welcome) in [(1, 1, true), (77, 1, false), (1, 1, false), (2, 9, false)] {
        let mut session = running.connect().await;
        let back = ToCoordinator::Return {
            node,
            view,
            frozen: true,
        };
        session.say(back).await;
        match session.hear().await {
            // It stands still, so the view has to change.
            Some(ToNode::Freeze { view: 1 }) => assert!(welcome, "node {node}"),
            Some(ToNode::Excluded(_)) => assert!(!welcome, "node {node}"),
            other => panic!("node {node}: {other:?}"),
        }
    }
    running.stop.cancel();
    running.end().await.0.expect_err("it was stopped");
}

#[tokio::test]
async fn another_run_is_not_resumed() {
    let dir = begun().await;
    let other = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        config: RunConfig {
            seed: 99,
            ..config(2)
        },
        run_dir: dir.path().join("run"),
        resume: true,
    };
    match Service::bind(other).await {
        Err(CoordinatorError::OtherRun { keys, .. }) => assert_eq!(keys, ["seed"]),
        other => panic!("it is another run: {other:?}"),
    }
}
