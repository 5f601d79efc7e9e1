//! A node's session, read to its end.

use std::time::Duration;

use ecq_cluster::{NodeId, ToCoordinator};
use ecq_proto::NodeWords;
use ecq_proto::v1::NodeMessage;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::driver::Input;

/// Passes the words of a node, which has its identity from its first session, on until its session ends, then says so.
pub(crate) async fn listen(
    session: NodeId,
    messages: Streaming<NodeMessage>,
    patience: Duration,
    inputs: mpsc::Sender<Input>,
) {
    let status = read(session, messages, patience, &inputs).await.err();
    let ended = Input::Disconnected { session, status };
    let _run_is_over = inputs.send(ended).await;
}

/// Reads until the node hangs up. An error says how it broke the contract: a session begins with a
/// greeting, which comes within `patience`, and every message means something.
async fn read(
    session: NodeId,
    mut messages: Streaming<NodeMessage>,
    patience: Duration,
    inputs: &mpsc::Sender<Input>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(patience, messages.message()).await;
    let mut message = first.map_err(|_| {
        Status::deadline_exceeded(format!(
            "no greeting within {:.1} s",
            patience.as_secs_f64()
        ))
    })?;
    let mut greeted = false;
    while let Ok(Some(said)) = message {
        let words = NodeWords::try_from(said)?;
        greeted |= matches!(
            words,
            NodeWords::Protocol(ToCoordinator::Hello(_) | ToCoordinator::Return { .. })
        );
        if !greeted {
            return Err(Status::failed_precondition("a session begins with Hello"));
        }
        if inputs.send(Input::Said { session, words }).await.is_err() {
            break; // The run is over: nobody listens any more.
        }
        message = messages.message().await;
    }
    Ok(())
}
