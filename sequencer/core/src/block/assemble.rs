//! Assembly: which entries of a cut the block takes, in which order, and what that makes of the state.
//!
//! | step | rule |
//! |---|---|
//! | sort out | time, registry, kind, guarantee, too large for ever, already in the window: left out for good |
//! | claim | for pass 1 a bundle claims its transactions, in the order of the walk; one that shares a claimed one yields |
//! | pass 1 | walk; each lane within its share of each chain's bucket |
//! | pass 2 | walk again over what was not taken, from the rest of the buckets |
//! | number | indices in the order of the walk; slices; the state after |
//!
//! In a pass, an entry that does not fit a chain makes its lane's later entries for that chain wait, so order inside a
//! lane holds: of open entries the open ones, of others the others. One that asks more than the bucket has, though nothing
//! else were taken, makes nothing wait: it would hold its lane back for as long as it lives. Nor does one that gives way
//! to a claimant: else a bundle behind its own loose transaction could never be taken, and a lane could stop others by
//! bundling their transactions with what does not fit.

use std::collections::BTreeMap;

use crate::admission::{self, Need, Needs};
use crate::batch::CheckedBatch;
use crate::block::runs::{Stop, first_lane, runs, walk};
use crate::block::{Assembly, CannotAssemble, LeaveOut, LeftOut, Taken};
use crate::budget::{self, ChainBudget, Pass};
use crate::cut::Cut;
use crate::dedup::{self, Decision, Dedup, Key};
use crate::entry::{Body, CheckedEntry, Entry};
use crate::limits::RECORDS_PER_CHAIN_MAX;
use crate::planted::{Bug, planted};
use crate::slice::{Content, Item, Slice, slices_root};
use crate::state::{ChainState, Committed, State};
use crate::types::{ChainId, Height, UnixMillis};
use crate::waste;

/// The block after `state` that `cut` makes at `timestamp`.
///
/// `dedup` is the window up to and with `state`'s block. `batches` are those the cut adds: lane after lane in address
/// order, each lane's by ascending sequence.
///
/// # Errors
/// [`CannotAssemble`]; its [`is_objective`](CannotAssemble::is_objective) says whose fault it is.
pub fn assemble(
    state: &State,
    dedup: &Dedup,
    timestamp: UnixMillis,
    cut: &Cut,
    batches: &[CheckedBatch],
) -> Result<Assembly, CannotAssemble> {
    let runs = runs(state, cut, batches)?;
    let walk = walk(&runs, first_lane(state.height.next(), cut.lanes.len()));
    let mut assembler = Assembler::new(state, dedup, timestamp, &walk);
    assembler.claim();
    assembler.pass(Pass::Shares);
    assembler.pass(Pass::Rest);
    Ok(assembler.finish(state, timestamp, cut, batches))
}

/// What became of an entry so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// Not taken yet: this chain had no room for it when it was last tried.
    Waiting(ChainId),
    Taken,
    LeftOut(LeaveOut),
}

#[derive(Debug)]
struct Slot<'a> {
    stop: Stop<'a>,
    needs: Needs,
    status: Status,
}

#[derive(Debug)]
struct Assembler<'a> {
    height: Height,
    slots: Vec<Slot<'a>>,
    budgets: BTreeMap<ChainId, ChainBudget>,
    records: BTreeMap<ChainId, usize>,
    /// The bundle that claims a transaction, by its place in the walk.
    claims: BTreeMap<Key, usize>,
    /// Who took a key, by its place in the walk.
    taken: BTreeMap<Key, usize>,
}

