//! Builders for tests: a small network, entries, batches, cuts.

use std::collections::BTreeMap;

use alloy_consensus::{SignableTransaction, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature as EvmSignature, TxKind, U256};

use crate::batch::{Batch, CheckedBatch};
use crate::block::{Assembly, CannotAssemble, LeaveOut, apply, assemble, build_header};
use crate::bundle::{Bundle, Guarantee, Leg};
use crate::cut::{Cut, LanePosition};
use crate::dedup::Dedup;
use crate::entry::{Body, Entry, Transaction};
use crate::header::Header;
use crate::limits::ENTRY_GAS_MAX;
use crate::params::{ChainKind, ChainParams, Genesis, NetworkParams};
use crate::record::{Limits, Record, RecordBody};
use crate::signing::SigningKey;
use crate::state::State;
use crate::types::{BatchDigest, ChainId, Incarnation, Round, Sequence, UnixMillis};
use crate::validator_set::{Validator, ValidatorSet};

/// Opaque and open.
pub(crate) const A: ChainId = ChainId(10);
/// Opaque and open.
pub(crate) const B: ChainId = ChainId(20);
/// EVM and open.
pub(crate) const EVM: ChainId = ChainId(30);
/// Opaque, with [`gateway`] as its gateway.
pub(crate) const GATED: ChainId = ChainId(40);
/// Not registered.
pub(crate) const UNKNOWN: ChainId = ChainId(50);

/// Time of the genesis.
pub(crate) const START: UnixMillis = UnixMillis(1_000_000);
/// Time of the first block: too early for any bucket to be refilled.
pub(crate) const FIRST: UnixMillis = UnixMillis(START.0 + 1);
/// When entries of these builders expire.
pub(crate) const EXPIRES: UnixMillis = UnixMillis(START.0 + 30_000);

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes([n; 32]).unwrap()
}

pub(crate) fn gateway() -> SigningKey {
    key(201)
}

pub(crate) fn sequencer() -> SigningKey {
    key(202)
}

fn chain(id: ChainId, kind: ChainKind, gateways: Vec<Address>) -> ChainParams {
    ChainParams {
        id,
        kind,
        block_time_ms: 2_000,
        gas_per_second: if kind == ChainKind::Evm { 21_000 } else { 0 },
        bytes_per_second: 1,
        transaction_gas_max: ENTRY_GAS_MAX,
        sequencers: vec![sequencer().address()],
        gateways,
        joins_at: 0,
    }
}

/// `count` validators' keys in ascending order of address.
pub(crate) fn keys(count: u8) -> Vec<SigningKey> {
    let mut keys: Vec<_> = (1..=count).map(key).collect();
    keys.sort_by_key(SigningKey::address);
    keys
}

pub(crate) fn validators(keys: &[SigningKey]) -> ValidatorSet {
    let validator = |key: &SigningKey| Validator {
        address: key.address(),
        public_key: key.public_key(),
        power: 1,
        network_address: String::new(),
    };
    ValidatorSet::new(keys.iter().map(validator).collect()).unwrap()
}

/// A network at some height: lanes are numbered in address order.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) keys: Vec<SigningKey>,
    pub(crate) state: State,
    pub(crate) dedup: Dedup,
}

impl Net {
    pub(crate) fn new(lanes: u8) -> Self {
        let keys = keys(lanes);
        let genesis = Genesis {
            name: "test".to_owned(),
            timestamp: START,
            params: NetworkParams::default(),
            validators: validators(&keys),
            chains: vec![
                chain(A, ChainKind::Opaque, Vec::new()),
                chain(B, ChainKind::Opaque, Vec::new()),
                chain(EVM, ChainKind::Evm, Vec::new()),
                chain(GATED, ChainKind::Opaque, vec![gateway().address()]),
            ],
        };
        genesis.validate().unwrap();
        Self { keys, state: State::genesis(&genesis), dedup: Dedup::new() }
    }

