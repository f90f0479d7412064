//! The consumers' side of the mesh: send, ask who is up, report garbage.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use tokio::sync::watch;

use super::class::Class;
use super::events::{Events, Status};
use super::peer::{Peer, Pushed, Shared};
use super::stats::Stats;

/// Why a frame was not queued. It is gone for the mesh; the caller may try again, but for the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer is not up.
    #[error("peer {to} is down")]
    Down {
        /// To whom it was.
        to: PeerId,
    },
    /// So much waits for the peer already that there is no room. Counted.
    #[error("the queue of {class} to {to} is full")]
    Full {
        /// To whom it was.
        to: PeerId,
        /// Whose queue is full.
        class: Class,
    },
    /// The frame is empty, which would be a heartbeat, or longer than any peer takes.
    #[error("a frame of {class} with {got} bytes, not 1 to {max}")]
    Length {
        /// The class it was for.
        class: Class,
        /// Bytes of the frame.
        got: usize,
        /// The class's greatest.
        max: usize,
    },
    /// No such peer is configured.
    #[error("{to} is no peer of ours")]
    Unknown {
        /// To whom it was.
        to: PeerId,
    },
}

/// Sends on a mesh and tells about it. Clones are of the same mesh; none of them keeps it running.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    status: watch::Receiver<Status>,
}

impl Handle {
    pub(super) const fn new(shared: Arc<Shared>, status: watch::Receiver<Status>) -> Self {
        Self { shared, status }
    }

    /// Queues a frame for `to`, and never waits. Frames of one class arrive in the order they were queued in,
    /// or not at all: what is queued when a connection ends is lost.
    ///
    /// # Errors
    ///
    /// When it was not queued. See [`SendError`].
    pub fn send(&self, to: PeerId, class: Class, body: Bytes) -> Result<(), SendError> {
        check_length(class, &body)?;
        let peer = self.shared.peers.get(&to).ok_or(SendError::Unknown { to })?;
        push(peer, class, body)
    }

    /// Queues a frame for every peer, and returns for whom it was not queued and why, in the order of ids. One
    /// that is too long or empty is queued for nobody.
    pub fn broadcast(&self, class: Class, body: &Bytes) -> Vec<(PeerId, SendError)> {
        let checked = check_length(class, body);
        let send = |peer: &Peer| checked.and_then(|()| push(peer, class, body.clone()));
        let peers = self.shared.peers.iter();
        peers.filter_map(|(id, peer)| send(peer).err().map(|error| (*id, error))).collect()
    }

    /// The peers that are up, in the order of ids.
    #[must_use]
    pub fn peers_up(&self) -> Vec<PeerId> {
        self.shared.peers.values().filter(|peer| peer.is_up()).map(|peer| peer.id).collect()
    }

    /// Whether frames can be sent to `peer`.
    #[must_use]
    pub fn is_up(&self, peer: PeerId) -> bool {
        self.shared.peers.get(&peer).is_some_and(|peer| peer.is_up())
    }

    /// All configured peers, up or not, in the order of ids.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        self.shared.peers.keys().copied().collect()
    }

    /// This node's own id.
    #[must_use]
    pub fn local_peer_id(&self) -> PeerId {
        self.shared.local
    }

    /// Follows who is up, from the state of now on.
    #[must_use]
    pub fn subscribe_events(&self) -> Events {
        Events::new(self.status.clone())
    }

    /// The numbers of now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Disconnects a peer whose frame was garbage, and keeps it out for a while: 1 second the first time, each
    /// time twice as long, up to a minute. An unknown peer is ignored.
    pub fn disconnect(&self, peer: PeerId) {
        if let Some(peer) = self.shared.peers.get(&peer) {
            peer.report();
            self.shared.reported.notify_one();
        }
    }
}

/// Whether any peer would take the frame.
const fn check_length(class: Class, body: &Bytes) -> Result<(), SendError> {
    let (got, max) = (body.len(), class.frame_bytes_max());
    if got == 0 || got > max {
        return Err(SendError::Length { class, got, max });
    }
    Ok(())
}

fn push(peer: &Peer, class: Class, body: Bytes) -> Result<(), SendError> {
    match peer.push(class, body) {
        Pushed::Queued => Ok(()),
        Pushed::Full => Err(SendError::Full { to: peer.id, class }),
        Pushed::Closed => Err(SendError::Down { to: peer.id }),
    }
}
