//! What a validator decides: one function over plain data, stepped by the node, by tests and by the simulator alike.
//!
//! ```text
//! engine ─┐                                ┌─► answers, proposals, parts     (engine)
//! mesh ───┼─ Input ─► step(now) ─ Effect ──┼─► batches, acknowledgements     (mesh)
//! users ──┤            ▲                   ├─► check, verify, build, sign ─┐
//! timers ─┘            └─────── Done ──────┴─► write and sync ─────────────┘
//! ```
//!
//! A validator withholds its vote from a block while any of this holds:
//!
//! | reason | where |
//! |---|---|
//! | the proposer of the round did not sign the first part | [`proposals`] |
//! | the signed proposal is not of the very round and valid round that was judged | [`tickets`] |
//! | it is a fresh proposal whose time is too far from its arrival | [`proposals`] |
//! | it breaks an objective rule | `judging`, core's `block::verify` |
//! | a batch of its cut is not held and synced, or the block is not | `judging` |
//! | the guard signed something else, or must abstain | `crate::guard`, which this function does not know |
//!
//! No task, clock, lock, channel or text is in here: `now` is the only time, and equal states and inputs give equal
//! effects. It does not know how effects are carried out, nor what is on any disk.

pub mod candidates;
pub mod effect;
pub mod input;
pub mod peers;
pub mod proposals;
pub mod syncing;
pub mod tickets;

mod deciding;
mod judging;
mod lanes;
mod proposing;
mod submissions;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use libp2p::PeerId;
use lockstep_core::params::NetworkParams;
use lockstep_core::state::State;
use lockstep_core::types::{EntryId, NetworkId, UnixMillis};
use lockstep_engine::{StartHeight, Timeouts};

use self::candidates::Candidates;
use self::deciding::Deciding;
use self::effect::{
    Answer, BatchesJob, BlockJob, Effect, PersistJob, ReplyId, Report, Stop, Timer,
};
use self::input::{Claimed, Done, EngineInput, Finalized, Input, MeshInput};
use self::lanes::LaneSide;
pub use self::lanes::WAITING_PER_PEER_MAX;
use self::peers::Peers;
use self::proposals::Early;
use self::proposing::Proposing;
use self::submissions::Submissions;
use self::syncing::Syncing;
use self::tickets::Tickets;
use crate::abstention::Abstention;
use crate::lanes::own::OwnLane;
use crate::lanes::table::Table;
use crate::pace;
use crate::parts::Assembler;
use crate::tracker::{EntryState, Tracker};

/// Given to the peers' side of new connections before consensus starts: theirs open a moment after ours.
const SETTLE: Duration = Duration::from_millis(100);

/// What an application is made with.
#[derive(Debug)]
pub struct Config {
    /// This validator.
    pub me: Address,
    /// The network.
    pub network: NetworkId,
    /// The other validators on the mesh.
    pub peers: Peers,
    /// Block interval.
    pub interval: Duration,
    /// How long the first entry of a batch waits for others.
    pub batch_delay: Duration,
    /// The state after the newest block.
    pub state: Arc<State>,
    /// The lanes as they are held.
    pub table: Table,
    /// This validator's lane, at the beginning of a run.
    pub own: OwnLane,
}

/// How much an application keeps of what peers sent, of all peers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Proposals of the height under way.
    pub proposals: usize,
    /// Their blocks.
    pub blocks: usize,
    /// Signed proposals that wait for their block: at most [`tickets::TICKETS_PER_PEER_MAX`] of each peer.
    pub tickets: usize,
    /// Proposals of which parts are missing: at most [`crate::parts::STREAMS_PER_PEER_MAX`] of each peer.
    pub streams: usize,
    /// Proposals of later heights: at most [`proposals::EARLY_PER_PEER_MAX`] of each peer.
    pub early: usize,
    /// Batches that wait to be checked: at most [`WAITING_PER_PEER_MAX`] of each peer.
    pub batches: usize,
}

