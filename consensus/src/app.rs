//! The application under the engine: one task that owns the candidates and answers the engine at once.
//!
//! ```text
//! engine ──Request──► run ──► handlers/* ──┬─► reply
//!                      ▲                   └─► task: open, judge, propose, sync ──Done──┐
//!                      └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! No handler waits for anything but the commit of a decided block: what takes time is done in a task that reports back
//! as [`Done`], and a block that becomes complete then is handed over by `redeliver`. It decides nothing itself: rules
//! are core's, bookkeeping is `candidates`', `parts`' and `tracker`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, Bytes};
use libp2p::PeerId;
use lockstep_core::batch::BatchPosition;
use lockstep_core::block::LeaveOut;
use lockstep_core::cut::Cut;
use lockstep_core::dedup::{self, Decision};
use lockstep_core::entry::CheckedEntry;
use lockstep_core::header::Header;
use lockstep_core::lane::Unresolved;
use lockstep_core::params::NetworkParams;
use lockstep_core::types::{BlockHash, Height};
use lockstep_engine::{EngineHandle, ProposedBlock, Request, StartHeight, Timeouts};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use crate::abstention::Abstention;
use crate::candidates::{Candidates, Proposed, Verdict, Verified};
use crate::checker::Checker;
use crate::claims::Standing;
use crate::guard::Guard;
use crate::handlers;
use crate::lanes::table::Attached;
use crate::lanes::{Lanes, now};
use crate::ledger::{DecidedBlock, Ledger};
use crate::metrics::Metrics;
use crate::pace;
use crate::parts::Assembler;
use crate::tracker::{DropReason, EntryState, Tracker};

/// Results of tasks that wait for the application.
pub(crate) const DONE_MAX: usize = 256;

/// What the application and its tasks share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) me: Address,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) lanes: Lanes,
    pub(crate) checker: Checker,
    pub(crate) guard: Arc<Guard>,
    // A lock, because ingress and the application both note states; held for map operations only.
    pub(crate) tracker: Arc<Mutex<Tracker>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) done: mpsc::Sender<Done>,
    /// Block interval.
    pub(crate) interval: Duration,
}

/// What a task reports back.
#[derive(Debug)]
pub(crate) enum Done {
    /// A proposal is complete and signed by whose turn it is.
    Opened {
        from: Option<PeerId>,
        header: Header,
        cut: Cut,
        attached: Attached,
        proposed: Proposed,
    },
    /// A block was judged. `None`: its batches were not what the cut names; wait for others.
    Judged { block: BlockHash, verdict: Option<Verdict> },
    /// A block that this node made or synced: opened and judged in one.
    Ready { header: Header, cut: Cut, proposed: Proposed, verified: Verified },
}

/// The application's own state.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) context: Arc<Context>,
    pub(crate) engine: EngineHandle,
    pub(crate) candidates: Candidates,
    pub(crate) assembler: Assembler<PeerId>,
    /// Evidence of the last height, to be written with the next.
    pub(crate) evidence: Vec<Bytes>,
    /// Stop to become a voter once this is over.
    pub(crate) abstains: Option<Abstention>,
    /// How far the other validators claim to be.
    pub(crate) standing: watch::Receiver<Standing>,
}

/// Why the application stopped; the node must stop with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppStopped {
    /// What this node abstained for is over.
    #[error("this node may vote")]
    MayVote,
    /// The engine's channel is closed.
    #[error("the consensus engine stopped")]
    Engine,
    /// A decided block could not be written, or is not there to be written.
    #[error("cannot commit height {height}: {reason}")]
    Commit {
        /// The height.
        height: Height,
        /// Why.
        reason: String,
    },
}

impl Context {
    pub(crate) fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next height starts with.
    pub(crate) fn start_height(&self) -> StartHeight {
        let state = self.ledger.state();
        StartHeight {
            height: state.height.next(),
            validators: state.committed.validators.clone(),
            timeouts: timeouts(&state.committed.params),
            target_time: Some(pace::target_time(self.interval, state.timestamp, now())),
        }
    }

