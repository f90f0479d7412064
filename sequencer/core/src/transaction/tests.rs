//! Each type that the log carries, each that it does not, and each way the bytes can be wrong.

use alloy_consensus::{
    TxEip1559, TxEip2930, TxEip4844, TxEip4844Variant, TxEip7702, TxLegacy,
    transaction::RlpEcdsaEncodableTx,
};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use alloy_primitives::{Bytes, Signature as EvmSignature, TxKind, U256};
use proptest::prelude::*;

use super::*;
use crate::signing::SigningKey;

const CHAIN: ChainId = ChainId(901);

fn key() -> SigningKey {
    SigningKey::from_bytes([3; 32]).unwrap()
}

fn sign<T: SignableTransaction<EvmSignature>>(transaction: T) -> alloy_consensus::Signed<T> {
    let signature = key().sign(transaction.signature_hash());
    transaction.into_signed(EvmSignature::from_raw(&signature.0).unwrap())
}

fn legacy(chain_id: Option<u64>, gas_limit: u64, input: Bytes) -> TxLegacy {
    let to = TxKind::Call(Address::repeat_byte(0x11));
    TxLegacy { chain_id, nonce: 5, gas_price: 7, gas_limit, to, value: U256::from(1), input }
}

fn access_list() -> AccessList {
    let storage_keys = vec![B256::repeat_byte(1)];
    AccessList(vec![AccessListItem { address: Address::repeat_byte(2), storage_keys }])
}

fn eip1559() -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN.0,
        gas_limit: 30_000,
        max_fee_per_gas: 9,
        to: TxKind::Create,
        access_list: access_list(),
        input: Bytes::from_static(&[0; 40]),
        ..TxEip1559::default()
    }
}

fn eip7702() -> TxEip7702 {
    let authorization =
        Authorization { chain_id: U256::from(CHAIN.0), address: Address::ZERO, nonce: 1 };
    let authorization =
        SignedAuthorization::new_unchecked(authorization, 1, U256::from(2), U256::from(3));
    TxEip7702 {
        chain_id: CHAIN.0,
        gas_limit: 40_000,
        authorization_list: vec![authorization],
        ..TxEip7702::default()
    }
}

fn blob() -> TxEip4844 {
    TxEip4844 {
        chain_id: CHAIN.0,
        blob_versioned_hashes: vec![B256::repeat_byte(1)],
        ..TxEip4844::default()
    }
}

fn envelope(envelope: impl Into<TxEnvelope>) -> Vec<u8> {
    envelope.into().encoded_2718()
}

fn plain() -> Vec<u8> {
    envelope(sign(legacy(Some(CHAIN.0), 21_000, Bytes::new())))
}

/// One of each type, with the gas that it declares.
fn each_type() -> [(Vec<u8>, u64); 4] {
    let eip2930 = TxEip2930 {
        chain_id: CHAIN.0,
        gas_limit: 50_000,
        access_list: access_list(),
        ..TxEip2930::default()
    };
    [
        (plain(), 21_000),
        (envelope(sign(eip2930)), 50_000),
        (envelope(sign(eip1559())), 30_000),
        (envelope(sign(eip7702())), 40_000),
    ]
}

fn evm(bytes: &[u8]) -> Result<CheckedTransaction, InvalidTransaction> {
    check(CHAIN, ChainKind::Evm, bytes)
}

fn is_envelope_error(bytes: &[u8]) -> bool {
    matches!(evm(bytes), Err(InvalidTransaction::Envelope { .. }))
}

#[test]
fn each_type_of_the_log_is_taken() {
    for ((bytes, gas), first) in each_type().into_iter().zip([0xf8, 0x01, 0x02, 0x04]) {
        assert_eq!(bytes[0], first);
        let expected = CheckedTransaction {
            chain: CHAIN,
            hash: keccak256(&bytes),
            gas,
            bytes: bytes.len() as u64,
            sender: Some(key().address()),
        };
        assert_eq!(evm(&bytes), Ok(expected));
    }
}

#[test]
fn other_types_are_refused() {
    let blob = envelope(sign::<TxEip4844Variant>(TxEip4844Variant::TxEip4844(blob())));
    assert_eq!(evm(&blob), Err(InvalidTransaction::Type { got: 3 }));
    // A deposit as an OP chain has it: type 0x7e and a list.
    assert_eq!(evm(&[0x7e, 0xc0]), Err(InvalidTransaction::Type { got: 0x7e }));
    for got in [0x00, 0x05, 0x06, 0x7d, 0x7f, 0x80, 0xbf] {
        assert_eq!(evm(&[&[got][..], &plain()].concat()), Err(InvalidTransaction::Type { got }));
    }
}

