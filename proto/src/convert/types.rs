//! `types.proto`: kinds of chain, chains, network parameters, validators.

use alloy_primitives::Address;
use bytes::Bytes;
use lockstep_core::limits::CHAIN_KEYS_MAX;
use lockstep_core::params::{ChainKind, ChainParams, NetworkParams};
use lockstep_core::types::ChainId;
use lockstep_core::validator_set::Validator;

use super::{Field, address_bytes};
use crate::error::InvalidMessage;
use crate::v1;

/// A kind of chain as a number of the message.
#[must_use]
pub fn chain_kind_to_v1(kind: ChainKind) -> v1::ChainKind {
    match kind {
        ChainKind::Evm => v1::ChainKind::Evm,
        ChainKind::Opaque => v1::ChainKind::Opaque,
    }
}

/// A kind of chain.
pub(crate) fn chain_kind(field: Field, kind: i32) -> Result<ChainKind, InvalidMessage> {
    match v1::ChainKind::try_from(kind) {
        Ok(v1::ChainKind::Evm) => Ok(ChainKind::Evm),
        Ok(v1::ChainKind::Opaque) => Ok(ChainKind::Opaque),
        Ok(v1::ChainKind::Unspecified) => Err(field.missing()),
        Err(_) => Err(field.out_of_range(format!("{kind} is neither 1 (EVM) nor 2 (opaque)"))),
    }
}

impl From<&ChainParams> for v1::ChainParams {
    fn from(chain: &ChainParams) -> Self {
        let addresses = |keys: &[Address]| keys.iter().copied().map(address_bytes).collect();
        Self {
            chain_id: chain.id.0,
            kind: chain_kind_to_v1(chain.kind).into(),
            block_time_ms: chain.block_time_ms,
            gas_per_second: chain.gas_per_second,
            bytes_per_second: chain.bytes_per_second,
            sequencers: addresses(&chain.sequencers),
            gateways: addresses(&chain.gateways),
            joins_at_seconds: chain.joins_at,
            transaction_gas_max: chain.transaction_gas_max,
        }
    }
}

impl TryFrom<v1::ChainParams> for ChainParams {
    type Error = InvalidMessage;

    fn try_from(chain: v1::ChainParams) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "ChainParams";
        Ok(Self {
            id: ChainId(Field(MESSAGE, "chain_id").positive(chain.chain_id)?),
            kind: chain_kind(Field(MESSAGE, "kind"), chain.kind)?,
            block_time_ms: chain.block_time_ms,
            gas_per_second: chain.gas_per_second,
            bytes_per_second: chain.bytes_per_second,
            sequencers: addresses(Field(MESSAGE, "sequencers"), &chain.sequencers)?,
            gateways: addresses(Field(MESSAGE, "gateways"), &chain.gateways)?,
            joins_at: chain.joins_at_seconds,
            transaction_gas_max: chain.transaction_gas_max,
        })
    }
}

fn addresses(field: Field, keys: &[Bytes]) -> Result<Vec<Address>, InvalidMessage> {
    field.counted(keys.len(), 0, CHAIN_KEYS_MAX)?;
    keys.iter().map(|key| field.address(key)).collect()
}

impl From<&NetworkParams> for v1::NetworkParams {
    fn from(params: &NetworkParams) -> Self {
        Self {
            block_interval_ms: params.block_interval_ms,
            delay_ms: params.delay_ms,
            drift_ms: params.drift_ms,
            propose_ms: params.propose_ms,
            prevote_ms: params.prevote_ms,
            precommit_ms: params.precommit_ms,
            timeout_delta_ms: params.timeout_delta_ms,
            timeout_ms_max: params.timeout_ms_max,
            open_share_percent: params.open_share_percent,
            lead_ms: params.lead_ms,
        }
    }
}

impl TryFrom<v1::NetworkParams> for NetworkParams {
    type Error = InvalidMessage;

    fn try_from(params: v1::NetworkParams) -> Result<Self, InvalidMessage> {
        let params = Self {
            block_interval_ms: params.block_interval_ms,
            delay_ms: params.delay_ms,
            drift_ms: params.drift_ms,
            propose_ms: params.propose_ms,
            prevote_ms: params.prevote_ms,
            precommit_ms: params.precommit_ms,
            timeout_delta_ms: params.timeout_delta_ms,
            timeout_ms_max: params.timeout_ms_max,
            open_share_percent: params.open_share_percent,
            lead_ms: params.lead_ms,
        };
        params.validate().map_err(|error| {
            InvalidMessage::out_of_range("NetworkParams", "", error.to_string())
        })?;
        Ok(params)
    }
}

impl From<&Validator> for v1::Validator {
    fn from(validator: &Validator) -> Self {
        Self {
            address: address_bytes(validator.address),
            public_key: Bytes::copy_from_slice(&validator.public_key),
            power: validator.power,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    fn chain() -> ChainParams {
        ChainParams {
            id: ChainId(901),
            kind: ChainKind::Opaque,
            block_time_ms: 2_000,
            gas_per_second: 30_000_000,
            bytes_per_second: 1 << 20,
            sequencers: vec![Address::repeat_byte(1), Address::repeat_byte(2)],
            gateways: vec![Address::repeat_byte(3)],
            joins_at: 1_700_000_000,
            transaction_gas_max: 1 << 24,
        }
    }

    #[test]
    fn chains_and_parameters_survive_the_wire() {
        assert_eq!(ChainParams::try_from(v1::ChainParams::from(&chain())).unwrap(), chain());
        let params =
            NetworkParams { open_share_percent: 0, lead_ms: 1, ..NetworkParams::default() };
        assert_eq!(NetworkParams::try_from(v1::NetworkParams::from(&params)).unwrap(), params);
    }

    #[test]
    fn each_fault_of_a_chain_is_named() {
        fn check(code: ErrorCode, field: &str, spoil: impl FnOnce(&mut v1::ChainParams)) {
            let mut message = v1::ChainParams::from(&chain());
            spoil(&mut message);
            let error = ChainParams::try_from(message).unwrap_err();
            assert_eq!((error.code, error.field.as_str()), (code, field));
        }
        check(ErrorCode::Missing, "chain_id", |c| c.chain_id = 0);
        check(ErrorCode::Missing, "kind", |c| c.kind = 0);
        check(ErrorCode::OutOfRange, "kind", |c| c.kind = 3);
        check(ErrorCode::OutOfRange, "sequencers", |c| c.sequencers = vec![Bytes::new(); 17]);
        check(ErrorCode::Missing, "sequencers", |c| c.sequencers = vec![Bytes::new()]);
        check(ErrorCode::OutOfRange, "gateways", |c| c.gateways = vec![vec![1; 19].into()]);
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        let mut message = v1::NetworkParams::from(&NetworkParams::default());
        message.open_share_percent = 101;
        let error = NetworkParams::try_from(message).unwrap_err();
        assert!(error.reason.contains("open_share_percent"), "{error}");
        let mut message = v1::NetworkParams::from(&NetworkParams::default());
        message.lead_ms = 0;
        let error = NetworkParams::try_from(message).unwrap_err();
        assert!(error.reason.contains("lead_ms"), "{error}");
    }
}
