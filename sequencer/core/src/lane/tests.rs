//! Lanes under honest, late and lying owners.

use alloy_primitives::B256;

use super::*;
use crate::block::fixtures::*;
use crate::cut::Cut;
use crate::limits::*;

const NONE: BatchDigest = BatchDigest::ZERO;

fn range(net: &Net, incarnation: u64, first: u64, last: u64) -> BatchRange {
    BatchRange {
        owner: net.keys[0].address(),
        incarnation: Incarnation(incarnation),
        first: Sequence(first),
        last: Sequence(last),
    }
}

/// The lane of the first owner, with these batches offered.
fn lane<'a>(net: &Net, batches: impl IntoIterator<Item = &'a CheckedBatch>) -> Lane {
    let mut lane = Lane::new(net.position(0));
    for batch in batches {
        lane.insert(batch.clone());
    }
    lane
}

fn tip(lane: &Lane) -> Option<(u64, u64)> {
    lane.tip().map(|tip| (tip.position.incarnation.0, tip.position.sequence.0))
}

fn acknowledged(batch: &CheckedBatch) -> Acknowledged {
    Acknowledged { position: batch.position(), digest: batch.digest() }
}

fn positions(batches: &[CheckedBatch]) -> Vec<(u64, u64)> {
    batches.iter().map(|b| (b.position().incarnation.0, b.position().sequence.0)).collect()
}

fn no_attached() -> BTreeMap<BatchDigest, CheckedBatch> {
    BTreeMap::new()
}

fn step(lane: &Lane, to: &CheckedBatch) -> LaneStep {
    LaneStep::between(lane.decided(), &position_of(to)).unwrap().unwrap()
}

#[test]
fn batches_in_order_are_new_and_then_known() {
    let net = Net::new(1);
    let run = net.run(0, 5, (0, 3), NONE);
    let mut lane = lane(&net, &[]);
    for batch in &run {
        assert_eq!(lane.insert(batch.clone()), Inserted::New);
        assert_eq!(lane.tip(), Some(acknowledged(batch)));
        assert_eq!(lane.insert(batch.clone()), Inserted::Known);
    }
    assert_eq!((lane.len(), lane.missing()), (4, vec![]));
    assert_eq!(lane.bytes(), run.iter().map(|batch| batch.raw().len()).sum::<usize>());
}

#[test]
fn batch_behind_a_gap_is_held_but_not_reached() {
    let net = Net::new(1);
    let run = net.run(0, 5, (0, 5), NONE);
    let mut lane = lane(&net, &run[..1]);
    let gap = |first, last| Inserted::Gap { missing: range(&net, 5, first, last) };
    assert_eq!(lane.insert(run[3].clone()), gap(1, 2));
    assert_eq!(lane.insert(run[5].clone()), gap(4, 4));
    assert_eq!(lane.missing(), [range(&net, 5, 1, 2), range(&net, 5, 4, 4)]);
    assert_eq!(tip(&lane), Some((5, 0)));
    assert_eq!(lane.insert(run[2].clone()), gap(1, 1));
    assert_eq!(lane.insert(run[1].clone()), Inserted::New);
    assert_eq!(tip(&lane), Some((5, 3)));
    assert_eq!(lane.insert(run[4].clone()), Inserted::New);
    assert_eq!((tip(&lane), lane.missing()), (Some((5, 5)), vec![]));
}

#[test]
fn what_the_log_has_decided_is_not_held() {
    let mut net = Net::new(1);
    let run = net.run(0, 5, (0, 2), NONE);
    net.state.committed.lanes[0] = position_of(&run[1]);
    let mut lane = lane(&net, &[]);
    let older = net.run(0, 4, (0, 9), NONE);
    for batch in run[..2].iter().chain([&older[0], &older[9]]) {
        assert_eq!(lane.insert(batch.clone()), Inserted::Decided);
    }
    assert_eq!(lane.insert(run[2].clone()), Inserted::New);
    assert_eq!(positions(&lane.iter().cloned().collect::<Vec<_>>()), [(5, 2)]);
}

#[test]
fn run_of_incarnation_zero_can_never_be_decided() {
    let net = Net::new(1);
    let run = net.run(0, 0, (0, 1), NONE);
    let mut lane = lane(&net, &[]);
    assert_eq!(lane.insert(run[0].clone()), Inserted::Decided);
    assert_eq!(lane.insert(run[1].clone()), Inserted::Decided);
}

