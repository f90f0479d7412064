//! Builders for tests: slices, and a log of certified headers whose validator set changes as a schedule says.

use alloy_primitives::{Address, B256, Bytes};

use super::*;
use crate::block::fixtures::{key, keys, validators};
use crate::bundle::Guarantee;
use crate::certificate::{Certificate, CommitSignature, Vote, VoteType};
use crate::header::Header;
use crate::light_client::Handover;
use crate::params::{Genesis, NetworkParams};
use crate::record::{Limits, Record, RecordBody};
use crate::signing::SigningKey;
use crate::slice::{Content, Item};
use crate::types::{EntryId, Round, UnixMillis};

/// Time of the genesis.
pub(crate) const START: u64 = 1_700_000_000_000;

/// `count` items of all three kinds, with gaps between their indexes.
pub(crate) fn items(count: u32) -> Vec<Item> {
    let bytes = |n: u32| Bytes::copy_from_slice(&n.to_be_bytes());
    let content = |n: u32| match n % 5 {
        3 => Content::Leg {
            bundle: EntryId(B256::repeat_byte(n as u8)),
            leg: 1,
            legs: 3,
            guarantee: Guarantee::CoOrdered,
            transactions: vec![bytes(n + 1_000), bytes(n + 2_000)],
        },
        4 => {
            let body = RecordBody::Limits(Limits { tx_bytes: n.into(), ..Limits::default() });
            Content::Record(Record::sign(NetworkId::ZERO, ChainId(9), body, &key(202)))
        }
        _ => Content::Transaction { bytes: bytes(n) },
    };
    (0..count).map(|n| Item { index: 3 * n, content: content(n) }).collect()
}

pub(crate) fn slice(chain: ChainId, count: u32) -> Slice {
    Slice { chain, items: items(count) }
}

/// One slice per chain, in ascending order, of 1, 2, 3… items.
pub(crate) fn slices(chains: &[u64]) -> Vec<Slice> {
    chains.iter().zip(1..).map(|(chain, count)| slice(ChainId(*chain), count)).collect()
}

pub(crate) fn summaries(slices: &[Slice]) -> Vec<SliceSummary> {
    slices.iter().map(Slice::summary).collect()
}

/// What the validators of `keys` decide in `round`.
pub(crate) fn certify(header: Header, keys: &[SigningKey], round: Round) -> CertifiedHeader {
    let (height, block) = (header.height, header.hash());
    let vote = Vote { height, round, vote_type: VoteType::Precommit, block: Some(block) };
    let digest = vote.digest(header.network_id);
    let signatures = keys
        .iter()
        .map(|key| CommitSignature { validator: key.address(), signature: key.sign(digest) })
        .collect();
    CertifiedHeader { header, certificate: Certificate { height, round, block, signatures } }
}

/// A decided log. `schedule` names the first height of each set; the first one is 1.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) genesis: Genesis,
    pub(crate) schedule: Vec<(u64, Vec<SigningKey>)>,
    pub(crate) blocks: Vec<CertifiedHeader>,
    pub(crate) slices: Vec<Vec<Slice>>,
}

impl Log {
    /// A log of `heights` heights; height h has one slice for each chain of `chains(h)`.
    pub(crate) fn new(
        schedule: Vec<(u64, Vec<SigningKey>)>,
        heights: u64,
        chains: impl Fn(u64) -> Vec<u64>,
    ) -> Self {
        let genesis = Genesis {
            name: "test".to_owned(),
            timestamp: UnixMillis(START),
            params: NetworkParams::default(),
            validators: validators(&schedule[0].1),
            chains: Vec::new(),
        };
        let mut log = Self { genesis, schedule, blocks: Vec::new(), slices: Vec::new() };
        for height in 1..=heights {
            let slices = slices(&chains(height));
            let header = log.header(height, slices_root_of(&slices));
            log.blocks.push(certify(header, log.keys(height), Round(0)));
            log.slices.push(slices);
        }
        log
    }

    /// Three validators, heights 1 to 5; chains 10, 20, 30, of which 20 pauses at height 3 and all at height 4.
    pub(crate) fn small() -> Self {
        let chains = |height| match height {
            3 => vec![10, 30],
            4 => vec![],
            _ => vec![10, 20, 30],
        };
        Self::new(vec![(1, keys(3))], 5, chains)
    }

