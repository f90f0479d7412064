//! Consensus of a node: what its replica wants is done here, and what it is told comes from here.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_consensus::abstention::{self, Abstention};
use lockstep_consensus::application::input::{Claimed, EngineInput, Finalized, Input, MeshInput};
use lockstep_consensus::guard::{self, Guard};
use lockstep_core::certificate::{Proposal, Vote, VoteType};
use lockstep_core::planted::{Bug, planted};
use lockstep_core::signing::{Signature, SigningKey};
use lockstep_core::types::{Height, Round, UnixMillis};
use lockstep_engine::replica::frames::{self, SyncFrame, VotesFrame};
use lockstep_engine::replica::{self, Effect, Replica};
use lockstep_engine::{Failure, SignError};

use crate::checks::{Checks, Held};
use crate::disk::Disk;
use crate::node::{Node, Running, Waiting, peer, place};
use crate::plan::{Crash, MS};
use crate::world::{Class, Event, World};

/// How long a request of value sync may take.
const SYNC_PATIENCE: u64 = 1_000 * MS;
/// How long a quorum at the genesis waits where a peer claims a height.
const CONTEST_PATIENCE: u64 = 10_000 * MS;

/// The replica's host: the guard, the log, and a list of what else is to be done.
struct Host<'a> {
    node: usize,
    is_honest: bool,
    key: &'a SigningKey,
    guard: &'a Guard,
    disk: &'a mut Disk,
    crash: &'a mut Option<Crash>,
    checks: &'a mut Checks,
    is_crashed: bool,
    /// Its clock.
    now: UnixMillis,
    effects: Vec<Effect>,
}

impl Host<'_> {
    fn is_up(&mut self) -> bool {
        self.is_crashed |= !World::counted(self.crash);
        !self.is_crashed
    }
}

fn refusal(error: &guard::SignError) -> SignError {
    let reason = error.to_string();
    match error {
        guard::SignError::Stopped | guard::SignError::Io(_) => SignError::Failed(reason),
        _ => SignError::Refused(reason),
    }
}

impl replica::Host for Host<'_> {
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, SignError> {
        if !self.is_up() {
            return Err(SignError::Failed("crashed".to_owned()));
        }
        let signature = if planted(Bug::NoGuard) {
            self.key.sign(vote.digest(self.checks.network))
        } else {
            self.guard.sign_vote(vote).map_err(|error| refusal(&error))?
        };
        if self.is_honest {
            self.checks.asked(self.node, &self.disk.log);
            self.checks.signed_vote(self.node, vote, self.now);
            if !planted(Bug::NoGuard) {
                self.checks.signature_leaves(self.node, &self.disk.guard);
            }
        }
        Ok(signature)
    }

    fn sign_proposal(&mut self, proposal: &Proposal) -> Result<Signature, SignError> {
        if !self.is_up() {
            return Err(SignError::Failed("crashed".to_owned()));
        }
        let signed = self.guard.sign_proposal(proposal).map_err(|error| refusal(&error))?;
        if self.is_honest {
            self.checks.asked(self.node, &self.disk.log);
            self.checks.signed_proposal(self.node, proposal);
            self.checks.signature_leaves(self.node, &self.disk.guard);
        }
        Ok(signed.proposal)
    }

    fn open_log(&mut self, height: Height, is_voter: bool) -> Vec<Bytes> {
        if !self.is_up() || !is_voter {
            return Vec::new();
        }
        let log = &mut self.disk.log;
        if log.height != height {
            (log.height, log.entries, log.synced) = (height, Vec::new(), 0);
        }
        log.entries.clone()
    }

    fn carry_out(&mut self, effect: Effect) {
        if !self.is_up() {
            return;
        }
        let log = &mut self.disk.log;
        match effect {
            Effect::AppendLog(entry) => log.entries.push(entry),
            Effect::SyncLog => log.synced = log.entries.len(),
            effect => self.effects.push(effect),
        }
    }
}

impl World {
    /// A new run of consensus, as a voter or not.
    pub(crate) fn start_engine(&mut self, node: usize) {
        let network = self.network;
        let all = self.nodes.iter().enumerate();
        let peers = all.map(|(place, node)| (peer(place), node.key.address())).collect();
        let Node { key, running, .. } = &mut self.nodes[node];
        let Some(running) = running else { return };
        let voter = running.abstains.is_none().then(|| key.address());
        running.replica = Replica::new(network, voter, Arc::new(peers));
        self.checks.forgets_locks(node);
        running.run += 1;
        running.claimed = Default::default();
        running.engine_timers.clear();
        running.sync = crate::node::Sync { number: running.sync.number, ..Default::default() };
        running.replies.retain(|_, waiting| matches!(waiting, Waiting::Submitted(_)));
        let undecided = running.ledger.store().undecided(running.height().next());
        let undecided = undecided.expect("a store in memory does not fail");
        let abstains = running.abstains;
        if abstains.is_some() {
            self.outcome.abstained += 1;
        }
        let started = EngineInput::Started { abstains, undecided };
        self.application(node, Input::Engine(started));
        let Some(running) = &mut self.nodes[node].running else { return };
        let reply = running.wait(Waiting::Start);
        self.application(node, Input::Engine(EngineInput::Ready { reply }));
    }

