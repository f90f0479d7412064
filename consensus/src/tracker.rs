//! What became of the entries that were submitted here: `Received`, then `Decided` or `Dropped`.
//!
//! Pure and bounded: the oldest entries that reached their end are forgotten first (the store answers for decided
//! ones). A channel exists only while somebody watches its entry. It knows nothing of lanes or of who asks.

use std::collections::{BTreeMap, VecDeque};

use lockstep_core::block::LeaveOut;
use lockstep_core::dedup::Decision;
use lockstep_core::types::{BlockHash, EntryId, UnixMillis};
use tokio::sync::watch;

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
    /// Channels of the open entries that are watched; those that nobody reads any more go with the next block.
    watched: BTreeMap<EntryId, watch::Sender<EntryState>>,
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

    /// The entry's state, and the ones that follow; the channel is closed behind the last.
    #[must_use]
    pub fn watch(&mut self, id: EntryId) -> Option<watch::Receiver<EntryState>> {
        let state = self.state(id)?;
        if state.is_final() {
            return Some(watch::Sender::new(state).subscribe());
        }
        let sender = self.watched.entry(id).or_insert_with(|| watch::Sender::new(state));
        Some(sender.subscribe())
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

    /// The entry reached `state`. Unknown entries and repeated ends change nothing.
    pub fn end(&mut self, id: EntryId, state: EntryState) {
        let Some(tracked) = self.entries.get_mut(&id).filter(|t| !t.state.is_final()) else {
            return;
        };
        tracked.state = state;
        if let Some(sender) = self.watched.remove(&id) {
            sender.send_replace(state);
        }
        self.open = self.open.saturating_sub(1);
        self.ended.push_back(id);
    }

    /// Takes back a [`Tracker::receive`]: the entry could not be queued.
    pub fn forget(&mut self, id: EntryId) {
        self.watched.remove(&id);
        if let Some(tracked) = self.entries.remove(&id)
            && !tracked.state.is_final()
        {
            self.open = self.open.saturating_sub(1);
        }
    }

    /// Drops what expired by log time `now`, and the channels that nobody reads.
    pub fn expire(&mut self, now: UnixMillis) {
        let expired: Vec<EntryId> = self
            .entries
            .iter()
            .filter(|(_, t)| t.expires <= now && !t.state.is_final())
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.end(id, EntryState::Dropped(DropReason::Expired));
        }
        self.watched.retain(|_, sender| sender.receiver_count() > 0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::types::Height;

    fn id(n: u8) -> EntryId {
        EntryId([n; 32].into())
    }

    #[test]
    fn submitting_twice_is_one_submission() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.receive(id(1), UnixMillis(9)), Some((EntryState::Received, true)));
        assert_eq!(tracker.receive(id(1), UnixMillis(9)), Some((EntryState::Received, false)));
        assert_eq!(tracker.open(), 1);
    }

    #[test]
    fn a_decision_is_final_and_an_expiry_is_told() {
        let mut tracker = Tracker::default();
        tracker.receive(id(1), UnixMillis(9));
        tracker.receive(id(2), UnixMillis(9));
        let watch = tracker.watch(id(2)).expect("tracked");
        let decided = EntryState::Decided {
            decision: Decision { height: Height(3), index: 4 },
            block: BlockHash::ZERO,
        };
        tracker.end(id(1), decided);
        tracker.expire(UnixMillis(8));
        assert_eq!(tracker.open(), 1);
        tracker.expire(UnixMillis(9));
        assert_eq!(tracker.state(id(1)), Some(decided));
        assert_eq!(*watch.borrow(), EntryState::Dropped(DropReason::Expired));
        assert_eq!(tracker.open(), 0);
    }

    #[test]
    fn only_open_entries_that_somebody_watches_have_a_channel() {
        let mut tracker = Tracker::default();
        for n in 1..=3 {
            tracker.receive(id(n), UnixMillis(99));
        }
        assert_eq!(tracker.watched.len(), 0);
        let (one, again) = (tracker.watch(id(1)), tracker.watch(id(1)));
        let two = tracker.watch(id(2));
        assert_eq!(tracker.watched.len(), 2);
        tracker.expire(UnixMillis(1));
        assert_eq!(tracker.watched.len(), 2);
        drop((one, two));
        tracker.expire(UnixMillis(1));
        assert_eq!(tracker.watched.len(), 1, "the first is watched still");
        let dropped = EntryState::Dropped(DropReason::Expired);
        tracker.end(id(1), dropped);
        assert_eq!(tracker.watched.len(), 0);
        let again = again.expect("tracked");
        assert_eq!((*again.borrow(), again.has_changed().is_err()), (dropped, true));
        assert_eq!(*tracker.watch(id(1)).expect("tracked").borrow(), dropped);
        assert_eq!(tracker.watched.len(), 0, "nothing follows the last state");
        assert!(tracker.watch(id(9)).is_none());
    }

    #[test]
    fn a_dropped_entry_may_come_again_and_a_decided_one_stays_decided() {
        let mut tracker = Tracker::default();
        tracker.receive(id(1), UnixMillis(9));
        tracker.expire(UnixMillis(9));
        assert_eq!(tracker.receive(id(1), UnixMillis(99)), Some((EntryState::Received, true)));
    }
}
