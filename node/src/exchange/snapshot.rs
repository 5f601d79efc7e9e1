//! A replica on its way to a node that follows the view.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ecq_cluster::{Digest, Step};
use ecq_proto::limits::CHUNK_BYTES;
use ecq_proto::v1::exchange_client::ExchangeClient;
use ecq_proto::v1::{SnapshotChunk, SnapshotHeader, SnapshotRequest};
use tokio::sync::oneshot;

use super::meter::Meter;
use super::outgoing;
use crate::connect::describe;

/// A replica between two steps.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The first step that is not applied to it.
    pub(crate) next: Step,
    pub(crate) digest: Digest,
    /// Parameters and optimizer state, little-endian.
    pub(crate) data: Bytes,
}

/// A request for a snapshot.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Steps before this one must be applied.
    pub(crate) at_least: Step,
    pub(crate) reply: oneshot::Sender<Snapshot>,
}

/// The messages that carry a snapshot.
pub(super) fn cut(snapshot: Snapshot) -> impl Iterator<Item = SnapshotChunk> {
    let Snapshot {
        next,
        digest,
        mut data,
    } = snapshot;
    let mut header = Some(SnapshotHeader {
        next,
        digest: digest.0.to_vec(),
        total_bytes: data.len() as u64,
    });
    std::iter::from_fn(move || {
        if header.is_none() && data.is_empty() {
            return None;
        }
        let data = data.split_to(data.len().min(CHUNK_BYTES));
        Some(SnapshotChunk {
            header: header.take(),
            data,
        })
    })
}

/// Where to get a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) run: String,
    pub(crate) address: String,
    pub(crate) at_least: Step,
    /// What a replica of this run takes; nothing else is accepted.
    pub(crate) bytes: usize,
    /// How long to try to reach the member.
    pub(crate) patience: Duration,
}

/// Fetches a snapshot; an error says what went wrong.
pub(crate) async fn fetch(source: Source, meter: &Meter) -> Result<Snapshot, String> {
    let channel = outgoing::connect(&source.address, meter, source.patience).await?;
    let request = SnapshotRequest {
        run: source.run,
        at_least: source.at_least,
    };
    let answer = ExchangeClient::new(channel).snapshot(request).await;
    let mut chunks = answer.map_err(|status| describe(&status))?.into_inner();
    let mut header = None;
    let mut data = BytesMut::new();
    while let Some(chunk) = chunks.message().await.map_err(|status| describe(&status))? {
        if let Some(found) = chunk.header {
            if found.total_bytes != source.bytes as u64 {
                let (found, expected) = (found.total_bytes, source.bytes);
                return Err(format!(
                    "a snapshot of {found} bytes where a replica has {expected}"
                ));
            }
            data.reserve(source.bytes);
            header = Some(found);
        }
        if header.is_none() || data.len() + chunk.data.len() > source.bytes {
            return Err("a snapshot that is not what it announced".to_owned());
        }
        data.extend_from_slice(&chunk.data);
    }
    let Some(header) = header.filter(|_| data.len() == source.bytes) else {
        return Err("the snapshot ends too early".to_owned());
    };
    let digest = header.digest.try_into().map(Digest);
    Ok(Snapshot {
        next: header.next,
        digest: digest.map_err(|_| "a snapshot without a digest".to_owned())?,
        data: data.freeze(),
    })
}
