//! The rules of assembly, one by one, and properties over random cuts.

use super::fixtures::*;
use super::*;
use crate::batch::CheckedBatch;
use crate::bundle::{Bundle, Guarantee, Leg};
use crate::dedup::Decision;
use crate::entry::{Body, Entry};
use crate::limits::*;
use crate::params::{ChainKind, NetworkParams};
use crate::slice::{Content, slices_root};
use crate::types::*;

mod properties;
mod verify;

fn over(chain: ChainId) -> Option<LeaveOut> {
    Some(LeaveOut::OverBudget { chain })
}

fn duplicate(height: u64, index: u32) -> Option<LeaveOut> {
    Some(LeaveOut::Duplicate { earlier: Decision { height: Height(height), index } })
}

/// One lane, one entry, full buckets, the first block.
fn reason_of(net: &Net, entry: &Entry, timestamp: UnixMillis) -> Option<LeaveOut> {
    net.assemble(&[vec![entry.clone()]], timestamp).reasons(0)[0]
}

#[test]
fn entry_lives_from_the_window_before_its_expiry_until_just_before_it() {
    let (net, timestamp) = (Net::new(1), FIRST);
    let cases = [
        (timestamp.0 - 1, Some(true)),
        (timestamp.0, Some(true)),
        (timestamp.0 + 1, None),
        (timestamp.0 + EXPIRES_MS_MAX, None),
        (timestamp.0 + EXPIRES_MS_MAX + 1, Some(false)),
    ];
    for (expires, is_expired) in cases {
        let expires = UnixMillis(expires);
        let expected = is_expired.map(|is_expired| match is_expired {
            true => LeaveOut::Expired { expires, timestamp },
            false => LeaveOut::ExpiresTooLate { expires, timestamp },
        });
        let entry = expiring(&tx(A, 1, 10), expires);
        assert_eq!(reason_of(&net, &entry, timestamp), expected, "expires {expires}");
    }
}

#[test]
fn registry_leaves_out_what_it_does_not_know() {
    let net = Net::new(1);
    let legs = |b: Leg| vec![leg(A, &[opaque(1, 10)]), b];
    let evm_leg = |chain, bytes| Leg { chain, kind: ChainKind::Evm, transactions: vec![bytes] };
    let cases = [
        (tx(UNKNOWN, 1, 10), Some(LeaveOut::UnknownChain { chain: UNKNOWN })),
        (tx(EVM, 1, 10), Some(LeaveOut::Kind { chain: EVM })),
        (loose(A, ChainKind::Evm, evm(A, 0, 21_000)), Some(LeaveOut::Kind { chain: A })),
        (loose(EVM, ChainKind::Evm, evm(EVM, 0, 21_000)), None),
        (
            bundle(legs(leg(UNKNOWN, &[opaque(2, 10)]))),
            Some(LeaveOut::UnknownChain { chain: UNKNOWN }),
        ),
        (bundle(legs(leg(EVM, &[opaque(2, 10)]))), Some(LeaveOut::Kind { chain: EVM })),
        (bundle(legs(evm_leg(B, evm(B, 0, 1)))), Some(LeaveOut::Kind { chain: B })),
        (bundle(legs(evm_leg(EVM, evm(EVM, 0, 1)))), None),
        (record(&net, UNKNOWN, 1, &sequencer()), Some(LeaveOut::UnknownChain { chain: UNKNOWN })),
        (record(&net, A, 1, &key(1)), Some(LeaveOut::NotSequencer { chain: A })),
        (record(&net, A, 1, &sequencer()), None),
    ];
    for (place, (entry, expected)) in cases.into_iter().enumerate() {
        assert_eq!(reason_of(&net, &entry, FIRST), expected, "case {place}");
    }
}

#[test]
fn co_executed_bundle_is_left_out_for_good() {
    let legs = vec![leg(A, &[opaque(1, 10)]), leg(B, &[opaque(2, 10)])];
    let entry = entry(Body::Bundle(Bundle::new(legs, Guarantee::CoExecuted).unwrap()));
    let reason = reason_of(&Net::new(1), &entry, FIRST);
    assert_eq!(reason, Some(LeaveOut::UnsupportedGuarantee));
}

