//! Checks signatures on a thread pool, off the async runtime, once per entry and node.
//!
//! An entry that reaches a node twice (from its submitter and in another validator's lane, or in four lanes) is
//! checked once: the last `CACHED_ENTRIES_MAX` checked entries are remembered by id, and only the identical bytes
//! are taken from memory. The pool bounds its queue by the callers: each awaits its own check.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use lockstep_core::batch::{Acknowledgement, Batch, CheckedBatch, InvalidBatch};
use lockstep_core::entry::{CheckedEntry, Entry, InvalidEntry};
use lockstep_core::signing::{self, InvalidSignature, Signature};
use lockstep_core::types::{EntryId, NetworkId};
use lru::LruCache;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use tokio::sync::oneshot;

/// Checked entries that are remembered: a minute of a thousand a second, about 40 MiB of small transfers.
const CACHED_ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
/// Entries larger than this are not remembered, which bounds the cache at 64 MiB.
const CACHED_ENTRY_BYTES_MAX: usize = 1_024;

/// The node's signature checker; cheap to clone.
#[derive(Clone, Debug)]
pub struct Checker {
    network: NetworkId,
    pool: Arc<rayon::ThreadPool>,
    // A lock, because the pool's threads share it; held for one look-up, never across a check.
    cache: Arc<Mutex<LruCache<EntryId, CheckedEntry>>>,
}

impl Checker {
    /// A checker of `network`'s entries on `threads` threads (0: one per core).
    ///
    /// # Errors
    /// If the threads can't be started.
    pub fn new(network: NetworkId, threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("check-{index}"))
            .build()?;
        let cache = Arc::new(Mutex::new(LruCache::new(CACHED_ENTRIES_MAX)));
        Ok(Self { network, pool: Arc::new(pool), cache })
    }

    /// Checks one entry.
    ///
    /// # Errors
    /// Why it is wrong.
    pub async fn check_entry(&self, entry: Entry) -> Result<CheckedEntry, InvalidEntry> {
        if let Some(checked) = self.remembered(&entry) {
            return Ok(checked);
        }
        let this = self.clone();
        self.run(move || this.check_now(&entry)).await
    }

    /// Checks entries side by side; the answers are in the order of the entries.
    pub async fn check_entries(
        &self,
        entries: Vec<Entry>,
    ) -> Vec<Result<CheckedEntry, InvalidEntry>> {
        let this = self.clone();
        self.run(move || entries.par_iter().map(|entry| this.check_now(entry)).collect()).await
    }

    /// Decodes a batch and checks its owner's signature and all its entries.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub async fn check_batch(&self, raw: Bytes) -> Result<CheckedBatch, InvalidBatch> {
        let this = self.clone();
        self.run(move || {
            let batch = Batch::decode(this.network, raw.into())?;
            batch.check_owner()?;
            let checked = batch
                .entries()
                .par_iter()
                .enumerate()
                .map(|(index, entry)| {
                    this.check_now(entry).map_err(|error| InvalidBatch::Entry { index, error })
                })
                .collect::<Result<Vec<_>, _>>()?;
            batch.with_checked(checked)
        })
        .await
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
        self.run(move || signing::recover(digest, &signature)).await
    }

    /// Who signed an acknowledgement.
    ///
    /// # Errors
    /// If nobody did, or its tips are out of order.
    pub async fn signer(&self, ack: Acknowledgement) -> Result<Address, InvalidSignature> {
        self.run(move || ack.signer()).await
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
        cache.get(&entry.id()).filter(|checked| checked.entry().raw() == entry.raw()).cloned()
    }

    fn check_now(&self, entry: &Entry) -> Result<CheckedEntry, InvalidEntry> {
        if let Some(checked) = self.remembered(entry) {
            return Ok(checked);
        }
        let checked = entry.clone().check(self.network)?;
        self.remember(&checked);
        Ok(checked)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = oneshot::channel();
        self.pool.spawn(move || {
            // Whoever asked may be gone; then nobody needs the answer.
            drop(done.send(work()));
        });
        result.await.expect("the pool runs every job it takes, and no job panics")
    }
}
