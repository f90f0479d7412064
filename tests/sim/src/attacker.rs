//! One attacker that holds the keys of a third of the validators and coordinates what they say.
//!
//! Its validators run the same program as the others; what they send is changed on the way out, per receiver. Which lies
//! it tells a seed draws, so that seeds mix them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use lockstep_consensus::application::effect::Effect;
use lockstep_consensus::lanes::wire::LaneMessage;
use lockstep_core::batch::{Acknowledgement, Batch};
use lockstep_core::certificate::{Proposal, Vote, VoteType};
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{
    BatchDigest, BlockHash, Height, NetworkId, Round, Sequence, UnixMillis,
};
use lockstep_engine::replica::frames::{self, VotesFrame};
use lockstep_engine::{FirstPart, PartContent, PartMessage, ProposalTicket, StreamId};

use crate::node::peer;
use crate::plan::{MS, Plan};
use crate::rng::Rng;
use crate::world::{Class, Event, World};

/// How often it acts by itself.
const ACTS_EVERY: u64 = 150 * MS;

/// A lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lie {
    /// Votes differ per receiver.
    SplitVotes,
    /// What is voted for a block one validator sees alone, another one each round.
    LonePolka,
    /// Some frames are not sent to some.
    Withhold,
    /// Blocks are from the future, judged under a later round and a valid round.
    FutureJudgedLater,
    /// Blocks are from the future.
    Future,
    /// Parts claim other rounds than the proposal.
    PartsOfOtherRounds,
    /// Many proposals of blocks that nobody has.
    Candidates,
    /// Parts that never end.
    EndlessParts,
    /// Two batches at one position.
    ForkedLane,
    /// Batches far ahead.
    FarLane,
    /// A status with heights that nobody has.
    Status,
    /// Decided values that are not.
    WrongValues,
    /// Proposals are signed for two blocks.
    TwoProposals,
    /// Acknowledges batches that nobody has.
    FalseAcks,
    /// Frames come much later to some.
    Late,
    /// Votes carry signatures of nobody.
    WrongSignatures,
    /// Frames of the past come again.
    Replays,
    /// Blocks break rules that everybody can check.
    InvalidBlocks,
    /// Blocks are earlier than their parents.
    Past,
    /// What is attached to proposals is nothing, or no batches.
    BadAttached,
    /// Batches of many runs, far ahead, some of them invalid.
    LaneFlood,
    /// Blocks of rounds to come are from the future, and nodes that start are told of them again. Only some profiles have it.
    FutureRounds,
}

pub(crate) const LIES: [Lie; 21] = [
    Lie::SplitVotes,
    Lie::LonePolka,
    Lie::Withhold,
    Lie::FutureJudgedLater,
    Lie::Future,
    Lie::PartsOfOtherRounds,
    Lie::Candidates,
    Lie::EndlessParts,
    Lie::ForkedLane,
    Lie::FarLane,
    Lie::Status,
    Lie::WrongValues,
    Lie::TwoProposals,
    Lie::FalseAcks,
    Lie::Late,
    Lie::WrongSignatures,
    Lie::Replays,
    Lie::InvalidBlocks,
    Lie::Past,
    Lie::BadAttached,
    Lie::LaneFlood,
];
/// Frames that are kept to be sent again.
const REPLAYED_MAX: usize = 64;

/// The attacker.
#[derive(Debug)]
pub(crate) struct Attacker {
    lies: BTreeSet<Lie>,
    /// How often it told each.
    pub(crate) told: BTreeMap<Lie, u64>,
    keys: Vec<SigningKey>,
    network: NetworkId,
    acts: u64,
    /// The newest proposal of each of its validators, for nodes that start.
    proposals: BTreeMap<usize, Bytes>,
    /// Its proposals of rounds to come, by height and liar.
    pub(crate) ahead: Vec<(Height, usize, Bytes)>,
    /// Valid blocks that were not proposed, of the newest heights.
    pub(crate) others: BTreeMap<Height, Bytes>,
    /// Frames that its validators sent, to be sent again.
    past: VecDeque<(usize, Class, Bytes)>,
}

