//! What counts as waste, what is forgiven, and that a lane which wasted too much stands still.

use super::*;
use crate::block::InvalidBlock;
use crate::block::fixtures::{A, B, Net, START, UNKNOWN, expiring, tx};
use crate::block::{CannotAssemble, build_header, verify};
use crate::entry::Entry;
use crate::lane::{CutLimits, Lane, build_cut};
use crate::types::{Round, UnixMillis};

fn length(entry: &Entry) -> u64 {
    entry.raw().len() as u64
}

/// Decides batches of lane 0, `elapsed_ms` after the block before; what lanes 0 and 1 wasted by then.
fn decide(net: &mut Net, elapsed_ms: u64, batches: &[Vec<Entry>]) -> (u64, u64) {
    let (cut, batches) = net.cut(&[batches.to_vec(), vec![]]);
    net.decide(net.state.timestamp.plus(elapsed_ms), &cut, &batches);
    (net.state.committed.wasted[0], net.state.committed.wasted[1])
}

/// An entry of the greatest size that no block takes.
fn junk(n: u32) -> Entry {
    tx(UNKNOWN, n, 120 << 10)
}

#[test]
fn what_is_taken_is_no_waste_and_what_is_left_out_is_its_lanes() {
    let mut net = Net::new(2);
    let taken = [tx(A, 1, 100), tx(B, 2, 200)];
    assert_eq!(decide(&mut net, 1, &[taken.to_vec()]), (0, 0));
    let left_out = [tx(UNKNOWN, 3, 1_000), expiring(&tx(A, 4, 500), START)];
    let entries = [left_out[0].clone(), tx(A, 5, 100), left_out[1].clone()];
    let expected = length(&left_out[0]) + length(&left_out[1]);
    assert_eq!(decide(&mut net, 1, &[entries.to_vec()]), (expected, 0));
    let forgiven = forgiven_per_second(&net.state.committed) / 1_000;
    let again = length(&taken[0]);
    let got = decide(&mut net, 1, &[vec![tx(A, 6, 9), taken[0].clone()]]);
    assert_eq!(got, (expected.saturating_sub(forgiven) + again, 0), "a duplicate is waste");
}

#[test]
fn batch_of_which_nothing_is_taken_is_waste_whole() {
    let mut net = Net::new(2);
    let (cut, batches) = net.cut(&[vec![vec![tx(UNKNOWN, 1, 10)], vec![tx(A, 2, 10)]], vec![]]);
    let wasted = batches[0].raw().len() as u64;
    assert!(wasted > length(&tx(UNKNOWN, 1, 10)));
    net.decide(START.plus(1), &cut, &batches);
    assert_eq!(net.state.committed.wasted, [wasted, 0]);
}

#[test]
fn each_lane_is_forgiven_an_equal_share_of_the_budgets_and_a_little() {
    let mut net = Net::new(2);
    for (chain, rate) in net.state.committed.chains.iter_mut().zip([3, 5, 7, 1_000]) {
        chain.params.bytes_per_second = rate;
    }
    let committed = &mut net.state.committed;
    assert_eq!(forgiven_per_second(committed), WASTE_BYTES_PER_SECOND + 507);
    assert_eq!(bound(committed), CUT_BYTES_MAX as u64);
    committed.wasted = vec![100_000, 10_000];
    let owner = committed.lanes[0].owner;
    let after_a_second = after(committed, 1_000, &BTreeMap::from([(owner, 7)]));
    assert_eq!(after_a_second, [100_000 - WASTE_BYTES_PER_SECOND - 507 + 7, 0]);
    assert_eq!(after(committed, u64::MAX, &BTreeMap::new()), [0, 0]);
    committed.chains[0].params.bytes_per_second = 1 << 30;
    assert_eq!(bound(committed), 2 * forgiven_per_second(committed));
}

#[test]
fn lane_that_wasted_too_much_stands_still_until_enough_is_forgiven() {
    let mut net = Net::new(2);
    let (limit, rate) = (bound(&net.state.committed), forgiven_per_second(&net.state.committed));
    let mut n = 0;
    while net.state.committed.wasted[0] < limit {
        let batches: Vec<_> = (n..n + 20).map(|n| vec![junk(n)]).collect();
        decide(&mut net, 1, &batches);
        n += 20;
    }
    let wasted = net.state.committed.wasted[0];
    assert!(wasted < limit + CUT_BYTES_MAX as u64);

    let (cut, batches) = net.cut(&[vec![vec![tx(A, n, 10)]], vec![vec![tx(A, n + 1, 10)]]]);
    let (dedup, state, now) = (&net.dedup, &net.state, net.state.timestamp.plus(1));
    let assembly = net.try_assemble(now, &cut, &batches).unwrap();
    let header = build_header(state, Round(0), now, &cut, &assembly);
    let owner = net.keys[0].address();
    let refused = CannotAssemble::Cut(InvalidCut::Wasted { owner });
    let got = verify(state, dedup, &header, &cut, &batches).map(drop);
    assert_eq!(got, Err(InvalidBlock::Assembly(refused.clone())));
    assert!(refused.is_objective());

    let lanes = batches.iter().map(|batch| {
        let mut lane = Lane::new(
            *state.committed.lanes.iter().find(|l| l.owner == batch.position().owner).unwrap(),
        );
        lane.insert(batch.clone());
        (batch.position().owner, lane)
    });
    let lanes = lanes.collect();
    let proposed = build_cut(state, &lanes, Lane::len, CutLimits::MAX);
    assert_eq!((proposed.lanes[0], proposed.lanes[1]), (state.committed.lanes[0], cut.lanes[1]));

    let enough_ms = (wasted - limit) * 1_000 / rate + 2;
    decide(&mut net, enough_ms, &[]);
    assert!(allowance(&net.state.committed, owner) > 0);
    let (cut, _) = net.cut(&[vec![vec![tx(A, n, 10)]], vec![]]);
    let steps = cut.steps(&net.state.committed.lanes).unwrap();
    assert_eq!(check(&net.state.committed, &steps), Ok(()));
}

#[test]
fn one_owner_adds_no_more_than_the_bound_a_cut_and_what_is_forgiven() {
    let mut net = Net::new(2);
    let (limit, rate) = (bound(&net.state.committed), forgiven_per_second(&net.state.committed));
    let (start, mut added, mut n) = (net.state.timestamp, 0, 0);
    for _ in 0..60 {
        let batches: Vec<_> = (n..n + 30).map(|n| vec![junk(n)]).collect();
        n += 30;
        let (cut, batches) = net.cut(&[batches, vec![]]);
        let steps = cut.steps(&net.state.committed.lanes).unwrap();
        let now: UnixMillis = net.state.timestamp.plus(250);
        if check(&net.state.committed, &steps).is_ok() {
            added += batches.iter().map(|batch| batch.raw().len() as u64).sum::<u64>();
            net.decide(now, &cut, &batches);
        } else {
            let (cut, batches) = net.cut(&[vec![], vec![]]);
            net.decide(now, &cut, &batches);
        }
    }
    let elapsed_ms = net.state.timestamp.since(start);
    assert!(added > rate * elapsed_ms / 1_000, "the owner is as fast as it may be");
    assert!(added <= limit + CUT_BYTES_MAX as u64 + rate * elapsed_ms / 1_000, "{added}");
}

#[test]
fn who_is_no_lane_of_the_state_has_no_allowance() {
    let net = Net::new(2);
    assert_eq!(allowance(&net.state.committed, Address::ZERO), 0);
    assert_eq!(allowance(&net.state.committed, net.keys[0].address()), bound(&net.state.committed));
}
