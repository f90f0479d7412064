//! Walks: what they need, how far they go, and what they rest on.

use alloy_primitives::Bytes;

use super::*;
use crate::cursor::L2Header;
use crate::limits::BACKLOG_MS_MAX;
use crate::record::Limits;
use crate::window::fixtures::*;

const LEAD: u64 = 700;
/// Timestamp of the block before the one at which the chain joined, seconds.
const T: u64 = 1_700_000_000;

fn rules() -> Rules {
    Rules { lead_ms: LEAD, joins_at: T + 1 }
}

fn hash(number: u64) -> B256 {
    B256::from(alloy_primitives::U256::from(number + 1))
}

fn tx(number: u64) -> Bytes {
    transaction(number, 21_000, 0)
}

/// Block `number`, one second after the one before; `users` are its transactions behind the first deposit.
fn block(number: u64, users: Vec<Bytes>) -> L2Block {
    let mut transactions = vec![first(Form::Jovian(400), T + number, 0)];
    transactions.extend(users);
    let (hash, parent) = (hash(number), hash(number.saturating_sub(1)));
    L2Block { number, hash, parent, timestamp: T + number, gas_limit: 30_000_000, transactions }
}

/// One log block for each block: what it is offered, 200 ms before its window's end; one more closes the last window.
fn log(count: u64) -> Vec<LogSlice> {
    let end = |number: u64| (T + number) * 1_000 - LEAD;
    let slices =
        (1..=count).map(|number| slice(number, end(number) - 200, vec![loose(tx(number))]));
    slices.chain([slice(count + 1, end(count) + 50, vec![])]).collect()
}

fn book() -> RecordBook {
    let mut book = RecordBook::default();
    book.note_limits(Height(0), &[], true);
    book
}

fn view<'a>(book: &'a RecordBook, log: &[LogSlice]) -> LogView<'a> {
    LogView { book, newest: log.last().unwrap().timestamp }
}

/// What a walk asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    headers: usize,
    blocks: usize,
    logs: usize,
    heights: usize,
}

/// Walks over blocks that each take their offer.
fn run(
    reader: &mut Reader,
    log: LogView<'_>,
    slices: &[LogSlice],
    goal: u64,
) -> (Result<Found, Unresolved>, Asked) {
    let (mut walk, mut asked) = (Walk::new(hash(goal)), Asked::default());
    let result = loop {
        let next = match walk.next(reader, log) {
            Ok(Next::Found(found)) => break Ok(found),
            Ok(Next::Need(need)) => need,
            Err(error) => break Err(error),
        };
        let taken = match next {
            Need::Header(at) => {
                asked.headers += 1;
                let number = (0..=goal).find(|number| hash(*number) == at);
                let header = number.map(|number| block(number, vec![]).header());
                walk.take_header(reader, log, header)
            }
            Need::Block(L2Header { number, .. }) => {
                asked.blocks += 1;
                walk.take_block(Some(block(number, vec![tx(number)])))
            }
            Need::Log { from, until } => {
                asked.logs += 1;
                let after = |slice: &&LogSlice| slice.height >= from;
                let within = slices.iter().filter(after).take_while(|it| it.timestamp <= until);
                let count = within.count();
                walk.take_log(reader, log, slices.iter().filter(after).take(count + 1))
            }
            Need::HeightAfter(time) => {
                asked.heights += 1;
                let first = slices.iter().find(|slice| slice.timestamp > time).unwrap();
                walk.take_height(first.height);
                Ok(())
            }
            Need::Limits(_) => panic!("the limits are known"),
        };
        if let Err(error) = taken {
            break Err(error);
        }
    };
    (result, asked)
}

#[test]
fn a_walk_asks_for_each_block_once_and_the_next_one_for_the_new_one_alone() {
    let (book, log, mut reader) = (book(), log(9), Reader::new(rules()));
    let view = view(&book, &log);
    let (found, asked) = run(&mut reader, view, &log, 8);
    assert_eq!(found.unwrap().begin.cursor, Cursor { height: Height(8), items: 1 });
    // Up to the block before the chain joined.
    assert_eq!(asked, Asked { headers: 9, blocks: 8, logs: 8, heights: 1 });
    let (found, asked) = run(&mut reader, view, &log, 9);
    assert_eq!(found.unwrap().begin.cursor, Cursor { height: Height(9), items: 1 });
    assert_eq!(asked, Asked { headers: 1, blocks: 1, logs: 1, heights: 0 });
    assert_eq!(run(&mut reader, view, &log, 5).1, Asked::default());
}

