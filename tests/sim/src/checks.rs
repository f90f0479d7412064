//! What must hold at every step of a run. The first rule that breaks ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::Address;
use lockstep_consensus::application::candidates::PROPOSALS_PER_PROPOSER_MAX;
use lockstep_consensus::ledger::{DecidedBlock, Ledger};
use lockstep_consensus::tracker::EntryState;
use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::certificate::{Proposal, Vote, VoteType};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::{ChainKind, Genesis};
use lockstep_core::signing::Signature;
use lockstep_core::types::{BlockHash, ChainId, EntryId, Height, NetworkId, Round, UnixMillis};
use lockstep_engine::Evidence;

use crate::disk::{GuardFiles, Log};
use crate::world::{CHAINS, Micros};

/// A node and its boot.
type Source = (usize, u64);

/// What a validator signs at most one message of.
type Slot = (usize, Height, Round, u8);

/// What a validator holds when it sends a vote.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    /// Its consensus log.
    pub(crate) log: &'a Log,
    /// Its store.
    pub(crate) ledger: Option<&'a Arc<Ledger>>,
    /// Its guard's directory.
    pub(crate) guard: &'a GuardFiles,
}

/// An entry that a user submitted.
#[derive(Debug)]
struct Tracked {
    source: Source,
    chains: Vec<ChainId>,
    number: u64,
    is_accepted: bool,
    told: Option<EntryState>,
    decided: Option<(Height, u32)>,
}

/// The rules, and what they need to know.
#[derive(Debug)]
pub(crate) struct Checks {
    /// The first rule that broke.
    pub(crate) violation: Option<String>,
    /// The network.
    pub(crate) network: NetworkId,
    liars: usize,
    addresses: Vec<Address>,
    drift_ms: u64,
    boots: Vec<u64>,
    decided: BTreeMap<Height, (BlockHash, UnixMillis)>,
    heights: Vec<Height>,
    signed: BTreeMap<Slot, (Option<BlockHash>, Option<Round>)>,
    sent: BTreeSet<Signature>,
    /// Blocks that a node was seen to hold.
    held: BTreeSet<(usize, u64, BlockHash)>,
    entries: BTreeMap<EntryId, Tracked>,
    numbers: u64,
    /// Number of the newest decided entry of a lane's run and chain.
    newest: BTreeMap<(Source, ChainId), u64>,
    wrong_clocks: BTreeSet<usize>,
    entries_decided: u64,
}

impl Checks {
    /// The rules of a network whose first `liars` validators lie.
    #[must_use]
    pub(crate) fn new(genesis: &Genesis, liars: usize, nodes: usize) -> Self {
        Self {
            violation: None,
            network: genesis.network_id(),
            liars,
            addresses: genesis.validators.iter().map(|validator| validator.address).collect(),
            drift_ms: genesis.params.drift_ms,
            boots: vec![0; nodes],
            decided: BTreeMap::new(),
            heights: vec![Height::GENESIS; nodes],
            signed: BTreeMap::new(),
            sent: BTreeSet::new(),
            held: BTreeSet::new(),
            entries: BTreeMap::new(),
            numbers: 0,
            newest: BTreeMap::new(),
            wrong_clocks: BTreeSet::new(),
            entries_decided: 0,
        }
    }

    /// A rule broke.
    pub(crate) fn fail(&mut self, reason: String) {
        self.violation.get_or_insert(reason);
    }

    /// The newest height a node committed.
    #[must_use]
    pub(crate) fn height(&self, node: usize) -> Height {
        self.heights[node]
    }

    /// How many entries of users are decided.
    #[must_use]
    pub(crate) const fn entries_decided(&self) -> u64 {
        self.entries_decided
    }

    /// A node crashed; its data may be gone.
    pub(crate) fn crashed(&mut self, node: usize, is_lost: bool) {
        self.boots[node] += 1;
        if is_lost {
            self.heights[node] = Height::GENESIS;
        }
    }

    /// A node's clock is further off than clocks may be.
    pub(crate) fn clock_is_wrong(&mut self, node: usize) {
        self.wrong_clocks.insert(node);
    }

    /// Whether it ever was.
    #[must_use]
    pub(crate) fn is_clock_wrong(&self, node: usize) -> bool {
        self.wrong_clocks.contains(&node)
    }

