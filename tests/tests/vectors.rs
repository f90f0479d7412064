//! Golden vectors: every format and hash of the protocol, rebuilt from fixed inputs and compared with `tests/vectors/`.
//!
//! A vector that changes breaks every signature and every stored byte made before. Where that is meant,
//! `LOCKSTEP_BLESS=1 cargo test -p lockstep-tests --test vectors` writes the files anew, in a commit of its own.
//!
//! The files are flat JSON objects of hexadecimal strings, for readers in any language; `tests/vectors/README.md` says
//! what is in them. Only `lockstep-core` is tested here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEip7702, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use alloy_primitives::{
    Address, B256, Bytes, Signature as EvmSignature, TxKind, U256, hex, keccak256,
};
use alloy_rlp::Encodable;
use lockstep_core::batch::{Acknowledged, Acknowledgement, Batch, CheckedBatch};
use lockstep_core::block::{Assembly, apply, assemble, build_header};
use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::certificate::{Certificate, CommitSignature, Proposal, Vote, VoteType};
use lockstep_core::cursor::{L2Block, Testimony, classify};
use lockstep_core::cut::{Cut, LanePosition};
use lockstep_core::dedup::Dedup;
use lockstep_core::deposit::DEPOSITOR;
use lockstep_core::encoding::{Canonical, tag};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::header::Header;
use lockstep_core::light_client::LightClient;
use lockstep_core::merkle;
use lockstep_core::params::{ChainKind, ChainParams, Genesis, NetworkParams};
use lockstep_core::proof::{
    AbsenceProof, CertifiedHeader, RangeBlock, RangeProof, SlicePresence, SliceProof,
    TransactionProof,
};
use lockstep_core::record::{
    Cursor, Limits, Preparation, Prepared, Record, RecordBody, SealMode, Sealed, SkipReason,
    Skipped,
};
use lockstep_core::signing::SigningKey;
use lockstep_core::slice::{Content, Item, Slice, SliceSummary, slices_root};
use lockstep_core::state::{Committed, State};
use lockstep_core::types::{
    BatchDigest, BlockHash, ChainId, EntryId, Height, Incarnation, NetworkId, Round, Sequence,
    UnixMillis,
};
use lockstep_core::validator_set::{Validator, ValidatorSet};
use lockstep_core::window::{Begin, LogSlice, Place, offer};

const START: UnixMillis = UnixMillis(1_700_000_000_000);
const EVM: ChainId = ChainId(901);
const GATED: ChainId = ChainId(902);
const OPAQUE: ChainId = ChainId(903);

// ---- Fixed inputs ----------------------------------------------------------------------------------------------

/// The key whose 32 bytes are all `n`: 1 to 4 are validators, 5 is a gateway, 6 a sequencer, 7 a user.
fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes([n; 32]).unwrap()
}

/// The validators' keys in ascending order of address.
fn validator_keys() -> Vec<SigningKey> {
    let mut keys: Vec<_> = (1..=4).map(key).collect();
    keys.sort_by_key(SigningKey::address);
    keys
}

fn genesis() -> Genesis {
    let validator = |(place, key): (usize, &SigningKey)| Validator {
        address: key.address(),
        public_key: key.public_key(),
        power: 1 + place as u64 % 2,
        network_address: format!("/ip4/127.0.0.1/tcp/{}", 27_000 + place),
    };
    let chain = |id, kind, gateways| ChainParams {
        id,
        kind,
        block_time_ms: 2_000,
        gas_per_second: 15_000_000,
        bytes_per_second: 1 << 20,
        sequencers: vec![key(6).address()],
        gateways,
        transaction_gas_max: 1 << 24,
        joins_at: 1_700_000_002,
    };
    Genesis {
        name: "golden".to_owned(),
        timestamp: START,
        params: NetworkParams::default(),
        validators: ValidatorSet::new(validator_keys().iter().enumerate().map(validator).collect())
            .unwrap(),
        chains: vec![
            chain(EVM, ChainKind::Evm, vec![]),
            chain(GATED, ChainKind::Evm, vec![key(5).address()]),
            chain(OPAQUE, ChainKind::Opaque, vec![]),
        ],
    }
}

