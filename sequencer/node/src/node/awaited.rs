//! Entries that are watched before this node knows them: whoever watches one learns when to look for it.
//!
//! Each block's entries are read once for all of them, and none if nobody waits. It knows no states: that it is time to
//! look is all it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_core::entry::Entry;
use lockstep_core::types::{EntryId, Height};
use lockstep_rpc::node::{Log as _, ReadError};
use tokio::sync::watch;
use tracing::error;

use super::log::LogView;

/// Who waits for which entry; cheap to clone. There are as many as there are watches, which the services bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Awaited(
    // Behind a lock, because calls and the task that reads blocks share it. Held for look-ups alone.
    Arc<Mutex<BTreeMap<EntryId, watch::Sender<()>>>>,
);

impl Awaited {
    /// Changes whenever it is time to look for the entry. Who waits must look once after this, too: what was known
    /// before is told to nobody.
    pub(crate) fn wait(&self, id: EntryId) -> watch::Receiver<()> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(id).or_default().subscribe()
    }

    /// These entries came to be known.
    pub(crate) fn tell(&self, known: impl IntoIterator<Item = EntryId>) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in known {
            if let Some(waiting) = waiting.get(&id) {
                waiting.send_replace(());
            }
        }
    }

    /// Forgets entries for which nobody waits any more; whether any is left.
    fn is_anybody_there(&self) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        !waiting.is_empty()
    }

    /// Tells of what each block decides from now on; ends with the log.
    pub(crate) fn follow(self, log: LogView) -> impl Future<Output = ()> + Send {
        let heads = log.heads();
        let next = heads.borrow().next();
        self.follow_from(next, (heads, log))
    }

    async fn follow_from(
        self,
        mut next: Height,
        (mut heads, log): (watch::Receiver<Height>, LogView),
    ) {
        loop {
            let head = *heads.borrow_and_update();
            let (this, log) = (self.clone(), log.clone());
            let read = tokio::task::spawn_blocking(move || this.tell_decided(&log, next, head));
            match read.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error!(%error, "cannot read what blocks decide"),
                // The runtime is stopping.
                Err(_) => return,
            }
            next = head.next();
            if heads.changed().await.is_err() {
                return;
            }
        }
    }

    fn tell_decided(&self, log: &LogView, from: Height, head: Height) -> Result<(), ReadError> {
        let mut height = from;
        // Who begins to wait after this finds in the log what these blocks have.
        while height <= head && self.is_anybody_there() {
            self.tell(log.entries(height)?.iter().map(Entry::id));
            height = height.next();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_and_who_is_gone_is_forgotten() {
        let id = |n: u8| EntryId([n; 32].into());
        let awaited = Awaited::default();
        let (one, again, two) = (awaited.wait(id(1)), awaited.wait(id(1)), awaited.wait(id(2)));
        assert!(!one.has_changed().unwrap());
        awaited.tell([id(1), id(3)]);
        assert!(one.has_changed().unwrap() && again.has_changed().unwrap());
        assert!(!two.has_changed().unwrap());
        drop((one, two));
        assert!(awaited.is_anybody_there());
        assert_eq!(awaited.0.lock().unwrap().len(), 1);
        drop(again);
        assert!(!awaited.is_anybody_there());
    }
}
