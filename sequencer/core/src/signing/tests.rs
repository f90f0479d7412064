//! Signatures against an independent implementation, and each way a signature can be wrong.

use alloy_primitives::{U256, address};
use k256::ecdsa::{RecoveryId as K256Id, Signature as K256Signature, VerifyingKey};

use super::*;

const ORDER: U256 = U256::from_limbs([
    0xbfd2_5e8c_d036_4141,
    0xbaae_dce6_af48_a03b,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
]);

fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

fn signature(r: U256, s: U256, v: u8) -> Signature {
    let bytes: Vec<u8> = [&r.to_be_bytes::<32>()[..], &s.to_be_bytes::<32>(), &[v]].concat();
    Signature(bytes.try_into().unwrap())
}

fn parts(signature: &Signature) -> (U256, U256, u8) {
    let Signature(bytes) = signature;
    (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..64]), bytes[64])
}

#[test]
fn addresses_are_ethereums() {
    let mut one = [0; 32];
    one[31] = 1;
    let one = SigningKey::from_bytes(one).unwrap();
    assert_eq!(one.address(), address!("7e5f4552091a69125d5dfcb7b8c2659029395bdf"));
    assert_eq!(address_of_public_key(&one.public_key()), Some(one.address()));
    assert_eq!(address_of_public_key(&[2; 33]), address_of_public_key(&[2; 33]));
    assert_eq!(address_of_public_key(&[5; 33]), None);
    assert_eq!(address_of_public_key(&[0; 33]), None);
}

#[test]
fn secrets_out_of_range_are_no_keys() {
    let of = |n: U256| SigningKey::from_bytes(n.to_be_bytes()).map(|key| key.address());
    assert_eq!(of(U256::ZERO), Err(InvalidSignature::Unrecoverable));
    assert_eq!(of(ORDER), Err(InvalidSignature::Unrecoverable));
    assert!(of(ORDER - U256::from(1)).is_ok());
    assert!(of(U256::from(1)).is_ok());
}

#[test]
fn debug_does_not_show_the_secret() {
    let shown = format!("{:?}", key());
    assert_eq!(shown, format!("SigningKey({})", key().address()));
    assert!(!shown.contains("0707"));
}

#[test]
fn signatures_are_deterministic_and_recover_to_their_signer() {
    for n in 0..50u8 {
        let digest = keccak256([n]);
        let signature = key().sign(digest);
        assert_eq!(signature, key().sign(digest));
        assert_eq!(recover(digest, &signature), Ok(key().address()));
        assert_ne!(recover(keccak256([n, n]), &signature), Ok(key().address()));
        let (_, s, v) = parts(&signature);
        assert!(s <= ORDER >> 1 && (v == 27 || v == 28));
    }
}

#[test]
fn an_independent_implementation_agrees() {
    let other = k256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    for n in 0..20u8 {
        let digest = keccak256([n]);
        let ours = key().sign(digest);
        let (theirs, id) = other.sign_prehash_recoverable(digest.as_slice()).unwrap();
        assert_eq!(ours.0[..64], theirs.to_bytes()[..]);
        assert_eq!(ours.0[64], 27 + id.to_byte());
        let id = K256Id::from_byte(ours.0[64] - 27).unwrap();
        let signature = K256Signature::from_slice(&ours.0[..64]).unwrap();
        let recovered =
            VerifyingKey::recover_from_prehash(digest.as_slice(), &signature, id).unwrap();
        let point = recovered.to_encoded_point(false);
        assert_eq!(keccak256(&point.as_bytes()[1..])[12..], key().address()[..]);
    }
}

#[test]
fn each_wrong_form_is_refused_by_name() {
    let digest = keccak256(b"digest");
    let (r, s, v) = parts(&key().sign(digest));
    let half = ORDER >> 1;
    assert_eq!(half, U256::from_be_bytes(HALF_ORDER));
    let check = |r, s, v| recover(digest, &signature(r, s, v));
    assert_eq!(check(r, s, v), Ok(key().address()));
    for wrong in [0, 1, 26, 29, 255] {
        assert_eq!(check(r, s, wrong), Err(InvalidSignature::RecoveryId { v: wrong }));
    }
    // The same signature in its other form.
    assert_eq!(check(r, ORDER - s, 55 - v), Err(InvalidSignature::HighS));
    assert_eq!(check(r, half + U256::from(1), v), Err(InvalidSignature::HighS));
    assert_ne!(check(r, half, v), Err(InvalidSignature::HighS));
    for (r, s) in [(U256::ZERO, s), (r, U256::ZERO), (ORDER, s), (U256::MAX, s)] {
        assert_eq!(check(r, s, v), Err(InvalidSignature::Unrecoverable), "{r} {s}");
    }
    assert_ne!(check(r, s, 55 - v), Ok(key().address()));
}
