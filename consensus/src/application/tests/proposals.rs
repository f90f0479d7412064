//! What of a proposer's claims counts, and for how long.

use super::*;
use crate::application::candidates::{PROPOSALS_PER_PROPOSER_MAX, ROUNDS_AHEAD_MAX};
use crate::application::proposals::{EARLY_PER_PEER_MAX, OPENING_PER_PEER_MAX, Refusal};
use crate::application::tickets::TICKETS_PER_PEER_MAX;

#[test]
fn valid_timely_block_is_written_then_handed_over_with_its_proposal() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let block = bench.block(round, &[], 0);
    let proposal = bench.proposal(round, None, &block);
    bench.signed(proposal);
    assert_eq!(bench.passed(), 0, "it waits for the verdict");
    bench.hold = Hold::Writes;
    bench.parts(proposal, &block, &[]);
    assert_eq!((bench.handed(block.hash()), bench.passed()), (0, 0), "it is not on the disk");
    bench.release();
    assert_eq!((bench.handed(block.hash()), bench.passed()), (1, 1));
    bench.signed(proposal);
    assert_eq!(bench.passed(), 2, "a copy that comes later is passed on at once");
}

/// The timestamp lies by an hour; the parts claim a polka that never was, and the proposal does not.
#[test]
fn verdict_on_one_proposal_counts_for_no_other_of_the_same_block() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let block = bench.block(round, &[], 3_600_000);
    let claimed = bench.proposal(round + 4, Some(round), &block);
    bench.parts(claimed, &block, &[]);
    assert_eq!(bench.handed(block.hash()), 1, "consensus itself asks for the polka it names");
    for (round, valid_round) in
        [(round, None), (round + 4, None), (round + 4, Some(round + 1)), (round + 8, Some(round))]
    {
        let lie = bench.proposal(round, valid_round, &block);
        bench.signed(lie);
        assert_eq!(bench.passed(), 0, "{lie:?} was not judged");
    }
    bench.signed(claimed);
    assert_eq!(bench.passed(), 1, "the very one that was");
}

#[test]
fn fresh_block_ahead_of_the_clock_is_never_handed_over_nor_written() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    for ahead in [60_000, 3_600_000] {
        let block = bench.block(round, &[], ahead);
        let proposal = bench.proposal(round, None, &block);
        bench.signed(proposal);
        bench.parts(proposal, &block, &[]);
        assert_eq!((bench.handed(block.hash()), bench.passed()), (0, 0), "{ahead} ms");
    }
    assert_eq!(bench.ledger.store().undecided(bench.next()).unwrap(), []);
    // Nor after a restart: what was not handed over before is not there.
    let mut again = Bench::on(1, bench.ledger.clone());
    again.begin_round(round);
    let complete = again
        .take()
        .into_iter()
        .any(|e| matches!(e, Effect::Reply(_, Answer::Blocks(blocks)) if !blocks.is_empty()));
    assert!(!complete && !again.said.iter().any(|e| matches!(e, Effect::Redeliver(..))));
}

#[test]
fn block_that_was_handed_over_is_again_after_a_restart_in_its_round_only() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let block = bench.block(round, &[], 0);
    let proposal = bench.proposal(round, None, &block);
    bench.parts(proposal, &block, &[]);
    let mut again = Bench::on(1, bench.ledger.clone());
    assert_eq!(again.handed(block.hash()), 1);
    again.signed(proposal);
    assert_eq!(again.passed(), 1);
    again.signed(again.proposal(round + 4, None, &block));
    assert_eq!(again.passed(), 1, "another round is another proposal");
}

#[test]
fn timely_is_asked_of_the_first_part_not_of_the_last() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let block = bench.block(round, &[], 0);
    let (n, proposal) = (bench.turn(round), bench.proposal(round, None, &block));
    let payload =
        Payload { header: block.header.clone(), cut: block.cut.clone(), batches: Vec::new() };
    let payload = Bytes::from(payload.encode());
    let first = FirstPart {
        proposal,
        proposer: key(n).address(),
        bytes_total: payload.len() as u64,
        signature: key(n).sign(proposal.part_digest(bench.network)),
    };
    for part in split(first, &payload) {
        bench.step(Input::Engine(EngineInput::PartReceived { from: peer(n), part }));
        // Each part is a minute behind the one before it.
        bench.now = bench.now.plus(60_000);
    }
    assert_eq!(bench.handed(block.hash()), 1);
}

