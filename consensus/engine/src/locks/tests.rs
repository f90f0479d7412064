//! Who is shown a lock's polka, and when.

use alloy_primitives::B256;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{BlockHash, NetworkId};
use malachitebft_app_channel::Verifier as _;

use super::*;

const NETWORK: NetworkId = NetworkId(B256::repeat_byte(1));
const BLOCK: BlockHash = BlockHash(B256::repeat_byte(7));

fn peer(byte: u8) -> PeerId {
    PeerId::from_bytes(&[0, 1, byte]).unwrap()
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes([byte; 32]).unwrap()
}

fn vote(
    by: u8,
    round: u32,
    vote_type: VoteType,
    block: Option<BlockHash>,
) -> mc::SignedVote<Context> {
    let of = Vote { height: Height(3), round: Round(round), vote_type, block };
    let message = context::Vote {
        height: of.height.into(),
        round: mc::Round::new(round),
        vote_type: match vote_type {
            VoteType::Prevote => mc::VoteType::Prevote,
            VoteType::Precommit => mc::VoteType::Precommit,
        },
        value: block.map_or(mc::NilOrVal::Nil, mc::NilOrVal::Val),
        validator: ValidatorAddress(key(by).address()),
    };
    mc::SignedVote::new(message, key(by).sign(of.digest(NETWORK)))
}

fn nil(by: u8, round: u32) -> context::Vote {
    vote(by, round, VoteType::Precommit, None).message
}

/// Validator 1, which has seen the prevotes of 2 and 3 beside its own in round 0, and one of 4 that it did not sign.
async fn polka_seen() -> Locks {
    let verifier = Verifier::new(NETWORK);
    let locks = Locks::new(verifier.clone());
    assert_eq!(locks.published(&vote(1, 0, VoteType::Prevote, Some(BLOCK))), []);
    let other = BlockHash(B256::repeat_byte(8));
    for (by, signer, block, is_valid) in
        [(2, 2, BLOCK, true), (3, 3, BLOCK, true), (4, 9, BLOCK, false), (4, 4, other, true)]
    {
        let mut signed = vote(signer, 0, VoteType::Prevote, Some(block));
        signed.message.validator = ValidatorAddress(key(by).address());
        let validator = signed.message.validator;
        let result = verifier.verify_signed_vote(&signed.message, &signed.signature, &validator);
        assert_eq!(result.await.unwrap().is_valid(), is_valid);
    }
    locks
}

/// The validators whose prevotes a frame shows.
fn shown(frame: Bytes) -> Vec<alloy_primitives::Address> {
    let VotesMessage::Liveness(LivenessMsg::PolkaCertificate(polka)) =
        wire::votes::decode(frame).unwrap()
    else {
        panic!("another message")
    };
    assert_eq!((polka.height, polka.round), (context::Height(3), mc::Round::new(0)));
    assert_eq!(polka.value_id, BLOCK);
    for signature in &polka.polka_signatures {
        let prevote = Vote {
            height: Height(3),
            round: Round(0),
            vote_type: VoteType::Prevote,
            block: Some(BLOCK),
        };
        let signer = lockstep_core::signing::recover(prevote.digest(NETWORK), &signature.signature);
        assert_eq!(signer, Ok(signature.address.0));
    }
    polka.polka_signatures.iter().map(|signature| signature.address.0).collect()
}

fn those_of_1_to_3() -> Vec<alloy_primitives::Address> {
    let mut all: Vec<_> = (1..=3).map(|by| key(by).address()).collect();
    all.sort();
    all
}

#[tokio::test]
async fn whoever_precommits_nil_where_we_lock_is_shown_the_valid_prevotes_whoever_comes_first() {
    let locks = polka_seen().await;
    assert_eq!(locks.received(peer(2), &nil(2, 0)), None, "nothing is locked");
    assert_eq!(locks.received(peer(4), &nil(4, 1)), None, "another round");
    let lock = vote(1, 0, VoteType::Precommit, Some(BLOCK));
    let sent = locks.published(&lock);
    let to: Vec<_> = sent.iter().map(|(peer, _)| *peer).collect();
    assert_eq!(to, [peer(2)]);
    assert_eq!(shown(sent[0].1.clone()), those_of_1_to_3());
    let later = locks.received(peer(3), &nil(3, 0)).expect("it comes after the lock");
    assert_eq!(shown(later), those_of_1_to_3());
}

#[tokio::test]
async fn nobody_is_shown_a_lock_twice_nor_without_asking() {
    let locks = polka_seen().await;
    let lock = vote(1, 0, VoteType::Precommit, Some(BLOCK));
    assert_eq!(locks.published(&lock), []);
    assert!(locks.received(peer(2), &nil(2, 0)).is_some());
    assert_eq!(locks.received(peer(2), &nil(2, 0)), None, "it has seen it");
    assert_eq!(locks.published(&lock), [], "a vote that is published again makes no new lock");
    for (round, vote_type, block) in [
        (0, VoteType::Precommit, Some(BLOCK)),
        (0, VoteType::Prevote, None),
        (1, VoteType::Precommit, None),
    ] {
        let vote = vote(3, round, vote_type, block).message;
        assert_eq!(locks.received(peer(3), &vote), None, "{vote:?}");
    }
    assert!(locks.received(peer(3), &nil(3, 0)).is_some(), "its vote of round 0 counts still");
}

#[tokio::test]
async fn own_nil_is_no_lock_and_a_peer_that_went_down_is_forgotten() {
    let locks = polka_seen().await;
    locks.received(peer(2), &nil(2, 0));
    assert_eq!(locks.published(&vote(1, 0, VoteType::Precommit, None)), []);
    locks.down(peer(2));
    assert_eq!(locks.published(&vote(1, 0, VoteType::Precommit, Some(BLOCK))), []);
}
