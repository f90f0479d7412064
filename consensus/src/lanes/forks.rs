//! Batches at positions where another one is held: their owner signed two. They come with proposals, and are written,
//! because consensus may decide any of them. Each takes disk until its position is decided, which its owner may put off
//! for ever; so what is kept of one owner has a bound. A block behind it is not voted for, and fetched if it is decided.
//!
//! A restart begins anew.

use std::collections::BTreeMap;

use lockstep_core::batch::{BatchPosition, CheckedBatch};
use lockstep_core::cut::LanePosition;
use lockstep_core::types::BatchDigest;

/// Bytes of an owner's second batches that are kept.
pub const FORKED_BYTES_MAX: usize = 32 << 20;

/// Which second batches are kept, and how long they are.
#[derive(Debug, Default)]
pub struct Forks {
    kept: BTreeMap<(BatchPosition, BatchDigest), usize>,
}

impl Forks {
    /// Whether this one may be kept, too.
    pub fn admit(&mut self, batch: &CheckedBatch) -> bool {
        let (position, bytes) = (batch.position(), batch.raw().len());
        let key = (position, batch.digest());
        if self.kept.contains_key(&key) {
            return true;
        }
        let of_owner = self.kept.iter().filter(|((at, _), _)| at.owner == position.owner);
        let sum = of_owner.fold(bytes, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let has_room = sum <= FORKED_BYTES_MAX;
        if has_room {
            self.kept.insert(key, bytes);
        }
        has_room
    }

    /// The lanes are decided up to here: the store has removed what is not decided.
    pub fn advance(&mut self, positions: &[LanePosition]) {
        self.kept.retain(|(at, _), _| {
            positions
                .iter()
                .find(|lane| lane.owner == at.owner)
                .is_some_and(|lane| lane.is_start() || *at > lane.batch())
        });
    }
}
