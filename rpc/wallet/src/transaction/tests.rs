//! What the bytes alone decide, and how a pending transaction looks to a wallet.

use alloy_consensus::{TxEip1559, TxEip2930, TxEip7702, TxLegacy};
use alloy_eips::eip7702::Authorization;
use alloy_primitives::{TxKind, keccak256};

use super::*;
use crate::fixtures::{CHAIN, checked, key, sign, signed, transfer};

fn refused(bytes: Bytes) -> Refused {
    Transaction::check(CHAIN, bytes).unwrap_err()
}

fn legacy(chain_id: Option<u64>) -> TxLegacy {
    TxLegacy {
        chain_id,
        nonce: 5,
        gas_price: 7,
        gas_limit: 21_000,
        to: TxKind::Call(Address::repeat_byte(0x11)),
        ..TxLegacy::default()
    }
}

fn access_list() -> AccessList {
    let storage_keys = vec![B256::repeat_byte(1), B256::repeat_byte(2)];
    AccessList(vec![AccessListItem { address: Address::repeat_byte(2), storage_keys }])
}

fn set_code() -> TxEip7702 {
    let authorization =
        Authorization { chain_id: U256::from(CHAIN.0), address: Address::ZERO, nonce: 1 };
    let signed = SignedAuthorization::new_unchecked(authorization, 1, U256::from(2), U256::from(3));
    TxEip7702 {
        chain_id: CHAIN.0,
        gas_limit: 46_000,
        authorization_list: vec![signed],
        ..TxEip7702::default()
    }
}

#[test]
fn a_transfer_says_who_pays_what() {
    let bytes = signed(1, 4);
    let transaction = checked(bytes.clone());
    assert_eq!(transaction.hash, keccak256(&bytes));
    assert_eq!((transaction.sender, transaction.nonce), (key(1).address(), 4));
    assert_eq!((transaction.fee, transaction.tip, transaction.gas), (200, 1, 21_000));
    assert_eq!(transaction.cost, U256::from(21_000 * 200 + 1_000));
    assert_eq!(transaction.unsigned[0], 2);
    assert!(transaction.unsigned.len() + 60 < bytes.len());
}

#[test]
fn the_price_of_a_legacy_transaction_is_fee_and_tip() {
    let transaction = checked(sign(legacy(Some(CHAIN.0)), &key(1)));
    assert_eq!((transaction.fee, transaction.tip), (7, 7));
}

#[test]
fn what_the_bytes_show_to_be_wrong_is_refused_in_geths_words() {
    let cases = [
        (Bytes::new(), "typed transaction too short"),
        (Bytes::from_static(&[3, 0xc0]), "transaction type not supported"),
        (
            sign(legacy(None), &key(1)),
            "only replay-protected (EIP-155) transactions allowed over RPC",
        ),
        (
            sign(legacy(Some(1)), &key(1)),
            "invalid sender: invalid chain id for signer: have 1 want 901",
        ),
        (
            sign(TxEip1559 { gas_limit: 20_999, ..transfer(0) }, &key(1)),
            "intrinsic gas too low: gas 20999, minimum needed 21000",
        ),
        (
            sign(TxEip1559 { max_priority_fee_per_gas: 201, ..transfer(0) }, &key(1)),
            "max priority fee per gas higher than max fee per gas",
        ),
        (
            sign(TxEip1559 { gas_limit: 128_000_001, ..transfer(0) }, &key(1)),
            "exceeds block gas limit",
        ),
        (sign(transfer(u64::MAX), &key(1)), "nonce has max value"),
        (
            sign(TxEip7702 { authorization_list: Vec::new(), ..set_code() }, &key(1)),
            "set code tx must have at least one authorization tuple",
        ),
        (
            Bytes::from(vec![2; (128 << 10) + 1]),
            "oversized data: transaction size 131073, limit 131072",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(refused(bytes).to_string(), expected);
    }
    assert!(matches!(refused(Bytes::from_static(&[2, 0xc0])), Refused::Envelope(_)));
}

#[test]
fn gas_below_what_data_lists_and_code_take_is_refused() {
    let needed = |bytes: Bytes| match refused(bytes) {
        Refused::IntrinsicGas { needed, .. } => needed,
        other => panic!("{other}"),
    };
    let data = Bytes::from_static(&[0, 0, 0, 1, 2]);
    let call = TxEip1559 { input: data, gas_limit: 1, ..transfer(0) };
    assert_eq!(needed(sign(call.clone(), &key(1))), 21_000 + 3 * 10 + 2 * 40);
    let create = TxEip1559 { to: TxKind::Create, ..call };
    assert_eq!(needed(sign(create, &key(1))), 53_000 + 3 * 4 + 2 * 16 + 2);
    let listed = TxEip2930 {
        chain_id: CHAIN.0,
        to: TxKind::Call(Address::ZERO),
        access_list: access_list(),
        ..TxEip2930::default()
    };
    assert_eq!(needed(sign(listed, &key(1))), 21_000 + 2_400 + 2 * 1_900);
    assert_eq!(needed(sign(TxEip7702 { gas_limit: 0, ..set_code() }, &key(1))), 46_000);
}

#[test]
fn a_pending_transfer_has_the_fields_of_geths() {
    let transaction = checked(signed(1, 4));
    let shown = transaction.to_json();
    for field in ["blockHash", "blockNumber", "transactionIndex"] {
        assert_eq!(shown.get(field), Some(&Value::Null), "{field}");
    }
    assert_eq!(shown["hash"], data(transaction.hash));
    assert_eq!(shown["from"], data(key(1).address()));
    assert_eq!(shown["to"], data(Address::repeat_byte(0x11)));
    assert_eq!(shown["input"], "0x");
    assert_eq!(shown["accessList"], json!([]));
    for (field, expected) in [
        ("nonce", "0x4"),
        ("gas", "0x5208"),
        ("gasPrice", "0xc8"),
        ("maxFeePerGas", "0xc8"),
        ("maxPriorityFeePerGas", "0x1"),
        ("value", "0x3e8"),
        ("type", "0x2"),
        ("chainId", "0x385"),
    ] {
        assert_eq!(shown[field], expected, "{field}");
    }
    assert_eq!(shown["v"], shown["yParity"]);
    assert!(shown.get("authorizationList").is_none());
}

#[test]
fn a_pending_legacy_transaction_has_its_chain_in_v() {
    let shown = checked(sign(legacy(Some(CHAIN.0)), &key(1))).to_json();
    let v = u64::from_str_radix(shown["v"].as_str().unwrap().trim_start_matches("0x"), 16);
    assert!(matches!(v.unwrap() - 35 - 2 * CHAIN.0, 0 | 1));
    assert_eq!((&shown["type"], &shown["gasPrice"]), (&json!("0x0"), &json!("0x7")));
    for field in ["yParity", "maxFeePerGas", "accessList"] {
        assert!(shown.get(field).is_none(), "{field}");
    }
}

#[test]
fn lists_are_shown() {
    let shown = checked(sign(
        TxEip7702 { access_list: access_list(), gas_limit: 60_000, ..set_code() },
        &key(1),
    ))
    .to_json();
    let authorization = &shown["authorizationList"][0];
    assert_eq!(authorization["nonce"], "0x1");
    assert_eq!((&authorization["yParity"], &authorization["s"]), (&json!("0x1"), &json!("0x3")));
    assert_eq!(shown["accessList"][0]["storageKeys"][1], data(B256::repeat_byte(2)));
}
