//! The session with the coordinator.

use std::time::Duration;

use ecq_proto::v1::NodeMessage;
use ecq_proto::v1::coordinator_client::CoordinatorClient;
use ecq_proto::{CoordinatorWords, NodeWords};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::connect::{self, causes, describe};
use crate::driver::Input;
use crate::error::NodeError;

/// Words that may wait for the coordinator to take them. Seconds of heartbeats and metrics: more
/// means that it takes none.
const WORDS_MAX: usize = 1024;

/// How long a node that leaves gives its last words to arrive.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why an attempt has failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoSession(String);

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    words: mpsc::Sender<NodeMessage>,
    listening: JoinHandle<()>,
    channel: Channel,
}

impl Session {
    /// Reaches the coordinator, trying again until `patience` ends: it may answer and not take sessions, while
    /// it is ending or only just beginning.
    pub(crate) async fn open(
        address: &str,
        patience: Duration,
        events: mpsc::Sender<Input>,
    ) -> Result<Self, NodeError> {
        let endpoint = connect::endpoint(address, patience)
            .map_err(|_| NodeError::Address(address.to_owned()))?;
        let attempt = || Self::attempt(&endpoint, events.clone());
        connect::patiently(patience, attempt)
            .await
            .map_err(|error| NodeError::Unreachable {
                address: address.to_owned(),
                reason: error.to_string(),
            })
    }

    async fn attempt(endpoint: &Endpoint, events: mpsc::Sender<Input>) -> Result<Self, NoSession> {
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|error| NoSession(causes(&error)))?;
        let (words, said) = mpsc::channel(WORDS_MAX);
        let mut client = CoordinatorClient::new(channel.clone());
        let answers = client.attend(ReceiverStream::new(said)).await;
        let answers = answers.map_err(|status| NoSession(describe(&status)))?;
        let listening = tokio::spawn(listen(answers.into_inner(), events));
        Ok(Self {
            words,
            listening,
            channel,
        })
    }

    /// Says something; an error means that the coordinator no longer takes words.
    pub(crate) fn say(&self, words: NodeWords) -> Result<(), String> {
        self.words
            .try_send(words.into())
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => "it takes no messages".to_owned(),
                mpsc::error::TrySendError::Closed(_) => "the session is closed".to_owned(),
            })
    }

    /// The connection, for other calls than the session itself.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Ends the session once the coordinator has heard the last words, or after a moment.
    pub(crate) async fn close(self) {
        let Self {
            words, listening, ..
        } = self;
        drop(words);
        if tokio::time::timeout(FAREWELL, listening).await.is_err() {
            tracing::debug!("the coordinator did not end the session in time");
        }
    }
}

/// Passes the coordinator's words on until the session ends.
async fn listen(
    mut answers: Streaming<ecq_proto::v1::CoordinatorMessage>,
    to: mpsc::Sender<Input>,
) {
    let reason = loop {
        let message = match answers.message().await {
            Ok(Some(message)) => message,
            Ok(None) => break "it closed the session".to_owned(),
            Err(status) => break describe(&status),
        };
        let said = match CoordinatorWords::try_from(message) {
            Ok(CoordinatorWords::Protocol(words)) => Input::Said(words),
            Ok(CoordinatorWords::Recorded { steps, evaluated }) => {
                Input::Recorded { steps, evaluated }
            }
            Err(error) => break error.to_string(),
        };
        if to.send(said).await.is_err() {
            return;
        }
    };
    let _driver_is_gone = to.send(Input::SessionLost(reason)).await;
}