#[test]
fn only_budget_and_record_cap_are_not_final() {
    let (chain, expires, timestamp) = (A, START, FIRST);
    let earlier = Decision { height: Height(1), index: 0 };
    let cases = [
        (LeaveOut::Expired { expires, timestamp }, true),
        (LeaveOut::ExpiresTooLate { expires, timestamp }, true),
        (LeaveOut::UnknownChain { chain }, true),
        (LeaveOut::Kind { chain }, true),
        (LeaveOut::UnsupportedGuarantee, true),
        (LeaveOut::NotSequencer { chain }, true),
        (LeaveOut::TransactionGas { chain, got: 2, max: 1 }, true),
        (LeaveOut::TooLarge { chain }, true),
        (LeaveOut::Duplicate { earlier }, true),
        (LeaveOut::OverBudget { chain }, false),
        (LeaveOut::RecordCap { chain }, false),
    ];
    for (reason, is_final) in cases {
        assert_eq!(reason.is_final(), is_final, "{reason}");
    }
}

#[test]
fn walk_begins_with_the_lane_of_the_height_and_takes_one_entry_of_each_in_turn() {
    let mut net = Net::new(3);
    // Lanes of 3, 1 and 2 entries; indices by lane.
    let expected = [
        [vec![2, 4, 5], vec![0], vec![1, 3]],
        [vec![1, 4, 5], vec![2], vec![0, 3]],
        [vec![0, 3, 5], vec![1], vec![2, 4]],
        [vec![2, 4, 5], vec![0], vec![1, 3]],
    ];
    for (round, expected) in (0..).zip(expected) {
        let list = |lane: u32, count: u32| -> Vec<_> {
            (0..count).map(|n| tx(A, round * 100 + lane * 10 + n, 10)).collect()
        };
        let lanes = [list(0, 3), list(1, 1), list(2, 2)];
        let timestamp = UnixMillis(FIRST.0 + u64::from(round));
        let outcome = net.assemble(&lanes, timestamp);
        let got: Vec<Vec<u32>> =
            outcome.entries.iter().map(|lane| lane.iter().map(|e| e.unwrap()).collect()).collect();
        assert_eq!(got, expected, "height {}", net.state.height.next());
        let places: Vec<u32> = outcome.assembly.taken.iter().map(|taken| taken.index).collect();
        assert_eq!(places, [0, 1, 2, 3, 4, 5]);
        net.decide_entries(&lanes, timestamp);
    }
}

#[test]
fn lane_that_does_not_move_counts_for_the_rotation_and_the_shares() {
    let net = Net::new(3).with_bucket(A, 0, 30);
    let lanes = [vec![tx(A, 1, 10), tx(A, 2, 10)], vec![], vec![tx(A, 3, 10)]];
    let outcome = net.assemble(&lanes, FIRST);
    assert_eq!(outcome.entries, [vec![Ok(1), Ok(2)], vec![], vec![Ok(0)]]);
}

#[test]
fn lane_is_sure_of_its_share_and_may_use_what_others_leave() {
    let net = Net::new(2).with_bucket(A, 0, 41);
    // Height 1 begins with lane 1. Share 20 each.
    let flood: Vec<_> = (0..6).map(|n| tx(A, n, 10)).collect();
    let outcome = net.assemble(&[vec![tx(A, 100, 10), tx(A, 101, 10)], flood.clone()], FIRST);
    assert_eq!(outcome.are_taken(0), [true, true]);
    assert_eq!(outcome.are_taken(1), [true, true, false, false, false, false]);
    assert_eq!(outcome.reasons(1)[2], over(A));
    let outcome = net.assemble(&[vec![tx(A, 100, 10)], flood], FIRST);
    assert_eq!(outcome.are_taken(0), [true]);
    assert_eq!(outcome.are_taken(1), [true, true, true, false, false, false]);
    assert_eq!(outcome.assembly.committed.chain(A).unwrap().bytes, 1);
    // Taken in the second pass, but numbered in the order of the walk.
    assert_eq!(outcome.entries[1][..3], [Ok(0), Ok(2), Ok(3)]);
}

#[test]
fn gas_is_a_budget_like_bytes() {
    let net = Net::new(1).with_bucket(EVM, 50_000, 10_000);
    let list = [30_000, 20_000, 21_000].map(|gas| loose(EVM, ChainKind::Evm, evm(EVM, gas, gas)));
    let outcome = net.assemble(&[list.to_vec()], FIRST);
    assert_eq!(outcome.reasons(0), [None, None, over(EVM)]);
    assert_eq!(outcome.assembly.committed.chain(EVM).unwrap().gas, 21);
}

