//! A peer of the mesh without the mesh: one authenticated connection, one stream, and whatever bytes a scenario writes.
//!
//! The mesh refuses to send what breaks its rules, so this speaks what is below it: libp2p's TCP, noise and yamux, and
//! the agreement on a protocol (multistream-select 1.0) by hand. It answers nothing that the node says.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures::AsyncWriteExt as _;
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxerExt as _, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, Transport as _, noise, tcp, yamux};
use lockstep_consensus::mesh::class::{Class, Link};
use lockstep_core::types::NetworkId;
use tokio::task::JoinHandle;

/// How long a node may take for a connection, and for ending it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream to a node.
#[derive(Debug)]
pub struct RawPeer {
    /// The class that the stream was opened for.
    pub class: Class,
    stream: SubstreamBox,
    connection: JoinHandle<()>,
}

impl RawPeer {
    /// Connects to a node and opens a stream of the first class that such a connection carries.
    pub async fn connect(
        keypair: &Keypair,
        network: NetworkId,
        (peer, address): (PeerId, Multiaddr),
    ) -> Self {
        let mut transport = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(keypair).expect("a key"))
            .multiplex(yamux::Config::default())
            .boxed();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dial = transport.dial(address, options).expect("an address of TCP");
        let dialled = tokio::time::timeout(PATIENCE, dial).await.expect("a connection in time");
        let (found, mut muxer) = dialled.expect("the node takes the connection");
        assert_eq!(found, peer, "another node listens there");
        let stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.expect("a stream");
        let connection = tokio::spawn(poll_fn(move |cx| {
            loop {
                match muxer.poll_unpin(cx) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
        let link = Link::dialled(keypair.public().to_peer_id(), peer);
        let class = *link.classes().first().expect("every connection carries a class");
        let mut raw = Self { class, stream, connection };
        let protocol = format!("/lockstep/{:x}/{class}/1", network.0);
        raw.write(&[line("/multistream/1.0.0"), line(&protocol)].concat()).await;
        raw
    }

    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the stream is open");
        self.stream.flush().await.expect("the stream is open");
    }

    /// Waits until the node has ended the connection.
    pub async fn until_ended(self) {
        let ended = tokio::time::timeout(PATIENCE, self.connection).await;
        ended.expect("the node ends the connection").expect("the connection's task ends");
    }
}

/// A message of multistream-select: its length, itself, a line feed.
fn line(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len().saturating_add(1)).expect("short");
    assert!(length < 0x80, "a length of one byte");
    [&[length], text.as_bytes(), b"\n"].concat()
}
