//! What a peer's votes must be before consensus sees them.
//!
//! | comes | passes if |
//! |---|---|
//! | a vote | its sender is that validator, and signed it |
//! | a certificate | each of its signatures is that validator's |
//! | a proposal | always: the application looks at it |
//! | a status | always |
//!
//! The mesh is full, so a vote comes first-hand or not at all, and nobody but its signer can be blamed for it. Consensus'
//! one actor would check the signature of every vote, also of a thousand that one peer made up; here each is checked once
//! (what is found right is remembered for consensus), and who sends a wrong one is disconnected. Whether a validator is one
//! of the height's set, and whether there are enough, consensus knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::Address;
use bytes::Bytes;
use lockstep_core::certificate as core_certificate;
use lockstep_core::signing::Signature;
use malachitebft_app_channel::app::consensus::LivenessMsg;
use malachitebft_app_channel::app::types::core::{NilOrVal, VoteType};

use crate::context::{ValidatorAddress, Vote};
use crate::network::PeerId;
use crate::signing::Verifier;
use crate::wire::votes::VotesMessage;
use crate::wire::{self, WireError};

/// The validators behind the peers.
pub type Peers = Arc<BTreeMap<PeerId, Address>>;

/// What no honest peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it sends a vote of validator {of}, which is not its own")]
    SecondHand { of: Address },
    #[error("it sends a signature that is not validator {of}'s")]
    Signature { of: Address },
}

/// Why a frame's sender is disconnected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unread {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Looks at votes before consensus does.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    peers: Peers,
    verifier: Verifier,
}

impl Gate {
    /// The verifier is consensus' own: it remembers what was found right.
    pub(crate) const fn new(peers: Peers, verifier: Verifier) -> Self {
        Self { peers, verifier }
    }

    /// What a frame holds that may pass.
    pub(crate) fn read(&self, from: PeerId, frame: Bytes) -> Result<VotesMessage, Unread> {
        let message = wire::votes::decode(frame)?;
        self.check(from, &message)?;
        Ok(message)
    }

    /// Whether a message of this peer may pass.
    pub(crate) fn check(&self, from: PeerId, message: &VotesMessage) -> Result<(), Refused> {
        if let Some(vote) = message.vote() {
            let of = vote.message.validator;
            if self.peers.get(&from) != Some(&of.0) {
                return Err(Refused::SecondHand { of: of.0 });
            }
            return self.check_signature(vote.message.to_core(), &vote.signature, of);
        }
        match message {
            VotesMessage::Liveness(LivenessMsg::PolkaCertificate(polka)) => {
                let (height, round) = (polka.height, polka.round);
                let (vote_type, value) = (VoteType::Prevote, NilOrVal::Val(polka.value_id));
                polka.polka_signatures.iter().try_for_each(|by| {
                    let validator = by.address;
                    let vote = Vote { height, round, vote_type, value, validator };
                    self.check_signature(vote.to_core(), &by.signature, validator)
                })
            }
            VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(rounds)) => {
                let (height, round) = (rounds.height, rounds.round);
                rounds.round_signatures.iter().try_for_each(|by| {
                    let (vote_type, value, validator) = (by.vote_type, by.value_id, by.address);
                    let vote = Vote { height, round, vote_type, value, validator };
                    self.check_signature(vote.to_core(), &by.signature, validator)
                })
            }
            VotesMessage::Consensus(_) | VotesMessage::Liveness(_) | VotesMessage::Status(_) => {
                Ok(())
            }
        }
    }

    fn check_signature(
        &self,
        vote: Option<core_certificate::Vote>,
        signature: &Signature,
        by: ValidatorAddress,
    ) -> Result<(), Refused> {
        match vote {
            Some(vote) if self.verifier.is_vote_of(&vote, signature, by) => Ok(()),
            Some(_) | None => Err(Refused::Signature { of: by.0 }),
        }
    }
}

/// How many signatures a message has beyond the first.
pub(crate) fn more_signatures(message: &VotesMessage) -> usize {
    let count = match message {
        VotesMessage::Liveness(LivenessMsg::PolkaCertificate(polka)) => {
            polka.polka_signatures.len()
        }
        VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(rounds)) => {
            rounds.round_signatures.len()
        }
        VotesMessage::Consensus(_) | VotesMessage::Liveness(_) | VotesMessage::Status(_) => 0,
    };
    count.saturating_sub(1)
}

#[cfg(test)]
mod tests;
