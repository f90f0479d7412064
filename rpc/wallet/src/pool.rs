//! From a user's bytes to the committee, and again until the log or the chain has them.
//!
//! A transaction goes to f+1 validators at once: one of them is honest. Which ones follows from the sender, so that a
//! sender's transactions keep their order ([`Overlay`] says how); each further round goes to the next ones. What a
//! validator says is believed once f+1 say it. It never looks at a proof: the engine's nonces have the last word.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, Bytes};
use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use lockstep_core::entry::{Body, Entry, Transaction as EntryTransaction};
use lockstep_core::params::ChainKind;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, NetworkId, UnixMillis};
use lockstep_execution::client::EngineError;
use lockstep_proto::error::{ErrorCode, Refusal};
use lockstep_rpc::client::submitter::Submitter;
use lockstep_rpc::quota::{Client, QuotaConfig, Quotas};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use crate::engine::Engine;
use crate::limits::{
    ACCEPT_TIMEOUT, BATCH_MAX, EXPIRES_MS, RENEW_MS, RESUBMITTED_SENDERS_MAX,
    SIGNATURES_IN_FLIGHT_MAX, TICK,
};
use crate::metrics::WalletMetrics;
use crate::overlay::{Admission, Answer, Overlay, Round};
use crate::refused::Refused;
use crate::transaction::Transaction;

/// For whom the gateway signs, and what it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) chain: ChainId,
    pub(crate) network: NetworkId,
    pub(crate) key: SigningKey,
    /// Least tip, in wei per gas.
    pub(crate) tip_min: u128,
    /// The greatest gas that the network takes of one transaction.
    pub(crate) gas_max: u64,
}

/// Admits transactions, and keeps at them.
pub(crate) struct Pool {
    gateway: Gateway,
    engine: Engine,
    submitter: Arc<dyn Submitter>,
    /// f+1, where 3f+1 validators are configured.
    quorum: usize,
    // Behind locks, because every connection admits and looks up. Held for one look-up or change, never while waiting.
    overlay: Mutex<Overlay>,
    quotas: Mutex<Quotas>,
    signatures: Arc<Semaphore>,
    metrics: WalletMetrics,
    /// The mode in which nobody executes what is admitted.
    closed: Mutex<Option<&'static str>>,
}

impl Pool {
    pub(crate) fn new(
        gateway: Gateway,
        engine: Engine,
        submitter: Arc<dyn Submitter>,
        quota: QuotaConfig,
        metrics: WalletMetrics,
    ) -> Self {
        let quorum = quorum(submitter.count());
        Self {
            gateway,
            engine,
            submitter,
            quorum,
            closed: Mutex::default(),
            overlay: Mutex::new(Overlay::new(quorum)),
            quotas: Mutex::new(Quotas::new(quota)),
            signatures: Arc::new(Semaphore::new(SIGNATURES_IN_FLIGHT_MAX)),
            metrics,
        }
    }

    /// What is pending, to look up or change at once.
    pub(crate) fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a user's transaction, and answers its hash once a validator has it, or once it waits for a lower nonce.
    ///
    /// # Errors
    /// [`Refused`]; then it is not pending.
    pub(crate) async fn send(
        self: &Arc<Self>,
        client: Client,
        bytes: Bytes,
    ) -> Result<B256, Refused> {
        let sent = self.admit_and_submit(client, bytes).await;
        if let Err(refused) = &sent {
            self.metrics.refuse(refused.label());
        } else {
            self.metrics.admitted.inc();
        }
        self.metrics.show_pending(self.overlay().len());
        sent
    }

    async fn admit_and_submit(
        self: &Arc<Self>,
        client: Client,
        bytes: Bytes,
    ) -> Result<B256, Refused> {
        self.charge(client, bytes.len())?;
        let closed = *self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.map_or(Ok(()), |mode| Err(Refused::Closed(mode)))?;
        let (transaction, entry) = self.check(bytes).await?;
        let (sender, hash) = (transaction.sender, transaction.hash);
        if self.overlay().transaction(hash).is_some() {
            return Err(Refused::AlreadyKnown);
        }
        let state = self.engine.state_for(&transaction).await;
        let state = state.map_err(|error| Refused::Engine(error.to_string()))?;
        let admission = self.overlay().admit(transaction, entry, &state, now())?;
        if admission == Admission::Ready {
            self.submit_first(sender, hash).await?;
        }
        debug!(%sender, %hash, ?admission, "admitted a transaction");
        Ok(hash)
    }

