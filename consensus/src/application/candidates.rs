//! Blocks proposed at the height under way, and what this node knows of each. Bounded per proposer.
//!
//! A block is opened once its proposal is complete, judged once its batches are held, written, and handed to consensus
//! once for every proposal of it that may be handed over: a timely fresh one, or one with a valid round. Consensus gets
//! the signed proposal of exactly that (height, round, valid round, block), so nothing a proposer claims of one proposal
//! counts for another. A block that can't be judged yet is never invalid. Source: design section 2.
//!
//! It knows nothing of later heights, nor of what is durable elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::Address;
use libp2p::PeerId;
use lockstep_core::batch::CheckedBatch;
use lockstep_core::block::Assembly;
use lockstep_core::certificate::Proposal;
use lockstep_core::cut::Cut;
use lockstep_core::header::Header;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::types::{BlockHash, Round};
use lockstep_engine::{FirstPart, ProposedBlock};

use crate::lanes::table::Attached;

/// Rounds ahead of the present one whose proposals are opened: as many as consensus itself looks ahead.
pub const ROUNDS_AHEAD_MAX: u32 = 10;
/// Proposals kept of one proposer in one round. Two are evidence; an honest one makes one.
pub const PROPOSALS_PER_ROUND_MAX: usize = 2;
/// Proposals kept of one proposer, all rounds of the height together. The one farthest from the present round gives way.
pub const PROPOSALS_PER_PROPOSER_MAX: usize = 8;

/// A block that was verified, and what committing it needs.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What its cut gave.
    pub assembly: Arc<Assembly>,
    /// The cut's batches, lane after lane.
    pub batches: Arc<Vec<CheckedBatch>>,
}

/// What is known of a block.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Batches that came with it are being checked and written.
    Checking,
    /// Batches are missing.
    Waiting,
    /// It is being verified, with these batches.
    Judging(Arc<Vec<CheckedBatch>>),
    /// It breaks a rule, for ever.
    Invalid,
    /// It breaks none.
    Valid(Verified),
}

/// How far a proposal is on its way to consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its block is not judged, or it must not be handed over.
    Open,
    /// It is being written.
    Persisting,
    /// Consensus has it, or was told to ask for it.
    Handed,
}

/// One proposal of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// What was signed.
    pub proposal: Proposal,
    /// Whose turn it was.
    pub proposer: Address,
    /// Whether consensus may have it: a late fresh proposal must not be voted for.
    pub is_timely: bool,
    /// The proposer's signed part, if it came as parts.
    pub first: Option<FirstPart>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    proposed: Proposed,
    stage: Stage,
}

/// A proposed block.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its header.
    pub header: Header,
    /// Its cut.
    pub cut: Cut,
    /// Who sent it; asked first for what is missing.
    pub from: Option<PeerId>,
    /// Batches that came with it.
    pub attached: Attached,
    /// What is known of it.
    pub verdict: Verdict,
    /// The store was asked for batches that it may keep aside.
    pub is_read: bool,
}

/// Why a proposal was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// This very proposal is there already.
    Known,
    /// Its proposer has as many nearer ones.
    Full,
}

/// All candidates of the height under way.
#[derive(Debug, Default)]
pub struct Candidates {
    round: Round,
    blocks: BTreeMap<BlockHash, Candidate>,
    /// In order of round; of one proposer at most [`PROPOSALS_PER_PROPOSER_MAX`].
    entries: BTreeMap<Round, Vec<Entry>>,
    /// The block that came by sync, with its certificate.
    synced: Option<BlockHash>,
    /// What consensus was told to ask for and has not.
    handing: BTreeMap<BlockHash, VecDeque<ProposedBlock>>,
}

impl Candidates {
    /// A round of the height begins.
    pub fn begin_round(&mut self, round: Round) {
        self.round = round;
    }

    /// The round that began last.
    #[must_use]
    pub const fn round(&self) -> Round {
        self.round
    }

    /// Whether proposals of this round are opened.
    #[must_use]
    pub const fn is_near(&self, round: Round) -> bool {
        round.0 <= self.round.0.saturating_add(ROUNDS_AHEAD_MAX)
    }

    /// The block, if it is kept.
    #[must_use]
    pub fn get(&self, block: BlockHash) -> Option<&Candidate> {
        self.blocks.get(&block)
    }

    /// The block and what committing it needs, if it is valid.
    #[must_use]
    pub fn verified(&self, block: BlockHash) -> Option<(&Candidate, &Verified)> {
        let candidate = self.blocks.get(&block)?;
        match &candidate.verdict {
            Verdict::Valid(verified) => Some((candidate, verified)),
            Verdict::Checking | Verdict::Waiting | Verdict::Judging(_) | Verdict::Invalid => None,
        }
    }

