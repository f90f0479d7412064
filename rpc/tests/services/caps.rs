//! How much one client may have at a time, over real sockets: connections, calls, streams, and silence.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lockstep_core::types::Height;
use lockstep_proto::convert::ingress::{EntryState, Milestone, Wait};
use lockstep_rpc::config::ServerConfig;
use lockstep_rpc::limits::{
    CALLS_PER_CONNECTION_MAX, CONNECTION_WINDOW_BYTES, CONNECTIONS_PER_CLIENT_MAX,
    HEADER_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX,
};
use lockstep_rpc::node::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::listening::tls;
use crate::network::{A, Node, entry, fill};

/// What an HTTP/2 client says first: the preface, and settings that change nothing.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Longer than anything here takes, the server's patience included.
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect_from(host: u8, node: &Node) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).unwrap();
    socket.connect(node.server.local_addr()).await.unwrap()
}

/// Begins to speak, and tells whether the server answers; otherwise it has closed the connection.
async fn is_served(connection: &mut TcpStream) -> bool {
    // A connection that is closed already may refuse the first word or the answer.
    let is_said = connection.write_all(BEGINNING).await.is_ok();
    let answer =
        timeout(PATIENCE, connection.read(&mut [0; 64])).await.expect("an answer or the end");
    is_said && answer.is_ok_and(|count| count > 0)
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_leaves_the_others_theirs() {
    let node = Node::start().await;
    let mut served = Vec::new();
    for _ in 0..CONNECTIONS_PER_CLIENT_MAX {
        let mut connection = connect_from(1, &node).await;
        assert!(is_served(&mut connection).await, "connection {}", served.len());
        served.push(connection);
    }
    assert!(!is_served(&mut connect_from(1, &node).await).await, "one too many");
    assert!(is_served(&mut connect_from(2, &node).await).await, "another client");
    drop(served.pop());
    let again = async { while !is_served(&mut connect_from(1, &node).await).await {} };
    timeout(PATIENCE, again).await.expect("a place was given back");
}

#[tokio::test]
async fn calls_beyond_a_connections_share_are_refused_at_once() {
    let node = Node::start().await;
    let client = node.ingress_client().await;
    let wait = Some(Wait { milestone: Milestone::Decided, timeout_ms: 8_000 });
    let calls: Vec<_> = (0..CALLS_PER_CONNECTION_MAX)
        .map(|n| {
            let mut client = client.clone();
            tokio::spawn(async move { client.submit(&entry(A, &n.to_be_bytes()), wait).await })
        })
        .collect();
    let all_wait = async {
        while node.ingress.pending().len() < CALLS_PER_CONNECTION_MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, all_wait).await.expect("as many as are allowed");
    let more = entry(A, b"one more");
    let refused = client.clone().submit(&more, None).await.unwrap_err();
    let refusal = refused.refusal().expect("a refusal");
    assert_eq!(refusal.code, ErrorCode::Overloaded, "{refusal}");
    assert!(refusal.retry_after_ms.is_some() && !refusal.action.is_empty(), "{refusal:?}");
    let submitted = node.ingress_client().await.submit(&more, None).await;
    assert!(!submitted.expect("another connection has its own share").is_known);
    node.ingress.decide();
    for call in calls {
        let submitted = call.await.unwrap().unwrap();
        assert!(matches!(submitted.status.state, EntryState::Decided(_)));
    }
    assert!(client.clone().submit(&more, None).await.unwrap().is_known, "there is room again");
}

#[tokio::test]
async fn a_stream_too_many_waits_until_another_of_its_connection_ends() {
    let node = Node::start().await;
    fill(&node.log, 1);
    let client = node.log_client().await;
    let open = || {
        let mut client = client.clone();
        async move { client.stream_slices(A, None).await }
    };
    let mut streams = Vec::new();
    for _ in 0..STREAMS_PER_CONNECTION_MAX {
        streams.push(timeout(PATIENCE, open()).await.expect("there is room").unwrap());
    }
    let mut one_more = std::pin::pin!(open());
    let mut other = node.log_client().await;
    let others = async {
        for _ in 0..20 {
            assert_eq!(other.head().await.unwrap().header.height, Height(1));
        }
    };
    tokio::select! {
        biased;
        _ = &mut one_more => panic!("more streams than are allowed"),
        () = others => {}
    }
    drop(streams.pop());
    let opened = timeout(PATIENCE, one_more).await.expect("a place was given back");
    drop(opened.unwrap());
}

/// The settings that a server announces, by their number in RFC 9113 section 6.5.2.
#[tokio::test]
async fn the_limits_of_a_connection_are_announced() {
    let node = Node::start().await;
    let mut connection = connect_from(1, &node).await;
    connection.write_all(BEGINNING).await.unwrap();
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.unwrap();
    assert_eq!((head[0], head[3]), (0, 4), "a frame of settings");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    connection.read_exact(&mut settings).await.unwrap();
    let value_of = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let found = settings.chunks(6).find(|setting| setting[..2] == [high, low]);
        found.map(|setting| u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]))
    };
    assert_eq!(value_of(3), Some(STREAMS_PER_CONNECTION_MAX));
    assert_eq!(value_of(4), Some(STREAM_WINDOW_BYTES));
    // A frame of type 8 adds to the 65,535 bytes that each connection begins with.
    let update = async {
        loop {
            let mut head = [0; 9];
            connection.read_exact(&mut head).await.unwrap();
            let mut body = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            connection.read_exact(&mut body).await.unwrap();
            if head[3] == 8 && head[5..] == [0; 4] {
                return u32::from_be_bytes(body.try_into().unwrap());
            }
        }
    };
    let added = timeout(PATIENCE, update).await.expect("an update of the connection's window");
    assert_eq!(added + 65_535, CONNECTION_WINDOW_BYTES);
    assert_eq!(value_of(6), Some(HEADER_BYTES_MAX));
}

/// Nobody waits for a silent client, and the server does not wait for it for ever.
#[tokio::test]
async fn who_says_nothing_holds_nobody_up_and_is_let_go() {
    let plain = Node::start().await;
    fill(&plain.log, 1);
    let tls = Node::with(ServerConfig { tls: Some(tls()), ..ServerConfig::default() }).await;
    // The first bytes of a handshake whose record is to be 512 bytes long.
    let hello: Vec<u8> = [&[0x16, 3, 1, 2, 0][..], &[0; 40]].concat();
    let mut silent = Vec::new();
    for (node, said) in [(&plain, &[][..]), (&plain, &BEGINNING[..23]), (&tls, &hello)] {
        for _ in 0..8 {
            let mut connection = connect_from(1, node).await;
            connection.write_all(said).await.unwrap();
            silent.push(connection);
        }
    }
    let head = plain.log_client().await.head().await.unwrap();
    assert_eq!(head.header.height, Height(1));
    for mut connection in silent {
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, connection.read_to_end(&mut rest)).await;
        // What came before the end, or whether it came gently, is the server's business.
        drop(end.expect("the server closes it"));
    }
}
