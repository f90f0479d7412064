//! A peer of the mesh that holds a validator's keys and does as it likes.
//!
//! It speaks with the real transport to real nodes, follows the log over gRPC as a full node does, and signs whatever a
//! scenario wants signed. It votes for nothing by itself, and remembers what the others say of consensus.

pub mod forged;

use std::mem;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use libp2p::PeerId;
use libp2p::identity::Keypair;
use lockstep_consensus::follower::Follower;
use lockstep_consensus::lanes::wire::LaneMessage;
use lockstep_consensus::mesh::class::Class;
use lockstep_consensus::mesh::faults::Faults;
use lockstep_consensus::mesh::handle::Handle;
use lockstep_consensus::mesh::{self, Inbound, Running};
use lockstep_core::batch::{Acknowledged, Acknowledgement, Batch};
use lockstep_core::block::{build_header, proposal_timestamp};
use lockstep_core::certificate::{Proposal, Vote, VoteType};
use lockstep_core::cut::Cut;
use lockstep_core::entry::Entry;
use lockstep_core::header::Header;
use lockstep_core::limits::PART_BYTES_MAX;
use lockstep_core::params::Genesis;
use lockstep_core::proposal::Payload;
use lockstep_core::signing::SigningKey;
use lockstep_core::state::State;
use lockstep_core::types::{
    BatchDigest, BlockHash, Height, Incarnation, NetworkId, Round, Sequence, UnixMillis,
};
use lockstep_node::clock;
use lockstep_node::keys::{self, NETWORK_KEY, VALIDATOR_KEY};
use lockstep_proto::v1;
use lockstep_proto::v1::votes_frame::Message;
use prost::Message as _;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::node::Node;
use crate::wait::until;

/// How long the others may take to connect: longer than a peer is kept out for its fourth misdeed.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// How long the log may take to get to a height.
const HEIGHT_PATIENCE: Duration = Duration::from_secs(20);

/// Votes, proposals and what else of consensus was heard, in the order of arrival.
type Heard = Arc<Mutex<Vec<Message>>>;

/// A lying validator.
#[derive(Debug)]
pub struct Attacker {
    /// Its validator key.
    pub key: SigningKey,
    /// The network.
    pub network: NetworkId,
    /// What it sends with.
    pub mesh: Handle,
    /// What the others send it on the lanes.
    pub lanes: mpsc::Receiver<Inbound>,
    heard: Heard,
    follower: Follower,
    _running: Running,
    _directory: TempDir,
}

/// The other validators on the mesh, as `me` dials them.
#[must_use]
pub fn peers(genesis: &Genesis, me: PeerId) -> Vec<(PeerId, libp2p::Multiaddr)> {
    let addresses = genesis.validators.iter().map(|validator| &validator.network_address);
    let split = |address: &String| lockstep_node::genesis::split_network_address(address).ok();
    let peers = addresses.filter_map(split).map(|(address, peer)| (peer, address));
    peers.filter(|(peer, _)| *peer != me).collect()
}

/// A peer of the mesh of `network` with this key.
pub async fn join(
    genesis: &Genesis,
    network: NetworkId,
    keypair: &Keypair,
    port: u16,
) -> mesh::Mesh {
    let config = mesh::Config {
        keypair: keypair.clone(),
        listen: format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address"),
        network,
        peers: peers(genesis, keypair.public().to_peer_id()),
        faults: Faults::default(),
    };
    mesh::spawn(config).await.expect("the mesh starts")
}

/// Remembers what comes, until the mesh stops.
async fn hear(mut votes: mpsc::Receiver<Inbound>, heard: Heard) {
    while let Some(frame) = votes.recv().await {
        let message = v1::VotesFrame::decode(frame.body).ok().and_then(|frame| frame.message);
        heard.lock().unwrap_or_else(PoisonError::into_inner).extend(message);
    }
}

impl Attacker {
    /// Joins the mesh with the keys in a directory.
    pub async fn start(genesis: Genesis, keys: &Path, port: u16) -> Self {
        let key = keys::read_validator_key(&keys.join(VALIDATOR_KEY)).expect("a key");
        let keypair = keys::read_network_key(&keys.join(NETWORK_KEY)).expect("a key");
        let network = genesis.network_id();
        let mesh = join(&genesis, network, &keypair, port).await;
        let directory = tempfile::tempdir().expect("a directory");
        let follower = Follower::open(genesis, directory.path(), 1).await.expect("a log");
        let heard = Heard::default();
        tokio::spawn(hear(mesh.votes, heard.clone()));
        Self {
            key,
            network,
            mesh: mesh.handle,
            lanes: mesh.lanes,
            heard,
            follower,
            _running: mesh.running,
            _directory: directory,
        }
    }

    /// Waits until so many peers are connected.
    pub async fn until_connected(&self, count: usize) {
        until("the peers are connected", CONNECT_PATIENCE, async || {
            (self.mesh.peers_up().len() == count).then_some(())
        })
        .await;
    }

