//! A transport in memory: every node is linked to every other, or to none.

use std::sync::{Arc, Mutex};

use lockstep_engine::{Class, Incoming, Outgoing, PeerId, Transport};
use tokio::sync::mpsc;

const QUEUE: usize = 4_096;

struct Node {
    peer: PeerId,
    incoming: mpsc::Sender<Incoming>,
    is_linked: bool,
}

/// The nodes, and what was seen of them.
#[derive(Clone, Default)]
pub(crate) struct Router {
    nodes: Arc<Mutex<Vec<Node>>>,
    disconnected: Arc<Mutex<Vec<(PeerId, String)>>>,
}

impl Router {
    /// Adds a node that listens and is linked to nobody yet.
    pub(crate) fn add(&self) -> (usize, Transport) {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let (incoming, receiver) = mpsc::channel(QUEUE);
        incoming.try_send(Incoming::Listening("/memory/1".parse().unwrap())).unwrap();
        let mut nodes = self.nodes.lock().unwrap();
        let place = nodes.len();
        nodes.push(Node { peer: peer(place), incoming, is_linked: false });
        tokio::spawn(self.clone().route(place, queue));
        (place, Transport::new(outgoing, receiver))
    }

    async fn route(self, place: usize, mut queue: mpsc::Receiver<Outgoing>) {
        while let Some(message) = queue.recv().await {
            match message {
                Outgoing::Broadcast { class, frame } => {
                    for (_, to) in self.neighbours(place) {
                        let from = peer(place);
                        let frame = frame.clone();
                        to.send(Incoming::Frame { from, class, frame }).await.ok();
                    }
                }
                Outgoing::Send { to, class, frame } => {
                    for (_, node) in self.neighbours(place).iter().filter(|(p, _)| *p == to) {
                        let frame = frame.clone();
                        node.send(Incoming::Frame { from: peer(place), class, frame }).await.ok();
                    }
                }
                Outgoing::Disconnect { peer, reason } => {
                    self.disconnected.lock().unwrap().push((peer, reason));
                }
            }
        }
    }

    fn neighbours(&self, place: usize) -> Vec<(PeerId, mpsc::Sender<Incoming>)> {
        let nodes = self.nodes.lock().unwrap();
        if !nodes[place].is_linked {
            return Vec::new();
        }
        let others = nodes.iter().enumerate().filter(|(i, node)| *i != place && node.is_linked);
        others.map(|(_, node)| (node.peer, node.incoming.clone())).collect()
    }

    /// Links a node to all that are linked.
    pub(crate) async fn link(&self, place: usize) {
        self.nodes.lock().unwrap()[place].is_linked = true;
        let own = self.nodes.lock().unwrap()[place].incoming.clone();
        for (peer_id, node) in self.neighbours(place) {
            node.send(Incoming::Up(peer(place))).await.unwrap();
            own.send(Incoming::Up(peer_id)).await.unwrap();
        }
    }

    /// Takes a node's links away.
    pub(crate) async fn unlink(&self, place: usize) {
        let own = self.nodes.lock().unwrap()[place].incoming.clone();
        let neighbours = self.neighbours(place);
        self.nodes.lock().unwrap()[place].is_linked = false;
        for (peer_id, node) in neighbours {
            node.send(Incoming::Down(peer(place))).await.unwrap();
            own.try_send(Incoming::Down(peer_id)).unwrap();
        }
    }

    /// Delivers bytes to a node as if `from` had sent them.
    pub(crate) async fn inject(&self, from: usize, to: usize, class: Class, frame: Vec<u8>) {
        let to = self.nodes.lock().unwrap()[to].incoming.clone();
        to.send(Incoming::Frame { from: peer(from), class, frame: frame.into() }).await.unwrap();
    }

    /// Whom an engine wanted disconnected, and why.
    pub(crate) fn disconnected(&self) -> Vec<(PeerId, String)> {
        self.disconnected.lock().unwrap().clone()
    }
}

/// The peer id of a node: an identity hash of its place.
pub(crate) fn peer(place: usize) -> PeerId {
    PeerId::from_bytes(&[0, 1, u8::try_from(place).unwrap()]).unwrap()
}
