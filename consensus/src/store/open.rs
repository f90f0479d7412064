//! Opening a store: is it one, is it ours, and does it hold together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use alloy_primitives::Bytes;
use lockstep_core::encoding::Canonical;
use lockstep_core::params::Genesis;
use lockstep_core::state::State;
use lockstep_core::types::{BlockHash, Height, NetworkId};

use super::index::{Segment, Tail, table_from_bytes};
use super::log::{LogStore, Memory, StoredBlock, behind, damaged, from_rlp, rlp_bytes};
use super::schema::{self, KEY_END, META_GENESIS, META_SCHEMA, META_STATE, SCHEMA, Space};
use super::{Durability, Item, RocksStore, Scan, Store, StoreError, WriteBatch};

/// Heights below the head whose hash chain is checked when a store is opened.
pub const CHAIN_CHECKED_HEIGHTS: u64 = 10_000;
/// Items that are read at a time while opening.
const PAGE_ITEMS: usize = 512;

/// Why a store was not opened. Each message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open.
    #[error(
        "data directory {} is in use by another process; stop that one, or choose another directory",
        directory.display()
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// There is something in it, and it is not a store.
    #[error("the directory holds a database that is not lockstep's; choose another data directory")]
    NotAStore,
    /// Written by another version.
    #[error(
        "the store has schema version {got}, this program reads version {expected}: {}",
        if got > expected { "run the newer program that wrote it" }
        else { "move the data directory away and let the node sync again" }
    )]
    Schema {
        /// [`SCHEMA`].
        expected: u32,
        /// The store's.
        got: u32,
    },
    /// Written for another genesis.
    #[error(
        "the store belongs to network {got}, the genesis file is of network {expected}; \
         use that network's genesis file, or another data directory"
    )]
    Network {
        /// Hash of the given genesis.
        expected: NetworkId,
        /// The store's.
        got: NetworkId,
    },
    /// The blocks do not hold together.
    #[error("the store is damaged: {0}; move the data directory away and let the node sync again")]
    Broken(#[from] BrokenLog),
    /// The disk or the database, or a value that can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What does not hold together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLog {
    /// A block is missing.
    #[error("block {height} is missing")]
    BlockMissing {
        /// Which.
        height: Height,
    },
    /// A block's references are missing.
    #[error("body of block {height} is missing")]
    BodyMissing {
        /// Which.
        height: Height,
    },
    /// A block's parent is not the block before it.
    #[error("block {height} has parent {got}, block {} is {expected}", height.0.saturating_sub(1))]
    Parent {
        /// Which.
        height: Height,
        /// Hash of the block before it.
        expected: BlockHash,
        /// Its parent.
        got: BlockHash,
    },
    /// Cut, certificate or height of a block are not its header's.
    #[error("block {height} is not what its header says")]
    Block {
        /// Which.
        height: Height,
    },
    /// The newest state is not the newest block's.
    #[error("the newest state is that of block {state}, the newest block is {block}")]
    Head {
        /// Height of the state.
        state: Height,
        /// Height of the newest block.
        block: Height,
    },
    /// The newest state does not hash to what the newest header says, or names another head.
    #[error("the state of block {height} is not what its header says")]
    State {
        /// Height of both.
        height: Height,
    },
    /// A lane's last decided batch is missing.
    #[error("the last decided batch of lane {owner} is missing")]
    TipMissing {
        /// Whose lane.
        owner: alloy_primitives::Address,
    },
}

