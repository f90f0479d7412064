//! One transaction's proof: its item in a slice, and the slice in a decided block.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{RlpDecodable, RlpEncodable};

use super::{CertifiedHeader, ChainId, InvalidProof, NetworkId, SlicePlace, ValidatorSet};
use crate::encoding::Canonical;
use crate::merkle;
use crate::slice::{Item, Slice, SliceSummary};

/// Shows that a transaction of a chain, loose or in a leg, is in a decided block, and where.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct TransactionProof {
    /// The block's header and certificate.
    pub block: CertifiedHeader,
    /// The slice's summary in the block's table.
    pub place: SlicePlace,
    /// The item that holds the transaction.
    pub item: Item,
    /// Place of the item in the slice, counted from 0.
    pub item_place: u32,
    /// Siblings from the item's leaf up.
    pub item_path: Vec<B256>,
}

impl Canonical for TransactionProof {}

impl TransactionProof {
    /// The proof for the first item of `slice` that holds the transaction with this hash; `None` if there is none, or
    /// if the slice is not in the block's table. `summaries` are all of the block's, in ascending order of chain.
    #[must_use]
    pub fn build(
        block: CertifiedHeader,
        summaries: &[SliceSummary],
        slice: &Slice,
        transaction: B256,
    ) -> Option<Self> {
        let place = SlicePlace::build(summaries, slice.chain)?;
        let found = slice.items.iter().position(|item| holds(item, transaction))?;
        let item = slice.items.get(found)?.clone();
        let item_place = u32::try_from(found).ok()?;
        let leaves: Vec<B256> = slice.items.iter().map(Item::leaf).collect();
        let item_path = merkle::proof(&leaves, item_place)?;
        Some(Self { block, place, item, item_place, item_path })
    }

    /// Checks that the transaction with this hash (keccak256 of its bytes) is in the slice of `chain` of a block that
    /// `set` decided.
    ///
    /// # Errors
    /// [`InvalidProof`] if that is not shown.
    pub fn verify(
        &self,
        network: NetworkId,
        set: &ValidatorSet,
        chain: ChainId,
        transaction: B256,
    ) -> Result<(), InvalidProof> {
        self.block.verify(network, set)?;
        self.check(chain, transaction)
    }

    /// The same under the proof's header, which is not looked at.
    ///
    /// # Errors
    /// [`InvalidProof`] if that is not shown.
    pub fn check(&self, chain: ChainId, transaction: B256) -> Result<(), InvalidProof> {
        self.place.check(self.block.header.slices_root, chain)?;
        let SliceSummary { root, items, .. } = self.place.summary;
        merkle::verify(root, items, self.item_place, self.item.leaf(), &self.item_path)?;
        if !holds(&self.item, transaction) {
            return Err(InvalidProof::NoTransaction { hash: transaction });
        }
        Ok(())
    }
}

fn holds(item: &Item, transaction: B256) -> bool {
    item.transactions().iter().any(|bytes| keccak256(bytes) == transaction)
}
