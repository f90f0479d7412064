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
    let block = bench.block(0, std::slice::from_ref(&batch), 0);
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

/// The engine gave a request up and asks again for the same value.
#[test]
fn late_result_of_an_earlier_request_is_not_taken_for_the_newer_ones() {
    let mut bench = Bench::new(1);
    let batch = bench.batch(2, 0, BatchDigest::ZERO, "asked for twice");
    let block = bench.block(0, &[batch], 0);
    let height = block.header.height;
    bench.hold = Hold::Writes;
    assert_eq!(sync(&mut bench, height, block.value()), None);
    let first = std::mem::take(&mut bench.held);
    let (round, proposer, bytes) = (Round(0), key(2).address(), block.value());
    let reply = bench.reply();
    let again = EngineInput::ValueSynced { height, round, proposer, bytes, reply };
    let mut effects = Vec::new();
    bench.app.step(bench.now, Input::Engine(again), &mut effects);
    for done in first {
        bench.app.step(bench.now, Input::Done(done), &mut effects);
    }
    assert!(bench.app.candidates().verified(block.hash()).is_none());
    let check = effects.into_iter().find_map(|effect| match effect {
        Effect::CheckBatches(..) => bench.carry_out(effect),
        _ => None,
    });
    bench.hold = Hold::Nothing;
    bench.step(Input::Done(check.expect("its batches are checked")));
    let valid = Some(&SyncOutcome::Valid(bench_block(&block, round, proposer)));
    match bench.answer(reply) {
        Some(Answer::Synced(outcome)) => assert_eq!(Some(outcome), valid),
        other => panic!("{other:?}"),
    }
    let committed = bench.decided(block.certificate());
    assert!(matches!(bench.answer(committed), Some(Answer::Committed)));
}

fn bench_block(
    block: &Block,
    round: Round,
    proposer: alloy_primitives::Address,
) -> lockstep_engine::ProposedBlock {
    let (height, block) = (block.header.height, block.hash());
    let (valid_round, is_valid) = (None, true);
    lockstep_engine::ProposedBlock { height, round, valid_round, proposer, block, is_valid }
}
