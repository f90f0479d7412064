//! Tables from blocks and records to findings. The log has a stale item, then a transaction 1, a leg of 2 and 3, one that
//! is too large, a transaction 4; behind the window, a transaction 5.

use alloy_primitives::{Address, Bytes, U256, keccak256};
use alloy_rlp::Encodable;
use lockstep_core::bundle::Guarantee;
use lockstep_core::deposit::DEPOSITOR;
use lockstep_core::limits::BACKLOG_MS_MAX;
use lockstep_core::params::ChainKind;
use lockstep_core::reader::Rules;
use lockstep_core::record::{Cursor, Record, RecordBody};
use lockstep_core::records::RecordBook;
use lockstep_core::signing::SigningKey;
use lockstep_core::slice::Item;
use lockstep_core::types::{ChainId, NetworkId};
use lockstep_core::window::{LogSlice, offer};

use super::*;
use crate::block::BlockTransaction;

pub(crate) const LEAD: u64 = 700;
pub(crate) const T: u64 = 1_700_000_000;
pub(crate) const END: u64 = T * 1_000 - LEAD;
/// Log time of the first log block after the window.
pub(crate) const CLOSED_AT: u64 = END + 250;

/// Bytes that look like a legacy transaction as far as its gas limit.
fn bytes(n: u64, gas: u64) -> Bytes {
    let fields: [&dyn Encodable; 6] = [&n, &1u8, &gas, &Bytes::new(), &0u8, &Bytes::new()];
    let mut bytes = Vec::new();
    alloy_rlp::encode_list::<_, dyn Encodable>(&fields, &mut bytes);
    bytes.into()
}

pub(crate) fn hash(n: u64) -> B256 {
    keccak256(bytes(n, 21_000))
}

pub(crate) fn loose(n: u64) -> Content {
    Content::Transaction { bytes: bytes(n, 21_000) }
}

fn leg(transactions: &[u64]) -> Content {
    Content::Leg {
        bundle: EntryId(B256::repeat_byte(0xb)),
        leg: 1,
        legs: 2,
        guarantee: Guarantee::CoOrdered,
        transactions: transactions.iter().map(|n| bytes(*n, 21_000)).collect(),
    }
}

pub(crate) fn record(body: RecordBody) -> Content {
    let key = SigningKey::from_bytes([4; 32]).expect("a key");
    Content::Record(Record::sign(NetworkId::ZERO, ChainId(901), body, &key))
}

pub(crate) fn slice(height: u64, timestamp: u64, contents: Vec<Content>) -> LogSlice {
    let items = (0u32..).zip(contents).map(|(index, content)| Item { index, content }).collect();
    LogSlice::new(Height(height), UnixMillis(timestamp), ChainKind::Evm, items)
}

fn log() -> Vec<LogSlice> {
    vec![
        slice(5, END - BACKLOG_MS_MAX - 1, vec![loose(90)]),
        slice(6, END - 9, vec![loose(1), leg(&[2, 3])]),
        slice(7, END - 5, vec![Content::Transaction { bytes: bytes(91, u64::MAX) }, loose(4)]),
        slice(8, CLOSED_AT, vec![loose(5)]),
    ]
}

/// The L1-attributes deposit in its Ecotone form.
fn first() -> Bytes {
    let mut data = vec![0x44, 0x0a, 0x5e, 0x20];
    data.extend([0; 8]);
    for field in [0, T, 9] {
        data.extend(field.to_be_bytes());
    }
    data.resize(164, 0);
    let (source, gas, is_system) = (B256::repeat_byte(1), 1_000_000u64, false);
    let data = Bytes::from(data);
    let fields: [&dyn Encodable; 8] =
        [&source, &DEPOSITOR, &Address::ZERO, &U256::ZERO, &U256::ZERO, &gas, &is_system, &data];
    let mut bytes = vec![0x7e];
    alloy_rlp::encode_list::<_, dyn Encodable>(&fields, &mut bytes);
    bytes.into()
}

fn block(users: &[u64]) -> ChainBlock {
    let users = users.iter().map(|n| BlockTransaction::User(hash(*n)));
    ChainBlock {
        number: 7,
        hash: B256::repeat_byte(7),
        parent: B256::repeat_byte(6),
        timestamp: T,
        gas_limit: 30_000_000,
        transactions: [BlockTransaction::Deposit(first())].into_iter().chain(users).collect(),
    }
}

