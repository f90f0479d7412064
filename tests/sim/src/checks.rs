//! What must hold at every step of a run. The first rule that breaks ends it.

mod blocks;
mod locks;
mod proposals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::Address;
use libp2p::PeerId;
use lockstep_consensus::application::candidates::PROPOSALS_PER_PROPOSER_MAX;
use lockstep_consensus::application::effect::Report;
use lockstep_consensus::application::proposals::{EARLY_PER_PEER_MAX, Refusal};
use lockstep_consensus::application::tickets::TICKETS_PER_PEER_MAX;
use lockstep_consensus::application::{Kept, WAITING_PER_PEER_MAX};
use lockstep_consensus::ledger::{DecidedBlock, Ledger};
use lockstep_consensus::parts::STREAMS_PER_PEER_MAX;
use lockstep_consensus::store::MemoryStore;
use lockstep_core::batch::{Acknowledged, BatchPosition};
use lockstep_core::certificate::{Proposal, Vote, VoteType};
use lockstep_core::cut::Cut;
use lockstep_core::header::Header;
use lockstep_core::params::Genesis;
use lockstep_core::signing::Signature;
use lockstep_core::types::{BatchDigest, BlockHash, ChainId, Height, NetworkId, Round, UnixMillis};
use lockstep_core::validator_set::ValidatorSet;
use lockstep_engine::Evidence;

use self::proposals::Proposals;
use crate::disk::{GuardFiles, Log};
use crate::entries::Entries;
use crate::node::place;
use crate::plan::Plan;

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
    locks: locks::Locks,
    decided: BTreeMap<Height, (BlockHash, UnixMillis)>,
    heights: Vec<Height>,
    signed: BTreeMap<Slot, (Option<BlockHash>, Option<Round>)>,
    sent: BTreeSet<Signature>,
    /// Blocks that a node was seen to hold.
    held: BTreeSet<(usize, u64, BlockHash)>,
    /// Batches that a node was seen to have written.
    written: BTreeSet<(usize, u64, BatchDigest)>,
    /// Users' entries.
    pub(crate) entries: Entries,
    wrong_clocks: BTreeSet<usize>,
    /// Nodes whose store lost what it had synced: until their next commit they may vote for what they held.
    torn: BTreeSet<usize>,
    /// Nodes that sign twice because their home was copied: they count among the faulty.
    untrusted: BTreeSet<usize>,
    /// Blocks that honest nodes built.
    built: BTreeSet<BlockHash>,
    /// Times of all blocks that anybody built or opened.
    times: BTreeMap<BlockHash, UnixMillis>,
    /// Blocks that an honest node prevoted, and the first round.
    prevoted: BTreeMap<BlockHash, Round>,
    /// The newest thing that a node signed.
    newest: BTreeMap<usize, (Height, Round, u8)>,
    /// Digest of the batch that a node acknowledged at a position, at a height of its own.
    acknowledged: BTreeMap<(usize, u64, Height, BatchPosition), BatchDigest>,
    /// What is left of each chain's bucket, and when.
    buckets: BTreeMap<ChainId, u64>,
    bytes_per_second: u64,
    bytes_capacity: u64,
    validators: ValidatorSet,
    proposals: Proposals,
    last: Option<(Header, Cut)>,
}

