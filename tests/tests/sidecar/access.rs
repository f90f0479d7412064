//! Who may call op-node's port, with how much, and how often at a time.

use std::time::{Duration, SystemTime};

use alloy_primitives::B256;
use futures::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use lockstep_sidecar::limits::{BODY_BYTES_MAX, CALLS_MAX};
use lockstep_tests::scripted_engine::{Fault, Instead};
use lockstep_tests::wait::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{Rig, SECRET, SOON, Setup};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;

fn token(secret: B256, algorithm: Algorithm, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "iat": now.checked_add_signed(seconds).unwrap() });
    encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_slice())).unwrap()
}

#[tokio::test]
async fn only_a_fresh_token_of_the_secret_lets_a_call_through() {
    let rig = Rig::start(Setup::default()).await;
    // It asks the engine for its chain at the start.
    rig.until_ready().await;
    let good = Algorithm::HS256;
    let cases = [
        (Some(token(SECRET, good, 0)), 200),
        (Some(token(SECRET, good, -50)), 200),
        (Some(token(SECRET, good, 50)), 200),
        (Some(token(SECRET, good, -70)), 401),
        (Some(token(SECRET, good, 70)), 401),
        (Some(token(SECRET, Algorithm::HS512, 0)), 401),
        (Some(token(B256::repeat_byte(9), good, 0)), 401),
        (Some("a.b.c".to_owned()), 401),
        (Some(String::new()), 401),
        (None, 401),
    ];
    for (token, expected) in cases {
        rig.engine.forget();
        let reply = rig.node.send(CALL, token.as_deref()).await;
        assert_eq!(reply.status, expected, "{token:?}");
        let reached = rig.engine.calls_of("eth_chainId").len();
        assert_eq!(reached, usize::from(expected == 200), "{token:?}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let rig = Rig::start(Setup::default()).await;
    let token = token(SECRET, Algorithm::HS256, 0);
    let reply = rig.node.send(vec![b' '; BODY_BYTES_MAX + 1], Some(&token)).await;
    assert_eq!(reply.status, 413);
    assert_eq!(rig.engine.calls_of("not json").len(), 0);
}

/// Whoever has no token may not make the sidecar hold their bytes.
#[tokio::test]
async fn a_call_without_token_is_refused_before_its_body_is_read() {
    let rig = Rig::start(Setup::default()).await;
    let address = rig.node.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: sidecar\r\ncontent-length: 1000000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(2), stream.read_exact(&mut answer)).await;
    read.expect("an answer without the whole body").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn a_call_too_many_at_a_time_is_refused_and_later_ones_are_not() {
    let rig = Rig::start(Setup::default()).await;
    // It asks the engine for its chain at the start.
    rig.until_ready().await;
    rig.engine.forget();
    rig.engine.fault(Fault::always("eth_chainId", Instead::Silence));
    let wait = Duration::from_millis(2_000);
    let held = (0..CALLS_MAX).map(|_| rig.node.call_for(wait, "eth_chainId", Value::Null));
    let refused = async {
        until("all of them reached the engine", SOON, async || {
            (rig.engine.calls_of("eth_chainId").len() == CALLS_MAX).then_some(())
        })
        .await;
        rig.node.call("eth_gasPrice", Value::Null).await
    };
    let (_, refused) = tokio::join!(join_all(held), refused);
    assert_eq!(refused.status, 503);
    rig.engine.mend();
    let passes = async || {
        let reply = rig.node.call("eth_chainId", Value::Null).await;
        (reply.status == 200).then_some(())
    };
    until("calls pass again", SOON, passes).await;
}
