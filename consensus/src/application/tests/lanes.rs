//! Batches are written before anything is said of them, and one peer's never keep another's waiting.

use alloy_primitives::B256;
use lockstep_core::batch::Acknowledgement;
use lockstep_core::lane::BatchRange;
use lockstep_core::limits::{LANE_AHEAD_BATCHES_MAX, LANE_AHEAD_BYTES_MAX};

use super::*;
use crate::application::effect::{CheckJob, Misdeed, Timer};
use crate::lanes::forks::FORKED_BYTES_MAX;
use crate::lanes::wire::LaneMessage;

fn push(bench: &mut Bench, from: u8, raw: Bytes) {
    let message = LaneMessage::Batch(raw);
    let from = peer(from);
    bench.step(Input::Mesh(MeshInput::LaneMessageReceived { from, message }));
}

fn is_acknowledgement(effect: &Effect) -> bool {
    matches!(effect, Effect::Acknowledge(None, tips) if !tips.is_empty())
}

#[test]
fn batch_is_acknowledged_only_when_it_is_written() {
    let mut bench = Bench::new(1);
    let batch = bench.batch(2, 0, BatchDigest::ZERO, "one");
    bench.hold = Hold::Writes;
    push(&mut bench, 2, batch.raw().clone().into());
    assert!(!bench.said.iter().any(is_acknowledgement));
    bench.release();
    assert!(bench.said.iter().any(is_acknowledgement));
}

/// The other one was written by a write that overlapped, or acknowledged before a restart.
#[test]
fn batch_is_not_acknowledged_at_a_position_where_the_store_holds_another() {
    let mut bench = Bench::new(1);
    let first = bench.batch(2, 0, BatchDigest::ZERO, "the one that is stored");
    let twin = bench.batch(2, 0, BatchDigest::ZERO, "its twin");
    bench.ledger.store().put_batches(std::slice::from_ref(&first)).unwrap();
    push(&mut bench, 2, twin.raw().clone().into());
    assert_eq!(bench.reports(|r| matches!(r, Report::LaneEquivocation(_))), 1);
    assert!(!bench.said.iter().any(is_acknowledgement));
    bench.step(Input::TimerFired(Timer::Group));
    push(&mut bench, 2, first.raw().clone().into());
    let said = |e: &Effect| match e {
        Effect::Acknowledge(None, tips) => tips.first().map(|tip| tip.digest),
        _ => None,
    };
    assert_eq!(bench.said.iter().find_map(said), Some(first.digest()));
}

/// The one that takes the place is held, though its twin comes with it.
#[test]
fn of_two_batches_of_one_position_in_one_group_the_first_is_held() {
    let mut bench = Bench::new(1);
    let first = bench.batch(2, 0, BatchDigest::ZERO, "first");
    let twin = bench.batch(2, 0, BatchDigest::ZERO, "its twin");
    let other = bench.batch(3, 0, BatchDigest::ZERO, "before them");
    push(&mut bench, 3, other.raw().clone().into());
    push(&mut bench, 2, first.raw().clone().into());
    push(&mut bench, 2, twin.raw().clone().into());
    bench.step(Input::TimerFired(Timer::Group));
    let is_first = |e: &Effect| match e {
        Effect::Acknowledge(None, tips) => tips.iter().any(|tip| tip.digest == first.digest()),
        _ => false,
    };
    assert!(bench.said.iter().any(is_first));
    assert_eq!(bench.reports(|r| matches!(r, Report::LaneEquivocation(_))), 1);
    let stored = bench.ledger.store().batch_with_digest(&twin.position(), twin.digest());
    assert_eq!(stored.unwrap(), None, "any number of twins would be written");
}

#[test]
fn group_waits_for_the_one_before_it_and_for_a_pause() {
    let mut bench = Bench::new(1);
    let first = bench.batch(2, 0, BatchDigest::ZERO, "one");
    let second = bench.batch(2, 1, first.digest(), "two");
    push(&mut bench, 2, first.raw().clone().into());
    push(&mut bench, 2, second.raw().clone().into());
    let stored = |bench: &Bench, batch: &CheckedBatch| {
        bench.ledger.store().batch(&batch.position()).unwrap().is_some()
    };
    assert!(stored(&bench, &first) && !stored(&bench, &second));
    bench.step(Input::TimerFired(Timer::Group));
    assert!(stored(&bench, &second));
}

