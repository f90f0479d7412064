//! The application of a node: what it wants is done here, in the node's own words and with its own store and guard.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_consensus::application::effect::{Answer, Effect, ReplyId, Report, Stop};
use lockstep_consensus::application::input::{
    Built, Committed, Done, EngineInput, Input, Opened, Submitted, Verification,
};
use lockstep_consensus::evidence;
use lockstep_consensus::guard;
use lockstep_consensus::lanes::own::NextBatch;
use lockstep_consensus::lanes::wire::LaneMessage;
use lockstep_consensus::parts::split;
use lockstep_consensus::store::Undecided;
use lockstep_core::batch::{
    Acknowledged, Acknowledgement, Batch, BatchPosition, CheckedBatch, InvalidBatch,
};
use lockstep_core::cut::LanePosition;
use lockstep_core::entry::Entry;
use lockstep_core::lane::BatchRange;
use lockstep_core::proposal::Payload;
use lockstep_core::signing;
use lockstep_core::types::{BlockHash, Height, NetworkId, Round, Sequence, UnixMillis};
use lockstep_engine::replica::{self, frames};
use lockstep_engine::{FirstPart, SyncOutcome};

use crate::node::{Node, Running, Waiting, place};
use crate::plan::MS;
use crate::world::{Class, Event, Micros, World};

/// Batches that were checked, by their bytes: what one node finds of a batch every node does.
#[derive(Debug, Default)]
pub(crate) struct Checked(HashMap<Bytes, Result<CheckedBatch, InvalidBatch>>);

impl Checked {
    fn check(&mut self, network: NetworkId, raw: Bytes) -> Result<CheckedBatch, InvalidBatch> {
        let check = |raw: Bytes| {
            let batch = Batch::decode(network, raw.into())?;
            batch.check_owner()?;
            batch.check()
        };
        self.0.entry(raw).or_insert_with_key(|raw| check(raw.clone())).clone()
    }
}

impl World {
    /// Steps the application and begins what it wants.
    pub(crate) fn application(&mut self, node: usize, input: Input) {
        let now = self.nodes[node].clock.show(self.now);
        let Some(running) = &mut self.nodes[node].running else { return };
        let asked = self.checks.asks(node, &input);
        let mut effects = Vec::new();
        running.application.step(now, input, &mut effects);
        let kept = running.application.kept();
        self.checks.kept(node, &kept);
        self.checks.answered(node, asked, &effects);
        for effect in &effects {
            if let Effect::SignBatch(batch) = effect {
                self.checks.entries.made(node, running.application.state(), &batch.entries);
            }
        }
        self.look_at_forks(node, &effects);
        self.application_effects(node, effects);
    }

    /// Blocks that wait at a fork do not lie on the node's own disk.
    fn look_at_forks(&mut self, node: usize, effects: &[Effect]) {
        let Some(running) = &self.nodes[node].running else { return };
        for effect in effects {
            let Effect::Report(Report::BlockWaits { block, ranges }) = effect else { continue };
            if ranges.is_empty() {
                let state = running.ledger.state();
                let (height, lanes) = (state.height.next(), &state.committed.lanes);
                let held = undecided(running.ledger.store(), height, *block, lanes);
                let is_held = held.expect("it reads its store").is_some();
                self.checks.waits_at_fork(node, *block, is_held);
            }
        }
    }

