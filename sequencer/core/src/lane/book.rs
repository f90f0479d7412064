//! Who acknowledged what: per lane and validator the last word, and what follows from it.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::batch::Acknowledged;
use crate::lane::Lane;
use crate::validator_set::ValidatorSet;

/// Validators that store a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledgers {
    /// Who, in ascending order.
    pub validators: Vec<Address>,
    /// Sum of their voting power.
    pub power: u64,
}

/// Per lane, the highest batch that each validator acknowledged. Bounded by the square of the set's size.
/// The set is the caller's, who knows the one in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckBook {
    lanes: BTreeMap<Address, BTreeMap<Address, Acknowledged>>,
}

impl AckBook {
    /// Notes what `validator` of `set` acknowledged; its signature was checked. Words of strangers, on strangers' lanes, and
    /// below an earlier word are passed over: the first word at a position stays. Returns whether anything is new.
    pub fn note(&mut self, set: &ValidatorSet, validator: Address, tips: &[Acknowledged]) -> bool {
        let mut is_new = false;
        if set.get(validator).is_none() {
            return is_new;
        }
        for tip in tips.iter().filter(|tip| set.get(tip.position.owner).is_some()) {
            let words = self.lanes.entry(tip.position.owner).or_default();
            let is_higher = words.get(&validator).is_none_or(|word| tip.position > word.position);
            if is_higher {
                words.insert(validator, *tip);
                is_new = true;
            }
        }
        is_new
    }

    /// The last word of `validator` on the lane of `owner`.
    #[must_use]
    pub fn last(&self, owner: Address, validator: Address) -> Option<&Acknowledged> {
        self.lanes.get(&owner)?.get(&validator)
    }

    /// Who of `set` acknowledged this very batch: whose word on its run names it, or a later batch that `lane` links to it. A
    /// word on a batch that the lane does not hold counts for nothing, because it may be on another branch.
    #[must_use]
    pub fn acknowledged_by(
        &self,
        set: &ValidatorSet,
        batch: &Acknowledged,
        lane: &Lane,
    ) -> Acknowledgers {
        let mut acknowledgers = Acknowledgers::default();
        let words = self.lanes.get(&batch.position.owner).into_iter().flatten();
        for (validator, word) in words {
            if let Some(member) = set.get(*validator)
                && is_linked(lane, batch, word)
            {
                acknowledgers.validators.push(*validator);
                acknowledgers.power = acknowledgers.power.saturating_add(member.power);
            }
        }
        acknowledgers
    }
}

/// Whether the chain of digests leads from `word` back to `batch`.
fn is_linked(lane: &Lane, batch: &Acknowledged, word: &Acknowledged) -> bool {
    let incarnation = batch.position.incarnation;
    if word.position.incarnation != incarnation || word.position.sequence < batch.position.sequence
    {
        return false;
    }
    let (mut sequence, mut digest) = (word.position.sequence, word.digest);
    while sequence > batch.position.sequence {
        match lane.get(incarnation, sequence) {
            Some(held) if held.digest() == digest => digest = held.header().parent,
            _ => return false,
        }
        sequence.0 = sequence.0.saturating_sub(1);
    }
    digest == batch.digest
}