#[test]
fn a_walk_ends_where_the_log_or_the_engine_lacks_something() {
    let (book, log, mut reader) = (book(), log(3), Reader::new(rules()));
    let view = view(&book, &log);
    let (found, asked) = run(&mut reader, view, &log, 4);
    assert!(matches!(found, Err(Unresolved::AheadOfLog { .. })), "{found:?}");
    assert_eq!(asked.headers, 1, "a block ahead of the log is seen at once");
    let mut walk = Walk::new(hash(99));
    walk.next(&mut reader, view).unwrap();
    assert_eq!(walk.take_header(&reader, view, None), Err(Unresolved::NoBlock(hash(99))));
}

/// A chain that stood for hours is bridged; what is further needs a record.
#[test]
fn a_walk_climbs_no_more_headers_than_it_may() {
    let (book, mut reader) = (book(), Reader::new(Rules { joins_at: 0, ..rules() }));
    let view = LogView { book: &book, newest: UnixMillis(u64::MAX) };
    let mut walk = Walk::new(hash(1_000_000));
    for number in (0..=1_000_000u64).rev().take(READER_WALK_MAX) {
        assert_eq!(walk.next(&mut reader, view), Ok(Next::Need(Need::Header(hash(number)))));
        walk.take_header(&reader, view, Some(block(number, vec![]).header())).unwrap();
    }
    assert_eq!(walk.next(&mut reader, view), Err(Unresolved::TooFar(hash(1_000_000))));
}

/// Its content closed it, so the log is not read for it, however long its window stood open.
#[test]
fn a_block_beyond_the_drift_needs_no_slices() {
    let (book, log, mut reader) = (book(), log(2), Reader::new(rules()));
    let view = view(&book, &log);
    let mut walk = Walk::new(hash(1));
    let late =
        L2Block { transactions: vec![first(Form::Jovian(400), T - 1_801, 0)], ..block(1, vec![]) };
    let before = Begin::from(Cursor { height: Height(1), items: 0 });
    let known = Known { number: 0, parent: B256::ZERO, timestamp: T, found: before.into() };
    reader.insert(hash(0), known);
    walk.next(&mut reader, view).unwrap();
    walk.take_header(&reader, view, Some(late.header())).unwrap();
    walk.next(&mut reader, view).unwrap();
    walk.take_block(Some(late)).unwrap();
    let Ok(Next::Found(found)) = walk.next(&mut reader, view) else { panic!("{walk:?}") };
    assert_eq!(found.begin.cursor, Cursor { height: Height(1), items: 0 });
}

/// The owner's own word on a closed block holds until a record of it could no more count; its children's cursors rest on it.
#[test]
fn what_rests_on_the_owners_word_ends_with_it() {
    let (book, log, mut reader) = (book(), log(3), Reader::new(rules()));
    let now = view(&book, &log);
    let closed = L2Block { hash: hash(1), ..block(1, vec![]) };
    let begin = Begin::from(Cursor { height: Height(1), items: 0 });
    let judge = |reader: &Reader, log_view| {
        reader.judge(log_view, closed.clone(), begin.clone(), &log).unwrap()
    };
    assert_eq!(judge(&reader, now).kind, Kind::Ambiguous);
    reader.note_closed(hash(1), BTreeSet::new());
    let judged = judge(&reader, now);
    let found = judged.found.clone().unwrap();
    let until = judged.offer.closed_at.plus(BACKLOG_MS_MAX);
    assert_eq!((judged.kind, found.until), (Kind::Closed, Some(until)));
    assert_eq!(found.begin.cursor, begin.cursor);
    let known = Known { number: 1, parent: hash(0), timestamp: T + 1, found };
    reader.insert(hash(1), known);
    assert!(reader.find(LogView { newest: until, ..now }, &hash(1)).is_some());
    let late = LogView { newest: until.plus(1), ..now };
    assert_eq!(reader.find(late, &hash(1)), None);
    assert!(matches!(judge(&reader, late).kind, Kind::Offered(_)), "nobody recorded it in time");
    assert!(reader.newest(9).is_empty(), "what may end is not kept for the next start");
}

#[test]
fn a_limit_that_is_not_known_is_asked_for_first() {
    let (log, mut reader) = (log(2), Reader::new(rules()));
    let book = RecordBook::default();
    let view = view(&book, &log);
    let begin = Begin::from(Cursor { height: Height(1), items: 0 });
    let known = Known { number: 0, parent: B256::ZERO, timestamp: T, found: begin.into() };
    reader.insert(hash(0), known);
    let mut walk = Walk::new(hash(1));
    walk.next(&mut reader, view).unwrap();
    walk.take_header(&reader, view, Some(block(1, vec![]).header())).unwrap();
    walk.next(&mut reader, view).unwrap();
    walk.take_block(Some(block(1, vec![tx(1)]))).unwrap();
    assert_eq!(walk.next(&mut reader, view), Ok(Next::Need(Need::Limits(Height(1)))));
    assert_eq!(book.limits_at(UnixMillis(0)), Limits::default());
}
