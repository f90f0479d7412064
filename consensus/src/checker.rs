//! Checks signatures on thread pools, off the async runtime, each once.
//!
//! A transaction that reaches a node many times (from its submitter, in four lanes, in bundles, with a thousand expiries) is
//! checked once: the last `KNOWN_MAX` are remembered by chain and hash, and as many gateways' signatures. Who sends work
//! waits for its turn by what it costs (`pool`), so one validator's full batches do not stand before another's small ones,
//! nor before what users submit here; and what consensus waits for has threads of its own.

mod pool;

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use futures::future::join_all;
use libp2p::PeerId;
use lockstep_core::batch::{Acknowledgement, Batch, CheckedBatch, InvalidBatch};
use lockstep_core::entry::{CheckedEntry, Entry, InvalidEntry};
use lockstep_core::signing::{self, InvalidSignature, Signature};
use lockstep_core::transaction::{CheckedTransaction, Known};
use lockstep_core::types::{ChainId, NetworkId};
use lru::LruCache;

use self::pool::Pool;

/// Transactions that are remembered, and gateways' signatures: a minute of a thousand a second, about 13 MiB each.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
/// Entries that are checked in one go: about 2 ms. Others' turns come between.
const CHUNK: usize = 32;

/// For whom something is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payer {
    /// Clients of this node, and itself.
    Own,
    /// A peer that sent it.
    Peer(PeerId),
    /// Blocks that are decided.
    Decided,
}

/// The node's signature checker; cheap to clone.
#[derive(Clone, Debug)]
pub struct Checker {
    network: NetworkId,
    pool: Pool,
    /// For what consensus waits for.
    urgent: Pool,
    cache: Cache,
}

impl Checker {
    /// A checker of `network`'s entries on `threads` threads (0: one per core), and as many for what is urgent.
    ///
    /// # Errors
    /// If the threads can't be started.
    pub fn new(network: NetworkId, threads: usize) -> io::Result<Self> {
        let (pool, urgent) = (Pool::new("check", threads)?, Pool::new("urgent", threads)?);
        Ok(Self { network, pool, urgent, cache: Cache::default() })
    }

    /// Checks entries that were submitted here; the answers are in their order.
    pub async fn check_entries(
        &self,
        entries: Vec<Entry>,
    ) -> Vec<Result<CheckedEntry, InvalidEntry>> {
        self.spread(&self.pool, Payer::Own, entries).await
    }

    /// Decodes a batch and checks its owner's signature and all its entries.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub async fn check_batch(&self, raw: Bytes) -> Result<CheckedBatch, InvalidBatch> {
        self.check_one(&self.pool, Payer::Own, raw).await
    }

    /// The same for batches that somebody sent; the answers are in their order.
    pub async fn check_batches(
        &self,
        payer: Payer,
        raw: Vec<Bytes>,
    ) -> Vec<Result<CheckedBatch, InvalidBatch>> {
        join_all(raw.into_iter().map(|raw| self.check_one(&self.pool, payer, raw))).await
    }

    /// The same for batches that consensus waits for; the answers are in their order.
    pub async fn check_urgent(
        &self,
        payer: Payer,
        raw: Vec<Bytes>,
    ) -> Vec<Result<CheckedBatch, InvalidBatch>> {
        join_all(raw.into_iter().map(|raw| self.check_one(&self.urgent, payer, raw))).await
    }

    /// Whose key made a signature.
    ///
    /// # Errors
    /// If nobody's did.
    pub async fn recover(
        &self,
        payer: Payer,
        digest: B256,
        signature: Signature,
    ) -> Result<Address, InvalidSignature> {
        self.urgent.run(payer, 1, move || signing::recover(digest, &signature)).await
    }

    /// Who signed an acknowledgement.
    ///
    /// # Errors
    /// If nobody did, or its tips are out of order.
    pub async fn signer(
        &self,
        payer: Payer,
        ack: Acknowledgement,
    ) -> Result<Address, InvalidSignature> {
        self.urgent.run(payer, 1, move || ack.signer()).await
    }

    async fn check_one(
        &self,
        pool: &Pool,
        payer: Payer,
        raw: Bytes,
    ) -> Result<CheckedBatch, InvalidBatch> {
        let network = self.network;
        let decode = move || {
            let batch = Batch::decode(network, raw.into())?;
            batch.check_owner().map(|_| batch)
        };
        let batch = pool.run(payer, 1, decode).await?;
        let checked = self.spread(pool, payer, batch.entries().to_vec()).await;
        let checked = (0..)
            .zip(checked)
            .map(|(index, checked)| checked.map_err(|error| InvalidBatch::Entry { index, error }));
        batch.with_checked(checked.collect::<Result<_, _>>()?)
    }

    /// Checks entries in chunks, each in its turn.
    async fn spread(
        &self,
        pool: &Pool,
        payer: Payer,
        entries: Vec<Entry>,
    ) -> Vec<Result<CheckedEntry, InvalidEntry>> {
        let chunks = entries.chunks(CHUNK).map(|chunk| {
            let (this, chunk) = (self.clone(), chunk.to_vec());
            let cost = chunk.len() as u64;
            let check = move |entry| this.check_now(entry);
            pool.run(payer, cost, move || chunk.into_iter().map(check).collect::<Vec<_>>())
        });
        join_all(chunks).await.into_iter().flatten().collect()
    }

    fn check_now(&self, entry: Entry) -> Result<CheckedEntry, InvalidEntry> {
        let checked = entry.check_knowing(self.network, &self.cache)?;
        self.cache.remember(self.network, &checked);
        Ok(checked)
    }
}

