//! Whose votes and certificates pass.

use alloy_primitives::B256;
use lockstep_core::certificate::{Vote as CoreVote, VoteType as CoreVoteType};
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{BlockHash, Height, NetworkId, Round};
use malachitebft_app_channel::app::consensus::SignedConsensusMsg;
use malachitebft_app_channel::app::types::core as mc;

use super::*;
use crate::context::Context;
use crate::wire::certificates::{PolkaCertificate, RoundCertificate};

const NETWORK: NetworkId = NetworkId(B256::repeat_byte(1));
const BLOCK: BlockHash = BlockHash(B256::repeat_byte(7));

fn peer(byte: u8) -> PeerId {
    PeerId::from_bytes(&[0, 1, byte]).unwrap()
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes([byte; 32]).unwrap()
}

fn of(byte: u8) -> ValidatorAddress {
    ValidatorAddress(key(byte).address())
}

/// Peers 1 to 4 are validators 1 to 4.
fn gate() -> Gate {
    let peers = (1..=4).map(|byte| (peer(byte), key(byte).address())).collect();
    Gate::new(Arc::new(peers), Verifier::new(NETWORK))
}

fn prevote(signer: u8, network: NetworkId) -> Signature {
    let (height, round, vote_type) = (Height(3), Round(1), CoreVoteType::Prevote);
    let vote = CoreVote { height, round, vote_type, block: Some(BLOCK) };
    key(signer).sign(vote.digest(network))
}

/// A prevote said to be of `by`, signed by `signer`.
fn vote(by: u8, signer: u8, network: NetworkId) -> mc::SignedVote<Context> {
    let message = Vote {
        height: Height(3).into(),
        round: mc::Round::new(1),
        vote_type: VoteType::Prevote,
        value: NilOrVal::Val(BLOCK),
        validator: of(by),
    };
    mc::SignedVote::new(message, prevote(signer, network))
}

#[test]
fn vote_passes_from_its_signer_alone() {
    let other = NetworkId(B256::repeat_byte(2));
    let cases = [
        (1, vote(1, 1, NETWORK), Ok(())),
        (2, vote(1, 1, NETWORK), Err(Refused::SecondHand { of: of(1).0 })),
        (1, vote(1, 2, NETWORK), Err(Refused::Signature { of: of(1).0 })),
        (1, vote(1, 1, other), Err(Refused::Signature { of: of(1).0 })),
        (9, vote(9, 9, NETWORK), Err(Refused::SecondHand { of: of(9).0 })),
    ];
    for (from, vote, expected) in cases {
        for message in [
            VotesMessage::Consensus(SignedConsensusMsg::Vote(vote.clone())),
            VotesMessage::Liveness(LivenessMsg::Vote(vote.clone())),
        ] {
            assert_eq!(gate().check(peer(from), &message), expected, "from {from}: {message:?}");
        }
    }
}

#[test]
fn certificate_passes_from_anybody_if_all_its_signatures_are_right() {
    for (last, expected) in [(3, Ok(())), (9, Err(Refused::Signature { of: of(3).0 }))] {
        let signatures =
            [(1, 1), (2, 2), (3, last)].map(|(by, signer)| (of(by), prevote(signer, NETWORK)));
        let polka = PolkaCertificate {
            height: Height(3).into(),
            round: mc::Round::new(1),
            value_id: BLOCK,
            polka_signatures: signatures.map(|(by, s)| mc::PolkaSignature::new(by, s)).into(),
        };
        let rounds = RoundCertificate {
            height: Height(3).into(),
            round: mc::Round::new(1),
            cert_type: mc::RoundCertificateType::Skip,
            round_signatures: signatures
                .map(|(by, signature)| {
                    let value = NilOrVal::Val(BLOCK);
                    mc::RoundSignature::new(VoteType::Prevote, value, by, signature)
                })
                .into(),
        };
        for message in [
            VotesMessage::Liveness(LivenessMsg::PolkaCertificate(polka)),
            VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(rounds)),
        ] {
            assert_eq!(gate().check(peer(4), &message), expected, "{message:?}");
            assert_eq!(more_signatures(&message), 2);
        }
    }
}
