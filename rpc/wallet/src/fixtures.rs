//! What the tests share: signed transactions, an engine and validators that do as they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, Signature as EvmSignature, TxKind, U256, hex};
use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use futures::future::BoxFuture;
use lockstep_core::entry::{Body, Entry};
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, NetworkId};
use lockstep_proto::error::{ErrorCode, Refusal};
use lockstep_rpc::client::submitter::{Progress, Submitter};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::pool::Gateway;
use crate::transaction::Transaction;

pub(crate) const CHAIN: ChainId = ChainId(901);
pub(crate) const NETWORK: NetworkId = NetworkId(B256::repeat_byte(0x77));
/// What the engine of the tests asks for.
pub(crate) const BASE_FEE: u128 = 100;

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes([n; 32]).unwrap()
}

pub(crate) fn sign<T: SignableTransaction<EvmSignature>>(transaction: T, key: &SigningKey) -> Bytes
where
    TxEnvelope: From<alloy_consensus::Signed<T>>,
{
    let signature = key.sign(transaction.signature_hash());
    let signature = EvmSignature::from_raw(&signature.0).unwrap();
    TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()
}

pub(crate) fn transfer(nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN.0,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 2 * BASE_FEE,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(Address::repeat_byte(0x11)),
        value: U256::from(1_000),
        ..TxEip1559::default()
    }
}

/// A signed transfer of account `n`.
pub(crate) fn signed(n: u8, nonce: u64) -> Bytes {
    sign(transfer(nonce), &key(n))
}

pub(crate) fn checked(bytes: Bytes) -> Transaction {
    Transaction::check(CHAIN, bytes).unwrap()
}

pub(crate) fn gateway() -> Gateway {
    Gateway { chain: CHAIN, network: NETWORK, key: key(9), tip_min: 0, gas_max: 1 << 24 }
}

/// Validators in memory.
#[derive(Debug, Default)]
pub(crate) struct Validators {
    pub(crate) count: usize,
    /// Those that answer that they cannot.
    pub(crate) down: Mutex<BTreeSet<usize>>,
    /// Those that say that the log has everything.
    pub(crate) deciding: Mutex<BTreeSet<usize>>,
    /// Those that refuse everything for good.
    pub(crate) refusing: Mutex<BTreeSet<usize>>,
    /// What each was given, in order: the hashes.
    pub(crate) given: Mutex<BTreeMap<usize, Vec<B256>>>,
    /// The entries, the newest last.
    pub(crate) entries: Mutex<Vec<Entry>>,
}

impl Validators {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { count, ..Self::default() })
    }

    pub(crate) fn given(&self) -> BTreeMap<usize, Vec<B256>> {
        self.given.lock().unwrap().clone()
    }

    pub(crate) fn has(set: &Mutex<BTreeSet<usize>>, endpoint: usize) -> bool {
        set.lock().unwrap().contains(&endpoint)
    }
}

impl Submitter for Validators {
    fn count(&self) -> usize {
        self.count
    }

    fn submit(&self, endpoint: usize, entry: Entry) -> BoxFuture<'_, Result<Progress, Refusal>> {
        Box::pin(async move {
            // Another task may run in between, as with a network.
            tokio::task::yield_now().await;
            if Self::has(&self.down, endpoint) {
                return Err(Refusal::new(ErrorCode::NotReady, "down"));
            }
            if Self::has(&self.refusing, endpoint) {
                return Err(Refusal::new(ErrorCode::UnknownChain, "unknown chain"));
            }
            let checked = entry.clone().check(NETWORK).unwrap();
            assert_eq!(checked.gateway(), Some(key(9).address()));
            assert!(matches!(entry.body(), Body::Transaction(_)));
            let hash = checked.transactions()[0].hash;
            self.given.lock().unwrap().entry(endpoint).or_default().push(hash);
            self.entries.lock().unwrap().push(entry);
            match Self::has(&self.deciding, endpoint) {
                true => Ok(Progress::Decided),
                false => Ok(Progress::Held),
            }
        })
    }
}