#[test]
fn two_batches_at_one_position_are_evidence_and_the_first_stays() {
    let net = Net::new(1);
    let first = net.batch(0, (5, 0), NONE, vec![tx(A, 1, 10)]);
    let second = net.batch(0, (5, 0), NONE, vec![tx(A, 2, 10)]);
    let mut lane = lane(&net, [&first]);
    let evidence = Evidence { held: first.clone(), got: second.clone() };
    assert_eq!(lane.insert(second), Inserted::Equivocation(Box::new(evidence)));
    assert_eq!(lane.tip(), Some(acknowledged(&first)));
}

#[test]
fn batch_must_name_the_one_before_it() {
    let mut net = Net::new(1);
    let run = net.run(0, 5, (0, 2), NONE);
    let other = BatchDigest(B256::repeat_byte(1));
    let wrong = net.batch(0, (5, 2), other, vec![tx(A, 1, 10)]);
    let expected = Inserted::WrongParent { expected: run[1].digest(), got: other };
    assert_eq!(lane(&net, &run[..2]).insert(wrong.clone()), expected);
    net.state.committed.lanes[0] = position_of(&run[1]);
    assert_eq!(lane(&net, &[]).insert(wrong), expected);
}

#[test]
fn chain_stops_before_a_batch_that_came_first_and_does_not_link() {
    let net = Net::new(1);
    let run = net.run(0, 5, (0, 1), NONE);
    let wrong = net.batch(0, (5, 2), BatchDigest(B256::repeat_byte(1)), vec![tx(A, 1, 10)]);
    let lane = lane(&net, [&wrong, &run[0], &run[1]]);
    assert_eq!((lane.len(), tip(&lane)), (3, Some((5, 1))));
}

#[test]
fn other_lanes_batches_are_refused() {
    let net = Net::new(2);
    assert_eq!(lane(&net, &[]).insert(net.run(1, 5, (0, 0), NONE)[0].clone()), Inserted::OtherLane);
}

#[test]
fn run_of_the_decided_batch_comes_before_a_higher_one() {
    let mut net = Net::new(1);
    let run = net.run(0, 5, (0, 2), NONE);
    net.state.committed.lanes[0] = position_of(&run[0]);
    let (middle, high) = (net.run(0, 6, (0, 1), NONE), net.run(0, 9, (0, 3), NONE));
    let unbegun = net.run(0, 11, (0, 1), NONE);
    let mut lane = lane(&net, middle.iter().chain(&high));
    lane.insert(unbegun[1].clone());
    assert_eq!(tip(&lane), Some((9, 3)));
    lane.insert(run[2].clone());
    assert_eq!(tip(&lane), Some((9, 3)));
    let missing = [range(&net, 5, 1, 1), range(&net, 11, 0, 0)];
    assert_eq!(lane.missing(), missing);
    lane.insert(run[1].clone());
    assert_eq!(tip(&lane), Some((5, 2)));
    lane.advance(&position_of(&run[2]));
    assert_eq!(tip(&lane), Some((9, 3)));
    lane.insert(unbegun[0].clone());
    assert_eq!(tip(&lane), Some((11, 1)));
}

#[test]
fn gaps_of_runs_below_the_highest_begun_one_are_not_asked_for() {
    let net = Net::new(1);
    let (low, high) = (net.run(0, 5, (0, 3), NONE), net.run(0, 6, (0, 4), NONE));
    let held = [&low[0], &low[3], &high[0], &high[2], &high[4]];
    let missing = [range(&net, 6, 1, 1), range(&net, 6, 3, 3)];
    assert_eq!(lane(&net, held).missing(), missing);
}

#[test]
fn lane_ahead_by_its_greatest_number_of_batches_is_too_far() {
    let net = Net::new(1);
    let far = LANE_AHEAD_BATCHES_MAX as u64;
    let some = BatchDigest(B256::repeat_byte(1));
    let at = |sequence| net.batch(0, (5, sequence), some, vec![tx(A, 1, 10)]);
    let mut lane = lane(&net, &[]);
    assert_eq!(lane.insert(at(far)), Inserted::TooFarAhead);
    let missing = range(&net, 5, 0, far - 2);
    assert_eq!(lane.insert(at(far - 1)), Inserted::Gap { missing });
    // From the end on, so that none finds the one before it.
    for sequence in (1..far - 1).rev() {
        lane.insert(at(sequence));
    }
    lane.insert(net.run(0, 7, (0, 0), NONE)[0].clone());
    assert_eq!(lane.len(), LANE_AHEAD_BATCHES_MAX);
    assert_eq!(lane.insert(net.run(0, 5, (0, 0), NONE)[0].clone()), Inserted::TooFarAhead);
}

