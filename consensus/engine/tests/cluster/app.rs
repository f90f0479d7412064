//! The smallest application: a block is 40 bytes, its hash is keccak256 of them, and every block is valid.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, keccak256};
use bytes::Bytes;
use lockstep_core::certificate::{Certificate, Proposal, Vote};
use lockstep_core::signing::{Signature, SigningKey};
use lockstep_core::types::{BlockHash, Height, NetworkId, Round};
use lockstep_core::validator_set::ValidatorSet;
use lockstep_engine::{
    ConsensusSigner, EngineHandle, Evidence, FirstPart, PartContent, PartMessage, PeerId,
    ProposalTicket, ProposedBlock, Request, SignError, StartHeight, StreamId, SyncOutcome,
    Timeouts,
};
use tokio::sync::{mpsc, watch};

pub(crate) const NETWORK: NetworkId = NetworkId(alloy_primitives::B256::repeat_byte(5));

/// The answer to a fetch: from whom, for which height, and the value.
pub(crate) type Fetched = (PeerId, u64, Option<(Bytes, Certificate)>);

/// What survives a restart.
pub(crate) struct Store {
    pub(crate) decided: BTreeMap<u64, (Bytes, Certificate)>,
    undecided: BTreeMap<BlockHash, (ProposedBlock, Bytes)>,
    pub(crate) evidence: Vec<Evidence>,
    /// Answers to the next synced values, before `Valid`.
    pub(crate) sync_script: VecDeque<SyncOutcome>,
    pub(crate) synced: usize,
    /// The application holds round 0's block of this height back and hands it over so much later.
    pub(crate) late: Option<(u64, Duration)>,
    pub(crate) redelivered: usize,
    /// The application passes every proposal on, whatever it judged.
    pub(crate) passes_all: bool,
    /// Answers to fetches.
    pub(crate) fetched: Vec<Fetched>,
    pub(crate) tip: watch::Sender<u64>,
}

impl Store {
    pub(crate) fn new() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            decided: BTreeMap::new(),
            undecided: BTreeMap::new(),
            evidence: Vec::new(),
            sync_script: VecDeque::new(),
            synced: 0,
            late: None,
            redelivered: 0,
            passes_all: false,
            fetched: Vec::new(),
            tip: watch::Sender::new(0),
        }))
    }

    fn tip(&self) -> u64 {
        self.decided.last_key_value().map_or(0, |(height, _)| *height)
    }
}

/// Signs, remembers what, and refuses if it is told to.
pub(crate) struct TestSigner {
    pub(crate) key: SigningKey,
    pub(crate) refuse_from: Mutex<Option<u64>>,
    pub(crate) votes: Mutex<Vec<Vote>>,
}

impl TestSigner {
    fn check(&self, height: Height) -> Result<(), SignError> {
        match *self.refuse_from.lock().unwrap() {
            Some(from) if height.0 >= from => Err(SignError::Refused(format!("height {height}"))),
            _ => Ok(()),
        }
    }
}

impl ConsensusSigner for TestSigner {
    fn sign_vote(&self, vote: &Vote) -> Result<Signature, SignError> {
        self.check(vote.height)?;
        self.votes.lock().unwrap().push(*vote);
        Ok(self.key.sign(vote.digest(NETWORK)))
    }

    fn sign_proposal(&self, proposal: &Proposal) -> Result<Signature, SignError> {
        self.check(proposal.height)?;
        Ok(self.key.sign(proposal.digest(NETWORK)))
    }
}

/// A stream that is being received.
#[derive(Default)]
struct Stream {
    first: Option<FirstPart>,
    data: Option<Bytes>,
    is_ended: bool,
}

/// The application of one node.
pub(crate) struct App {
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) validators: ValidatorSet,
    pub(crate) me: Address,
    pub(crate) handle: EngineHandle,
    pub(crate) target_time: Duration,
    pub(crate) peers_min: usize,
    streams: HashMap<(PeerId, StreamId), Stream>,
    /// What was handed over, under which rounds.
    handed: Vec<Proposal>,
    /// Proposals of what was not handed over yet.
    held: Vec<(Proposal, ProposalTicket)>,
}

