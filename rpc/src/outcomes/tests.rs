//! Tables of histories: blocks that follow one another, are replaced, skip items, have no record, or lie.

use lockstep_core::types::Height;
use proptest::prelude::*;

use super::*;

const CHAIN: ChainId = ChainId(901);

/// The block of a number on a fork.
fn id(number: u64, fork: char) -> BlockId {
    let mut hash = B256::ZERO;
    hash.0[0] = fork as u8;
    hash.0[24..].copy_from_slice(&number.to_be_bytes());
    BlockId { number, hash }
}

/// The place of an item: all are at one height.
fn place(item: u32) -> Place {
    Place { height: Height(5), index: item }
}

/// The hash of an item's only transaction.
fn hash(item: u32) -> B256 {
    let mut hash = B256::repeat_byte(0xee);
    hash.0[..4].copy_from_slice(&item.to_be_bytes());
    hash
}

/// A record: the block, its parent's fork, and how many items are before its end.
fn sealing(block: BlockId, parent: char, end: u32) -> Sealing {
    let parent = id(block.number - 1, parent).hash;
    Sealing { block, parent, is_closed: false, end: place(end), skipped: Vec::new() }
}

fn skipping(sealing: Sealing, items: &[(u32, SkipReason)]) -> Sealing {
    let skipped = items.iter().map(|(item, reason)| (place(*item), *reason)).collect();
    Sealing { skipped, ..sealing }
}

/// Records on one fork, `a`: numbers and ends.
fn records(numbers_and_ends: &[(u64, u32)]) -> Vec<Sealing> {
    numbers_and_ends.iter().map(|(number, end)| sealing(id(*number, 'a'), 'a', *end)).collect()
}

fn sealed(records: impl IntoIterator<Item = Sealing>) -> ChainOutcomes {
    let mut outcomes = ChainOutcomes::new(CHAIN, false);
    for record in records {
        outcomes.seal(record);
    }
    outcomes
}

fn shown(BlockId { number, hash }: BlockId) -> String {
    format!("{number}{}", char::from(hash.0[0]))
}

/// What became of an item: `-`, `skipped 11a Invalid`, `11a`, `11a#3`, `safe 11a#3`, `final 11a#3`.
fn state(outcomes: &ChainOutcomes, item: u32) -> String {
    let landed = |at: Landing| match at.index {
        Some(index) => format!("{}#{index}", shown(at.block)),
        None => shown(at.block),
    };
    match outcomes.leg(place(item), &[hash(item)]).state {
        LegState::Decided => "-".to_owned(),
        LegState::Skipped { block, reason } => match reason {
            Some(reason) => format!("skipped {} {reason:?}", shown(block)),
            None => format!("skipped {}", shown(block)),
        },
        LegState::Included(at) => landed(at),
        LegState::Safe(at) => format!("safe {}", landed(at)),
        LegState::Finalized(at) => format!("final {}", landed(at)),
    }
}

#[track_caller]
fn check(outcomes: &ChainOutcomes, expected: &[&str]) {
    let states: Vec<String> =
        (0..).take(expected.len()).map(|item| state(outcomes, item)).collect();
    assert_eq!(states, expected);
}

#[test]
fn an_item_is_in_the_block_in_whose_offer_it_was() {
    let outcomes = sealed(records(&[(10, 2), (11, 4), (12, 4), (13, 5)]));
    // Where the first record's offer began is not known.
    check(&outcomes, &["-", "-", "11a", "11a", "13a", "-"]);
    let leg = outcomes.leg(place(2), &[hash(2)]);
    assert_eq!((leg.chain, leg.last, leg.is_final()), (CHAIN, Stage::Included, true));
    assert!(!outcomes.leg(place(5), &[hash(5)]).is_final(), "a record may come");
}

#[test]
fn a_skipped_item_has_its_reason_even_where_the_offers_beginning_is_not_known() {
    let mut history = records(&[(10, 2), (11, 5)]);
    history[0] = skipping(history[0].clone(), &[(1, SkipReason::Stale)]);
    history[1] =
        skipping(history[1].clone(), &[(2, SkipReason::Invalid), (4, SkipReason::TooLarge)]);
    check(
        &sealed(history),
        &["-", "skipped 10a Stale", "skipped 11a Invalid", "11a", "skipped 11a TooLarge", "-"],
    );
}

