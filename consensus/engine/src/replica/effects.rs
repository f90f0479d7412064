//! The core's effects, as malachite's consensus actor carries them out.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "`carry_out` names every variant and gives each function its own"
)]

use std::future::Future;
use std::pin::pin;
use std::task::{self, Poll, Waker};

use lockstep_core::planted::{Bug, planted};
use lockstep_core::signing::Signature;
use lockstep_core::types::Round;
use malachite::{ConsensusMsg, LivenessMsg, Resumable as _, Resume};
use malachitebft_app_channel::Verifier as _;
use malachitebft_app_channel::app::consensus as malachite;
use malachitebft_app_channel::app::types::core as mc;
use malachitebft_signing::VerifierExt as _;
use mc::Timeouts as _;

use super::{Effect, Host, Shell, Syncing, Timer, encoded};
use crate::app::{core_certificate, core_evidence, core_round};
use crate::context::{Context, Proposal, ValidatorAddress, Vote};
use crate::signing::SignError;
use crate::wal::order::entry_of;
use crate::wire;
use crate::wire::votes::VotesMessage;

/// There is no answer to an effect; why is on record in the shell. The core fails for want of it, as in the engine.
#[derive(Debug)]
pub(super) struct Refused;

type Answer = Result<Resume<Context>, Refused>;
type Wanted = malachite::Effect<Context>;

/// The result of a future that waits for nothing.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut task::Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("the verifier waits for nothing"),
    }
}

impl Shell {
    /// Carries one effect out.
    pub(super) fn carry_out(&mut self, effect: Wanted, host: &mut dyn Host) -> Answer {
        match effect {
            Wanted::CancelAllTimeouts(r) => {
                host.carry_out(Effect::CancelTimers);
                Ok(r.resume_with(()))
            }
            Wanted::CancelTimeout(timeout, r) => {
                host.carry_out(Effect::CancelTimer(Timer::of_malachite(timeout)));
                Ok(r.resume_with(()))
            }
            Wanted::ScheduleTimeout(timeout, r) => {
                let after = self.timeouts.duration_for(timeout);
                host.carry_out(Effect::SetTimer(Timer::of_malachite(timeout), after));
                Ok(r.resume_with(()))
            }
            Wanted::SignVote(..) | Wanted::SignProposal(..) => self.sign(effect, host),
            Wanted::VerifySignature(..)
            | Wanted::VerifyCommitCertificate(..)
            | Wanted::VerifyExtendedCommitCertificate(..)
            | Wanted::VerifyPolkaCertificate(..)
            | Wanted::VerifyRoundCertificate(..) => Ok(self.verify(effect)),
            Wanted::PublishConsensusMsg(..)
            | Wanted::PublishLivenessMsg(..)
            | Wanted::RepublishVote(..)
            | Wanted::RepublishRoundCertificate(..)
            | Wanted::WalAppend(..) => Ok(self.publish(effect, host)),
            Wanted::StartRound(..)
            | Wanted::GetValue(..)
            | Wanted::RestreamProposal(..)
            | Wanted::Decide(..)
            | Wanted::Finalize(..)
            | Wanted::CertVerifiedSyncValue(..)
            | Wanted::CertRejectedSyncValue(..) => Ok(self.ask(effect, host)),
            Wanted::ExtendVote(.., r) => Ok(r.resume_with(None)),
            Wanted::VerifyVoteExtension(.., r) => Ok(r.resume_with(Ok(()))),
        }
    }

    fn sign(&mut self, effect: Wanted, host: &mut dyn Host) -> Answer {
        if self.order.must_sync_to_sign() && !planted(Bug::LogUnsynced) {
            host.carry_out(Effect::SyncLog);
            self.order.synced();
        }
        match effect {
            Wanted::SignVote(vote, r) => {
                let signature = self.signature(vote_signature(&vote, host))?;
                let signed = mc::SignedMessage::new(vote, signature);
                self.append_own(malachite::SignedConsensusMsg::Vote(signed.clone()), host);
                Ok(r.resume_with(signed))
            }
            Wanted::SignProposal(proposal, r) => {
                let signature = self.signature(proposal_signature(&proposal, host))?;
                let signed = mc::SignedMessage::new(proposal, signature);
                self.append_own(malachite::SignedConsensusMsg::Proposal(signed.clone()), host);
                Ok(r.resume_with(signed))
            }
            other => unreachable!("{other:?} is nothing to sign"),
        }
    }

