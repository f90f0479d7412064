//! The engine's chain: blocks by hash, a forkchoice, payloads that were built. Pure.
//!
//! A block's hash is keccak256 over its content as JSON, so a changed payload shows, and equal content is one block.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, hex, keccak256};
use serde_json::{Map, Value, json};

use super::{EngineKind, Refusal};

const UNKNOWN_PAYLOAD: i64 = -38001;
const INVALID_FORKCHOICE: i64 = -38002;
const INVALID_ATTRIBUTES: i64 = -38003;
const INVALID_PARAMS: i64 = -32602;
/// The estimated bytes of a small transaction.
const ESTIMATE: u64 = 100;

/// Why a call gives no result.
#[derive(Clone, Debug)]
pub struct Failure {
    /// JSON-RPC's code.
    pub code: i64,
    /// For people.
    pub message: String,
    /// `data.err`.
    pub data: Option<String>,
}

impl Failure {
    /// A failure with this code and these words.
    #[must_use]
    pub fn new(code: i64, message: &str) -> Self {
        Self { code, message: message.to_owned(), data: None }
    }

    fn attributes(words: String) -> Self {
        Self { data: Some(words), ..Self::new(INVALID_ATTRIBUTES, "Invalid payload attributes") }
    }
}

/// A block of the chain.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Hash of its parent.
    pub parent: B256,
    /// Its timestamp, seconds.
    pub timestamp: u64,
    gas_limit: u64,
    /// Its transactions, deposits first.
    pub transactions: Vec<Bytes>,
}

/// The chain.
#[derive(Clone, Debug)]
pub struct Chain {
    kind: EngineKind,
    /// All blocks that it took.
    pub blocks: BTreeMap<B256, Block>,
    /// The head.
    pub head: B256,
    safe: B256,
    finalized: B256,
    payloads: BTreeMap<String, Result<Value, Failure>>,
    /// Transactions that it calls bad, by hash.
    pub refused: BTreeMap<B256, Refusal>,
    /// Transactions that it puts into blocks by itself, where it may.
    pub pool: Vec<Bytes>,
    /// 0: the footprint is not checked.
    pub footprint_scalar: u64,
    /// Accounts that have nothing in the state of blocks up to a number.
    pub poor: BTreeMap<Address, u64>,
    /// What op-geth is like after a crash under the path scheme.
    crashed: Crashed,
}

/// op-geth after a crash under the path scheme: it knows blocks above its head, without states.
#[derive(Clone, Debug, Default)]
struct Crashed {
    /// Whether it takes no payload until its head was set.
    is_deaf: bool,
    stateless: BTreeSet<B256>,
    /// Blocks above the head that count as canonical, by number.
    marked: BTreeMap<u64, B256>,
}

/// A payload status.
#[must_use]
pub fn status(status: &str, valid: Option<B256>, error: Option<&str>) -> Value {
    json!({ "status": status, "latestValidHash": valid, "validationError": error })
}

fn quantity(value: Option<&Value>) -> Option<u64> {
    u64::from_str_radix(value?.as_str()?.strip_prefix("0x")?, 16).ok()
}

fn hash(value: Option<&Value>) -> Option<B256> {
    value?.as_str()?.parse().ok()
}

fn transactions(value: Option<&Value>) -> Vec<Bytes> {
    value.cloned().and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
}

fn invalid_params() -> Failure {
    Failure::new(INVALID_PARAMS, "missing value for required argument")
}

impl Chain {
    /// A chain of a genesis with this timestamp.
    #[must_use]
    pub fn new(kind: EngineKind, timestamp: u64, gas_limit: u64) -> Self {
        let genesis =
            Block { number: 0, parent: B256::ZERO, timestamp, gas_limit, transactions: Vec::new() };
        let head = keccak256(timestamp.to_be_bytes());
        Self {
            kind,
            blocks: BTreeMap::from([(head, genesis)]),
            head,
            safe: B256::ZERO,
            finalized: B256::ZERO,
            payloads: BTreeMap::new(),
            refused: BTreeMap::new(),
            pool: Vec::new(),
            footprint_scalar: 0,
            poor: BTreeMap::new(),
            crashed: Crashed::default(),
        }
    }

    /// Plays a `kill -9` of op-geth under the path scheme: its head is the block with number `head`, it knows the blocks up to
    /// `known`, and those between have no states.
    pub fn crash(&mut self, head: u64, known: u64) {
        self.restart(known);
        self.crashed.is_deaf = true;
        while let Some(block) = self.blocks.get(&self.head).filter(|block| block.number > head) {
            self.crashed.stateless.insert(self.head);
            self.crashed.marked.insert(block.number, self.head);
            self.head = block.parent;
        }
    }