impl<'a> Assembler<'a> {
    fn new(state: &State, dedup: &Dedup, timestamp: UnixMillis, walk: &[Stop<'a>]) -> Self {
        let mut sorter = Sorter { state, dedup, timestamp, budgets: BTreeMap::new() };
        let slots = walk.iter().map(|stop| sorter.slot(*stop)).collect();
        Self {
            height: state.height.next(),
            slots,
            budgets: sorter.budgets,
            records: BTreeMap::new(),
            claims: BTreeMap::new(),
            taken: BTreeMap::new(),
        }
    }

    /// Bundles that may be taken claim their transactions, for the first pass: one that finds no room in its lane's share
    /// holds nobody back. One that finds one of them claimed claims nothing.
    fn claim(&mut self) {
        for (place, slot) in self.slots.iter().enumerate() {
            let is_bundle = matches!(slot.stop.checked.entry().body(), Body::Bundle(_));
            if !is_bundle || matches!(slot.status, Status::LeftOut(_)) {
                continue;
            }
            if !dedup::keys(slot.stop.checked).any(|key| self.claims.contains_key(&key)) {
                self.claims.extend(dedup::keys(slot.stop.checked).map(|key| (key, place)));
            }
        }
    }

    fn pass(&mut self, pass: Pass) {
        self.budgets.values_mut().for_each(ChainBudget::begin_pass);
        for place in 0..self.slots.len() {
            self.turn(place, pass);
        }
    }

    /// One entry's turn. A duplicate of what this block took stays where it is, and makes nothing wait.
    fn turn(&mut self, place: usize, pass: Pass) {
        let Self { slots, budgets, records, claims, taken, .. } = self;
        let Some(slot) = slots.get_mut(place) else { return };
        let checked = slot.stop.checked;
        let is_waiting = matches!(slot.status, Status::Waiting(_));
        if !is_waiting || dedup::keys(checked).any(|key| taken.contains_key(&key)) {
            return;
        }
        slot.status = match &slot.needs {
            Needs::Record(chain) => count_record(records, *chain),
            Needs::Budget(needs) => {
                let is_claimed = |key: &Key| {
                    pass == Pass::Shares && claims.get(key).is_some_and(|by| *by != place)
                };
                match dedup::keys(checked).find(is_claimed) {
                    Some(key) => Status::Waiting(key.chain),
                    None => spend(budgets, pass, slot.stop.lane, needs),
                }
            }
        };
        if slot.status == Status::Taken {
            taken.extend(dedup::keys(checked).map(|key| (key, place)));
        }
    }

    fn finish(
        self,
        state: &State,
        timestamp: UnixMillis,
        cut: &Cut,
        batches: &[CheckedBatch],
    ) -> Assembly {
        let mut indices = Vec::with_capacity(self.slots.len());
        let mut next = 0u32;
        for slot in &self.slots {
            indices.push(next);
            if slot.status == Status::Taken {
                next = next.saturating_add(1);
            }
        }
        let index_of = |place: usize| *indices.get(place).expect("every place has a slot");
        let (mut taken, mut left_out, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let mut items: BTreeMap<ChainId, Vec<Item>> = BTreeMap::new();
        for (place, slot) in self.slots.iter().enumerate() {
            let Stop { batch, entry, checked, .. } = slot.stop;
            let reason = match slot.status {
                Status::Taken => {
                    let index = index_of(place);
                    taken.push(Taken { index, batch, entry });
                    keys.extend(dedup::keys(checked).map(|key| (key, index)));
                    push_items(&mut items, index, checked.entry());
                    continue;
                }
                Status::LeftOut(reason) => reason,
                Status::Waiting(chain) => dedup::keys(checked)
                    .find_map(|key| self.taken.get(&key))
                    .map(|place| Decision { height: self.height, index: index_of(*place) })
                    .map_or(LeaveOut::OverBudget { chain }, |earlier| LeaveOut::Duplicate {
                        earlier,
                    }),
            };
            left_out.push(LeftOut { batch, entry, reason });
        }
        let slices: Vec<_> =
            items.into_iter().map(|(chain, items)| Slice { chain, items }).collect();
        let summaries: Vec<_> = slices.iter().map(Slice::summary).collect();
        let slices_root = slices_root(&summaries);
        let wasted = waste::added(batches, &left_out);
        let wasted = waste::after(&state.committed, timestamp.since(state.timestamp), &wasted);
        let chains = next_chains(state, timestamp, &self.budgets);
        let committed = next_committed(state, cut, wasted, chains);
        Assembly { taken, left_out, keys, slices, summaries, slices_root, committed }
    }
}

/// Takes a record while the chain's cap has room. Records are tried in one pass: what the cap leaves out stays out.
fn count_record(records: &mut BTreeMap<ChainId, usize>, chain: ChainId) -> Status {
    let count = records.entry(chain).or_default();
    if *count >= RECORDS_PER_CHAIN_MAX {
        return Status::LeftOut(LeaveOut::RecordCap { chain });
    }
    *count = count.saturating_add(1);
    Status::Taken
}

/// Charges every chain of the entry, or none. Where it does not fit, its lane waits, unless no order of the walk could make
/// it fit.
fn spend(
    budgets: &mut BTreeMap<ChainId, ChainBudget>,
    pass: Pass,
    lane: usize,
    needs: &[Need],
) -> Status {
    let mut short = None;
    for Need { chain, demand } in needs {
        let Some(budget) = budgets.get_mut(chain) else { return Status::Waiting(*chain) };
        if budget.is_waiting(lane, demand.is_open) {
            return Status::Waiting(*chain);
        }
    }
    for Need { chain, demand } in needs {
        let budget = budgets.get_mut(chain).expect("each chain has one, as was seen");
        if budget.fits(pass, lane, demand) {
            continue;
        }
        short = short.or(Some(*chain));
        if !planted(Bug::ShortDoesNotWait) && !budget.exceeds(demand) {
            budget.wait(lane, demand.is_open);
        }
    }
    if let Some(chain) = short {
        return Status::Waiting(chain);
    }
    for need in needs {
        if let Some(budget) = budgets.get_mut(&need.chain)
            && !planted(Bug::NothingCharged)
        {
            budget.charge(lane, &need.demand);
        }
    }
    Status::Taken
}

/// Sorts out what no order of the walk could save.
#[derive(Debug)]
struct Sorter<'s> {
    state: &'s State,
    dedup: &'s Dedup,
    timestamp: UnixMillis,
    budgets: BTreeMap<ChainId, ChainBudget>,
}

impl Sorter<'_> {
    fn slot<'a>(&mut self, stop: Stop<'a>) -> Slot<'a> {
        match self.needs(stop.checked) {
            Err(reason) => {
                Slot { stop, needs: Needs::Budget(Vec::new()), status: Status::LeftOut(reason) }
            }
            Ok(needs) => {
                let chain = match &needs {
                    Needs::Record(chain) => *chain,
                    Needs::Budget(needs) => {
                        self.open_budgets(needs);
                        needs.first().expect("an entry has a transaction, a leg or a record").chain
                    }
                };
                Slot { stop, needs, status: Status::Waiting(chain) }
            }
        }
    }

    /// What the entry asks for, unless a rule or an earlier block leaves it out for good.
    fn needs(&mut self, checked: &CheckedEntry) -> Result<Needs, LeaveOut> {
        let needs = admission::needs(&self.state.committed, self.timestamp, checked)?;
        match dedup::keys(checked).find_map(|key| self.dedup.get(&key, self.timestamp)) {
            Some(earlier) => Err(LeaveOut::Duplicate { earlier }),
            None => Ok(needs),
        }
    }

    /// The bucket of every chain that is asked for something.
    fn open_budgets(&mut self, needs: &[Need]) {
        let elapsed_ms = self.timestamp.since(self.state.timestamp);
        let committed = &self.state.committed;
        let (lanes, percent) = (committed.lanes.len(), committed.params.open_share_percent);
        for Need { chain, .. } in needs {
            self.budgets.entry(*chain).or_insert_with(|| {
                let state = committed.chain(*chain).expect("only registered chains are admitted");
                ChainBudget::new(state, elapsed_ms, lanes, percent)
            });
        }
    }
}

