//! A decided block is found wherever it is, and committed once.

use super::*;
use crate::abstention::Abstention;
use crate::application::effect::{Stop, Timer};
use crate::application::input::Claimed;

fn fetched(bench: &mut Bench, from: u8, height: Height, value: Option<Bytes>, block: &Block) {
    let value = value.map(|value| (value, block.certificate()));
    let input = EngineInput::ValueFetched { from: peer(from), height, value };
    bench.step(Input::Engine(input));
}

/// Whom the bench asked for the decided block, in order.
fn asked(bench: &Bench) -> Vec<PeerId> {
    let of = |effect: &Effect| match effect {
        Effect::FetchValue(_, peer) => Some(*peer),
        _ => None,
    };
    bench.said.iter().filter_map(of).collect()
}

fn read(bench: &mut Bench, found: bool) {
    let Some((height, block, lanes)) = bench.take().into_iter().find_map(|e| match e {
        Effect::ReadUndecided { height, block, lanes } => Some((height, block, lanes)),
        _ => None,
    }) else {
        panic!("the store was not asked")
    };
    let read = crate::app::work::undecided(bench.ledger.store(), (height, block), &lanes).unwrap();
    assert_eq!(read.is_some(), found);
    bench.step(Input::Done(Done::UndecidedRead { block, found: read.map(Box::new) }));
}

#[test]
fn decided_block_that_is_held_is_committed_then_answered() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let block = bench.block(round, &[], 0);
    super::proposals::decide(&mut bench, &block);
    assert_eq!(bench.state().height, Height(1));
    assert_eq!(bench.app.candidates().counts(), (0, 0));
    let reply = bench.decided(block.certificate());
    assert!(matches!(bench.answer(reply), Some(Answer::Committed)), "twice is once");
}

/// Consensus' log decides a height again whose block the store lost, or never had.
#[test]
fn decided_block_that_nobody_here_holds_is_fetched_from_one_peer_after_the_other() {
    let mut bench = Bench::new(1);
    let batch = bench.batch(2, 0, BatchDigest::ZERO, "only elsewhere");
    let block = bench.block(0, &[batch], 0);
    let other = bench.block(1, &[], 7);
    let height = block.header.height;
    let reply = bench.decided(block.certificate());
    read(&mut bench, false);
    assert_eq!(asked(&bench), [peer(2)]);
    fetched(&mut bench, 2, height, None, &block);
    bench.step(Input::TimerFired(Timer::Fetch));
    fetched(&mut bench, 3, height, Some(other.value()), &block);
    assert_eq!(bench.reports(|r| matches!(r, Report::ValueWrong(from, ..) if *from == peer(3))), 1);
    bench.step(Input::TimerFired(Timer::Fetch));
    fetched(&mut bench, 4, height, Some(Bytes::from_static(b"garbage")), &block);
    bench.step(Input::TimerFired(Timer::Fetch));
    let mut lie = block.clone();
    lie.cut.clone_from(&other.cut);
    lie.batches.clear();
    fetched(&mut bench, 2, height, Some(lie.value()), &block);
    assert!(!bench.said.iter().any(|e| matches!(e, Effect::Stop(_))), "the cut is the liar's own");
    assert_eq!(asked(&bench), [peer(2), peer(3), peer(4), peer(2)]);
    assert!(bench.answer(reply).is_none(), "nothing is committed yet");
    fetched(&mut bench, 2, height, Some(block.value()), &block);
    assert!(matches!(bench.answer(reply), Some(Answer::Committed)));
    assert_eq!(bench.state().head, block.hash());
    bench.step(Input::TimerFired(Timer::Fetch));
    assert_eq!(asked(&bench).len(), 4, "nobody is asked any more");
}

