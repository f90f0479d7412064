//! What became of decided entries on their chains: follows the chains' records in the log and, where the operator names
//! one, each chain's engine. What follows from them is `lockstep_rpc::outcomes`' to say.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use lockstep_consensus::ledger::Ledger;
use lockstep_consensus::store::{RecordKind, StoreError};
use lockstep_core::block::slices_of;
use lockstep_core::entry::{Body, Entry};
use lockstep_core::record::RecordBody;
use lockstep_core::types::{ChainId, Height};
use lockstep_execution::chain::{BlockTag, ChainRpc};
use lockstep_execution::client::{EngineError, InvalidUrl};
use lockstep_rpc::node::{LegState, LegStatus, Stage};
use lockstep_rpc::outcomes::{BLOCKS_MAX, ChainOutcomes, Heads, Indices, Place, Sealing};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::config::ChainRpcOptions;

/// How often an engine is asked.
const ENGINE_INTERVAL: Duration = Duration::from_secs(1);
/// How many times in a row an engine is asked for blocks; after that the next interval goes on.
const ROUNDS_MAX: usize = 16;
/// Heights with records that a start reads for each chain: most often one block each. More are remembered later.
const REBUILT_MAX: usize = BLOCKS_MAX / 4;
/// Heights with records that are read at a time.
const PAGE_HEIGHTS: usize = 64;
/// Heights that are read for the cursor and the skipped items of one page's records. What records name beyond is passed
/// over: an offer reaches back a minute, so no honest sequencer comes near.
const NAMED_HEIGHTS_MAX: usize = 4_096;

/// Tells what became of entries; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ledger: Arc<Ledger>,
    engines: BTreeMap<ChainId, ChainRpc>,
    // A lock, because every status reads what two tasks write; held for lookups and arithmetic alone.
    chains: RwLock<BTreeMap<ChainId, ChainOutcomes>>,
    /// Counts what may have changed an entry's state.
    changes: watch::Sender<u64>,
}

/// What an entry has for one chain.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    chain: ChainId,
    /// Hashes of its transactions, in order.
    transactions: Vec<B256>,
}

impl Leg {
    /// What an entry has for its chains, in its order; nothing for a record.
    pub(crate) fn all_of(entry: &Entry) -> Vec<Self> {
        match entry.body() {
            Body::Transaction(transaction) => {
                let transactions = vec![keccak256(&transaction.bytes)];
                vec![Self { chain: transaction.chain, transactions }]
            }
            Body::Bundle(bundle) => {
                let leg = |leg: &lockstep_core::bundle::Leg| Self {
                    chain: leg.chain,
                    transactions: leg.transactions.iter().map(keccak256).collect(),
                };
                bundle.legs().iter().map(leg).collect()
            }
            Body::Record(_) => Vec::new(),
        }
    }
}

