//! Digests written out by hand, signatures checked by an independent implementation, each way a certificate can be
//! wrong.

use alloy_primitives::keccak256;
use k256::ecdsa::{RecoveryId, Signature as K256Signature, VerifyingKey};

use super::*;
use crate::block::fixtures::{key, keys, validators};
use crate::limits::{CERTIFICATE_BYTES_MAX, VALIDATORS_MAX};
use crate::signing::SigningKey;
use crate::validator_set::Validator;

const NETWORK: NetworkId = NetworkId(B256::repeat_byte(0x11));
const BLOCK: BlockHash = BlockHash(B256::repeat_byte(0x22));
const HEIGHT: Height = Height(0x0102_0304_0506_0708);
const ROUND: Round = Round(0x090a_0b0c);

fn precommit() -> Vote {
    Vote { height: HEIGHT, round: ROUND, vote_type: VoteType::Precommit, block: Some(BLOCK) }
}

fn signed(keys: &[SigningKey]) -> Certificate {
    let digest = precommit().digest(NETWORK);
    let signatures = keys
        .iter()
        .map(|key| CommitSignature { validator: key.address(), signature: key.sign(digest) })
        .collect();
    Certificate { height: HEIGHT, round: ROUND, block: BLOCK, signatures }
}

fn verify(certificate: &Certificate) -> Result<(), InvalidCertificate> {
    certificate.verify(NETWORK, &validators(&keys(4)))
}

/// The bytes under a vote's digest, as a contract packs them.
fn packed(tag: &[u8; 16], middle: &[u8], block: u8) -> Vec<u8> {
    let mut bytes = tag.to_vec();
    bytes.extend([0x11; 32]);
    bytes.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    bytes.extend([9, 10, 11, 12]);
    bytes.extend(middle);
    bytes.extend([block; 32]);
    bytes
}

#[test]
fn digests_have_their_layout() {
    let prevote = Vote { vote_type: VoteType::Prevote, ..precommit() };
    let nil = Vote { block: None, ..precommit() };
    let vote = |middle, block| keccak256(packed(b"lockstep/vote/v1", &[middle], block));
    assert_eq!(precommit().digest(NETWORK), vote(2, 0x22));
    assert_eq!(prevote.digest(NETWORK), vote(1, 0x22));
    assert_eq!(nil.digest(NETWORK), vote(2, 0));

    let proposal =
        |valid_round| Proposal { height: HEIGHT, round: ROUND, valid_round, block: BLOCK };
    for (valid_round, bytes) in
        [(None, [0; 4]), (Some(Round(0)), [0, 0, 0, 1]), (Some(Round(255)), [0, 0, 1, 0])]
    {
        let proposal = proposal(valid_round);
        let consensus = keccak256(packed(b"lockstep/prop/v1", &bytes, 0x22));
        let part = keccak256(packed(b"lockstep/part/v1", &bytes, 0x22));
        assert_eq!(proposal.digest(NETWORK), consensus);
        assert_eq!(proposal.part_digest(NETWORK), part);
    }
}

#[test]
fn each_precommit_passes_ecrecover_of_another_implementation() {
    let digest = keccak256(packed(b"lockstep/vote/v1", &[2], 0x22));
    for CommitSignature { validator, signature } in signed(&keys(4)).signatures {
        let id = RecoveryId::from_byte(signature.0[64] - 27).unwrap();
        let parts = K256Signature::from_slice(&signature.0[..64]).unwrap();
        assert!(parts.normalize_s().is_none(), "s is low");
        let key = VerifyingKey::recover_from_prehash(digest.as_slice(), &parts, id).unwrap();
        let point = key.to_encoded_point(false);
        assert_eq!(keccak256(&point.as_bytes()[1..])[12..], validator[..]);
    }
}