/// One proposer, one proposal of garbage for each of its rounds: no two of one round, so no equivocation.
#[test]
fn proposals_of_one_proposer_never_keep_the_next_honest_one_out() {
    let mut bench = Bench::new(1);
    let liar = (0..4).map(|r| bench.turn(r)).find(|n| *n != 1).unwrap();
    let honest = (0..4).find(|r| ![1, liar].contains(&bench.turn(*r))).unwrap();
    for round in (0..400).filter(|r| bench.turn(*r) == liar).take(64).collect::<Vec<_>>() {
        let mut lie = bench.block(round, &[], 0);
        lie.header.slices_root =
            alloy_primitives::B256::repeat_byte(u8::try_from(round % 251).unwrap());
        let proposal = bench.proposal(round, None, &lie);
        bench.signed(proposal);
        bench.parts(proposal, &lie, &[]);
    }
    let (proposals, blocks) = bench.app.candidates().counts();
    assert!(
        proposals <= PROPOSALS_PER_PROPOSER_MAX && blocks <= proposals,
        "{proposals}, {blocks}"
    );
    let block = bench.block(honest, &[], 0);
    let proposal = bench.proposal(honest, None, &block);
    bench.signed(proposal);
    bench.parts(proposal, &block, &[]);
    assert_eq!(bench.handed(block.hash()), 1, "the honest proposer's block");
}

#[test]
fn farthest_proposal_of_a_proposer_gives_way_to_a_nearer_one() {
    let mut bench = Bench::new(1);
    let liar = (0..4).map(|r| bench.turn(r)).find(|n| *n != 1).unwrap();
    let rounds: Vec<u32> = (0..60).filter(|r| bench.turn(*r) == liar).collect();
    let mut kept = Vec::new();
    for round in &rounds {
        bench.begin_round(*round);
        let block = bench.block(*round, &[], 0);
        let proposal = bench.proposal(*round, None, &block);
        bench.parts(proposal, &block, &[]);
        assert_eq!(bench.handed(block.hash()), 1, "round {round}: the nearest is always kept");
        kept.push(block.hash());
    }
    assert_eq!(bench.app.candidates().counts().0, PROPOSALS_PER_PROPOSER_MAX);
    assert!(bench.app.candidates().get(kept[0]).is_none(), "the oldest gave way");
}

#[test]
fn round_too_far_ahead_and_turn_of_another_are_refused_before_any_check() {
    let mut bench = Bench::new(1);
    let far = (ROUNDS_AHEAD_MAX + 1..).find(|r| bench.turn(*r) != 1).unwrap();
    let block = bench.block(far, &[], 0);
    bench.parts(bench.proposal(far, None, &block), &block, &[]);
    let near = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let stranger = (1..=4).find(|n| ![1, bench.turn(near)].contains(n)).unwrap();
    let block = bench.block(near, &[], 0);
    let proposal = bench.proposal(near, None, &block);
    bench.parts_of(stranger, proposal, &block, &[]);
    assert_eq!(bench.reports(|r| matches!(r, Report::ProposalRefused { .. })), 2);
    assert_eq!(bench.app.candidates().counts(), (0, 0));
}

#[test]
fn waiting_proposals_of_a_peer_are_bounded_and_the_nearest_stay() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let n = bench.turn(round);
    let block = bench.block(round, &[], 0);
    for byte in 0..100 {
        let height = Height(bench.next().0 + 1 + u64::from(byte % 4));
        let block = BlockHash(alloy_primitives::B256::repeat_byte(byte));
        let proposal = Proposal { height, round: Round(0), valid_round: None, block };
        let proposer = key(n).address();
        let signature = key(n).sign(proposal.digest(bench.network));
        let ticket = ProposalTicket::new(peer(n), proposal, proposer, signature);
        let from = peer(n);
        let received = EngineInput::ProposalReceived { from, proposal, proposer, ticket };
        bench.step(Input::Engine(received));
    }
    let proposal = bench.proposal(round, None, &block);
    bench.signed(proposal);
    assert_eq!(bench.app.tickets.count(), TICKETS_PER_PEER_MAX);
    bench.parts(proposal, &block, &[]);
    assert_eq!(bench.passed(), 1, "this height's was kept");
}

