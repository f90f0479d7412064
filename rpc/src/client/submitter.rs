//! How an entry reaches the committee: one submission to one validator. Which, when and how often is the caller's to say.

use std::time::Duration;

use futures::future::BoxFuture;
use lockstep_core::entry::Entry;
use lockstep_proto::convert::ingress::{DropReason, EntryState};
use lockstep_proto::error::{ErrorCode, Refusal};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::{ClientError, Endpoint, IngressClient};
use crate::limits::{
    ENDPOINT_CALL_TIMEOUT, ENDPOINT_CALLS_MAX, ENDPOINT_CONNECT_TIMEOUT, ENDPOINT_REST,
};

/// How far an entry is, as one validator says. Nothing is proven by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The validator holds it.
    Held,
    /// The log has it.
    Decided,
}

/// The validators, by index.
pub trait Submitter: Send + Sync + 'static {
    /// How many there are; at least one, and always as many.
    fn count(&self) -> usize;

    /// Submits an entry to one validator. May be called again with the same entry at any time, also with a later
    /// expiry: it is one submission, and the answer tells how far it is.
    ///
    /// # Errors
    /// The validator's [`Refusal`], or one that says that it cannot be reached.
    fn submit(&self, endpoint: usize, entry: Entry) -> BoxFuture<'_, Result<Progress, Refusal>>;
}

/// The validators over gRPC.
#[derive(Debug)]
pub struct Validators {
    seats: Vec<Seat>,
}

#[derive(Debug)]
struct Seat {
    endpoint: Endpoint,
    calls: Semaphore,
    // Behind an async lock, so that one call connects and the others wait for it.
    link: Mutex<Link>,
}

#[derive(Debug)]
enum Link {
    /// Not before this time.
    Down(Instant),
    Up(IngressClient),
}

impl Validators {
    /// The validators at these endpoints. Nothing is connected yet.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        let seat = |endpoint| Seat {
            endpoint: Endpoint {
                connect_timeout: ENDPOINT_CONNECT_TIMEOUT,
                call_timeout: ENDPOINT_CALL_TIMEOUT,
                ..endpoint
            },
            calls: Semaphore::new(ENDPOINT_CALLS_MAX),
            link: Mutex::new(Link::Down(Instant::now())),
        };
        Self { seats: endpoints.into_iter().map(seat).collect() }
    }
}

impl Submitter for Validators {
    fn count(&self) -> usize {
        self.seats.len()
    }

    fn submit(&self, endpoint: usize, entry: Entry) -> BoxFuture<'_, Result<Progress, Refusal>> {
        Box::pin(async move {
            let Some(seat) = self.seats.get(endpoint) else {
                return Err(Refusal::new(ErrorCode::Internal, "no such validator"));
            };
            seat.submit(&entry).await
        })
    }
}

impl Seat {
    async fn submit(&self, entry: &Entry) -> Result<Progress, Refusal> {
        let unreachable = |reason: &str| {
            Refusal::new(ErrorCode::NotReady, format!("{}: {reason}", self.endpoint.url))
        };
        let Ok(_call) = self.calls.acquire().await else {
            return Err(unreachable("closed"));
        };
        let mut client = self.client().await?;
        let submission = client.submit(entry, None);
        let answer = tokio::time::timeout(ENDPOINT_CALL_TIMEOUT, submission).await;
        match answer {
            Err(_) => {
                self.rest().await;
                Err(unreachable("no answer in time"))
            }
            Ok(Ok(submitted)) => progress(&submitted.status.state),
            Ok(Err(ClientError::Refused(refusal))) => {
                // The library answers so for a connection that broke, and the connection comes back by itself.
                if matches!(refusal.code, ErrorCode::NotReady | ErrorCode::Timeout) {
                    self.rest().await;
                }
                Err(*refusal)
            }
            Ok(Err(error)) => Err(unreachable(&error.to_string())),
        }
    }

    async fn client(&self) -> Result<IngressClient, Refusal> {
        let mut link = self.link.lock().await;
        match &*link {
            Link::Up(client) => return Ok(client.clone()),
            Link::Down(until) if *until > Instant::now() => {
                let reason = format!("{} does not answer", self.endpoint.url);
                return Err(Refusal::new(ErrorCode::NotReady, reason));
            }
            Link::Down(_) => {}
        }
        match self.endpoint.connect().await {
            Ok(channel) => {
                let client = IngressClient::new(channel);
                *link = Link::Up(client.clone());
                Ok(client)
            }
            Err(error) => {
                *link = Link::Down(after(ENDPOINT_REST));
                Err(Refusal::new(ErrorCode::NotReady, error.to_string()))
            }
        }
    }

    async fn rest(&self) {
        *self.link.lock().await = Link::Down(after(ENDPOINT_REST));
    }
}

fn after(pause: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(pause).unwrap_or(now)
}

fn progress(state: &EntryState) -> Result<Progress, Refusal> {
    match state {
        EntryState::Received => Ok(Progress::Held),
        EntryState::Decided(_) => Ok(Progress::Decided),
        // The log has its transaction already.
        EntryState::Dropped(dropped) if dropped.reason == DropReason::Duplicate => {
            Ok(Progress::Decided)
        }
        EntryState::Dropped(dropped) => {
            Err(Refusal::new(dropped.reason.code(), dropped.detail.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_proto::convert::ingress::Dropped;

    #[test]
    fn a_duplicate_is_decided_and_other_drops_are_refusals() {
        let dropped =
            |reason| progress(&EntryState::Dropped(Dropped { reason, detail: "why".to_owned() }));
        assert_eq!(progress(&EntryState::Received), Ok(Progress::Held));
        assert_eq!(dropped(DropReason::Duplicate), Ok(Progress::Decided));
        let expired = dropped(DropReason::Expired).unwrap_err();
        assert!(!expired.code.is_permanent() && expired.reason == "why");
        assert!(dropped(DropReason::TooLarge).unwrap_err().code.is_permanent());
        assert!(dropped(DropReason::UnknownChain).unwrap_err().code.is_permanent());
    }

    #[tokio::test]
    async fn a_validator_that_cannot_be_reached_is_left_alone_for_a_while() {
        // Nobody listens on port 1 of loopback, and connecting there fails at once.
        let committee = Validators::new(vec![Endpoint::new("http://127.0.0.1:1")]);
        let seat = &committee.seats[0];
        assert_eq!(seat.client().await.unwrap_err().code, ErrorCode::NotReady);
        let again = seat.client().await.unwrap_err();
        assert!(again.reason.ends_with("does not answer"), "{}", again.reason);
    }
}