    /// Begins effects in order, until the node crashes.
    pub(crate) fn application_effects(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            if !Self::counted(&mut self.nodes[node].crash) {
                return self.crash(node);
            }
            self.begin(node, effect);
        }
    }

    fn begin(&mut self, node: usize, effect: Effect) {
        let Some(running) = &mut self.nodes[node].running else { return };
        match effect {
            Effect::Dismiss(id) => drop(running.replies.remove(&id)),
            Effect::Reply(id, answer) => self.reply(node, id, answer),
            Effect::SetTimer(timer, after) => {
                running.asked += 1;
                let set = running.asked;
                running.timers.insert(timer, set);
                let after = self.timer_length(node, after);
                self.later(after, node, Event::Timer { timer, set });
            }
            Effect::Redeliver(_, block) => {
                let reply = running.wait(Waiting::Block);
                let input = EngineInput::RedeliveryTaken { block, reply };
                self.later(0, node, Event::Application(Input::Engine(input)));
            }
            Effect::PassProposal(ticket) => {
                self.tell_engine(node, replica::Input::ProposalPassed(ticket));
            }
            Effect::FetchValue(height, peer) => self.fetch(node, height, place(&peer)),
            Effect::Publish { first, payload } => self.publish(node, first, payload),
            Effect::PushBatch(batch) => {
                let word = Acknowledged { position: batch.position(), digest: batch.digest() };
                self.checks.stores(node, &running.ledger, &word);
                let frame = LaneMessage::Batch(batch.raw().clone().into()).encode();
                self.broadcast(node, Class::Lanes, &frame);
            }
            Effect::Acknowledge(to, tips) => {
                self.checks.acknowledges(node, &running.ledger, &tips);
                let ack = Acknowledgement::sign(self.network, tips, &self.nodes[node].key);
                let frame = LaneMessage::Acknowledgement(ack).encode();
                match to {
                    Some(peer) => self.send_as(node, place(&peer), Class::Lanes, &frame),
                    None => self.broadcast(node, Class::Lanes, &frame),
                }
            }
            Effect::AskBatches(to, range) => {
                let frame = LaneMessage::Request(range).encode();
                self.send_as(node, place(&to), Class::Lanes, &frame);
            }
            Effect::Disconnect(peer, misdeed) => self.disconnect(node, place(&peer), &misdeed),
            Effect::TellStates(changes) => {
                let source = (node, self.nodes[node].boot);
                for change in changes {
                    let told = self.checks.entries.told(source, change.id, change.state);
                    if node >= self.plan.liars {
                        self.checks.expect(told);
                    }
                }
            }
            Effect::Report(report) => {
                self.checks.reported(node, &report);
                self.trace.note(self.now, node, &report);
            }
            // The run of the engine ends, and the next one begins a moment later.
            Effect::Stop(Stop::MayVote) => self.later(MS, node, Event::Rerun),
            Effect::Stop(stop) => self.checks.fail(format!("node {node} stops: {stop}")),
            // Users' entries are checked in the order they came.
            Effect::CheckEntries(..) => {
                self.later(self.plan.work, node, Event::Work(Box::new(effect)))
            }
            effect => {
                let after = self.work_time();
                self.later(after, node, Event::Work(Box::new(effect)));
            }
        }
    }

    /// How long a piece of work takes.
    fn work_time(&mut self) -> Micros {
        let is_slow = self.is_faulty() && self.rng.chance(self.plan.slow);
        self.rng.below(if is_slow { 1_500 * MS } else { self.plan.work })
    }

    fn reply(&mut self, node: usize, id: ReplyId, answer: Answer) {
        let boot = self.nodes[node].boot;
        let Some(running) = &mut self.nodes[node].running else { return };
        match (running.replies.remove(&id), answer) {
            (Some(Waiting::Start), Answer::Start(start)) => self.height_begins(node, start),
            (Some(Waiting::Blocks), Answer::Blocks(blocks)) => {
                for block in blocks {
                    self.tell_engine(node, replica::Input::BlockHanded(block));
                }
            }
            (Some(Waiting::Block), Answer::Block(block)) => {
                if let Some(block) = block {
                    self.tell_engine(node, replica::Input::BlockHanded(block));
                }
            }
            (Some(Waiting::Value(height, round)), Answer::Value(block)) => {
                self.tell_engine(node, replica::Input::ValueProposed { height, round, block });
            }
            (Some(Waiting::Committed), Answer::Committed) => self.send_status(node),
            (Some(Waiting::Synced), Answer::Synced(outcome)) => match outcome {
                SyncOutcome::Valid(block) => {
                    // A height that was synced is over at once.
                    running.height_began.1 = std::time::Duration::ZERO;
                    self.tell_engine(node, replica::Input::SyncedBlockHanded(block));
                }
                SyncOutcome::PeerFault if node >= self.plan.liars && self.is_served_well(node) => {
                    self.checks.fail(format!("node {node} blames an honest peer for its value"));
                }
                SyncOutcome::PeerFault | SyncOutcome::Retry => self.sync_again(node),
            },
            (Some(Waiting::Submitted(entries)), Answer::Submitted(answers)) => {
                for (entry, answer) in entries.iter().zip(answers) {
                    if let Ok((state, _)) = answer {
                        self.checks.entries.accepted((node, boot), entry.id(), state);
                    }
                }
            }
            (None, _) => {}
            (Some(waiting), answer) => unreachable!("{answer:?} does not answer {waiting:?}"),
        }
    }

    fn fetch(&mut self, node: usize, height: Height, to: usize) {
        let Some(running) = &mut self.nodes[node].running else { return };
        running.sync.number += 1;
        let number = running.sync.number;
        running.sync.fetches.insert(number, (to, height));
        if running.sync.fetches.len() > 16 {
            running.sync.fetches.pop_first();
        }
        let frame = frames::value_request(number, height).expect("a height above 0");
        self.send_as(node, to, Class::Sync, &frame);
    }

    /// Sends the parts of a proposal to all.
    pub(crate) fn publish(&mut self, node: usize, first: FirstPart, mut payload: Payload) {
        self.lie_in_payload(node, &mut payload);
        let bytes = Bytes::from(payload.encode());
        let first = FirstPart { bytes_total: bytes.len() as u64, ..first };
        let first = self.lie_about(node, first);
        for part in split(first, &bytes) {
            let frame = frames::part(&part).expect("our own parts fit");
            self.broadcast(node, Class::Parts, &frame);
        }
    }

    /// Does work that was begun, and tells the application.
    pub(crate) fn work(&mut self, node: usize, effect: Effect) {
        let effect = self.lie_in_work(node, effect);
        let network = self.network;
        let now = self.nodes[node].clock.show(self.now);
        let done = match effect {
            Effect::SendBatches(to, range) => {
                self.send_batches(node, place(&to), range);
                Ok(Some(Done::BatchesSent(to)))
            }
            Effect::CommitBlock(decided) => self.commit(node, *decided),
            Effect::CheckBatches(job, raw) => {
                let batches = raw.into_iter().map(|raw| self.checked.check(network, raw)).collect();
                Ok(Some(Done::BatchesChecked { job, batches }))
            }
            Effect::PersistCertificate(certificate, evidence)
                if self.loses_evidence(node, certificate.height, evidence.len()) =>
            {
                Err(format!("evidence of height {} is lost", certificate.height))
            }
            effect => self.nodes[node].done(network, now, effect),
        };
        match done {
            Ok(Some(done)) => {
                self.note_done(node, &done);
                let done = self.lie_in_done(node, done);
                let is_in_order = matches!(done, Done::EntriesChecked { .. });
                let after = if is_in_order { 0 } else { self.work_time() };
                self.later(after, node, Event::Application(Input::Done(done)));
            }
            Ok(None) => {}
            Err(reason) if self.is_honest(node) => {
                self.checks.fail(format!("node {node} fails: {reason}"));
            }
            Err(reason) => self.trace.note(self.now, node, &reason),
        }
    }

    /// What the rules need to know of work that is done.
    fn note_done(&mut self, node: usize, done: &Done) {
        let is_honest = self.is_honest(node);
        if is_synced(done) {
            self.checks.synced(node, &self.nodes[node].disk.store);
        }
        match done {
            Done::BlockBuilt(built) => {
                let block = built.header.hash();
                self.checks.seen(block, built.header.timestamp_ms);
                if is_honest {
                    self.checks.built(block);
                }
            }
            Done::ProposalOpened(opened) => {
                if let Ok(payload) = &opened.payload {
                    self.checks.seen(payload.header.hash(), payload.header.timestamp_ms);
                }
            }
            Done::BatchesPersisted { batches, .. } if is_honest => {
                let source = (node, self.nodes[node].boot);
                self.checks.entries.stored(source, batches);
            }
            Done::ProposalSigned { proposal, signature: Some(_) } if is_honest => {
                self.checks.signed_proposal(node, proposal);
                self.checks.signature_leaves(node, &self.nodes[node].disk.guard);
            }
            _ => {}
        }
    }

    /// Whether consensus had more evidence of a height than is written.
    fn loses_evidence(&self, node: usize, height: Height, count: usize) -> bool {
        let had = self.nodes[node].running.as_ref().map(|running| running.evidence);
        had.is_some_and(|(of, had)| of == height && had > count)
    }

    /// Whether the value that a node is told to judge came from an honest peer.
    fn is_served_well(&self, node: usize) -> bool {
        let running = self.nodes[node].running.as_ref();
        let from = running.and_then(|running| running.sync.served);
        from.is_some_and(|from| self.is_honest(from))
    }

    /// An attacker spends its own turns, those of as many others that lack a block that it hid, and two more for a lock.
    fn is_soon_decided(&mut self, height: Height, round: Round) {
        let most = 2 * self.plan.liars as u32 + 2;
        // Where consensus waits for less than a message takes, rounds mean nothing.
        let is_healthy =
            self.plan.patience.is_none() && self.healthy_from.is_some_and(|from| height >= from);
        if is_healthy && round.0 > most {
            self.checks.fail(format!(
                "{height} took until {round} after the faults, expected {most} at most"
            ));
        }
    }

    fn commit(
        &mut self,
        node: usize,
        decided: lockstep_consensus::ledger::DecidedBlock,
    ) -> Result<Option<Done>, String> {
        let Some(running) = &self.nodes[node].running else { return Ok(None) };
        let ledger = &running.ledger;
        ledger.commit(&decided).map_err(|e| e.to_string())?;
        let (state, earlier) = (ledger.state(), ledger.earlier(&decided));
        self.outcome.decisions += 1;
        self.outcome.round_max = self.outcome.round_max.max(decided.certificate.round.0);
        self.is_soon_decided(decided.header.height, decided.certificate.round);
        let honest = self.plan.liars..self.nodes.len();
        let clocks = honest
            .filter(|node| !self.checks.is_clock_wrong(*node))
            .map(|node| self.nodes[node].clock.show(self.now));
        let latest = clocks.max().unwrap_or_default();
        self.checks.committed(node, &decided, latest);
        self.trace.note(self.now, node, &(decided.header.height, decided.header.hash()));
        let committed = Committed { state, decided, earlier };
        Ok(Some(Done::BlockCommitted(Box::new(committed))))
    }

    fn send_batches(&mut self, node: usize, to: usize, range: BatchRange) {
        let BatchRange { owner, incarnation, first, last } = range;
        for sequence in (first.0..=last.0).map(Sequence) {
            let position = BatchPosition { owner, incarnation, sequence };
            let Some(running) = &self.nodes[node].running else { return };
            let raw = running.ledger.store().batch(&position).expect("it reads its store");
            let Some(raw) = raw else { break };
            let frame = LaneMessage::Batch(raw.into()).encode();
            self.send_as(node, to, Class::Lanes, &frame);
        }
    }
}

