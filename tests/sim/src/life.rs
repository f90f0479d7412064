//! A node's life: it starts, its users submit, it tells its status, it crashes.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use libp2p::PeerId;
use lockstep_consensus::abstention::Abstention;
use lockstep_consensus::application::input::{Input, MeshInput};
use lockstep_consensus::guard::Origin;
use lockstep_consensus::ingress::Submitter;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::types::Height;
use lockstep_engine::replica;

use crate::entries::LONG_MS;
use crate::node::{Node, Waiting, peer};
use crate::plan::{Crash, DiskFault, MS};
use crate::world::{Class, Event, Micros, World};

/// How often a node tells its status.
const STATUS_EVERY: Micros = 1_000 * MS;
/// How often it does at its genesis.
const GENESIS_STATUS_EVERY: Micros = 250 * MS;

impl World {
    /// Starts a node from its disks.
    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].running.is_some() {
            return;
        }
        if !self.nodes[node].disk.guard.is_there() {
            // The operator says what became of the last one; see `plan`.
            let is_first = self.nodes[node].boot == 0;
            let origin = if is_first { Origin::Fresh } else { Origin::Lost };
            let is_used = is_first && !self.plan.is_fresh;
            if origin == Origin::Lost {
                self.check_clock(node);
            }
            self.nodes[node].make_guard(self.now, &self.genesis, (origin, is_used));
        }
        let others: BTreeMap<PeerId, Address> = (0..self.nodes.len())
            .filter(|other| *other != node)
            .map(|other| (peer(other), self.nodes[other].key.address()))
            .collect();
        match self.nodes[node].open(self.now, &self.genesis, &others) {
            Ok(effects) => {
                let running = self.nodes[node].running.as_ref();
                let height = running.map(|running| running.height()).unwrap_or_default();
                self.checks.starts(node, height.next());
                self.application_effects(node, effects);
            }
            Err(reason) => {
                return self.checks.fail(format!("node {node} does not start: {reason}"));
            }
        }
        let abstains = self.nodes[node].running.as_ref().and_then(|running| running.abstains);
        if let Some(Abstention::Height(_)) = abstains {
            self.must_have_lost(node, &"guard and log differ");
        }
        self.start_engine(node);
        for other in 0..self.nodes.len() {
            if other != node && self.is_linked(node, other) {
                self.link(node, other, true);
            }
        }
        self.greet(node);
        self.later(GENESIS_STATUS_EVERY, node, Event::Status);
    }

    /// Who makes a guard in a lost one's place checks the clock first (`deploy/runbooks/lost-data.md`): were it further behind
    /// the others' than the bound, a block from before the loss would end the wait (`consensus/docs/0006-lost-guard.md`).
    fn check_clock(&mut self, node: usize) {
        let show = |node: &Node| node.clock.show(self.now);
        let latest = self.nodes.iter().map(show).max().unwrap_or_default();
        let clock = &mut self.nodes[node].clock;
        if clock.jump_ms < 0 && clock.show(self.now).plus(self.genesis.params.drift_ms) < latest {
            clock.jump_ms = 0;
        }
    }

    /// Counts an effect down to a planned crash; `false` from the crash on.
    pub(crate) fn counted(crash: &mut Option<Crash>) -> bool {
        match crash {
            None => true,
            Some(crash) => {
                crash.effects = crash.effects.saturating_sub(1);
                crash.effects > 0
            }
        }
    }

    /// A node crashes.
    pub(crate) fn crash(&mut self, node: usize) {
        self.outcome.crashes += 1;
        let crash = self.nodes[node].crash.take();
        self.trace.note(self.now, node, &"crashes");
        let fault = crash.map_or(DiskFault::Kept, |crash| crash.disk);
        *self.outcome.disks.entry(fault).or_default() += 1;
        match fault {
            DiskFault::Restored => self.checks.distrust(node),
            DiskFault::Torn => self.checks.tore(node),
            _ => {}
        }
        self.nodes[node].running = None;
        self.nodes[node].boot += 1;
        self.nodes[node].disk.crash(fault, &mut self.rng);
        if planted(Bug::LogLost) || planted(Bug::NoGuard) {
            self.nodes[node].disk.log = crate::disk::Log::default();
        }
        self.nodes[node].has_lost |= fault != DiskFault::Kept;
        let is_lost = !matches!(fault, DiskFault::Kept | DiskFault::GuardLost);
        self.checks.crashed(node, is_lost);
        for other in 0..self.nodes.len() {
            if self.nodes[other].running.is_some() && self.is_linked(node, other) {
                self.later(
                    0,
                    other,
                    Event::Application(Input::Mesh(MeshInput::PeerDown(peer(node)))),
                );
            }
        }
        self.at(crash.map_or(0, |crash| crash.down), node, None, Event::Start);
    }

    /// A user submits some entries, in order, to one node.
    pub(crate) fn submit(&mut self, node: usize) {
        if self.now < self.plan.heal_at + 1_000 * MS {
            self.at(self.plan.submit_every, node, None, Event::Submit);
        }
        let now = self.nodes[node].clock.show(self.now);
        let boot = self.nodes[node].boot;
        if self.nodes[node].running.is_none() {
            return;
        }
        let count = 1 + self.rng.below(3);
        let client = u8::try_from(self.rng.below(3)).expect("small");
        let from = (node, boot, client);
        let mut entries = Vec::new();
        for _ in 0..count {
            let lives = if self.rng.chance(100) { 300 } else { LONG_MS };
            if self.rng.chance(self.plan.copies) {
                let lives = if self.rng.chance(500) { 400 } else { LONG_MS };
                let which = self.rng.place(20);
                entries.extend(self.checks.entries.submit_copy(from, which, (now, lives)));
                continue;
            }
            let kind = self.rng.below(8);
            let length = usize::try_from(self.rng.below(self.plan.length)).expect("small");
            entries.push(self.checks.entries.submit(from, kind, length, (now, lives)));
        }
        let running = self.nodes[node].running.as_mut().expect("it runs");
        let reply = running.wait(Waiting::Submitted(entries.clone()));
        let from = Submitter(B256::with_last_byte(client));
        self.application(node, Input::EntriesSubmitted { from, reply, entries });
    }

    /// The status goes to all, and again in a while.
    pub(crate) fn tell_status(&mut self, node: usize) {
        self.send_status(node);
        self.look_at_claims(node);
        let running = self.nodes[node].running.as_ref();
        let is_first = running.is_some_and(|running| running.height() == Height::GENESIS);
        let after = if is_first { GENESIS_STATUS_EVERY } else { STATUS_EVERY };
        self.later(after, node, Event::Status);
    }

    /// Sets a timer of a node.
    pub(crate) fn timer_length(&self, node: usize, after: Duration) -> Micros {
        self.nodes[node].clock.length(after)
    }

    /// Heights that a peer says it has, as the network's oldest is 1.
    pub(crate) fn send_status(&mut self, node: usize) {
        let Some(running) = &self.nodes[node].running else { return };
        let tip = running.height();
        let frame = replica::frames::status(tip, Height(1));
        self.broadcast(node, Class::Votes, &frame);
    }
}
