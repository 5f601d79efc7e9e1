//! A coordinator on loopback, and nodes that say what a test tells them to.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::time::Duration;

use ecq_cluster::{
    Digest, Fingerprint, Hello, NodeId, RunConfig, StepReport, ToCoordinator, ToNode, View,
};
use ecq_coordinator::{CoordinatorError, Options, Service, Summary};
use ecq_proto::v1::coordinator_client::CoordinatorClient;
use ecq_proto::v1::{CoordinatorMessage, ModelChunk, NodeMessage};
use ecq_proto::{CoordinatorWords, NodeWords};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// A safety net: nothing here takes a second.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const START: Digest = Digest([1; 32]);
pub(crate) const FINAL: Digest = Digest([7; 32]);

/// A coordinator at work.
pub(crate) struct Running {
    pub(crate) dir: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    result: JoinHandle<Result<Summary, CoordinatorError>>,
}

pub(crate) fn config(nodes: u32) -> RunConfig {
    RunConfig {
        name: "run".into(),
        nodes,
        min_nodes: 1,
        data: "digits".into(),
        data_dir: None,
        model: "softmax".into(),
        hidden: vec![],
        codec: "ecq".into(),
        steps: Some(2),
        epochs: None,
        batch_size: 5,
        global_batch: None,
        lr: 0.1,
        lr_schedule: "constant".into(),
        momentum: 0.0,
        seed: 3,
        digest_every: 1,
        record: false,
        lease_seconds: 20.0,
        quorum: None,
        quorum_wait: 0.0,
        checkpoint_every: None,
        keep_checkpoints: 3,
    }
}

impl Running {
    pub(crate) async fn start(config: RunConfig) -> Self {
        let dir = tempfile::tempdir().expect("there is room");
        Self::begin(config, dir, false).await
    }

    /// Goes on with the run in `dir`.
    pub(crate) async fn resume(config: RunConfig, dir: TempDir) -> Self {
        Self::begin(config, dir, true).await
    }

    async fn begin(config: RunConfig, dir: TempDir, resume: bool) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = Options {
            listen,
            config,
            run_dir: dir.path().join("run"),
            resume,
        };
        let service = Service::bind(options)
            .await
            .expect("loopback has a free port");
        let (address, stop) = (service.address(), CancellationToken::new());
        let result = tokio::spawn(service.run(stop.clone()));
        Self {
            dir,
            address,
            stop,
            result,
        }
    }

    /// How the run ended, and the directory that it left.
    pub(crate) async fn end(self) -> (Result<Summary, CoordinatorError>, TempDir) {
        let result = tokio::time::timeout(DEADLINE, self.result)
            .await
            .expect("it ends");
        (result.expect("it does not panic"), self.dir)
    }

    pub(crate) async fn client(&self) -> CoordinatorClient<Channel> {
        let address = format!("http://{}", self.address);
        CoordinatorClient::connect(address)
            .await
            .expect("the coordinator listens")
    }

    /// A session that has not said anything.
    pub(crate) async fn connect(&self) -> Node {
        let mut client = self.client().await;
        let (words, said) = mpsc::channel(64);
        let heard = client
            .attend(ReceiverStream::new(said))
            .await
            .expect("it takes sessions");
        Node {
            id: 0,
            words,
            heard: heard.into_inner(),
            client,
        }
    }

    /// A node that has said hello and been welcomed.
    pub(crate) async fn join(&self, rank: Option<u32>) -> Node {
        let mut node = self.connect().await;
        node.say(ToCoordinator::Hello(Hello { rank, ..hello() }))
            .await;
        match node.hear().await {
            Some(ToNode::Welcome {
                node: id, config, ..
            }) => {
                assert!(config.contains("name = \"run\""), "{config}");
                node.id = id;
            }
            other => panic!("expected a welcome, heard {other:?}"),
        }
        node
    }

    /// A whole cluster, in its view; `nodes[r]` has rank *r*.
    pub(crate) async fn cluster(&self, nodes: u32) -> Vec<Node> {
        let mut members = Vec::new();
        for rank in 0..nodes {
            let node = self.join(Some(rank)).await;
            node.say(ToCoordinator::Prepared {
                fingerprint: fingerprint(),
                kept: Vec::new(),
            })
            .await;
            members.push(node);
        }
        for node in &mut members {
            let view = node.view().await;
            assert_eq!((view.number, view.first_step, view.size()), (1, 0, nodes));
        }
        members
    }
}

