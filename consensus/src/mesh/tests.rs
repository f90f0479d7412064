//! The mesh on loopback: real sockets, real time, every wait with a deadline.

mod hostile;
mod streams;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use lockstep_core::types::NetworkId;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::class::Class;
use super::events::{Event, Events};
use super::faults::{Faults, InboundDelay, InboundLoss};
use super::handle::{Handle, SendError};
use super::stats::PeerStats;
use super::{Config, Inbound, Mesh, SpawnError, keypair_from_seed, spawn};

/// No wait of a test lasts longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// A validator's place: who it is and where it listens.
#[derive(Clone)]
struct Site {
    keypair: Keypair,
    address: Multiaddr,
}

impl Site {
    fn id(&self) -> PeerId {
        self.keypair.public().to_peer_id()
    }
}

/// Places with ports that are free now, in the order of peer ids.
fn sites(count: u8) -> Vec<Site> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    let place = |(seed, listener): (u8, &TcpListener)| {
        let port = listener.local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        Site { keypair: keypair_from_seed([seed; 32]), address }
    };
    let mut sites: Vec<_> = (1..).zip(&listeners).map(place).collect();
    sites.sort_by_key(Site::id);
    sites
}

fn config(sites: &[Site], index: usize) -> Config {
    let others = sites.iter().enumerate().filter(|(other, _)| *other != index);
    Config {
        keypair: sites[index].keypair.clone(),
        listen: sites[index].address.clone(),
        network: NetworkId::ZERO,
        peers: others.map(|(_, site)| (site.id(), site.address.clone())).collect(),
        faults: Faults::default(),
    }
}

async fn start(sites: &[Site], index: usize) -> Mesh {
    spawn(config(sites, index)).await.unwrap()
}

/// Starts a mesh of so many, all of them up.
async fn start_all(count: u8) -> (Vec<Site>, Vec<Mesh>) {
    let sites = sites(count);
    let mut nodes = Vec::new();
    for index in 0..sites.len() {
        nodes.push(start(&sites, index).await);
    }
    for node in &nodes {
        let others = node.handle.peers();
        until("all peers are up", || node.handle.peers_up() == others).await;
    }
    (sites, nodes)
}

/// Waits until `is_so`.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn receive(inbox: &mut mpsc::Receiver<Inbound>) -> Inbound {
    timeout(DEADLINE, inbox.recv()).await.expect("a frame in time").expect("the mesh runs")
}

async fn next(events: &mut Events) -> Event {
    timeout(DEADLINE, events.next()).await.expect("an event in time").expect("the mesh runs")
}

fn stats(handle: &Handle, peer: PeerId) -> PeerStats {
    handle.stats().peers[&peer]
}

/// A frame of so many bytes that tells its number.
fn numbered(number: u32, length: usize) -> Bytes {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(length.max(4), 0xa5);
    body.into()
}

fn number_of(frame: &Inbound) -> u32 {
    u32::from_le_bytes(frame.body[..4].try_into().unwrap())
}

fn inbox(mesh: &mut Mesh, class: Class) -> &mut mpsc::Receiver<Inbound> {
    match class {
        Class::Votes => &mut mesh.votes,
        Class::Parts | Class::Sync => &mut mesh.bulk,
        Class::Lanes => &mut mesh.lanes,
    }
}

