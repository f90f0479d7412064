//! A network in one process: real keys, real assembled blocks, real certificates; no consensus, no store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{B256, keccak256};
use bytes::Bytes;
use lockstep_core::batch::{Batch, CheckedBatch};
use lockstep_core::block::{Assembly, apply, assemble, build_header};
use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::certificate::{Certificate, CommitSignature, Vote, VoteType};
use lockstep_core::cut::{Cut, LanePosition};
use lockstep_core::dedup::Dedup;
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::header::Header;
use lockstep_core::light_client::{Handover, LightClient};
use lockstep_core::params::{ChainKind, ChainParams, Genesis, NetworkParams};
use lockstep_core::proof::CertifiedHeader;
use lockstep_core::proposal::SyncedValue;
use lockstep_core::record::{Record, RecordBody};
use lockstep_core::signing::SigningKey;
use lockstep_core::slice::Slice;
use lockstep_core::state::State;
use lockstep_core::types::{
    BatchDigest, ChainId, Height, Incarnation, NetworkId, Round, Sequence, UnixMillis,
};
use lockstep_core::validator_set::{Validator, ValidatorSet};
use lockstep_rpc::client::{Endpoint, IngressClient, LogClient};
use lockstep_rpc::config::ServerConfig;
use lockstep_rpc::health::{Health, HealthState};
use lockstep_rpc::metrics::RpcMetrics;
use lockstep_rpc::node::{
    Block, BlockAt, BlockSlices, Decided, FullBlock, Ingress, Located, Log, ReadError,
    RecordHeightsQuery, RecordKind, Registry,
};
use lockstep_rpc::server::{Backend, Server, serve};
use tokio::sync::watch;
use tonic::transport::Channel;

mod ingress;
mod liar;

pub(crate) use ingress::MemoryIngress;
pub(crate) use liar::Lies;

/// EVM.
pub(crate) const EVM: ChainId = ChainId(901);
/// Opaque.
pub(crate) const A: ChainId = ChainId(902);
/// Opaque.
pub(crate) const B: ChainId = ChainId(903);
/// Not registered, and between the others.
pub(crate) const NONE: ChainId = ChainId(904);

pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}

fn keys(numbers: std::ops::RangeInclusive<u8>) -> Vec<SigningKey> {
    let mut keys: Vec<_> = numbers.map(|n| SigningKey::from_bytes([n; 32]).unwrap()).collect();
    keys.sort_by_key(SigningKey::address);
    keys
}

/// Keys of validators that have no part in the network.
pub(crate) fn strangers() -> Vec<SigningKey> {
    keys(11..=14)
}

/// The key that signs every chain's records.
pub(crate) fn sequencer() -> SigningKey {
    SigningKey::from_bytes([21; 32]).unwrap()
}

pub(crate) fn set_of(keys: &[SigningKey]) -> ValidatorSet {
    let validator = |key: &SigningKey| Validator {
        address: key.address(),
        public_key: key.public_key(),
        power: 1,
        network_address: "/ip4/127.0.0.1/tcp/1".to_owned(),
    };
    ValidatorSet::new(keys.iter().map(validator).collect()).unwrap()
}

fn genesis(keys: &[SigningKey]) -> Genesis {
    let chain = |id, kind| ChainParams {
        id,
        kind,
        block_time_ms: 2_000,
        gas_per_second: 30_000_000,
        bytes_per_second: 1 << 24,
        sequencers: vec![sequencer().address()],
        gateways: Vec::new(),
        transaction_gas_max: 128_000_000,
        joins_at: 0,
    };
    let (evm, opaque) = (ChainKind::Evm, ChainKind::Opaque);
    Genesis {
        name: "services".to_owned(),
        timestamp: UnixMillis(now().0 - 20_000),
        params: NetworkParams::default(),
        validators: set_of(keys),
        chains: vec![chain(EVM, evm), chain(A, opaque), chain(B, opaque)],
    }
}

fn expires() -> UnixMillis {
    now().plus(30_000)
}

/// An opaque transaction of `chain` with these bytes.
pub(crate) fn transaction(chain: ChainId, bytes: &[u8]) -> Transaction {
    Transaction { chain, kind: ChainKind::Opaque, bytes: bytes.to_vec().into() }
}

pub(crate) fn entry(chain: ChainId, bytes: &[u8]) -> Entry {
    Entry::new(Body::Transaction(transaction(chain, bytes)), expires(), None).unwrap()
}

pub(crate) fn bundle(bytes: &[u8]) -> Bundle {
    let leg = |chain: ChainId| Leg {
        chain,
        kind: ChainKind::Opaque,
        transactions: vec![[bytes, &chain.0.to_be_bytes()].concat().into()],
    };
    Bundle::new(vec![leg(A), leg(B)], Guarantee::CoOrdered).unwrap()
}

/// A record of `chain`, signed by its sequencer.
pub(crate) fn record(network: NetworkId, chain: ChainId, body: RecordBody) -> Entry {
    let record = Record::sign(network, chain, body, &sequencer());
    Entry::new(Body::Record(record), expires(), None).unwrap()
}