    /// An honest validator signed a vote: it signs no other of this height, round and kind.
    pub(crate) fn signed_vote(&mut self, node: usize, vote: &Vote) {
        let kind = match vote.vote_type {
            VoteType::Prevote => 1,
            VoteType::Precommit => 2,
        };
        self.signed((node, vote.height, vote.round, kind), (vote.block, None));
    }

    /// The same for a proposal.
    pub(crate) fn signed_proposal(&mut self, node: usize, proposal: &Proposal) {
        let what = (Some(proposal.block), proposal.valid_round);
        self.signed((node, proposal.height, proposal.round, 0), what);
    }

    fn signed(&mut self, slot: Slot, what: (Option<BlockHash>, Option<Round>)) {
        let before = *self.signed.entry(slot).or_insert(what);
        if before != what {
            self.fail(format!("{slot:?} is signed twice: {before:?} and {what:?}"));
        }
    }

    /// An honest validator sends a vote: its log has it, and the block it votes for is held.
    pub(crate) fn sent_vote(
        &mut self,
        node: usize,
        vote: &Vote,
        signature: &Signature,
        held: &Held<'_>,
    ) {
        let Held { log, ledger, guard } = *held;
        if !self.sent.insert(*signature) || log.height != vote.height {
            return;
        }
        if !guard.holds(&signature.0) {
            self.fail(format!("node {node} sends {vote:?}, which its guard does not hold"));
        }
        let (Some(block), Some(ledger), VoteType::Prevote) = (vote.block, ledger, vote.vote_type)
        else {
            return;
        };
        if !self.held.insert((node, self.boots[node], block)) {
            return;
        }
        let undecided = ledger.store().undecided(vote.height).expect("it reads its store");
        let is_held = undecided.iter().any(|held| held.header.hash() == block)
            || ledger.block_hash(vote.height) == Some(block);
        if !is_held {
            self.fail(format!(
                "node {node} prevotes {block} of height {}, which it does not hold",
                vote.height
            ));
        }
    }

    /// A validator is asked to sign: what led to it is durable.
    pub(crate) fn asked(&mut self, node: usize, log: &Log) {
        if log.synced < log.entries.len() {
            self.fail(format!("node {node} signs before what led to it is durable: {log:?}"));
        }
    }

    /// Who equivocated, by what consensus saw: never an honest validator.
    pub(crate) fn evidence(&mut self, evidence: &[Evidence]) {
        for one in evidence {
            let (Evidence::Votes { validator, .. } | Evidence::Proposals { validator, .. }) = one;
            let honest = &self.addresses[self.liars..];
            if honest.contains(validator) {
                self.fail(format!("an honest validator equivocated: {one:?}"));
            }
        }
    }

    /// A node committed a block.
    pub(crate) fn committed(&mut self, node: usize, decided: &DecidedBlock, latest: UnixMillis) {
        let (height, block) = (decided.header.height, decided.header.hash());
        let time = decided.header.timestamp_ms;
        if height != self.heights[node].next() && self.heights[node] != Height::GENESIS {
            self.fail(format!("node {node} commits {height} after {}", self.heights[node]));
        }
        self.heights[node] = height;
        if node < self.liars {
            return;
        }
        if let Some((other, _)) = self.decided.get(&height) {
            if *other != block {
                self.fail(format!("height {height}: {other} and {block} are both decided"));
            }
            return;
        }
        if time > latest.plus(self.drift_ms) {
            self.fail(format!("height {height} has time {time:?}, honest clocks show {latest:?}"));
        }
        self.decided.insert(height, (block, time));
        self.ordered(decided);
        self.whole(decided);
    }

    /// Proposals of others that one node keeps are bounded, whatever a liar sends.
    pub(crate) fn kept(&mut self, node: usize, (proposals, blocks): (usize, usize)) {
        let most = PROPOSALS_PER_PROPOSER_MAX * self.addresses.len();
        if proposals > most || blocks > most + 1 {
            self.fail(format!("node {node} keeps {proposals} proposals and {blocks} blocks"));
        }
    }

    /// A bundle's legs are in the slices of all its chains under one index, and nothing else is.
    fn whole(&mut self, decided: &DecidedBlock) {
        let entries = decided.entries();
        let mut expected = BTreeSet::new();
        for taken in &decided.assembly.taken {
            let Some(entry) = entries.at(&taken.batch, taken.entry) else { continue };
            let chains: Vec<_> = match entry.entry().body() {
                Body::Transaction(transaction) => vec![transaction.chain],
                Body::Bundle(bundle) => bundle.legs().iter().map(|leg| leg.chain).collect(),
                Body::Record(_) => Vec::new(),
            };
            expected.extend(chains.into_iter().map(|chain| (chain, taken.index)));
        }
        let slices = decided.assembly.slices.iter();
        let got: BTreeSet<_> = slices
            .flat_map(|slice| slice.items.iter().map(|item| (slice.chain, item.index)))
            .collect();
        if got != expected {
            let height = decided.header.height;
            self.fail(format!("slices of height {height} hold {got:?}, expected {expected:?}"));
        }
    }

