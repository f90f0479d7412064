//! A steady load of transfers through a chain's public port, and how long each took into a block.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, keccak256};
use lockstep_devnet::json_rpc::JsonRpc;
use lockstep_devnet::world::accounts::Account;
use lockstep_devnet::world::rollup::Rollup;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::run;

/// What was sent, and when.
type Sent = Arc<Mutex<BTreeMap<B256, Instant>>>;

/// A running load.
pub(crate) struct Load {
    senders: Vec<JoinHandle<()>>,
    watcher: JoinHandle<()>,
    sent: Sent,
    refused: Arc<Mutex<Vec<String>>>,
    landed: Arc<Mutex<BTreeMap<B256, Instant>>>,
}

/// What a load came to.
pub(crate) struct Report {
    /// Every transaction that the port took.
    pub(crate) sent: Vec<B256>,
    /// How many it refused.
    pub(crate) refused: Vec<String>,
    /// From submission to a block, ascending.
    pub(crate) times: Vec<Duration>,
}

impl Load {
    /// Sends `per_second` transfers, from as many accounts.
    pub(crate) fn start(rollup: &Rollup, accounts: &[Account], per_second: usize) -> Self {
        let sent: Sent = Arc::default();
        let refused: Arc<Mutex<Vec<String>>> = Arc::default();
        let landed: Arc<Mutex<BTreeMap<B256, Instant>>> = Arc::default();
        let senders = accounts.iter().take(per_second).enumerate().map(|(index, account)| {
            let (account, chain, url) = (account.clone(), rollup.id(), rollup.wallet_url());
            let (sent, refused) = (Arc::clone(&sent), Arc::clone(&refused));
            let offset = Duration::from_millis(1_000 * index as u64 / per_second as u64);
            tokio::spawn(async move {
                tokio::time::sleep(offset).await;
                let wallet = JsonRpc::new(url);
                let mut ticks = interval(Duration::from_secs(1));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut nonce = 0;
                loop {
                    ticks.tick().await;
                    let raw = account.transfer(chain, nonce, Address::repeat_byte(0x77), 1);
                    let begun = Instant::now();
                    let answer: Result<Value, _> =
                        wallet.call("eth_sendRawTransaction", json!([raw])).await;
                    match answer {
                        Ok(_) => {
                            sent.lock().unwrap().insert(keccak256(&raw), begun);
                            nonce += 1;
                        }
                        Err(error) => {
                            let words = error.to_string();
                            // Taken, but the answer was lost.
                            if words.contains("already known") || words.contains("nonce too low") {
                                sent.lock().unwrap().insert(keccak256(&raw), begun);
                                nonce += 1;
                            }
                            refused.lock().unwrap().push(words);
                        }
                    }
                }
            })
        });
        let senders = senders.collect();
        let watcher = tokio::spawn(watch(rollup.clone(), Arc::clone(&landed)));
        Self { senders, watcher, sent, refused, landed }
    }

    /// Stops sending, waits until all is in blocks (or `patience` is over), and reports.
    pub(crate) async fn stop(self, patience: Duration) -> Report {
        for sender in &self.senders {
            sender.abort();
        }
        let deadline = Instant::now() + patience;
        loop {
            let is_done = {
                let (sent, landed) = (self.sent.lock().unwrap(), self.landed.lock().unwrap());
                sent.keys().all(|hash| landed.contains_key(hash))
            };
            if is_done || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.watcher.abort();
        let (sent, landed) = (self.sent.lock().unwrap(), self.landed.lock().unwrap());
        let mut times: Vec<Duration> = sent
            .iter()
            .filter_map(|(hash, begun)| {
                landed.get(hash).map(|at| at.saturating_duration_since(*begun))
            })
            .collect();
        times.sort();
        Report {
            sent: sent.keys().copied().collect(),
            refused: self.refused.lock().unwrap().clone(),
            times,
        }
    }
}

/// Notes when each transaction is first seen in the chain's head, asked 50 times a second.
async fn watch(rollup: Rollup, landed: Arc<Mutex<BTreeMap<B256, Instant>>>) {
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = 1u64;
    loop {
        ticks.tick().await;
        while let Some(block) = run::block(&rollup.sequencer, &format!("{next:#x}")).await {
            let now = Instant::now();
            let mut landed = landed.lock().unwrap();
            for hash in block.transactions {
                landed.entry(hash).or_insert(now);
            }
            next += 1;
        }
    }
}

impl Report {
    /// The time below which this share of all transactions took.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let index =
            ((self.times.len() as f64 * share) as usize).min(self.times.len().saturating_sub(1));
        self.times.get(index).copied().unwrap_or_default()
    }
}
