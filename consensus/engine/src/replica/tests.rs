//! Four replicas in a plain loop: they decide, and one that crashes at any call of its host signs nothing twice.

#![expect(clippy::arithmetic_side_effects, reason = "counts and times of a test are small")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at some effects")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::{B256, keccak256};
use lockstep_core::certificate::VoteType;
use lockstep_core::signing::SigningKey;
use lockstep_core::validator_set::{Validator, ValidatorSet};

use super::frames::{self, VotesFrame};
use super::*;
use crate::request::Timeouts;

const NETWORK: NetworkId = NetworkId(B256::repeat_byte(5));
const NODES: u8 = 4;

/// Height, round and kind of a signature.
type Slot = (Height, Round, u8);

/// What survives a crash, and the host's side of a running replica.
struct Disk {
    key: SigningKey,
    guard: BTreeMap<Slot, Option<BlockHash>>,
    log_height: Height,
    log: Vec<Bytes>,
    synced: usize,
    decided: BTreeMap<Height, Certificate>,
    blocks: BTreeMap<BlockHash, ProposedBlock>,
    /// Calls of the host until it crashes, and from then on until it crashes again.
    calls_left: Option<u32>,
    calls_left_again: Option<u32>,
    calls: u32,
    effects: Vec<Effect>,
}

impl Disk {
    /// Counts a call; `false` from the crash on.
    fn is_up(&mut self) -> bool {
        self.calls += 1;
        if let Some(left) = &mut self.calls_left {
            *left = left.saturating_sub(1);
        }
        self.calls_left != Some(0)
    }

    fn sign(
        &mut self,
        slot: Slot,
        block: Option<BlockHash>,
        digest: B256,
    ) -> Result<Signature, SignError> {
        if !self.is_up() {
            return Err(SignError::Failed("crashed".into()));
        }
        match self.guard.insert(slot, block) {
            Some(before) if before != block => {
                self.guard.insert(slot, before);
                Err(SignError::Refused("conflict".into()))
            }
            _ => {
                assert_eq!(self.synced, self.log.len(), "what led to it is not durable");
                Ok(self.key.sign(digest))
            }
        }
    }
}

impl Host for Disk {
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, SignError> {
        let kind = if vote.vote_type == VoteType::Prevote { 1 } else { 2 };
        self.sign((vote.height, vote.round, kind), vote.block, vote.digest(NETWORK))
    }

    fn sign_proposal(&mut self, proposal: &Proposal) -> Result<Signature, SignError> {
        let slot = (proposal.height, proposal.round, 0);
        self.sign(slot, Some(proposal.block), proposal.digest(NETWORK))
    }

    fn open_log(&mut self, height: Height, is_voter: bool) -> Vec<Bytes> {
        if is_voter && height != self.log_height {
            (self.log_height, self.log, self.synced) = (height, Vec::new(), 0);
        }
        if is_voter { self.log.clone() } else { Vec::new() }
    }

    fn carry_out(&mut self, effect: Effect) {
        if !self.is_up() {
            return;
        }
        match effect {
            Effect::AppendLog(entry) => self.log.push(entry),
            Effect::SyncLog => self.synced = self.log.len(),
            effect => self.effects.push(effect),
        }
    }
}

struct Node {
    disk: Disk,
    replica: Replica,
    timers: BTreeMap<Timer, Duration>,
}

struct Loop {
    nodes: Vec<Node>,
    set: ValidatorSet,
    queue: VecDeque<(usize, Input)>,
    now: Duration,
    refused: usize,
    restarts: usize,
}

fn peer(place: usize) -> PeerId {
    PeerId::from_bytes(&[0, 1, u8::try_from(place).unwrap()]).unwrap()
}

fn peers<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> Peers {
    let keys = keys.into_iter().enumerate();
    Arc::new(keys.map(|(place, key)| (peer(place), key.address())).collect())
}

impl Loop {
    fn new() -> Self {
        let mut keys: Vec<_> =
            (1..=NODES).map(|i| SigningKey::from_bytes([i; 32]).unwrap()).collect();
        keys.sort_by_key(SigningKey::address);
        let set = keys.iter().map(|key| Validator {
            address: key.address(),
            public_key: key.public_key(),
            power: 1,
            network_address: String::new(),
        });
        let set = ValidatorSet::new(set.collect()).unwrap();
        let peers = peers(&keys);
        let nodes = keys.into_iter().map(|key| {
            let replica = Replica::new(NETWORK, Some(key.address()), peers.clone());
            let disk = Disk {
                key,
                guard: BTreeMap::new(),
                log_height: Height(0),
                log: Vec::new(),
                synced: 0,
                decided: BTreeMap::new(),
                blocks: BTreeMap::new(),
                calls_left: None,
                calls_left_again: None,
                calls: 0,
                effects: Vec::new(),
            };
            Node { disk, replica, timers: BTreeMap::new() }
        });
        let nodes = nodes.collect();
        let queue = VecDeque::new();
        Self { nodes, set, queue, now: Duration::ZERO, refused: 0, restarts: 0 }
    }

