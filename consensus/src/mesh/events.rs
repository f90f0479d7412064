//! Who is up, as a state that any number of subscribers follow.
//!
//! A subscriber is told the difference between what it knows and what is so now. It can come late, and it can be
//! slow: it misses nothing that still matters, and nothing is queued for it without bound.

use std::collections::{BTreeMap, VecDeque};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::watch;

/// What changed on the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The mesh listens at this address. Told once, and first.
    Listening(Multiaddr),
    /// Frames of every class can be sent to the peer. Its first frames may have come before.
    Up(PeerId),
    /// Nothing can be sent to the peer any more; what was queued for it may be lost.
    Down(PeerId),
}

/// The state that subscribers follow.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    /// The first address listened on.
    pub(super) listening: Option<Multiaddr>,
    /// How often each peer has gone up or down: odd is up. So a quick reconnection is not missed.
    pub(super) changes: BTreeMap<PeerId, u64>,
}

impl Status {
    /// Counts that `peer` went up, or down.
    pub(super) fn change(&mut self, peer: PeerId) {
        let changes = self.changes.entry(peer).or_default();
        *changes = changes.wrapping_add(1);
    }
}

/// One subscriber's view. The first events bring it from nothing to the state of now.
#[derive(Debug)]
pub struct Events {
    status: watch::Receiver<Status>,
    told: Status,
    /// At most one `Listening`, and two for each peer.
    pending: VecDeque<Event>,
}

impl Events {
    pub(super) fn new(mut status: watch::Receiver<Status>) -> Self {
        status.mark_changed();
        Self { status, told: Status::default(), pending: VecDeque::new() }
    }

    /// The next event; `None` when the mesh has stopped. Cancel-safe: an event is lost only to a caller that
    /// has it.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            self.status.changed().await.ok()?;
            let now = self.status.borrow_and_update().clone();
            self.pending = difference(&self.told, &now);
            self.told = now;
        }
    }
}

/// What to tell who knows `told` when `now` is so. A peer that went away and came back is told as both.
fn difference(told: &Status, now: &Status) -> VecDeque<Event> {
    let mut events = VecDeque::new();
    if told.listening.is_none()
        && let Some(address) = &now.listening
    {
        events.push_back(Event::Listening(address.clone()));
    }
    for (peer, changes) in &now.changes {
        let known = told.changes.get(peer).copied().unwrap_or_default();
        if known == *changes {
            continue;
        }
        if is_up(known) {
            events.push_back(Event::Down(*peer));
        }
        if is_up(*changes) {
            events.push_back(Event::Up(*peer));
        }
    }
    events
}

/// Whether a peer with so many changes is up.
const fn is_up(changes: u64) -> bool {
    changes & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        crate::mesh::keypair_from_seed([seed; 32]).public().to_peer_id()
    }

    fn told(before: u64, now: u64) -> Vec<Event> {
        let status = |changes| Status { listening: None, changes: [(peer(1), changes)].into() };
        difference(&status(before), &status(now)).into()
    }

    #[test]
    fn subscriber_is_told_what_it_does_not_know() {
        assert_eq!(told(0, 0), []);
        assert_eq!(told(0, 1), [Event::Up(peer(1))]);
        assert_eq!(told(1, 2), [Event::Down(peer(1))]);
        assert_eq!(told(1, 3), [Event::Down(peer(1)), Event::Up(peer(1))]);
        assert_eq!(told(2, 4), [], "it was up for a moment that is over");
    }

    #[tokio::test]
    async fn late_subscriber_begins_with_the_state_of_now() {
        let (sender, receiver) = watch::channel(Status::default());
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        sender.send_modify(|status| {
            status.listening = Some(address.clone());
            status.change(peer(1));
        });
        let mut events = Events::new(receiver);
        assert_eq!(events.next().await, Some(Event::Listening(address)));
        assert_eq!(events.next().await, Some(Event::Up(peer(1))));
        sender.send_modify(|status| status.change(peer(1)));
        assert_eq!(events.next().await, Some(Event::Down(peer(1))));
        drop(sender);
        assert_eq!(events.next().await, None);
    }
}
