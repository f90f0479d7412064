//! The shell around the application: one task that brings it what happened and carries out what it wants.
//!
//! ```text
//! engine, mesh, users, timers, finished work ──► run ──► Application::step ──► carry_out
//!                                     ▲                                            │
//!                                     └──────────── tasks: check, verify, write ◄──┘
//! ```
//!
//! It decides nothing and waits for nothing but its inputs: what takes time is done in a task that sends its result
//! back. A disk that fails stops the node. Work is in `app::work`.

mod report;
mod timers;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::Address;
use lockstep_core::entry::Entry;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{NetworkId, UnixMillis};
use lockstep_engine::{EngineHandle, Request};
use tokio::sync::{mpsc, oneshot, watch};

use crate::abstention::Abstention;
use crate::application::Application;
use crate::application::effect::{Answer, Effect, ReplyId, Stop};
use crate::application::input::{Claimed, Done, EngineInput, Finalized, Input, MeshInput};
use crate::checker::Checker;
use crate::claims::Standing;
use crate::guard::Guard;
use crate::ingress::{Refused, Submitter};
use crate::lanes::wire::LaneMessage;
use crate::ledger::Ledger;
use crate::mesh::Inbound;
use crate::mesh::events::{Event, Events};
use crate::mesh::handle::Handle;
use crate::metrics::Metrics;
use crate::store::Undecided;
use crate::tracker::EntryState;
use crate::watchers::Watchers;

use self::timers::Timers;

/// Results of tasks that wait for the application.
pub(crate) const RESULTS_MAX: usize = 1_024;
/// Submissions that wait for the application.
pub(crate) const SUBMISSIONS_MAX: usize = 256;

/// The wall clock.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What the shell's tasks share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) me: Address,
    pub(crate) network: NetworkId,
    /// Signs batches and acknowledgements. Votes and proposals are the guard's.
    pub(crate) key: SigningKey,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) checker: Checker,
    pub(crate) guard: Arc<Guard>,
    pub(crate) mesh: Handle,
    pub(crate) metrics: Arc<Metrics>,
    /// Where tasks send their results.
    pub(crate) results: mpsc::Sender<Finished>,
}

/// What a task sends back.
#[derive(Debug)]
pub(crate) enum Finished {
    /// The result of an effect.
    Done(Box<Done>),
    /// The disk failed, or a task did: the node must stop.
    Failed(String),
}

/// Entries of a user, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) from: Submitter,
    pub(crate) entries: Vec<Entry>,
    pub(crate) reply: oneshot::Sender<Vec<Result<(EntryState, bool), Refused>>>,
}

/// The application, as readers of its state see it.
///
/// A lock, because states of entries and the node's health are read while the loop runs. Whoever holds it calls one pure
/// function; nobody holds it across an await or an effect.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Application>>);