/// A value of the greatest size over a slow link takes longer than the first patience.
#[test]
fn answer_is_waited_for_longer_when_each_peer_was_asked() {
    let mut bench = Bench::new(1);
    let block = bench.block(0, &[], 0);
    bench.decided(block.certificate());
    read(&mut bench, false);
    for _ in 0..40 {
        bench.step(Input::TimerFired(Timer::Fetch));
    }
    let set = |e: &Effect| match e {
        Effect::SetTimer(Timer::Fetch, after) => Some(after.as_millis()),
        _ => None,
    };
    let patience: Vec<_> = bench.said.iter().filter_map(set).collect();
    assert_eq!(patience[..9], [500, 500, 500, 1_000, 1_000, 1_000, 2_000, 2_000, 2_000]);
    assert_eq!(patience[40], 8_000);
    assert_eq!(asked(&bench).len(), 41, "each time somebody");
}

/// The lane's owner signed two batches. This node held one; the other came with the block it voted for.
#[test]
fn decided_block_behind_a_fork_is_read_from_the_store_after_a_restart() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let owner = bench.turn(round);
    let (held, decided) = (
        bench.batch(owner, 0, BatchDigest::ZERO, "the one that is held"),
        bench.batch(owner, 0, BatchDigest::ZERO, "the one that is decided"),
    );
    bench.ledger.store().put_batches(std::slice::from_ref(&held)).unwrap();
    let block = bench.block(round, std::slice::from_ref(&decided), 0);
    let proposal = bench.proposal(round, None, &block);
    bench.parts(proposal, &block, &[decided]);
    assert_eq!(bench.handed(block.hash()), 1, "it may be voted for");

    let mut again = Bench::on(1, bench.ledger.clone());
    let reply = again.decided(block.certificate());
    read(&mut again, true);
    assert!(matches!(again.answer(reply), Some(Answer::Committed)));
    assert_eq!(again.state().head, block.hash());
}

/// A validator that is locked on such a block must be able to propose it again, or the height stands for good.
#[test]
fn proposed_block_behind_a_fork_is_judged_again_after_a_restart() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let owner = bench.turn(round);
    let held = bench.batch(owner, 0, BatchDigest::ZERO, "the one that is held");
    let proposed = bench.batch(owner, 0, BatchDigest::ZERO, "the one that is proposed");
    bench.ledger.store().put_batches(std::slice::from_ref(&held)).unwrap();
    let block = bench.block(round, std::slice::from_ref(&proposed), 0);
    let proposal = bench.proposal(round, None, &block);
    bench.parts(proposal, &block, &[proposed]);
    assert_eq!(bench.handed(block.hash()), 1, "it may be voted for");

    let mut again = Bench::with_held(1, bench.ledger.clone(), held);
    read(&mut again, true);
    assert_eq!(again.handed(block.hash()), 1, "and again after a restart");
    let mine = (0..8).find(|r| again.turn(*r) == 1 && *r > round).unwrap();
    let proposal = again.proposal(mine, Some(round), &block);
    let proposer = key(1).address();
    again.step(Input::Engine(EngineInput::RestreamRequested { proposal, proposer }));
    let published = |e: &Effect| matches!(e, Effect::Publish { .. });
    assert!(again.said.iter().any(published), "its parts can be sent");
}

