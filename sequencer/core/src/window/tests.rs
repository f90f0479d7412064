//! What a window admits: a table for each rule, each just at its limit; then rules that hold whatever the log.

use alloy_primitives::{Address, address};
use proptest::prelude::*;

use super::fixtures::*;
use super::*;
use crate::deposit::DEPOSITOR;
use crate::slice::Content;

const LEAD: u64 = 700;
const GAS_LIMIT: u64 = 30_000_000;
/// Timestamp of the block, seconds.
const T: u64 = 1_700_000_000;
/// End of its window.
const END: u64 = T * 1_000 - LEAD;

fn of(gas_limit: u64, transactions: &[Bytes], limits: Limits) -> Window {
    Window::of(T, gas_limit, transactions, LEAD, limits).unwrap()
}

/// A window of a block after Isthmus without users' deposits.
fn plain() -> Window {
    of(GAS_LIMIT, &[first(Form::Isthmus, T, 1)], Limits::default())
}

fn limited(tx_bytes: u64, block_bytes: u64) -> Window {
    Window { limits: Limits { tx_bytes, block_bytes, ..Limits::default() }, ..plain() }
}

fn cursor(height: u64, items: u32) -> Cursor {
    Cursor { height: Height(height), items }
}

/// One loose transaction that declares this gas.
fn gas(n: u64, gas: u64) -> Content {
    loose(transaction(n, gas, 0))
}

/// One loose transaction with `size` bytes of data, and its estimate.
fn sized(n: u64, size: usize) -> (Content, u64) {
    let bytes = transaction(n, 21_000, size);
    let estimate = Weight::of(ChainKind::Evm, &bytes).bytes;
    (loose(bytes), estimate)
}

/// The log: what each height holds at which time, then one log block after the window's end.
fn log(blocks: Vec<(u64, Vec<Content>)>) -> Vec<LogSlice> {
    let after = (END + 250, Vec::new());
    (1u64..)
        .zip(blocks.into_iter().chain([after]))
        .map(|(height, (time, contents))| slice(height, time, contents))
        .collect()
}

fn places(offer: &Offer) -> Vec<(u64, u32)> {
    offer.items.iter().map(|offered| (offered.place.height.0, offered.place.item)).collect()
}

fn passed(offer: &Offer) -> Vec<(u64, u32, SkipReason)> {
    offer.passed.iter().map(|passed| (passed.height.0, passed.item, passed.reason)).collect()
}

/// Offers what one log block just before the window's end holds: how many items, and how many the cursor passed.
fn admitted(window: &Window, contents: Vec<Content>) -> (usize, u32) {
    let offer = offer(cursor(1, 0), &log(vec![(END - 10, contents)]), window).unwrap();
    assert!(offer.passed.is_empty());
    (offer.items.len(), offer.end.items)
}

fn reason(window: &Window, time: u64, content: Content) -> Option<SkipReason> {
    let offer = offer(cursor(1, 0), &log(vec![(time, vec![content])]), window).unwrap();
    assert_eq!(offer.items.len() + offer.passed.len(), 1);
    assert_eq!(offer.end, cursor(1, 1));
    offer.passed.first().map(|passed| passed.reason)
}

#[test]
fn a_window_ends_a_lead_before_its_timestamp() {
    assert_eq!(end(1_700_000_000, 700), UnixMillis(1_699_999_999_300));
    assert_eq!(end(0, 700), UnixMillis(0));
    assert_eq!(end(u64::MAX, 0), UnixMillis(u64::MAX));
    let end = UnixMillis(1_000);
    assert!(!is_closed(end, UnixMillis(999)));
    assert!(!is_closed(end, end));
    assert!(is_closed(end, UnixMillis(1_001)));
}

#[test]
fn the_newest_limits_before_the_end_are_in_force() {
    let limits = |tx_bytes| Limits { tx_bytes, block_bytes: 9, ..Limits::default() };
    let records = [(10, 1), (20, 2), (20, 3), (30, 4)].map(|(t, n)| (UnixMillis(t), limits(n)));
    let at = |end| limits_at(UnixMillis(end), records);
    assert_eq!(at(9), Limits::default());
    assert_eq!(at(10), limits(1));
    assert_eq!(at(19), limits(1));
    assert_eq!(at(20), limits(3));
    assert_eq!(at(u64::MAX), limits(4));
}

