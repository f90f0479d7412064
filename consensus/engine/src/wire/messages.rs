//! Signed votes and proposals.

use lockstep_proto::v1 as proto;
use malachitebft_app_channel::app::types::core::{SignedProposal, SignedVote, VoteType};

use super::{
    WireError, address, block, copy, nil_or_block, nil_or_block_bytes, round, round_number,
    signature, valid_round,
};
use crate::context::{Context, Height, Proposal, Value, Vote};

pub(crate) fn vote_kind(field: &'static str, kind: i32) -> Result<VoteType, WireError> {
    match proto::VoteKind::try_from(kind) {
        Ok(proto::VoteKind::Prevote) => Ok(VoteType::Prevote),
        Ok(proto::VoteKind::Precommit) => Ok(VoteType::Precommit),
        Ok(proto::VoteKind::Unspecified) | Err(_) => {
            Err(WireError::Range { field, got: u64::from(kind.unsigned_abs()) })
        }
    }
}

pub(crate) fn vote_kind_number(kind: VoteType) -> i32 {
    match kind {
        VoteType::Prevote => proto::VoteKind::Prevote.into(),
        VoteType::Precommit => proto::VoteKind::Precommit.into(),
    }
}

pub(crate) fn vote(m: &proto::SignedVote) -> Result<SignedVote<Context>, WireError> {
    let vote = Vote {
        height: Height(m.height),
        round: round("vote.round", m.round)?,
        vote_type: vote_kind("vote.kind", m.kind)?,
        value: nil_or_block("vote.block", &m.block)?,
        validator: address("vote.validator", &m.validator)?,
    };
    Ok(SignedVote::new(vote, signature("vote.signature", &m.signature)?))
}

pub(crate) fn vote_message(m: &SignedVote<Context>) -> Result<proto::SignedVote, WireError> {
    let vote = &m.message;
    Ok(proto::SignedVote {
        height: vote.height.0,
        round: round_number("vote.round", vote.round)?,
        kind: vote_kind_number(vote.vote_type),
        block: nil_or_block_bytes(&vote.value),
        validator: copy(vote.validator.0.as_slice()),
        signature: copy(&m.signature.0),
    })
}

pub(crate) fn proposal(m: &proto::SignedProposal) -> Result<SignedProposal<Context>, WireError> {
    let proposal = Proposal {
        height: Height(m.height),
        round: round("proposal.round", m.round)?,
        value: Value(block("proposal.block", &m.block)?),
        valid_round: valid_round("proposal.valid_round", m.valid_round)?,
        validator: address("proposal.validator", &m.validator)?,
    };
    Ok(SignedProposal::new(proposal, signature("proposal.signature", &m.signature)?))
}

pub(crate) fn proposal_message(
    m: &SignedProposal<Context>,
) -> Result<proto::SignedProposal, WireError> {
    let proposal = &m.message;
    Ok(proto::SignedProposal {
        height: proposal.height.0,
        round: round_number("proposal.round", proposal.round)?,
        valid_round: proposal.valid_round.as_u32(),
        block: copy(proposal.value.0.0.as_slice()),
        validator: copy(proposal.validator.0.as_slice()),
        signature: copy(&m.signature.0),
    })
}
