//! The validators' one network: an authenticated full mesh of long-lived streams.
//!
//! It moves opaque frames between the validators of the set, by [`Class`]. It does not know what is in a frame,
//! who may propose, or what a height is; nothing of the engine is named here. Followers and clients never come
//! here: they have a listener of their own.
//!
//! ```text
//!   validator a (smaller id)                      validator b
//!   ┌────────┐  connection dialled by a    ┌────────┐
//!   │        │ ══ votes ⇄ ════════════════ │        │   one stream per class and direction;
//!   │        │  connection dialled by b    │        │   tcp, noise, yamux; one identity, one port
//!   │        │ ══ parts ⇄ lanes ⇄ sync ⇄ ═ │        │
//!   └────────┘                             └────────┘
//!   frame: length u32, little-endian | body      length 0: heartbeat
//! ```
//!
//! **Two connections.** Streams of one connection share its TCP buffers, so a vote would wait behind what bulk
//! put there before it. Therefore votes have a connection of their own: of each pair, the smaller peer id dials
//! the one for votes and the greater dials the one for the rest ([`class::Link`]). Who dialled says what a
//! connection is for, and there is exactly one in each direction.
//!
//! **Invariants**
//! - Only the peers of [`Config::peers`] are let in; anybody else is refused when the handshake is done, before
//!   a stream or a buffer exists for him, and counted.
//! - A peer is up only when all its classes can be sent to. Else its votes would arrive and its parts would not.
//! - Everything is bounded per peer and class: what waits to be sent, what was received and not yet taken, and
//!   what may be received in a second ([`class::Limits`]). Over its quota, a stream is not read: its sender
//!   waits, and nobody else does.
//! - A peer that sends garbage is disconnected and kept out for a while, longer each time.
//! - A connection lives and dies as a whole: any of its streams ending, or 5 seconds of silence, ends it.

pub mod class;
pub mod events;
pub mod faults;
pub mod handle;
pub mod stats;

mod behaviour;
mod driver;
mod frame;
mod handler;
mod peer;
mod penalty;
mod quota;
mod transport;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, noise};
use lockstep_core::limits::VALIDATORS_MAX;
use lockstep_core::types::NetworkId;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::class::Class;
use self::driver::{Driver, Inboxes};
use self::events::Status;
use self::faults::Faults;
use self::handle::Handle;
use self::peer::Shared;

/// How long a listener may take to say where it listens.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// What a validator's mesh is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network key: this validator's identity on the mesh.
    pub keypair: Keypair,
    /// Where to listen: `/ip4/…/tcp/…` or `/ip6/…/tcp/…`. Port 0 takes a free one.
    pub listen: Multiaddr,
    /// Part of the protocols' names, so that validators of another network are not understood.
    pub network: NetworkId,
    /// The other validators, and where each is dialled: `/ip4`, `/ip6` or `/dns…`, then `/tcp`; a trailing
    /// `/p2p` must name the same peer.
    pub peers: Vec<(PeerId, Multiaddr)>,
    /// Lateness and loss made on purpose, for tests. Empty in production.
    pub faults: Faults,
}

/// A frame that came from a peer.
#[derive(Debug)]
pub struct Inbound {
    /// Who sent it; authenticated.
    pub from: PeerId,
    /// The class it was sent in.
    pub class: Class,
    /// 1..=[`Class::frame_bytes_max`] bytes.
    pub body: Bytes,
    /// The frame's share of what this peer may have waiting; given back when the frame is dropped.
    _share: Option<OwnedSemaphorePermit>,
}

impl Inbound {
    /// A frame that counts against nobody's share, as tests of consumers need it.
    #[must_use]
    pub const fn new(from: PeerId, class: Class, body: Bytes) -> Self {
        Self { from, class, body, _share: None }
    }
}

/// A running mesh: what to send with, and where frames arrive.
///
/// A receiver may be dropped when its frames are not wanted: they are then thrown away as they come.
#[derive(Debug)]
pub struct Mesh {
    /// Sends, and tells about peers. Cheap to clone.
    pub handle: Handle,
    /// Frames of [`Class::Votes`].
    pub votes: mpsc::Receiver<Inbound>,
    /// Frames of [`Class::Parts`] and [`Class::Sync`].
    pub bulk: mpsc::Receiver<Inbound>,
    /// Frames of [`Class::Lanes`].
    pub lanes: mpsc::Receiver<Inbound>,
    /// Keeps the mesh running.
    pub running: Running,
}

/// Keeps a mesh running. Dropping it stops the mesh.
#[derive(Debug)]
pub struct Running {
    task: JoinHandle<()>,
}

