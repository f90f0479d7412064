//! The lanes between validators: push, check, store, acknowledge, ask for what is missing.
//!
//! ```text
//! submitted entry ─► own lane ─► sign ─┐
//!                                      ├─► check (pool) ─► writer: store + sync ─► table ─► acknowledge, push
//! batch from a peer ───────────────────┘                                      └─► whoever waits for batches
//! ```
//!
//! Persist, then speak: a batch is acknowledged, pushed, or put into a cut only after the store synced it. One task
//! writes, so a position is filled once; what was written together is acknowledged together (group commit). It does
//! not know heights, proposals or votes.

pub mod own;
pub mod table;
pub mod wire;

mod asked;
mod inbound;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_primitives::Address;
use libp2p::PeerId;
use lockstep_core::batch::{Acknowledgement, Batch, CheckedBatch};
use lockstep_core::cut::{Cut, LanePosition, LaneStep};
use lockstep_core::entry::CheckedEntry;
use lockstep_core::lane::{BatchRange, Unresolved};
use lockstep_core::signing::SigningKey;
use lockstep_core::state::State;
use lockstep_core::types::{Incarnation, NetworkId, Sequence, UnixMillis};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use crate::checker::Checker;
use crate::mesh::Inbound;
use crate::mesh::class::Class;
use crate::mesh::events::Event;
use crate::mesh::handle::Handle;
use crate::settle::Carried;
use crate::store::{LogStore, StoreError};

use self::asked::Asked;
use self::own::{NextBatch, Overtaken, OwnLane, QueueFull};
use self::table::{Attached, Table};
use self::wire::LaneMessage;

/// Batches that wait for the writer, all peers together.
const WRITER_QUEUE_MAX: usize = 256;
/// How often gaps are asked for again.
const REPAIR_INTERVAL: Duration = Duration::from_millis(200);
/// How often what is stored and undecided is acknowledged again.
const REMINDER_INTERVAL: Duration = Duration::from_secs(1);
/// Batches sent for one request; the asker asks again from where it ended.
const REQUEST_BATCHES_MAX: u64 = 64;

/// Per run of a lane, the last batch that is missing.
type Missing = BTreeMap<(Address, Incarnation), Sequence>;

/// What the lanes need from the rest of the node.
#[derive(Debug)]
pub struct Config {
    /// The network.
    pub network: NetworkId,
    /// This validator's key, which signs batches and acknowledgements.
    pub key: SigningKey,
    /// Every other validator, by its identity on the mesh.
    pub validators: BTreeMap<PeerId, Address>,
    /// How long the first entry of a batch waits for others. Default 10 ms.
    pub batch_delay: Duration,
}

/// A batch on its way to the store, and whom to tell when it is there.
#[derive(Debug)]
struct ToWrite {
    batch: CheckedBatch,
    /// Our own batches are pushed once they are stored.
    is_own: bool,
    stored: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    store: Arc<LogStore>,
    checker: Checker,
    mesh: Handle,
    // Locks, because consensus, ingress and the lanes' own tasks all read these; held for short pure calls only,
    // never across an await.
    table: Mutex<Table>,
    own: Mutex<OwnLane>,
    asked: Mutex<Asked>,
    own_wakes: Notify,
    to_writer: mpsc::Sender<ToWrite>,
    changed: watch::Sender<u64>,
}

/// The running lanes; clones are of the same ones. They stop when the [`LanesTasks`] are dropped.
#[derive(Clone, Debug)]
pub struct Lanes {
    shared: Arc<Shared>,
}

/// The lanes' tasks; dropping it stops them.
#[derive(Debug)]
pub struct LanesTasks {
    tasks: JoinSet<()>,
}

impl LanesTasks {
    /// Waits until a task ends, which happens only when the store failed: the node must stop.
    pub async fn failed(&mut self) {
        self.tasks.join_next().await;
    }
}