#[test]
fn peer_with_a_wrong_batch_is_disconnected() {
    let mut bench = Bench::new(1);
    let batch = bench.batch(2, 0, BatchDigest::ZERO, "one");
    let mut raw = batch.raw().to_vec();
    *raw.last_mut().unwrap() ^= 1;
    push(&mut bench, 3, raw.into());
    push(&mut bench, 4, Bytes::from_static(b"x"));
    let gone: Vec<_> = bench
        .said
        .iter()
        .filter_map(|e| match e {
            Effect::Disconnect(peer, Misdeed::Batch(_)) => Some(*peer),
            _ => None,
        })
        .collect();
    assert_eq!(gone, [peer(3), peer(4)]);
}

/// Checks that never end are one peer's own loss.
#[test]
fn checks_of_one_peer_do_not_keep_anothers_waiting() {
    let mut bench = Bench::new(1);
    let mut effects = Vec::new();
    let mut parent = BatchDigest::ZERO;
    for sequence in 0..100 {
        let batch = bench.batch(2, sequence, parent, &format!("{sequence}"));
        parent = batch.digest();
        let message = LaneMessage::Batch(batch.raw().clone().into());
        let input = MeshInput::LaneMessageReceived { from: peer(2), message };
        bench.app.step(bench.now, Input::Mesh(input), &mut effects);
    }
    let checks = |effects: &[Effect], n| {
        let is_it =
            |e: &&Effect| matches!(e, Effect::CheckBatches(CheckJob::Lane(p), _) if *p == peer(n));
        effects.iter().filter(is_it).count()
    };
    assert_eq!(checks(&effects, 2), 8, "so many at a time");
    let batch = bench.batch(3, 0, BatchDigest::ZERO, "another's");
    let message = LaneMessage::Batch(batch.raw().clone().into());
    let input = MeshInput::LaneMessageReceived { from: peer(3), message };
    bench.app.step(bench.now, Input::Mesh(input), &mut effects);
    assert_eq!(checks(&effects, 3), 1);
    let batches = vec![Err(lockstep_core::batch::InvalidBatch::Version)];
    let done = Done::BatchesChecked { job: CheckJob::Lane(peer(2)), batches };
    bench.app.step(bench.now, Input::Done(done), &mut effects);
    assert_eq!(checks(&effects, 2), 9, "the next one is checked");
}

/// Copies of one batch that come while it is being written are of no use when their turn comes.
#[test]
fn own_batch_behind_copies_that_nobody_wants_is_written() {
    let mut bench = Bench::new(1);
    let batch = bench.batch(2, 0, BatchDigest::ZERO, "again and again");
    bench.hold = Hold::Writes;
    for _ in 0..40 {
        push(&mut bench, 2, batch.raw().clone().into());
    }
    let own = bench.batch(1, 0, BatchDigest::ZERO, "own");
    bench.app.lanes.to_write.push_back((None, own.clone()));
    bench.release();
    bench.step(Input::TimerFired(Timer::Group));
    let pushed = |e: &Effect| matches!(e, Effect::PushBatch(b) if b.digest() == own.digest());
    assert!(bench.said.iter().any(pushed));
}

