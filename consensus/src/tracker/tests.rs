//! States of entries by what happens to their copies.

use lockstep_core::limits::EXPIRES_MS_MAX;
use lockstep_core::types::{ChainId, Height};

use super::*;

fn id(n: u8) -> EntryId {
    EntryId([n; 32].into())
}

fn copy(n: u8, of: u8) -> CopyId {
    CopyId { id: id(n), raw: B256::repeat_byte(of) }
}

const DECISION: Decision = Decision { height: Height(3), index: 4 };
const DECIDED: EntryState = EntryState::Decided { decision: DECISION, block: BlockHash::ZERO };

fn decide(tracker: &mut Tracker, n: u8, at: u64) -> Option<Change> {
    tracker.decide(id(n), DECISION, BlockHash::ZERO, UnixMillis(at))
}

const fn expired(expires: u64, timestamp: u64) -> EntryState {
    let (expires, timestamp) = (UnixMillis(expires), UnixMillis(timestamp));
    EntryState::Dropped(LeaveOut::Expired { expires, timestamp })
}

const TOO_LARGE: LeaveOut = LeaveOut::TooLarge { chain: ChainId(7) };

#[test]
fn submitting_the_same_bytes_twice_is_one_submission() {
    let mut tracker = Tracker::default();
    assert_eq!(tracker.receive(copy(1, 1), UnixMillis(9)), Some(Receipt::New));
    let known = Receipt::Known(EntryState::Received);
    assert_eq!(tracker.receive(copy(1, 1), UnixMillis(9)), Some(known));
    assert_eq!(tracker.open(), 1);
}

#[test]
fn entry_is_received_while_any_of_its_copies_lives() {
    let mut tracker = Tracker::default();
    for (of, expires) in [(1, 9), (2, 20), (3, 15)] {
        assert_eq!(tracker.receive(copy(1, of), UnixMillis(expires)), Some(Receipt::New));
    }
    assert_eq!(tracker.advance(UnixMillis(9)), []);
    assert_eq!(tracker.end_copy(copy(1, 3), TOO_LARGE, UnixMillis(10)), None);
    assert_eq!(tracker.state(id(1)), Some(EntryState::Received));
    let dropped = Change { id: id(1), state: expired(20, 21) };
    assert_eq!(tracker.advance(UnixMillis(21)), [dropped]);
    assert_eq!((tracker.state(id(1)), tracker.open()), (Some(dropped.state), 0));
}

#[test]
fn end_of_an_unknown_copy_changes_nothing() {
    let mut tracker = Tracker::default();
    let _ = tracker.receive(copy(1, 1), UnixMillis(99));
    assert_eq!(tracker.end_copy(copy(1, 2), TOO_LARGE, UnixMillis(1)), None);
    assert_eq!(tracker.end_copy(copy(2, 1), TOO_LARGE, UnixMillis(1)), None);
    assert_eq!(tracker.state(id(1)), Some(EntryState::Received));
    assert_eq!(tracker.state(id(2)), None);
}

#[test]
fn decision_ends_all_copies_and_nothing_follows_it() {
    let mut tracker = Tracker::default();
    for of in 1..=2 {
        let _ = tracker.receive(copy(1, of), UnixMillis(9));
    }
    assert_eq!(decide(&mut tracker, 1, 5), Some(Change { id: id(1), state: DECIDED }));
    assert_eq!(tracker.open(), 0);
    assert_eq!(decide(&mut tracker, 1, 6), None);
    assert_eq!(tracker.end_copy(copy(1, 1), TOO_LARGE, UnixMillis(7)), None);
    assert_eq!(tracker.advance(UnixMillis(9)), []);
    assert_eq!(tracker.receive(copy(1, 3), UnixMillis(99)), Some(Receipt::Known(DECIDED)));
    assert_eq!(decide(&mut tracker, 2, 5), None, "never submitted here");
}

#[test]
fn dropped_entry_may_still_be_decided_or_submitted_again() {
    let mut tracker = Tracker::default();
    let _ = tracker.receive(copy(1, 1), UnixMillis(9));
    let _ = tracker.receive(copy(2, 1), UnixMillis(9));
    assert_eq!(tracker.advance(UnixMillis(9)).len(), 2);
    assert_eq!(decide(&mut tracker, 1, 10), Some(Change { id: id(1), state: DECIDED }));
    assert_eq!(tracker.receive(copy(2, 1), UnixMillis(99)), Some(Receipt::New));
    assert_eq!(tracker.state(id(2)), Some(EntryState::Received));
}

#[test]
fn end_is_forgotten_with_the_dedup_window_and_the_same_bytes_are_new() {
    let mut tracker = Tracker::default();
    let _ = tracker.receive(copy(1, 1), UnixMillis(2_000));
    let _ = tracker.receive(copy(2, 1), UnixMillis(1_000));
    let _ = decide(&mut tracker, 1, 1_000);
    let _ = tracker.advance(UnixMillis(1_000));
    let _ = tracker.advance(UnixMillis(1_000 + EXPIRES_MS_MAX - 1));
    assert_eq!(tracker.known(copy(1, 1)), Some(DECIDED));
    assert_eq!(tracker.state(id(2)), Some(expired(1_000, 1_000)));
    let _ = tracker.advance(UnixMillis(1_000 + EXPIRES_MS_MAX));
    assert_eq!((tracker.state(id(1)), tracker.state(id(2))), (None, None));
    assert_eq!(tracker.receive(copy(1, 1), UnixMillis(90_000)), Some(Receipt::New));
}

#[test]
fn taken_back_submission_leaves_nothing() {
    let mut tracker = Tracker::default();
    let _ = tracker.receive(copy(1, 1), UnixMillis(9));
    tracker.forget(copy(1, 1));
    assert_eq!((tracker.state(id(1)), tracker.open()), (None, 0));
    assert_eq!(tracker.advance(UnixMillis(9)), []);
}

#[test]
fn oldest_end_makes_room_and_live_copies_do_not() {
    let mut tracker = Tracker::default();
    let numbered = |n: usize| {
        let mut raw = [0; 32];
        raw[..8].copy_from_slice(&n.to_be_bytes());
        CopyId { id: EntryId(raw.into()), raw: B256::ZERO }
    };
    for n in 0..TRACKED_MAX {
        assert_eq!(tracker.receive(numbered(n), UnixMillis(9_000)), Some(Receipt::New));
    }
    let next = numbered(TRACKED_MAX);
    assert_eq!(tracker.receive(next, UnixMillis(9_000)), None);
    let ended = [numbered(7), numbered(3)];
    let _ = tracker.decide(ended[0].id, DECISION, BlockHash::ZERO, UnixMillis(1));
    let _ = tracker.decide(ended[1].id, DECISION, BlockHash::ZERO, UnixMillis(2));
    assert_eq!(tracker.receive(next, UnixMillis(9_000)), Some(Receipt::New));
    assert_eq!((tracker.state(ended[0].id), tracker.state(ended[1].id)), (None, Some(DECIDED)));
}