pub(crate) fn hello() -> Hello {
    Hello {
        run: None,
        rank: None,
        version: ecq_proto::VERSION.into(),
        address: "127.0.0.1:9".into(),
        observe: false,
        residual: None,
    }
}

pub(crate) fn fingerprint() -> Fingerprint {
    Fingerprint {
        replica: START,
        data: Digest([2; 32]),
        parameters: 650,
        samples: 20,
    }
}

/// A node that says what it is told to.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    words: mpsc::Sender<NodeMessage>,
    heard: Streaming<CoordinatorMessage>,
    client: CoordinatorClient<Channel>,
}

impl Node {
    pub(crate) async fn say(&self, message: ToCoordinator) {
        self.words(NodeWords::Protocol(message)).await;
    }

    pub(crate) async fn words(&self, words: NodeWords) {
        self.raw(words.into()).await;
    }

    pub(crate) async fn raw(&self, message: NodeMessage) {
        // A session that is over takes no words; what it said last is what counts.
        let _over = self.words.send(message).await;
    }

    /// The coordinator's next words but those of metrics; none if the session is over.
    pub(crate) async fn hear(&mut self) -> Option<ToNode> {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.heard.message());
            let message = next.await.expect("in time").ok().flatten()?;
            let words = CoordinatorWords::try_from(message).expect("we speak alike");
            if let CoordinatorWords::Protocol(words) = words {
                return Some(words);
            }
        }
    }

    /// Why the session ends, where nothing more is said and it does not end in order.
    pub(crate) async fn hung_up_on(&mut self) -> Status {
        let next = tokio::time::timeout(DEADLINE, self.heard.message()).await;
        next.expect("in time").expect_err("the session breaks off")
    }

    /// Says nothing more.
    pub(crate) fn hang_up(&mut self) {
        let (closed, _) = mpsc::channel(1);
        self.words = closed;
    }

    pub(crate) async fn view(&mut self) -> View {
        match self.hear().await {
            Some(ToNode::Install(installation)) => installation.view,
            other => panic!("expected a view, heard {other:?}"),
        }
    }

    pub(crate) async fn report(&self, step: u64, loss_sum: f64) {
        let report = StepReport {
            step,
            loss_sum,
            samples: 5,
            frame_bytes: 130,
            socket_bytes: 150,
            step_seconds: 0.25,
            ..StepReport::default()
        };
        self.words(NodeWords::Reports(vec![report])).await;
    }

    /// Begins a delivery whose chunks come through the channel; the task ends with its answer.
    pub(crate) fn deliver_slowly(&self) -> (mpsc::Sender<ModelChunk>, JoinHandle<Code>) {
        let (sender, chunks) = mpsc::channel(1);
        let mut client = self.client.clone();
        let delivery = tokio::spawn(async move {
            let answer = client.deliver(ReceiverStream::new(chunks)).await;
            answer.map_or_else(|status| status.code(), |_| Code::Ok)
        });
        (sender, delivery)
    }

    /// Delivers these bytes, announcing `total`.
    pub(crate) async fn deliver(&self, total: u64, bytes: &'static [u8]) -> Result<(), Status> {
        let node = self.id;
        let chunk = move |data: &'static [u8]| ModelChunk {
            node,
            total_bytes: total,
            data: data.into(),
        };
        let chunks: Vec<_> = bytes.chunks(4).map(chunk).collect();
        self.client
            .clone()
            .deliver(tokio_stream::iter(chunks))
            .await
            .map(drop)
    }
}
