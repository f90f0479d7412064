//! Who watches the entries that were submitted here: a channel per watched entry, closed behind its last state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_core::types::EntryId;
use tokio::sync::watch;

use crate::tracker::EntryState;

/// The channels. Clones are of the same ones.
///
/// A lock, because ingress begins to watch while the application's states change; held for map operations only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers(Arc<Mutex<BTreeMap<EntryId, watch::Sender<EntryState>>>>);

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<EntryId, watch::Sender<EntryState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The states of an entry from `state` on. Call it while the state can't change.
    pub(crate) fn watch(&self, id: EntryId, state: EntryState) -> watch::Receiver<EntryState> {
        if state.is_final() {
            return watch::Sender::new(state).subscribe();
        }
        let mut watched = self.lock();
        let sender = watched.entry(id).or_insert_with(|| watch::Sender::new(state));
        sender.subscribe()
    }

    /// Tells those who watch an entry.
    pub(crate) fn tell(&self, id: EntryId, state: EntryState) {
        let mut watched = self.lock();
        let Some(sender) = watched.get(&id) else { return };
        sender.send_replace(state);
        if state.is_final() || sender.receiver_count() == 0 {
            watched.remove(&id);
        }
    }
}
