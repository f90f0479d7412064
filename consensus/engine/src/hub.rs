//! What malachite's actors are told of the network, and which sync requests are open in either direction.
//!
//! One lock over all of it, held for moments: malachite's network message has no variant for our own tasks, so reader
//! and actor share this state; and "a peer is up" must not change between the look and the event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lockstep_core::types::Height;
use malachitebft_app_channel::app::engine::network::{NetworkEvent, Status, Subscriber};
use malachitebft_app_channel::app::types::PeerId as MalachitePeerId;
use malachitebft_network::Channel;
use malachitebft_sync::{
    InboundRequestId, OutboundFailureReason, OutboundRequestId, Request, Response,
};
use tokio::sync::watch;

use crate::context::Context;
use crate::inbox::{Slot, Slots};
use crate::network::{Class, Multiaddr, PeerId, Transport};
use crate::quota::{Pace, Quotas};

pub(crate) type Event = NetworkEvent<Context>;
type BoxedSubscriber = Box<dyn Subscriber<Event>>;

/// Requests of one peer that may wait for our answer.
const SERVED_PER_PEER_MAX: usize = 32;
/// Actors that subscribe at their start: consensus and sync.
const SUBSCRIBERS: usize = 2;
/// Our requests that may be open. The sync actor holds far fewer.
const ASKED_MAX: usize = 1_024;
/// The application's fetches that may be open with one peer.
const FETCHES_PER_PEER_MAX: usize = 2;
/// The application's fetches that may be open, so at most so many answers are in memory.
pub(crate) const FETCHES_MAX: usize = 16;

/// Shared by the network actor, the reader and the handle.
pub(crate) struct Hub {
    state: Mutex<State>,
    peers: watch::Sender<BTreeSet<PeerId>>,
    /// What the peers that are up said last of their heights.
    heights: watch::Sender<BTreeMap<PeerId, Height>>,
    subscribed: watch::Sender<usize>,
}

struct State {
    subscribers: Vec<BoxedSubscriber>,
    listening: Option<Multiaddr>,
    up: BTreeMap<PeerId, Peer>,
    /// Quotas of the peers that were up and went, as they left them. The mesh takes few peers.
    left: BTreeMap<PeerId, Quotas>,
    pace: Pace,
    /// Who asked us, and under which number.
    served: BTreeMap<InboundRequestId, (PeerId, u64)>,
    /// Whom we asked.
    asked: BTreeMap<OutboundRequestId, PeerId>,
    /// What the application fetches, by the request's number: whom it asked, and for which height.
    fetches: BTreeMap<u64, (PeerId, Height)>,
    requests: u64,
}

/// What one peer that is up may take of this node.
struct Peer {
    quotas: Quotas,
    proposals: Slots,
}

impl Peer {
    fn new(pace: Pace, now: Instant) -> Self {
        Self::with(Quotas::new(pace, now))
    }

    fn with(quotas: Quotas) -> Self {
        Self { quotas, proposals: Slots::default() }
    }
}

impl State {
    fn tell(&self, event: &Event) {
        for subscriber in &self.subscribers {
            subscriber.send(event.clone());
        }
    }

    /// The number of the next request.
    const fn next_request(&mut self) -> u64 {
        self.requests = self.requests.saturating_add(1);
        self.requests
    }

    /// Forgets the oldest of those fetches that `belongs` names, if there are `max` of them.
    fn make_room(&mut self, max: usize, belongs: impl Fn(PeerId) -> bool) {
        let belonging = || self.fetches.iter().filter(|(_, (peer, _))| belongs(*peer));
        if belonging().count() >= max
            && let Some(oldest) = belonging().next().map(|(number, _)| *number)
        {
            self.fetches.remove(&oldest);
        }
    }
}

/// A peer's id as malachite has it. `None` for an id that malachite can't have; such a peer never counts as up.
pub(crate) fn malachite_id(peer: PeerId) -> Option<MalachitePeerId> {
    MalachitePeerId::from_bytes(&peer.to_bytes()).ok()
}

/// A peer's id as the transport has it.
pub(crate) fn transport_id(peer: MalachitePeerId) -> Option<PeerId> {
    PeerId::from_bytes(&peer.to_bytes()).ok()
}

/// The two events that make a peer known: the second makes the sync actor send its status at once.
fn greetings(peer: PeerId) -> impl Iterator<Item = Event> {
    malachite_id(peer).into_iter().flat_map(|id| {
        [NetworkEvent::PeerConnected(id), NetworkEvent::PeerSubscribed(id, Channel::Sync)]
    })
}

