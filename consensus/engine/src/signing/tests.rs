//! What is signed, what verifies, and what a refusal leaves behind.

use alloy_primitives::B256;
use lockstep_core::certificate::Vote as CoreVote;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::BlockHash;
use malachitebft_app_channel::app::engine::wal::Msg;
use malachitebft_app_channel::app::types::core as mc;
use ractor::Actor;

use super::*;
use crate::context::{Height, Value};
use crate::wal::fake;

const NETWORK: NetworkId = NetworkId(B256::repeat_byte(1));

struct Keyed {
    key: SigningKey,
    refuses: bool,
}

impl ConsensusSigner for Keyed {
    fn sign_vote(&self, vote: &CoreVote) -> Result<Signature, SignError> {
        if self.refuses {
            return Err(SignError::Refused("no".into()));
        }
        Ok(self.key.sign(vote.digest(NETWORK)))
    }

    fn sign_proposal(&self, proposal: &core_certificate::Proposal) -> Result<Signature, SignError> {
        Ok(self.key.sign(proposal.digest(NETWORK)))
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

fn adapter(refuses: bool) -> SignerAdapter {
    let (log, _) = fake::log();
    let signer = Arc::new(Keyed { key: key(), refuses });
    SignerAdapter { signer, failures: Failures::new(), log }
}

fn vote() -> Vote {
    Vote {
        height: Height(3),
        round: mc::Round::new(1),
        vote_type: mc::VoteType::Precommit,
        value: mc::NilOrVal::Nil,
        validator: ValidatorAddress(key().address()),
    }
}

fn proposal() -> Proposal {
    Proposal {
        height: Height(3),
        round: mc::Round::new(1),
        value: Value(BlockHash(B256::repeat_byte(2))),
        valid_round: mc::Round::Nil,
        validator: ValidatorAddress(key().address()),
    }
}

#[tokio::test]
async fn what_is_signed_verifies_for_this_validator_and_network_alone() {
    let adapter = adapter(false);
    let vote = adapter.sign_vote(vote()).await.unwrap();
    let me = ValidatorAddress(key().address());
    let other = ValidatorAddress(SigningKey::from_bytes([8; 32]).unwrap().address());
    let cases = [(NETWORK, me, true), (NETWORK, other, false), (NetworkId::ZERO, me, false)];
    for (network, validator, expected) in cases {
        let verifier = Verifier::new(network);
        let result = verifier.verify_signed_vote(&vote.message, &vote.signature, &validator).await;
        assert_eq!(result.unwrap().is_valid(), expected);
    }
    // Asked again, a verifier remembers who signed; it gives no other answer.
    let verifier = Verifier::new(NETWORK);
    for (validator, expected) in [(me, true), (other, false), (me, true)] {
        let result = verifier.verify_signed_vote(&vote.message, &vote.signature, &validator).await;
        assert_eq!(result.unwrap().is_valid(), expected);
    }
    let mut other_vote = vote.message;
    other_vote.vote_type = mc::VoteType::Prevote;
    let result = verifier.verify_signed_vote(&other_vote, &vote.signature, &me);
    assert!(result.await.unwrap().is_invalid());
}

#[tokio::test]
async fn proposal_verifies_and_garbage_does_not() {
    let adapter = adapter(false);
    let signed = adapter.sign_proposal(proposal()).await.unwrap();
    let me = ValidatorAddress(key().address());
    let verifier = Verifier::new(NETWORK);
    let valid = verifier.verify_signed_proposal(&signed.message, &signed.signature, &me).await;
    assert!(valid.unwrap().is_valid());
    for byte in [0, 1, 255] {
        let garbage = Signature([byte; 65]);
        let invalid = verifier.verify_signed_proposal(&signed.message, &garbage, &me).await;
        assert!(invalid.unwrap().is_invalid());
    }
}

#[tokio::test]
async fn refusal_is_on_record_before_malachite_hears_of_it() {
    let adapter = adapter(true);
    assert!(adapter.sign_vote(vote()).await.is_err());
    let failure = Failure::Signer(SignError::Refused("no".into()));
    assert_eq!(adapter.failures.first(), Some(failure));
}

#[tokio::test]
async fn signature_comes_after_what_led_to_it_is_synced_and_is_logged_at_once() {
    let (log, calls) = fake::log();
    let signer = Arc::new(Keyed { key: key(), refuses: false });
    let adapter = SignerAdapter { signer, failures: Failures::new(), log };
    let (log, _) = Actor::spawn(None, adapter.log.clone(), ()).await.unwrap();
    ractor::call!(log, Msg::StartedHeight, Height(3)).unwrap().unwrap();
    calls.lock().unwrap().clear();
    adapter.sign_proposal(proposal()).await.unwrap();
    adapter.sign_vote(vote()).await.unwrap();
    assert_eq!(*calls.lock().unwrap(), ["sync", "proposal", "sync"]);
    log.stop_and_wait(None, None).await.unwrap();
    assert_eq!(calls.lock().unwrap()[3..], ["vote", "sync"], "the next sync writes the last one");
}

#[tokio::test]
async fn log_that_fails_gives_no_signature() {
    // What was signed last may be ahead of the log: the signer has it.
    for (fails, signatures) in [("sync", 0), ("vote", 1)] {
        let log = fake::failing_log(fails);
        let signer = Arc::new(Keyed { key: key(), refuses: false });
        let adapter = SignerAdapter { signer, failures: Failures::new(), log };
        let (log, _) = Actor::spawn(None, adapter.log.clone(), ()).await.unwrap();
        let _ = ractor::call!(log, Msg::StartedHeight, Height(3)).unwrap();
        for _ in 0..signatures {
            adapter.sign_vote(vote()).await.unwrap();
        }
        assert!(adapter.sign_vote(vote()).await.is_err(), "{fails}");
        assert!(
            matches!(adapter.failures.first(), Some(Failure::Signer(SignError::Failed(_)))),
            "{fails}"
        );
    }
}

#[tokio::test]
async fn nothing_is_signed_when_the_logs_file_is_gone_or_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wal");
    std::fs::write(&path, "").unwrap();
    let signer = Arc::new(Keyed { key: key(), refuses: false });
    let log = fake::log_at(&path);
    let adapter = SignerAdapter { signer, failures: Failures::new(), log };
    adapter.sign_proposal(proposal()).await.unwrap();
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    assert!(adapter.sign_vote(vote()).await.unwrap_err().to_string().contains("is gone"));
    std::fs::write(&path, "").unwrap();
    assert!(adapter.sign_vote(vote()).await.is_err(), "it is another file");
}
