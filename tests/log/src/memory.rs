//! The log in memory: it decides what a test gives it, when the test does, and serves it as a node does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use bytes::Bytes;
use lockstep_core::batch::{Batch, CheckedBatch};
use lockstep_core::block::{Assembly, apply, assemble, build_header};
use lockstep_core::certificate::Certificate;
use lockstep_core::cut::{Cut, LanePosition};
use lockstep_core::dedup::Dedup;
use lockstep_core::entry::{Body, Entry};
use lockstep_core::header::Header;
use lockstep_core::light_client::Handover;
use lockstep_core::params::Genesis;
use lockstep_core::proof::CertifiedHeader;
use lockstep_core::proposal::SyncedValue;
use lockstep_core::signing::SigningKey;
use lockstep_core::slice::Slice;
use lockstep_core::state::State;
use lockstep_core::types::{
    BatchDigest, ChainId, Height, Incarnation, NetworkId, Round, Sequence, UnixMillis,
};
use lockstep_core::validator_set::ValidatorSet;
use lockstep_rpc::node::{
    Block, BlockAt, BlockSlices, Decided, FullBlock, Located, Log, ReadError, RecordHeightsQuery,
    RecordKind, Registry,
};
use tokio::sync::watch;

use crate::keys::{certify, committee, keys, set_of};

/// Milliseconds from a block to the next one, unless a test names its time.
const INTERVAL_MS: u64 = 50;

#[derive(Debug)]
struct Decision {
    block: Block,
    assembly: Assembly,
    value: Bytes,
    next_set: ValidatorSet,
    /// The taken entries and their indices.
    taken: Vec<(Entry, u32)>,
}

#[derive(Debug)]
struct Chain {
    keys: Vec<SigningKey>,
    /// Who decides the height after the next one.
    next_keys: Vec<SigningKey>,
    state: State,
    dedup: Dedup,
    blocks: Vec<Decision>,
}

/// The log.
#[derive(Debug)]
pub struct MemoryLog {
    genesis: Arc<Genesis>,
    // Held for a look or for one decision, never across an await.
    chain: Mutex<Chain>,
    heads: watch::Sender<Height>,
    /// The oldest height that is held.
    earliest: AtomicU64,
    /// How long the read of a height's slices takes, in milliseconds.
    read_ms: AtomicU64,
    slice_reads: AtomicU64,
    block_reads: AtomicU64,
}

