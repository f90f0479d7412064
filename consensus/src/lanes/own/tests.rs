//! What goes into the next batch, what comes back, and that a lane's order holds whatever the blocks do.

use alloy_primitives::B256;
use lockstep_core::batch::CheckedBatch;
use lockstep_core::entry::Body;
use lockstep_core::entry::Entry;
use lockstep_core::record::{Limits, Record, RecordBody};

use super::*;
use crate::fixtures::{A, B, EXPIRES, GATED, Net, START, bundle, expiring, gateway, key, tx};
use crate::settle::settle;
use crate::tracker::Tracker;

mod order;
mod shares;

/// Fits half of one of two lanes' shares of a full bucket about seven times.
const SMALL: usize = 10_000;
/// Is more than that half.
const BIG: usize = 80_000;

const RUN: Incarnation = Incarnation(5);

/// Lane 0 of two, and the network around it.
struct Node {
    net: Net,
    own: OwnLane,
    /// Batches made and not decided.
    made: Vec<CheckedBatch>,
    given_up: Vec<GivenUp>,
    /// What the peers claim, if not this node's height.
    claimed: Option<Height>,
}

impl Node {
    fn new() -> Self {
        let net = Net::new(2);
        let own = OwnLane::new(net.keys[0].address(), RUN, net.state.clone());
        Self { net, own, made: Vec::new(), given_up: Vec::new(), claimed: None }
    }

    fn push(&mut self, entry: &Entry) {
        self.push_of(client(0), entry);
    }

    /// Puts entries into the queue whatever waits already, as at a start.
    fn restore(&mut self, entries: &[Entry]) {
        let checked: Vec<_> = entries.iter().map(|entry| self.net.check(entry.clone())).collect();
        self.own.restore(checked);
    }

    fn push_of(&mut self, from: Submitter, entry: &Entry) {
        let (now, entry) = (self.net.state.timestamp, self.net.check(entry.clone()));
        self.own.push(now, from, entry).unwrap();
    }

    /// Sets what the bucket of [`A`] holds, as if a block had left that.
    fn fill(&mut self, bytes: u64) {
        self.net.set_bucket(A, bytes);
        assert_eq!(self.own.settle(self.net.state.clone(), &[], &mut Vec::new()), None);
    }

    /// Sets what the lane may still add for nothing.
    fn allow(&mut self, bytes: usize) {
        self.net.set_allowance(bytes as u64);
        assert_eq!(self.own.settle(self.net.state.clone(), &[], &mut Vec::new()), None);
    }

    /// Makes a batch; its entries.
    fn make(&mut self) -> Vec<Entry> {
        self.make_at(self.net.state.timestamp)
    }

    fn make_at(&mut self, now: UnixMillis) -> Vec<Entry> {
        let Some(NextBatch { place, parent, entries }) =
            self.own.next_batch(now, self.claimed.unwrap_or(self.net.state.height))
        else {
            return Vec::new();
        };
        let batch = self.net.batch(0, place, parent, entries);
        assert!(self.own.made(place, batch.digest()));
        self.made.push(batch.clone());
        batch.entries().iter().map(|checked| checked.entry().clone()).collect()
    }

    /// Decides the first `count` batches made, and the other lane's entries.
    fn decide(&mut self, count: usize, other: &[Entry]) -> Option<Overtaken> {
        let mut batches: Vec<_> = self.made.drain(..count).collect();
        if !other.is_empty() {
            batches.push(self.net.next(1, other));
        }
        let timestamp = self.net.state.timestamp.plus(1);
        let decided = self.net.decide(timestamp, batches);
        let me = self.net.keys[0].address();
        let settled = settle(&decided, me, &mut Tracker::default(), |_| None);
        self.own.settle(self.net.state.clone(), &settled.carried, &mut self.given_up)
    }
}

fn client(n: u8) -> Submitter {
    Submitter(B256::with_last_byte(n))
}

fn many(count: u32, size: usize) -> Vec<Entry> {
    (1..=count).map(|n| tx(A, n, size)).collect()
}

#[test]
fn sure_entries_follow_one_another_and_the_next_waits_for_a_block() {
    let mut node = Node::new();
    let entries = many(8, SMALL);
    for entry in &entries {
        node.push(entry);
        node.make();
    }
    assert_eq!(node.made.len(), 7, "the eighth is more than half of the lane's share");
    assert_eq!(node.make(), []);
    node.decide(7, &[]);
    assert_eq!(node.make(), entries[7..]);
}