/// The wall clock.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Lanes {
    /// Starts the lanes. `held` are the undecided batches of the store, re-checked; `own` is this validator's lane
    /// at the beginning of a run.
    pub fn spawn(
        config: Config,
        (store, checker): (Arc<LogStore>, Checker),
        (mesh, inbound): (Handle, mpsc::Receiver<Inbound>),
        (table, own): (Table, OwnLane),
    ) -> (Self, LanesTasks) {
        let (to_writer, writes) = mpsc::channel(WRITER_QUEUE_MAX);
        let shared = Arc::new(Shared {
            config,
            store,
            checker,
            mesh,
            table: Mutex::new(table),
            own: Mutex::new(own),
            asked: Mutex::new(Asked::default()),
            own_wakes: Notify::new(),
            to_writer,
            changed: watch::Sender::new(0),
        });
        let lanes = Self { shared };
        let mut tasks = JoinSet::new();
        tasks.spawn(writer::run(lanes.clone(), writes));
        tasks.spawn(inbound::run(lanes.clone(), inbound));
        tasks.spawn(lanes.clone().make_batches());
        tasks.spawn(lanes.clone().repair());
        (lanes, LanesTasks { tasks })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self) -> MutexGuard<'_, OwnLane> {
        self.shared.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this validator's lane takes an entry of so many bytes now.
    ///
    /// # Errors
    /// [`QueueFull`]: come back later.
    pub fn has_room(&self, length: usize) -> Result<(), QueueFull> {
        self.own().has_room(length)
    }

    /// Puts an entry into this validator's lane.
    ///
    /// # Errors
    /// [`QueueFull`]: come back later.
    pub fn submit(&self, entry: CheckedEntry) -> Result<(), QueueFull> {
        self.own().push(entry)?;
        self.shared.own_wakes.notify_one();
        Ok(())
    }

    /// This validator's lane after a block: `carried` are its entries for which the block had no room.
    pub fn settle(&self, state: Arc<State>, carried: &[Carried]) {
        let overtaken = self.own().settle(state, carried);
        if let Some(overtaken) = overtaken {
            tokio::spawn(self.clone().begin_run(overtaken));
        }
        self.shared.own_wakes.notify_one();
    }

    async fn begin_run(self, Overtaken { decided }: Overtaken) {
        let store = self.shared.store.clone();
        let next =
            tokio::task::spawn_blocking(move || store.next_incarnation(decided, now())).await;
        match next {
            Ok(Ok(incarnation)) => {
                warn!(decided = decided.0, next = incarnation.0, "the own lane begins a new run");
                self.own().begin_run(incarnation);
                self.shared.own_wakes.notify_one();
            }
            Ok(Err(error)) => error!(%error, "cannot begin a run of the own lane"),
            // Only a stopping runtime ends a blocking task early.
            Err(_) => {}
        }
    }

    /// How many entries wait for a batch of this validator.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.own().waiting()
    }

    /// The cut that moves every lane as far as this node holds it.
    #[must_use]
    pub fn cut(&self, state: &State) -> Cut {
        self.table().cut(state)
    }

    /// The batches of a cut's steps, if all are held and synced, or attached.
    ///
    /// # Errors
    /// What to ask for, or that the steps can't be made.
    pub fn batches(
        &self,
        steps: &[LaneStep],
        attached: &Attached,
    ) -> Result<Vec<CheckedBatch>, Unresolved> {
        self.table().batches(steps, attached)
    }

    /// The batches that some connected validator has not acknowledged: a proposal carries them.
    #[must_use]
    pub fn unacknowledged(&self, batches: &[CheckedBatch]) -> Vec<alloy_primitives::Bytes> {
        let up: BTreeSet<Address> = self
            .shared
            .mesh
            .peers_up()
            .iter()
            .filter_map(|peer| self.shared.config.validators.get(peer).copied())
            .collect();
        let table = self.table();
        let batches = table.unacknowledged(batches, &up);
        batches.into_iter().map(|batch| batch.raw().clone()).collect()
    }

    /// Stores batches that came with a proposal; returns when they are synced, and held where nothing else is.
    ///
    /// # Errors
    /// If the store fails: the node must stop.
    pub async fn store(&self, batches: Vec<CheckedBatch>) -> Result<(), StoreError> {
        let (store, to_store) = (self.shared.store.clone(), batches.clone());
        let stored = tokio::task::spawn_blocking(move || store.put_batches(&to_store)).await;
        // Only a stopping runtime ends a blocking task early.
        let Ok(stored) = stored else { return Ok(()) };
        stored?;
        writer::insert(self, batches);
        self.acknowledge(None);
        self.shared.changed.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    /// Whether the very batch that these bytes are is held.
    #[must_use]
    pub fn holds(&self, raw: &alloy_primitives::Bytes) -> bool {
        Batch::decode(self.shared.config.network, raw.clone())
            .is_ok_and(|batch| self.table().holds(&batch.header().position, batch.digest()))
    }

    /// Asks for batches: `from` if it is up, else their owners. What was asked for a moment ago is not asked for again.
    pub fn request(&self, ranges: &[BatchRange], from: Option<PeerId>) {
        for range in ranges {
            if !self.asked().is_due(range, Instant::now()) {
                continue;
            }
            let frame = LaneMessage::Request(*range).encode();
            let owner = self.peer_of(range.owner);
            let to = from.filter(|peer| self.shared.mesh.is_up(*peer)).or(owner);
            if let Some(to) = to
                && let Err(error) = self.shared.mesh.send(to, Class::Lanes, frame)
            {
                debug!(%error, "request not sent; the repair task repeats it");
            }
        }
    }

    /// Whether this validator and those connected to it are a quorum of the set that decides the next height.
    #[must_use]
    pub fn has_quorum(&self, state: &State) -> bool {
        let (set, config) = (&state.committed.validators, &self.shared.config);
        let power_of = |address| set.get(address).map_or(0, |validator| validator.power);
        let up = self.shared.mesh.peers_up();
        let peers = up.iter().filter_map(|peer| config.validators.get(peer));
        let power = peers.fold(power_of(config.key.address()), |sum, address| {
            sum.saturating_add(power_of(*address))
        });
        set.is_quorum(power)
    }

    /// Validators connected to this one.
    #[must_use]
    pub fn peers_up(&self) -> usize {
        self.shared.mesh.peers_up().len()
    }

    fn peer_of(&self, validator: Address) -> Option<PeerId> {
        let mut all = self.shared.config.validators.iter();
        all.find(|(_, address)| **address == validator).map(|(peer, _)| *peer)
    }

    /// The lanes are decided up to these positions.
    pub fn advance(&self, positions: &[LanePosition]) {
        self.table().advance(positions);
        self.shared.own_wakes.notify_one();
    }

    /// Changes each time batches were stored.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Tells one peer, or all, what this node stores.
    fn acknowledge(&self, to: Option<PeerId>) {
        let tips = self.table().tips();
        let Config { network, key, .. } = &self.shared.config;
        let frame =
            LaneMessage::Acknowledgement(Acknowledgement::sign(*network, tips, key)).encode();
        let lost = match to {
            Some(peer) => {
                self.shared.mesh.send(peer, Class::Lanes, frame).err().into_iter().count()
            }
            None => self.shared.mesh.broadcast(Class::Lanes, &frame).len(),
        };
        if lost > 0 {
            debug!(lost, "acknowledgement not sent to all; it is part of the next one");
        }
    }

    /// Asks for what was missing at the last look and is missing still: of its owner, or of who says it has it. Returns
    /// what is missing now: per run, the last of it.
    fn ask_for_missing(&self, before: &Missing) -> Missing {
        let (missing, behind) = {
            let table = self.table();
            (table.missing(), table.behind())
        };
        let missing = missing.into_iter().map(|range| (range, None));
        let behind = behind.into_iter().map(|(range, who)| (range, self.peer_of(who)));
        let mut now = Missing::new();
        for (range, holder) in missing.chain(behind) {
            let run = (range.owner, range.incarnation);
            if before.get(&run).is_some_and(|last| range.first <= *last) {
                self.request(&[range], holder);
            }
            let last = now.entry(run).or_insert(range.last);
            *last = range.last.max(*last);
        }
        now
    }

    /// Makes batches of what waits in the own lane, one after the other, as fast as a quorum stores them.
    async fn make_batches(self) {
        loop {
            self.shared.own_wakes.notified().await;
            tokio::time::sleep(self.shared.config.batch_delay).await;
            if self.table().has_room() && self.make_batch().await && self.waiting() > 0 {
                self.shared.own_wakes.notify_one();
            }
        }
    }

    /// Makes, stores and pushes one batch; false if nothing waits or the node stops.
    async fn make_batch(&self) -> bool {
        let next = self.own().next_batch(now());
        let Some(NextBatch { place, parent, entries }) = next else { return false };
        let Config { network, key, .. } = &self.shared.config;
        let raw = entries.iter().map(|checked| checked.entry().clone()).collect();
        let batch = Batch::sign(*network, place, parent, raw, key)
            .and_then(|batch| batch.with_checked(entries));
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                error!(%error, "own batch is invalid; its entries are lost");
                self.own().lost(place);
                return true;
            }
        };
        if !self.own().made(place, batch.digest()) {
            return true;
        }
        let (stored, wait) = oneshot::channel();
        let write = ToWrite { batch, is_own: true, stored: Some(stored) };
        // Waiting for the store is the back-pressure on our own lane.
        self.shared.to_writer.send(write).await.is_ok() && wait.await.is_ok()
    }

    /// Asks for what is missing for longer than a batch is on its way, and tells peers what this node stores: those that
    /// come up at once, and all now and then while anything is undecided, because a lane may wait for a word that was
    /// lost.
    async fn repair(self) {
        let mut events = self.shared.mesh.subscribe_events();
        let mut tick = tokio::time::interval(REPAIR_INTERVAL);
        let mut reminder = tokio::time::interval(REMINDER_INTERVAL);
        let mut before = Missing::new();
        loop {
            tokio::select! {
                _ = tick.tick() => before = self.ask_for_missing(&before),
                _ = reminder.tick() => {
                    if !self.table().tips().is_empty() {
                        self.acknowledge(None);
                    }
                }
                event = events.next() => match event {
                    Some(Event::Up(peer)) => self.acknowledge(Some(peer)),
                    Some(Event::Down(_) | Event::Listening(_)) => {}
                    None => return,
                },
            }
        }
    }
}

/// Logs that a peer sent what no honest validator sends, and closes its connection.
fn refuse(mesh: &Handle, from: PeerId, reason: &dyn core::fmt::Display) {
    warn!(%from, %reason, "refused a lane message");
    mesh.disconnect(from);
}
