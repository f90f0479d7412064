//! Absence: a chain has no slice in a block, because its neighbours in the table stand side by side.

use alloy_primitives::B256;
use alloy_rlp::{RlpDecodable, RlpEncodable};

use super::{
    CertifiedHeader, ChainId, InvalidProof, NetworkId, SlicePlace, ValidatorSet, check_leaf,
};
use crate::encoding::Canonical;
use crate::merkle;
use crate::slice::SliceSummary;

/// A summary beside the place where an absent chain would stand.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Neighbour {
    /// The summary.
    pub summary: SliceSummary,
    /// Siblings from the leaf up.
    pub path: Vec<B256>,
}

/// A chain's absence from a table of `count` slices: it would stand at `place`, so the leaves `place − 1` and `place`,
/// as far as the table has them, are its neighbours. There are two of them inside the table, one at an end, and none
/// where the table is empty.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Absence {
    /// How many slices the table has.
    pub count: u32,
    /// How many of them are of lesser chains.
    pub place: u32,
    /// The leaf before the place, then the leaf at it.
    pub neighbours: Vec<Neighbour>,
}

impl Absence {
    /// The absence of `chain` from a block's table; `None` if the chain has a slice there.
    ///
    /// `summaries` are all of the block's, in ascending order of chain.
    #[must_use]
    pub fn build(summaries: &[SliceSummary], chain: ChainId) -> Option<Self> {
        let place = summaries.binary_search_by_key(&chain, |summary| summary.chain).err()?;
        let place = u32::try_from(place).ok()?;
        let neighbours = [place.checked_sub(1), Some(place)]
            .into_iter()
            .flatten()
            .filter_map(|index| SlicePlace::at(summaries, index))
            .map(|SlicePlace { summary, path, .. }| Neighbour { summary, path })
            .collect();
        Some(Self { count: u32::try_from(summaries.len()).ok()?, place, neighbours })
    }

    /// Checks that the table under `slices_root` has no slice of `chain`.
    ///
    /// # Errors
    /// [`InvalidProof`] if that is not shown.
    pub fn check(&self, slices_root: B256, chain: ChainId) -> Result<(), InvalidProof> {
        let Self { count, place, ref neighbours } = *self;
        let (left, right) = match (place, neighbours.as_slice()) {
            (0, []) if count == 0 => return check_empty(slices_root),
            (0, [right]) if count > 0 => (None, Some(right)),
            (_, [left]) if place > 0 && place == count => (Some(left), None),
            (_, [left, right]) if place > 0 && place < count => (Some(left), Some(right)),
            _ => return Err(self.malformed()),
        };
        if let Some(Neighbour { summary, path }) = left {
            let index = place.saturating_sub(1);
            check_leaf(slices_root, count, index, summary, path)?;
            if summary.chain >= chain {
                return Err(InvalidProof::Order { chain, neighbour: summary.chain });
            }
        }
        if let Some(Neighbour { summary, path }) = right {
            check_leaf(slices_root, count, place, summary, path)?;
            if summary.chain <= chain {
                return Err(InvalidProof::Order { chain, neighbour: summary.chain });
            }
        }
        Ok(())
    }

    fn malformed(&self) -> InvalidProof {
        let Self { count, place, .. } = *self;
        if place > count {
            return InvalidProof::Place { place, count };
        }
        let expected = usize::from(place > 0).saturating_add(usize::from(place < count));
        InvalidProof::Neighbours { expected, got: self.neighbours.len() }
    }
}

fn check_empty(slices_root: B256) -> Result<(), InvalidProof> {
    if slices_root == merkle::root_of_none() { Ok(()) } else { Err(InvalidProof::NotEmpty) }
}

/// Shows that a chain has no slice in a decided block.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct AbsenceProof {
    /// The block's header and certificate.
    pub block: CertifiedHeader,
    /// Why the chain is not in its table.
    pub absence: Absence,
}

impl Canonical for AbsenceProof {}

impl AbsenceProof {
    /// The proof for `chain` from all of the block's summaries, in ascending order of chain; `None` if the chain has
    /// a slice.
    #[must_use]
    pub fn build(
        block: CertifiedHeader,
        summaries: &[SliceSummary],
        chain: ChainId,
    ) -> Option<Self> {
        Some(Self { block, absence: Absence::build(summaries, chain)? })
    }

    /// Checks that `chain` has no slice in a block that `set` decided.
    ///
    /// # Errors
    /// [`InvalidProof`] if that is not shown.
    pub fn verify(
        &self,
        network: NetworkId,
        set: &ValidatorSet,
        chain: ChainId,
    ) -> Result<(), InvalidProof> {
        self.block.verify(network, set)?;
        self.check(chain)
    }

    /// Checks that `chain` has no slice under the proof's header, which is not looked at.
    ///
    /// # Errors
    /// [`InvalidProof`] if that is not shown.
    pub fn check(&self, chain: ChainId) -> Result<(), InvalidProof> {
        self.absence.check(self.block.header.slices_root, chain)
    }
}
