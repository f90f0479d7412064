//! What must hold of users' entries: each is decided once, in its lane's order, in time, and ends as its user is told.
//!
//! A copy of an entry is the same body with another expiry, submitted to another node; it has a lane's order of its own.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use lockstep_consensus::ledger::DecidedBlock;
use lockstep_consensus::tracker::EntryState;
use lockstep_core::admission::LeaveOut;
use lockstep_core::batch::CheckedBatch;
use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::entry::{Body, CheckedEntry, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::state::State;
use lockstep_core::types::{ChainId, EntryId, Height, UnixMillis};

use crate::world::CHAINS;

/// How long an entry that must not expire lives, in milliseconds: longer than faults may last and the log may stand together.
/// A validator that alone saw a polka while messages were lost is locked until its own turn, so of seven validators one liar
/// and one wiped one make the log stand for seven rounds.
pub(crate) const LONG_MS: u64 = 40_000;
/// No clock is more than that ahead of log time.
const CLOCK_AHEAD_MS: u64 = 4_000;

/// A copy of an entry that a user submitted to a node.
#[derive(Debug)]
struct Copy {
    boot: u64,
    client: u8,
    /// Its place in the node's order.
    number: u64,
    expires: UnixMillis,
    is_long: bool,
    is_accepted: bool,
    told: Option<EntryState>,
    /// How many blocks left it out of the node's lane over budget.
    left_out: u8,
    /// What the chains' buckets held when it went into its newest batch.
    levels: BTreeMap<ChainId, u64>,
    /// It was sure, and others drained a bucket before its batch was in a block: what the lane's order excepts.
    is_drained: bool,
}

/// A node, its boot, and one of its clients.
type From = (usize, u64, u8);

/// An entry.
#[derive(Debug)]
struct Tracked {
    body: Body,
    chains: Vec<ChainId>,
    copies: BTreeMap<usize, Copy>,
    decided: Option<(Height, u32)>,
}

/// All entries of a run.
#[derive(Debug)]
pub(crate) struct Entries {
    /// The nodes' addresses, liars first.
    addresses: Vec<Address>,
    liars: usize,
    /// The chains' buckets may be too small for what is submitted.
    is_tight: bool,
    all: BTreeMap<EntryId, Tracked>,
    newest: Vec<EntryId>,
    numbers: u64,
    /// Number of the newest decided entry of a client of a node's boot, and of a chain.
    order: BTreeMap<(From, ChainId), u64>,
    /// Copies that were accepted and have not ended, by node and number.
    waiting: BTreeMap<(usize, u64), EntryId>,
    /// Entries in batches that their owner has written, and which must be decided before they expire.
    stored: BTreeSet<(usize, EntryId)>,
    /// How many are decided.
    pub(crate) decided: u64,
}

impl Entries {
    /// None yet.
    #[must_use]
    pub(crate) fn new(addresses: Vec<Address>, liars: usize, is_tight: bool) -> Self {
        Self {
            addresses,
            liars,
            is_tight,
            all: BTreeMap::new(),
            newest: Vec::new(),
            numbers: 0,
            order: BTreeMap::new(),
            waiting: BTreeMap::new(),
            stored: BTreeSet::new(),
            decided: 0,
        }
    }

    /// A new entry for a node: of one chain, or a bundle of both, with transactions of so many bytes.
    pub(crate) fn submit(
        &mut self,
        from: From,
        kind: u64,
        length: usize,
        (now, lives): (UnixMillis, u64),
    ) -> Entry {
        let number = self.next_number();
        let bytes = || {
            let mut bytes = number.to_be_bytes().to_vec();
            bytes.resize(bytes.len().max(length), 7);
            bytes
        };
        let kind_of = ChainKind::Opaque;
        let leg = |chain| Leg { chain, kind: kind_of, transactions: vec![bytes().into()] };
        let (chains, body) = match kind {
            0 => {
                let bundle = Bundle::new(CHAINS.map(leg).into(), Guarantee::CoOrdered);
                (CHAINS.to_vec(), Body::Bundle(bundle.expect("two legs")))
            }
            kind => {
                let chain = CHAINS[usize::from(kind % 2 == 0)];
                let transaction = Transaction { chain, kind: kind_of, bytes: bytes().into() };
                (vec![chain], Body::Transaction(transaction))
            }
        };
        let entry = Entry::new(body.clone(), now.plus(lives), None).expect("a short entry");
        let tracked = Tracked { body, chains, copies: BTreeMap::new(), decided: None };
        self.all.insert(entry.id(), tracked);
        self.newest.push(entry.id());
        self.add(entry.id(), from, number, (now, lives));
        entry
    }

    /// A copy of an entry that was submitted a while ago to other nodes only; `which` of the newest.
    pub(crate) fn submit_copy(
        &mut self,
        from: From,
        which: usize,
        (now, lives): (UnixMillis, u64),
    ) -> Option<Entry> {
        let id = *self.newest.iter().rev().nth(which)?;
        let tracked = self.all.get(&id)?;
        if tracked.copies.contains_key(&from.0) {
            return None;
        }
        let entry = Entry::new(tracked.body.clone(), now.plus(lives), None).expect("it was one");
        let number = self.next_number();
        self.add(id, from, number, (now, lives));
        Some(entry)
    }

    const fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn add(
        &mut self,
        id: EntryId,
        (node, boot, client): From,
        number: u64,
        (now, lives): (UnixMillis, u64),
    ) {
        let (expires, is_long) = (now.plus(lives), lives >= LONG_MS);
        let copy = Copy {
            boot,
            client,
            number,
            expires,
            is_long,
            is_accepted: false,
            told: None,
            left_out: 0,
            levels: BTreeMap::new(),
            is_drained: false,
        };
        if let Some(tracked) = self.all.get_mut(&id) {
            tracked.copies.insert(node, copy);
        }
    }

    /// A node crashed: it has forgotten what it did not write, or all of it.
    pub(crate) fn crashed(&mut self, node: usize, is_lost: bool) {
        self.waiting.retain(|(other, _), _| *other != node);
        if is_lost {
            self.stored.retain(|(other, _)| *other != node);
        }
    }

    /// A node took an entry.
    pub(crate) fn accepted(&mut self, (node, boot): (usize, u64), id: EntryId, state: EntryState) {
        let tracked = self.all.get_mut(&id);
        let copy = tracked.and_then(|tracked| tracked.copies.get_mut(&node));
        let Some(copy) = copy.filter(|copy| copy.boot == boot) else { return };
        copy.is_accepted = true;
        let state = *copy.told.get_or_insert(state);
        if !state.is_final() && node >= self.liars {
            self.waiting.insert((node, copy.number), id);
        }
    }

    /// A node tells the state of an entry.
    ///
    /// # Errors
    /// The rule that breaks.
    pub(crate) fn told(
        &mut self,
        (node, boot): (usize, u64),
        id: EntryId,
        state: EntryState,
    ) -> Result<(), String> {
        let tracked = self.all.get_mut(&id);
        let copy = tracked.and_then(|tracked| tracked.copies.get_mut(&node));
        let Some(copy) = copy.filter(|copy| copy.boot == boot) else { return Ok(()) };
        if let Some(EntryState::Decided { .. }) = copy.told {
            return Err(format!(
                "node {node} tells {state:?} of entry {id}, which it said is decided"
            ));
        }
        copy.told = Some(state);
        if state.is_final() {
            self.waiting.remove(&(node, copy.number));
        }
        match state {
            EntryState::Dropped(LeaveOut::Expired { timestamp, .. })
                if timestamp >= copy.expires =>
            {
                Ok(())
            }
            EntryState::Dropped(LeaveOut::OverBudget { .. }) if copy.left_out > 1 => Ok(()),
            EntryState::Dropped(reason) => Err(format!(
                "node {node} drops entry {id}, which expires at {:?}: {reason}",
                copy.expires
            )),
            EntryState::Received | EntryState::Decided { .. } => Ok(()),
        }
    }

    /// A node has written batches; what is in those of its own lane survives a crash.
    pub(crate) fn stored(&mut self, (node, boot): (usize, u64), batches: &[CheckedBatch]) {
        let own = batches.iter().filter(|batch| batch.position().owner == self.addresses[node]);
        for entry in own.flat_map(|batch| batch.entries()) {
            let id = entry.entry().id();
            let Some(tracked) = self.all.get(&id) else { continue };
            // What peers give back of an earlier life is no promise of this one.
            let is_ours = |copy: &Copy| copy.is_long && copy.boot == boot;
            if tracked.copies.get(&node).is_some_and(is_ours)
                && tracked.decided.is_none()
                && !self.is_tight
            {
                self.stored.insert((node, id));
            }
        }
    }

    /// A node puts entries of its own into a batch, by this state.
    pub(crate) fn made(&mut self, node: usize, state: &State, entries: &[CheckedEntry]) {
        for entry in entries {
            let tracked = self.all.get_mut(&entry.entry().id());
            let Some(copy) = tracked.and_then(|tracked| tracked.copies.get_mut(&node)) else {
                continue;
            };
            let chains = state.committed.chains.iter();
            copy.levels = chains.map(|chain| (chain.params.id, chain.bytes)).collect();
        }
    }

    /// A block left an entry of a node's lane out, because this chain's bucket had no room. An entry is sure if it is within
    /// half of its lane's share; then there is no room only if the bucket lost more than half since.
    fn left_out(&mut self, id: EntryId, node: usize, (chain, held): (ChainId, u64)) {
        let lanes = self.addresses.len() as u64;
        let Some(tracked) = self.all.get_mut(&id) else { return };
        let asked = asked(&tracked.body, chain);
        let Some(copy) = tracked.copies.get_mut(&node) else { return };
        copy.left_out = copy.left_out.saturating_add(1);
        let level = copy.levels.get(&chain).copied().unwrap_or_default();
        copy.is_drained |= 2 * asked * lanes <= level && 2 * held < level;
    }

    /// A block is decided.
    ///
    /// # Errors
    /// The rule that breaks.
    pub(crate) fn decided(&mut self, decided: &DecidedBlock) -> Result<(), String> {
        let (height, time) = (decided.header.height, decided.header.timestamp_ms);
        let entries = decided.entries();
        let short = short(decided);
        for left in &decided.assembly.left_out {
            let Some(entry) = entries.at(&left.batch, left.entry) else { continue };
            let node = self.addresses.iter().position(|other| *other == left.batch.owner);
            if let (LeaveOut::OverBudget { chain }, Some(node)) = (left.reason, node) {
                self.left_out(entry.entry().id(), node, (chain, held(decided, chain)));
            }
        }
        let mut taken: Vec<_> = decided.assembly.taken.iter().collect();
        taken.sort_by_key(|taken| taken.index);
        for taken in taken {
            let Some(entry) = entries.at(&taken.batch, taken.entry) else { continue };
            let (id, expires) = (entry.entry().id(), entry.entry().expires());
            if expires <= time {
                return Err(format!("entry {id} expired at {expires:?}, its block has {time:?}"));
            }
            let Some(tracked) = self.all.get_mut(&id) else { continue };
            self.decided += 1;
            if let Some(before) = tracked.decided.replace((height, taken.index)) {
                return Err(format!("entry {id} is decided at {before:?} and height {height}"));
            }
            self.stored.extract_if(.., |(_, other)| *other == id).for_each(drop);
            let node = self.addresses.iter().position(|other| *other == taken.batch.owner);
            let node = node.expect("the set's validators own the lanes");
            // A liar's lane has the order that it likes.
            let Some(copy) = tracked.copies.get(&node).filter(|_| node >= self.liars) else {
                continue;
            };
            let (number, chains) = (copy.number, tracked.chains.clone());
            let is_drained = copy.is_drained;
            let from = (node, copy.boot, copy.client);
            for chain in &chains {
                let newest = self.order.entry((from, *chain)).or_default();
                if *newest > number && !is_drained {
                    return Err(format!(
                        "node {node}, chain {chain}: entry {number} after {newest}"
                    ));
                }
                *newest = number.max(*newest);
            }
            self.passed_over((from, number), &chains, time, &short)?;
        }
        Ok(())
    }

    /// An entry is decided: no earlier one of its client and chains still waits. What expires soon its node may have given up
    /// already, by a clock that jumped ahead; a bundle holds back only the chain where it did not fit; and a bucket that others
    /// drained may part a bundle from what stood behind it.
    fn passed_over(
        &self,
        ((node, boot, client), number): (From, u64),
        chains: &[ChainId],
        time: UnixMillis,
        short: &BTreeMap<EntryId, ChainId>,
    ) -> Result<(), String> {
        for ((_, earlier), id) in self.waiting.range((node, 0)..(node, number)) {
            let Some(tracked) = self.all.get(id).filter(|tracked| tracked.decided.is_none()) else {
                continue;
            };
            let is_alive = |copy: &Copy| {
                (copy.boot, copy.client) == (boot, client)
                    && copy.expires > time.plus(CLOCK_AHEAD_MS)
                    && !copy.is_drained
            };
            let shares = tracked.chains.iter().any(|chain| chains.contains(chain));
            let fits = short.get(id).is_some_and(|chain| !chains.contains(chain));
            if shares && !fits && tracked.copies.get(&node).is_some_and(is_alive) {
                return Err(format!("node {node}: entry {number} passes entry {earlier} over"));
            }
        }
        Ok(())
    }

    /// Whether everything that must end has.
    #[must_use]
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.stored.is_empty()
    }

    /// What has not ended.
    #[must_use]
    pub(crate) fn unsettled(&self) -> String {
        let open =
            self.waiting.iter().next().map(|((node, _), id)| ("it was accepted", (*node, *id)));
        let open = open.or_else(|| self.stored.first().map(|at| ("it was written", *at)));
        let entry = open.and_then(|(_, (_, id))| self.all.get(&id));
        let entry = entry.map(|tracked| (&tracked.copies, tracked.decided));
        format!("an entry does not end: {open:?} {entry:?}")
    }

    /// At the end: what users were told is what the log says. `heights` are the nodes', `boots` too.
    ///
    /// # Errors
    /// The rule that breaks.
    pub(crate) fn end(&self, heights: &[Height], boots: &[u64]) -> Result<(), String> {
        for tracked in self.all.values() {
            for (node, copy) in &tracked.copies {
                if !copy.is_accepted || *node < self.liars || boots[*node] != copy.boot {
                    continue;
                }
                let is_right = match (copy.told, tracked.decided) {
                    (Some(EntryState::Decided { decision, .. }), Some(at)) => {
                        (decision.height, decision.index) == at
                    }
                    (Some(EntryState::Decided { .. }), None) => false,
                    // The newest block may not be committed there yet.
                    (_, decided) => decided.is_none_or(|(height, _)| height >= heights[*node]),
                };
                if !is_right {
                    let decided = tracked.decided;
                    return Err(format!(
                        "node {node} tells wrongly: {copy:?}, decided {decided:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What an entry asks of a chain.
fn asked(body: &Body, chain: ChainId) -> u64 {
    let bytes = match body {
        Body::Transaction(transaction) if transaction.chain == chain => transaction.bytes.len(),
        Body::Bundle(bundle) => {
            let legs = bundle.legs().iter().filter(|leg| leg.chain == chain);
            legs.flat_map(|leg| &leg.transactions).map(|bytes| bytes.len()).sum()
        }
        Body::Transaction(_) | Body::Record(_) => 0,
    };
    bytes as u64
}

/// What a chain's bucket held before a block took of it.
fn held(decided: &DecidedBlock, chain: ChainId) -> u64 {
    let entries = decided.entries();
    let taken = decided.assembly.taken.iter();
    let taken = taken.filter_map(|taken| entries.at(&taken.batch, taken.entry));
    let used: u64 = taken.map(|checked| asked(checked.entry().body(), chain)).sum();
    let rest = decided.assembly.committed.chain(chain).map_or(0, |chain| chain.bytes);
    rest + used
}

/// The entries that a block left out over budget, and the chain where each did not fit.
fn short(decided: &DecidedBlock) -> BTreeMap<EntryId, ChainId> {
    let entries = decided.entries();
    let left_out = decided.assembly.left_out.iter();
    let short = left_out.filter_map(|left| match left.reason {
        LeaveOut::OverBudget { chain } => {
            Some((entries.at(&left.batch, left.entry)?.entry().id(), chain))
        }
        _ => None,
    });
    short.collect()
}