    /// Whether this very proposal is kept.
    #[must_use]
    pub fn is_known(&self, proposal: &Proposal) -> bool {
        self.entry(proposal).is_some()
    }

    /// Whether consensus was given this very proposal.
    #[must_use]
    pub fn is_handed(&self, proposal: &Proposal) -> bool {
        self.entry(proposal).is_some_and(|entry| entry.stage == Stage::Handed)
    }

    fn entry(&self, proposal: &Proposal) -> Option<&Entry> {
        self.entries.get(&proposal.round)?.iter().find(|e| e.proposed.proposal == *proposal)
    }

    /// Keeps a proposal, and its block if that is new.
    ///
    /// # Errors
    /// [`NotKept`]; nothing is changed.
    pub fn open(&mut self, proposed: Proposed, candidate: Candidate) -> Result<(), NotKept> {
        let Proposal { round, block, .. } = proposed.proposal;
        if self.is_known(&proposed.proposal) {
            return Err(NotKept::Known);
        }
        self.make_room(&proposed)?;
        self.entries.entry(round).or_default().push(Entry { proposed, stage: Stage::Open });
        self.blocks.entry(block).or_insert(candidate);
        Ok(())
    }

    /// Room for one more proposal of its proposer: the farthest from the present round gives way, if it is farther than
    /// the new one.
    fn make_room(&mut self, new: &Proposed) -> Result<(), NotKept> {
        let is_shared = planted(Bug::CandidatesShared);
        let of_proposer = |e: &&Entry| is_shared || e.proposed.proposer == new.proposer;
        if planted(Bug::CandidatesUnbounded) {
            return Ok(());
        }
        let in_round = self.entries.get(&new.proposal.round).into_iter().flatten();
        if in_round.filter(of_proposer).count() >= PROPOSALS_PER_ROUND_MAX {
            return Err(NotKept::Full);
        }
        let all = self.entries.values().flatten().filter(of_proposer);
        if is_shared && all.clone().count() >= PROPOSALS_PER_PROPOSER_MAX / 2 {
            return Err(NotKept::Full);
        }
        if all.clone().count() < PROPOSALS_PER_PROPOSER_MAX {
            return Ok(());
        }
        let distance = |e: &&Entry| e.proposed.proposal.round.0.abs_diff(self.round.0);
        let Some(farthest) = all.max_by_key(distance) else { return Ok(()) };
        if distance(&farthest) <= new.proposal.round.0.abs_diff(self.round.0) {
            return Err(NotKept::Full);
        }
        let gone = farthest.proposed.proposal;
        self.remove(&gone);
        Ok(())
    }

    fn remove(&mut self, gone: &Proposal) {
        if let Some(entries) = self.entries.get_mut(&gone.round) {
            entries.retain(|e| e.proposed.proposal != *gone);
        }
        let is_proposed =
            self.entries.values().flatten().any(|e| e.proposed.proposal.block == gone.block);
        if !is_proposed && self.synced != Some(gone.block) {
            self.blocks.remove(&gone.block);
            self.handing.remove(&gone.block);
        }
    }

    /// Keeps a block that this validator proposes: written, and given to consensus by the answer to its question.
    pub fn propose(&mut self, proposed: Proposed, candidate: Candidate) {
        let Proposal { round, block, .. } = proposed.proposal;
        self.blocks.insert(block, candidate);
        self.entries.entry(round).or_default().push(Entry { proposed, stage: Stage::Handed });
    }

    /// Keeps a block that came by sync: written, and given to consensus by the answer to its question.
    pub fn sync(&mut self, block: BlockHash, candidate: Candidate) {
        self.synced = Some(block);
        self.blocks.insert(block, candidate);
    }

    /// Batches that came with a block are held. Returns whether the block waits to be judged.
    pub fn attach(&mut self, block: BlockHash, attached: Attached) -> bool {
        let Some(candidate) = self.blocks.get_mut(&block) else { return false };
        candidate.attached.extend(attached);
        if matches!(candidate.verdict, Verdict::Checking) {
            candidate.verdict = Verdict::Waiting;
        }
        matches!(candidate.verdict, Verdict::Waiting)
    }

    /// Whether the block meets a fork of a lane for the first time; from now on it has.
    pub fn is_first_fork(&mut self, block: BlockHash) -> bool {
        self.blocks.get_mut(&block).is_some_and(|c| !std::mem::replace(&mut c.is_read, true))
    }

