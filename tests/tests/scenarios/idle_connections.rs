//! Idle connections use up neither the descriptors that a validator votes with, nor the places of other clients: where its
//! limit was low, and where it cannot be raised.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lockstep_core::types::Height;
use lockstep_tests::cluster::Cluster;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

/// What an HTTP/2 client says first: the preface, and settings that change nothing.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Clients, by the last number of their address, and the connections that each of them makes.
const HOSTS: std::ops::RangeInclusive<u8> = 2..=21;
const EACH: usize = 60;
const ALL: [usize; 4] = [0, 1, 2, 3];
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that say nothing after their beginning. The node may have closed some of them.
async fn connect(port: u16) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for host in HOSTS {
        for _ in 0..EACH {
            let socket = TcpSocket::new_v4().expect("a descriptor");
            socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).expect("an address");
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let connected = tokio::time::timeout(PATIENCE, socket.connect(address)).await;
            let mut connection = connected.expect("in time").expect("the node listens");
            if connection.write_all(BEGINNING).await.is_ok() {
                connections.push(connection);
            }
        }
    }
    connections
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_stop_neither_a_validator_nor_other_clients() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a limit");
    let mut cluster = Cluster::prepare(4).await;
    cluster.node_mut(0).ulimit = Some("-Sn 1024");
    cluster.node_mut(1).ulimit = Some("-n 1024");
    cluster.start(&ALL).await;
    cluster.until_height(&ALL, Height(2), PATIENCE).await;
    cluster.assert_healthy(&ALL).await;
    let mut idle = connect(cluster.node(0).ports.grpc).await;
    assert!(idle.len() > 1_024);
    idle.extend(connect(cluster.node(1).ports.grpc).await);
    // Each is asked by a client of its own, over gRPC and over HTTP, and all of them vote.
    let height = cluster.until_more(&ALL, 20, PATIENCE).await;
    for index in ALL {
        cluster.until_votes(index, height, PATIENCE).await;
    }
    cluster.assert_healthy(&ALL).await;
    let open = cluster.node(0).metric("lockstep_rpc_connections").await;
    assert!(open > 1_024, "{open} are open where the limit could be raised");
    let open = cluster.node(1).metric("lockstep_rpc_connections").await;
    assert!((200..512).contains(&open), "{open} are open where it could not");
    drop(idle);
    cluster.assert_agreement(&ALL).await;
    cluster.finish().await;
}
