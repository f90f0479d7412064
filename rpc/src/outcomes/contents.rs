//! What is known of a block's transactions: eight bytes of each hash, in order. Whether a leg is among them, core's
//! [`landing`] says.
//!
//! Two transactions with equal leading bytes take more work to find than they are worth: who sent them would only be
//! told a wrong index.

use alloy_primitives::B256;
use lockstep_core::landing;

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

    /// Index of a leg's first transaction, if the leg is there whole and in its order.
    pub(super) fn index_of(&self, transactions: &[B256]) -> Option<u32> {
        let leg: Vec<u64> = transactions.iter().map(prefix).collect();
        u32::try_from(landing::find(&self.0, &leg)?).ok()
    }
}