#[test]
fn a_closed_block_leaves_the_cursor_where_it_is_or_says_nothing() {
    let close = |sealing| Sealing { is_closed: true, ..sealing };
    let mut history = records(&[(10, 2), (11, 2), (12, 4)]);
    history[1] = close(history[1].clone());
    check(&sealed(history.clone()), &["-", "-", "12a", "12a"]);
    history[1].end = place(3);
    check(&sealed(history), &["-", "-", "-", "-"]);
}

#[test]
fn a_replaced_block_takes_the_states_of_its_items_with_it() {
    let mut outcomes = sealed(records(&[(10, 2), (11, 4), (12, 6)]));
    check(&outcomes, &["-", "-", "11a", "11a", "12a", "12a"]);
    // The next block has more of them, and the ones after it wait again.
    assert!(outcomes.seal(sealing(id(11, 'b'), 'a', 5)));
    check(&outcomes, &["-", "-", "11b", "11b", "11b", "-"]);
    assert!(outcomes.seal(skipping(sealing(id(12, 'b'), 'b', 7), &[(5, SkipReason::Invalid)])));
    check(&outcomes, &["-", "-", "11b", "11b", "11b", "skipped 12b Invalid", "12b"]);
}

#[test]
fn of_two_blocks_of_one_number_the_newest_counts_until_the_other_has_a_child() {
    let mut outcomes = sealed(records(&[(10, 2), (11, 4)]));
    outcomes.seal(sealing(id(11, 'b'), 'a', 3));
    check(&outcomes, &["-", "-", "11b", "-"]);
    outcomes.seal(sealing(id(12, 'a'), 'a', 6));
    check(&outcomes, &["-", "-", "11a", "11a", "12a", "12a"]);
}

#[test]
fn the_first_record_of_a_block_counts() {
    let mut outcomes = sealed(records(&[(10, 2), (11, 4)]));
    assert!(!outcomes.seal(sealing(id(11, 'a'), 'a', 3)));
    assert!(!outcomes.seal(sealing(id(11, 'a'), 'z', 3)));
    check(&outcomes, &["-", "-", "11a", "11a"]);
    assert!(!outcomes.seal(sealing(id(10, 'a'), 'a', 1)), "an old one again is no reorganisation");
    check(&outcomes, &["-", "-", "11a", "11a"]);
}

#[test]
fn a_record_with_another_parent_leaves_what_it_replaces_and_a_gap() {
    let mut outcomes = sealed(records(&[(10, 2), (11, 4)]));
    outcomes.seal(sealing(id(12, 'a'), 'z', 6));
    check(&outcomes, &["-", "-", "-", "-", "-", "-"]);
    outcomes.seal(sealing(id(13, 'a'), 'a', 8));
    check(&outcomes, &["-", "-", "-", "-", "-", "-", "13a", "13a"]);
}

#[test]
fn a_gap_is_passed_over_and_filled_by_a_late_record() {
    let late = records(&[(11, 4)]).remove(0);
    let mut outcomes = sealed(records(&[(9, 1), (10, 2), (12, 6), (13, 8)]));
    check(&outcomes, &["-", "10a", "-", "-", "-", "-", "13a", "13a", "-"]);
    assert!(outcomes.seal(late));
    check(&outcomes, &["-", "10a", "11a", "11a", "12a", "12a", "13a", "13a", "-"]);
}

#[test]
fn late_records_of_a_gap_come_in_any_order() {
    let mut outcomes = sealed(records(&[(10, 2), (14, 9)]));
    for number in [12, 11, 13] {
        let end = u32::try_from(2 * number - 18).unwrap();
        outcomes.seal(sealing(id(number, 'a'), 'a', end));
    }
    check(&outcomes, &["-", "-", "11a", "11a", "12a", "12a", "13a", "13a", "14a", "-"]);
}

#[test]
fn a_cursor_that_goes_back_says_nothing() {
    let outcomes = sealed(records(&[(10, 2), (11, 4), (12, 3), (13, 6), (14, 7)]));
    check(&outcomes, &["-", "-", "11a", "11a", "-", "-", "14a"]);
}