#[test]
fn lane_ahead_by_its_greatest_number_of_bytes_is_too_far() {
    let net = Net::new(1);
    let list: Vec<_> = (0..4).map(|n| tx(A, n, TRANSACTION_BYTES_MAX - 200)).collect();
    let (mut lane, mut parent, mut run) = (lane(&net, &[]), NONE, Vec::new());
    let refused = loop {
        let sequence = run.len() as u64;
        let batch = net.batch(0, (5, sequence), parent, list.clone());
        match lane.insert(batch.clone()) {
            Inserted::New => parent = batch.digest(),
            other => break (batch, other),
        }
        run.push(batch);
    };
    assert_eq!(refused.1, Inserted::TooFarAhead);
    assert!(lane.bytes() <= LANE_AHEAD_BYTES_MAX);
    assert!(lane.bytes() + refused.0.raw().len() > LANE_AHEAD_BYTES_MAX);
    lane.advance(&position_of(&run[0]));
    assert_eq!(lane.insert(refused.0), Inserted::New);
}

#[test]
fn lane_ahead_by_its_greatest_number_of_entries_is_too_far() {
    let net = Net::new(1);
    let list: Vec<_> = (0..BATCH_ENTRIES_MAX as u32).map(|n| tx(A, n, 4)).collect();
    let batch = net.batch(0, (5, 0), NONE, list);
    let (mut lane, batches) = (lane(&net, &[]), LANE_AHEAD_ENTRIES_MAX / BATCH_ENTRIES_MAX);
    assert_eq!(lane.insert(batch.clone()), Inserted::New);
    let mut room = lane.room();
    let taken = (0..batches).filter(|_| room.take(&batch)).count();
    assert_eq!(taken, batches - 1, "one is held already");
    lane.advance(&position_of(&batch));
    let mut room = lane.room();
    assert_eq!((0..=batches).filter(|_| room.take(&batch)).count(), batches);
}

#[test]
fn step_is_made_of_held_and_attached_batches() {
    let net = Net::new(1);
    let run = net.run(0, 5, (0, 3), NONE);
    let lane = lane(&net, [&run[0], &run[2]]);
    let step = step(&lane, &run[3]);
    let missing = |first, last| range(&net, 5, first, last);
    assert_eq!(
        lane.batches(&step, &no_attached()),
        Err(Unresolved::Missing { ranges: vec![missing(1, 1), missing(3, 3)] })
    );
    let attached: BTreeMap<_, _> =
        [&run[1], &run[3]].into_iter().map(|batch| (batch.digest(), batch.clone())).collect();
    assert_eq!(lane.batches(&step, &attached).unwrap(), run);
}

#[test]
fn step_on_another_branch_is_a_fork_until_the_branch_is_attached() {
    let net = Net::new(1);
    let ours = net.run(0, 5, (0, 2), NONE);
    let theirs: Vec<_> = {
        let first = net.batch(0, (5, 1), ours[0].digest(), vec![tx(A, 77, 10)]);
        let second = net.batch(0, (5, 2), first.digest(), vec![tx(A, 78, 10)]);
        vec![first, second]
    };
    let lane = lane(&net, &ours);
    let step = step(&lane, &theirs[1]);
    let fork = |held: &CheckedBatch, expected: &CheckedBatch| Unresolved::Fork {
        position: held.position(),
        expected: expected.digest(),
        held: held.digest(),
    };
    let mut attached = no_attached();
    assert_eq!(lane.batches(&step, &attached), Err(fork(&ours[2], &theirs[1])));
    attached.insert(theirs[1].digest(), theirs[1].clone());
    assert_eq!(lane.batches(&step, &attached), Err(fork(&ours[1], &theirs[0])));
    attached.insert(theirs[0].digest(), theirs[0].clone());
    let expected = vec![ours[0].clone(), theirs[0].clone(), theirs[1].clone()];
    assert_eq!(lane.batches(&step, &attached), Ok(expected));
}