#[test]
fn a_window_has_the_room_that_deposits_leave() {
    let jovian = first(Form::Jovian(400), T, 0);
    let deposits = [jovian, user_deposit(1, 5_000_000), user_deposit(2, 1), transaction(1, 9, 0)];
    let window = of(GAS_LIMIT, &deposits, Limits::default());
    let expected = Window {
        end: UnixMillis(END),
        gas: 23_999_999,
        gas_max: 29_000_000,
        bytes_max: 75_000,
        limits: Limits::default(),
        closed: None,
    };
    assert_eq!(window, expected);
    assert_eq!(plain().bytes_max, u64::MAX);
}

#[test]
fn deposits_over_the_gas_limit_leave_no_room() {
    let deposits = [first(Form::Isthmus, T, 0), user_deposit(1, u64::MAX)];
    let window = of(L1_INFO_GAS - 1, &deposits, Limits::default());
    assert_eq!((window.gas, window.gas_max), (0, 0));
}

#[test]
fn a_block_is_closed_by_an_upgrade_or_by_drift() {
    let closed = |l1: u64, others: &[Bytes]| {
        let transactions = [&[first(Form::Isthmus, l1, 0)], others].concat();
        of(GAS_LIMIT, &transactions, Limits::default()).closed
    };
    let upgrade =
        deposit(address!("4210000000000000000000000000000000000003"), 425_000, false, b"code");
    let enabling = deposit(DEPOSITOR, 80_000, false, b"enable");
    let proxy = deposit(Address::ZERO, 50_000, false, b"upgradeTo");
    assert_eq!(closed(T, &[]), None);
    assert_eq!(closed(T, &[user_deposit(1, 1)]), None);
    for by in [upgrade, enabling, proxy] {
        assert_eq!(closed(T, &[user_deposit(1, 1), by]), Some(ClosedBy::Upgrade));
    }
    assert_eq!(closed(T - 1_800, &[]), None);
    assert_eq!(closed(T - 1_801, &[]), Some(ClosedBy::Drift));
    assert_eq!(closed(u64::MAX, &[]), None);
}

#[test]
fn a_block_whose_deposits_cannot_be_read_is_an_error() {
    let of = |transactions: &[Bytes]| {
        Window::of(T, GAS_LIMIT, transactions, LEAD, Limits::default()).unwrap_err()
    };
    let first = first(Form::Isthmus, T, 0);
    assert_eq!(of(&[]), InvalidBlock::Empty);
    let reason = InvalidDeposit::Type { got: Some(0xc6) };
    assert_eq!(of(&[transaction(1, 1, 0)]), InvalidBlock::Deposit { index: 0, reason });
    let error = of(&[deposit(DEPOSITOR, 1, false, b"")]);
    assert_eq!(error, InvalidBlock::L1Info(InvalidL1Info::Selector { got: vec![] }));
    let error = of(&[first, user_deposit(1, 1), vec![0x7e].into()]);
    assert!(matches!(error, InvalidBlock::Deposit { index: 2, .. }), "{error}");
}

#[test]
fn items_up_to_the_end_are_offered() {
    let blocks = vec![
        (END - 2, vec![gas(1, 21_000), gas(2, 21_000)]),
        (END - 1, vec![]),
        (END, vec![leg(vec![transaction(3, 21_000, 0), transaction(4, 21_000, 0)])]),
        (END + 1, vec![gas(5, 21_000)]),
    ];
    let offer = offer(cursor(1, 0), &log(blocks), &plain()).unwrap();
    assert_eq!(places(&offer), [(1, 0), (1, 1), (3, 0)]);
    assert_eq!(offer.items[2].item.hashes.len(), 2);
    assert_eq!((offer.begin.cursor, offer.end), (cursor(1, 0), cursor(3, 1)));
    assert_eq!(offer.closed_at, UnixMillis(END + 1));
}

#[test]
fn an_offer_begins_behind_the_cursor() {
    let blocks = vec![
        (END - 9, vec![gas(1, 21_000), gas(2, 21_000)]),
        (END - 5, vec![gas(3, 21_000), gas(4, 21_000)]),
    ];
    let log = log(blocks);
    for (begin, expected) in [
        (cursor(0, 0), vec![(1, 0), (1, 1), (2, 0), (2, 1)]),
        (cursor(1, 1), vec![(1, 1), (2, 0), (2, 1)]),
        (cursor(1, 2), vec![(2, 0), (2, 1)]),
        (cursor(2, 1), vec![(2, 1)]),
        (cursor(2, 2), vec![]),
        (cursor(2, 9), vec![]),
        (cursor(3, 0), vec![]),
    ] {
        let offer = offer(begin, &log, &plain()).unwrap();
        let end = if expected.is_empty() { begin } else { cursor(2, 2) };
        assert_eq!((places(&offer), offer.end), (expected, end), "{begin:?}");
    }
}

