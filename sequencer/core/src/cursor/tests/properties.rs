//! Rules that hold whatever becomes of a chain: histories with retries, cancelled jobs, reorgs of both layers, blocks that
//! L1 replaced by deposits, closed and foreign blocks, and records that come in time, late or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::record::SkipReason;
use crate::types::UnixMillis;
use crate::window::end;

/// Timestamp of the parent of the block at which the chain joins, seconds.
const JOIN: u64 = T;
const BLOCK_TIME: u64 = 2;
const GAS_LIMIT: u64 = 3_000_000;

/// A log block by numbers: ms since the one before; per item its gas in thousands and its kind.
type LogDraw = Vec<(u64, Vec<(u64, u8)>)>;

/// What op-node, the engine and L1 do with one block.
#[derive(Clone, Debug)]
struct Step {
    /// How many blocks before the newest its parent is; mostly 0. More is a reorg of L2, or of L1.
    back: u8,
    act: Act,
    /// Which items the engine finds invalid.
    salt: u64,
    /// Gas of a user's deposit, if there is one: after a reorg of L1 another one.
    deposit_gas: u64,
    /// When the record is decided, after the window closed; `None` for never.
    record_after: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// The offer is built and sealed, after a job that was cancelled.
    Build,
    /// The engine finds every item invalid.
    BuildNothing,
    /// L1 puts a block of deposits in its place.
    DepositsOnly,
    /// Sealed without an offer, as the record says.
    Close,
    /// A fork begins.
    Upgrade,
    /// The L1 origin is too old.
    Drift,
    /// A stranger's transaction is in it.
    Foreign,
}

fn log_draw() -> impl Strategy<Value = LogDraw> {
    let item = (0u64..2_500, 0u8..12);
    proptest::collection::vec((50u64..4_000, proptest::collection::vec(item, 0..5)), 1..24)
}

fn step() -> impl Strategy<Value = Step> {
    let act = prop_oneof![
        8 => Just(Act::Build),
        1 => Just(Act::BuildNothing),
        1 => Just(Act::DepositsOnly),
        1 => Just(Act::Close),
        1 => Just(Act::Upgrade),
        1 => Just(Act::Drift),
        1 => Just(Act::Foreign),
    ];
    let back = prop_oneof![4 => Just(0u8), 1 => 1u8..5];
    let record = prop_oneof![1 => Just(None), 3 => (0u64..80_000).prop_map(Some)];
    (back, act, any::<u64>(), 0u64..2_500_000, record).prop_map(
        |(back, act, salt, deposit_gas, record_after)| Step {
            back,
            act,
            salt,
            deposit_gas,
            record_after,
        },
    )
}

/// A block with what the world knows of it. `parent` is its parent's place among the blocks.
struct Sealing {
    parent: Option<usize>,
    block: L2Block,
    window: Window,
    record: Option<(UnixMillis, SealMode)>,
    /// Items that the record lists as refused.
    listed: BTreeSet<Place>,
    /// As the sealing sidecar has it.
    begin: Begin,
}

struct World {
    log: Vec<LogSlice>,
    blocks: Vec<Sealing>,
    join: Cursor,
}

impl World {
    fn new(draw: &LogDraw) -> Self {
        let mut time = JOIN * 1_000 - LEAD - 3_000;
        let mut n = 0;
        let mut content = |(thousands, kind): (u64, u8)| {
            n += 2;
            let bytes = transaction(n, thousands * 1_000, 0);
            match kind {
                0 => record(n),
                1 => loose(transaction(n, GAS_LIMIT, 0)),
                2 | 3 => leg(vec![bytes, transaction(n + 1, 30_000, 0)]),
                _ => loose(bytes),
            }
        };
        let mut log: Vec<_> = (1u64..)
            .zip(draw)
            .map(|(height, (gap, items))| {
                time += gap;
                slice(height, time, items.iter().map(|item| content(*item)).collect())
            })
            .collect();
        // Nothing more comes, but time passes: beyond any window, and beyond any record's time.
        for after in [300_000, 600_000] {
            let height = log.len() as u64 + 1;
            log.push(slice(height, time.max(JOIN * 1_000) + after, vec![]));
        }
        let first = log.iter().find(|slice| slice.timestamp > end(JOIN, LEAD)).unwrap();
        let join = Cursor { height: first.height, items: 0 };
        Self { log, blocks: Vec::new(), join }
    }

