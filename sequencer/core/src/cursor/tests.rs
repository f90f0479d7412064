//! Which content makes which kind of block, and where the cursor goes.

use alloy_primitives::Address;

use super::*;
use crate::record::SkipReason;
use crate::types::Height;
use crate::window::fixtures::*;
use crate::window::{ClosedBy, LogSlice, offer};

mod properties;

const LEAD: u64 = 700;
const T: u64 = 1_700_000_000;
const END: u64 = T * 1_000 - LEAD;
/// Log time of the first log block after the window.
const CLOSED_AT: u64 = END + 250;

fn cursor(height: u64, items: u32) -> Cursor {
    Cursor { height: Height(height), items }
}

/// A transaction of the log, or of nobody's.
fn tx(n: u64) -> Bytes {
    transaction(n, 21_000, 0)
}

/// A stale item, then a transaction 1, a record, a leg of 2 and 3, one too large, a transaction 4.
fn log() -> Vec<LogSlice> {
    vec![
        slice(5, END - BACKLOG_MS_MAX - 1, vec![loose(tx(90))]),
        slice(6, END - 9, vec![loose(tx(1)), record(1), leg(vec![tx(2), tx(3)])]),
        slice(7, END - 5, vec![loose(transaction(91, u64::MAX, 0)), loose(tx(4))]),
        slice(8, CLOSED_AT, vec![]),
    ]
}

/// Two deposits and these transactions.
fn block(users: &[u64]) -> L2Block {
    let deposits = [first(Form::Jovian(400), T, 0), user_deposit(1, 9)];
    L2Block {
        number: 7,
        hash: B256::repeat_byte(7),
        parent: B256::repeat_byte(6),
        timestamp: T,
        gas_limit: 30_000_000,
        transactions: deposits.into_iter().chain(users.iter().map(|n| tx(*n))).collect(),
    }
}

fn window(block: &L2Block) -> Window {
    block.window(LEAD, Limits::default()).unwrap()
}

fn offered_from(log: &[LogSlice], block: &L2Block) -> Offer {
    offer(cursor(5, 0), log, &window(block)).unwrap()
}

fn offered(block: &L2Block, begin: Cursor) -> Offer {
    offer(begin, &log(), &window(block)).unwrap()
}

fn said(record: Option<(u64, SealMode)>, newest: u64) -> Testimony {
    let record = record.map(|(time, mode)| (UnixMillis(time), mode));
    Testimony { record, newest: UnixMillis(newest) }
}

/// Kind and cursor of a block of these transactions, whose parent's cursor is before all of the log.
fn check(users: &[u64], testimony: &Testimony) -> (Kind, Option<Cursor>) {
    let block = block(users);
    let offer = offered(&block, cursor(5, 0));
    let kind = classify(&block, &window(&block), &offer, testimony);
    let cursor = kind.cursor(&offer);
    (kind, cursor)
}

const NOTHING: Testimony = Testimony { record: None, newest: UnixMillis(CLOSED_AT) };
const STALE: (u64, u32, SkipReason) = (5, 0, SkipReason::Stale);
const LARGE: (u64, u32, SkipReason) = (7, 0, SkipReason::TooLarge);

fn invalid(height: u64, item: u32) -> (u64, u32, SkipReason) {
    (height, item, SkipReason::Invalid)
}

/// An outcome by numbers: height, item, index and count; then height, item and reason.
fn outcome(included: &[(u64, u32, u32, u32)], skipped: &[(u64, u32, SkipReason)]) -> Kind {
    let included = included.iter().map(|&(height, item, index, count)| Included {
        place: Place { height: Height(height), item },
        index,
        count,
    });
    let skipped = skipped.iter().map(|&(height, item, reason)| Skipped {
        height: Height(height),
        item,
        reason,
    });
    Kind::Offered(Outcome { included: included.collect(), skipped: skipped.collect() })
}

fn none_included() -> Kind {
    outcome(&[], &[STALE, invalid(6, 0), invalid(6, 2), LARGE, invalid(7, 1)])
}

