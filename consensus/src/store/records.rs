//! At which heights a chain has records: one key without a value per chain, kind and height, written with the height.

use alloy_primitives::Bytes;
use lockstep_core::record::RecordBody;
use lockstep_core::types::{ChainId, Height};

use super::log::{LogStore, damaged};
use super::schema::{self, Space};
use super::write::Commit;
use super::{Scan, StoreError, WriteBatch};

/// Heights that one call of [`LogStore::record_heights`] returns at most.
pub const RECORD_HEIGHTS_READ_MAX: usize = 256;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A block was sealed.
    Sealed,
    /// The data-availability limits in force.
    Limits,
    /// A sequencer's word on co-executed bundles.
    Prepared,
}

impl RecordKind {
    /// What this record says.
    #[must_use]
    pub const fn of(body: &RecordBody) -> Self {
        match body {
            RecordBody::Sealed(_) => Self::Sealed,
            RecordBody::Limits(_) => Self::Limits,
            RecordBody::Prepared(_) => Self::Prepared,
        }
    }

    /// The byte in its keys.
    pub(super) const fn tag(self) -> u8 {
        match self {
            Self::Sealed => 1,
            Self::Limits => 2,
            Self::Prepared => 3,
        }
    }
}

/// Adds the keys of the commit's records.
pub(super) fn put_records(commit: &Commit, write: &mut WriteBatch) {
    for (chain, kind) in &commit.records {
        let key = schema::record(*chain, *kind, commit.header.height);
        write.put(Space::Record, key, Bytes::new());
    }
}

impl LogStore {
    /// Heights below `before` at which the chain has records of a kind, descending: at most `count`, and never more
    /// than [`RECORD_HEIGHTS_READ_MAX`].
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn record_heights(
        &self,
        (chain, kind): (ChainId, RecordKind),
        before: Height,
        count: usize,
    ) -> Result<Vec<Height>, StoreError> {
        let from = schema::record(chain, kind, Height::GENESIS);
        let to = schema::record(chain, kind, before);
        self.heights_of(&Scan::new(Space::Record, from, to, bounded(count)).backward())
    }

    /// The same for heights from `from` on, ascending.
    ///
    /// # Errors
    /// [`StoreError`]: the node must stop.
    pub fn record_heights_from(
        &self,
        (chain, kind): (ChainId, RecordKind),
        from: Height,
        count: usize,
    ) -> Result<Vec<Height>, StoreError> {
        let from = schema::record(chain, kind, from);
        let to = schema::record(chain, kind, Height(u64::MAX));
        self.heights_of(&Scan::new(Space::Record, from, to, bounded(count)))
    }

    fn heights_of(&self, scan: &Scan) -> Result<Vec<Height>, StoreError> {
        let keys = self.store.scan(scan)?.into_iter().map(|(key, _)| key);
        keys.map(|key| schema::record_height(&key).ok_or_else(|| damaged("record's key", &key)))
            .collect()
    }
}

fn bounded(count: usize) -> usize {
    count.min(RECORD_HEIGHTS_READ_MAX)
}
