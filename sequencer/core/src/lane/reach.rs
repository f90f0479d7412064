//! From lanes to a cut: how far a proposer moves each lane.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::batch::CheckedBatch;
use crate::block::first_lane;
use crate::cut::{Cut, LanePosition};
use crate::lane::Lane;
use crate::limits::{CUT_BATCHES_MAX, CUT_BYTES_MAX, CUT_ENTRIES_MAX};
use crate::state::State;

/// How much a proposer puts into a cut. More than [`CutLimits::MAX`] is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutLimits {
    /// Batches, at most [`CUT_BATCHES_MAX`].
    pub batches: usize,
    /// Entries, at most [`CUT_ENTRIES_MAX`].
    pub entries: usize,
    /// Bytes of batches, at most [`CUT_BYTES_MAX`].
    pub bytes: usize,
}

impl CutLimits {
    /// The protocol's bounds.
    pub const MAX: Self =
        Self { batches: CUT_BATCHES_MAX, entries: CUT_ENTRIES_MAX, bytes: CUT_BYTES_MAX };

    /// Takes room for a batch if there is enough.
    fn take(&mut self, batch: &CheckedBatch) -> Option<()> {
        *self = Self {
            batches: self.batches.checked_sub(1)?,
            entries: self.entries.checked_sub(batch.entries().len())?,
            bytes: self.bytes.checked_sub(batch.raw().len())?,
        };
        Some(())
    }
}

/// The cut after `state` that moves each lane as far as its [tip](Lane::tip), within `limits` (and the protocol's).
///
/// Lanes share the room batch by batch, in turn, beginning with the lane that assembly begins with. A lane stops at its
/// first batch that does not fit. A lane that is not in `lanes`, or whose decided position is not the state's, stays.
#[must_use]
pub fn build_cut(state: &State, lanes: &BTreeMap<Address, Lane>, limits: CutLimits) -> Cut {
    let mut room = CutLimits {
        batches: limits.batches.min(CUT_BATCHES_MAX),
        entries: limits.entries.min(CUT_ENTRIES_MAX),
        bytes: limits.bytes.min(CUT_BYTES_MAX),
    };
    let mut cut = Cut { lanes: state.committed.lanes.clone() };
    let first = first_lane(state.height.next(), cut.lanes.len());
    let (before, from) = cut.lanes.split_at_mut_checked(first).unwrap_or_default();
    let mut chains: Vec<_> = from
        .iter_mut()
        .chain(before)
        .filter_map(|to| {
            let lane = lanes.get(&to.owner).filter(|lane| lane.decided() == to)?;
            Some((to, lane.chain()))
        })
        .collect();
    while !chains.is_empty() {
        chains.retain_mut(|(to, chain)| {
            let next = chain.next().and_then(|batch| room.take(batch).map(|()| batch));
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