    /// The signer's own way to the log, open during a replay, too.
    fn append_own(&mut self, message: malachite::SignedConsensusMsg<Context>, host: &mut dyn Host) {
        self.order.signed(message.clone());
        append(entry_of(message), host);
    }

    fn signature(&mut self, signed: Result<Signature, SignError>) -> Result<Signature, Refused> {
        signed.map_err(|error| {
            self.refused = Some(error);
            Refused
        })
    }

    fn verify(&self, effect: Wanted) -> Resume<Context> {
        match effect {
            Wanted::VerifyExtendedCommitCertificate(.., r) if planted(Bug::SyncUnverified) => {
                r.resume_with(Ok(()))
            }
            Wanted::VerifyCommitCertificate(.., r) if planted(Bug::SyncUnverified) => {
                r.resume_with(Ok(()))
            }
            Wanted::VerifySignature(message, key, r) => {
                r.resume_with(self.is_signed(&message.message, &message.signature, &key))
            }
            Wanted::VerifyCommitCertificate(certificate, set, thresholds, r) => {
                let verifying = self.verifier.verify_commit_certificate(
                    &Context,
                    &certificate,
                    &set,
                    thresholds,
                );
                r.resume_with(ready(verifying))
            }
            Wanted::VerifyExtendedCommitCertificate(certificate, set, thresholds, policy, r) => {
                let verifying = self.verifier.verify_extended_commit_certificate(
                    &Context,
                    &certificate,
                    &set,
                    thresholds,
                    policy,
                );
                r.resume_with(ready(verifying))
            }
            Wanted::VerifyPolkaCertificate(certificate, set, thresholds, r) => {
                let verifying = self.verifier.verify_polka_certificate(
                    &Context,
                    &certificate,
                    &set,
                    thresholds,
                );
                r.resume_with(ready(verifying))
            }
            Wanted::VerifyRoundCertificate(certificate, set, thresholds, r) => {
                let verifying = self.verifier.verify_round_certificate(
                    &Context,
                    &certificate,
                    &set,
                    thresholds,
                );
                r.resume_with(ready(verifying))
            }
            other => unreachable!("{other:?} is nothing to verify"),
        }
    }

    fn is_signed(
        &self,
        message: &ConsensusMsg<Context>,
        signature: &Signature,
        key: &ValidatorAddress,
    ) -> bool {
        let result = match message {
            ConsensusMsg::Vote(vote) => {
                ready(self.verifier.verify_signed_vote(vote, signature, key))
            }
            ConsensusMsg::Proposal(proposal) => {
                ready(self.verifier.verify_signed_proposal(proposal, signature, key))
            }
        };
        result.is_ok_and(|result| result.is_valid())
    }