    fn newest(&self) -> UnixMillis {
        self.log.last().unwrap().timestamp
    }

    fn begin_of(&self, parent: Option<usize>) -> Begin {
        parent.map_or(self.join.into(), |parent| self.blocks[parent].begin.clone())
    }

    /// One job, sealed.
    fn step(&mut self, step: &Step) {
        let parent = self.blocks.len().checked_sub(1 + usize::from(step.back));
        let timestamp =
            BLOCK_TIME + parent.map_or(JOIN, |parent| self.blocks[parent].block.timestamp);
        let mut block = self.attributes(step, parent, timestamp);
        let window = block.window(LEAD, Limits::default()).unwrap();
        let offer = offer(self.begin_of(parent), &self.log, &window).unwrap();
        self.again(step, parent, timestamp, &offer);
        block.transactions.extend(step.users(&offer));
        block.hash = keccak256([&self.blocks.len().to_be_bytes()[..], &[7]].concat());
        let mode = match step.act {
            Act::Close | Act::Upgrade | Act::Drift | Act::Foreign => SealMode::Closed,
            Act::Build | Act::BuildNothing | Act::DepositsOnly => SealMode::Offered,
        };
        let after = step.record_after.filter(|_| step.act != Act::DepositsOnly);
        let record = after.map(|after| (offer.closed_at.plus(after), mode));
        let testimony = Testimony { record, newest: self.newest() };
        let kind = classify(&block, &window, &offer, &testimony);
        assert_final(&block, &window, &offer, &testimony, &kind);
        step.assert_kind(&kind, &offer, record);
        let listed = step.refused(&offer);
        let begin = kind.begin(&offer, &listed).unwrap();
        assert_eq!(kind.sealed(&block, &offer, &listed).unwrap().begin(), begin);
        self.blocks.push(Sealing { parent, block, window, record, listed, begin });
    }

    fn attributes(&self, step: &Step, parent: Option<usize>, timestamp: u64) -> L2Block {
        let origin = if step.act == Act::Drift { timestamp - 1_801 } else { timestamp - 12 };
        let mut transactions = vec![first(Form::Jovian(400), origin, step.salt)];
        if step.deposit_gas > 500_000 {
            transactions.push(user_deposit(step.salt, step.deposit_gas));
        }
        if step.act == Act::Upgrade {
            transactions.push(deposit(Address::ZERO, 1, false, b"upgradeTo"));
        }
        L2Block {
            number: parent.map_or(1, |parent| self.blocks[parent].block.number + 1),
            hash: B256::ZERO,
            parent: parent.map_or(B256::ZERO, |parent| self.blocks[parent].block.hash),
            timestamp,
            gas_limit: GAS_LIMIT,
            transactions,
        }
    }

    /// The same job again, and by one who holds no more of the log than it needs, is offered the same.
    fn again(&self, step: &Step, parent: Option<usize>, timestamp: u64, expected: &Offer) {
        let block = self.attributes(step, parent, timestamp);
        let window = block.window(LEAD, Limits::default()).unwrap();
        let begin = self.begin_of(parent);
        let height = begin.cursor.height;
        let from = self.log.iter().filter(|slice| slice.height >= height);
        assert_eq!(&offer(begin, from, &window).unwrap(), expected);
    }

    /// A block and its ancestors, oldest first.
    fn path(&self, tip: usize) -> Vec<usize> {
        let mut path: Vec<_> =
            std::iter::successors(Some(tip), |at| self.blocks[*at].parent).collect();
        path.reverse();
        path
    }

    /// What someone finds who walks a chain of blocks from a cursor, with content and log alone.
    fn walk(&self, at: impl Into<Begin>, path: &[usize]) -> Vec<(Offer, Kind)> {
        let (mut at, mut found) = (at.into(), Vec::new());
        for place in path {
            let Sealing { block, window, record, listed, .. } = &self.blocks[*place];
            let offer = offer(at, &self.log, window).unwrap();
            let testimony = Testimony { record: *record, newest: self.newest() };
            let kind = classify(block, window, &offer, &testimony);
            at = kind.begin(&offer, listed).unwrap();
            found.push((offer, kind));
        }
        found
    }
}