impl App {
    pub(crate) fn new(
        store: Arc<Mutex<Store>>,
        validators: ValidatorSet,
        me: Address,
        handle: EngineHandle,
    ) -> Self {
        let target_time = Duration::from_millis(20);
        // Two peers and this node are a quorum of four; a smaller network has fewer.
        let peers_min = validators.len().saturating_sub(1).min(2);
        Self {
            store,
            validators,
            me,
            handle,
            target_time,
            peers_min,
            streams: HashMap::new(),
            handed: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Answers until the engine ends.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.recv().await {
            self.answer(request).await;
        }
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Ready { reply } => {
                let enough = self.peers_min;
                self.handle.peers().wait_for(|peers| peers.len() >= enough).await.ok();
                let next = self.store.lock().unwrap().tip() + 1;
                reply.send(self.start_height(next)).ok();
            }
            Request::StartedRound { height, reply, .. } => {
                let blocks = self.complete(height);
                reply.send(blocks.clone()).ok();
                blocks.into_iter().for_each(|block| self.hand_over(Some(block)));
            }
            Request::GetValue { height, round, reply, .. } => {
                let (block, bytes) = self.propose(height, round);
                reply.send(block).ok();
                self.publish(height, round, block, bytes).await;
            }
            Request::ReceivedPart { from, part, reply } => {
                let block = self.receive(from, part);
                reply.send(block).ok();
                self.hand_over(block);
            }
            Request::ReceivedProposal { proposal, ticket, .. } => {
                self.held.push((proposal, ticket));
                self.hand_over(None);
            }
            Request::Redelivered { block, reply, .. } => {
                let block = self.redelivered(block);
                reply.send(block).ok();
                self.hand_over(block);
            }
            Request::Decided { certificate, reply } => {
                self.commit(certificate);
                reply.send(()).ok();
            }
            Request::Finalized { certificate, evidence, reply } => {
                let next = certificate.height.0 + 1;
                self.commit(certificate);
                self.store.lock().unwrap().evidence.extend(evidence);
                reply.send(self.start_height(next)).ok();
            }
            Request::ProcessSynced { height, round, proposer, bytes, reply } => {
                reply.send(self.synced(height, round, proposer, bytes)).ok();
            }
            Request::GetDecided { first, last, reply } => {
                let store = self.store.lock().unwrap();
                let values = store.decided.range(first.0..=last.0).map(|(_, value)| value.clone());
                reply.send(values.collect()).ok();
            }
            Request::Fetched { from, height, value } => {
                self.store.lock().unwrap().fetched.push((from, height.0, value));
            }
            Request::HistoryMin { reply } => drop(reply.send(Height(1))),
            Request::Restream { .. } => {}
        }
    }

    fn redelivered(&self, block: BlockHash) -> Option<ProposedBlock> {
        let mut store = self.store.lock().unwrap();
        store.redelivered += 1;
        store.undecided.get(&block).map(|(block, _)| *block)
    }

    fn complete(&self, height: Height) -> Vec<ProposedBlock> {
        let store = self.store.lock().unwrap();
        let blocks = store.undecided.values().map(|(block, _)| *block);
        blocks.filter(|b| b.height == height && !is_late(&store, b)).collect()
    }

    /// Notes what consensus has, and passes the proposals of it, and of nothing else.
    fn hand_over(&mut self, block: Option<ProposedBlock>) {
        self.handed.extend(block.map(|b| Proposal {
            height: b.height,
            round: b.round,
            valid_round: b.valid_round,
            block: b.block,
        }));
        let passes_all = self.store.lock().unwrap().passes_all;
        for (proposal, ticket) in std::mem::take(&mut self.held) {
            if passes_all || self.handed.contains(&proposal) {
                self.handle.pass_proposal(ticket);
            } else {
                self.held.push((proposal, ticket));
            }
        }
    }