    /// Admits nothing from now on, for this reason, or everything again.
    pub(crate) fn set_closed(&self, mode: Option<&'static str>) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    fn charge(&self, client: Client, bytes: usize) -> Result<(), Refused> {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = quotas.take(client, Instant::now(), [bytes as u64]);
        answers.into_iter().collect::<Result<(), _>>().map_err(|over| Refused::Quota(over.reason))
    }

    /// Checks the signature and makes the entry, off the runtime's threads.
    async fn check(&self, bytes: Bytes) -> Result<(Transaction, Entry), Refused> {
        // Neither fails but while the program ends.
        let ending = "the gateway is ending";
        let permit = Arc::clone(&self.signatures).acquire_owned().await;
        let permit = permit.map_err(|_| Refused::Committee(ending.to_owned()))?;
        let gateway = self.gateway.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let checked = gateway.check(bytes);
            drop(permit);
            checked
        });
        checked.await.map_err(|_| Refused::Committee(ending.to_owned()))?
    }

    /// Gives the sender's open transactions to group after group of validators, until one has this one.
    async fn submit_first(self: &Arc<Self>, sender: Address, hash: B256) -> Result<(), Refused> {
        let count = self.submitter.count();
        let mut why = Refusal::new(ErrorCode::Timeout, "no validator answered in time");
        let rounds = async {
            for turn in 0..count.div_ceil(self.quorum) {
                let feed = |endpoint| {
                    // A task of its own: the others go on when the first has answered.
                    tokio::spawn(Arc::clone(self).feed(sender, endpoint, Round::First))
                };
                let group = group(sender, turn, count, self.quorum);
                let mut feeds: FuturesUnordered<_> = group.map(feed).collect();
                while let Some(fed) = feeds.next().await {
                    if self.overlay().is_taken(hash) {
                        return true;
                    }
                    if let Ok(Err(refusal)) = fed
                        && (refusal.code.is_permanent() || !why.code.is_permanent())
                    {
                        why = refusal;
                    }
                }
            }
            false
        };
        if timeout(ACCEPT_TIMEOUT, rounds).await.unwrap_or(false) || self.overlay().is_taken(hash) {
            return Ok(());
        }
        self.overlay().forget(hash);
        Err(Refused::Committee(why.reason))
    }

    /// Gives a validator the sender's open transactions, one after the other, up to the first that it does not take.
    async fn feed(
        self: Arc<Self>,
        sender: Address,
        endpoint: usize,
        round: Round,
    ) -> Result<(), Refusal> {
        let Some(lane) = self.overlay().lane(sender, endpoint) else { return Ok(()) };
        let _lane = lane.lock().await;
        let mut from = 0;
        loop {
            let next = self.overlay().next(sender, endpoint, round, from);
            let Some((nonce, hash, entry)) = next else { return Ok(()) };
            let answer = self.submitter.submit(endpoint, self.renewed(hash, entry)).await;
            let heard = match &answer {
                Ok(progress) => Answer::Taken(*progress),
                Err(refusal) if refusal.code.is_permanent() => Answer::Never,
                Err(_) => Answer::NotNow,
            };
            self.overlay().answered(hash, endpoint, heard, now());
            if round != Round::First {
                self.metrics.resubmitted.inc();
            }
            answer?;
            from = nonce.saturating_add(1);
        }
    }

    /// The entry with enough life left. Its id, which the gateway signed, does not hold the expiry.
    fn renewed(&self, hash: B256, entry: Entry) -> Entry {
        let now = now();
        if entry.expires().since(now) >= RENEW_MS {
            return entry;
        }
        match self.gateway.entry(entry.body().clone(), now) {
            Ok(renewed) => {
                self.overlay().renew(hash, &renewed);
                renewed
            }
            // The same body was well-formed before.
            Err(_) => entry,
        }
    }

    /// Submits again what is due, for ever.
    pub(crate) async fn resubmit_for_ever(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.resubmit().await;
        }
    }

    /// Submits again what is due now.
    pub(crate) async fn resubmit(self: &Arc<Self>) {
        let due = self.overlay().take_due(now());
        let count = self.submitter.count();
        let one = |(sender, up_to, turn)| async move {
            let feed = |endpoint| Arc::clone(self).feed(sender, endpoint, Round::Again { up_to });
            let group = group(sender, turn, count, self.quorum);
            let mut feeds: FuturesUnordered<_> = group.map(feed).collect();
            while let Some(fed) = feeds.next().await {
                if let Err(refusal) = fed {
                    debug!(%sender, reason = %refusal.reason, "a validator did not take it again");
                }
            }
        };
        stream::iter(due).for_each_concurrent(RESUBMITTED_SENDERS_MAX, one).await;
    }

    /// Follows the engine's nonces, for ever.
    pub(crate) async fn observe_for_ever(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_reachable = true;
        loop {
            ticks.tick().await;
            let observed = self.observe().await;
            if let Err(error) = &observed
                && is_reachable
            {
                warn!(%error, "cannot follow the engine's nonces");
            }
            is_reachable = observed.is_ok();
        }
    }

    /// Lets go of what the chain has, and of what it will not have.
    pub(crate) async fn observe(&self) -> Result<(), EngineError> {
        let senders = self.overlay().senders();
        let mut head = UnixMillis(0);
        for senders in senders.chunks(BATCH_MAX.saturating_sub(1)) {
            let (nonces, time) = self.engine.nonces(senders).await?;
            head = time;
            let mut overlay = self.overlay();
            for (sender, nonce) in nonces {
                overlay.include(sender, nonce);
            }
        }
        self.drop_stale(head);
        Ok(())
    }

    fn drop_stale(&self, head: UnixMillis) {
        let dropped = self.overlay().drop_stale(now(), head);
        for (transaction, why) in dropped {
            let Transaction { hash, sender, nonce, .. } = &*transaction;
            info!(%hash, %sender, nonce, reason = %why, "dropped a pending transaction");
            self.metrics.drop_one(why.label());
        }
        self.metrics.show_pending(self.overlay().len());
    }

    /// The chain passed transactions over, as its records say: their nonces are free again.
    pub(crate) fn skipped(&self, hashes: &[B256]) {
        let mut overlay = self.overlay();
        for hash in hashes {
            if overlay.forget(*hash).is_some() {
                info!(%hash, "the chain skipped a pending transaction");
                self.metrics.drop_one("skipped");
            }
        }
    }
}

