//! What is known of a block's transactions: eight bytes of each hash, in order.
//!
//! Two transactions with equal leading bytes take more work to find than they are worth: who sent them would only be
//! told a wrong index.

use alloy_primitives::B256;

/// What is known of a block's transactions.
#[derive(Debug)]
pub(super) enum Contents {
    /// The engine was not asked yet.
    Unknown,
    /// All of them.
    Known(Prefixes),
    /// They were known; there was no room.
    Forgotten,
}

/// Leading bytes of hashes.
#[derive(Debug)]
pub(super) struct Prefixes(Box<[u64]>);

fn prefix(hash: &B256) -> u64 {
    hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl Prefixes {
    pub(super) fn of(transactions: &[B256]) -> Self {
        Self(transactions.iter().map(prefix).collect())
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Index of a leg's first transaction, if all of them are there.
    pub(super) fn index_of(&self, transactions: &[B256]) -> Option<u32> {
        let place = |hash| self.0.iter().position(|there| *there == prefix(hash));
        let (first, others) = transactions.split_first()?;
        let first = place(first)?;
        if !others.iter().all(|hash| place(hash).is_some()) {
            return None;
        }
        u32::try_from(first).ok()
    }
}