#[test]
fn step_whose_chain_leads_elsewhere_is_broken() {
    let mut net = Net::new(1);
    let run = net.run(0, 5, (0, 3), NONE);
    net.state.committed.lanes[0] = position_of(&run[0]);
    let lane = lane(&net, &run[1..]);
    let mut wrong = step(&lane, &run[3]);
    wrong.parent = BatchDigest(B256::repeat_byte(1));
    let position = run[1].position();
    assert_eq!(lane.batches(&wrong, &no_attached()), Err(Unresolved::Broken { position }));
    // A tip digest that belongs to another place.
    let misplaced = LaneStep { last: Sequence(4), ..step(&lane, &run[3]) };
    let attached = [(run[3].digest(), run[3].clone())].into();
    let position = BatchPosition { sequence: Sequence(4), ..run[3].position() };
    assert_eq!(lane.batches(&misplaced, &attached), Err(Unresolved::Broken { position }));
}

#[test]
fn advance_gives_back_what_is_behind_it() {
    let mut net = Net::new(1);
    let (low, run) = (net.run(0, 4, (0, 1), NONE), net.run(0, 5, (0, 3), NONE));
    let high = net.run(0, 6, (0, 1), NONE);
    net.state.committed.lanes[0] = position_of(&low[0]);
    let mut lane = lane(&net, low[1..].iter().chain(&run).chain(&high));
    let removed = lane.advance(&position_of(&run[1]));
    assert_eq!(positions(&removed), [(4, 1), (5, 0), (5, 1)]);
    assert_eq!((tip(&lane), lane.len()), (Some((5, 3)), 4));
    assert_eq!(lane.advance(&position_of(&run[0])), []);
    assert_eq!(lane.advance(&position_of(&run[1])), []);
    assert_eq!(lane.decided(), &position_of(&run[1]));
    let removed = lane.advance(&position_of(&high[1]));
    assert_eq!(positions(&removed), [(5, 2), (5, 3), (6, 0), (6, 1)]);
    assert_eq!((lane.tip(), lane.len(), lane.bytes()), (None, 0, 0));
}

#[test]
fn advance_on_another_branch_drops_ours() {
    let net = Net::new(1);
    let ours = net.run(0, 5, (0, 3), NONE);
    let theirs = net.batch(0, (5, 1), ours[0].digest(), vec![tx(A, 77, 10)]);
    let next = net.batch(0, (5, 2), theirs.digest(), vec![tx(A, 78, 10)]);
    let mut lane = lane(&net, &ours);
    let removed = lane.advance(&position_of(&theirs));
    assert_eq!(positions(&removed), [(5, 0), (5, 1), (5, 2), (5, 3)]);
    assert_eq!((lane.len(), lane.bytes()), (0, 0));
    assert_eq!(lane.insert(next), Inserted::New);
}

fn lanes(net: &Net, runs: &[Vec<CheckedBatch>]) -> BTreeMap<Address, Lane> {
    let mut lanes = BTreeMap::new();
    for (position, run) in net.state.committed.lanes.iter().zip(runs) {
        let mut lane = Lane::new(*position);
        for batch in run {
            lane.insert(batch.clone());
        }
        lanes.insert(position.owner, lane);
    }
    lanes
}

/// A quorum stores all that a lane holds.
fn all(lane: &Lane) -> usize {
    lane.len()
}

fn reached(cut: &Cut) -> Vec<(u64, u64)> {
    cut.lanes.iter().map(|lane| (lane.incarnation.0, lane.sequence.0)).collect()
}

#[test]
fn cut_moves_each_lane_to_its_tip_and_assembles() {
    let net = Net::new(3);
    let runs = [net.run(0, 5, (0, 3), NONE), vec![], net.run(2, 9, (0, 1), NONE)];
    let lanes = lanes(&net, &runs);
    let cut = build_cut(&net.state, &lanes, all, CutLimits::MAX);
    assert_eq!(reached(&cut), [(5, 3), (0, 0), (9, 1)]);
    let steps = cut.steps(&net.state.committed.lanes).unwrap();
    let batches: Vec<_> = steps
        .iter()
        .flat_map(|step| lanes[&step.owner].batches(step, &no_attached()).unwrap())
        .collect();
    assert_eq!(batches, runs.concat());
    assert_eq!(net.try_assemble(FIRST, &cut, &batches).unwrap().taken.len(), 6);
}