#[test]
fn what_does_not_fit_makes_its_lanes_later_entries_of_that_chain_wait() {
    let net = Net::new(2).with_bucket(A, 0, 30);
    let lane = vec![tx(A, 1, 21), tx(A, 2, 10), tx(B, 3, 10)];
    let outcome = net.assemble(&[lane, vec![tx(A, 4, 10)]], FIRST);
    assert_eq!(outcome.reasons(0), [over(A), over(A), None]);
    assert_eq!(outcome.reasons(1), [None]);
}

#[test]
fn what_asks_more_than_the_bucket_has_makes_nothing_wait() {
    let net = Net::new(2).with_bucket(A, 0, 30).with_bucket(EVM, 50_000, 10_000);
    let lane = vec![tx(A, 1, 31), tx(A, 2, 10), tx(B, 3, 10)];
    let outcome = net.assemble(&[lane, vec![tx(A, 4, 10)]], FIRST);
    assert_eq!(outcome.reasons(0), [over(A), None, None]);
    let gas = [50_022, 30_000].map(|gas| loose(EVM, ChainKind::Evm, evm(EVM, gas, gas)));
    let outcome = net.assemble(&[gas.to_vec(), vec![]], FIRST);
    assert_eq!(outcome.reasons(0), [over(EVM), None]);
    // One second of log time later the bucket has it.
    let lane = vec![tx(A, 1, 31), tx(A, 2, 10)];
    let outcome = net.assemble(&[lane, vec![]], UnixMillis(START.0 + 1_000));
    assert_eq!(outcome.reasons(0), [None, over(A)]);
}

#[test]
fn open_entries_wait_for_open_ones_and_admitted_for_admitted() {
    let net = Net::new(1).with_bucket(GATED, 0, 100);
    let other = |n, size| admitted(&net, &tx(GATED, n, size));
    // The open share is 10.
    let lane = vec![
        tx(GATED, 1, 6),
        tx(GATED, 2, 6),
        tx(GATED, 3, 4),
        other(4, 60),
        other(5, 60),
        other(6, 20),
    ];
    let outcome = net.assemble(&[lane], FIRST);
    let (taken, over) = (None, over(GATED));
    assert_eq!(outcome.reasons(0), [taken, over, over, taken, over, over]);
    // Behind an admitted one that waits, an open one goes.
    let lane = vec![other(1, 60), other(2, 60), tx(GATED, 3, 6)];
    assert_eq!(net.assemble(&[lane], FIRST).reasons(0), [taken, over, taken]);
}

#[test]
fn bundle_blocks_only_the_chain_where_it_did_not_fit() {
    let net = Net::new(1).with_bucket(A, 0, 25);
    let big = bundle(vec![leg(A, &[opaque(1, 20)]), leg(B, &[opaque(2, 10)])]);
    let small = bundle(vec![leg(B, &[opaque(3, 10)]), leg(A, &[opaque(4, 10)])]);
    let lane = vec![tx(A, 7, 10), big, tx(A, 5, 10), small, tx(B, 6, 10)];
    let outcome = net.assemble(&[lane], FIRST);
    assert_eq!(outcome.reasons(0), [None, over(A), over(A), over(A), None]);
}

#[test]
fn bundle_that_fits_nowhere_blocks_both_chains_and_charges_none() {
    let net = Net::new(1).with_bucket(A, 0, 25).with_bucket(B, 0, 25);
    let big = bundle(vec![leg(A, &[opaque(1, 20)]), leg(B, &[opaque(2, 20)])]);
    let lane = vec![tx(A, 5, 10), tx(B, 6, 10), big, tx(A, 3, 10), tx(B, 4, 10)];
    let outcome = net.assemble(&[lane], FIRST);
    assert_eq!(outcome.reasons(0), [None, None, over(A), over(A), over(B)]);
    assert_eq!(outcome.assembly.committed.chain(A).unwrap().bytes, 15);
}

