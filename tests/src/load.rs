//! A steady load on some nodes, with a journal of what each accepted and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_core::types::{EntryId, UnixMillis};
use lockstep_rpc::client::{Endpoint, IngressClient};
use tokio::task::JoinSet;

use crate::entries::{EVM_A, expires_in, opaque_until, wallet};
use crate::node::Node;

/// Time between two entries to one node.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long an entry lives.
const EXPIRES_MS: u64 = 8_000;
/// Wait before a node that does not answer is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// An entry that a node accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// By which node.
    pub node: usize,
    /// When.
    pub at: Instant,
    /// Until when a block may take it.
    pub expires: UnixMillis,
}

type Journal = Arc<Mutex<BTreeMap<EntryId, Accepted>>>;

/// A running load.
#[derive(Debug)]
pub struct Load {
    journal: Journal,
    tasks: JoinSet<()>,
}

impl Load {
    /// Sends entries to these nodes, every second one a signed transaction, until it is stopped.
    #[must_use]
    pub fn start<'a>(nodes: impl Iterator<Item = &'a Node>) -> Self {
        let journal = Journal::default();
        let mut tasks = JoinSet::new();
        for (index, node) in nodes.enumerate() {
            tasks.spawn(run(index, node.endpoint(), journal.clone()));
        }
        Self { journal, tasks }
    }

    /// How many entries were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Stops, and gives all that was accepted.
    pub async fn stop(mut self) -> BTreeMap<EntryId, Accepted> {
        self.tasks.shutdown().await;
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sends to one node, and connects again for as long as that takes.
async fn run(node: usize, endpoint: String, journal: Journal) {
    let number = u8::try_from(node).unwrap_or(u8::MAX);
    let mut wallet = wallet(EVM_A, number);
    let mut endpoint = Endpoint::new(endpoint);
    endpoint.call_timeout = Duration::from_secs(2);
    let mut count = 0u64;
    loop {
        let Ok(channel) = endpoint.connect().await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let mut client = IngressClient::new(channel);
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tick.tick().await;
            count = count.saturating_add(1);
            let expires = expires_in(EXPIRES_MS);
            let entry = match count % 2 {
                0 => wallet.transaction(expires).expect("a transaction"),
                _ => opaque_until(&format!("load {count} of {node}"), expires),
            };
            match client.submit(&entry, None).await {
                Ok(_) => {
                    let accepted = Accepted { node, at: Instant::now(), expires };
                    journal
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(entry.id(), accepted);
                }
                Err(_) => break,
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