fn sign<T: SignableTransaction<EvmSignature>>(transaction: T) -> Bytes
where
    TxEnvelope: From<alloy_consensus::Signed<T>>,
{
    let signature = key(7).sign(transaction.signature_hash());
    let signature = EvmSignature::from_raw(&signature.0).unwrap();
    TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()
}

fn legacy(chain: ChainId, nonce: u64) -> Bytes {
    sign(TxLegacy {
        chain_id: Some(chain.0),
        nonce,
        gas_price: 1_000_000_000,
        gas_limit: 21_000,
        to: TxKind::Call(Address::repeat_byte(0x11)),
        value: U256::from(1),
        input: Bytes::new(),
    })
}

fn access_list() -> AccessList {
    let storage_keys = vec![B256::repeat_byte(1)];
    AccessList(vec![AccessListItem { address: Address::repeat_byte(2), storage_keys }])
}

/// One transaction of each type that the log carries.
fn transactions() -> [(&'static str, Bytes); 4] {
    let authorization =
        Authorization { chain_id: U256::from(EVM.0), address: Address::repeat_byte(3), nonce: 1 };
    let authorization =
        SignedAuthorization::new_unchecked(authorization, 1, U256::from(2), U256::from(3));
    let (chain_id, gas_limit) = (EVM.0, 100_000);
    let (nonce, input) = (1, Bytes::from_static(b"\x01\x02\x03\x04"));
    let eip2930 = TxEip2930 {
        chain_id,
        nonce,
        gas_limit,
        access_list: access_list(),
        ..TxEip2930::default()
    };
    let eip1559 =
        TxEip1559 { chain_id, nonce, gas_limit, input, max_fee_per_gas: 9, ..TxEip1559::default() };
    let authorization_list = vec![authorization];
    let eip7702 =
        TxEip7702 { chain_id, nonce, gas_limit, authorization_list, ..TxEip7702::default() };
    [
        ("legacy", legacy(EVM, 0)),
        ("eip2930", sign(eip2930)),
        ("eip1559", sign(eip1559)),
        ("eip7702", sign(eip7702)),
    ]
}

fn records() -> [(&'static str, RecordBody); 3] {
    let skipped = vec![
        Skipped { height: Height(1), item: 0, reason: SkipReason::Invalid },
        Skipped { height: Height(1), item: 2, reason: SkipReason::Stale },
        Skipped { height: Height(2), item: 0, reason: SkipReason::TooLarge },
        Skipped { height: Height(2), item: 1, reason: SkipReason::OverLimit },
    ];
    let sealed = Sealed {
        number: 1_000,
        hash: B256::repeat_byte(1),
        parent: B256::repeat_byte(2),
        timestamp: 1_700_000_002,
        mode: SealMode::Offered,
        cursor: Cursor { height: Height(2), items: 2 },
        skipped,
    };
    let prepared = Prepared {
        number: 1_001,
        parent: B256::repeat_byte(1),
        attributes: B256::repeat_byte(3),
        preparations: vec![
            Preparation { bundle: EntryId(B256::repeat_byte(4)), is_ok: true },
            Preparation { bundle: EntryId(B256::repeat_byte(5)), is_ok: false },
        ],
    };
    [
        ("sealed", RecordBody::Sealed(sealed)),
        (
            "limits",
            RecordBody::Limits(Limits { tx_bytes: 0, block_bytes: 120_000, set_at_ms: START }),
        ),
        ("prepared", RecordBody::Prepared(prepared)),
    ]
}

fn bundle(guarantee: Guarantee, nonce: u64) -> Body {
    let leg = |chain, kind, transactions| Leg { chain, kind, transactions };
    let legs = vec![
        leg(GATED, ChainKind::Evm, vec![legacy(GATED, nonce), legacy(GATED, nonce + 1)]),
        leg(EVM, ChainKind::Evm, vec![legacy(EVM, nonce + 10)]),
        leg(OPAQUE, ChainKind::Opaque, vec![Bytes::from_static(b"opaque leg")]),
    ];
    Body::Bundle(Bundle::new(legs, guarantee).unwrap())
}

/// One entry of each kind, by name.
fn entries() -> Vec<(String, Entry)> {
    let network = genesis().network_id();
    let entry = |body| Entry::new(body, START.plus(30_000), None).unwrap();
    let transaction =
        |chain, kind, bytes| entry(Body::Transaction(Transaction { chain, kind, bytes }));
    let mut list: Vec<(String, Entry)> = transactions()
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), transaction(EVM, ChainKind::Evm, bytes)))
        .collect();
    let opaque = transaction(OPAQUE, ChainKind::Opaque, Bytes::from_static(b"opaque"));
    let gated = transaction(GATED, ChainKind::Evm, legacy(GATED, 0));
    let gated = gated.admitted_by(network, &key(5)).unwrap();
    list.extend([
        ("opaque".to_owned(), opaque),
        ("admitted".to_owned(), gated),
        ("bundle".to_owned(), entry(bundle(Guarantee::CoOrdered, 5))),
        ("co_executed".to_owned(), entry(bundle(Guarantee::CoExecuted, 7))),
    ]);
    list.extend(records().into_iter().map(|(name, body)| {
        (name.to_owned(), entry(Body::Record(Record::sign(network, EVM, body, &key(6)))))
    }));
    list
}

