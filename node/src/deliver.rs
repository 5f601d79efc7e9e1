//! The final model: a safetensors file, handed to the coordinator in chunks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ecq_cluster::{Digest, Failure, NodeId, RunConfig, Step};
use ecq_nn::TensorSpec;
use ecq_proto::limits::CHUNK_BYTES;
use ecq_proto::v1::ModelChunk;
use ecq_proto::v1::coordinator_client::CoordinatorClient;
use ecq_quant::CodecSpec;
use safetensors::tensor::{Dtype, TensorView};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::connect::describe;

/// What a model's file says of where it comes from.
pub(crate) struct Origin<'a> {
    pub(crate) config: &'a RunConfig,
    pub(crate) codec: &'a CodecSpec,
    /// Steps applied.
    pub(crate) steps: Step,
    /// Digest of the replica.
    pub(crate) digest: Digest,
}

/// The model with PyTorch-style names and the run's facts as metadata. The same model of the same run
/// is the same file, byte for byte.
pub(crate) fn pack(
    origin: &Origin<'_>,
    tensors: &[TensorSpec],
    parameters: &[f32],
) -> Result<Bytes, Failure> {
    let bytes: Vec<u8> = parameters
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let mut views = Vec::new();
    let mut start = 0;
    for tensor in tensors {
        let end = start + 4 * tensor.shape.iter().product::<usize>();
        let view = (Dtype::F32, tensor.shape.clone(), &bytes[start..end]);
        views.push((tensor.name.clone(), view));
        start = end;
    }
    let Origin {
        config,
        codec,
        steps,
        digest,
    } = origin;
    let facts: BTreeMap<&str, String> = BTreeMap::from([
        ("run", config.name.clone()),
        ("data", config.data.clone()),
        ("model", config.model.clone()),
        ("codec", codec.to_string()),
        ("steps", steps.to_string()),
        ("replica_digest", digest.to_string()),
    ]);
    let fault = |error| Failure::Fault(format!("cannot write the model as safetensors: {error}"));
    serialize(&facts, views).map(Bytes::from).map_err(fault)
}

/// Type, shape and little-endian bytes of a tensor.
pub(crate) type Tensor<'a> = (Dtype, Vec<usize>, &'a [u8]);

/// A safetensors file with these metadata; the same for the same contents.
pub(crate) fn serialize(
    facts: &BTreeMap<&str, String>,
    tensors: Vec<(String, Tensor<'_>)>,
) -> Result<Vec<u8>, String> {
    let views: Result<Vec<_>, _> = tensors
        .into_iter()
        .map(|(name, (kind, shape, data))| Ok((name, TensorView::new(kind, shape, data)?)))
        .collect();
    let views = views.map_err(|error: safetensors::SafeTensorError| error.to_string())?;
    let facts = serde_json::to_string(facts).map_err(|error| error.to_string())?;
    let file = safetensors::serialize(views, None).map_err(|error| error.to_string())?;
    describe_as(&facts, &file).ok_or_else(|| "no header".to_owned())
}

/// Puts metadata into the header of a safetensors file that has none. The library takes them as a hash
/// map and writes them in an order that changes from run to run.
fn describe_as(facts: &str, file: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = file.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (header, tensors) = rest.split_at_checked(length)?;
    let header = std::str::from_utf8(header).ok()?.trim_end();
    let header = header.strip_prefix('{')?;
    let mut header = format!("{{\"__metadata__\":{facts},{header}").into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = (header.len() as u64).to_le_bytes();
    Some([&length, &header[..], tensors].concat())
}

/// Between two attempts to deliver.
const AGAIN: Duration = Duration::from_millis(200);

/// Sends the file; the answer comes when it is stored. A coordinator that goes away has until `patience`
/// ends to come back.
pub(crate) async fn send(
    channel: Channel,
    node: NodeId,
    model: Bytes,
    patience: Duration,
) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let status = match attempt(channel.clone(), node, model.clone()).await {
            Ok(()) => return Ok(()),
            // The one that is back has stored it already.
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            Err(status) => status,
        };
        let refused = matches!(
            status.code(),
            Code::InvalidArgument | Code::PermissionDenied | Code::ResourceExhausted
        );
        if refused || begun.elapsed() > patience {
            return Err(format!("cannot deliver the model: {}", describe(&status)));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn attempt(channel: Channel, node: NodeId, mut model: Bytes) -> Result<(), Status> {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::digits;
    use safetensors::SafeTensors;

    #[test]
    fn the_same_model_is_the_same_file() {
        let rules = digits("softmax");
        let origin = Origin {
            config: &rules.config,
            codec: &rules.codec,
            steps: 3,
            digest: Digest([7; 32]),
        };
        let tensors = rules.model.tensors();
        let pack = || pack(&origin, tensors, &rules.replica.parameters).expect("it is writable");
        let file = pack();
        assert_eq!(file, pack());
        let (_, header) = SafeTensors::read_metadata(&file).expect("it has a header");
        let facts = header
            .metadata()
            .as_ref()
            .expect("it says where it is from");
        assert_eq!((&*facts["steps"], facts.len()), ("3", 6));
        let read = SafeTensors::deserialize(&file).expect("it is a safetensors file");
        for spec in tensors {
            let tensor = read.tensor(&spec.name).expect("it is there");
            assert_eq!(tensor.shape(), spec.shape);
        }
        assert_eq!(read.len(), tensors.len());
    }
}
