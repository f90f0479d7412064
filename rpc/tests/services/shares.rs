//! Clients share: one that takes all it can get of streams, reads and checks leaves the others theirs, over real sockets.
//! A client's first call while another floods is answered before most of what that one asked for earlier.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use lockstep_core::types::{EntryId, Height};
use lockstep_proto::convert::ingress::StatusKey;
use lockstep_rpc::client::{ClientError, Endpoint, IngressClient, LogClient};
use lockstep_rpc::config::{ServerConfig, TlsConfig};
use lockstep_rpc::limits::{
    CHECKS_PER_CLIENT_MAX, RECENT_HEIGHTS_MAX, SEARCHES_PER_CLIENT_MAX, STREAMS_MAX,
    STREAMS_PER_CLIENT_MAX, STREAMS_PER_CONNECTION_MAX, STREAMS_RESERVED,
};
use lockstep_rpc::node::ErrorCode;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::listening::{tls, tls_file};
use crate::network::{A, Node, entry, fill};

const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for a stream to end that has lost its place.
const SILENCE: Duration = Duration::from_millis(300);

/// A connection of the client 127.0.0.`host`.
async fn connect(host: u8, node: &Node) -> Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(node.url()).unwrap();
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, host));
    endpoint.local_address(Some(address)).connect().await.unwrap()
}

/// An entry that nobody submitted.
fn nobodys(n: usize) -> EntryId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    EntryId(id.into())
}

/// Watches as many entries as a client may have streams, and then one more.
async fn take_all_streams(host: u8, node: &Node, held: &mut Vec<Watch>) {
    let per_connection = usize::try_from(STREAMS_PER_CONNECTION_MAX).unwrap();
    for begin in (0..STREAMS_PER_CLIENT_MAX).step_by(per_connection) {
        let mut client = IngressClient::new(connect(host, node).await);
        for n in 0..per_connection.min(STREAMS_PER_CLIENT_MAX - begin) {
            held.push(Box::pin(client.watch(nobodys(begin + n)).await.unwrap()));
        }
    }
    let mut client = IngressClient::new(connect(host, node).await);
    let error = client.watch(nobodys(0)).await.err().expect("one too many");
    let refusal = error.refusal().expect("a refusal");
    assert_eq!(refusal.code, ErrorCode::Overloaded, "{refusal}");
    assert!(refusal.retry_after_ms.is_some(), "{refusal:?}");
}

type Watch = std::pin::Pin<
    Box<
        dyn futures::Stream<
                Item = Result<
                    lockstep_proto::convert::ingress::EntryStatus,
                    lockstep_rpc::client::ClientError,
                >,
            > + Send,
    >,
>;

/// How many of these streams have ended, each with a reason and a hint.
async fn count_ended(held: &mut [Watch]) -> usize {
    let mut ended = 0;
    tokio::time::sleep(SILENCE).await;
    for watch in held {
        if let Ok(last) = timeout(Duration::ZERO, watch.next()).await {
            let error = last.unwrap().unwrap_err();
            assert_eq!(error.refusal().unwrap().code, ErrorCode::Overloaded, "{error}");
            ended += 1;
        }
    }
    ended
}

#[tokio::test]
async fn streams_are_refused_to_who_has_its_share_and_never_to_who_has_none() {
    let node = Node::start().await;
    fill(&node.log, 1);
    let mut held = Vec::new();
    let greedy = u8::try_from((STREAMS_MAX - STREAMS_RESERVED) / STREAMS_PER_CLIENT_MAX).unwrap();
    for host in 2..2 + greedy {
        take_all_streams(host, &node, &mut held).await;
    }
    let mut log = LogClient::new(connect(1, &node).await);
    let mut slices = log.stream_slices(A, Some(Height(1))).await.expect("a place of another's");
    slices.next().await.unwrap().expect("the stream lives");
    let mut submissions = IngressClient::new(connect(1, &node).await);
    let (mut sender, mut answers) = submissions.open_stream().await.expect("another one");
    sender.send(&[entry(A, b"x")]).await.unwrap();
    assert!(answers.next().await.unwrap().unwrap().1[0].is_ok());
    assert_eq!(count_ended(&mut held).await, 2);
}