/// Whether it says that a write is synced.
const fn is_synced(done: &Done) -> bool {
    matches!(
        done,
        Done::BlockPersisted { .. }
            | Done::BatchesPersisted { .. }
            | Done::IncarnationTaken(_)
            | Done::BlockCommitted(_)
    )
}

impl Node {
    /// What an effect gives, as the node's shell does it on its threads.
    fn done(
        &mut self,
        network: NetworkId,
        now: UnixMillis,
        effect: Effect,
    ) -> Result<Option<Done>, String> {
        let Some(Running { ledger, guard, .. }) = &self.running else { return Ok(None) };
        let text = |error: &dyn std::fmt::Display| error.to_string();
        Ok(Some(match effect {
            Effect::OpenProposal { from, arrived, first, payload } => {
                let digest = first.proposal.part_digest(network);
                let signer = signing::recover(digest, &first.signature);
                let payload = Payload::decode(&payload.into());
                Done::ProposalOpened(Box::new(Opened { from, first, arrived, signer, payload }))
            }
            Effect::CheckAcknowledgement(from, acknowledgement) => {
                let signer = acknowledgement.signer();
                Done::AcknowledgementChecked { from, acknowledgement, signer }
            }
            Effect::CheckEntries(reply, entries) => {
                let submitted = |entry: Entry| {
                    let checked = entry.check(network)?;
                    let decision = ledger.decision_of(&checked);
                    let decided = decision
                        .and_then(|decision| Some((decision, ledger.block_hash(decision.height)?)));
                    Ok(Submitted { checked, decided })
                };
                let entries = entries.into_iter().map(submitted).collect();
                Done::EntriesChecked { reply, entries }
            }
            Effect::VerifyBlock { job, header, cut, batches } => {
                let verification = match ledger.verify(&header, &cut, &batches) {
                    None => Verification::Outdated,
                    Some(Ok(assembly)) => Verification::Valid(Box::new(assembly)),
                    Some(Err(reason)) => Verification::Invalid(reason),
                };
                Done::BlockVerified { job, verification }
            }
            Effect::BuildBlock { height, round, timestamp, cut, batches } => {
                let built = ledger.build((height, round), timestamp, &cut, &batches);
                let Some((header, assembly)) = built.map_err(|e| text(&e))? else {
                    return Ok(None);
                };
                Done::BlockBuilt(Box::new(Built { round, header, cut, assembly, batches }))
            }
            Effect::SignProposal(proposal) => {
                let signature = match guard.sign_proposal(&proposal) {
                    Ok(signed) => Some(signed.part),
                    Err(error @ (guard::SignError::Io(_) | guard::SignError::Stopped)) => {
                        return Err(error.to_string());
                    }
                    Err(_) => None,
                };
                Done::ProposalSigned { proposal, signature }
            }
            Effect::SignBatch(NextBatch { place, parent, entries }) => {
                let raw = entries.iter().map(|checked| checked.entry().clone()).collect();
                let batch = Batch::sign(network, place, parent, raw, &self.key)
                    .and_then(|batch| batch.with_checked(entries));
                Done::BatchSigned { place, batch }
            }
            Effect::TakeIncarnation(decided) => {
                let taken = ledger.store().next_incarnation(decided, now);
                Done::IncarnationTaken(taken.map_err(|e| text(&e))?)
            }
            Effect::PersistBlock { job, block, batches } => {
                ledger.store().put_undecided(&block, &batches).map_err(|e| text(&e))?;
                Done::BlockPersisted { job }
            }
            Effect::PersistBatches(job, batches) => {
                let aside = ledger.store().put_batches(&batches).map_err(|e| text(&e))?;
                Done::BatchesPersisted { job, batches, aside }
            }
            Effect::PersistCertificate(certificate, evidence) => {
                let evidence: Vec<_> = evidence.iter().map(evidence::encode).collect();
                ledger.store().finalize(certificate, &evidence).map_err(|e| text(&e))?;
                return Ok(None);
            }
            Effect::ReadUndecided { height, block, lanes } => {
                let found = undecided(ledger.store(), height, block, &lanes)?.map(Box::new);
                Done::UndecidedRead { block, found }
            }
            effect => unreachable!("{effect:?} is no work"),
        }))
    }
}

type Found = (lockstep_core::header::Header, lockstep_core::cut::Cut, Vec<Bytes>);

fn undecided(
    store: &Arc<lockstep_consensus::store::LogStore>,
    height: Height,
    block: BlockHash,
    lanes: &[LanePosition],
) -> Result<Option<Found>, String> {
    let all = store.undecided(height).map_err(|e| e.to_string())?;
    let held = all.into_iter().find(|held| held.header.hash() == block);
    let Some(Undecided { header, cut, .. }) = held else { return Ok(None) };
    let Ok(steps) = cut.steps(lanes) else { return Ok(None) };
    let mut batches = Vec::new();
    for step in &steps {
        let of_step = store.batches_of(step).map_err(|e| e.to_string())?;
        let Some(of_step) = of_step else { return Ok(None) };
        batches.extend(of_step.into_iter().map(Bytes::from));
    }
    Ok(Some((header, cut, batches)))
}
