//! Keys of tests, by number; the validator sets that they are, and the certificates that they sign.

use std::ops::RangeInclusive;

use lockstep_core::certificate::{Certificate, CommitSignature, Vote, VoteType};
use lockstep_core::header::Header;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::Round;
use lockstep_core::validator_set::{Validator, ValidatorSet};

/// The committee's keys, in the order of their addresses.
#[must_use]
pub fn committee() -> Vec<SigningKey> {
    keys(1..=4)
}

/// Keys of validators that have no part in the network.
#[must_use]
pub fn strangers() -> Vec<SigningKey> {
    keys(11..=14)
}

/// Keys with these numbers, in the order of their addresses.
#[must_use]
pub fn keys(numbers: RangeInclusive<u8>) -> Vec<SigningKey> {
    let key = |number| SigningKey::from_bytes([number; 32]).expect("a key");
    let mut keys: Vec<_> = numbers.map(key).collect();
    keys.sort_by_key(SigningKey::address);
    keys
}

/// The validator set of these keys, each with power 1.
#[must_use]
pub fn set_of(keys: &[SigningKey]) -> ValidatorSet {
    let validator = |key: &SigningKey| Validator {
        address: key.address(),
        public_key: key.public_key(),
        power: 1,
        network_address: "/ip4/127.0.0.1/tcp/1".to_owned(),
    };
    ValidatorSet::new(keys.iter().map(validator).collect()).expect("a set")
}

/// The certificate of a header by these validators.
#[must_use]
pub fn certify(keys: &[SigningKey], header: &Header) -> Certificate {
    let (height, block) = (header.height, header.hash());
    let vote = Vote { height, round: Round(0), vote_type: VoteType::Precommit, block: Some(block) };
    let digest = vote.digest(header.network_id);
    let sign = |key: &SigningKey| CommitSignature {
        validator: key.address(),
        signature: key.sign(digest),
    };
    let signatures = keys.iter().map(sign).collect();
    Certificate { height, round: Round(0), block, signatures }
}