#[test]
fn entry_that_no_full_bucket_holds_is_left_out_for_good_and_blocks_nothing() {
    let net = Net::new(1);
    let transactions: Vec<_> = (0..2).map(|n| evm(EVM, n, ENTRY_GAS_MAX / 2 + 1)).collect();
    let huge = bundle(vec![
        leg(A, &[opaque(1, 10)]),
        Leg { chain: EVM, kind: ChainKind::Evm, transactions: transactions.clone() },
    ]);
    let lane = vec![huge, tx(A, 1, 10), loose(EVM, ChainKind::Evm, transactions[0].clone())];
    let outcome = net.assemble(&[lane], FIRST);
    let reasons = [Some(LeaveOut::TooLarge { chain: EVM }), None, None];
    assert_eq!(outcome.reasons(0), reasons);
}

#[test]
fn entries_without_gateway_use_the_open_share_of_a_gated_chain() {
    let net = Net::new(2).with_bucket(GATED, 0, 1_000);
    // Height 1 begins with lane 1. The open share is 100, 50 for each lane; a lane's share is 500.
    let open: Vec<_> = (0..3).map(|n| tx(GATED, n, 40)).collect();
    let outcome = net.assemble(&[open.clone(), vec![]], FIRST);
    assert_eq!(outcome.reasons(0), [None, None, over(GATED)]);
    let admitted: Vec<_> = open.iter().map(|entry| admitted(&net, entry)).collect();
    let outcome = net.assemble(&[admitted.clone(), vec![]], FIRST);
    assert_eq!(outcome.reasons(0), [None, None, None]);
    let others: Vec<_> = (10..13).map(|n| tx(GATED, n, 40)).collect();
    let outcome = net.assemble(&[open, others.clone()], FIRST);
    assert_eq!((outcome.are_taken(0)[0], outcome.are_taken(1)[0]), (true, true));
    assert_eq!(outcome.assembly.taken.len(), 2);
    let outcome = net.assemble(&[admitted, others], FIRST);
    assert_eq!(outcome.reasons(0), [None, None, None]);
    assert_eq!(outcome.reasons(1), [None, None, over(GATED)]);
}

#[test]
fn signature_of_somebody_else_admits_nothing() {
    let net = Net::new(1).with_bucket(GATED, 0, 100);
    let strange = tx(GATED, 1, 20).admitted_by(net.state.network_id, &key(77)).unwrap();
    assert_eq!(reason_of(&net, &strange, FIRST), over(GATED));
    assert_eq!(reason_of(&net, &admitted(&net, &strange), FIRST), None);
}

#[test]
fn bundle_without_gateway_uses_the_open_share_only_where_the_chain_is_gated() {
    let net = Net::new(1).with_bucket(GATED, 0, 100).with_bucket(A, 0, 100);
    let of = |size| bundle(vec![leg(A, &[opaque(1, 100)]), leg(GATED, &[opaque(2, size)])]);
    assert_eq!(reason_of(&net, &of(10), FIRST), None);
    assert_eq!(reason_of(&net, &of(11), FIRST), over(GATED));
    assert_eq!(reason_of(&net, &admitted(&net, &of(100)), FIRST), None);
}

#[test]
fn what_the_window_knows_is_a_duplicate_inside_bundles_too() {
    let mut net = Net::new(2);
    let sealed = record(&net, B, 1, &sequencer());
    let pair = bundle(vec![leg(A, &[opaque(2, 10)]), leg(B, &[opaque(3, 10)])]);
    net.decide_entries(&[vec![tx(A, 1, 10), sealed.clone()], vec![pair.clone()]], FIRST);
    // Lane 1 went first: the bundle has index 0.
    let later = UnixMillis(FIRST.0 + 5);
    let longer = |entry: &Entry| expiring(entry, UnixMillis(EXPIRES.0 + 7));
    let cases = [
        (longer(&tx(A, 1, 10)), duplicate(1, 1)),
        (tx(B, 1, 10), None),
        (longer(&sealed), duplicate(1, 2)),
        (record(&net, A, 1, &sequencer()), None),
        (longer(&pair), duplicate(1, 0)),
        (tx(B, 3, 10), duplicate(1, 0)),
        (
            bundle(vec![leg(A, &[opaque(9, 10)]), leg(B, &[opaque(8, 10), opaque(3, 10)])]),
            duplicate(1, 0),
        ),
    ];
    for (place, (entry, expected)) in cases.into_iter().enumerate() {
        assert_eq!(reason_of(&net, &entry, later), expected, "case {place}");
    }
    let after = UnixMillis(FIRST.0 + EXPIRES_MS_MAX);
    let again = expiring(&tx(A, 1, 10), UnixMillis(after.0 + 1));
    assert_eq!(reason_of(&net, &again, UnixMillis(after.0 - 1)), duplicate(1, 1));
    assert_eq!(reason_of(&net, &again, after), None);
}

