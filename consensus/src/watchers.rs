//! Who waits for an entry's next state: one channel per watched entry, and none for the others.
//!
//! It holds no state of its own and decides nothing: [`tracker`](crate::tracker) says what changed.

use std::collections::BTreeMap;

use lockstep_core::types::EntryId;
use tokio::sync::watch;

use crate::tracker::{Change, EntryState};

/// Channels of the entries that are watched while they are `Received`.
#[derive(Debug, Default)]
pub struct Watchers {
    channels: BTreeMap<EntryId, watch::Sender<EntryState>>,
}

impl Watchers {
    /// A channel that shows `state`, which is the entry's state now, and those that follow. It is closed behind the
    /// first [final](EntryState::is_final) one.
    #[must_use]
    pub fn watch(&mut self, id: EntryId, state: EntryState) -> watch::Receiver<EntryState> {
        if state.is_final() {
            return watch::Sender::new(state).subscribe();
        }
        self.channels.entry(id).or_insert_with(|| watch::Sender::new(state)).subscribe()
    }

    /// Shows what changed, and forgets the channels that nobody reads any more.
    pub fn publish(&mut self, changes: &[Change]) {
        for Change { id, state } in changes {
            if let Some(sender) = self.channels.remove(id) {
                sender.send_replace(*state);
                if !state.is_final() {
                    self.channels.insert(*id, sender);
                }
            }
        }
        self.channels.retain(|_, sender| sender.receiver_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::admission::LeaveOut;
    use lockstep_core::types::ChainId;

    const DROPPED: EntryState = EntryState::Dropped(LeaveOut::TooLarge { chain: ChainId(7) });

    fn id(n: u8) -> EntryId {
        EntryId([n; 32].into())
    }

    #[test]
    fn only_entries_that_somebody_watches_have_a_channel() {
        let mut watchers = Watchers::default();
        let mut watch = |n| watchers.watch(id(n), EntryState::Received);
        let (one, again, two) = (watch(1), watch(1), watch(2));
        assert_eq!(watchers.channels.len(), 2);
        drop((one, two));
        watchers.publish(&[]);
        assert_eq!(watchers.channels.len(), 1, "the first is watched still");
        assert_eq!(*again.borrow(), EntryState::Received);
        watchers.publish(&[Change { id: id(1), state: DROPPED }]);
        assert_eq!((*again.borrow(), again.has_changed().is_err()), (DROPPED, true));
        assert_eq!(*watchers.watch(id(1), DROPPED).borrow(), DROPPED);
        assert!(watchers.channels.is_empty(), "nothing follows the last state");
    }
}