#[tokio::test]
async fn frames_of_every_class_arrive_in_order_both_ways() {
    let (sites, mut nodes) = start_all(2).await;
    for (from, to) in [(0, 1), (1, 0)] {
        for class in Class::ALL {
            let lengths = [1, 100, 65_000, class.frame_bytes_max().min(70_000), 5];
            for (number, length) in (0..).zip(lengths) {
                let frame = numbered(number, length.min(class.frame_bytes_max()));
                nodes[from].handle.send(sites[to].id(), class, frame).unwrap();
            }
            for (number, length) in (0..).zip(lengths) {
                let frame = receive(inbox(&mut nodes[to], class)).await;
                assert_eq!((frame.from, frame.class), (sites[from].id(), class));
                assert_eq!(number_of(&frame), number);
                assert_eq!(frame.body.len(), length.clamp(4, class.frame_bytes_max()));
            }
        }
    }
    let sent = stats(&nodes[0].handle, sites[1].id()).classes;
    let received = stats(&nodes[1].handle, sites[0].id()).classes;
    for class in Class::ALL {
        assert_eq!(sent.get(class).sent_frames, 5);
        assert_eq!(received.get(class).received_frames, 5);
        assert_eq!(received.get(class).received_bytes, sent.get(class).sent_bytes);
    }
}

#[tokio::test]
async fn frame_of_the_greatest_size_arrives_and_a_longer_one_is_refused_at_the_sender() {
    let (sites, mut nodes) = start_all(2).await;
    let to = sites[1].id();
    for class in Class::ALL {
        let max = class.frame_bytes_max();
        nodes[0].handle.send(to, class, numbered(7, max)).unwrap();
        let frame = receive(inbox(&mut nodes[1], class)).await;
        assert_eq!(frame.body, numbered(7, max));
        let error = SendError::Length { class, got: max + 1, max };
        assert_eq!(nodes[0].handle.send(to, class, numbered(7, max + 1)), Err(error));
        let error = SendError::Length { class, got: 0, max };
        assert_eq!(nodes[0].handle.send(to, class, Bytes::new()), Err(error));
    }
    assert_eq!(stats(&nodes[1].handle, sites[0].id()).penalties, 0);
}

#[tokio::test]
async fn broadcast_reaches_all_of_four() {
    let (sites, mut nodes) = start_all(4).await;
    for from in 0..4 {
        assert_eq!(nodes[from].handle.broadcast(Class::Votes, &numbered(9, 200)), []);
        for (to, node) in nodes.iter_mut().enumerate().filter(|(to, _)| *to != from) {
            let frame = receive(&mut node.votes).await;
            assert_eq!((frame.from, number_of(&frame)), (sites[from].id(), 9), "to {to}");
        }
    }
}

#[tokio::test]
async fn bulk_that_nobody_takes_delays_neither_votes_nor_other_classes() {
    let (sites, mut nodes) = start_all(2).await;
    let to = sites[1].id();
    for number in 0..3 {
        nodes[0].handle.send(to, Class::Sync, numbered(number, 10 << 20)).unwrap();
    }
    let read = |node: &Mesh| stats(&node.handle, sites[0].id()).classes.sync.received_frames;
    until("the first answer is read", || read(&nodes[1]) == 1).await;
    for number in 0..500 {
        nodes[0].handle.send(to, Class::Votes, numbered(number, 200)).unwrap();
    }
    nodes[0].handle.send(to, Class::Lanes, numbered(77, 500_000)).unwrap();
    for number in 0..500 {
        assert_eq!(number_of(&receive(&mut nodes[1].votes).await), number);
    }
    assert_eq!(number_of(&receive(&mut nodes[1].lanes).await), 77);
    assert_eq!(read(&nodes[1]), 1, "the second waits until the first is taken");
    for number in 0..3 {
        assert_eq!(receive(&mut nodes[1].bulk).await.body, numbered(number, 10 << 20));
    }
}

#[tokio::test]
async fn votes_overtake_bulk_in_flight() {
    let (sites, mut nodes) = start_all(2).await;
    let to = sites[1].id();
    for number in 0..3 {
        nodes[0].handle.send(to, Class::Sync, numbered(number, 10 << 20)).unwrap();
    }
    for number in 0..30 {
        nodes[0].handle.send(to, Class::Lanes, numbered(number, 500_000)).unwrap();
    }
    nodes[0].handle.send(to, Class::Votes, numbered(1, 200)).unwrap();
    let Mesh { votes, lanes, .. } = &mut nodes[1];
    let mut batches_before = Vec::new();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        tokio::select! {
            biased;
            vote = votes.recv() => break assert_eq!(number_of(&vote.unwrap()), 1),
            Some(batch) = lanes.recv() => batches_before.push(number_of(&batch)),
            () = tokio::time::sleep_until(deadline) => panic!("no vote in time"),
        }
    }
    assert!(batches_before.len() < 30, "the vote came behind all batches sent before it");
}