    /// Moves the head. Whether it did: op-geth ignores a block that counts as canonical already.
    fn move_head(&mut self, head: B256) -> bool {
        let Some(block) = self.blocks.get(&head) else { return false };
        let crashed = &mut self.crashed;
        crashed.is_deaf = false;
        if crashed.marked.get(&block.number) == Some(&head) {
            return false;
        }
        if block.parent == self.head {
            crashed.marked.remove(&block.number);
        } else {
            crashed.marked.clear();
        }
        // States are made again from the first block that has one.
        let mut at = head;
        while crashed.stateless.remove(&at) {
            at = self.blocks.get(&at).map_or(B256::ZERO, |block| block.parent);
        }
        self.head = head;
        true
    }

    /// Plays a crash: all payloads are lost, and so are blocks with a number above `number`.
    pub fn restart(&mut self, number: u64) {
        self.payloads.clear();
        let at =
            |chain: &Self, hash| chain.blocks.get(&hash).map_or(0, |block: &Block| block.number);
        while at(self, self.head) > number {
            let parent = self.blocks.get(&self.head).map_or(B256::ZERO, |block| block.parent);
            self.head = parent;
        }
        self.blocks.retain(|_, block| block.number <= number);
        for label in [self.safe, self.finalized] {
            if !self.blocks.contains_key(&label) {
                self.safe = B256::ZERO;
                self.finalized = B256::ZERO;
            }
        }
    }

    /// Does a call.
    ///
    /// # Errors
    /// [`Failure`] where op-geth answers an error.
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, Failure> {
        let first = params.get(0);
        match method {
            "eth_chainId" => Ok(json!("0x385")),
            "eth_getBlockByHash" => {
                let hash = hash(first).ok_or_else(invalid_params)?;
                Ok(self.header(hash))
            }
            "eth_getBlockByNumber" => self.by_number(first),
            "eth_getTransactionCount" => Ok(json!("0x0")),
            "eth_getCode" => Ok(json!("0x")),
            "eth_getBalance" => Ok(self.balance(first, params.pointer("/1/blockHash"))),
            "eth_feeHistory" => Ok(
                json!({ "oldestBlock": "0x0", "baseFeePerGas": ["0x1", "0x1"], "gasUsedRatio": [0.5] }),
            ),
            "engine_getPayloadBodiesByHashV1" => {
                let hashes = first.and_then(Value::as_array).ok_or_else(invalid_params)?;
                Ok(hashes.iter().map(|it| self.body(hash(Some(it)))).collect())
            }
            _ if method.starts_with("engine_forkchoiceUpdatedV") => self.update(params),
            _ if method.starts_with("engine_getPayloadV") => self.payload(method, first),
            _ if method.starts_with("engine_newPayloadV") => self.take(params),
            _ => Err(Failure::new(
                -32601,
                &format!("the method {method} does not exist/is not available"),
            )),
        }
    }

    fn balance(&self, account: Option<&Value>, at: Option<&Value>) -> Value {
        let account: Option<Address> = account.and_then(|it| it.as_str()?.parse().ok());
        let number = hash(at).and_then(|hash| self.blocks.get(&hash)).map_or(0, |it| it.number);
        let is_poor =
            account.and_then(|it| self.poor.get(&it)).is_some_and(|until| number <= *until);
        json!(if is_poor { "0x0" } else { "0xde0b6b3a7640000" })
    }

    fn header(&self, hash: B256) -> Value {
        let Some(block) = self.blocks.get(&hash) else {
            return Value::Null;
        };
        json!({
            "number": format!("{:#x}", block.number),
            "hash": hash,
            "parentHash": block.parent,
            "timestamp": format!("{:#x}", block.timestamp),
            "gasLimit": format!("{:#x}", block.gas_limit),
            "baseFeePerGas": "0x1",
        })
    }

    fn by_number(&self, which: Option<&Value>) -> Result<Value, Failure> {
        let labelled = |hash: B256, name: &str| match hash {
            B256::ZERO => Err(Failure::new(-32000, &format!("{name} block not found"))),
            hash => Ok(self.header(hash)),
        };
        match which.and_then(Value::as_str) {
            Some("latest") => Ok(self.header(self.head)),
            Some("safe") => labelled(self.safe, "safe"),
            Some("finalized") => labelled(self.finalized, "finalized"),
            _ => {
                let number = quantity(which).ok_or_else(invalid_params)?;
                let mut hash = self.head;
                while let Some(block) = self.blocks.get(&hash).filter(|block| block.number > number)
                {
                    hash = block.parent;
                }
                let is_there = self.blocks.get(&hash).is_some_and(|block| block.number == number);
                Ok(if is_there { self.header(hash) } else { Value::Null })
            }
        }
    }