/// A validator's application.
#[derive(Debug)]
pub struct Application {
    me: Address,
    network: NetworkId,
    interval: Duration,
    /// After the newest block.
    state: Arc<State>,
    peers: Peers,
    candidates: Candidates,
    tickets: Tickets,
    parts: Assembler<PeerId>,
    early: Early,
    proposing: Proposing,
    deciding: Option<Deciding>,
    syncing: Option<Syncing>,
    lanes: LaneSide,
    tracker: Tracker,
    submissions: Submissions,
    /// Asked where to start, while no quorum is up and nobody claims a later height.
    ready: Option<ReplyId>,
    /// Asked for the next height while this one's block is being written.
    finalized: Option<Finalized>,
    /// Become a voter once this is over.
    abstains: Option<Abstention>,
    /// Of the validators that are up, in this run of the engine.
    claimed: Claimed,
}

impl Application {
    /// An application at the state's height; nothing is proposed. Carry out the effects first.
    #[must_use]
    pub fn new(config: Config) -> (Self, Vec<Effect>) {
        let Config { me, network, peers, interval, batch_delay, state, table, own } = config;
        let mut effects = Vec::new();
        let mut this = Self {
            me,
            network,
            interval,
            peers,
            candidates: Candidates::default(),
            tickets: Tickets::default(),
            parts: Assembler::new(state.height.next()),
            early: Early::default(),
            proposing: Proposing::default(),
            deciding: None,
            syncing: None,
            lanes: LaneSide::new(table, own, batch_delay),
            tracker: Tracker::default(),
            submissions: Submissions::default(),
            ready: None,
            finalized: None,
            abstains: None,
            claimed: Claimed::default(),
            state,
        };
        this.begin_lanes(&mut effects);
        (this, effects)
    }

