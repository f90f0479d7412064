//! One validator: its application, its consensus, and how they are opened from its disks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use lockstep_consensus::abstention::{Abstention, use_mark_up};
use lockstep_consensus::application::effect::{Effect, ReplyId, Timer};
use lockstep_consensus::application::input::Claimed;
use lockstep_consensus::application::peers::Peers;
use lockstep_consensus::application::{self, Application};
use lockstep_consensus::guard::{Guard, Mark, MessageId, Origin, Step, WalView};
use lockstep_consensus::lanes::own::OwnLane;
use lockstep_consensus::lanes::table::Table;
use lockstep_consensus::ledger::Ledger;
use lockstep_consensus::store::LogStore;
use lockstep_core::batch::Batch;
use lockstep_core::certificate::VoteType;
use lockstep_core::entry::Entry;
use lockstep_core::limits::LANE_AHEAD_BYTES_MAX;
use lockstep_core::params::Genesis;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{Height, Round, UnixMillis};
use lockstep_engine::OwnMessage;
use lockstep_engine::replica::{self, Replica, own_message};

use crate::disk::Disk;
use crate::plan::Crash;
use crate::world::Micros;

/// A validator, up or down.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its key.
    pub(crate) key: SigningKey,
    /// Its disks.
    pub(crate) disk: Disk,
    /// Counts its starts.
    pub(crate) boot: u64,
    /// What runs, while it is up.
    pub(crate) running: Option<Running>,
    /// The crash that is being counted down to.
    pub(crate) crash: Option<Crash>,
    /// Its clock.
    pub(crate) clock: Clock,
    /// Its disks were not always as it left them.
    pub(crate) has_lost: bool,
}

/// A node's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Milliseconds it is ahead.
    pub(crate) ahead_ms: i64,
    /// Milliseconds it is ahead for a while.
    pub(crate) jump_ms: i64,
    /// Parts in a thousand it is fast.
    pub(crate) fast: i64,
}

/// The true time at the beginning of a run.
pub(crate) const EPOCH_MS: u64 = 1_800_000_000_000;

/// How long before its start a fresh guard was made, in milliseconds. Were it less than twice the drift before the first
/// block, a validator that misses that block would follow for as long.
const MADE_BEFORE_MS: u64 = 5_000;

impl Clock {
    /// What it shows.
    #[must_use]
    pub(crate) fn show(&self, now: Micros) -> UnixMillis {
        let ms = i64::try_from(now / 1_000).expect("short runs");
        let shown = ms + ms * self.fast / 1_000 + self.ahead_ms + self.jump_ms;
        UnixMillis(EPOCH_MS.saturating_add_signed(shown))
    }

    /// The true length of a timer.
    #[must_use]
    pub(crate) fn length(&self, timer: Duration) -> Micros {
        let micros = i64::try_from(timer.as_micros()).expect("short timers");
        (micros - micros * self.fast / 1_000).unsigned_abs()
    }
}

/// A question whose answer somebody waits for.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// The start of a height.
    Start,
    /// Blocks of a round.
    Blocks,
    /// A block that is complete.
    Block,
    /// The block to propose.
    Value(Height, Round),
    /// A commit.
    Committed,
    /// A verdict on a synced value.
    Synced,
    /// Entries that were submitted.
    Submitted(Vec<Entry>),
}

/// Decided values that are asked for.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    /// The newest height of each peer, as it says.
    pub(crate) tips: BTreeMap<usize, Height>,
    /// The open request of value sync, and whom it went to.
    pub(crate) open: Option<(u64, usize)>,
    /// The application's fetches, by number.
    pub(crate) fetches: BTreeMap<u64, (usize, Height)>,
    /// Who served the value that is being judged.
    pub(crate) served: Option<usize>,
    /// Number of the newest request.
    pub(crate) number: u64,
}

