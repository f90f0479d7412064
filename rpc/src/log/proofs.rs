//! From what the node's log holds to what a client can verify.

use std::time::Instant;

use alloy_primitives::B256;
use lockstep_core::certificate::Certificate;
use lockstep_core::proof::{
    AbsenceProof, RangeBlock, RangeProof, SlicePresence, SliceProof, TransactionProof,
};
use lockstep_core::types::{ChainId, Height};
use lockstep_proto::convert::log::{ProvenSlice, SliceRange, SlicesQuery};
use lockstep_proto::error::Refusal;

use super::not_found;
use super::shared::SharedSlices;
use crate::limits::{RANGE_BUILD_TIMEOUT, RANGE_BYTES_TARGET};
use crate::node::{BlockSlices, FullBlock, Log};
use crate::reads::{internal, unreadable};
use crate::recent::Recent;

/// What the block at a height has of each chain.
pub(super) fn block_slices(log: &dyn Log, height: Height) -> Result<BlockSlices, Refusal> {
    log.slices(height)
        .map_err(unreadable)?
        .ok_or_else(|| not_found(log, "height", &format!("block {height}")))
}

/// The node's own data contradict one another.
pub(super) fn contradiction(height: Height) -> Refusal {
    internal("a proof cannot be built", &format!("summaries and slice of height {height} differ"))
}

/// A chain's slice with its proof, or the proof of its absence.
pub(super) fn slice(slices: &BlockSlices, chain: ChainId) -> Result<ProvenSlice, Refusal> {
    let (block, summaries) = (slices.block.clone(), &slices.summaries);
    let height = block.header.height;
    let proven = match slices.of(chain).cloned() {
        Some(slice) => SliceProof::build(block, summaries, chain)
            .map(|proof| ProvenSlice::Present { slice, proof }),
        None => AbsenceProof::build(block, summaries, chain).map(ProvenSlice::Absent),
    };
    proven.ok_or_else(|| contradiction(height))
}

/// As many heights of a range as one answer takes, at least one.
pub(super) fn range(
    log: &dyn Log,
    recent: &Recent<SharedSlices>,
    query: SlicesQuery,
) -> Result<SliceRange, Refusal> {
    let SlicesQuery { chain, from, to } = query;
    let (head, began) = (*log.heads().borrow(), Instant::now());
    if from > head {
        return Err(not_found(log, "from_height", &format!("block {from}")));
    }
    let to = to.min(head);
    let (mut blocks, mut bytes, mut height) = (Vec::new(), 0usize, from);
    let (certificate, next) = loop {
        let (block, certificate) = match recent.held(height) {
            Some(shared) => range_block(&shared.block, chain)?,
            None => range_block(&block_slices(log, height)?, chain)?,
        };
        bytes = bytes.saturating_add(alloy_rlp::Encodable::length(&block));
        blocks.push(block);
        if height >= to {
            break (certificate, None);
        }
        height = height.next();
        if bytes >= RANGE_BYTES_TARGET || began.elapsed() >= RANGE_BUILD_TIMEOUT {
            break (certificate, Some(height));
        }
    };
    let proof = RangeProof::build(blocks, certificate)
        .map_err(|error| internal("a range proof cannot be built", &error))?;
    Ok(SliceRange { proof, next })
}

fn range_block(slices: &BlockSlices, chain: ChainId) -> Result<(RangeBlock, Certificate), Refusal> {
    let BlockSlices { block, summaries, .. } = slices;
    let presence = SlicePresence::build(summaries, chain, slices.of(chain).cloned());
    let presence = presence.ok_or_else(|| contradiction(block.header.height))?;
    Ok((RangeBlock { header: block.header.clone(), presence }, block.certificate.clone()))
}

/// Where a transaction is, with the proof.
pub(super) fn transaction(
    log: &dyn Log,
    chain: ChainId,
    hash: B256,
) -> Result<TransactionProof, Refusal> {
    let located = log.locate(chain, hash).map_err(unreadable)?.ok_or_else(|| {
        not_found(log, "transaction_hash", &format!("transaction {hash} of chain {chain}"))
    })?;
    let height = located.decided.height;
    let slices = block_slices(log, height)?;
    slices
        .of(chain)
        .and_then(|slice| {
            TransactionProof::build(slices.block.clone(), &slices.summaries, slice, hash)
        })
        .ok_or_else(|| contradiction(height))
}

/// Everything a full node needs of one height.
pub(super) fn full_block(log: &dyn Log, height: Height) -> Result<FullBlock, Refusal> {
    log.full_block(height)
        .map_err(unreadable)?
        .ok_or_else(|| not_found(log, "from_height", &format!("block {height}")))
}
