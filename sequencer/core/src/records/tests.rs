//! Which limits are known where, whatever the order in which they come, and which records of blocks count.

use alloy_primitives::Address;

use super::*;
use crate::limits::BACKLOG_MS_MAX;
use crate::params::ChainKind;
use crate::record::Cursor;
use crate::signing::SigningKey;
use crate::slice::Item;
use crate::types::{BlockHash, ChainId, NetworkId, Round};

/// Log time of a height.
fn time(height: u64) -> UnixMillis {
    UnixMillis(height * 100)
}

fn sign(body: RecordBody) -> Record {
    let key = SigningKey::from_bytes([4; 32]).unwrap();
    Record::sign(NetworkId::ZERO, ChainId(901), body, &key)
}

fn record(tx_bytes: u64) -> Record {
    sign(RecordBody::Limits(Limits { tx_bytes, ..Limits::default() }))
}

/// The limits recorded at a height, as an endpoint shows them.
fn recorded(height: u64, tx_bytes: u64) -> (Header, Record) {
    (header(height), record(tx_bytes))
}

fn header(height: u64) -> Header {
    Header {
        network_id: NetworkId::ZERO,
        height: Height(height),
        round: Round(0),
        parent: BlockHash::ZERO,
        timestamp_ms: time(height),
        proposer: Address::ZERO,
        validators_hash: B256::ZERO,
        next_validators_hash: B256::ZERO,
        set_since: Height(1),
        cut_hash: B256::ZERO,
        slices_root: B256::ZERO,
        state_hash: B256::ZERO,
    }
}

/// A log block with these limits, one record after the other.
fn block(height: u64, limits: &[u64]) -> LogSlice {
    let item = |(index, tx_bytes): (u32, &u64)| Item {
        index,
        content: Content::Record(record(*tx_bytes)),
    };
    let items = (0u32..).zip(limits).map(item).collect();
    LogSlice::new(Height(height), time(height), ChainKind::Evm, items)
}

fn at(book: &RecordBook, height: u64) -> u64 {
    book.limits_at(time(height)).tx_bytes
}

#[test]
fn limits_in_force_where_a_walk_begins_are_missing_until_they_are_noted() {
    let mut book = RecordBook::default();
    assert_eq!(book.limits_missing(Height(50)), Some(None));
    // What comes with slices says nothing of what was in force before.
    book.note(&block(60, &[6]));
    assert_eq!(book.limits_missing(Height(50)), Some(None));
    book.note_limits(Height(50), &[recorded(40, 4)], true);
    assert_eq!(book.limits_missing(Height(50)), None);
    assert_eq!((at(&book, 50), at(&book, 60)), (4, 6));
    assert_eq!(book.newest_limits().tx_bytes, 6);
}

#[test]
fn earlier_walk_needs_all_limits_from_its_begin_on() {
    let mut book = RecordBook::default();
    book.note_limits(Height(50), &[recorded(40, 4)], true);
    assert_eq!(book.limits_missing(Height(20)), Some(Some(Height(50))));
    // A part of them, then the rest.
    book.note_limits(Height(20), &[recorded(40, 4), recorded(30, 3)], false);
    assert_eq!(book.limits_missing(Height(20)), Some(Some(Height(30))));
    book.note_limits(Height(20), &[recorded(25, 2), recorded(10, 1)], false);
    assert_eq!(book.limits_missing(Height(20)), None);
    for (height, expected) in [(20, 1), (25, 2), (39, 3), (50, 4)] {
        assert_eq!(at(&book, height), expected, "{height}");
    }
}

#[test]
fn no_limits_at_all_is_known_too() {
    let mut book = RecordBook::default();
    book.note_limits(Height(50), &[], true);
    assert_eq!((book.limits_missing(Height(50)), at(&book, 99)), (None, 0));
}

#[test]
fn last_limits_of_a_log_block_count_whichever_way_they_come() {
    let newest_first = [recorded(40, 5), recorded(40, 4)];
    let (mut asked, mut read) = (RecordBook::default(), RecordBook::default());
    asked.note_limits(Height(50), &newest_first, true);
    read.note(&block(40, &[4, 5]));
    read.note_limits(Height(50), &newest_first, true);
    assert_eq!((at(&asked, 50), at(&read, 50)), (5, 5));
}

#[test]
fn limits_that_are_forgotten_are_missing_again() {
    let mut book = RecordBook::default();
    book.note_limits(Height(1), &[], true);
    let count = u64::try_from(READER_BLOCKS_MAX).unwrap();
    for height in 1..=count + 2 {
        book.note(&block(height, &[height]));
    }
    assert_eq!(book.limits_missing(Height(3)), None);
    assert_eq!(book.limits_missing(Height(2)), Some(Some(Height(3))));
}

