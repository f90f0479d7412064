//! Batches that come with proposals and that no lane holds: another one is held at their position, as their owner signed
//! two, or their lane has no room, as its owner is too far ahead of the log. They are written,
//! because consensus may decide any of them. Each takes disk until its position is decided, which its owner may put off
//! for ever; so what is kept of one proposer has a bound. Its next block that needs more is not voted for, and is fetched
//! if it is decided. The proposer pays, not the lane's owner: one that filled its own lane's bound could give each of the
//! others another batch of one position, and none could vote for what the others propose.
//!
//! A restart begins anew.

use std::collections::BTreeMap;

use libp2p::PeerId;
use lockstep_core::batch::{BatchPosition, CheckedBatch};
use lockstep_core::cut::LanePosition;
use lockstep_core::types::BatchDigest;

/// Bytes of such batches that are kept, of those that one proposer's blocks brought.
pub const FORKED_BYTES_MAX: usize = 32 << 20;

/// Which of them are kept, and how long they are.
#[derive(Debug, Default)]
pub struct Forks {
    kept: BTreeMap<(PeerId, BatchPosition, BatchDigest), usize>,
}

impl Forks {
    /// Whether this one, which came with a block of `from`, may be kept, too.
    pub fn admit(&mut self, from: PeerId, batch: &CheckedBatch) -> bool {
        let (position, bytes) = (batch.position(), batch.raw().len());
        let key = (from, position, batch.digest());
        if self.kept.contains_key(&key) {
            return true;
        }
        let of_peer = self.kept.iter().filter(|((peer, ..), _)| *peer == from);
        let sum = of_peer.fold(bytes, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let has_room = sum <= FORKED_BYTES_MAX;
        if has_room {
            self.kept.insert(key, bytes);
        }
        has_room
    }

    /// The lanes are decided up to here: the store has removed what is not decided.
    pub fn advance(&mut self, positions: &[LanePosition]) {
        self.kept.retain(|(_, at, _), _| {
            positions
                .iter()
                .find(|lane| lane.owner == at.owner)
                .is_some_and(|lane| lane.is_start() || *at > lane.batch())
        });
    }
}
