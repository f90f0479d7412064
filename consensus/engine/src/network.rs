//! The boundary to the transport: opaque frames by class, over bounded channels.
//!
//! The transport authenticates peers and moves frames; it does not read them. The engine reads and writes frames; it
//! knows no socket. A frame's first arrival order within one class and peer is kept, nothing else is promised.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use libp2p::{Multiaddr, PeerId};

/// Which long-lived stream a frame travels on, so that bulk never stands in front of a vote. A frame has at most
/// [`Class::frame_bytes_max`] bytes; the transport need not read more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Consensus and liveness messages, and status.
    Votes,
    /// Proposal parts.
    Parts,
    /// Requests and responses of value sync.
    Sync,
}

/// What the engine asks the transport to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Send to every peer that is up.
    Broadcast {
        /// The stream.
        class: Class,
        /// The bytes.
        frame: Bytes,
    },
    /// Send to one peer; forget it if the peer is down.
    Send {
        /// The peer.
        to: PeerId,
        /// The stream.
        class: Class,
        /// The bytes.
        frame: Bytes,
    },
    /// The peer sent what no honest one sends: close its connection and make it wait.
    Disconnect {
        /// The peer.
        peer: PeerId,
        /// For the log.
        reason: String,
    },
}

/// What the transport tells the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The transport listens. Without it [`crate::Request::Ready`] never comes. More than once is harmless.
    Listening(Multiaddr),
    /// All streams to the peer are open, in both directions.
    Up(PeerId),
    /// One of them is gone. Frames of a peer that is not up are ignored.
    Down(PeerId),
    /// A frame of a peer that is up.
    Frame {
        /// Who sent it; authenticated.
        from: PeerId,
        /// The stream it came on.
        class: Class,
        /// The bytes.
        frame: Bytes,
    },
}

/// Both directions of the boundary. It outlives an engine: [`crate::EngineHandle::stop`] gives it back, with what a
/// successor must be told first, so that the transport need not repeat it.
#[derive(Debug)]
pub struct Transport {
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    pub(crate) listening: Option<Multiaddr>,
    pub(crate) up: BTreeSet<PeerId>,
    /// Number of the newest sync request, so that an answer to a predecessor's is never taken for an answer to ours.
    pub(crate) requests: u64,
}

impl Transport {
    /// The boundary over these channels. Of no peer, and of no address, anything is known yet.
    #[must_use]
    pub const fn new(outgoing: mpsc::Sender<Outgoing>, incoming: mpsc::Receiver<Incoming>) -> Self {
        Self { outgoing, incoming, listening: None, up: BTreeSet::new(), requests: 0 }
    }
}
