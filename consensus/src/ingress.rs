//! The way into this validator's lane: refuse what can't be ordered, check the rest once, queue it.
//!
//! Refusals name the field and the reason. What depends on the registry is looked up in the newest state, so it may
//! change; whether a transaction is valid on its chain is never asked. Submitting twice is one submission.

use std::sync::Arc;

use alloy_primitives::B256;
use lockstep_core::admission::LeaveOut;
use lockstep_core::dedup::Decision;
use lockstep_core::entry::{Entry, InvalidEntry};
use lockstep_core::types::EntryId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::app::{Shared, Submission, Watched};
use crate::lanes::own::room::Busy;
use crate::ledger::Ledger;
use crate::tracker::{EntryState, TRACKED_MAX};

/// Who submits, as the services tell clients apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Submitter(pub B256);

impl Submitter {
    /// All who are not told apart.
    pub const UNKNOWN: Self = Self(B256::ZERO);
}

/// Why an entry was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bytes are wrong, for ever.
    #[error("{0}")]
    Invalid(#[from] InvalidEntry),
    /// No block would take it by the newest state.
    #[error("{0}")]
    NotAdmitted(#[from] LeaveOut),
    /// Too much waits at this node; try again soon, or at another.
    #[error("the node is busy: {0}")]
    Busy(Busy),
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
    pub(crate) watchers: Watched,
    pub(crate) submissions: mpsc::Sender<Submission>,
}

impl Ingress {
    /// Submits many entries of one client; the answers are in their order, each with whether the entry was known. Their signatures are
    /// checked side by side.
    pub async fn submit_many(
        &self,
        from: Submitter,
        entries: Vec<Entry>,
    ) -> Vec<Result<(EntryState, bool), Refused>> {
        let count = entries.len();
        let (reply, answer) = oneshot::channel();
        // Either fails only when the node stops.
        if self.submissions.send(Submission { from, entries, reply }).await.is_ok()
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
        Some(self.watchers.lock().watch(id, state))
    }
}