impl Step {
    /// What the engine leaves of the offer.
    fn users(&self, offer: &Offer) -> Vec<Bytes> {
        let is_valid = |offered: &&Offered| {
            let place = u64::from(offered.place.item) + offered.place.height.0 * 5;
            self.act != Act::BuildNothing && (self.salt >> (place % 64)) & 1 == 0
        };
        match self.act {
            Act::Build | Act::BuildNothing | Act::Foreign => {
                let stranger = (self.act == Act::Foreign).then(|| tx(self.salt | 1));
                let items = offer.items.iter().filter(is_valid);
                items.flat_map(|o| o.item.item.transactions()).cloned().chain(stranger).collect()
            }
            Act::DepositsOnly | Act::Close | Act::Upgrade | Act::Drift => Vec::new(),
        }
    }

    /// What the record of a closed block lists: those that the engine would find invalid.
    fn refused(&self, offer: &Offer) -> BTreeSet<Place> {
        let is_valid = |place: &Place| {
            let bit = u64::from(place.item) + place.height.0 * 5;
            (self.salt >> (bit % 64)) & 1 == 0
        };
        offer.items.iter().map(|item| item.place).filter(|place| !is_valid(place)).collect()
    }

    fn assert_kind(&self, kind: &Kind, offer: &Offer, record: Option<(UnixMillis, SealMode)>) {
        let is_timely = record.is_some_and(|(time, _)| is_timely(time, offer.closed_at));
        match self.act {
            Act::Upgrade | Act::Drift => assert_eq!(kind, &Kind::Closed),
            Act::Foreign => assert!(matches!(kind, Kind::Foreign { .. })),
            Act::Close if is_timely && !offer.items.is_empty() => assert_eq!(kind, &Kind::Closed),
            Act::Build | Act::BuildNothing | Act::DepositsOnly | Act::Close => {
                assert!(matches!(kind, Kind::Offered(_)));
            }
        }
    }
}

/// Whoever asks earlier is told the same, or that it isn't known yet.
fn assert_final(
    block: &L2Block,
    window: &Window,
    offer: &Offer,
    testimony: &Testimony,
    expected: &Kind,
) {
    for after in [0, 1, 30_000, 59_999, 60_000, 60_001, 70_000] {
        let newest = offer.closed_at.plus(after);
        let record = testimony.record.filter(|(time, _)| *time <= newest);
        let kind = classify(block, window, offer, &Testimony { record, newest });
        assert!(kind == Kind::Ambiguous || &kind == expected, "{kind:?}, later {expected:?}");
        assert!(kind != Kind::Ambiguous || after <= BACKLOG_MS_MAX);
    }
}

/// Every item between two cursors, records left out.
fn items_between(
    log: &[LogSlice],
    begin: Cursor,
    end: Cursor,
) -> BTreeMap<Place, Arc<crate::weight::Weighed>> {
    let places = log.iter().flat_map(|slice| {
        (0u32..).zip(&slice.items).map(|(item, weighed)| (slice.height, item, weighed))
    });
    places
        .filter(|(height, item, _)| {
            let before = Cursor { height: *height, items: *item };
            begin <= before && before < end
        })
        .filter(|(.., weighed)| !weighed.is_record())
        .map(|(height, item, weighed)| (Place { height, item }, Arc::clone(weighed)))
        .collect()
}

