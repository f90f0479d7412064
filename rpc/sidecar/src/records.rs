//! Says to the log what the chain's sequencer says of its blocks, until the log shows it.
//!
//! A record is submitted to several validators and again until a log block of the chain holds it; the feed tells. It
//! knows nothing of what records mean.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lockstep_core::entry::{Body, Entry};
use lockstep_core::record::{Limits, Record, RecordBody};
use lockstep_core::signing::SigningKey;
use lockstep_core::slice::Content;
use lockstep_core::types::{ChainId, Height, NetworkId, UnixMillis};
use lockstep_rpc::client::committee::Committee;
use tokio::sync::Notify;
use tokio::time::{Duration, sleep};
use tracing::{debug, warn};

use crate::feed::Feed;
use crate::limits::{RECORD_EXPIRES_MS, RECORD_RETRY, RECORDS_WAITING_MAX};

/// Submissions at a time: one that meets a hung validator takes three seconds, and a catch-up seals 20 blocks a second.
const SUBMISSIONS_MAX: usize = 64;

#[derive(Debug)]
struct Waiting {
    record: Record,
    submitted: Option<Instant>,
}

impl Waiting {
    fn is_due(&self, now: Instant) -> bool {
        self.submitted.is_none_or(|at| now.duration_since(at) >= RECORD_RETRY)
    }
}

async fn submit(committee: &Committee, record: Record) {
    let expires = UnixMillis(now_ms().saturating_add(RECORD_EXPIRES_MS));
    match Entry::new(Body::Record(record), expires, None) {
        Ok(entry) => {
            if let Err(error) = committee.submit(&entry).await {
                debug!(reason = %error.reason, "a record was not taken; it is submitted again");
            }
        }
        Err(error) => warn!(%error, "a record that is no entry"),
    }
}

#[derive(Debug)]
struct Shared {
    network: NetworkId,
    chain: ChainId,
    key: SigningKey,
    // By what the sequencer signs. Held for map operations only.
    waiting: Mutex<BTreeMap<B256, Waiting>>,
    changed: Notify,
}

/// Where a chain's records go; cheap to clone.
#[derive(Clone, Debug)]
pub struct Records(Arc<Shared>);

impl Records {
    /// Records of `chain`, signed with its sequencer's key.
    #[must_use]
    pub fn new(network: NetworkId, chain: ChainId, key: SigningKey) -> Self {
        let shared =
            Shared { network, chain, key, waiting: Mutex::default(), changed: Notify::new() };
        Self(Arc::new(shared))
    }

    /// Takes a record. Doing it twice is once.
    pub fn submit(&self, body: RecordBody) {
        let digest = Record::digest(self.0.network, self.0.chain, &body);
        let record = Record::sign(self.0.network, self.0.chain, body, &self.0.key);
        let mut waiting = self.waiting();
        if waiting.len() >= RECORDS_WAITING_MAX {
            warn!(
                "more than {RECORDS_WAITING_MAX} records wait for the log: the newest is given up"
            );
            return;
        }
        waiting.entry(digest).or_insert(Waiting { record, submitted: None });
        drop(waiting);
        self.0.changed.notify_one();
    }

    /// Takes limits; older ones that still wait are given up. op-batcher repeats itself: what is the last that was said, with
    /// `logged` as the newest in the log, needs no record.
    pub fn limits(&self, limits: Limits, logged: Limits) {
        let waiting = self.waiting_bodies();
        if !is_news(&limits, &waiting, &logged) {
            return;
        }
        self.waiting().retain(|_, waiting| !matches!(waiting.record.body, RecordBody::Limits(_)));
        self.submit(RecordBody::Limits(limits));
    }

    /// The records that the log does not show yet, to be kept for the next start.
    #[must_use]
    pub fn waiting_bodies(&self) -> Vec<RecordBody> {
        self.waiting().values().map(|waiting| waiting.record.body.clone()).collect()
    }

    /// How many records the log does not show yet.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting().len()
    }

    /// Submits what waits, for ever. No validator that hangs delays a record that is due: submissions go on beside each other.
    pub async fn run(self, committee: Arc<Committee>, feed: Feed) {
        let mut newest = feed.newest();
        let mut scanned = newest.borrow().height;
        let mut submissions = FuturesUnordered::new();
        loop {
            let free = SUBMISSIONS_MAX.saturating_sub(submissions.len());
            submissions.extend(self.due(free).into_iter().map(|record| submit(&committee, record)));
            tokio::select! {
                Some(()) = submissions.next() => {}
                () = self.0.changed.notified() => {}
                () = sleep(RECORD_RETRY) => {}
                Ok(()) = newest.changed() => {
                    scanned = self.strike_out(&feed, scanned);
                }
            }
        }
    }

    /// Those that were not submitted lately, at most `count`; those that never were come first.
    fn due(&self, count: usize) -> Vec<Record> {
        let now = Instant::now();
        let mut waiting = self.waiting();
        let mut due: Vec<&mut Waiting> = waiting.values_mut().filter(|it| it.is_due(now)).collect();
        due.sort_by_key(|waiting| waiting.submitted);
        let submit = |waiting: &mut Waiting| {
            waiting.submitted = Some(now);
            waiting.record.clone()
        };
        due.into_iter().take(count).map(submit).collect()
    }

    /// Forgets what the log shows by now.
    fn strike_out(&self, feed: &Feed, after: Height) -> Height {
        let blocks = feed.after(after);
        let last = blocks.last().map_or(after, |block| block.slice.height);
        let mut waiting = self.waiting();
        for weighed in blocks.iter().flat_map(|block| &block.slice.items) {
            if let Content::Record(record) = &weighed.item.content {
                waiting.remove(&Record::digest(self.0.network, self.0.chain, &record.body));
            }
        }
        last
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<B256, Waiting>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether limits are others than those that were said last: what waits is newer than what the log shows. Pure.
fn is_news(limits: &Limits, waiting: &[RecordBody], logged: &Limits) -> bool {
    let waits = waiting.iter().find_map(|body| match body {
        RecordBody::Limits(limits) => Some(limits),
        RecordBody::Sealed(_) | RecordBody::Prepared(_) => None,
    });
    !limits.is_equal(waits.unwrap_or(logged))
}

fn now_ms() -> u64 {
    let since: Duration = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_come_back_are_news_and_repeated_ones_are_not() {
        let limits = |tx_bytes, at| Limits { tx_bytes, block_bytes: 9, set_at_ms: UnixMillis(at) };
        let waiting = |tx_bytes| vec![RecordBody::Limits(limits(tx_bytes, 1))];
        for (said, waits, logged, expected) in [
            (1, vec![], 1, false),
            (1, vec![], 2, true),
            (1, waiting(1), 2, false),
            (1, waiting(2), 1, true),
        ] {
            let found = is_news(&limits(said, 5), &waits, &limits(logged, 0));
            assert_eq!(found, expected, "{said} {waits:?} {logged}");
        }
    }
}
