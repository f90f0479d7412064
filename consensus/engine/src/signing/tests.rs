//! What is signed, what verifies, and what a refusal leaves behind.

use std::sync::Mutex;

use alloy_primitives::B256;
use lockstep_core::certificate::Vote as CoreVote;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::BlockHash;
use malachitebft_app_channel::app::types::core as mc;

use super::*;
use crate::context::{Height, Value};

const NETWORK: NetworkId = NetworkId(B256::repeat_byte(1));

struct Keyed {
    key: SigningKey,
    refuses: bool,
    signed: Mutex<Vec<CoreVote>>,
}

#[async_trait]
impl ConsensusSigner for Keyed {
    async fn sign_vote(&self, vote: &CoreVote) -> Result<Signature, SignError> {
        if self.refuses {
            return Err(SignError::Refused("no".into()));
        }
        self.signed.lock().unwrap().push(*vote);
        Ok(self.key.sign(vote.digest(NETWORK)))
    }

    async fn sign_proposal(
        &self,
        proposal: &core_certificate::Proposal,
    ) -> Result<Signature, SignError> {
        Ok(self.key.sign(proposal.digest(NETWORK)))
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

fn adapter(refuses: bool, wal_path: PathBuf) -> SignerAdapter {
    SignerAdapter {
        signer: Arc::new(Keyed { key: key(), refuses, signed: Mutex::default() }),
        failures: Failures::new(),
        unsynced: Unsynced::default(),
        wal_path,
    }
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
    let adapter = adapter(false, PathBuf::from("/none"));
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
    let adapter = adapter(false, PathBuf::from("/none"));
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
    let adapter = adapter(true, PathBuf::from("/none"));
    assert!(adapter.sign_vote(vote()).await.is_err());
    let failure = Failure::Signer(SignError::Refused("no".into()));
    assert_eq!(adapter.failures.first(), Some(failure));
}

#[tokio::test]
async fn second_signature_before_a_publication_syncs_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let missing = adapter(false, folder.path().join("wal"));
    missing.sign_proposal(proposal()).await.unwrap();
    // There is no log to sync, which shows that it is tried.
    assert!(missing.sign_vote(vote()).await.is_err());
    assert!(matches!(missing.failures.first(), Some(Failure::Signer(SignError::Failed(_)))));

    let published = adapter(false, folder.path().join("wal"));
    published.sign_proposal(proposal()).await.unwrap();
    published.unsynced.clear();
    published.sign_vote(vote()).await.unwrap();

    std::fs::write(folder.path().join("wal"), "").unwrap();
    let present = adapter(false, folder.path().join("wal"));
    present.sign_proposal(proposal()).await.unwrap();
    present.sign_vote(vote()).await.unwrap();
}
