//! A devnet's small load: transfers and two-chain bundles by the clock, to all validators in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::B256;
use lockstep_core::entry::Entry;
use lockstep_core::types::ChainId;
use lockstep_node::clock;
use lockstep_rpc::client::remote::Remote;
use rand::Rng as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::load::pace::Pace;
use crate::load::wallet::{self, Wallet};

/// Accounts of each chain.
const ACCOUNTS: usize = 8;
/// Every so many entries one is a bundle.
const BUNDLE_EVERY: u64 = 21;
/// Submissions that may be under way.
const SUBMISSIONS_MAX: usize = 512;
/// How long one submission may take at one validator.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the network may take, in milliseconds.
const EXPIRES_MS: u64 = 30_000;

/// What became of the load.
#[derive(Debug, Default)]
pub struct Counters {
    /// Entries that a validator took.
    pub accepted: AtomicU64,
    /// Entries that none took.
    pub refused: AtomicU64,
}

/// Sends `rate` entries a second, for ever.
///
/// # Errors
/// If an entry cannot be made.
pub async fn run(
    chains: Vec<ChainId>,
    remotes: Vec<Remote>,
    rate: u32,
    counters: Arc<Counters>,
) -> eyre::Result<()> {
    // Fresh accounts: those of an earlier run have used their nonces.
    let seed = B256::from(rand::rng().random::<[u8; 32]>());
    let mut wallets: Vec<Wallet> =
        chains.iter().map(|chain| Wallet::new(*chain, ACCOUNTS, seed)).collect();
    let remotes = Arc::new(remotes);
    let room = Arc::new(Semaphore::new(SUBMISSIONS_MAX));
    let mut tasks = JoinSet::new();
    let (pace, start) = (Pace::new(rate), Instant::now());
    for index in 0u64.. {
        if let Some(at) = start.checked_add(pace.at(index)) {
            sleep_until(at).await;
        }
        let entry = next(&mut wallets, index)?;
        while tasks.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (remotes, counters) = (Arc::clone(&remotes), Arc::clone(&counters));
        tasks.spawn(async move {
            let is_taken = submit(&remotes, index, &entry).await;
            let counter = if is_taken { &counters.accepted } else { &counters.refused };
            counter.fetch_add(1, Ordering::Relaxed);
            drop(permit);
        });
    }
    Ok(())
}

/// Entry number `index`: a transfer on the next chain, or a bundle of two chains.
fn next(wallets: &mut [Wallet], index: u64) -> eyre::Result<Entry> {
    let expires = clock::now().plus(EXPIRES_MS);
    let count = wallets.len().max(1) as u64;
    let turn = usize::try_from(index.checked_rem(count).unwrap_or_default()).unwrap_or_default();
    wallets.rotate_left(turn);
    let is_bundle = index % BUNDLE_EVERY == BUNDLE_EVERY.saturating_sub(1);
    let entry = match wallets {
        [a, b, ..] if is_bundle => wallet::bundle(&mut [a, b], expires),
        [a, ..] => a.transaction(expires),
        [] => eyre::bail!("no chain to send to"),
    };
    wallets.rotate_right(turn);
    entry
}

/// Submits to the validator whose turn it is; if that does not take it, to the others.
async fn submit(remotes: &[Remote], index: u64, entry: &Entry) -> bool {
    let count = remotes.len().max(1);
    let turn = usize::try_from(index).unwrap_or_default().checked_rem(count).unwrap_or_default();
    for remote in remotes.iter().cycle().skip(turn).take(count) {
        if matches!(timeout(PATIENCE, remote.ingress().submit(entry, None)).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::entry::Body;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn load_has_every_chain_and_bundles_and_nothing_twice() {
        let mut wallets: Vec<Wallet> =
            [901, 902, 903].map(|id| Wallet::new(ChainId(id), 2, B256::ZERO)).into();
        let (mut ids, mut bundles) = (BTreeSet::new(), 0);
        let mut chains: BTreeMap<u64, u64> = BTreeMap::new();
        for index in 0..210 {
            let entry = next(&mut wallets, index).expect("is an entry");
            ids.insert(entry.id());
            match entry.body() {
                Body::Transaction(t) => *chains.entry(t.chain.0).or_default() += 1,
                Body::Bundle(_) => bundles += 1,
                Body::Record(_) => panic!("no records"),
            }
        }
        assert_eq!((ids.len(), bundles), (210, 10));
        assert_eq!(chains.len(), 3);
        assert!(chains.values().all(|count| *count >= 60), "{chains:?}");
    }

    #[test]
    fn one_chain_has_no_bundles() {
        let mut wallets = vec![Wallet::new(ChainId(901), 2, B256::ZERO)];
        for index in 0..50 {
            let entry = next(&mut wallets, index).expect("is an entry");
            assert!(matches!(entry.body(), Body::Transaction(_)));
        }
        assert!(next(&mut [], 0).is_err());
    }
}