    /// Takes one input and appends what must be done, in the order in which it must be begun.
    ///
    /// Pure: `now` is the only time there is.
    pub fn step(&mut self, now: UnixMillis, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Engine(input) => self.on_engine(now, input, effects),
            Input::Mesh(input) => self.on_mesh(input, effects),
            Input::EntriesSubmitted { from, reply, entries } => {
                self.on_submitted(now, (from, reply), entries, effects);
            }
            Input::Done(done) => self.on_done(now, done, effects),
            Input::TimerFired(timer) => self.on_timer(now, timer, effects),
        }
    }

    fn on_engine(&mut self, now: UnixMillis, input: EngineInput, effects: &mut Vec<Effect>) {
        match input {
            EngineInput::Started { abstains, undecided } => {
                self.on_engine_started(now, abstains, undecided, effects);
            }
            EngineInput::Ready { reply } => {
                self.ready = Some(reply);
                self.start_when_ready(effects);
            }
            EngineInput::RoundStarted { height, round, reply } => {
                self.on_round_started(height, round, reply, effects);
            }
            EngineInput::ValueRequested { height, round, reply } => {
                self.on_value_requested(now, (height, round), reply, effects);
            }
            EngineInput::PartReceived { from, part } => {
                self.on_part_received(now, from, part, effects);
            }
            EngineInput::ProposalReceived { from, proposal, proposer, ticket } => {
                self.on_proposal_received((from, proposer), proposal, ticket, effects);
            }
            EngineInput::RedeliveryTaken { block, reply } => {
                let block = self.candidates.fetch(block);
                effects.push(Effect::Reply(reply, Answer::Block(block)));
            }
            EngineInput::Decided { certificate, reply } => {
                self.on_decided(certificate, reply, effects);
            }
            EngineInput::Finalized(finalized) => self.on_finalized(now, finalized, effects),
            EngineInput::ValueSynced { height, round, proposer, bytes, reply } => {
                self.on_value_synced((height, round, proposer), &bytes, reply, effects);
            }
            EngineInput::RestreamRequested { proposal, proposer } => {
                self.on_restream_requested(proposal, proposer, effects);
            }
            EngineInput::ValueFetched { from, height, value } => {
                self.on_value_fetched(from, height, value, effects);
            }
        }
    }

    fn on_mesh(&mut self, input: MeshInput, effects: &mut Vec<Effect>) {
        match input {
            MeshInput::PeerUp(peer) => {
                self.peers.up(peer);
                self.acknowledge(Some(peer), effects);
                self.start_when_ready(effects);
            }
            MeshInput::PeerDown(peer) => {
                self.peers.down(peer);
                self.tickets.forget(peer);
                self.early.forget(peer);
            }
            MeshInput::Claimed(claimed) => {
                self.claimed = claimed;
                self.stop_abstaining(effects);
                self.start_when_ready(effects);
            }
            MeshInput::LaneMessageReceived { from, message } => {
                self.on_lane_message(from, message, effects);
            }
        }
    }

    fn on_done(&mut self, now: UnixMillis, done: Done, effects: &mut Vec<Effect>) {
        match done {
            Done::ProposalOpened(opened) => self.on_opened(now, *opened, effects),
            Done::BatchesChecked { job, batches } => {
                self.on_batches_checked(now, job, batches, effects);
            }
            Done::AcknowledgementChecked { from, acknowledgement, signer } => {
                self.on_acknowledgement_checked(from, &acknowledgement, signer, effects);
            }
            Done::EntriesChecked { reply, entries } => {
                self.on_entries_checked(now, reply, entries, effects);
            }
            Done::BlockVerified { job: BlockJob::Proposed(block), verification } => {
                self.on_proposed_verified(block, verification, effects);
            }
            Done::BlockVerified { job: BlockJob::Synced(id), verification } => {
                self.on_synced_verified(id, verification, effects);
            }
            Done::BlockVerified { job: BlockJob::Decided(id), verification } => {
                self.on_decided_verified(id, verification, effects);
            }
            Done::BlockBuilt(built) => self.on_block_built(*built, effects),
            Done::ProposalSigned { proposal, signature } => {
                self.on_proposal_signed(proposal, signature, effects);
            }
            Done::BlockPersisted { job } => match job {
                PersistJob::Own(block) => self.on_own_persisted(block, effects),
                PersistJob::Proposed(proposal) => self.on_proposed_persisted(proposal, effects),
                PersistJob::Synced(id) => self.on_synced_persisted(id, effects),
            },
            Done::BatchesPersisted { job, batches, aside } => match job {
                BatchesJob::Group => self.on_group_persisted(now, batches, &aside, effects),
                BatchesJob::Attached(block) => {
                    self.on_attached_persisted(now, block, (batches, &aside), effects);
                }
                BatchesJob::Decided(id) => self.on_decided_persisted(id, effects),
            },
            Done::BatchesSent(to) => self.on_batches_sent(to, effects),
            Done::BatchSigned { place, batch } => self.on_batch_signed(place, batch, effects),
            Done::IncarnationTaken(incarnation) => {
                self.lanes.own.begin_run(incarnation);
                self.wake(effects);
            }
            Done::UndecidedRead { block, found } => self.on_undecided_read(block, found, effects),
            Done::BlockCommitted(committed) => {
                self.on_block_committed(now, *committed, effects);
            }
        }
    }

    fn on_timer(&mut self, now: UnixMillis, timer: Timer, effects: &mut Vec<Effect>) {
        match timer {
            Timer::Settle => self.on_settled(now, effects),
            Timer::Batch => self.on_batch_timer(now, effects),
            Timer::Group => self.on_group_timer(effects),
            Timer::Repair => self.on_repair_timer(now, effects),
            Timer::Reminder => self.on_reminder_timer(effects),
            Timer::Fetch => self.fetch_decided(effects),
        }
    }

    /// A new run of the engine: what the old one was told is told again, from what was written.
    fn on_engine_started(
        &mut self,
        now: UnixMillis,
        abstains: Option<Abstention>,
        undecided: Vec<crate::store::Undecided>,
        effects: &mut Vec<Effect>,
    ) {
        (self.abstains, self.claimed) = (abstains, Claimed::default());
        self.forget_height(effects);
        (self.ready, self.finalized, self.syncing) = (None, None, None);
        // A block that is being written becomes the newest one all the same: the run begins behind it.
        self.deciding.take_if(|deciding| !deciding.is_committing());
        self.load_undecided(undecided);
        self.judge_waiting(now, effects);
        self.stop_abstaining(effects);
    }

    /// Consensus starts once a quorum is up, because before its first messages would reach nobody; or once somebody claims
    /// a later height, because nothing is synced before; and never at a height whose block is being written.
    fn start_when_ready(&self, effects: &mut Vec<Effect>) {
        let is_committing = self.deciding.as_ref().is_some_and(Deciding::is_committing);
        if self.ready.is_some() && self.may_start() && !is_committing {
            effects.push(Effect::SetTimer(Timer::Settle, SETTLE));
        }
    }

    fn may_start(&self) -> bool {
        self.has_quorum() || self.claimed.highest > self.state.height
    }

    fn on_settled(&mut self, now: UnixMillis, effects: &mut Vec<Effect>) {
        if !self.may_start() {
            return;
        }
        let Some(reply) = self.ready.take() else { return };
        let start = self.start_height(now);
        let (height, peers) = (start.height, self.peers.count_up());
        effects.push(Effect::Report(Report::Started { height, peers }));
        effects.push(Effect::Reply(reply, Answer::Start(start)));
    }

    /// What the next height starts with.
    fn start_height(&self, now: UnixMillis) -> StartHeight {
        let committed = &self.state.committed;
        StartHeight {
            height: self.state.height.next(),
            validators: committed.validators.clone(),
            timeouts: timeouts(&committed.params),
            target_time: Some(pace::target_time(self.interval, self.state.timestamp, now)),
        }
    }

    fn stop_abstaining(&mut self, effects: &mut Vec<Effect>) {
        let (decided, time) = (self.state.height, self.state.timestamp);
        let is_over = |why: &mut Abstention| why.is_over(decided, time, self.claimed.is_genesis);
        if self.abstains.take_if(is_over).is_some() {
            effects.push(Effect::Stop(Stop::MayVote));
        }
    }

    /// Nothing of the height under way is needed any more.
    fn forget_height(&mut self, effects: &mut Vec<Effect>) {
        self.candidates.clear();
        self.parts.advance(self.state.height.next());
        self.tickets.advance(self.state.height.next());
        self.give_turn_up(effects);
    }

    /// State after the newest block.
    #[must_use]
    pub const fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The state of an entry that was submitted here.
    #[must_use]
    pub fn entry_state(&self, id: EntryId) -> Option<EntryState> {
        self.tracker.state(id)
    }

    /// Whether this validator and those that are up are a quorum.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.peers.has_quorum(&self.state.committed.validators)
    }

    /// How many other validators are up.
    #[must_use]
    pub fn peers_up(&self) -> usize {
        self.peers.count_up()
    }

    /// Blocks proposed at the height under way.
    #[must_use]
    pub const fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// How much is kept of what peers sent.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let (proposals, blocks) = self.candidates.counts();
        Kept {
            proposals,
            blocks,
            tickets: self.tickets.count(),
            streams: self.parts.count(),
            early: self.early.count(),
            batches: self.lanes.count_inboxes(),
        }
    }
}

/// The engine's timeouts by the network's parameters.
fn timeouts(params: &NetworkParams) -> Timeouts {
    let delta = Duration::from_millis(params.timeout_delta_ms);
    let propose = Duration::from_millis(params.propose_ms);
    Timeouts {
        propose,
        propose_delta: delta,
        prevote: Duration::from_millis(params.prevote_ms),
        prevote_delta: delta,
        precommit: Duration::from_millis(params.precommit_ms),
        precommit_delta: delta,
        rebroadcast: propose.saturating_mul(2),
        max: Duration::from_millis(params.timeout_ms_max),
    }
}
