//! Listeners: where they may listen, TLS, reflection, health.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use lockstep_core::types::Height;
use lockstep_rpc::client::{ClientError, Endpoint, LogClient};
use lockstep_rpc::config::{HttpConfig, ServeError, ServerConfig, TlsConfig};
use lockstep_rpc::health::HealthState;
use lockstep_rpc::node::Log;
use lockstep_rpc::quota::QuotaConfig;
use lockstep_rpc::server::{Server, serve};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::network::{Node, fill, parts};

pub(crate) fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/services/tls").join(name)
}

pub(crate) fn tls() -> TlsConfig {
    TlsConfig {
        certificate: tls_file("certificate.pem"),
        key: tls_file("key.pem"),
        client_authority: None,
    }
}

async fn try_serve(config: ServerConfig) -> Result<Server, ServeError> {
    serve(config, parts().3).await
}

#[tokio::test]
async fn a_taken_port_is_a_clear_error() {
    let node = Node::start().await;
    let listen = node.server.local_addr();
    let error = try_serve(ServerConfig { listen, ..ServerConfig::default() }).await.unwrap_err();
    assert!(matches!(error, ServeError::Bind { .. }));
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
    let http = HttpConfig { listen, insecure: false };
    let error = lockstep_rpc::http::serve(http, parts().3.health, Arc::new(String::new)).await;
    assert!(matches!(error.unwrap_err(), ServeError::Bind { .. }));
}

#[tokio::test]
async fn a_port_is_free_again_after_the_shutdown() {
    let node = Node::start().await;
    let listen = node.server.local_addr();
    node.server.shutdown().await;
    try_serve(ServerConfig { listen, ..ServerConfig::default() }).await.unwrap();
}

#[tokio::test]
async fn off_loopback_plaintext_needs_a_word() {
    let listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let config = ServerConfig { listen, ..ServerConfig::default() };
    let error = try_serve(config.clone()).await.unwrap_err();
    assert!(matches!(error, ServeError::NotLoopback { .. }), "{error}");
    try_serve(ServerConfig { insecure: true, ..config.clone() }).await.unwrap();
    try_serve(ServerConfig { tls: Some(tls()), ..config }).await.unwrap();
    let http = |insecure| {
        lockstep_rpc::http::serve(
            HttpConfig { listen, insecure },
            parts().3.health,
            Arc::new(String::new),
        )
    };
    assert!(matches!(http(false).await.unwrap_err(), ServeError::NotLoopback { .. }));
    http(true).await.unwrap();
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    let quota = QuotaConfig { bytes_per_second: 0, ..QuotaConfig::default() };
    let error = try_serve(ServerConfig { quota, ..ServerConfig::default() }).await.unwrap_err();
    assert!(matches!(error, ServeError::Quota { .. }));
}

#[tokio::test]
async fn files_of_tls_that_do_not_serve_are_named() {
    let missing = TlsConfig { key: tls_file("nobody.pem"), ..tls() };
    let config = |tls| ServerConfig { tls: Some(tls), ..ServerConfig::default() };
    let error = try_serve(config(missing)).await.unwrap_err();
    assert!(error.to_string().contains("nobody.pem"), "{error}");
    let swapped = TlsConfig { key: tls_file("certificate.pem"), ..tls() };
    let error = try_serve(config(swapped)).await.unwrap_err();
    assert!(matches!(error, ServeError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn tls_serves_those_who_trust_its_authority_and_no_plaintext() {
    let node = Node::with(ServerConfig { tls: Some(tls()), ..ServerConfig::default() }).await;
    fill(&node.log, 1);
    let port = node.server.local_addr().port();
    let mut endpoint = Endpoint::new(format!("https://localhost:{port}"));
    endpoint.authority = Some(tls_file("authority.pem"));
    let mut log = LogClient::new(endpoint.connect().await.unwrap());
    assert_eq!(log.head().await.unwrap(), node.log.certified(Height(1)));

    endpoint.authority = Some(tls_file("certificate.pem"));
    let error = endpoint.connect().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    if let Ok(channel) = Endpoint::new(format!("http://localhost:{port}")).connect().await {
        assert!(LogClient::new(channel).head().await.is_err(), "plaintext is not served");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_named() {
    let error = Endpoint::new("not a url").connect().await.unwrap_err();
    assert!(matches!(error, ClientError::Endpoint { .. }), "{error}");
    let node = Node::start().await;
    let url = node.url();
    node.server.shutdown().await;
    let error = Endpoint::new(url.clone()).connect().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }) && error.to_string().contains(&url));
}

async fn services(node: &Node) -> Result<Vec<String>, tonic::Status> {
    let mut client = ServerReflectionClient::new(node.channel().await);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let mut answers =
        client.server_reflection_info(futures::stream::iter([request])).await?.into_inner();
    match answers.message().await?.unwrap().message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => panic!("not a list: {other:?}"),
    }
}

#[tokio::test]
async fn reflection_is_served_only_where_it_is_asked_for() {
    let node = Node::with(ServerConfig { reflection: true, ..ServerConfig::default() }).await;
    let names = services(&node).await.unwrap();
    for name in ["lockstep.v1.Ingress", "lockstep.v1.Log", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|one| one == name), "{names:?}");
    }
    let status = services(&Node::start().await).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn health_follows_the_node() {
    let node = Node::start().await;
    let mut client = HealthClient::new(node.channel().await);
    for service in ["", "lockstep.v1.Ingress", "lockstep.v1.Log"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let request = HealthCheckRequest { service: "lockstep.v1.Log".to_owned() };
    let mut statuses = client.watch(request).await.unwrap().into_inner();
    assert_eq!(statuses.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    for (state, expected) in [
        (HealthState::Stalled, ServingStatus::NotServing),
        (HealthState::Serving, ServingStatus::Serving),
        (HealthState::Stopped, ServingStatus::NotServing),
    ] {
        node.health.send_modify(|health| health.state = state);
        let status = statuses.message().await.unwrap().unwrap().status();
        assert_eq!(status, expected, "{state:?}");
    }
    assert_eq!(*node.log.heads().borrow(), Height(0));
}