impl Gateway {
    fn check(&self, bytes: Bytes) -> Result<(Transaction, Entry), Refused> {
        let transaction = Transaction::check(self.chain, bytes)?;
        if transaction.gas > self.gas_max {
            return Err(Refused::GasTooHigh { gas: transaction.gas, max: self.gas_max });
        }
        if transaction.tip < self.tip_min {
            return Err(Refused::Underpriced { tip: transaction.tip, needed: self.tip_min });
        }
        let bytes = transaction.bytes.clone();
        let body =
            Body::Transaction(EntryTransaction { chain: self.chain, kind: ChainKind::Evm, bytes });
        Ok((transaction, self.entry(body, now())?))
    }

    fn entry(&self, body: Body, now: UnixMillis) -> Result<Entry, Refused> {
        Entry::new(body, now.plus(EXPIRES_MS), None)
            .and_then(|entry| entry.admitted_by(self.network, &self.key))
            .map_err(|error| Refused::Envelope(error.to_string()))
    }
}

/// How many validators of `count` must say the same: one more than may lie. At least 1.
pub(crate) const fn quorum(count: usize) -> usize {
    (count.saturating_sub(1) / 3).saturating_add(1)
}

/// The validators of a turn: `quorum` of `count`, beginning where the sender's address says. A full round of turns
/// reaches every one.
fn group(
    sender: Address,
    turn: usize,
    count: usize,
    quorum: usize,
) -> impl Iterator<Item = usize> + use<> {
    let (_, tail) = sender.0.0.split_at(12);
    let start =
        tail.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let first = start.wrapping_add(turn.wrapping_mul(quorum));
    (0..quorum.min(count)).filter_map(move |i| first.wrapping_add(i).checked_rem(count))
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
