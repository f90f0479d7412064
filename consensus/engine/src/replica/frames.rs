//! Frames between validators, for whoever is no engine: the simulator's network and its attacker. The same bytes as the
//! engine's.

use alloy_primitives::Address;
use bytes::Bytes;
use lockstep_core::certificate::{Certificate, Vote, VoteType};
use lockstep_core::signing::Signature;
use lockstep_core::types::{Height, Round};
use malachitebft_app_channel::app::consensus::{LivenessMsg, SignedConsensusMsg};
use malachitebft_app_channel::app::engine::network::Status;
use malachitebft_app_channel::app::types::core as mc;
use malachitebft_sync::{RawDecidedValue, Request, Response, ValueRequest, ValueResponse};

use crate::app::{certificate_of, extended_certificate};
use crate::context::{self, ValidatorAddress};
use crate::inbox::ProposalTicket;
use crate::network::PeerId;
use crate::request::PartMessage;
use crate::wire::sync::SyncMessage;
use crate::wire::votes::VotesMessage;
use crate::wire::{self, WireError};

/// Why a frame was refused, or can't be made. Its sender is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFrame(WireError);

/// What a frame of class `Votes` says, as far as others than the core look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VotesFrame {
    /// A vote, and who signed it.
    Vote(Vote, Address, Signature),
    /// A proposal.
    Proposal(ProposalTicket),
    /// A polka certificate of this height and round.
    Polka(Height, Round),
    /// A round certificate of this height and round.
    Round(Height, Round),
    /// The sender's newest and oldest height.
    Status(Height, Height),
}

/// What a frame of class `Sync` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncFrame {
    /// Asks for these heights, the last one included.
    Request(Height, Height),
    /// The values from this height on, as many as are there.
    Response(Height, Vec<(Bytes, Certificate)>),
}

fn votes(message: &VotesMessage) -> Bytes {
    wire::votes::encode(message).expect("a single vote, proposal or status fits a frame")
}

/// A vote's frame.
#[must_use]
pub fn vote(vote: &Vote, validator: Address, signature: Signature) -> Bytes {
    let message = context::Vote {
        height: vote.height.into(),
        round: mc::Round::new(vote.round.0),
        vote_type: match vote.vote_type {
            VoteType::Prevote => mc::VoteType::Prevote,
            VoteType::Precommit => mc::VoteType::Precommit,
        },
        value: vote.block.map_or(mc::NilOrVal::Nil, mc::NilOrVal::Val),
        validator: ValidatorAddress(validator),
    };
    let signed = mc::SignedVote::new(message, signature);
    votes(&VotesMessage::Consensus(SignedConsensusMsg::Vote(signed)))
}

/// A proposal's frame.
#[must_use]
pub fn proposal(ticket: &ProposalTicket) -> Bytes {
    votes(&VotesMessage::Consensus(SignedConsensusMsg::Proposal(ticket.proposal.clone())))
}

/// A status' frame.
#[must_use]
pub fn status(tip: Height, oldest: Height) -> Bytes {
    votes(&VotesMessage::Status(Status::new(tip.into(), oldest.into())))
}

/// Reads a frame of class `Votes` that `from` sent.
///
/// # Errors
/// [`InvalidFrame`].
///
/// # Panics
/// Never: decoding refuses a vote without round.
pub fn read_votes(from: PeerId, frame: Bytes) -> Result<VotesFrame, InvalidFrame> {
    let at = |height: context::Height, round: mc::Round| {
        (height.into(), Round(round.as_u32().unwrap_or_default()))
    };
    Ok(match wire::votes::decode(frame).map_err(InvalidFrame)? {
        VotesMessage::Consensus(SignedConsensusMsg::Vote(signed))
        | VotesMessage::Liveness(LivenessMsg::Vote(signed)) => {
            let vote = signed.message.to_core().expect("decoding refuses a vote without round");
            VotesFrame::Vote(vote, signed.message.validator.0, signed.signature)
        }
        VotesMessage::Consensus(SignedConsensusMsg::Proposal(signed)) => {
            VotesFrame::Proposal(ProposalTicket { from, proposal: signed })
        }
        VotesMessage::Liveness(LivenessMsg::PolkaCertificate(certificate)) => {
            let (height, round) = at(certificate.height, certificate.round);
            VotesFrame::Polka(height, round)
        }
        VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(certificate)) => {
            let (height, round) = at(certificate.height, certificate.round);
            VotesFrame::Round(height, round)
        }
        VotesMessage::Status(status) => {
            VotesFrame::Status(status.tip_height.into(), status.history_min_height.into())
        }
    })
}

/// A part's frame.
///
/// # Errors
/// [`InvalidFrame`] if the part breaks a limit.
pub fn part(part: &PartMessage) -> Result<Bytes, InvalidFrame> {
    wire::parts::encode(part).map_err(InvalidFrame)
}

/// Reads a frame of class `Parts`.
///
/// # Errors
/// [`InvalidFrame`].
pub fn read_part(frame: Bytes) -> Result<PartMessage, InvalidFrame> {
    wire::parts::decode(frame).map_err(InvalidFrame)
}

/// A request's frame, for one height. `number` comes back with the answer.
///
/// # Errors
/// [`InvalidFrame`]; none with a height that can be decided.
pub fn value_request(number: u64, height: Height) -> Result<Bytes, InvalidFrame> {
    let request = Request::ValueRequest(ValueRequest::new(height.into()..=height.into()));
    wire::sync::encode_request(number, &request).map_err(InvalidFrame)
}

/// An answer's frame.
///
/// # Errors
/// [`InvalidFrame`] if the values are too long for one.
pub fn value_response(
    number: u64,
    first: Height,
    values: Vec<(Bytes, Certificate)>,
) -> Result<Bytes, InvalidFrame> {
    let raw =
        |(bytes, certificate)| RawDecidedValue::new(bytes, extended_certificate(&certificate));
    let response = ValueResponse::new(first.into(), values.into_iter().map(raw).collect());
    wire::sync::encode_response(number, &Response::ValueResponse(response)).map_err(InvalidFrame)
}

/// Reads a frame of class `Sync`: the request's number, and what it says.
///
/// # Errors
/// [`InvalidFrame`].
pub fn read_sync(frame: Bytes) -> Result<(u64, SyncFrame), InvalidFrame> {
    let (number, message) = wire::sync::decode(frame).map_err(InvalidFrame)?;
    let message = match message {
        SyncMessage::Request(Request::ValueRequest(request)) => {
            SyncFrame::Request((*request.range.start()).into(), (*request.range.end()).into())
        }
        SyncMessage::Response(response) => {
            let Response::ValueResponse(response) =
                wire::sync::response(&response).map_err(InvalidFrame)?;
            let values = response.values.into_iter();
            let values =
                values.map(|value| (value.value_bytes, certificate_of(&value.certificate)));
            SyncFrame::Response(response.start_height.into(), values.collect())
        }
    };
    Ok((number, message))
}
