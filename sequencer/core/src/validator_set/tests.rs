//! What is a set, what is a quorum, whose turn it is.

use alloy_primitives::keccak256;

use super::*;
use crate::block::fixtures::{key, keys, validators};

fn list(count: u8) -> Vec<Validator> {
    validators(&keys(count)).iter().cloned().collect()
}

fn of_powers(powers: &[u64]) -> Result<ValidatorSet, InvalidValidatorSet> {
    let mut list = list(powers.len() as u8);
    list.iter_mut().zip(powers).for_each(|(validator, power)| validator.power = *power);
    ValidatorSet::new(list)
}

#[test]
fn a_set_has_one_to_a_hundred_members() {
    assert_eq!(ValidatorSet::new(Vec::new()), Err(InvalidValidatorSet::Count { count: 0 }));
    assert_eq!(ValidatorSet::new(list(1)).unwrap().len(), 1);
    let mut most = list(100);
    let set = ValidatorSet::new(most.clone()).unwrap();
    assert_eq!((set.len(), set.total_power()), (100, 100));
    most.push(most[0].clone());
    assert_eq!(ValidatorSet::new(most), Err(InvalidValidatorSet::Count { count: 101 }));
}

#[test]
fn each_wrong_member_is_named() {
    let address = list(3)[1].address;
    let twice = vec![list(3)[1].clone(), list(3)[1].clone()];
    assert_eq!(ValidatorSet::new(twice), Err(InvalidValidatorSet::Order { address }));
    let mut backward = list(3);
    backward.swap(1, 2);
    assert_eq!(ValidatorSet::new(backward), Err(InvalidValidatorSet::Order { address }));
    for public_key in [key(77).public_key(), [0; 33]] {
        let mut list = list(3);
        list[1].public_key = public_key;
        assert_eq!(ValidatorSet::new(list), Err(InvalidValidatorSet::PublicKey { address }));
    }
    assert_eq!(of_powers(&[1, 0, 1]), Err(InvalidValidatorSet::Power { address }));
    assert_eq!(of_powers(&[1, (1 << 60) - 1, 1]), Err(InvalidValidatorSet::Power { address }));
    assert_eq!(of_powers(&[1, u64::MAX, 1]), Err(InvalidValidatorSet::Power { address }));
    assert_eq!(of_powers(&[1, (1 << 60) - 3, 1]).unwrap().total_power(), (1 << 60) - 1);
}

#[test]
fn quorum_is_more_than_two_thirds() {
    // Total, least quorum, least third.
    for (total, quorum, third) in
        [(1, 1, 1), (2, 2, 1), (3, 3, 2), (4, 3, 2), (6, 5, 3), (7, 5, 3), (100, 67, 34)]
    {
        let set = of_powers(&[total]).unwrap();
        assert!(set.is_quorum(quorum) && !set.is_quorum(quorum - 1), "{total}");
        assert!(set.is_third(third) && !set.is_third(third - 1), "{total}");
    }
    let set = of_powers(&[(1 << 60) - 1]).unwrap();
    assert!(set.is_quorum(u64::MAX) && set.is_quorum((1 << 60) - 1) && !set.is_quorum(1 << 59));
}

#[test]
fn members_are_found_by_address_and_place() {
    let set = validators(&keys(4));
    for (place, validator) in set.iter().enumerate() {
        assert_eq!(set.place(validator.address), Some(place));
        assert_eq!(set.get(validator.address), Some(validator));
        assert_eq!(set.at(place), Some(validator));
    }
    assert_eq!((set.at(4), set.get(key(77).address())), (None, None));
}

#[test]
fn the_hash_is_over_addresses_and_powers_alone() {
    let mut list = list(2);
    let set = ValidatorSet::new(list.clone()).unwrap();
    // Two lists of 21 + 1 bytes each, written out.
    let mut bytes = b"lockstep/vset/v1\xee".to_vec();
    for validator in &list {
        bytes.extend([0xd6, 0x94]);
        bytes.extend(validator.address);
        bytes.push(1);
    }
    assert_eq!(set.hash(), keccak256(&bytes));
    list[0].network_address = "/ip4/127.0.0.1/tcp/1".to_owned();
    assert_eq!(ValidatorSet::new(list.clone()).unwrap().hash(), set.hash());
    list[0].power = 2;
    assert_ne!(ValidatorSet::new(list).unwrap().hash(), set.hash());
}

#[test]
fn turns_go_round_by_height_and_round() {
    let set = validators(&keys(4));
    let turn = |height, round| set.place(set.proposer(Height(height), Round(round)).address);
    for (height, round, place) in [(0, 0, 0), (1, 0, 1), (1, 3, 0), (5, 2, 3), (7, 1, 0)] {
        assert_eq!(turn(height, round), Some(place), "({height}, {round})");
    }
    // (2^64 − 1) + (2^32 − 1) = 3 + 3 mod 4.
    assert_eq!(turn(u64::MAX, u32::MAX), Some(2));
}

#[test]
fn only_sets_decode() {
    let set = validators(&keys(3));
    let bytes = alloy_rlp::encode(&set);
    assert_eq!(ValidatorSet::decode(&mut bytes.as_slice()), Ok(set));
    let mut backward = list(3);
    backward.reverse();
    assert!(ValidatorSet::decode(&mut alloy_rlp::encode(backward).as_slice()).is_err());
}
