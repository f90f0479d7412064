//! The execution engine's JSON-RPC over HTTP: what is passed on to it, and what the gateway asks it itself.
//!
//! It interprets nothing but the answers to its own calls.

use std::fmt::Display;

use alloy_primitives::{Address, Bytes, U256, address, hex};
use lockstep_core::types::UnixMillis;
use lockstep_execution::client::{self, Bounds, CallResult, EngineError, InvalidUrl};
use reqwest::Response;
use serde_json::{Value, json};

use crate::limits::{ANSWER_BYTES_MAX, ENGINE_CONNECT_TIMEOUT, ENGINE_TIMEOUT};
use crate::overlay::ChainState;
use crate::transaction::{Transaction, data};

/// OP's `GasPriceOracle`, at the same address on every chain.
const GAS_PRICE_ORACLE: Address = address!("420000000000000000000000000000000000000F");
/// Selector of `getL1Fee(bytes)`.
const GET_L1_FEE: [u8; 4] = [0x49, 0x94, 0x8e, 0x0e];

/// As much of an answer as is taken apart; the others are streamed.
const BOUNDS: Bounds = Bounds {
    connect_timeout: ENGINE_CONNECT_TIMEOUT,
    timeout: ENGINE_TIMEOUT,
    answer_bytes_max: ANSWER_BYTES_MAX,
};

/// A client of the engine; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine(client::Engine);