impl Hub {
    /// A hub that knows what the transport has said to a predecessor.
    pub(crate) fn new(transport: &Transport, pace: Pace) -> Self {
        let now = Instant::now();
        let up = transport.up.iter().map(|peer| (*peer, Peer::new(pace, now))).collect();
        let state = State {
            subscribers: Vec::new(),
            listening: transport.listening.clone(),
            up,
            left: BTreeMap::new(),
            pace,
            served: BTreeMap::new(),
            asked: BTreeMap::new(),
            fetches: BTreeMap::new(),
            requests: transport.requests,
        };
        let peers = watch::Sender::new(transport.up.clone());
        Self {
            state: Mutex::new(state),
            peers,
            heights: watch::Sender::default(),
            subscribed: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peers that are up.
    pub(crate) fn peers(&self) -> watch::Receiver<BTreeSet<PeerId>> {
        self.peers.subscribe()
    }

    /// The height each peer that is up claims to have decided; no entry for a peer that has not said.
    pub(crate) fn heights(&self) -> watch::Receiver<BTreeMap<PeerId, Height>> {
        self.heights.subscribe()
    }

    /// A peer said which height it has decided. Ignored unless it is up.
    pub(crate) fn claim(&self, peer: PeerId, height: Height) {
        let state = self.state();
        if state.up.contains_key(&peer) {
            self.heights.send_if_modified(|heights| heights.insert(peer, height) != Some(height));
        }
    }

    /// Number of the newest sync request.
    pub(crate) fn requests(&self) -> u64 {
        self.state().requests
    }

    /// Tells a new subscriber what is the case, and from now on everything.
    pub(crate) fn subscribe(&self, subscriber: BoxedSubscriber) {
        let mut state = self.state();
        if let Some(address) = &state.listening {
            subscriber.send(NetworkEvent::Listening(address.clone()));
        }
        for event in state.up.keys().copied().flat_map(greetings) {
            subscriber.send(event);
        }
        state.subscribers.push(subscriber);
        self.subscribed.send_replace(state.subscribers.len());
    }

    /// Waits until all subscribe. A frame that is told before reaches nobody, and no peer sends it again.
    pub(crate) async fn all_subscribed(&self) {
        let mut subscribed = self.subscribed.subscribe();
        // The sender lives as long as the hub.
        drop(subscribed.wait_for(|count| *count >= SUBSCRIBERS).await);
    }

    /// The transport listens.
    pub(crate) fn listening(&self, address: Multiaddr) {
        let mut state = self.state();
        state.tell(&NetworkEvent::Listening(address.clone()));
        state.listening = Some(address);
    }

    /// A peer is up.
    pub(crate) fn up(&self, peer: PeerId) {
        let mut state = self.state();
        if malachite_id(peer).is_none() || state.up.contains_key(&peer) {
            return;
        }
        // Going and coming back gains nothing.
        let left = state.left.remove(&peer).map(Peer::with);
        let begins = left.unwrap_or_else(|| Peer::new(state.pace, Instant::now()));
        state.up.insert(peer, begins);
        greetings(peer).for_each(|event| state.tell(&event));
        self.peers.send_if_modified(|peers| peers.insert(peer));
    }

    /// Makes the sync actor tell its status again, as if a peer had just come.
    pub(crate) fn remind(&self) {
        let state = self.state();
        if let Some(id) = state.up.keys().copied().find_map(malachite_id) {
            state.tell(&NetworkEvent::PeerSubscribed(id, Channel::Sync));
        }
    }

    /// A peer is down. What is open with it never ends; the sync actor frees its own side by the event.
    pub(crate) fn down(&self, peer: PeerId) {
        let mut state = self.state();
        let Some(Peer { quotas, .. }) = state.up.remove(&peer) else { return };
        state.left.insert(peer, quotas);
        state.served.retain(|_, (from, _)| *from != peer);
        state.asked.retain(|_, to| *to != peer);
        state.fetches.retain(|_, (to, _)| *to != peer);
        if let Some(id) = malachite_id(peer) {
            state.tell(&NetworkEvent::PeerDisconnected(id));
        }
        self.peers.send_if_modified(|peers| peers.remove(&peer));
        self.heights.send_if_modified(|heights| heights.remove(&peer).is_some());
    }

    /// Whether a frame may be read: `None` if its sender is not up, `Some(false)` if it is over its quota.
    pub(crate) fn admit(&self, from: PeerId, class: Class) -> Option<bool> {
        self.charge(from, class, 1)
    }

    /// Whether a peer's quota has so many more of this class; `None` if it is not up.
    pub(crate) fn charge(&self, from: PeerId, class: Class, count: usize) -> Option<bool> {
        self.state().up.get_mut(&from).map(|peer| peer.quotas.take(class, count, Instant::now()))
    }

    /// A place for a proposal of this peer on its way to the application; `None` if too many wait, or it is not up.
    pub(crate) fn proposal_slot(&self, from: PeerId) -> Option<Slot> {
        self.state().up.get(&from)?.proposals.take()
    }

    /// Tells what a peer sent, unless it went down meanwhile.
    pub(crate) fn tell_from(&self, from: PeerId, event: impl FnOnce(MalachitePeerId) -> Event) {
        let state = self.state();
        if let (true, Some(id)) = (state.up.contains_key(&from), malachite_id(from)) {
            state.tell(&event(id));
        }
    }

    /// Tells something that no peer sent.
    pub(crate) fn tell(&self, event: &Event) {
        self.state().tell(event);
    }

    /// Opens a request of ours.
    pub(crate) fn ask(&self, to: PeerId) -> Asked {
        let mut state = self.state();
        let number = state.next_request();
        let id = OutboundRequestId::new(number);
        let is_open = state.up.contains_key(&to) && state.asked.len() < ASKED_MAX;
        if is_open {
            state.asked.insert(id.clone(), to);
        }
        Asked { id, number, is_open }
    }

    /// Closes a request of ours: nobody waits for its answer.
    pub(crate) fn forget_asked(&self, id: &OutboundRequestId) {
        self.state().asked.remove(id);
    }

    /// Closes a request of ours because `from` answered it; `false` if it is not open with this peer.
    pub(crate) fn answered(&self, id: &OutboundRequestId, from: PeerId) -> bool {
        let mut state = self.state();
        let is_open = state.asked.get(id) == Some(&from);
        if is_open {
            state.asked.remove(id);
        }
        is_open
    }

    /// Opens a fetch of the application; its number on the wire, `None` if the peer is not up. Where there is no room the
    /// oldest fetch gives way: a peer that never answers takes no place for good.
    pub(crate) fn fetch(&self, to: PeerId, height: Height) -> Option<u64> {
        let mut state = self.state();
        if !state.up.contains_key(&to) {
            return None;
        }
        state.make_room(FETCHES_PER_PEER_MAX, |peer| peer == to);
        state.make_room(FETCHES_MAX, |_| true);
        let number = state.next_request();
        state.fetches.insert(number, (to, height));
        Some(number)
    }

    /// Closes a fetch: nobody waits for its answer.
    pub(crate) fn forget_fetch(&self, number: u64) {
        self.state().fetches.remove(&number);
    }

    /// Closes a fetch because `from` answered it; its height, `None` if it is not open with this peer.
    pub(crate) fn fetched(&self, number: u64, from: PeerId) -> Option<Height> {
        let mut state = self.state();
        let (asked, height) = *state.fetches.get(&number)?;
        if asked != from {
            return None;
        }
        state.fetches.remove(&number);
        Some(height)
    }

    /// Opens a peer's request and tells it; `false` if too many of this peer wait, or one of this number does.
    pub(crate) fn serve(&self, from: PeerId, number: u64, request: Request<Context>) -> bool {
        let mut state = self.state();
        let Some(id) = malachite_id(from).filter(|_| state.up.contains_key(&from)) else {
            return true;
        };
        let waiting = state.served.values().filter(|(peer, _)| *peer == from).count();
        let key = InboundRequestId::new(format!("{from}/{number}"));
        if waiting >= SERVED_PER_PEER_MAX || state.served.contains_key(&key) {
            return false;
        }
        state.served.insert(key.clone(), (from, number));
        state.tell(&NetworkEvent::SyncRequest(key, id, request));
        true
    }

    /// Closes a peer's request; who asked, and under which number.
    pub(crate) fn served(&self, id: &InboundRequestId) -> Option<(PeerId, u64)> {
        self.state().served.remove(id)
    }
}

/// A request of ours that was given an id.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: OutboundRequestId,
    /// What it is called on the wire.
    pub(crate) number: u64,
    /// Whether it may be sent; if not it has failed already.
    pub(crate) is_open: bool,
}

/// A request of ours that could not be sent.
pub(crate) const fn request_failed(id: OutboundRequestId, to: MalachitePeerId) -> Event {
    NetworkEvent::SyncRequestFailed(id, to, OutboundFailureReason::ConnectionClosed)
}

/// The answer to a request of ours; `None` if it could not be decoded.
pub(crate) const fn response(
    id: OutboundRequestId,
    from: MalachitePeerId,
    response: Option<Response<Context>>,
) -> Event {
    NetworkEvent::SyncResponse(id, from, response)
}

/// A peer's status.
pub(crate) const fn status(from: MalachitePeerId, status: Status<Context>) -> Event {
    NetworkEvent::Status(from, status)
}

#[cfg(test)]
pub(crate) mod tests;
