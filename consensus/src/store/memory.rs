//! The store's twin in memory, for tests and simulation: it can lose what was not synced, and fail writes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_primitives::Bytes;

use super::schema::Space;
use super::{Change, Direction, Durability, Item, Scan, Store, StoreError, WriteBatch};

type Items = BTreeMap<(Space, Vec<u8>), Bytes>;

/// A store in memory. What was not synced is gone after [`MemoryStore::crash`].
///
/// The lock is held for one read or write, never across anything that waits.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    visible: Items,
    durable: Items,
    /// Writes that are visible and not durable yet, in order.
    buffered: Vec<WriteBatch>,
    /// How many more writes succeed.
    writes_left: Option<usize>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a crash right now would leave: everything that was synced, and the first `kept` of the writes behind it.
    #[must_use]
    pub fn crash(&self, kept: usize) -> Self {
        let inner = self.lock();
        let mut durable = inner.durable.clone();
        inner.buffered.iter().take(kept).for_each(|batch| apply(&mut durable, batch));
        let inner =
            Inner { visible: durable.clone(), durable, buffered: Vec::new(), writes_left: None };
        Self { inner: Mutex::new(inner) }
    }

    /// How many writes a crash could take back.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().buffered.len()
    }

    /// `count` more writes succeed; the ones after it fail and change nothing.
    pub fn fail_writes_after(&self, count: usize) {
        self.lock().writes_left = Some(count);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(items: &mut Items, batch: &WriteBatch) {
    for change in batch.changes() {
        match change {
            Change::Put(space, key, value) => {
                items.insert((*space, key.clone()), value.clone());
            }
            Change::Delete(space, key) => {
                items.remove(&(*space, key.clone()));
            }
            Change::DeleteRange(space, from, to) => {
                if from < to {
                    let range = (*space, from.clone())..(*space, to.clone());
                    items.extract_if(range, |_, _| true).for_each(drop);
                }
            }
        }
    }
}

impl Store for MemoryStore {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lock().visible.get(&(space, key.to_vec())).cloned())
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Item>, StoreError> {
        if scan.from >= scan.to {
            return Ok(Vec::new());
        }
        let inner = self.lock();
        let range =
            inner.visible.range((scan.space, scan.from.clone())..(scan.space, scan.to.clone()));
        let items = range.map(|((_, key), value)| (key.clone(), value.clone()));
        Ok(match scan.direction {
            Direction::Forward => take_bounded(scan, items),
            Direction::Backward => take_bounded(scan, items.rev()),
        })
    }

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if let Some(left) = inner.writes_left {
            let message = "this write was told to fail".to_owned();
            inner.writes_left = Some(left.checked_sub(1).ok_or(StoreError::Backend { message })?);
        }
        let Inner { visible, durable, buffered, .. } = &mut *inner;
        apply(visible, batch);
        match durability {
            Durability::Buffered => buffered.push(batch.clone()),
            Durability::Synced => {
                buffered.drain(..).for_each(|earlier| apply(durable, &earlier));
                apply(durable, batch);
            }
        }
        Ok(())
    }

    fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        let inner = self.lock();
        let bytes = inner.visible.iter().fold(0, |sum: usize, ((_, key), value)| {
            sum.saturating_add(key.len()).saturating_add(value.len())
        });
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

/// Takes items until one of the scan's limits.
pub(super) fn take_bounded(scan: &Scan, items: impl Iterator<Item = Item>) -> Vec<Item> {
    let mut taken = Vec::new();
    let mut bytes = 0usize;
    for item in items.take(scan.items_max) {
        bytes = bytes.saturating_add(item.1.len());
        if bytes > scan.bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(item);
    }
    taken
}
