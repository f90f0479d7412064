//! One suite for both backends, and what only one of them can do: losing unsynced writes, torn logs, locks.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{B256, Bytes, keccak256};
use lockstep_core::batch::{Batch, BatchPosition, CheckedBatch};
use lockstep_core::certificate::{Certificate, CommitSignature, Vote, VoteType};
use lockstep_core::cut::{Cut, LanePosition, LaneStep};
use lockstep_core::encoding::Canonical;
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::header::Header;
use lockstep_core::params::{ChainKind, Genesis, NetworkParams};
use lockstep_core::signing::SigningKey;
use lockstep_core::state::State;
use lockstep_core::types::{
    BatchDigest, BlockHash, ChainId, Height, Incarnation, NetworkId, Round, Sequence, UnixMillis,
};
use lockstep_core::validator_set::{Validator, ValidatorSet};
use proptest::prelude::*;

use super::log::rlp_bytes;
use super::schema::{KEY_END, META_SCHEMA, META_STATE, SCHEMA};
use super::*;

const CHAIN: ChainId = ChainId(77);

/// A directory or a memory that a log can be opened on, again and again.
struct Home {
    memory: Option<Arc<MemoryStore>>,
    directory: tempfile::TempDir,
}

impl Home {
    fn memory() -> Self {
        Self { memory: Some(Arc::default()), directory: tempfile::tempdir().unwrap() }
    }

