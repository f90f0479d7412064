//! The client over real sockets: what an engine may answer, and what it must not.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::limits::MESSAGE_BYTES_MAX;

/// An engine with one answer; the requests that it got.
#[derive(Clone, Default)]
struct Engine {
    answer: Arc<Mutex<(u16, String)>>,
    requests: Arc<Mutex<Vec<Value>>>,
}

async fn answer(State(engine): State<Engine>, body: String) -> (StatusCode, String) {
    engine.requests.lock().unwrap().push(serde_json::from_str(&body).unwrap());
    let (status, text) = engine.answer.lock().unwrap().clone();
    (StatusCode::from_u16(status).unwrap(), text)
}

impl Engine {
    async fn start() -> (Self, ChainRpc) {
        let engine = Self::default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let rpc = ChainRpc::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().route("/", post(answer)).with_state(engine.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (engine, rpc)
    }

    fn says(&self, status: u16, text: impl Into<String>) {
        *self.answer.lock().unwrap() = (status, text.into());
    }

    fn results(&self, result: &Value) {
        self.says(200, json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string());
    }

    fn refuses(&self, code: i64, message: &str) {
        let error = json!({ "code": code, "message": message });
        self.says(200, json!({ "jsonrpc": "2.0", "id": 1, "error": error }).to_string());
    }
}

fn block() -> ChainBlock {
    ChainBlock {
        number: 17,
        hash: B256::repeat_byte(1),
        parent: B256::repeat_byte(2),
        timestamp: 1_700_000_000,
        transactions: vec![B256::repeat_byte(3), B256::repeat_byte(4)],
    }
}

fn block_json() -> Value {
    let ChainBlock { number, hash, parent, timestamp, transactions } = block();
    let transactions: Vec<_> = transactions.iter().map(ToString::to_string).collect();
    json!({
        "number": format!("{number:#x}"),
        "hash": hash.to_string(),
        "parentHash": parent.to_string(),
        "timestamp": format!("{timestamp:#x}"),
        "transactions": transactions,
        "gasUsed": "0x0",
    })
}

#[tokio::test]
async fn a_block_is_read_by_hash_number_and_tag() {
    let (engine, rpc) = Engine::start().await;
    engine.results(&block_json());
    assert_eq!(rpc.block_by_hash(block().hash).await.unwrap(), Some(block()));
    for tag in [BlockTag::Number(17), BlockTag::Latest, BlockTag::Safe, BlockTag::Finalized] {
        assert_eq!(rpc.block_at(tag).await.unwrap(), Some(block()));
    }
    let requests = engine.requests.lock().unwrap().clone();
    let hash = block().hash.to_string();
    let expected = [
        ("eth_getBlockByHash", hash.as_str()),
        ("eth_getBlockByNumber", "0x11"),
        ("eth_getBlockByNumber", "latest"),
        ("eth_getBlockByNumber", "safe"),
        ("eth_getBlockByNumber", "finalized"),
    ];
    for (request, (method, first)) in requests.iter().zip(expected) {
        assert_eq!(
            (&request["method"], &request["params"]),
            (&json!(method), &json!([first, false]))
        );
    }
}

#[tokio::test]
async fn a_block_that_is_not_there_is_none() {
    let (engine, rpc) = Engine::start().await;
    engine.results(&Value::Null);
    assert_eq!(rpc.block_by_hash(block().hash).await.unwrap(), None);
    for (code, message) in [
        (-32_000, "safe block not found"),
        (-32_000, "finalized block not found"),
        (UNKNOWN_BLOCK, "Unknown block"),
    ] {
        engine.refuses(code, message);
        assert_eq!(rpc.block_at(BlockTag::Safe).await.unwrap(), None, "{message}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code() {
    let (engine, rpc) = Engine::start().await;
    engine.refuses(-32_601, &"the method does not exist ".repeat(99));
    let error = rpc.block_at(BlockTag::Latest).await.unwrap_err();
    assert_eq!(error.refusal().expect("a refusal").code, -32_601);
    assert_eq!(error.to_string().len(), MESSAGE_BYTES_MAX + "engine refused:  (-32601)".len());
}

#[tokio::test]
async fn another_block_than_was_asked_for_makes_no_sense() {
    let (engine, rpc) = Engine::start().await;
    engine.results(&block_json());
    let by_hash = rpc.block_by_hash(B256::repeat_byte(9)).await;
    let by_number = rpc.block_at(BlockTag::Number(18)).await;
    for answer in [by_hash, by_number] {
        assert!(matches!(answer, Err(EngineError::Answer { status: 200, .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_no_block_makes_no_sense() {
    let (engine, rpc) = Engine::start().await;
    for (field, value) in [
        ("number", json!("17")),
        ("number", json!("0x")),
        ("number", json!("0x+1")),
        ("number", json!("0x10000000000000000")),
        ("number", Value::Null),
        ("hash", json!("0x01")),
        ("parentHash", Value::Null),
        ("timestamp", json!(17)),
        ("transactions", json!([{ "hash": "0x01" }])),
    ] {
        let mut block = block_json();
        block[field] = value;
        engine.results(&block);
        let answer = rpc.block_at(BlockTag::Latest).await;
        assert!(
            matches!(answer, Err(EngineError::Answer { status: 200, .. })),
            "{block}: {answer:?}"
        );
    }
    engine.says(200, "<html>");
    let answer = rpc.block_at(BlockTag::Latest).await;
    assert!(matches!(answer, Err(EngineError::Answer { status: 200, .. })), "{answer:?}");
}

#[tokio::test]
async fn an_answer_is_bounded_and_a_status_is_told() {
    let (engine, rpc) = Engine::start().await;
    engine.says(200, " ".repeat(CHAIN_ANSWER_BYTES_MAX + 1));
    let answer = rpc.block_at(BlockTag::Latest).await;
    assert!(matches!(answer, Err(EngineError::Unreachable(_))), "{answer:?}");
    let mut fits = json!({ "result": null }).to_string();
    fits.push_str(&" ".repeat(CHAIN_ANSWER_BYTES_MAX - fits.len()));
    engine.says(200, fits);
    assert_eq!(rpc.block_at(BlockTag::Latest).await.unwrap(), None);
    for expected in [503, 302] {
        engine.says(expected, "");
        let answer = rpc.block_at(BlockTag::Latest).await;
        let Err(EngineError::Answer { status, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!(status, expected, "a redirect is not followed either");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let answer = ChainRpc::new(&url).unwrap().block_at(BlockTag::Latest).await;
    assert!(matches!(answer, Err(EngineError::Unreachable(_))), "{answer:?}");
}

#[test]
fn only_plain_http_is_spoken() {
    for url in [
        "https://a:1",
        "ws://a:1",
        "a:1",
        "",
        "http://",
        "http://u:p@a:1",
        "http://a",
        "http://a/x",
    ] {
        assert_eq!(ChainRpc::new(url).unwrap_err(), InvalidUrl { url: url.to_owned() });
    }
    assert_eq!(ChainRpc::new("http://a:8545/x").unwrap().url(), "http://a:8545/x");
}