    /// Reports a result; the application is gone only when the node stops.
    pub(crate) async fn report(&self, done: Done) {
        drop(self.done.send(done).await);
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

impl App {
    /// Runs until the engine or the store fails.
    pub(crate) async fn run(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        done: &mut mpsc::Receiver<Done>,
        batches: &mut watch::Receiver<u64>,
    ) -> AppStopped {
        self.judge_waiting();
        loop {
            let may_begin = self.standing.borrow_and_update().may_begin;
            let state = self.context.ledger.state();
            let is_over = |why: Abstention| why.is_over(state.height, state.timestamp, may_begin);
            if self.abstains.is_some_and(is_over) {
                return AppStopped::MayVote;
            }
            tokio::select! {
                biased;
                Some(done) = done.recv() => self.on_done(done),
                request = requests.recv() => match request {
                    None => return AppStopped::Engine,
                    Some(request) => if let Err(stopped) = self.on_request(request).await {
                        return stopped;
                    },
                },
                Ok(()) = batches.changed() => self.judge_waiting(),
                Ok(()) = self.standing.changed(), if self.abstains.is_some() => {}
            }
        }
    }

    async fn on_request(&mut self, request: Request) -> Result<(), AppStopped> {
        match request {
            Request::Ready { reply } => handlers::ready::handle(self, reply),
            Request::StartedRound { height, round, reply, .. } => {
                handlers::started_round::handle(self, height, round, reply);
            }
            Request::GetValue { height, round, reply, .. } => {
                handlers::get_value::handle(self, height, round, reply);
            }
            Request::ReceivedPart { from, part, reply } => {
                handlers::received_part::handle(self, from, part);
                // Its block is handed over by `redeliver` once it is judged.
                reply.send(None).ok();
            }
            Request::Redelivered { block, reply, .. } => {
                reply.send(self.candidates.fetch(block)).ok();
            }
            Request::Decided { certificate, reply } => {
                handlers::decided::handle(self, certificate).await?;
                reply.send(()).ok();
            }
            Request::Finalized { certificate, evidence, reply } => {
                handlers::finalized::handle(self, certificate, evidence, reply);
            }
            Request::ProcessSynced { height, bytes, reply, .. } => {
                handlers::process_synced::handle(self, height, bytes, reply);
            }
            Request::GetDecided { first, last, reply } => {
                handlers::get_decided::handle(self, first, last, reply);
            }
            Request::HistoryMin { reply } => {
                reply.send(self.context.ledger.store().earliest()).ok();
            }
            Request::Restream { round, valid_round, proposer, block, .. } => {
                handlers::restream::handle(self, (round, valid_round, proposer), block);
            }
        }
        Ok(())
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Opened { from, header, cut, attached, proposed } => {
                let block = header.hash();
                let handed = self.candidates.open((header, cut), (from, attached), proposed);
                self.hand_over(handed);
                self.judge(block);
            }
            Done::Judged { block, verdict } => {
                let verdict = verdict.unwrap_or(Verdict::Waiting);
                let handed = self.candidates.judge(block, verdict);
                self.hand_over(handed);
            }
            Done::Ready { header, cut, proposed, verified } => {
                let block = header.hash();
                self.candidates.open((header, cut), (None, Attached::new()), proposed);
                // The engine has it by the answer to its own question.
                self.candidates.judge(block, Verdict::Valid(verified));
                while self.candidates.fetch(block).is_some() {}
            }
        }
    }

    fn hand_over(&self, proposed: impl IntoIterator<Item = ProposedBlock>) {
        for ProposedBlock { height, block, .. } in proposed {
            self.engine.redeliver(height, block);
        }
    }

    /// Judges every block of the next height that waits.
    pub(crate) fn judge_waiting(&mut self) {
        let height = self.context.ledger.state().height.next();
        for block in self.candidates.waiting(height) {
            self.judge(block);
        }
    }

    /// Judges a block of the next height if its batches are held; else asks for them.
    fn judge(&mut self, block: BlockHash) {
        let Some(candidate) = self.candidates.get(block) else { return };
        let state = self.context.ledger.state();
        let is_next = candidate.header.height == state.height.next();
        if !is_next || !matches!(candidate.verdict, Verdict::Waiting) {
            return;
        }
        let (header, cut) = (candidate.header.clone(), candidate.cut.clone());
        if let Err(reason) = lockstep_core::block::check_header(&state, &header, &cut) {
            warn!(height = %header.height, %block, %reason, "proposed block is invalid");
            let handed = self.candidates.judge(block, Verdict::Invalid);
            return self.hand_over(handed);
        }
        let steps = cut.steps(&state.committed.lanes).unwrap_or_default();
        match self.context.lanes.batches(&steps, &candidate.attached) {
            Ok(batches) => {
                self.candidates.judge(block, Verdict::Judging);
                let context = self.context.clone();
                tokio::spawn(handlers::judge::run(context, header, cut, batches));
            }
            Err(Unresolved::Missing { ranges }) => {
                debug!(%block, ?ranges, "proposed block waits for batches");
                self.context.lanes.request(&ranges, candidate.from);
            }
            Err(Unresolved::Broken { position }) => {
                warn!(%block, ?position, "proposed block's cut is no chain");
                let handed = self.candidates.judge(block, Verdict::Invalid);
                self.hand_over(handed);
            }
            // Its owner signed two batches; without the other one this node can't judge. Sync brings it if others can.
            Err(Unresolved::Fork { position, .. }) => {
                warn!(%block, ?position, "proposed block names another batch than is held");
            }
        }
    }

    /// After a commit: lanes, states of entries, and the candidates of the next height.
    pub(crate) fn after_commit(&mut self, decided: &DecidedBlock) {
        let height = decided.header.height;
        self.context.lanes.advance(&decided.cut.lanes);
        self.note_entries(decided);
        self.context.metrics.decided(decided);
        self.candidates.advance(height);
        self.assembler.advance(height.next());
        self.judge_waiting();
    }

    fn note_entries(&self, decided: &DecidedBlock) {
        let (height, block) = (decided.header.height, decided.header.hash());
        let entries = decided.entries();
        let mut tracker = self.context.tracker();
        for taken in &decided.assembly.taken {
            if let Some(entry) = entries.at(&taken.batch, taken.entry) {
                let decision = Decision { height, index: taken.index };
                tracker.end(entry.entry().id(), EntryState::Decided { decision, block });
            }
        }
        let mut carried = Vec::new();
        for left_out in &decided.assembly.left_out {
            let Some(entry) = entries.at(&left_out.batch, left_out.entry) else { continue };
            if left_out.reason.is_final() {
                let state = self.final_state(entry, left_out.reason, block);
                tracker.end(entry.entry().id(), state);
            } else if self.is_own(&left_out.batch) {
                carried.push(entry.clone());
            }
        }
        tracker.expire(decided.header.timestamp_ms);
        drop(tracker);
        self.context.lanes.carry(carried);
    }

    fn is_own(&self, batch: &BatchPosition) -> bool {
        batch.owner == self.context.me
    }

    /// A duplicate of a decided entry is that decision, not a drop.
    fn final_state(&self, entry: &CheckedEntry, reason: LeaveOut, block: BlockHash) -> EntryState {
        let dropped = EntryState::Dropped(DropReason::LeftOut(reason));
        let LeaveOut::Duplicate { earlier } = reason else { return dropped };
        let is_same = dedup::keys(entry)
            .all(|key| self.context.ledger.decision(&key).is_some_and(|d| d == earlier));
        if !is_same {
            return dropped;
        }
        let state = self.context.ledger.state();
        let at = match earlier.height {
            height if height == state.height => Some(block),
            height => self.context.ledger.block_hash(height),
        };
        at.map_or(dropped, |block| EntryState::Decided { decision: earlier, block })
    }

    /// Commits a decided block. Errors stop the node: its consensus went on without its store.
    pub(crate) async fn commit(&mut self, mut decided: DecidedBlock) -> Result<(), AppStopped> {
        decided.evidence = std::mem::take(&mut self.evidence);
        let height = decided.header.height;
        let ledger = self.context.ledger.clone();
        let decided = Arc::new(decided);
        let to_write = decided.clone();
        let result = tokio::task::spawn_blocking(move || ledger.commit(&to_write)).await;
        let reason = match result {
            Ok(Ok(())) => {
                info!(%height, taken = decided.assembly.taken.len(), "decided");
                self.after_commit(&decided);
                return Ok(());
            }
            Ok(Err(reason)) => reason.to_string(),
            Err(reason) => reason.to_string(),
        };
        error!(%height, %reason, "cannot commit; the node stops");
        Err(AppStopped::Commit { height, reason })
    }
}