#[test]
fn of_equal_transactions_and_records_the_first_in_the_walk_is_taken() {
    let net = Net::new(2);
    let (a, r) = (tx(A, 1, 10), record(&net, A, 1, &sequencer()));
    let other = expiring(&a, UnixMillis(EXPIRES.0 + 1));
    let outcome = net.assemble(&[vec![a.clone(), r.clone()], vec![other, r, a]], FIRST);
    assert_eq!(outcome.reasons(1), [None, None, duplicate(1, 0)]);
    assert_eq!(outcome.reasons(0), [duplicate(1, 0), duplicate(1, 1)]);
}

#[test]
fn twin_takes_the_place_of_one_that_does_not_fit() {
    let net = Net::new(2).with_bucket(A, 0, 30);
    // Lane 1 begins, but its first entry blocks the chain for the twin behind it.
    let lanes = [vec![tx(B, 9, 10), tx(A, 2, 10)], vec![tx(A, 1, 25), tx(A, 2, 10)]];
    let outcome = net.assemble(&lanes, FIRST);
    assert_eq!(outcome.reasons(0), [None, None]);
    assert_eq!(outcome.reasons(1), [over(A), duplicate(1, 1)]);
}

#[test]
fn loose_transaction_gives_way_to_a_bundle_that_holds_it() {
    let net = Net::new(2);
    let pair = bundle(vec![leg(A, &[opaque(1, 10)]), leg(B, &[opaque(2, 10)])]);
    let lanes = [vec![pair], vec![tx(A, 1, 10), tx(A, 3, 10)]];
    let outcome = net.assemble(&lanes, FIRST);
    assert_eq!(outcome.reasons(0), [None]);
    assert_eq!(outcome.reasons(1), [duplicate(1, 0), None]);
}

#[test]
fn loose_transaction_is_taken_where_its_bundle_has_no_room() {
    let net = Net::new(2).with_bucket(B, 0, 5);
    let pair = bundle(vec![leg(A, &[opaque(1, 10)]), leg(B, &[opaque(2, 10)])]);
    let lanes = [vec![pair], vec![tx(A, 1, 10), tx(A, 3, 10)]];
    let outcome = net.assemble(&lanes, FIRST);
    // Else anybody could keep a transaction out, block after block, by a bundle that never fits.
    assert_eq!(outcome.reasons(0), [duplicate(1, 0)]);
    assert_eq!(outcome.reasons(1), [None, None]);
}

#[test]
fn bundle_behind_its_own_loose_transaction_is_taken() {
    let net = Net::new(2);
    let first = bundle(vec![leg(A, &[opaque(1, 10)]), leg(B, &[opaque(2, 10)])]);
    let second = bundle(vec![leg(A, &[opaque(3, 10)]), leg(B, &[opaque(4, 10)])]);
    // Each lane's loose transaction is in the other lane's bundle, too.
    let lanes = [vec![tx(A, 1, 10), second], vec![tx(A, 3, 10), first]];
    let outcome = net.assemble(&lanes, FIRST);
    assert_eq!(outcome.reasons(0), [duplicate(1, 0), None]);
    assert_eq!(outcome.reasons(1), [duplicate(1, 1), None]);
}

#[test]
fn loose_transaction_does_not_give_way_to_a_bundle_that_is_left_out() {
    let mut net = Net::new(2);
    net.decide_entries(&[vec![tx(B, 99, 10)]], FIRST);
    let timestamp = UnixMillis(FIRST.0 + 1);
    let of = |other: Leg| bundle(vec![leg(A, &[opaque(1, 10)]), other]);
    let unsupported = {
        let legs = vec![leg(A, &[opaque(1, 10)]), leg(B, &[opaque(2, 10)])];
        entry(Body::Bundle(Bundle::new(legs, Guarantee::CoExecuted).unwrap()))
    };
    let ineligible = [
        of(leg(B, &[opaque(99, 10)])),
        of(leg(UNKNOWN, &[opaque(2, 10)])),
        of(leg(EVM, &[opaque(2, 10)])),
        expiring(&of(leg(B, &[opaque(2, 10)])), timestamp),
        expiring(&of(leg(B, &[opaque(2, 10)])), UnixMillis(timestamp.0 + EXPIRES_MS_MAX + 1)),
        unsupported,
    ];
    for (place, pair) in ineligible.into_iter().enumerate() {
        let outcome = net.assemble(&[vec![pair], vec![tx(A, 1, 10)]], timestamp);
        assert_eq!(outcome.are_taken(0), [false], "case {place}");
        assert_eq!(outcome.are_taken(1), [true], "case {place}");
    }
}