#[test]
fn numbers_at_the_ends_of_their_range_do_no_harm() {
    let mut outcomes = sealed(records(&[(10, 2), (11, 4)]));
    outcomes.seal(sealing(id(u64::MAX, 'x'), 'x', 5));
    let zero = Sealing { block: id(0, 'x'), ..sealing(id(1, 'x'), 'x', 1) };
    outcomes.seal(zero);
    outcomes.seal(sealing(id(12, 'a'), 'a', 6));
    check(&outcomes, &["-", "-", "11a", "11a", "12a", "12a"]);
}

#[test]
fn what_is_too_old_to_be_told_of_is_final_as_it_is() {
    let mut outcomes = ChainOutcomes::new(CHAIN, false);
    let history = records(&[(10, 2), (11, 4)]);
    outcomes.begin_behind(&history[0]);
    outcomes.seal(history[1].clone());
    check(&outcomes, &["-", "-", "11a", "11a", "-"]);
    for (item, last) in [(0, Stage::Decided), (1, Stage::Decided), (2, Stage::Included)] {
        let leg = outcomes.leg(place(item), &[hash(item)]);
        assert_eq!((leg.last, leg.is_final()), (last, true), "{item}");
    }
    assert!(!outcomes.leg(place(4), &[hash(4)]).is_final());
}

#[test]
fn the_oldest_blocks_are_forgotten_and_the_others_keep_their_offers() {
    let count = u32::try_from(BLOCKS_MAX).unwrap() + 3;
    let history = (1..=count).map(|n| sealing(id(u64::from(n), 'a'), 'a', 2 * n));
    let outcomes = sealed(history);
    assert_eq!(outcomes.blocks.len(), BLOCKS_MAX);
    // The blocks 1, 2 and 3 are gone; what 4 began with is still known.
    let leg = outcomes.leg(place(5), &[hash(5)]);
    assert_eq!((leg.state, leg.last), (LegState::Decided, Stage::Decided));
    assert_eq!([6, 7, 8].map(|item| state(&outcomes, item)), ["4a", "4a", "5a"]);
    assert_eq!(state(&outcomes, 2 * count - 1), format!("{count}a"));
}

#[test]
fn skipped_items_are_bounded_too() {
    let of_one = u32::try_from(SKIPPED_MAX / 4).unwrap();
    let mut outcomes = ChainOutcomes::new(CHAIN, false);
    for n in 1..=6u32 {
        let items: Vec<_> =
            ((n - 1) * of_one..n * of_one).map(|item| (item, SkipReason::Stale)).collect();
        outcomes.seal(skipping(sealing(id(u64::from(n), 'a'), 'a', n * of_one), &items));
    }
    assert_eq!((outcomes.blocks.len(), outcomes.skipped), (4, 4 * of_one as usize));
    assert_eq!(state(&outcomes, 2 * of_one - 1), "-");
    assert_eq!(state(&outcomes, 2 * of_one), "skipped 3a Stale");
}

// ---- With an engine --------------------------------------------------------------------------------------------

/// An engine: the blocks that it has, its own chain, and its heads.
#[derive(Default)]
struct Engine {
    blocks: Vec<ChainBlock>,
    chain: BTreeMap<u64, B256>,
    heads: Heads,
    asked: usize,
}

impl Engine {
    /// Imports a block with two deposits and these items' transactions, and makes it the head.
    fn import(&mut self, block: BlockId, parent: char, items: &[u32]) {
        let deposits = [B256::repeat_byte(0xd1), B256::repeat_byte(0xd2)];
        let transactions = deposits.into_iter().chain(items.iter().map(|item| hash(*item)));
        self.blocks.push(ChainBlock {
            number: block.number,
            hash: block.hash,
            parent: id(block.number - 1, parent).hash,
            timestamp: 2 * block.number,
            transactions: transactions.collect(),
        });
        self.chain.split_off(&block.number);
        self.chain.insert(block.number, block.hash);
    }

    /// Does what the node does once a second.
    fn poll(&mut self, outcomes: &mut ChainOutcomes) -> bool {
        let heads = self.heads;
        let mut check = outcomes.check();
        while let Some(number) = check.next() {
            check.told(number, self.chain.get(&number).copied());
            self.asked += 1;
        }
        let mut has_changed = outcomes.settle(&check, heads);
        for _ in 0..GAP_BLOCKS_MAX {
            let wanted = outcomes.wanted();
            assert!(wanted.len() <= ASKED_MAX);
            let known = |hash: &B256| self.blocks.iter().find(|block| block.hash == *hash);
            let blocks: Vec<_> = wanted.iter().filter_map(known).collect();
            self.asked += wanted.len();
            if blocks.is_empty() {
                break;
            }
            blocks.into_iter().for_each(|block| has_changed |= outcomes.told(block));
        }
        has_changed
    }
}

