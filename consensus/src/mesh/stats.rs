//! The mesh's numbers: counters that its tasks add to, and a snapshot for metrics and tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use libp2p::PeerId;

use super::class::{Class, PerClass};

/// All numbers of one mesh since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections refused because the other side is no peer of ours.
    pub strangers: u64,
    /// Connections refused before any handshake, because too many were half open.
    pub crowded_out: u64,
    /// Of each configured peer.
    pub peers: BTreeMap<PeerId, PeerStats>,
}

/// The numbers of one peer since the mesh started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Whether it can be sent to now.
    pub is_up: bool,
    /// How often it came up again after the first time.
    pub reconnects: u64,
    /// Connections refused: it speaks for another network, or it is being kept out.
    pub refused: u64,
    /// Connections ended because nothing came for too long.
    pub silent: u64,
    /// How often it was disconnected and kept out for sending garbage.
    pub penalties: u64,
    /// By class.
    pub classes: PerClass<ClassStats>,
}

/// The numbers of one class and peer since the mesh started. Heartbeats are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Frames handed to the connection.
    pub sent_frames: u64,
    /// Bytes of their bodies.
    pub sent_bytes: u64,
    /// Frames read.
    pub received_frames: u64,
    /// Bytes of their bodies.
    pub received_bytes: u64,
    /// Frames not sent because the queue was full.
    pub dropped_frames: u64,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn increment(&self) {
        self.add(1);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters behind [`PeerStats`].
#[derive(Debug, Default)]
pub(super) struct PeerCounters {
    pub(super) ups: Counter,
    pub(super) refused: Counter,
    pub(super) silent: Counter,
    pub(super) penalties: Counter,
    pub(super) classes: PerClass<ClassCounters>,
}

/// The counters behind [`ClassStats`].
#[derive(Debug, Default)]
pub(super) struct ClassCounters {
    sent_frames: Counter,
    sent_bytes: Counter,
    received_frames: Counter,
    received_bytes: Counter,
    pub(super) dropped_frames: Counter,
}

impl ClassCounters {
    /// Counts a frame handed to the connection.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent_frames.increment();
        self.sent_bytes.add(bytes);
    }

    /// Counts a frame read.
    pub(super) fn received(&self, bytes: usize) {
        self.received_frames.increment();
        self.received_bytes.add(bytes);
    }

    fn snapshot(&self) -> ClassStats {
        ClassStats {
            sent_frames: self.sent_frames.get(),
            sent_bytes: self.sent_bytes.get(),
            received_frames: self.received_frames.get(),
            received_bytes: self.received_bytes.get(),
            dropped_frames: self.dropped_frames.get(),
        }
    }
}

impl PeerCounters {
    /// The numbers now.
    pub(super) fn snapshot(&self, is_up: bool) -> PeerStats {
        PeerStats {
            is_up,
            reconnects: self.ups.get().saturating_sub(1),
            refused: self.refused.get(),
            silent: self.silent.get(),
            penalties: self.penalties.get(),
            classes: PerClass::from_fn(|class: Class| self.classes.get(class).snapshot()),
        }
    }
}
