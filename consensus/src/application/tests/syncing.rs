//! Who is to blame for a synced value, and who is not.

use lockstep_engine::SyncOutcome;

use super::*;

/// A value comes by sync; the answer, if there is one yet.
pub(super) fn sync(bench: &mut Bench, height: Height, bytes: Bytes) -> Option<SyncOutcome> {
    let reply = bench.reply();
    let (round, proposer) = (Round(0), key(2).address());
    let synced = EngineInput::ValueSynced { height, round, proposer, bytes, reply };
    bench.step(Input::Engine(synced));
    match bench.answer(reply) {
        Some(Answer::Synced(outcome)) => Some(*outcome),
        _ => None,
    }
}

#[test]
fn synced_value_is_written_then_valid() {
    let mut bench = Bench::new(1);
    let batch = bench.batch(2, 0, BatchDigest::ZERO, "synced");
    let block = bench.block(0, &[batch.clone()], 0);
    bench.hold = Hold::Writes;
    assert_eq!(sync(&mut bench, block.header.height, block.value()), None, "not on the disk");
    bench.release();
    let answered = |e: &Effect| matches!(e, Effect::Reply(_, Answer::Synced(SyncOutcome::Valid(b))) if b.block == block.hash());
    assert!(bench.said.iter().any(answered));
    let reply = bench.decided(block.certificate());
    assert!(matches!(bench.answer(reply), Some(Answer::Committed)));
}

#[test]
fn wrong_bytes_are_their_senders_fault() {
    let mut bench = Bench::new(1);
    let batch = bench.batch(2, 0, BatchDigest::ZERO, "right");
    let block = bench.block(0, &[batch], 0);
    let height = block.header.height;
    let mut without = block.clone();
    without.batches.clear();
    let mut other = block.clone();
    other.batches = vec![bench.batch(2, 0, BatchDigest::ZERO, "wrong")];
    let mut invalid = block.clone();
    invalid.header.state_hash = alloy_primitives::B256::ZERO;
    let cases = [
        ("garbage", Bytes::from_static(b"garbage")),
        ("a batch is missing", without.value()),
        ("a batch is another", other.value()),
        ("a rule is broken", invalid.value()),
    ];
    for (what, bytes) in cases {
        assert_eq!(sync(&mut bench, height, bytes), Some(SyncOutcome::PeerFault), "{what}");
    }
    let above = sync(&mut bench, height.next(), block.value());
    assert_eq!(above, Some(SyncOutcome::PeerFault), "of another height than asked for");
}

#[test]
fn height_that_is_decided_meanwhile_is_nobodys_fault() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let block = bench.block(round, &[], 0);
    let height = block.header.height;
    bench.hold = Hold::Writes;
    assert_eq!(sync(&mut bench, height, block.value()), None);
    let held = std::mem::take(&mut bench.held);
    bench.hold = Hold::Nothing;
    super::proposals::decide(&mut bench, &block);
    bench.held = held;
    bench.release();
    let retried = |e: &Effect| matches!(e, Effect::Reply(_, Answer::Synced(SyncOutcome::Retry)));
    assert!(bench.said.iter().any(retried));
    let blamed = |e: &Effect| matches!(e, Effect::Reply(_, Answer::Synced(SyncOutcome::PeerFault)));
    assert!(!bench.said.iter().any(blamed));
    assert_eq!(sync(&mut bench, height, block.value()), Some(SyncOutcome::Retry), "it is over");
}