impl MemoryLog {
    /// The log of a genesis whose validators are [`committee`].
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        let keys = committee();
        let state = State::genesis(&genesis);
        let chain =
            Chain { next_keys: keys.clone(), keys, state, dedup: Dedup::new(), blocks: Vec::new() };
        Self {
            genesis: Arc::new(genesis),
            chain: Mutex::new(chain),
            heads: watch::Sender::new(Height::GENESIS),
            earliest: AtomicU64::new(1),
            read_ms: AtomicU64::new(0),
            slice_reads: AtomicU64::new(0),
            block_reads: AtomicU64::new(0),
        }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.genesis.network_id()
    }

    /// How often a height's slices were read, and how often a full block.
    #[must_use]
    pub fn reads(&self) -> (u64, u64) {
        (self.slice_reads.load(Ordering::SeqCst), self.block_reads.load(Ordering::SeqCst))
    }

    /// Makes each read of a height's slices take so long.
    pub fn take_for_each_read(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.read_ms.store(ms, Ordering::Relaxed);
    }

    /// From now on it is the log of a node that joined late: blocks below `height` are not here.
    pub fn forget_below(&self, height: u64) {
        self.earliest.store(height, Ordering::SeqCst);
    }

    /// What a chain has at a decided height. Not counted as a read.
    #[must_use]
    pub fn slice_of(&self, height: Height, chain: ChainId) -> Option<Slice> {
        let of_chain = |slice: &&Slice| slice.chain == chain;
        self.with(height, |d| d.assembly.slices.iter().find(of_chain).cloned()).flatten()
    }

    /// The header of a decided height, certified.
    #[must_use]
    pub fn certified(&self, height: Height) -> CertifiedHeader {
        self.with(height, |decision| decision.block.certified.clone()).expect("a decided height")
    }

    /// What the network's validators would sign if they were dishonest.
    #[must_use]
    pub fn certify(&self, header: &Header) -> Certificate {
        certify(&self.chain().keys, header)
    }

    /// The entries that a height took, and where a status finds each.
    #[must_use]
    pub fn taken(&self, height: Height) -> Vec<(Entry, Decided)> {
        let of = |decision: &Decision| {
            let taken = decision.taken.iter();
            taken.map(|(entry, index)| (entry.clone(), decision.decided(*index))).collect()
        };
        self.with(height, of).expect("a decided height")
    }

    /// The newest block's height.
    #[must_use]
    pub fn height(&self) -> Height {
        self.chain().state.height
    }

    /// The newest block's log time.
    #[must_use]
    pub fn time(&self) -> UnixMillis {
        self.chain().state.timestamp
    }

    /// Decides a block with those of these entries that the network would take; gives its height.
    pub fn decide(&self, entries: &[Entry]) -> Height {
        let chain = self.chain();
        let timestamp = chain.state.timestamp.plus(INTERVAL_MS);
        let decision = chain.decide(timestamp, entries);
        self.commit(chain, decision)
    }

    /// Decides a block of these entries at a log time, or right behind the newest one if that is later. Fails the test
    /// if the network would leave one out.
    pub fn decide_at(&self, at: UnixMillis, entries: &[Entry]) -> Height {
        let chain = self.chain();
        let timestamp = at.max(chain.state.timestamp.plus(1));
        let decision = chain.decide(timestamp, entries);
        assert_eq!(decision.assembly.left_out, [], "all entries are taken");
        self.commit(chain, decision)
    }

    fn commit(&self, mut chain: MutexGuard<'_, Chain>, decision: Decision) -> Height {
        let header = &decision.block.certified.header;
        let height = header.height;
        chain.state = apply(&chain.state, header, &decision.assembly);
        let timestamp = chain.state.timestamp;
        chain.dedup.extend(height, timestamp, decision.assembly.keys.iter().copied());
        chain.keys = chain.next_keys.clone();
        chain.blocks.push(decision);
        drop(chain);
        self.heads.send_replace(height);
        height
    }

    /// The block after the next one hands over to a validator set with one member exchanged.
    pub fn hand_over(&self) {
        let mut chain = self.chain();
        chain.next_keys = keys(2..=5);
        chain.state.committed.next_validators = set_of(&chain.next_keys);
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, height: Height, read: impl FnOnce(&Decision) -> T) -> Option<T> {
        if height < self.earliest() {
            return None;
        }
        let place = usize::try_from(height.previous()?.0).ok()?;
        self.chain().blocks.get(place).map(read)
    }
}

impl Decision {
    fn decided(&self, index: u32) -> Decided {
        let CertifiedHeader { header, certificate } = &self.block.certified;
        let certificate = Arc::new(certificate.clone());
        let block = header.hash();
        Decided { height: header.height, index, block, certificate, legs: Vec::new() }
    }
}

impl Chain {
    fn decide(&self, timestamp: UnixMillis, entries: &[Entry]) -> Decision {
        let batches: Vec<CheckedBatch> = self.batch(entries).into_iter().collect();
        let lanes = self.state.committed.lanes.iter().map(|lane| {
            let moved = batches.iter().find(|batch| batch.position().owner == lane.owner);
            moved.map_or(*lane, |batch| LanePosition {
                owner: lane.owner,
                incarnation: batch.position().incarnation,
                sequence: batch.position().sequence,
                digest: batch.digest(),
            })
        });
        let cut = Cut { lanes: lanes.collect() };
        let assembly =
            assemble(&self.state, &self.dedup, timestamp, &cut, &batches).expect("a valid cut");
        let header = build_header(&self.state, Round(0), timestamp, &cut, &assembly);
        let certificate = certify(&self.keys, &header);
        let raw = batches.iter().map(|batch| batch.raw().clone()).collect();
        let value = SyncedValue { header: header.clone(), cut: cut.clone(), batches: raw };
        let taken = assembly.taken.iter().map(|taken| {
            let place = usize::try_from(taken.entry).expect("few entries");
            let batch = batches.first().expect("the batch that it is of");
            let entry = batch.entries().get(place).expect("an entry of the batch");
            (entry.entry().clone(), taken.index)
        });
        Decision {
            taken: taken.collect(),
            block: Block { certified: CertifiedHeader { header, certificate }, cut },
            next_set: assembly.committed.validators.clone(),
            assembly,
            value: value.encode().0,
        }
    }

    /// The next batch of a validator's lane, the same one's each time as long as it is in the set.
    fn batch(&self, entries: &[Entry]) -> Option<CheckedBatch> {
        if entries.is_empty() {
            return None;
        }
        let lanes = &self.state.committed.lanes;
        let mut members = self.keys.iter().rev();
        let (key, lane) = members.find_map(|key| {
            let lane = lanes.iter().find(|lane| lane.owner == key.address())?;
            Some((key, lane))
        })?;
        let (place, parent) = match lane.is_start() {
            false => ((lane.incarnation, lane.sequence.next()), lane.digest),
            true => ((Incarnation(1), Sequence(0)), BatchDigest::ZERO),
        };
        let batch = Batch::sign(self.state.network_id, place, parent, entries.to_vec(), key);
        Some(batch.expect("few entries").check().expect("good signatures"))
    }
}

