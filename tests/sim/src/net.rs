//! The network between nodes: links that go up and down, and frames that are late, lost or come twice.

use bytes::Bytes;
use lockstep_consensus::application::input::{EngineInput, Input, MeshInput};
use lockstep_consensus::lanes::wire::LaneMessage;
use lockstep_engine::replica;

use crate::node::peer;
use crate::plan::MS;
use crate::world::{Class, Event, World};

impl World {
    pub(crate) fn is_linked(&self, a: usize, b: usize) -> bool {
        !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Both sides learn that a link is up, or down.
    pub(crate) fn link(&mut self, a: usize, b: usize, is_up: bool) {
        if self.nodes[a].running.is_none() || self.nodes[b].running.is_none() {
            return;
        }
        for (node, other) in [(a, b), (b, a)] {
            let other = peer(other);
            let input = if is_up { MeshInput::PeerUp(other) } else { MeshInput::PeerDown(other) };
            self.later(0, node, Event::Application(Input::Mesh(input)));
        }
    }

    fn cut_link(&mut self, a: usize, b: usize) {
        if a != b && self.cut.insert((a.min(b), a.max(b))) {
            self.link(a, b, false);
        }
    }

    pub(crate) fn part(&mut self, group: u64) {
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                if (group >> a) & 1 != (group >> b) & 1 {
                    self.cut_link(a, b);
                }
            }
        }
    }

    pub(crate) fn join(&mut self) {
        for (a, b) in std::mem::take(&mut self.cut) {
            self.link(a, b, true);
        }
        if !self.is_faulty() {
            self.nodes.iter_mut().for_each(|node| (node.clock.jump_ms, node.crash) = (0, None));
        }
    }

    pub(crate) fn flap(&mut self) {
        self.outcome.flaps += 1;
        let (a, b) = (self.rng.place(self.nodes.len()), self.rng.place(self.nodes.len()));
        self.cut_link(a, b);
        let after = self.rng.below(300 * MS);
        self.at(after, 0, None, Event::Join);
    }

    /// A node closes a peer's connection; it is made again a second later.
    pub(crate) fn disconnect(&mut self, node: usize, other: usize, reason: &dyn std::fmt::Display) {
        if self.is_honest(node) && self.is_honest(other) {
            self.checks.fail(format!("node {node} disconnects honest node {other}: {reason}"));
        }
        self.cut_link(node, other);
        self.at(1_000 * MS, 0, None, Event::Join);
    }

    pub(crate) fn jump(&mut self, node: usize) {
        let most = i64::try_from(2 * self.plan.jump_ms + 1).expect("small");
        let ms = i64::try_from(self.rng.below(most.unsigned_abs())).expect("small");
        // Only one clock is beyond the bound at a time, and only where nobody lies: else more than a third is faulty.
        let is_alone = self.nodes.iter().all(|node| node.clock.jump_ms == 0);
        if self.is_faulty() && self.plan.liars == 0 && is_alone {
            self.nodes[node].clock.jump_ms = ms - i64::try_from(self.plan.jump_ms).expect("small");
            self.outcome.jumps += 1;
            self.checks.clock_is_wrong(node);
        }
    }

    /// Sends a frame to a peer, with the network's faults.
    pub(crate) fn send(&mut self, from: usize, to: usize, class: Class, frame: Bytes) {
        if from == to || !self.is_linked(from, to) {
            return;
        }
        let is_faulty = self.is_faulty() && self.now >= self.plan.calm;
        if is_faulty && self.rng.chance(self.plan.loss) {
            self.outcome.lost += 1;
            return;
        }
        let times = if is_faulty && self.rng.chance(self.plan.twice) { 2 } else { 1 };
        for _ in 0..times {
            let mut after = self.plan.delay + self.rng.below(self.plan.jitter);
            if is_faulty && self.rng.chance(self.plan.late) {
                after += self.rng.below(3_000 * MS);
            }
            if self.plan.in_order {
                let newest = self.newest.entry((from, to, class)).or_default();
                *newest = (*newest).max(self.now + after);
                after = *newest - self.now;
            }
            let frame = frame.clone();
            self.at(after, to, None, Event::Frame { from, to, class, frame });
        }
    }

    /// Sends a frame to all.
    pub(crate) fn broadcast(&mut self, from: usize, class: Class, frame: &Bytes) {
        for to in 0..self.nodes.len() {
            self.send_as(from, to, class, frame);
        }
    }

    pub(crate) fn arrive(&mut self, from: usize, to: usize, class: Class, frame: Bytes) {
        if !self.is_linked(from, to) || self.nodes[from].running.is_none() {
            return;
        }
        let Some(running) = &self.nodes[to].running else { return };
        let run = running.run;
        match class {
            Class::Votes => {
                self.happen(
                    to,
                    Event::Engine {
                        run,
                        input: replica::Input::FrameReceived { from: peer(from), frame },
                    },
                );
            }
            Class::Parts => match replica::frames::read_part(frame) {
                Ok(part) => {
                    if self.is_honest(from) {
                        self.checks.part_came((from, to), &part);
                    }
                    let input = EngineInput::PartReceived { from: peer(from), part };
                    self.application(to, Input::Engine(input));
                }
                Err(error) => self.disconnect(to, from, &error),
            },
            Class::Sync => self.sync_frame(from, to, frame),
            Class::Lanes => match LaneMessage::decode(frame) {
                Ok(message) => {
                    let from = peer(from);
                    let input = MeshInput::LaneMessageReceived { from, message };
                    self.application(to, Input::Mesh(input));
                }
                Err(error) => self.disconnect(to, from, &error),
            },
        }
    }
}
