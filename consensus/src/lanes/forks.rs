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
    /// Of each proposer, all together. A bound of small batches has many, so nobody counts them for each.
    bytes: BTreeMap<PeerId, usize>,
}

impl Forks {
    /// Whether this one, which came with a block of `from`, may be kept, too.
    pub fn admit(&mut self, from: PeerId, batch: &CheckedBatch) -> bool {
        let bytes = batch.raw().len();
        let key = (from, batch.position(), batch.digest());
        if self.kept.contains_key(&key) {
            return true;
        }
        let of_peer = self.bytes.entry(from).or_default();
        let sum = of_peer.saturating_add(bytes);
        let has_room = sum <= FORKED_BYTES_MAX;
        if has_room {
            *of_peer = sum;
            self.kept.insert(key, bytes);
        }
        has_room
    }

    /// The lanes are decided up to here: the store has removed what is not decided.
    pub fn advance(&mut self, positions: &[LanePosition]) {
        let Self { kept, bytes: sums } = self;
        kept.retain(|(from, at, _), bytes| {
            let lane = positions.iter().find(|lane| lane.owner == at.owner);
            let is_ahead = lane.is_some_and(|lane| lane.is_start() || *at > lane.batch());
            if let Some(sum) = sums.get_mut(from).filter(|_| !is_ahead) {
                *sum = sum.saturating_sub(*bytes);
            }
            is_ahead
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::batch::Batch;
    use lockstep_core::entry::{Body, Entry, Transaction};
    use lockstep_core::params::ChainKind;
    use lockstep_core::signing::SigningKey;
    use lockstep_core::types::{ChainId, Incarnation, NetworkId, Sequence, UnixMillis};

    #[test]
    fn what_is_decided_is_counted_no_more_and_what_lies_ahead_is() {
        let key = SigningKey::from_bytes([1; 32]).unwrap();
        let from = PeerId::from_bytes(&[0, 1, 1]).unwrap();
        let batch = |run: u64| {
            let bytes = vec![7; 100_000].into();
            let body = Transaction { chain: ChainId(1), kind: ChainKind::Opaque, bytes };
            let entry = Entry::new(Body::Transaction(body), UnixMillis(1), None).unwrap();
            let (place, entries) = ((Incarnation(run), Sequence(0)), vec![entry]);
            let batch = Batch::sign(NetworkId::ZERO, place, BatchDigest::ZERO, entries, &key);
            batch.unwrap().check().unwrap()
        };
        let mut forks = Forks::default();
        let mut admitted = |runs: std::ops::Range<u64>, decided: u64| {
            let position = LanePosition {
                owner: key.address(),
                incarnation: Incarnation(decided),
                sequence: Sequence(0),
                digest: BatchDigest::ZERO,
            };
            forks.advance(&[position]);
            runs.filter(|run| forks.admit(from, &batch(*run))).count()
        };
        let most = FORKED_BYTES_MAX / batch(1).raw().len();
        assert_eq!(admitted(1..400, 0), most);
        assert_eq!(admitted(1..400, 0), most, "those that are kept are not counted twice");
        assert_eq!(admitted(1_000..1_100, 9), 9, "nine are decided");
        assert_eq!(admitted(2_000..2_010, 9), 0);
    }
}