    fn start_height(&self, height: u64) -> StartHeight {
        let ms = Duration::from_millis;
        StartHeight {
            height: Height(height),
            validators: self.validators.clone(),
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
            target_time: Some(self.target_time),
        }
    }

    fn propose(&self, height: Height, round: Round) -> (BlockHash, Bytes) {
        let mut bytes = [0u8; 40];
        bytes[..8].copy_from_slice(&height.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&round.0.to_be_bytes());
        bytes[12..32].copy_from_slice(self.me.as_slice());
        let bytes = Bytes::copy_from_slice(&bytes);
        let block = BlockHash(keccak256(&bytes));
        let proposed = ProposedBlock {
            height,
            round,
            valid_round: None,
            proposer: self.me,
            block,
            is_valid: true,
        };
        self.store.lock().unwrap().undecided.insert(block, (proposed, bytes.clone()));
        (block, bytes)
    }

    async fn publish(&self, height: Height, round: Round, block: BlockHash, bytes: Bytes) {
        let first = FirstPart {
            proposal: Proposal { height, round, valid_round: None, block },
            proposer: self.me,
            bytes_total: bytes.len() as u64,
            signature: Signature([0; 65]),
        };
        let stream = StreamId(Bytes::copy_from_slice(block.0.as_slice()));
        let contents = [PartContent::Fin, PartContent::Data(bytes), PartContent::First(first)];
        for (sequence, content) in contents.into_iter().enumerate() {
            let sequence = sequence as u64;
            let part = PartMessage { stream: stream.clone(), sequence, content };
            self.handle.publish_part(part).await.ok();
        }
    }

    fn receive(&mut self, from: PeerId, part: PartMessage) -> Option<ProposedBlock> {
        let key = (from, part.stream);
        let stream = self.streams.entry(key.clone()).or_default();
        match part.content {
            PartContent::First(first) => stream.first = Some(first),
            PartContent::Data(data) => stream.data = Some(data),
            PartContent::Fin => stream.is_ended = true,
        }
        let (first, bytes) = (stream.first?, stream.data.clone()?);
        if !stream.is_ended {
            return None;
        }
        self.streams.remove(&key);
        let Proposal { height, round, valid_round, block } = first.proposal;
        assert_eq!(block, BlockHash(keccak256(&bytes)), "parts arrive as they were sent");
        let proposer = first.proposer;
        let proposed =
            ProposedBlock { height, round, valid_round, proposer, block, is_valid: true };
        let mut store = self.store.lock().unwrap();
        store.undecided.insert(block, (proposed, bytes));
        if !is_late(&store, &proposed) {
            return Some(proposed);
        }
        let wait = store.late.map_or(Duration::ZERO, |(_, wait)| wait);
        let handle = self.handle.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            handle.redeliver(height, block);
        });
        None
    }

    fn commit(&self, certificate: Certificate) {
        certificate.verify(NETWORK, &self.validators).expect("certificates verify");
        let mut store = self.store.lock().unwrap();
        let height = certificate.height.0;
        let known = store.decided.get(&height).map(|(bytes, _)| bytes.clone());
        let bytes = known
            .or_else(|| store.undecided.get(&certificate.block).map(|(_, bytes)| bytes.clone()))
            .expect("a decided block is held");
        store.undecided.retain(|_, (block, _)| block.height.0 > height);
        store.decided.insert(height, (bytes, certificate));
        store.tip.send_replace(height);
    }

    fn synced(&self, height: Height, round: Round, proposer: Address, bytes: Bytes) -> SyncOutcome {
        let mut store = self.store.lock().unwrap();
        store.synced += 1;
        if let Some(outcome) = store.sync_script.pop_front() {
            return outcome;
        }
        let block = BlockHash(keccak256(&bytes));
        let proposed =
            ProposedBlock { height, round, valid_round: None, proposer, block, is_valid: true };
        store.undecided.insert(block, (proposed, bytes));
        SyncOutcome::Valid(proposed)
    }
}

fn is_late(store: &Store, block: &ProposedBlock) -> bool {
    block.round.0 == 0 && store.late.is_some_and(|(height, _)| height == block.height.0)
}