    fn rocks() -> Self {
        Self { memory: None, directory: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Arc<dyn Store> {
        match &self.memory {
            Some(memory) => Arc::clone(memory) as Arc<dyn Store>,
            None => Arc::new(RocksStore::open(self.directory.path()).unwrap()),
        }
    }

    fn open(&self) -> LogStore {
        self.try_open(&genesis("test")).unwrap()
    }

    fn try_open(&self, genesis: &Genesis) -> Result<LogStore, OpenError> {
        LogStore::on(self.store(), genesis)
    }

    /// Changes what is stored behind the log's back.
    fn change(&self, change: impl FnOnce(&dyn Store, &mut WriteBatch)) {
        let store = self.store();
        let mut write = WriteBatch::new();
        change(store.as_ref(), &mut write);
        store.write(&write, Durability::Synced).unwrap();
    }
}

/// Runs a test on both backends.
fn on_both(test: impl Fn(Home)) {
    test(Home::memory());
    test(Home::rocks());
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes([number; 32]).unwrap()
}

fn validators(powers: &[(u8, u64)]) -> ValidatorSet {
    let mut validators: Vec<Validator> = powers
        .iter()
        .map(|(number, power)| Validator {
            address: key(*number).address(),
            public_key: key(*number).public_key(),
            power: *power,
            network_address: format!("/ip4/127.0.0.1/tcp/{number}"),
        })
        .collect();
    validators.sort_by_key(|validator| validator.address);
    ValidatorSet::new(validators).unwrap()
}

fn genesis(name: &str) -> Genesis {
    Genesis {
        name: name.to_owned(),
        timestamp: UnixMillis(1_000),
        params: NetworkParams::default(),
        validators: validators(&[(1, 1), (2, 1), (3, 1)]),
        chains: Vec::new(),
    }
}

fn network() -> NetworkId {
    genesis("test").network_id()
}

/// An entry of opaque bytes that no other call returns.
fn entry(content: u64) -> Entry {
    let bytes = Bytes::from(content.to_be_bytes().to_vec());
    let body = Body::Transaction(Transaction { chain: CHAIN, kind: ChainKind::Opaque, bytes });
    Entry::new(body, UnixMillis(2_000), None).unwrap()
}

fn transaction_hash(content: u64) -> B256 {
    keccak256(content.to_be_bytes())
}

fn batch(
    owner: u8,
    (incarnation, sequence): (u64, u64),
    parent: BatchDigest,
    contents: &[u64],
) -> CheckedBatch {
    let entries = contents.iter().map(|content| entry(*content)).collect();
    let at = (Incarnation(incarnation), Sequence(sequence));
    Batch::sign(network(), at, parent, entries, &key(owner)).unwrap().check().unwrap()
}

/// Batches `first..first + contents.len()` of a run, one for each list of contents.
fn run(owner: u8, incarnation: u64, contents: &[&[u64]]) -> Vec<CheckedBatch> {
    let mut parent = BatchDigest::ZERO;
    let mut batches = Vec::new();
    for (sequence, contents) in (0u64..).zip(contents) {
        let batch = batch(owner, (incarnation, sequence), parent, contents);
        parent = batch.digest();
        batches.push(batch);
    }
    batches
}

fn lane(batch: &CheckedBatch) -> LanePosition {
    let BatchPosition { owner, incarnation, sequence } = batch.position();
    LanePosition { owner, incarnation, sequence, digest: batch.digest() }
}

/// The next block after a state, whose cut ends with these batches and which takes all their entries.
fn commit_of(before: &State, tips: &[&CheckedBatch], taken: &[&CheckedBatch]) -> Commit {
    commit_at(before, before.timestamp.0 + 250, tips, taken)
}

fn commit_at(
    before: &State,
    timestamp: u64,
    tips: &[&CheckedBatch],
    taken: &[&CheckedBatch],
) -> Commit {
    let mut cut = Cut { lanes: before.committed.lanes.clone() };
    for tip in tips {
        let lane_of = |lane: &&mut LanePosition| lane.owner == tip.position().owner;
        *cut.lanes.iter_mut().find(lane_of).unwrap() = lane(tip);
    }
    let mut state = before.clone();
    state.height = before.height.next();
    state.timestamp = UnixMillis(timestamp);
    state.committed.lanes.clone_from(&cut.lanes);
    let mut commit = Commit {
        header: header_of(before, &state, &cut),
        certificate: Certificate {
            height: state.height,
            round: Round(0),
            block: BlockHash::ZERO,
            signatures: Vec::new(),
        },
        cut,
        taken: Vec::new(),
        lookups: Vec::new(),
        records: BTreeSet::new(),
        state,
        batches: Vec::new(),
    };
    for batch in taken {
        for (place, entry) in (0u32..).zip(batch.entries()) {
            let index = u32::try_from(commit.taken.len()).unwrap();
            commit.taken.push(TakenEntry { batch: batch.position(), entry: place });
            Lookup::of_entry(index, entry, &mut commit.lookups);
        }
    }
    seal(&mut commit, &[1, 2, 3]);
    commit
}

fn header_of(before: &State, state: &State, cut: &Cut) -> Header {
    Header {
        network_id: state.network_id,
        height: state.height,
        round: Round(0),
        parent: before.head,
        timestamp_ms: state.timestamp,
        proposer: key(1).address(),
        validators_hash: before.committed.validators.hash(),
        next_validators_hash: before.committed.next_validators.hash(),
        set_since: Height(1),
        cut_hash: cut.hash(),
        slices_root: B256::ZERO,
        state_hash: state.committed.hash(),
    }
}

/// Makes state and certificate those of the header.
fn seal(commit: &mut Commit, signers: &[u8]) {
    let block = commit.header.hash();
    commit.state.head = block;
    commit.certificate.block = block;
    commit.certificate.signatures = signatures(commit.header.height, block, signers);
}

fn signatures(height: Height, block: BlockHash, signers: &[u8]) -> Vec<CommitSignature> {
    let vote = Vote { height, round: Round(0), vote_type: VoteType::Precommit, block: Some(block) };
    let digest = vote.digest(network());
    let mut signatures: Vec<CommitSignature> = signers
        .iter()
        .map(|signer| CommitSignature {
            validator: key(*signer).address(),
            signature: key(*signer).sign(digest),
        })
        .collect();
    signatures.sort_by_key(|signature| signature.validator);
    signatures
}

/// Decides `heights` blocks; each has one batch of lane 1 with two entries: 10 h and 10 h + 1.
fn decide(log: &LogStore, heights: u64) -> Vec<CheckedBatch> {
    let mut batches: Vec<CheckedBatch> = Vec::new();
    for height in log.head().0 + 1..=log.head().0 + heights {
        let parent = batches.last().map_or(BatchDigest::ZERO, CheckedBatch::digest);
        let sequence = batches.len() as u64;
        let batch = batch(1, (1_000, sequence), parent, &[10 * height, 10 * height + 1]);
        assert_eq!(log.put_batches(std::slice::from_ref(&batch)).unwrap(), []);
        log.commit(commit_of(&log.state(), &[&batch], &[&batch])).unwrap();
        batches.push(batch);
    }
    batches
}

fn located(height: u64, index: u32) -> Option<Located> {
    Some(Located { height: Height(height), index })
}

#[test]
fn a_new_store_holds_the_genesis() {
    on_both(|home| {
        for _ in 0..2 {
            let log = home.open();
            assert_eq!(*log.state(), State::genesis(&genesis("test")));
            assert_eq!((log.head(), log.network()), (Height(0), network()));
            assert_eq!(log.block(Height(0)).unwrap(), None);
            assert_eq!(log.validators(Height(0)).unwrap(), None);
            for height in [1, 2] {
                let set = log.validators(Height(height)).unwrap().unwrap();
                assert_eq!(set, genesis("test").validators);
            }
            assert_eq!(log.validators(Height(3)).unwrap(), None);
        }
    });
}

#[test]
fn a_commit_is_whole_after_opening_again() {
    on_both(|home| {
        let first = home.open();
        let lanes = [run(1, 1_000, &[&[1, 2], &[3]]), run(2, 1_001, &[&[4]])];
        for lane in &lanes {
            first.put_batches(lane).unwrap();
        }
        let taken: Vec<&CheckedBatch> = lanes.iter().flatten().collect();
        let commit = commit_of(&first.state(), &[&lanes[0][1], &lanes[1][0]], &taken);
        first.commit(commit.clone()).unwrap();
        for log in [&first, &reopened(&home)] {
            assert_eq!(*log.state(), commit.state);
            let block = StoredBlock {
                header: commit.header.clone(),
                cut: commit.cut.clone(),
                certificate: commit.certificate.clone(),
            };
            assert_eq!(log.block(Height(1)).unwrap(), Some(block.clone()));
            assert_eq!(log.blocks(Height(0)..=Height(9)).unwrap(), vec![block]);
            assert_eq!(log.taken(Height(1)).unwrap(), Some(commit.taken.clone()));
            let contents: Vec<Entry> = (1..=4).map(entry).collect();
            assert_eq!(log.entries(Height(1)).unwrap(), Some(contents));
            assert_eq!(log.entry_at(Height(1), 2).unwrap(), Some(entry(3)));
            assert_eq!(log.entry_at(Height(1), 4).unwrap(), None);
            assert_eq!(log.entry_at(Height(2), 0).unwrap(), None);
            assert_eq!(log.height_of(commit.header.hash()).unwrap(), Some(Height(1)));
            assert_eq!(log.height_of(BlockHash::ZERO).unwrap(), None);
            assert!(log.bytes_on_disk().unwrap() > 0);
        }
    });
}

#[test]
fn heights_of_records_are_found_by_chain_and_kind_from_either_end() {
    on_both(|home| {
        let other = ChainId(78);
        let (sealed, limits) = ((CHAIN, RecordKind::Sealed), (CHAIN, RecordKind::Limits));
        let log = home.open();
        for height in 1u64..=6 {
            let mut commit = commit_of(&log.state(), &[], &[]);
            if height != 4 {
                commit.records.insert(sealed);
            }
            if height == 2 {
                commit.records.extend([limits, (other, RecordKind::Sealed)]);
            }
            log.commit(commit).unwrap();
        }
        for log in [&log, &reopened(&home)] {
            let before = |of, before, count| {
                let heights = log.record_heights(of, Height(before), count).unwrap();
                heights.into_iter().map(|height| height.0).collect::<Vec<_>>()
            };
            assert_eq!(before(sealed, 7, 9), [6, 5, 3, 2, 1]);
            assert_eq!(before(sealed, u64::MAX, 2), [6, 5]);
            assert_eq!(before(sealed, 5, 2), [3, 2]);
            assert_eq!(before(sealed, 1, 9), []);
            assert_eq!(before(sealed, 7, 0), []);
            assert_eq!(before(limits, 7, 9), [2]);
            assert_eq!(before((CHAIN, RecordKind::Prepared), 7, 9), []);
            assert_eq!(before((other, RecordKind::Sealed), 7, 9), [2]);
            let from = |from, count| {
                let heights = log.record_heights_from(sealed, Height(from), count).unwrap();
                heights.into_iter().map(|height| height.0).collect::<Vec<_>>()
            };
            assert_eq!(from(0, 9), [1, 2, 3, 5, 6]);
            assert_eq!(from(3, 2), [3, 5]);
            assert_eq!(from(7, 9), []);
        }
    });
}

#[test]
fn reads_of_many_heights_of_records_are_bounded() {
    on_both(|home| {
        let of = (CHAIN, RecordKind::Sealed);
        let mut write = WriteBatch::new();
        for height in 1..=2 * RECORD_HEIGHTS_READ_MAX as u64 {
            write.put(Space::Record, schema::record(of.0, of.1, Height(height)), Bytes::new());
        }
        let log = home.open();
        log.write(&write, Durability::Synced).unwrap();
        let heights = log.record_heights(of, Height(u64::MAX), usize::MAX).unwrap();
        assert_eq!(heights.len(), RECORD_HEIGHTS_READ_MAX);
        assert_eq!(heights[0], Height(2 * RECORD_HEIGHTS_READ_MAX as u64));
        let heights = log.record_heights_from(of, Height(1), usize::MAX).unwrap();
        assert_eq!((heights.len(), heights[0]), (RECORD_HEIGHTS_READ_MAX, Height(1)));
    });
}

#[test]
fn a_height_that_was_not_written_has_no_records() {
    let memory = Arc::new(MemoryStore::new());
    let log = LogStore::on(Arc::clone(&memory) as Arc<dyn Store>, &genesis("test")).unwrap();
    let of = (CHAIN, RecordKind::Sealed);
    let mut commit = commit_of(&log.state(), &[], &[]);
    commit.records.insert(of);
    memory.fail_writes_after(0);
    assert!(log.commit(commit).is_err());
    let log = LogStore::on(Arc::new(memory.crash(0)), &genesis("test")).unwrap();
    assert_eq!((log.head(), log.record_heights(of, Height(9), 9).unwrap()), (Height(0), vec![]));
}

/// A log as the next process finds it. On disk that is a copy, since the first one is still open.
fn reopened(home: &Home) -> LogStore {
    match &home.memory {
        Some(memory) => LogStore::on(Arc::new(memory.crash(0)), &genesis("test")).unwrap(),
        None => {
            let copy = tempfile::tempdir().unwrap().keep();
            copy_directory(home.directory.path(), &copy, None);
            LogStore::open(&copy, &genesis("test")).unwrap()
        }
    }
}

/// Copies a database, and cuts the newest write-ahead log to a length.
fn copy_directory(from: &Path, to: &Path, log_bytes: Option<u64>) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "LOCK" {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    if let Some(bytes) = log_bytes {
        let log = newest_log(to);
        std::fs::OpenOptions::new().write(true).open(log).unwrap().set_len(bytes).unwrap();
    }
}

fn newest_log(directory: &Path) -> std::path::PathBuf {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max()
        .unwrap()
}

#[test]
fn transactions_and_entries_are_found_in_the_tail_and_in_segments() {
    on_both(|home| {
        let check = |log: &LogStore, heights: u64| {
            for height in 1..=heights {
                for index in 0..2 {
                    let content = 10 * height + index;
                    let expected = located(height, u32::try_from(index).unwrap());
                    let hash = transaction_hash(content);
                    assert_eq!(log.find_transaction(CHAIN, hash).unwrap(), expected);
                    assert_eq!(log.find_transaction(ChainId(78), hash).unwrap(), None);
                    assert_eq!(log.find_entry(entry(content).id()).unwrap(), expected);
                }
                let hash = log.block(Height(height)).unwrap().unwrap().header.hash();
                assert_eq!(log.height_of(hash).unwrap(), Some(Height(height)));
            }
            assert_eq!(log.find_transaction(CHAIN, transaction_hash(5)).unwrap(), None);
            assert_eq!(log.find_entry(entry(5).id()).unwrap(), None);
        };
        let log = home.open();
        let mut last = decide(&log, 5).pop().unwrap();
        check(&log, 5);
        log.merge_tail().unwrap();
        check(&log, 5);
        for height in 6..=8 {
            let sequence = height - 1;
            let next = batch(1, (1_000, sequence), last.digest(), &[10 * height, 10 * height + 1]);
            log.put_batches(std::slice::from_ref(&next)).unwrap();
            log.commit(commit_of(&log.state(), &[&next], &[&next])).unwrap();
            last = next;
        }
        check(&log, 8);
        log.merge_tail().unwrap();
        log.merge_tail().unwrap();
        check(&log, 8);
        drop(log);
        let log = home.open();
        check(&log, 8);
        assert!(!log.maintain(Height(8)).unwrap().has_segment);
    });
}

#[test]
fn an_entry_ordered_again_is_found_at_its_newest_place() {
    on_both(|home| {
        let log = home.open();
        let batches = run(1, 1_000, &[&[7], &[7], &[7]]);
        log.put_batches(&batches).unwrap();
        for (height, batch) in (1..).zip(&batches) {
            log.commit(commit_of(&log.state(), &[batch], &[batch])).unwrap();
            if height == 2 {
                log.merge_tail().unwrap();
                assert_eq!(log.find_entry(entry(7).id()).unwrap(), located(2, 0));
            }
        }
        assert_eq!(log.find_transaction(CHAIN, transaction_hash(7)).unwrap(), located(3, 0));
    });
}

#[test]
fn a_long_tail_becomes_a_segment_by_itself() {
    let log = Home::memory().open();
    let heights = index::SEGMENT_HEIGHTS as u64;
    for _ in 1..heights {
        log.commit(commit_of(&log.state(), &[], &[])).unwrap();
    }
    assert!(!log.maintain(Height(1)).unwrap().has_segment);
    log.commit(commit_of(&log.state(), &[], &[])).unwrap();
    assert!(log.maintain(Height(1)).unwrap().has_segment);
    assert!(!log.maintain(Height(1)).unwrap().has_segment);
    for height in [1, heights / 2, heights] {
        let hash = log.block(Height(height)).unwrap().unwrap().header.hash();
        assert_eq!(log.height_of(hash).unwrap(), Some(Height(height)));
    }
    let lookups = log.store.scan(&Scan::new(Space::Lookup, [], KEY_END, 1)).unwrap();
    assert_eq!(lookups, vec![]);
}

#[test]
fn batches_of_a_step_are_read_up_to_the_first_missing_one() {
    on_both(|home| {
        let log = home.open();
        let batches = run(1, 5, &[&[1], &[2], &[3], &[4]]);
        let stored: Vec<CheckedBatch> =
            [0, 1, 3].iter().map(|place: &usize| batches[*place].clone()).collect();
        assert_eq!(log.put_batches(&stored).unwrap(), []);
        assert_eq!(log.put_batches(&stored).unwrap(), []);
        let raw = |places: std::ops::Range<usize>| -> Vec<Bytes> {
            batches[places].iter().map(|batch| batch.raw().clone()).collect()
        };
        let step = |first: u64, last: u64| LaneStep {
            owner: key(1).address(),
            incarnation: Incarnation(5),
            first: Sequence(first),
            last: Sequence(last),
            parent: BatchDigest::ZERO,
            tip: batches[last as usize].digest(),
        };
        assert_eq!(log.batches(&step(0, 1)).unwrap(), raw(0..2));
        assert_eq!(log.batches(&step(1, 1)).unwrap(), raw(1..2));
        assert_eq!(log.batches(&step(0, 3)).unwrap(), raw(0..2));
        assert_eq!(log.batches(&step(2, 3)).unwrap(), raw(0..0));
        let position = batches[3].position();
        assert_eq!(log.batch(&position).unwrap(), Some(batches[3].raw().clone()));
        let digest = batches[3].digest();
        let raw = log.batch_with_digest(&position, digest).unwrap();
        assert_eq!(raw, Some(batches[3].raw().clone()));
        assert_eq!(log.batch_with_digest(&position, BatchDigest::ZERO).unwrap(), None);
        assert_eq!(log.batch(&batches[2].position()).unwrap(), None);
    });
}

#[test]
fn after_a_restart_the_undecided_batches_of_all_later_runs_are_read_within_a_bound() {
    on_both(|home| {
        let (old, new) = (run(1, 5, &[&[1], &[2], &[3]]), run(1, 300, &[&[4], &[5]]));
        let others = run(2, 7, &[&[6]]);
        {
            let log = home.open();
            for batches in [&old, &new, &others] {
                log.put_batches(batches).unwrap();
            }
        }
        let log = home.open();
        let expected: Vec<Bytes> =
            old[1..].iter().chain(&new).map(|batch| batch.raw().clone()).collect();
        assert_eq!(log.batches_after(&lane(&old[0]), usize::MAX).unwrap(), expected);
        let two = expected[0].len() + expected[1].len();
        assert_eq!(log.batches_after(&lane(&old[0]), two).unwrap(), expected[..2]);
        assert_eq!(log.batches_after(&lane(&old[0]), 0).unwrap(), expected[..1]);
        let start = LanePosition::start(key(1).address());
        assert_eq!(log.batches_after(&start, usize::MAX).unwrap().len(), 5);
        assert_eq!(log.batches_after(&lane(&new[1]), usize::MAX).unwrap(), Vec::<Bytes>::new());
    });
}

#[test]
fn a_second_batch_at_a_position_is_kept_aside_and_wins_if_it_is_decided() {
    on_both(|home| {
        let mine = run(1, 5, &[&[1], &[2], &[3]]);
        let theirs: Vec<CheckedBatch> = {
            let second = batch(1, (5, 1), mine[0].digest(), &[20]);
            let third = batch(1, (5, 2), second.digest(), &[30]);
            vec![second, third]
        };
        {
            let log = home.open();
            log.put_batches(&mine).unwrap();
            let asides: Vec<_> = theirs.iter().map(|b| (b.position(), b.digest())).collect();
            assert_eq!(log.put_batches(&theirs).unwrap(), asides);
            assert_eq!(log.put_batches(&mine).unwrap(), []);
        }
        let log = home.open();
        let position = theirs[0].position();
        assert_eq!(log.batch(&position).unwrap(), Some(mine[1].raw().clone()));
        let aside = log.batch_with_digest(&position, theirs[0].digest()).unwrap();
        assert_eq!(aside, Some(theirs[0].raw().clone()));
        let commit = commit_of(&log.state(), &[&theirs[1]], &[&mine[0], &theirs[0], &theirs[1]]);
        let step = commit.cut.steps(&log.state().committed.lanes).unwrap().pop().unwrap();
        let expected = [&mine[0], &theirs[0], &theirs[1]].map(|batch| batch.raw().clone());
        assert_eq!(log.batches(&step).unwrap(), expected);
        log.commit(commit).unwrap();

        assert_eq!(log.batch(&position).unwrap(), Some(theirs[0].raw().clone()));
        let contents: Vec<Entry> = [1, 20, 30].map(entry).to_vec();
        assert_eq!(log.entries(Height(1)).unwrap(), Some(contents));
        assert_eq!(log.store.scan(&Scan::new(Space::Conflict, [], KEY_END, 9)).unwrap(), vec![]);
        assert_eq!(log.memory().conflicts.len(), 0);
    });
}

#[test]
fn a_decided_batch_that_comes_with_its_commit_wins_as_well() {
    on_both(|home| {
        let log = home.open();
        let (mine, theirs) = (run(1, 5, &[&[1]]), run(1, 5, &[&[2]]));
        log.put_batches(&mine).unwrap();
        let mut commit = commit_of(&log.state(), &[&theirs[0]], &[&theirs[0]]);
        // Also after a restart, when nothing is remembered of what the position holds.
        let missing = CommitError::BatchMissing { height: Height(1), owner: key(1).address() };
        assert_eq!(log.commit(commit.clone()), Err(missing.clone()));
        drop(log);
        let log = home.open();
        assert_eq!(log.commit(commit.clone()), Err(missing));
        commit.batches = theirs;
        log.commit(commit).unwrap();
        assert_eq!(log.entries(Height(1)).unwrap(), Some(vec![entry(2)]));
        assert_eq!(log.store.scan(&Scan::new(Space::Conflict, [], KEY_END, 9)).unwrap(), vec![]);
    });
}

#[test]
fn batches_may_come_with_their_commit_and_none_may_be_missing() {
    on_both(|home| {
        let batches = run(1, 5, &[&[1], &[2], &[3], &[4]]);
        let missing = CommitError::BatchMissing { height: Height(1), owner: key(1).address() };
        let log = home.open();
        log.put_batches(&batches[1..2]).unwrap();
        let mut commit = commit_of(&log.state(), &[&batches[2]], &[&batches[0], &batches[2]]);
        commit.batches = vec![batches[2].clone()];
        assert_eq!(log.commit(commit.clone()), Err(missing));
        commit.batches = vec![batches[0].clone(), batches[2].clone()];
        log.commit(commit).unwrap();
        assert_eq!(log.entries(Height(1)).unwrap(), Some(vec![entry(1), entry(3)]));
        assert!(log.memory().links.is_empty());
        // The next one is stored by one process and decided by another.
        log.put_batches(&batches[3..]).unwrap();
        assert_eq!(log.memory().links.len(), 1);
        drop(log);
        let log = home.open();
        log.commit(commit_of(&log.state(), &[&batches[3]], &[&batches[3]])).unwrap();
        assert_eq!(log.entries(Height(2)).unwrap(), Some(vec![entry(4)]));
    });
}

#[test]
fn runs_that_were_passed_over_are_removed_later_and_decided_ones_stay() {
    on_both(|home| {
        let log = home.open();
        let (old, middle, new) =
            (run(1, 5, &[&[1], &[2], &[3]]), run(1, 6, &[&[4]]), run(1, 7, &[&[5], &[6]]));
        for batches in [&old, &middle, &new] {
            log.put_batches(batches).unwrap();
        }
        log.commit(commit_of(&log.state(), &[&old[0]], &[&old[0]])).unwrap();
        log.commit(commit_of(&log.state(), &[&new[0]], &[&new[0]])).unwrap();
        assert_eq!(log.maintain(Height(2)).unwrap().ranges_pruned, 0);
        let is_there = |batch: &CheckedBatch| log.batch(&batch.position()).unwrap().is_some();
        assert!(old.iter().chain(&middle).chain(&new).all(is_there));
        // What the lane jumped over is read by who owns it, as long as it is kept.
        let passed = |owner| log.batches_passed(owner, usize::MAX).unwrap();
        let jumped = old[1..].iter().chain(&middle).map(|batch| batch.raw().clone());
        assert!(passed(key(1).address()).into_iter().eq(jumped));
        assert!(passed(key(2).address()).is_empty());
        assert_eq!(log.batches_passed(key(1).address(), 1).unwrap().len(), 1);
        assert_eq!(log.maintain(Height(3)).unwrap().ranges_pruned, 1);
        assert_eq!(log.maintain(Height(3)).unwrap().ranges_pruned, 0);
        assert!([&old[0], &new[0], &new[1]].into_iter().all(is_there));
        assert!(![&old[1], &old[2], &middle[0]].into_iter().any(is_there));
        assert!(passed(key(1).address()).is_empty());
    });
}

#[test]
fn undecided_payloads_are_read_in_order_of_round_and_go_with_their_height() {
    on_both(|home| {
        let log = home.open();
        let state = log.state();
        let payload = |timestamp, round, valid_round: Option<u32>| {
            let Commit { header, cut, .. } = commit_at(&state, timestamp, &[], &[]);
            Undecided { round: Round(round), valid_round: valid_round.map(Round), header, cut }
        };
        let payloads =
            [payload(1_100, 0, None), payload(1_200, 1, None), payload(1_100, 300, Some(0))];
        let batches = run(2, 9, &[&[1]]);
        for payload in payloads.iter().rev() {
            log.put_undecided(payload, &batches).unwrap();
        }
        drop(log);
        let log = home.open();
        assert_eq!(log.undecided(Height(1)).unwrap(), payloads);
        assert_eq!(log.undecided(Height(2)).unwrap(), vec![]);
        assert!(log.batch(&batches[0].position()).unwrap().is_some());
        log.commit(commit_of(&log.state(), &[], &[])).unwrap();
        assert_eq!(log.undecided(Height(1)).unwrap(), vec![]);
    });
}

#[test]
fn undecided_payloads_that_are_written_late_go_with_the_next_height_or_at_the_next_open() {
    on_both(|home| {
        let log = home.open();
        let late = |state: &State, round| {
            let Commit { header, cut, .. } = commit_at(state, 1_100, &[], &[]);
            Undecided { round: Round(round), valid_round: None, header, cut }
        };
        let before = log.state();
        log.commit(commit_of(&log.state(), &[], &[])).unwrap();
        log.put_undecided(&late(&before, 1), &[]).unwrap();
        assert_eq!(log.undecided(Height(1)).unwrap().len(), 1);
        let before = log.state();
        log.commit(commit_of(&log.state(), &[], &[])).unwrap();
        assert_eq!(log.undecided(Height(1)).unwrap(), vec![]);
        for round in 0..300 {
            log.put_undecided(&late(&before, round), &[]).unwrap();
        }
        drop(log);
        assert_eq!(home.open().undecided(Height(2)).unwrap(), vec![]);
    });
}

/// A store that counts the ranges that are removed.
#[derive(Debug, Default)]
struct Counting {
    store: MemoryStore,
    ranges: std::sync::atomic::AtomicUsize,
}

impl Store for Counting {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(space, key)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Item>, StoreError> {
        self.store.scan(scan)
    }

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<(), StoreError> {
        let is_range = |change: &&Change| matches!(change, Change::DeleteRange(..));
        let ranges = batch.changes().iter().filter(is_range).count();
        self.ranges.fetch_add(ranges, std::sync::atomic::Ordering::Relaxed);
        self.store.write(batch, durability)
    }

    fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        self.store.bytes_on_disk()
    }
}

/// RocksDB reads all range tombstones of a memtable anew after each further one.
#[test]
fn commits_remove_no_ranges() {
    let store = Arc::new(Counting::default());
    let log = LogStore::on(store.clone(), &genesis("test")).unwrap();
    for _ in 0..50 {
        let Commit { header, cut, .. } = commit_at(&log.state(), 1_100, &[], &[]);
        let payload = Undecided { round: Round(0), valid_round: None, header, cut };
        log.put_undecided(&payload, &[]).unwrap();
        log.commit(commit_of(&log.state(), &[], &[])).unwrap();
    }
    assert_eq!(store.ranges.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn an_incarnation_is_never_given_twice() {
    on_both(|home| {
        let take = |decided, now| {
            home.open().next_incarnation(Incarnation(decided), UnixMillis(now)).unwrap().0
        };
        assert_eq!(take(0, 1_000), 1_000);
        assert_eq!(take(0, 1_000), 1_001);
        assert_eq!(take(0, 5), 1_002);
        assert_eq!(take(5_000, 5), 5_001);
        assert_eq!(take(0, 9_000), 9_000);
    });
}

#[test]
fn committing_the_newest_block_again_does_nothing() {
    on_both(|home| {
        let log = home.open();
        let commit = commit_of(&log.state(), &[], &[]);
        log.commit(commit.clone()).unwrap();
        log.commit(commit).unwrap();
        assert_eq!(log.head(), Height(1));
        let before = State::genesis(&genesis("test"));
        let other = commit_at(&before, 5_000, &[], &[]);
        assert!(matches!(log.commit(other), Err(CommitError::OtherBlock { .. })));
    });
}

#[test]
fn what_does_not_follow_or_belong_together_is_not_committed() {
    on_both(|home| {
        let log = home.open();
        decide(&log, 2);
        let before = log.state();
        let good = commit_of(&before, &[], &[]);
        let check = |change: &dyn Fn(&mut Commit), expected: &str| {
            let mut commit = good.clone();
            change(&mut commit);
            let error = log.commit(commit).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} / {expected}");
            assert_eq!(log.head(), Height(2));
        };
        check(&|c| c.header.height = Height(4), "commit of height 4, the head is 2");
        check(&|c| c.header.height = Height(1), "commit of height 1, the head is 2");
        check(&|c| c.header.parent = BlockHash::ZERO, "has parent");
        check(&|c| c.certificate.height = Height(2), "its certificate is not");
        check(&|c| c.certificate.block = BlockHash::ZERO, "its certificate is not");
        check(&|c| c.cut = Cut { lanes: Vec::new() }, "its cut is not");
        check(&|c| c.state.height = Height(9), "its state is not");
        check(&|c| c.state.head = BlockHash::ZERO, "its state is not");
        check(&|c| c.state.timestamp = UnixMillis(1), "its state is not");
        check(&|c| c.state.committed.set_since = Height(9), "its state is not");
        check(&|c| c.state.network_id = NetworkId::ZERO, "its state is not");
        let taken = TakenEntry { batch: before.committed.lanes[0].batch(), entry: 1 << 16 };
        check(&|c| c.taken = vec![taken], "its list of taken entries is not");
        log.commit(good.clone()).unwrap();
    });
}

#[test]
fn a_cut_that_goes_back_is_not_committed() {
    let log = Home::memory().open();
    let batches = decide(&log, 2);
    let commit = commit_of(&log.state(), &[&batches[0]], &[]);
    assert!(matches!(log.commit(commit), Err(CommitError::Cut { .. })));
}

#[test]
fn a_fuller_certificate_replaces_the_first_and_a_lesser_one_does_not() {
    on_both(|home| {
        let log = home.open();
        let commit = commit_of(&log.state(), &[], &[]);
        let (height, block) = (Height(1), commit.header.hash());
        log.commit(commit).unwrap();
        let certificate = |signers: &[u8]| Certificate {
            height,
            round: Round(0),
            block,
            signatures: signatures(height, block, signers),
        };
        let stored = |log: &LogStore| log.block(height).unwrap().unwrap().certificate;
        log.finalize(certificate(&[1, 2]), &[]).unwrap();
        assert_eq!(stored(&log), certificate(&[1, 2, 3]));
        log.finalize(certificate(&[1, 2, 3, 4]), &[]).unwrap();
        assert_eq!(stored(&log), certificate(&[1, 2, 3, 4]));
        let evidence = [Bytes::from_static(b"two votes"), Bytes::from_static(b"more")];
        log.finalize(certificate(&[1, 2]), &evidence).unwrap();
        let other = Certificate { block: BlockHash::ZERO, ..certificate(&[1, 2, 3, 4, 5]) };
        assert!(matches!(log.finalize(other, &[]), Err(CommitError::Mismatch { .. })));
        let above = Certificate { height: Height(2), ..certificate(&[1]) };
        assert!(matches!(log.finalize(above, &[]), Err(CommitError::Mismatch { .. })));
        drop(log);
        let log = home.open();
        assert_eq!(stored(&log), certificate(&[1, 2, 3, 4]));
        let expected = evidence.map(|evidence| (height, evidence));
        assert_eq!(log.evidence(height..=height).unwrap(), expected, "and none is lost");
    });
}

#[test]
fn a_set_that_was_changed_at_h_decides_h_and_two() {
    on_both(|home| {
        let log = home.open();
        let changed = validators(&[(1, 1), (2, 1), (3, 1), (4, 5)]);
        let before = log.state();
        let mut commit = commit_of(&before, &[], &[]);
        commit.state.committed.next_validators = changed.clone();
        commit.header.state_hash = commit.state.committed.hash();
        seal(&mut commit, &[1, 2, 3]);
        log.commit(commit).unwrap();
        drop(log);
        let log = home.open();
        let set = |height| log.validators(Height(height)).unwrap();
        assert_eq!(set(1), Some(genesis("test").validators));
        assert_eq!(set(2), Some(genesis("test").validators));
        assert_eq!(set(3), Some(changed));
        assert_eq!(set(4), None);
    });
}

#[test]
fn reads_of_many_blocks_are_bounded() {
    let log = Home::memory().open();
    for _ in 0..BLOCKS_READ_MAX + 5 {
        log.commit(commit_of(&log.state(), &[], &[])).unwrap();
    }
    let blocks = log.blocks(Height(2)..=Height(u64::MAX)).unwrap();
    assert_eq!(blocks.len() as u64, BLOCKS_READ_MAX);
    assert_eq!(blocks[0].header.height, Height(2));
    assert_eq!(log.blocks(Height(9)..=Height(8)).unwrap(), vec![]);
}

#[test]
fn another_schema_is_refused_with_what_to_do() {
    on_both(|home| {
        drop(home.open());
        for (got, hint) in [(SCHEMA - 1, "sync again"), (SCHEMA + 1, "newer program")] {
            home.change(|_, write| write.put(Space::Meta, META_SCHEMA, got.to_be_bytes().to_vec()));
            let error = home.try_open(&genesis("test")).unwrap_err();
            assert_eq!(error, OpenError::Schema { expected: SCHEMA, got });
            let text = error.to_string();
            assert!(
                text.contains(&format!("version {got}"))
                    && text.contains(&format!("version {SCHEMA}")),
                "{text}"
            );
            assert!(text.contains(hint), "{text}");
        }
    });
}

#[test]
fn another_network_and_a_foreign_database_are_refused() {
    on_both(|home| {
        drop(home.open());
        let (expected, got) = (genesis("other").network_id(), network());
        let error = home.try_open(&genesis("other")).unwrap_err();
        assert_eq!(error, OpenError::Network { expected, got });
    });
    on_both(|home| {
        home.change(|_, write| write.put(Space::Block, *b"somebody's", Bytes::new()));
        assert_eq!(home.try_open(&genesis("test")).unwrap_err(), OpenError::NotAStore);
    });
}

#[test]
fn whatever_is_changed_or_missing_is_found_at_opening() {
    let broken = |change: &dyn Fn(&dyn Store, &mut WriteBatch), expected: &str| {
        on_both(|home| {
            let log = home.open();
            decide(&log, 4);
            drop(log);
            home.change(change);
            let error = home.try_open(&genesis("test")).unwrap_err();
            assert!(matches!(error, OpenError::Broken(_) | OpenError::Store(_)), "{error}");
            let text = error.to_string();
            assert!(text.contains(expected), "{text} / {expected}");
        });
    };
    let at = |height| schema::height(Height(height));
    let read = |store: &dyn Store, height| -> StoredBlock {
        let value = store.get(Space::Block, &at(height)).unwrap().unwrap();
        log::from_rlp("block", &at(height), &value).unwrap()
    };
    let rewrite =
        |store: &dyn Store, write: &mut WriteBatch, height, edit: &dyn Fn(&mut StoredBlock)| {
            let mut block = read(store, height);
            edit(&mut block);
            write.put(Space::Block, at(height), rlp_bytes(&block));
        };
    broken(&|_, w| w.delete(Space::Block, at(1)), "block 1 is missing");
    broken(&|_, w| w.delete(Space::Block, at(3)), "block 3 is missing");
    broken(
        &|_, w| w.delete(Space::Block, at(4)),
        "state is that of block 4, the newest block is 3",
    );
    broken(&|_, w| w.delete(Space::Body, at(4)), "body of block 4 is missing");
    broken(&|_, w| w.delete(Space::Meta, META_STATE), "damaged state");
    broken(&|_, w| w.put(Space::Block, at(2), vec![1, 2, 3]), "damaged block");
    broken(&|s, w| rewrite(s, w, 2, &|b| b.cut.lanes.clear()), "block 2 is not what");
    broken(&|s, w| rewrite(s, w, 2, &|b| b.certificate.height = Height(3)), "block 2 is not what");
    // A block that is whole in itself, and another than the one after it names.
    let other = |b: &mut StoredBlock| {
        b.header.slices_root = B256::repeat_byte(1);
        b.certificate.block = b.header.hash();
    };
    broken(&|s, w| rewrite(s, w, 2, &other), "block 3 has parent");
    broken(
        &|s, w| {
            rewrite(s, w, 1, &|b| {
                b.header.parent = BlockHash::ZERO;
                b.certificate.block = b.header.hash();
            })
        },
        "block 1 has parent",
    );
    broken(&|s, w| rewrite(s, w, 4, &other), "state of block 4 is not what");
    let state = |edit: &'static dyn Fn(&mut State)| {
        move |store: &dyn Store, write: &mut WriteBatch| {
            let bytes = store.get(Space::Meta, META_STATE).unwrap().unwrap();
            let mut state = State::from_canonical(&bytes).unwrap();
            edit(&mut state);
            write.put(Space::Meta, META_STATE, state.to_canonical());
        }
    };
    broken(&state(&|s| s.height = Height(3)), "state is that of block 3");
    broken(&state(&|s| s.height = Height(5)), "state is that of block 5");
    broken(&state(&|s| s.committed.set_since = Height(2)), "state of block 4 is not what");
    broken(&|_, w| w.delete_range(Space::Batch, [], KEY_END), "last decided batch of lane");
    broken(
        &|s, w| {
            let table = s.get(Space::Lookup, &at(2)).unwrap().unwrap();
            w.put(Space::Lookup, at(2), table[1..].to_vec());
        },
        "damaged lookup table",
    );
}

#[test]
fn a_reference_to_a_missing_batch_is_an_error_and_not_a_shorter_block() {
    let home = Home::memory();
    let log = home.open();
    let batches = decide(&log, 2);
    let mut write = WriteBatch::new();
    write.delete(Space::Batch, schema::batch(&batches[0].position()));
    log.store.write(&write, Durability::Synced).unwrap();
    assert!(matches!(log.entries(Height(1)), Err(StoreError::Damaged { what: "batch", .. })));
    assert!(matches!(log.entry_at(Height(1), 0), Err(StoreError::Damaged { .. })));
}

#[test]
fn what_was_synced_survives_a_crash_and_what_was_not_is_lost_in_order() {
    let memory = Arc::new(MemoryStore::new());
    let log = LogStore::on(Arc::clone(&memory) as Arc<dyn Store>, &genesis("test")).unwrap();
    let batches = run(1, 5, &[&[1], &[2]]);
    log.put_batches(&batches).unwrap();
    let commit = commit_of(&log.state(), &[&batches[1]], &[&batches[0], &batches[1]]);
    let (height, block) = (Height(1), commit.header.hash());
    log.put_undecided(
        &Undecided {
            round: Round(0),
            valid_round: None,
            header: commit.header.clone(),
            cut: commit.cut.clone(),
        },
        &[],
    )
    .unwrap();
    let after = |kept| LogStore::on(Arc::new(memory.crash(kept)), &genesis("test")).unwrap();
    assert_eq!(after(0).undecided(height).unwrap().len(), 1);
    log.commit(commit).unwrap();
    assert_eq!(after(0).head(), height);
    assert_eq!(after(0).entries(height).unwrap().unwrap().len(), 2);

    let fuller = Certificate {
        height,
        round: Round(0),
        block,
        signatures: signatures(height, block, &[1, 2, 3, 4]),
    };
    log.finalize(fuller, &[]).unwrap();
    let signatures =
        |log: &LogStore| log.block(height).unwrap().unwrap().certificate.signatures.len();
    assert_eq!((signatures(&log), signatures(&after(0)), signatures(&after(1))), (4, 3, 4));
}

#[test]
fn after_a_failed_write_nothing_is_written_and_nothing_seems_to_be() {
    let memory = Arc::new(MemoryStore::new());
    let log = LogStore::on(Arc::clone(&memory) as Arc<dyn Store>, &genesis("test")).unwrap();
    let commit = commit_of(&log.state(), &[], &[]);
    memory.fail_writes_after(0);
    assert!(matches!(
        log.commit(commit.clone()),
        Err(CommitError::Store(StoreError::Backend { .. }))
    ));
    assert!(log.is_stopped());
    assert_eq!(log.head(), Height(0));
    memory.fail_writes_after(100);
    assert_eq!(log.commit(commit), Err(CommitError::Store(StoreError::Stopped)));
    assert_eq!(log.put_batches(&run(1, 5, &[&[1]])), Err(StoreError::Stopped));
    assert_eq!(log.next_incarnation(Incarnation(0), UnixMillis(0)), Err(StoreError::Stopped));
}

#[test]
fn a_second_process_on_the_directory_is_refused() {
    let home = Home::rocks();
    let _log = home.open();
    let error = RocksStore::open(home.directory.path()).unwrap_err();
    let directory = home.directory.path().to_owned();
    assert_eq!(error, OpenError::InUse { directory });
    assert!(error.to_string().contains("in use by another process"));
}

#[test]
fn a_write_ahead_log_torn_or_zeroed_at_any_place_opens_at_a_whole_height() {
    let home = Home::rocks();
    let log = home.open();
    let (mut ends, mut stored) = (Vec::new(), Vec::new());
    let mut parent = BatchDigest::ZERO;
    for height in 1..=6 {
        let contents: Vec<u64> = (0..20).map(|content| 1_000 * height + content).collect();
        let next = batch(1, (9, height - 1), parent, &contents);
        parent = next.digest();
        log.put_batches(std::slice::from_ref(&next)).unwrap();
        stored.push(log_bytes(&home));
        log.commit(commit_of(&log.state(), &[&next], &[&next])).unwrap();
        ends.push(log_bytes(&home));
    }
    let bytes = *ends.last().unwrap();
    let mut lengths: Vec<u64> = (ends[0]..bytes).step_by(97).collect();
    for end in ends.iter().chain(&stored) {
        lengths.extend([end.saturating_sub(1), *end, end + 1]);
    }
    for length in lengths.into_iter().filter(|length| (ends[0]..=bytes).contains(length)) {
        for is_zeroed in [false, true] {
            let copy = tempfile::tempdir().unwrap();
            copy_directory(home.directory.path(), copy.path(), Some(length));
            if is_zeroed {
                let torn = newest_log(copy.path());
                let file = std::fs::OpenOptions::new().write(true).open(torn).unwrap();
                file.set_len(bytes + 4_096).unwrap();
            }
            let log = LogStore::open(copy.path(), &genesis("test")).unwrap();
            let whole = ends.iter().filter(|end| **end <= length).count() as u64;
            assert_eq!(log.head(), Height(whole), "{length} of {bytes}");
            for height in 1..=whole {
                let entries = log.entries(Height(height)).unwrap().unwrap();
                assert_eq!(entries.len(), 20);
                assert_eq!(log.find_entry(entries[3].id()).unwrap(), located(height, 3));
            }
            let held = stored.iter().filter(|end| **end <= length).count();
            let start = LanePosition::start(key(1).address());
            assert_eq!(log.batches_after(&start, usize::MAX).unwrap().len(), held);
            // And it goes on from there.
            log.commit(commit_of(&log.state(), &[], &[])).unwrap();
        }
    }
}

fn log_bytes(home: &Home) -> u64 {
    std::fs::metadata(newest_log(home.directory.path())).unwrap().len()
}

#[derive(Clone, Debug)]
enum Operation {
    Write(Vec<(u8, u8, Vec<u8>)>),
    Scan { from: u8, to: u8, items: usize, bytes: usize, is_backward: bool },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let change = (0u8..3, 0u8..20, prop::collection::vec(any::<u8>(), 0..5));
    let operation = prop_oneof![
        prop::collection::vec(change, 1..6).prop_map(Operation::Write),
        (0u8..20, 0u8..22, 0usize..9, 0usize..12, any::<bool>()).prop_map(
            |(from, to, items, bytes, is_backward)| Operation::Scan {
                from,
                to,
                items,
                bytes,
                is_backward
            }
        ),
    ];
    prop::collection::vec(operation, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_backends_answer_alike(operations in operations()) {
        let (memory, home) = (MemoryStore::new(), Home::rocks());
        let rocks = home.store();
        for operation in operations {
            match operation {
                Operation::Write(changes) => {
                    let mut write = WriteBatch::new();
                    for (kind, key, value) in changes {
                        // Neighbouring spaces, so that a scan beyond its space would be seen.
                        let space = if key % 2 == 0 { Space::Evidence } else { Space::Passed };
                        match kind {
                            0 => write.put(space, [key], value),
                            1 => write.delete(space, [key]),
                            _ => write.delete_range(space, [key], [key.saturating_add(3)]),
                        }
                    }
                    memory.write(&write, Durability::Buffered).unwrap();
                    rocks.write(&write, Durability::Buffered).unwrap();
                }
                Operation::Scan { from, to, items, bytes, is_backward } => {
                    for space in [Space::Evidence, Space::Passed] {
                        let scan = Scan::new(space, [from], [to], items).bytes_max(bytes);
                        let scan = if is_backward { scan.backward() } else { scan };
                        prop_assert_eq!(memory.scan(&scan).unwrap(), rocks.scan(&scan).unwrap());
                        prop_assert_eq!(memory.get(space, &[from]).unwrap(), rocks.get(space, &[from]).unwrap());
                    }
                }
            }
        }
    }
}
