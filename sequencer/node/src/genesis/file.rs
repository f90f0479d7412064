//! The tables of a genesis file, and what each means to the core.

use alloy_primitives::hex;
use libp2p::PeerId;
use lockstep_core::limits::TRANSACTION_GAS_MAX_DEFAULT;
use lockstep_core::params::{ChainKind, ChainParams, NetworkParams};
use lockstep_core::types::ChainId;
use lockstep_core::validator_set::Validator;
use serde::{Deserialize, Serialize};

use super::{Fault, addresses, split_network_address};

/// The year 2603: milliseconds since 1970 are far behind it.
const SECONDS_MAX: u64 = 20_000_000_000;
/// Shorter than any rollup's block, and longer than one in seconds.
const BLOCK_TIME_MS_MIN: u64 = 100;

/// A file of validators, as `genesis validator-entry` prints them: several may be pasted into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorList {
    /// The validators.
    pub validators: Vec<ValidatorEntry>,
}

/// A file of chains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainList {
    /// The chains.
    pub chains: Vec<ChainEntry>,
}

/// A validator: what its operator tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorEntry {
    /// Ethereum address of the validator key, `0x` and 40 hex digits.
    pub address: String,
    /// Compressed public key of the validator key, `0x` and 66 hex digits.
    pub public_key: String,
    /// Voting power, at least 1; the sum is below 2^60. Default 1.
    #[serde(default = "one")]
    pub power: u64,
    /// Where the other validators dial it: `/ip4/…/tcp/…/p2p/<peer id>`, or `/ip6` or `/dns…`.
    pub network_address: String,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainEntry {
    /// EIP-155 chain id; not 0.
    pub id: u64,
    /// `evm` or `opaque`. Default `evm`.
    #[serde(default)]
    pub kind: Kind,
    /// Milliseconds between two L2 blocks, 0..=60,000; 0 for a chain without blocks. Default 2,000.
    #[serde(default = "two_seconds")]
    pub block_time_ms: u64,
    /// Budget: declared gas per second, 21,000..=2^40; 0 is allowed for opaque chains. Default 30,000,000.
    #[serde(default = "gas_per_second")]
    pub gas_per_second: u64,
    /// Budget: transaction bytes per second, 1..=2^32. Default 1,048,576.
    #[serde(default = "bytes_per_second")]
    pub bytes_per_second: u64,
    /// Greatest gas that one transaction may declare, 21,000..=128,000,000; 0 is allowed for opaque chains. Default
    /// 16,777,216.
    #[serde(default = "transaction_gas_max")]
    pub transaction_gas_max: u64,
    /// Addresses that may sign the chain's records, 0..=16. Default: none.
    #[serde(default)]
    pub sequencers: Vec<String>,
    /// Addresses that admit entries for the chain, 0..=16. Default: none, then the chain is open.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Timestamp in seconds of the L2 block at which the chain joins. Default 0.
    #[serde(default)]
    pub joins_at_seconds: u64,
}

/// What a chain's transactions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// EIP-2718 transactions, signatures checked.
    #[default]
    Evm,
    /// Any bytes, nothing checked but their count.
    Opaque,
}

/// Network parameters; times in milliseconds. See [`NetworkParams`] for what each does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParamsEntry {
    /// A block is decided this often, idle or loaded, 10..=10,000. Default 250.
    pub block_interval_ms: u64,
    /// How old a fresh proposal may be, per round and one, 1..=60,000. Default 1,000.
    pub delay_ms: u64,
    /// How far clocks may differ, 1..=60,000. Default 500.
    pub drift_ms: u64,
    /// Timeout of the propose step, 10..=`timeout_ms_max`. Default 400.
    pub propose_ms: u64,
    /// Timeout of the prevote step, 10..=`timeout_ms_max`. Default 200.
    pub prevote_ms: u64,
    /// Timeout of the precommit step, 10..=`timeout_ms_max`. Default 200.
    pub precommit_ms: u64,
    /// What each timeout grows by per round, 1..=`timeout_ms_max`. Default 200.
    pub timeout_delta_ms: u64,
    /// Greatest timeout of any step, 100..=60,000. Default 8,000.
    pub timeout_ms_max: u64,
    /// Share of a chain's budget, in percent, for entries without its gateway's signature, 0..=100. Default 10.
    pub open_share_percent: u64,
    /// How long before an L2 block's timestamp its window ends, 1..=10,000. Default 700.
    pub lead_ms: u64,
}

const fn one() -> u64 {
    1
}

const fn two_seconds() -> u64 {
    2_000
}

const fn gas_per_second() -> u64 {
    30_000_000
}

const fn bytes_per_second() -> u64 {
    1 << 20
}