    fn tip(&self, place: usize) -> Height {
        self.nodes[place].disk.decided.keys().last().copied().unwrap_or(Height(0))
    }

    fn start(&self, place: usize) -> Input {
        let ms = Duration::from_millis;
        Input::HeightStarted(StartHeight {
            height: self.tip(place).next(),
            validators: self.set.clone(),
            timeouts: Timeouts {
                propose: ms(1_000),
                propose_delta: ms(200),
                prevote: ms(300),
                prevote_delta: ms(200),
                precommit: ms(300),
                precommit_delta: ms(200),
                rebroadcast: ms(1_000),
                max: ms(8_000),
            },
            target_time: None,
        })
    }

    /// Runs until every node has decided `height`.
    fn run(&mut self, height: Height) {
        for place in 0..self.nodes.len() {
            self.queue.push_back((place, self.start(place)));
        }
        for _ in 0..200_000 {
            if (0..self.nodes.len()).all(|place| self.tip(place) >= height) {
                return;
            }
            match self.queue.pop_front() {
                Some((place, input)) => self.step(place, input),
                None => self.fire(),
            }
        }
        panic!("no progress: {:?}", self.nodes.iter().map(|n| &n.replica).collect::<Vec<_>>());
    }

    fn fire(&mut self) {
        let timers = self.nodes.iter().enumerate();
        let all = timers
            .flat_map(|(place, node)| node.timers.iter().map(move |(t, at)| (*at, place, *t)));
        let (at, place, timer) = all.min().expect("a replica waits for a timer at least");
        self.now = self.now.max(at);
        self.nodes[place].timers.remove(&timer);
        self.step(place, Input::TimerFired(timer));
    }

    fn step(&mut self, place: usize, input: Input) {
        let node = &mut self.nodes[place];
        let stepped = node.replica.step(input, &mut node.disk);
        let crashed = node.disk.calls_left == Some(0);
        for effect in std::mem::take(&mut node.disk.effects) {
            self.carry_out(place, effect);
        }
        match stepped {
            _ if crashed => self.restart(place, true),
            Ok(()) => {}
            Err(Failure::Signer(SignError::Refused(_))) => {
                self.refused += 1;
                self.restart(place, false);
            }
            Err(failure) => panic!("node {place}: {failure}"),
        }
    }

    /// What was not synced is gone. A node whose guard refused follows until it decided the height.
    fn restart(&mut self, place: usize, is_voter: bool) {
        self.restarts += 1;
        let peers = peers(self.nodes.iter().map(|node| &node.disk.key));
        let node = &mut self.nodes[place];
        node.disk.calls_left = node.disk.calls_left_again.take();
        node.disk.log.truncate(node.disk.synced);
        node.timers.clear();
        let address = is_voter.then(|| node.disk.key.address());
        node.replica = Replica::new(NETWORK, address, peers);
        self.queue
            .retain(|(to, input)| *to != place || matches!(input, Input::FrameReceived { .. }));
        self.queue.push_front((place, self.start(place)));
    }

