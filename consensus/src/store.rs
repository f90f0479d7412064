//! The store: what a node keeps on disk besides the guard's file and the engine's write-ahead log.
//!
//! Two layers. [`Store`] is the narrow one: keys, values, and one atomic [`WriteBatch`]; RocksDB and a memory twin
//! implement it, and one test suite runs on both. [`LogStore`] is what the node uses: blocks, batches, state,
//! lookups; it never sees a backend's types. All keys are made in [`schema`].
//!
//! What is stored and what is not: a batch is one value; a block is its header, cut and certificate, and its body
//! is references into batches. What assembly left out and the chains' slices are recomputed, never stored. There is
//! never one key per transaction; there is one per chain and height that has a sequencer's records of a kind.
//!
//! Every call blocks: async code calls it on a blocking thread.

mod body;
mod index;
mod lanes;
mod log;
mod memory;
mod open;
mod records;
mod rocksdb;
pub mod schema;
mod write;

#[cfg(test)]
mod tests;

use core::fmt;

use alloy_primitives::Bytes;

pub use self::body::TakenEntry;
pub use self::index::{Located, Lookup};
pub use self::lanes::Aside;
pub use self::log::{
    BLOCKS_READ_MAX, EVIDENCE_READ_MAX, LogStore, Maintenance, StoredBlock, Undecided,
};
pub use self::memory::MemoryStore;
pub use self::open::{BrokenLog, CHAIN_CHECKED_HEIGHTS, OpenError};
pub use self::records::{RECORD_HEIGHTS_READ_MAX, RecordKind};
pub use self::rocksdb::RocksStore;
use self::schema::Space;
pub use self::write::{Commit, CommitError, EVIDENCE_PER_HEIGHT_MAX};

/// When a write is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before the call returns: it survives a power cut.
    Synced,
    /// Some time later, but never before an earlier write: a crash loses the end of the writes, nothing in between.
    Buffered,
}

/// One change of a [`WriteBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key has this value from now on.
    Put(Space, Vec<u8>, Bytes),
    /// The key is gone.
    Delete(Space, Vec<u8>),
    /// All keys `from <= key < to` are gone.
    DeleteRange(Space, Vec<u8>, Vec<u8>),
}

/// Changes that happen all or not at all, in this order.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    changes: Vec<Change>,
}

impl WriteBatch {
    /// A batch without changes.
    #[must_use]
    pub const fn new() -> Self {
        Self { changes: Vec::new() }
    }

    /// Sets a key.
    pub fn put(&mut self, space: Space, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        self.changes.push(Change::Put(space, key.into(), value.into()));
    }

    /// Removes a key; nothing happens if it is not there.
    pub fn delete(&mut self, space: Space, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete(space, key.into()));
    }

    /// Removes all keys `from <= key < to`.
    pub fn delete_range(&mut self, space: Space, from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) {
        self.changes.push(Change::DeleteRange(space, from.into(), to.into()));
    }

    /// The changes, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// From which end a [`Scan`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// A bounded read of neighbouring keys.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Which keys.
    pub space: Space,
    /// First key, inclusive.
    pub from: Vec<u8>,
    /// Last key, exclusive.
    pub to: Vec<u8>,
    /// At most so many items.
    pub items_max: usize,
    /// It ends before the item that would make the values longer than this; the first item is always returned.
    pub bytes_max: usize,
    /// Which end first.
    pub direction: Direction,
}

impl Scan {
    /// All keys `from <= key < to`, ascending, `items_max` of them.
    #[must_use]
    pub fn new(
        space: Space,
        from: impl Into<Vec<u8>>,
        to: impl Into<Vec<u8>>,
        items_max: usize,
    ) -> Self {
        let (from, to) = (from.into(), to.into());
        Self { space, from, to, items_max, bytes_max: usize::MAX, direction: Direction::Forward }
    }

    /// The same, from the other end.
    #[must_use]
    pub fn backward(self) -> Self {
        Self { direction: Direction::Backward, ..self }
    }

    /// The same, with values of `bytes_max` bytes together at most.
    #[must_use]
    pub fn bytes_max(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }
}

/// A key and its value.
pub type Item = (Vec<u8>, Bytes);

/// Keys and values with atomic writes. Keys are compared as bytes, within their [`Space`].
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// The key's value.
    ///
    /// # Errors
    /// [`StoreError::Backend`]: the disk or the database failed; the node must stop.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The items of a bounded range. An empty range (`from >= to`) has none.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn scan(&self, scan: &Scan) -> Result<Vec<Item>, StoreError>;

    /// Makes all changes or none. On an error it is unknown which, until the store is opened again.
    ///
    /// # Errors
    /// [`StoreError::Backend`].
    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<(), StoreError>;

    /// Bytes that the store takes on its disk, logs included. For metrics.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn bytes_on_disk(&self) -> Result<u64, StoreError>;
}

/// Why a read or a write failed. The node must stop in every case: what it would do next could rest on a wrong read
/// or on a write that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk or the database.
    #[error("store failed: {message}")]
    Backend {
        /// What it said.
        message: String,
    },
    /// A write before this one failed: nothing is written any more until the store is opened again.
    #[error("store is stopped because an earlier write failed")]
    Stopped,
    /// A value is not what its key says.
    #[error("store holds a damaged {what} at {key}; move the data directory away and sync again")]
    Damaged {
        /// Which kind of value.
        what: &'static str,
        /// Where.
        key: String,
    },
}