#[test]
fn sizes_hold_at_the_limit() {
    assert_eq!(evm(&[]), Err(InvalidTransaction::Empty));
    assert_eq!(check(CHAIN, ChainKind::Opaque, &[]), Err(InvalidTransaction::Empty));
    let most = vec![7; TRANSACTION_BYTES_MAX];
    let opaque = check(CHAIN, ChainKind::Opaque, &most).unwrap();
    assert_eq!((opaque.gas, opaque.sender, opaque.bytes), (0, None, 128 << 10));
    let too_many = vec![7; TRANSACTION_BYTES_MAX + 1];
    let expected = Err(InvalidTransaction::TooLarge { count: TRANSACTION_BYTES_MAX + 1 });
    assert_eq!(check(CHAIN, ChainKind::Opaque, &too_many), expected);
    assert_eq!(evm(&too_many), expected);

    let of = |input| envelope(sign(legacy(Some(CHAIN.0), 21_000, Bytes::from(vec![1; input]))));
    let frame = of(100_000).len() - 100_000;
    let most = of(TRANSACTION_BYTES_MAX - frame);
    assert_eq!(most.len(), TRANSACTION_BYTES_MAX);
    assert!(evm(&most).is_ok());
    let too_many = of(TRANSACTION_BYTES_MAX - frame + 1);
    assert_eq!(evm(&too_many), expected);
}

#[test]
fn chain_ids_must_match() {
    let none = envelope(sign(legacy(None, 21_000, Bytes::new())));
    assert_eq!(evm(&none), Err(InvalidTransaction::NoChainId { expected: CHAIN }));
    for (bytes, _) in each_type() {
        let other = ChainId(902);
        let expected = Err(InvalidTransaction::ChainId { expected: other, got: CHAIN });
        assert_eq!(check(other, ChainKind::Evm, &bytes), expected);
    }
    let greatest = envelope(sign(legacy(Some(u64::MAX), 21_000, Bytes::new())));
    assert!(check(ChainId(u64::MAX), ChainKind::Evm, &greatest).is_ok());
}

#[test]
fn gas_holds_at_the_limit() {
    let of = |gas| evm(&envelope(sign(legacy(Some(CHAIN.0), gas, Bytes::new()))));
    assert_eq!(of(ENTRY_GAS_MAX).map(|t| t.gas), Ok(ENTRY_GAS_MAX));
    let got = ENTRY_GAS_MAX + 1;
    assert_eq!(of(got), Err(InvalidTransaction::Gas { got }));
    assert_eq!(of(u64::MAX), Err(InvalidTransaction::Gas { got: u64::MAX }));
}

#[test]
fn one_transaction_has_one_encoding() {
    for (bytes, _) in each_type() {
        assert!(is_envelope_error(&[&bytes[..], &[0]].concat()), "trailing byte");
        for length in 1..bytes.len() {
            assert!(is_envelope_error(&bytes[..length]), "cut to {length} bytes");
        }
    }
    assert!(is_envelope_error(&[0xc0]));
    // The nonce 5 with a leading zero, and as a string of one byte. It stands behind the list's two bytes of length.
    let bytes = plain();
    assert_eq!(bytes[..3], [0xf8, bytes.len() as u8 - 2, 5]);
    for nonce in [&[0x82, 0, 5][..], &[0x81, 5]] {
        let length = bytes[1] + nonce.len() as u8 - 1;
        assert!(is_envelope_error(&[&[0xf8, length][..], nonce, &bytes[3..]].concat()));
    }
    // The list's length in two bytes.
    assert!(is_envelope_error(&[&[0xf9, 0, bytes[1]][..], &bytes[2..]].concat()));
}

#[test]
fn signatures_must_be_low_and_recoverable() {
    let order = U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )
    .unwrap();
    let of = |r, s, parity| {
        let transaction = eip1559();
        let mut bytes = Vec::new();
        transaction.eip2718_encode(&EvmSignature::new(r, s, parity), &mut bytes);
        evm(&bytes)
    };
    let signed = sign(eip1559());
    let (r, s, parity) = (signed.signature().r(), signed.signature().s(), signed.signature().v());
    assert_eq!(of(r, s, parity).unwrap().sender, Some(key().address()));
    let high = of(r, order - s, !parity);
    assert_eq!(high, Err(InvalidTransaction::Signature(InvalidSignature::HighS)));
    let unrecoverable = Err(InvalidTransaction::Signature(InvalidSignature::Unrecoverable));
    for (r, s) in [(U256::ZERO, s), (r, U256::ZERO), (order, s)] {
        assert_eq!(of(r, s, parity), unrecoverable);
    }
    assert_ne!(of(r, s, !parity).ok().and_then(|t| t.sender), Some(key().address()));
    // A parity of 2: the last byte but the 66 of r and s.
    let mut bytes = envelope(signed);
    let at = bytes.len() - 67;
    assert!(bytes[at] == 1 || bytes[at] == 0x80);
    bytes[at] = 2;
    assert!(is_envelope_error(&bytes));
}

#[test]
fn opaque_bytes_are_not_looked_at() {
    for bytes in [&[0x7e][..], &[0xff; 5], &plain()] {
        let checked = check(CHAIN, ChainKind::Opaque, bytes).unwrap();
        assert_eq!((checked.hash, checked.gas, checked.sender), (keccak256(bytes), 0, None));
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        prop_assert!(evm(&bytes).is_err());
    }

    #[test]
    fn a_changed_transaction_is_refused_or_another_ones(
        which in 0usize..4,
        at: prop::sample::Index,
        flip in 1u8..=255,
    ) {
        let (mut bytes, _) = each_type()[which].clone();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(checked) = evm(&bytes) {
            prop_assert_ne!(checked.sender, Some(key().address()));
        }
    }
}
