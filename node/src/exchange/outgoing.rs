//! Streams to the other members.

use std::time::Duration;

use bytes::Bytes;
use ecq_cluster::{FrameKey, Rank, View};
use ecq_proto::v1::exchange_client::ExchangeClient;
use ecq_proto::v1::{FrameChunk, Opening};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Uri};

use super::chunk;
use super::meter::Meter;
use crate::connect::{self, causes, describe};
use crate::driver::Input;

/// The sending ends of the streams to all other members. Dropping it ends the streams in order.
#[derive(Debug)]
pub(crate) struct Broadcast {
    view: u64,
    rank: Rank,
    peers: Vec<mpsc::Sender<FrameChunk>>,
}

impl Broadcast {
    /// Hands a frame to every stream; waits while a stream is two steps behind. Called by the
    /// trainer's thread.
    ///
    /// A broken stream takes nothing more. It has been reported by the task that watches it, and
    /// what follows from it is not decided here.
    pub(crate) fn send(&self, step: u64, bucket: u32, frame: &Bytes) {
        let key = FrameKey {
            view: self.view,
            step,
            rank: self.rank,
            bucket,
        };
        for peer in &self.peers {
            for chunk in chunk::cut(key, frame.clone()) {
                if peer.blocking_send(chunk).is_err() {
                    break;
                }
            }
        }
    }
}

/// What it takes to open the streams of a view.
pub(crate) struct Plan {
    pub(crate) run: String,
    pub(crate) view: View,
    pub(crate) rank: Rank,
    /// Most chunks of a contribution; two contributions may be under way.
    pub(crate) chunks: usize,
    pub(crate) patience: Duration,
}

/// Opens a stream to every other member of the view and watches over it: `events` hears when the
/// member has received all of an ended stream, or that the stream broke.
pub(crate) async fn link(
    plan: Plan,
    meter: &Meter,
    events: &mpsc::Sender<Input>,
) -> Result<Broadcast, (Rank, String)> {
    let mut peers = Vec::new();
    let Plan {
        run,
        view,
        rank: own,
        chunks,
        patience,
    } = plan;
    for (rank, member) in (0..).zip(&view.members) {
        if rank == own {
            continue;
        }
        let channel = connect(&member.address, meter, patience)
            .await
            .map_err(|reason| (rank, format!("{}: {reason}", member.address)))?;
        let (sender, chunks) = mpsc::channel(2 * chunks + 1);
        let opening = Opening {
            run: run.clone(),
            view: view.number,
            rank: own,
        };
        let opening = FrameChunk {
            opening: Some(opening),
            header: None,
            data: Bytes::new(),
        };
        sender
            .try_send(opening)
            .map_err(|_| (rank, "its queue is full".to_owned()))?;
        peers.push(sender);
        let events = events.clone();
        tokio::spawn(async move {
            let answer = ExchangeClient::new(channel)
                .contribute(ReceiverStream::new(chunks))
                .await;
            let ended = match answer {
                Ok(_) => Input::Received { rank },
                Err(status) => Input::PeerLost {
                    rank,
                    reason: describe(&status),
                },
            };
            let _driver_is_gone = events.send(ended).await;
        });
    }
    Ok(Broadcast {
        view: view.number,
        rank: own,
        peers,
    })
}

/// Connects to a member over a socket whose writes are counted.
async fn connect(address: &str, meter: &Meter, patience: Duration) -> Result<Channel, String> {
    let endpoint = connect::endpoint(address, patience).map_err(|error| causes(&error))?;
    let attempt = || {
        let meter = meter.clone();
        endpoint.connect_with_connector(tower::service_fn(move |uri: Uri| {
            let meter = meter.clone();
            async move {
                let host = uri
                    .host()
                    .unwrap_or_default()
                    .trim_matches(['[', ']'])
                    .to_owned();
                let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
                stream.set_nodelay(true)?;
                Ok::<_, std::io::Error>(TokioIo::new(meter.on(stream)))
            }
        }))
    };
    connect::patiently(patience, attempt)
        .await
        .map_err(|error| causes(&error))
}