    /// Another peer has the block, too: it is asked for what is missing from now on.
    pub fn came_from(&mut self, block: BlockHash, from: PeerId) {
        if let Some(candidate) = self.blocks.get_mut(&block) {
            candidate.from = Some(from);
        }
    }

    /// Notes what is known of a block.
    pub fn judge(&mut self, block: BlockHash, verdict: Verdict) {
        if let Some(candidate) = self.blocks.get_mut(&block) {
            candidate.verdict = verdict;
        }
    }

    /// The proposals of a valid block that may be handed over and are not yet; from now on they are being written.
    pub fn take_to_persist(&mut self, block: BlockHash) -> Vec<Proposal> {
        if self.verified(block).is_none() {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for entry in self.entries.values_mut().flatten() {
            let Proposed { proposal, is_timely, .. } = entry.proposed;
            let is_written = is_timely || planted(Bug::UntimelyWritten);
            if proposal.block == block && is_written && entry.stage == Stage::Open {
                entry.stage = Stage::Persisting;
                taken.push(proposal);
            }
        }
        taken
    }

    /// A proposal is written: consensus is to ask for it. `false` if it was dropped meanwhile.
    pub fn hand_over(&mut self, proposal: &Proposal) -> bool {
        let entries = self.entries.get_mut(&proposal.round).into_iter().flatten();
        let Some(entry) = entries.into_iter().find(|e| e.proposed.proposal == *proposal) else {
            return false;
        };
        if planted(Bug::UntimelyWritten) && !entry.proposed.is_timely {
            return false;
        }
        entry.stage = Stage::Handed;
        let handed = handed(&entry.proposed, true);
        self.handing.entry(proposal.block).or_default().push_back(handed);
        true
    }

    /// The proposals of an invalid block that consensus is to ask for now. Nothing is written: nobody votes for it.
    pub fn hand_over_invalid(&mut self, block: BlockHash) -> Vec<Proposal> {
        let mut all = Vec::new();
        for entry in self.entries.values_mut().flatten() {
            let is_new = entry.stage == Stage::Open && entry.proposed.proposal.block == block;
            if is_new {
                entry.stage = Stage::Handed;
                self.handing.entry(block).or_default().push_back(handed(&entry.proposed, false));
                all.push(entry.proposed.proposal);
            }
        }
        all
    }

    /// What consensus was told to ask for of this block, and now does.
    pub fn fetch(&mut self, block: BlockHash) -> Option<ProposedBlock> {
        self.handing.get_mut(&block)?.pop_front()
    }

    /// Every proposal that was handed over, for a round that begins.
    #[must_use]
    pub fn complete(&self) -> Vec<ProposedBlock> {
        let handed_over = self.entries.values().flatten().filter(|e| e.stage == Stage::Handed);
        let proposed = |entry: &Entry| {
            let verdict = &self.blocks.get(&entry.proposed.proposal.block)?.verdict;
            Some(handed(&entry.proposed, !matches!(verdict, Verdict::Invalid)))
        };
        handed_over.filter_map(proposed).collect()
    }

    /// Blocks that wait for batches.
    #[must_use]
    pub fn waiting(&self) -> Vec<BlockHash> {
        let is_waiting = |c: &Candidate| matches!(c.verdict, Verdict::Waiting);
        self.blocks.iter().filter(|(_, c)| is_waiting(c)).map(|(block, _)| *block).collect()
    }

    /// The block that this validator freshly proposed in a round, if it did.
    #[must_use]
    pub fn own(&self, round: Round, me: Address) -> Option<BlockHash> {
        let is_own =
            |e: &&Entry| e.proposed.proposer == me && e.proposed.proposal.valid_round.is_none();
        self.entries.get(&round)?.iter().find(is_own).map(|e| e.proposed.proposal.block)
    }

    /// The signed first part of a proposal, to send it on as it came.
    #[must_use]
    pub fn first_part(&self, proposal: &Proposal) -> Option<FirstPart> {
        self.entry(proposal)?.proposed.first
    }

    /// How many proposals and blocks are kept.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.entries.values().map(Vec::len).sum(), self.blocks.len())
    }

    /// The height is decided: forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

const fn handed(proposed: &Proposed, is_valid: bool) -> ProposedBlock {
    let Proposal { height, round, valid_round, block } = proposed.proposal;
    ProposedBlock { height, round, valid_round, proposer: proposed.proposer, block, is_valid }
}

#[cfg(test)]
mod tests;
