//! A user's transaction: what the bytes alone say of it, and how an engine would show it while it is pending.
//!
//! The rules of the log are [`lockstep_core::transaction::check`]'s; this adds those of a mempool that need no state,
//! as every OP chain has them since Isthmus. Sources: EIP-1559, EIP-2930, EIP-7702; go-ethereum
//! `internal/ethapi/api.go` (`RPCTransaction`).

use alloy_consensus::{SignableTransaction as _, Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, B256, Bytes, U256, hex};
use lockstep_core::params::ChainKind;
use lockstep_core::transaction;
use lockstep_core::types::ChainId;
use lockstep_execution::gas::gas_min;
use serde_json::{Map, Value, json};

use crate::refused::Refused;

/// A transaction whose bytes, signature included, were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// keccak256 of the bytes.
    pub(crate) hash: B256,
    pub(crate) sender: Address,
    pub(crate) nonce: u64,
    pub(crate) gas: u64,
    /// The most it pays per gas, in wei.
    pub(crate) fee: u128,
    /// The most of it that is a tip, in wei per gas.
    pub(crate) tip: u128,
    /// The most it takes from its sender, in wei: gas at the greatest fee, and the value. Without what L1 costs.
    pub(crate) cost: U256,
    /// EIP-2718.
    pub(crate) bytes: Bytes,
    /// What was signed: the form that the chain's oracle wants for the price of L1.
    pub(crate) unsigned: Bytes,
}

impl Transaction {
    /// Checks the bytes; about 50 µs of one core for the signature.
    ///
    /// # Errors
    /// [`Refused`], permanent for these bytes.
    pub(crate) fn check(chain: ChainId, bytes: Bytes) -> Result<Self, Refused> {
        let checked = transaction::check(chain, ChainKind::Evm, &bytes)?;
        let sender = checked.sender.ok_or_else(|| Refused::Sender("no signer".to_owned()))?;
        let envelope = decode(&bytes)?;
        let (fee, nonce, gas) =
            (envelope.max_fee_per_gas(), envelope.nonce(), envelope.gas_limit());
        let tip = envelope.max_priority_fee_per_gas().unwrap_or(fee);
        if tip > fee {
            return Err(Refused::TipAboveFee);
        }
        if nonce == u64::MAX {
            return Err(Refused::NonceMax);
        }
        let needed = gas_min(&envelope, true);
        if gas < needed {
            return Err(Refused::IntrinsicGas { gas, needed });
        }
        if envelope.authorization_list().is_some_and(<[_]>::is_empty) {
            return Err(Refused::NoAuthorization);
        }
        let cost = U256::from(gas).saturating_mul(U256::from(fee)).saturating_add(envelope.value());
        let unsigned = unsigned(&envelope).into();
        let hash = checked.hash;
        Ok(Self { hash, sender, nonce, gas, fee, tip, cost, bytes, unsigned })
    }

    /// The transaction as `eth_getTransactionByHash` shows one that no block has.
    pub(crate) fn to_json(&self) -> Value {
        // The bytes were decoded before.
        decode(&self.bytes).map_or(Value::Null, |envelope| {
            Value::Object(pending(&envelope, self.hash, self.sender))
        })
    }
}

fn decode(bytes: &[u8]) -> Result<TxEnvelope, Refused> {
    TxEnvelope::decode_2718_exact(bytes).map_err(|error| Refused::Envelope(error.to_string()))
}

fn unsigned(envelope: &TxEnvelope) -> Vec<u8> {
    match envelope {
        TxEnvelope::Legacy(signed) => signed.tx().encoded_for_signing(),
        TxEnvelope::Eip2930(signed) => signed.tx().encoded_for_signing(),
        TxEnvelope::Eip1559(signed) => signed.tx().encoded_for_signing(),
        TxEnvelope::Eip4844(signed) => signed.tx().encoded_for_signing(),
        TxEnvelope::Eip7702(signed) => signed.tx().encoded_for_signing(),
    }
}

/// A JSON-RPC quantity: hex without leading zeros.
pub(crate) fn quantity(number: U256) -> Value {
    Value::String(format!("{number:#x}"))
}

/// Bytes as JSON-RPC has them, hashes and addresses too.
pub(crate) fn data(bytes: impl AsRef<[u8]>) -> Value {
    Value::String(hex::encode_prefixed(bytes))
}

fn pending(envelope: &TxEnvelope, hash: B256, sender: Address) -> Map<String, Value> {
    let signature = envelope.signature();
    let parity = U256::from(u8::from(signature.v()));
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    for name in ["blockHash", "blockNumber", "transactionIndex"] {
        set(name, Value::Null);
    }
    set("hash", data(hash));
    set("from", data(sender));
    set("to", envelope.to().map_or(Value::Null, data));
    set("nonce", quantity(U256::from(envelope.nonce())));
    set("gas", quantity(U256::from(envelope.gas_limit())));
    set("gasPrice", quantity(U256::from(envelope.max_fee_per_gas())));
    set("value", quantity(envelope.value()));
    set("input", data(envelope.input()));
    set("r", quantity(signature.r()));
    set("s", quantity(signature.s()));
    let chain = envelope.chain_id().unwrap_or_default();
    set("chainId", quantity(U256::from(chain)));
    if let Some(tip) = envelope.max_priority_fee_per_gas() {
        set("maxFeePerGas", quantity(U256::from(envelope.max_fee_per_gas())));
        set("maxPriorityFeePerGas", quantity(U256::from(tip)));
    }
    if let Some(list) = envelope.access_list() {
        set("accessList", access_list(list));
    }
    if let Some(list) = envelope.authorization_list() {
        set("authorizationList", list.iter().map(authorization).collect());
    }
    let kind = envelope.tx_type() as u8;
    set("type", quantity(U256::from(kind)));
    if kind == 0 {
        // EIP-155; 2^64 chains times two need more than 64 bits.
        let v = U256::from(chain).saturating_mul(U256::from(2)).saturating_add(U256::from(35));
        set("v", quantity(v.saturating_add(parity)));
    } else {
        set("v", quantity(parity));
        set("yParity", quantity(parity));
    }
    fields
}

fn access_list(list: &AccessList) -> Value {
    let item = |item: &AccessListItem| {
        let keys: Value = item.storage_keys.iter().map(data).collect();
        json!({ "address": data(item.address), "storageKeys": keys })
    };
    list.iter().map(item).collect()
}

fn authorization(signed: &SignedAuthorization) -> Value {
    json!({
        "chainId": quantity(*signed.chain_id()),
        "address": data(signed.address()),
        "nonce": quantity(U256::from(signed.nonce())),
        "yParity": quantity(U256::from(signed.y_parity())),
        "r": quantity(signed.r()),
        "s": quantity(signed.s()),
    })
}

#[cfg(test)]
mod tests;
