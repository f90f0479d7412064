//! What a decided block means for the entries that were submitted here, and for this validator's lane. Pure.

use alloy_primitives::Address;
use lockstep_core::block::LeaveOut;
use lockstep_core::dedup::{self, Decision, Key};
use lockstep_core::entry::CheckedEntry;
use lockstep_core::types::{BlockHash, EntryId};

use crate::ledger::DecidedBlock;
use crate::tracker::{DropReason, EntryState};

/// Changes that a decided block makes.
#[derive(Debug, Default)]
pub struct Settled {
    /// Entries that reached an end.
    pub ended: Vec<(EntryId, EntryState)>,
    /// Entries of the own lane that the block had no room for, in the lane's order.
    pub carried: Vec<CheckedEntry>,
}

/// What a decided block does; `found` says where a key was decided within the dedup window, and in which block.
#[must_use]
pub fn settle(
    decided: &DecidedBlock,
    me: Address,
    found: impl Fn(&Key) -> Option<(Decision, BlockHash)>,
) -> Settled {
    let (height, block) = (decided.header.height, decided.header.hash());
    let entries = decided.entries();
    let mut settled = Settled::default();
    for taken in &decided.assembly.taken {
        if let Some(entry) = entries.at(&taken.batch, taken.entry) {
            let decision = Decision { height, index: taken.index };
            settled.ended.push((entry.entry().id(), EntryState::Decided { decision, block }));
        }
    }
    for left_out in &decided.assembly.left_out {
        let Some(entry) = entries.at(&left_out.batch, left_out.entry) else { continue };
        if left_out.reason.is_final() {
            let state = final_state(entry, left_out.reason, &found);
            settled.ended.push((entry.entry().id(), state));
        } else if left_out.batch.owner == me {
            settled.carried.push(entry.clone());
        }
    }
    settled
}

/// A duplicate of a decided entry is that decision, not a drop.
fn final_state(
    entry: &CheckedEntry,
    reason: LeaveOut,
    found: impl Fn(&Key) -> Option<(Decision, BlockHash)>,
) -> EntryState {
    let dropped = EntryState::Dropped(DropReason::LeftOut(reason));
    let LeaveOut::Duplicate { earlier } = reason else { return dropped };
    let mut all = dedup::keys(entry).map(|key| found(&key).filter(|(d, _)| *d == earlier));
    let Some((decision, block)) = all.next().flatten() else { return dropped };
    if all.all(|found| found.is_some()) { EntryState::Decided { decision, block } } else { dropped }
}
