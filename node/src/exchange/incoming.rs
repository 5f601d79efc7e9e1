//! Streams from the other members.

use std::net::SocketAddr;
use std::time::Duration;

use ecq_cluster::{Decision, FrameKey, Rank, ViewNumber};
use ecq_proto::limits;
use ecq_proto::v1::exchange_server::{Exchange, ExchangeServer};
use ecq_proto::v1::{
    self, FrameChunk, FrameHeader, Idle, Opening, Received, SnapshotChunk, SnapshotRequest,
};
use ecq_quant::{Decoder, FrameId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use super::chunk::{self, Assembler};
use super::meter::Meter;
use super::snapshot::{self, Wanted};
use crate::connect::describe;
use crate::driver::Input;

/// How long a stream may wait for a node that has not been in any view: its replica may take a while.
const UNKNOWN_SILENCE: Duration = Duration::from_secs(120);

/// What a node must know before it can take frames.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// Name of the run.
    pub(crate) run: String,
    /// The view in force.
    pub(crate) view: ViewNumber,
    /// Number of its members.
    pub(crate) members: u32,
    /// This node's rank in it; nothing if it only follows.
    pub(crate) rank: Option<Rank>,
    /// Bound on the size of a frame.
    pub(crate) frame_bytes_max: u64,
    /// How long a stream may bring nothing.
    pub(crate) silence: Duration,
}

/// The server that takes the other members' streams.
#[derive(Debug)]
pub(crate) struct Incoming {
    address: SocketAddr,
    gate: watch::Sender<Option<Gate>>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Incoming {
    /// Serves on `listener`. Streams wait, unread, until the gate is opened.
    pub(crate) fn serve(
        listener: TcpListener,
        meter: Meter,
        events: mpsc::Sender<Input>,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (gate, opened) = watch::channel(None);
        let stop = CancellationToken::new();
        let streams = TcpListenerStream::new(listener).map(move |stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(meter.on(stream))
        });
        let server = Server::builder()
            .initial_stream_window_size(limits::WINDOW_BYTES)
            .initial_connection_window_size(limits::WINDOW_BYTES)
            .max_frame_size(limits::HTTP2_FRAME_BYTES)
            .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
            .add_service(ExchangeServer::new(Service {
                gate: opened,
                events,
            }));
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            let serving = server.serve_with_incoming(streams);
            tokio::select! {
                result = serving => if let Err(error) = result {
                    tracing::error!(%error, "the exchange server ended");
                },
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self {
            address,
            gate,
            stop,
            serving,
        })
    }

    /// The address listened on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening; returns when the address is free again.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        let _it_is_over_either_way = (&mut self.serving).await;
    }

    /// Lets frames of the view in.
    pub(crate) fn open(&self, gate: Gate) {
        self.gate.send_replace(Some(gate));
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type BoxStream<T> =
    std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send + 'static>>;

#[derive(Debug)]
struct Service {
    gate: watch::Receiver<Option<Gate>>,
    events: mpsc::Sender<Input>,
}

#[tonic::async_trait]
impl Exchange for Service {
    async fn contribute(
        &self,
        request: Request<Streaming<FrameChunk>>,
    ) -> Result<Response<Received>, Status> {
        let mut chunks = request.into_inner();
        let opening = next(&mut chunks, self.silence()).await?;
        let opening = opening
            .and_then(|chunk| chunk.opening)
            .ok_or_else(|| Status::invalid_argument("the first chunk carries no opening"))?;
        let mut gate = self.gate.clone();
        // Others may be in the next view before this node is.
        let in_view =
            |gate: &Option<Gate>| gate.as_ref().is_some_and(|gate| gate.view >= opening.view);
        // It has time to get there; but what is said of the view may be wrong.
        let patience = self.silence();
        let gate = timeout(patience, gate.wait_for(in_view)).await;
        let gate = gate.map_err(|_elapsed| {
            let view = opening.view;
            Status::deadline_exceeded(format!("this node does not come to view {view}"))
        })?;
        let Some(gate) = gate.ok().and_then(|gate| gate.clone()) else {
            return Err(Status::unavailable("the node is ending"));
        };
        admit(&opening, &gate)?;
        if let Some(first) = opening.first {
            let (view, rank) = (opening.view, opening.rank);
            let opened = Input::Opened { view, rank, first };
            let _driver_is_gone = self.events.send(opened).await;
        }
        let taken = self.take(&opening, &gate, &mut chunks).await;
        let reason = match &taken {
            Err(status) => Some(describe(status)),
            // A member goes on to the end of the view, unless this node could not keep up with it.
            Ok(()) if gate.rank.is_none() => Some("it sends no more".to_owned()),
            Ok(()) => None,
        };
        if let Some(reason) = reason {
            let lost = Input::PeerLost {
                view: opening.view,
                rank: opening.rank,
                reason,
            };
            let _driver_is_gone = self.events.send(lost).await;
        }
        taken?;
        // The member has sent all that it had to, and knows from the answer that it is here.
        Ok(Response::new(Received {}))
    }

    type SnapshotStream = BoxStream<SnapshotChunk>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let SnapshotRequest { run, at_least } = request.into_inner();
        let here = self.gate.borrow().as_ref().map(|gate| gate.run.clone());
        if here.as_ref() != Some(&run) {
            let text = format!("this node has no replica of run {run:?}");
            return Err(Status::failed_precondition(text));
        }
        let (reply, snapshot) = oneshot::channel();
        let wanted = Input::Wanted(Wanted { at_least, reply });
        let gone = || Status::unavailable("the node is ending");
        self.events.send(wanted).await.map_err(|_| gone())?;
        let snapshot = snapshot.await.map_err(|_| gone())?;
        let chunks = tokio_stream::iter(snapshot::cut(snapshot).map(Ok));
        Ok(Response::new(Box::pin(chunks)))
    }
}

