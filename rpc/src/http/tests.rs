//! Health and metrics over real sockets.

use std::net::Ipv4Addr;

use lockstep_core::types::Height;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::health::{HealthState, channel};

async fn get_path(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, body.to_owned())
}

#[tokio::test]
async fn health_is_told_with_its_reason() {
    let (sender, receiver) = channel();
    let server = serve(HttpConfig::default(), receiver, Arc::new(String::new)).await.unwrap();
    let address = server.local_addr();
    let cases = [
        (HealthState::Starting, 200, 503),
        (HealthState::CatchingUp, 200, 503),
        (HealthState::Serving, 200, 200),
        (HealthState::Stalled, 503, 503),
        (HealthState::Stopped, 503, 503),
    ];
    for (state, healthz, readyz) in cases {
        let reason = "no \"quorum\"\n".to_owned();
        sender.send_replace(Health { state, reason, height: Height(42) });
        let (status, body) = get_path(address, "/healthz").await;
        assert_eq!(status, healthz, "{state:?}");
        let expected = format!(
            "{{\"state\":\"{}\",\"height\":42,\"reason\":\"no \\\"quorum\\\"\\u000a\"}}\n",
            state.name()
        );
        assert_eq!(body, expected);
        assert_eq!(get_path(address, "/readyz").await.0, readyz, "{state:?}");
    }
}

#[tokio::test]
async fn metrics_are_rendered_and_other_paths_are_not_there() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = crate::metrics::RpcMetrics::register(&mut registry);
    metrics.submissions_accepted.inc_by(3);
    let render: RenderMetrics = Arc::new(move || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    });
    let server = serve(HttpConfig::default(), channel().1, render).await.unwrap();
    let (status, body) = get_path(server.local_addr(), "/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("lockstep_rpc_submissions_accepted_total 3"), "{body}");
    assert_eq!(get_path(server.local_addr(), "/").await.0, 404);
}

#[tokio::test]
async fn many_requests_at_a_time_are_served_whoever_is_silent() {
    let server = serve(HttpConfig::default(), channel().1, Arc::new(String::new)).await.unwrap();
    let address = server.local_addr();
    let mut silent = Vec::new();
    for host in 2..=6 {
        for _ in 0..HTTP_CONNECTIONS_PER_CLIENT_MAX {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).unwrap();
            silent.push(socket.connect(address).await.unwrap());
        }
    }
    assert!(silent.len() > HTTP_CONNECTIONS_MAX);
    let calls = (0..HTTP_CONNECTIONS_PER_CLIENT_MAX / 2).map(|_| get_path(address, "/healthz"));
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
}

#[tokio::test]
async fn a_connection_carries_one_request() {
    let server = serve(HttpConfig::default(), channel().1, Arc::new(String::new)).await.unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the server ends it");
    assert!(answer.contains("connection: close"), "{answer}");
}
