//! A full node's loop: read blocks from one endpoint after another, until a block was wrong or the stream ended.

use std::time::Duration;

use futures::StreamExt as _;
use lockstep_consensus::follower::{FollowError, Follower};
use lockstep_core::types::Height;
use lockstep_rpc::client::{ClientError, Endpoint, LogClient};
use lockstep_rpc::health::{Health, HealthState};
use tokio::sync::watch;
use tracing::{info, warn};

/// First wait before an endpoint is asked again, doubled up to [`BACKOFF_MAX`] while none helps.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Longest silence of a stream before another endpoint is asked.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Why one endpoint was left.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("it lied: {0}")]
    Lied(FollowError),
    #[error("it was silent for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("this node failed: {0}")]
    Own(FollowError),
}

/// Follows until this node itself fails; the error says how.
pub(super) async fn run(
    follower: Follower,
    endpoints: Vec<Endpoint>,
    health: watch::Sender<Health>,
) -> eyre::Report {
    let mut backoff = BACKOFF_MIN;
    for endpoint in endpoints.iter().cycle() {
        let url = &endpoint.url;
        let before = follower.ledger.state().height;
        let left = follow(&follower, endpoint, &health).await;
        if let Left::Own(error) = left {
            return eyre::eyre!("following the log: {error}");
        }
        warn!(endpoint = %url, reason = %left, "left an endpoint");
        let height = follower.ledger.state().height;
        let reason = format!("{url}: {left}");
        health.send_replace(Health { state: HealthState::CatchingUp, reason, height });
        let is_helped = height > before;
        backoff = if is_helped { BACKOFF_MIN } else { backoff.saturating_mul(2).min(BACKOFF_MAX) };
        tokio::time::sleep(backoff).await;
    }
    eyre::eyre!("no endpoint to follow")
}

async fn follow(follower: &Follower, endpoint: &Endpoint, health: &watch::Sender<Health>) -> Left {
    match read(follower, endpoint, health).await {
        Ok(left) | Err(left) => left,
    }
}

async fn read(
    follower: &Follower,
    endpoint: &Endpoint,
    health: &watch::Sender<Health>,
) -> Result<Left, Left> {
    let channel = endpoint.connect().await?;
    let mut client = LogClient::new(channel);
    let next = follower.ledger.state().height.next();
    let head = client.head().await.map_or(next, |head| head.header.height);
    let mut blocks = client.stream_blocks(Some(next)).await?;
    info!(endpoint = %endpoint.url, from = %next, "following");
    loop {
        let block = match tokio::time::timeout(SILENCE_MAX, blocks.next()).await {
            Err(_) => return Ok(Left::Silent),
            Ok(None) => return Err(ClientError::Ended.into()),
            Ok(Some(block)) => block?,
        };
        match follower.apply(block.synced_value, block.certificate).await {
            Ok(height) => report(health, height, head),
            Err(error) if error.is_own() => return Ok(Left::Own(error)),
            Err(error) => return Ok(Left::Lied(error)),
        }
    }
}

fn report(health: &watch::Sender<Health>, height: Height, head: Height) {
    let is_level = height >= head;
    let state = if is_level { HealthState::Serving } else { HealthState::CatchingUp };
    let reason = if is_level { String::new() } else { format!("at height {height} of {head}") };
    health.send_replace(Health { state, reason, height });
}
