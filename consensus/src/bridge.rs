//! Joins the mesh and the engine: frames and peers one way, frames and disconnections the other. It reads no frame.
//!
//! Votes have a task of their own in each direction, so that bulk never stands before them.

use libp2p::PeerId;
use lockstep_engine::{Class, Incoming, Outgoing, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::mesh::Inbound;
use crate::mesh::class::Class as MeshClass;
use crate::mesh::events::{Event, Events};
use crate::mesh::handle::Handle;

/// Frames between the mesh and the engine, per direction.
const FRAMES_MAX: usize = 1_024;

const fn to_mesh(class: Class) -> MeshClass {
    match class {
        Class::Votes => MeshClass::Votes,
        Class::Parts => MeshClass::Parts,
        Class::Sync => MeshClass::Sync,
    }
}

const fn to_engine(class: MeshClass) -> Option<Class> {
    match class {
        MeshClass::Votes => Some(Class::Votes),
        MeshClass::Parts => Some(Class::Parts),
        MeshClass::Sync => Some(Class::Sync),
        MeshClass::Lanes => None,
    }
}

/// Starts the bridge; the tasks end with the mesh or the engine.
pub(crate) fn spawn(
    mesh: &Handle,
    votes: mpsc::Receiver<Inbound>,
    bulk: mpsc::Receiver<Inbound>,
    tasks: &mut JoinSet<()>,
) -> Transport {
    let (outgoing, from_engine) = mpsc::channel(FRAMES_MAX);
    let (to_engine, incoming) = mpsc::channel(FRAMES_MAX);
    tasks.spawn(send(mesh.clone(), from_engine));
    tasks.spawn(receive(mesh.subscribe_events(), votes, to_engine.clone()));
    tasks.spawn(receive_bulk(bulk, to_engine));
    Transport::new(outgoing, incoming)
}

async fn send(mesh: Handle, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(message) = outgoing.recv().await {
        match message {
            Outgoing::Broadcast { class, frame } => {
                for (to, error) in mesh.broadcast(to_mesh(class), &frame) {
                    debug!(%to, %error, "frame not sent");
                }
            }
            Outgoing::Send { to, class, frame } => {
                if let Err(error) = mesh.send(to, to_mesh(class), frame) {
                    debug!(%to, %error, "frame not sent");
                }
            }
            Outgoing::Disconnect { peer, reason } => {
                warn!(%peer, %reason, "disconnecting a validator");
                mesh.disconnect(peer);
            }
        }
    }
}

/// Peers and votes, in one task: a peer's going up comes before its next votes.
async fn receive(
    mut events: Events,
    mut votes: mpsc::Receiver<Inbound>,
    to_engine: mpsc::Sender<Incoming>,
) {
    loop {
        let incoming = tokio::select! {
            biased;
            event = events.next() => match event {
                Some(event) => of_event(event),
                None => return,
            },
            inbound = votes.recv() => match inbound {
                Some(inbound) => match frame(inbound) {
                    Some(frame) => frame,
                    None => continue,
                },
                None => return,
            },
        };
        if to_engine.send(incoming).await.is_err() {
            return;
        }
    }
}

async fn receive_bulk(mut bulk: mpsc::Receiver<Inbound>, to_engine: mpsc::Sender<Incoming>) {
    while let Some(inbound) = bulk.recv().await {
        if let Some(frame) = frame(inbound)
            && to_engine.send(frame).await.is_err()
        {
            return;
        }
    }
}

fn of_event(event: Event) -> Incoming {
    let log = |peer: &PeerId, is_up: bool| debug!(%peer, is_up, "validator");
    match event {
        Event::Listening(address) => Incoming::Listening(address),
        Event::Up(peer) => {
            log(&peer, true);
            Incoming::Up(peer)
        }
        Event::Down(peer) => {
            log(&peer, false);
            Incoming::Down(peer)
        }
    }
}

fn frame(inbound: Inbound) -> Option<Incoming> {
    let class = to_engine(inbound.class)?;
    Some(Incoming::Frame { from: inbound.from, class, frame: inbound.body })
}
