//! The open port, as a wallet and a browser see it.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use lockstep_rpc::quota::QuotaConfig;
use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::fixtures::{CHAIN, FakeEngine, NETWORK, Validators, checked, key, signed};
use crate::limits::BODY_BYTES_MAX;
use crate::transaction::data;

struct World {
    engine: FakeEngine,
    handle: Handle,
    client: Client,
}

fn config(engine: &FakeEngine) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        rpc_url: engine.http.clone(),
        ws_url: Some(engine.ws.clone()),
        chain: CHAIN,
        network: NETWORK,
        gateway: key(9),
        endpoints: Vec::new(),
        tip_min: 0,
        gas_max: 1 << 24,
        quota: QuotaConfig::default(),
    }
}

async fn world() -> World {
    let engine = FakeEngine::start().await;
    let handle =
        serve_to(Validators::new(4), config(&engine), WalletMetrics::default()).await.unwrap();
    World { engine, handle, client: Client::builder().no_proxy().build().unwrap() }
}

impl World {
    fn url(&self) -> String {
        format!("http://{}", self.handle.local_addr())
    }

    async fn post(&self, body: impl Into<reqwest::Body>) -> reqwest::Response {
        self.client.post(self.url()).body(body).send().await.unwrap()
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let text = self.post(body.to_string()).await.text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

fn send(nonce: u64) -> Value {
    json!([data(signed(1, nonce))])
}

#[tokio::test]
async fn several_transactions_in_a_row_as_a_wallet_sends_them() {
    let world = world().await;
    let sender = data(key(1).address());
    for nonce in 0..5u64 {
        let next = world.call("eth_getTransactionCount", json!([sender, "pending"])).await;
        assert_eq!(next["result"], format!("{nonce:#x}"));
        let sent = world.call("eth_sendRawTransaction", send(nonce)).await;
        assert_eq!(sent["result"], data(checked(signed(1, nonce)).hash), "{sent}");
        let receipt = world.call("eth_getTransactionReceipt", json!([sent["result"]])).await;
        assert_eq!(receipt, json!({ "jsonrpc": "2.0", "id": 1, "result": null }));
        let shown = world.call("eth_getTransactionByHash", json!([sent["result"]])).await;
        assert_eq!(shown["result"]["blockNumber"], Value::Null);
        assert_eq!(shown["result"]["from"], sender);
    }
}

#[tokio::test]
async fn a_passed_body_is_not_changed_by_a_byte() {
    let world = world().await;
    let body = "\n{ \"id\" : 1.0e1,\"method\":\"eth_chainId\" , \"params\":[ ] }  ";
    let response = world.post(body).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert!(response.text().await.unwrap().contains("eth_chainId"));
    assert_eq!(world.engine.book.asked.lock().unwrap().last().unwrap(), body);
}

#[tokio::test]
async fn a_browser_may_call_from_any_page() {
    let world = world().await;
    let asked = world
        .client
        .request(Method::OPTIONS, world.url())
        .header("origin", "https://example.org")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type,x-api")
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), StatusCode::NO_CONTENT);
    assert_eq!(asked.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(asked.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS], "content-type,x-api");
    let response = world.post(r#"{"id":1,"method":"eth_chainId"}"#).await;
    assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
}

#[tokio::test]
async fn other_requests_get_their_status() {
    let world = world().await;
    let large = world.post(vec![b' '; BODY_BYTES_MAX + 1]).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let get = world.client.get(world.url()).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::OK);
    let put = world.client.put(world.url()).send().await.unwrap();
    assert_eq!(put.status(), StatusCode::METHOD_NOT_ALLOWED);
    let nonsense = world.post("nonsense").await;
    assert_eq!(nonsense.status(), StatusCode::OK);
    assert!(nonsense.text().await.unwrap().contains("-32700"));
}

#[tokio::test]
async fn a_websocket_passes_subscriptions_and_takes_transactions() {
    let world = world().await;
    let url = format!("ws://{}", world.handle.local_addr());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let ask = |id: u64, method: &str, params: Value| {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        Message::text(call.to_string())
    };
    let asked = [
        ask(1, "eth_subscribe", json!(["newHeads"])),
        ask(2, "eth_sendRawTransaction", send(0)),
        ask(3, "debug_traceCall", json!([])),
    ];
    for message in asked {
        socket.send(message).await.unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < 4 {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => heard.push(serde_json::from_str::<Value>(&text).unwrap()),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let of = |id: u64| heard.iter().find(|answer| answer["id"] == id).unwrap();
    assert_eq!(of(1)["result"], "0xabc");
    assert_eq!(of(2)["result"], data(checked(signed(1, 0)).hash));
    assert_eq!(of(3)["error"]["code"], -32601);
    assert!(heard.iter().any(|answer| answer["method"] == "eth_subscription"));

    let shutdown = tokio::spawn(world.handle.shutdown());
    let closed = async {
        while let Some(Ok(message)) = socket.next().await {
            if matches!(message, Message::Close(_)) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.expect("the socket is closed");
    shutdown.await.unwrap();
}

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let engine = FakeEngine::start().await;
    let refused = async |config| serve(config, WalletMetrics::default()).await.unwrap_err();
    let none = refused(config(&engine)).await;
    assert_eq!(none.to_string(), "0 validators, expected 1..=100");
    let endpoints = vec![Endpoint::new("http://127.0.0.1:1")];
    let base = Config { endpoints, ..config(&engine) };
    let https = Config { rpc_url: "https://example.org".to_owned(), ..base.clone() };
    assert!(matches!(refused(https).await, ServeError::Engine { .. }));
    let ws = Config { ws_url: Some("http://127.0.0.1:1".to_owned()), ..base.clone() };
    assert!(matches!(refused(ws).await, ServeError::Engine { .. }));
    let quota = QuotaConfig { submissions_per_second: 0, ..QuotaConfig::default() };
    assert!(matches!(refused(Config { quota, ..base.clone() }).await, ServeError::Quota { .. }));
    *engine.book.chain.lock().unwrap() = Some(CHAIN.0 + 1);
    let other = refused(base.clone()).await.to_string();
    assert!(other.ends_with(&format!("it is not of chain {CHAIN}")), "{other}");
    *engine.book.chain.lock().unwrap() = Some(CHAIN.0);
    let handle = serve(base.clone(), WalletMetrics::default()).await.unwrap();
    let taken = Config { listen: handle.local_addr(), ..base };
    assert!(matches!(refused(taken).await, ServeError::Bind { .. }));
}

/// Blocks are made past the log then: what is admitted would be lost.
#[tokio::test]
async fn nothing_is_admitted_while_nobody_executes_it() {
    let world = world().await;
    world.handle.set_closed(Some("disabled"));
    let refused = world.call("eth_sendRawTransaction", send(0)).await;
    let words = refused["error"]["message"].as_str().unwrap();
    assert!(words.contains("execution mode is disabled"), "{refused}");
    world.handle.set_closed(None);
    let sent = world.call("eth_sendRawTransaction", send(0)).await;
    assert!(sent["result"].is_string(), "{sent}");
}
