//! A log that does as it is told: a committee of four keys in one process, which decides the entries that a test gives it
//! at the log time that a test gives it. Blocks are assembled, and certificates signed, as the network does; there is no
//! consensus and no store.
//!
//! [`ScriptedEndpoint`] serves it over the real gRPC server, honestly or not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::B256;
use bytes::Bytes;
use lockstep_core::batch::{Batch, CheckedBatch};
use lockstep_core::block::{Assembly, apply, assemble, build_header};
use lockstep_core::certificate::{Certificate, CommitSignature, Vote, VoteType};
use lockstep_core::cut::{Cut, LanePosition};
use lockstep_core::dedup::Dedup;
use lockstep_core::entry::{Body, Entry};
use lockstep_core::header::Header;
use lockstep_core::light_client::Handover;
use lockstep_core::params::Genesis;
use lockstep_core::proof::CertifiedHeader;
use lockstep_core::proposal::SyncedValue;
use lockstep_core::record::{RecordBody, Sealed};
use lockstep_core::signing::SigningKey;
use lockstep_core::state::State;
use lockstep_core::types::{
    BatchDigest, ChainId, Height, Incarnation, NetworkId, Round, Sequence, UnixMillis,
};
use lockstep_core::validator_set::{Validator, ValidatorSet};
use lockstep_rpc::node::{
    Block, BlockAt, BlockSlices, FullBlock, Located, Log, ReadError, RecordHeightsQuery,
    RecordKind, Registry,
};
use tokio::sync::watch;

mod endpoint;
mod ingress;
mod liar;

pub use endpoint::{Manner, ScriptedEndpoint};
pub use ingress::ScriptedIngress;
pub use liar::Lie;

/// The committee's keys, in the order of their addresses.
#[must_use]
pub fn committee() -> Vec<SigningKey> {
    keys(1..=4)
}

/// Keys of validators that have no part in the network.
#[must_use]
pub fn strangers() -> Vec<SigningKey> {
    keys(11..=14)
}

fn keys(numbers: std::ops::RangeInclusive<u8>) -> Vec<SigningKey> {
    let key = |number| SigningKey::from_bytes([number; 32]).expect("a key");
    let mut keys: Vec<_> = numbers.map(key).collect();
    keys.sort_by_key(SigningKey::address);
    keys
}

/// The validator set of these keys, each with power 1.
#[must_use]
pub fn set_of(keys: &[SigningKey]) -> ValidatorSet {
    let validator = |key: &SigningKey| Validator {
        address: key.address(),
        public_key: key.public_key(),
        power: 1,
        network_address: "/ip4/127.0.0.1/tcp/1".to_owned(),
    };
    ValidatorSet::new(keys.iter().map(validator).collect()).expect("a set")
}

#[derive(Debug)]
struct Decision {
    block: Block,
    assembly: Assembly,
    value: Bytes,
    next_set: ValidatorSet,
    taken: Vec<Entry>,
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
pub struct ScriptedLog {
    genesis: Arc<Genesis>,
    // Held for a look or for one decision, never across an await.
    chain: Mutex<Chain>,
    heads: watch::Sender<Height>,
    slices_read: AtomicUsize,
    /// What its endpoints were given.
    pub ingress: Arc<ScriptedIngress>,
}

impl ScriptedLog {
    /// The log of a genesis whose validators are [`committee`].
    #[must_use]
    pub fn new(genesis: Genesis) -> Arc<Self> {
        let keys = committee();
        let state = State::genesis(&genesis);
        let chain =
            Chain { next_keys: keys.clone(), keys, state, dedup: Dedup::new(), blocks: Vec::new() };
        let ingress = Arc::new(ScriptedIngress::default());
        Arc::new(Self {
            genesis: Arc::new(genesis),
            chain: Mutex::new(chain),
            heads: watch::Sender::new(Height::GENESIS),
            slices_read: AtomicUsize::new(0),
            ingress,
        })
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.genesis.network_id()
    }

