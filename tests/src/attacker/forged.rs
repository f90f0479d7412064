//! What an attacker sends in numbers, or with signatures that are nobody's. Nothing here fails if a peer is down.

use std::sync::PoisonError;

use bytes::Bytes;
use lockstep_consensus::lanes::wire::LaneMessage;
use lockstep_consensus::mesh::class::Class;
use lockstep_core::batch::Batch;
use lockstep_core::certificate::{Proposal, Vote, VoteType};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::header::Header;
use lockstep_core::lane::BatchRange;
use lockstep_core::params::ChainKind;
use lockstep_core::proposal::Payload;
use lockstep_core::state::State;
use lockstep_core::types::{BlockHash, Height, NetworkId, Round, UnixMillis};
use lockstep_devnet::load::wallet::Wallet;
use lockstep_proto::v1;
use lockstep_proto::v1::votes_frame::Message;
use prost::Message as _;

use super::Attacker;

/// Rounds of a height in which validators open proposals.
const ROUNDS: u32 = 10;

impl Attacker {
    /// A vote of its own.
    #[must_use]
    pub fn vote_frame(&self, vote: Vote) -> Bytes {
        self.vote_frame_signed_for(vote, self.network)
    }

    /// A vote that it signed for another network.
    #[must_use]
    pub fn wrong_vote_frame(&self, vote: Vote) -> Bytes {
        self.vote_frame_signed_for(vote, NetworkId::ZERO)
    }

    fn vote_frame_signed_for(&self, vote: Vote, network: NetworkId) -> Bytes {
        let kind = match vote.vote_type {
            VoteType::Prevote => v1::VoteKind::Prevote,
            VoteType::Precommit => v1::VoteKind::Precommit,
        };
        let block = vote.block.map(|block| Bytes::copy_from_slice(block.0.as_slice()));
        let signed = v1::SignedVote {
            height: vote.height.0,
            round: vote.round.0,
            kind: kind.into(),
            block: block.unwrap_or_default(),
            validator: Bytes::copy_from_slice(self.key.address().as_slice()),
            signature: Bytes::copy_from_slice(&self.key.sign(vote.digest(network)).0),
        };
        v1::VotesFrame { message: Some(Message::Vote(signed)) }.encode_to_vec().into()
    }

    /// The votes that it heard since it was last asked, as frames of its own.
    #[must_use]
    pub fn take_heard_votes(&self) -> Vec<Bytes> {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        let is_vote = |m: &Message| matches!(m, Message::Vote(_) | Message::VoteAgain(_));
        let frame = |m| v1::VotesFrame { message: Some(m) }.encode_to_vec().into();
        heard.into_iter().filter(is_vote).map(frame).collect()
    }

