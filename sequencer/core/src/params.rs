//! What all nodes of a network must agree on: network parameters, registered chains, the genesis.
//!
//! The hash of the genesis is the network id, so two nodes with one differing parameter are in two networks. Node
//! options (paths, ports, quotas) are not here: they never change what is valid.

use alloy_primitives::Address;
use alloy_rlp::{BufMut, Decodable, Encodable, RlpDecodable, RlpEncodable};

use crate::encoding::{self, Canonical, tag};
use crate::limits::{CHAIN_KEYS_MAX, CHAINS_MAX, ENTRY_BYTES_MAX, ENTRY_GAS_MAX};
use crate::types::{ChainId, NetworkId, UnixMillis};
use crate::validator_set::{InvalidValidatorSet, ValidatorSet};

/// Network parameters. All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct NetworkParams {
    /// A block is decided this often, idle or loaded. 10..=10,000; default 250.
    pub block_interval_ms: u64,
    /// How old a fresh proposal's timestamp may be, per round and one. Default 1,000.
    pub delay_ms: u64,
    /// How far clocks may differ. Default 500.
    pub drift_ms: u64,
    /// Timeout of the propose step in round 0. Default 400.
    pub propose_ms: u64,
    /// Timeout of the prevote step in round 0. Default 200.
    pub prevote_ms: u64,
    /// Timeout of the precommit step in round 0. Default 200.
    pub precommit_ms: u64,
    /// What each timeout grows by per round. Default 200.
    pub timeout_delta_ms: u64,
    /// Greatest timeout of any step, whatever the round. Default 8,000.
    pub timeout_ms_max: u64,
    /// Share of a chain's budget, in percent, for entries without its gateway's signature. 0..=100; default 10.
    pub open_share_percent: u64,
    /// How long before an L2 block's timestamp its window ends: in this time the log decides, the block is built and
    /// sealed. 1..=10,000; default 700.
    pub lead_ms: u64,
}

impl Default for NetworkParams {
    fn default() -> Self {
        Self {
            block_interval_ms: 250,
            delay_ms: 1_000,
            drift_ms: 500,
            propose_ms: 400,
            prevote_ms: 200,
            precommit_ms: 200,
            timeout_delta_ms: 200,
            timeout_ms_max: 8_000,
            open_share_percent: 10,
            lead_ms: 700,
        }
    }
}

/// What a chain's transactions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainKind {
    /// EIP-2718 transactions, signatures checked.
    Evm,
    /// Any bytes, nothing checked but their count: for execution environments that are not EVM.
    Opaque,
}

impl Encodable for ChainKind {
    fn encode(&self, out: &mut dyn BufMut) {
        match self {
            Self::Evm => 1u8.encode(out),
            Self::Opaque => 2u8.encode(out),
        }
    }
    fn length(&self) -> usize {
        1
    }
}

impl Decodable for ChainKind {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        match u8::decode(bytes)? {
            1 => Ok(Self::Evm),
            2 => Ok(Self::Opaque),
            _ => Err(alloy_rlp::Error::Custom("chain kind is neither 1 nor 2")),
        }
    }
}

/// A registered chain.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct ChainParams {
    /// EIP-155 chain id; not 0.
    pub id: ChainId,
    /// EVM or opaque.
    pub kind: ChainKind,
    /// Milliseconds between two L2 blocks. 0 for chains without blocks.
    pub block_time_ms: u64,
    /// Budget: declared gas per second. 0 only for opaque chains, which declare none.
    pub gas_per_second: u64,
    /// Budget: transaction bytes per second.
    pub bytes_per_second: u64,
    /// Greatest gas that one transaction may declare; what declares more is left out for good. 21,000..=[`ENTRY_GAS_MAX`];
    /// 0 only for opaque chains. Default [`TRANSACTION_GAS_MAX_DEFAULT`](crate::limits::TRANSACTION_GAS_MAX_DEFAULT).
    pub transaction_gas_max: u64,
    /// Keys that may sign this chain's records, in strictly ascending order.
    pub sequencers: Vec<Address>,
    /// Keys that admit entries for this chain, in strictly ascending order. Empty: the chain is open.
    pub gateways: Vec<Address>,
    /// Timestamp in seconds of the L2 block at which the chain joins.
    pub joins_at: u64,
}

impl ChainParams {
    /// Gas the chain's bucket holds at most: two seconds of its rate, and always room for the largest entry.
    #[must_use]
    pub fn gas_capacity(&self) -> u64 {
        self.gas_per_second.saturating_mul(2).max(ENTRY_GAS_MAX)
    }

    /// Bytes the chain's bucket holds at most: two seconds of its rate, and always room for the largest entry.
    #[must_use]
    pub fn bytes_capacity(&self) -> u64 {
        self.bytes_per_second.saturating_mul(2).max(ENTRY_BYTES_MAX as u64)
    }
}

/// The beginning of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Name for people, 1..=64 bytes.
    pub name: String,
    /// The genesis' time: the parent time of height 1.
    pub timestamp: UnixMillis,
    /// Network parameters.
    pub params: NetworkParams,
    /// The first validator set, which decides heights 1 and 2.
    pub validators: ValidatorSet,
    /// Registered chains, in strictly ascending order of id.
    pub chains: Vec<ChainParams>,
}