#[test]
fn the_cursor_moves_over_records_but_not_over_heights_without_items() {
    let blocks = vec![
        (END - 9, vec![gas(1, 21_000), record(1)]),
        (END - 5, vec![record(2), record(3)]),
        (END - 3, vec![]),
    ];
    let log = log(blocks);
    let begin_and_end = |begin| offer(begin, &log, &plain()).map(|o| (o.items.len(), o.end));
    assert_eq!(begin_and_end(cursor(1, 0)), Ok((1, cursor(2, 2))));
    assert_eq!(begin_and_end(cursor(1, 1)), Ok((0, cursor(2, 2))));
    assert_eq!(begin_and_end(cursor(2, 2)), Ok((0, cursor(2, 2))));
    assert_eq!(begin_and_end(cursor(3, 0)), Ok((0, cursor(3, 0))));
}

#[test]
fn the_cursor_stops_in_front_of_what_waits() {
    let blocks = vec![
        (END - 9, vec![gas(1, 20_000_000), record(1), gas(2, 20_000_000), gas(3, 21_000)]),
        (END - 5, vec![gas(4, 21_000)]),
    ];
    let log = log(blocks);
    let one = offer(cursor(1, 0), &log, &plain()).unwrap();
    assert_eq!((places(&one), one.end), (vec![(1, 0)], cursor(1, 2)));
    let two = offer(one.end, &log, &plain()).unwrap();
    assert_eq!((places(&two), two.end), (vec![(1, 2), (1, 3), (2, 0)], cursor(2, 1)));
}

#[test]
fn what_lay_in_the_log_too_long_is_stale() {
    assert_eq!(reason(&plain(), END - BACKLOG_MS_MAX, gas(1, 21_000)), None);
    let time = END - BACKLOG_MS_MAX - 1;
    assert_eq!(reason(&plain(), time, gas(1, 21_000)), Some(SkipReason::Stale));
    let too_large_too = gas(1, u64::MAX);
    assert_eq!(reason(&plain(), time, too_large_too), Some(SkipReason::Stale));
}

#[test]
fn what_no_block_can_hold_is_passed_over() {
    let check = |window: &Window, content, expected| {
        assert_eq!(reason(window, END, content), expected);
    };
    let most = GAS_LIMIT - L1_INFO_GAS;
    check(&plain(), gas(1, most), None);
    check(&plain(), gas(1, most + 1), Some(SkipReason::TooLarge));
    let halves = |more: u64| {
        leg(vec![transaction(1, most / 2, 0), transaction(2, most - most / 2 + more, 0)])
    };
    check(&plain(), halves(0), None);
    check(&plain(), halves(1), Some(SkipReason::TooLarge));

    let jovian = |gas_limit| of(gas_limit, &[first(Form::Jovian(400), T, 1)], Limits::default());
    let (item, bytes) = sized(1, 20_000);
    check(&jovian(bytes * 400), item.clone(), None);
    check(&jovian(bytes * 400 - 1), item, Some(SkipReason::TooLarge));
}

#[test]
fn a_user_deposit_makes_an_item_wait_that_fits_without_it() {
    let (deposits, most) =
        ([first(Form::Isthmus, T, 0), user_deposit(1, 1)], GAS_LIMIT - L1_INFO_GAS);
    let window = of(GAS_LIMIT, &deposits, Limits::default());
    assert_eq!(admitted(&window, vec![gas(1, most)]), (0, 0));
    assert_eq!(admitted(&window, vec![gas(1, most - 1)]), (1, 1));
}

#[test]
fn offered_gas_fills_the_block_and_no_more() {
    let most = GAS_LIMIT - L1_INFO_GAS;
    let pair = |more| vec![gas(1, 21_000), gas(2, most - 21_000 + more)];
    assert_eq!(admitted(&plain(), pair(0)), (2, 2));
    assert_eq!(admitted(&plain(), pair(1)), (1, 1));
    let junk = (0..2_000).map(|n| gas(n, 0)).collect();
    assert_eq!(admitted(&plain(), junk), (1_380, 1_380), "29,000,000 / 21,000");
}