impl Outcomes {
    /// Begins to follow. The tasks end with the set.
    ///
    /// # Errors
    /// If an engine's URL is not usable.
    pub(crate) fn start(
        ledger: Arc<Ledger>,
        engines: &[ChainRpcOptions],
    ) -> Result<(Self, JoinSet<()>), InvalidUrl> {
        let engine =
            |options: &ChainRpcOptions| Ok((ChainId(options.chain), ChainRpc::new(&options.url)?));
        let engines = engines.iter().map(engine).collect::<Result<BTreeMap<_, _>, _>>()?;
        let shared = Arc::new(Shared {
            ledger,
            engines,
            chains: RwLock::default(),
            changes: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_records(shared.clone()));
        for (chain, engine) in &shared.engines {
            tasks.spawn(follow_engine(shared.clone(), *chain, engine.clone()));
        }
        Ok((Self(shared), tasks))
    }

    /// What became of these legs of an entry that stands at a place of the log.
    pub(crate) fn legs(&self, (height, index): (Height, u32), legs: &[Leg]) -> Vec<LegStatus> {
        let state = self.0.ledger.state();
        let chains = self.0.chains.read().unwrap_or_else(PoisonError::into_inner);
        let status = |Leg { chain, transactions }: &Leg| {
            if let Some(outcomes) = chains.get(chain) {
                return outcomes.leg(Place { height, index }, transactions);
            }
            // Nobody signs the chain's records, or none was read yet.
            let params = state.committed.chain(*chain).map(|chain| &chain.params);
            let is_sequenced = params.is_some_and(|params| !params.sequencers.is_empty());
            let last = if is_sequenced { Stage::Included } else { Stage::Decided };
            LegStatus { chain: *chain, state: LegState::Decided, last }
        };
        legs.iter().map(status).collect()
    }

    /// Changes whenever a state may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

impl Shared {
    fn read<T>(&self, chain: ChainId, read: impl FnOnce(&ChainOutcomes) -> T) -> Option<T> {
        let chains = self.chains.read().unwrap_or_else(PoisonError::into_inner);
        chains.get(&chain).map(read)
    }

    /// Changes what is known of a chain, and tells everybody if that changed anything.
    fn change(&self, chain: ChainId, change: impl FnOnce(&mut ChainOutcomes) -> bool) {
        let mut chains = self.chains.write().unwrap_or_else(PoisonError::into_inner);
        let new = || ChainOutcomes::new(chain, self.engines.contains_key(&chain));
        let has_changed = change(chains.entry(chain).or_insert_with(new));
        drop(chains);
        if has_changed {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Chains whose records somebody signs.
    fn sequenced(&self) -> Vec<ChainId> {
        let state = self.ledger.state();
        let is_sequenced =
            |chain: &&lockstep_core::state::ChainState| !chain.params.sequencers.is_empty();
        state.committed.chains.iter().filter(is_sequenced).map(|chain| chain.params.id).collect()
    }

    /// Reads all records up to `head` that were not read yet. `next` is where each chain goes on. Blocks the thread.
    fn read_records(
        &self,
        next: &mut BTreeMap<ChainId, Height>,
        head: Height,
    ) -> Result<(), StoreError> {
        for chain in self.sequenced() {
            let mut from = match next.get(&chain) {
                Some(from) => *from,
                None => self.begin(chain, head)?,
            };
            loop {
                let of = (chain, RecordKind::Sealed);
                let page = self.ledger.store().record_heights_from(of, from, PAGE_HEIGHTS)?;
                let page: Vec<Height> = page.into_iter().filter(|height| *height <= head).collect();
                let Some(last) = page.last() else { break };
                from = last.next();
                let sealings = self.sealings(chain, &page)?;
                self.change(chain, |outcomes| {
                    let mut has_changed = false;
                    for sealing in sealings {
                        has_changed |= outcomes.seal(sealing);
                    }
                    has_changed
                });
            }
            next.insert(chain, from);
        }
        Ok(())
    }

    /// Where a chain begins after a start: at the oldest of its newest records. If there are older ones, that one only
    /// says where the first offer begins.
    fn begin(&self, chain: ChainId, head: Height) -> Result<Height, StoreError> {
        let of = (chain, RecordKind::Sealed);
        let (mut before, mut count) = (head.next(), 0usize);
        while count < REBUILT_MAX {
            let rest = REBUILT_MAX.saturating_sub(count);
            let heights = self.ledger.store().record_heights(of, before, rest)?;
            let Some(oldest) = heights.last() else { break };
            count = count.saturating_add(heights.len());
            before = *oldest;
        }
        let has_older = !self.ledger.store().record_heights(of, before, 1)?.is_empty();
        let first = match has_older {
            true => self.sealings(chain, &[before])?.pop(),
            false => None,
        };
        self.change(chain, |outcomes| {
            if let Some(first) = &first {
                outcomes.begin_behind(first);
            }
            true
        });
        Ok(if first.is_some() { before.next() } else { before })
    }

    /// What the chain's records at these heights say, in the log's order.
    fn sealings(&self, chain: ChainId, heights: &[Height]) -> Result<Vec<Sealing>, StoreError> {
        let mut held: BTreeMap<Height, Option<Indices>> = BTreeMap::new();
        let mut indices = |height: Height| -> Result<Option<Indices>, StoreError> {
            if let Some(held) = held.get(&height) {
                return Ok(held.clone());
            }
            if held.len() >= NAMED_HEIGHTS_MAX {
                return Ok(None);
            }
            let read = self.indices(chain, height)?;
            held.insert(height, read.clone());
            Ok(read)
        };
        let mut sealings = Vec::new();
        for &height in heights {
            let entries = self.ledger.store().entries(height)?.unwrap_or_default();
            for (index, entry) in (0u32..).zip(&entries) {
                let Body::Record(record) = entry.body() else { continue };
                let (RecordBody::Sealed(sealed), true) = (&record.body, record.chain == chain)
                else {
                    continue;
                };
                sealings.extend(Sealing::read(sealed, Place { height, index }, &mut indices)?);
            }
        }
        Ok(sealings)
    }

    /// Indices of the chain's items at a height; `None` above the head.
    fn indices(&self, chain: ChainId, height: Height) -> Result<Option<Indices>, StoreError> {
        let Some(entries) = self.ledger.store().entries(height)? else { return Ok(None) };
        let slices = slices_of((0u32..).zip(&entries));
        let slice = slices.iter().find(|slice| slice.chain == chain);
        let items = slice.map(|slice| slice.items.as_slice()).unwrap_or_default();
        Ok(Some(items.iter().map(|item| item.index).collect()))
    }
}

/// Reads each height's records once it is decided; ends with the log.
async fn follow_records(shared: Arc<Shared>) {
    let mut heads = shared.ledger.heads();
    let mut next = BTreeMap::new();
    loop {
        let head = *heads.borrow_and_update();
        let reader = shared.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = reader.read_records(&mut next, head);
            (next, read)
        });
        next = match read.await {
            Ok((next, Ok(()))) => next,
            Ok((_, Err(error))) => return error!(%error, "cannot read the chains' records"),
            // The runtime is stopping.
            Err(_) => return,
        };
        if heads.changed().await.is_err() {
            return;
        }
    }
}

/// Asks a chain's engine, again and again.
async fn follow_engine(shared: Arc<Shared>, chain: ChainId, engine: ChainRpc) {
    let mut tick = tokio::time::interval(ENGINE_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_failed = false;
    loop {
        tick.tick().await;
        match ask(&shared, chain, &engine).await {
            Ok(()) if has_failed => {
                info!(%chain, engine = engine.url(), "the chain's engine answers again");
                has_failed = false;
            }
            Ok(()) => {}
            Err(error) if !has_failed => {
                warn!(%chain, engine = engine.url(), %error, "cannot ask the chain's engine; its legs' states stand still");
                has_failed = true;
            }
            Err(_) => {}
        }
    }
}

async fn ask(shared: &Shared, chain: ChainId, engine: &ChainRpc) -> Result<(), EngineError> {
    let Some(mut check) = shared.read(chain, ChainOutcomes::check) else { return Ok(()) };
    // The heads first: what is below them is on the chain that is checked after.
    let number = async |tag| Ok(engine.block_at(tag).await?.map(|block| block.number));
    let heads = Heads {
        safe: number(BlockTag::Safe).await?,
        finalized: number(BlockTag::Finalized).await?,
    };
    while let Some(number) = check.next() {
        let block = engine.block_at(BlockTag::Number(number)).await?;
        check.told(number, block.map(|block| block.hash));
    }
    shared.change(chain, |outcomes| outcomes.settle(&check, heads));
    for _ in 0..ROUNDS_MAX {
        let mut is_over = true;
        for hash in shared.read(chain, ChainOutcomes::wanted).unwrap_or_default() {
            if let Some(block) = engine.block_by_hash(hash).await? {
                shared.change(chain, |outcomes| outcomes.told(&block));
                is_over = false;
            }
        }
        if is_over {
            break;
        }
    }
    Ok(())
}