/// An engine with the blocks 10 to 12 of fork `a`, and their records: items 0 and 1, 2 and 3, 4 and 5.
fn with_engine() -> (Engine, ChainOutcomes) {
    let (mut engine, mut outcomes) = (Engine::default(), ChainOutcomes::new(CHAIN, true));
    for (number, items) in [(10, [0, 1]), (11, [2, 3]), (12, [4, 5])] {
        engine.import(id(number, 'a'), 'a', &items);
    }
    for record in records(&[(10, 2), (11, 4), (12, 6)]) {
        outcomes.seal(record);
    }
    (engine, outcomes)
}

#[test]
fn with_an_engine_only_what_is_really_there_is_included_with_its_index() {
    let (mut engine, mut outcomes) = with_engine();
    check(&outcomes, &["-"; 6]);
    assert!(engine.poll(&mut outcomes));
    check(&outcomes, &["10a#2", "10a#3", "11a#2", "11a#3", "12a#2", "12a#3", "-"]);
    let asked = engine.asked;
    assert!(!engine.poll(&mut outcomes));
    assert_eq!(engine.asked, asked + 1, "the newest block is on the chain still");
}

#[test]
fn safe_and_finalized_heads_move_the_legs_below_them() {
    let (mut engine, mut outcomes) = with_engine();
    engine.heads = Heads { safe: Some(11), finalized: Some(10) };
    engine.poll(&mut outcomes);
    check(&outcomes, &["final 10a#2", "final 10a#3", "safe 11a#2", "safe 11a#3", "12a#2"]);
    engine.heads = Heads { safe: Some(12), finalized: Some(12) };
    assert!(engine.poll(&mut outcomes));
    let leg = outcomes.leg(place(5), &[hash(5)]);
    assert!(matches!(leg.state, LegState::Finalized(_)) && leg.is_final());
}

#[test]
fn a_block_that_leaves_the_engines_chain_takes_the_states_with_it_before_any_record_says_so() {
    let (mut engine, mut outcomes) = with_engine();
    engine.heads.safe = Some(12);
    engine.poll(&mut outcomes);
    engine.import(id(11, 'b'), 'a', &[2]);
    engine.import(id(12, 'b'), 'b', &[3, 4]);
    assert!(engine.poll(&mut outcomes));
    check(&outcomes, &["safe 10a#2", "safe 10a#3", "-", "-", "-", "-"]);
    outcomes.seal(sealing(id(11, 'b'), 'a', 3));
    outcomes.seal(sealing(id(12, 'b'), 'b', 5));
    check(&outcomes, &["safe 10a#2", "safe 10a#3", "-", "-", "-", "-"]);
    engine.poll(&mut outcomes);
    check(&outcomes, &["safe 10a#2", "safe 10a#3", "safe 11b#2", "safe 12b#2", "safe 12b#3", "-"]);
    // And back again: the records are known already.
    engine.import(id(11, 'a'), 'a', &[2, 3]);
    engine.import(id(12, 'a'), 'a', &[4, 5]);
    engine.poll(&mut outcomes);
    check(
        &outcomes,
        &["safe 10a#2", "safe 10a#3", "safe 11a#2", "safe 11a#3", "safe 12a#2", "safe 12a#3"],
    );
}

#[test]
fn the_newest_record_is_not_believed_against_the_engine() {
    let (mut engine, mut outcomes) = with_engine();
    engine.poll(&mut outcomes);
    outcomes.seal(sealing(id(12, 'x'), 'a', 5));
    outcomes.seal(sealing(id(99, 'x'), 'x', 50));
    engine.poll(&mut outcomes);
    check(&outcomes, &["10a#2", "10a#3", "11a#2", "11a#3", "12a#2", "12a#3", "-"]);
}

#[test]
fn an_engine_that_is_behind_confirms_what_it_has() {
    let (mut engine, mut outcomes) = with_engine();
    engine.chain.split_off(&11);
    engine.poll(&mut outcomes);
    check(&outcomes, &["10a#2", "10a#3", "-", "-", "-", "-"]);
    engine.chain.clear();
    engine.poll(&mut outcomes);
    check(&outcomes, &["-"; 6]);
}

