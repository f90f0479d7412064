//! What the last heights have, read once for all who want it.
//!
//! | a height is | what is wanted of it |
//! |---|---|
//! | one of the last [`RECENT_HEIGHTS_MAX`], not read yet | is read now; others that want it wait for that read |
//! | held | is shared |
//! | any other, one that could not be read, one dropped for its bytes | is read by the caller, in its client's turn |
//!
//! The read takes no client's turn, because all clients would wait for the turn of the one that came first. No height is
//! read here twice, so clients cause no more such reads than the log has heights.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt, Shared};
use lockstep_core::types::Height;
use lockstep_proto::error::Refusal;
use tokio::sync::watch;

use crate::limits::{RECENT_BYTES_MAX, RECENT_HEIGHTS_MAX};
use crate::node::Log;
use crate::reads::off_runtime;

/// Reads what is wanted of a height; returns it with the bytes that it takes in memory, about.
type Read<T> = fn(&dyn Log, Height) -> Result<(T, usize), Refusal>;
/// A read that is under way or done, for all who wait for it.
type Reading<T> = Shared<BoxFuture<'static, Result<Arc<T>, Refusal>>>;

/// The last heights; cheap to clone.
pub(crate) struct Recent<T> {
    log: Arc<dyn Log>,
    heads: watch::Receiver<Height>,
    read: Read<T>,
    // Behind a lock, because every stream looks things up here. Held for look-ups alone.
    memory: Arc<Mutex<Memory<Reading<T>>>>,
}

impl<T> Clone for Recent<T> {
    fn clone(&self) -> Self {
        let Self { log, heads, read, memory } = self;
        let (log, memory) = (Arc::clone(log), Arc::clone(memory));
        Self { log, heads: heads.clone(), read: *read, memory }
    }
}

impl<T> fmt::Debug for Recent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").field("head", &self.heads.borrow()).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Recent<T> {
    pub(crate) fn new(log: Arc<dyn Log>, read: Read<T>) -> Self {
        let heads = log.heads();
        Self { log, heads, read, memory: Arc::default() }
    }

    /// What is wanted of a height; `None` if the caller is to read it.
    ///
    /// # Errors
    /// Those of the read.
    pub(crate) async fn get(&self, height: Height) -> Result<Option<Arc<T>>, Refusal> {
        let reading = match self.slot(height) {
            Slot::Held(reading) => reading,
            Slot::Free => self.begin(height),
            Slot::Closed => return Ok(None),
        };
        reading.await.map(Some)
    }

    /// What is wanted of a height, if it was read before.
    pub(crate) fn held(&self, height: Height) -> Option<Arc<T>> {
        match self.slot(height) {
            Slot::Held(reading) => reading.peek()?.clone().ok(),
            Slot::Free | Slot::Closed => None,
        }
    }

    /// What a held height has takes so many bytes more.
    pub(crate) fn grow(&self, height: Height, bytes: usize) {
        lock(&self.memory).grow(height, bytes);
    }

    fn slot(&self, height: Height) -> Slot<Reading<T>> {
        let head = *self.heads.borrow();
        lock(&self.memory).slot(height, head)
    }

    /// The read goes on when nobody waits for it any more: the next one who wants the height finds it.
    fn begin(&self, height: Height) -> Reading<T> {
        let (log, read, memory) = (Arc::clone(&self.log), self.read, Arc::clone(&self.memory));
        let reading = off_runtime(move || {
            let answer = read(log.as_ref(), height);
            let mut memory = lock(&memory);
            match answer {
                Ok((value, bytes)) => {
                    memory.grow(height, bytes);
                    Ok(Arc::new(value))
                }
                Err(refusal) => {
                    memory.close(height);
                    Err(refusal)
                }
            }
        });
        let reading = reading.boxed().shared();
        lock(&self.memory).take(height, reading)
    }
}

fn lock<V>(memory: &Mutex<Memory<V>>) -> MutexGuard<'_, Memory<V>> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a height would be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Slot<V> {
    /// It is held.
    Held(V),
    /// It may be taken in.
    Free,
    /// It may not.
    Closed,
}

/// A value per height, for the last heights. Plain data.
#[derive(Debug)]
struct Memory<V> {
    /// With the bytes that they take; `None` where the height may not be taken in again.
    heights: BTreeMap<Height, (Option<V>, usize)>,
    /// Sum of them.
    bytes: usize,
    /// Heights up to this one are not taken in any more.
    floor: Height,
}

impl<V> Default for Memory<V> {
    fn default() -> Self {
        Self { heights: BTreeMap::new(), bytes: 0, floor: Height::GENESIS }
    }
}

impl<V: Clone> Memory<V> {
    fn slot(&mut self, height: Height, head: Height) -> Slot<V> {
        let floor = Height(head.0.saturating_sub(RECENT_HEIGHTS_MAX));
        while self.heights.first_key_value().is_some_and(|(oldest, _)| *oldest <= floor) {
            self.drop_oldest();
        }
        self.floor = self.floor.max(floor);
        if height <= self.floor || height > head {
            return Slot::Closed;
        }
        match self.heights.get(&height) {
            Some((Some(value), _)) => Slot::Held(value.clone()),
            Some((None, _)) => Slot::Closed,
            None => Slot::Free,
        }
    }

    /// The value of a height, which is this one unless there is one already.
    fn take(&mut self, height: Height, value: V) -> V {
        if height <= self.floor {
            return value;
        }
        let (held, _) = self.heights.entry(height).or_insert_with(|| (Some(value.clone()), 0));
        held.clone().unwrap_or(value)
    }

    /// Counts bytes of a height, and drops the oldest heights if they are too many.
    fn grow(&mut self, height: Height, bytes: usize) {
        let Some((_, of_height)) = self.heights.get_mut(&height) else { return };
        *of_height = of_height.saturating_add(bytes);
        self.bytes = self.bytes.saturating_add(bytes);
        while self.bytes > RECENT_BYTES_MAX {
            self.drop_oldest();
        }
    }

    fn close(&mut self, height: Height) {
        if let Some((value, _)) = self.heights.get_mut(&height) {
            *value = None;
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((height, (_, bytes))) = self.heights.pop_first() {
            self.bytes = self.bytes.saturating_sub(bytes);
            self.floor = self.floor.max(height);
        }
    }
}

#[cfg(test)]
mod tests;
