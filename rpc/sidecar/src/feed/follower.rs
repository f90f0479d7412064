//! One endpoint, followed for as long as it does not lie.

use std::time::Duration;

use lockstep_core::light_client::NotVerified;
use lockstep_core::types::Height;
use lockstep_rpc::client::LogClient;
use lockstep_rpc::client::verified::{VerifyError, VerifyingLog};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::{EndpointState, Feed, is_lie};
use crate::limits::{ENDPOINT_RETRY, ENDPOINT_SILENT};

/// Why a follower leaves its endpoint for a while, or for good.
enum Left {
    /// It went away, or said nothing.
    Away(String),
    /// It lied.
    Lied(String),
    /// The committee's safety failed at this height.
    Forked(Height),
}

/// Follows endpoint `index` of `feed`. Ends when it lied.
pub(super) async fn run(feed: Feed, index: usize) {
    let (least, greatest) = ENDPOINT_RETRY;
    let mut pause = least;
    let Some(url) = feed.endpoints.get(index).map(|endpoint| endpoint.url.clone()) else {
        return;
    };
    loop {
        if let Some(EndpointState::Lied(_)) = feed.state(index) {
            return;
        }
        let before = feed.newest.borrow().height;
        match follow(&feed, index).await {
            Left::Lied(reason) => {
                error!(endpoint = %url, %reason, "an endpoint lied and is not asked again");
                return feed.set_state(index, EndpointState::Lied(reason));
            }
            Left::Forked(height) => return feed.fork(height),
            Left::Away(reason) => {
                if feed.state(index) == Some(EndpointState::Serving) {
                    warn!(endpoint = %url, %reason, "an endpoint is away");
                }
                feed.set_state(index, EndpointState::Away(reason));
            }
        }
        let has_served = feed.newest.borrow().height > before;
        pause = if has_served { least } else { greatest.min(pause.saturating_mul(2)) };
        sleep(pause).await;
    }
}

async fn follow(feed: &Feed, index: usize) -> Left {
    let Some(endpoint) = feed.endpoints.get(index) else {
        return Left::Away("no such endpoint".to_owned());
    };
    let channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => return Left::Away(error.to_string()),
    };
    let mut log = VerifyingLog::new(LogClient::new(channel), feed.trust());
    let from = feed.newest.borrow().height.next();
    match read(feed, index, &mut log, from).await {
        Err(Ended::Silent(silent)) => {
            Left::Away(format!("no log block for {} s", silent.as_secs()))
        }
        Err(Ended::Error(error)) => left(error),
        Ok(never) => match never {},
    }
}

enum Ended {
    Silent(Duration),
    Error(VerifyError),
}

impl From<VerifyError> for Ended {
    fn from(error: VerifyError) -> Self {
        Self::Error(error)
    }
}

async fn read(
    feed: &Feed,
    index: usize,
    log: &mut VerifyingLog,
    from: Height,
) -> Result<core::convert::Infallible, Ended> {
    let mut stream = log.follow(feed.chain, from).await?;
    let mut is_first = true;
    loop {
        let next = timeout(ENDPOINT_SILENT, stream.next()).await;
        let (header, slice) = next.map_err(|_| Ended::Silent(ENDPOINT_SILENT))??;
        if core::mem::take(&mut is_first) {
            let url = feed.endpoints.get(index).map_or("", |endpoint| &endpoint.url);
            info!(endpoint = %url, height = %header.height, "following an endpoint");
            feed.set_state(index, EndpointState::Serving);
        }
        feed.insert(&header, slice, stream.light_client());
    }
}

fn left(error: VerifyError) -> Left {
    if let VerifyError::NotVerified(not_verified) = &error
        && let NotVerified::Fork(fork) = not_verified.as_ref()
    {
        return Left::Forked(fork.trusted.height);
    }
    match is_lie(&error) {
        true => Left::Lied(error.to_string()),
        false => Left::Away(error.to_string()),
    }
}