    /// Entries of one lane's run and chain are decided in the order they were submitted, and each once.
    fn ordered(&mut self, decided: &DecidedBlock) {
        let height = decided.header.height;
        let entries = decided.entries();
        let mut taken: Vec<_> = decided.assembly.taken.iter().collect();
        taken.sort_by_key(|taken| taken.index);
        for taken in taken {
            let Some(entry) = entries.at(&taken.batch, taken.entry) else { continue };
            let id = entry.entry().id();
            let Some(tracked) = self.entries.get_mut(&id) else { continue };
            self.entries_decided += 1;
            if let Some(before) = tracked.decided.replace((height, taken.index)) {
                let reason = format!("entry {id} is decided at {before:?} and height {height}");
                return self.fail(reason);
            }
            let (source, number) = (tracked.source, tracked.number);
            for chain in tracked.chains.clone() {
                let newest = self.newest.entry((source, chain)).or_default();
                if *newest > number {
                    let reason = format!("{source:?} {chain}: entry {number} after {newest}");
                    return self.fail(reason);
                }
                *newest = number;
            }
        }
    }

    /// A new entry for a node: of one chain, or a bundle of both.
    pub(crate) fn new_entry(&mut self, source: Source, kind: u64, expires: UnixMillis) -> Entry {
        self.numbers += 1;
        let number = self.numbers;
        let bytes = || number.to_be_bytes().to_vec();
        let (chains, body) = match kind {
            0 => {
                let leg = |chain| Leg {
                    chain,
                    kind: ChainKind::Opaque,
                    transactions: vec![bytes().into()],
                };
                let bundle = Bundle::new(CHAINS.map(leg).into(), Guarantee::CoOrdered);
                (CHAINS.to_vec(), Body::Bundle(bundle.expect("two legs")))
            }
            kind => {
                let chain = CHAINS[usize::from(kind % 2 == 0)];
                let kind = ChainKind::Opaque;
                let transaction = Transaction { chain, kind, bytes: bytes().into() };
                (vec![chain], Body::Transaction(transaction))
            }
        };
        let entry = Entry::new(body, expires, None).expect("a short entry");
        let tracked =
            Tracked { source, chains, number, is_accepted: false, told: None, decided: None };
        self.entries.insert(entry.id(), tracked);
        entry
    }

    /// A node took an entry.
    pub(crate) fn accepted(&mut self, _: Source, _: Micros, id: EntryId, state: EntryState) {
        if let Some(tracked) = self.entries.get_mut(&id) {
            tracked.is_accepted = true;
            tracked.told.get_or_insert(state);
        }
    }

    /// A node tells the state of an entry.
    pub(crate) fn told(&mut self, source: Source, id: EntryId, state: EntryState) {
        if let Some(tracked) = self.entries.get_mut(&id)
            && tracked.source == source
        {
            if let Some(EntryState::Decided { .. }) = tracked.told {
                return;
            }
            tracked.told = Some(state);
        }
    }

    /// At the end: what users were told is what the log says.
    pub(crate) fn end(&mut self) {
        let mut wrong = None;
        for tracked in self.entries.values() {
            let (node, boot) = tracked.source;
            if !tracked.is_accepted || node < self.liars || self.boots[node] != boot {
                continue;
            }
            let is_right = match (tracked.told, tracked.decided) {
                (Some(EntryState::Decided { decision, .. }), Some(at)) => {
                    (decision.height, decision.index) == at
                }
                (Some(EntryState::Decided { .. }), None) => false,
                (Some(EntryState::Dropped(_)), decided) => decided.is_none(),
                // The newest block may not be committed there yet.
                (Some(EntryState::Received) | None, decided) => {
                    decided.is_none_or(|(height, _)| height >= self.heights[node])
                }
            };
            if !is_right {
                wrong = Some(format!("an entry is told wrongly: {tracked:?}"));
            }
        }
        if let Some(reason) = wrong {
            self.fail(reason);
        }
    }
}
