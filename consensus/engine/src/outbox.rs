//! Frames on their way to the transport: a bounded queue per class, and one task that takes votes first.
//!
//! Votes are never dropped for want of room behind bulk; if even their own queue is full the transport has stood still
//! for thousands of messages, and they are dropped, counted and logged. Parts of one's own proposals wait for room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::failure::{Failure, Failures};
use crate::network::{Class, Outgoing, PeerId};

/// Votes and disconnections that may wait: a minute of a busy network, 32 KiB each at the very most.
const VOTES_QUEUE: usize = 4_096;
/// Parts that may wait: 32 MiB.
const PARTS_QUEUE: usize = 128;
/// Sync frames that may wait: requests are tiny, responses at most 10 MiB.
const SYNC_QUEUE: usize = 16;

/// What was dropped or refused since the engine's start, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Votes that the transport had no room for. Should be 0.
    pub votes_dropped: u64,
    /// Sync requests and responses that the transport had no room for; they are asked for again.
    pub sync_dropped: u64,
    /// Frames over a peer's quota.
    pub over_quota: u64,
    /// Frames that could not be decoded; each disconnects its sender.
    pub refused: u64,
    /// Sync requests that were not served because too many wait already.
    pub requests_refused: u64,
    /// Proposals that the application had no room for.
    pub proposals_dropped: u64,
}

/// The counters, shared.
#[derive(Debug, Default)]
pub(crate) struct CounterCells {
    pub(crate) votes_dropped: AtomicU64,
    pub(crate) sync_dropped: AtomicU64,
    pub(crate) over_quota: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) requests_refused: AtomicU64,
    pub(crate) proposals_dropped: AtomicU64,
}

impl CounterCells {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            votes_dropped: self.votes_dropped.load(Ordering::Relaxed),
            sync_dropped: self.sync_dropped.load(Ordering::Relaxed),
            over_quota: self.over_quota.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            requests_refused: self.requests_refused.load(Ordering::Relaxed),
            proposals_dropped: self.proposals_dropped.load(Ordering::Relaxed),
        }
    }
}

pub(crate) fn count(cell: &AtomicU64) {
    cell.fetch_add(1, Ordering::Relaxed);
}

/// The sending ends.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    votes: mpsc::Sender<Outgoing>,
    parts: mpsc::Sender<Outgoing>,
    sync: mpsc::Sender<Outgoing>,
    pub(crate) counters: Arc<CounterCells>,
}

/// The receiving ends, for [`pump`].
#[derive(Debug)]
pub(crate) struct Queues {
    votes: mpsc::Receiver<Outgoing>,
    parts: mpsc::Receiver<Outgoing>,
    sync: mpsc::Receiver<Outgoing>,
}

pub(crate) fn outbox() -> (Outbox, Queues) {
    let (votes, votes_queue) = mpsc::channel(VOTES_QUEUE);
    let (parts, parts_queue) = mpsc::channel(PARTS_QUEUE);
    let (sync, sync_queue) = mpsc::channel(SYNC_QUEUE);
    let outbox = Outbox { votes, parts, sync, counters: Arc::default() };
    (outbox, Queues { votes: votes_queue, parts: parts_queue, sync: sync_queue })
}

impl Outbox {
    /// Sends a frame of class `Votes` to every peer.
    pub(crate) fn broadcast_votes(&self, frame: Bytes) {
        self.first(Outgoing::Broadcast { class: Class::Votes, frame });
    }

    /// Sends a frame of class `Votes` to one peer.
    pub(crate) fn send_votes(&self, to: PeerId, frame: Bytes) {
        self.first(Outgoing::Send { to, class: Class::Votes, frame });
    }

    /// Has the transport close a peer's connection.
    pub(crate) fn disconnect(&self, peer: PeerId, reason: String) {
        tracing::warn!(%peer, %reason, "disconnecting peer");
        self.first(Outgoing::Disconnect { peer, reason });
    }

    fn first(&self, message: Outgoing) {
        if self.votes.try_send(message).is_err() {
            tracing::error!("no room for votes: the transport stands still");
            count(&self.counters.votes_dropped);
        }
    }

    /// Sends a frame of class `Sync` to one peer; `false` if there is no room.
    pub(crate) fn send_sync(&self, to: PeerId, frame: Bytes) -> bool {
        let sent = self.sync.try_send(Outgoing::Send { to, class: Class::Sync, frame }).is_ok();
        if !sent {
            count(&self.counters.sync_dropped);
        }
        sent
    }

    /// Sends a frame of class `Parts` to every peer once there is room; `false` if the engine has ended.
    pub(crate) async fn broadcast_part(&self, frame: Bytes) -> bool {
        self.parts.send(Outgoing::Broadcast { class: Class::Parts, frame }).await.is_ok()
    }
}

/// Moves what waits to the transport, votes first, then sync, then parts, until either side is gone.
pub(crate) async fn pump(mut queues: Queues, outgoing: mpsc::Sender<Outgoing>, failures: Failures) {
    loop {
        let message = tokio::select! {
            biased;
            Some(message) = queues.votes.recv() => message,
            Some(message) = queues.sync.recv() => message,
            Some(message) = queues.parts.recv() => message,
            else => return,
        };
        if outgoing.send(message).await.is_err() {
            failures.report(Failure::Transport);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(message: &Outgoing) -> Option<Class> {
        match message {
            Outgoing::Broadcast { class, .. } | Outgoing::Send { class, .. } => Some(*class),
            Outgoing::Disconnect { .. } => None,
        }
    }

    #[tokio::test]
    async fn votes_overtake_what_waits() {
        let (outbox, queues) = outbox();
        assert!(outbox.broadcast_part(Bytes::new()).await);
        assert!(outbox.send_sync(PeerId::from_bytes(&[0, 0]).unwrap(), Bytes::new()));
        outbox.broadcast_votes(Bytes::new());
        drop(outbox);
        let (outgoing, mut sent) = mpsc::channel(8);
        pump(queues, outgoing, Failures::new()).await;
        let mut order = Vec::new();
        while let Some(message) = sent.recv().await {
            order.push(class(&message));
        }
        assert_eq!(order, [Class::Votes, Class::Sync, Class::Parts].map(Some));
    }

    #[tokio::test]
    async fn full_sync_queue_drops_and_counts() {
        let (outbox, _queues) = outbox();
        let peer = PeerId::from_bytes(&[0, 0]).unwrap();
        let sent = (0..20).filter(|_| outbox.send_sync(peer, Bytes::new())).count();
        assert_eq!(sent, SYNC_QUEUE);
        assert_eq!(outbox.counters.read().sync_dropped, 4);
    }

    #[tokio::test]
    async fn lost_transport_is_a_failure() {
        let (outbox, queues) = outbox();
        outbox.broadcast_votes(Bytes::new());
        let (outgoing, sent) = mpsc::channel(8);
        drop(sent);
        let failures = Failures::new();
        pump(queues, outgoing, failures.clone()).await;
        assert_eq!(failures.first(), Some(Failure::Transport));
    }
}
