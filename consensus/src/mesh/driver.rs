//! The one task that owns the connections: dials, takes what the door let in, starts the streams' tasks, says
//! who is up, and closes what is broken, silent or garbage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, Stream, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::Inbound;
use super::behaviour::{Behaviour, ConnectionNews};
use super::class::{Class, Link, PerClass, SILENCE_MAX};
use super::events::Status;
use super::faults::Faults;
use super::frame::{End, Reader, Writer};
use super::handler::StreamEvent;
use super::peer::{Outbox, Peer, Shared};
use super::penalty::{Penalty, REDIAL_MIN, Redial};

/// The consumers' channels.
#[derive(Debug)]
pub(super) struct Inboxes {
    pub(super) votes: mpsc::Sender<Inbound>,
    pub(super) bulk: mpsc::Sender<Inbound>,
    pub(super) lanes: mpsc::Sender<Inbound>,
}

impl Inboxes {
    fn of(&self, class: Class) -> mpsc::Sender<Inbound> {
        match class {
            Class::Votes => self.votes.clone(),
            Class::Parts | Class::Sync => self.bulk.clone(),
            Class::Lanes => self.lanes.clone(),
        }
    }
}

/// A stream's task has ended.
struct Ended {
    peer: PeerId,
    connection: ConnectionId,
    class: Class,
    end: End,
}

/// A connection, for as long as it counts. Its tasks end with it.
struct Connection {
    id: ConnectionId,
    since: Instant,
    outboxes: BTreeMap<Class, Outbox>,
    accepted: usize,
    tasks: Vec<AbortHandle>,
}