    /// Sets what is left in a chain's bucket.
    pub(crate) fn with_bucket(mut self, id: ChainId, gas: u64, bytes: u64) -> Self {
        let chain = self.state.committed.chains.iter_mut().find(|c| c.params.id == id).unwrap();
        (chain.gas, chain.bytes) = (gas, bytes);
        self
    }

    pub(crate) fn position(&self, lane: usize) -> LanePosition {
        self.state.committed.lanes[lane]
    }

    pub(crate) fn batch(
        &self,
        lane: usize,
        place: (u64, u64),
        parent: BatchDigest,
        entries: Vec<Entry>,
    ) -> CheckedBatch {
        let place = (Incarnation(place.0), Sequence(place.1));
        let network = self.state.network_id;
        Batch::sign(network, place, parent, entries, &self.keys[lane]).unwrap().check().unwrap()
    }

    /// Batches of one entry each, `first..=last` of a run, the first with this parent.
    pub(crate) fn run(
        &self,
        lane: usize,
        incarnation: u64,
        (first, last): (u64, u64),
        mut parent: BatchDigest,
    ) -> Vec<CheckedBatch> {
        let mut run = Vec::new();
        for sequence in first..=last {
            let n = u32::try_from(incarnation * 1_000 + sequence).unwrap();
            let batch = self.batch(lane, (incarnation, sequence), parent, vec![tx(A, n, 10)]);
            parent = batch.digest();
            run.push(batch);
        }
        run
    }

    /// A cut that adds these entries, one inner list per batch, behind what is decided of each lane.
    pub(crate) fn cut(&self, lanes: &[Vec<Vec<Entry>>]) -> (Cut, Vec<CheckedBatch>) {
        let mut cut = Cut { lanes: self.state.committed.lanes.clone() };
        let mut batches = Vec::new();
        for (lane, lists) in lanes.iter().enumerate() {
            for entries in lists {
                let to = &mut cut.lanes[lane];
                let place =
                    if to.is_start() { (1, 0) } else { (to.incarnation.0, to.sequence.0 + 1) };
                let batch = self.batch(lane, place, to.digest, entries.clone());
                *to = position_of(&batch);
                batches.push(batch);
            }
        }
        (cut, batches)
    }

    /// Assembles one batch per lane.
    pub(crate) fn assemble(&self, lanes: &[Vec<Entry>], timestamp: UnixMillis) -> Outcome {
        let lists: Vec<_> = lanes
            .iter()
            .map(|entries| if entries.is_empty() { vec![] } else { vec![entries.clone()] })
            .collect();
        let (cut, batches) = self.cut(&lists);
        let assembly = self.try_assemble(timestamp, &cut, &batches).unwrap();
        Outcome::new(self, lanes, assembly)
    }

    pub(crate) fn try_assemble(
        &self,
        timestamp: UnixMillis,
        cut: &Cut,
        batches: &[CheckedBatch],
    ) -> Result<Assembly, CannotAssemble> {
        assemble(&self.state, &self.dedup, timestamp, cut, batches)
    }

    /// Builds the block of a cut for round 0 and moves on to the next height.
    pub(crate) fn decide(
        &mut self,
        timestamp: UnixMillis,
        cut: &Cut,
        batches: &[CheckedBatch],
    ) -> (Header, Assembly) {
        let assembly = self.try_assemble(timestamp, cut, batches).unwrap();
        let header = build_header(&self.state, Round(0), timestamp, cut, &assembly);
        self.state = apply(&self.state, &header, &assembly);
        self.dedup.extend(header.height, timestamp, assembly.keys.iter().copied());
        (header, assembly)
    }

    pub(crate) fn decide_entries(&mut self, lanes: &[Vec<Entry>], timestamp: UnixMillis) {
        let lists: Vec<_> = lanes.iter().map(|entries| vec![entries.clone()]).collect();
        let (cut, batches) = self.cut(&lists);
        self.decide(timestamp, &cut, &batches);
    }
}

