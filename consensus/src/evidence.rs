//! Evidence of equivocation as bytes that any third party can check: two messages of one validator and its signatures.
//!
//! RLP `[validator, kind, [fields, signature], [fields, signature]]`; kind 1 is two votes with fields `[height, round,
//! vote type, block]`, 2 two proposals with `[height, round, valid round + 1 or 0, block]`; a nil block is 32 zero bytes.

use alloy_primitives::{Address, Bytes};
use alloy_rlp::{Encodable, RlpEncodable};
use lockstep_core::certificate::{Proposal, Vote, VoteType};
use lockstep_core::signing::Signature;
use lockstep_core::types::{BlockHash, Height, Round};
use lockstep_engine::Evidence;

#[derive(RlpEncodable)]
struct Signed {
    height: Height,
    round: Round,
    third: u32,
    block: BlockHash,
    signature: Signature,
}

#[derive(RlpEncodable)]
struct Pair {
    validator: Address,
    kind: u8,
    first: Signed,
    second: Signed,
}

fn vote((vote, signature): &(Vote, Signature)) -> Signed {
    let third = match vote.vote_type {
        VoteType::Prevote => 1,
        VoteType::Precommit => 2,
    };
    let block = vote.block.unwrap_or(BlockHash::ZERO);
    Signed { height: vote.height, round: vote.round, third, block, signature: *signature }
}

fn proposal((proposal, signature): &(Proposal, Signature)) -> Signed {
    let third = proposal.valid_round.map_or(0, |round| round.0.saturating_add(1));
    let Proposal { height, round, block, .. } = *proposal;
    Signed { height, round, third, block, signature: *signature }
}

/// The evidence's bytes, as the store keeps them.
#[must_use]
pub fn encode(evidence: &Evidence) -> Bytes {
    let pair = match evidence {
        Evidence::Votes { validator, first, second } => {
            Pair { validator: *validator, kind: 1, first: vote(first), second: vote(second) }
        }
        Evidence::Proposals { validator, first, second } => Pair {
            validator: *validator,
            kind: 2,
            first: proposal(first),
            second: proposal(second),
        },
    };
    let mut out = Vec::with_capacity(pair.length());
    pair.encode(&mut out);
    out.into()
}