struct Decision {
    block: Block,
    assembly: Assembly,
    value: Bytes,
    next_set: ValidatorSet,
    /// Ids of the taken entries and their indices.
    taken: Vec<(Entry, u32)>,
}

struct Chain {
    keys: Vec<SigningKey>,
    /// Who decides the height after the next one.
    next_keys: Vec<SigningKey>,
    state: State,
    dedup: Dedup,
    blocks: Vec<Decision>,
}

/// The log, in memory.
pub(crate) struct MemoryLog {
    genesis: Arc<Genesis>,
    chain: Mutex<Chain>,
    heads: watch::Sender<Height>,
    /// The oldest height that is held.
    earliest: AtomicU64,
    /// How long the read of a height's slices takes, in milliseconds.
    read_ms: AtomicU64,
    /// How often slices were read, and full blocks.
    slice_reads: AtomicU64,
    block_reads: AtomicU64,
}

impl MemoryLog {
    /// How often a height's slices were read, and how often a full block.
    pub(crate) fn reads(&self) -> (u64, u64) {
        (self.slice_reads.load(Ordering::SeqCst), self.block_reads.load(Ordering::SeqCst))
    }

    /// What a chain has at a decided height. Not counted as a read.
    pub(crate) fn slice_of(&self, height: Height, chain: ChainId) -> Option<Slice> {
        let of_chain = |slice: &&Slice| slice.chain == chain;
        self.with(height, |d| d.assembly.slices.iter().find(of_chain).cloned()).flatten()
    }

    /// Makes each read of a height's slices take so long.
    pub(crate) fn take_for_each_read(&self, time: Duration) {
        self.read_ms.store(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn new() -> Self {
        let keys = keys(1..=4);
        let genesis = Arc::new(genesis(&keys));
        let state = State::genesis(&genesis);
        let chain =
            Chain { next_keys: keys.clone(), keys, state, dedup: Dedup::new(), blocks: Vec::new() };
        let heads = watch::Sender::new(Height::GENESIS);
        Self {
            genesis,
            chain: Mutex::new(chain),
            heads,
            earliest: AtomicU64::new(1),
            read_ms: AtomicU64::new(0),
            slice_reads: AtomicU64::new(0),
            block_reads: AtomicU64::new(0),
        }
    }

    /// From now on it is the log of a node that joined late: blocks below `height` are not here.
    pub(crate) fn forget_below(&self, height: u64) {
        self.earliest.store(height, Ordering::SeqCst);
    }

    pub(crate) fn network(&self) -> NetworkId {
        self.genesis.network_id()
    }

    /// A light client that trusts the genesis.
    pub(crate) fn light_client(&self) -> LightClient {
        LightClient::from_genesis(&self.genesis, now()).unwrap()
    }

    /// Decides a block with these entries; gives its height.
    pub(crate) fn decide(&self, entries: &[Entry]) -> Height {
        let mut chain = self.chain.lock().unwrap();
        let decision = chain.decide(entries);
        let height = decision.block.certified.header.height;
        chain.state = apply(&chain.state, &decision.block.certified.header, &decision.assembly);
        let timestamp = chain.state.timestamp;
        chain.dedup.extend(height, timestamp, decision.assembly.keys.iter().copied());
        chain.keys = chain.next_keys.clone();
        chain.blocks.push(decision);
        drop(chain);
        self.heads.send_replace(height);
        height
    }

    /// Decides blocks with one transaction of [`A`] at each odd height, none at even ones, up to `height`.
    pub(crate) fn fill(&self, height: u64) {
        while self.heads.borrow().0 < height {
            let next = self.heads.borrow().next();
            match next.0 % 2 {
                1 => self.decide(&[entry(A, &next.0.to_be_bytes())]),
                _ => self.decide(&[]),
            };
        }
    }

    /// The next block hands over to other validators.
    pub(crate) fn hand_over(&self) {
        let mut chain = self.chain.lock().unwrap();
        chain.next_keys = keys(2..=5);
        chain.state.committed.next_validators = set_of(&chain.next_keys);
    }

    pub(crate) fn certified(&self, height: Height) -> CertifiedHeader {
        self.block(BlockAt::Height(height)).unwrap().expect("a decided height").certified
    }

    /// What the network's validators would sign if they were dishonest.
    pub(crate) fn certify(&self, header: &Header) -> Certificate {
        certify(&self.chain.lock().unwrap().keys, header)
    }

    fn with<T>(&self, height: Height, read: impl FnOnce(&Decision) -> T) -> Option<T> {
        if height < self.earliest() {
            return None;
        }
        let place = usize::try_from(height.previous()?.0).unwrap();
        self.chain.lock().unwrap().blocks.get(place).map(read)
    }
}

impl Chain {
    fn decide(&self, entries: &[Entry]) -> Decision {
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
        let timestamp = self.state.timestamp.plus(50);
        let assembly =
            assemble(&self.state, &self.dedup, timestamp, &cut, &batches).expect("a valid cut");
        let header = build_header(&self.state, Round(0), timestamp, &cut, &assembly);
        let certificate = certify(&self.keys, &header);
        let raw = batches.iter().map(|batch| batch.raw().clone()).collect();
        let value = SyncedValue { header: header.clone(), cut: cut.clone(), batches: raw };
        let taken = assembly.taken.iter().map(|taken| {
            let place = usize::try_from(taken.entry).unwrap();
            (batches[0].entries()[place].entry().clone(), taken.index)
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
        // A validator that joined has no lane yet in this version.
        let has_lane = |key: &&SigningKey| {
            self.state.committed.lanes.iter().any(|lane| lane.owner == key.address())
        };
        let key = self.keys.iter().rev().find(has_lane).unwrap();
        let lane = self.state.committed.lanes.iter().find(|lane| lane.owner == key.address());
        let (place, parent) = match lane.filter(|lane| !lane.is_start()) {
            Some(lane) => ((lane.incarnation, lane.sequence.next()), lane.digest),
            None => ((Incarnation(1), Sequence(0)), BatchDigest::ZERO),
        };
        let batch = Batch::sign(self.state.network_id, place, parent, entries.to_vec(), key);
        Some(batch.unwrap().check().unwrap())
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
                let chain = self.chain.lock().unwrap();
                let blocks = chain.blocks.iter().map(|decision| &decision.block);
                blocks.clone().find(|block| block.certified.header.hash() == hash).cloned()
            }
        })
    }

    fn slices(&self, height: Height) -> Result<Option<BlockSlices>, ReadError> {
        self.slice_reads.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(self.read_ms.load(Ordering::Relaxed)));
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
        let log = self.chain.lock().unwrap();
        Ok(log.blocks.iter().find_map(|decision| {
            let (entry, index) = decision.taken.iter().find(|(entry, _)| holds(entry))?;
            Some(Located { id: entry.id(), decided: decided(decision, *index) })
        }))
    }