    fn carry_out(&mut self, place: usize, effect: Effect) {
        let me = self.nodes[place].disk.key.address();
        match effect {
            Effect::Broadcast(frame) => self.broadcast(place, &frame),
            Effect::Send { to, frame } => self.send(place, to, frame),
            Effect::SetTimer(timer, after) => {
                self.nodes[place].timers.insert(timer, self.now + after);
            }
            Effect::CancelTimer(timer) => drop(self.nodes[place].timers.remove(&timer)),
            Effect::CancelTimers => self.nodes[place].timers.clear(),
            Effect::RoundStarted { height, .. } => {
                let known = self.nodes[place].disk.blocks.values().filter(|b| b.height == height);
                let known: Vec<_> = known.copied().collect();
                self.queue.extend(known.into_iter().map(|b| (place, Input::BlockHanded(b))));
            }
            Effect::ValueRequested { height, round, .. } => {
                let bytes = [me.as_slice(), &height.0.to_be_bytes(), &round.0.to_be_bytes()];
                let block = BlockHash(keccak256(bytes.concat()));
                let valid_round = None;
                let proposed = ProposedBlock {
                    height,
                    round,
                    valid_round,
                    proposer: me,
                    block,
                    is_valid: true,
                };
                self.queue.push_back((place, Input::ValueProposed { height, round, block }));
                self.hand_to_all(proposed);
            }
            Effect::ProposalReceived { ticket, .. } => {
                self.queue.push_back((place, Input::ProposalPassed(ticket)));
            }
            Effect::RestreamRequested { block, round, valid_round, proposer, .. } => {
                if let Some(known) = self.nodes[place].disk.blocks.get(&block).copied() {
                    self.hand_to_all(ProposedBlock { round, valid_round, proposer, ..known });
                }
            }
            Effect::Decided(certificate) => self.decided(place, certificate),
            Effect::Finalized(certificate, evidence) => {
                assert_eq!(evidence, [], "nobody equivocates");
                let is_voter = self.nodes[place].replica.address.0 != Address::ZERO;
                if !is_voter {
                    return self.restart(place, true);
                }
                assert_eq!(certificate.height, self.tip(place));
                self.queue.push_back((place, self.start(place)));
            }
            Effect::StatusReceived { from, tip, .. } => self.sync(place, from, tip),
            Effect::ValueSynced { height, round, proposer, bytes } => {
                let block = BlockHash(B256::from_slice(&bytes));
                let valid_round = None;
                let block =
                    ProposedBlock { height, round, valid_round, proposer, block, is_valid: true };
                self.queue.push_back((place, Input::SyncedBlockHanded(block)));
            }
            effect => panic!("node {place}: {effect:?}"),
        }
    }

    fn send(&mut self, from: usize, to: PeerId, frame: Bytes) {
        let to = (0..self.nodes.len()).find(|place| peer(*place) == to).unwrap();
        self.queue.push_back((to, Input::FrameReceived { from: peer(from), frame }));
    }

    fn hand_to_all(&mut self, block: ProposedBlock) {
        for (place, node) in self.nodes.iter_mut().enumerate() {
            node.disk.blocks.insert(block.block, block);
            self.queue.push_back((place, Input::BlockHanded(block)));
        }
    }

    fn broadcast(&mut self, place: usize, frame: &Bytes) {
        for to in (0..self.nodes.len()).filter(|to| *to != place) {
            let frame = frame.clone();
            self.queue.push_back((to, Input::FrameReceived { from: peer(place), frame }));
        }
    }

    fn decided(&mut self, place: usize, certificate: Certificate) {
        certificate.verify(NETWORK, &self.set).unwrap();
        for node in &self.nodes {
            if let Some(other) = node.disk.decided.get(&certificate.height) {
                assert_eq!(other.block, certificate.block, "height {}", certificate.height);
            }
        }
        let tip = certificate.height;
        self.nodes[place].disk.decided.insert(tip, certificate);
        self.broadcast(place, &frames::status(tip, Height(1)));
    }

    /// Asks for the next height if a peer has it.
    fn sync(&mut self, place: usize, from: PeerId, tip: Height) {
        let next = self.tip(place).next();
        if tip < next {
            return;
        }
        let peer_place = (0..self.nodes.len()).find(|other| peer(*other) == from).unwrap();
        let certificate = self.nodes[peer_place].disk.decided[&next].clone();
        let bytes = Bytes::copy_from_slice(certificate.block.0.as_slice());
        self.queue.push_back((place, Input::DecisionReceived { from, bytes, certificate }));
    }
}

#[test]
fn four_replicas_decide_twenty_heights() {
    let mut run = Loop::new();
    run.run(Height(20));
    assert_eq!((run.refused, run.restarts), (0, 0));
    assert_eq!(run.now, Duration::ZERO, "no timer had to fire");
    let rounds = run.nodes[0].disk.decided.values().map(|certificate| certificate.round);
    assert!(rounds.into_iter().all(|round| round == Round(0)));
}

/// Runs three heights; replica 2 crashes at its `calls`-th call of the host, and perhaps `again` so many calls later.
fn crash_at(calls: u32, again: Option<u32>) -> Loop {
    let mut run = Loop::new();
    run.nodes[2].disk.calls_left = Some(calls);
    run.nodes[2].disk.calls_left_again = again;
    run.run(Height(3));
    run
}

