//! Taking delivery of the final model.

use std::io;
use std::path::Path;

use ecq_cluster::NodeId;
use ecq_proto::limits::MODEL_BYTES_MAX;
use ecq_proto::v1::ModelChunk;
use tokio::io::AsyncWriteExt as _;
use tonic::{Status, Streaming};

use crate::run_dir::Partial;

/// Stores the model that `chunks` carry as `path`: whole and durable, or not at all. Only `sender`
/// may deliver, and only once.
pub(crate) async fn receive(
    mut chunks: Streaming<ModelChunk>,
    sender: Option<NodeId>,
    path: &Path,
) -> Result<(), Status> {
    let unwritable = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => Status::already_exists("the model has a deliverer already"),
        _ => Status::resource_exhausted(format!("cannot write {}: {error}", path.display())),
    };
    let first = chunks.message().await?;
    let first = first.ok_or_else(|| Status::invalid_argument("a delivery without a chunk"))?;
    let total = admit(&first, sender)?;
    let partial = Partial::create(path).map_err(unwritable)?;
    // Disks are slow: neither writing nor the final sync may hold up the sessions' heartbeats.
    let mut file = tokio::fs::File::from_std(partial.file.try_clone().map_err(unwritable)?);
    let (mut received, mut next) = (0, Some(first));
    while let Some(chunk) = next {
        received += chunk.data.len() as u64;
        if received > total {
            let text = format!("more than the {total} bytes announced");
            return Err(Status::invalid_argument(text));
        }
        file.write_all(&chunk.data).await.map_err(unwritable)?;
        next = chunks.message().await?;
    }
    if received < total {
        let text = format!("{received} of the {total} bytes announced");
        return Err(Status::invalid_argument(text));
    }
    file.flush().await.map_err(unwritable)?;
    let completed = tokio::task::spawn_blocking(move || partial.complete()).await;
    let completed = completed.map_err(|error| Status::internal(error.to_string()))?;
    completed.map_err(unwritable)
}

/// The number of bytes to come, if this node may deliver as many.
fn admit(first: &ModelChunk, sender: Option<NodeId>) -> Result<u64, Status> {
    if Some(first.node) != sender {
        let text = "only rank 0 of the view delivers the model";
        return Err(Status::permission_denied(text));
    }
    match first.total_bytes {
        0 => Err(Status::invalid_argument("a model has at least 1 byte")),
        total @ 1..=MODEL_BYTES_MAX => Ok(total),
        total => Err(Status::resource_exhausted(format!(
            "a model of {total} bytes; at most {MODEL_BYTES_MAX} are taken"
        ))),
    }
}