impl Attacker {
    /// The attacker of a plan.
    #[must_use]
    pub(crate) fn draw(
        plan: &Plan,
        keys: &[SigningKey],
        network: NetworkId,
        rng: &mut Rng,
    ) -> Self {
        let mut lies: BTreeSet<_> = LIES.into_iter().filter(|_| rng.chance(300)).collect();
        lies.extend(plan.lies.iter().copied());
        let lies = if plan.liars > 0 { lies } else { BTreeSet::new() };
        Self {
            lies,
            told: BTreeMap::new(),
            proposals: BTreeMap::new(),
            ahead: Vec::new(),
            others: BTreeMap::new(),
            keys: keys[..plan.liars].to_vec(),
            network,
            acts: 0,
            past: VecDeque::new(),
        }
    }

    /// The key of one of its validators.
    #[must_use]
    pub(crate) fn key(&self, liar: usize) -> &SigningKey {
        &self.keys[liar]
    }

    /// What it does in this run.
    #[must_use]
    pub(crate) const fn lies(&self) -> &BTreeSet<Lie> {
        &self.lies
    }
}

pub(crate) fn some_block(rng: &mut Rng) -> BlockHash {
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&rng.bits().to_be_bytes());
    BlockHash(bytes.into())
}

impl World {
    pub(crate) fn lies(&mut self, node: usize, lie: Lie, permille: u64) -> bool {
        let lies =
            !self.is_honest(node) && self.attacker.lies.contains(&lie) && self.rng.chance(permille);
        if lies {
            *self.attacker.told.entry(lie).or_default() += 1;
        }
        lies
    }

    /// A liar lies for ever.
    fn still_lies(&self) -> bool {
        self.now >= self.plan.calm
    }

    /// Sends a frame; a liar's may be another one.
    pub(crate) fn send_as(&mut self, from: usize, to: usize, class: Class, frame: &Bytes) {
        // A liar's own program is not attacked.
        if from == to {
            return;
        }
        if self.is_honest(from) {
            return self.send(from, to, class, frame.clone());
        }
        if self.lies(from, Lie::Withhold, 250) {
            return;
        }
        if self.lies(from, Lie::Replays, 50) {
            self.attacker.past.push_back((from, class, frame.clone()));
            if self.attacker.past.len() > REPLAYED_MAX {
                self.attacker.past.pop_front();
            }
        }
        if self.lies(from, Lie::Late, 200) {
            let after = self.rng.below(2_500 * MS);
            let frame = frame.clone();
            return self.at(after, to, None, Event::Frame { from, to, class, frame });
        }
        match class {
            Class::Votes => {
                let frame = self.lie_in_vote(from, to, frame);
                self.send(from, to, class, frame);
            }
            Class::Sync if self.lies(from, Lie::WrongValues, 500) => {
                self.send_wrong_value(from, to, frame);
            }
            Class::Lanes => {
                let frame = self.lie_in_lane(from, to, frame);
                self.send(from, to, class, frame);
            }
            Class::Parts | Class::Sync => self.send(from, to, class, frame.clone()),
        }
    }

