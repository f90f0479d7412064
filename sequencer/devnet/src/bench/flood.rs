//! The open-loop load: transfers signed beforehand, sent when they are due over one stream per validator, and watched
//! until the log has them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::{B256, Bytes, keccak256};
use eyre::WrapErr as _;
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, NetworkId};
use lockstep_node::clock;
use lockstep_proto::convert::log::ProvenSlice;
use lockstep_rpc::client::{Endpoint, IngressClient, LogClient, StreamReceiver, StreamSender};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::load::pace::Pace;
use crate::load::wallet::Wallet;

/// How often the generator looks at what is due.
const TICK: Duration = Duration::from_millis(2);
/// Transactions of one message, should more be due because a node made the generator wait.
const MESSAGE_MAX: usize = 128;
/// A send so long after it was due is late.
const LATE: Duration = Duration::from_millis(25);
/// Accounts per chain.
const ACCOUNTS: usize = 500;
/// How long an entry lives.
const EXPIRES_MS: u64 = 50_000;
/// Greatest latency that is told apart, in microseconds: two minutes.
const LATENCY_US_MAX: u64 = 120_000_000;
/// How long decisions are waited for after the last send.
const DRAIN: Duration = Duration::from_secs(15);

/// The load of one row.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Transactions per second over all chains and validators.
    pub rate: u32,
    /// How long.
    pub duration: Duration,
    /// Tells wallets of different rows apart.
    pub seed: u8,
}

/// Where a load goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The chains, which take turns.
    pub chains: Vec<ChainId>,
    /// Their kind. The bytes are signed transfers in any case.
    pub kind: ChainKind,
    /// The network, and the key of the gateway that admits every entry; `None`: no gateway does.
    pub gateway: Option<(NetworkId, SigningKey)>,
}

impl Target {
    /// Open EVM chains.
    #[must_use]
    pub fn open(chains: &[ChainId]) -> Self {
        Self { chains: chains.to_vec(), kind: ChainKind::Evm, gateway: None }
    }

    fn entry(&self, (chain, bytes): &(ChainId, Bytes)) -> eyre::Result<Entry> {
        let transaction = Transaction { chain: *chain, kind: self.kind, bytes: bytes.clone() };
        let expires = clock::now().plus(EXPIRES_MS);
        let entry = Entry::new(Body::Transaction(transaction), expires, None);
        let entry = entry.wrap_err("making an entry")?;
        match &self.gateway {
            None => Ok(entry),
            Some((network, key)) => entry.admitted_by(*network, key).wrap_err("admitting an entry"),
        }
    }
}

/// What became of a load.
#[derive(Debug)]
pub struct Outcome {
    /// Transactions that were due per second.
    pub offered: u64,
    /// Transactions that were sent per second.
    pub sent: u64,
    /// Sends later than 25 ms after they were due, per mille.
    pub late_per_mille: u64,
    /// Submissions that validators refused.
    pub refused: u64,
    /// Transactions decided within the load's time, per second.
    pub decided: u64,
    /// Of those sent, how many the log has in the end.
    pub decided_in_all: u64,
    /// Transactions sent.
    pub sent_in_all: u64,
    /// Microseconds from when a send was due to when its block, proven, reached the client.
    pub latency: Histogram<u64>,
}

/// Signs `count` transfers per chain on all cores.
#[must_use]
pub fn sign(chains: &[ChainId], count: usize, seed: u8) -> Vec<(ChainId, Bytes)> {
    let per_chain: Vec<Vec<(ChainId, Bytes)>> = chains
        .into_par_iter()
        .map(|chain| {
            let mut wallet = Wallet::new(*chain, ACCOUNTS, B256::repeat_byte(seed));
            (0..count).map(|_| (*chain, wallet.transfer())).collect()
        })
        .collect();
    let mut lists: Vec<_> = per_chain.into_iter().map(Vec::into_iter).collect();
    let mut mixed = Vec::new();
    for _ in 0..count {
        mixed.extend(lists.iter_mut().filter_map(Iterator::next));
    }
    mixed
}

/// Runs a load on open EVM chains against the validators at `endpoints`.
///
/// # Errors
/// If a stream breaks.
pub async fn run(load: Load, chains: &[ChainId], endpoints: &[String]) -> eyre::Result<Outcome> {
    run_on(load, &Target::open(chains), endpoints).await
}

/// Runs a load on any chains against the validators at `endpoints`.
///
/// # Errors
/// If a stream breaks.
pub async fn run_on(load: Load, target: &Target, endpoints: &[String]) -> eyre::Result<Outcome> {
    let chains = &target.chains;
    let pace = Pace::new(load.rate);
    let total = pace.due(load.duration);
    let per_chain = usize::try_from(total).unwrap_or_default().div_ceil(chains.len().max(1));
    let chains_owned = chains.clone();
    let transfers = tokio::task::spawn_blocking(move || sign(&chains_owned, per_chain, load.seed));
    let transfers = transfers.await.wrap_err("signing")?;
    let places = (0u64..).zip(&transfers).map(|(index, (_, bytes))| (keccak256(bytes), index));
    let due: Arc<HashMap<B256, u64>> = Arc::new(places.collect());

    let (streams, refused, mut tasks) = open(endpoints).await?;
    let (begin, began) = watch::channel(None);
    let first = endpoints.first().cloned().unwrap_or_default();
    let mut watchers = JoinSet::new();
    for &chain in chains {
        let watch = Watch { url: first.clone(), chain, due: due.clone(), pace, count: per_chain };
        watchers.spawn(watch_chain(watch, began.clone()));
    }
    sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    begin.send_replace(Some((start, load.duration)));
    let sends = Sends { transfers: &transfers, target, pace };
    let (sent, late) = send(streams, sends, start, load.duration).await?;
    let mut outcome = Outcome {
        offered: total.checked_div(load.duration.as_secs().max(1)).unwrap_or_default(),
        sent: sent.checked_div(load.duration.as_secs().max(1)).unwrap_or_default(),
        late_per_mille: late.saturating_mul(1_000).checked_div(sent.max(1)).unwrap_or_default(),
        refused: 0,
        decided: 0,
        decided_in_all: 0,
        sent_in_all: sent,
        latency: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).wrap_err("histogram")?,
    };
    while let Some(watched) = watchers.join_next().await {
        let watched = watched.wrap_err("watching")??;
        outcome.decided = outcome.decided.saturating_add(watched.in_time);
        outcome.decided_in_all = outcome.decided_in_all.saturating_add(watched.in_all);
        outcome.latency.add(&watched.latency).wrap_err("histogram")?;
    }
    outcome.decided =
        outcome.decided.checked_div(load.duration.as_secs().max(1)).unwrap_or_default();
    outcome.refused = refused.load(Ordering::Relaxed);
    tasks.abort_all();
    Ok(outcome)
}

