//! This validator's own lane: entries wait here, become batches, and come back if a block had no room for them.
//!
//! Pure: the service signs, stores and pushes what [`OwnLane::next_entries`] gives out, then says [`OwnLane::made`].

use std::collections::{BTreeSet, VecDeque};

use lockstep_core::entry::CheckedEntry;
use lockstep_core::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_OVERHEAD_BYTES_MAX};
use lockstep_core::types::{BatchDigest, EntryId, Incarnation, Sequence, UnixMillis};

/// Bytes of entries that wait for a batch. More are refused with a hint to come back.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Entries that wait for a batch.
pub const QUEUE_ENTRIES_MAX: usize = 65_536;

/// Where the next batch stands, and what goes into it.
#[derive(Debug)]
pub struct OwnLane {
    incarnation: Incarnation,
    next: Sequence,
    parent: BatchDigest,
    queue: VecDeque<CheckedEntry>,
    queued: BTreeSet<EntryId>,
    bytes: usize,
}

/// The queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entries} entries of {bytes} bytes wait for a batch already")]
pub struct QueueFull {
    /// Entries that wait.
    pub entries: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl OwnLane {
    /// The lane at the beginning of a run.
    #[must_use]
    pub const fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            next: Sequence(0),
            parent: BatchDigest::ZERO,
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// The incarnation of a start: `max(stored + 1, decided + 1, unix ms)`, so that no position is signed twice.
    #[must_use]
    pub fn incarnation_at_start(
        stored: Incarnation,
        decided: Incarnation,
        now: UnixMillis,
    ) -> Incarnation {
        let after = stored.max(decided).0.saturating_add(1);
        Incarnation(after.max(now.0))
    }

    /// How many entries wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether an entry of so many bytes may be pushed: asked before its signatures are checked.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn has_room(&self, length: usize) -> Result<(), QueueFull> {
        let bytes = self.bytes.saturating_add(length);
        if bytes > QUEUE_BYTES_MAX || self.queue.len() >= QUEUE_ENTRIES_MAX {
            return Err(QueueFull { entries: self.queue.len(), bytes: self.bytes });
        }
        Ok(())
    }

    /// Puts an entry at the end of the queue; one that waits already is not put there twice.
    ///
    /// # Errors
    /// [`QueueFull`]; the entry is not taken.
    pub fn push(&mut self, entry: CheckedEntry) -> Result<(), QueueFull> {
        let length = entry.entry().raw().len();
        self.has_room(length)?;
        if self.queued.insert(entry.entry().id()) {
            self.bytes = self.bytes.saturating_add(length);
            self.queue.push_back(entry);
        }
        Ok(())
    }

    /// Puts entries that a block had no room for in front of the queue, in their order.
    pub fn carry(&mut self, entries: Vec<CheckedEntry>) {
        for entry in entries.into_iter().rev() {
            if self.queued.insert(entry.entry().id()) {
                self.bytes = self.bytes.saturating_add(entry.entry().raw().len());
                self.queue.push_front(entry);
            }
        }
    }

    /// The entries of the next batch, at most what one batch holds; those that expired by `now` are passed over.
    pub fn next_entries(&mut self, now: UnixMillis) -> Vec<CheckedEntry> {
        let room = BATCH_BYTES_MAX.saturating_sub(BATCH_OVERHEAD_BYTES_MAX);
        let (mut entries, mut bytes) = (Vec::new(), 0usize);
        while let Some(front) = self.queue.front() {
            let length = front.entry().raw().len();
            if bytes.saturating_add(length) > room || entries.len() >= BATCH_ENTRIES_MAX {
                break;
            }
            let Some(entry) = self.queue.pop_front() else { break };
            self.queued.remove(&entry.entry().id());
            self.bytes = self.bytes.saturating_sub(length);
            if entry.entry().expires() > now {
                bytes = bytes.saturating_add(length);
                entries.push(entry);
            }
        }
        entries
    }

    /// Place of the next batch: incarnation, sequence, and the digest of the batch before it.
    #[must_use]
    pub const fn position(&self) -> (Incarnation, Sequence, BatchDigest) {
        (self.incarnation, self.next, self.parent)
    }

    /// The batch at the present position was made.
    pub fn made(&mut self, digest: BatchDigest) {
        self.next = self.next.next();
        self.parent = digest;
    }
}