#[test]
fn offered_bytes_fill_the_footprint_and_no_more() {
    let (a, a_bytes) = sized(1, 3_000);
    let (b, b_bytes) = sized(2, 2_000);
    let jovian = |gas_limit| of(gas_limit, &[first(Form::Jovian(400), T, 1)], Limits::default());
    let both = (a_bytes + b_bytes) * 400;
    assert_eq!(admitted(&jovian(both), vec![a.clone(), b.clone()]), (2, 2));
    assert_eq!(admitted(&jovian(both + 399), vec![a.clone(), b.clone()]), (2, 2));
    assert_eq!(admitted(&jovian(both - 1), vec![a, b]), (1, 1));
}

#[test]
fn what_alone_is_over_the_limits_is_passed_over_and_the_rest_waits_behind_what_does_not_fit() {
    let (big, bytes) = sized(1, 3_000);
    let small = |n| sized(n, 0).0;
    let over = [(1, 1, SkipReason::OverLimit)];
    for (tx_bytes, block_bytes, offered, left_out) in [
        (0, 0, 3, &[][..]),
        (bytes, 0, 3, &[]),
        (bytes - 1, 0, 2, &over),
        (0, bytes + 200, 3, &[]),
        (0, bytes + 199, 2, &[]),
        (0, bytes + 99, 1, &[]),
        (0, bytes, 1, &[]),
        (0, bytes - 1, 2, &over),
        (0, 199, 1, &over),
        (100, 100, 1, &over),
    ] {
        let contents = vec![small(2), big.clone(), small(3)];
        let window = limited(tx_bytes, block_bytes);
        let offer = offer(cursor(1, 0), &log(vec![(END - 10, contents)]), &window).unwrap();
        let found = (offer.items.len(), passed(&offer));
        assert_eq!(found, (offered, left_out.to_vec()), "{tx_bytes} {block_bytes}");
        let end = u32::try_from(offered + left_out.len()).unwrap();
        assert_eq!(offer.end, cursor(1, end), "{tx_bytes} {block_bytes}");
    }
    // Nothing fits: nothing waits.
    for window in [limited(1, 0), limited(0, 1)] {
        assert_eq!(reason(&window, END, small(1)), Some(SkipReason::OverLimit));
    }
}

#[test]
fn limits_count_each_transaction_of_a_leg() {
    let transactions = vec![transaction(1, 21_000, 2_000), transaction(2, 21_000, 3_000)];
    let weights = transactions.iter().map(|bytes| Weight::of(ChainKind::Evm, bytes).bytes);
    let (most, sum) = (weights.clone().max().unwrap(), weights.sum::<u64>());
    let check = |window: &Window, expected| {
        assert_eq!(reason(window, END, leg(transactions.clone())), expected, "{window:?}");
    };
    check(&limited(most, 0), None);
    check(&limited(most - 1, 0), Some(SkipReason::OverLimit));
    check(&limited(0, sum), None);
    check(&limited(0, sum - 1), Some(SkipReason::OverLimit));
}

#[test]
fn what_is_over_the_limits_is_stale_first_and_too_large_first() {
    let (big, bytes) = sized(1, 3_000);
    let window = limited(bytes - 1, 0);
    let time = END - BACKLOG_MS_MAX - 1;
    assert_eq!(reason(&window, time, big), Some(SkipReason::Stale));
    let most = GAS_LIMIT - L1_INFO_GAS;
    let large = loose(transaction(1, most + 1, 3_000));
    assert_eq!(reason(&window, END, large), Some(SkipReason::TooLarge));
}

#[test]
fn nothing_is_offered_to_a_closed_block_and_no_log_is_needed() {
    let window = Window { closed: Some(ClosedBy::Drift), ..plain() };
    let offer = offer(cursor(7, 3), &[], &window).unwrap();
    assert_eq!((offer.begin.cursor, offer.end), (cursor(7, 3), cursor(7, 3)));
    assert_eq!(offer.items.len() + offer.passed.len(), 0);
}