#[test]
fn proposal_of_the_next_height_waits_for_it() {
    let mut bench = Bench::new(1);
    let block = bench.block(0, &[], 0);
    let mut ahead = Bench::new(1);
    decide(&mut ahead, &block);
    let round = (0..4).find(|r| ahead.turn(*r) != 1).unwrap();
    let next = ahead.block(round, &[], 0);
    let proposal = ahead.proposal(round, None, &next);
    let n = ahead.turn(round);
    bench.parts_of(n, proposal, &next, &[]);
    assert_eq!(bench.app.candidates().counts(), (0, 0));
    decide(&mut bench, &block);
    assert_eq!(bench.handed(next.hash()), 1);
}

#[test]
fn attached_batches_outside_the_cut_are_neither_checked_nor_written() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let owner = bench.turn(round);
    let inside = bench.batch(owner, 0, BatchDigest::ZERO, "inside");
    let outside = bench.batch(owner, 1, inside.digest(), "outside");
    let stranger = {
        let place = (Incarnation(5), Sequence(0));
        let entries = vec![entry("stranger")];
        Batch::sign(bench.network, place, BatchDigest::ZERO, entries, &key(99)).unwrap().check()
    };
    let block = bench.block(round, std::slice::from_ref(&inside), 0);
    let proposal = bench.proposal(round, None, &block);
    bench.parts(proposal, &block, &[outside.clone(), stranger.unwrap(), inside.clone()]);
    assert_eq!(bench.handed(block.hash()), 1);
    let stored = |batch: &CheckedBatch| bench.ledger.store().batch(&batch.position()).unwrap();
    assert!(stored(&inside).is_some());
    assert!(stored(&outside).is_none());
}

#[test]
fn value_asked_for_again_is_the_same_block() {
    let probe = Bench::new(1);
    let me = probe.turn(0);
    let mut bench = Bench::new(me);
    let height = bench.next();
    let ask = |bench: &mut Bench| {
        let reply = bench.reply();
        let round = Round(0);
        bench.step(Input::Engine(EngineInput::ValueRequested { height, round, reply }));
        match bench.answer(reply) {
            Some(Answer::Value(block)) => *block,
            other => panic!("{other:?}"),
        }
    };
    let first = ask(&mut bench);
    bench.now = bench.now.plus(1_000);
    assert_eq!(ask(&mut bench), first);
    let published = bench.said.iter().filter(|e| matches!(e, Effect::Publish { .. })).count();
    assert_eq!(published, 2);
    let mut again = Bench::on(me, bench.ledger.clone());
    again.now = bench.now.plus(5_000);
    assert_eq!(ask(&mut again), first, "after a restart, too");
}

/// The first part signs the header, not the cut: whoever has seen it can send it again with another cut.
#[test]
fn cut_that_the_header_does_not_name_is_no_verdict_on_the_block() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let batch = bench.batch(bench.turn(round), 0, BatchDigest::ZERO, "one");
    let block = bench.block(round, std::slice::from_ref(&batch), 0);
    let mut garbled = block.clone();
    garbled.cut = Cut { lanes: bench.state().committed.lanes.clone() };
    let proposal = bench.proposal(round, None, &block);
    bench.parts(proposal, &garbled, &[]);
    assert_eq!((bench.handed(block.hash()), bench.app.candidates().counts()), (0, (0, 0)));
    bench.parts(proposal, &block, &[batch]);
    assert_eq!(bench.handed(block.hash()), 1, "the honest copy is judged");

    // An untimely block becomes valid under another proposal; garbage under a third hands over nothing else of it.
    let late = bench.block(round, &[], 3_600_000);
    let mut garbled = late.clone();
    garbled.cut.lanes.pop();
    bench.signed(bench.proposal(round, None, &late));
    for (proposal, block) in [
        (bench.proposal(round, None, &late), &late),
        (bench.proposal(round + 4, Some(round), &late), &late),
        (bench.proposal(round + 8, Some(round), &late), &garbled),
    ] {
        bench.parts(proposal, block, &[]);
    }
    assert_eq!(bench.passed(), 0, "the fresh proposal of an untimely block");
}