/// A block of these transactions whose parent's cursor is before all of the log.
fn judged(users: &[u64], newest: u64) -> Judged {
    let block = block(users);
    let (rules, book) = (Rules { lead_ms: LEAD, joins_at: 0 }, RecordBook::default());
    let window = rules.window(&book, &block.l2_block(None)).expect("a window");
    let begin = Cursor { height: Height(5), items: 0 };
    let offer = offer(begin, &log(), &window).expect("an offer");
    let log = LogView { book: &book, newest: UnixMillis(newest) };
    Judged::new(&Reader::new(rules), log, block, window, offer)
}

fn book() -> Book {
    let mut book = Book::new(NetworkId::ZERO);
    for slice in log() {
        assert_eq!(book.note(&slice), []);
    }
    book
}

fn at(index: u32, n: u64) -> InBlock {
    let block = BlockId { number: 7, block: B256::repeat_byte(7) };
    InBlock { block, index, transaction: hash(n) }
}

fn ordered(height: u64, item: u32) -> At {
    At { height, item }
}

fn extra(index: u32, n: u64) -> Finding {
    Finding::Extra { at: at(index, n), ordered_later: None }
}

fn reordered(index: u32, n: u64, (height, item): (u64, u32)) -> Finding {
    Finding::Reordered { at: at(index, n), ordered: ordered(height, item) }
}

fn part(index: u32, n: u64) -> Finding {
    let bundle = B256::repeat_byte(0xb);
    Finding::PartOfLeg { at: at(index, n), ordered: ordered(6, 1), bundle, got: 1, count: 2 }
}

#[test]
fn every_transaction_that_is_not_in_its_turn_is_named() {
    let later = Finding::Extra { at: at(1, 5), ordered_later: Some(ordered(8, 0)) };
    for (users, expected) in [
        (&[9][..], vec![extra(1, 9)]),
        (&[1, 9, 4, 8], vec![extra(2, 9), extra(4, 8)]),
        (&[9, 1, 2, 3, 4], vec![extra(1, 9)]),
        (&[4, 1], vec![reordered(2, 1, (6, 0))]),
        (&[1, 1], vec![reordered(2, 1, (6, 0))]),
        (&[4, 2, 3], vec![reordered(2, 2, (6, 1)), reordered(3, 3, (6, 1))]),
        (&[2], vec![part(1, 2)]),
        (&[1, 3, 4], vec![part(2, 3)]),
        (&[3, 2], vec![reordered(1, 3, (6, 1)), reordered(2, 2, (6, 1))]),
        (&[90], vec![reordered(1, 90, (5, 0))]),
        (&[5], vec![later]),
    ] {
        let judged = judged(users, CLOSED_AT);
        let mut found = strays(&judged, &book());
        let Finding::Foreign { at, strays } = found.remove(0) else {
            panic!("{users:?} {found:?}")
        };
        assert_eq!(found, expected, "{users:?}");
        assert_eq!(strays, expected.len(), "{users:?}");
        // The first one is the same that core names.
        let is_same = matches!(judged.core.kind, Kind::Foreign { index, .. } if index == at.index);
        assert!(is_same, "{users:?} {:?}", judged.core.kind);
    }
}

#[test]
fn block_of_its_offer_has_no_stray() {
    for users in [&[1, 2, 3, 4][..], &[1, 4], &[2, 3], &[4], &[1]] {
        let judged = judged(users, CLOSED_AT);
        assert!(matches!(judged.core.kind, Kind::Offered(_)), "{users:?}");
        assert_eq!(strays(&judged, &book()), [], "{users:?}");
    }
}

/// A book with a record, and the hash of its block.
fn recorded(sealed: Sealed) -> (Book, B256) {
    let mut book = Book::new(NetworkId::ZERO);
    let hash = sealed.hash;
    book.note(&slice(9, CLOSED_AT + 1, vec![record(RecordBody::Sealed(sealed))]));
    (book, hash)
}

fn word((book, hash): &(Book, B256)) -> Word<'_> {
    Word::Recorded(book.sealed(hash).expect("a record"))
}

fn sealed(judged: &Judged) -> Sealed {
    let reader::Judged { block, offer, kind, .. } = &judged.core;
    kind.sealed(block, offer, &BTreeSet::new()).expect("is known")
}

const STALE: (Place, Option<Reason>) = (Place { height: Height(5), item: 0 }, Some(Reason::Stale));
const LARGE: (Place, Option<Reason>) =
    (Place { height: Height(7), item: 0 }, Some(Reason::TooLarge));

fn place_of(height: u64, item: u32) -> Place {
    Place { height: Height(height), item }
}

