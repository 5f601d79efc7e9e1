//! Following a run through the coordinator's `Watch`.

use ecq_proto::v1::WatchRequest;
use ecq_proto::v1::coordinator_client::CoordinatorClient;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::output::Output;

/// Between two attempts to watch.
const AGAIN: Duration = Duration::from_millis(200);

/// Shows the run's status until it ends, and says when training has begun. Progress is a courtesy:
/// without it the run goes on.
///
/// A coordinator that goes away may come back.
pub(super) async fn follow(address: String, output: Output, begun: CancellationToken) {
    loop {
        match watch(&address, &output, &begun).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "no progress to show"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Shows what comes; says whether it was the end.
async fn watch(
    address: &str,
    output: &Output,
    begun: &CancellationToken,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let mut client = CoordinatorClient::connect(format!("http://{address}")).await?;
    let mut statuses = client.watch(WatchRequest {}).await?.into_inner();
    let mut over = false;
    while let Some(status) = statuses.message().await? {
        over = ["completed", "failed"]
            .iter()
            .any(|end| status.reason.starts_with(end));
        if status.steps_total > 0 {
            begun.cancel();
        }
        output.progress(&status);
    }
    Ok(over)
}