#[test]
fn by_a_stale_state_a_lot_has_one_batch_in_flight_and_no_entry_behind_one_that_asks_more() {
    let mut node = Node::new();
    let entries =
        [2 * SMALL, 3 * SMALL, SMALL].map(|size| tx(A, u32::try_from(size).unwrap(), size));
    entries.iter().for_each(|entry| node.push(entry));
    node.claimed = Some(Height(9));
    let old = node.net.state.timestamp.plus(1_501);
    assert_eq!(node.make_at(old), entries[..2], "the bucket may have room for the third alone");
    assert_eq!(node.make_at(old), [], "blocks that are not here may leave out what is in flight");
    assert_eq!(node.make_at(node.net.state.timestamp.plus(1_500)), entries[2..], "new enough");
    let later = tx(A, 9, SMALL);
    node.push(&later);
    assert_eq!(node.make_at(old), []);
    node.claimed = None;
    assert_eq!(node.make_at(old), [later], "the log stands still: there is no newer state");
}

#[test]
fn no_more_is_in_flight_than_the_lane_may_add_for_nothing() {
    let mut node = Node::new();
    let entries = many(4, SMALL);
    let length = entries[0].raw().len();
    node.allow(2 * length + 2 * BATCH_OVERHEAD_BYTES_MAX - 1);
    node.push(&entries[0]);
    assert_eq!(node.make(), entries[..1]);
    node.restore(&entries[1..]);
    assert_eq!(node.make(), [], "a byte too few");
    node.allow(2 * length + 2 * BATCH_OVERHEAD_BYTES_MAX);
    assert_eq!(node.make(), entries[1..2]);
    assert_eq!(node.make(), []);
    node.decide(1, &[]);
    node.allow(3 * length + 2 * BATCH_OVERHEAD_BYTES_MAX);
    assert_eq!(node.make(), entries[2..], "what was decided is in flight no more");
    node.decide(2, &[]);
    assert_eq!(node.own.flight.bytes(), 0);
}

#[test]
fn lane_that_batches_no_more_than_it_may_waste_is_never_stopped() {
    let mut node = Node::new();
    node.allow(5 * SMALL + 1_000);
    for round in 0..20u32 {
        let copies: Vec<_> = (1..=6).map(|n| tx(A, round * 10 + n, SMALL)).collect();
        node.restore(&copies);
        while !node.make().is_empty() {}
        // The other lane had all of them a block earlier.
        node.decide(0, &copies);
        node.decide(node.made.len(), &[]);
        let committed = &node.net.state.committed;
        assert!(waste::allowance(committed, node.net.keys[0].address()) > 0);
    }
    let committed = &node.net.state.committed;
    let left = waste::allowance(committed, node.net.keys[0].address());
    assert!(left < 2 * SMALL as u64, "its copies were waste: {left}");
}

#[test]
fn entry_that_is_not_sure_goes_alone_with_what_the_share_holds() {
    let mut node = Node::new();
    let entries = [60_000, BIG].map(|size| tx(A, u32::try_from(size).unwrap(), size));
    let last = tx(A, 9, BIG);
    node.restore(&entries);
    assert_eq!(node.make(), entries, "within the share of 147,456 bytes");
    node.restore(std::slice::from_ref(&last));
    assert_eq!(node.make(), []);
    node.decide(1, &[]);
    assert_eq!(node.make(), [last]);
}

/// Assembly lets others pass an entry that asks more than the bucket has.
#[test]
fn nothing_that_asks_less_goes_behind_one_that_is_not_sure() {
    let mut node = Node::new();
    let (first, second) = (tx(A, 1, BIG), tx(A, 2, SMALL));
    [&first, &second].into_iter().for_each(|entry| node.push(entry));
    let other = tx(B, 3, SMALL);
    node.push(&other);
    assert_eq!(node.make(), [first.clone(), other]);
    // Of 294,912 bytes 24,912 are left: enough for the second alone.
    node.decide(0, &[tx(A, 4, 120_000), tx(A, 5, 120_000), tx(A, 6, 30_000)]);
    node.decide(1, &[]);
    node.fill(294_912);
    assert_eq!(node.make(), [first]);
    node.decide(1, &[]);
    assert_eq!(node.make(), [second]);
}

#[test]
fn entries_of_other_chains_pass_a_chain_that_waits() {
    let mut node = Node::new();
    let (first, second, other) = (tx(A, 1, BIG), tx(A, 2, BIG), tx(B, 3, SMALL));
    node.push(&first);
    node.make();
    node.push(&second);
    node.push(&other);
    assert_eq!(node.make(), [other]);
}

