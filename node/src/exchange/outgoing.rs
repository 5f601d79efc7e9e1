//! Streams to the other members.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use ecq_cluster::{Decision, FrameKey, Member, Rank, Step, ViewNumber};
use ecq_proto::limits;
use ecq_proto::v1::exchange_client::ExchangeClient;
use ecq_proto::v1::{FrameChunk, Opening};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::{Channel, Uri};

use super::chunk::{self, Counter};
use super::incoming::VIEW_IS_OVER;
use super::meter::Meter;
use crate::connect::{self, causes, describe};
use crate::driver::Input;

/// The sending ends of the streams to all other members, and to who follows the view. Dropping it ends
/// the streams in order.
#[derive(Debug)]
pub(crate) struct Broadcast(Arc<Streams>);

#[derive(Debug)]
struct Streams {
    view: ViewNumber,
    rank: Rank,
    members: Vec<(Rank, mpsc::Sender<FrameChunk>)>,
    observers: Mutex<Vec<Observer>>,
}

/// The sending end of a stream to a node that follows the view.
#[derive(Debug)]
pub(crate) struct Observer {
    /// The first step whose contribution it gets.
    first: Step,
    chunks: mpsc::Sender<FrameChunk>,
}

impl Broadcast {
    /// What the driver says on the same streams.
    pub(crate) fn voice(&self) -> Voice {
        Voice(Arc::downgrade(&self.0))
    }

    /// Hands a frame to every stream; waits while a member's stream is as far behind as members can be. Called
    /// by the trainer's thread.
    ///
    /// A broken stream takes nothing more. It has been reported by the task that watches it, and
    /// what follows from it is not decided here. Nobody waits for who only follows: one that is too
    /// far behind finds its stream ended early, and begins anew.
    pub(crate) fn send(&mut self, step: Step, bucket: u32, frame: &Bytes) {
        let key = FrameKey {
            view: self.0.view,
            step,
            rank: self.0.rank,
            bucket,
        };
        for (_, member) in &self.0.members {
            for chunk in chunk::cut(key, frame.clone()) {
                if member.blocking_send(chunk).is_err() {
                    break;
                }
            }
        }
        self.0.observers().retain(|observer| {
            let mut chunks = chunk::cut(key, frame.clone());
            observer.first > step || chunks.all(|chunk| observer.chunks.try_send(chunk).is_ok())
        });
    }
}

impl Streams {
    fn observers(&self) -> MutexGuard<'_, Vec<Observer>> {
        self.observers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streams of a member as its driver has them: past its trainer, which may be busy, and only as long as
/// that keeps them open.
#[derive(Debug)]
pub(crate) struct Voice(Weak<Streams>);

impl Voice {
    /// Adds a node that follows the view.
    pub(crate) fn add(&self, observer: Observer) {
        if let Some(streams) = self.0.upgrade() {
            streams.observers().push(observer);
        }
    }

    /// Says who makes up a step; returns those whose streams have no room for that, though they have
    /// for all that can be under way.
    pub(crate) fn decide(&self, decision: &Decision) -> Vec<Rank> {
        let Some(streams) = self.0.upgrade() else {
            return Vec::new();
        };
        // What is said on a stream that broke is lost on nobody: that is reported elsewhere.
        let full = |chunks: &mpsc::Sender<FrameChunk>| {
            let said = chunks.try_send(chunk::decision(decision));
            matches!(said, Err(TrySendError::Full(_)))
        };
        streams
            .observers()
            .retain(|observer| observer.first > decision.step || !full(&observer.chunks));
        let members = streams.members.iter();
        let full = members.filter(|(_, chunks)| full(chunks));
        full.map(|(rank, _)| *rank).collect()
    }
}

/// What the streams of a member in a view have in common.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) run: String,
    pub(crate) view: ViewNumber,
    pub(crate) rank: Rank,
    /// Most chunks of a contribution.
    pub(crate) chunks: usize,
    /// Contributions that may be under way at a time, each with a decision.
    pub(crate) steps: usize,
    pub(crate) patience: Duration,
}

impl Plan {
    pub(super) fn opening(&self, first: Option<Step>) -> FrameChunk {
        let opening = Opening {
            run: self.run.clone(),
            view: self.view,
            rank: self.rank,
            first,
        };
        chunk::sealed(FrameChunk {
            opening: Some(opening),
            ..FrameChunk::default()
        })
    }
}