    /// Whether somebody precommitted this block, as far as it heard since its votes were taken.
    #[must_use]
    pub fn has_heard_precommit(&self, block: BlockHash) -> bool {
        let is_it = |message: &Message| match message {
            Message::Vote(vote) | Message::VoteAgain(vote) => {
                vote.kind() == v1::VoteKind::Precommit && vote.block == block.0.as_slice()
            }
            Message::Proposal(_) | Message::Polka(_) | Message::Round(_) | Message::Status(_) => {
                false
            }
        };
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).iter().any(is_it)
    }

    /// Proposals of its next height for all its rounds that are opened, with a first part signed by another key.
    pub fn propose_signed_by_another(&self, state: &State) {
        let (header, cut) = self.valid_block(state);
        for round in self.rounds(state) {
            let header = Header { round, proposer: self.key.address(), ..header.clone() };
            let block = header.hash();
            let proposal = Proposal { height: header.height, round, valid_round: None, block };
            let signed = Proposal { height: header.height.next(), ..proposal };
            let payload = Payload { header, cut: cut.clone(), batches: Vec::new() }.encode().0;
            for (class, frame) in self.proposal_frames(proposal, proposal, payload) {
                self.broadcast(class, resigned(&frame, class, &self.part_signature(&signed)));
            }
        }
    }

    /// A proposal for one of its rounds, the `number`th modulo their count, whose cut adds these batches of its lane. They come
    /// with it. The state that the header claims is not the one that they lead to.
    pub fn propose_with_batches(&self, state: &State, batches: &[Batch], number: u64) {
        let rounds = self.rounds(state);
        let place = usize::try_from(number).expect("few").checked_rem(rounds.len());
        let round = place.and_then(|place| rounds.get(place).copied());
        let (Some(round), Some(last)) = (round, batches.last()) else { return };
        let (mut header, mut cut) = self.valid_block(state);
        let own = cut.lanes.iter_mut().find(|lane| lane.owner == self.key.address());
        let own = own.expect("it has a lane");
        let position = last.header().position;
        (own.incarnation, own.sequence) = (position.incarnation, position.sequence);
        own.digest = last.digest();
        (header.round, header.proposer, header.cut_hash) = (round, self.key.address(), cut.hash());
        header.timestamp_ms = header.timestamp_ms.plus(number & 7);
        let block = header.hash();
        let proposal = Proposal { height: header.height, round, valid_round: None, block };
        let batches = batches.iter().map(|batch| batch.raw().clone()).collect();
        self.propose_payload(proposal, Payload { header, cut, batches }.encode().0);
    }

    /// Its rounds of the next height that validators open proposals of.
    fn rounds(&self, state: &State) -> Vec<Round> {
        let (height, set) = (state.height.next(), &state.committed.validators);
        let is_own = |round: &Round| set.proposer(height, *round).address == self.key.address();
        (0..=ROUNDS).map(Round).filter(is_own).collect()
    }

    fn part_signature(&self, proposal: &Proposal) -> Bytes {
        Bytes::copy_from_slice(&self.key.sign(proposal.part_digest(self.network)).0)
    }

    /// Asks every peer for batches.
    pub fn ask_batches(&self, range: BatchRange) {
        self.broadcast(Class::Lanes, LaneMessage::Request(range).encode());
    }

    /// Asks every peer for the decided values of heights 1..=`last`.
    pub fn ask_values(&self, number: u64, last: Height) {
        let request = v1::ValueRequest { first: 1, last: last.0 };
        let message = Some(v1::sync_frame::Message::ValueRequest(request));
        let frame = v1::SyncFrame { request: number, message };
        self.broadcast(Class::Sync, frame.encode_to_vec());
    }
}

/// The same part with this signature, if it is a first one.
fn resigned(frame: &Bytes, class: Class, signature: &Bytes) -> Bytes {
    if class != Class::Parts {
        return frame.clone();
    }
    let mut part = v1::PartsFrame::decode(frame.clone()).expect("our own");
    if let Some(v1::parts_frame::Content::First(first)) = &mut part.content {
        first.signature = signature.clone();
    }
    part.encode_to_vec().into()
}

/// So many transfers, each with a signature that is some account's and that nobody made: one transfer with another number
/// in its signature. Cheap to make, and each costs as much to check as an honest one.
#[must_use]
pub fn unsigned_transfers(wallet: &mut Wallet, count: u64, expires: UnixMillis) -> Vec<Entry> {
    let chain = wallet.chain();
    let bytes = wallet.transfer().to_vec();
    let number = bytes.len().checked_sub(8).expect("a transfer is longer");
    let transfer = |index: u64| {
        let mut bytes = bytes.clone();
        bytes.get_mut(number..).expect("as before").copy_from_slice(&index.to_be_bytes());
        let transaction = Transaction { chain, kind: ChainKind::Evm, bytes: bytes.into() };
        Entry::new(Body::Transaction(transaction), expires, None).expect("as short as a transfer")
    };
    (0..count).map(transfer).collect()
}

/// A transfer whose signature is none.
#[must_use]
pub fn invalid_transfer(wallet: &mut Wallet, expires: UnixMillis) -> Entry {
    let chain = wallet.chain();
    let mut bytes = wallet.transfer().to_vec();
    let from = bytes.len().checked_sub(32).expect("a transfer is longer");
    bytes.get_mut(from..).expect("as before").fill(0xff);
    let transaction = Transaction { chain, kind: ChainKind::Evm, bytes: bytes.into() };
    Entry::new(Body::Transaction(transaction), expires, None).expect("as short as a transfer")
}