impl Checks {
    /// The rules of a network whose first `liars` validators lie.
    #[must_use]
    pub(crate) fn new(genesis: &Genesis, plan: &Plan) -> Self {
        let (liars, nodes, is_tight) = (plan.liars, plan.nodes, plan.is_tight());
        let addresses: Vec<_> = genesis.validators.iter().map(|member| member.address).collect();
        Self {
            violation: None,
            network: genesis.network_id(),
            liars,
            drift_ms: genesis.params.drift_ms,
            boots: vec![0; nodes],
            locks: locks::Locks::default(),
            decided: BTreeMap::new(),
            heights: vec![Height::GENESIS; nodes],
            signed: BTreeMap::new(),
            sent: BTreeSet::new(),
            held: BTreeSet::new(),
            written: BTreeSet::new(),
            entries: Entries::new(addresses.clone(), liars, is_tight),
            wrong_clocks: BTreeSet::new(),
            torn: BTreeSet::new(),
            untrusted: BTreeSet::new(),
            built: BTreeSet::new(),
            times: BTreeMap::new(),
            prevoted: BTreeMap::new(),
            newest: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            buckets: BTreeMap::new(),
            bytes_per_second: genesis.chains[0].bytes_per_second,
            bytes_capacity: genesis.chains[0].bytes_capacity(),
            validators: genesis.validators.clone(),
            proposals: Proposals::default(),
            last: None,
            addresses,
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

    /// Whether some node has decided this height.
    pub(crate) fn is_decided(&self, height: Height) -> bool {
        self.decided.contains_key(&height)
    }

    /// A node crashed; its data may be gone.
    pub(crate) fn crashed(&mut self, node: usize, is_lost: bool) {
        self.boots[node] += 1;
        self.entries.crashed(node, is_lost);
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

    /// A node's store lost its tail, and its consensus log did not.
    pub(crate) fn tore(&mut self, node: usize) {
        self.torn.insert(node);
    }

    /// A node's home was copied: from now on it may sign twice, and the others must stay safe all the same.
    pub(crate) fn distrust(&mut self, node: usize) {
        self.untrusted.insert(node);
    }

    /// Whether a node signs nothing twice, as far as anybody can help it.
    #[must_use]
    pub(crate) fn is_trusted(&self, node: usize) -> bool {
        node >= self.liars && !self.untrusted.contains(&node)
    }

    /// A block of this time was built, by an honest node or not, or opened.
    pub(crate) fn seen(&mut self, block: BlockHash, time: UnixMillis) {
        self.times.insert(block, time);
    }

    /// An honest node built a block: no honest node may find anything wrong with it.
    pub(crate) fn built(&mut self, block: BlockHash) {
        self.built.insert(block);
    }

    /// An honest validator signed a vote, when its clock showed `now`: it signs no other of this height, round and kind.
    pub(crate) fn signed_vote(&mut self, node: usize, vote: &Vote, now: UnixMillis) {
        let kind = match vote.vote_type {
            VoteType::Prevote => 1,
            VoteType::Precommit => 2,
        };
        self.signed((node, vote.height, vote.round, kind), (vote.block, None));
        if let (VoteType::Prevote, Some(block)) = (vote.vote_type, vote.block) {
            self.prevotes(node, block, vote.round, now);
        }
    }

    /// The first honest prevote for a block finds its time near: a block from the future has none.
    fn prevotes(&mut self, node: usize, block: BlockHash, round: Round, now: UnixMillis) {
        let time = self.times.get(&block).copied().unwrap_or_default();
        let is_first = self.prevoted.get(&block).is_none_or(|first| *first >= round);
        if is_first && time > now.plus(self.drift_ms) && !self.wrong_clocks.contains(&node) {
            self.fail(format!("node {node} prevotes a block of {time:?}, its clock shows {now:?}"));
        }
        self.prevoted.entry(block).or_insert(round);
    }

    /// The same for a proposal.
    pub(crate) fn signed_proposal(&mut self, node: usize, proposal: &Proposal) {
        let what = (Some(proposal.block), proposal.valid_round);
        self.signed((node, proposal.height, proposal.round, 0), what);
    }

    fn signed(&mut self, slot: Slot, what: (Option<BlockHash>, Option<Round>)) {
        let (node, height, round, kind) = slot;
        if !self.is_trusted(node) {
            return;
        }
        let is_new = !self.signed.contains_key(&slot);
        let before = *self.signed.entry(slot).or_insert(what);
        if before != what {
            self.fail(format!("{slot:?} is signed twice: {before:?} and {what:?}"));
        }
        let newest = self.newest.entry(node).or_default();
        if is_new && (height, round, kind) < *newest {
            let reason = format!("{slot:?} is signed after {newest:?}");
            return self.fail(reason);
        }
        *newest = (*newest).max((height, round, kind));
    }

    /// A signature leaves: the guard's file must be synced.
    pub(crate) fn signature_leaves(&mut self, node: usize, guard: &GuardFiles) {
        if !guard.is_synced() {
            self.fail(format!("a signature of node {node} leaves before the guard is synced"));
        }
    }

    /// A node says that it stores these batches: it does, and at each position one of them.
    pub(crate) fn acknowledges(&mut self, node: usize, ledger: &Ledger, tips: &[Acknowledged]) {
        for tip in tips {
            let height = self.heights[node];
            let key = (node, self.boots[node], height, tip.position);
            match self.acknowledged.insert(key, tip.digest) {
                Some(before) if before == tip.digest => continue,
                Some(before) => {
                    let got = tip.digest;
                    self.fail(format!(
                        "node {node} acknowledges {before} and {got} at {:?}",
                        tip.position
                    ));
                }
                None => self.stores(node, ledger, tip),
            }
        }
    }

    /// A node holds a batch, written.
    pub(crate) fn stores(&mut self, node: usize, ledger: &Ledger, batch: &Acknowledged) {
        // Its position was decided a moment ago, perhaps with another batch, and the lanes do not know yet.
        let lanes = &ledger.state().committed.lanes;
        if lanes
            .iter()
            .any(|lane| lane.owner == batch.position.owner && batch.position <= lane.batch())
        {
            return;
        }
        if !self.written.insert((node, self.boots[node], batch.digest)) {
            return;
        }
        let held = ledger.store().batch_with_digest(&batch.position, batch.digest);
        if held.expect("it reads its store").is_none() {
            self.fail(format!(
                "node {node} sends word of {:?}, which it has not written",
                batch.position
            ));
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
        if self.torn.contains(&node) || !self.held.insert((node, self.boots[node], block)) {
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
            let node = self.addresses.iter().position(|other| other == validator);
            if node.is_some_and(|node| self.is_trusted(node)) {
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
        self.torn.remove(&node);
        if node < self.liars {
            return;
        }
        if let Err(error) = decided.certificate.verify(self.network, &self.validators) {
            self.fail(format!(
                "node {node} commits {height} with a certificate that is none: {error}"
            ));
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
        self.follows(decided);
        self.whole(decided);
        self.within_budget(decided);
        self.last = Some((decided.header.clone(), decided.cut.clone()));
        let entries = self.entries.decided(decided);
        self.expect(entries);
    }

    /// What an honest node notes of others: nothing bad of what an honest one made.
    pub(crate) fn reported(&mut self, node: usize, report: &Report) {
        if node < self.liars {
            return;
        }
        let is_honest = |peer: &PeerId| place(peer) >= self.liars;
        let is_ours = |block: &BlockHash| self.built.contains(block);
        let is_wrong = match report {
            Report::PartRefused { from, .. } | Report::ValueWrong(from, ..) => is_honest(from),
            Report::ProposalRefused { from, reason, .. } => {
                let may_be = matches!(reason, Refusal::TooFar { .. } | Refusal::Busy);
                is_honest(from) && !may_be
            }
            Report::BlockInvalid { block, .. } | Report::CutBroken { block, .. } => is_ours(block),
            // A liar sends an honest proposal on, with batches of its own making.
            Report::AttachedInvalid(block, _) => self.liars == 0 && is_ours(block),
            Report::CandidatesFull(Proposal { height, round, .. }) => {
                let proposer = self.validators.proposer(*height, *round).address;
                self.addresses[self.liars..].contains(&proposer)
            }
            Report::LaneEquivocation(position) => {
                self.addresses[self.liars..].contains(&position.owner)
            }
            Report::OwnBatchInvalid(_) => true,
            _ => false,
        };
        if is_wrong {
            self.fail(format!("node {node} finds fault with an honest one: {report:?}"));
        }
    }

    /// What one node keeps of others is bounded, whatever a liar sends.
    pub(crate) fn kept(&mut self, node: usize, kept: &Kept) {
        let most = |of_each| self.addresses.len() * of_each;
        let bounds = [
            (kept.proposals, most(PROPOSALS_PER_PROPOSER_MAX)),
            (kept.blocks, most(PROPOSALS_PER_PROPOSER_MAX) + 1),
            (kept.tickets, most(TICKETS_PER_PEER_MAX)),
            (kept.streams, most(STREAMS_PER_PEER_MAX)),
            (kept.early, most(EARLY_PER_PEER_MAX)),
            (kept.batches, most(WAITING_PER_PEER_MAX)),
        ];
        if bounds.iter().any(|(count, most)| count > most) {
            self.fail(format!("node {node} keeps {kept:?}"));
        }
    }

    /// What is said to be synced is: of all writes only a fuller certificate may be lost, and it is written later.
    pub(crate) fn synced(&mut self, node: usize, store: &MemoryStore) {
        if store.unsynced() > 0 {
            self.fail(format!("node {node} is told that a write is synced, and it is not"));
        }
    }

    /// What breaks a rule of entries breaks the run.
    pub(crate) fn expect(&mut self, result: Result<(), String>) {
        if let Err(reason) = result {
            self.fail(reason);
        }
    }

    /// At the end: what users were told is what the log says.
    pub(crate) fn end(&mut self) {
        let ended = self.entries.end(&self.heights, &self.boots);
        self.expect(ended);
    }
}
