//! Taking delivery of the final model.

use std::io::Write as _;
use std::path::Path;

use ecq_cluster::NodeId;
use ecq_proto::limits::MODEL_BYTES_MAX;
use ecq_proto::v1::ModelChunk;
use tonic::{Status, Streaming};

use crate::run_dir::Partial;

/// Stores the model that `chunks` carry as `path`: whole, or not at all. Only `sender` may deliver.
pub(crate) async fn receive(
    mut chunks: Streaming<ModelChunk>,
    sender: Option<NodeId>,
    path: &Path,
) -> Result<(), Status> {
    let unwritable = |error: std::io::Error| {
        Status::resource_exhausted(format!("cannot write {}: {error}", path.display()))
    };
    let mut partial = None;
    let (mut received, mut total) = (0_u64, 0);
    while let Some(chunk) = chunks.message().await? {
        if Some(chunk.node) != sender {
            return Err(Status::permission_denied(
                "only rank 0 of the view delivers the model",
            ));
        }
        if partial.is_none() {
            total = chunk.total_bytes;
            if total > MODEL_BYTES_MAX {
                let text = format!("a model of {total} bytes; at most {MODEL_BYTES_MAX} are taken");
                return Err(Status::resource_exhausted(text));
            }
            partial = Some(Partial::create(path).map_err(unwritable)?);
        }
        received += chunk.data.len() as u64;
        if received > total {
            return Err(Status::invalid_argument(format!(
                "more than the {total} bytes announced"
            )));
        }
        if let Some(partial) = &mut partial {
            partial.file.write_all(&chunk.data).map_err(unwritable)?;
        }
    }
    match partial {
        Some(partial) if received == total => partial.complete().map_err(unwritable),
        _ => Err(Status::invalid_argument(format!(
            "{received} of {total} bytes: not a model"
        ))),
    }
}