#[test]
fn of_two_bundles_with_a_common_transaction_the_first_in_the_walk_wins() {
    let net = Net::new(3);
    let pair = |a, b| bundle(vec![leg(A, &[opaque(a, 10)]), leg(B, &[opaque(b, 10)])]);
    // Walk: lane 1 (claims 1, 2), lane 2 (yields), lane 0 (shares 4 with the one that yields: claims).
    let outcome = net.assemble(&[vec![pair(3, 4)], vec![pair(1, 2)], vec![pair(1, 4)]], FIRST);
    assert_eq!(outcome.entries[1], [Ok(0)]);
    assert_eq!(outcome.entries[0], [Ok(1)]);
    assert_eq!(outcome.reasons(2), [duplicate(1, 0)]);
}

#[test]
fn bundle_that_yields_is_taken_where_the_claimant_has_no_room() {
    let net = Net::new(2).with_bucket(B, 0, 15);
    let claimant = bundle(vec![leg(A, &[opaque(1, 10)]), leg(B, &[opaque(2, 20)])]);
    let other = bundle(vec![leg(A, &[opaque(1, 10)]), leg(B, &[opaque(3, 10)])]);
    let outcome = net.assemble(&[vec![other, tx(B, 5, 10)], vec![claimant]], FIRST);
    assert_eq!(outcome.reasons(1), [duplicate(1, 0)]);
    assert_eq!(outcome.reasons(0), [None, over(B)]);
}

#[test]
fn records_have_a_cap_of_their_own_outside_the_budget() {
    let net = Net::new(1).with_bucket(A, 0, 0);
    let mut lane = vec![tx(A, 1, 10)];
    let count = u64::try_from(RECORDS_PER_CHAIN_MAX).unwrap();
    lane.extend((0..=count).map(|n| record(&net, A, n, &sequencer())));
    lane.push(record(&net, B, 0, &sequencer()));
    let outcome = net.assemble(&[lane], FIRST);
    let mut expected = vec![None; RECORDS_PER_CHAIN_MAX + 3];
    expected[0] = over(A);
    expected[RECORDS_PER_CHAIN_MAX + 1] = Some(LeaveOut::RecordCap { chain: A });
    assert_eq!(outcome.reasons(0), expected);
    assert_eq!(outcome.assembly.committed.chain(A).unwrap().bytes, 0);
}