#[test]
fn a_block_of_its_offer_is_offered() {
    let (one, leg, four) = ((6, 0, 2, 1), (6, 2, 3, 2), (7, 1, 5, 1));
    for (users, expected) in [
        (&[1, 2, 3, 4][..], outcome(&[one, leg, four], &[STALE, LARGE])),
        (&[1, 4], outcome(&[one, (7, 1, 3, 1)], &[STALE, invalid(6, 2), LARGE])),
        (&[2, 3], outcome(&[(6, 2, 2, 2)], &[STALE, invalid(6, 0), LARGE, invalid(7, 1)])),
        (&[4], outcome(&[(7, 1, 2, 1)], &[STALE, invalid(6, 0), invalid(6, 2), LARGE])),
    ] {
        assert_eq!(check(users, &NOTHING), (expected, Some(cursor(7, 2))), "{users:?}");
    }
}

#[test]
fn what_was_not_offered_in_this_order_is_foreign() {
    for (users, index) in [
        (&[9][..], 2),
        (&[1, 9, 4], 3),
        (&[1, 2, 3, 4, 9], 6),
        (&[4, 1], 3),
        (&[1, 1], 3),
        // Parts of a leg, its transactions in another order, and with another one between them.
        (&[2], 2),
        (&[3], 2),
        (&[1, 2, 4], 3),
        (&[3, 2], 2),
        (&[2, 4, 3], 2),
        // What was passed over.
        (&[90], 2),
    ] {
        let hash = keccak256(tx(users[index as usize - 2]));
        let kind = Kind::Foreign { index, hash };
        assert_eq!(check(users, &NOTHING), (kind, Some(cursor(5, 0))), "{users:?}");
    }
}

#[test]
fn an_item_before_the_parents_cursor_is_foreign() {
    let block = block(&[1]);
    let offer = offered(&block, cursor(6, 1));
    let kind = classify(&block, &window(&block), &offer, &NOTHING);
    assert_eq!(kind, Kind::Foreign { index: 2, hash: keccak256(tx(1)) });
}

#[test]
fn content_comes_before_the_record() {
    for mode in [SealMode::Closed, SealMode::Offered] {
        let testimony = said(Some((CLOSED_AT, mode)), CLOSED_AT);
        assert_eq!(check(&[1], &testimony), check(&[1], &NOTHING));
        assert_eq!(check(&[9], &testimony), check(&[9], &NOTHING));
    }
}

#[test]
fn the_record_decides_of_a_block_without_users_transactions() {
    let by = |mode| said(Some((CLOSED_AT, mode)), CLOSED_AT);
    assert_eq!(check(&[], &by(SealMode::Offered)), (none_included(), Some(cursor(7, 2))));
    assert_eq!(check(&[], &by(SealMode::Closed)), (Kind::Closed, Some(cursor(5, 0))));
}

#[test]
fn without_a_record_in_time_the_block_was_offered_its_items() {
    let deadline = CLOSED_AT + BACKLOG_MS_MAX;
    assert_eq!(check(&[], &NOTHING), (Kind::Ambiguous, None));
    assert_eq!(check(&[], &said(None, deadline)), (Kind::Ambiguous, None));
    let offered = (none_included(), Some(cursor(7, 2)));
    assert_eq!(check(&[], &said(None, deadline + 1)), offered);

    let closed = |time, newest| check(&[], &said(Some((time, SealMode::Closed)), newest));
    assert_eq!(closed(deadline, deadline + 1), (Kind::Closed, Some(cursor(5, 0))));
    assert_eq!(closed(deadline + 1, deadline + 1), offered);
}

#[test]
fn a_record_can_come_late_when_the_log_was_silent() {
    let resumed = END + 600_000;
    let mut log = log();
    log[3] = slice(8, resumed, vec![]);
    let block = block(&[]);
    let offer = offered_from(&log, &block);
    let kind = |testimony| classify(&block, &window(&block), &offer, &testimony);
    assert_eq!(kind(said(None, resumed)), Kind::Ambiguous);
    let record = Some((resumed + 1_000, SealMode::Closed));
    assert_eq!(kind(said(record, resumed + 1_000)), Kind::Closed);
}

#[test]
fn a_block_that_was_offered_nothing_needs_no_record() {
    let block = block(&[]);
    let silent = [slice(5, END - 1, vec![record(1)]), slice(6, CLOSED_AT, vec![])];
    let stale = [log().remove(0), slice(6, CLOSED_AT, vec![])];
    for (log, skipped) in [(silent, &[][..]), (stale, &[STALE])] {
        let offer = offered_from(&log, &block);
        for record in [None, Some((CLOSED_AT, SealMode::Closed))] {
            let kind = classify(&block, &window(&block), &offer, &said(record, CLOSED_AT));
            assert_eq!(kind, outcome(&[], skipped));
            assert_eq!(kind.cursor(&offer), Some(cursor(5, 1)));
        }
    }
}