#[test]
fn any_copy_of_a_proposal_may_bring_the_batches_that_its_block_waits_for() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let batch = bench.batch(bench.turn(round), 0, BatchDigest::ZERO, "one");
    let block = bench.block(round, std::slice::from_ref(&batch), 0);
    let proposal = bench.proposal(round, None, &block);
    bench.parts(proposal, &block, &[]);
    assert_eq!(bench.handed(block.hash()), 0, "a copy without its batches came first");
    bench.parts(proposal, &block, &[batch]);
    assert_eq!(bench.handed(block.hash()), 1);
}

/// The engine asks nothing else while a question is open: its node would stand still at this height for good.
#[test]
fn turn_that_comes_to_nothing_leaves_no_question_open() {
    let me = Bench::new(1).turn(0);
    let ask = |bench: &mut Bench, round| {
        let (height, reply) = (bench.next(), bench.reply());
        let round = Round(round);
        bench.step(Input::Engine(EngineInput::ValueRequested { height, round, reply }));
        reply
    };
    let is_open = |bench: &Bench, id| {
        let closes =
            |e: &Effect| matches!(e, Effect::Reply(to, _) | Effect::Dismiss(to) if *to == id);
        !bench.said.iter().any(closes)
    };
    let mut bench = Bench::new(me);
    bench.is_guard_refusing = true;
    let refused = ask(&mut bench, 0);
    assert!(!is_open(&bench, refused));

    let mut bench = Bench::new(me);
    bench.hold = Hold::Writes;
    let (first, second) = (ask(&mut bench, 0), ask(&mut bench, 0));
    assert!(!is_open(&bench, first) && is_open(&bench, second), "one is enough");
    let later = ask(&mut bench, 4);
    assert!(!is_open(&bench, second) && is_open(&bench, later), "its round is over");
    let round = (0..4).find(|r| bench.turn(*r) != me).unwrap();
    let block = bench.block(round, &[], 0);
    bench.hold = Hold::Nothing;
    decide(&mut bench, &block);
    assert!(!is_open(&bench, later), "its height is over");
    let (height, reply) = (Height(9), bench.reply());
    bench.step(Input::Engine(EngineInput::ValueRequested { height, round: Round(0), reply }));
    assert!(!is_open(&bench, reply), "another height");
}

/// All parts of a payload under a first part.
fn send(bench: &mut Bench, from: u8, first: FirstPart, payload: &Bytes) -> Vec<Effect> {
    let mut effects = Vec::new();
    for part in split(first, payload) {
        let received = EngineInput::PartReceived { from: peer(from), part };
        bench.app.step(bench.now, Input::Engine(received), &mut effects);
    }
    effects
}

fn payload(block: &Block) -> Bytes {
    let (header, cut) = (block.header.clone(), block.cut.clone());
    Payload { header, cut, batches: Vec::new() }.encode().into()
}

fn first_part(bench: &Bench, n: u8, proposal: Proposal, payload: &Bytes) -> FirstPart {
    let signature = key(n).sign(proposal.part_digest(bench.network));
    let (proposer, bytes_total) = (key(n).address(), payload.len() as u64);
    FirstPart { proposal, proposer, bytes_total, signature }
}