    /// Tells consensus something a moment from now.
    pub(crate) fn tell_engine(&mut self, node: usize, input: replica::Input) {
        if let Some(running) = &self.nodes[node].running {
            let run = running.run;
            self.later(0, node, Event::Engine { run, input });
        }
    }

    /// Steps consensus and does what it wants.
    pub(crate) fn engine(&mut self, node: usize, input: replica::Input) {
        let is_honest = self.is_honest(node);
        let asks = self.asks_for_a_lock(node, &input);
        let Node { key, running, disk, crash, clock, .. } = &mut self.nodes[node];
        let Some(Running { replica, guard, .. }) = running else { return };
        let mut host = Host {
            key,
            node,
            is_honest,
            guard,
            disk,
            crash,
            checks: &mut self.checks,
            is_crashed: false,
            now: clock.show(self.now),
            effects: Vec::new(),
        };
        let stepped = replica.step(input, &mut host);
        let Host { is_crashed, effects, .. } = host;
        for effect in effects {
            self.engine_effect(node, effect);
        }
        if let Some((to, at)) = asks.filter(|_| is_honest && !is_crashed) {
            self.checks.must_have_shown(node, to, at);
        }
        match stepped {
            _ if is_crashed => self.crash(node),
            Ok(()) => {}
            Err(Failure::Signer(SignError::Refused(reason))) => self.abstain(node, &reason),
            Err(failure) => self.checks.fail(format!("node {node}: consensus ended: {failure}")),
        }
    }

    /// Who precommits nil in the round where a node is and has locked, and where that is.
    fn asks_for_a_lock(
        &self,
        node: usize,
        input: &replica::Input,
    ) -> Option<(usize, (Height, Round))> {
        let replica::Input::FrameReceived { from, frame } = input else { return None };
        let (height, round) = self.nodes[node].running.as_ref()?.replica.position()?;
        let at = (height, round?);
        if !self.checks.has_locked(node, at) {
            return None;
        }
        let Ok(VotesFrame::Vote(vote, ..)) = frames::read_votes(*from, frame.clone()) else {
            return None;
        };
        let is_nil = vote.vote_type == VoteType::Precommit && vote.block.is_none();
        (is_nil && (vote.height, vote.round) == at).then(|| (place(from), at))
    }

    /// The guard refused: follow until the height is decided.
    fn abstain(&mut self, node: usize, reason: &str) {
        self.trace.note(self.now, node, &reason);
        self.vote_or_follow(node, true);
    }

    /// A validator follows because of its disks only if they lost something: one more that does not vote may stop the log.
    /// A height that is decided needs its vote no more, and what brought it there, a synced certificate, is in no log.
    pub(crate) fn must_have_lost(&mut self, node: usize, reason: &dyn Display) {
        let Node { has_lost, running, .. } = &self.nodes[node];
        let height = running.as_ref().map(|running| running.height().next());
        let is_needed = height.is_none_or(|height| !self.checks.is_decided(height));
        if self.is_honest(node) && !has_lost && is_needed {
            self.checks.fail(format!("node {node} abstains with whole disks: {reason}"));
        }
    }

    /// What the node waited for is over, or the guard refused: it votes, or follows for another reason.
    pub(crate) fn vote_or_follow(&mut self, node: usize, is_refused: bool) {
        let Some(running) = &mut self.nodes[node].running else { return };
        let state = running.ledger.state();
        let why =
            abstention::after(&running.guard, &state, running.claimed.0.is_genesis, is_refused);
        running.abstains = why.expect("a guard in memory does not fail");
        if let Some(Abstention::Height(_)) = running.abstains {
            self.must_have_lost(node, &"the guard refused");
        }
        self.start_engine(node);
    }

