//! What a start and a peer's question find in a store that lacks something.

use lockstep_core::entry::Entry;
use lockstep_core::limits::EXPIRES_MS_MAX;

use super::*;
use crate::fixtures::{A, Net, START, tx};
use crate::store::schema::{self, Space};
use crate::store::{Durability, MemoryStore, Store, WriteBatch};

/// A log of blocks at these times after the genesis, each with one batch of one entry, and what it is stored in.
fn log(times: &[u64]) -> (Ledger, Arc<MemoryStore>) {
    let (mut net, memory) = (Net::new(1), Arc::new(MemoryStore::default()));
    let store = LogStore::on(memory.clone(), &net.genesis).unwrap();
    let ledger = Ledger::open(Arc::new(store)).unwrap();
    for (n, time) in (1u32..).zip(times) {
        let batch = net.next(0, &[tx(A, n, 10)]);
        ledger.store().put_batches(std::slice::from_ref(&batch)).unwrap();
        let decided = net.decide(START.plus(*time), vec![batch]);
        ledger.commit(&decided).unwrap();
    }
    (ledger, memory)
}

fn delete(memory: &MemoryStore, space: Space, key: Vec<u8>) {
    let mut write = WriteBatch::new();
    write.delete(space, key);
    memory.write(&write, Durability::Synced).unwrap();
}

fn block_of(height: u64) -> Vec<u8> {
    schema::height(Height(height)).to_vec()
}

#[test]
fn window_with_a_missing_block_is_an_error_and_the_genesis_is_not_missing() {
    let (ledger, memory) = log(&[1, 2, 3]);
    let open = || Ledger::open(ledger.store().clone()).map(|ledger| ledger.tip().dedup.clone());
    assert_eq!(open().unwrap(), ledger.tip().dedup);
    delete(&memory, Space::Block, block_of(2));
    let expected = StoreError::Damaged { what: "block", key: "height 2".to_owned() };
    assert_eq!(open().unwrap_err(), expected);
}

#[test]
fn block_before_the_window_may_be_missing() {
    let (ledger, memory) = log(&[1, 2, EXPIRES_MS_MAX + 2]);
    delete(&memory, Space::Block, block_of(1));
    assert!(Ledger::open(ledger.store().clone()).is_ok());
}

#[test]
fn value_without_one_of_its_batches_is_an_error_and_not_an_empty_value() {
    let (ledger, memory) = log(&[1, 2]);
    let block = ledger.store().block(Height(2)).unwrap().unwrap();
    let (value, _) = ledger.synced_value(Height(2)).unwrap().unwrap();
    assert_eq!(SyncedValue::decode(&value.into()).unwrap().batches.len(), 1);
    delete(&memory, Space::Batch, schema::batch(&block.cut.lanes[0].batch()));
    let expected = StoreError::Damaged { what: "cut", key: "height 2".to_owned() };
    assert_eq!(ledger.synced_value(Height(2)).unwrap_err(), expected);
    assert_eq!(ledger.synced_value(Height(3)), Ok(None));
}

#[test]
fn earlier_decision_is_named_with_its_block_and_its_time() {
    let (mut net, memory) = (Net::new(1), Arc::new(MemoryStore::default()));
    let store = LogStore::on(memory, &net.genesis).unwrap();
    let ledger = Ledger::open(Arc::new(store)).unwrap();
    let mut decide = |time, entries: &[Entry]| {
        let batch = net.next(0, entries);
        ledger.store().put_batches(std::slice::from_ref(&batch)).unwrap();
        let decided = net.decide(START.plus(time), vec![batch]);
        ledger.commit(&decided).unwrap();
        decided
    };
    let first = decide(1, &[tx(A, 1, 10)]);
    assert!(ledger.earlier(&first).is_empty());
    let again = decide(2, &[tx(A, 2, 10), tx(A, 1, 10)]);
    let batch = again.batches[0].position();
    let decision = Decision { height: Height(1), index: 0 };
    let (block, timestamp) = (first.header.hash(), first.header.timestamp_ms);
    let expected = [((batch, 1), Earlier { decision, block, timestamp })];
    assert_eq!(ledger.earlier(&again), expected.into());
}