#[test]
fn an_offer_needs_all_of_its_log() {
    let log = log(vec![(END - 9, vec![gas(1, GAS_LIMIT)]), (END - 1, vec![]), (END, vec![])]);
    let end = UnixMillis(END);
    let offer = |begin, slices: &[LogSlice]| offer(begin, slices, &plain()).map(|_| ());
    assert_eq!(offer(cursor(2, 0), &log[1..]), Ok(()));
    let missing = MissingLog::Begin { cursor: Height(2), got: Height(3) };
    assert_eq!(offer(cursor(2, 0), &log[2..]), Err(missing));
    assert_eq!(offer(cursor(0, 0), &log), Ok(()));
    let with_gap = [&log[..1], &log[2..]].concat();
    let missing = MissingLog::Gap { after: Height(1), got: Height(3) };
    assert_eq!(offer(cursor(1, 0), &with_gap), Err(missing));
    let missing = MissingLog::Open { end, newest: Some(end) };
    assert_eq!(offer(cursor(1, 0), &log[..3]), Err(missing));
    assert_eq!(offer(cursor(1, 0), &[]), Err(MissingLog::Open { end, newest: None }));
}

#[test]
fn an_opaque_chain_is_bound_by_bytes_alone() {
    let items = vec![Item { index: 0, content: loose(Bytes::from_static(b"opaque")) }];
    let time = UnixMillis(END);
    let slices =
        [LogSlice::new(Height(1), time, ChainKind::Opaque, items), slice(2, END + 1, Vec::new())];
    let window = Window { gas: 0, gas_max: 0, ..plain() };
    let offer = offer(cursor(1, 0), &slices, &window).unwrap();
    assert_eq!(offer.items[0].item.weight, Weight { gas: 0, bytes: 100, transaction_bytes: 100 });
}

/// A log by numbers: gaps between heights; per item its gas in thousands, its bytes in hundreds and its kind.
type Draw = Vec<(u64, Vec<(u64, usize, u8)>)>;

fn draw() -> impl Strategy<Value = Draw> {
    let item = (0u64..40_000, 0usize..30, 0u8..10);
    let block = (1u64..20_000, proptest::collection::vec(item, 0..6));
    proptest::collection::vec(block, 1..12)
}

/// The last drawn height lies at the window's end.
fn drawn(draw: &Draw) -> Vec<LogSlice> {
    let all: u64 = draw.iter().map(|(gap, _)| gap).sum();
    let mut time = END - all;
    let mut n = 0;
    let blocks = draw.iter().map(|(gap, items)| {
        time += gap;
        let contents = items.iter().map(|(thousands, hundreds, kind)| {
            n += 2;
            let bytes = transaction(n, thousands * 1_000, hundreds * 100);
            match kind {
                0 => record(n),
                1 | 2 => leg(vec![bytes, transaction(n + 1, 50_000, 0)]),
                _ => loose(bytes),
            }
        });
        (time, contents.collect())
    });
    log(blocks.collect())
}

#[test]
fn next_height_is_that_of_an_item_behind_the_cursor_or_after_the_windows_end() {
    let log = [
        slice(4, 5, vec![]),
        slice(5, 10, vec![gas(1, 21_000), gas(2, 21_000)]),
        slice(6, 20, vec![]),
        slice(7, 30, vec![gas(3, 21_000)]),
        slice(8, 40, vec![]),
    ];
    for (items, end, expected) in
        [(1, 35, Some(5)), (2, 35, Some(7)), (2, 29, Some(7)), (2, 19, Some(6)), (2, 9, Some(5))]
    {
        let next = next_height(&log, cursor(5, items), UnixMillis(end));
        assert_eq!(next, expected.map(Height), "{items} {end}");
    }
    let next = next_height(&log[..3], cursor(5, 2), UnixMillis(99));
    assert_eq!(next, None, "all that was read is passed where nothing waits");
}

#[test]
fn offer_of_nothing_leaves_the_cursor_where_it_is() {
    let log = log(vec![(END - 9, vec![gas(1, 21_000)]), (END - 8, vec![])]);
    let offer = offer_from(cursor(1, 1), Height(3), &log[2..], &plain()).unwrap();
    assert_eq!((offer.begin.cursor, offer.end), (cursor(1, 1), cursor(1, 1)));
    assert!(offer_from(cursor(1, 1), Height(2), &log[2..], &plain()).is_err());
}

