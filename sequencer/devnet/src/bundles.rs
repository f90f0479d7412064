//! A bundle every few seconds: a transfer on each chain, by an account of its own, followed into the blocks.

use std::time::Duration;

use alloy_primitives::{B256, Bytes, keccak256};
use eyre::{WrapErr as _, bail};
use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::types::ChainId;
use lockstep_node::clock;
use lockstep_rpc::client::remote::Remote;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::json_rpc;
use crate::world::accounts::Account;
use crate::world::rollup::{Heads, Rollup};

/// News that may wait.
pub const NEWS_MAX: usize = 256;
/// Between two bundles.
const BUNDLE_INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks at a chain.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long one submission may take at one validator.
const SUBMIT_PATIENCE: Duration = Duration::from_secs(2);
/// How long the network may take to order a bundle, in milliseconds.
const EXPIRES_MS: u64 = 20_000;
/// How long a bundle may take into the blocks of all its chains: to its expiry, and the blocks of a chain that is late.
const LAND_PATIENCE: Duration = Duration::from_secs(40);

/// What happens on the chains.
#[derive(Clone, Debug)]
pub enum News {
    /// A chain's heads; `None` if its op-node does not answer.
    Heads(u64, Option<Heads>),
    /// What became of a bundle.
    Bundle(Landed),
}

/// What became of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Landed {
    /// Its number, from 1.
    pub index: u64,
    /// Its id; empty if no validator took it.
    pub id: String,
    /// Milliseconds until the last leg was in a block, or until it was given up.
    pub milliseconds: u64,
    /// Where each leg is.
    pub legs: Vec<Landing>,
    /// Why it is nowhere; empty if it is somewhere.
    pub failure: String,
}

/// Where a leg is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Landing {
    /// The chain.
    pub chain: u64,
    /// Hash of the leg's transaction.
    #[serde(serialize_with = "json_rpc::show_hash")]
    pub transaction: B256,
    /// Number of the block that has it.
    pub block: Option<u64>,
}

/// The account that signs the bundles.
#[must_use]
pub fn sender() -> Account {
    Account::of_purpose("bundles")
}

/// Tells the heads of a chain, for ever; ends when nobody listens.
pub async fn watch(rollup: Rollup, news: mpsc::Sender<News>) {
    let mut ticks = interval(LOOK_INTERVAL);
    loop {
        ticks.tick().await;
        let heads = rollup.sequencer.heads().await.ok();
        if news.send(News::Heads(rollup.id(), heads)).await.is_err() {
            return;
        }
    }
}

/// Sends bundles, one after the other, for ever; ends when nobody listens.
pub async fn run(rollups: Vec<Rollup>, remotes: Vec<Remote>, news: mpsc::Sender<News>) {
    let account = sender();
    let mut ticks = interval(BUNDLE_INTERVAL);
    for index in 1u64.. {
        ticks.tick().await;
        let begin = Instant::now();
        let mut landed = Landed {
            index,
            id: String::new(),
            milliseconds: 0,
            legs: Vec::new(),
            failure: String::new(),
        };
        if let Err(error) = send(&account, &rollups, &remotes, &mut landed).await {
            landed.failure = format!("{error:#}");
        }
        landed.milliseconds = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        if news.send(News::Bundle(landed)).await.is_err() {
            return;
        }
    }
}

/// Sends one bundle, and follows it.
async fn send(
    account: &Account,
    rollups: &[Rollup],
    remotes: &[Remote],
    landed: &mut Landed,
) -> eyre::Result<()> {
    let mut transactions = Vec::new();
    for rollup in rollups {
        let nonce = rollup.sequencer.nonce(account.address()).await;
        let nonce = nonce.wrap_err_with(|| format!("chain {}", rollup.id()))?;
        let raw = account.transfer(rollup.id(), nonce, account.address(), landed.index);
        let (chain, transaction) = (rollup.id(), keccak256(&raw));
        landed.legs.push(Landing { chain, transaction, block: None });
        transactions.push((ChainId(chain), raw));
    }
    let entry = entry(transactions)?;
    landed.id = entry.id().to_string();
    submit(remotes, &entry).await?;
    let deadline = Instant::now().checked_add(LAND_PATIENCE);
    loop {
        for (rollup, leg) in rollups.iter().zip(&mut landed.legs) {
            if let Ok(block) = rollup.sequencer.landed(leg.transaction).await {
                leg.block = block;
            }
        }
        if landed.legs.iter().all(|leg| leg.block.is_some()) {
            return Ok(());
        }
        if deadline.is_none_or(|deadline| Instant::now() >= deadline) {
            bail!("not in a block of each chain within {} s", LAND_PATIENCE.as_secs());
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// A bundle of a transaction per chain; of one chain, the transaction alone.
fn entry(transactions: Vec<(ChainId, Bytes)>) -> eyre::Result<Entry> {
    let kind = ChainKind::Evm;
    let body = match transactions.as_slice() {
        [(chain, bytes)] => {
            Body::Transaction(Transaction { chain: *chain, kind, bytes: bytes.clone() })
        }
        several => {
            let leg = |(chain, bytes): &(ChainId, Bytes)| Leg {
                chain: *chain,
                kind,
                transactions: vec![bytes.clone()],
            };
            let legs = several.iter().map(leg).collect();
            Body::Bundle(Bundle::new(legs, Guarantee::CoOrdered).wrap_err("making a bundle")?)
        }
    };
    let expires = clock::now().plus(EXPIRES_MS);
    Entry::new(body, expires, None).wrap_err("making an entry")
}

/// Submits to the first validator that takes it.
async fn submit(remotes: &[Remote], entry: &Entry) -> eyre::Result<()> {
    let mut last = eyre::eyre!("there is no validator");
    for remote in remotes {
        match timeout(SUBMIT_PATIENCE, remote.ingress().submit(entry, None)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => last = error.into(),
            Err(_) => last = eyre::eyre!("{} does not answer", remote.url()),
        }
    }
    Err(last.wrap_err("submitting"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::types::NetworkId;

    #[test]
    fn transactions_of_several_chains_are_a_bundle_and_pass_every_check() {
        let account = sender();
        let raw = |chain| (ChainId(chain), account.transfer(chain, 3, account.address(), 1));
        let checked = entry(vec![raw(901), raw(902)]).expect("is an entry");
        assert!(matches!(checked.body(), Body::Bundle(bundle) if bundle.legs().len() == 2));
        let checked = checked.check(NetworkId::ZERO).expect("passes every check");
        assert!(checked.transactions().iter().all(|one| one.sender == Some(account.address())));
        let alone = entry(vec![raw(901)]).expect("is an entry");
        assert!(matches!(alone.body(), Body::Transaction(_)));
        assert!(entry(Vec::new()).is_err());
    }
}