#[test]
fn more_than_two_thirds_are_needed() {
    let keys = keys(4);
    assert_eq!(verify(&signed(&keys)), Ok(()));
    for left_out in 0..4 {
        let mut three = keys.clone();
        three.remove(left_out);
        assert_eq!(verify(&signed(&three)), Ok(()));
        three.pop();
        assert_eq!(verify(&signed(&three)), Err(InvalidCertificate::Power { got: 2, total: 4 }));
    }
    assert_eq!(verify(&signed(&[])), Err(InvalidCertificate::Power { got: 0, total: 4 }));
}

#[test]
fn power_counts_and_not_heads() {
    let keys = keys(4);
    let mut list: Vec<Validator> = validators(&keys).iter().cloned().collect();
    list[3].power = 7;
    let set = ValidatorSet::new(list).unwrap();
    let check = |keys: &[SigningKey]| signed(keys).verify(NETWORK, &set);
    assert_eq!(check(&keys[..3]), Err(InvalidCertificate::Power { got: 3, total: 10 }));
    assert_eq!(check(&keys[3..]), Ok(()));
}

#[test]
fn each_wrong_certificate_is_refused_by_name() {
    let keys = keys(4);
    let good = signed(&keys);
    let with = |change: &dyn Fn(&mut Certificate)| {
        let mut certificate = good.clone();
        change(&mut certificate);
        verify(&certificate)
    };
    let second = keys[1].address();
    let order = Err(InvalidCertificate::Order { validator: second });
    assert_eq!(with(&|c| c.signatures[2] = c.signatures[1]), order);
    assert_eq!(with(&|c| c.signatures.swap(1, 2)), order);

    let stranger = key(99);
    let mut strange = [keys.clone(), vec![stranger.clone()]].concat();
    strange.sort_by_key(SigningKey::address);
    let validator = stranger.address();
    assert_eq!(verify(&signed(&strange)), Err(InvalidCertificate::Stranger { validator }));

    let got = keys[2].address();
    let theirs = good.signatures[2].signature;
    let expected = Err(InvalidCertificate::Signer { validator: second, got });
    assert_eq!(with(&|c| c.signatures[1].signature = theirs), expected);
    let error = InvalidSignature::RecoveryId { v: 0 };
    let expected = Err(InvalidCertificate::Signature { validator: second, error });
    assert_eq!(with(&|c| c.signatures[1].signature.0[64] = 0), expected);

    // A fourth signature that is wrong spoils three that are right.
    assert!(matches!(
        with(&|c| c.signatures[3].signature = theirs),
        Err(InvalidCertificate::Signer { .. })
    ));
    for changed in [
        Certificate { height: HEIGHT.next(), ..good.clone() },
        Certificate { round: Round(1), ..good.clone() },
        Certificate { block: BlockHash::ZERO, ..good.clone() },
    ] {
        assert!(matches!(verify(&changed), Err(InvalidCertificate::Signer { .. })));
    }
    let elsewhere = good.verify(NetworkId::ZERO, &validators(&keys));
    assert!(matches!(elsewhere, Err(InvalidCertificate::Signer { .. })));
}

#[test]
fn other_votes_certify_nothing() {
    let votes = [
        Vote { vote_type: VoteType::Prevote, ..precommit() },
        Vote { block: None, ..precommit() },
        Vote { round: Round(0), ..precommit() },
    ];
    for vote in votes {
        let mut certificate = signed(&keys(4));
        for (signature, key) in certificate.signatures.iter_mut().zip(keys(4)) {
            signature.signature = key.sign(vote.digest(NETWORK));
        }
        assert!(matches!(verify(&certificate), Err(InvalidCertificate::Signer { .. })));
    }
}

#[test]
fn the_largest_certificate_stays_below_its_limit() {
    let signature =
        CommitSignature { validator: Address::repeat_byte(0xff), signature: Signature([0xff; 65]) };
    let certificate = Certificate {
        height: Height(u64::MAX),
        round: Round(u32::MAX),
        block: BLOCK,
        signatures: vec![signature; VALIDATORS_MAX],
    };
    assert!(certificate.to_canonical().len() <= CERTIFICATE_BYTES_MAX);
    assert_eq!(Certificate::from_canonical(&certificate.to_canonical()), Ok(certificate));
}
