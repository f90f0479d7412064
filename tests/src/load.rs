//! A steady load on some nodes, with a journal of what each accepted and when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_core::types::{ChainId, EntryId};
use lockstep_rpc::client::{Endpoint, IngressClient};
use tokio::task::JoinSet;

use crate::entries::{EVM_A, OPAQUE, expires_in, opaque_until, wallet};
use crate::landed::Place;
use crate::node::Node;

/// Time between two entries to one node.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long an entry lives.
const EXPIRES_MS: u64 = 20_000;
/// Wait before a node that does not answer is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// An entry that a node accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// By which node.
    pub node: usize,
    /// When.
    pub at: Instant,
    /// For which chain.
    pub chain: ChainId,
    /// Place in the order in which the node was given its entries.
    pub number: u64,
}

/// What was accepted.
pub type Journal = BTreeMap<EntryId, Accepted>;
type Shared = Arc<Mutex<Journal>>;

/// A running load.
#[derive(Debug)]
pub struct Load {
    journal: Shared,
    tasks: JoinSet<()>,
}

impl Load {
    /// Sends entries to these nodes, every second one a signed transaction, until it is stopped.
    #[must_use]
    pub fn start<'a>(nodes: impl Iterator<Item = &'a Node>) -> Self {
        // Each load has entries of its own: one that was decided a minute ago would be decided again.
        static LOADS: AtomicU8 = AtomicU8::new(0);
        let load = LOADS.fetch_add(1, Ordering::Relaxed);
        let journal = Shared::default();
        let mut tasks = JoinSet::new();
        for (index, node) in nodes.enumerate() {
            tasks.spawn(run((load, index), node.endpoint(), journal.clone()));
        }
        Self { journal, tasks }
    }

    /// How many entries were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Stops, and gives all that was accepted.
    pub async fn stop(mut self) -> Journal {
        self.tasks.shutdown().await;
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Fails unless the log took what one node accepted for one chain in the order in which it was accepted.
pub fn assert_order(journal: &Journal, places: &BTreeMap<EntryId, Place>) {
    let mut lanes: BTreeMap<(usize, ChainId), Vec<(u64, Place)>> = BTreeMap::new();
    for (id, place) in places {
        let accepted = journal.get(id).expect("what landed was accepted");
        lanes.entry((accepted.node, accepted.chain)).or_default().push((accepted.number, *place));
    }
    for ((node, chain), mut entries) in lanes {
        entries.sort_unstable();
        let is_in_order = entries.is_sorted_by(|(_, first), (_, second)| first < second);
        assert!(is_in_order, "node {node}, chain {chain}, (number, place): {entries:?}");
    }
}

/// Sends to one node, and connects again for as long as that takes.
async fn run((load, node): (u8, usize), endpoint: String, journal: Shared) {
    let number = u8::try_from(node).unwrap_or(u8::MAX);
    let mut wallet = wallet(EVM_A, load.wrapping_mul(8).wrapping_add(number));
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
            let (chain, entry) = match count % 2 {
                0 => (EVM_A, wallet.transaction(expires).expect("a transaction")),
                _ => (OPAQUE, opaque_until(&format!("load {load}: {count} of {node}"), expires)),
            };
            match client.submit(&entry, None).await {
                Ok(_) => {
                    let accepted = Accepted { node, at: Instant::now(), chain, number: count };
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
