//! One model is delivered, once.

mod nodes;

use ecq_cluster::NodeId;
use ecq_proto::v1::ModelChunk;
use nodes::{DEADLINE, Running, config};
use tokio::time::timeout;
use tonic::Code;

#[tokio::test]
async fn a_model_is_never_replaced() {
    let running = Running::start(config(1)).await;
    let path = running.dir.path().join("run/model.safetensors");
    let members = running.cluster(1).await;
    let first = members[0].deliver(5, b"first").await;
    first.expect("the first is taken");
    let second = members[0].deliver(6, b"second").await;
    let refused = second.expect_err("there is a model");
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(std::fs::read(path).ok().as_deref(), Some(&b"first"[..]));
}

fn half(node: NodeId, value: u8) -> ModelChunk {
    ModelChunk {
        node,
        total_bytes: 2,
        data: vec![value].into(),
    }
}

#[tokio::test]
async fn two_deliveries_at_a_time_do_not_mix() {
    let running = Running::start(config(1)).await;
    let path = running.dir.path().join("run/model.safetensors");
    let members = running.cluster(1).await;
    let node = members[0].id;
    let deliveries = [members[0].deliver_slowly(), members[0].deliver_slowly()];
    for (value, (chunks, _)) in (1..).zip(&deliveries) {
        let sent = timeout(DEADLINE, chunks.send(half(node, value))).await;
        sent.expect("in time").expect("the delivery has begun");
    }
    let mut taken = Vec::new();
    for (value, (chunks, answer)) in (1..).zip(deliveries) {
        let sent = timeout(DEADLINE, chunks.send(half(node, value))).await;
        let _turned_away = sent.expect("in time");
        drop(chunks);
        let answer = timeout(DEADLINE, answer).await.expect("in time");
        match answer.expect("it does not panic") {
            Code::Ok => taken.push(value),
            code => assert_eq!(code, Code::AlreadyExists),
        }
    }
    let [value] = taken[..] else {
        panic!("one delivery was to be taken: {taken:?}")
    };
    assert_eq!(std::fs::read(path).ok(), Some(vec![value; 2]));
}

#[tokio::test]
async fn a_delivery_that_breaks_off_leaves_the_way_free_for_another() {
    let running = Running::start(config(1)).await;
    let members = running.cluster(1).await;
    let short = members[0].deliver(9, b"short").await;
    assert_eq!(
        short.expect_err("it is truncated").code(),
        Code::InvalidArgument
    );
    let whole = members[0].deliver(5, b"whole").await;
    whole.expect("nothing is in the way");
}
