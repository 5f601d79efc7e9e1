//! What a completed run leaves.

mod nodes;

use ecq_cluster::{Evaluation, ToCoordinator, ToNode};
use ecq_coordinator::CoordinatorError;
use ecq_proto::NodeWords;
use ecq_proto::v1::WatchRequest;
use nodes::{FINAL, Running, config};
use tonic::Code;

/// Both members report both steps and that they are done.
async fn train(members: &[nodes::Node]) {
    for step in [0, 1] {
        for (rank, node) in (1..).zip(members) {
            node.report(step, f64::from(rank) * (step + 1) as f64).await;
            node.say(ToCoordinator::Digest {
                step,
                digest: FINAL,
            })
            .await;
        }
    }
    let evaluation = Evaluation {
        steps: 2,
        loss: 0.5,
        accuracy: 0.75,
    };
    members[0].words(NodeWords::Evaluation(evaluation)).await;
}

async fn finish(members: &mut [nodes::Node]) {
    for node in &mut *members {
        node.say(ToCoordinator::Finished {
            view: 1,
            steps: 2,
            digest: FINAL,
        })
        .await;
    }
    for node in members {
        assert_eq!(node.hear().await, Some(ToNode::End));
        assert_eq!(node.hear().await, None, "the session ends with the run");
    }
}

#[tokio::test]
async fn a_run_that_completes_leaves_everything() {
    let running = Running::start(config(2)).await;
    let mut watcher = running
        .client()
        .await
        .watch(WatchRequest {})
        .await
        .expect("watching is free")
        .into_inner();
    let mut members = running.cluster(2).await;
    train(&members).await;
    members[0]
        .deliver(9, b"the model")
        .await
        .expect("rank 0 delivers");
    finish(&mut members).await;
    let (result, dir) = running.end().await;
    let summary = result.expect("the run completed");
    assert_eq!(
        (summary.nodes, summary.steps, summary.parameters),
        (2, 2, 650)
    );
    assert_eq!((summary.test_accuracy, summary.test_loss), (0.75, 0.5));
    assert_eq!(summary.epochs, 1.0);
    // (1 + 2 + 2 + 4) over 20 samples: both steps are the last epoch.
    assert!(
        (summary.train_loss - 0.45).abs() < 1e-12,
        "{}",
        summary.train_loss
    );
    assert_eq!(summary.median_step_seconds, 0.25);
    assert_eq!(summary.bits_per_element, 1.6);
    assert_eq!(summary.compression_vs_fp32, 20.0);
    assert_eq!(summary.bytes_sent_per_node_per_step, 150.0);
    assert_eq!(summary.replica_digest, FINAL.to_string());
    assert!(summary.replicas_identical);

    let read = |name: &str| {
        std::fs::read_to_string(dir.path().join("run").join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert_eq!(read("model.safetensors"), "the model");
    let stored: ecq_coordinator::Summary =
        serde_json::from_str(&read("summary.json")).expect("it is a summary");
    assert_eq!(stored, summary);
    assert_eq!(read("metrics.jsonl").lines().count(), 3);
    let history: serde_json::Value =
        serde_json::from_str(read("history.jsonl").trim()).expect("one view");
    assert_eq!(history["members"].as_array().map(Vec::len), Some(2));

    let mut last = None;
    while let Ok(Some(status)) = watcher.message().await {
        last = Some(status);
    }
    let last = last.expect("there was a status");
    assert_eq!((last.steps_done, last.steps_total), (2, 2));
    assert_eq!(
        (last.test_accuracy, &*last.reason),
        (Some(0.75), "completed")
    );
}

#[tokio::test]
async fn only_a_whole_model_of_rank_0_is_stored() {
    let running = Running::start(config(2)).await;
    let path = running.dir.path().join("run/model.safetensors");
    let early = running.connect().await;
    let refused = |result: Result<(), tonic::Status>| result.expect_err("it is refused").code();
    assert_eq!(
        refused(early.deliver(3, b"big").await),
        Code::PermissionDenied
    );
    let members = running.cluster(2).await;
    assert_eq!(
        refused(members[1].deliver(3, b"big").await),
        Code::PermissionDenied
    );
    assert_eq!(
        refused(members[0].deliver(4, b"big").await),
        Code::InvalidArgument
    );
    assert_eq!(
        refused(members[0].deliver(8, b"much too big").await),
        Code::InvalidArgument
    );
    assert_eq!(
        refused(members[0].deliver(u64::MAX, b"huge").await),
        Code::ResourceExhausted
    );
    assert_eq!(
        refused(members[0].deliver(0, b"").await),
        Code::InvalidArgument
    );
    let names: Vec<_> = std::fs::read_dir(running.dir.path().join("run"))
        .expect("it is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("model"))
        .collect();
    assert!(names.is_empty(), "{names:?}");
    members[0]
        .deliver(3, b"big")
        .await
        .expect("now it is whole");
    assert_eq!(std::fs::read(path).ok().as_deref(), Some(&b"big"[..]));
}

#[tokio::test]
async fn a_run_without_its_model_is_not_a_completed_run() {
    let running = Running::start(config(2)).await;
    let mut members = running.cluster(2).await;
    train(&members).await;
    finish(&mut members).await;
    let (result, dir) = running.end().await;
    assert!(
        matches!(result, Err(CoordinatorError::Failed(_))),
        "{result:?}"
    );
    assert!(!dir.path().join("run/summary.json").exists());
}