pub(crate) fn position_of(batch: &CheckedBatch) -> LanePosition {
    let p = batch.position();
    LanePosition {
        owner: p.owner,
        incarnation: p.incarnation,
        sequence: p.sequence,
        digest: batch.digest(),
    }
}

/// What became of each entry, by lane and place.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) entries: Vec<Vec<Result<u32, LeaveOut>>>,
    pub(crate) assembly: Assembly,
}

impl Outcome {
    fn new(net: &Net, lanes: &[Vec<Entry>], assembly: Assembly) -> Self {
        let mut of = BTreeMap::new();
        for taken in &assembly.taken {
            of.insert((taken.batch.owner, taken.entry), Ok(taken.index));
        }
        for left_out in &assembly.left_out {
            let before = of.insert((left_out.batch.owner, left_out.entry), Err(left_out.reason));
            assert_eq!(before, None, "an entry has one outcome");
        }
        let entries = lanes.iter().zip(&net.keys).map(|(entries, key)| {
            (0..).zip(entries).map(|(place, _)| of[&(key.address(), place)]).collect()
        });
        Self { entries: entries.collect(), assembly }
    }

    /// `None` where an entry was taken.
    pub(crate) fn reasons(&self, lane: usize) -> Vec<Option<LeaveOut>> {
        self.entries[lane].iter().map(|outcome| outcome.err()).collect()
    }

    pub(crate) fn are_taken(&self, lane: usize) -> Vec<bool> {
        self.entries[lane].iter().map(Result::is_ok).collect()
    }
}

/// `size` opaque bytes, different for each `n`; at least 4.
pub(crate) fn opaque(n: u32, size: usize) -> Bytes {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.resize(size, 0xee);
    bytes.into()
}

/// A legacy transaction that declares this much gas.
pub(crate) fn evm(chain: ChainId, nonce: u64, gas: u64) -> Bytes {
    let transaction = TxLegacy {
        chain_id: Some(chain.0),
        nonce,
        gas_price: 1,
        gas_limit: gas,
        to: TxKind::Call(Address::ZERO),
        value: U256::ZERO,
        input: Bytes::new(),
    };
    let signature = key(100).sign(transaction.signature_hash());
    let signature = EvmSignature::from_raw(&signature.0).unwrap();
    TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()
}

pub(crate) fn entry(body: Body) -> Entry {
    Entry::new(body, EXPIRES, None).unwrap()
}

pub(crate) fn loose(chain: ChainId, kind: ChainKind, bytes: Bytes) -> Entry {
    entry(Body::Transaction(Transaction { chain, kind, bytes }))
}

/// A loose opaque transaction.
pub(crate) fn tx(chain: ChainId, n: u32, size: usize) -> Entry {
    loose(chain, ChainKind::Opaque, opaque(n, size))
}

pub(crate) fn leg(chain: ChainId, transactions: &[Bytes]) -> Leg {
    Leg { chain, kind: ChainKind::Opaque, transactions: transactions.to_vec() }
}

pub(crate) fn bundle(legs: Vec<Leg>) -> Entry {
    entry(Body::Bundle(Bundle::new(legs, Guarantee::CoOrdered).unwrap()))
}

/// A `Limits` record, different for each `n`.
pub(crate) fn record(net: &Net, chain: ChainId, n: u64, key: &SigningKey) -> Entry {
    let body = RecordBody::Limits(Limits { tx_bytes: n, ..Limits::default() });
    entry(Body::Record(Record::sign(net.state.network_id, chain, body, key)))
}

pub(crate) fn expiring(entry: &Entry, expires: UnixMillis) -> Entry {
    Entry::new(entry.body().clone(), expires, None).unwrap()
}

pub(crate) fn admitted(net: &Net, entry: &Entry) -> Entry {
    entry.admitted_by(net.state.network_id, &gateway()).unwrap()
}