/// What this node checked itself.
#[derive(Clone, Debug)]
struct Cache(
    // A lock, because the pools' threads share it; held for one look-up, never across a check.
    Arc<Mutex<Remembered>>,
);

#[derive(Debug)]
struct Remembered {
    transactions: LruCache<(ChainId, B256), CheckedTransaction>,
    signers: LruCache<(B256, Signature), Address>,
}

impl Default for Cache {
    fn default() -> Self {
        let (transactions, signers) = (LruCache::new(KNOWN_MAX), LruCache::new(KNOWN_MAX));
        Self(Arc::new(Mutex::new(Remembered { transactions, signers })))
    }
}

impl Cache {
    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, network: NetworkId, checked: &CheckedEntry) {
        let mut remembered = self.remembered();
        for transaction in checked.transactions().iter().filter(|t| t.sender.is_some()) {
            remembered.transactions.put((transaction.chain, transaction.hash), transaction.clone());
        }
        if let Some((signature, signer)) =
            checked.entry().gateway_signature().zip(checked.gateway())
        {
            let digest = Entry::gateway_digest(network, checked.entry().id());
            remembered.signers.put((digest, *signature), signer);
        }
    }
}

impl Known for Cache {
    fn transaction(&self, chain: ChainId, hash: B256) -> Option<CheckedTransaction> {
        self.remembered().transactions.get(&(chain, hash)).cloned()
    }

    fn signer(&self, digest: B256, signature: &Signature) -> Option<Address> {
        self.remembered().signers.get(&(digest, *signature)).copied()
    }
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
        let block = checker.pool.run(Payer::Own, 1, move || busy.wait());
        let mut block = Box::pin(block);
        assert!(timeout(Duration::from_millis(10), &mut block).await.is_err(), "it is at work");
        let (key, digest) = (SigningKey::from_bytes([1; 32]).unwrap(), B256::repeat_byte(7));
        let signer = checker.recover(Payer::Own, digest, key.sign(digest)).await;
        assert_eq!(signer, Ok(key.address()));
        let urgent = checker.check_urgent(Payer::Decided, vec![Bytes::new(), Bytes::new()]).await;
        assert_eq!(urgent.iter().filter(|checked| checked.is_err()).count(), 2);

        let mut other = Box::pin(checker.check_batch(Bytes::new()));
        assert!(timeout(Duration::from_millis(50), &mut other).await.is_err(), "it waits");
        gate.wait();
        assert!(other.await.is_err(), "no bytes are no batch");
    }
}
