//! What a block does to the entries submitted here, and to those of others.

use lockstep_core::dedup;
use lockstep_core::entry::Entry;

use super::*;
use crate::fixtures::{A, B, EXPIRES, GATED, Net, START, bundle, expiring, tx};
use crate::tracker::Receipt;

/// A validator with lane 0, and the blocks it saw.
struct Node {
    net: Net,
    tracker: Tracker,
    blocks: Vec<DecidedBlock>,
}

impl Node {
    fn new() -> Self {
        Self { net: Net::new(2), tracker: Tracker::default(), blocks: Vec::new() }
    }

    fn submit(&mut self, entry: &Entry) {
        let received = self.tracker.receive(CopyId::of(entry), entry.expires());
        assert_eq!(received, Some(Receipt::New));
    }

    fn state(&self, entry: &Entry) -> Option<EntryState> {
        self.tracker.state(entry.id())
    }

    /// A block after `elapsed_ms` with one batch of each lane that has entries.
    fn block(&mut self, elapsed_ms: u64, own: &[Entry], other: &[Entry]) -> Settled {
        let timestamp = self.net.state.timestamp.plus(elapsed_ms);
        let lanes = [own, other].into_iter().enumerate().filter(|(_, list)| !list.is_empty());
        let batches = lanes.map(|(lane, list)| self.net.next(lane, list)).collect();
        let decided = self.net.decide(timestamp, batches);
        self.blocks.push(decided.clone());
        let Self { net, tracker, blocks } = self;
        settle(&decided, net.keys[0].address(), tracker, |(batch, index)| {
            let entries = decided.entries();
            let entry = entries.at(batch, *index)?;
            let mut places = dedup::keys(entry).map(|key| net.dedup.get(&key, timestamp));
            let decision = places.next()??;
            let block = &blocks[usize::try_from(decision.height.0).unwrap() - 1];
            let (hash, timestamp) = (block.header.hash(), block.header.timestamp_ms);
            let is_one = places.all(|place| place == Some(decision));
            is_one.then_some(Earlier { decision, block: hash, timestamp })
        })
    }

    /// The state of what the newest block but `back` took at `index`.
    fn decided(&self, back: usize, index: u32) -> Option<EntryState> {
        let header = &self.blocks[self.blocks.len() - 1 - back].header;
        let decision = Decision { height: header.height, index };
        Some(EntryState::Decided { decision, block: header.hash() })
    }
}

const RECEIVED: Option<EntryState> = Some(EntryState::Received);

#[test]
fn another_lanes_copy_that_expired_does_not_drop_the_copy_submitted_here() {
    let mut node = Node::new();
    let mine = tx(A, 1, 10);
    let short = expiring(&mine, UnixMillis(START.0 + 5));
    node.submit(&mine);
    let settled = node.block(10, &[], &[short]);
    assert_eq!((settled, node.state(&mine)), (Settled::default(), RECEIVED));
    node.block(10, std::slice::from_ref(&mine), &[]);
    assert_eq!(node.state(&mine), node.decided(0, 0));
}

#[test]
fn another_lanes_copy_that_is_too_large_for_the_open_share_drops_nothing() {
    let mut node = Node::new();
    let open = tx(GATED, 1, 100_000);
    let network = node.net.state.network_id;
    let mine = open.admitted_by(network, &crate::fixtures::gateway()).unwrap();
    node.submit(&mine);
    node.block(10, &[], std::slice::from_ref(&open));
    assert_eq!(node.state(&mine), RECEIVED);
    node.submit(&open);
    node.block(10, &[open], &[]);
    assert_eq!(node.state(&mine), RECEIVED, "one of two copies ended");
}

#[test]
fn own_copy_left_out_for_good_drops_the_entry_and_a_later_decision_takes_it_back() {
    let mut node = Node::new();
    let short = expiring(&tx(A, 1, 10), UnixMillis(START.0 + 5));
    node.submit(&short);
    let settled = node.block(10, std::slice::from_ref(&short), &[]);
    let (expires, timestamp) = (short.expires(), node.net.state.timestamp);
    let dropped = EntryState::Dropped(LeaveOut::Expired { expires, timestamp });
    assert_eq!(settled.changes, [Change { id: short.id(), state: dropped }]);
    node.block(10, &[], &[tx(A, 1, 10)]);
    assert_eq!(node.state(&short), node.decided(0, 0));
}

#[test]
fn copy_in_another_lane_decides_the_entry_and_the_own_one_is_no_drop() {
    let mut node = Node::new();
    let mine = tx(A, 1, 10);
    node.submit(&mine);
    node.block(10, &[], std::slice::from_ref(&mine));
    let decided = node.decided(0, 0);
    let settled = node.block(10, std::slice::from_ref(&mine), &[]);
    assert_eq!((settled, node.state(&mine)), (Settled::default(), decided));
}

#[test]
fn entry_whose_transactions_one_decision_took_is_decided_there() {
    let mut node = Node::new();
    let whole = bundle(1, [10, 10]);
    let loose = [tx(A, 1, 10), tx(B, 1, 10), tx(B, 2, 10)];
    node.block(10, &[], &[whole]);
    loose.iter().for_each(|entry| node.submit(entry));
    node.block(10, &loose, &[]);
    assert_eq!(node.state(&loose[0]), node.decided(1, 0));
    assert_eq!(node.state(&loose[1]), node.decided(1, 0));
    assert_eq!(node.state(&loose[2]), node.decided(0, 0));
}

#[test]
fn bundle_with_one_ordered_transaction_is_dropped_if_it_is_ours() {
    let mut node = Node::new();
    let (mine, same) = (bundle(1, [10, 10]), bundle(1, [10, 20]));
    node.submit(&mine);
    node.submit(&same);
    node.block(10, &[], &[tx(A, 1, 10)]);
    node.block(10, std::slice::from_ref(&mine), std::slice::from_ref(&same));
    let Some(EntryState::Dropped(LeaveOut::Duplicate { .. })) = node.state(&mine) else {
        panic!("{:?}", node.state(&mine));
    };
    assert_eq!(node.state(&same), RECEIVED);
}

#[test]
fn own_entries_over_budget_are_carried_in_the_lanes_order_and_no_others() {
    let mut node = Node::new();
    let own: Vec<_> = (1..=4).map(|n| tx(A, n, 100_000)).collect();
    let other = [tx(A, 9, 131_000), tx(A, 10, 131_000)];
    own.iter().for_each(|entry| node.submit(entry));
    let settled = node.block(1, &own, &other);
    assert_eq!(node.state(&own[0]), node.decided(0, 1));
    let carried: Vec<_> = settled.carried.iter().map(|c| (c.index, c.entry.entry())).collect();
    assert_eq!(carried, [(1, &own[1]), (2, &own[2]), (3, &own[3])]);
    assert!(own[1..].iter().all(|entry| node.state(entry) == RECEIVED));
}

#[test]
fn time_of_the_block_expires_what_waits() {
    let mut node = Node::new();
    let entry = tx(A, 1, 10);
    node.submit(&entry);
    assert_eq!(node.block(EXPIRES.since(START) - 1, &[], &[]), Settled::default());
    let settled = node.block(1, &[], &[]);
    let (expires, timestamp) = (EXPIRES, EXPIRES);
    let state = EntryState::Dropped(LeaveOut::Expired { expires, timestamp });
    assert_eq!(settled.changes, [Change { id: entry.id(), state }]);
}
