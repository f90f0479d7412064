//! What subscribers are told, and which requests are open with whom.

use std::sync::{Arc, Mutex as StdMutex};

use malachitebft_app_channel::app::engine::util::output_port::{
    OutputPort, OutputPortSubscriberTrait,
};
use malachitebft_sync::ValueRequest;
use tokio::sync::mpsc;

use super::{Height as CoreHeight, *};
use crate::context::Height;

/// Keeps what it is told.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<StdMutex<Vec<Event>>>);

impl OutputPortSubscriberTrait<Event> for Recorder {
    fn subscribe_to_port(&self, _: &OutputPort<Event>) {}
}

impl Subscriber<Event> for Recorder {
    fn send(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// More than any test sends.
pub(crate) const PACE: Pace = Pace { heights_per_second: 250, peers: 3 };

fn peer(byte: u8) -> PeerId {
    PeerId::from_bytes(&[0, 1, byte]).unwrap()
}

fn id(byte: u8) -> MalachitePeerId {
    malachite_id(peer(byte)).unwrap()
}

fn hub() -> (Hub, Recorder) {
    let (outgoing, _) = mpsc::channel(1);
    let (_, incoming) = mpsc::channel(1);
    let hub = Hub::new(&Transport::new(outgoing, incoming), PACE);
    let recorder = Recorder::default();
    hub.subscribe(Box::new(recorder.clone()));
    (hub, recorder)
}

fn request() -> Request<Context> {
    Request::ValueRequest(ValueRequest::new(Height(1)..=Height(2)))
}

#[test]
fn late_subscriber_is_told_what_is_the_case() {
    let (hub, _) = hub();
    let address: Multiaddr = "/memory/7".parse().unwrap();
    hub.listening(address.clone());
    hub.up(peer(1));
    hub.up(peer(2));
    hub.down(peer(2));
    let late = Recorder::default();
    hub.subscribe(Box::new(late.clone()));
    let expected = [
        NetworkEvent::Listening(address),
        NetworkEvent::PeerConnected(id(1)),
        NetworkEvent::PeerSubscribed(id(1), Channel::Sync),
    ];
    assert_eq!(late.take(), expected);
}

#[test]
fn peer_goes_up_and_down_once() {
    let (hub, recorder) = hub();
    let peers = hub.peers();
    hub.up(peer(1));
    hub.up(peer(1));
    assert_eq!(peers.borrow().len(), 1);
    hub.down(peer(1));
    hub.down(peer(1));
    assert!(peers.borrow().is_empty());
    let told = recorder.take();
    assert_eq!(told.len(), 3);
    assert_eq!(told[2], NetworkEvent::PeerDisconnected(id(1)));
}

#[test]
fn status_is_asked_for_again_while_a_peer_is_up() {
    let (hub, recorder) = hub();
    hub.remind();
    assert_eq!(recorder.take().len(), 0, "there is nobody to tell it");
    hub.up(peer(1));
    recorder.take();
    hub.remind();
    let told = recorder.take();
    let [NetworkEvent::PeerSubscribed(to, Channel::Sync)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(*to, id(1));
}

#[test]
fn nothing_is_told_of_a_peer_that_is_down() {
    let (hub, recorder) = hub();
    assert_eq!(hub.admit(peer(1), Class::Votes), None);
    hub.tell_from(peer(1), NetworkEvent::PeerConnected);
    assert!(hub.serve(peer(1), 1, request()), "forgotten, not counted");
    assert_eq!(recorder.take(), []);
}

#[test]
fn answer_counts_only_from_whom_it_was_asked_and_once() {
    let (hub, _) = hub();
    hub.up(peer(1));
    hub.up(peer(2));
    let asked = hub.ask(peer(1));
    assert!(asked.is_open);
    assert!(!hub.answered(&asked.id, peer(2)));
    assert!(hub.answered(&asked.id, peer(1)));
    assert!(!hub.answered(&asked.id, peer(1)));
}

#[test]
fn cancelled_requests_and_those_of_a_lost_peer_have_no_answer() {
    let (hub, _) = hub();
    hub.up(peer(1));
    let cancelled = hub.ask(peer(1));
    hub.forget_asked(&cancelled.id);
    assert!(!hub.answered(&cancelled.id, peer(1)));
    let lost = hub.ask(peer(1));
    hub.down(peer(1));
    hub.up(peer(1));
    assert!(!hub.answered(&lost.id, peer(1)));
    assert!(!hub.ask(peer(9)).is_open, "a peer that is down is not asked");
}

#[test]
fn request_numbers_go_on_in_a_successor() {
    let (first, _) = hub();
    first.up(peer(1));
    let number = first.ask(peer(1)).number;
    let (outgoing, _) = mpsc::channel(1);
    let (_, incoming) = mpsc::channel(1);
    let mut transport = Transport::new(outgoing, incoming);
    transport.requests = first.requests();
    assert!(Hub::new(&transport, PACE).ask(peer(1)).number > number);
}

#[test]
fn requests_of_one_peer_are_bounded() {
    let (hub, recorder) = hub();
    hub.up(peer(1));
    hub.up(peer(2));
    recorder.take();
    let served = (0..100).filter(|number| hub.serve(peer(1), *number, request())).count();
    assert_eq!(served, SERVED_PER_PEER_MAX);
    assert!(hub.serve(peer(2), 0, request()), "others are not hindered");
    let told = recorder.take();
    assert_eq!(told.len(), SERVED_PER_PEER_MAX + 1);
    let NetworkEvent::SyncRequest(key, _, _) = &told[3] else { panic!("not a request") };
    assert_eq!(hub.served(key), Some((peer(1), 3)));
    assert_eq!(hub.served(key), None);
    assert!(hub.serve(peer(1), 100, request()), "room again");
}

#[test]
fn number_that_waits_already_is_not_served_twice() {
    let (hub, _) = hub();
    hub.up(peer(1));
    assert!(hub.serve(peer(1), 5, request()));
    assert!(!hub.serve(peer(1), 5, request()));
}

#[test]
fn fetch_is_open_with_whom_it_was_asked_until_it_is_answered_or_its_peer_is_lost() {
    let (hub, _) = hub();
    assert_eq!(hub.fetch(peer(1), CoreHeight(7)), None, "a peer that is down is not asked");
    hub.up(peer(1));
    hub.up(peer(2));
    let number = hub.fetch(peer(1), CoreHeight(7)).unwrap();
    assert_ne!(hub.ask(peer(1)).number, number, "malachite's requests have other numbers");
    assert_eq!(hub.fetched(number, peer(2)), None);
    assert_eq!(hub.fetched(number, peer(1)), Some(CoreHeight(7)));
    assert_eq!(hub.fetched(number, peer(1)), None);
    let lost = hub.fetch(peer(1), CoreHeight(8)).unwrap();
    hub.down(peer(1));
    hub.up(peer(1));
    assert_eq!(hub.fetched(lost, peer(1)), None);
    let unsent = hub.fetch(peer(1), CoreHeight(8)).unwrap();
    hub.forget_fetch(unsent);
    assert_eq!(hub.fetched(unsent, peer(1)), None);
}

#[test]
fn fetches_are_bounded_and_the_oldest_gives_way() {
    let (hub, _) = hub();
    (0..40).for_each(|byte| hub.up(peer(byte)));
    let of_one: Vec<_> = (1..=3).map(|h| hub.fetch(peer(1), CoreHeight(h)).unwrap()).collect();
    let open = of_one.iter().map(|number| hub.fetched(*number, peer(1)));
    assert_eq!(open.collect::<Vec<_>>(), [None, Some(CoreHeight(2)), Some(CoreHeight(3))]);
    let of_all: Vec<_> =
        (0..40).map(|byte| (byte, hub.fetch(peer(byte), CoreHeight(9)).unwrap())).collect();
    let open = of_all.iter().filter(|(byte, number)| hub.fetched(*number, peer(*byte)).is_some());
    let open: Vec<_> = open.map(|(byte, _)| *byte).collect();
    assert_eq!(open, (40 - u8::try_from(FETCHES_MAX).unwrap()..40).collect::<Vec<_>>());
}

#[test]
fn height_that_a_peer_claims_is_known_while_it_is_up() {
    let (hub, _) = hub();
    let heights = hub.heights();
    let of = |byte| heights.borrow().get(&peer(byte)).copied();
    hub.claim(peer(1), CoreHeight(5));
    assert_eq!(of(1), None, "it is not up");
    hub.up(peer(1));
    hub.up(peer(2));
    hub.claim(peer(1), CoreHeight::GENESIS);
    hub.claim(peer(2), CoreHeight(9));
    assert_eq!((of(1), of(2)), (Some(CoreHeight::GENESIS), Some(CoreHeight(9))));
    hub.claim(peer(1), CoreHeight(7));
    hub.down(peer(2));
    assert_eq!((of(1), of(2)), (Some(CoreHeight(7)), None));
    hub.up(peer(2));
    assert_eq!(of(2), None, "what it said before may be outdated");
}

#[test]
fn peer_that_comes_back_has_what_it_left_of_its_quota() {
    let (hub, _) = hub();
    let admitted = |n| (0..1_000).filter(|_| hub.admit(peer(n), Class::Sync) == Some(true)).count();
    hub.up(peer(1));
    assert!(admitted(1) >= 400, "two seconds of it at once");
    hub.down(peer(1));
    hub.up(peer(1));
    assert!(admitted(1) < 200, "and no more for coming back");
    hub.up(peer(2));
    assert!(admitted(2) >= 400, "another has its own");
}
