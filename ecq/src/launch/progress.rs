//! Following a run through the coordinator's `Watch`.

use ecq_proto::v1::WatchRequest;
use ecq_proto::v1::coordinator_client::CoordinatorClient;

use super::output::Output;

/// Shows the run's status until it ends. Progress is a courtesy: without it the run goes on.
pub(super) async fn follow(address: String, output: Output) {
    if let Err(error) = watch(address, &output).await {
        tracing::debug!(%error, "no progress to show");
    }
}

async fn watch(
    address: String,
    output: &Output,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut client = CoordinatorClient::connect(format!("http://{address}")).await?;
    let mut statuses = client.watch(WatchRequest {}).await?.into_inner();
    while let Some(status) = statuses.message().await? {
        output.progress(&status);
    }
    Ok(())
}