impl Log for MemoryLog {
    fn heads(&self) -> watch::Receiver<Height> {
        self.heads.subscribe()
    }

    fn earliest(&self) -> Height {
        Height(self.earliest.load(Ordering::SeqCst))
    }

    fn block(&self, at: BlockAt) -> Result<Option<Block>, ReadError> {
        Ok(match at {
            BlockAt::Height(height) => self.with(height, |decision| decision.block.clone()),
            BlockAt::Hash(hash) => {
                let chain = self.chain();
                let mut blocks = chain.blocks.iter().map(|decision| &decision.block);
                blocks.find(|block| block.certified.header.hash() == hash).cloned()
            }
        })
    }

    fn slices(&self, height: Height) -> Result<Option<BlockSlices>, ReadError> {
        self.slice_reads.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(self.read_ms.load(Ordering::Relaxed)));
        Ok(self.with(height, |decision| BlockSlices {
            block: decision.block.certified.clone(),
            summaries: decision.assembly.summaries.clone(),
            slices: decision.assembly.slices.clone(),
        }))
    }

    fn full_block(&self, height: Height) -> Result<Option<FullBlock>, ReadError> {
        self.block_reads.fetch_add(1, Ordering::SeqCst);
        Ok(self.with(height, |decision| FullBlock {
            height,
            synced_value: decision.value.clone(),
            certificate: decision.block.certified.certificate.clone(),
        }))
    }

    fn locate(&self, chain: ChainId, transaction: B256) -> Result<Option<Located>, ReadError> {
        let holds = |entry: &Entry| match entry.body() {
            Body::Transaction(t) => t.chain == chain && keccak256(&t.bytes) == transaction,
            Body::Bundle(bundle) => bundle.legs().iter().any(|leg| {
                let is_it = |bytes| keccak256(bytes) == transaction;
                leg.chain == chain && leg.transactions.iter().any(is_it)
            }),
            Body::Record(_) => false,
        };
        Ok(self.chain().blocks.iter().find_map(|decision| {
            let (entry, index) = decision.taken.iter().find(|(entry, _)| holds(entry))?;
            Some(Located { id: entry.id(), decided: decision.decided(*index) })
        }))
    }

    fn record_heights(&self, query: RecordHeightsQuery) -> Result<Vec<Height>, ReadError> {
        let is_it = |entry: &Entry| match entry.body() {
            Body::Record(record) => {
                record.chain == query.chain && RecordKind::of(&record.body) == query.kind
            }
            Body::Transaction(_) | Body::Bundle(_) => false,
        };
        let chain = self.chain();
        let has_it = |decision: &&Decision| decision.taken.iter().any(|(entry, _)| is_it(entry));
        let has_it = chain.blocks.iter().rev().filter(has_it);
        let heights = has_it.map(|decision| decision.block.certified.header.height);
        let below = heights.filter(|height| query.before.is_none_or(|before| *height < before));
        Ok(below.take(usize::try_from(query.count).unwrap_or(usize::MAX)).collect())
    }

    fn validator_set(&self, height: Height) -> Result<Option<ValidatorSet>, ReadError> {
        if height == Height(1) {
            return Ok(Some(self.genesis.validators.clone()));
        }
        if height == self.height().next() {
            return Ok(Some(self.chain().state.committed.validators.clone()));
        }
        Ok(height.previous().and_then(|before| self.with(before, |d| d.next_set.clone())))
    }

    fn handovers(
        &self,
        from: Height,
        to: Height,
        count_max: usize,
    ) -> Result<Vec<Handover>, ReadError> {
        let chain = self.chain();
        let handovers = chain.blocks.iter().filter_map(|decision| {
            let header = &decision.block.certified.header;
            let is_in = (from..=to).contains(&header.height);
            (is_in && header.validators_hash != header.next_validators_hash).then(|| Handover {
                block: decision.block.certified.clone(),
                next_set: decision.next_set.clone(),
            })
        });
        Ok(handovers.take(count_max).collect())
    }

    fn registry(&self) -> Registry {
        let Genesis { chains, params, .. } = self.genesis.as_ref();
        Registry { chains: chains.clone(), params: params.clone() }
    }

    fn genesis(&self) -> Arc<Genesis> {
        Arc::clone(&self.genesis)
    }
}