impl Shared {
    pub(crate) fn new(application: Application) -> Self {
        Self(Arc::new(Mutex::new(application)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Application> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The channels of watched entries.
///
/// A lock, because ingress opens channels while the loop closes them. It is taken after the application's, where both are,
/// so that no change falls between a state and its channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<Mutex<Watchers>>);

impl Watched {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a run of the shell ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The application wants another run of the engine, or none any more.
    Stopped(Stop),
    /// The engine's channel is closed.
    Engine,
    /// The mesh has ended.
    Mesh,
    /// The disk or a task failed.
    Failed(String),
}

/// An answer that the engine or a user waits for.
#[derive(Debug)]
enum Waiting {
    Start(oneshot::Sender<lockstep_engine::StartHeight>),
    Blocks(oneshot::Sender<Vec<lockstep_engine::ProposedBlock>>),
    Block(oneshot::Sender<Option<lockstep_engine::ProposedBlock>>),
    Value(oneshot::Sender<lockstep_core::types::BlockHash>),
    Committed(oneshot::Sender<()>),
    Synced(oneshot::Sender<lockstep_engine::SyncOutcome>),
    Submitted(oneshot::Sender<Vec<Result<(EntryState, bool), Refused>>>),
}

/// The shell. It outlives the runs of the engine.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) context: Arc<Context>,
    pub(crate) application: Shared,
    watchers: Watched,
    results: mpsc::Receiver<Finished>,
    submissions: mpsc::Receiver<Submission>,
    lanes: mpsc::Receiver<Inbound>,
    events: Events,
    standing: watch::Receiver<Standing>,
    timers: Timers,
    engine: Option<EngineHandle>,
    replies: BTreeMap<ReplyId, Waiting>,
    replies_made: u64,
    stopped: Option<Ended>,
}

/// What the shell reads from.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) results: mpsc::Receiver<Finished>,
    pub(crate) submissions: mpsc::Receiver<Submission>,
    pub(crate) lanes: mpsc::Receiver<Inbound>,
    pub(crate) standing: watch::Receiver<Standing>,
}

impl Shell {
    /// A shell around an application; `effects` are those of its making.
    pub(crate) fn new(
        context: Arc<Context>,
        application: Shared,
        watchers: Watched,
        sources: Sources,
        effects: Vec<Effect>,
    ) -> Self {
        let events = context.mesh.subscribe_events();
        let Sources { results, submissions, lanes, standing } = sources;
        let mut this = Self {
            context,
            application,
            watchers,
            results,
            submissions,
            lanes,
            events,
            standing,
            timers: Timers::default(),
            engine: None,
            replies: BTreeMap::new(),
            replies_made: 0,
            stopped: None,
        };
        effects.into_iter().for_each(|effect| this.carry_out(effect));
        this
    }

    /// Serves one run of the engine, until something ends it.
    pub(crate) async fn run(
        &mut self,
        engine: EngineHandle,
        requests: &mut mpsc::Receiver<Request>,
        (abstains, undecided): (Option<Abstention>, Vec<Undecided>),
    ) -> Ended {
        self.engine = Some(engine);
        self.replies.retain(|_, waiting| matches!(waiting, Waiting::Submitted(_)));
        self.step(Input::Engine(EngineInput::Started { abstains, undecided }));
        self.standing.mark_changed();
        loop {
            if let Some(ended) = self.stopped.take() {
                self.engine = None;
                return ended;
            }
            // Results before questions, who is up before what they sent, and what consensus waits for before users and lanes.
            tokio::select! {
                biased;
                Some(finished) = self.results.recv() => match finished {
                    Finished::Done(done) => self.step(Input::Done(*done)),
                    Finished::Failed(reason) => self.stopped = Some(Ended::Failed(reason)),
                },
                event = self.events.next() => match event {
                    Some(event) => self.on_event(event),
                    None => self.stopped = Some(Ended::Mesh),
                },
                request = requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => self.stopped = Some(Ended::Engine),
                },
                Ok(()) = self.standing.changed() => {
                    let Standing { highest, may_begin, .. } = *self.standing.borrow_and_update();
                    let claimed = Claimed { highest, is_genesis: may_begin };
                    self.step(Input::Mesh(MeshInput::Claimed(claimed)));
                }
                timer = self.timers.next() => self.step(Input::TimerFired(timer)),
                Some(submission) = self.submissions.recv() => {
                    let Submission { from, entries, reply } = submission;
                    let reply = self.wait(Waiting::Submitted(reply));
                    self.step(Input::EntriesSubmitted { from, entries, reply });
                }
                Some(inbound) = self.lanes.recv() => self.on_lane_frame(inbound),
            }
        }
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.application.lock().step(now(), input, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    fn wait(&mut self, waiting: Waiting) -> ReplyId {
        self.replies_made = self.replies_made.wrapping_add(1);
        let id = ReplyId(self.replies_made);
        self.replies.insert(id, waiting);
        id
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Up(peer) => self.step(Input::Mesh(MeshInput::PeerUp(peer))),
            Event::Down(peer) => self.step(Input::Mesh(MeshInput::PeerDown(peer))),
            Event::Listening(_) => {}
        }
    }

    fn on_lane_frame(&mut self, inbound: Inbound) {
        let Inbound { from, body, .. } = inbound;
        match LaneMessage::decode(body) {
            Ok(message) => {
                self.step(Input::Mesh(MeshInput::LaneMessageReceived { from, message }));
            }
            Err(reason) => work::disconnect(&self.context, from, &reason),
        }
    }

    fn on_request(&mut self, request: Request) {
        self.with_engine(|engine| self.context.metrics.engine(engine.counters()));
        let input = match request {
            Request::Ready { reply } => {
                EngineInput::Ready { reply: self.wait(Waiting::Start(reply)) }
            }
            Request::StartedRound { height, round, reply, .. } => {
                let reply = self.wait(Waiting::Blocks(reply));
                EngineInput::RoundStarted { height, round, reply }
            }
            Request::GetValue { height, round, reply, .. } => {
                self.context.metrics.proposing(height);
                let reply = self.wait(Waiting::Value(reply));
                EngineInput::ValueRequested { height, round, reply }
            }
            Request::ReceivedPart { from, part, reply } => {
                // Its block is handed over by `redeliver` once it is judged.
                reply.send(None).ok();
                EngineInput::PartReceived { from, part }
            }
            Request::ReceivedProposal { from, proposal, proposer, ticket } => {
                EngineInput::ProposalReceived { from, proposal, proposer, ticket }
            }
            Request::Redelivered { block, reply, .. } => {
                let reply = self.wait(Waiting::Block(reply));
                EngineInput::RedeliveryTaken { block, reply }
            }
            Request::Decided { certificate, reply } => {
                self.context.metrics.deciding(certificate.height);
                let reply = self.wait(Waiting::Committed(reply));
                EngineInput::Decided { certificate, reply }
            }
            Request::Finalized { certificate, evidence, reply } => {
                let reply = self.wait(Waiting::Start(reply));
                EngineInput::Finalized(Finalized { certificate, evidence, reply })
            }
            Request::ProcessSynced { height, round, proposer, bytes, reply } => {
                let reply = self.wait(Waiting::Synced(reply));
                EngineInput::ValueSynced { height, round, proposer, bytes, reply }
            }
            Request::Restream { height, round, valid_round, proposer, block } => {
                let proposal =
                    lockstep_core::certificate::Proposal { height, round, valid_round, block };
                EngineInput::RestreamRequested { proposal, proposer }
            }
            Request::Fetched { from, height, value } => {
                EngineInput::ValueFetched { from, height, value }
            }
            Request::GetDecided { first, last, reply } => {
                return work::read_decided(&self.context, first, last, reply);
            }
            Request::HistoryMin { reply } => {
                reply.send(self.context.ledger.store().earliest()).ok();
                return;
            }
        };
        self.step(Input::Engine(input));
    }

    /// Begins one effect. None of them waits here.
    fn carry_out(&mut self, effect: Effect) {
        let context = &self.context;
        match effect {
            Effect::Reply(id, answer) => self.reply(id, answer),
            Effect::Dismiss(id) => drop(self.replies.remove(&id)),
            Effect::SetTimer(timer, after) => self.timers.set(timer, after),
            Effect::TellStates(changes) => self.watchers.lock().publish(&changes),
            Effect::Report(report) => report::note(&context.metrics, &report),
            Effect::Stop(stop) => self.stopped = Some(Ended::Stopped(stop)),
            Effect::Redeliver(height, block) => {
                self.with_engine(|engine| engine.redeliver(height, block));
            }
            Effect::PassProposal(ticket) => {
                self.with_engine(|engine| engine.pass_proposal(ticket));
            }
            // A peer that can't be asked now is passed over: the timer asks the next one.
            Effect::FetchValue(height, peer) => {
                self.with_engine(|engine| _ = engine.fetch(height, peer));
            }
            Effect::Publish { first, payload } => self.with_engine(|engine| {
                tokio::spawn(work::publish(engine.clone(), first, payload));
            }),
            Effect::OpenProposal { from, arrived, first, payload } => {
                work::open_proposal(context, (from, arrived), first, payload);
            }
            Effect::CheckBatches(job, raw) => work::check_batches(context, job, raw),
            Effect::CheckAcknowledgement(from, acknowledgement) => {
                work::check_acknowledgement(context, from, acknowledgement);
            }
            Effect::CheckEntries(reply, entries) => work::check_entries(context, reply, entries),
            Effect::VerifyBlock { job, header, cut, batches } => {
                work::verify_block(context, job, (header, cut), batches);
            }
            Effect::BuildBlock { height, round, timestamp, cut, batches } => {
                work::build_block(context, (height, round), timestamp, cut, batches);
            }
            Effect::SignProposal(proposal) => work::sign_proposal(context, proposal),
            Effect::SignBatch(next) => work::sign_batch(context, next),
            Effect::TakeIncarnation(decided) => work::take_incarnation(context, decided),
            Effect::PersistBlock { job, block, batches } => {
                work::persist_block(context, job, block, batches);
            }
            Effect::PersistBatches(job, batches) => work::persist_batches(context, job, batches),
            Effect::CommitBlock(decided) => work::commit_block(context, decided),
            Effect::PersistCertificate(certificate, evidence) => {
                work::persist_certificate(context, certificate, evidence);
            }
            Effect::ReadUndecided { height, block, lanes } => {
                work::read_undecided(context, (height, block), lanes);
            }
            Effect::PushBatch(batch) => work::push_batch(context, &batch),
            Effect::Acknowledge(to, tips) => work::acknowledge(context, to, tips),
            Effect::AskBatches(to, range) => work::ask_batches(context, to, range),
            Effect::SendBatches(to, range) => work::send_batches(context, to, range),
            Effect::Disconnect(peer, misdeed) => work::disconnect(context, peer, &misdeed),
        }
    }

    /// Between two runs of the engine there is none; the next one is told anew.
    fn with_engine(&self, tell: impl FnOnce(&EngineHandle)) {
        if let Some(engine) = &self.engine {
            tell(engine);
        }
    }

    fn reply(&mut self, id: ReplyId, answer: Answer) {
        // Whoever asked may be gone, and questions of an earlier run have no answer.
        match (self.replies.remove(&id), answer) {
            (Some(Waiting::Start(reply)), Answer::Start(start)) => drop(reply.send(start)),
            (Some(Waiting::Blocks(reply)), Answer::Blocks(blocks)) => drop(reply.send(blocks)),
            (Some(Waiting::Block(reply)), Answer::Block(block)) => drop(reply.send(block)),
            (Some(Waiting::Value(reply)), Answer::Value(block)) => drop(reply.send(block)),
            (Some(Waiting::Committed(reply)), Answer::Committed) => drop(reply.send(())),
            (Some(Waiting::Synced(reply)), Answer::Synced(outcome)) => drop(reply.send(outcome)),
            (Some(Waiting::Submitted(reply)), Answer::Submitted(all)) => drop(reply.send(all)),
            (None, _) => {}
            (Some(waiting), answer) => unreachable!("{answer:?} does not answer {waiting:?}"),
        }
    }
}
