//! Reaching others: connections that are tried again, and words for why they fail.

use std::future::Future;
use std::time::{Duration, Instant};

use ecq_proto::limits;
use tonic::transport::{Endpoint, Error};

/// First pause between two attempts; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(20);
/// Short beside any lease: a coordinator that is back gives its members no longer to come back.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// An endpoint at `host:port` with the limits of the wire.
pub(crate) fn endpoint(address: &str, patience: Duration) -> Result<Endpoint, Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(limits::WINDOW_BYTES)
        .http2_keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .connect_timeout(patience))
}

/// Makes an attempt until one succeeds, or returns the last failure when `patience` has run out.
pub(crate) async fn patiently<T, E: std::error::Error, F>(
    patience: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    let mut pause = PAUSE;
    loop {
        match attempt().await {
            Ok(found) => return Ok(found),
            Err(error) if start.elapsed() + pause > patience => return Err(error),
            Err(error) if pause == PAUSE => {
                tracing::info!(
                    error = causes(&error),
                    ?patience,
                    "no answer yet, trying again"
                );
            }
            Err(error) => tracing::debug!(error = causes(&error), "no answer yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// An error with its causes on one line; transport errors alone say next to nothing.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A gRPC status for people.
pub(crate) fn describe(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("{}: {}", status.message(), causes(source)),
        None => status.message().to_owned(),
    }
}