#[test]
fn a_block_closed_by_its_content_is_closed_whatever_a_record_says() {
    let mut block = block(&[]);
    block.transactions.push(deposit(Address::ZERO, 1, false, b"upgradeTo"));
    let window = window(&block);
    assert_eq!(window.closed, Some(ClosedBy::Upgrade));
    let offer = offer(cursor(5, 0), &[], &window).unwrap();
    let testimony = said(Some((CLOSED_AT, SealMode::Offered)), CLOSED_AT + 2 * BACKLOG_MS_MAX);
    let kind = classify(&block, &window, &offer, &testimony);
    assert_eq!((kind.cursor(&offer), kind), (Some(cursor(5, 0)), Kind::Closed));

    block.transactions.push(tx(1));
    let kind = classify(&block, &window, &offer, &testimony);
    assert_eq!(kind, Kind::Foreign { index: 3, hash: keccak256(tx(1)) });
    assert_eq!(kind.cursor(&offer), Some(cursor(5, 0)));
}

#[test]
fn a_record_repeats_what_the_block_says() {
    let block = block(&[1, 4]);
    let offer = offered(&block, cursor(5, 0));
    let kind = classify(&block, &window(&block), &offer, &NOTHING);
    let Kind::Offered(outcome) = &kind else { panic!("{kind:?}") };
    let expected = Sealed {
        number: block.number,
        hash: block.hash,
        parent: block.parent,
        timestamp: T,
        mode: SealMode::Offered,
        cursor: cursor(7, 2),
        skipped: outcome.skipped.clone(),
    };
    assert_eq!(kind.sealed(&block, &offer, &none()), Some(expected.clone()));
    let closed =
        Sealed { mode: SealMode::Closed, cursor: cursor(5, 0), skipped: vec![], ..expected };
    assert_eq!(Kind::Closed.sealed(&block, &offer, &none()), Some(closed.clone()));
    let foreign = Kind::Foreign { index: 2, hash: B256::ZERO };
    assert_eq!(foreign.sealed(&block, &offer, &none()), Some(closed));
    assert_eq!(Kind::Ambiguous.sealed(&block, &offer, &none()), None);
}

fn none() -> BTreeSet<Place> {
    BTreeSet::new()
}

fn places(list: &[(u64, u32)]) -> BTreeSet<Place> {
    list.iter().map(|&(height, item)| Place { height: Height(height), item }).collect()
}

/// The offer has the items (6, 0), (6, 2) and (7, 1).
#[test]
fn items_that_were_refused_to_a_closed_block_are_passed_over_by_its_descendants() {
    let block = block(&[]);
    let first = offered(&block, cursor(5, 0));
    let listed = places(&[(6, 0), (6, 2)]);
    let begin = Kind::Closed.begin(&first, &listed).unwrap();
    assert_eq!(begin, Begin { cursor: cursor(5, 0), refused: listed.clone() });
    let sealed = Kind::Closed.sealed(&block, &first, &listed).unwrap();
    assert_eq!((sealed.mode, sealed.cursor), (SealMode::Closed, cursor(5, 0)));
    assert_eq!(sealed.begin(), begin, "the record alone says the same");

    let next = offer(begin, &log(), &window(&block)).unwrap();
    let found: Vec<_> = next.items.iter().map(|item| item.place).collect();
    assert_eq!(found, places(&[(7, 1)]).into_iter().collect::<Vec<_>>());
    let passed: Vec<_> = next.passed.iter().map(|s| (s.height.0, s.item, s.reason)).collect();
    assert_eq!(passed, [STALE, invalid(6, 0), invalid(6, 2), LARGE]);
    assert_eq!(next.end, cursor(7, 2));
    // Its own children begin behind all of them.
    let kind = classify(
        &block,
        &window(&block),
        &next,
        &said(Some((CLOSED_AT, SealMode::Offered)), CLOSED_AT),
    );
    assert_eq!(kind.begin(&next, &none()), Some(cursor(7, 2).into()));
}

