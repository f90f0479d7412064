//! Deposits, transactions and slices by numbers, for the tests of what lies between slices and blocks.

use alloy_primitives::{Address, B256, Bytes, U256, address, keccak256};

use super::LogSlice;
use crate::bundle::Guarantee;
use crate::deposit::DEPOSITOR;
use crate::encoding::encode_list;
use crate::params::ChainKind;
use crate::record::{Limits, Record, RecordBody};
use crate::signing::SigningKey;
use crate::slice::{Content, Item};
use crate::types::{ChainId, EntryId, Height, NetworkId, UnixMillis};

/// Gas of the L1-attributes deposit since Regolith.
pub(crate) const L1_INFO_GAS: u64 = 1_000_000;

/// A form of the L1-attributes call data, with the DA footprint's scalar for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Bedrock,
    Ecotone,
    Isthmus,
    Jovian(u16),
}

/// L1-attributes call data. Fields that nothing here reads are filled with 0xee.
pub(crate) fn l1_info(form: Form, number: u64, timestamp: u64, sequence_number: u64) -> Vec<u8> {
    if form == Form::Bedrock {
        let mut data = vec![0x01, 0x5d, 0x8e, 0xb9];
        let other = U256::from(0xee_u64);
        for word in [U256::from(number), U256::from(timestamp), other, other] {
            data.extend(word.to_be_bytes::<32>());
        }
        for word in [U256::from(sequence_number), other, other, other] {
            data.extend(word.to_be_bytes::<32>());
        }
        return data;
    }
    let (selector, length) = match form {
        Form::Bedrock | Form::Ecotone => ([0x44, 0x0a, 0x5e, 0x20], 164),
        Form::Isthmus => ([0x09, 0x89, 0x99, 0xbe], 176),
        Form::Jovian(_) => ([0x3d, 0xb6, 0xbe, 0x2b], 176),
    };
    let mut data = selector.to_vec();
    data.extend([0xee; 8]);
    for field in [sequence_number, timestamp, number] {
        data.extend(field.to_be_bytes());
    }
    data.resize(length, 0xee);
    if let Form::Jovian(scalar) = form {
        data.extend(scalar.to_be_bytes());
    }
    data
}

/// A deposit transaction that mints 7 wei.
pub(crate) fn deposit(from: Address, gas: u64, is_system: bool, data: &[u8]) -> Bytes {
    let to = address!("4200000000000000000000000000000000000015");
    let mut bytes = vec![0x7e];
    encode_list(
        &[&B256::repeat_byte(1), &from, &to, &7u8, &0u8, &gas, &is_system, &data],
        &mut bytes,
    );
    bytes.into()
}

/// The first transaction of a block.
pub(crate) fn first(form: Form, l1_timestamp: u64, sequence_number: u64) -> Bytes {
    deposit(DEPOSITOR, L1_INFO_GAS, false, &l1_info(form, 9, l1_timestamp, sequence_number))
}

/// A user's deposit.
pub(crate) fn user_deposit(n: u64, gas: u64) -> Bytes {
    deposit(Address::repeat_byte(0x55), gas, false, &n.to_be_bytes())
}

/// Bytes that look like a legacy transaction as far as its gas limit, with `size` bytes that don't compress.
pub(crate) fn transaction(n: u64, gas: u64, size: usize) -> Bytes {
    let data: Vec<u8> = (0..=size / 32)
        .flat_map(|block| keccak256([n.to_be_bytes(), block.to_be_bytes()].concat()).0)
        .take(size)
        .collect();
    let mut bytes = Vec::new();
    encode_list(&[&n, &1u8, &gas, &Bytes::new(), &0u8, &Bytes::from(data)], &mut bytes);
    bytes.into()
}

pub(crate) fn loose(bytes: Bytes) -> Content {
    Content::Transaction { bytes }
}

pub(crate) fn leg(transactions: Vec<Bytes>) -> Content {
    let (bundle, guarantee) = (EntryId(keccak256(&transactions[0])), Guarantee::CoOrdered);
    Content::Leg { bundle, leg: 0, legs: 2, guarantee, transactions }
}

pub(crate) fn record(tx_bytes: u64) -> Content {
    let key = SigningKey::from_bytes([4; 32]).unwrap();
    let body = RecordBody::Limits(Limits { tx_bytes, ..Limits::default() });
    Content::Record(Record::sign(NetworkId::ZERO, ChainId(901), body, &key))
}

/// The weighed slice of one log block of an EVM chain.
pub(crate) fn slice(height: u64, timestamp: u64, contents: Vec<Content>) -> LogSlice {
    let items = (0u32..).zip(contents).map(|(index, content)| Item { index, content }).collect();
    LogSlice::new(Height(height), UnixMillis(timestamp), ChainKind::Evm, items)
}