/// An engine over HTTP and WebSocket.
#[derive(Debug)]
pub(crate) struct FakeEngine {
    pub(crate) http: String,
    pub(crate) ws: String,
    pub(crate) book: Arc<Book>,
}

/// What it knows, and what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) nonces: Mutex<BTreeMap<Address, u64>>,
    pub(crate) balance: Mutex<U256>,
    pub(crate) l1_fee: Mutex<u64>,
    /// Seconds.
    pub(crate) time: Mutex<u64>,
    /// Its chain, if it says so.
    pub(crate) chain: Mutex<Option<u64>>,
    /// Bodies over HTTP.
    pub(crate) asked: Mutex<Vec<String>>,
}

impl FakeEngine {
    pub(crate) async fn start() -> Self {
        let book = Arc::new(Book::default());
        *book.balance.lock().unwrap() = U256::from(1_000_000_000u64);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(serve).with_state(Arc::clone(&book));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { http: format!("http://{address}"), ws: format!("ws://{address}"), book }
    }
}

impl Book {
    pub(crate) fn set_nonce(&self, sender: Address, nonce: u64) {
        self.nonces.lock().unwrap().insert(sender, nonce);
    }

    fn answer(&self, call: &Value) -> Value {
        let params = &call["params"];
        let result = match call["method"].as_str().unwrap() {
            "eth_getTransactionCount" => {
                let sender: Address = params[0].as_str().unwrap().parse().unwrap();
                let nonce = self.nonces.lock().unwrap().get(&sender).copied().unwrap_or_default();
                json!(format!("{nonce:#x}"))
            }
            "eth_getBalance" => json!(format!("{:#x}", *self.balance.lock().unwrap())),
            "eth_getBlockByNumber" => {
                let time = format!("{:#x}", *self.time.lock().unwrap());
                json!({ "gasLimit": "0x1c9c380", "baseFeePerGas": "0x1", "timestamp": time })
            }
            "eth_feeHistory" => {
                json!({ "baseFeePerGas": ["0x1", format!("{BASE_FEE:#x}")] })
            }
            "eth_call" => {
                let data = hex::decode(params[0]["data"].as_str().unwrap()).unwrap();
                assert_eq!(data[..4], [0x49, 0x94, 0x8e, 0x0e]);
                json!(format!("0x{:064x}", *self.l1_fee.lock().unwrap()))
            }
            "eth_getTransactionByHash" | "eth_getTransactionReceipt" => Value::Null,
            "eth_subscribe" => json!("0xabc"),
            "eth_fail" => {
                let error = json!({ "code": 3, "message": "reverted", "data": "0x08" });
                return json!({ "jsonrpc": "2.0", "id": call["id"], "error": error });
            }
            "eth_chainId" if let Some(chain) = *self.chain.lock().unwrap() => {
                json!(format!("{chain:#x}"))
            }
            other => json!(other),
        };
        json!({ "jsonrpc": "2.0", "id": call["id"], "result": result })
    }

    fn answer_text(&self, text: &str) -> String {
        match serde_json::from_str(text).unwrap() {
            // The last first: the order is the engine's own.
            Value::Array(calls) => {
                calls.iter().rev().map(|call| self.answer(call)).collect::<Value>().to_string()
            }
            call => self.answer(&call).to_string(),
        }
    }
}

async fn serve(
    State(book): State<Arc<Book>>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    if let Ok(upgrade) = upgrade {
        return upgrade.on_upgrade(move |mut socket| async move {
            while let Some(Ok(Message::Text(text))) = socket.recv().await {
                let mut sent = vec![book.answer_text(&text)];
                if text.contains("eth_subscribe") {
                    sent.push(json!({ "method": "eth_subscription" }).to_string());
                }
                for text in sent {
                    socket.send(Message::Text(text.into())).await.unwrap();
                }
            }
        });
    }
    let body = axum::body::to_bytes(request.into_body(), 8 << 20).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let answer = book.answer_text(&text);
    book.asked.lock().unwrap().push(text);
    ([("content-type", "application/json")], answer).into_response()
}