#[test]
fn lanes_share_a_cuts_room_in_turn_from_the_first_lane_of_the_height() {
    let net = Net::new(3);
    let runs =
        [net.run(0, 5, (0, 9), NONE), net.run(1, 5, (0, 9), NONE), net.run(2, 5, (0, 0), NONE)];
    let lanes = lanes(&net, &runs);
    let bytes = runs[0][1].raw().len();
    let cases = [
        // Height 1 begins with lane 1.
        (CutLimits { batches: 1, ..CutLimits::MAX }, [(0, 0), (5, 0), (0, 0)]),
        (CutLimits { batches: 2, ..CutLimits::MAX }, [(0, 0), (5, 0), (5, 0)]),
        (CutLimits { batches: 6, ..CutLimits::MAX }, [(5, 1), (5, 2), (5, 0)]),
        (CutLimits { entries: 4, ..CutLimits::MAX }, [(5, 0), (5, 1), (5, 0)]),
        (CutLimits { bytes: 4 * bytes - 1, ..CutLimits::MAX }, [(5, 0), (5, 0), (5, 0)]),
        (CutLimits { bytes: 4 * bytes, ..CutLimits::MAX }, [(5, 0), (5, 1), (5, 0)]),
        (CutLimits { bytes: 0, ..CutLimits::MAX }, [(0, 0), (0, 0), (0, 0)]),
    ];
    for (limits, expected) in cases {
        // Parents of first batches are zeros, but 32 bytes as all others: batches of one size.
        assert_eq!(reached(&build_cut(&net.state, &lanes, all, limits)), expected, "{limits:?}");
    }
}

#[test]
fn what_no_quorum_stores_shares_a_room_of_its_own() {
    let net = Net::new(2);
    let lanes = lanes(&net, &[net.run(0, 5, (0, 9), NONE), net.run(1, 5, (0, 9), NONE)]);
    let bytes = lanes[&net.keys[0].address()].iter().next().unwrap().raw().len();
    let stored = |lane: &Lane| if lane.decided().owner == net.keys[0].address() { 4 } else { 0 };
    let cases = [
        // Height 1 begins with lane 1.
        (0, [(5, 3), (0, 0)]),
        (bytes, [(5, 3), (5, 0)]),
        (2 * bytes, [(5, 3), (5, 1)]),
        (8 * bytes, [(5, 5), (5, 5)]),
        (usize::MAX, [(5, 9), (5, 9)]),
    ];
    for (fresh_bytes, expected) in cases {
        let limits = CutLimits { fresh_bytes, ..CutLimits::MAX };
        assert_eq!(reached(&build_cut(&net.state, &lanes, stored, limits)), expected);
    }
}

#[test]
fn quorum_reaches_as_far_as_its_third_of_four_words() {
    let net = Net::new(4);
    let run = net.run(0, 5, (0, 9), NONE);
    let other = net.run(0, 6, (0, 9), NONE);
    let lane = &lanes(&net, &[run.clone(), vec![], vec![], vec![]])[&net.keys[0].address()];
    let set = &net.state.committed.validators;
    let cases: [([Option<&CheckedBatch>; 4], usize); 5] = [
        ([Some(&run[9]), Some(&run[3]), Some(&run[6]), Some(&run[9])], 7),
        ([Some(&run[9]), None, Some(&run[6]), Some(&run[9])], 7),
        ([Some(&run[9]), None, None, Some(&run[9])], 0),
        ([Some(&run[9]), Some(&other[9]), Some(&run[6]), Some(&other[9])], 0),
        ([Some(&run[9]), Some(&run[9]), Some(&run[9]), None], 10),
    ];
    for (words, expected) in cases {
        let said = |who| {
            let place = net.keys.iter().position(|key| key.address() == who).unwrap();
            words[place].map(acknowledged)
        };
        assert_eq!(quorum_reach(lane, set, said), expected);
    }
}

#[test]
fn cut_keeps_to_the_protocols_bounds_whatever_it_is_asked_for() {
    let net = Net::new(2);
    let count = CUT_BATCHES_MAX as u64;
    let runs = [net.run(0, 5, (0, count), NONE), net.run(1, 5, (0, 3), NONE)];
    let no_limit = usize::MAX;
    let limits =
        CutLimits { batches: no_limit, entries: no_limit, bytes: no_limit, fresh_bytes: no_limit };
    let cut = build_cut(&net.state, &lanes(&net, &runs), all, limits);
    assert_eq!(reached(&cut), [(5, count - 5), (5, 3)]);
    assert!(cut.steps(&net.state.committed.lanes).is_ok());
}

