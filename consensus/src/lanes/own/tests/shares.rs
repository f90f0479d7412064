//! Who waits for whom, and who may wait at all.

use super::*;
use crate::lanes::own::room::{QUEUE_BYTES_MAX, RECORDS_MAX};

impl Node {
    fn try_push(&mut self, from: Submitter, entry: &Entry) -> Result<(), Busy> {
        let (now, entry) = (self.net.state.timestamp, self.net.check(entry.clone()));
        self.own.push(now, from, entry)
    }

    /// How many entries of this size a client may have waiting beside what waits.
    fn taken(&mut self, from: Submitter, numbers: u32, size: usize) -> usize {
        let entries = (0..1_000).map(|n| tx(A, numbers + n, size));
        entries.take_while(|entry| self.try_push(from, entry).is_ok()).count()
    }
}

#[test]
fn clients_are_served_in_turn() {
    let mut node = Node::new();
    let flood = many(6, SMALL);
    flood.iter().for_each(|entry| node.push_of(client(9), entry));
    let late = [tx(A, 100, SMALL), tx(A, 101, SMALL)];
    late.iter().for_each(|entry| node.push_of(client(1), entry));
    let batch = node.make();
    assert_eq!(batch[..4], [&late[0], &flood[0], &late[1], &flood[1]].map(Clone::clone));
}

#[test]
fn chains_are_served_in_turn_by_bytes() {
    let mut node = Node::new();
    let (first, second) = (many(8, SMALL), [tx(B, 100, SMALL), tx(B, 101, 2 * SMALL)]);
    first.iter().chain(&second).for_each(|entry| node.push(entry));
    let batch = node.make();
    let expected =
        [&first[0], &second[0], &first[1], &second[1], &first[2], &first[3]].map(Clone::clone);
    assert_eq!(batch[..6], expected);
}

#[test]
fn what_asks_more_than_the_bucket_has_holds_back_its_own_client_alone() {
    let mut node = Node::new();
    let (large, behind, other) = (tx(A, 1, 80_000), tx(A, 2, SMALL), tx(A, 3, SMALL));
    node.push_of(client(1), &large);
    node.push_of(client(1), &behind);
    node.push_of(client(2), &other);
    node.fill(79_999);
    assert_eq!(node.make(), [other]);
    node.decide(1, &[]);
    node.fill(120_000);
    assert_eq!(node.make(), [large], "more than the lane's share: what follows could pass it");
    assert_eq!(node.make(), []);
    node.decide(1, &[]);
    assert_eq!(node.make(), [behind]);
}

#[test]
fn what_is_more_than_the_lanes_share_goes_behind_all_others() {
    let mut node = Node::new();
    let (large, small) = (tx(A, 1, 60_000), [tx(A, 2, SMALL), tx(A, 3, SMALL)]);
    node.push_of(client(1), &large);
    small.iter().for_each(|entry| node.push_of(client(2), entry));
    node.fill(90_000);
    assert_eq!(node.make(), [small[0].clone(), small[1].clone(), large.clone()]);
    // Though the lane's own share is used up.
    let mut node = Node::new();
    let wide = tx(A, 70, 46_000);
    node.push_of(client(1), &wide);
    node.restore(&many(6, SMALL));
    node.fill(90_000);
    let batch = node.make();
    assert_eq!((batch.len(), batch.last()), (5, Some(&wide)));
    // It would not fit beside what another batch holds.
    let mut node = Node::new();
    node.push_of(client(2), &small[0]);
    node.fill(90_000);
    assert_eq!(node.make(), small[..1]);
    node.push_of(client(1), &large);
    node.push_of(client(3), &small[1]);
    assert_eq!(node.make(), small[1..]);
    node.decide(2, &[]);
    assert_eq!(node.make(), [large]);
}

#[test]
fn bundle_whose_turn_came_is_not_passed_for_ever() {
    let mut node = Node::new();
    // Neither chain has half of the lane's share left for it, ever.
    let (pair, others) =
        (bundle(50, [60_000, 60_000]), |n| [tx(A, n, 50_000), tx(B, n + 1, 50_000)]);
    node.restore(&others(1));
    assert_eq!(node.make().len(), 2);
    node.push_of(client(9), &pair);
    let mut made = Vec::new();
    for n in 1..4 {
        node.restore(&others(10 * n));
        made.extend(node.make());
        node.decide(node.made.len(), &[]);
    }
    assert!(made.contains(&pair));
}

