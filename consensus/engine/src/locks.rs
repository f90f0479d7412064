//! Whoever locks a block shows those that precommit nil why.
//!
//! Termination (Tendermint, arXiv:1807.04938, lemma 7) needs that all correct validators learn within the round what made one
//! of them lock. Nobody relays votes here, so an attacker that sends its prevotes to one validator alone makes a lock of
//! which nobody else knows; the others then propose what its holder refuses, until it is the holder's turn, and by then
//! there may be the next lock. Malachite shows every lock to everybody, but only from its `HIDDEN_LOCK_ROUND` on, half a
//! minute into the height, because that is dear. This is cheap: a validator that precommits nil tells that it has not seen
//! the polka, and only such a one is sent it, once a lock. Nobody is sent more than it asked for by votes of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lockstep_core::certificate::{Vote, VoteType};
use lockstep_core::types::{Height, Round};
use malachitebft_app_channel::app::consensus::LivenessMsg;
use malachitebft_app_channel::app::types::core as mc;

use crate::context::{self, Context, ValidatorAddress};
use crate::network::PeerId;
use crate::signing::Verifier;
use crate::wire;
use crate::wire::certificates::PolkaCertificate;
use crate::wire::votes::VotesMessage;

type Place = (Height, Round);

/// This validator's newest lock, and who has not seen what made it. Shared by who publishes and who reads.
#[derive(Debug)]
pub(crate) struct Locks {
    verifier: Verifier,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<Lock>,
    /// Where each peer precommitted nil last. Whether the signature is right does not matter: the answer goes to the peer.
    nil: BTreeMap<PeerId, Place>,
}

#[derive(Debug)]
struct Lock {
    place: Place,
    /// The frame with the polka.
    polka: Bytes,
    shown: BTreeSet<PeerId>,
}

impl Locks {
    /// No lock yet. The verifier is consensus' own: it knows the prevotes.
    pub(crate) fn new(verifier: Verifier) -> Self {
        Self { verifier, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This validator publishes a vote of its own; the frames of class `Votes` that go out with it, and to whom.
    pub(crate) fn published(&self, signed: &mc::SignedVote<Context>) -> Vec<(PeerId, Bytes)> {
        let Some(vote) = signed.message.to_core() else { return Vec::new() };
        match vote.vote_type {
            VoteType::Prevote => {
                self.verifier.remember(&vote, signed.signature, signed.message.validator);
                Vec::new()
            }
            VoteType::Precommit => self.locked(&vote),
        }
    }

    fn locked(&self, vote: &Vote) -> Vec<(PeerId, Bytes)> {
        let place = (vote.height, vote.round);
        let mut state = self.state();
        if state.newest.as_ref().is_some_and(|lock| lock.place == place) {
            return Vec::new();
        }
        let Some(polka) = self.polka(vote) else { return Vec::new() };
        let asked = state.nil.iter().filter(|(_, nil)| **nil == place).map(|(peer, _)| *peer);
        let shown: BTreeSet<_> = asked.collect();
        let sent = shown.iter().map(|peer| (*peer, polka.clone())).collect();
        state.newest = Some(Lock { place, polka, shown });
        sent
    }

    /// The prevotes for what is precommitted; `None` for nil.
    fn polka(&self, precommit: &Vote) -> Option<Bytes> {
        let prevote = Vote { vote_type: VoteType::Prevote, ..*precommit };
        let signatures = self.verifier.remembered(&prevote).into_iter();
        let certificate = PolkaCertificate {
            height: precommit.height.into(),
            round: mc::Round::new(precommit.round.0),
            value_id: precommit.block?,
            polka_signatures: signatures
                .map(|(validator, signature)| {
                    mc::PolkaSignature::new(ValidatorAddress(validator), signature)
                })
                .collect(),
        };
        let message = VotesMessage::Liveness(LivenessMsg::PolkaCertificate(certificate));
        Some(wire::votes::encode(&message).expect("a polka of one round has an encoding"))
    }

    /// A peer's vote came; the frame of class `Votes` that is its answer.
    pub(crate) fn received(&self, from: PeerId, vote: &context::Vote) -> Option<Bytes> {
        let vote = vote.to_core()?;
        if vote.vote_type != VoteType::Precommit || vote.block.is_some() {
            return None;
        }
        let place = (vote.height, vote.round);
        let State { newest, nil } = &mut *self.state();
        nil.insert(from, place);
        let lock = newest.as_mut().filter(|lock| lock.place == place)?;
        lock.shown.insert(from).then(|| lock.polka.clone())
    }

    /// A peer is down.
    pub(crate) fn down(&self, peer: PeerId) {
        self.state().nil.remove(&peer);
    }
}

#[cfg(test)]
mod tests;