const fn transaction_gas_max() -> u64 {
    TRANSACTION_GAS_MAX_DEFAULT
}

impl From<Kind> for ChainKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Evm => Self::Evm,
            Kind::Opaque => Self::Opaque,
        }
    }
}

impl From<ChainKind> for Kind {
    fn from(kind: ChainKind) -> Self {
        match kind {
            ChainKind::Evm => Self::Evm,
            ChainKind::Opaque => Self::Opaque,
        }
    }
}

impl ChainEntry {
    /// A chain with the defaults of everything else.
    #[must_use]
    pub const fn new(id: u64, kind: Kind) -> Self {
        Self {
            id,
            kind,
            block_time_ms: two_seconds(),
            gas_per_second: gas_per_second(),
            bytes_per_second: bytes_per_second(),
            transaction_gas_max: transaction_gas_max(),
            sequencers: Vec::new(),
            gateways: Vec::new(),
            joins_at_seconds: 0,
        }
    }

    pub(super) fn to_params(&self) -> Result<ChainParams, Fault> {
        // A wrong unit would be hashed, and the chain never join.
        if self.joins_at_seconds > SECONDS_MAX {
            let got = self.joins_at_seconds;
            let reason = format!("is {got}, expected 0..={SECONDS_MAX}: are these milliseconds?");
            return Err(("joins_at_seconds".to_owned(), reason));
        }
        if (1..BLOCK_TIME_MS_MIN).contains(&self.block_time_ms) {
            let got = self.block_time_ms;
            let reason =
                format!("is {got}, expected 0 or at least {BLOCK_TIME_MS_MIN}: are these seconds?");
            return Err(("block_time_ms".to_owned(), reason));
        }
        Ok(ChainParams {
            id: ChainId(self.id),
            kind: self.kind.into(),
            block_time_ms: self.block_time_ms,
            gas_per_second: self.gas_per_second,
            bytes_per_second: self.bytes_per_second,
            transaction_gas_max: self.transaction_gas_max,
            sequencers: addresses("sequencers", &self.sequencers)?,
            gateways: addresses("gateways", &self.gateways)?,
            joins_at: self.joins_at_seconds,
        })
    }

    pub(super) fn from_params(chain: &ChainParams) -> Self {
        let texts =
            |keys: &[alloy_primitives::Address]| keys.iter().map(ToString::to_string).collect();
        Self {
            id: chain.id.0,
            kind: chain.kind.into(),
            block_time_ms: chain.block_time_ms,
            gas_per_second: chain.gas_per_second,
            bytes_per_second: chain.bytes_per_second,
            transaction_gas_max: chain.transaction_gas_max,
            sequencers: texts(&chain.sequencers),
            gateways: texts(&chain.gateways),
            joins_at_seconds: chain.joins_at,
        }
    }
}

impl ValidatorEntry {
    /// The validator, and the peer id at the end of its network address. Whether the key is the address' is checked with
    /// the whole set.
    pub(super) fn to_validator(&self) -> Result<(Validator, PeerId), (&'static str, String)> {
        let address = self
            .address
            .parse()
            .map_err(|_| ("address", format!("{:?} is not 0x and 40 hex digits", self.address)))?;
        let public_key = hex::decode_to_array(&self.public_key).map_err(|_| {
            ("public_key", format!("{:?} is not 0x and 66 hex digits", self.public_key))
        })?;
        let (_, peer) = split_network_address(&self.network_address)
            .map_err(|reason| ("network_address", reason))?;
        let network_address = self.network_address.clone();
        Ok((Validator { address, public_key, power: self.power, network_address }, peer))
    }

    pub(super) fn from_validator(validator: &Validator) -> Self {
        Self {
            address: validator.address.to_string(),
            public_key: hex::encode_prefixed(validator.public_key),
            power: validator.power,
            network_address: validator.network_address.clone(),
        }
    }
}

impl ParamsEntry {
    pub(super) const fn to_params(&self) -> NetworkParams {
        NetworkParams {
            block_interval_ms: self.block_interval_ms,
            delay_ms: self.delay_ms,
            drift_ms: self.drift_ms,
            propose_ms: self.propose_ms,
            prevote_ms: self.prevote_ms,
            precommit_ms: self.precommit_ms,
            timeout_delta_ms: self.timeout_delta_ms,
            timeout_ms_max: self.timeout_ms_max,
            open_share_percent: self.open_share_percent,
            lead_ms: self.lead_ms,
        }
    }

    pub(super) const fn from_params(params: &NetworkParams) -> Self {
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

impl Default for ParamsEntry {
    fn default() -> Self {
        Self::from_params(&NetworkParams::default())
    }
}