#[test]
fn skipped_item_is_missing_unless_a_record_names_it_or_may_come() {
    let judged = judged(&[1, 4], CLOSED_AT);
    let leg = place_of(6, 1);
    let full = recorded(sealed(&judged));
    let missing = Finding::Missing {
        block: judged.id(),
        ordered: ordered(6, 1),
        transactions: vec![hash(2), hash(3)],
    };
    for (word, reason, expected) in [
        (word(&full), Some(Reason::Invalid), vec![]),
        (Word::NotYet, None, vec![]),
        (Word::Never, None, vec![missing.clone()]),
    ] {
        let settled = settle(&judged, word);
        assert_eq!(settled.skipped, [STALE, (leg, reason), LARGE], "{word:?}");
        assert_eq!(settled.findings, expected, "{word:?}");
    }
    let silent = recorded(Sealed { skipped: vec![], ..sealed(&judged) });
    let found = settle(&judged, word(&silent)).findings;
    assert!(matches!(found[0], Finding::RecordDisagrees { field: "skipped", .. }), "{found:?}");
    assert_eq!(found[1..], [missing]);
}

#[test]
fn item_behind_a_full_list_of_skipped_ones_needs_no_reason() {
    let judged = judged(&[1, 4], CLOSED_AT);
    let reason = SkipReason::Invalid;
    let item = |item| Skipped { height: Height(5), item, reason };
    let most = u32::try_from(RECORD_SKIPPED_MAX).expect("is small");
    let is_missing = |count| {
        let skipped = (0..count).map(item).collect();
        let full = recorded(Sealed { skipped, ..sealed(&judged) });
        let found = settle(&judged, word(&full)).findings;
        found.iter().any(|finding| matches!(finding, Finding::Missing { .. }))
    };
    assert!(!is_missing(most));
    assert!(is_missing(most - 1));
}

#[test]
fn record_that_says_something_else_than_the_block_is_found() {
    let judged = judged(&[1, 2, 3, 4], CLOSED_AT);
    let right = sealed(&judged);
    assert_eq!(settle(&judged, word(&recorded(right.clone()))).findings, []);
    let cases = [
        ("number", Sealed { number: 8, ..right.clone() }),
        ("parent", Sealed { parent: B256::ZERO, ..right.clone() }),
        ("timestamp", Sealed { timestamp: T + 1, ..right.clone() }),
        ("mode", Sealed { mode: SealMode::Closed, ..right.clone() }),
        ("cursor", Sealed { cursor: Cursor { height: Height(7), items: 1 }, ..right.clone() }),
        ("skipped", Sealed { skipped: vec![], ..right }),
    ];
    for (expected, wrong) in cases {
        let found = settle(&judged, word(&recorded(wrong))).findings;
        let [Finding::RecordDisagrees { field, recorded, .. }] = found.as_slice() else {
            panic!("{expected}: {found:?}")
        };
        assert_eq!((*field, *recorded), (expected, ordered(9, 0)));
    }
}

#[test]
fn record_of_a_foreign_block_says_closed() {
    let judged = judged(&[9], CLOSED_AT);
    let right = sealed(&judged);
    assert_eq!(settle(&judged, word(&recorded(right.clone()))).findings, []);
    let wrong = recorded(Sealed { mode: SealMode::Offered, ..right });
    assert_eq!(settle(&judged, word(&wrong)).findings.len(), 1);
}

#[test]
fn legs_are_told_with_what_became_of_them() {
    let log = log();
    let item = |place: Place| {
        let slice = log.iter().find(|slice| slice.height == place.height)?;
        slice.items.get(place.item as usize).map(|item| &**item)
    };
    let seen = |skipped| LegSeen {
        bundle: EntryId(B256::repeat_byte(0xb)),
        height: Height(6),
        legs: 2,
        leg: 1,
        skipped,
    };
    assert_eq!(judged(&[1, 2, 3], CLOSED_AT).legs(item), [seen(None)]);
    assert_eq!(judged(&[1], CLOSED_AT).legs(item), [seen(Some(Reason::Invalid))]);
    assert_eq!(judged(&[9], CLOSED_AT).legs(item), [], "it is offered to the next block again");
}

#[test]
fn block_without_users_transactions_waits_for_its_record() {
    let deadline = CLOSED_AT + BACKLOG_MS_MAX;
    let waiting = judged(&[], deadline);
    assert_eq!(waiting.core.kind, Kind::Ambiguous);
    assert!(!waiting.is_past(UnixMillis(deadline)));
    let past = judged(&[], deadline + 1);
    assert!(matches!(past.core.kind, Kind::Offered(_)));
    assert!(past.needs_word() && past.is_past(UnixMillis(deadline + 1)));
}