proptest! {
    /// The whole rule once more, item by item and without state.
    #[test]
    fn an_offer_is_the_longest_prefix_that_fits(
        draw in draw(), user_gas in 0u64..20_000_000, scalar in 1u16..4_000, tx_bytes in 0u64..3_000
    ) {
        let log = drawn(&draw);
        let deposits = [first(Form::Jovian(scalar), T, 0), user_deposit(1, user_gas)];
        let limits = Limits { tx_bytes, block_bytes: 20_000, ..Limits::default() };
        let window = of(GAS_LIMIT, &deposits, limits);
        let offer = offer(cursor(1, 0), &log, &window).unwrap();
        let footprint = |bytes: u64| bytes * u64::from(scalar);
        let (mut gas, mut bytes, mut end) = (0, 0, cursor(1, 0));
        let (mut items, mut stale, mut large, mut over) = (vec![], vec![], vec![], vec![]);
        'log: for slice in &log {
            for (n, item) in (0u32..).zip(&slice.items) {
                let (weight, place) = (item.weight, (slice.height.0, n));
                if slice.timestamp.0 > END {
                    break 'log;
                } else if item.is_record() {
                } else if slice.timestamp.0 + 60_000 < END {
                    stale.push(place);
                } else if weight.gas + L1_INFO_GAS > GAS_LIMIT
                    || footprint(weight.bytes) > GAS_LIMIT
                {
                    large.push(place);
                } else if weight.bytes > 20_000
                    || (tx_bytes > 0 && weight.transaction_bytes > tx_bytes)
                {
                    over.push(place);
                } else {
                    gas += weight.gas;
                    bytes += weight.bytes;
                    if gas + L1_INFO_GAS + user_gas > GAS_LIMIT
                        || footprint(bytes) > GAS_LIMIT
                        || bytes > 20_000
                    {
                        break 'log;
                    }
                    items.push(place);
                }
                end = cursor(slice.height.0, n + 1);
            }
        }
        let with = |reason| {
            let passed = passed(&offer).into_iter();
            passed.filter(|p| p.2 == reason).map(|p| (p.0, p.1)).collect::<Vec<_>>()
        };
        prop_assert_eq!(places(&offer), items);
        prop_assert_eq!(with(SkipReason::Stale), stale);
        prop_assert_eq!(with(SkipReason::TooLarge), large);
        prop_assert_eq!(with(SkipReason::OverLimit), over);
        prop_assert_eq!(offer.end, end);
    }

    #[test]
    fn an_offer_depends_on_nothing_before_the_cursor_or_after_the_window(
        draw in draw(), height in 0usize..12, items in 0u32..6, more in 1usize..5
    ) {
        let log = drawn(&draw);
        let begin = cursor(1 + (height % draw.len()) as u64, items);
        let expected = offer(begin, &log, &plain()).unwrap();
        prop_assert_eq!(&offer(begin, &log, &plain()).unwrap(), &expected);
        let from_cursor = &log[begin.height.0 as usize - 1..];
        prop_assert_eq!(&offer(begin, from_cursor, &plain()).unwrap(), &expected);
        let next = log.len() as u64 + 1;
        let later = (0..more as u64).map(|n| slice(next + n, END + 300 + n, vec![gas(n, 21_000)]));
        let longer: Vec<_> = log.iter().cloned().chain(later).collect();
        prop_assert_eq!(&offer(begin, &longer, &plain()).unwrap(), &expected);
    }

    /// A reader that forgets the slices in front of what a block's children need comes to the same offers.
    #[test]
    fn offer_needs_no_slice_before_the_next_height(draw in draw(), before in 0u64..4_000) {
        let log = drawn(&draw);
        let first = Window { end: UnixMillis(END - before), ..plain() };
        let begin = offer(cursor(1, 0), &log, &first).unwrap().after();
        let next = next_height(&log, begin.cursor, first.end).unwrap();
        let rest = &log[next.0 as usize - 1..];
        let expected = offer(begin.clone(), &log, &plain()).unwrap();
        prop_assert_eq!(offer_from(begin, next, rest, &plain()).unwrap(), expected);
    }

    /// A block is empty of items only where its window is, whatever came before.
    #[test]
    fn every_offer_moves_on_while_its_window_holds_items(draw in draw()) {
        let log = drawn(&draw);
        let count: usize = log.iter().map(|slice| slice.items.len()).sum();
        let mut at = cursor(1, 0);
        for _ in 0..count {
            let offer = offer(at, &log, &plain()).unwrap();
            let is_done = offer.end == at;
            at = offer.end;
            if is_done {
                break;
            }
        }
        let after: usize = log
            .iter()
            .map(|slice| match slice.height.cmp(&at.height) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => slice.items.len() - at.items as usize,
                std::cmp::Ordering::Greater => slice.items.len(),
            })
            .sum();
        prop_assert_eq!(after, 0, "{:?}", at);
    }
}