    /// What goes to the log and to peers.
    fn publish(&mut self, effect: Wanted, host: &mut dyn Host) -> Resume<Context> {
        let (message, r) = match effect {
            Wanted::WalAppend(_, entry, r) => {
                if self.has_log() && self.order.must_append(&entry) {
                    append(entry, host);
                }
                return r.resume_with(());
            }
            Wanted::PublishConsensusMsg(message, r) => {
                self.sync_log(host);
                (VotesMessage::Consensus(message), r)
            }
            Wanted::PublishLivenessMsg(message, r) => (VotesMessage::Liveness(message), r),
            Wanted::RepublishVote(vote, r) => (VotesMessage::Liveness(LivenessMsg::Vote(vote)), r),
            Wanted::RepublishRoundCertificate(certificate, r) => {
                (VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(certificate)), r)
            }
            other => unreachable!("{other:?} is nothing to publish"),
        };
        if let Some(vote) = message.vote().filter(|_| !planted(Bug::LocksHidden)) {
            for (to, frame) in self.locks.published(vote) {
                host.carry_out(Effect::Send { to, frame });
            }
        }
        let frame = wire::votes::encode(&message).expect("what the core publishes has an encoding");
        host.carry_out(Effect::Broadcast(frame));
        r.resume_with(())
    }

    /// What the application is asked.
    fn ask(&mut self, effect: Wanted, host: &mut dyn Host) -> Resume<Context> {
        let (effect, r) = match effect {
            Wanted::StartRound(height, round, proposer, _, r) => {
                self.sync_log(host);
                let (height, round) = (height.into(), core_round(round));
                (Effect::RoundStarted { height, round, proposer: proposer.0 }, r)
            }
            Wanted::GetValue(height, round, timeout, r) => {
                let timeout = self.timeouts.duration_for(timeout);
                let (height, round) = (height.into(), core_round(round));
                (Effect::ValueRequested { height, round, timeout }, r)
            }
            Wanted::RestreamProposal(height, round, valid_round, proposer, block, r) => {
                let restream = Effect::RestreamRequested {
                    height: height.into(),
                    round: core_round(round),
                    valid_round: valid_round.as_u32().map(Round),
                    proposer: proposer.0,
                    block,
                };
                (restream, r)
            }
            Wanted::Decide(certificate, _, r) => {
                self.sync_log(host);
                (Effect::Decided(core_certificate(&certificate)), r)
            }
            Wanted::Finalize(certificate, _, evidence, r) => {
                (Effect::Finalized(core_certificate(&certificate), core_evidence(&evidence)), r)
            }
            Wanted::CertVerifiedSyncValue(response, proposer, r) => {
                (self.synced_value(response, proposer), r)
            }
            Wanted::CertRejectedSyncValue(_, height, _, r) => {
                (Effect::SyncRefused(height.into()), r)
            }
            other => unreachable!("{other:?} asks nothing"),
        };
        host.carry_out(effect);
        r.resume_with(())
    }

    fn synced_value(
        &mut self,
        response: mc::ValueResponse<Context>,
        proposer: ValidatorAddress,
    ) -> Effect {
        let mc::ValueResponse { value_bytes, certificate, .. } = response;
        let height = certificate.height.into();
        let syncing = Syncing { height, round: certificate.round, block: certificate.value_id };
        self.syncing = Some(syncing);
        let round = core_round(certificate.round);
        Effect::ValueSynced { height, round, proposer: proposer.0, bytes: value_bytes }
    }

    const fn has_log(&self) -> bool {
        self.is_voter && !self.is_replaying
    }

    fn sync_log(&mut self, host: &mut dyn Host) {
        let is_wanted = self.has_log() && self.order.must_sync_on_request();
        if is_wanted && !planted(Bug::LogUnsynced) {
            host.carry_out(Effect::SyncLog);
            self.order.synced();
        }
    }
}

fn append(entry: malachite::Input<Context>, host: &mut dyn Host) {
    let entry = encoded(entry).expect("the core logs only what has an encoding");
    host.carry_out(Effect::AppendLog(entry));
}

fn vote_signature(vote: &Vote, host: &mut dyn Host) -> Result<Signature, SignError> {
    host.sign_vote(&vote.to_core().expect("what is signed has a round"))
}

fn proposal_signature(proposal: &Proposal, host: &mut dyn Host) -> Result<Signature, SignError> {
    host.sign_proposal(&proposal.to_core().expect("what is signed has a round"))
}

/// More than two thirds are a quorum, and more than one third holds an honest validator.
pub(super) fn thresholds() -> mc::ThresholdParams {
    let all = mc::ThresholdParams::default();
    let quorum = if planted(Bug::ThirdIsQuorum) { all.honest } else { all.quorum };
    mc::ThresholdParams { quorum, ..all }
}