/// What runs of a node.
#[derive(Debug)]
pub(crate) struct Running {
    /// Consensus.
    pub(crate) replica: Replica,
    /// Counts the runs of consensus.
    pub(crate) run: u64,
    /// The application.
    pub(crate) application: Application,
    /// The decided log.
    pub(crate) ledger: Arc<Ledger>,
    /// The guard.
    pub(crate) guard: Guard,
    /// Why it does not vote.
    pub(crate) abstains: Option<Abstention>,
    /// Timers of consensus, and which setting is in force.
    pub(crate) engine_timers: BTreeMap<replica::Timer, u64>,
    /// Timers of the application.
    pub(crate) timers: BTreeMap<Timer, u64>,
    /// Questions without an answer yet.
    pub(crate) replies: BTreeMap<ReplyId, Waiting>,
    /// How many questions there were.
    pub(crate) asked: u64,
    /// How much evidence consensus has of the newest height that is over.
    pub(crate) evidence: (Height, usize),
    /// When the height began, and how long it lasts at least.
    pub(crate) height_began: (Micros, Duration),
    /// Decided values that are asked for.
    pub(crate) sync: Sync,
    /// What the peers claim of their heights, and since when a quorum of them is at the genesis.
    pub(crate) claimed: (Claimed, Option<Micros>),
}

impl Running {
    /// Notes a question.
    pub(crate) fn wait(&mut self, waiting: Waiting) -> ReplyId {
        self.asked += 1;
        let id = ReplyId(self.asked);
        self.replies.insert(id, waiting);
        id
    }

    /// The height under way.
    #[must_use]
    pub(crate) fn height(&self) -> Height {
        self.ledger.state().height
    }
}

/// The peer id of a node: an identity hash of its place.
#[must_use]
pub(crate) fn peer(place: usize) -> PeerId {
    let place = u8::try_from(place).expect("few nodes");
    PeerId::from_bytes(&[0, 1, place]).expect("an identity hash")
}

/// A peer's place.
#[must_use]
pub(crate) fn place(peer: &PeerId) -> usize {
    peer.to_bytes().last().copied().map_or(0, usize::from)
}

impl Node {
    /// Opens a node from its disks, as `validator/open.rs` does, and what its application wants first.
    ///
    /// # Errors
    /// Why a node would not start.
    pub(crate) fn open(
        &mut self,
        now: Micros,
        genesis: &Genesis,
        others: &BTreeMap<PeerId, alloy_primitives::Address>,
    ) -> Result<Vec<Effect>, String> {
        let me = self.key.address();
        let store = LogStore::on(self.disk.store.clone(), genesis).map_err(|e| e.to_string())?;
        let ledger = Arc::new(Ledger::open(Arc::new(store)).map_err(|e| e.to_string())?);
        let (guard, abstains) = self.open_guard(&ledger)?;
        let (table, own) = self.load_lanes(now, &ledger)?;
        let config = application::Config {
            me,
            network: genesis.network_id(),
            peers: Peers::new(me, others.clone()),
            interval: Duration::from_millis(genesis.params.block_interval_ms),
            batch_delay: Duration::from_millis(10),
            state: ledger.state(),
            table,
            own,
        };
        let (application, effects) = Application::new(config);
        self.running = Some(Running {
            replica: Replica::new(genesis.network_id(), Some(me), Arc::new(others.clone())),
            run: 0,
            application,
            ledger,
            guard,
            abstains,
            engine_timers: BTreeMap::new(),
            timers: BTreeMap::new(),
            replies: BTreeMap::new(),
            asked: 0,
            evidence: (Height::GENESIS, 0),
            height_began: (now, Duration::ZERO),
            sync: Sync::default(),
            claimed: (Claimed::default(), None),
        });
        Ok(effects)
    }

