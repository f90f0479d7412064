//! Proofs that a chain's slice is, or is not, in a decided log block; and that a transaction is in one.
//!
//! Every proof rests on a [`CertifiedHeader`]: the header's `slices_root` commits to one [`SliceSummary`] per chain
//! that has items, in ascending order of chain, and a summary commits to all items of its slice. So one path shows a
//! slice whole, and two neighbouring summaries show that nothing is between them.
//!
//! ```text
//! certificate ─► header ─► slices_root ─► summary of a chain ─► items
//! ```
//!
//! Each proof has two checks: `verify` takes the validator set of the header's height and trusts nothing else; `check`
//! is for a caller that knows the header to be decided, as a [`LightClient`](crate::light_client::LightClient) does.
//! What is proven (which chain, which transaction) is the caller's argument, never the proof's own claim.
//!
//! Building shares no code with checking but the hash functions. Source: design section 3.

use alloy_primitives::B256;
use alloy_rlp::{RlpDecodable, RlpEncodable};

use crate::encoding::Canonical;
use crate::limits::SLICE_RANGE_MAX;
use crate::merkle::{self, InvalidPath};
use crate::slice::{Slice, SliceSummary};
use crate::types::{BlockHash, ChainId, Height, NetworkId};
use crate::validator_set::ValidatorSet;

mod absence;
mod certified;
mod range;
mod transaction;

pub use absence::{Absence, AbsenceProof, Neighbour};
pub use certified::{CertifiedHeader, InvalidHeader};
pub use range::{RangeBlock, RangeProof, SlicePresence};
pub use transaction::TransactionProof;

/// Why a proof proves nothing. Whoever sent it is at fault; ask somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProof {
    /// The header is not shown to be decided.
    #[error("header: {0}")]
    Header(#[from] InvalidHeader),
    /// A path does not lead to its root.
    #[error("{0}")]
    Path(#[from] InvalidPath),
    /// It is about another chain.
    #[error("proof is about chain {got}, expected {expected}")]
    Chain {
        /// The chain asked for.
        expected: ChainId,
        /// The chain of the proof.
        got: ChainId,
    },
    /// A summary of no items: a chain without items has no place in the table.
    #[error("table has an empty slice of chain {chain}")]
    EmptySlice {
        /// The chain.
        chain: ChainId,
    },
    /// The items given are not those of the summary: some are missing, added, changed or in another order.
    #[error("slice is not the one of its summary: {got:?}, expected {expected:?}")]
    Summary {
        /// The block's summary.
        expected: SliceSummary,
        /// What the items give.
        got: SliceSummary,
    },
    /// Absence at a place that the table does not have.
    #[error("place {place} in a table of {count} slices")]
    Place {
        /// Where the chain would stand.
        place: u32,
        /// How many slices the table has.
        count: u32,
    },
    /// Not exactly the neighbours that the place has.
    #[error("absence has {got} neighbours, expected {expected}")]
    Neighbours {
        /// How many the place has.
        expected: usize,
        /// How many are given.
        got: usize,
    },
    /// The chain is not between its neighbours: the table is out of order, or has the chain.
    #[error("chain {chain} does not belong beside chain {neighbour}")]
    Order {
        /// The chain asked for.
        chain: ChainId,
        /// The chain at the neighbouring place.
        neighbour: ChainId,
    },
    /// A table without slices has another root.
    #[error("slices root is not that of an empty table")]
    NotEmpty,
    /// No heights, or more than [`SLICE_RANGE_MAX`].
    #[error("range has {count} heights, expected 1..={SLICE_RANGE_MAX}")]
    RangeLength {
        /// How many.
        count: usize,
    },
    /// The range begins elsewhere.
    #[error("range begins at height {got}, expected {expected}")]
    RangeStart {
        /// The first height asked for.
        expected: Height,
        /// The first height of the range.
        got: Height,
    },
    /// Two headers of a range do not follow one another.
    #[error("header {height} of the range does not follow the one before it")]
    Link {
        /// Height of the second one.
        height: Height,
    },
    /// The item does not hold the transaction.
    #[error("item does not hold transaction {hash}")]
    NoTransaction {
        /// The transaction asked for.
        hash: B256,
    },
}

/// A summary and its path to a block's `slices_root`.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct SlicePlace {
    /// The summary.
    pub summary: SliceSummary,
    /// Its place in the table, below `count`.
    pub index: u32,
    /// How many slices the table has.
    pub count: u32,
    /// Siblings from the leaf up.
    pub path: Vec<B256>,
}

