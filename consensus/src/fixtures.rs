//! Builders for tests: a network of a few lanes, their batches, and the blocks that decide them.

use std::sync::Arc;

use alloy_primitives::Bytes;
use lockstep_core::batch::{Batch, CheckedBatch};
use lockstep_core::block::{apply, assemble, build_header};
use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::certificate::Certificate;
use lockstep_core::cut::{Cut, LanePosition};
use lockstep_core::dedup::Dedup;
use lockstep_core::entry::{Body, CheckedEntry, Entry, Transaction};
use lockstep_core::params::{ChainKind, ChainParams, Genesis, NetworkParams};
use lockstep_core::signing::SigningKey;
use lockstep_core::state::State;
use lockstep_core::types::{BatchDigest, ChainId, Incarnation, Round, Sequence, UnixMillis};
use lockstep_core::validator_set::{Validator, ValidatorSet};

use crate::ledger::DecidedBlock;

/// Opaque, with 20,000 bytes a second: its bucket holds the greatest entry, 288 KiB.
pub(crate) const A: ChainId = ChainId(10);
/// Like [`A`].
pub(crate) const B: ChainId = ChainId(20);
/// Like [`A`], with a gateway.
pub(crate) const GATED: ChainId = ChainId(30);

/// Time of the genesis.
pub(crate) const START: UnixMillis = UnixMillis(1_000_000);
/// When entries of these builders expire.
pub(crate) const EXPIRES: UnixMillis = UnixMillis(START.0 + 50_000);

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes([n; 32]).unwrap()
}

/// The key that admits entries to [`GATED`].
pub(crate) fn gateway() -> SigningKey {
    key(201)
}

/// A network without nodes. Lanes are numbered in address order.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) genesis: Genesis,
    pub(crate) keys: Vec<SigningKey>,
    pub(crate) state: Arc<State>,
    pub(crate) dedup: Dedup,
}

impl Net {
    pub(crate) fn new(lanes: u8) -> Self {
        let mut keys: Vec<_> = (1..=lanes).map(key).collect();
        keys.sort_by_key(SigningKey::address);
        let validator = |key: &SigningKey| Validator {
            address: key.address(),
            public_key: key.public_key(),
            power: 1,
            network_address: String::new(),
        };
        let chain = |id, gateways| ChainParams {
            id,
            kind: ChainKind::Opaque,
            block_time_ms: 0,
            gas_per_second: 0,
            bytes_per_second: 20_000,
            sequencers: Vec::new(),
            gateways,
            transaction_gas_max: 128_000_000,
            joins_at: 0,
        };
        let genesis = Genesis {
            name: "test".to_owned(),
            timestamp: START,
            params: NetworkParams::default(),
            validators: ValidatorSet::new(keys.iter().map(validator).collect()).unwrap(),
            chains: vec![
                chain(A, Vec::new()),
                chain(B, Vec::new()),
                chain(GATED, vec![gateway().address()]),
            ],
        };
        genesis.validate().unwrap();
        let state = Arc::new(State::genesis(&genesis));
        Self { genesis, keys, state, dedup: Dedup::new() }
    }

    /// Sets what is left in a chain's bucket.
    pub(crate) fn set_bucket(&mut self, id: ChainId, bytes: u64) {
        let mut state = State::clone(&self.state);
        let chain = state.committed.chains.iter_mut().find(|chain| chain.params.id == id);
        chain.unwrap().bytes = bytes;
        self.state = Arc::new(state);
    }

    /// Sets how many bytes lane 0 may still add for nothing, as if blocks had left out what it has.
    pub(crate) fn set_allowance(&mut self, bytes: u64) {
        let mut state = State::clone(&self.state);
        let bound = lockstep_core::waste::bound(&state.committed);
        state.committed.wasted[0] = bound - bytes;
        self.state = Arc::new(state);
    }

    pub(crate) fn check(&self, entry: Entry) -> CheckedEntry {
        entry.check(self.state.network_id).unwrap()
    }

    pub(crate) fn batch(
        &self,
        lane: usize,
        place: (Incarnation, Sequence),
        parent: BatchDigest,
        entries: Vec<CheckedEntry>,
    ) -> CheckedBatch {
        let raw = entries.iter().map(|checked| checked.entry().clone()).collect();
        let batch = Batch::sign(self.state.network_id, place, parent, raw, &self.keys[lane]);
        batch.unwrap().with_checked(entries).unwrap()
    }

    /// One batch of a lane behind what is decided of it.
    pub(crate) fn next(&self, lane: usize, entries: &[Entry]) -> CheckedBatch {
        let decided = self.state.committed.lanes[lane];
        let place = match decided.is_start() {
            true => (Incarnation(1), Sequence(0)),
            false => (decided.incarnation, decided.sequence.next()),
        };
        let entries = entries.iter().map(|entry| self.check(entry.clone())).collect();
        self.batch(lane, place, decided.digest, entries)
    }

    /// Decides the next block, which adds these batches: lane after lane, each lane's in order.
    pub(crate) fn decide(
        &mut self,
        timestamp: UnixMillis,
        batches: Vec<CheckedBatch>,
    ) -> DecidedBlock {
        let mut cut = Cut { lanes: self.state.committed.lanes.clone() };
        for batch in &batches {
            let position = batch.position();
            let lane = cut.lanes.iter_mut().find(|lane| lane.owner == position.owner).unwrap();
            *lane = LanePosition {
                owner: position.owner,
                incarnation: position.incarnation,
                sequence: position.sequence,
                digest: batch.digest(),
            };
        }
        let assembly = assemble(&self.state, &self.dedup, timestamp, &cut, &batches).unwrap();
        let header = build_header(&self.state, Round(0), timestamp, &cut, &assembly);
        self.state = Arc::new(apply(&self.state, &header, &assembly));
        self.dedup.extend(header.height, timestamp, assembly.keys.iter().copied());
        let certificate = Certificate {
            height: header.height,
            round: Round(0),
            block: header.hash(),
            signatures: Vec::new(),
        };
        DecidedBlock {
            header,
            cut,
            certificate,
            assembly: Arc::new(assembly),
            batches: Arc::new(batches),
        }
    }
}

/// `size` opaque bytes, different for each `n`; at least 4.
fn opaque(n: u32, size: usize) -> Bytes {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.resize(size, 0xee);
    bytes.into()
}

/// A loose transaction, different for each `n`.
pub(crate) fn tx(chain: ChainId, n: u32, size: usize) -> Entry {
    let body = Transaction { chain, kind: ChainKind::Opaque, bytes: opaque(n, size) };
    Entry::new(Body::Transaction(body), EXPIRES, None).unwrap()
}

/// A co-ordered bundle of one transaction on [`A`] and one on [`B`].
pub(crate) fn bundle(n: u32, sizes: [usize; 2]) -> Entry {
    let leg =
        |(chain, size)| Leg { chain, kind: ChainKind::Opaque, transactions: vec![opaque(n, size)] };
    let legs = [A, B].into_iter().zip(sizes).map(leg).collect();
    let bundle = Bundle::new(legs, Guarantee::CoOrdered).unwrap();
    Entry::new(Body::Bundle(bundle), EXPIRES, None).unwrap()
}

/// The same entry with another expiry: another copy of the same id.
pub(crate) fn expiring(entry: &Entry, expires: UnixMillis) -> Entry {
    Entry::new(entry.body().clone(), expires, None).unwrap()
}