/// A log of two blocks: the first has all entries, the second has two transactions of one chain.
struct Log {
    batches: Vec<CheckedBatch>,
    blocks: Vec<Block>,
    states: Vec<State>,
}

struct Block {
    certified: CertifiedHeader,
    cut: Cut,
    assembly: Assembly,
}

impl Log {
    fn new() -> Self {
        let state = State::genesis(&genesis());
        let mut log = Self { batches: vec![], blocks: vec![], states: vec![state] };
        let all: Vec<Entry> = entries().into_iter().map(|(_, entry)| entry).collect();
        let (first, second) = all.split_at(6);
        log.decide(&[(0, first), (2, second)], Round(0));
        let late = |nonce| {
            let body = Transaction { chain: EVM, kind: ChainKind::Evm, bytes: legacy(EVM, nonce) };
            Entry::new(Body::Transaction(body), START.plus(40_000), None).unwrap()
        };
        log.decide(&[(0, &[late(50), late(51)])], Round(1));
        log
    }

    fn state(&self) -> &State {
        self.states.last().unwrap()
    }

    /// Decides a block of one batch for each of these lanes.
    fn decide(&mut self, lanes: &[(usize, &[Entry])], round: Round) {
        let state = self.state().clone();
        let mut cut = Cut { lanes: state.committed.lanes.clone() };
        let mut batches = Vec::new();
        for (lane, entries) in lanes {
            let key = &validator_keys()[*lane];
            let to = &mut cut.lanes[*lane];
            let place = if to.is_start() {
                (Incarnation(1_700_000_000_000), Sequence(0))
            } else {
                (to.incarnation, to.sequence.next())
            };
            let batch =
                Batch::sign(state.network_id, place, to.digest, entries.to_vec(), key).unwrap();
            let (owner, (incarnation, sequence)) = (key.address(), place);
            *to = LanePosition { owner, incarnation, sequence, digest: batch.digest() };
            batches.push(batch.check().unwrap());
        }
        let mut dedup = Dedup::new();
        for (Block { certified, assembly, .. }, height) in self.blocks.iter().zip(1..) {
            dedup.extend(
                Height(height),
                certified.header.timestamp_ms,
                assembly.keys.iter().copied(),
            );
        }
        let timestamp = state.timestamp.plus(250);
        let assembly = assemble(&state, &dedup, timestamp, &cut, &batches).unwrap();
        let header = build_header(&state, round, timestamp, &cut, &assembly);
        self.states.push(apply(&state, &header, &assembly));
        self.batches.extend(batches);
        self.blocks.push(Block { certified: certify(header, round), cut, assembly });
    }
}

/// The certificate of a header: all validators but the first.
fn certify(header: Header, round: Round) -> CertifiedHeader {
    let (height, block) = (header.height, header.hash());
    let vote = Vote { height, round, vote_type: VoteType::Precommit, block: Some(block) };
    let digest = vote.digest(header.network_id);
    let signature = |key: &SigningKey| CommitSignature {
        validator: key.address(),
        signature: key.sign(digest),
    };
    let signatures = validator_keys()[1..].iter().map(signature).collect();
    CertifiedHeader { header, certificate: Certificate { height, round, block, signatures } }
}

