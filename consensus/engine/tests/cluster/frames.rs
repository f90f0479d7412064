//! Frames of a validator that does not run, as it would send them.

use alloy_primitives::Address;
use bytes::Bytes;
use lockstep_core::certificate::Proposal;
use lockstep_core::signing::SigningKey;
use lockstep_proto::v1 as proto;
use lockstep_proto::v1::parts_frame::Content;
use lockstep_proto::v1::votes_frame;
use prost::Message as _;

use crate::app::NETWORK;

fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A signed proposal.
pub(crate) fn proposal(proposal: Proposal, key: &SigningKey) -> Vec<u8> {
    let message = votes_frame::Message::Proposal(proto::SignedProposal {
        height: proposal.height.0,
        round: proposal.round.0,
        valid_round: proposal.valid_round.map(|round| round.0),
        block: copy(proposal.block.0.as_slice()),
        validator: copy(key.address().as_slice()),
        signature: copy(&key.sign(proposal.digest(NETWORK)).0),
    });
    proto::VotesFrame { message: Some(message) }.encode_to_vec()
}

/// All parts of a proposal. The test's application looks at no signature of a first part.
pub(crate) fn parts(proposal: Proposal, proposer: Address, data: Vec<u8>) -> Vec<Vec<u8>> {
    let first = proto::FirstPart {
        height: proposal.height.0,
        round: proposal.round.0,
        valid_round: proposal.valid_round.map(|round| round.0),
        proposer: copy(proposer.as_slice()),
        block: copy(proposal.block.0.as_slice()),
        bytes_total: data.len() as u64,
        signature: copy(&[0; 65]),
    };
    let contents =
        [Content::First(first), Content::Data(data.into()), Content::Last(proto::LastPart {})];
    let stream = copy(proposal.block.0.as_slice());
    let frame = |(sequence, content)| proto::PartsFrame {
        stream: stream.clone(),
        sequence,
        content: Some(content),
    };
    (0..).zip(contents).map(frame).map(|frame| frame.encode_to_vec()).collect()
}
