//! Frames of class `Votes`.

use bytes::Bytes;
use lockstep_proto::v1 as proto;
use lockstep_proto::v1::votes_frame::Message;
use malachitebft_app_channel::app::consensus::{LivenessMsg, SignedConsensusMsg};
use malachitebft_app_channel::app::engine::network::Status;
use malachitebft_app_channel::app::types::core::SignedVote;

use super::{WireError, certificates, messages};
use crate::context::{Context, Height};
use crate::network::Class;

/// What a frame of class `Votes` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VotesMessage {
    /// A vote or proposal, the first time.
    Consensus(SignedConsensusMsg<Context>),
    /// What is sent again or proves something, so that a round makes progress.
    Liveness(LivenessMsg<Context>),
    /// Which heights the sender can serve.
    Status(Status<Context>),
}

impl VotesMessage {
    /// The vote that it is.
    pub(crate) const fn vote(&self) -> Option<&SignedVote<Context>> {
        match self {
            Self::Consensus(SignedConsensusMsg::Vote(vote))
            | Self::Liveness(LivenessMsg::Vote(vote)) => Some(vote),
            Self::Consensus(_) | Self::Liveness(_) | Self::Status(_) => None,
        }
    }
}

pub(crate) fn decode(frame: Bytes) -> Result<VotesMessage, WireError> {
    let frame: proto::VotesFrame = super::decode(frame, Class::Votes.frame_bytes_max())?;
    let message = frame.message.ok_or(WireError::Missing { field: "message" })?;
    Ok(match message {
        Message::Vote(m) => VotesMessage::Consensus(SignedConsensusMsg::Vote(messages::vote(&m)?)),
        Message::Proposal(m) => {
            VotesMessage::Consensus(SignedConsensusMsg::Proposal(messages::proposal(&m)?))
        }
        Message::VoteAgain(m) => VotesMessage::Liveness(LivenessMsg::Vote(messages::vote(&m)?)),
        Message::Polka(m) => {
            VotesMessage::Liveness(LivenessMsg::PolkaCertificate(certificates::polka(&m)?))
        }
        Message::Round(m) => VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(
            certificates::round_certificate(&m)?,
        )),
        Message::Status(m) => VotesMessage::Status(Status::new(Height(m.tip), Height(m.oldest))),
    })
}

pub(crate) fn encode(message: &VotesMessage) -> Result<Bytes, WireError> {
    let message = match message {
        VotesMessage::Consensus(SignedConsensusMsg::Vote(m)) => {
            Message::Vote(messages::vote_message(m)?)
        }
        VotesMessage::Consensus(SignedConsensusMsg::Proposal(m)) => {
            Message::Proposal(messages::proposal_message(m)?)
        }
        VotesMessage::Liveness(LivenessMsg::Vote(m)) => {
            Message::VoteAgain(messages::vote_message(m)?)
        }
        VotesMessage::Liveness(LivenessMsg::PolkaCertificate(m)) => {
            Message::Polka(certificates::polka_message(m)?)
        }
        VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(m)) => {
            Message::Round(certificates::round_message(m)?)
        }
        VotesMessage::Status(m) => Message::Status(proto::PeerStatus {
            tip: m.tip_height.0,
            oldest: m.history_min_height.0,
        }),
    };
    let frame = proto::VotesFrame { message: Some(message) };
    super::encode(&frame, Class::Votes.frame_bytes_max())
}