#[test]
fn bundle_waits_on_all_of_its_chains_and_all_wait_behind_it() {
    let mut node = Node::new();
    let (first, pair) = (tx(A, 1, BIG), bundle(2, [SMALL, SMALL]));
    let (behind, gated) = (tx(B, 3, SMALL), tx(GATED, 4, 1_000));
    node.push(&first);
    node.make();
    [&pair, &behind, &gated].into_iter().for_each(|entry| node.push(entry));
    assert_eq!(node.make(), [gated]);
    node.decide(2, &[]);
    assert_eq!(node.make(), [pair, behind]);
}

#[test]
fn bundle_that_is_not_sure_closes_all_of_its_chains() {
    let mut node = Node::new();
    let (pair, behind) = (bundle(1, [BIG, SMALL]), tx(B, 2, SMALL));
    node.push(&pair);
    node.push(&behind);
    assert_eq!(node.make(), [pair], "assembly would let the second pass the bundle");
    assert_eq!(node.make(), []);
    node.decide(1, &[]);
    assert_eq!(node.make(), [behind]);
}

#[test]
fn open_entries_are_sure_within_the_open_share_only() {
    let mut node = Node::new();
    let open = [1, 2].map(|n| tx(GATED, n, 5_000));
    let network = node.net.state.network_id;
    let admitted = tx(GATED, 3, 5_000).admitted_by(network, &gateway()).unwrap();
    open.iter().for_each(|entry| node.push(entry));
    assert_eq!(node.make(), open, "alone: within the open share of 14,745 bytes");
    node.push(&tx(GATED, 4, 5_000));
    node.push(&admitted);
    assert_eq!(node.make(), [admitted], "what a gateway admits does not wait for what none did");
}

#[test]
fn carried_entries_go_first_and_in_their_order() {
    let mut node = Node::new();
    let entries = many(3, 40_000);
    node.restore(&entries);
    node.fill(70_000);
    assert_eq!(node.make(), entries[..1]);
    node.decide(1, &[tx(A, 9, 70_000)]);
    let carried = node.own.waiting();
    node.restore(&[tx(A, 4, SMALL)]);
    assert_eq!(carried, 3, "the other lane drained the bucket");
    assert_eq!(node.make_at(node.net.state.timestamp.plus(8_000)), entries[..2]);
}

#[test]
fn chain_is_held_while_something_of_it_is_in_flight_behind_what_came_back() {
    let mut node = Node::new();
    let entries = many(3, SMALL);
    for entry in &entries {
        node.push(entry);
        node.make();
    }
    // The other lane takes all in a block without this lane, then this lane's batches come one by one.
    node.decide(0, &[9, 10, 11].map(|n| tx(A, n, 98_000)));
    node.decide(1, &[]);
    assert_eq!((node.own.waiting(), node.made.len()), (1, 2));
    node.fill(200_000);
    assert_eq!(node.make(), [], "the second and third may come back, too");
    node.net.set_bucket(A, 0);
    node.decide(2, &[]);
    node.fill(200_000);
    assert_eq!(node.make(), entries);
}

#[test]
fn records_do_not_wait() {
    let mut node = Node::new();
    let record = |n| {
        let body = RecordBody::Limits(Limits { tx_bytes: n, ..Limits::default() });
        let record = Record::sign(node.net.state.network_id, A, body, &key(7));
        Entry::new(Body::Record(record), EXPIRES, None).unwrap()
    };
    let records = [record(1), record(2)];
    node.push(&tx(A, 1, BIG));
    node.make();
    node.push(&tx(A, 2, BIG));
    records.iter().for_each(|entry| node.push(entry));
    assert_eq!(node.make(), records);
}

#[test]
fn copy_that_lives_longest_waits_at_the_first_ones_place() {
    let mut node = Node::new();
    let (short, other) = (tx(A, 1, SMALL), tx(A, 2, SMALL));
    let long = expiring(&short, UnixMillis(EXPIRES.0 + 1));
    for entry in [&short, &other, &long, &short] {
        node.push(entry);
    }
    assert_eq!(node.make(), [long, other]);
}

#[test]
fn copy_behind_one_in_flight_is_queued_and_the_same_bytes_are_not() {
    let mut node = Node::new();
    let (short, other) = (tx(A, 1, SMALL), tx(A, 2, SMALL));
    let long = expiring(&short, UnixMillis(EXPIRES.0 + 1));
    node.push(&short);
    assert_eq!(node.make(), std::slice::from_ref(&short));
    [&short, &other, &long].into_iter().for_each(|entry| node.push(entry));
    assert_eq!(node.own.waiting(), 2);
    // The short one comes back: the long one takes its place.
    node.fill(0);
    node.decide(1, &[]);
    node.fill(200_000);
    assert_eq!(node.make(), [long, other]);
}