impl LogStore {
    /// Opens the store in a directory, and makes a new one if there is none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, genesis: &Genesis) -> Result<Self, OpenError> {
        Self::on(Arc::new(RocksStore::open(path)?), genesis)
    }

    /// The same on any backend.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn on(store: Arc<dyn Store>, genesis: &Genesis) -> Result<Self, OpenError> {
        let network = genesis.network_id();
        match store.get(Space::Meta, META_SCHEMA)? {
            None => create(store.as_ref(), genesis)?,
            Some(version) => check_version(&version)?,
        }
        check_network(store.as_ref(), network)?;
        let state = read_state(store.as_ref())?;
        check_log(store.as_ref(), &state)?;
        end_undecided(store.as_ref(), state.height)?;
        let memory = Memory {
            state: Arc::new(state),
            segments: Arc::new(read_segments(store.as_ref())?),
            tail: read_tail(store.as_ref())?,
            conflicts: read_conflicts(store.as_ref(), network)?,
            links: BTreeMap::new(),
        };
        Ok(Self {
            store,
            genesis: genesis.clone(),
            network,
            memory: RwLock::new(memory),
            commits: Mutex::new(()),
            batches: Mutex::new(()),
            maintenance: Mutex::new(()),
            is_stopped: AtomicBool::new(false),
        })
    }
}

/// Makes an empty database a store, in one write.
fn create(store: &dyn Store, genesis: &Genesis) -> Result<(), OpenError> {
    for space in Space::ALL {
        if !store.scan(&Scan::new(space, [], KEY_END, 1))?.is_empty() {
            return Err(OpenError::NotAStore);
        }
    }
    let mut write = WriteBatch::new();
    write.put(Space::Meta, META_SCHEMA, SCHEMA.to_be_bytes().to_vec());
    write.put(Space::Meta, META_GENESIS, genesis.to_canonical());
    write.put(Space::Meta, META_STATE, State::genesis(genesis).to_canonical());
    write.put(Space::Validators, schema::height(Height(1)), rlp_bytes(&genesis.validators));
    Ok(store.write(&write, Durability::Synced)?)
}

fn check_version(version: &[u8]) -> Result<(), OpenError> {
    let version = <[u8; 4]>::try_from(version).map_err(|_| damaged("version", META_SCHEMA))?;
    let (expected, got) = (SCHEMA, u32::from_be_bytes(version));
    if expected == got { Ok(()) } else { Err(OpenError::Schema { expected, got }) }
}

fn check_network(store: &dyn Store, expected: NetworkId) -> Result<(), OpenError> {
    let wrong = || damaged("genesis", META_GENESIS);
    let bytes = store.get(Space::Meta, META_GENESIS)?.ok_or_else(wrong)?;
    let got = Genesis::from_canonical(&bytes).map_err(|_| wrong())?.network_id();
    if expected == got { Ok(()) } else { Err(OpenError::Network { expected, got }) }
}

fn read_state(store: &dyn Store) -> Result<State, StoreError> {
    let wrong = || damaged("state", META_STATE);
    let bytes = store.get(Space::Meta, META_STATE)?.ok_or_else(wrong)?;
    State::from_canonical(&bytes).map_err(|_| wrong())
}

/// Checks the hash chain below the head, and that the newest state is the newest block's.
fn check_log(store: &dyn Store, state: &State) -> Result<(), OpenError> {
    let head = state.height;
    let newest = store.scan(&Scan::new(Space::Block, [], KEY_END, 1).backward())?;
    let block = newest.first().and_then(|(key, _)| schema::height_of(key)).unwrap_or_default();
    if block != head {
        return Err(BrokenLog::Head { state: head, block }.into());
    }
    let mut next = Height(head.0.saturating_sub(CHAIN_CHECKED_HEIGHTS).saturating_add(1));
    let mut parent = (next == Height(1)).then_some(BlockHash(state.network_id.0));
    let mut last = None;
    while next <= head {
        let page = Scan::new(Space::Block, schema::height(next), behind(head), PAGE_ITEMS);
        let blocks = store.scan(&page)?;
        if blocks.is_empty() {
            return Err(BrokenLog::BlockMissing { height: next }.into());
        }
        for (key, value) in &blocks {
            let block: StoredBlock = from_rlp("block", key, value)?;
            check_block(&block, schema::height_of(key), next, parent)?;
            parent = Some(block.header.hash());
            next = next.next();
            last = Some(block);
        }
    }
    check_head(store, state, last.as_ref())
}