    /// The guard, and why the node must abstain.
    fn open_guard(&self, ledger: &Ledger) -> Result<(Guard, Option<Abstention>), String> {
        let state = ledger.state();
        let me = self.key.address();
        let files = Box::new(self.disk.guard.clone());
        let (guard, _) = Guard::on(files, Path::new("guard"), state.network_id, self.key.clone())
            .map_err(|e| e.to_string())?;
        let marked = use_mark_up(&guard, &state, false).map_err(|e| e.to_string())?;
        let next = state.height.next();
        let log = &self.disk.log;
        let own: Vec<_> = log.entries.iter().filter_map(|entry| own_message(entry, me)).collect();
        let logged = (log.height > Height::GENESIS).then_some(log.height);
        let view = WalView {
            height: logged.unwrap_or(next),
            own: own.iter().map(message_id).collect(),
            is_empty: log.entries.is_empty(),
        };
        let abstain = guard.must_abstain(next, &view);
        if let Some(height) = abstain {
            guard.abstain_until_decided(height);
        }
        Ok((guard, marked.or(abstain.map(Abstention::Height))))
    }

    /// Makes the guard anew, as `lockstep init` does. A guard that is used has no mark: its network began before.
    pub(crate) fn make_guard(
        &self,
        now: Micros,
        genesis: &Genesis,
        (origin, is_used): (Origin, bool),
    ) {
        let before = if origin == Origin::Fresh { MADE_BEFORE_MS } else { 0 };
        let made_at = UnixMillis(self.clock.show(now).0 - before);
        let mark = Mark { origin, made_at };
        let files = Box::new(self.disk.guard.clone());
        let of = (genesis.network_id(), self.key.address());
        Guard::create_on(files, Path::new("guard"), of, mark).expect("there is no guard");
        if is_used {
            let files = Box::new(self.disk.guard.clone());
            let guard = Guard::on(files, Path::new("guard"), of.0, self.key.clone());
            let (guard, _) = guard.expect("it was just made");
            guard.raise_floor(Height::GENESIS).expect("a guard in memory does not fail");
        }
    }

    fn load_lanes(&self, now: Micros, ledger: &Ledger) -> Result<(Table, OwnLane), String> {
        let (state, me) = (ledger.state(), self.key.address());
        let lanes = &state.committed.lanes;
        let mut table = Table::new(me, lanes);
        let decided = lanes.iter().find(|lane| lane.owner == me);
        let decided = decided.map(|lane| lane.incarnation).unwrap_or_default();
        let store = ledger.store();
        let incarnation =
            store.next_incarnation(decided, self.clock.show(now)).map_err(|e| e.to_string())?;
        let (mut own, mut mine) = (OwnLane::new(me, incarnation, state.clone()), Vec::new());
        let passed = store.batches_passed(me, LANE_AHEAD_BYTES_MAX).map_err(|e| e.to_string())?;
        for raw in passed {
            let batch = Batch::decode(state.network_id, raw).and_then(Batch::check);
            let batch = batch.map_err(|error| format!("a stored batch is invalid: {error}"))?;
            mine.extend_from_slice(batch.entries());
        }
        for lane in lanes {
            let raw = store.batches_after(lane, LANE_AHEAD_BYTES_MAX).map_err(|e| e.to_string())?;
            for raw in raw {
                let batch = Batch::decode(state.network_id, raw).and_then(Batch::check);
                let batch = batch.map_err(|error| format!("a stored batch is invalid: {error}"))?;
                if batch.position().owner == me {
                    mine.extend_from_slice(batch.entries());
                }
                table.insert(batch);
            }
        }
        own.restore(ledger.undecided(mine));
        Ok((table, own))
    }
}

fn message_id(message: &OwnMessage) -> MessageId {
    match message {
        OwnMessage::Vote(vote) => {
            let step = match vote.vote_type {
                VoteType::Prevote => Step::Prevote,
                VoteType::Precommit => Step::Precommit,
            };
            MessageId { height: vote.height, round: vote.round, step }
        }
        OwnMessage::Proposal(proposal) => {
            MessageId { height: proposal.height, round: proposal.round, step: Step::Proposal }
        }
    }
}
