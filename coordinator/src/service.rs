//! The gRPC service: sessions in, words out. Everything is decided in the driver.

use std::io::ErrorKind::AddrInUse;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecq_cluster::NodeId;
use ecq_proto::limits;
use ecq_proto::v1::coordinator_server::{Coordinator, CoordinatorServer};
use ecq_proto::v1::{
    CoordinatorMessage, Delivered, ModelChunk, NodeMessage, RunStatus, WatchRequest,
};
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
use crate::run_dir::{MODEL, RunDir};
use crate::session;
use crate::summary::Summary;

/// Inputs that may wait for the driver; sessions are not read while it is this far behind.
const INPUTS_MAX: usize = 1024;
/// Words that may wait for a node to take them: there are only a handful in a run.
const WORDS_MAX: usize = 64;
/// How long the last words may take to be fetched.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long the address of a coordinator that has died may still be taken.
const VACATED: Duration = Duration::from_secs(3);
/// Between two attempts to take it.
const AGAIN: Duration = Duration::from_millis(50);
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
    /// How long a session may take to greet.
    patience: Duration,
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
            resume,
        } = options;
        config.validate()?;
        let text = config.to_toml()?;
        let resumed = RunDir::retake(&run_dir).filter(|_| resume);
        // The process before this one, or somebody who tries to reach it, may not be gone quite yet.
        let patience = if resumed.is_some() {
            VACATED
        } else {
            Duration::ZERO
        };
        let listener = bind(listen, patience)
            .await
            .map_err(|source| match source.kind() {
                AddrInUse => CoordinatorError::PortInUse { address: listen },
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
        let (inputs, heard) = mpsc::channel(INPUTS_MAX);
        let patience = Duration::from_millis(config.lease());
        let (dir, driver) = match resumed {
            Some(dir) => (dir.clone(), Driver::resume(config, text, dir, heard)?),
            None => {
                let dir = RunDir::take(&run_dir, &text)?;
                let driver = Driver::new(config, text, dir.clone(), heard);
                (dir.clone(), driver.inspect_err(|_| dir.abandon())?)
            }
        };
        let shared = Shared {
            inputs,
            status: driver.status(),
            deliverer: driver.deliverer(),
            dir,
            patience,
        };
        let pid = std::process::id();
        tracing::info!(pid, %address, run_dir = %run_dir.display(), "listening");
        Ok(Self {
            listener,
            address,
            driver,
            shared,
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
            next: AtomicU64::new(driver.next_node()),
        };
        let over = CancellationToken::new();
        let ended = over.clone().cancelled_owned();
        let server = Server::builder()
            .initial_stream_window_size(limits::WINDOW_BYTES)
            .initial_connection_window_size(limits::WINDOW_BYTES)
            .max_frame_size(limits::HTTP2_FRAME_BYTES)
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

async fn bind(listen: SocketAddr, patience: Duration) -> std::io::Result<TcpListener> {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(listen).await {
            Err(error) if error.kind() == AddrInUse && begun.elapsed() < patience => {
                tokio::time::sleep(AGAIN).await;
            }
            bound => return bound,
        }
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
        let session = self.next.fetch_add(1, Ordering::Relaxed);
        let (words, fetched) = mpsc::channel(WORDS_MAX);
        let inputs = self.shared.inputs.clone();
        let over = || Status::unavailable("the run is over");
        inputs
            .send(Input::Connected { session, words })
            .await
            .map_err(|_| over())?;
        let patience = self.shared.patience;
        tokio::spawn(session::listen(
            session,
            request.into_inner(),
            patience,
            inputs,
        ));
        Ok(Response::new(ReceiverStream::new(fetched)))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<ModelChunk>>,
    ) -> Result<Response<Delivered>, Status> {
        let sender = *self.shared.deliverer.borrow();
        let path = self.shared.dir.path(MODEL);
        model::receive(request.into_inner(), sender, &path).await?;
        Ok(Response::new(Delivered {}))
    }

    async fn watch(
        &self,
        _request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, statuses) = mpsc::channel(1);
        tokio::spawn(narrate(self.shared.status.clone(), sender));
        Ok(Response::new(ReceiverStream::new(statuses)))
    }
}

/// Sends the status whenever it has changed, at most once an interval unless the reason changes.
/// The last status is always sent, since a change that has not been seen outlives the driver.
async fn narrate(
    mut status: watch::Receiver<RunStatus>,
    to: mpsc::Sender<Result<RunStatus, Status>>,
) {
    loop {
        let current = status.borrow_and_update().clone();
        let reason = current.reason.clone();
        if to.send(Ok(current)).await.is_err() || status.changed().await.is_err() {
            return;
        }
        let news = status.wait_for(|status| status.reason != reason);
        let _news_or_time = tokio::time::timeout(STATUS_INTERVAL, news).await;
    }
}