    fn lie_in_vote(&mut self, from: usize, to: usize, frame: &Bytes) -> Bytes {
        let Ok(message) = frames::read_votes(peer(from), frame.clone()) else {
            return frame.clone();
        };
        if matches!(message, VotesFrame::Proposal(_)) {
            self.attacker.proposals.insert(from, frame.clone());
        }
        match message {
            VotesFrame::Vote(vote, ..) if self.lies(from, Lie::LonePolka, 900) => {
                let key = self.attacker.keys[from].clone();
                let honest = (self.nodes.len() - self.plan.liars) as u64;
                let sees =
                    self.plan.liars as u64 + (vote.height.0 + u64::from(vote.round.0)) % honest;
                let is_shown = to as u64 == sees && vote.vote_type == VoteType::Prevote;
                let vote = Vote { block: vote.block.filter(|_| is_shown), ..vote };
                frames::vote(&vote, key.address(), key.sign(vote.digest(self.attacker.network)))
            }
            VotesFrame::Vote(vote, ..) if self.lies(from, Lie::SplitVotes, 500) => {
                let key = self.attacker.keys[from].clone();
                let block = match (to % 2, vote.block) {
                    (0, Some(_)) => None,
                    (_, block) => block.or_else(|| Some(some_block(&mut self.rng))),
                };
                let vote = Vote { block, ..vote };
                frames::vote(&vote, key.address(), key.sign(vote.digest(self.attacker.network)))
            }
            VotesFrame::Proposal(ticket)
                if to.is_multiple_of(2) && self.lies(from, Lie::TwoProposals, 500) =>
            {
                let (proposal, proposer) = ticket.proposal();
                let key = self.attacker.keys[from].clone();
                let proposal = Proposal { block: some_block(&mut self.rng), ..proposal };
                let signature = key.sign(proposal.digest(self.attacker.network));
                frames::proposal(&ProposalTicket::new(peer(from), proposal, proposer, signature))
            }
            VotesFrame::Status(..) if self.lies(from, Lie::Status, 500) => {
                frames::status(Height(1_000_000 + self.rng.below(9)), Height(1))
            }
            _ => frame.clone(),
        }
    }

    /// A node that starts is sent the liars' newest proposals again.
    pub(crate) fn greet(&mut self, to: usize) {
        for (from, frame) in self.attacker.proposals.clone() {
            if from != to && self.lies(from, Lie::Replays, 800) {
                let after = self.rng.below(300 * MS);
                self.at(after, to, None, Event::Frame { from, to, class: Class::Votes, frame });
            }
        }
        let height = self.checks.height(to);
        self.attacker.ahead.retain(|(of, ..)| *of > height);
        for (_, from, frame) in self.attacker.ahead.clone() {
            if from != to {
                let after = self.rng.below(50 * MS);
                self.at(after, to, None, Event::Frame { from, to, class: Class::Votes, frame });
            }
        }
    }

    /// The first part of a liar's proposal may claim other rounds.
    pub(crate) fn lie_about(&mut self, node: usize, first: FirstPart) -> FirstPart {
        if self.is_honest(node) || first.proposal.valid_round.is_some() {
            return first;
        }
        let is_future = self.still_lies() && self.attacker.lies.contains(&Lie::FutureJudgedLater);
        if !is_future && !self.lies(node, Lie::PartsOfOtherRounds, 700) {
            return first;
        }
        let turns = u32::try_from(self.nodes.len() as u64 * (1 + self.rng.below(2))).expect("few");
        let round = first.proposal.round;
        let proposal =
            Proposal { round: Round(round.0 + turns), valid_round: Some(round), ..first.proposal };
        let key = &self.attacker.keys[node];
        let signature = key.sign(proposal.part_digest(self.attacker.network));
        FirstPart { proposal, signature, ..first }
    }

    /// A liar's block may be from the future.
    pub(crate) fn lie_in_work(&mut self, node: usize, effect: Effect) -> Effect {
        match effect {
            Effect::BuildBlock { height, round, timestamp, cut, batches }
                if !self.is_honest(node) =>
            {
                let is_future = self.lies(node, Lie::FutureJudgedLater, 1_000)
                    || self.lies(node, Lie::Future, 700);
                let ahead = if is_future { 2_000 + self.rng.below(3_600_000) } else { 0 };
                let behind = if self.lies(node, Lie::Past, 500) { self.rng.below(700) } else { 0 };
                let timestamp = UnixMillis(timestamp.0 + ahead - behind);
                let cut = self.lie_in_cut(node, cut);
                Effect::BuildBlock { height, round, timestamp, cut, batches }
            }
            effect => effect,
        }
    }

    fn send_wrong_value(&mut self, from: usize, to: usize, frame: &Bytes) {
        let Ok((number, frames::SyncFrame::Response(first, mut values))) =
            frames::read_sync(frame.clone())
        else {
            return self.send(from, to, Class::Sync, frame.clone());
        };
        if values.is_empty() {
            values.extend(self.made_up_value(from));
        }
        for (bytes, certificate) in &mut values {
            match self.rng.below(4) {
                0 => *bytes = Bytes::from_static(b"no value"),
                1 => certificate.block = some_block(&mut self.rng),
                2 => self.forge(from, certificate),
                _ => self.swap_value(from, certificate.height, bytes),
            }
        }
        if let Ok(frame) = frames::value_response(number, first, values) {
            self.send(from, to, Class::Sync, frame);
        }
    }

