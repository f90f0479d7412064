//! Checks signatures on a thread pool, off the async runtime, once per entry and node.
//!
//! An entry that reaches a node twice (from its submitter and in another validator's lane, or in four lanes) is
//! checked once: the last `CACHED_ENTRIES_MAX` checked entries are remembered by id, which commits to all their signatures but
//! the gateway's. So copies of one transaction with many expiries cost no more than one. The pool bounds its queue by the callers: each awaits its own check. What users submit takes
//! turns, a request at a time; and what consensus waits for has threads of its own: a flood never stands before a vote.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use lockstep_core::batch::{Acknowledgement, Batch, CheckedBatch, InvalidBatch};
use lockstep_core::entry::{CheckedEntry, Entry, InvalidEntry};
use lockstep_core::signing::{self, InvalidSignature, Signature};
use lockstep_core::types::{EntryId, NetworkId};
use lru::LruCache;
use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator,
};
use tokio::sync::{Semaphore, oneshot};

/// Checked entries that are remembered: a minute of a thousand a second, about 40 MiB of small transfers.
const CACHED_ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
/// Entries larger than this are not remembered, which bounds the cache at 64 MiB.
const CACHED_ENTRY_BYTES_MAX: usize = 1_024;

/// The node's signature checker; cheap to clone.
#[derive(Clone, Debug)]
pub struct Checker {
    network: NetworkId,
    pool: Arc<rayon::ThreadPool>,
    /// For what consensus waits for.
    urgent: Arc<rayon::ThreadPool>,
    // A lock, because the pool's threads share it; held for one look-up, never across a check.
    cache: Arc<Mutex<LruCache<EntryId, CheckedEntry>>>,
    /// Whose turn it is of those that check what was submitted here.
    submitted: Arc<Semaphore>,
}

impl Checker {
    /// A checker of `network`'s entries on `threads` threads (0: one per core), and as many for what is urgent.
    ///
    /// # Errors
    /// If the threads can't be started.
    pub fn new(network: NetworkId, threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = |name: &'static str| {
            let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
            builder.thread_name(move |index| format!("{name}-{index}")).build().map(Arc::new)
        };
        let (pool, urgent) = (pool("check")?, pool("urgent")?);
        let cache = Arc::new(Mutex::new(LruCache::new(CACHED_ENTRIES_MAX)));
        let submitted = Arc::new(Semaphore::new(1));
        Ok(Self { network, pool, urgent, cache, submitted })
    }

    /// Checks entries that were submitted here side by side, when it is their turn; the answers are in their order.
    pub async fn check_entries(
        &self,
        entries: Vec<Entry>,
    ) -> Vec<Result<CheckedEntry, InvalidEntry>> {
        let this = self.clone();
        let _turn = self.submitted.acquire().await;
        run(&self.pool, move || entries.par_iter().map(|entry| this.check_now(entry)).collect())
            .await
    }

    /// Decodes a batch and checks its owner's signature and all its entries.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub async fn check_batch(&self, raw: Bytes) -> Result<CheckedBatch, InvalidBatch> {
        let this = self.clone();
        run(&self.pool, move || this.check_batch_now(raw)).await
    }

    /// The same for batches of a peer; the answers are in their order.
    pub async fn check_batches(&self, raw: Vec<Bytes>) -> Vec<Result<CheckedBatch, InvalidBatch>> {
        let this = self.clone();
        let check = move || raw.into_par_iter().map(|raw| this.check_batch_now(raw)).collect();
        run(&self.pool, check).await
    }

    /// The same for batches that consensus waits for; the answers are in their order.
    pub async fn check_urgent(&self, raw: Vec<Bytes>) -> Vec<Result<CheckedBatch, InvalidBatch>> {
        let this = self.clone();
        let check = move || raw.into_par_iter().map(|raw| this.check_batch_now(raw)).collect();
        run(&self.urgent, check).await
    }

    /// Whose key made a signature.
    ///
    /// # Errors
    /// If nobody's did.
    pub async fn recover(
        &self,
        digest: B256,
        signature: Signature,
    ) -> Result<Address, InvalidSignature> {
        run(&self.urgent, move || signing::recover(digest, &signature)).await
    }

    /// Who signed an acknowledgement.
    ///
    /// # Errors
    /// If nobody did, or its tips are out of order.
    pub async fn signer(&self, ack: Acknowledgement) -> Result<Address, InvalidSignature> {
        run(&self.urgent, move || ack.signer()).await
    }

    /// Remembers an entry that this node checked itself.
    fn remember(&self, checked: &CheckedEntry) {
        let entry = checked.entry();
        if entry.raw().len() <= CACHED_ENTRY_BYTES_MAX {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.put(entry.id(), checked.clone());
        }
    }

    fn remembered(&self, entry: &Entry) -> Option<CheckedEntry> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(&entry.id()).cloned()
    }

    fn check_now(&self, entry: &Entry) -> Result<CheckedEntry, InvalidEntry> {
        let entry = entry.clone();
        if let Some(checked) = self.remembered(&entry) {
            return entry.check_as_copy(self.network, &checked);
        }
        let checked = entry.check(self.network)?;
        self.remember(&checked);
        Ok(checked)
    }

    fn check_batch_now(&self, raw: Bytes) -> Result<CheckedBatch, InvalidBatch> {
        let batch = Batch::decode(self.network, raw.into())?;
        batch.check_owner()?;
        let check = |(index, entry)| {
            self.check_now(entry).map_err(|error| InvalidBatch::Entry { index, error })
        };
        let entries = batch.entries().par_iter().enumerate();
        let checked = entries.map(check).collect::<Result<Vec<_>, _>>()?;
        batch.with_checked(checked)
    }
}

async fn run<T: Send + 'static>(
    pool: &rayon::ThreadPool,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, result) = oneshot::channel();
    pool.spawn(move || {
        // Whoever asked may be gone; then nobody needs the answer.
        drop(done.send(work()));
    });
    result.await.expect("the pool runs every job it takes, and no job panics")
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use lockstep_core::signing::SigningKey;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_consensus_waits_for_does_not_wait_for_other_checks() {
        let checker = Checker::new(NetworkId::ZERO, 1).unwrap();
        // All threads of the pool are busy until they are told otherwise.
        let gate = Arc::new(Barrier::new(2));
        let busy = gate.clone();
        checker.pool.spawn(move || {
            busy.wait();
        });
        let (key, digest) = (SigningKey::from_bytes([1; 32]).unwrap(), B256::repeat_byte(7));
        let signer = checker.recover(digest, key.sign(digest)).await;
        assert_eq!(signer, Ok(key.address()));
        let urgent = checker.check_urgent(vec![Bytes::new(), Bytes::new()]).await;
        assert_eq!(urgent.iter().filter(|checked| checked.is_err()).count(), 2);

        let mut other = Box::pin(checker.check_batch(Bytes::new()));
        assert!(timeout(Duration::from_millis(50), &mut other).await.is_err(), "it waits");
        gate.wait();
        assert!(other.await.is_err(), "no bytes are no batch");
    }
}