#[test]
fn entry_left_out_twice_is_given_up_and_its_submitter_told_why() {
    let mut node = Node::new();
    let entry = tx(A, 1, 60_000);
    node.push(&entry);
    node.fill(100_000);
    assert_eq!(node.make(), std::slice::from_ref(&entry), "alone, with the bucket's level");
    node.decide(1, &[tx(A, 9, 100_000)]);
    node.fill(110_000);
    assert_eq!(node.make(), [], "not again before the first pass has room for it");
    node.fill(130_000);
    assert_eq!(node.make(), std::slice::from_ref(&entry));
    node.decide(0, &[tx(A, 10, 130_000)]);
    node.decide(1, &[]);
    let reasons: Vec<_> = node.given_up.iter().map(|up| (up.entry.entry(), up.reason)).collect();
    assert_eq!(reasons, [(&entry, LeaveOut::OverBudget { chain: A })]);
    assert_eq!(node.own.waiting(), 0);
}

#[test]
fn client_may_fill_what_is_free_of_a_chain_and_leaves_as_much() {
    let mut node = Node::new();
    // As long as it has no more than half of what is free: of 294,912 bytes, then of the 194,912 that are left.
    assert_eq!(node.taken(client(1), 0, SMALL), 10);
    let refused = node.try_push(client(1), &tx(A, 900, SMALL)).unwrap_err();
    // Two lanes share 20,000 bytes a second.
    assert_eq!(refused, Busy::Chain { chain: A, retry_after_ms: 1_254 });
    assert_eq!(node.taken(client(2), 1_000, SMALL), 6);
    assert!(node.taken(client(3), 2_000, SMALL) > 0);
    assert_eq!(node.try_push(client(1), &tx(B, 901, SMALL)), Ok(()), "another chain");
    // What its bytes show is refused before signatures are checked.
    let unchecked = tx(A, 902, SMALL);
    assert!(node.own.has_room(START, client(1), &unchecked).is_err());
    assert!(node.own.has_room(START, client(9), &unchecked).is_ok());
}

#[test]
fn what_is_in_flight_counts_as_it_may_come_back() {
    let mut node = Node::new();
    node.restore(&many(4, 30_000));
    assert_eq!(node.make().len(), 4);
    // Of 294,912 bytes, 120,000 are in flight.
    assert_eq!(node.taken(client(1), 100, SMALL), 6);
}

#[test]
fn open_entries_fill_their_share_and_admitted_ones_do_not_notice() {
    let mut node = Node::new();
    let network = node.net.state.network_id;
    let open = (0..1_000).map(|n| tx(GATED, n, 1_000));
    let open = open.take_while(|entry| node.try_push(client(1), entry).is_ok()).count();
    assert_eq!(open, 10, "of the open share of 29,491 bytes");
    let admitted = tx(GATED, 2_000, 100_000).admitted_by(network, &gateway()).unwrap();
    assert_eq!(node.try_push(client(1), &admitted), Ok(()));
    // A key that is no gateway's admits nothing.
    let strange = tx(GATED, 2_001, 1_000).admitted_by(network, &key(99)).unwrap();
    assert!(matches!(node.try_push(client(1), &strange), Err(Busy::Chain { chain: GATED, .. })));
}

#[test]
fn what_the_budget_will_not_hold_soon_does_not_wait() {
    let mut node = Node::new();
    node.fill(10_000);
    let (soon, late) = (tx(A, 1, 30_000), tx(A, 2, 60_000));
    assert_eq!(node.try_push(client(1), &soon), Ok(()));
    let refused = node.try_push(client(2), &late).unwrap_err();
    assert_eq!(
        refused,
        Busy::Budget { chain: A, retry_after_ms: 1_500 },
        "30,000 bytes are lacking"
    );
}

#[test]
fn whole_queue_has_bounds_and_no_chain_fills_it() {
    let mut node = Node::new();
    let large = |n: u32| tx(A, n, 100_000);
    // A restart brings back more than a chain may have waiting.
    let count = QUEUE_BYTES_MAX / 100_100 / 2 + 2;
    let entries = (0u32..).take(count).map(|n| node.net.check(large(n))).collect::<Vec<_>>();
    node.own.restore(entries);
    let refused = node.try_push(client(1), &tx(A, 5_000, SMALL));
    assert!(matches!(refused, Err(Busy::Queue { entries, .. }) if entries == count), "{refused:?}");
    assert_eq!(node.try_push(client(1), &tx(B, 5_001, SMALL)), Ok(()));
}

#[test]
fn records_of_a_chain_have_places_of_their_own() {
    let mut node = Node::new();
    let record = |n| {
        let body = RecordBody::Limits(Limits { tx_bytes: n, ..Limits::default() });
        let record = Record::sign(node.net.state.network_id, A, body, &key(7));
        Entry::new(Body::Record(record), EXPIRES, None).unwrap()
    };
    let records: Vec<_> = (0..100).map(record).collect();
    let taken = records.iter().take_while(|entry| node.try_push(client(1), entry).is_ok()).count();
    assert_eq!(taken, RECORDS_MAX);
    assert_eq!(node.try_push(client(1), &tx(A, 1, SMALL)), Ok(()));
}
