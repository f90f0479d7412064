//! Gas that a transaction must declare to be valid at all, whatever it does.
//!
//! It executes nothing. Sources: Yellow Paper, appendix G; EIP-2028, EIP-2930, EIP-3860, EIP-7623, EIP-7702; go-ethereum
//! `core/state_transition.go` (`IntrinsicGas`, `FloorDataGas`).

use alloy_consensus::{Transaction as _, TxEnvelope};

/// Gas of a transaction, and what it takes more if it creates a contract.
const GAS: u64 = 21_000;
const GAS_CREATE: u64 = 32_000;
/// Gas of 32 bytes of code that is to be deployed.
const GAS_INITCODE_WORD: u64 = 2;
/// Gas of one byte of data that is zero or is not.
const GAS_ZERO_BYTE: u64 = 4;
const GAS_BYTE: u64 = 16;
/// Gas of an access list's address and storage key, and of an authorization.
const GAS_ACCESS_ADDRESS: u64 = 2_400;
const GAS_ACCESS_KEY: u64 = 1_900;
const GAS_AUTHORIZATION: u64 = 25_000;
/// Gas of one byte of data, zero or not, under the floor.
const FLOOR_ZERO_BYTE: u64 = 10;
const FLOOR_BYTE: u64 = 40;

/// The least gas that a transaction may declare. `has_floor`: whether its data has a floor price, as on every OP chain
/// since Isthmus.
#[must_use]
pub fn gas_min(envelope: &TxEnvelope, has_floor: bool) -> u64 {
    match has_floor {
        true => intrinsic_gas(envelope).max(floor_gas(envelope)),
        false => intrinsic_gas(envelope),
    }
}

/// Bytes of data: how many are zero, and how many are not.
fn data(envelope: &TxEnvelope) -> (usize, usize) {
    let input = envelope.input();
    let zeros = input.iter().filter(|byte| **byte == 0).count();
    (zeros, input.len().saturating_sub(zeros))
}

fn intrinsic_gas(envelope: &TxEnvelope) -> u64 {
    let (zeros, others) = data(envelope);
    let (addresses, keys) = envelope
        .access_list()
        .map_or((0, 0), |list| (list.len(), list.iter().map(|it| it.storage_keys.len()).sum()));
    let authorizations = envelope.authorization_list().map_or(0, <[_]>::len);
    let creations = usize::from(envelope.is_create());
    let words = creations.saturating_mul(envelope.input().len().div_ceil(32));
    sum([
        (creations, GAS_CREATE),
        (words, GAS_INITCODE_WORD),
        (zeros, GAS_ZERO_BYTE),
        (others, GAS_BYTE),
        (addresses, GAS_ACCESS_ADDRESS),
        (keys, GAS_ACCESS_KEY),
        (authorizations, GAS_AUTHORIZATION),
    ])
}

fn floor_gas(envelope: &TxEnvelope) -> u64 {
    let (zeros, others) = data(envelope);
    sum([(zeros, FLOOR_ZERO_BYTE), (others, FLOOR_BYTE)])
}

fn sum<const N: usize>(counts: [(usize, u64); N]) -> u64 {
    let times = |(count, gas): (usize, u64)| gas.saturating_mul(count as u64);
    counts.into_iter().map(times).fold(GAS, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEip7702};
    use alloy_eips::eip2930::{AccessList, AccessListItem};
    use alloy_eips::eip7702::{Authorization, SignedAuthorization};
    use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};

    use super::*;

    fn envelope(transaction: TxEip1559) -> TxEnvelope {
        transaction.into_signed(Signature::test_signature()).into()
    }

    fn call(input: &'static [u8]) -> TxEip1559 {
        TxEip1559 {
            to: TxKind::Call(Address::ZERO),
            input: Bytes::from_static(input),
            ..TxEip1559::default()
        }
    }

    #[test]
    fn data_lists_and_code_take_gas() {
        let item = AccessListItem { address: Address::ZERO, storage_keys: vec![B256::ZERO; 2] };
        let listed = TxEip1559 { access_list: AccessList(vec![item]), ..call(&[]) };
        let create = TxEip1559 { to: TxKind::Create, ..call(&[0, 0, 1, 2, 3]) };
        for (transaction, expected) in [
            (call(&[]), 21_000),
            (call(&[0, 0, 1, 2, 3]), 21_000 + 2 * 4 + 3 * 16),
            (listed, 21_000 + 2_400 + 2 * 1_900),
            (create, 53_000 + 2 * 4 + 3 * 16 + 2),
        ] {
            assert_eq!(gas_min(&envelope(transaction.clone()), false), expected, "{transaction:?}");
        }
        let authorization =
            Authorization { chain_id: U256::ZERO, address: Address::ZERO, nonce: 1 };
        let one =
            SignedAuthorization::new_unchecked(authorization, 1, U256::from(2), U256::from(3));
        let set_code = TxEip7702 { authorization_list: vec![one], ..TxEip7702::default() };
        let set_code = set_code.into_signed(Signature::test_signature()).into();
        assert_eq!(gas_min(&set_code, false), 46_000);
    }

    /// 1,000 zero bytes: 25,000 of intrinsic gas, and 31,000 under the floor.
    #[test]
    fn data_has_a_floor_since_isthmus() {
        let zeros = TxEip1559 { input: vec![0; 1_000].into(), ..call(&[]) };
        assert_eq!(gas_min(&envelope(zeros.clone()), false), 25_000);
        assert_eq!(gas_min(&envelope(zeros), true), 31_000);
        assert_eq!(gas_min(&envelope(call(&[0, 0, 1, 2, 3])), true), 21_000 + 2 * 10 + 3 * 40);
        assert_eq!(gas_min(&envelope(call(&[])), true), 21_000);
        // Where something else takes more than the floor, that counts.
        let create = TxEip1559 { to: TxKind::Create, ..call(&[1, 2, 3]) };
        assert_eq!(gas_min(&envelope(create), true), 53_000 + 3 * 16 + 2);
    }
}