/// Each item up to the last cursor is in one block, or was passed over for a reason that holds, and that only once.
fn assert_nothing_lost(world: &World, path: &[usize], found: &[(Offer, Kind)]) {
    let end = found.last().map_or(world.join, |(offer, kind)| kind.cursor(offer).unwrap());
    let all = items_between(&world.log, world.join, end);
    let mut seen = BTreeSet::new();
    for (place, (offer, kind)) in path.iter().zip(found) {
        let Kind::Offered(outcome) = kind else { continue };
        let Sealing { block, window, .. } = &world.blocks[*place];
        for Included { place, index, count } in &outcome.included {
            assert!(seen.insert(*place), "{place:?} twice");
            let here = &block.transactions[*index as usize..][..*count as usize];
            assert_eq!(all[place].item.transactions(), here);
        }
        for Skipped { height, item, reason } in &outcome.skipped {
            let place = Place { height: *height, item: *item };
            assert!(seen.insert(place), "{place:?} twice");
            let time = world.log[height.0 as usize - 1].timestamp;
            let holds = match reason {
                SkipReason::Stale => window.end.since(time) > BACKLOG_MS_MAX,
                SkipReason::TooLarge => all[&place].weight.gas > GAS_LIMIT - L1_INFO_GAS,
                // These worlds have no limits.
                SkipReason::OverLimit => false,
                SkipReason::Invalid => {
                    let is_in = all[&place]
                        .item
                        .transactions()
                        .iter()
                        .any(|bytes| block.transactions.contains(bytes));
                    let was_refused = offer.begin.refused.contains(&place);
                    let is_offered = offer.items.iter().any(|offered| offered.place == place);
                    is_offered != was_refused && !is_in
                }
            };
            assert!(holds, "{place:?} {reason:?}");
        }
    }
    assert_eq!(seen, all.into_keys().collect());
}

proptest! {
    #[test]
    fn no_history_offers_an_item_twice_or_loses_one(
        draw in log_draw(), steps in proptest::collection::vec(step(), 1..40)
    ) {
        let mut world = World::new(&draw);
        for step in &steps {
            world.step(step);
        }
        for tip in 0..world.blocks.len() {
            let path = world.path(tip);
            let found = world.walk(world.join, &path);
            assert_nothing_lost(&world, &path, &found);
        }
    }

    #[test]
    fn whoever_walks_finds_the_cursors_of_the_sealing_sidecar(
        draw in log_draw(), steps in proptest::collection::vec(step(), 1..40)
    ) {
        let mut world = World::new(&draw);
        for step in &steps {
            world.step(step);
        }
        let path = world.path(world.blocks.len() - 1);
        let expected: Vec<_> = path.iter().map(|place| world.blocks[*place].begin.cursor).collect();
        let cursors = |found: Vec<(Offer, Kind)>| -> Vec<_> {
            found.iter().map(|(offer, kind)| kind.cursor(offer).unwrap()).collect()
        };
        let from_join = world.walk(world.join, &path);
        for (at, (offer, kind)) in from_join.iter().enumerate() {
            let Sealing { block, listed, .. } = &world.blocks[path[at]];
            let record = kind.sealed(block, offer, listed).unwrap();
            let from_record = world.walk(record.begin(), &path[at + 1..]);
            prop_assert_eq!(&cursors(from_record), &expected[at + 1..]);
        }
        prop_assert_eq!(cursors(from_join), expected);
    }

    /// A log full of what the engine refuses is behind the cursor after as many blocks as its gas fills.
    #[test]
    fn junk_cannot_stop_a_chain(items in proptest::collection::vec(0u64..2_000, 1..400)) {
        let contents = (1u64..).zip(&items).map(|(n, gas)| loose(transaction(n, gas * 1_000, 0)));
        let time = end(JOIN, LEAD).0 + 1;
        let log = [slice(1, time, contents.collect()), slice(2, time + 300_000, vec![])];
        let weights = log[0].items.iter().map(|item| item.weight.gas);
        let room = GAS_LIMIT - L1_INFO_GAS;
        let blocks_max = 1 + 2 * weights.sum::<u64>() / room;
        let mut world = World { log: log.to_vec(), blocks: vec![], join: cursor(1, 0) };
        let step = Step {
            back: 0,
            act: Act::BuildNothing,
            salt: 0,
            deposit_gas: 0,
            record_after: Some(0),
        };
        for _ in 0..blocks_max.min(25) {
            world.step(&step);
        }
        let last = world.blocks.last().unwrap();
        if blocks_max <= 25 {
            prop_assert_eq!(last.begin.cursor, cursor(1, items.len() as u32));
        }
    }
}
