//! Peers that do not keep to the rules, made of the mesh's own parts.

use std::net::TcpStream;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{AsyncWriteExt, StreamExt};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    self, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, Stream, SwarmEvent,
    THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::task::JoinHandle;

use super::*;
use crate::mesh::behaviour::{Behaviour, ConnectionNews};
use crate::mesh::handler::{Handler, StreamEvent, names};
use crate::mesh::peer::Shared;
use crate::mesh::transport::build_transport;

/// A behaviour that may leave out opening its streams.
struct Rude {
    inner: Behaviour,
    opens: bool,
}

impl Rude {
    fn spoil(&self, mut handler: Handler) -> Handler {
        if !self.opens {
            handler.to_open.clear();
        }
        handler
    }
}

impl NetworkBehaviour for Rude {
    type ConnectionHandler = Handler;
    type ToSwarm = ConnectionNews;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let handler = self.inner.handle_established_inbound_connection(id, peer, local, remote)?;
        Ok(self.spoil(handler))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let inner = &mut self.inner;
        let handler =
            inner.handle_established_outbound_connection(id, peer, address, role, port)?;
        Ok(self.spoil(handler))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: StreamEvent) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<ConnectionNews, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

/// What a hostile peer sees.
#[derive(Debug)]
enum Seen {
    Connected,
    Stream { is_ours: bool, class: Class, stream: Stream },
    Disconnected { is_ours: bool },
}

/// A hostile peer. It keeps no rule by itself: it dials and writes when it is told to.
struct Hostile {
    seen: mpsc::Receiver<Seen>,
    dial: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hostile {
    /// At `sites[index]`, against the first site, which is all it sees. It listens there.
    fn start(sites: &[Site], index: usize, opens: bool) -> Self {
        let config = config(sites, index);
        let victim = config.peers[0].clone();
        let ids = config.peers.iter().map(|(id, _)| *id);
        let shared = Arc::new(Shared::new(sites[index].id(), ids));
        let options = swarm::Config::with_tokio_executor();
        let transport = build_transport(&config).unwrap();
        let names = names(config.network);
        let inner = Behaviour::new(shared, names, Default::default());
        let mut swarm = Swarm::new(transport, Rude { inner, opens }, sites[index].id(), options);
        swarm.listen_on(config.listen).unwrap();
        let (saw, seen) = mpsc::channel(1_000);
        let (dial, dials) = mpsc::channel(10);
        Self { seen, dial, task: tokio::spawn(run(swarm, victim, saw, dials)) }
    }

    async fn dial(&self) {
        self.dial.send(()).await.unwrap();
    }

    async fn see(&mut self) -> Seen {
        timeout(DEADLINE, self.seen.recv()).await.expect("in time").unwrap()
    }

    /// Its stream of `class`, once it is open.
    async fn opened(&mut self, wanted: Class) -> Stream {
        loop {
            if let Seen::Stream { is_ours: true, class, stream } = self.see().await
                && class == wanted
            {
                return stream;
            }
        }
    }

    /// Waits until a connection that it dialled has ended.
    async fn disconnected(&mut self) {
        while !matches!(self.see().await, Seen::Disconnected { is_ours: true }) {}
    }
}

async fn run(
    mut swarm: Swarm<Rude>,
    (victim, address): (PeerId, Multiaddr),
    saw: mpsc::Sender<Seen>,
    mut dials: mpsc::Receiver<()>,
) {
    loop {
        let event = tokio::select! {
            Some(()) = dials.recv() => {
                let options = DialOpts::peer_id(victim)
                    .addresses(vec![address.clone()])
                    .condition(PeerCondition::Always)
                    .allocate_new_port()
                    .build();
                swarm.dial(options).unwrap();
                continue;
            }
            event = swarm.select_next_some() => event,
        };
        #[expect(clippy::wildcard_enum_match_arm, reason = "it does not look at the rest")]
        let seen = match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } if peer_id == victim => {
                Seen::Connected
            }
            SwarmEvent::ConnectionClosed { peer_id, endpoint, .. } if peer_id == victim => {
                Seen::Disconnected { is_ours: endpoint.is_dialer() }
            }
            SwarmEvent::Behaviour(news) if news.peer == victim => match news.event {
                StreamEvent::Opened { class, stream } => {
                    Seen::Stream { is_ours: true, class, stream }
                }
                StreamEvent::Accepted { class, stream } => {
                    Seen::Stream { is_ours: false, class, stream }
                }
                _ => continue,
            },
            _ => continue,
        };
        saw.send(seen).await.unwrap();
    }
}

/// A node, an honest peer that is up, and a third site for a hostile one. The node is the first site.
async fn start_two_of_three() -> (Vec<Site>, Mesh, Mesh) {
    let sites = sites(3);
    let node = start(&sites, 0).await;
    let honest = start(&sites, 1).await;
    let (a, b) = (sites[0].id(), sites[1].id());
    until("the honest are up", || node.handle.is_up(b) && honest.handle.is_up(a)).await;
    (sites, node, honest)
}

#[tokio::test]
async fn stranger_is_refused_and_counted() {
    let (mut sites, node, _honest) = start_two_of_three().await;
    sites[2].keypair = keypair_from_seed([200; 32]);
    sites[2].address = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    let mut stranger = Hostile::start(&sites, 2, true);
    for count in 1..=3 {
        stranger.dial().await;
        stranger.disconnected().await;
        assert_eq!(node.handle.stats().strangers, count);
    }
    assert_eq!(node.handle.peers_up(), [sites[1].id()]);
}

