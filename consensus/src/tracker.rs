//! What became of the entries that were submitted here: `Received`, then `Decided` or `Dropped`.
//!
//! Pure and bounded: the oldest entries that reached their end are forgotten first (the store answers for decided
//! ones). A channel exists only while somebody watches its entry. It knows nothing of lanes or of who asks.

use std::collections::{BTreeMap, VecDeque};

use lockstep_core::block::LeaveOut;
use lockstep_core::dedup::Decision;
use lockstep_core::types::{BlockHash, EntryId, UnixMillis};

/// Entries that are tracked, open ones included.
pub const TRACKED_MAX: usize = 400_000;

/// Why an entry that was received here will not be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// Its expiry passed before a block took it.
    #[error("it expired before a block took it")]
    Expired,
    /// A block left it out for good.
    #[error("a block left it out: {0}")]
    LeftOut(LeaveOut),
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
    /// It will not be ordered.
    Dropped(DropReason),
}

impl EntryState {
    /// Whether the state can't change any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Received)
    }
}

#[derive(Clone, Copy, Debug)]
struct Tracked {
    expires: UnixMillis,
    state: EntryState,
}

/// States of the entries submitted to this node.
#[derive(Debug, Default)]
pub struct Tracker {
    entries: BTreeMap<EntryId, Tracked>,
    /// Ids in the order they reached their end: what is forgotten first.
    ended: VecDeque<EntryId>,
    open: usize,
}

impl Tracker {
    /// How many entries are neither decided nor dropped.
    #[must_use]
    pub const fn open(&self) -> usize {
        self.open
    }

    /// The entry's state, if it was submitted here and is remembered.
    #[must_use]
    pub fn state(&self, id: EntryId) -> Option<EntryState> {
        self.entries.get(&id).map(|tracked| tracked.state)
    }

    /// Begins to track an entry. `None` if there is no room; else its state, and whether it is new.
    ///
    /// A dropped entry that is submitted again begins anew.
    pub fn receive(&mut self, id: EntryId, expires: UnixMillis) -> Option<(EntryState, bool)> {
        if let Some(state) = self.state(id)
            && !matches!(state, EntryState::Dropped(_))
        {
            return Some((state, false));
        }
        self.forget_ended();
        if self.entries.len() >= TRACKED_MAX {
            return None;
        }
        let state = EntryState::Received;
        self.entries.insert(id, Tracked { expires, state });
        self.open = self.open.saturating_add(1);
        Some((state, true))
    }

    /// The entry reached `state`. Unknown entries and repeated ends change nothing. Returns whether it did.
    pub fn end(&mut self, id: EntryId, state: EntryState) -> bool {
        let Some(tracked) = self.entries.get_mut(&id).filter(|t| !t.state.is_final()) else {
            return false;
        };
        tracked.state = state;
        self.open = self.open.saturating_sub(1);
        self.ended.push_back(id);
        true
    }

    /// Takes back a [`Tracker::receive`]: the entry could not be queued.
    pub fn forget(&mut self, id: EntryId) {
        if let Some(tracked) = self.entries.remove(&id)
            && !tracked.state.is_final()
        {
            self.open = self.open.saturating_sub(1);
        }
    }

    /// Drops what expired by log time `now`, and returns it.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<(EntryId, EntryState)> {
        let expired: Vec<EntryId> = self
            .entries
            .iter()
            .filter(|(_, t)| t.expires <= now && !t.state.is_final())
            .map(|(id, _)| *id)
            .collect();
        let state = EntryState::Dropped(DropReason::Expired);
        expired.into_iter().filter(|id| self.end(*id, state)).map(|id| (id, state)).collect()
    }

    fn forget_ended(&mut self) {
        while self.entries.len() >= TRACKED_MAX
            && let Some(id) = self.ended.pop_front()
        {
            if self.entries.get(&id).is_some_and(|t| t.state.is_final()) {
                self.entries.remove(&id);
            }
        }
    }
}