fn seal(number: u8, mode: SealMode, items: u32) -> Sealed {
    Sealed {
        number: number.into(),
        hash: B256::with_last_byte(number),
        parent: B256::ZERO,
        timestamp: number.into(),
        mode,
        cursor: Cursor { height: Height(5), items },
        skipped: Vec::new(),
    }
}

#[test]
fn found_records_that_contradict_each_other_tell_nothing() {
    let (offered, closed) = (SealMode::Offered, SealMode::Closed);
    for (others, expected) in [
        (vec![], true),
        (vec![seal(6, offered, 1)], true),
        (vec![seal(5, closed, 0)], true),
        (vec![seal(6, closed, 1)], false),
        (vec![seal(6, offered, 2)], false),
    ] {
        let all: Vec<Sealed> = [seal(6, offered, 1)].into_iter().chain(others).collect();
        let found: Vec<(Header, Record)> = (1..)
            .zip(&all)
            .map(|(height, sealed)| (header(height), sign(RecordBody::Sealed(sealed.clone()))))
            .collect();
        let mut book = RecordBook::default();
        book.note_found(&found);
        let recorded = book.sealed(&B256::with_last_byte(6));
        assert_eq!(recorded.map(|it| it.time), expected.then_some(time(1)), "{all:?}");
    }
}

#[test]
fn walk_begins_with_an_undisputed_record_of_an_offered_block_before_its_goal() {
    let (offered, closed) = (SealMode::Offered, SealMode::Closed);
    let candidate = seal(6, offered, 1);
    for (last, others, expected) in [
        (6, vec![], vec![6]),
        (7, vec![], vec![6]),
        (5, vec![], vec![]),
        (6, vec![seal(5, closed, 0)], vec![6]),
        (6, vec![seal(5, offered, 0), seal(7, offered, 1)], vec![6, 5]),
        (6, vec![candidate.clone()], vec![6, 6]),
        (6, vec![seal(6, closed, 1)], vec![]),
        (6, vec![seal(6, offered, 2)], vec![]),
        (5, vec![seal(6, offered, 2), seal(5, offered, 0)], vec![5]),
    ] {
        let newest_first: Vec<(Header, Record)> = [candidate.clone()]
            .into_iter()
            .chain(others)
            .map(|sealed| (header(9), sign(RecordBody::Sealed(sealed))))
            .collect();
        let numbers: Vec<u64> = begins(&newest_first, last).map(|sealed| sealed.number).collect();
        assert_eq!(numbers, expected, "{last} {newest_first:?}");
    }
    let closed = [(header(9), sign(RecordBody::Sealed(seal(6, closed, 1))))];
    assert_eq!(begins(&closed, 6).next(), None);
}

#[test]
fn first_record_of_a_block_counts() {
    let item =
        |index, sealed| Item { index, content: Content::Record(sign(RecordBody::Sealed(sealed))) };
    let mut book = RecordBook::default();
    let slice =
        |height: u64, items| LogSlice::new(Height(height), time(height), ChainKind::Evm, items);
    let offered = SealMode::Offered;
    let first = vec![item(0, seal(6, offered, 1)), item(2, seal(6, offered, 3))];
    let second = vec![item(0, seal(6, offered, 2)), item(1, seal(7, offered, 2))];
    for (slice, (height, place, number)) in
        [slice(7, first), slice(8, second)].iter().zip([(7, 0, 6), (8, 1, 7)])
    {
        let firsts = book.note(slice);
        let [First { place: at, sealed, .. }] = firsts.as_slice() else { panic!("{firsts:?}") };
        assert_eq!((*at, sealed.number), (Place { height: Height(height), item: place }, number));
        assert!(book.note(slice).is_empty(), "once is enough");
    }
    let recorded = book.sealed(&B256::with_last_byte(6)).unwrap();
    assert_eq!((recorded.time, recorded.sealed.cursor.items), (time(7), 1));
}

#[test]
fn record_of_a_closed_block_that_may_be_late_is_no_place_to_begin() {
    let end = UnixMillis(1_000);
    for (mode, after, expected) in [
        (SealMode::Offered, BACKLOG_MS_MAX + 1, true),
        (SealMode::Closed, BACKLOG_MS_MAX, true),
        (SealMode::Closed, BACKLOG_MS_MAX + 1, false),
    ] {
        let recorded = Recorded { time: end.plus(after), sealed: seal(6, mode, 1) };
        assert_eq!(recorded.begin(end).is_some(), expected, "{mode:?} {after}");
    }
}
