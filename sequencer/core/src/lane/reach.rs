//! From lanes to a cut: how far a proposer moves each lane.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::batch::{Acknowledged, CheckedBatch};
use crate::block::first_lane;
use crate::cut::{Cut, LanePosition};
use crate::lane::Lane;
use crate::limits::{CUT_BATCHES_MAX, CUT_BYTES_MAX, CUT_ENTRIES_MAX};
use crate::state::State;
use crate::types::BatchDigest;
use crate::validator_set::ValidatorSet;
use crate::waste;

/// How much a proposer puts into a cut. More than [`CutLimits::MAX`] is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutLimits {
    /// Batches, at most [`CUT_BATCHES_MAX`].
    pub batches: usize,
    /// Entries, at most [`CUT_ENTRIES_MAX`].
    pub entries: usize,
    /// Bytes of batches, at most [`CUT_BYTES_MAX`].
    pub bytes: usize,
    /// Of these, bytes of batches that no quorum is known to store. The others must get and check them before they
    /// can vote, so this bounds what a vote waits for when the network has more to do than it can.
    pub fresh_bytes: usize,
}

impl CutLimits {
    /// The protocol's bounds.
    pub const MAX: Self = Self {
        batches: CUT_BATCHES_MAX,
        entries: CUT_ENTRIES_MAX,
        bytes: CUT_BYTES_MAX,
        fresh_bytes: CUT_BYTES_MAX,
    };

    /// Takes room for a batch if there is enough.
    fn take(&mut self, batch: &CheckedBatch, is_fresh: bool) -> Option<()> {
        let bytes = batch.raw().len();
        *self = Self {
            batches: self.batches.checked_sub(1)?,
            entries: self.entries.checked_sub(batch.entries().len())?,
            bytes: self.bytes.checked_sub(bytes)?,
            fresh_bytes: self.fresh_bytes.checked_sub(if is_fresh { bytes } else { 0 })?,
        };
        Some(())
    }
}

/// How many batches of a lane's [chain](Lane::chain) more than 2/3 of the voting power stores, by each validator's
/// last word. A word on a batch that the chain does not hold counts for nothing.
pub fn quorum_reach(
    lane: &Lane,
    set: &ValidatorSet,
    word: impl Fn(Address) -> Option<Acknowledged>,
) -> usize {
    let places: BTreeMap<BatchDigest, usize> =
        lane.chain().zip(1usize..).map(|(batch, place)| (batch.digest(), place)).collect();
    let reach = |validator| word(validator).and_then(|word| places.get(&word.digest).copied());
    let mut said: Vec<(usize, u64)> = set
        .iter()
        .map(|member| (reach(member.address).unwrap_or_default(), member.power))
        .collect();
    said.sort_unstable_by(|a, b| b.cmp(a));
    let mut power = 0u64;
    for (reach, more) in said {
        power = power.saturating_add(more);
        if set.is_quorum(power) {
            return reach;
        }
    }
    0
}

/// The cut after `state` that moves each lane as far as its [tip](Lane::tip), within `limits` (and the protocol's).
/// `stored` says of how many batches of a lane's chain a quorum is known to store; the others are fresh.
///
/// Lanes share the room batch by batch, in turn, beginning with the lane that assembly begins with. A lane stops at its
/// first batch that does not fit. A lane that is not in `lanes`, or whose decided position is not the state's, stays; so
/// does one that [wasted](waste) too much.
#[expect(clippy::missing_panics_doc, reason = "the first lane's place is below the count of lanes")]
#[must_use]
pub fn build_cut(
    state: &State,
    lanes: &BTreeMap<Address, Lane>,
    stored: impl Fn(&Lane) -> usize,
    limits: CutLimits,
) -> Cut {
    let mut room = CutLimits {
        batches: limits.batches.min(CUT_BATCHES_MAX),
        entries: limits.entries.min(CUT_ENTRIES_MAX),
        bytes: limits.bytes.min(CUT_BYTES_MAX),
        fresh_bytes: limits.fresh_bytes,
    };
    let mut cut = Cut { lanes: state.committed.lanes.clone() };
    let first = first_lane(state.height.next(), cut.lanes.len());
    let (before, from) = cut.lanes.split_at_mut_checked(first).expect("below the count of lanes");
    let mut chains: Vec<_> = from
        .iter_mut()
        .chain(before)
        .filter_map(|to| {
            let lane = lanes.get(&to.owner).filter(|lane| lane.decided() == to)?;
            if waste::allowance(&state.committed, to.owner) == 0 {
                return None;
            }
            let stored = stored(lane);
            Some((to, lane.chain().enumerate().map(move |(place, b)| (b, place >= stored))))
        })
        .collect();
    while !chains.is_empty() {
        chains.retain_mut(|(to, chain)| {
            let fits = |(batch, is_fresh)| room.take(batch, is_fresh).map(|()| batch);
            let next = chain.next().and_then(fits);
            if let Some(batch) = next {
                **to = position_of(batch);
            }
            next.is_some()
        });
    }
    cut
}

const fn position_of(batch: &CheckedBatch) -> LanePosition {
    let position = batch.position();
    LanePosition {
        owner: position.owner,
        incarnation: position.incarnation,
        sequence: position.sequence,
        digest: batch.digest(),
    }
}