#[test]
fn acknowledgements_and_requests_of_one_peer_are_handled_one_at_a_time() {
    let mut bench = Bench::new(1);
    let mut effects = Vec::new();
    let tell = |bench: &mut Bench, message, effects: &mut Vec<Effect>| {
        let input = MeshInput::LaneMessageReceived { from: peer(2), message };
        bench.app.step(bench.now, Input::Mesh(input), effects);
    };
    let range = |last| BatchRange {
        owner: key(1).address(),
        incarnation: Incarnation(1),
        first: Sequence(0),
        last: Sequence(last),
    };
    let acknowledgement = || Acknowledgement::sign(genesis().network_id(), Vec::new(), &key(2));
    for last in 0..10 {
        tell(&mut bench, LaneMessage::Request(range(last)), &mut effects);
        tell(&mut bench, LaneMessage::Acknowledgement(acknowledgement()), &mut effects);
    }
    let sends = |effects: &[Effect]| -> Vec<u64> {
        let of = |e: &Effect| match e {
            Effect::SendBatches(_, range) => Some(range.last.0),
            _ => None,
        };
        effects.iter().filter_map(of).collect()
    };
    let checks = |effects: &[Effect]| {
        effects.iter().filter(|e| matches!(e, Effect::CheckAcknowledgement(..))).count()
    };
    assert_eq!((sends(&effects), checks(&effects)), (vec![0], 1));
    for _ in 0..3 {
        let done = Done::BatchesSent(peer(2));
        bench.app.step(bench.now, Input::Done(done), &mut effects);
        let (from, signer) = (peer(2), Ok(key(2).address()));
        let acknowledgement = acknowledgement();
        let done = Done::AcknowledgementChecked { from, acknowledgement, signer };
        bench.app.step(bench.now, Input::Done(done), &mut effects);
    }
    assert_eq!((sends(&effects), checks(&effects)), (vec![0, 9], 2), "the newest stands for all");
}

fn chain(bench: &Bench, owner: u8, count: u64) -> Vec<CheckedBatch> {
    let mut parent = BatchDigest::ZERO;
    let next = |sequence| {
        let batch = bench.batch(owner, sequence, parent, &format!("{sequence}"));
        parent = batch.digest();
        batch
    };
    (0..count).map(next).collect()
}

/// Which batches are to be checked, by their sequence.
fn checked(effects: &[Effect]) -> Vec<u64> {
    let of = |effect: &Effect| match effect {
        Effect::CheckBatches(CheckJob::Lane(_), raw) => Some(raw.clone()),
        _ => None,
    };
    let raws = effects.iter().filter_map(of).flatten();
    raws.map(|raw| Batch::position_of(&raw).unwrap().sequence.0).collect()
}

#[test]
fn oldest_batch_that_waits_for_its_check_gives_way() {
    let mut bench = Bench::new(1);
    let mut effects = Vec::new();
    for batch in chain(&bench, 2, 30) {
        let message = LaneMessage::Batch(batch.raw().clone().into());
        let input = MeshInput::LaneMessageReceived { from: peer(2), message };
        bench.app.step(bench.now, Input::Mesh(input), &mut effects);
    }
    assert_eq!(checked(&effects), (0..8).collect::<Vec<_>>());
    effects.clear();
    for _ in 0..30 {
        let batches = vec![Err(lockstep_core::batch::InvalidBatch::Version)];
        let done = Done::BatchesChecked { job: CheckJob::Lane(peer(2)), batches };
        bench.app.step(bench.now, Input::Done(done), &mut effects);
    }
    assert_eq!(checked(&effects), (14..30).collect::<Vec<_>>(), "8 to 13 gave way");
}

#[test]
fn group_has_a_bound_and_the_rest_is_written_with_the_next() {
    let mut bench = Bench::new(1);
    for batch in chain(&bench, 2, 70) {
        bench.app.lanes.to_write.push_back((Some(peer(2)), batch));
    }
    let written = |bench: &mut Bench| {
        let mut effects = Vec::new();
        bench.app.step(bench.now, Input::TimerFired(Timer::Group), &mut effects);
        let count = effects.iter().find_map(|e| match e {
            Effect::PersistBatches(_, batches) => Some(batches.len()),
            _ => None,
        });
        for effect in effects {
            if let Some(done) = bench.carry_out(effect) {
                bench.step(Input::Done(done));
            }
        }
        count
    };
    assert_eq!(written(&mut bench), Some(64));
    assert_eq!(written(&mut bench), Some(6));
    assert_eq!(written(&mut bench), None);
}

