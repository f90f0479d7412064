//! Blocks proposed at the heights not decided yet, and what this node knows of each. Pure and bounded.
//!
//! A block is opened once its proposal is complete, judged once its batches are held, and handed to consensus once
//! for every proposal of it that may be handed over: a timely fresh one, or a re-proposal with a valid round. A block
//! that can't be judged yet is never invalid. Source: design section 2.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::Address;
use libp2p::PeerId;
use lockstep_core::batch::CheckedBatch;
use lockstep_core::block::Assembly;
use lockstep_core::cut::Cut;
use lockstep_core::header::Header;
use lockstep_core::types::{BlockHash, Height, Round};
use lockstep_engine::{FirstPart, ProposedBlock};

use crate::lanes::table::Attached;

/// Blocks remembered at a time. A height needs one or two; a lying proposer has its turns only.
pub const CANDIDATES_MAX: usize = 64;
/// Proposals remembered per block: a block is proposed again in a later round, each time with other rounds.
pub const PROPOSALS_PER_BLOCK_MAX: usize = 16;

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
    /// Batches are missing, or the block before it is.
    Waiting,
    /// A task is at it.
    Judging,
    /// It breaks a rule, for ever.
    Invalid,
    /// It is valid, its batches are synced, and it is persisted.
    Valid(Verified),
}

/// One proposal of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The round it was proposed in.
    pub round: Round,
    /// The round in which it had a polka.
    pub valid_round: Option<Round>,
    /// Whose turn it was.
    pub proposer: Address,
    /// Whether consensus may have it: late fresh proposals may not be voted for.
    pub is_timely: bool,
    /// The proposer's signed part, if it came as parts.
    pub first: Option<FirstPart>,
}

/// A block proposed at a height.
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
    proposals: Vec<Proposed>,
}

/// All candidates, by block.
#[derive(Debug, Default)]
pub struct Candidates {
    blocks: BTreeMap<BlockHash, Candidate>,
    /// What was promised to consensus and waits for its question.
    handing: BTreeMap<BlockHash, VecDeque<ProposedBlock>>,
}

impl Candidates {
    /// The block, if it is known.
    #[must_use]
    pub fn get(&self, block: BlockHash) -> Option<&Candidate> {
        self.blocks.get(&block)
    }

    /// The block's batches and assembly, if it is valid.
    #[must_use]
    pub fn verified(&self, block: BlockHash) -> Option<(&Candidate, &Verified)> {
        let candidate = self.blocks.get(&block)?;
        match &candidate.verdict {
            Verdict::Valid(verified) => Some((candidate, verified)),
            Verdict::Waiting | Verdict::Judging | Verdict::Invalid => None,
        }
    }

    /// Notes a proposal of a block. Returns what may be handed over at once, if the block is judged already.
    pub fn open(
        &mut self,
        (header, cut): (Header, Cut),
        (from, attached): (Option<PeerId>, Attached),
        proposed: Proposed,
    ) -> Option<ProposedBlock> {
        let block = header.hash();
        if !self.blocks.contains_key(&block) && self.blocks.len() >= CANDIDATES_MAX {
            return None;
        }
        let candidate = self.blocks.entry(block).or_insert_with(|| Candidate {
            header,
            cut,
            from,
            attached: Attached::new(),
            verdict: Verdict::Waiting,
            proposals: Vec::new(),
        });
        candidate.attached.extend(attached);
        let is_known = candidate
            .proposals
            .iter()
            .any(|p| (p.round, p.valid_round) == (proposed.round, proposed.valid_round));
        if is_known || candidate.proposals.len() >= PROPOSALS_PER_BLOCK_MAX {
            return None;
        }
        candidate.proposals.push(proposed);
        let handed = candidate.handed(block, &proposed)?;
        self.promise(handed);
        Some(handed)
    }

    /// The block was judged, or is being judged. Returns what may be handed over now.
    pub fn judge(&mut self, block: BlockHash, verdict: Verdict) -> Vec<ProposedBlock> {
        let Some(candidate) = self.blocks.get_mut(&block) else { return Vec::new() };
        candidate.verdict = verdict;
        let handed = candidate.all_handed(block);
        handed.iter().for_each(|proposed| self.promise(*proposed));
        handed
    }

    fn promise(&mut self, proposed: ProposedBlock) {
        self.handing.entry(proposed.block).or_default().push_back(proposed);
    }

    /// What consensus was promised for this block and has not fetched.
    pub fn fetch(&mut self, block: BlockHash) -> Option<ProposedBlock> {
        self.handing.get_mut(&block)?.pop_front()
    }

    /// Every proposal of a height that may be handed over.
    #[must_use]
    pub fn complete(&self, height: Height) -> Vec<ProposedBlock> {
        let of_height = self.blocks.iter().filter(|(_, c)| c.header.height == height);
        of_height.flat_map(|(block, candidate)| candidate.all_handed(*block)).collect()
    }

    /// Blocks of a height that nobody is judging yet.
    #[must_use]
    pub fn waiting(&self, height: Height) -> Vec<BlockHash> {
        let is_waiting =
            |c: &Candidate| c.header.height == height && matches!(c.verdict, Verdict::Waiting);
        self.blocks.iter().filter(|(_, c)| is_waiting(c)).map(|(block, _)| *block).collect()
    }

    /// The block this validator proposed at (height, round), if it did.
    #[must_use]
    pub fn own(&self, height: Height, round: Round, me: Address) -> Option<BlockHash> {
        let is_own = |c: &Candidate| {
            (c.header.height, c.header.round, c.header.proposer) == (height, round, me)
        };
        self.blocks.iter().find(|(_, c)| is_own(c)).map(|(block, _)| *block)
    }

    /// The signed first part of a block's proposal, to send it on as it came.
    #[must_use]
    pub fn first_part(&self, block: BlockHash) -> Option<FirstPart> {
        self.blocks.get(&block)?.proposals.iter().rev().find_map(|proposed| proposed.first)
    }

    /// Forgets blocks up to `decided`.
    pub fn advance(&mut self, decided: Height) {
        self.blocks.retain(|_, candidate| candidate.header.height > decided);
        let blocks = &self.blocks;
        self.handing.retain(|block, _| blocks.contains_key(block));
    }
}

impl Candidate {
    fn handed(&self, block: BlockHash, proposed: &Proposed) -> Option<ProposedBlock> {
        let is_valid = match self.verdict {
            Verdict::Waiting | Verdict::Judging => return None,
            Verdict::Invalid => false,
            Verdict::Valid(_) => true,
        };
        if is_valid && !proposed.is_timely {
            return None;
        }
        Some(ProposedBlock {
            height: self.header.height,
            round: proposed.round,
            valid_round: proposed.valid_round,
            proposer: proposed.proposer,
            block,
            is_valid,
        })
    }

    fn all_handed(&self, block: BlockHash) -> Vec<ProposedBlock> {
        self.proposals.iter().filter_map(|proposed| self.handed(block, proposed)).collect()
    }
}
