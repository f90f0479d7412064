//! What the write-ahead log holds: votes, proposals, judged blocks and polka certificates.

use bytes::Bytes;
use lockstep_proto::v1 as proto;
use lockstep_proto::v1::wal_message::Message;
use malachitebft_app_channel::app::consensus::{ProposedValue, SignedConsensusMsg};
use malachitebft_app_channel::app::types::core::Validity;

use super::certificates::{self, PolkaCertificate};
use super::{WireError, address, block, copy, messages, round, round_number, valid_round};
use crate::context::{Context, Height, Value};
use crate::network::Class;

/// Bytes of one entry: none is longer than a frame of class `Votes`.
const ENTRY_BYTES_MAX: usize = Class::Votes.frame_bytes_max();

pub(crate) fn decode_message(bytes: Bytes) -> Result<SignedConsensusMsg<Context>, WireError> {
    let m: proto::WalMessage = super::decode(bytes, ENTRY_BYTES_MAX)?;
    match m.message.ok_or(WireError::Missing { field: "message" })? {
        Message::Vote(m) => messages::vote(&m).map(SignedConsensusMsg::Vote),
        Message::Proposal(m) => messages::proposal(&m).map(SignedConsensusMsg::Proposal),
    }
}

pub(crate) fn encode_message(m: &SignedConsensusMsg<Context>) -> Result<Bytes, WireError> {
    let message = match m {
        SignedConsensusMsg::Vote(m) => Message::Vote(messages::vote_message(m)?),
        SignedConsensusMsg::Proposal(m) => Message::Proposal(messages::proposal_message(m)?),
    };
    super::encode(&proto::WalMessage { message: Some(message) }, ENTRY_BYTES_MAX)
}

pub(crate) fn decode_block(bytes: Bytes) -> Result<ProposedValue<Context>, WireError> {
    let m: proto::WalProposedBlock = super::decode(bytes, ENTRY_BYTES_MAX)?;
    Ok(ProposedValue {
        height: Height(m.height),
        round: round("block.round", m.round)?,
        valid_round: valid_round("block.valid_round", m.valid_round)?,
        proposer: address("block.proposer", &m.proposer)?,
        value: Value(block("block.block", &m.block)?),
        validity: Validity::from_bool(m.is_valid),
    })
}

pub(crate) fn encode_block(m: &ProposedValue<Context>) -> Result<Bytes, WireError> {
    let m = proto::WalProposedBlock {
        height: m.height.0,
        round: round_number("block.round", m.round)?,
        valid_round: m.valid_round.as_u32(),
        proposer: copy(m.proposer.0.as_slice()),
        block: copy(m.value.0.0.as_slice()),
        is_valid: m.validity.is_valid(),
    };
    super::encode(&m, ENTRY_BYTES_MAX)
}

pub(crate) fn decode_polka(bytes: Bytes) -> Result<PolkaCertificate, WireError> {
    certificates::polka(&super::decode(bytes, ENTRY_BYTES_MAX)?)
}

pub(crate) fn encode_polka(m: &PolkaCertificate) -> Result<Bytes, WireError> {
    super::encode(&certificates::polka_message(m)?, ENTRY_BYTES_MAX)
}