/// One of the gateway's own calls.
type Call = (&'static str, Value);

impl Engine {
    pub(crate) fn new(url: &str) -> Result<Self, InvalidUrl> {
        client::Engine::within(BOUNDS, url, None).map(Self)
    }

    /// Whether the engine is of this chain.
    pub(crate) async fn is_of(&self, chain: u64) -> Result<bool, EngineError> {
        self.0.is_of(chain).await
    }

    /// Sends a body as it is; the answer is not read yet.
    pub(crate) async fn forward(&self, body: bytes::Bytes) -> Result<Response, EngineError> {
        self.0.send(body).await
    }

    /// Sends a body and reads the answer.
    pub(crate) async fn ask(&self, body: String) -> Result<String, EngineError> {
        let reply = self.0.forward(body.into()).await?;
        String::from_utf8(reply.body.into())
            .map_err(|_| EngineError::Unreachable("not UTF-8".to_owned()))
    }

    /// The results of several calls, in their order; an error's is the reason.
    async fn call(&self, calls: &[Call]) -> Result<Vec<Result<Value, String>>, EngineError> {
        let read = |result: CallResult| {
            let raw = result.map_err(|error| error.to_string())?;
            serde_json::from_str(raw.get()).map_err(|error| error.to_string())
        };
        Ok(self.0.results(calls).await?.into_iter().map(read).collect())
    }

    /// All that admission needs to know for a transaction, as of the newest block.
    pub(crate) async fn state_for(
        &self,
        transaction: &Transaction,
    ) -> Result<ChainState, EngineError> {
        let sender = data(transaction.sender);
        let calls: [Call; 6] = [
            ("eth_getCode", json!([sender, "latest"])),
            ("eth_getTransactionCount", json!([sender, "latest"])),
            ("eth_getBalance", json!([sender, "latest"])),
            ("eth_getBlockByNumber", json!(["latest", false])),
            ("eth_feeHistory", json!(["0x1", "latest", []])),
            ("eth_call", json!([l1_fee_call(&transaction.unsigned), "latest"])),
        ];
        let results = self.call(&calls).await?;
        let mut results = results.into_iter().zip(calls.iter().map(|(method, _)| *method));
        let mut next = || results.next().unwrap_or((Err("is missing".to_owned()), ""));
        // EIP-7702: what an account with a delegation sends, anybody may make fail.
        let code = next().0.unwrap_or_default();
        let is_delegated = code.as_str().is_some_and(|code| code.starts_with("0xef0100"));
        let nonce = to_u64(number(next())?)?;
        let balance = number(next())?;
        let block = value(next())?;
        let history = next().0.unwrap_or_default();
        // A chain without the oracle charges nothing for L1.
        let l1_fee = next().0.ok().and_then(|fee| word(&fee)).unwrap_or_default();
        Ok(ChainState {
            is_delegated,
            nonce,
            balance,
            base_fee: next_base_fee(&history, &block),
            gas_limit: block_field(&block, "gasLimit")?,
            l1_fee,
        })
    }

    /// The next nonces of several senders, and the time of the newest block. A sender whose nonce the engine does not tell is left out.
    pub(crate) async fn nonces(
        &self,
        senders: &[Address],
    ) -> Result<(Vec<(Address, u64)>, UnixMillis), EngineError> {
        let mut calls: Vec<Call> = vec![("eth_getBlockByNumber", json!(["latest", false]))];
        let count = |sender: &Address| ("eth_getTransactionCount", json!([data(sender), "latest"]));
        calls.extend(senders.iter().map(count));
        let mut results = self.call(&calls).await?.into_iter();
        let missing = || Err("is missing".to_owned());
        let block = value((results.next().unwrap_or_else(missing), "eth_getBlockByNumber"))?;
        let seconds = block_field(&block, "timestamp")?;
        let nonces = senders.iter().zip(results).filter_map(|(sender, result)| {
            let nonce = quantity_of(&result.ok()?).and_then(|n| u64::try_from(n).ok())?;
            Some((*sender, nonce))
        });
        Ok((nonces.collect(), UnixMillis(seconds.saturating_mul(1_000))))
    }
}

fn value((result, method): (Result<Value, String>, &'static str)) -> Result<Value, EngineError> {
    match result {
        Ok(Value::Null) => Err(bad(method, "is null")),
        Ok(value) => Ok(value),
        Err(reason) => Err(bad(method, reason)),
    }
}

/// No use of an answer that came.
fn bad(method: &str, reason: impl Display) -> EngineError {
    EngineError::Answer { status: 200, reason: format!("{method}: {reason}") }
}

fn number((result, method): (Result<Value, String>, &'static str)) -> Result<U256, EngineError> {
    let value = value((result, method))?;
    quantity_of(&value).ok_or_else(|| bad(method, format_args!("{value} is no quantity")))
}

fn block_field(block: &Value, name: &str) -> Result<u64, EngineError> {
    let field = block.get(name).cloned().unwrap_or_default();
    to_u64(number((Ok(field), "eth_getBlockByNumber"))?)
}

fn to_u64(number: U256) -> Result<u64, EngineError> {
    u64::try_from(number).map_err(|_| EngineError::Unreachable(format!("{number} is too large")))
}

/// The number of a JSON-RPC quantity.
pub(crate) fn quantity_of(value: &Value) -> Option<U256> {
    U256::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

/// The number in the 32 bytes that a contract returned; `None` for other lengths.
fn word(value: &Value) -> Option<U256> {
    let bytes = hex::decode(value.as_str()?).ok()?;
    (bytes.len() == 32).then(|| U256::from_be_slice(&bytes))
}

/// The last of the history's fees is that of the block to come. Without a history, and without a base fee at all on
/// chains before EIP-1559, the newest block's is as near as one gets.
fn next_base_fee(history: &Value, block: &Value) -> u128 {
    const NAME: &str = "baseFeePerGas";
    let fees = history.get(NAME).and_then(Value::as_array);
    let fee = fees.and_then(|fees| fees.last()).and_then(quantity_of);
    let fee = fee.or_else(|| quantity_of(block.get(NAME)?)).unwrap_or_default();
    u128::try_from(fee).unwrap_or(u128::MAX)
}

fn l1_fee_call(unsigned: &Bytes) -> Value {
    let padding = vec![0; unsigned.len().next_multiple_of(32).saturating_sub(unsigned.len())];
    let input = [
        GET_L1_FEE.as_slice(),
        &U256::from(32).to_be_bytes::<32>(),
        &U256::from(unsigned.len()).to_be_bytes::<32>(),
        unsigned,
        &padding,
    ]
    .concat();
    json!({ "to": data(GAS_PRICE_ORACLE), "data": data(input) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_is_asked_in_its_abi() {
        let call = l1_fee_call(&Bytes::from_static(&[0xaa; 33]));
        assert_eq!(call["to"], "0x420000000000000000000000000000000000000f");
        let input = hex::decode(call["data"].as_str().unwrap()).unwrap();
        assert_eq!(input[..4], GET_L1_FEE);
        assert_eq!(input.len(), 4 + 32 + 32 + 64);
        assert_eq!((input[4 + 31], input[4 + 63], input[4 + 64 + 32]), (32, 33, 0xaa));
        assert!(input[4 + 64 + 33..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_next_base_fee_is_the_last_of_the_history() {
        let block = json!({ "baseFeePerGas": "0x7" });
        assert_eq!(next_base_fee(&json!({ "baseFeePerGas": ["0x5", "0x6"] }), &block), 6);
        assert_eq!(next_base_fee(&Value::Null, &block), 7);
        assert_eq!(next_base_fee(&Value::Null, &Value::Null), 0);
    }

    #[test]
    fn only_whole_words_and_prefixed_quantities_are_numbers() {
        assert_eq!(word(&json!("0x")), None);
        assert_eq!(word(&json!(format!("0x{:064x}", 9))), Some(U256::from(9)));
        assert_eq!(quantity_of(&json!("0x1f")), Some(U256::from(31)));
        for other in [json!("1f"), json!(31), Value::Null, json!("0xg")] {
            assert_eq!(quantity_of(&other), None, "{other}");
        }
    }

    #[test]
    fn only_http_urls_are_taken() {
        assert!(Engine::new("http://127.0.0.1:8545").is_ok());
        assert!(Engine::new("ws://127.0.0.1:8545").is_err());
        assert!(Engine::new("nothing").is_err());
    }
}