#[tokio::test]
async fn restarted_node_comes_back() {
    let (sites, mut nodes) = start_all(3).await;
    let mut events = nodes[0].handle.subscribe_events();
    let mut first: Vec<_> = Vec::new();
    for _ in 0..3 {
        first.push(next(&mut events).await);
    }
    assert!(matches!(first[0], Event::Listening(_)));
    assert_eq!(first[1..], [Event::Up(sites[1].id()), Event::Up(sites[2].id())]);
    for _ in 0..2 {
        let Mesh { running, .. } = nodes.pop().unwrap();
        running.shutdown().await;
        assert_eq!(next(&mut events).await, Event::Down(sites[2].id()));
        let error = SendError::Down { to: sites[2].id() };
        let sent = nodes[0].handle.send(sites[2].id(), Class::Lanes, numbered(0, 9));
        assert_eq!(sent, Err(error));
        assert_eq!(
            nodes[0].handle.broadcast(Class::Votes, &numbered(0, 9)),
            [(sites[2].id(), error)]
        );
        nodes.push(start(&sites, 2).await);
        assert_eq!(next(&mut events).await, Event::Up(sites[2].id()));
        nodes[0].handle.send(sites[2].id(), Class::Parts, numbered(3, 9)).unwrap();
        assert_eq!(number_of(&receive(&mut nodes[2].bulk).await), 3);
    }
    assert_eq!(stats(&nodes[0].handle, sites[2].id()).reconnects, 2);
    assert_eq!(stats(&nodes[0].handle, sites[1].id()).reconnects, 0);
}

#[tokio::test]
async fn stopped_mesh_tells_its_subscribers_and_frees_its_port() {
    let (sites, mut nodes) = start_all(2).await;
    let Mesh { running, handle, .. } = nodes.remove(0);
    let mut events = handle.subscribe_events();
    running.shutdown().await;
    while timeout(DEADLINE, events.next()).await.expect("an end in time").is_some() {}
    assert_eq!(handle.peers_up(), []);
    drop(start(&sites, 0).await);
}

#[tokio::test]
async fn taken_port_is_an_error_that_names_the_address() {
    let sites = sites(2);
    let _first = start(&sites, 0).await;
    let error = spawn(config(&sites, 0)).await.unwrap_err();
    assert!(matches!(&error, SpawnError::Bind { address, .. } if *address == sites[0].address));
    assert!(error.to_string().contains(&sites[0].address.to_string()), "{error}");
}

#[tokio::test]
async fn configurations_without_sense_are_refused() {
    let sites = sites(2);
    let good = config(&sites, 0);
    let check = |change: fn(&mut Config)| {
        let mut config = good.clone();
        change(&mut config);
        async move { spawn(config).await.unwrap_err() }
    };
    let error = check(|config| config.listen = "/ip4/127.0.0.1/udp/1".parse().unwrap()).await;
    assert!(matches!(error, SpawnError::ListenAddress { .. }), "{error}");
    let error = check(|config| config.listen = "/dns4/localhost/tcp/1".parse().unwrap()).await;
    assert!(matches!(error, SpawnError::ListenAddress { .. }), "{error}");
    let error = check(|config| config.peers.push(config.peers[0].clone())).await;
    assert!(matches!(error, SpawnError::Peer { .. }), "{error}");
    let error = check(|config| config.peers[0].0 = config.keypair.public().to_peer_id()).await;
    assert!(matches!(error, SpawnError::Peer { .. }), "{error}");
    let error = check(|config| config.peers = vec![config.peers[0].clone(); 100]).await;
    assert!(matches!(error, SpawnError::TooManyPeers { got: 100, max: 99 }), "{error}");
}