    /// What the peers claim of their heights, as `claims.rs` has it.
    pub(crate) fn look_at_claims(&mut self, node: usize) {
        let linked: Vec<_> = (0..self.nodes.len())
            .filter(|other| *other != node && self.is_linked(node, *other))
            .filter(|other| self.nodes[*other].running.is_some())
            .collect();
        let (quorum, now) = (self.nodes.len() * 2 / 3 + 1, self.now);
        let Some(running) = &mut self.nodes[node].running else { return };
        let claims = linked.iter().filter_map(|other| running.sync.tips.get(other));
        let none = claims.clone().filter(|tip| **tip == Height::GENESIS).count() + 1;
        let is_contested = claims.clone().any(|tip| *tip > Height::GENESIS);
        let is_at_genesis = running.height() == Height::GENESIS && none >= quorum;
        let since = is_at_genesis.then(|| running.claimed.1.unwrap_or(now));
        let is_genesis =
            since.is_some_and(|since| !is_contested || now - since >= CONTEST_PATIENCE);
        let highest = claims.max().copied().unwrap_or(Height::GENESIS);
        let claimed = Claimed { highest, is_genesis };
        let was = std::mem::replace(&mut running.claimed, (claimed, since)).0;
        if was != claimed {
            let input = MeshInput::Claimed(claimed);
            self.later(0, node, Event::Application(Input::Mesh(input)));
        }
    }

    fn engine_effect(&mut self, node: usize, effect: Effect) {
        let Some(running) = &mut self.nodes[node].running else { return };
        match effect {
            Effect::Broadcast(frame) => self.broadcast_votes(node, &frame),
            Effect::Send { to, frame } => {
                let to = place(&to);
                if let Ok(VotesFrame::Polka(height, round)) =
                    frames::read_votes(peer(node), frame.clone())
                {
                    self.checks.shows(node, to, (height, round));
                }
                self.send_as(node, to, Class::Votes, &frame);
            }
            Effect::SetTimer(timer, after) => {
                running.asked += 1;
                let set = running.asked;
                running.engine_timers.insert(timer, set);
                let after = self.timer_length(node, after);
                self.later(after, node, Event::EngineTimer { timer, set });
            }
            Effect::CancelTimer(timer) => drop(running.engine_timers.remove(&timer)),
            Effect::CancelTimers => running.engine_timers.clear(),
            Effect::RoundStarted { height, round, .. } => {
                let reply = running.wait(Waiting::Blocks);
                self.ask(node, EngineInput::RoundStarted { height, round, reply });
            }
            Effect::ValueRequested { height, round, .. } => {
                let reply = running.wait(Waiting::Value(height, round));
                self.ask(node, EngineInput::ValueRequested { height, round, reply });
            }
            Effect::ProposalReceived { from, proposal, proposer, ticket } => {
                if planted(Bug::ProposalsPassAtOnce) {
                    self.tell_engine(node, replica::Input::ProposalPassed(ticket.clone()));
                }
                self.ask(node, EngineInput::ProposalReceived { from, proposal, proposer, ticket });
            }
            Effect::StatusReceived { from, tip, .. } => {
                running.sync.tips.insert(place(&from), tip);
                self.look_at_claims(node);
                self.sync(node);
            }
            Effect::RestreamRequested { height, round, valid_round, proposer, block } => {
                let proposal = Proposal { height, round, valid_round, block };
                self.ask(node, EngineInput::RestreamRequested { proposal, proposer });
            }
            Effect::Decided(certificate) => {
                let reply = running.wait(Waiting::Committed);
                self.ask(node, EngineInput::Decided { certificate, reply });
            }
            Effect::Finalized(certificate, evidence) => {
                let (began, target) = running.height_began;
                let reply = running.wait(Waiting::Start);
                self.checks.evidence(&evidence);
                running.evidence = (certificate.height, evidence.len());
                let over = began + self.timer_length(node, target);
                let input = EngineInput::Finalized(Finalized { certificate, evidence, reply });
                let after = over.saturating_sub(self.now);
                self.later(after, node, Event::Application(Input::Engine(input)));
            }
            Effect::ValueSynced { height, round, proposer, bytes } => {
                let reply = running.wait(Waiting::Synced);
                self.ask(node, EngineInput::ValueSynced { height, round, proposer, bytes, reply });
            }
            Effect::SyncRefused(_) => self.sync_again(node),
            Effect::Disconnect { peer, reason } => self.disconnect(node, place(&peer), &reason),
            Effect::AppendLog(_) | Effect::SyncLog => unreachable!("the host has done it"),
        }
    }

    fn broadcast_votes(&mut self, node: usize, frame: &Bytes) {
        if self.is_honest(node)
            && let Ok(VotesFrame::Vote(vote, by, signature)) =
                frames::read_votes(peer(node), frame.clone())
            && by == self.nodes[node].key.address()
        {
            let Node { disk, running, .. } = &self.nodes[node];
            let ledger = running.as_ref().map(|running| &running.ledger);
            let held = Held { log: &disk.log, ledger, guard: &disk.guard };
            self.checks.sent_vote(node, &vote, &signature, &held);
            self.checks.votes(node, &vote);
        }
        self.broadcast(node, Class::Votes, frame);
    }

