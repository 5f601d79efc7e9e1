//! The final model: a safetensors file, handed to the coordinator in chunks.

use std::collections::HashMap;

use bytes::Bytes;
use ecq_cluster::{Digest, Failure, NodeId};
use ecq_proto::limits::CHUNK_BYTES;
use ecq_proto::v1::ModelChunk;
use ecq_proto::v1::coordinator_client::CoordinatorClient;
use safetensors::tensor::{Dtype, TensorView};
use tonic::transport::Channel;

use crate::connect::describe;
use crate::workload::Workload;

/// The model with PyTorch-style names and the run's facts as metadata.
pub(crate) fn pack(workload: &Workload, digest: Digest) -> Result<Bytes, Failure> {
    let fault = |error| Failure::Fault(format!("cannot write the model as safetensors: {error}"));
    let parameters = &workload.replica.parameters;
    let bytes: Vec<u8> = parameters
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let mut tensors = Vec::new();
    let mut start = 0;
    for tensor in workload.model.tensors() {
        let end = start + 4 * tensor.shape.iter().product::<usize>();
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &bytes[start..end]);
        tensors.push((tensor.name.as_str(), view.map_err(fault)?));
        start = end;
    }
    let config = &workload.config;
    let facts = [
        ("run", config.name.clone()),
        ("data", config.data.clone()),
        ("model", config.model.clone()),
        ("codec", workload.codec.to_string()),
        ("steps", workload.steps.to_string()),
        ("replica_digest", digest.to_string()),
    ];
    let facts: HashMap<String, String> = facts
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    Ok(safetensors::serialize(tensors, Some(facts))
        .map_err(fault)?
        .into())
}

/// Sends the file; the answer comes when it is stored.
pub(crate) async fn send(channel: Channel, node: NodeId, mut model: Bytes) -> Result<(), String> {
    let total_bytes = model.len() as u64;
    let chunks = std::iter::from_fn(move || {
        let data = model.split_to(model.len().min(CHUNK_BYTES));
        (!data.is_empty()).then_some(ModelChunk {
            node,
            total_bytes,
            data,
        })
    });
    let sent = CoordinatorClient::new(channel)
        .deliver(tokio_stream::iter(chunks))
        .await;
    sent.map(drop)
        .map_err(|status| format!("cannot deliver the model: {}", describe(&status)))
}