// ---- Vectors ---------------------------------------------------------------------------------------------------

/// Values by name, as they stand in a file.
#[derive(Default)]
struct Vector(BTreeMap<String, String>);

impl Vector {
    fn add(&mut self, name: impl Into<String>, bytes: impl AsRef<[u8]>) {
        let name = name.into();
        let before = self.0.insert(name.clone(), hex::encode_prefixed(bytes));
        assert_eq!(before, None, "{name} is there twice");
    }

    /// Adds canonical bytes, and tries that they are read back.
    fn add_canonical<T: Canonical + PartialEq + std::fmt::Debug>(
        &mut self,
        name: impl Into<String>,
        value: &T,
    ) {
        let bytes = value.to_canonical();
        assert_eq!(T::from_canonical(&bytes).as_ref(), Ok(value));
        self.add(name, bytes);
    }

    /// Compares with the file; writes it where that is asked for.
    #[track_caller]
    fn expect_frozen_in(self, file: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
        if std::env::var_os("LOCKSTEP_BLESS").is_some() {
            let text = serde_json::to_string_pretty(&self.0).unwrap();
            fs::write(&path, text + "\n").unwrap();
        }
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{file}: {error}; `LOCKSTEP_BLESS=1` writes it"));
        let frozen: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
        let names = frozen.keys().chain(self.0.keys());
        let mut changed: Vec<_> =
            names.filter(|name| frozen.get(*name) != self.0.get(*name)).collect();
        changed.sort_unstable();
        changed.dedup();
        assert!(changed.is_empty(), "{file}: other than frozen: {changed:?}");
    }
}

#[test]
fn domain_tags() {
    let mut vector = Vector::default();
    for (index, tag) in tag::ALL.iter().enumerate() {
        vector.add(format!("{index:02}"), tag.0);
    }
    vector.expect_frozen_in("tags.json");
}

#[test]
fn genesis_and_network_id() {
    let mut vector = Vector::default();
    vector.add_canonical("genesis", &genesis());
    vector.add("network_id", genesis().network_id().0);
    vector.add("validators_hash", genesis().validators.hash());
    vector.expect_frozen_in("genesis.json");
}

#[test]
fn entries_and_their_ids() {
    let network = genesis().network_id();
    let mut vector = Vector::default();
    for (name, bytes) in transactions() {
        vector.add(format!("transaction.{name}.hash"), keccak256(&bytes));
        vector.add(format!("transaction.{name}"), bytes);
    }
    for (name, entry) in entries() {
        vector.add(format!("entry.{name}"), entry.raw());
        vector.add(format!("entry.{name}.id"), entry.id().0);
        vector.add(
            format!("entry.{name}.gateway_digest"),
            Entry::gateway_digest(network, entry.id()),
        );
        assert_eq!(Entry::decode(entry.raw().clone()), Ok(entry.clone()));
        assert!(entry.check(network).is_ok(), "{name}");
    }
    for (name, body) in records() {
        vector.add(format!("record.{name}.digest"), Record::digest(network, EVM, &body));
    }
    vector.expect_frozen_in("entries.json");
}

#[test]
fn batches_and_acknowledgements() {
    let log = Log::new();
    let mut vector = Vector::default();
    for (index, batch) in log.batches.iter().enumerate() {
        vector.add(format!("batch.{index}"), batch.raw());
        vector.add(format!("batch.{index}.digest"), batch.digest().0);
        vector.add(format!("batch.{index}.entries_root"), batch.header().entries_root);
        let read = Batch::decode(genesis().network_id(), batch.raw().clone()).unwrap();
        assert_eq!(read.check().as_ref(), Ok(batch));
    }
    let tip =
        |batch: &CheckedBatch| Acknowledged { position: batch.position(), digest: batch.digest() };
    let mut tips: Vec<_> = log.batches[1..].iter().map(tip).collect();
    tips.sort_by_key(|tip| tip.position.owner);
    let word = Acknowledgement::sign(genesis().network_id(), tips, &key(1));
    assert_eq!(word.signer(), Ok(key(1).address()));
    vector.add_canonical("acknowledgement", &word);
    vector.expect_frozen_in("batches.json");
}