#[test]
fn slices_hold_what_was_taken_with_its_index() {
    let net = Net::new(1);
    let pair = bundle(vec![leg(B, &[opaque(2, 10)]), leg(A, &[opaque(3, 10), opaque(4, 10)])]);
    let rec = record(&net, A, 1, &sequencer());
    let outcome = net.assemble(&[vec![tx(A, 1, 10), pair.clone(), rec.clone()]], FIRST);
    let assembly = &outcome.assembly;
    let [a, b] = &assembly.slices[..] else { panic!("two slices") };
    assert_eq!((a.chain, b.chain), (A, B));
    assert_eq!(a.items.iter().map(|item| item.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(a.items[0].content, Content::Transaction { bytes: opaque(1, 10) });
    let of_leg = |leg, transactions| Content::Leg {
        bundle: pair.id(),
        leg,
        legs: 2,
        guarantee: Guarantee::CoOrdered,
        transactions,
    };
    assert_eq!(a.items[1].content, of_leg(1, vec![opaque(3, 10), opaque(4, 10)]));
    assert_eq!((b.items[0].index, &b.items[0].content), (1, &of_leg(0, vec![opaque(2, 10)])));
    let Body::Record(expected) = rec.body() else { panic!("a record") };
    assert_eq!(a.items[2].content, Content::Record(expected.clone()));
    assert_eq!(assembly.summaries, [a.summary(), b.summary()]);
    assert_eq!(assembly.slices_root, slices_root(&assembly.summaries));
    let keys: Vec<_> = assembly.keys.iter().map(|(key, index)| (key.chain, *index)).collect();
    assert_eq!(keys, [(A, 0), (B, 1), (A, 1), (A, 1), (A, 2)]);
}

#[test]
fn buckets_are_refilled_by_the_elapsed_log_time_before_they_are_spent() {
    let net = Net::new(1).with_bucket(A, 0, 0).with_bucket(B, 0, 5);
    let lane = vec![tx(A, 1, 10)];
    let early = net.assemble(std::slice::from_ref(&lane), UnixMillis(START.0 + 9_999));
    assert_eq!(early.reasons(0), [over(A)]);
    let outcome = net.assemble(&[lane], UnixMillis(START.0 + 11_999));
    assert_eq!(outcome.reasons(0), [None]);
    let committed = &outcome.assembly.committed;
    assert_eq!(committed.chain(A).unwrap().bytes, 1);
    assert_eq!(committed.chain(B).unwrap().bytes, 16);
    assert_eq!(committed.chain(GATED).unwrap().bytes, ENTRY_BYTES_MAX as u64);
}

#[test]
fn idle_block_takes_nothing_and_moves_nothing() {
    let net = Net::new(2);
    let outcome = net.assemble(&[vec![], vec![]], FIRST);
    let assembly = &outcome.assembly;
    assert!(
        assembly.taken.is_empty() && assembly.left_out.is_empty() && assembly.slices.is_empty()
    );
    assert_eq!(assembly.slices_root, slices_root(&[]));
    assert_eq!(assembly.committed, net.state.committed);
}

#[test]
fn sets_move_up_by_one_height() {
    let mut net = Net::new(2);
    let changed = validators(&keys(3));
    net.state.committed.next_validators = changed.clone();
    let committed = net.assemble(&[vec![]], FIRST).assembly.committed;
    assert_eq!((&committed.validators, &committed.next_validators), (&changed, &changed));
    assert_eq!(committed.set_since, Height(2));
}

#[test]
fn lanes_move_to_the_cut() {
    let mut net = Net::new(2);
    let (cut, batches) = net.cut(&[vec![], vec![vec![tx(A, 1, 10)], vec![tx(A, 2, 10)]]]);
    let (header, assembly) = net.decide(FIRST, &cut, &batches);
    assert_eq!(net.state.committed.lanes, cut.lanes);
    assert_eq!(net.state.committed, assembly.committed);
    let state = (net.state.height, net.state.head, net.state.timestamp);
    assert_eq!(state, (Height(1), header.hash(), FIRST));
    // Over the borders of batches, entries keep their batch and place.
    let places: Vec<_> = assembly.taken.iter().map(|t| (t.batch.sequence.0, t.entry)).collect();
    assert_eq!(places, [(0, 0), (1, 0)]);
}

#[test]
fn batches_must_be_those_of_the_cut() {
    let net = Net::new(2);
    let one = |n| vec![vec![tx(A, n, 10)]];
    let (cut, batches) = net.cut(&[one(1), vec![vec![tx(A, 2, 10)], vec![tx(A, 3, 10)]]]);
    let [a, b, c] = &batches[..] else { panic!("three batches") };
    let fails = |batches: &[CheckedBatch]| net.try_assemble(FIRST, &cut, batches).unwrap_err();
    let count = |got| CannotAssemble::Count { expected: 3, got };
    assert_eq!(fails(&[]), count(0));
    assert_eq!(fails(&[a.clone(), b.clone()]), count(2));
    assert_eq!(fails(&[a.clone(), b.clone(), c.clone(), c.clone()]), count(4));
    let wrong = |place: &CheckedBatch, got: &CheckedBatch| CannotAssemble::Batch {
        position: place.position(),
        expected: place.digest(),
        got: got.digest(),
    };
    assert_eq!(fails(&[a.clone(), c.clone(), b.clone()]), wrong(c, b));
    assert_eq!(fails(&[b.clone(), b.clone(), c.clone()]), wrong(a, b));
    let twin = net.batch(1, (1, 0), BatchDigest::ZERO, vec![tx(A, 7, 10)]);
    assert_eq!(fails(&[a.clone(), twin.clone(), c.clone()]), wrong(b, &twin));
    for error in [count(2), wrong(b, &twin)] {
        assert!(!error.is_objective());
    }
    assert!(net.try_assemble(FIRST, &cut, &batches).is_ok());
}

#[test]
fn chain_of_the_cut_must_begin_at_the_decided_batch() {
    let mut net = Net::new(1);
    let (cut, batches) = net.cut(&[vec![vec![tx(A, 1, 10)]]]);
    net.decide(FIRST, &cut, &batches);
    let forked = net.batch(
        0,
        (1, 1),
        BatchDigest(alloy_primitives::B256::repeat_byte(1)),
        vec![tx(A, 2, 10)],
    );
    let fails = |cut: &Cut, batches: &[CheckedBatch]| {
        let error = net.try_assemble(UnixMillis(FIRST.0 + 1), cut, batches).unwrap_err();
        assert!(error.is_objective());
        error
    };
    let to = |batch| Cut { lanes: vec![position_of(batch)] };
    let expected = CannotAssemble::Parent {
        owner: net.keys[0].address(),
        expected: cut.lanes[0].digest,
        got: forked.header().parent,
    };
    assert_eq!(fails(&to(&forked), std::slice::from_ref(&forked)), expected);
    // A batch whose parent stands elsewhere than right before it.
    let (first, third) = {
        let first = net.batch(0, (2, 0), BatchDigest::ZERO, vec![tx(A, 2, 10)]);
        let third = net.batch(0, (2, 2), first.digest(), vec![tx(A, 3, 10)]);
        (first, third)
    };
    let gap = [first.clone(), first.clone(), third.clone()];
    let expected = CannotAssemble::Position {
        expected: BatchPosition { sequence: Sequence(1), ..first.position() },
        got: first.position(),
    };
    assert_eq!(fails(&to(&third), &gap), expected);
    let back = Cut { lanes: vec![LanePositionStart::of(&net)] };
    assert!(matches!(fails(&back, &[]), CannotAssemble::Cut(InvalidCut::NoDigest { .. })));
}

/// The start of lane 0, which is behind any decided position.
struct LanePositionStart;

impl LanePositionStart {
    fn of(net: &Net) -> crate::cut::LanePosition {
        crate::cut::LanePosition::start(net.keys[0].address())
    }
}

#[test]
fn cut_over_its_limits_is_refused_just_above_them() {
    let net = Net::new(1);
    let full = |count: usize, from: usize, size: usize| -> Vec<_> {
        (from..from + count).map(|n| tx(A, u32::try_from(n).unwrap(), size)).collect()
    };
    let mut lists: Vec<_> = (0..4).map(|b| full(4_000, b * 4_000, 5)).collect();
    lists.push(full(4_000, 16_000, 5));
    let (cut, batches) = net.cut(&[lists.clone()]);
    assert_eq!(net.try_assemble(FIRST, &cut, &batches).unwrap().taken.len(), CUT_ENTRIES_MAX);
    lists.push(full(1, 20_000, 5));
    let (cut, batches) = net.cut(&[lists]);
    let count = CUT_ENTRIES_MAX + 1;
    let expected = CannotAssemble::Cut(InvalidCut::Entries { count });
    assert_eq!(net.try_assemble(FIRST, &cut, &batches), Err(expected));

    let big = |n: usize, size| vec![tx(A, u32::try_from(n).unwrap(), size)];
    let most = TRANSACTION_BYTES_MAX;
    let lists: Vec<_> = (0..CUT_BYTES_MAX / most).map(|n| big(n, most)).collect();
    let (cut, batches) = net.cut(&[lists]);
    let count: usize = batches.iter().map(|batch| batch.raw().len()).sum();
    assert!(count > CUT_BYTES_MAX);
    let expected = CannotAssemble::Cut(InvalidCut::Bytes { count });
    assert_eq!(net.try_assemble(FIRST, &cut, &batches), Err(expected));
    // One batch less, and one smaller by just the rest.
    let overhead = batches[0].raw().len() - most;
    let lists: Vec<_> = (0..CUT_BYTES_MAX / most).map(|n| big(n, most - overhead)).collect();
    let (cut, batches) = net.cut(&[lists]);
    let count: usize = batches.iter().map(|batch| batch.raw().len()).sum();
    assert!(count <= CUT_BYTES_MAX && count + 400 > CUT_BYTES_MAX, "{count}");
    assert!(net.try_assemble(FIRST, &cut, &batches).is_ok());
}
