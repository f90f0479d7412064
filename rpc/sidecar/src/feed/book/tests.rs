//! Which limits are known where, whatever the order in which they come.

use alloy_primitives::{Address, B256};
use lockstep_core::header::Header;
use lockstep_core::params::ChainKind;
use lockstep_core::record::Record;
use lockstep_core::signing::SigningKey;
use lockstep_core::slice::Item;
use lockstep_core::types::{BlockHash, ChainId, NetworkId, Round};
use lockstep_core::window::LogSlice;

use super::*;

/// Log time of a height.
fn time(height: u64) -> UnixMillis {
    UnixMillis(height * 100)
}

fn record(tx_bytes: u64) -> Record {
    let key = SigningKey::from_bytes([4; 32]).unwrap();
    let body = RecordBody::Limits(Limits { tx_bytes, ..Limits::default() });
    Record::sign(NetworkId::ZERO, ChainId(901), body, &key)
}

/// The record at a height, as an endpoint shows it.
fn recorded(height: u64, tx_bytes: u64) -> Recorded {
    let header = Header {
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
    };
    (header, record(tx_bytes))
}

/// A log block with these limits, one record after the other.
fn block(height: u64, limits: &[u64]) -> LogBlock {
    let item = |(index, tx_bytes): (u32, &u64)| Item {
        index,
        content: Content::Record(record(*tx_bytes)),
    };
    let items = (0u32..).zip(limits).map(item).collect();
    let slice = LogSlice::new(Height(height), time(height), ChainKind::Evm, items);
    LogBlock { hash: BlockHash::ZERO, slice }
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
    let count = u64::try_from(LEDGER_BLOCKS_MAX).unwrap();
    for height in 1..=count + 2 {
        book.note(&block(height, &[height]));
    }
    assert_eq!(book.limits_missing(Height(3)), None);
    assert_eq!(book.limits_missing(Height(2)), Some(Some(Height(3))));
}