#[test]
fn lane_whose_view_is_not_the_states_stays() {
    let mut net = Net::new(2);
    let runs = [net.run(0, 5, (0, 3), NONE), net.run(1, 5, (0, 3), NONE)];
    let lanes = lanes(&net, &runs);
    net.state.committed.lanes[0] = position_of(&runs[0][1]);
    let cut = build_cut(&net.state, &lanes, all, CutLimits::MAX);
    assert_eq!(reached(&cut), [(5, 1), (5, 3)]);
    assert_eq!(
        build_cut(&net.state, &BTreeMap::new(), all, CutLimits::MAX).lanes,
        net.state.committed.lanes
    );
}

#[test]
fn book_keeps_each_validators_highest_word() {
    let net = Net::new(2);
    let (owner, voter) = (net.keys[0].address(), net.keys[1].address());
    let (run, next) = (net.run(0, 5, (0, 2), NONE), net.run(0, 6, (0, 0), NONE));
    let (set, mut book) = (&net.state.committed.validators, AckBook::default());
    let note =
        |book: &mut AckBook, batch: &CheckedBatch| book.note(set, voter, &[acknowledged(batch)]);
    assert!(note(&mut book, &run[1]));
    assert!(!note(&mut book, &run[1]) && !note(&mut book, &run[0]));
    assert!(note(&mut book, &run[2]) && note(&mut book, &next[0]) && !note(&mut book, &run[2]));
    assert_eq!(book.last(owner, voter), Some(&acknowledged(&next[0])));
    assert_eq!(book.last(owner, owner), None);
    let twin = net.batch(0, (6, 0), NONE, vec![tx(A, 9, 10)]);
    assert!(!note(&mut book, &twin), "the first word at a position stays");
}

#[test]
fn words_of_strangers_and_on_strangers_lanes_are_passed_over() {
    let (net, wide) = (Net::new(2), Net::new(4));
    let members: Vec<_> = net.keys.iter().map(|key| key.address()).collect();
    let stranger = wide.keys.iter().position(|key| !members.contains(&key.address())).unwrap();
    let (set, mut book) = (&net.state.committed.validators, AckBook::default());
    let own = acknowledged(&net.run(0, 5, (0, 0), NONE)[0]);
    let strange = acknowledged(&wide.run(stranger, 5, (0, 0), NONE)[0]);
    assert!(!book.note(set, wide.keys[stranger].address(), &[own]));
    assert!(!book.note(set, members[0], &[strange]));
    assert!(book.note(set, members[0], &[strange, own]));
    assert_eq!(book, {
        let mut book = AckBook::default();
        book.note(set, members[0], &[own]);
        book
    });
}

#[test]
fn batch_is_acknowledged_by_words_on_it_and_on_what_links_to_it() {
    let net = Net::new(4);
    let run = net.run(0, 5, (0, 3), NONE);
    let fork = net.batch(0, (5, 2), run[1].digest(), vec![tx(A, 77, 10)]);
    let unknown = net.batch(0, (5, 4), run[3].digest(), vec![tx(A, 78, 10)]);
    let voters: Vec<_> = net.keys.iter().map(|key| key.address()).collect();
    let lane = lane(&net, &run);
    let (set, mut book) = (&net.state.committed.validators, AckBook::default());
    for (voter, word) in voters.iter().zip([&run[3], &run[1], &fork, &unknown]) {
        book.note(set, *voter, &[acknowledged(word)]);
    }
    let by = |batch: &CheckedBatch| book.acknowledged_by(set, &acknowledged(batch), &lane);
    let of = |validators: &[Address]| Acknowledgers {
        validators: validators.to_vec(),
        power: validators.len() as u64,
    };
    // The fork and the unknown batch do not show that they stand on `run[1]`: the view does not hold them.
    assert_eq!(by(&run[1]), of(&voters[..2]));
    assert_eq!(by(&run[2]), of(&voters[..1]));
    assert_eq!(by(&run[3]), of(&voters[..1]));
    assert_eq!(by(&fork), of(&voters[2..3]));
    assert_eq!(by(&unknown), of(&voters[3..]));
    let other = net.run(0, 6, (0, 0), NONE);
    assert_eq!(by(&other[0]), Acknowledgers::default());
}