#[test]
fn cuts_headers_and_states() {
    let log = Log::new();
    let mut vector = Vector::default();
    for (height, state) in log.states.iter().enumerate() {
        vector.add_canonical(format!("state.{height}"), state);
        vector.add_canonical::<Committed>(format!("state.{height}.committed"), &state.committed);
        vector.add(format!("state.{height}.hash"), state.committed.hash());
    }
    for (block, height) in log.blocks.iter().zip(1..) {
        vector.add_canonical::<Cut>(format!("cut.{height}"), &block.cut);
        vector.add(format!("cut.{height}.hash"), block.cut.hash());
        vector.add_canonical::<Header>(format!("header.{height}"), &block.certified.header);
        vector.add(format!("header.{height}.hash"), block.certified.header.hash().0);
    }
    vector.expect_frozen_in("blocks.json");
}

#[test]
fn votes_proposals_and_certificates() {
    let network = genesis().network_id();
    let mut vector = Vector::default();
    for (block, height) in Log::new().blocks.iter().zip(1..) {
        vector.add_canonical::<Certificate>(
            format!("certificate.{height}"),
            &block.certified.certificate,
        );
        vector.add_canonical(format!("certified_header.{height}"), &block.certified);
    }
    let (height, round) = (Height(1 << 40), Round(7));
    let hash = BlockHash(B256::repeat_byte(0xab));
    for (name, vote_type) in [("prevote", VoteType::Prevote), ("precommit", VoteType::Precommit)] {
        let vote = Vote { height, round, vote_type, block: Some(hash) };
        vector.add(format!("{name}.digest"), vote.digest(network));
        vector.add(format!("{name}.nil.digest"), Vote { block: None, ..vote }.digest(network));
    }
    for (name, valid_round) in
        [("fresh", None), ("again.0", Some(Round(0))), ("again.6", Some(Round(6)))]
    {
        let proposal = Proposal { height, round, valid_round, block: hash };
        vector.add(format!("proposal.{name}.digest"), proposal.digest(network));
        vector.add(format!("proposal.{name}.part_digest"), proposal.part_digest(network));
    }
    vector.add("network_id", network.0);
    vector.expect_frozen_in("certificates.json");
}

#[test]
fn slices_and_their_roots() {
    let mut vector = Vector::default();
    for (block, height) in Log::new().blocks.iter().zip(1..) {
        for slice in &block.assembly.slices {
            let name = format!("slice.{height}.{}", slice.chain);
            vector.add_canonical::<Slice>(&name, slice);
            vector.add(format!("{name}.root"), slice.root());
            vector.add_canonical::<SliceSummary>(format!("{name}.summary"), &slice.summary());
            for (place, item) in slice.items.iter().enumerate() {
                vector.add_canonical::<Item>(format!("{name}.item.{place}"), item);
                vector.add(format!("{name}.item.{place}.leaf"), item.leaf());
            }
        }
        assert_eq!(slices_root(&block.assembly.summaries), block.certified.header.slices_root);
        vector.add(format!("slices_root.{height}"), slices_root(&block.assembly.summaries));
    }
    vector.add("slices_root.empty", slices_root(&[]));
    vector.expect_frozen_in("slices.json");
}

#[test]
fn merkle_roots_and_paths() {
    let mut vector = Vector::default();
    for count in 0..=9u32 {
        let leaves: Vec<B256> = (0..count).map(|n| merkle::leaf(&n.to_be_bytes())).collect();
        vector.add(format!("root.{count}"), merkle::root(leaves.iter().copied()));
        for index in 0..count {
            let path = merkle::proof(&leaves, index).unwrap();
            vector.add(format!("path.{count}.{index}"), path.concat());
        }
    }
    vector.expect_frozen_in("merkle.json");
}

fn range(log: &Log, chain: ChainId) -> RangeProof {
    let block = |block: &Block| {
        let slice = block.assembly.slices.iter().find(|slice| slice.chain == chain).cloned();
        let presence = SlicePresence::build(&block.assembly.summaries, chain, slice).unwrap();
        RangeBlock { header: block.certified.header.clone(), presence }
    };
    let certificate = log.blocks[1].certified.certificate.clone();
    RangeProof::build(log.blocks.iter().map(block).collect(), certificate).unwrap()
}

