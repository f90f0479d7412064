//! Each form of the L1 attributes, real deposits, and that no bytes are read as what they are not.

use alloy_primitives::{Bytes, hex, keccak256};
use proptest::prelude::*;

use super::*;
use crate::window::fixtures::{Form, deposit, first, l1_info};

/// First transaction of a block of a devnet of op-node and op-geth, after Jovian.
const JOVIAN: &[u8] = &hex!(
    "7ef90106a0e8684af003b433b2131a7e4c78d97279a1aeeb2d2543f42128910539af6a17b494deaddeaddeaddeaddeaddeaddeaddeadde"
    "ad00019442000000000000000000000000000000000000158080830f424080b8b23db6be2b00000558000c5fc500000000000000000000"
    "00006b02c1f80000000000000006000000000000000000000000000000000000000000000000000000001e984535000000000000000000"
    "0000000000000000000000000000000000000000000001c53634a55b7d9a87f149ff064f1c09b53bb25de390cd80de46e8fc0ba282cb84"
    "00000000000000000000000023618e81e3f5cdf7f54c3d65f7fbc0abf5b21e8f0000000000000000000000000190"
);
/// First transaction of block 26207961 of OP Sepolia, after Ecotone.
const ECOTONE: &[u8] = &hex!(
    "7ef8f8a00e28de8b2a7972f6f1dd8b3bf52953cb83592cffd0c41e6b120fcec48a81b1dc94deaddeaddeaddeaddeaddeaddeaddeaddead"
    "00019442000000000000000000000000000000000000158080830f424080b8a4440a5e2000001db0000d27300000000000000001000000"
    "0067f6a91000000000007b5f410000000000000000000000000000000000000000000000000000000001d276cd00000000000000000000"
    "000000000000000000000000000000000000000000019244875342f5e0c1624d00f249b1a7996137b1eb44bdf16396f98f76a1bec6fa00"
    "00000000000000000000008f23bb38f531600e5d8fddaaec41f13fab46e98c"
);

#[test]
fn real_first_deposits_are_read() {
    // Neither chain asks an operator fee.
    let fees = FeeParams {
        base_fee_scalar: 1_368,
        blob_base_fee_scalar: 810_949,
        base_fee: U256::from(0x1e98_4535),
        blob_base_fee: U256::from(1),
        operator_fee_scalar: 0,
        operator_fee_constant: 0,
    };
    for (bytes, number, timestamp, sequence_number, scalar, fees) in [
        (JOVIAN, 6, 0x6b02_c1f8, 0, Some(400), Some(fees)),
        (ECOTONE, 8_085_313, 0x67f6_a910, 1, None, None),
    ] {
        let deposit = Deposit::decode(bytes).unwrap();
        assert_eq!((deposit.from, deposit.gas), (DEPOSITOR, 1_000_000));
        let da_footprint_gas_scalar = scalar;
        let info = L1Info { number, timestamp, sequence_number, da_footprint_gas_scalar, fees };
        assert_eq!(L1Info::decode(deposit.data), Ok(info));
    }
}

#[test]
fn selectors_are_those_of_the_contract() {
    for (form, signature) in [
        (
            Form::Bedrock,
            "setL1BlockValues(uint64,uint64,uint256,bytes32,uint64,bytes32,uint256,uint256)",
        ),
        (Form::Ecotone, "setL1BlockValuesEcotone()"),
        (Form::Isthmus, "setL1BlockValuesIsthmus()"),
        (Form::Jovian(1), "setL1BlockValuesJovian()"),
    ] {
        assert_eq!(l1_info(form, 0, 0, 0)[..4], keccak256(signature)[..4], "{signature}");
    }
}

/// What the fixtures fill call data with.
const FEES: FeeParams = FeeParams {
    base_fee_scalar: 0xeeee_eeee,
    blob_base_fee_scalar: 0xeeee_eeee,
    base_fee: U256::from_be_bytes([0xee; 32]),
    blob_base_fee: U256::from_be_bytes([0xee; 32]),
    operator_fee_scalar: 0xeeee_eeee,
    operator_fee_constant: 0xeeee_eeee_eeee_eeee,
};