fn check_block(
    block: &StoredBlock,
    at: Option<Height>,
    expected: Height,
    parent: Option<BlockHash>,
) -> Result<(), BrokenLog> {
    let StoredBlock { header, cut, certificate } = block;
    if at != Some(expected) {
        return Err(BrokenLog::BlockMissing { height: expected });
    }
    if let Some(parent) = parent
        && header.parent != parent
    {
        let (expected, got) = (parent, header.parent);
        return Err(BrokenLog::Parent { height: header.height, expected, got });
    }
    let is_whole = header.height == expected
        && certificate.height == expected
        && certificate.block == header.hash()
        && cut.hash() == header.cut_hash;
    if is_whole { Ok(()) } else { Err(BrokenLog::Block { height: expected }) }
}

fn check_head(
    store: &dyn Store,
    state: &State,
    newest: Option<&StoredBlock>,
) -> Result<(), OpenError> {
    let height = state.height;
    let is_same = match newest {
        None => state.head.0 == state.network_id.0,
        Some(block) => {
            state.head == block.header.hash() && state.committed.hash() == block.header.state_hash
        }
    };
    if !is_same {
        return Err(BrokenLog::State { height }.into());
    }
    if newest.is_some() && store.get(Space::Body, &schema::height(height))?.is_none() {
        return Err(BrokenLog::BodyMissing { height }.into());
    }
    for lane in state.committed.lanes.iter().filter(|lane| !lane.is_start()) {
        if store.get(Space::Batch, &schema::batch(&lane.batch()))?.is_none() {
            return Err(BrokenLog::TipMissing { owner: lane.owner }.into());
        }
    }
    Ok(())
}

/// Removes undecided payloads of decided heights that no commit saw: a crash came first.
fn end_undecided(store: &dyn Store, head: Height) -> Result<(), StoreError> {
    let first = schema::height(Height::GENESIS);
    let scan = Scan::new(Space::Undecided, first, behind(head), PAGE_ITEMS);
    loop {
        let page = store.scan(&scan)?;
        if page.is_empty() {
            return Ok(());
        }
        let mut write = WriteBatch::new();
        for (key, _) in page {
            write.delete(Space::Undecided, key);
        }
        store.write(&write, Durability::Buffered)?;
    }
}

/// Reads a whole space, page after page.
fn for_each(
    store: &dyn Store,
    space: Space,
    mut each: impl FnMut(Item) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut from = Vec::new();
    loop {
        let page = store.scan(&Scan::new(space, from, KEY_END, PAGE_ITEMS))?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        from = last.clone();
        from.push(0);
        page.into_iter().try_for_each(&mut each)?;
    }
}

fn read_segments(store: &dyn Store) -> Result<Vec<Segment>, StoreError> {
    let mut segments = Vec::new();
    for_each(store, Space::Segment, |(key, value)| {
        segments.push(from_rlp("segment", &key, &value)?);
        Ok(())
    })?;
    Ok(segments)
}

fn read_tail(store: &dyn Store) -> Result<Tail, StoreError> {
    let mut tail = Tail::default();
    for_each(store, Space::Lookup, |(key, value)| {
        let wrong = || damaged("lookup table", &key);
        let height = schema::height_of(&key).ok_or_else(wrong)?;
        tail.push(height, table_from_bytes(&value).ok_or_else(wrong)?);
        Ok(())
    })?;
    Ok(tail)
}

fn read_conflicts(
    store: &dyn Store,
    network: NetworkId,
) -> Result<BTreeSet<super::lanes::Aside>, StoreError> {
    let mut conflicts = BTreeSet::new();
    for_each(store, Space::Conflict, |(key, value): (Vec<u8>, Bytes)| {
        let batch = lockstep_core::batch::Batch::decode(network, value)
            .map_err(|_| damaged("batch", &key))?;
        conflicts.insert((batch.header().position, batch.digest()));
        Ok(())
    })?;
    Ok(conflicts)
}
