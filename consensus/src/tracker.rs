//! What became of the entries that were submitted here: `Received`, then `Decided` or `Dropped`.
//!
//! An entry's id leaves out expiry and gateway signature, so several *copies* of one entry can be on their way at once.
//!
//! | happens | the entry is |
//! |---|---|
//! | a copy is submitted here | `Received`, while any copy submitted here lives |
//! | a block takes any copy, of any lane | `Decided`, also after `Dropped` |
//! | the last copy submitted here expires, or is left out for good from this validator's own lane | `Dropped` |
//! | another lane's copy expires or is left out | what it was |
//! | log time leaves the end behind by a dedup window | forgotten: the same bytes are a new submission |
//!
//! Pure and bounded: at the bound, the entries that ended first are forgotten first (the store still has decided ones).
//! Methods return what changed. This file knows neither lanes nor who waits for a change.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{B256, keccak256};
use lockstep_core::admission::LeaveOut;
use lockstep_core::dedup::{Decision, is_in_window};
use lockstep_core::entry::Entry;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::types::{BlockHash, EntryId, UnixMillis};

/// Copies that live and entries that ended, together.
pub const TRACKED_MAX: usize = 400_000;

/// One copy of an entry: the same id may come with another expiry or gateway signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CopyId {
    /// The entry.
    pub id: EntryId,
    /// keccak256 of the copy's bytes.
    pub raw: B256,
}

impl CopyId {
    /// The copy that these bytes are.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        Self { id: entry.id(), raw: keccak256(entry.raw()) }
    }
}

/// Where an entry is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// This node has it, and puts it into its lane until it is decided or expires. No promise.
    Received,
    /// A decided log block holds it.
    Decided {
        /// Where.
        decision: Decision,
        /// The block.
        block: BlockHash,
    },
    /// No copy that was submitted here will be ordered. A copy in another lane still may be.
    Dropped(LeaveOut),
}

impl EntryState {
    /// Whether this node does nothing more for the entry. `Decided` may still follow `Dropped`.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Received)
    }
}

/// An entry and the state it is in from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The entry.
    pub id: EntryId,
    /// Its new state.
    pub state: EntryState,
}

/// What a submission is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// A copy that is not on its way yet: the caller must queue it. The entry is `Received`.
    New,
    /// This copy is on its way, or the entry is decided: nothing to do.
    Known(EntryState),
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    state: EntryState,
    /// Log time of its end: of the block that decided it, or at which it was dropped.
    at: UnixMillis,
}

/// States of the entries submitted to this node. An id has live copies or an end, never both.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Copies on their way, with their expiry.
    live: BTreeMap<CopyId, UnixMillis>,
    by_expiry: BTreeSet<(UnixMillis, CopyId)>,
    ended: BTreeMap<EntryId, Ended>,
    by_end: BTreeSet<(UnixMillis, EntryId)>,
}

impl Tracker {
    /// How many copies are on their way.
    #[must_use]
    pub fn open(&self) -> usize {
        self.live.len()
    }

    /// The entry's state, if it was submitted here and is remembered.
    #[must_use]
    pub fn state(&self, id: EntryId) -> Option<EntryState> {
        if self.copies(id).next().is_some() {
            return Some(EntryState::Received);
        }
        self.ended.get(&id).map(|ended| ended.state)
    }

    /// The entry's state if submitting this copy would change nothing: it is on its way, or the entry is decided.
    #[must_use]
    pub fn known(&self, copy: CopyId) -> Option<EntryState> {
        if self.live.contains_key(&copy) {
            return Some(EntryState::Received);
        }
        let ended = self.ended.get(&copy.id)?;
        matches!(ended.state, EntryState::Decided { .. }).then_some(ended.state)
    }

    /// Begins to track a copy. `None` if there is no room; nothing changed then.
    ///
    /// A dropped entry that is submitted again begins anew.
    #[must_use]
    pub fn receive(&mut self, copy: CopyId, expires: UnixMillis) -> Option<Receipt> {
        if let Some(state) = self.known(copy) {
            return Some(Receipt::Known(state));
        }
        if !self.make_room() {
            return None;
        }
        self.forget_end(copy.id);
        self.live.insert(copy, expires);
        self.by_expiry.insert((expires, copy));
        Some(Receipt::New)
    }

    /// Takes back a [`Tracker::receive`]: the copy could not be queued.
    pub fn forget(&mut self, copy: CopyId) {
        self.remove(copy);
    }

    /// A block of log time `at` left a copy of this validator's lane out for good. Unknown copies change nothing.
    #[must_use]
    pub fn end_copy(&mut self, copy: CopyId, reason: LeaveOut, at: UnixMillis) -> Option<Change> {
        let copy = match self.copies(copy.id).next() {
            Some(other) if planted(Bug::OtherCopyEnds) => other,
            _ => copy,
        };
        if !self.remove(copy) || self.copies(copy.id).next().is_some() {
            return None;
        }
        Some(self.end(copy.id, EntryState::Dropped(reason), at))
    }

    /// A block of log time `at` holds the entry, from whatever lane. Untracked and decided entries change nothing.
    #[must_use]
    pub fn decide(
        &mut self,
        id: EntryId,
        decision: Decision,
        block: BlockHash,
        at: UnixMillis,
    ) -> Option<Change> {
        match self.state(id)? {
            EntryState::Decided { .. } => return None,
            EntryState::Dropped(_) if planted(Bug::DroppedIsFinal) => return None,
            EntryState::Received | EntryState::Dropped(_) => {}
        }
        let copies: Vec<CopyId> = self.copies(id).collect();
        for copy in copies {
            self.remove(copy);
        }
        Some(self.end(id, EntryState::Decided { decision, block }, at))
    }

    /// The log's time is `now`: drops the copies that expired, and forgets the entries whose end the dedup window has
    /// forgotten.
    #[must_use]
    pub fn advance(&mut self, now: UnixMillis) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(&(expires, copy)) = self.by_expiry.first()
            && expires <= now
        {
            let reason = LeaveOut::Expired { expires, timestamp: now };
            changes.extend(self.end_copy(copy, reason, now));
        }
        while let Some(&(at, id)) = self.by_end.first()
            && !is_in_window(at, now)
        {
            self.forget_end(id);
        }
        changes
    }

    /// The live copies of an entry.
    fn copies(&self, id: EntryId) -> impl Iterator<Item = CopyId> {
        let (first, last) =
            (CopyId { id, raw: B256::ZERO }, CopyId { id, raw: B256::repeat_byte(0xff) });
        self.live.range(first..=last).map(|(copy, _)| *copy)
    }

    fn remove(&mut self, copy: CopyId) -> bool {
        let Some(expires) = self.live.remove(&copy) else { return false };
        self.by_expiry.remove(&(expires, copy))
    }

    fn end(&mut self, id: EntryId, state: EntryState, at: UnixMillis) -> Change {
        self.forget_end(id);
        self.ended.insert(id, Ended { state, at });
        self.by_end.insert((at, id));
        Change { id, state }
    }

    fn forget_end(&mut self, id: EntryId) {
        if let Some(ended) = self.ended.remove(&id) {
            self.by_end.remove(&(ended.at, id));
        }
    }

    /// Whether one more copy fits; forgets the oldest end if there is no room.
    fn make_room(&mut self) -> bool {
        if self.live.len().saturating_add(self.ended.len()) < TRACKED_MAX {
            return true;
        }
        let Some((_, id)) = self.by_end.pop_first() else { return false };
        self.ended.remove(&id).is_some()
    }
}

#[cfg(test)]
mod tests;