#[test]
fn proofs_that_a_light_client_believes() {
    let log = Log::new();
    let mut client = LightClient::from_genesis(&genesis(), START).unwrap();
    let now = START.plus(1_000);
    let mut vector = Vector::default();
    let Block { certified, assembly, .. } = &log.blocks[0];
    for slice in &assembly.slices {
        let chain = slice.chain;
        let proof = SliceProof::build(certified.clone(), &assembly.summaries, chain).unwrap();
        assert_eq!(client.verify_slice(&proof, slice, &[], now), Ok(()));
        vector.add_canonical(format!("slice_proof.1.{chain}"), &proof);
        let Some(bytes) = slice.items.iter().flat_map(Item::transactions).last() else { continue };
        let hash = keccak256(bytes);
        let proof =
            TransactionProof::build(certified.clone(), &assembly.summaries, slice, hash).unwrap();
        assert_eq!(client.verify_transaction(&proof, (chain, hash), &[], now), Ok(()));
        vector.add_canonical(format!("transaction_proof.1.{chain}"), &proof);
        vector.add(format!("transaction_proof.1.{chain}.hash"), hash);
    }
    for (height, chain) in [(1, 900), (1, 904), (2, 902), (2, 1)] {
        let Block { certified, assembly, .. } = &log.blocks[height - 1];
        let proof =
            AbsenceProof::build(certified.clone(), &assembly.summaries, ChainId(chain)).unwrap();
        assert_eq!(client.verify_absence(&proof, ChainId(chain), &[], now), Ok(()));
        vector.add_canonical(format!("absence_proof.{height}.{chain}"), &proof);
    }
    for chain in [EVM, GATED, ChainId(5)] {
        let proof = range(&log, chain);
        assert_eq!(client.verify_range(&proof, (chain, Height(1)), &[], now), Ok(()));
        vector.add_canonical(format!("range_proof.{chain}"), &proof);
    }
    vector.expect_frozen_in("proofs.json");
}

// ---- From slices to blocks --------------------------------------------------------------------------------------

/// Timestamp of the block whose offers are frozen, seconds.
const BLOCK_TIME: u64 = 1_700_000_100;
const LEAD_MS: u64 = 700;

/// The first transaction of the block: L1 attributes of Jovian without fees, with 400 gas per estimated byte.
fn l1_attributes() -> Bytes {
    let mut data = vec![0x3d, 0xb6, 0xbe, 0x2b];
    data.extend([0; 8]);
    for field in [0, BLOCK_TIME - 12, 9u64] {
        data.extend(field.to_be_bytes());
    }
    data.resize(176, 0);
    data.extend(400u16.to_be_bytes());
    let to = Address::with_last_byte(0x15);
    let fields: [&dyn Encodable; 8] = [
        &B256::repeat_byte(1),
        &DEPOSITOR,
        &to,
        &0u8,
        &0u8,
        &1_000_000u64,
        &false,
        &data.as_slice(),
    ];
    let mut bytes = vec![0x7e];
    alloy_rlp::encode_list::<&dyn Encodable, dyn Encodable>(&fields, &mut bytes);
    bytes.into()
}

/// A transaction of about `size` estimated bytes.
fn sized(nonce: u64, size: usize) -> Bytes {
    let words = (0..size.div_ceil(32)).flat_map(|word| keccak256([nonce as u8, word as u8]).0);
    let input = words.collect::<Vec<u8>>().into();
    sign(TxEip1559 { chain_id: EVM.0, nonce, gas_limit: 90_000, input, ..TxEip1559::default() })
}

