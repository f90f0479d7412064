//! What a transaction pays beside its gas: for its bytes on L1, and to the operator. Pure.
//!
//! Told are lower bounds: an engine that asks for more refuses by itself. Before Isthmus nothing is told. Sources: OP
//! specs, `fjord/exec-engine.md` (L1 cost), `isthmus/exec-engine.md` and `jovian/exec-engine.md` (operator fee).

use alloy_primitives::{Bytes, U256};
use lockstep_core::deposit::{Deposit, FeeParams, L1Info};
use lockstep_core::params::ChainKind;
use lockstep_core::weight::Weight;

/// The scalars are in millionths, and so was the estimate of bytes.
const MILLION: u64 = 1_000_000;
/// How much more calldata costs than blobs, per byte of the estimate.
const CALLDATA_FACTOR: u64 = 16;
/// Wei that a unit of the operator fee's scalar means per gas since Jovian.
const OPERATOR_FACTOR: u64 = 100;

/// The fees of the transactions of one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fees {
    params: Option<FeeParams>,
    is_jovian: bool,
}

impl Fees {
    /// The fees of a block with these deposits; the first says them.
    #[must_use]
    pub fn of(deposits: &[Bytes]) -> Self {
        let first = deposits.first().and_then(|bytes| Deposit::decode(bytes).ok());
        let info = first.and_then(|first| L1Info::decode(first.data).ok());
        info.map_or_else(Self::default, |info| Self {
            params: info.fees,
            is_jovian: info.da_footprint_gas_scalar.is_some(),
        })
    }

    /// Whether the data of transactions has a floor price: the fork that brought it to L1 came with Isthmus.
    #[must_use]
    pub const fn has_floor(&self) -> bool {
        self.params.is_some()
    }

    /// What a transaction of these bytes that declares `gas` pays at least beside its gas, in wei.
    #[must_use]
    pub fn least(&self, transaction: &[u8], gas: u64) -> U256 {
        let Some(params) = &self.params else { return U256::ZERO };
        let bytes = Weight::of(ChainKind::Evm, transaction).bytes;
        l1_cost(params, bytes).saturating_add(self.operator_fee(params, gas))
    }

    fn operator_fee(&self, params: &FeeParams, gas: u64) -> U256 {
        let by_scalar = U256::from(gas).saturating_mul(U256::from(params.operator_fee_scalar));
        let by_gas = match self.is_jovian {
            true => by_scalar.saturating_mul(U256::from(OPERATOR_FACTOR)),
            false => by_scalar.checked_div(U256::from(MILLION)).unwrap_or_default(),
        };
        by_gas.saturating_add(U256::from(params.operator_fee_constant))
    }
}

/// What so many estimated bytes cost on L1.
fn l1_cost(params: &FeeParams, bytes: u64) -> U256 {
    let calldata = params
        .base_fee
        .saturating_mul(U256::from(params.base_fee_scalar))
        .saturating_mul(U256::from(CALLDATA_FACTOR));
    let blobs = params.blob_base_fee.saturating_mul(U256::from(params.blob_base_fee_scalar));
    let per_byte = calldata.saturating_add(blobs);
    U256::from(bytes).saturating_mul(per_byte).checked_div(U256::from(MILLION)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: FeeParams = FeeParams {
        base_fee_scalar: 5_227,
        blob_base_fee_scalar: 1_014_213,
        base_fee: U256::from_limbs([2_000_000_000, 0, 0, 0]),
        blob_base_fee: U256::from_limbs([30_000_000, 0, 0, 0]),
        operator_fee_scalar: 7,
        operator_fee_constant: 11,
    };

    /// A transaction whose estimate is the least one, 100 bytes.
    const SMALL: [u8; 3] = [2, 0xc1, 1];

    #[test]
    fn small_transaction_pays_for_a_hundred_bytes_and_the_operator() {
        // 100 · (5,227 · 16 · 2 gwei + 1,014,213 · 0.03 gwei) / 10^6, as op-geth's `NewL1CostFuncFjord` has it.
        let l1 = 19_769_039_000_u64;
        let isthmus = Fees { params: Some(PARAMS), is_jovian: false };
        assert_eq!(isthmus.least(&SMALL, 21_000), U256::from(l1 + 11));
        assert_eq!(isthmus.least(&SMALL, 2_000_000), U256::from(l1 + 14 + 11));
        let jovian = Fees { is_jovian: true, ..isthmus };
        assert_eq!(jovian.least(&SMALL, 21_000), U256::from(l1 + 21_000 * 700 + 11));
        assert_eq!(Fees::default().least(&SMALL, 21_000), U256::ZERO);
    }

    #[test]
    fn fees_without_bounds_are_no_overflow() {
        let params = FeeParams {
            base_fee: U256::MAX,
            blob_base_fee: U256::MAX,
            base_fee_scalar: u32::MAX,
            operator_fee_scalar: u32::MAX,
            operator_fee_constant: u64::MAX,
            ..PARAMS
        };
        let fees = Fees { params: Some(params), is_jovian: true };
        assert!(fees.least(&SMALL, u64::MAX) > U256::from(u64::MAX));
    }

    #[test]
    fn deposits_that_say_no_fees_ask_none() {
        for deposits in [&[][..], &[Bytes::from_static(&[0x7e, 0xc0])]] {
            assert_eq!(Fees::of(deposits), Fees::default());
        }
    }
}