    /// Waits until it has heard, now or before, a message in which `find` finds something.
    pub async fn until_heard<T>(
        &self,
        what: &str,
        patience: Duration,
        find: impl Fn(&Message) -> Option<T>,
    ) -> T {
        until(what, patience, async || {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).iter().find_map(&find)
        })
        .await
    }

    /// Sends one frame to one peer.
    pub fn send(&self, to: PeerId, class: Class, frame: impl Into<Bytes>) {
        self.mesh.send(to, class, frame.into()).expect("the peer is connected");
    }

    /// Sends one frame to all that are connected.
    pub fn broadcast(&self, class: Class, frame: impl Into<Bytes>) {
        // Whoever is not connected does not get it.
        drop(self.mesh.broadcast(class, &frame.into()));
    }

    /// Pushes a batch to one peer.
    pub fn push(&self, to: PeerId, batch: &Batch) {
        self.send(to, Class::Lanes, LaneMessage::Batch(batch.raw().0.clone()).encode());
    }

    /// A batch of its lane.
    #[must_use]
    pub fn batch(
        &self,
        run: u64,
        sequence: u64,
        parent: BatchDigest,
        entries: Vec<Entry>,
    ) -> Batch {
        let place = (Incarnation(run), Sequence(sequence));
        Batch::sign(self.network, place, parent, entries, &self.key).expect("a batch")
    }

    /// Says to all that the batch is stored here, as if it were.
    pub fn acknowledge(&self, batch: &Batch) {
        let tip = Acknowledged { position: batch.header().position, digest: batch.digest() };
        let word = Acknowledgement::sign(self.network, vec![tip], &self.key);
        self.broadcast(Class::Lanes, LaneMessage::Acknowledgement(word).encode());
    }

    /// What the others send it on the lanes from now on; nobody else hears it then.
    pub fn take_lanes(&mut self) -> mpsc::Receiver<Inbound> {
        mem::replace(&mut self.lanes, mpsc::channel(1).1)
    }

    /// The state after the newest block that it followed.
    #[must_use]
    pub fn state(&self) -> State {
        self.follower.ledger.state().as_ref().clone()
    }

    /// Follows the log until it is this validator's turn to propose, in round 0 of the height after the newest one.
    pub async fn until_turn(&self, node: &Node) -> State {
        let mut log = node.log_client().await;
        let next = self.state().height.next();
        let mut blocks = log.stream_blocks(Some(next)).await.expect("the node serves");
        loop {
            let state = self.state();
            let is_newest = node.height().await == state.height;
            if is_newest && self.is_turn(&state) {
                return state;
            }
            let block = tokio::time::timeout(HEIGHT_PATIENCE, blocks.next());
            let block = block.await.expect("a block in time").expect("the stream goes on");
            let block = block.expect("a block");
            self.follower
                .apply(block.synced_value, block.certificate)
                .await
                .expect("an honest block");
        }
    }

    /// Follows the log for ever, as long as the node serves it, and gives each new state to `act`.
    pub async fn at_each_height(&self, node: &Node, mut act: impl AsyncFnMut(&State)) {
        let next = self.state().height.next();
        let mut blocks =
            node.log_client().await.stream_blocks(Some(next)).await.expect("the node serves");
        while let Some(block) = blocks.next().await {
            let block = block.expect("a block");
            self.follower
                .apply(block.synced_value, block.certificate)
                .await
                .expect("an honest block");
            act(&self.state()).await;
        }
    }

    /// Whether round 0 of the height after `state` is this validator's turn.
    #[must_use]
    pub fn is_turn(&self, state: &State) -> bool {
        let proposer = state.committed.validators.proposer(state.height.next(), Round(0));
        proposer.address == self.key.address()
    }

    /// A valid block without entries for the height after `state`.
    #[must_use]
    pub fn valid_block(&self, state: &State) -> (Header, Cut) {
        self.block_at(state, proposal_timestamp(state.timestamp, clock::now()))
    }

    /// The same with a time of its own: objectively valid if that is later than the parent's.
    #[must_use]
    pub fn block_at(&self, state: &State, timestamp: UnixMillis) -> (Header, Cut) {
        let cut = Cut { lanes: state.committed.lanes.clone() };
        let assembly = self.follower.ledger.assemble(timestamp, &cut, &[]).expect("no entries");
        (build_header(state, Round(0), timestamp, &cut, &assembly), cut)
    }

    /// Proposes a block at a height's round 0, in all form but for what the block says.
    pub fn propose(&self, height: Height, header: &Header, cut: &Cut) {
        let (proposal, payload) = proposal_of(height, header, cut);
        self.propose_payload(proposal, payload);
    }

    /// Proposes a block at a height's round 0 to some only.
    pub fn propose_to(&self, peers: &[PeerId], header: &Header, cut: &Cut) {
        let (proposal, payload) = proposal_of(header.height, header, cut);
        for (class, frame) in self.proposal_frames(proposal, proposal, payload) {
            for peer in peers {
                self.send(*peer, class, frame.clone());
            }
        }
    }

    /// Sends the parts of one proposal and the signed message of another.
    pub fn propose_apart(&self, parts: Proposal, signed: Proposal, payload: Bytes) {
        for (class, frame) in self.proposal_frames(parts, signed, payload) {
            self.broadcast(class, frame);
        }
    }

    /// The parts say that the block had a polka in an earlier round; the signed proposal is a fresh one of that round.
    pub fn propose_with_a_polka_that_never_was(&self, header: &Header, cut: &Cut, round: Round) {
        let (signed, payload) = proposal_of(header.height, header, cut);
        let parts = Proposal { round, valid_round: Some(Round(0)), ..signed };
        self.propose_apart(parts, signed, payload);
    }

    /// Proposes these bytes as a block.
    pub fn propose_payload(&self, proposal: Proposal, payload: Bytes) {
        self.propose_apart(proposal, proposal, payload);
    }

    /// Prevotes for a block to some only.
    pub fn prevote_to(&self, peers: &[PeerId], height: Height, round: Round, block: BlockHash) {
        let vote_type = VoteType::Prevote;
        self.vote_to(peers, Vote { height, round, vote_type, block: Some(block) });
    }

    /// Votes to some only.
    pub fn vote_to(&self, peers: &[PeerId], vote: Vote) {
        let frame = self.vote_frame(vote);
        for peer in peers {
            self.send(*peer, Class::Votes, frame.clone());
        }
    }

    /// One proposal of garbage for each of its rounds, of the height after `state` and the two behind it: 33 kB.
    pub fn propose_in_all_rounds(&self, state: &State) {
        let validators = state.committed.validators.iter().count();
        let rounds = u32::try_from(validators.saturating_mul(64)).expect("few");
        let (header, cut) = self.valid_block(state);
        for ahead in 0..3 {
            let height = Height(header.height.0.saturating_add(ahead));
            for round in (0..rounds).map(Round) {
                let proposer = state.committed.validators.proposer(height, round);
                if proposer.address != self.key.address() {
                    continue;
                }
                let header = Header { height, round, ..header.clone() };
                let proposal = Proposal { height, round, valid_round: None, block: header.hash() };
                let payload = Payload { header, cut: cut.clone(), batches: Vec::new() };
                self.propose_payload(proposal, payload.encode().0);
            }
        }
    }

    /// What a proposer sends: the signed proposal, and the payload as parts.
    fn proposal_frames(
        &self,
        parts: Proposal,
        proposal: Proposal,
        payload: Bytes,
    ) -> Vec<(Class, Bytes)> {
        let sign = |digest| Bytes::copy_from_slice(&self.key.sign(digest).0);
        let validator = Bytes::copy_from_slice(self.key.address().as_slice());
        let block = |block: BlockHash| Bytes::copy_from_slice(block.0.as_slice());
        let signed = v1::SignedProposal {
            height: proposal.height.0,
            round: proposal.round.0,
            valid_round: proposal.valid_round.map(|round| round.0),
            block: block(proposal.block),
            validator: validator.clone(),
            signature: sign(proposal.digest(self.network)),
        };
        let first = v1::FirstPart {
            height: parts.height.0,
            round: parts.round.0,
            valid_round: parts.valid_round.map(|round| round.0),
            proposer: validator,
            block: block(parts.block),
            bytes_total: payload.len() as u64,
            signature: sign(parts.part_digest(self.network)),
        };
        let votes = v1::VotesFrame { message: Some(Message::Proposal(signed)) };
        let data = payload.chunks(PART_BYTES_MAX).map(|chunk| payload.slice_ref(chunk));
        let contents = [v1::parts_frame::Content::First(first)]
            .into_iter()
            .chain(data.map(v1::parts_frame::Content::Data))
            .chain([v1::parts_frame::Content::Last(v1::LastPart {})]);
        let mut stream = parts.round.0.to_be_bytes().to_vec();
        stream.extend_from_slice(parts.block.0.as_slice());
        let stream = Bytes::from(stream);
        let parts = (0..).zip(contents).map(|(sequence, content)| {
            let part = v1::PartsFrame { stream: stream.clone(), sequence, content: Some(content) };
            (Class::Parts, part.encode_to_vec().into())
        });
        let votes = (Class::Votes, votes.encode_to_vec().into());
        parts.chain([votes]).collect()
    }
}

/// A block without batches as a fresh proposal of a height's round 0.
fn proposal_of(height: Height, header: &Header, cut: &Cut) -> (Proposal, Bytes) {
    let proposal = Proposal { height, round: Round(0), valid_round: None, block: header.hash() };
    let payload = Payload { header: header.clone(), cut: cut.clone(), batches: Vec::new() };
    (proposal, payload.encode().0)
}