#[tokio::test]
async fn peer_given_by_name_is_found() {
    let mut sites = sites(2);
    for site in &mut sites {
        let address = site.address.to_string().replace("/ip4/127.0.0.1", "/dns4/localhost");
        site.address = address.parse().unwrap();
    }
    let mut nodes = Vec::new();
    for index in 0..2 {
        let mut config = config(&sites, index);
        let listen = config.listen.to_string().replace("/dns4/localhost", "/ip4/127.0.0.1");
        config.listen = listen.parse().unwrap();
        nodes.push(spawn(config).await.unwrap());
    }
    until("both are up", || nodes.iter().all(|node| node.handle.peers_up().len() == 1)).await;
}

#[tokio::test]
async fn other_network_is_refused() {
    let sites = sites(2);
    let ours = start(&sites, 0).await;
    let mut config = config(&sites, 1);
    config.network = NetworkId([1; 32].into());
    let theirs = spawn(config).await.unwrap();
    let (a, b) = (sites[0].id(), sites[1].id());
    let refused = |mesh: &Mesh, peer| stats(&mesh.handle, peer).refused;
    until("both refuse", || refused(&ours, b) >= 2 && refused(&theirs, a) >= 2).await;
    assert_eq!(ours.handle.peers_up(), []);
    let error = SendError::Down { to: b };
    assert_eq!(ours.handle.send(b, Class::Votes, numbered(1, 9)), Err(error));
    assert_eq!(stats(&ours.handle, b).penalties, 0, "it is a mistake, not an attack");
}

#[tokio::test]
async fn unknown_peer_is_refused_at_the_sender() {
    let (_, nodes) = start_all(2).await;
    let to = keypair_from_seed([99; 32]).public().to_peer_id();
    let sent = nodes[0].handle.send(to, Class::Votes, numbered(1, 9));
    assert_eq!(sent, Err(SendError::Unknown { to }));
    assert!(!nodes[0].handle.is_up(to));
}

#[tokio::test]
async fn lateness_and_loss_are_made_for_their_class_and_peer_only() {
    let sites = sites(3);
    let delay = Duration::from_millis(1_500);
    let (late, other) = (sites[1].id(), sites[2].id());
    let mut faulty = config(&sites, 0);
    faulty.faults = Faults {
        delays: vec![InboundDelay { class: Class::Lanes, from: Some(late), delay }],
        losses: vec![InboundLoss { class: Class::Parts, from: Some(other) }],
    };
    let mut node = spawn(faulty).await.unwrap();
    let peers = [start(&sites, 1).await, start(&sites, 2).await];
    until("both are up", || peers.iter().all(|peer| peer.handle.is_up(sites[0].id()))).await;

    let begin = Instant::now();
    for (number, peer) in (0..).zip(&peers) {
        for class in [Class::Lanes, Class::Parts] {
            peer.handle.send(sites[0].id(), class, numbered(number, 99)).unwrap();
            peer.handle.send(sites[0].id(), class, numbered(number + 10, 99)).unwrap();
        }
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        let frame = receive(&mut node.lanes).await;
        assert!(frame.from != late || begin.elapsed() >= delay, "too early");
        order.push(number_of(&frame));
    }
    assert_eq!(order, [1, 11, 0, 10]);
    for number in [0, 10] {
        let frame = receive(&mut node.bulk).await;
        assert_eq!((frame.from, number_of(&frame)), (late, number));
    }
    let lost = |node: &Mesh| stats(&node.handle, other).classes.parts.received_frames;
    until("the lost parts were read", || lost(&node) == 2).await;
    assert!(node.bulk.try_recv().is_err());
}