impl Running {
    /// Stops the mesh: all connections are closed and the port is free when this returns.
    pub async fn shutdown(mut self) {
        self.task.abort();
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            tracing::error!(%error, "the mesh had panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a mesh did not start. All are for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The address to listen on is not an IP address and a TCP port.
    #[error("cannot listen on {address}: not /ip4/…/tcp/… or /ip6/…/tcp/…")]
    ListenAddress {
        /// As configured.
        address: Multiaddr,
    },
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// As configured.
        address: Multiaddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The listener ended, or said nothing for five seconds.
    #[error("nothing listens on {address}; the log says why")]
    NotListening {
        /// As configured.
        address: Multiaddr,
    },
    /// A peer is listed twice, or is this node itself.
    #[error("peer {peer} is listed twice, or is this node")]
    Peer {
        /// The peer listed.
        peer: PeerId,
    },
    /// More peers than a validator set has members.
    #[error("{got} peers, {max} at most")]
    TooManyPeers {
        /// As configured.
        got: usize,
        /// A set's greatest size, less this node.
        max: usize,
    },
    /// The key cannot sign for the encryption layer.
    #[error("network key: {source}")]
    Key {
        /// What the encryption layer says.
        source: noise::Error,
    },
    /// A peer is given by name and this machine's resolver cannot be set up.
    #[error("cannot set up the name resolver: {source}")]
    Resolver {
        /// What the resolver says.
        source: io::Error,
    },
}

/// The network key that belongs to `seed`, 32 secret bytes.
///
/// # Panics
///
/// Never: any 32 bytes are an ed25519 seed.
#[must_use]
pub fn keypair_from_seed(mut seed: [u8; 32]) -> Keypair {
    Keypair::ed25519_from_bytes(&mut seed).expect("any 32 bytes are an ed25519 seed")
}

/// Starts a mesh, and returns when it listens. Peers come up later: see [`Handle::subscribe_events`].
///
/// # Errors
///
/// When the configuration makes no sense, or the address cannot be listened on.
pub async fn spawn(config: Config) -> Result<Mesh, SpawnError> {
    let local = config.keypair.public().to_peer_id();
    check_peers(local, &config.peers)?;
    check_free(&config.listen)?;
    let shared = Arc::new(Shared::new(local, config.peers.iter().map(|(peer, _)| *peer)));
    let mut swarm = transport::build_swarm(&config, &shared)?;
    swarm.listen_on(config.listen.clone()).map_err(|error| SpawnError::Bind {
        address: config.listen.clone(),
        source: io::Error::other(error),
    })?;

    let (status, mut listening) = watch::channel(Status::default());
    let handle = Handle::new(Arc::clone(&shared), listening.clone());
    let (inboxes, votes, bulk, lanes) = inboxes(config.peers.len());
    let driver = Driver::new(swarm, shared, status, inboxes, config.faults);
    let running = Running { task: tokio::spawn(driver.run(config.peers)) };
    match timeout(LISTEN_TIMEOUT, listening.wait_for(|status| status.listening.is_some())).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Err(SpawnError::NotListening { address: config.listen }),
    }
    Ok(Mesh { handle, votes, bulk, lanes, running })
}

/// The channels to the consumers. Each has room for all that its classes' peers may have waiting, so a frame
/// never waits for another peer's.
fn inboxes(
    peers: usize,
) -> (Inboxes, mpsc::Receiver<Inbound>, mpsc::Receiver<Inbound>, mpsc::Receiver<Inbound>) {
    let room = |class: Class| class.limits().inbox_frames_max().saturating_mul(peers.max(1));
    let (votes, votes_receiver) = mpsc::channel(room(Class::Votes));
    let (bulk, bulk_receiver) = mpsc::channel(room(Class::Parts).saturating_add(room(Class::Sync)));
    let (lanes, lanes_receiver) = mpsc::channel(room(Class::Lanes));
    (Inboxes { votes, bulk, lanes }, votes_receiver, bulk_receiver, lanes_receiver)
}

/// Whether the peers can be a validator set without this node.
fn check_peers(local: PeerId, peers: &[(PeerId, Multiaddr)]) -> Result<(), SpawnError> {
    let max = VALIDATORS_MAX.saturating_sub(1);
    if peers.len() > max {
        return Err(SpawnError::TooManyPeers { got: peers.len(), max });
    }
    let mut seen = BTreeSet::from([local]);
    for (peer, _) in peers {
        if !seen.insert(*peer) {
            return Err(SpawnError::Peer { peer: *peer });
        }
    }
    Ok(())
}

/// Whether the port is free. libp2p's own listener shares its port with any other of the same user, so it
/// would start beside a second node and take a part of its connections.
fn check_free(address: &Multiaddr) -> Result<(), SpawnError> {
    let socket = socket_address(address)
        .ok_or_else(|| SpawnError::ListenAddress { address: address.clone() })?;
    TcpListener::bind(socket)
        .map(drop)
        .map_err(|source| SpawnError::Bind { address: address.clone(), source })
}

/// The IP address and TCP port of `address`, if it begins with them.
fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let ip = ip_of(address)?;
    #[expect(clippy::wildcard_enum_match_arm, reason = "only TCP is spoken")]
    match address.iter().nth(1)? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// The IP address that `address` begins with. One that begins with a name has none.
fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest are no addresses")]
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    }
}
