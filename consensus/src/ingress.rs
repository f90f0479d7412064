//! The way into this validator's lane: refuse what can't be ordered, check the rest once, queue it.
//!
//! Refusals name the field and the reason. What depends on the registry is looked up in the newest state, so it may
//! change; whether a transaction is valid on its chain is never asked. Submitting twice is one submission.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_core::admission::{self, LeaveOut};
use lockstep_core::dedup::Decision;
use lockstep_core::entry::{CheckedEntry, Entry, InvalidEntry};
use lockstep_core::types::EntryId;
use tokio::sync::watch;

use crate::checker::Checker;
use crate::lanes::own::QueueFull;
use crate::lanes::{Lanes, now};
use crate::ledger::Ledger;
use crate::tracker::{CopyId, EntryState, Receipt, TRACKED_MAX, Tracker};
use crate::watchers::Watchers;

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
    Busy(QueueFull),
    /// Too many entries are tracked; try again soon.
    #[error("the node is busy: {TRACKED_MAX} entries are tracked")]
    TooManyTracked,
}

/// Takes entries for this validator's lane; clones are of the same one.
#[derive(Clone, Debug)]
pub struct Ingress {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) lanes: Lanes,
    pub(crate) checker: Checker,
    pub(crate) tracker: Arc<Mutex<Tracker>>,
    // Locked after `tracker` where both are, so that no change falls between a state and its channel.
    pub(crate) watchers: Arc<Mutex<Watchers>>,
}

impl Ingress {
    fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits one entry; its state by now.
    ///
    /// # Errors
    /// [`Refused`]; then the entry is not tracked.
    pub async fn submit(&self, entry: Entry) -> Result<EntryState, Refused> {
        if let Some(state) = self.known(&entry) {
            return Ok(state);
        }
        admission::check(&self.ledger.state().committed, now(), &entry)?;
        self.lanes.has_room(entry.raw().len()).map_err(Refused::Busy)?;
        let checked = self.checker.check_entry(entry).await?;
        self.queue(checked).map(|(state, _)| state)
    }

    /// Submits many entries; the answers are in their order, each with whether the entry was known. Their signatures are
    /// checked side by side.
    pub async fn submit_many(
        &self,
        entries: Vec<Entry>,
    ) -> Vec<Result<(EntryState, bool), Refused>> {
        let (state, at) = (self.ledger.state(), now());
        let mut answers: Vec<Option<Result<(EntryState, bool), Refused>>> = Vec::new();
        let mut to_check = Vec::new();
        for entry in entries {
            let answer = match self.known(&entry) {
                Some(state) => Some(Ok((state, true))),
                None => {
                    let room = || self.lanes.has_room(entry.raw().len()).map_err(Refused::Busy);
                    let admitted = admission::check(&state.committed, at, &entry);
                    admitted.map_err(Refused::from).and_then(|()| room()).err().map(Err)
                }
            };
            if answer.is_none() {
                to_check.push(entry);
            }
            answers.push(answer);
        }
        let mut checked = self.checker.check_entries(to_check).await.into_iter();
        let mut next = || match checked.next() {
            Some(checked) => checked.map_err(Refused::from).and_then(|entry| self.queue(entry)),
            None => Err(Refused::TooManyTracked),
        };
        answers.into_iter().map(|answer| answer.unwrap_or_else(&mut next)).collect()
    }

    /// The state of an entry that need not be submitted again.
    fn known(&self, entry: &Entry) -> Option<EntryState> {
        self.tracker().known(CopyId::of(entry))
    }

    fn queue(&self, checked: CheckedEntry) -> Result<(EntryState, bool), Refused> {
        admission::needs(&self.ledger.state().committed, now(), &checked)?;
        if let Some(state) = self.decided_state(self.ledger.decision_of(&checked)) {
            return Ok((state, true));
        }
        let (copy, expires) = (CopyId::of(checked.entry()), checked.entry().expires());
        let mut tracker = self.tracker();
        match tracker.receive(copy, expires).ok_or(Refused::TooManyTracked)? {
            Receipt::Known(state) => Ok((state, true)),
            Receipt::New => match self.lanes.submit(checked) {
                Ok(()) => Ok((EntryState::Received, false)),
                Err(full) => {
                    tracker.forget(copy);
                    Err(Refused::Busy(full))
                }
            },
        }
    }

    fn decided_state(&self, decision: Option<Decision>) -> Option<EntryState> {
        let decision = decision?;
        let block = self.ledger.block_hash(decision.height)?;
        Some(EntryState::Decided { decision, block })
    }

    /// The state of an entry: of those submitted here, and of every decided one. May read the store.
    #[must_use]
    pub fn state(&self, id: EntryId) -> Option<EntryState> {
        if let Some(state) = self.tracker().state(id) {
            return Some(state);
        }
        let located = self.ledger.store().find_entry(id).ok().flatten()?;
        self.decided_state(Some(Decision { height: located.height, index: located.index }))
    }

    /// The states of an entry submitted here, from now on.
    #[must_use]
    pub fn watch(&self, id: EntryId) -> Option<watch::Receiver<EntryState>> {
        let tracker = self.tracker();
        let state = tracker.state(id)?;
        Some(self.watchers.lock().unwrap_or_else(PoisonError::into_inner).watch(id, state))
    }
}
