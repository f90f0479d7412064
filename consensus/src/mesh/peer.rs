//! What the tasks of one peer share: what it may be sent, what it may send, and its numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::PeerId;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::class::{Class, FRAME_CHARGE_BYTES, PerClass};
use super::quota::Quota;
use super::stats::{Counter, PeerCounters, Stats};

/// What the handles, the driver and the streams' tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) local: PeerId,
    pub(super) peers: BTreeMap<PeerId, Arc<Peer>>,
    pub(super) strangers: Counter,
    pub(super) crowded_out: Counter,
    /// Wakes the driver: a consumer reported a peer.
    pub(super) reported: Notify,
}

impl Shared {
    pub(super) fn new(local: PeerId, peers: impl Iterator<Item = PeerId>) -> Self {
        let now = Instant::now();
        Self {
            local,
            peers: peers.map(|id| (id, Arc::new(Peer::new(id, now)))).collect(),
            strangers: Counter::default(),
            crowded_out: Counter::default(),
            reported: Notify::new(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let peers = self.peers.iter().map(|(id, peer)| (*id, peer.counters.snapshot(peer.is_up())));
        Stats {
            strangers: self.strangers.get(),
            crowded_out: self.crowded_out.get(),
            peers: peers.collect(),
        }
    }
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) counters: PeerCounters,
    /// Set while the peer is up. A lock, because any handle sends and the driver opens and closes; it is held
    /// for a `try_send` and never across an await.
    outboxes: RwLock<Option<PerClass<Outbox>>>,
    /// A lock for form's sake: only the class's one reader takes it.
    quotas: PerClass<Mutex<Quota>>,
    shares: PerClass<Arc<Semaphore>>,
    reported: AtomicBool,
}

impl Peer {
    fn new(id: PeerId, now: Instant) -> Self {
        Self {
            id,
            counters: PeerCounters::default(),
            outboxes: RwLock::new(None),
            quotas: PerClass::from_fn(|class| Mutex::new(Quota::new(class.limits(), now))),
            shares: PerClass::from_fn(|class| {
                Arc::new(Semaphore::new(class.limits().inbox_bytes_max))
            }),
            reported: AtomicBool::new(false),
        }
    }

    /// Whether all classes can be sent to.
    pub(super) fn is_up(&self) -> bool {
        self.outboxes.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Lets frames in for the peer, or (`None`) no more.
    pub(super) fn set_outboxes(&self, outboxes: Option<PerClass<Outbox>>) {
        *self.outboxes.write().unwrap_or_else(PoisonError::into_inner) = outboxes;
    }

    /// Queues a frame.
    pub(super) fn push(&self, class: Class, body: Bytes) -> Pushed {
        let outboxes = self.outboxes.read().unwrap_or_else(PoisonError::into_inner);
        let pushed = outboxes.as_ref().map_or(Pushed::Closed, |all| all.get(class).push(body));
        drop(outboxes);
        if pushed == Pushed::Full {
            self.counters.classes.get(class).dropped_frames.increment();
        }
        pushed
    }

    /// Takes a frame of so many bytes from the quota, and returns how long to wait before it is read.
    pub(super) fn take_quota(&self, class: Class, bytes: usize) -> Duration {
        let mut quota = self.quotas.get(class).lock().unwrap_or_else(PoisonError::into_inner);
        quota.take(Instant::now(), bytes)
    }

    /// Waits until a frame of so many bytes may wait for the consumer, too. `None` never happens: the
    /// semaphore is not closed.
    pub(super) async fn share(&self, class: Class, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let charge = u32::try_from(bytes.saturating_add(FRAME_CHARGE_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(self.shares.get(class)).acquire_many_owned(charge).await.ok()
    }

    /// A consumer got garbage from this peer.
    pub(super) fn report(&self) {
        self.reported.store(true, Ordering::Release);
    }

    /// Whether it was reported since the last call.
    pub(super) fn take_report(&self) -> bool {
        self.reported.swap(false, Ordering::AcqRel)
    }
}

/// A frame that waits to be sent.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) body: Bytes,
    /// The frame's share of the queue's bytes; given back when it is dropped.
    _share: OwnedSemaphorePermit,
}

/// What became of a frame to be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    Full,
    /// There is no connection to send it on.
    Closed,
}

/// The sending end of one class's queue, for the life of one connection.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    frames: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
}

impl Outbox {
    pub(super) fn new(class: Class) -> (Self, mpsc::Receiver<Queued>) {
        let limits = class.limits();
        let (frames, receiver) = mpsc::channel(limits.queue_frames_max);
        (Self { frames, bytes: Arc::new(Semaphore::new(limits.queue_bytes_max)) }, receiver)
    }

    /// Queues the frame if there is room, in number and in bytes.
    fn push(&self, body: Bytes) -> Pushed {
        let charge = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let Ok(share) = Arc::clone(&self.bytes).try_acquire_many_owned(charge) else {
            return Pushed::Full;
        };
        match self.frames.try_send(Queued { body, _share: share }) {
            Ok(()) => Pushed::Queued,
            Err(TrySendError::Full(_)) => Pushed::Full,
            Err(TrySendError::Closed(_)) => Pushed::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queue_is_bounded_in_frames_and_taking_one_makes_room() {
        let (outbox, mut queue) = Outbox::new(Class::Votes);
        for _ in 0..Class::Votes.limits().queue_frames_max {
            assert_eq!(outbox.push(Bytes::from_static(b"vote")), Pushed::Queued);
        }
        assert_eq!(outbox.push(Bytes::from_static(b"vote")), Pushed::Full);
        drop(queue.recv().await);
        assert_eq!(outbox.push(Bytes::from_static(b"vote")), Pushed::Queued);
        drop(queue);
        assert_eq!(outbox.push(Bytes::from_static(b"vote")), Pushed::Closed);
    }

    #[tokio::test]
    async fn queue_is_bounded_in_bytes_and_taking_a_frame_makes_room() {
        let (outbox, mut queue) = Outbox::new(Class::Sync);
        let limits = Class::Sync.limits();
        let frame = Bytes::from(vec![0; limits.frame_bytes_max]);
        for _ in 0..limits.queue_bytes_max / limits.frame_bytes_max {
            assert_eq!(outbox.push(frame.clone()), Pushed::Queued);
        }
        assert_eq!(outbox.push(frame.clone()), Pushed::Full);
        drop(queue.recv().await);
        assert_eq!(outbox.push(frame), Pushed::Queued);
    }
}