/// Opens a stream to every other member of the view and watches over it: `events` hears when the
/// member has received all of an ended stream, or that the stream broke.
pub(crate) async fn link(
    plan: Plan,
    members: Vec<Member>,
    meter: &Meter,
    events: &mpsc::Sender<Input>,
) -> Result<Broadcast, (Rank, String)> {
    let mut streams = Vec::new();
    for (rank, member) in (0..).zip(&members) {
        if rank == plan.rank {
            continue;
        }
        let channel = connect(&member.address, meter, plan.patience)
            .await
            .map_err(|reason| (rank, format!("{}: {reason}", member.address)))?;
        let (sender, chunks) = mpsc::channel(plan.steps * (plan.chunks + 1) + 1);
        sender
            .try_send(plan.opening(None))
            .map_err(|_| (rank, "its queue is full".to_owned()))?;
        let more = sender.downgrade();
        streams.push((rank, sender));
        let (view, events) = (plan.view, events.clone());
        tokio::spawn(async move {
            let ended = match contribute(channel, chunks).await {
                Ok(()) if more.upgrade().is_none() => Input::Received { view, rank },
                Ok(()) => {
                    let reason = "it took the stream for ended".to_owned();
                    Input::PeerLost { view, rank, reason }
                }
                Err(reason) => Input::PeerLost { view, rank, reason },
            };
            let _driver_is_gone = events.send(ended).await;
        });
    }
    Ok(Broadcast(Arc::new(Streams {
        view: plan.view,
        rank: plan.rank,
        members: streams,
        observers: Mutex::default(),
    })))
}

/// Contributions that may wait for a node that follows the view and is slower than its members.
const OBSERVER_LAG: usize = 64;

/// Opens a stream to a node that follows the view. It takes chunks at once, and they wait until the
/// node is reached. If it is not, or the stream breaks, the node will ask again.
pub(crate) fn stream(plan: Plan, to: Member, first: Step, meter: &Meter) -> Observer {
    let (sender, chunks) = mpsc::channel(OBSERVER_LAG * (plan.chunks + 1) + 1);
    // Invariant: the queue is empty.
    let _opened = sender.try_send(plan.opening(Some(first)));
    let meter = meter.clone();
    tokio::spawn(async move {
        let done = match connect(&to.address, &meter, plan.patience).await {
            Ok(channel) => contribute(channel, chunks).await,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = done {
            tracing::debug!(node = to.node, reason, "who follows cannot be reached");
        }
    });
    Observer {
        first,
        chunks: sender,
    }
}

/// Forwards contributions to a member of the view that lacks them, and who makes up their steps; returns when
/// it has them, or has gone on without: what was under way to it has arrived after all.
pub(crate) async fn supply(
    plan: Plan,
    decisions: Vec<Decision>,
    frames: Vec<(FrameKey, Bytes)>,
    address: &str,
    meter: &Meter,
) -> Result<(), String> {
    let channel = connect(address, meter, plan.patience).await?;
    let opening = plan.opening(None);
    let frames = frames.into_iter();
    let chunks = frames.flat_map(|(key, frame)| chunk::cut(key, frame));
    let decisions = decisions.iter().map(chunk::decision);
    let decisions: Vec<FrameChunk> = std::iter::once(opening).chain(decisions).collect();
    let chunks = tokio_stream::iter(decisions.into_iter().chain(chunks));
    match ExchangeClient::new(channel).contribute(chunks).await {
        Err(status) if status.code() != VIEW_IS_OVER => Err(describe(&status)),
        _ => Ok(()),
    }
}

/// The chunks, and a sign of life whenever there have been none for so long.
pub(super) fn alive(
    chunks: mpsc::Receiver<FrameChunk>,
    interval: Duration,
) -> impl Stream<Item = FrameChunk> {
    let mut counter = Counter::default();
    let idle = tokio::time::interval(interval);
    let chunks = ReceiverStream::new(chunks).timeout_repeating(idle);
    chunks.map(move |chunk| match chunk {
        Ok(chunk) => {
            counter.count(&chunk);
            chunk
        }
        Err(_elapsed) => counter.idle(),
    })
}

async fn contribute(channel: Channel, chunks: mpsc::Receiver<FrameChunk>) -> Result<(), String> {
    let chunks = alive(chunks, limits::IDLE_INTERVAL);
    let answer = ExchangeClient::new(channel).contribute(chunks).await;
    answer.map(drop).map_err(|status| describe(&status))
}

/// Connects to a member over a socket whose writes are counted.
pub(super) async fn connect(
    address: &str,
    meter: &Meter,
    patience: Duration,
) -> Result<Channel, String> {
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