impl Service {
    /// How long a stream may bring nothing, as far as that is known already.
    fn silence(&self) -> Duration {
        let gate = self.gate.borrow();
        gate.as_ref().map_or(UNKNOWN_SILENCE, |gate| gate.silence)
    }

    /// Passes frames and decisions on until the stream ends.
    async fn take(
        &self,
        opening: &Opening,
        gate: &Gate,
        chunks: &mut Streaming<FrameChunk>,
    ) -> Result<(), Status> {
        let mut assembler = Assembler::new(gate.frame_bytes_max);
        while let Some(mut chunk) = next(chunks, gate.silence).await? {
            if let Some(Idle { frames }) = chunk.idle {
                let complete = assembler.compare(frames);
                complete.map_err(|error| Status::data_loss(error.to_string()))?;
                continue;
            }
            if let Some(v1::Decision { step, ranks }) = chunk.decision.take() {
                let ascending = ranks.is_sorted_by(|a, b| a < b);
                if !ascending || ranks.last().is_none_or(|last| *last >= gate.members) {
                    let text = format!("step {step} cannot be made by these ranks");
                    return Err(Status::invalid_argument(text));
                }
                let view = opening.view;
                let decision = Input::Decision(Decision { view, step, ranks });
                let passed_on = self.events.send(decision).await;
                passed_on.map_err(|_| Status::unavailable("the node is ending"))?;
                continue;
            }
            let frame = assembler.take(chunk);
            let frame = frame.map_err(|error| Status::invalid_argument(error.to_string()))?;
            let Some((header, frame)) = frame else {
                continue;
            };
            let FrameHeader {
                step, rank, bucket, ..
            } = header;
            // A frame that is damaged costs the stream and, like any other that breaks, a view; what it
            // would have brought is computed anew. Noticed later, it would cost this node its place.
            Decoder::verify(&frame, FrameId { step, rank, bucket })
                .map_err(|error| Status::data_loss(error.to_string()))?;
            let key = FrameKey {
                view: opening.view,
                step,
                rank,
                bucket,
            };
            let passed_on = self.events.send(Input::Frame(key, frame)).await;
            passed_on.map_err(|_| Status::unavailable("the node is ending"))?;
        }
        Ok(())
    }
}

/// The next message, undamaged but for its data. A sender that has nothing to say says so: after a longer
/// silence the stream is broken, whatever it looks like.
async fn next(
    chunks: &mut Streaming<FrameChunk>,
    silence: Duration,
) -> Result<Option<FrameChunk>, Status> {
    let chunk = timeout(silence, chunks.message()).await;
    let chunk = chunk.map_err(|_elapsed| {
        let seconds = silence.as_secs_f64();
        Status::deadline_exceeded(format!("nothing was heard for {seconds:.1} s"))
    })??;
    let verified = chunk.as_ref().map_or(Ok(()), chunk::verify);
    verified.map_err(|error| Status::data_loss(error.to_string()))?;
    Ok(chunk)
}

/// A receiver's answer to the stream of a view that it has left behind.
pub(super) const VIEW_IS_OVER: Code = Code::OutOfRange;

/// Only members of the run's view in force may contribute.
fn admit(opening: &Opening, gate: &Gate) -> Result<(), Status> {
    if opening.run != gate.run {
        let text = format!(
            "this node trains in run {:?}, not {:?}",
            gate.run, opening.run
        );
        return Err(Status::failed_precondition(text));
    }
    if opening.view != gate.view {
        let text = format!("this node is in view {}, not {}", gate.view, opening.view);
        return Err(Status::new(VIEW_IS_OVER, text));
    }
    if opening.rank >= gate.members || Some(opening.rank) == gate.rank {
        let text = format!(
            "rank {} is no other member of view {}",
            opening.rank, gate.view
        );
        return Err(Status::failed_precondition(text));
    }
    Ok(())
}
