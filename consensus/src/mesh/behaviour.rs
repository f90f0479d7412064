//! The door: who may connect, how many may be half way in, and which of the two connections each one is.
//!
//! A refusal here comes before anything is kept for the connection, so a stranger costs a handshake and no more.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionEstablished, ListenFailure};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use lockstep_core::limits::VALIDATORS_MAX;

use super::class::Link;
use super::handler::{Handler, Names, StreamEvent};
use super::peer::Shared;

/// Connections in the handshake that may come from addresses of no peer.
const PENDING_STRANGERS_MAX: usize = 64;
/// Connections in the handshake that may come from the peers' addresses. Apart from the others, so that
/// strangers cannot keep validators out.
const PENDING_PEERS_MAX: usize = 2 * VALIDATORS_MAX;

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("too many connections are half open")]
    Crowded,
    #[error("{0} is no peer of ours")]
    Stranger(PeerId),
    #[error("{0} is being kept out")]
    KeptOut(PeerId),
}

/// What happened to a stream of a connection.
#[derive(Debug)]
pub(super) struct ConnectionNews {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) event: StreamEvent,
}

/// The behaviour of the mesh's swarm.
#[derive(Debug)]
pub(super) struct Behaviour {
    shared: Arc<Shared>,
    names: Arc<Names>,
    addresses: BTreeSet<IpAddr>,
    kept_out: BTreeSet<PeerId>,
    pending_strangers: BTreeSet<ConnectionId>,
    pending_peers: BTreeSet<ConnectionId>,
    news: VecDeque<ConnectionNews>,
}

impl Behaviour {
    /// `addresses` are the peers', as far as they are known beforehand.
    pub(super) fn new(shared: Arc<Shared>, names: Names, addresses: BTreeSet<IpAddr>) -> Self {
        Self {
            shared,
            names: Arc::new(names),
            addresses,
            kept_out: BTreeSet::new(),
            pending_strangers: BTreeSet::new(),
            pending_peers: BTreeSet::new(),
            news: VecDeque::new(),
        }
    }

    /// Refuses new connections with `peer` from now on.
    pub(super) fn keep_out(&mut self, peer: PeerId) {
        self.kept_out.insert(peer);
    }

    /// Lets `peer` in again. Whether it was kept out.
    pub(super) fn let_in(&mut self, peer: PeerId) -> bool {
        self.kept_out.remove(&peer)
    }

    /// Admits a connection whose other end has proved to be `peer`.
    fn admit(&self, peer: PeerId, link: Link) -> Result<Handler, ConnectionDenied> {
        let Some(known) = self.shared.peers.get(&peer) else {
            self.shared.strangers.increment();
            return Err(ConnectionDenied::new(Refusal::Stranger(peer)));
        };
        if self.kept_out.contains(&peer) {
            known.counters.refused.increment();
            return Err(ConnectionDenied::new(Refusal::KeptOut(peer)));
        }
        Ok(Handler::new(link, Arc::clone(&self.names)))
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = ConnectionNews;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = super::ip_of(remote);
        let (pending, max) = if ip.is_some_and(|ip| self.addresses.contains(&ip)) {
            (&mut self.pending_peers, PENDING_PEERS_MAX)
        } else {
            (&mut self.pending_strangers, PENDING_STRANGERS_MAX)
        };
        if pending.len() >= max {
            self.shared.crowded_out.increment();
            return Err(ConnectionDenied::new(Refusal::Crowded));
        }
        pending.insert(connection);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(peer, Link::dialled(peer, self.shared.local))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(peer, Link::dialled(self.shared.local, peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only the end of a handshake matters")]
        let connection = match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => connection_id,
            _ => return,
        };
        self.pending_strangers.remove(&connection);
        self.pending_peers.remove(&connection);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: StreamEvent,
    ) {
        self.news.push_back(ConnectionNews { peer, connection, event });
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ToSwarm<ConnectionNews, THandlerInEvent<Self>>> {
        self.news
            .pop_front()
            .map_or(Poll::Pending, |news| Poll::Ready(ToSwarm::GenerateEvent(news)))
    }
}