#[test]
fn copy_that_a_gateway_admitted_does_not_replace_an_open_one() {
    let mut node = Node::new();
    let open = tx(GATED, 1, 1_000);
    let admitted = open.admitted_by(node.net.state.network_id, &gateway()).unwrap();
    node.push(&open);
    node.push(&admitted);
    assert_eq!(node.make(), [admitted, open]);
}

#[test]
fn expired_entries_are_given_up() {
    let mut node = Node::new();
    node.push(&expiring(&tx(A, 1, SMALL), UnixMillis(START.0 + 5)));
    node.push(&tx(A, 2, SMALL));
    assert_eq!(node.make_at(UnixMillis(START.0 + 5)), [tx(A, 2, SMALL)]);
}

#[test]
fn restart_keeps_the_order_of_the_stored_batches() {
    let mut node = Node::new();
    let entries = many(6, 4_000);
    for pair in entries.chunks(2) {
        pair.iter().for_each(|entry| node.push(entry));
        node.make();
    }
    let me = node.net.keys[0].address();
    let mut again = OwnLane::new(me, Incarnation(6), node.net.state.clone());
    again.restore(node.made.iter().flat_map(|batch| batch.entries().iter().cloned()));
    again.push(START, client(0), node.net.check(tx(A, 7, 4_000))).unwrap();
    let next = again.next_batch(START, Height(0)).unwrap();
    let got: Vec<_> = next.entries.iter().map(|checked| checked.entry().clone()).collect();
    assert_eq!(got, [entries, vec![tx(A, 7, 4_000)]].concat());
    assert_eq!((next.place, next.parent), ((Incarnation(6), Sequence(0)), BatchDigest::ZERO));
}

#[test]
fn entry_that_comes_back_from_an_earlier_run_is_not_queued_twice() {
    let mut node = Node::new();
    let entries = many(2, 50_000);
    node.push(&entries[0]);
    node.make();
    let me = node.net.keys[0].address();
    node.own = OwnLane::new(me, Incarnation(6), node.net.state.clone());
    node.own.restore([node.net.check(entries[0].clone())]);
    node.push(&entries[1]);
    node.decide(0, &[9, 10, 11].map(|n| tx(A, n, 98_000)));
    node.decide(1, &[]);
    assert_eq!(node.own.waiting(), 2);
    node.fill(150_000);
    assert_eq!(node.make(), entries[..1]);
    assert_eq!(node.own.waiting(), 1);
}

#[test]
fn lane_decided_in_a_later_run_begins_another_with_all_that_was_in_flight() {
    let mut node = Node::new();
    let entries = many(2, SMALL);
    node.push(&entries[0]);
    node.make();
    node.push(&entries[1]);
    let ahead = node.net.batch(
        0,
        (Incarnation(900), Sequence(0)),
        BatchDigest::ZERO,
        vec![node.net.check(tx(B, 1, 10))],
    );
    node.made = vec![ahead];
    assert_eq!(node.decide(1, &[]), Some(Overtaken { decided: Incarnation(900) }));
    assert_eq!(node.make(), [], "nothing of this run can be decided");
    assert_eq!(node.decide(0, &[]), None, "reported once");
    node.own.begin_run(Incarnation(901));
    assert_eq!(node.make(), entries);
    assert_eq!(node.decide(1, &[]), None);
}

#[test]
fn another_batch_decided_at_a_position_of_this_run_is_another_run() {
    let mut node = Node::new();
    node.push(&tx(A, 1, SMALL));
    node.make();
    let entries = vec![node.net.check(tx(B, 1, 10))];
    node.made = vec![node.net.batch(0, (RUN, Sequence(0)), BatchDigest::ZERO, entries)];
    assert_eq!(node.decide(1, &[]), Some(Overtaken { decided: RUN }));
}

#[test]
fn batch_of_a_run_that_ended_meanwhile_is_not_stored() {
    let mut node = Node::new();
    node.push(&tx(A, 1, SMALL));
    let next = node.own.next_batch(START, Height(0)).unwrap();
    assert_eq!(node.own.next_batch(START, Height(0)), None, "one at a time");
    node.own.begin_run(Incarnation(6));
    assert!(!node.own.made(next.place, BatchDigest::ZERO));
    assert_eq!(node.make(), [tx(A, 1, SMALL)]);
    node.push(&tx(A, 2, SMALL));
    let lost = node.own.next_batch(START, Height(0)).unwrap();
    node.own.lost(lost.place);
    node.push(&tx(A, 3, SMALL));
    assert_eq!(node.own.next_batch(START, Height(0)).unwrap().place, lost.place);
    assert_eq!(node.own.waiting(), 0);
}
