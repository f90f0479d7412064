//! One height's slices, and the messages made of them so far, for all streams and calls that want the height.

use lockstep_core::slice::SliceSummary;
use lockstep_core::types::{ChainId, Height};
use lockstep_proto::error::Refusal;
use lockstep_proto::v1;
use tokio::sync::OnceCell;

use super::{LogService, proofs};
use crate::node::{BlockSlices, Log};
use crate::quota::Client;
use crate::reads::off_runtime;

/// The slices of a decided block, and messages of them.
#[derive(Debug)]
pub(super) struct SharedSlices {
    pub(super) block: BlockSlices,
    /// For each slice the message without it, then the one with it, and at last the one behind all. A chain without a
    /// slice is sent its neighbours in the table, so all chains between two others have one message, but for their ids.
    messages: Vec<OnceCell<v1::ProvenSlice>>,
}

impl SharedSlices {
    /// Reads them, with the bytes that they take.
    pub(super) fn read(log: &dyn Log, height: Height) -> Result<(Self, usize), Refusal> {
        let block = proofs::block_slices(log, height)?;
        let count = block.slices.len().saturating_mul(2).saturating_add(1);
        let messages: Vec<_> = std::iter::repeat_with(OnceCell::new).take(count).collect();
        let bytes = block.bytes().saturating_add(size_of_val(messages.as_slice()));
        Ok((Self { block, messages }, bytes))
    }
}

/// Where a chain's message is.
fn place(summaries: &[SliceSummary], chain: ChainId) -> usize {
    match summaries.binary_search_by_key(&chain, |summary| summary.chain) {
        Ok(place) => place.saturating_mul(2).saturating_add(1),
        Err(place) => place.saturating_mul(2),
    }
}

impl LogService {
    /// A chain's slice of a height, with its proof.
    pub(super) async fn proven_slice(
        &self,
        client: Client,
        chain: ChainId,
        height: Height,
    ) -> Result<v1::ProvenSlice, Refusal> {
        let Some(shared) = self.slices.get(height).await? else {
            let read = move |log: &dyn Log| {
                Ok(proofs::slice(&proofs::block_slices(log, height)?, chain)?.to_v1(chain))
            };
            return self.reads.read(client, read).await;
        };
        let make = || {
            let (shared, slices) = (shared.clone(), self.slices.clone());
            off_runtime(move || {
                let message = proofs::slice(&shared.block, chain)?.to_v1(chain);
                slices.grow(height, message.slice.len().saturating_add(message.proof.len()));
                Ok(message)
            })
        };
        let cell = shared.messages.get(place(&shared.block.summaries, chain));
        let cell = cell.ok_or_else(|| proofs::contradiction(height))?;
        let message = cell.get_or_try_init(make).await?;
        Ok(v1::ProvenSlice { chain_id: chain.0, ..message.clone() })
    }

    /// All that a full node needs of a height.
    pub(super) async fn full_block(
        &self,
        client: Client,
        height: Height,
    ) -> Result<v1::FullBlock, Refusal> {
        match self.full_blocks.get(height).await? {
            Some(block) => Ok(v1::FullBlock::clone(&block)),
            None => self.reads.read(client, move |log| Ok(full_block(log, height)?.0)).await,
        }
    }
}

/// A height's full block as it is sent, with the bytes that it takes.
pub(super) fn full_block(log: &dyn Log, height: Height) -> Result<(v1::FullBlock, usize), Refusal> {
    let block = v1::FullBlock::from(&proofs::full_block(log, height)?);
    let bytes = block.synced_value.len().saturating_add(block.certificate.len());
    Ok((block, bytes))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    #[test]
    fn chains_between_the_same_two_have_one_message_and_each_slice_has_its_own() {
        let summary =
            |id| SliceSummary { chain: ChainId(id), root: B256::ZERO, items: 1, bytes: 1 };
        let summaries = [summary(10), summary(20)];
        let places = [1, 9, 10, 11, 19, 20, 21, 99].map(|id| place(&summaries, ChainId(id)));
        assert_eq!(places, [0, 0, 1, 2, 2, 3, 4, 4]);
        assert_eq!(place(&[], ChainId(1)), 0);
    }
}