#[tokio::test]
async fn garbage_ends_the_connection_keeps_the_peer_out_and_hurts_nobody_else() {
    let (sites, mut node, honest) = start_two_of_three().await;
    let bad = sites[2].id();
    let mut hostile = Hostile::start(&sites, 2, true);
    hostile.dial().await;
    let mut stream = hostile.opened(Class::Sync).await;
    stream.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    until("it is punished", || stats(&node.handle, bad).penalties == 1).await;
    hostile.disconnected().await;
    // A consumer finds more garbage among the frames that came before.
    node.handle.disconnect(bad);

    hostile.dial().await;
    until("it is refused", || stats(&node.handle, bad).refused >= 1).await;
    assert_eq!(stats(&node.handle, bad).penalties, 1, "one connection is punished once");
    assert_eq!(stats(&honest.handle, sites[0].id()).reconnects, 0);
    honest.handle.send(sites[0].id(), Class::Votes, numbered(4, 200)).unwrap();
    assert_eq!(number_of(&receive(&mut node.votes).await), 4);

    drop(hostile);
    let reformed = start_eventually(&sites, 2).await;
    until("it is let in again", || node.handle.is_up(bad)).await;
    reformed.handle.send(sites[0].id(), Class::Votes, numbered(5, 200)).ok();
    assert_eq!(stats(&node.handle, sites[1].id()).reconnects, 0);
}

/// Starts a node on a port that another was using a moment ago.
async fn start_eventually(sites: &[Site], index: usize) -> Mesh {
    let begin = Instant::now();
    loop {
        match spawn(config(sites, index)).await {
            Ok(mesh) => return mesh,
            Err(error) => assert!(begin.elapsed() < DEADLINE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn peer_reported_by_a_consumer_is_kept_out_for_a_while() {
    let (sites, nodes) = start_all(3).await;
    let mut events = nodes[0].handle.subscribe_events();
    for _ in 0..3 {
        next(&mut events).await;
    }
    let begin = Instant::now();
    nodes[0].handle.disconnect(sites[1].id());
    assert_eq!(next(&mut events).await, Event::Down(sites[1].id()));
    assert_eq!(stats(&nodes[0].handle, sites[1].id()).penalties, 1);
    assert_eq!(next(&mut events).await, Event::Up(sites[1].id()));
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(stats(&nodes[0].handle, sites[2].id()).reconnects, 0);
}

#[tokio::test]
async fn full_queue_is_reported_and_the_silent_peer_dropped() {
    let (sites, node, honest) = start_two_of_three().await;
    let bad = sites[2].id();
    let mut hostile = Hostile::start(&sites, 2, true);
    hostile.dial().await;
    until("the hostile peer is up", || node.handle.is_up(bad)).await;
    // It reads nothing: its streams' windows and the sockets' buffers fill, then the queue.
    let batch = numbered(0, 500_000);
    let mut sent = 0;
    let error = loop {
        match node.handle.send(bad, Class::Lanes, batch.clone()) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1_000, "the queue is not bounded");
    };
    assert_eq!(error, SendError::Full { to: bad, class: Class::Lanes });
    assert!(sent >= Class::Lanes.limits().queue_bytes_max / batch.len());
    assert_eq!(stats(&node.handle, bad).classes.lanes.dropped_frames, 1);
    node.handle.send(bad, Class::Votes, numbered(1, 200)).unwrap();
    node.handle.send(sites[1].id(), Class::Lanes, batch).unwrap();

    let mut held = Vec::new();
    let begin = Instant::now();
    until("it is dropped", || {
        while let Ok(seen) = hostile.seen.try_recv() {
            held.push(seen);
        }
        stats(&node.handle, bad).silent >= 1
    })
    .await;
    assert!(begin.elapsed() > Duration::from_secs(3), "silence is not garbage");
    until("it is down", || !node.handle.is_up(bad)).await;
    assert_eq!(stats(&honest.handle, sites[0].id()).reconnects, 0);
}

#[tokio::test]
async fn peer_that_opens_no_streams_is_dropped() {
    let (sites, node, _honest) = start_two_of_three().await;
    let mut hostile = Hostile::start(&sites, 2, false);
    hostile.dial().await;
    assert!(matches!(hostile.see().await, Seen::Connected));
    let silent = || stats(&node.handle, sites[2].id()).silent;
    let mut held = Vec::new();
    until("it is dropped", || {
        while let Ok(seen) = hostile.seen.try_recv() {
            held.push(seen);
        }
        silent() >= 1
    })
    .await;
}

#[tokio::test]
async fn second_connection_replaces_the_first() {
    let (sites, node, _honest) = start_two_of_three().await;
    let mut hostile = Hostile::start(&sites, 2, true);
    hostile.dial().await;
    let _first = hostile.opened(Class::Parts).await;
    hostile.dial().await;
    hostile.disconnected().await;
    let mut second = hostile.opened(Class::Parts).await;
    second.write_all(&[1, 0, 0, 0, 42]).await.unwrap();
    second.flush().await.unwrap();
    let parts = || stats(&node.handle, sites[2].id()).classes.parts.received_frames;
    until("the second is read", || parts() == 1).await;
}

#[tokio::test]
async fn strangers_half_way_in_are_few_and_validators_come_in_after_them() {
    let mut sites = sites(2);
    let elsewhere = sites[1].address.to_string().replace("127.0.0.1", "127.0.0.2");
    sites[1].address = elsewhere.parse().unwrap();
    let node = start(&sites, 0).await;
    let port = sites[0].address.to_string().rsplit('/').next().unwrap().parse::<u16>().unwrap();
    let held: Vec<_> = (0..80).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    until("the rest is refused", || node.handle.stats().crowded_out >= 16).await;
    drop(held);
    // It dials from an address that is not in the list, so it counts as a stranger until it is known.
    let peer = start(&sites, 1).await;
    until("both are up", || node.handle.is_up(sites[1].id()) && peer.handle.is_up(sites[0].id()))
        .await;
}
