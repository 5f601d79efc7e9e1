//! The gRPC service: sessions in, words out. Everything is decided in the driver.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ecq_cluster::NodeId;
use ecq_proto::v1::coordinator_server::{Coordinator, CoordinatorServer};
use ecq_proto::v1::{
    CoordinatorMessage, Delivered, ModelChunk, NodeMessage, RunStatus, WatchRequest,
};
use ecq_proto::{NodeWords, limits};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::Options;
use crate::driver::{Driver, Input};
use crate::error::CoordinatorError;
use crate::model;
use crate::run_dir::RunDir;
use crate::summary::Summary;

/// Inputs that may wait for the driver; sessions are not read while it is this far behind.
const INPUTS_MAX: usize = 1024;
/// Words that may wait for a node to take them: there are only a handful in a run.
const WORDS_MAX: usize = 64;
/// How long the last words may take to be fetched.
const FAREWELL: Duration = Duration::from_secs(3);
/// Least time between two statuses of a watcher.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// A coordinator that listens; [`Service::run`] makes it work.
#[derive(Debug)]
pub struct Service {
    listener: TcpListener,
    address: SocketAddr,
    driver: Driver,
    shared: Shared,
}

/// What sessions and driver share.
#[derive(Clone, Debug)]
struct Shared {
    inputs: mpsc::Sender<Input>,
    status: watch::Receiver<RunStatus>,
    /// Who delivers the model, once there is a view.
    deliverer: watch::Receiver<Option<NodeId>>,
    dir: RunDir,
}

impl Service {
    /// Takes the address and the run directory.
    ///
    /// # Errors
    ///
    /// If either is not to be had; then nothing is left behind.
    pub async fn bind(options: Options) -> Result<Self, CoordinatorError> {
        let Options {
            listen,
            config,
            run_dir,
        } = options;
        config.validate()?;
        let text = config.to_toml()?;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::AddrInUse => CoordinatorError::PortInUse { address: listen },
                _ => CoordinatorError::Listen {
                    address: listen,
                    source,
                },
            })?;
        let address = listener
            .local_addr()
            .map_err(|source| CoordinatorError::Listen {
                address: listen,
                source,
            })?;
        let dir = RunDir::take(&run_dir, &text)?;
        let (inputs, heard) = mpsc::channel(INPUTS_MAX);
        let (driver, status, deliverer) = Driver::new(config, text, dir.clone(), heard)?;
        let pid = std::process::id();
        tracing::info!(pid, %address, run_dir = %run_dir.display(), "listening");
        Ok(Self {
            listener,
            address,
            driver,
            shared: Shared {
                inputs,
                status,
                deliverer,
                dir,
            },
        })
    }

    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the run is over; `stop` ends it early.
    ///
    /// # Errors
    ///
    /// If the run fails or what it leaves cannot be written.
    pub async fn run(self, stop: CancellationToken) -> Result<Summary, CoordinatorError> {
        let Self {
            listener,
            driver,
            shared,
            ..
        } = self;
        let streams = TcpListenerStream::new(listener).map(|stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        });
        let sessions = Sessions {
            shared,
            next: AtomicU64::new(1),
        };
        let over = CancellationToken::new();
        let ended = over.clone().cancelled_owned();
        let server = Server::builder()
            .initial_stream_window_size(limits::WINDOW_BYTES)
            .initial_connection_window_size(limits::WINDOW_BYTES)
            .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
            .add_service(CoordinatorServer::new(sessions))
            .serve_with_incoming_shutdown(streams, ended);
        let server = tokio::spawn(server);
        let result = driver.run(stop).await;
        // The last words are in the sessions' queues: let them be fetched.
        over.cancel();
        if tokio::time::timeout(FAREWELL, server).await.is_err() {
            tracing::debug!("not everybody has hung up");
        }
        result
    }
}

#[derive(Debug)]
struct Sessions {
    shared: Shared,
    next: AtomicU64,
}

#[tonic::async_trait]
impl Coordinator for Sessions {
    type AttendStream = ReceiverStream<Result<CoordinatorMessage, Status>>;
    type WatchStream = ReceiverStream<Result<RunStatus, Status>>;

    async fn attend(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let node = self.next.fetch_add(1, Ordering::Relaxed);
        let (words, fetched) = mpsc::channel(WORDS_MAX);
        let inputs = self.shared.inputs.clone();
        let over = || Status::unavailable("the run is over");
        inputs
            .send(Input::Connected { node, words })
            .await
            .map_err(|_| over())?;
        tokio::spawn(listen(node, request.into_inner(), inputs));
        Ok(Response::new(ReceiverStream::new(fetched)))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<ModelChunk>>,
    ) -> Result<Response<Delivered>, Status> {
        let sender = *self.shared.deliverer.borrow();
        let path = self.shared.dir.path("model.safetensors");
        model::receive(request.into_inner(), sender, &path).await?;
        Ok(Response::new(Delivered {}))
    }

    async fn watch(
        &self,
        _request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, statuses) = mpsc::channel(1);
        let mut status = self.shared.status.clone();
        tokio::spawn(async move {
            loop {
                let current = status.borrow_and_update().clone();
                if sender.send(Ok(current)).await.is_err() {
                    return;
                }
                tokio::time::sleep(STATUS_INTERVAL).await;
                if status.changed().await.is_err() {
                    // The driver is gone: what it said last has been sent.
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(statuses)))
    }
}

/// Passes a node's words on until its session ends.
async fn listen(node: NodeId, mut messages: Streaming<NodeMessage>, inputs: mpsc::Sender<Input>) {
    loop {
        let words = match messages.message().await {
            Ok(Some(message)) => NodeWords::try_from(message),
            Ok(None) | Err(_) => break,
        };
        match words {
            Ok(words) => {
                if inputs.send(Input::Said { node, words }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(node, %error, "a node speaks another language");
                break;
            }
        }
    }
    let _run_is_over = inputs.send(Input::Disconnected(node)).await;
}
