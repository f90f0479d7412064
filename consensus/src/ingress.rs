//! The way into this validator's lane: refuse what can't be ordered, check the rest once, queue it.
//!
//! Refusals name the field and the reason. What depends on the registry is looked up in the newest state, so it may
//! change; whether a transaction is valid on its chain is never asked. Submitting twice is one submission.

use std::sync::Arc;

use lockstep_core::bundle::Guarantee;
use lockstep_core::dedup::Decision;
use lockstep_core::entry::{Body, CheckedEntry, Entry, InvalidEntry};
use lockstep_core::limits::EXPIRES_MS_MAX;
use lockstep_core::params::ChainKind;
use lockstep_core::state::{ChainState, State};
use lockstep_core::types::{ChainId, EntryId, UnixMillis};
use tokio::sync::{mpsc, oneshot, watch};

use crate::app::{Shared, Submission};
use crate::lanes::own::QueueFull;
use crate::ledger::Ledger;
use crate::tracker::{EntryState, TRACKED_MAX};
use crate::watchers::Watchers;

/// Why an entry was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bytes are wrong, for ever.
    #[error("{0}")]
    Invalid(#[from] InvalidEntry),
    /// It expired already.
    #[error("expires_ms {expires} is not after now, {now}")]
    Expired {
        /// The entry's expiry.
        expires: UnixMillis,
        /// Our clock.
        now: UnixMillis,
    },
    /// It would live too long.
    #[error("expires_ms {expires} is more than {EXPIRES_MS_MAX} ms after now, {now}")]
    ExpiresTooLate {
        /// The entry's expiry.
        expires: UnixMillis,
        /// Our clock.
        now: UnixMillis,
    },
    /// A chain is not registered.
    #[error("chain {chain} is not registered")]
    UnknownChain {
        /// The chain.
        chain: ChainId,
    },
    /// The chain is registered with the other kind.
    #[error("chain {chain} is registered as {expected:?}")]
    Kind {
        /// The chain.
        chain: ChainId,
        /// What the registry says.
        expected: ChainKind,
    },
    /// Co-executed bundles are not ordered by this version.
    #[error("the guarantee co-executed is not supported by this version")]
    Guarantee,
    /// The record's signer does not speak for the chain.
    #[error("the record is not signed by a sequencer key of chain {chain}")]
    NotSequencer {
        /// The chain.
        chain: ChainId,
    },
    /// Too much waits at this node; try again soon, or at another.
    #[error("the node is busy: {0}")]
    Busy(QueueFull),
    /// Too many entries are tracked; try again soon.
    #[error("the node is busy: {TRACKED_MAX} entries are tracked")]
    TooManyTracked,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Takes entries for this validator's lane; clones are of the same one.
#[derive(Clone, Debug)]
pub struct Ingress {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) application: Shared,
    pub(crate) watchers: Watchers,
    pub(crate) submissions: mpsc::Sender<Submission>,
}

impl Ingress {
    /// Submits many entries; the answers are in their order, each with whether the entry was known. Their signatures are
    /// checked side by side.
    pub async fn submit_many(
        &self,
        entries: Vec<Entry>,
    ) -> Vec<Result<(EntryState, bool), Refused>> {
        let count = entries.len();
        let (reply, answer) = oneshot::channel();
        // Either fails only when the node stops.
        if self.submissions.send(Submission { entries, reply }).await.is_ok()
            && let Ok(answers) = answer.await
        {
            return answers;
        }
        vec![Err(Refused::Stopping); count]
    }

    /// The state of an entry: of those submitted here, and of every decided one. May read the store.
    #[must_use]
    pub fn state(&self, id: EntryId) -> Option<EntryState> {
        if let Some(state) = self.application.lock().entry_state(id) {
            return Some(state);
        }
        let located = self.ledger.store().find_entry(id).ok().flatten()?;
        let decision = Decision { height: located.height, index: located.index };
        let block = self.ledger.block_hash(decision.height)?;
        Some(EntryState::Decided { decision, block })
    }

    /// The states of an entry submitted here, from now on; the channel is closed behind the last.
    #[must_use]
    pub fn watch(&self, id: EntryId) -> Option<watch::Receiver<EntryState>> {
        // The lock is held until it is watched, so no change is missed.
        let application = self.application.lock();
        let state = application.entry_state(id)?;
        Some(self.watchers.watch(id, state))
    }
}

/// What can be refused without a signature check.
pub(crate) fn admit(state: &State, entry: &Entry, now: UnixMillis) -> Result<(), Refused> {
    let expires = entry.expires();
    if expires <= now {
        return Err(Refused::Expired { expires, now });
    }
    if expires > now.plus(EXPIRES_MS_MAX) {
        return Err(Refused::ExpiresTooLate { expires, now });
    }
    match entry.body() {
        Body::Transaction(transaction) => {
            check_chain(state, transaction.chain, Some(transaction.kind))
        }
        Body::Record(record) => check_chain(state, record.chain, None),
        Body::Bundle(bundle) if bundle.guarantee() == Guarantee::CoExecuted => {
            Err(Refused::Guarantee)
        }
        Body::Bundle(bundle) => {
            bundle.legs().iter().try_for_each(|leg| check_chain(state, leg.chain, Some(leg.kind)))
        }
    }
}

fn registered(state: &State, chain: ChainId) -> Result<&ChainState, Refused> {
    state.committed.chain(chain).ok_or(Refused::UnknownChain { chain })
}

fn check_chain(state: &State, chain: ChainId, kind: Option<ChainKind>) -> Result<(), Refused> {
    let expected = registered(state, chain)?.params.kind;
    match kind {
        Some(kind) if kind != expected => Err(Refused::Kind { chain, expected }),
        _ => Ok(()),
    }
}

pub(crate) fn check_sequencer(
    state: &State,
    checked: &CheckedEntry,
    signer: alloy_primitives::Address,
) -> Result<(), Refused> {
    let Body::Record(record) = checked.entry().body() else { return Ok(()) };
    let chain = record.chain;
    let is_sequencer = registered(state, chain)?.params.sequencers.contains(&signer);
    if is_sequencer { Ok(()) } else { Err(Refused::NotSequencer { chain }) }
}