impl Encodable for Genesis {
    fn encode(&self, out: &mut dyn BufMut) {
        encoding::encode_list(
            &[&self.name, &self.timestamp, &self.params, &self.validators, &self.chains],
            out,
        );
    }
    fn length(&self) -> usize {
        encoding::list_length(&[
            &self.name,
            &self.timestamp,
            &self.params,
            &self.validators,
            &self.chains,
        ])
    }
}

impl Decodable for Genesis {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let payload = &mut encoding::decode_list(bytes)?;
        let genesis = Self {
            name: Decodable::decode(payload)?,
            timestamp: Decodable::decode(payload)?,
            params: Decodable::decode(payload)?,
            validators: Decodable::decode(payload)?,
            chains: Decodable::decode(payload)?,
        };
        encoding::expect_end(payload)?;
        Ok(genesis)
    }
}

impl Canonical for Genesis {}

/// Why a genesis was refused. The operator must mend the file; the field is named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGenesis {
    /// A number is outside its range.
    #[error("{field} is {got}, expected {min}..={max}")]
    OutOfRange {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        got: u64,
        /// Least allowed.
        min: u64,
        /// Greatest allowed.
        max: u64,
    },
    /// Chains are not in strictly ascending order of id.
    #[error("chain {id} is not after the one before it: ids must be unique and ascending")]
    ChainOrder {
        /// The chain out of order.
        id: ChainId,
    },
    /// Keys of a chain are not in strictly ascending order.
    #[error("{field} of chain {id} are not unique and ascending")]
    KeyOrder {
        /// The chain.
        id: ChainId,
        /// `sequencers` or `gateways`.
        field: &'static str,
    },
    /// The validator set is not one.
    #[error("validators: {0}")]
    Validators(#[from] InvalidValidatorSet),
}

const fn in_range(field: &'static str, got: u64, min: u64, max: u64) -> Result<(), InvalidGenesis> {
    if got < min || got > max {
        return Err(InvalidGenesis::OutOfRange { field, got, min, max });
    }
    Ok(())
}

impl NetworkParams {
    /// Checks every range and the relations between fields.
    ///
    /// # Errors
    /// [`InvalidGenesis::OutOfRange`] names the field.
    pub fn validate(&self) -> Result<(), InvalidGenesis> {
        in_range("block_interval_ms", self.block_interval_ms, 10, 10_000)?;
        in_range("delay_ms", self.delay_ms, 1, 60_000)?;
        in_range("drift_ms", self.drift_ms, 1, 60_000)?;
        in_range("timeout_ms_max", self.timeout_ms_max, 100, 60_000)?;
        in_range("propose_ms", self.propose_ms, 10, self.timeout_ms_max)?;
        in_range("prevote_ms", self.prevote_ms, 10, self.timeout_ms_max)?;
        in_range("precommit_ms", self.precommit_ms, 10, self.timeout_ms_max)?;
        in_range("timeout_delta_ms", self.timeout_delta_ms, 1, self.timeout_ms_max)?;
        in_range("open_share_percent", self.open_share_percent, 0, 100)?;
        in_range("lead_ms", self.lead_ms, 1, 10_000)
    }
}

impl ChainParams {
    fn validate(&self) -> Result<(), InvalidGenesis> {
        in_range("id", self.id.0, 1, u64::MAX)?;
        let gas_min = if self.kind == ChainKind::Evm { 21_000 } else { 0 };
        in_range("gas_per_second", self.gas_per_second, gas_min, 1 << 40)?;
        in_range("bytes_per_second", self.bytes_per_second, 1, 1 << 32)?;
        in_range("transaction_gas_max", self.transaction_gas_max, gas_min, ENTRY_GAS_MAX)?;
        in_range("block_time_ms", self.block_time_ms, 0, 60_000)?;
        for (field, keys) in [("sequencers", &self.sequencers), ("gateways", &self.gateways)] {
            in_range(field, keys.len() as u64, 0, CHAIN_KEYS_MAX as u64)?;
            if keys.windows(2).any(|pair| matches!(pair, [a, b] if a >= b)) {
                return Err(InvalidGenesis::KeyOrder { id: self.id, field });
            }
        }
        Ok(())
    }
}

impl Genesis {
    /// Hash of the genesis' canonical bytes.
    #[must_use]
    pub fn network_id(&self) -> NetworkId {
        NetworkId(encoding::hash(tag::GENESIS, &[&self.to_canonical()]))
    }

    /// Checks ranges, orders and uniqueness.
    ///
    /// # Errors
    /// [`InvalidGenesis`] names the field and the reason.
    pub fn validate(&self) -> Result<(), InvalidGenesis> {
        in_range("name", self.name.len() as u64, 1, 64)?;
        in_range("timestamp", self.timestamp.0, 1, 1 << 44)?;
        in_range("chains", self.chains.len() as u64, 0, CHAINS_MAX as u64)?;
        self.params.validate()?;
        for chain in &self.chains {
            chain.validate()?;
        }
        for pair in self.chains.windows(2) {
            if let [before, after] = pair
                && before.id >= after.id
            {
                return Err(InvalidGenesis::ChainOrder { id: after.id });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