#[test]
fn each_form_is_read_and_a_scalar_of_0_means_400() {
    for (form, scalar) in [
        (Form::Bedrock, None),
        (Form::Ecotone, None),
        (Form::Isthmus, None),
        (Form::Jovian(0), Some(400)),
        (Form::Jovian(1), Some(1)),
        (Form::Jovian(u16::MAX), Some(u16::MAX)),
    ] {
        let fees = match form {
            Form::Bedrock | Form::Ecotone => None,
            Form::Isthmus | Form::Jovian(_) => Some(FEES),
        };
        let info = L1Info {
            number: u64::MAX - 1,
            timestamp: u64::MAX - 2,
            sequence_number: 3,
            da_footprint_gas_scalar: scalar,
            fees,
        };
        let data = l1_info(form, info.number, info.timestamp, info.sequence_number);
        assert_eq!(L1Info::decode(&data), Ok(info), "{form:?}");
    }
}

#[test]
fn other_call_data_is_refused() {
    for form in [Form::Bedrock, Form::Ecotone, Form::Isthmus, Form::Jovian(400)] {
        let data = l1_info(form, 1, 2, 3);
        let expected = data.len();
        let short = &data[..expected - 1];
        let long = [data.as_slice(), &[0]].concat();
        for (bytes, got) in [(short, expected - 1), (&long, expected + 1), (&data[..4], 4)] {
            assert_eq!(L1Info::decode(bytes), Err(InvalidL1Info::Length { expected, got }));
        }
    }
    for got in [vec![], vec![0x44, 0x0a, 0x5e], vec![0x44, 0x0a, 0x5e, 0x21]] {
        assert_eq!(L1Info::decode(&got), Err(InvalidL1Info::Selector { got }));
    }
    for at in [4, 36, 132] {
        let mut data = l1_info(Form::Bedrock, 1, 2, 3);
        data[at + 23] = 1;
        assert_eq!(L1Info::decode(&data), Err(InvalidL1Info::Number { at }));
    }
}

#[test]
fn what_is_no_deposit_is_refused() {
    let type_of = |got| Err(InvalidDeposit::Type { got });
    assert_eq!(Deposit::decode(&[]), type_of(None));
    assert_eq!(Deposit::decode(&[2, 0xc0]), type_of(Some(2)));
    let is_rlp_fault = |bytes: &[u8]| matches!(Deposit::decode(bytes), Err(InvalidDeposit::Rlp(_)));
    assert!(is_rlp_fault(&[0x7e]));
    assert!(is_rlp_fault(&[0x7e, 0xc0]));
    assert!(is_rlp_fault(&[JOVIAN, &[0]].concat()));
    assert!(is_rlp_fault(&JOVIAN[..JOVIAN.len() - 1]));
}

#[test]
fn a_system_transaction_takes_no_gas() {
    let bytes = deposit(DEPOSITOR, 150_000_000, true, &[]);
    assert_eq!(Deposit::decode(&bytes).unwrap().gas, 0);
}

#[test]
fn contract_creation_is_a_deposit_too() {
    let mut bytes = vec![0x7e];
    let fields: [&dyn alloy_rlp::Encodable; 8] = [
        &B256::ZERO,
        &Address::repeat_byte(3),
        &TxKind::Create,
        &0u8,
        &U256::MAX,
        &5u64,
        &false,
        &Bytes::new(),
    ];
    crate::encoding::encode_list(&fields, &mut bytes);
    let expected = Deposit { from: Address::repeat_byte(3), gas: 5, data: &[] };
    assert_eq!(Deposit::decode(&bytes), Ok(expected));
}

#[test]
fn upgrades_are_known_by_their_senders() {
    let check = |from: Address, is_upgrade: bool| {
        let deposit = Deposit { from, gas: 0, data: &[] };
        assert_eq!(deposit.is_upgrade(), is_upgrade, "{from}");
    };
    check(address!("4210000000000000000000000000000000000000"), true);
    check(address!("42100000000000000000000000000000000000ff"), true);
    check(address!("4210000000000000000000000000000000000100"), false);
    check(address!("4211000000000000000000000000000000000000"), false);
    check(address!("deaddeaddeaddeaddeaddeaddeaddeaddead0001"), true);
    // What replaces a block that interop invalidated.
    check(address!("deaddeaddeaddeaddeaddeaddeaddeaddead0002"), false);
    check(Address::ZERO, true);
    check(Address::repeat_byte(0x55), false);
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes: Vec<u8>, at in 0usize..300, byte: u8) {
        drop(Deposit::decode(&bytes));
        drop(L1Info::decode(&bytes));
        for form in [Form::Bedrock, Form::Ecotone, Form::Isthmus, Form::Jovian(1)] {
            let mut spoilt = first(form, 1, 2).to_vec();
            if let Some(target) = spoilt.get_mut(at) {
                *target = byte;
            }
            if let Ok(deposit) = Deposit::decode(&spoilt) {
                drop(L1Info::decode(deposit.data));
            }
        }
    }
}