#[tokio::test]
async fn known_clients_have_streams_reserved_whatever_their_address() {
    let authority = Some(tls_file("clients.pem"));
    let config = TlsConfig { client_authority: authority, ..tls() };
    let node = Node::with(ServerConfig { tls: Some(config), ..ServerConfig::default() }).await;
    let endpoint = |identity: Option<(PathBuf, PathBuf)>| Endpoint {
        authority: Some(tls_file("authority.pem")),
        identity,
        ..Endpoint::new(format!("https://localhost:{}", node.server.local_addr().port()))
    };
    let mut held: Vec<Watch> = Vec::new();
    for _ in 0..2 {
        let mut client = IngressClient::new(endpoint(None).connect().await.unwrap());
        for n in 0..STREAMS_PER_CLIENT_MAX / 2 {
            held.push(Box::pin(client.watch(nobodys(n)).await.unwrap()));
        }
    }
    let mut unknown = IngressClient::new(endpoint(None).connect().await.unwrap());
    assert!(unknown.watch(nobodys(0)).await.is_err(), "the address has its share");
    let identity = Some((tls_file("client.pem"), tls_file("client-key.pem")));
    let mut known = IngressClient::new(endpoint(identity).connect().await.unwrap());
    held.push(Box::pin(known.watch(nobodys(0)).await.expect("it has its own share")));
    assert_eq!(count_ended(&mut held).await, 0);
    // A certificate of another authority is no identity.
    let foreign = Some((tls_file("certificate.pem"), tls_file("key.pem")));
    if let Ok(channel) = endpoint(foreign).connect().await {
        assert!(IngressClient::new(channel).watch(nobodys(0)).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_one_client_do_not_stand_before_those_of_another() {
    const READS: usize = 4 * 60;
    let node = Node::start().await;
    // Height 1 is read by each call for itself.
    fill(&node.log, RECENT_HEIGHTS_MAX + 1);
    node.log.take_for_each_read(Duration::from_millis(200));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut reading = JoinSet::new();
    for _ in 0..4 {
        let channel = connect(2, &node).await;
        for _ in 0..READS / 4 {
            let (mut client, answered) = (LogClient::new(channel.clone()), Arc::clone(&answered));
            reading.spawn(async move {
                // A call that waits for too long is refused, which is an answer, too.
                drop(client.slice(A, Height(1)).await);
                answered.fetch_add(1, Ordering::Relaxed);
            });
        }
    }
    // All are waiting once the first are answered.
    while answered.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut other = LogClient::new(connect(1, &node).await);
    let read = timeout(PATIENCE, other.slice(A, Height(1))).await;
    read.expect("in time").unwrap();
    let before = answered.load(Ordering::Relaxed);
    assert!(before < READS / 4, "{before} of another client's {READS} were answered before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_of_one_client_do_not_stand_before_those_of_another() {
    const MESSAGES: u32 = 8;
    let node = Node::start().await;
    node.ingress.take_for_each_check(Duration::from_micros(200));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut flood = JoinSet::new();
    let count = u32::try_from(CHECKS_PER_CLIENT_MAX).unwrap();
    for stream in 0..4 {
        let mut client = IngressClient::new(connect(2, &node).await);
        let (mut sender, mut receiver) = client.open_stream().await.unwrap();
        flood.spawn(async move {
            let numbers = (0..count).map(|n| (stream * count + n).to_be_bytes());
            let entries: Vec<_> = numbers.map(|n| entry(A, &n)).collect();
            for _ in 0..MESSAGES {
                sender.send(&entries).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let answered = Arc::clone(&answered);
        flood.spawn(async move {
            while let Ok(Some(_)) = receiver.next().await {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while answered.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut other = IngressClient::new(connect(1, &node).await);
    let submitted = timeout(PATIENCE, other.submit(&entry(A, b"other"), None)).await;
    submitted.expect("in time").unwrap();
    let before = answered.load(Ordering::Relaxed);
    assert!(before <= 4, "{before} of another client's messages were answered before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_searches_for_one_id_at_a_time() {
    let node = Node::start().await;
    let (one, other) = (connect(1, &node).await, connect(2, &node).await);
    let search = |channel: &Channel, n| {
        let mut client = IngressClient::new(channel.clone());
        async move { client.status(StatusKey::Id(nobodys(n))).await.unwrap_err() }
    };
    let searches = futures::future::join_all((0..50).map(|n| search(&one, n))).await;
    assert!(searches.iter().all(ClientError::is_not_found));
    assert_eq!(node.ingress.searching_max(), SEARCHES_PER_CLIENT_MAX);
    let all = (0..50).flat_map(|n| [search(&one, n), search(&other, n)]);
    futures::future::join_all(all).await;
    assert_eq!(node.ingress.searching_max(), 2 * SEARCHES_PER_CLIENT_MAX);
}
