//! Lies about blocks and decided values: what an attacker makes by itself, with its own validators' state.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use bytes::Bytes;
use lockstep_consensus::application::input::Done;
use lockstep_consensus::lanes::wire::LaneMessage;
use lockstep_core::batch::Batch;
use lockstep_core::certificate::{Certificate, CommitSignature, Proposal, Vote, VoteType};
use lockstep_core::cut::{Cut, LanePosition};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::header::Header;
use lockstep_core::params::ChainKind;
use lockstep_core::proposal::{Payload, SyncedValue};
use lockstep_core::signing::{Signature, SigningKey};
use lockstep_core::types::{BatchDigest, Height, Incarnation, Round, Sequence, UnixMillis};
use lockstep_engine::replica::frames;
use lockstep_engine::{FirstPart, ProposalTicket};

use crate::attacker::{Lie, some_block};
use crate::node::peer;
use crate::plan::MS;
use crate::world::{CHAINS, Class, World};

/// Blocks that are made for the first round of the liar's own, and for each other round.
const FLOOD: usize = 12;
const FORGED: usize = 2;
/// Blocks that are kept to be passed off as decided ones.
const OTHERS_MAX: usize = 8;
/// Batches of one flood.
const BATCHES: u64 = 30;

impl World {
    /// A valid block without entries after a liar's newest one.
    pub(crate) fn make_block(&mut self, liar: usize, round: Round) -> Option<(Header, Cut)> {
        let is_ahead = self.attacker.lies().contains(&Lie::Future) && self.rng.chance(300);
        let later = self.rng.below(if is_ahead { 60_000 } else { 300 });
        self.make_block_later(liar, round, later)
    }

    /// The same, so many milliseconds later than its parent.
    fn make_block_later(&mut self, liar: usize, round: Round, later: u64) -> Option<(Header, Cut)> {
        let ledger = &self.nodes[liar].running.as_ref()?.ledger;
        let state = ledger.state();
        let time = UnixMillis(state.timestamp.0 + 1 + later);
        let cut = Cut { lanes: state.committed.lanes.clone() };
        let built = ledger.build((state.height.next(), round), time, &cut, &[]);
        let (header, _) = built.ok()??;
        self.checks.seen(header.hash(), time);
        Some((header, cut))
    }

    /// Signed first parts and proposals of blocks without entries: many in each round that is this liar's turn, and some
    /// in other rounds, as if their proposers had made them.
    pub(crate) fn flood_candidates(&mut self, liar: usize) {
        let height = self.checks.height(liar).next();
        let me = self.attacker.key(liar).address();
        let mut flood = FLOOD;
        for round in (0..80).map(Round) {
            let proposer = self.genesis.validators.proposer(height, round).address;
            let count = match proposer == me {
                true if round.0 < 16 => std::mem::replace(&mut flood, FORGED),
                true => 1,
                false if round.0 < 3 => FORGED,
                false => 0,
            };
            for place in 0..count {
                let Some((header, cut)) = self.make_block(liar, round) else { return };
                let is_other = place == 0 && self.rng.chance(300);
                let block = if is_other { some_block(&mut self.rng) } else { header.hash() };
                let proposal = Proposal { height: header.height, round, valid_round: None, block };
                let payload = Payload { header, cut, batches: Vec::new() };
                self.propose_to_all(liar, (proposal, proposer), &payload);
            }
        }
    }

    /// Proposes a block from the future for this liar's next turn of the height, and keeps the proposal.
    pub(crate) fn propose_ahead(&mut self, liar: usize) {
        let Some(running) = &self.nodes[liar].running else { return };
        let Some((height, Some(round))) = running.replica.position() else { return };
        if height != running.height().next() {
            return;
        }
        let me = self.attacker.key(liar).address();
        let validators = &self.genesis.validators;
        let mut rounds = (round.0 + 1..=round.0 + 10).map(Round);
        let Some(round) = rounds.find(|of| validators.proposer(height, *of).address == me) else {
            return;
        };
        let later = 5_000 + self.rng.below(60_000);
        let Some((header, cut)) = self.make_block_later(liar, round, later) else { return };
        let proposal = Proposal { height, round, valid_round: None, block: header.hash() };
        let payload = Payload { header, cut, batches: Vec::new() };
        let frame = self.propose_to_all(liar, (proposal, me), &payload);
        self.attacker.ahead.push((height, liar, frame));
    }