#[test]
fn each_reason_not_to_open_a_proposal_disconnects_its_sender_and_is_no_verdict_on_its_block() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let (n, block) = (bench.turn(round), bench.block(round, &[], 0));
    let other = bench.block(round, &[], 1);
    let proposal = bench.proposal(round, None, &block);
    let good = payload(&block);
    let first = first_part(&bench, n, proposal, &good);
    let stranger = key(n % 4 + 1).sign(proposal.part_digest(bench.network));
    let garbage = Bytes::from_static(b"garbage");
    let of = |payload: &Bytes| FirstPart { bytes_total: payload.len() as u64, ..first };
    let later = (round + 1..).find(|r| bench.turn(*r) == n).unwrap();
    let of_later = first_part(&bench, n, bench.proposal(later, None, &block), &good);
    let refused = |first: FirstPart, payload: Bytes, is_it: &dyn Fn(&Refusal) -> bool| {
        let mut bench = Bench::new(1);
        for effect in send(&mut bench, n, first, &payload) {
            if let Some(done) = bench.carry_out(effect) {
                bench.step(Input::Done(done));
            }
        }
        // Nobody relays proposals, so its sender made it.
        let misdeeds = bench.said.iter().filter(|effect| {
            matches!(effect, Effect::Disconnect(from, Misdeed::Proposal(reason))
                if *from == peer(n) && is_it(reason))
        });
        let misdeeds = misdeeds.count();
        assert_eq!((misdeeds, bench.app.candidates().counts()), (1, (0, 0)), "{:?}", bench.said);
    };
    let signer = FirstPart { signature: stranger, ..first };
    refused(signer, good.clone(), &|r| matches!(r, Refusal::Signer { .. }));
    let mut wrong = first.signature;
    wrong.0[64] = 3;
    let unsigned = FirstPart { signature: wrong, ..first };
    refused(unsigned, good.clone(), &|r| matches!(r, Refusal::Signature(_)));
    refused(of(&garbage), garbage.clone(), &|r| matches!(r, Refusal::Payload(_)));
    let of_other = payload(&other);
    refused(of(&of_other), of_other.clone(), &|r| matches!(r, Refusal::OtherBlock { .. }));
    refused(of_later, good.clone(), &|r| matches!(r, Refusal::Round(_)));

    for effect in send(&mut bench, n, first, &good) {
        if let Some(done) = bench.carry_out(effect) {
            bench.step(Input::Done(done));
        }
    }
    assert_eq!(bench.handed(block.hash()), 1, "it was not the test");
}

#[test]
fn so_many_proposals_of_a_peer_are_opened_at_a_time_and_anothers_beside_them() {
    let mut bench = Bench::new(1);
    let n = (0..4).map(|r| bench.turn(r)).find(|n| *n != 1).unwrap();
    let round = (0..4).find(|r| bench.turn(*r) == n).unwrap();
    let mut opening = Vec::new();
    for ms in 0..=OPENING_PER_PEER_MAX as u64 {
        let block = bench.block(round, &[], ms);
        let good = payload(&block);
        let first = first_part(&bench, n, bench.proposal(round, None, &block), &good);
        opening.extend(send(&mut bench, n, first, &good));
        if ms == 0 {
            // Another peer's copies of the first.
            opening.extend(send(&mut bench, n % 4 + 1, first, &good));
        }
    }
    let opens = |effects: &[Effect]| {
        effects.iter().filter(|e| matches!(e, Effect::OpenProposal { .. })).count()
    };
    let is_busy = |e: &&Effect| {
        matches!(e, Effect::Report(Report::ProposalRefused { reason: Refusal::Busy, .. }))
    };
    assert_eq!(opens(&opening), OPENING_PER_PEER_MAX + 1);
    assert_eq!(opening.iter().filter(is_busy).count(), 1);
    // Each that is opened makes room for one.
    let done = bench.carry_out(opening.remove(0)).unwrap();
    bench.step(Input::Done(done));
    let block = bench.block(round, &[], 100);
    let good = payload(&block);
    let first = first_part(&bench, n, bench.proposal(round, None, &block), &good);
    assert_eq!(opens(&send(&mut bench, n, first, &good)), 1);
}

#[test]
fn farthest_proposal_of_a_later_height_gives_way_among_one_peers() {
    let mut bench = Bench::new(1);
    let block = bench.block(0, &[], 0);
    let mut ahead = Bench::new(1);
    decide(&mut ahead, &block);
    let round = (0..4).find(|r| ahead.turn(*r) != 1).unwrap();
    let next = ahead.block(round, &[], 0);
    let n = ahead.turn(round);
    let honest = first_part(&ahead, n, ahead.proposal(round, None, &next), &payload(&next));
    // Of the height behind the next one: what comes of it must not keep the next one's out.
    for byte in 0..=EARLY_PER_PEER_MAX as u8 {
        let garbage = Bytes::copy_from_slice(&[byte]);
        let height = next.header.height.next();
        let block = BlockHash(alloy_primitives::B256::repeat_byte(byte));
        let proposal = Proposal { height, round: Round(0), valid_round: None, block };
        let first = first_part(&bench, n, proposal, &garbage);
        assert!(send(&mut bench, n, first, &garbage).is_empty());
    }
    send(&mut bench, n, honest, &payload(&next));
    let kept: usize = bench.app.early.waiting.values().map(Vec::len).sum();
    assert_eq!(kept, EARLY_PER_PEER_MAX);
    decide(&mut bench, &block);
    assert_eq!(bench.handed(next.hash()), 1);
}