    /// Asks the application a moment from now.
    fn ask(&mut self, node: usize, input: EngineInput) {
        self.later(0, node, Event::Application(Input::Engine(input)));
    }

    /// Asks a peer for the height that consensus is at, if one has it and none is asked.
    pub(crate) fn sync(&mut self, node: usize) {
        let Some(running) = &mut self.nodes[node].running else { return };
        let Some((height, _)) = running.replica.position() else { return };
        if running.sync.open.is_some() {
            return;
        }
        let tips = running.sync.tips.iter().filter(|(_, tip)| **tip >= height);
        let able: Vec<_> = tips.map(|(peer, _)| *peer).collect();
        if able.is_empty() || running.height() >= height {
            return;
        }
        let to = able[self.rng.place(able.len())];
        running.sync.number += 1;
        let number = running.sync.number;
        running.sync.open = Some((number, to));
        let frame = frames::value_request(number, height).expect("a height above 0");
        self.send_as(node, to, Class::Sync, &frame);
        self.later(SYNC_PATIENCE, node, Event::SyncLate { number });
    }

    /// The open request failed: another one, a little later.
    pub(crate) fn sync_again(&mut self, node: usize) {
        let Some(running) = &mut self.nodes[node].running else { return };
        let Some((number, _)) = running.sync.open else { return };
        let after = 100 * MS + self.rng.below(400 * MS);
        self.later(after, node, Event::SyncLate { number });
    }

    /// The open request is given up.
    pub(crate) fn sync_late(&mut self, node: usize, number: u64) {
        let Some(running) = &mut self.nodes[node].running else { return };
        if running.sync.open.is_some_and(|(open, _)| open == number) {
            running.sync.open = None;
        }
        self.sync(node);
    }

    /// A frame of class `Sync`.
    pub(crate) fn sync_frame(&mut self, from: usize, to: usize, frame: Bytes) {
        let (number, message) = match frames::read_sync(frame) {
            Ok(read) => read,
            Err(error) => return self.disconnect(to, from, &error),
        };
        let Some(running) = &mut self.nodes[to].running else { return };
        match message {
            SyncFrame::Request(first, last) => {
                let mut values = Vec::new();
                for height in (first.0..=last.0.min(first.0 + 99)).map(Height) {
                    match running.ledger.synced_value(height).expect("it reads its store") {
                        Some(value) => values.push(value),
                        None => break,
                    }
                }
                let frame = frames::value_response(number, first, values).expect("it fits");
                self.send_as(to, from, Class::Sync, &frame);
            }
            SyncFrame::Response(_, values) => self.value_received(from, to, number, values),
        }
    }

    fn value_received(
        &mut self,
        from: usize,
        node: usize,
        number: u64,
        mut values: Vec<(Bytes, lockstep_core::certificate::Certificate)>,
    ) {
        let Some(running) = &mut self.nodes[node].running else { return };
        let value = if values.len() == 1 { values.pop() } else { None };
        if let Some((asked, height)) = running.sync.fetches.get(&number).copied() {
            if asked == from {
                running.sync.fetches.remove(&number);
                let value = value.filter(|(_, certificate)| certificate.height == height);
                let from = peer(from);
                self.ask(node, EngineInput::ValueFetched { from, height, value });
            }
            return;
        }
        if running.sync.open != Some((number, from)) {
            return;
        }
        // One answer counts; the request stays open until its value is judged.
        running.sync.open = Some((number, usize::MAX));
        running.sync.served = Some(from);
        match value {
            None => self.sync_again(node),
            Some((bytes, certificate)) => {
                let from = peer(from);
                self.tell_engine(
                    node,
                    replica::Input::DecisionReceived { from, bytes, certificate },
                );
            }
        }
    }

    /// The height that consensus begins, and how long it lasts at least.
    pub(crate) fn height_begins(&mut self, node: usize, start: lockstep_engine::StartHeight) {
        let now = self.now;
        if let Some(running) = &mut self.nodes[node].running {
            let is_left =
                |waiting: &Waiting| matches!(waiting, Waiting::Value(h, _) if *h < start.height);
            if running.replies.values().any(is_left) {
                let height = start.height;
                self.checks.fail(format!("node {node} begins {height} with a question left open"));
            }
            running.height_began = (now, start.target_time.unwrap_or(Duration::ZERO));
            running.sync.open = None;
        }
        self.tell_engine(node, replica::Input::HeightStarted(start));
        self.later(MS, node, Event::SyncLate { number: 0 });
    }
}