#[test]
fn batch_far_ahead_is_neither_checked_nor_written() {
    let mut bench = Bench::new(1);
    let some = BatchDigest(B256::repeat_byte(1));
    for sequence in [LANE_AHEAD_BATCHES_MAX as u64, u64::MAX - 1] {
        let far = bench.batch(2, sequence, some, "far");
        push(&mut bench, 2, far.raw().clone().into());
        assert_eq!(bench.ledger.store().batch(&far.position()).unwrap(), None);
    }
    assert!(!bench.said.iter().any(|effect| matches!(effect, Effect::CheckBatches(..))));
    let near = bench.batch(2, LANE_AHEAD_BATCHES_MAX as u64 - 1, some, "near");
    push(&mut bench, 2, near.raw().clone().into());
    assert!(bench.ledger.store().batch(&near.position()).unwrap().is_some());
}

#[test]
fn what_a_full_lane_cannot_hold_is_not_written() {
    let mut bench = Bench::new(1);
    let text = "x".repeat(120 << 10);
    let mut parent = BatchDigest(B256::repeat_byte(1));
    let count = LANE_AHEAD_BYTES_MAX / text.len() + 20;
    let mut batches = Vec::new();
    // Behind a gap, so that no block takes any.
    for sequence in 1..=count as u64 {
        let batch = bench.batch(2, sequence, parent, &format!("{sequence} {text}"));
        parent = batch.digest();
        bench.app.lanes.to_write.push_back((Some(peer(2)), batch.clone()));
        batches.push(batch);
    }
    for _ in 0..=count / 64 {
        bench.step(Input::TimerFired(Timer::Group));
    }
    assert!(bench.app.lanes.to_write.is_empty());
    let store = bench.ledger.store();
    let bytes = batches.iter().filter_map(|b| store.batch(&b.position()).unwrap());
    let written: usize = bytes.map(|raw| raw.len()).sum();
    assert!(written <= LANE_AHEAD_BYTES_MAX, "{written} bytes are written");
    assert!(written + 2 * text.len() > LANE_AHEAD_BYTES_MAX);
    assert!(bench.reports(|r| matches!(r, Report::LaneTooFarAhead(_))) >= 19);
    let other = bench.batch(3, 0, BatchDigest::ZERO, "another lane's");
    bench.step(Input::TimerFired(Timer::Group));
    push(&mut bench, 3, other.raw().clone().into());
    bench.step(Input::TimerFired(Timer::Group));
    assert!(bench.ledger.store().batch(&other.position()).unwrap().is_some());
}

#[test]
fn second_batches_that_come_with_proposals_are_written_within_a_bound() {
    let mut bench = Bench::new(1);
    let held = bench.batch(2, 0, BatchDigest::ZERO, "the one that is held");
    push(&mut bench, 2, held.raw().clone().into());
    let text = "x".repeat(120 << 10);
    let (mut written, mut last) = (0, None);
    for number in 0..FORKED_BYTES_MAX / text.len() + 10 {
        let twin = bench.batch(2, 0, BatchDigest::ZERO, &format!("{number} {text}"));
        let job = CheckJob::Attached(BlockHash(B256::repeat_byte(7)), Some(peer(2)));
        let mut effects = Vec::new();
        let batches = vec![Ok(twin.clone())];
        bench.app.step(bench.now, Input::Done(Done::BatchesChecked { job, batches }), &mut effects);
        let is_written = effects.iter().any(|e| matches!(e, Effect::PersistBatches(..)));
        written += if is_written { twin.raw().len() } else { 0 };
        last = Some((twin, is_written));
    }
    assert!(written <= FORKED_BYTES_MAX && written + 2 * text.len() > FORKED_BYTES_MAX);
    let (twin, is_written) = last.unwrap();
    assert!(!is_written);
    let other = bench.batch(3, 0, BatchDigest::ZERO, "of another lane");
    assert!(may_write(&mut bench, 2, &other));
    // The lane's owner filled its bound, not that of who proposes what the others hold.
    assert!(may_write(&mut bench, 3, &twin));
    // What is decided makes room.
    let decided = LanePosition {
        owner: held.position().owner,
        incarnation: held.position().incarnation,
        sequence: held.position().sequence,
        digest: held.digest(),
    };
    bench.app.lanes.forks.advance(&[decided]);
    assert!(may_write(&mut bench, 2, &twin));
}

fn may_write(bench: &mut Bench, n: u8, batch: &CheckedBatch) -> bool {
    bench.app.may_write(Some(peer(n)), batch, &mut BTreeMap::new())
}