/// A stale item; a large one between two small ones, and a leg; then the log block that closes the window.
fn log_slices() -> Vec<(UnixMillis, Slice)> {
    let loose = |bytes| Content::Transaction { bytes };
    let leg = Content::Leg {
        bundle: EntryId(B256::repeat_byte(8)),
        leg: 0,
        legs: 2,
        guarantee: Guarantee::CoOrdered,
        transactions: vec![legacy(EVM, 4), legacy(EVM, 5)],
    };
    let contents = [
        vec![loose(legacy(EVM, 0))],
        vec![loose(legacy(EVM, 1)), loose(sized(2, 640)), loose(legacy(EVM, 3)), leg],
        vec![],
    ];
    let end = BLOCK_TIME * 1_000 - LEAD_MS;
    let times = [end - 60_001, end, end + 1];
    let items = |contents: Vec<Content>| {
        (0u32..).zip(contents).map(|(index, content)| Item { index, content }).collect()
    };
    let slice = |contents| Slice { chain: EVM, items: items(contents) };
    times.map(UnixMillis).into_iter().zip(contents.map(slice)).collect()
}

/// The record of a block without users' transactions that begins there, under these limits.
fn sealed_from(begin: Begin, limits: Limits, listed: Option<&BTreeSet<Place>>) -> Sealed {
    let slices: Vec<LogSlice> = (1u64..)
        .zip(log_slices())
        .map(|(height, (time, slice))| {
            LogSlice::new(Height(height), time, ChainKind::Evm, slice.items)
        })
        .collect();
    let block = L2Block {
        number: 50,
        hash: B256::repeat_byte(0x50),
        parent: B256::repeat_byte(0x49),
        timestamp: BLOCK_TIME,
        gas_limit: 30_000_000,
        transactions: vec![l1_attributes()],
    };
    let window = block.window(LEAD_MS, limits).unwrap();
    let offer = offer(begin, &slices, &window).unwrap();
    let mode = if listed.is_some() { SealMode::Closed } else { SealMode::Offered };
    let testimony = Testimony { record: Some((offer.closed_at, mode)), newest: offer.closed_at };
    let kind = classify(&block, &window, &offer, &testimony);
    kind.sealed(&block, &offer, listed.unwrap_or(&BTreeSet::new())).unwrap()
}

#[test]
fn offers_and_records_of_blocks() {
    let mut vector = Vector::default();
    vector.add("block.transaction.0", l1_attributes());
    for ((time, slice), height) in log_slices().into_iter().zip(1..) {
        vector.add(format!("log.{height}.timestamp_ms"), time.0.to_be_bytes());
        if !slice.items.is_empty() {
            vector.add_canonical::<Slice>(format!("log.{height}.slice"), &slice);
        }
    }
    let start = Begin::from(Cursor { height: Height(1), items: 0 });
    let limits = |tx_bytes, block_bytes| Limits { tx_bytes, block_bytes, set_at_ms: START };
    let none = Limits::default();
    let refused = BTreeSet::from([1, 3].map(|item| Place { height: Height(2), item }));
    let closed = sealed_from(start.clone(), none, Some(&refused));
    let cases = [
        ("no_limits", sealed_from(start.clone(), none, None), 4),
        ("tx_bytes_300", sealed_from(start.clone(), limits(300, 0), None), 4),
        ("block_bytes_300", sealed_from(start.clone(), limits(0, 300), None), 3),
        ("block_bytes_199", sealed_from(start, limits(0, 199), None), 2),
        ("closed_by_refusals", closed.clone(), 0),
        ("after_closed_by_refusals", sealed_from(closed.begin(), none, None), 4),
    ];
    for (name, sealed, items) in cases {
        assert_eq!(sealed.cursor.items, items, "{name}: {sealed:?}");
        vector.add(format!("sealed.{name}"), alloy_rlp::encode(RecordBody::Sealed(sealed)));
    }
    vector.expect_frozen_in("windows.json");
}

#[test]
fn the_inputs_reach_every_kind_of_item() {
    let log = Log::new();
    // All but the bundle with the guarantee that this version does not give.
    assert_eq!(log.blocks[0].assembly.taken.len(), entries().len() - 1);
    assert_eq!(log.blocks[0].assembly.left_out.len(), 1);
    assert_eq!(log.blocks[0].assembly.slices.len(), 3);
    assert_eq!(log.blocks[1].assembly.taken.len(), 2);
    assert_ne!(genesis().network_id(), NetworkId::ZERO);
    assert_ne!(log.batches[0].digest(), BatchDigest::ZERO);
}