impl Connection {
    const fn new(id: ConnectionId, since: Instant) -> Self {
        Self { id, since, outboxes: BTreeMap::new(), accepted: 0, tasks: Vec::new() }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What the driver knows of a peer.
struct Known {
    peer: Arc<Peer>,
    address: Multiaddr,
    connections: BTreeMap<Link, Connection>,
    redial: Redial,
    penalty: Penalty,
    is_up: bool,
}

impl Known {
    /// The queues, if there is one for every class.
    fn outboxes(&self) -> Option<PerClass<Outbox>> {
        let outbox = |class: Class| self.connections.get(&class.link())?.outboxes.get(&class);
        Some(PerClass {
            votes: outbox(Class::Votes)?.clone(),
            parts: outbox(Class::Parts)?.clone(),
            lanes: outbox(Class::Lanes)?.clone(),
            sync: outbox(Class::Sync)?.clone(),
        })
    }

    /// Which of its connections `id` is; an old one is none.
    fn link_of(&self, id: ConnectionId) -> Option<Link> {
        self.connections.iter().find(|(_, connection)| connection.id == id).map(|(link, _)| *link)
    }
}

/// See the module.
pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    status: watch::Sender<Status>,
    inboxes: Inboxes,
    faults: Faults,
    known: BTreeMap<PeerId, Known>,
    tasks: JoinSet<Ended>,
}

/// When the mesh stops, nothing can be sent any more.
impl Drop for Driver {
    fn drop(&mut self) {
        self.known.values().for_each(|known| known.peer.set_outboxes(None));
    }
}

impl Driver {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        shared: Arc<Shared>,
        status: watch::Sender<Status>,
        inboxes: Inboxes,
        faults: Faults,
    ) -> Self {
        Self {
            swarm,
            shared,
            status,
            inboxes,
            faults,
            known: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Keeps connections with `peers` until it is aborted, or nothing listens any more.
    pub(super) async fn run(mut self, peers: Vec<(PeerId, Multiaddr)>) {
        let now = Instant::now();
        for (id, address) in peers {
            self.meet(id, address, now);
        }
        let shared = Arc::clone(&self.shared);
        let mut tick = tokio::time::interval(REDIAL_MIN);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => {
                    if matches!(event, SwarmEvent::ListenerClosed { .. }) {
                        tracing::error!(?event, "the mesh does not listen any more: it stops");
                        return;
                    }
                    self.on_swarm_event(event);
                }
                Some(ended) = self.tasks.join_next() => self.on_task_ended(ended),
                () = shared.reported.notified() => self.on_reported(),
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
        }
    }

    fn meet(&mut self, id: PeerId, address: Multiaddr, now: Instant) {
        let Some(peer) = self.shared.peers.get(&id).map(Arc::clone) else {
            return;
        };
        let known = Known {
            peer,
            address,
            connections: BTreeMap::new(),
            redial: Redial::new(now),
            penalty: Penalty::new(),
            is_up: false,
        };
        self.known.insert(id, known);
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<ConnectionNews>) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest needs nothing done")]
        match event {
            SwarmEvent::Behaviour(news) => self.on_news(news),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, endpoint.is_dialer());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.close(peer_id, connection_id, &format!("closed: {cause:?}"));
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id: Some(peer), error } => {
                tracing::debug!(%peer, %error, "cannot connect");
                if let Some(known) = self.known.get_mut(&peer) {
                    known.redial.failed(Some(connection_id), Instant::now());
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "refused a connection");
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "the mesh listens");
                self.status.send_modify(|status| {
                    status.listening.get_or_insert(address);
                });
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener"),
            _ => {}
        }
    }

    /// A connection replaces the one before it, which the peer has lost or it would not have made another.
    fn on_connected(&mut self, peer: PeerId, id: ConnectionId, is_dialler: bool) {
        let now = Instant::now();
        let Some(known) = self.known.get_mut(&peer) else {
            self.swarm.close_connection(id);
            return;
        };
        let local = self.shared.local;
        let link = if is_dialler {
            known.redial.connected();
            Link::dialled(local, peer)
        } else {
            known.redial.encouraged(now);
            Link::dialled(peer, local)
        };
        let old = known.connections.insert(link, Connection::new(id, now));
        if let Some(old) = old {
            self.swarm.close_connection(old.id);
        }
        self.refresh(peer);
    }

    fn on_news(&mut self, news: ConnectionNews) {
        let ConnectionNews { peer, connection, event } = news;
        match event {
            StreamEvent::Opened { class, stream } => {
                self.start_writer(peer, connection, class, stream);
            }
            StreamEvent::Accepted { class, stream } => {
                self.start_reader(peer, connection, class, stream);
            }
            StreamEvent::Foreign => {
                if let Some(known) = self.known.get(&peer) {
                    known.peer.counters.refused.increment();
                }
                self.close(peer, connection, "it speaks for another network");
            }
            StreamEvent::Failed { class, reason } => {
                self.close(peer, connection, &format!("stream of {class}: {reason}"));
            }
            StreamEvent::Repeated { class } => {
                self.penalise(peer, &format!("it opened two streams of {class}"));
            }
        }
    }

    fn start_writer(&mut self, peer: PeerId, id: ConnectionId, class: Class, stream: Stream) {
        let Some((shared, connection)) = self.current(peer, id) else {
            return;
        };
        let (outbox, queue) = Outbox::new(class);
        connection.outboxes.insert(class, outbox);
        let writer = Writer { peer: shared, class, queue };
        let run =
            async move { Ended { peer, connection: id, class, end: writer.run(stream).await } };
        let task = self.tasks.spawn(run);
        self.keep_task(peer, id, task);
        self.refresh(peer);
    }

    fn start_reader(&mut self, peer: PeerId, id: ConnectionId, class: Class, stream: Stream) {
        let (fate, inbox) = (self.faults.fate(class, peer), self.inboxes.of(class));
        let Some((shared, connection)) = self.current(peer, id) else {
            return;
        };
        connection.accepted = connection.accepted.saturating_add(1);
        let reader = Reader { peer: shared, class, fate, inbox };
        let run =
            async move { Ended { peer, connection: id, class, end: reader.run(stream).await } };
        let task = self.tasks.spawn(run);
        self.keep_task(peer, id, task);
    }

    fn keep_task(&mut self, peer: PeerId, id: ConnectionId, task: AbortHandle) {
        match self.current(peer, id) {
            Some((_, connection)) => connection.tasks.push(task),
            None => task.abort(),
        }
    }

    /// The connection `id`, if it still counts.
    fn current(&mut self, peer: PeerId, id: ConnectionId) -> Option<(Arc<Peer>, &mut Connection)> {
        let known = self.known.get_mut(&peer)?;
        let connection = known.connections.values_mut().find(|connection| connection.id == id)?;
        Some((Arc::clone(&known.peer), connection))
    }

    fn on_task_ended(&mut self, ended: Result<Ended, JoinError>) {
        let Ended { peer, connection, class, end } = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => return,
            // A bug of ours: the mesh stops, and with it the node, instead of going on without a stream.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if self.current(peer, connection).is_none() {
            return;
        }
        let reason = format!("{class}: {end}");
        match end {
            End::TooLong { .. } => self.penalise(peer, &reason),
            End::Silent { .. } => self.close_silent(peer, connection, &reason),
            End::Stream(_) | End::QueueClosed => self.close(peer, connection, &reason),
        }
    }

    fn close_silent(&mut self, peer: PeerId, id: ConnectionId, reason: &str) {
        if let Some(known) = self.known.get(&peer) {
            known.peer.counters.silent.increment();
        }
        self.close(peer, id, reason);
    }

    /// Ends a connection. Does nothing if it does not count any more. Does not wait for the swarm to be done
    /// with it, which can last.
    fn close(&mut self, peer: PeerId, id: ConnectionId, reason: &str) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        let Some(link) = known.link_of(id) else {
            return;
        };
        tracing::info!(%peer, ?link, reason, "connection ended");
        known.connections.remove(&link);
        if link == Link::dialled(self.shared.local, peer) {
            known.redial.failed(None, Instant::now());
        }
        self.swarm.close_connection(id);
        self.refresh(peer);
    }

    /// Ends all connections with a peer and keeps it out for a while. A peer that is kept out already stays out no
    /// longer for frames that it sent before.
    fn penalise(&mut self, peer: PeerId, reason: &str) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        let Some(length) = known.penalty.strike(Instant::now()) else {
            return;
        };
        known.peer.counters.penalties.increment();
        tracing::warn!(%peer, reason, ?length, "garbage: the peer is kept out");
        self.swarm.behaviour_mut().keep_out(peer);
        let ids: Vec<_> = known.connections.values().map(|connection| connection.id).collect();
        for id in ids {
            self.close(peer, id, "garbage");
        }
    }

    fn on_reported(&mut self) {
        let reported = self.known.values().filter(|known| known.peer.take_report());
        let reported: Vec<_> = reported.map(|known| known.peer.id).collect();
        for peer in reported {
            self.penalise(peer, "reported by a consumer");
        }
    }

    /// Says that the peer is up, or is not, if that has changed.
    fn refresh(&mut self, peer: PeerId) {
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        let outboxes = known.outboxes();
        if outboxes.is_some() == known.is_up {
            return;
        }
        known.is_up = outboxes.is_some();
        if known.is_up {
            tracing::info!(%peer, "peer is up");
            known.peer.counters.ups.increment();
            known.redial.encouraged(Instant::now());
        } else {
            tracing::warn!(%peer, "peer is down");
        }
        known.peer.set_outboxes(outboxes);
        self.status.send_modify(|status| status.change(peer));
    }

    fn on_tick(&mut self, now: Instant) {
        let peers: Vec<_> = self.known.keys().copied().collect();
        for peer in peers {
            self.close_unfinished(peer, now);
            self.dial_if_due(peer, now);
        }
    }

    /// Ends connections whose other side has not opened its streams: no reader is there to find it silent.
    fn close_unfinished(&mut self, peer: PeerId, now: Instant) {
        let Some(known) = self.known.get(&peer) else {
            return;
        };
        let is_late = |connection: &Connection| -> bool {
            now.saturating_duration_since(connection.since) > SILENCE_MAX
        };
        let unfinished = known.connections.iter().filter(|(link, connection)| {
            connection.accepted < link.classes().len() && is_late(connection)
        });
        let ids: Vec<_> = unfinished.map(|(_, connection)| connection.id).collect();
        for id in ids {
            self.close_silent(peer, id, "it did not open its streams");
        }
    }

    fn dial_if_due(&mut self, peer: PeerId, now: Instant) {
        let link = Link::dialled(self.shared.local, peer);
        let Some(known) = self.known.get_mut(&peer) else {
            return;
        };
        if known.penalty.is_active(now) {
            return;
        }
        if self.swarm.behaviour_mut().let_in(peer) {
            known.redial.encouraged(now);
        }
        if known.connections.contains_key(&link) || !known.redial.is_due(now) {
            return;
        }
        let options = DialOpts::peer_id(peer)
            .addresses(vec![known.address.clone()])
            .condition(PeerCondition::Always)
            .allocate_new_port()
            .build();
        let attempt = options.connection_id();
        known.redial.started(attempt);
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(%peer, %error, "cannot dial");
            known.redial.failed(Some(attempt), now);
        }
    }
}