#[test]
fn contents_go_before_what_the_record_says_was_skipped() {
    let (mut engine, mut outcomes) = with_engine();
    engine.import(id(13, 'a'), 'a', &[7]);
    let reasons = [(7, SkipReason::Invalid), (8, SkipReason::TooLarge)];
    outcomes.seal(skipping(sealing(id(13, 'a'), 'a', 9), &reasons));
    engine.poll(&mut outcomes);
    let states = [6, 7, 8, 9].map(|item| state(&outcomes, item));
    assert_eq!(states, ["skipped 13a", "13a#2", "skipped 13a TooLarge", "-"]);
}

#[test]
fn a_leg_is_there_with_all_its_transactions_or_not_at_all() {
    let (mut engine, mut outcomes) = with_engine();
    engine.poll(&mut outcomes);
    let leg = |items: &[u32]| {
        let transactions: Vec<B256> = items.iter().map(|item| hash(*item)).collect();
        outcomes.leg(place(2), &transactions).state
    };
    let at = Landing { block: id(11, 'a'), index: Some(2) };
    assert_eq!(leg(&[2, 3]), LegState::Included(at));
    let skipped = LegState::Skipped { block: id(11, 'a'), reason: None };
    assert_eq!(leg(&[2, 9]), skipped);
    assert_eq!(leg(&[9, 2]), skipped);
    assert_eq!(leg(&[3, 2]), skipped, "no such block takes its offer");
}

#[test]
fn a_gap_is_bridged_by_what_the_engine_has_in_it() {
    let (mut engine, mut outcomes) = with_engine();
    for (number, items) in [(13, &[6, 7][..]), (14, &[]), (15, &[8]), (16, &[10])] {
        engine.import(id(number, 'a'), 'a', items);
    }
    outcomes.seal(skipping(sealing(id(16, 'a'), 'a', 12), &[(11, SkipReason::Invalid)]));
    // First it is seen which blocks below the gap are on the chain.
    engine.poll(&mut outcomes);
    engine.poll(&mut outcomes);
    let states = (6..=12).map(|item| state(&outcomes, item)).collect::<Vec<_>>();
    // Nobody says why 9 is in none of the four blocks.
    let skipped = ["skipped 16a", "16a#2", "skipped 16a Invalid", "-"];
    assert_eq!(states, [&["13a#2", "13a#3", "15a#2"][..], &skipped].concat());
}

#[test]
fn a_gap_that_is_too_long_is_not_bridged() {
    for (gap, is_bridged) in [(GAP_BLOCKS_MAX, true), (GAP_BLOCKS_MAX + 1, false)] {
        let (mut engine, mut outcomes) = with_engine();
        let last = 12 + gap;
        for number in 13..=last {
            let items: &[u32] = if number == 13 { &[6] } else { &[] };
            engine.import(id(number, 'a'), 'a', items);
        }
        engine.import(id(last + 1, 'a'), 'a', &[8]);
        outcomes.seal(sealing(id(last, 'a'), 'a', 8));
        outcomes.seal(sealing(id(last + 1, 'a'), 'a', 9));
        for _ in 0..6 {
            engine.poll(&mut outcomes);
        }
        let expected = if is_bridged { ["13a#2", "skipped"] } else { ["-", "-"] };
        for (item, expected) in [6, 7].into_iter().zip(expected) {
            let state = state(&outcomes, item);
            assert!(state.starts_with(expected), "gap {gap}, item {item}: {state}");
        }
        assert_eq!(state(&outcomes, 8), format!("{}a#2", last + 1));
        assert_eq!(state(&outcomes, 5), "12a#3", "what is below the gap stays");
    }
}

#[test]
fn before_the_first_record_only_what_its_block_has_is_included() {
    let (mut engine, mut outcomes) = (Engine::default(), ChainOutcomes::new(CHAIN, true));
    engine.import(id(10, 'a'), 'a', &[1]);
    outcomes.seal(sealing(id(10, 'a'), 'a', 2));
    engine.poll(&mut outcomes);
    check(&outcomes, &["-", "10a#2", "-"]);
}