    /// How often a height's slices were read, by all endpoints.
    #[must_use]
    pub fn slices_read(&self) -> usize {
        self.slices_read.load(Ordering::Relaxed)
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

    /// Decides a block of these entries at a log time, or right behind the newest one if that is later. Fails the test
    /// if the network would leave one out.
    pub fn decide(&self, at: UnixMillis, entries: &[Entry]) -> Height {
        let mut chain = self.chain();
        let timestamp = at.max(chain.state.timestamp.plus(1));
        let decision = chain.decide(timestamp, entries);
        assert_eq!(decision.assembly.left_out, [], "all entries are taken");
        let header = &decision.block.certified.header;
        let height = header.height;
        chain.state = apply(&chain.state, header, &decision.assembly);
        chain.dedup.extend(height, timestamp, decision.assembly.keys.iter().copied());
        chain.keys = chain.next_keys.clone();
        chain.blocks.push(decision);
        drop(chain);
        self.heads.send_replace(height);
        height
    }

    /// Decides all that was submitted and not decided yet, each entry once.
    pub fn decide_submitted(&self, at: UnixMillis) -> Height {
        let entries = self.ingress.take();
        self.decide(at, &entries)
    }

    /// The `Sealed` records that were submitted, in the order in which they came first.
    #[must_use]
    pub fn sealed(&self) -> Vec<Sealed> {
        let sealed = |entry: &Entry| match entry.body() {
            Body::Record(record) => match &record.body {
                RecordBody::Sealed(sealed) => Some(sealed.clone()),
                RecordBody::Limits(_) | RecordBody::Prepared(_) => None,
            },
            Body::Transaction(_) | Body::Bundle(_) => None,
        };
        self.ingress.all().iter().filter_map(sealed).collect()
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
        let place = usize::try_from(height.previous()?.0).ok()?;
        self.chain().blocks.get(place).map(read)
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
        Decision {
            taken: entries.to_vec(),
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

/// The certificate of a header by these validators.
#[must_use]
pub fn certify(keys: &[SigningKey], header: &Header) -> Certificate {
    let (height, block) = (header.height, header.hash());
    let vote = Vote { height, round: Round(0), vote_type: VoteType::Precommit, block: Some(block) };
    let digest = vote.digest(header.network_id);
    let sign = |key: &SigningKey| CommitSignature {
        validator: key.address(),
        signature: key.sign(digest),
    };
    let signatures = keys.iter().map(sign).collect();
    Certificate { height, round: Round(0), block, signatures }
}

impl Log for ScriptedLog {
    fn heads(&self) -> watch::Receiver<Height> {
        self.heads.subscribe()
    }

    fn earliest(&self) -> Height {
        Height(1)
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
        self.slices_read.fetch_add(1, Ordering::Relaxed);
        Ok(self.with(height, |decision| BlockSlices {
            block: decision.block.certified.clone(),
            summaries: decision.assembly.summaries.clone(),
            slices: decision.assembly.slices.clone(),
        }))
    }

    fn full_block(&self, height: Height) -> Result<Option<FullBlock>, ReadError> {
        Ok(self.with(height, |decision| FullBlock {
            height,
            synced_value: decision.value.clone(),
            certificate: decision.block.certified.certificate.clone(),
        }))
    }

    fn locate(&self, _: ChainId, _: B256) -> Result<Option<Located>, ReadError> {
        Ok(None)
    }

    fn record_heights(&self, query: RecordHeightsQuery) -> Result<Vec<Height>, ReadError> {
        let is_it = |entry: &Entry| match entry.body() {
            Body::Record(record) => {
                record.chain == query.chain && RecordKind::of(&record.body) == query.kind
            }
            Body::Transaction(_) | Body::Bundle(_) => false,
        };
        let chain = self.chain();
        let has_it = chain.blocks.iter().rev().filter(|decision| decision.taken.iter().any(is_it));
        let heights = has_it.map(|decision| decision.block.certified.header.height);
        let below = heights.filter(|height| query.before.is_none_or(|before| *height < before));
        Ok(below.take(usize::try_from(query.count).unwrap_or(usize::MAX)).collect())
    }

    fn validator_set(&self, height: Height) -> Result<Option<ValidatorSet>, ReadError> {
        if height == Height(1) {
            return Ok(Some(self.genesis.validators.clone()));
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