/// Each of another run, so the first of its lane.
#[test]
fn batches_that_come_with_proposals_and_have_no_room_in_their_lane_are_written_within_a_bound() {
    let mut bench = Bench::new(1);
    let text = "x".repeat(120 << 10);
    let mut all = Vec::new();
    for run in 1..=(LANE_AHEAD_BYTES_MAX + FORKED_BYTES_MAX) as u64 / (120 << 10) + 10 {
        let place = (Incarnation(run), Sequence(0));
        let entries = vec![entry(&text)];
        let batch = Batch::sign(bench.network, place, BatchDigest::ZERO, entries, &key(2));
        let batch = batch.unwrap().check().unwrap();
        let job = CheckJob::Attached(BlockHash(B256::repeat_byte(7)), Some(peer(2)));
        let batches = vec![Ok(batch.clone())];
        bench.step(Input::Done(Done::BatchesChecked { job, batches }));
        all.push(batch);
    }
    let store = bench.ledger.store();
    let written = all.iter().filter_map(|b| store.batch(&b.position()).unwrap());
    let bytes: usize = written.map(|raw| raw.len()).sum();
    let bound = LANE_AHEAD_BYTES_MAX + FORKED_BYTES_MAX;
    assert!(bytes <= bound && bytes + 3 * text.len() > bound, "{bytes} bytes are written");
    assert!(bench.reports(|r| matches!(r, Report::AttachedNotKept(_))) >= 9);
    assert!(may_write(&mut bench, 3, all.last().unwrap()), "another proposer's is");
}

#[test]
fn answer_to_one_request_has_a_bound() {
    let mut bench = Bench::new(1);
    for (first, last, expected) in [(0, 9, 9), (5, 5_000, 68), (0, u64::MAX, 63), (u64::MAX, 1, 1)]
    {
        let (first, last) = (Sequence(first), Sequence(last));
        let (owner, incarnation) = (key(1).address(), Incarnation(1));
        let message = LaneMessage::Request(BatchRange { owner, incarnation, first, last });
        let from = peer(2);
        bench.step(Input::Mesh(MeshInput::LaneMessageReceived { from, message }));
        let sent = bench.take().into_iter().find_map(|e| match e {
            Effect::SendBatches(_, range) => Some(range.last.0),
            _ => None,
        });
        assert_eq!(sent, Some(expected), "{first} to {last}");
        bench.step(Input::Done(Done::BatchesSent(from)));
    }
}

#[test]
fn acknowledgement_that_is_not_its_peers_own_keeps_the_peer_out_and_counts_nothing() {
    let mut bench = Bench::new(1);
    let batch = bench.batch(2, 0, BatchDigest::ZERO, "one");
    push(&mut bench, 2, batch.raw().clone().into());
    let tip =
        lockstep_core::batch::Acknowledged { position: batch.position(), digest: batch.digest() };
    let word = |network, n: u8| Acknowledgement::sign(network, vec![tip], &key(n));
    let mut broken = word(bench.network, 4);
    broken.signature.0[64] = 3;
    let elsewhere = lockstep_core::types::NetworkId::ZERO;
    for (from, word) in [
        (2, word(bench.network, 3)),
        (3, word(elsewhere, 3)),
        (4, broken),
        (99, word(bench.network, 99)),
    ] {
        let (from, message) = (peer(from), LaneMessage::Acknowledgement(word));
        bench.step(Input::Mesh(MeshInput::LaneMessageReceived { from, message }));
    }
    let of = |effect: &Effect| match effect {
        Effect::Disconnect(from, misdeed) => Some((*from, misdeed.clone())),
        _ => None,
    };
    let gone: Vec<_> = bench.said.iter().filter_map(of).collect();
    assert!(
        matches!(
            &gone[..],
            [(a, Misdeed::Signer { .. }), (b, Misdeed::Network), (c, Misdeed::Signature(_))]
                if [*a, *b, *c] == [peer(2), peer(3), peer(4)]
        ),
        "{gone:?}"
    );
    let up = [2, 3, 4].map(|n| key(n).address()).into();
    let batches = [batch];
    assert_eq!(bench.app.lanes.table.unacknowledged(&batches, &up).len(), 1);
}
