//! Batches are written before anything is said of them, and one peer's never keep another's waiting.

use super::*;
use crate::application::effect::{CheckJob, Misdeed, Timer};
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
    let done = Done::BatchesChecked { job: CheckJob::Lane(peer(2)), batches: Vec::new() };
    bench.app.step(bench.now, Input::Done(done), &mut effects);
    assert_eq!(checks(&effects, 2), 9, "the next one is checked");
}
