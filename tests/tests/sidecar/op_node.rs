//! A client that calls as op-node does, and whose every step a test may leave out, repeat or change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, address};
use alloy_rlp::Encodable;
use lockstep_core::deposit::DEPOSITOR;
use lockstep_execution::jwt::Secret;
use serde_json::{Value, json};

/// op-node gives a call up after 10 s; a test has less patience.
const PATIENCE: Duration = Duration::from_secs(4);

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The result of a call that must have one.
    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        assert_eq!(self.code(), None, "{}", self.text());
        self.json()["result"].clone()
    }

    /// The error's code, if it is an error.
    pub(crate) fn code(&self) -> Option<i64> {
        self.json()["error"]["code"].as_i64()
    }

    /// The payload id in the answer to a job.
    #[track_caller]
    pub(crate) fn id(&self) -> Value {
        let id = self.result()["payloadId"].clone();
        assert!(id.is_string(), "no payload id: {}", self.text());
        id
    }
}

/// A block that op-node took from `getPayload`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) hash: B256,
    pub(crate) parent: B256,
    pub(crate) number: u64,
    pub(crate) timestamp: u64,
    pub(crate) envelope: Value,
    /// Its transactions that are no deposits.
    pub(crate) users: Vec<Bytes>,
}

fn quantity(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
}

impl Block {
    pub(crate) fn of(envelope: Value) -> Self {
        let payload = &envelope["executionPayload"];
        let all: Vec<Bytes> = serde_json::from_value(payload["transactions"].clone()).unwrap();
        Self {
            hash: serde_json::from_value(payload["blockHash"].clone()).unwrap(),
            parent: serde_json::from_value(payload["parentHash"].clone()).unwrap(),
            number: quantity(&payload["blockNumber"]),
            timestamp: quantity(&payload["timestamp"]),
            users: all.into_iter().filter(|bytes| bytes[0] != 0x7e).collect(),
            envelope,
        }
    }
}

/// The L2 head as op-node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) hash: B256,
    pub(crate) timestamp: u64,
}

impl From<&Block> for Head {
    fn from(block: &Block) -> Self {
        Self { hash: block.hash, timestamp: block.timestamp }
    }
}

/// The client.
#[derive(Debug)]
pub(crate) struct OpNode {
    http: reqwest::Client,
    pub(crate) url: String,
    secret: Secret,
    next_id: AtomicU64,
    pub(crate) head: Head,
    pub(crate) safe: B256,
    pub(crate) finalized: B256,
    /// Seconds between two blocks.
    pub(crate) block_time: u64,
    pub(crate) gas_limit: u64,
    /// Gas per estimated byte, as the L1-attributes deposit says it.
    pub(crate) footprint_scalar: u16,
    /// What each transaction pays to the operator, in wei, as the same deposit says it.
    pub(crate) operator_fee: u64,
    /// Another one makes another block of the same timestamp.
    pub(crate) entropy: u8,
    /// Timestamp of the L1 origin.
    pub(crate) l1_timestamp: u64,
}

impl OpNode {
    pub(crate) fn new(url: String, secret: B256, genesis: Head) -> Self {
        Self {
            http: reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap(),
            url,
            secret: Secret::new(secret),
            next_id: AtomicU64::new(1),
            head: genesis,
            safe: genesis.hash,
            finalized: genesis.hash,
            block_time: 1,
            gas_limit: 30_000_000,
            footprint_scalar: 400,
            operator_fee: 0,
            entropy: 0xe0,
            l1_timestamp: genesis.timestamp,
        }
    }

