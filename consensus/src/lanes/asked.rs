//! What was asked for, and when. Pure: the time is an argument.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use libp2p::PeerId;
use lockstep_core::lane::BatchRange;
use lockstep_core::types::UnixMillis;

/// How long an answer is waited for, in milliseconds.
const PATIENCE_MS: u64 = 150;

/// The last question to each peer about each lane. Bounded by the square of the set's size.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    lanes: BTreeMap<(Address, PeerId), (BatchRange, UnixMillis)>,
}

impl Asked {
    /// Whether `from` is to be asked for a range at `now`; if so, that is noted. It is not while its answer to a question that
    /// covers it may be on its way. A clock that went back makes it due.
    pub(crate) fn is_due(&mut self, range: &BatchRange, from: PeerId, now: UnixMillis) -> bool {
        let key = (range.owner, from);
        let is_covered = self.lanes.get(&key).is_some_and(|(asked, at)| {
            asked.incarnation == range.incarnation
                && asked.first <= range.first
                && asked.last >= range.last
                && (*at..at.plus(PATIENCE_MS)).contains(&now)
        });
        if !is_covered {
            self.lanes.insert(key, (*range, now));
        }
        !is_covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::types::{Incarnation, Sequence};

    fn range(incarnation: u64, first: u64, last: u64) -> BatchRange {
        let (first, last) = (Sequence(first), Sequence(last));
        BatchRange { owner: Address::ZERO, incarnation: Incarnation(incarnation), first, last }
    }

    fn peer(byte: u8) -> PeerId {
        PeerId::from_bytes(&[0, 1, byte]).unwrap()
    }

    #[test]
    fn question_is_not_repeated_while_its_answer_may_come() {
        let (mut asked, now) = (Asked::default(), UnixMillis(1_000));
        assert!(asked.is_due(&range(1, 3, 9), peer(1), now));
        assert!(!asked.is_due(&range(1, 3, 9), peer(1), now));
        assert!(!asked.is_due(&range(1, 5, 9), peer(1), now), "part of the answer came");
        assert!(!asked.is_due(&range(1, 3, 9), peer(1), now.plus(PATIENCE_MS - 1)));
        assert!(asked.is_due(&range(1, 3, 9), peer(1), now.plus(PATIENCE_MS)));
        assert!(asked.is_due(&range(1, 3, 10), peer(1), now.plus(PATIENCE_MS)), "more is missing");
        assert!(asked.is_due(&range(2, 3, 9), peer(1), now.plus(PATIENCE_MS)), "it is another run");
        assert!(asked.is_due(&range(2, 3, 9), peer(1), now), "the clock went back");
        assert!(asked.is_due(&range(2, 3, 9), peer(2), now), "who does not answer hinders nobody");
    }
}