    fn record_heights(&self, query: RecordHeightsQuery) -> Result<Vec<Height>, ReadError> {
        let is_it = |entry: &Entry| match entry.body() {
            Body::Record(record) => {
                record.chain == query.chain && RecordKind::of(&record.body) == query.kind
            }
            Body::Transaction(_) | Body::Bundle(_) => false,
        };
        let log = self.chain.lock().unwrap();
        let has_it = log
            .blocks
            .iter()
            .rev()
            .filter(|decision| decision.taken.iter().any(|(entry, _)| is_it(entry)));
        let heights = has_it.map(|decision| decision.block.certified.header.height);
        let below = heights.filter(|height| query.before.is_none_or(|before| *height < before));
        Ok(below.take(usize::try_from(query.count).unwrap()).collect())
    }

    fn validator_set(&self, height: Height) -> Result<Option<ValidatorSet>, ReadError> {
        let head = *self.heads.borrow();
        if height == Height(1) {
            return Ok(Some(self.genesis.validators.clone()));
        }
        if height == head.next() {
            return Ok(Some(self.chain.lock().unwrap().state.committed.validators.clone()));
        }
        Ok(height.previous().and_then(|before| self.with(before, |d| d.next_set.clone())))
    }

    fn handovers(
        &self,
        from: Height,
        to: Height,
        count_max: usize,
    ) -> Result<Vec<Handover>, ReadError> {
        let chain = self.chain.lock().unwrap();
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

/// The certificate of a header by these validators.
pub(crate) fn certify(keys: &[SigningKey], header: &Header) -> Certificate {
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

fn decided(decision: &Decision, index: u32) -> Decided {
    let CertifiedHeader { header, certificate } = &decision.block.certified;
    let certificate = Arc::new(certificate.clone());
    let block = header.hash();
    Decided { height: header.height, index, block, certificate, legs: Vec::new() }
}

/// A node: a log, an ingress, a server over both.
pub(crate) struct Node {
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) ingress: Arc<MemoryIngress>,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) server: Server,
}

/// What a server is given, and the node's side of it.
pub(crate) fn parts() -> (Arc<MemoryLog>, Arc<MemoryIngress>, watch::Sender<Health>, Backend) {
    let log = Arc::new(MemoryLog::new());
    let ingress = Arc::new(MemoryIngress::new(&log));
    let (health, receiver) = lockstep_rpc::health::channel();
    health.send_modify(|health| health.state = HealthState::Serving);
    let backend = Backend {
        log: Arc::clone(&log) as Arc<dyn Log>,
        ingress: Arc::clone(&ingress) as Arc<dyn Ingress>,
        health: receiver,
        metrics: RpcMetrics::default(),
    };
    (log, ingress, health, backend)
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(ServerConfig::default()).await
    }

    pub(crate) async fn with(config: ServerConfig) -> Self {
        let (log, ingress, health, backend) = parts();
        let server = serve(config, backend).await.unwrap();
        Self { log, ingress, health, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.local_addr())
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::new(self.url()).connect().await.unwrap()
    }

    pub(crate) async fn log_client(&self) -> LogClient {
        LogClient::new(self.channel().await)
    }

    pub(crate) async fn ingress_client(&self) -> IngressClient {
        IngressClient::new(self.channel().await)
    }
}
