//! Gas as each type declares it, bytes as the protocol estimates them.

use alloy_consensus::{Signed, TxEip1559, TxEip2930, TxEip7702, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind};
use proptest::prelude::*;

use super::*;
use crate::window::fixtures::{leg, loose, record, transaction};

fn encoded<T>(transaction: T) -> Bytes
where
    TxEnvelope: From<Signed<T>>,
{
    let signed = Signed::new_unchecked(transaction, Signature::test_signature(), B256::ZERO);
    TxEnvelope::from(signed).encoded_2718().into()
}

#[test]
fn declared_gas_is_read_of_each_type() {
    let (chain_id, nonce, gas_limit) = (901, 300, 123_456);
    let to = TxKind::Call(Address::repeat_byte(7));
    let fee = 1 << 70;
    for bytes in [
        encoded(TxLegacy { chain_id: Some(901), nonce, gas_limit, to, ..TxLegacy::default() }),
        encoded(TxEip2930 { chain_id, nonce, gas_limit, gas_price: fee, ..TxEip2930::default() }),
        encoded(TxEip1559 {
            chain_id,
            nonce,
            gas_limit,
            to,
            max_fee_per_gas: fee,
            ..TxEip1559::default()
        }),
        encoded(TxEip7702 { chain_id, nonce, gas_limit, ..TxEip7702::default() }),
    ] {
        assert_eq!(Weight::of(ChainKind::Evm, &bytes).gas, gas_limit, "{bytes}");
        assert_eq!(Weight::of(ChainKind::Opaque, &bytes).gas, 0);
    }
}

#[test]
fn gas_is_never_less_than_any_valid_transaction_declares() {
    let gas = |declared| Weight::of(ChainKind::Evm, &transaction(1, declared, 10)).gas;
    assert_eq!(gas(0), TRANSACTION_GAS_MIN);
    assert_eq!(gas(TRANSACTION_GAS_MIN), TRANSACTION_GAS_MIN);
    assert_eq!(gas(TRANSACTION_GAS_MIN + 1), TRANSACTION_GAS_MIN + 1);
    assert_eq!(gas(u64::MAX), u64::MAX);
}

#[test]
fn what_declares_no_gas_fits_nowhere() {
    for bytes in [&b""[..], b"\x03\xc0", b"\x7e\xc0", b"\x02", b"\x02\xc0", b"\xc0", b"\xc3\x01"] {
        assert_eq!(Weight::of(ChainKind::Evm, bytes).gas, u64::MAX, "{bytes:02x?}");
    }
}

#[test]
fn bytes_are_the_fjord_estimate() {
    let bytes = |size| Weight::of(ChainKind::Opaque, &transaction(3, 21_000, size)).bytes;
    assert_eq!(bytes(0), 100);
    assert_eq!(bytes(100), 100);
    let long = transaction(3, 21_000, 1_000);
    let length = u64::from(op_alloy_flz::flz_compress_len(&long));
    assert_eq!(bytes(1_000), (836_500 * length - 42_585_600) / 1_000_000);
    assert_eq!(bytes(1_000), 831);
}

#[test]
fn a_leg_weighs_what_its_transactions_weigh() {
    let transactions = vec![transaction(1, 30_000, 2_000), transaction(2, 50_000, 500)];
    let [a, b] = [0, 1].map(|n: usize| Weight::of(ChainKind::Evm, &transactions[n]));
    let hashes: Vec<_> = transactions.iter().map(keccak256).collect();
    let weighed =
        Weighed::new(ChainKind::Evm, Item { index: 0, content: leg(transactions.clone()) });
    let weight =
        Weight { gas: 80_000, bytes: a.bytes + b.bytes, transaction_bytes: a.bytes.max(b.bytes) };
    assert_eq!((weighed.weight, &weighed.hashes), (weight, &hashes));
    assert!(a.bytes > b.bytes && !weighed.is_record());

    let single = Item { index: 0, content: loose(transactions[1].clone()) };
    let weighed = Weighed::new(ChainKind::Evm, single);
    assert_eq!((weighed.weight, &weighed.hashes[..]), (b, &hashes[1..]));
}

#[test]
fn a_record_weighs_nothing() {
    let weighed = Weighed::new(ChainKind::Evm, Item { index: 0, content: record(1) });
    assert_eq!((weighed.weight, weighed.hashes.len()), (Weight::default(), 0));
    assert!(weighed.is_record());
}

proptest! {
    #[test]
    fn no_bytes_make_weighing_panic(bytes: Vec<u8>, kind in 0u8..5) {
        let typed = [&[kind], bytes.as_slice()].concat();
        for bytes in [bytes, typed] {
            prop_assert!(Weight::of(ChainKind::Evm, &bytes).gas >= TRANSACTION_GAS_MIN);
        }
    }
}