#[test]
fn next_height_begins_behind_the_write_of_this_one() {
    let mut bench = Bench::new(1);
    let batch = bench.batch(2, 0, BatchDigest::ZERO, "on its way to the disk");
    let block = bench.block(0, &[batch], 0);
    let (height, reply) = (block.header.height, bench.decided(block.certificate()));
    read(&mut bench, false);
    bench.hold = Hold::Writes;
    fetched(&mut bench, 2, height, Some(block.value()), &block);
    let (certificate, over) = (block.certificate(), bench.reply());
    let finalized = Finalized { certificate, evidence: Vec::new(), reply: over };
    bench.step(Input::Engine(EngineInput::Finalized(finalized)));
    assert!(bench.answer(reply).is_none() && bench.answer(over).is_none());
    bench.release();
    assert!(matches!(bench.answer(reply), Some(Answer::Committed)));
    match bench.answer(over) {
        Some(Answer::Start(start)) => assert_eq!(start.height, height.next()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn decided_block_that_breaks_a_rule_stops_the_node() {
    let mut bench = Bench::new(1);
    let mut block = bench.block(0, &[], 0);
    block.header.slices_root = alloy_primitives::B256::repeat_byte(7);
    let height = block.header.height;
    bench.decided(block.certificate());
    read(&mut bench, false);
    fetched(&mut bench, 2, height, Some(block.value()), &block);
    let stops = |e: &Effect| matches!(e, Effect::Stop(Stop::InvalidDecided { height: h, .. }) if *h == height);
    assert!(bench.said.iter().any(stops));
}

#[test]
fn abstaining_ends_when_its_height_is_decided() {
    let mut bench = Bench::new(1);
    let started = EngineInput::Started {
        abstains: Some(Abstention::Height(Height(1))),
        undecided: Vec::new(),
    };
    bench.step(Input::Engine(started));
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let block = bench.block(round, &[], 0);
    assert!(!bench.said.iter().any(|e| matches!(e, Effect::Stop(_))));
    super::proposals::decide(&mut bench, &block);
    let ends = |e: &Effect| matches!(e, Effect::Stop(Stop::MayVote));
    assert!(bench.said.iter().any(ends));
}

/// The engine was stopped while a block was on its way to the disk.
#[test]
fn next_run_of_the_engine_begins_behind_the_block_that_is_being_written() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let block = bench.block(round, &[], 0);
    let proposal = bench.proposal(round, None, &block);
    bench.parts(proposal, &block, &[]);
    bench.hold = Hold::Commits;
    bench.decided(block.certificate());
    bench.step(Input::Engine(EngineInput::Started { abstains: None, undecided: Vec::new() }));
    let reply = bench.reply();
    bench.take();
    bench.step(Input::Engine(EngineInput::Ready { reply }));
    bench.step(Input::Mesh(MeshInput::PeerUp(peer(2))));
    let settles =
        |bench: &Bench| bench.said.iter().any(|e| matches!(e, Effect::SetTimer(Timer::Settle, _)));
    assert!(!settles(&bench));
    bench.release();
    assert!(settles(&bench));
    bench.step(Input::TimerFired(Timer::Settle));
    match bench.answer(reply) {
        Some(Answer::Start(start)) => assert_eq!(start.height, Height(2)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn consensus_starts_without_a_quorum_if_somebody_claims_a_later_height() {
    let mut bench = Bench::new(1);
    for other in [2, 3, 4] {
        bench.step(Input::Mesh(MeshInput::PeerDown(peer(other))));
    }
    bench.step(Input::Engine(EngineInput::Started { abstains: None, undecided: Vec::new() }));
    let reply = bench.reply();
    bench.step(Input::Engine(EngineInput::Ready { reply }));
    bench.step(Input::Mesh(MeshInput::PeerUp(peer(2))));
    for (highest, starts) in [(Height::GENESIS, false), (Height(7), true)] {
        bench.take();
        bench.step(Input::Mesh(MeshInput::Claimed(Claimed { highest, is_genesis: false })));
        let settles = |e: &Effect| matches!(e, Effect::SetTimer(Timer::Settle, _));
        assert_eq!(bench.said.iter().any(settles), starts, "{highest}");
    }
    bench.step(Input::TimerFired(Timer::Settle));
    assert!(matches!(bench.answer(reply), Some(Answer::Start(_))), "{:?}", bench.said);
}

#[test]
fn network_that_was_at_its_genesis_in_an_earlier_run_is_asked_for_anew() {
    use crate::guard::Origin;
    let mut bench = Bench::new(1);
    let at_genesis = Claimed { highest: Height::GENESIS, is_genesis: true };
    bench.step(Input::Mesh(MeshInput::Claimed(at_genesis)));
    let why = Abstention::Marked { origin: Origin::Fresh, until: UnixMillis(u64::MAX) };
    let started = EngineInput::Started { abstains: Some(why), undecided: Vec::new() };
    bench.step(Input::Engine(started));
    let stops = |bench: &Bench| bench.said.iter().any(|e| matches!(e, Effect::Stop(Stop::MayVote)));
    assert!(!stops(&bench));
    bench.step(Input::Mesh(MeshInput::Claimed(at_genesis)));
    assert!(stops(&bench));
}