#[test]
fn a_record_that_lies_about_number_or_parent_counts_for_nothing() {
    let (mut engine, mut outcomes) = with_engine();
    engine.import(id(13, 'a'), 'a', &[6]);
    engine.import(id(14, 'a'), 'a', &[7]);
    // The block's own hash under another number, and with another parent.
    outcomes.seal(Sealing {
        block: BlockId { number: 14, ..id(13, 'a') },
        ..sealing(id(14, 'a'), 'a', 9)
    });
    outcomes.seal(sealing(id(13, 'a'), 'z', 9));
    engine.poll(&mut outcomes);
    assert_eq!(state(&outcomes, 6), "-");
    outcomes.seal(sealing(id(14, 'a'), 'a', 8));
    engine.poll(&mut outcomes);
    assert_eq!([6, 7].map(|item| state(&outcomes, item)), ["13a#2", "14a#2"]);
}

#[test]
fn contents_that_there_is_no_room_for_leave_the_record_s_word() {
    let (mut engine, mut outcomes) = with_engine();
    engine.poll(&mut outcomes);
    outcomes.transactions = TRANSACTIONS_MAX + 1;
    outcomes.evict();
    check(&outcomes, &["-", "-", "11a#2", "11a#3"]);
    outcomes.transactions = TRANSACTIONS_MAX + 1;
    outcomes.evict();
    check(&outcomes, &["-", "-", "11a", "11a", "12a#2", "12a#3"]);
    assert!(!outcomes.wanted().contains(&id(11, 'a').hash), "it is not asked for again");
}

proptest! {
    /// Blocks on any known parent, each with a record: what is told is what the newest block's ancestors say.
    #[test]
    fn any_tree_of_blocks_is_told_as_its_newest_branch(
        steps in prop::collection::vec((0usize..12, 0u32..4), 1..60),
    ) {
        let mut outcomes = ChainOutcomes::new(CHAIN, false);
        // Each with its parent's place in the list, and its end.
        let mut blocks = vec![(id(100, 'a'), None, 0u32)];
        outcomes.seal(sealing(blocks[0].0, 'a', 0));
        for (back, items) in steps {
            let parent = blocks.len() - 1 - back % blocks.len();
            let (on, _, end) = blocks[parent];
            let mut block = id(on.number + 1, 'a');
            block.hash.0[8..16].copy_from_slice(&blocks.len().to_be_bytes());
            let end = end + items;
            let record = Sealing {
                block,
                parent: on.hash,
                is_closed: false,
                end: place(end),
                skipped: Vec::new(),
            };
            outcomes.seal(record);
            blocks.push((block, Some(parent), end));

            let mut expected: BTreeMap<u32, BlockId> = BTreeMap::new();
            let mut at = blocks.len() - 1;
            while let (block, Some(parent), end) = blocks[at] {
                expected.extend((blocks[parent].2..end).map(|item| (item, block)));
                at = parent;
            }
            for item in 0..end + 2 {
                let block = outcomes.leg(place(item), &[hash(item)]).state.block();
                prop_assert_eq!(block, expected.get(&item).copied(), "item {}", item);
            }
        }
    }

    /// Whatever records say, nothing panics, and the bounds hold.
    #[test]
    fn nonsense_does_no_harm(
        records in prop::collection::vec((0u64..6, 0u8..3, 0u8..3, 0u32..9, any::<bool>()), 0..60),
        has_engine: bool,
    ) {
        let mut outcomes = ChainOutcomes::new(CHAIN, has_engine);
        for (number, fork, parent, end, is_closed) in records {
            let block = id(number, char::from(b'a' + fork));
            let parent = id(number.saturating_sub(1), char::from(b'a' + parent)).hash;
            let end = place(end);
            outcomes.seal(Sealing { block, parent, is_closed, end, skipped: vec![(end, SkipReason::Stale)] });
            let mut check = outcomes.check();
            while let Some(number) = check.next() {
                check.told(number, Some(id(number, 'a').hash));
            }
            outcomes.settle(&check, Heads { safe: Some(number), finalized: None });
            for item in 0..10 {
                let leg = outcomes.leg(place(item), &[hash(item)]);
                prop_assert!(has_engine || leg.last == Stage::Included);
            }
            prop_assert!(outcomes.wanted().len() <= ASKED_MAX);
        }
    }
}