/// The slices of a decided block from the entries it took, with their indices in ascending order.
#[must_use]
pub fn slices_of<'a>(taken: impl IntoIterator<Item = (u32, &'a Entry)>) -> Vec<Slice> {
    let mut items = BTreeMap::new();
    for (index, entry) in taken {
        push_items(&mut items, index, entry);
    }
    items.into_iter().map(|(chain, items)| Slice { chain, items }).collect()
}

fn push_items(items: &mut BTreeMap<ChainId, Vec<Item>>, index: u32, entry: &Entry) {
    let mut push = |chain, content| items.entry(chain).or_default().push(Item { index, content });
    match entry.body() {
        Body::Transaction(t) => push(t.chain, Content::Transaction { bytes: t.bytes.clone() }),
        Body::Record(record) => push(record.chain, Content::Record(record.clone())),
        Body::Bundle(bundle) => {
            let legs = u32::try_from(bundle.legs().len()).expect("at most LEGS_MAX");
            for (place, leg) in (0..).zip(bundle.legs()) {
                if planted(Bug::HalfBundle) && place > 0 {
                    break;
                }
                let content = Content::Leg {
                    bundle: entry.id(),
                    leg: place,
                    legs,
                    guarantee: bundle.guarantee(),
                    transactions: leg.transactions.clone(),
                };
                push(leg.chain, content);
            }
        }
    }
}

fn next_chains(
    state: &State,
    timestamp: UnixMillis,
    budgets: &BTreeMap<ChainId, ChainBudget>,
) -> Vec<ChainState> {
    let elapsed_ms = timestamp.since(state.timestamp);
    let chains = state.committed.chains.iter().map(|chain| {
        let rest = budgets
            .get(&chain.params.id)
            .map_or_else(|| budget::refilled(chain, elapsed_ms), ChainBudget::rest);
        ChainState { params: chain.params.clone(), gas: rest.gas, bytes: rest.bytes }
    });
    chains.collect()
}

/// The state after the block. Sets move up by one height; nothing changes them in this version.
fn next_committed(
    state: &State,
    cut: &Cut,
    wasted: Vec<u64>,
    chains: Vec<ChainState>,
) -> Committed {
    let before = &state.committed;
    let is_same_set = before.next_validators == before.validators;
    let set_since = if is_same_set { before.set_since } else { state.height.next().next() };
    Committed {
        lanes: cut.lanes.clone(),
        wasted,
        chains,
        params: before.params.clone(),
        validators: before.next_validators.clone(),
        next_validators: before.next_validators.clone(),
        set_since,
        votes: before.votes.clone(),
        missed: before.missed.clone(),
    }
}