    fn body(&self, hash: Option<B256>) -> Value {
        let block = hash.and_then(|hash| self.blocks.get(&hash));
        block.map_or(
            Value::Null,
            |block| json!({ "transactions": block.transactions, "withdrawals": [] }),
        )
    }

    /// `forkchoiceUpdated`: the heads first, then the job. The heads stay even if the job is refused.
    fn update(&mut self, params: &Value) -> Result<Value, Failure> {
        let label = |name| params.pointer(&format!("/0/{name}BlockHash"));
        let (Some(head), Some(safe), Some(finalized)) =
            (hash(label("head")), hash(label("safe")), hash(label("finalized")))
        else {
            return Err(invalid_params());
        };
        if !self.blocks.contains_key(&head) {
            return Ok(
                json!({ "payloadStatus": status("SYNCING", None, None), "payloadId": null }),
            );
        }
        for label in [safe, finalized] {
            if label != B256::ZERO && !self.blocks.contains_key(&label) {
                return Err(Failure::new(INVALID_FORKCHOICE, "Invalid forkchoice state"));
            }
        }
        if self.move_head(head) {
            (self.safe, self.finalized) = (safe, finalized);
        }
        let id = match params.get(1).filter(|attributes| !attributes.is_null()) {
            Some(attributes) => json!(self.start(head, attributes)?),
            None => Value::Null,
        };
        Ok(json!({ "payloadStatus": status("VALID", Some(head), None), "payloadId": id }))
    }

    /// Starts a job, and gives its id: the same for the same job.
    fn start(&mut self, parent: B256, attributes: &Value) -> Result<String, Failure> {
        let asked = transactions(attributes.get("transactions"));
        let timestamp = quantity(attributes.get("timestamp")).ok_or_else(invalid_params)?;
        if self.blocks.get(&parent).is_none_or(|block| block.timestamp >= timestamp) {
            return Err(Failure::attributes("invalid timestamp".to_owned()));
        }
        if self.crashed.stateless.contains(&parent) {
            return Err(Failure::attributes("missing trie node".to_owned()));
        }
        let is_forced = attributes.get("noTxPool") == Some(&json!(true));
        let refusal = self.refusal(&asked);
        let mut held = asked;
        let mut failure = None;
        match (self.kind, refusal) {
            (EngineKind::OpGeth, Some(refusal)) => return Err(refusal),
            (EngineKind::Strict, Some(_)) => {
                failure = Some(Failure::new(-32000, "payload building failed"));
            }
            (EngineKind::OpReth, _) => {
                held.retain(|bytes| !self.refused.contains_key(&keccak256(bytes)));
            }
            (_, None) => {}
        }
        if !is_forced {
            held.extend(self.pool.iter().cloned());
        }
        let digest = keccak256([parent.as_slice(), attributes.to_string().as_bytes()].concat());
        let id = format!("0x03{}", hex::encode(digest.get(..7).unwrap_or_default()));
        let built = match failure {
            Some(failure) => Err(failure),
            None => Ok(self.build(parent, timestamp, attributes, &held)),
        };
        self.payloads.insert(id.clone(), built);
        Ok(id)
    }

    /// What op-geth says to a list with a bad transaction: undecodable ones show before anything is executed.
    fn refusal(&self, list: &[Bytes]) -> Option<Failure> {
        let how = |bytes: &Bytes| self.refused.get(&keccak256(bytes));
        if let Some(place) = list.iter().position(|bytes| how(bytes) == Some(&Refusal::Decoding)) {
            let words = "rlp: too few elements for types.DynamicFeeTx";
            return Some(Failure::attributes(format!("transaction {place} is not valid: {words}")));
        }
        let bad = list.iter().find(|bytes| how(bytes).is_some())?;
        if how(bad) == Some(&Refusal::Crash) {
            return Some(Failure::new(-32603, "method handler crashed"));
        }
        let sender = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc";
        Some(Failure::attributes(format!(
            "failed to force-include tx: {} type: 2 sender: {sender} nonce: 5, err: nonce too high: address {sender}, \
             tx: 5 state: 0",
            keccak256(bad)
        )))
    }