    /// Another valid block in place of the decided one: of this height if there is one.
    fn swap_value(&mut self, liar: usize, height: Height, bytes: &mut Bytes) {
        if let Some(value) = self.attacker.others.get(&height) {
            *bytes = value.clone();
        } else if let Some((value, _)) = self.made_up_value(liar) {
            *bytes = value;
        }
    }

    /// Another batch at the same position, the same one far ahead, or an acknowledgement of what nobody has.
    fn lie_in_lane(&mut self, from: usize, to: usize, frame: &Bytes) -> Bytes {
        let raw = match LaneMessage::decode(frame.clone()) {
            Ok(LaneMessage::Batch(raw)) => raw,
            Ok(LaneMessage::Acknowledgement(ack)) if self.lies(from, Lie::FalseAcks, 400) => {
                let mut tips = ack.tips;
                for tip in &mut tips {
                    tip.position.sequence.0 += self.rng.below(4);
                    tip.digest = BatchDigest(some_block(&mut self.rng).0);
                }
                let key = &self.attacker.keys[from];
                let ack = Acknowledgement::sign(self.attacker.network, tips, key);
                return LaneMessage::Acknowledgement(ack).encode();
            }
            _ => return frame.clone(),
        };
        let forks = to.is_multiple_of(2) && self.lies(from, Lie::ForkedLane, 500);
        let is_far = !forks && self.lies(from, Lie::FarLane, 200);
        let key = self.attacker.keys[from].clone();
        let batch = Batch::decode(self.attacker.network, raw.into()).and_then(Batch::check);
        let Ok(batch) = batch else {
            return frame.clone();
        };
        let position = batch.position();
        if position.owner != key.address() || !(forks || is_far) {
            return frame.clone();
        }
        let sequence = Sequence(position.sequence.0 + if is_far { 5_000 } else { 0 });
        let mut entries: Vec<_> =
            batch.entries().iter().map(|checked| checked.entry().clone()).collect();
        if forks {
            entries.push(entries[0].clone());
        }
        let place = (position.incarnation, sequence);
        let parent = batch.header().parent;
        match Batch::sign(self.attacker.network, place, parent, entries, &key) {
            Ok(batch) => LaneMessage::Batch(batch.raw().clone().into()).encode(),
            Err(_) => frame.clone(),
        }
    }

    /// What it does by itself, now and then, while faults last.
    pub(crate) fn attack(&mut self) {
        if self.is_faulty() {
            self.at(ACTS_EVERY, 0, None, Event::Attack);
        }
        self.attacker.acts += 1;
        for (from, class, frame) in std::mem::take(&mut self.attacker.past) {
            for to in 0..self.nodes.len() {
                self.send(from, to, class, frame.clone());
            }
        }
        for liar in 0..self.plan.liars {
            if self.lies(liar, Lie::Candidates, 300) {
                self.flood_candidates(liar);
            }
            if self.lies(liar, Lie::EndlessParts, 300) {
                self.flood_parts(liar);
            }
            if self.lies(liar, Lie::LaneFlood, 200) {
                self.flood_lanes(liar);
            }
            if self.lies(liar, Lie::FutureRounds, 500) {
                self.propose_ahead(liar);
            }
            if self.attacker.lies.contains(&Lie::WrongValues) {
                self.keep_other_block(liar);
            }
        }
    }

    fn flood_parts(&mut self, liar: usize) {
        for _ in 0..20 {
            let stream = StreamId(Bytes::copy_from_slice(&self.rng.bits().to_be_bytes()));
            let content = PartContent::Data(Bytes::from_static(&[7; 300]));
            let part = PartMessage { stream, sequence: 1 + self.rng.below(3), content };
            let frame = frames::part(&part).expect("a short part");
            for to in 0..self.nodes.len() {
                self.send(liar, to, Class::Parts, frame.clone());
            }
        }
    }
}