/// Decides a block at a bench as consensus does.
pub(super) fn decide(bench: &mut Bench, block: &Block) {
    let proposal = bench.proposal(block.header.round.0, None, block);
    if bench.turn(block.header.round.0) == bench.me {
        let value = block.value();
        super::syncing::sync(bench, block.header.height, value);
    } else {
        bench.parts(proposal, block, &block.batches);
    }
    let reply = bench.decided(block.certificate());
    assert!(matches!(bench.answer(reply), Some(Answer::Committed)));
    let (certificate, reply) = (block.certificate(), bench.reply());
    let finalized = Finalized { certificate, evidence: Vec::new(), reply };
    bench.step(Input::Engine(EngineInput::Finalized(finalized)));
    assert!(matches!(bench.answer(reply), Some(Answer::Start(_))));
    bench.begin_round(0);
}

/// Two proposals for each of a proposer's rounds, each with a batch that nobody holds.
#[test]
fn batches_of_few_proposals_of_a_peer_are_checked_at_a_time() {
    let mut bench = Bench::new(1);
    let liar = (0..4).map(|r| bench.turn(r)).find(|n| *n != 1).unwrap();
    let rounds: Vec<u32> = (0..=ROUNDS_AHEAD_MAX).filter(|r| bench.turn(*r) == liar).collect();
    bench.hold = Hold::Checks;
    for (number, round) in (0..).zip(rounds.iter().chain(&rounds)) {
        let batch = bench.batch(liar, 0, BatchDigest::ZERO, &format!("{number}"));
        let block = bench.block(*round, std::slice::from_ref(&batch), number);
        bench.parts(bench.proposal(*round, None, &block), &block, &[batch]);
    }
    assert!(2 * rounds.len() > OPENING_PER_PEER_MAX, "{rounds:?}");
    assert_eq!(bench.held.len(), OPENING_PER_PEER_MAX);
    let busy = |r: &Report| matches!(r, Report::ProposalRefused { reason: Refusal::Busy, .. });
    assert_eq!(bench.reports(busy), 2 * rounds.len() - OPENING_PER_PEER_MAX);
    // Another proposer has places of its own, and so has this one once they are checked.
    let other = (0..4).find(|r| ![1, liar].contains(&bench.turn(*r))).unwrap();
    let batch = bench.batch(liar, 0, BatchDigest::ZERO, "of another");
    let block = bench.block(other, std::slice::from_ref(&batch), 0);
    bench.parts(bench.proposal(other, None, &block), &block, &[batch]);
    assert_eq!(bench.held.len(), OPENING_PER_PEER_MAX + 1);
    bench.release();
    assert_eq!(bench.handed(block.hash()), 1);
    let block = bench.block(rounds[1], &[], 99);
    bench.parts(bench.proposal(rounds[1], None, &block), &block, &[]);
    assert_eq!(bench.reports(busy), 2 * rounds.len() - OPENING_PER_PEER_MAX);
}

#[test]
fn proposer_that_attaches_a_wrong_batch_is_disconnected() {
    let mut bench = Bench::new(1);
    let round = (0..4).find(|r| bench.turn(*r) != 1).unwrap();
    let n = bench.turn(round);
    let batch = bench.batch(n, 0, BatchDigest::ZERO, "one");
    let block = bench.block(round, std::slice::from_ref(&batch), 0);
    let mut raw = batch.raw().to_vec();
    *raw.last_mut().unwrap() ^= 1;
    let payload =
        Payload { header: block.header.clone(), cut: block.cut.clone(), batches: vec![raw.into()] };
    bench.payload_of(n, bench.proposal(round, None, &block), payload);
    let gone = |e: &Effect| matches!(e, Effect::Disconnect(p, Misdeed::Batch(_)) if *p == peer(n));
    assert_eq!(bench.said.iter().filter(|e| gone(e)).count(), 1);
    assert_eq!(bench.handed(block.hash()), 0);
}
