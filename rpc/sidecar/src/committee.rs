//! Submits entries to several validators, so that no single one can lose them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lockstep_core::entry::Entry;
use lockstep_rpc::client::{ClientError, Endpoint, IngressClient};
use tokio::time::timeout;
use tracing::debug;

/// How long one validator may take for one entry before another is asked.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The committee's validators, to submit to.
#[derive(Debug)]
pub struct Committee {
    endpoints: Vec<Endpoint>,
    // Held for a look or an insertion.
    clients: Mutex<BTreeMap<usize, IngressClient>>,
    first: AtomicUsize,
}

/// Why nobody took an entry.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// A validator refused it, and none took it.
    #[error("{0}")]
    Refused(ClientError),
    /// No validator can be reached.
    #[error("no validator can be reached")]
    Unreachable,
}

impl Committee {
    /// The validators at these endpoints.
    #[must_use]
    pub const fn new(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints, clients: Mutex::new(BTreeMap::new()), first: AtomicUsize::new(0) }
    }

    /// How many validators are to hold an entry: f + 1 of n = 3f + 1, so that one of them is honest.
    #[must_use]
    pub const fn wanted(&self) -> usize {
        self.endpoints.len().saturating_sub(1) / 3 + 1
    }

    /// Submits an entry until [`Committee::wanted`] validators took it, or all were asked. Each call begins at another
    /// validator, so that doing it again reaches others.
    ///
    /// # Errors
    /// [`SubmitError`] if none took it.
    pub async fn submit(&self, entry: &Entry) -> Result<usize, SubmitError> {
        let count = self.endpoints.len().max(1);
        let first = self.first.fetch_add(1, Ordering::Relaxed);
        let mut order = (0..count).map(|step| first.wrapping_add(step) % count);
        let mut asked: FuturesUnordered<_> =
            order.by_ref().take(self.wanted()).map(|index| self.submit_to(index, entry)).collect();
        let (mut taken, mut refusal) = (0usize, None);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(()) => taken = taken.saturating_add(1),
                Err(error) => {
                    refusal = refusal.or_else(|| error.refusal().is_some().then_some(error));
                    if let Some(index) = order.next() {
                        asked.push(self.submit_to(index, entry));
                    }
                }
            }
        }
        match (taken, refusal) {
            (0, Some(refusal)) => Err(SubmitError::Refused(refusal)),
            (0, None) => Err(SubmitError::Unreachable),
            (taken, _) => Ok(taken),
        }
    }

    async fn submit_to(&self, index: usize, entry: &Entry) -> Result<(), ClientError> {
        let url = self.endpoints.get(index).map_or("", |endpoint| endpoint.url.as_str());
        let submit = async {
            let mut client = self.client(index).await?;
            client.submit(entry, None).await.map(|_| ())
        };
        let slow = || ClientError::Unreachable { url: url.to_owned(), reason: "no answer".to_owned() };
        let answer = timeout(SUBMIT_TIMEOUT, submit).await.unwrap_or_else(|_| Err(slow()));
        if let Err(error) = &answer {
            debug!(endpoint = %url, %error, "a validator did not take an entry");
        }
        answer
    }

    async fn client(&self, index: usize) -> Result<IngressClient, ClientError> {
        if let Some(client) = self.clients().get(&index) {
            return Ok(client.clone());
        }
        let endpoint = self.endpoints.get(index).ok_or(ClientError::Ended)?;
        let client = IngressClient::new(endpoint.connect().await?);
        self.clients().insert(index, client.clone());
        Ok(client)
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, IngressClient>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