    /// Keeps a valid block of the next height, to pass it off as the one that will be decided.
    pub(crate) fn keep_other_block(&mut self, liar: usize) {
        let Some((header, cut)) = self.make_block_later(liar, Round(0), 0) else { return };
        let height = header.height;
        let value = SyncedValue { header, cut, batches: Vec::new() };
        self.attacker.others.insert(height, value.encode().into());
        while self.attacker.others.len() > OTHERS_MAX {
            self.attacker.others.pop_first();
        }
    }

    /// Sends a proposal with all its parts. Returns the frame that consensus is sent.
    fn propose_to_all(
        &mut self,
        liar: usize,
        (proposal, proposer): (Proposal, alloy_primitives::Address),
        payload: &Payload,
    ) -> Bytes {
        let key = self.attacker.key(liar).clone();
        let payload = Bytes::from(payload.encode());
        let first = FirstPart {
            proposal,
            proposer,
            bytes_total: payload.len() as u64,
            signature: key.sign(proposal.part_digest(self.network)),
        };
        for part in lockstep_consensus::parts::split(first, &payload) {
            self.send_to_all(liar, Class::Parts, &frames::part(&part).expect("a short part"));
        }
        let signature = key.sign(proposal.digest(self.network));
        let ticket = ProposalTicket::new(peer(liar), proposal, proposer, signature);
        let frame = frames::proposal(&ticket);
        self.send_to_all(liar, Class::Votes, &frame);
        frame
    }

    /// Sends a frame of the attacker's own making to everybody.
    pub(crate) fn send_to_all(&mut self, liar: usize, class: Class, frame: &Bytes) {
        for to in 0..self.nodes.len() {
            self.send(liar, to, class, frame.clone());
        }
    }

    /// Batches of a liar's lane in many runs, far ahead and out of order; some with an entry that nobody signed.
    pub(crate) fn flood_lanes(&mut self, liar: usize) {
        let key = self.attacker.key(liar).clone();
        for _ in 0..BATCHES {
            let run = Incarnation(self.rng.below(1 << 45));
            let sequence = Sequence(self.rng.below(3));
            let parent = if sequence.0 == 0 {
                BatchDigest::ZERO
            } else {
                BatchDigest(some_block(&mut self.rng).0)
            };
            let bytes = self.rng.bits().to_be_bytes().to_vec().into();
            let body = Transaction { chain: CHAINS[0], kind: ChainKind::Opaque, bytes };
            let gateway = self.rng.chance(100).then_some(Signature([9; 65]));
            let expires = UnixMillis(crate::node::EPOCH_MS + self.now / MS + 10_000);
            let entry =
                Entry::new(Body::Transaction(body), expires, gateway).expect("a short entry");
            let batch = Batch::sign(self.network, (run, sequence), parent, vec![entry], &key);
            let batch = batch.expect("a short batch");
            let frame = LaneMessage::Batch(batch.raw().clone().into()).encode();
            self.send_to_all(liar, Class::Lanes, &frame);
        }
    }