/// A crash between the guard and the log leaves a message that only the guard knows. A restart leads to it again, so the guard
/// never has to refuse one, and nobody abstains.
#[test]
fn replica_that_crashes_at_any_calls_signs_nothing_twice_and_is_never_refused() {
    let calls = {
        let mut run = Loop::new();
        run.run(Height(3));
        run.nodes[2].disk.calls
    };
    assert!(calls > 40, "{calls}");
    for calls in 1..=calls {
        for again in std::iter::once(None).chain([1, 2, 3, 5].map(Some)) {
            let run = crash_at(calls, again);
            assert_eq!(run.refused, 0, "crashes at call {calls} and {again:?} calls later");
        }
    }
}

/// Each message that the guard has, but for the newest, is in the log, whatever was signed while it was replayed.
#[test]
fn what_is_signed_during_a_replay_is_logged() {
    let mut run = Loop::new();
    run.run(Height(2));
    let is_height_3 = |slot: &Slot| slot.0 == Height(3);
    while run.nodes[1].disk.guard.keys().filter(|slot| is_height_3(slot)).count() < 1 {
        let (place, input) = run.queue.pop_front().unwrap();
        run.step(place, input);
    }
    run.restart(1, true);
    let start = run.start(1);
    run.step(1, start);
    let Disk { key, log, guard, .. } = &run.nodes[1].disk;
    let logged = log.iter().filter_map(|entry| own_message(entry, key.address())).count();
    assert_eq!(logged, guard.keys().filter(|slot| is_height_3(slot)).count());
}

#[test]
fn log_replays_what_was_signed_without_the_signer() {
    let mut run = Loop::new();
    run.run(Height(2));
    let votes = |run: &Loop| run.nodes[1].disk.guard.clone();
    let before = votes(&run);
    // Height 3 is under way at some node, decided at none.
    while run.nodes[1].disk.log.len() < 5 || run.nodes[1].disk.log_height != Height(3) {
        let (place, input) = run.queue.pop_front().unwrap();
        run.step(place, input);
    }
    let signed = votes(&run).into_iter().filter(|(slot, _)| !before.contains_key(slot));
    let signed: Vec<_> = signed.collect();
    assert!(!signed.is_empty());
    // The process is killed: its log is whole.
    let peers = peers(run.nodes.iter().map(|node| &node.disk.key));
    let node = &mut run.nodes[1];
    node.disk.effects.clear();
    node.replica = Replica::new(NETWORK, Some(node.disk.key.address()), peers);
    // A guard that refuses everything: what is replayed is not signed again.
    node.disk
        .guard
        .values_mut()
        .for_each(|block| *block = Some(BlockHash(B256::repeat_byte(0xee))));
    let start = run.start(1);
    let node = &mut run.nodes[1];
    node.replica.step(start, &mut node.disk).unwrap();
    let sent = node.disk.effects.iter().filter_map(|effect| match effect {
        Effect::Broadcast(frame) => frames::read_votes(peer(1), frame.clone()).ok(),
        _ => None,
    });
    let sent: Vec<_> = sent
        .filter_map(|frame| match frame {
            VotesFrame::Vote(vote, ..) => Some((vote.height, vote.round, vote.block)),
            _ => None,
        })
        .collect();
    let prevote = signed.iter().find(|((.., kind), _)| *kind == 1).unwrap();
    assert!(sent.contains(&(prevote.0.0, prevote.0.1, prevote.1)), "{sent:?}, signed {signed:?}");
}

#[test]
fn frame_that_is_none_disconnects_its_sender() {
    let mut run = Loop::new();
    let start = run.start(0);
    let node = &mut run.nodes[0];
    node.replica.step(start, &mut node.disk).unwrap();
    node.disk.effects.clear();
    let frame = Bytes::from_static(&[0xff; 9]);
    node.replica.step(Input::FrameReceived { from: peer(3), frame }, &mut node.disk).unwrap();
    assert!(
        matches!(&node.disk.effects[..], [Effect::Disconnect { peer: of, .. }] if *of == peer(3))
    );
}

#[test]
fn unreadable_log_entry_ends_the_replica_for_safety() {
    let mut run = Loop::new();
    let start = run.start(0);
    let node = &mut run.nodes[0];
    (node.disk.log_height, node.disk.log) = (Height(1), vec![Bytes::from_static(&[0xff])]);
    let failure = node.replica.step(start.clone(), &mut node.disk).unwrap_err();
    assert!(matches!(failure, Failure::Unsafe { .. }), "{failure}");
    assert_eq!(node.replica.step(start, &mut node.disk), Err(failure), "and stays so");
}
