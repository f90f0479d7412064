//! What the book remembers, and what records show of one another.

use lockstep_core::record::{Cursor, Limits, RecordBody, SealMode};
use lockstep_core::slice::Content;

use super::*;
use crate::judge::tests::{hash, loose, record, slice};

fn sealed(number: u64, hash: u8) -> Content {
    record(RecordBody::Sealed(Sealed {
        number,
        hash: B256::repeat_byte(hash),
        parent: B256::repeat_byte(6),
        timestamp: number,
        mode: SealMode::Offered,
        cursor: Cursor::default(),
        skipped: Vec::new(),
    }))
}

fn limits() -> Content {
    record(RecordBody::Limits(Limits::default()))
}

fn book() -> Book {
    Book::new(NetworkId::ZERO)
}

#[test]
fn second_block_of_a_number_is_an_equivocation() {
    let mut book = book();
    let first = slice(5, 10, vec![sealed(7, 1), sealed(8, 2), sealed(7, 1)]);
    assert_eq!(book.note(&first), []);
    let second = slice(6, 20, vec![sealed(7, 3)]);
    let found = book.note(&second);
    let [Finding::Equivocation { number: 7, first, second: other }] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((first.block, other.block), (B256::repeat_byte(1), B256::repeat_byte(3)));
    assert_eq!((first.recorded.item, other.recorded.height), (0, 6));
    assert!(first.signer.is_some());
    assert_eq!(book.note(&second), [], "once is enough");
}

#[test]
fn first_record_of_a_block_counts() {
    let mut book = book();
    book.note(&slice(5, 10, vec![sealed(7, 1)]));
    assert_eq!(book.note(&slice(6, 20, vec![sealed(7, 1)])), []);
    let Recorded { id, sealed } = book.sealed(&B256::repeat_byte(1)).expect("a record");
    assert_eq!((id.recorded.height, sealed.hash), (5, id.block));
}

#[test]
fn record_of_a_block_that_is_not_on_the_chain_is_told_once_the_chain_is_known() {
    let mut book = book();
    book.note(&slice(5, 10, vec![sealed(7, 1), sealed(8, 2)]));
    let nothing = |_: u64| None;
    assert_eq!(book.compare(6, nothing), [], "the chain is not there yet");
    let canonical = |number: u64| (number == 7).then_some(B256::repeat_byte(9));
    let found = book.compare(7, canonical);
    assert!(matches!(found.as_slice(), [Finding::NotCanonical { number: 7, .. }]), "{found:?}");
    assert_eq!(book.compare(7, canonical), []);

    let canonical = |_: u64| Some(B256::repeat_byte(2));
    assert_eq!(book.compare(8, canonical), []);
    book.reopen(7);
    let canonical = |_: u64| Some(B256::repeat_byte(3));
    let found = book.compare(8, canonical);
    assert!(matches!(found.as_slice(), [Finding::NotCanonical { number: 8, .. }]), "{found:?}");
}

#[test]
fn transaction_is_found_where_it_is_ordered() {
    let mut book = book();
    book.note(&slice(5, 10, vec![limits(), loose(1)]));
    let place = Place { height: Height(5), item: 1 };
    assert_eq!(book.seen(&hash(1)), Some(&Seen { place, time: UnixMillis(10) }));
    assert_eq!(book.seen(&hash(2)), None);
}
