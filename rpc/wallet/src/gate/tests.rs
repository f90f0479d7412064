//! What passes, what is closed, what is overlaid, and how batches are put together.

use lockstep_rpc::client::submitter::Submitter;
use lockstep_rpc::quota::QuotaConfig;
use serde_json::json;

use super::*;
use crate::fixtures::{FakeEngine, Validators, checked, gateway, key, signed};
use crate::metrics::WalletMetrics;

struct World {
    engine: FakeEngine,
    gate: Gate,
}

async fn world() -> World {
    let engine = FakeEngine::start().await;
    let client = Engine::new(&engine.http).unwrap();
    let validators = Validators::new(1) as Arc<dyn Submitter>;
    let (quota, metrics) = (QuotaConfig::default(), WalletMetrics::default());
    let pool = Arc::new(Pool::new(gateway(), client.clone(), validators, quota, metrics));
    World { engine, gate: Gate::new(pool, client) }
}

fn call(id: u64, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn send(id: u64, n: u8, nonce: u64) -> Value {
    call(id, "eth_sendRawTransaction", json!([data(signed(n, nonce))]))
}

fn pending_nonce(id: u64, n: u8) -> Value {
    call(id, "eth_getTransactionCount", json!([data(key(n).address()), "pending"]))
}

impl World {
    fn passes(&self, call: &Value) -> bool {
        self.gate.passes(call.to_string().as_bytes())
    }

    async fn answer(&self, call: &Value) -> Value {
        let text = self.gate.answer(Client::Others, call.to_string().as_bytes()).await;
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    fn asked(&self) -> Vec<String> {
        self.engine.book.asked.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn only_public_namespaces_are_open_and_nothing_reaches_the_engines_own_pool() {
    let world = world().await;
    for method in ["eth_call", "net_version", "web3_clientVersion", "eth_subscribe", "eth_accounts"]
    {
        assert!(world.passes(&call(1, method, json!([]))), "{method}");
    }
    let closed = [
        "engine_newPayloadV4",
        "admin_peers",
        "debug_traceCall",
        "miner_setMaxDASize",
        "personal_sign",
        "txpool_content",
        "eth_sendTransaction",
        "eth_sendRawTransactionConditional",
        "eth_sendRawTransactionSync",
        "eth_sign",
        "eth_signTransaction",
        "eth_resend",
        "eth_fillTransaction",
        "rpc_modules",
        "ETH_call",
        "",
    ];
    for method in closed {
        let call = call(7, method, json!([]));
        assert!(!world.passes(&call), "{method}");
        let answer = world.answer(&call).await;
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32601), &json!(7)));
        let expected = format!("the method {method} does not exist/is not available");
        assert_eq!(answer["error"]["message"], expected);
    }
    assert!(world.asked().is_empty());
}

#[tokio::test]
async fn a_transaction_is_sent_and_then_shown_as_pending() {
    let world = world().await;
    let transaction = checked(signed(1, 0));
    let by_hash = call(3, "eth_getTransactionByHash", json!([data(transaction.hash)]));
    assert!(world.passes(&pending_nonce(2, 1)) && world.passes(&by_hash));
    for nonce in 0..3 {
        let answer = world.answer(&send(1, 1, nonce)).await;
        assert_eq!(answer["result"], data(checked(signed(1, nonce)).hash), "{answer}");
    }
    assert!(!world.passes(&pending_nonce(2, 1)) && !world.passes(&by_hash));
    let answer = world.answer(&pending_nonce(2, 1)).await;
    assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": 2, "result": "0x3" }));
    let answer = world.answer(&by_hash).await;
    assert_eq!((&answer["id"], &answer["result"]), (&json!(3), &transaction.to_json()));

    world.engine.book.set_nonce(key(1).address(), 9);
    let answer = world.answer(&pending_nonce(2, 1)).await;
    assert_eq!(answer["result"], "0x9", "the engine is ahead");
    let latest = call(1, "eth_getTransactionCount", json!([data(key(1).address()), "latest"]));
    assert!(world.passes(&latest));
}

#[tokio::test]
async fn a_refusal_has_geths_code_and_words() {
    let world = world().await;
    world.engine.book.set_nonce(key(1).address(), 5);
    let answer = world.answer(&send(4, 1, 3)).await;
    let error = json!({ "code": -32000, "message": "nonce too low: next nonce 5, tx nonce 3" });
    assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": 4, "error": error }));
    for params in [json!([]), json!([7]), json!(["zz"]), json!({}), Value::Null] {
        let answer = world.answer(&call(1, "eth_sendRawTransaction", params)).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order_whoever_answers() {
    let world = world().await;
    let batch = json!([
        call(5, "eth_chainId", json!([])),
        send(6, 1, 0),
        call(7, "admin_peers", json!([])),
        call(8, "eth_fail", json!([])),
        7,
        pending_nonce(9, 1),
        { "method": "eth_notified" },
    ]);
    assert!(!world.passes(&batch));
    let answer = world.answer(&batch).await;
    let answers = answer.as_array().unwrap();
    assert_eq!(answers.len(), 6, "{answer}");
    assert_eq!(answers[0], json!({ "jsonrpc": "2.0", "id": 5, "result": "eth_chainId" }));
    assert_eq!(answers[1]["result"], data(checked(signed(1, 0)).hash));
    assert_eq!(answers[2]["error"]["code"], -32601);
    assert_eq!(answers[3]["error"]["data"], "0x08");
    assert_eq!((&answers[4]["error"]["code"], &answers[4]["id"]), (&json!(-32600), &Value::Null));
    assert_eq!(answers[5]["id"], 9);
    let forwarded: Vec<String> =
        world.asked().into_iter().filter(|body| body.contains("eth_chainId")).collect();
    assert_eq!(forwarded.len(), 1, "one batch");
    assert!(forwarded[0].contains("eth_notified") && !forwarded[0].contains("admin_peers"));
}

#[tokio::test]
async fn a_batch_of_the_engines_own_passes_and_a_large_one_is_refused() {
    let world = world().await;
    let batch = |count: u64| (0..count).map(|id| call(id, "eth_chainId", json!([]))).collect();
    assert!(world.passes(&batch(1)) && world.passes(&batch(100)));
    for count in [0, 101] {
        let batch: Value = batch(count);
        assert!(!world.passes(&batch));
        assert_eq!(world.answer(&batch).await["error"]["code"], -32600);
    }
    assert!(!world.gate.passes(b"{"));
    let answer = world.gate.answer(Client::Others, b"{").await;
    assert!(answer.contains("-32700"), "{answer}");
}

#[test]
fn answers_are_found_by_what_their_ids_mean() {
    let answers = by_id(r#"[{"id":"A","result":1},{"id":2,"result":2},{"id":2,"result":3},{}]"#);
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    assert_eq!(answers[&meaning(&raw(r#""\u0041""#))].len(), 1);
    assert_eq!(answers[&meaning(&raw("2"))].len(), 2);
    assert_ne!(meaning(&raw("2")), meaning(&raw("\"2\"")));
    assert!(by_id(r#"{"error":{}}"#).is_empty());
}

#[tokio::test]
async fn without_an_engine_each_call_says_so() {
    let client = Engine::new("http://127.0.0.1:1").unwrap();
    let validators = Validators::new(1) as Arc<dyn Submitter>;
    let (quota, metrics) = (QuotaConfig::default(), WalletMetrics::default());
    let pool = Arc::new(Pool::new(gateway(), client.clone(), validators, quota, metrics));
    let gate = Gate::new(pool, client);
    let batch = json!([call(1, "eth_chainId", json!([])), call(2, "admin_peers", json!([]))]);
    let text = gate.answer(Client::Others, batch.to_string().as_bytes()).await;
    let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!((&answers[0]["id"], &answers[0]["error"]["code"]), (&json!(1), &json!(-32603)));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!(2), &json!(-32601)));
}
