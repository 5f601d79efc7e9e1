//! Following a run through the coordinator's `Watch`.

use ecq_proto::v1::WatchRequest;
use ecq_proto::v1::coordinator_client::CoordinatorClient;

use tokio_util::sync::CancellationToken;

use super::output::Output;

/// Shows the run's status until it ends, and says when training has begun. Progress is a courtesy:
/// without it the run goes on.
pub(super) async fn follow(address: String, output: Output, begun: CancellationToken) {
    if let Err(error) = watch(address, &output, &begun).await {
        tracing::debug!(%error, "no progress to show");
    }
}

async fn watch(
    address: String,
    output: &Output,
    begun: &CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut client = CoordinatorClient::connect(format!("http://{address}")).await?;
    let mut statuses = client.watch(WatchRequest {}).await?.into_inner();
    while let Some(status) = statuses.message().await? {
        if status.steps_total > 0 {
            begun.cancel();
        }
        output.progress(&status);
    }
    Ok(())
}