    fn build(&self, parent: B256, timestamp: u64, attributes: &Value, held: &[Bytes]) -> Value {
        let number = self.blocks.get(&parent).map_or(0, |block| block.number.saturating_add(1));
        let field = |name: &str| attributes.get(name).cloned().unwrap_or_default();
        let users = held.iter().filter(|bytes| bytes.first() != Some(&0x7e)).count() as u64;
        let footprint = users.saturating_mul(ESTIMATE).saturating_mul(self.footprint_scalar);
        let used = users.saturating_mul(21_000).saturating_add(50_000);
        let mut payload = json!({
            "parentHash": parent,
            "feeRecipient": field("suggestedFeeRecipient"),
            "stateRoot": B256::repeat_byte(0x57),
            "receiptsRoot": B256::repeat_byte(0x4e),
            "logsBloom": format!("0x{}", "00".repeat(256)),
            "prevRandao": field("prevRandao"),
            "blockNumber": format!("{number:#x}"),
            "gasLimit": field("gasLimit"),
            "gasUsed": format!("{used:#x}"),
            "timestamp": format!("{timestamp:#x}"),
            "extraData": "0x01000000fa000000060000000000000000",
            "baseFeePerGas": "0x3b5dc100",
            "transactions": held,
            "withdrawals": [],
            "blobGasUsed": format!("{footprint:#x}"),
            "excessBlobGas": "0x0",
            "withdrawalsRoot": B256::repeat_byte(0x77),
        });
        let sealed = seal(&payload);
        if let Some(object) = payload.as_object_mut() {
            object.insert("blockHash".to_owned(), json!(sealed));
            object.insert("slotNumber".to_owned(), Value::Null);
        }
        payload
    }

    fn payload(&self, method: &str, id: Option<&Value>) -> Result<Value, Failure> {
        let id = id.and_then(Value::as_str).ok_or_else(invalid_params)?;
        let unknown = || Failure::new(UNKNOWN_PAYLOAD, "Unknown payload");
        let payload = self.payloads.get(id).ok_or_else(unknown)?.clone()?;
        // Requests came with Isthmus.
        let requests = if method.ends_with("V3") { Value::Null } else { json!([]) };
        Ok(json!({
            "executionPayload": payload,
            "blockValue": "0x0",
            "blobsBundle": { "commitments": [], "proofs": [], "blobs": [] },
            "executionRequests": requests,
            "shouldOverrideBuilder": false,
            "parentBeaconBlockRoot": B256::ZERO,
        }))
    }

    /// `newPayload`.
    fn take(&mut self, params: &Value) -> Result<Value, Failure> {
        let payload = params.get(0).ok_or_else(invalid_params)?;
        let (Some(named), Some(parent)) =
            (hash(payload.get("blockHash")), hash(payload.get("parentHash")))
        else {
            return Err(invalid_params());
        };
        if seal(payload) != named {
            return Ok(status("INVALID", None, Some("blockhash mismatch")));
        }
        if self.blocks.contains_key(&named) {
            return Ok(status("VALID", Some(named), None));
        }
        if !self.blocks.contains_key(&parent) || self.crashed.is_deaf {
            return Ok(status("SYNCING", None, None));
        }
        if self.crashed.stateless.contains(&parent) {
            return Ok(status("ACCEPTED", None, None));
        }
        let number = |name| quantity(payload.get(name)).ok_or_else(invalid_params);
        let block = Block {
            number: number("blockNumber")?,
            parent,
            timestamp: number("timestamp")?,
            gas_limit: number("gasLimit")?,
            transactions: transactions(payload.get("transactions")),
        };
        let (used, limit) = (number("blobGasUsed")?, block.gas_limit);
        if used > limit {
            let words = format!("DA footprint {used} exceeds block gas limit {limit}");
            return Ok(status("INVALID", Some(parent), Some(&words)));
        }
        if block.transactions.iter().any(|bytes| self.refused.contains_key(&keccak256(bytes))) {
            return Ok(status("INVALID", Some(parent), Some("could not apply tx")));
        }
        self.blocks.insert(named, block);
        Ok(status("VALID", Some(named), None))
    }
}

/// A payload's hash: over all fields that op-node carries back.
fn seal(payload: &Value) -> B256 {
    let fields: Map<String, Value> = payload
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !matches!(name.as_str(), "blockHash" | "slotNumber"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    keccak256(Value::Object(fields).to_string())
}