    pub(crate) fn network(&self) -> NetworkId {
        self.genesis.network_id()
    }

    fn era(&self, height: u64) -> (u64, &Vec<SigningKey>) {
        let era = self.schedule.iter().rfind(|(since, _)| *since <= height).unwrap();
        (era.0, &era.1)
    }

    pub(crate) fn keys(&self, height: u64) -> &[SigningKey] {
        self.era(height).1
    }

    pub(crate) fn set(&self, height: u64) -> ValidatorSet {
        validators(self.keys(height))
    }

    pub(crate) fn block(&self, height: u64) -> &CertifiedHeader {
        &self.blocks[height as usize - 1]
    }

    pub(crate) fn slices(&self, height: u64) -> &[Slice] {
        &self.slices[height as usize - 1]
    }

    pub(crate) fn slice(&self, height: u64, chain: u64) -> Option<&Slice> {
        self.slices(height).iter().find(|slice| slice.chain == ChainId(chain))
    }

    /// A header on top of what there is below `height`.
    pub(crate) fn header(&self, height: u64, slices_root: B256) -> Header {
        let parent = match height {
            1 => BlockHash(self.network().0),
            _ => self.block(height - 1).header.hash(),
        };
        let set = self.set(height);
        Header {
            network_id: self.network(),
            height: Height(height),
            round: Round(0),
            parent,
            timestamp_ms: UnixMillis(START + 250 * height),
            proposer: set.proposer(Height(height), Round(0)).address,
            validators_hash: set.hash(),
            next_validators_hash: self.set(height + 1).hash(),
            set_since: Height(self.era(height).0),
            cut_hash: B256::repeat_byte(1),
            slices_root,
            state_hash: B256::repeat_byte(2),
        }
    }

    /// The header of `height`, changed and certified anew.
    pub(crate) fn changed(&self, height: u64, change: impl Fn(&mut Header)) -> CertifiedHeader {
        let mut header = self.block(height).header.clone();
        change(&mut header);
        certify(header, self.keys(height), Round(0))
    }

    /// The hand-over to the set of the schedule's place `at`.
    pub(crate) fn handover(&self, at: usize) -> Handover {
        let (since, keys) = &self.schedule[at];
        Handover { block: self.block(since - 1).clone(), next_set: validators(keys) }
    }

    pub(crate) fn handovers(&self) -> Vec<Handover> {
        (1..self.schedule.len()).map(|at| self.handover(at)).collect()
    }

    pub(crate) fn slice_proof(&self, height: u64, chain: u64) -> Option<SliceProof> {
        let summaries = summaries(self.slices(height));
        SliceProof::build(self.block(height).clone(), &summaries, ChainId(chain))
    }

    pub(crate) fn absence_proof(&self, height: u64, chain: u64) -> Option<AbsenceProof> {
        let summaries = summaries(self.slices(height));
        AbsenceProof::build(self.block(height).clone(), &summaries, ChainId(chain))
    }

    pub(crate) fn transaction_proof(
        &self,
        height: u64,
        chain: u64,
        transaction: B256,
    ) -> Option<TransactionProof> {
        let summaries = summaries(self.slices(height));
        let block = self.block(height).clone();
        TransactionProof::build(block, &summaries, self.slice(height, chain)?, transaction)
    }

    pub(crate) fn range_proof(&self, first: u64, last: u64, chain: u64) -> RangeProof {
        let block = |height| {
            let summaries = summaries(self.slices(height));
            let slice = self.slice(height, chain).cloned();
            let presence = SlicePresence::build(&summaries, ChainId(chain), slice).unwrap();
            RangeBlock { header: self.block(height).header.clone(), presence }
        };
        let certificate = self.block(last).certificate.clone();
        RangeProof::build((first..=last).map(block).collect(), certificate).unwrap()
    }
}

pub(crate) fn slices_root_of(slices: &[Slice]) -> B256 {
    crate::slice::slices_root(&summaries(slices))
}

/// Somebody who is in no set.
pub(crate) fn stranger() -> Address {
    key(150).address()
}