#[test]
fn only_items_of_its_own_offer_are_refused_and_only_to_a_closed_block() {
    let block = block(&[]);
    let offer = offered(&block, cursor(6, 1));
    // Before the cursor, a record, one that is too large, one that is not there.
    let others = places(&[(6, 0), (6, 1), (7, 0), (7, 9), (9, 0)]);
    assert_eq!(Kind::Closed.begin(&offer, &others), Some(cursor(6, 1).into()));
    let mine = places(&[(6, 2)]);
    let foreign = Kind::Foreign { index: 2, hash: B256::ZERO };
    assert_eq!(foreign.begin(&offer, &mine), Some(cursor(6, 1).into()));
    assert_eq!(Kind::Offered(Outcome::default()).begin(&offer, &mine), Some(cursor(7, 2).into()));
    assert_eq!(Kind::Ambiguous.begin(&offer, &mine), None);
}

#[test]
fn refused_items_are_passed_on_until_the_cursor_is_behind_them() {
    let block = block(&[]);
    let refused = places(&[(6, 2), (7, 1)]);
    let begin = Begin { cursor: cursor(5, 0), refused };
    let closed = Window { closed: Some(ClosedBy::Drift), ..window(&block) };
    let nothing = offer(begin.clone(), &[], &closed).unwrap();
    assert_eq!(Kind::Closed.begin(&nothing, &none()), Some(begin.clone()));
    // A window that ends before the second one.
    let short = Window { end: UnixMillis(END - 9), ..window(&block) };
    let part = offer(begin, &log(), &short).unwrap();
    let kind = Kind::Offered(Outcome { included: vec![], skipped: part.passed.clone() });
    let rest = places(&[(7, 1)]);
    assert_eq!(
        kind.begin(&part, &none()),
        Some(Begin { cursor: cursor(6, 3), refused: rest.clone() })
    );
    let sealed = kind.sealed(&block, &part, &none()).unwrap();
    assert_eq!(sealed.begin().refused, rest);
    let named: Vec<_> = sealed.skipped.iter().map(|s| (s.height.0, s.item)).collect();
    assert_eq!(named, [(6, 2), (7, 1)]);
}

#[test]
fn no_more_refused_items_are_passed_on_than_a_record_has_room_for() {
    let block = block(&[]);
    let count = REFUSED_MAX as u64 + 2;
    let items = (0..count).map(|n| loose(tx(n + 1))).collect();
    let log = [slice(1, END, items), slice(2, CLOSED_AT, vec![])];
    let wide = Window { gas: u64::MAX, bytes_max: u64::MAX, ..window(&block) };
    let all: Vec<(u64, u32)> = (0..count as u32).map(|item| (1, item)).collect();
    let before = Begin { cursor: cursor(1, 0), refused: places(&all[9..10]) };
    let offer = offer(before, &log, &wide).unwrap();
    let begin = Kind::Closed.begin(&offer, &places(&all)).unwrap();
    assert_eq!(begin.refused, places(&all[..REFUSED_MAX]));
    // However many others a record names, it has room for these.
    let reason = SkipReason::Stale;
    let skipped: Vec<_> = (0..RECORD_SKIPPED_MAX as u32)
        .map(|item| Skipped { height: Height(0), item, reason })
        .collect();
    let rest = Offer { begin: begin.clone(), end: cursor(1, 0), ..offer };
    let sealed =
        Kind::Offered(Outcome { included: vec![], skipped }).sealed(&block, &rest, &none());
    let sealed = sealed.unwrap();
    assert_eq!(sealed.skipped.len(), RECORD_SKIPPED_MAX);
    assert_eq!(sealed.begin(), begin);
}

#[test]
fn a_record_names_no_more_skipped_items_than_it_may() {
    let block = block(&[]);
    let offer = offered(&block, cursor(5, 0));
    let reason = SkipReason::Stale;
    let skipped = |count| {
        (0..count).map(|item| Skipped { height: Height(5), item, reason }).collect::<Vec<_>>()
    };
    let most = RECORD_SKIPPED_MAX as u32;
    for count in [most, most + 1] {
        let outcome = Outcome { included: vec![], skipped: skipped(count) };
        let sealed = Kind::Offered(outcome).sealed(&block, &offer, &none()).unwrap();
        assert_eq!(sealed.skipped, skipped(most));
    }
}
