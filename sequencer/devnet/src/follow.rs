//! A chain's slices, verified as they are decided, at whichever validator answers: none of them is trusted.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use lockstep_core::light_client::LightClient;
use lockstep_core::params::Genesis;
use lockstep_core::types::{ChainId, Height};
use lockstep_node::verifier::Proven;
use lockstep_node::verifier::session::{Session, SessionError};
use lockstep_rpc::client::remote::Remote;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Events that may wait.
pub const EVENTS_MAX: usize = 1_024;
/// How long to wait before the next endpoint is asked.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long a stream may be silent: many block intervals.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What following a chain brought.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something was proven.
    Proven(Box<Proven>),
    /// An endpoint lied, or the trust broke.
    Alarm(String),
}

/// Follows a chain for ever, from the genesis on; ends when nobody listens, or when the trust is broken.
pub async fn follow(
    genesis: Arc<Genesis>,
    chain: ChainId,
    endpoints: Vec<String>,
    events: mpsc::Sender<Event>,
) {
    let Ok(client) =
        LightClient::from_genesis(&genesis, genesis.timestamp.max(lockstep_node::clock::now()))
    else {
        return;
    };
    let mut follower = Follower { chain, next: Height(1), events };
    let mut session: Option<Session> = None;
    for endpoint in endpoints.iter().cycle() {
        let Ok(remote) = Remote::connect(endpoint, None).await else {
            sleep(RETRY_AFTER).await;
            continue;
        };
        let current = match session.take() {
            Some(mut session) => {
                session.move_to(remote);
                session
            }
            None => Session::new(remote, client.clone()),
        };
        let current = session.insert(current);
        let ended = follower.follow(current).await;
        if let Err(SessionError::Fault(fault)) = &ended {
            let alarm = Event::Alarm(format!("{endpoint}: {fault}"));
            if follower.events.send(alarm).await.is_err() {
                return;
            }
        }
        if follower.events.is_closed() {
            return;
        }
        sleep(RETRY_AFTER).await;
    }
}

struct Follower {
    chain: ChainId,
    next: Height,
    events: mpsc::Sender<Event>,
}

impl Follower {
    /// History first, many heights at a time; then live. Ends when the endpoint does.
    async fn follow(&mut self, session: &mut Session) -> Result<(), SessionError> {
        let head = session.claimed_head().await?;
        while self.next <= head {
            let proven = session.range(self.chain, self.next, head).await?;
            self.tell(proven).await;
        }
        let mut slices = session.remote().log().stream_slices(self.chain, Some(self.next)).await?;
        while let Ok(Some(slice)) = timeout(SILENCE_MAX, slices.next()).await {
            let proven = session.slice(self.chain, self.next, slice?).await?;
            self.tell(proven).await;
            if self.events.is_closed() {
                break;
            }
        }
        Ok(())
    }

    async fn tell(&mut self, proven: Proven) {
        self.next = Height(proven.last).next();
        // Nobody listens any more: the caller sees it.
        if self.events.send(Event::Proven(Box::new(proven))).await.is_err() {
            tracing::debug!("the devnet ends");
        }
    }
}