    /// A liar's block may break a rule that everybody can check. Its time and its cut are lied about before it is built.
    pub(crate) fn lie_in_done(&mut self, node: usize, mut done: Done) -> Done {
        if let Done::BlockBuilt(built) = &mut done
            && self.lies(node, Lie::InvalidBlocks, 500)
        {
            let other = self.nodes[self.rng.place(self.nodes.len())].key.address();
            let nodes = u32::try_from(self.nodes.len()).expect("few");
            let hash = some_block(&mut self.rng);
            let header = &mut built.header;
            match self.rng.below(9) {
                0 => header.network_id.0 = hash.0,
                1 => header.parent = hash,
                2 => header.proposer = other,
                3 => header.validators_hash = hash.0,
                4 => header.next_validators_hash = hash.0,
                5 => header.set_since = Height(header.set_since.0 + 1),
                6 => header.slices_root = hash.0,
                7 => header.state_hash = hash.0,
                // The same proposer's next turn.
                _ => header.round = Round(header.round.0 + nodes),
            }
            self.checks.seen(built.header.hash(), built.header.timestamp_ms);
        }
        done
    }

    /// A liar's cut may move a lane back.
    pub(crate) fn lie_in_cut(&mut self, node: usize, mut cut: Cut) -> Cut {
        if self.lies(node, Lie::InvalidBlocks, 150) {
            let place = self.rng.place(cut.lanes.len());
            let lane = &mut cut.lanes[place];
            *lane = if lane.sequence.0 > 0 {
                LanePosition {
                    sequence: Sequence(lane.sequence.0 - 1),
                    digest: BatchDigest(B256::repeat_byte(1)),
                    ..*lane
                }
            } else {
                LanePosition::start(lane.owner)
            };
        }
        cut
    }

    /// What a liar attaches to its proposals may be nothing, or no batches.
    pub(crate) fn lie_in_payload(&mut self, node: usize, payload: &mut Payload) {
        if self.lies(node, Lie::BadAttached, 500) {
            match self.rng.below(3) {
                0 => payload.batches.clear(),
                1 => payload.batches.reverse(),
                _ => payload.batches.iter_mut().for_each(|batch| {
                    let mut bytes = batch.to_vec();
                    if let Some(last) = bytes.last_mut() {
                        *last ^= 1;
                    }
                    *batch = bytes.into();
                }),
            }
        }
    }

    /// A value that nobody decided, with a certificate that only liars signed.
    pub(crate) fn made_up_value(&mut self, liar: usize) -> Option<(Bytes, Certificate)> {
        let (header, cut) = self.make_block(liar, Round(0))?;
        let (height, block) = (header.height, header.hash());
        let value = SyncedValue { header, cut, batches: Vec::new() };
        let vote =
            Vote { height, round: Round(0), vote_type: VoteType::Precommit, block: Some(block) };
        let by_liars = self.nodes[..self.plan.liars].iter().map(|node| CommitSignature {
            validator: node.key.address(),
            signature: node.key.sign(vote.digest(self.network)),
        });
        let mut certificate =
            Certificate { height, round: Round(0), block, signatures: by_liars.collect() };
        self.forge(liar, &mut certificate);
        Some((value.encode().into(), certificate))
    }

    /// Makes a certificate one of many kinds that prove nothing.
    pub(crate) fn forge(&mut self, liar: usize, certificate: &mut Certificate) {
        let key: SigningKey = self.attacker.key(liar).clone();
        let quorum = self.plan.nodes * 2 / 3 + 1;
        let signatures = &mut certificate.signatures;
        match self.rng.below(6) {
            0 => signatures.truncate(quorum - 1),
            1 => signatures.truncate(1),
            2 => *signatures = vec![signatures[0]; quorum],
            3 => {
                let digest = B256::from(some_block(&mut self.rng).0);
                signatures.iter_mut().for_each(|one| one.signature = key.sign(digest));
            }
            4 => {
                let mut all: BTreeMap<_, _> =
                    signatures.iter().map(|one| (one.validator, one.signature)).collect();
                let signature = signatures[0].signature;
                for node in &self.nodes {
                    all.entry(node.key.address()).or_insert(signature);
                }
                let all = all.into_iter();
                *signatures = all
                    .map(|(validator, signature)| CommitSignature { validator, signature })
                    .collect();
            }
            _ => certificate.round = Round(certificate.round.0 + 1),
        }
    }
}