impl SlicePlace {
    /// The place of `chain` in a block's table; `None` if the chain has no slice there.
    ///
    /// `summaries` are all of the block's, in ascending order of chain.
    #[must_use]
    pub fn build(summaries: &[SliceSummary], chain: ChainId) -> Option<Self> {
        let place = summaries.binary_search_by_key(&chain, |summary| summary.chain).ok()?;
        Self::at(summaries, u32::try_from(place).ok()?)
    }

    fn at(summaries: &[SliceSummary], index: u32) -> Option<Self> {
        let leaves: Vec<B256> = summaries.iter().map(SliceSummary::leaf).collect();
        let summary = *summaries.get(usize::try_from(index).ok()?)?;
        let count = u32::try_from(leaves.len()).ok()?;
        Some(Self { summary, index, count, path: merkle::proof(&leaves, index)? })
    }

    /// Checks that the table under `slices_root` has this summary, for `chain`, at this place.
    ///
    /// # Errors
    /// [`InvalidProof::Chain`] and [`InvalidProof::Path`].
    pub fn check(&self, slices_root: B256, chain: ChainId) -> Result<(), InvalidProof> {
        if self.summary.chain != chain {
            return Err(InvalidProof::Chain { expected: chain, got: self.summary.chain });
        }
        check_leaf(slices_root, self.count, self.index, &self.summary, &self.path)
    }
}

/// Checks that leaf `index` of the table of `count` slices under `slices_root` is this summary, and can be one.
fn check_leaf(
    slices_root: B256,
    count: u32,
    index: u32,
    summary: &SliceSummary,
    path: &[B256],
) -> Result<(), InvalidProof> {
    if summary.items == 0 {
        return Err(InvalidProof::EmptySlice { chain: summary.chain });
    }
    Ok(merkle::verify(slices_root, count, index, summary.leaf(), path)?)
}

/// Shows that a slice, whole, is a chain's slice of a decided block. The items travel beside it.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct SliceProof {
    /// The block's header and certificate.
    pub block: CertifiedHeader,
    /// The slice's summary in the block's table.
    pub place: SlicePlace,
}

impl Canonical for SliceProof {}

impl SliceProof {
    /// The proof for `chain` from all of the block's summaries, in ascending order of chain; `None` if the chain has
    /// no slice.
    #[must_use]
    pub fn build(
        block: CertifiedHeader,
        summaries: &[SliceSummary],
        chain: ChainId,
    ) -> Option<Self> {
        Some(Self { block, place: SlicePlace::build(summaries, chain)? })
    }

    /// Checks that `slice` is all of its chain in a block that `set` decided.
    ///
    /// # Errors
    /// [`InvalidProof`] if it is not shown to be.
    pub fn verify(
        &self,
        network: NetworkId,
        set: &ValidatorSet,
        slice: &Slice,
    ) -> Result<(), InvalidProof> {
        self.block.verify(network, set)?;
        self.check(slice)
    }

    /// Checks that `slice` is all of its chain under the proof's header, which is not looked at.
    ///
    /// # Errors
    /// [`InvalidProof::Summary`], [`InvalidProof::Chain`], [`InvalidProof::Path`].
    pub fn check(&self, slice: &Slice) -> Result<(), InvalidProof> {
        self.place.check(self.block.header.slices_root, slice.chain)?;
        let (expected, got) = (self.place.summary, slice.summary());
        if expected == got { Ok(()) } else { Err(InvalidProof::Summary { expected, got }) }
    }
}

#[cfg(test)]
pub(crate) mod fixtures;

#[cfg(test)]
mod tests;