async fn open(
    endpoints: &[String],
) -> eyre::Result<(Vec<StreamSender>, Arc<AtomicU64>, JoinSet<()>)> {
    let (mut streams, mut tasks) = (Vec::new(), JoinSet::new());
    let refused = Arc::new(AtomicU64::new(0));
    for url in endpoints {
        let channel = Endpoint::new(url.as_str()).connect().await?;
        let (sender, receiver) = IngressClient::new(channel).open_stream().await?;
        streams.push(sender);
        tasks.spawn(count_refusals(receiver, refused.clone()));
    }
    Ok((streams, refused, tasks))
}

async fn count_refusals(mut answers: StreamReceiver, refused: Arc<AtomicU64>) {
    while let Ok(Some((_, answers))) = answers.next().await {
        let count = answers.iter().filter(|answer| answer.is_err()).count();
        refused.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// What is to be sent, when, and where to.
struct Sends<'a> {
    transfers: &'a [(ChainId, Bytes)],
    target: &'a Target,
    pace: Pace,
}

/// Sends what is due, every tick; how many were sent, and how many of them late.
async fn send(
    mut streams: Vec<StreamSender>,
    Sends { transfers, target, pace }: Sends<'_>,
    start: Instant,
    duration: Duration,
) -> eyre::Result<(u64, u64)> {
    let (mut next, mut late, mut turn) = (0u64, 0u64, 0usize);
    while start.elapsed() < duration {
        let due = pace.due(start.elapsed().min(duration));
        let from = usize::try_from(next).unwrap_or(usize::MAX);
        let to = usize::try_from(due).unwrap_or(usize::MAX).min(transfers.len());
        let to = to.min(from.saturating_add(MESSAGE_MAX));
        let batch = transfers.get(from..to).unwrap_or_default();
        if !batch.is_empty() {
            let count = streams.len().max(1);
            turn = turn.saturating_add(1).checked_rem(count).unwrap_or_default();
            if start.elapsed().saturating_sub(pace.at(next)) > LATE {
                late = late.saturating_add(batch.len() as u64);
            }
            if let Some(stream) = streams.get_mut(turn) {
                let entries: eyre::Result<Vec<Entry>> =
                    batch.iter().map(|transfer| target.entry(transfer)).collect();
                stream.send(&entries?).await?;
            }
            next = to as u64;
        }
        if batch.len() < MESSAGE_MAX {
            sleep(TICK).await;
        }
    }
    Ok((next, late))
}

/// Which chain is watched, and for what.
struct Watch {
    url: String,
    chain: ChainId,
    /// Numbers of all transactions, by their hashes.
    due: Arc<HashMap<B256, u64>>,
    pace: Pace,
    /// How many of them are of this chain.
    count: usize,
}

/// What one chain's slices showed.
struct Watched {
    in_time: u64,
    in_all: u64,
    latency: Histogram<u64>,
}

/// Follows a chain's slices until the load is over and drained.
async fn watch_chain(
    Watch { url, chain, due, pace, count }: Watch,
    mut began: watch::Receiver<Option<(Instant, Duration)>>,
) -> eyre::Result<Watched> {
    let mut client = LogClient::new(Endpoint::new(url.as_str()).connect().await?);
    let mut slices = client.stream_slices(chain, None).await?;
    let begin = *began.wait_for(Option::is_some).await.wrap_err("the load did not begin")?;
    let (start, duration) = begin.unwrap_or((Instant::now(), Duration::ZERO));
    let mut watched = Watched {
        in_time: 0,
        in_all: 0,
        latency: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?,
    };
    let last = start.checked_add(duration).and_then(|end| end.checked_add(DRAIN)).unwrap_or(start);
    while watched.in_all < count as u64 {
        let Ok(Some(slice)) = tokio::time::timeout_at(last, slices.next()).await else { break };
        let ProvenSlice::Present { slice, .. } = slice? else { continue };
        let at = start.elapsed();
        for bytes in slice.items.iter().flat_map(|item| item.transactions()) {
            let Some(index) = due.get(&keccak256(bytes)) else { continue };
            let micros = at.saturating_sub(pace.at(*index)).as_micros();
            watched.latency.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
            watched.in_all = watched.in_all.saturating_add(1);
            if at <= duration {
                watched.in_time = watched.in_time.saturating_add(1);
            }
        }
    }
    Ok(watched)
}