    /// Sends a body with a header of authorization, or none.
    pub(crate) async fn send(&self, body: impl Into<reqwest::Body>, token: Option<&str>) -> Reply {
        self.try_send(body, token).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    async fn try_send(
        &self,
        body: impl Into<reqwest::Body>,
        token: Option<&str>,
    ) -> reqwest::Result<Reply> {
        let mut request = self.http.post(&self.url).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = request.body(body).send().await?;
        let status = response.status().as_u16();
        Ok(Reply { status, body: response.bytes().await?.into() })
    }

    /// Sends a body as it is.
    pub(crate) async fn raw(&self, body: &str) -> Reply {
        self.send(body.to_owned(), Some(&self.secret.token())).await
    }

    pub(crate) async fn call(&self, method: &str, params: Value) -> Reply {
        self.raw(&self.body(method, params)).await
    }

    /// A call that is given up after some time, as op-node does.
    pub(crate) async fn call_for(
        &self,
        time: Duration,
        method: &str,
        params: Value,
    ) -> Option<Reply> {
        let (body, token) = (self.body(method, params), self.secret.token());
        tokio::time::timeout(time, self.try_send(body, Some(&token))).await.ok()?.ok()
    }

    pub(crate) fn body(&self, method: &str, params: Value) -> String {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
    }

    pub(crate) fn heads(&self, head: B256) -> Value {
        json!({ "headBlockHash": head, "safeBlockHash": self.safe, "finalizedBlockHash": self.finalized })
    }

    /// `forkchoiceUpdated`.
    pub(crate) async fn update(&self, head: B256, attributes: Value) -> Reply {
        self.call("engine_forkchoiceUpdatedV3", json!([self.heads(head), attributes])).await
    }

    /// The attributes of a sequencing job for a block with this timestamp.
    pub(crate) fn attributes(&self, timestamp: u64) -> Value {
        json!({
            "timestamp": format!("{timestamp:#x}"),
            "prevRandao": B256::repeat_byte(self.entropy),
            "suggestedFeeRecipient": "0x4200000000000000000000000000000000000011",
            "withdrawals": [],
            "parentBeaconBlockRoot": B256::ZERO,
            "transactions": [self.deposit(timestamp)],
            "gasLimit": format!("{:#x}", self.gas_limit),
            "eip1559Params": "0x000000fa00000006",
            "minBaseFee": 1_000_000_007,
        })
    }

    /// The L1-attributes deposit of Jovian.
    pub(crate) fn deposit(&self, timestamp: u64) -> Bytes {
        let mut data = vec![0x3d, 0xb6, 0xbe, 0x2b];
        // No fee for L1: both scalars are 0.
        data.extend([0; 8]);
        for field in [timestamp.saturating_sub(self.l1_timestamp), self.l1_timestamp, 9] {
            data.extend(field.to_be_bytes());
        }
        data.resize(164, 0xee);
        data.extend([0; 4]);
        data.extend(self.operator_fee.to_be_bytes());
        data.extend(self.footprint_scalar.to_be_bytes());
        deposit(DEPOSITOR, 1_000_000, &data)
    }

    /// Starts a job on the head.
    pub(crate) async fn start_job(&self) -> Reply {
        let timestamp = self.head.timestamp + self.block_time;
        self.update(self.head.hash, self.attributes(timestamp)).await
    }

    pub(crate) async fn get_payload(&self, id: &Value) -> Reply {
        self.call("engine_getPayloadV4", json!([id])).await
    }

    pub(crate) async fn new_payload(&self, envelope: &Value) -> Reply {
        self.call("engine_newPayloadV4", Self::payload_params(envelope)).await
    }

    /// op-node drops what it does not know of a payload.
    pub(crate) fn payload_params(envelope: &Value) -> Value {
        let mut payload = envelope["executionPayload"].clone();
        payload.as_object_mut().unwrap().remove("slotNumber");
        json!([payload, [], B256::ZERO, []])
    }

    /// `newPayload` and `forkchoiceUpdated`: the block is the head.
    pub(crate) async fn adopt(&mut self, envelope: Value) -> Block {
        let block = Block::of(envelope);
        let reply = self.new_payload(&block.envelope).await;
        assert_eq!(reply.result()["status"], "VALID", "{}", reply.text());
        self.head = Head::from(&block);
        let reply = self.update(self.head.hash, Value::Null).await;
        assert_eq!(reply.result()["payloadStatus"]["status"], "VALID", "{}", reply.text());
        block
    }

    /// A whole block.
    pub(crate) async fn block(&mut self) -> Block {
        let id = self.start_job().await.id();
        let envelope = self.get_payload(&id).await.result();
        self.adopt(envelope).await
    }

    /// A block of these transactions behind the deposit, that the engine builds for derivation.
    pub(crate) async fn derive(&mut self, transactions: &[Bytes]) -> Block {
        let timestamp = self.head.timestamp + self.block_time;
        let envelope = self.derived(timestamp, transactions).await;
        self.adopt(envelope).await
    }

    pub(crate) async fn derived(&self, timestamp: u64, transactions: &[Bytes]) -> Value {
        let mut attributes = self.attributes(timestamp);
        let all: Vec<Bytes> =
            [self.deposit(timestamp)].into_iter().chain(transactions.iter().cloned()).collect();
        attributes["transactions"] = json!(all);
        attributes["noTxPool"] = json!(true);
        let id = self.update(self.head.hash, attributes).await.id();
        self.get_payload(&id).await.result()
    }
}

/// A deposit transaction.
pub(crate) fn deposit(from: Address, gas: u64, data: &[u8]) -> Bytes {
    let to = address!("4200000000000000000000000000000000000015");
    let fields: [&dyn Encodable; 8] =
        [&B256::repeat_byte(1), &from, &to, &0u8, &0u8, &gas, &false, &data];
    let mut bytes = vec![0x7e];
    alloy_rlp::encode_list::<&dyn Encodable, dyn Encodable>(&fields, &mut bytes);
    bytes.into()
}
