//! Steps without a runtime: a validator whose work is carried out on the spot, and what it says is kept.

mod deciding;
mod lanes;
mod proposals;
mod syncing;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use lockstep_core::batch::{Batch, CheckedBatch};
use lockstep_core::block::{build_header, proposal_timestamp};
use lockstep_core::certificate::{Certificate, Proposal};
use lockstep_core::cut::{Cut, LanePosition};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::header::Header;
use lockstep_core::params::{ChainKind, ChainParams, Genesis, NetworkParams};
use lockstep_core::proposal::{Payload, SyncedValue};
use lockstep_core::signing::{self, SigningKey};
use lockstep_core::state::State;
use lockstep_core::types::{
    BatchDigest, BlockHash, ChainId, Height, Incarnation, NetworkId, Round, Sequence, UnixMillis,
};
use lockstep_core::validator_set::{Validator, ValidatorSet};
use lockstep_engine::{FirstPart, ProposalTicket};

use super::effect::{Answer, Effect, Misdeed, ReplyId, Report};
use super::input::{
    Built, Committed, Done, EngineInput, Finalized, Input, MeshInput, Opened, Verification,
};
use super::peers::Peers;
use super::{Application, Config};
use crate::lanes::own::OwnLane;
use crate::lanes::table::Table;
use crate::ledger::{DecidedBlock, Ledger};
use crate::parts::split;
use crate::store::{LogStore, MemoryStore};

const CHAIN: ChainId = ChainId(7);
const START: UnixMillis = UnixMillis(1_000_000);

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes([n; 32]).unwrap()
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes(&[0, 1, n]).unwrap()
}

fn genesis() -> Genesis {
    let mut members: Vec<_> = (1..=4)
        .map(|n| Validator {
            address: key(n).address(),
            public_key: key(n).public_key(),
            power: 1,
            network_address: format!("/ip4/127.0.0.1/tcp/{n}"),
        })
        .collect();
    members.sort_by_key(|member| member.address);
    let chain = ChainParams {
        id: CHAIN,
        kind: ChainKind::Opaque,
        block_time_ms: 0,
        gas_per_second: 0,
        bytes_per_second: 1 << 20,
        sequencers: Vec::new(),
        gateways: Vec::new(),
        transaction_gas_max: 128_000_000,
        joins_at: 0,
    };
    Genesis {
        name: "test".to_owned(),
        timestamp: START,
        params: NetworkParams::default(),
        validators: ValidatorSet::new(members).unwrap(),
        chains: vec![chain],
    }
}

fn entry(text: &str) -> Entry {
    let bytes = text.as_bytes().to_vec().into();
    let body = Body::Transaction(Transaction { chain: CHAIN, kind: ChainKind::Opaque, bytes });
    Entry::new(body, START.plus(30_000), None).unwrap()
}

/// A proposed block with everything that goes with it.
#[derive(Clone, Debug)]
struct Block {
    header: Header,
    cut: Cut,
    batches: Vec<CheckedBatch>,
}

impl Block {
    fn hash(&self) -> BlockHash {
        self.header.hash()
    }

    fn value(&self) -> Bytes {
        let batches = self.batches.iter().map(|batch| batch.raw().clone()).collect();
        let (header, cut) = (self.header.clone(), self.cut.clone());
        SyncedValue { header, cut, batches }.encode().into()
    }

    fn certificate(&self) -> Certificate {
        let (height, round, block) = (self.header.height, self.header.round, self.hash());
        Certificate { height, round, block, signatures: Vec::new() }
    }
}

/// What is not said to anybody but to the disk and the processor, and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Nothing,
    /// Checks of batches stay under way until they are released.
    Checks,
    /// Writes do.
    Writes,
    /// Commits do.
    Commits,
}

struct Bench {
    me: u8,
    network: NetworkId,
    app: Application,
    ledger: Arc<Ledger>,
    now: UnixMillis,
    hold: Hold,
    /// The guard signed another proposal before.
    is_guard_refusing: bool,
    /// Results that are held back.
    held: VecDeque<Done>,
    /// Everything that was said or asked, in order.
    said: Vec<Effect>,
    replies: u64,
}

impl Bench {
    /// Validator `me` of four, with the others up.
    fn new(me: u8) -> Self {
        let genesis = genesis();
        let store = LogStore::on(Arc::new(MemoryStore::default()), &genesis).unwrap();
        Self::on(me, Arc::new(Ledger::open(Arc::new(store)).unwrap()))
    }

    /// The same on a store that was used before.
    fn on(me: u8, ledger: Arc<Ledger>) -> Self {
        Self::with(me, ledger, None)
    }

    /// The same with a batch that is held from the start.
    fn with_held(me: u8, ledger: Arc<Ledger>, held: CheckedBatch) -> Self {
        Self::with(me, ledger, Some(held))
    }

    fn with(me: u8, ledger: Arc<Ledger>, held_batch: Option<CheckedBatch>) -> Self {
        let state = ledger.state();
        let validators: BTreeMap<_, _> =
            (1..=4).filter(|n| *n != me).map(|n| (peer(n), key(n).address())).collect();
        let address = key(me).address();
        let mut table = Table::new(address, &state.committed.lanes);
        held_batch.into_iter().for_each(|batch| drop(table.insert(batch)));
        let (app, _) = Application::new(Config {
            me: address,
            network: state.network_id,
            peers: Peers::new(address, validators),
            interval: Duration::from_millis(250),
            batch_delay: Duration::from_millis(10),
            own: OwnLane::new(address, Incarnation(1), state.clone()),
            table,
            state: state.clone(),
        });
        let (network, now) = (state.network_id, state.timestamp.plus(250));
        let (hold, held, said) = (Hold::Nothing, VecDeque::new(), Vec::new());
        let is_guard_refusing = false;
        let mut this =
            Self { me, network, app, ledger, now, hold, is_guard_refusing, held, said, replies: 0 };
        let undecided = this.ledger.store().undecided(state.height.next()).unwrap();
        let started = EngineInput::Started { abstains: None, undecided };
        this.step(Input::Engine(started));
        for n in (1..=4).filter(|n| *n != me) {
            this.step(Input::Mesh(MeshInput::PeerUp(peer(n))));
        }
        this.begin_round(0);
        this
    }

    fn state(&self) -> Arc<State> {
        self.ledger.state()
    }

    fn next(&self) -> Height {
        self.state().height.next()
    }

    /// Whose turn a round of the next height is.
    fn turn(&self, round: u32) -> u8 {
        let proposer =
            self.state().committed.validators.proposer(self.next(), Round(round)).address;
        (1..=4).find(|n| key(*n).address() == proposer).unwrap()
    }

    fn reply(&mut self) -> ReplyId {
        self.replies += 1;
        ReplyId(self.replies)
    }

    fn step(&mut self, input: Input) {
        let mut queue = VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            let mut effects = Vec::new();
            self.app.step(self.now, input, &mut effects);
            for effect in effects {
                match self.carry_out(effect) {
                    Some(done) if self.is_held(&done) => self.held.push_back(done),
                    Some(done) => queue.push_back(Input::Done(done)),
                    None => {}
                }
            }
        }
    }

    fn is_held(&self, done: &Done) -> bool {
        let is_write = matches!(done, Done::BlockPersisted { .. } | Done::BatchesPersisted { .. });
        let is_check = matches!(done, Done::BatchesChecked { .. });
        let is_commit = matches!(done, Done::BlockCommitted(_));
        (self.hold == Hold::Checks && is_check)
            || (self.hold == Hold::Writes && is_write)
            || (self.hold == Hold::Commits && is_commit)
    }

    /// Lets held writes end.
    fn release(&mut self) {
        self.hold = Hold::Nothing;
        while let Some(done) = self.held.pop_front() {
            self.step(Input::Done(done));
        }
    }

    /// Carries out work; keeps what is said.
    fn carry_out(&mut self, effect: Effect) -> Option<Done> {
        Some(match effect {
            Effect::OpenProposal { from, arrived, first, payload } => {
                let signer =
                    signing::recover(first.proposal.part_digest(self.network), &first.signature);
                let payload = Payload::decode(&payload.into());
                Done::ProposalOpened(Box::new(Opened { from, first, arrived, signer, payload }))
            }
            Effect::CheckBatches(job, raw) => {
                let check = |raw: Bytes| Batch::decode(self.network, raw.into())?.check();
                Done::BatchesChecked { job, batches: raw.into_iter().map(check).collect() }
            }
            Effect::CheckAcknowledgement(from, acknowledgement) => {
                let signer = acknowledgement.signer();
                Done::AcknowledgementChecked { from, acknowledgement, signer }
            }
            Effect::VerifyBlock { job, header, cut, batches } => {
                let verification = match self.ledger.verify(&header, &cut, &batches) {
                    None => Verification::Outdated,
                    Some(Ok(assembly)) => Verification::Valid(Box::new(assembly)),
                    Some(Err(reason)) => Verification::Invalid(reason),
                };
                Done::BlockVerified { job, verification }
            }
            Effect::BuildBlock { height, round, timestamp, cut, batches } => {
                let built = self.ledger.build((height, round), timestamp, &cut, &batches).unwrap();
                let (header, assembly) = built?;
                Done::BlockBuilt(Box::new(Built { round, header, cut, assembly, batches }))
            }
            Effect::SignProposal(proposal) => {
                let sign = || key(self.me).sign(proposal.part_digest(self.network));
                let signature = (!self.is_guard_refusing).then(sign);
                Done::ProposalSigned { proposal, signature }
            }
            Effect::PersistBlock { job, block, batches } => {
                self.ledger.store().put_undecided(&block, &batches).unwrap();
                Done::BlockPersisted { job }
            }
            Effect::PersistBatches(job, batches) => {
                let aside = self.ledger.store().put_batches(&batches).unwrap();
                Done::BatchesPersisted { job, batches, aside }
            }
            Effect::CommitBlock(decided) => self.commit(&decided),
            other => {
                self.said.push(other);
                return None;
            }
        })
    }

    fn commit(&self, decided: &DecidedBlock) -> Done {
        self.ledger.commit(decided).unwrap();
        let (state, earlier) = (self.ledger.state(), self.ledger.earlier(decided));
        let decided = decided.clone();
        Done::BlockCommitted(Box::new(Committed { state, decided, earlier }))
    }

    fn begin_round(&mut self, round: u32) {
        let (height, reply) = (self.next(), self.reply());
        self.step(Input::Engine(EngineInput::RoundStarted { height, round: Round(round), reply }));
    }

    /// A valid block of a round with these batches, `later` than now.
    fn block(&self, round: u32, batches: &[CheckedBatch], later: u64) -> Block {
        let state = self.state();
        let mut cut = Cut { lanes: state.committed.lanes.clone() };
        for batch in batches {
            let position = batch.position();
            let lane = cut.lanes.iter_mut().find(|l| l.owner == position.owner).unwrap();
            *lane = LanePosition {
                owner: position.owner,
                incarnation: position.incarnation,
                sequence: position.sequence,
                digest: batch.digest(),
            };
        }
        let timestamp = proposal_timestamp(state.timestamp, self.now.plus(later));
        let assembly = self.ledger.assemble(timestamp, &cut, batches).unwrap();
        let header = build_header(&state, Round(round), timestamp, &cut, &assembly);
        Block { header, cut, batches: batches.to_vec() }
    }

    fn proposal(&self, round: u32, valid_round: Option<u32>, block: &Block) -> Proposal {
        Proposal {
            height: block.header.height,
            round: Round(round),
            valid_round: valid_round.map(Round),
            block: block.hash(),
        }
    }

    /// A proposal's parts come from its proposer, with `attached` batches.
    fn parts(&mut self, proposal: Proposal, block: &Block, attached: &[CheckedBatch]) {
        let proposer = self.turn(proposal.round.0);
        self.parts_of(proposer, proposal, block, attached);
    }

    fn parts_of(&mut self, n: u8, proposal: Proposal, block: &Block, attached: &[CheckedBatch]) {
        let batches = attached.iter().map(|batch| batch.raw().clone()).collect();
        let payload = Payload { header: block.header.clone(), cut: block.cut.clone(), batches };
        self.payload_of(n, proposal, payload);
    }

    fn payload_of(&mut self, n: u8, proposal: Proposal, payload: Payload) {
        let payload = Bytes::from(payload.encode());
        let first = FirstPart {
            proposal,
            proposer: key(n).address(),
            bytes_total: payload.len() as u64,
            signature: key(n).sign(proposal.part_digest(self.network)),
        };
        for part in split(first, &payload) {
            self.step(Input::Engine(EngineInput::PartReceived { from: peer(n), part }));
        }
    }

    /// Its signed proposal comes from its proposer.
    fn signed(&mut self, proposal: Proposal) {
        let n = self.turn(proposal.round.0);
        let (from, proposer) = (peer(n), key(n).address());
        let signature = key(n).sign(proposal.digest(self.network));
        let ticket = ProposalTicket::new(from, proposal, proposer, signature);
        let received = EngineInput::ProposalReceived { from, proposal, proposer, ticket };
        self.step(Input::Engine(received));
    }

    fn decided(&mut self, certificate: Certificate) -> ReplyId {
        let reply = self.reply();
        self.step(Input::Engine(EngineInput::Decided { certificate, reply }));
        reply
    }

    /// A batch of a validator's lane.
    fn batch(&self, owner: u8, sequence: u64, parent: BatchDigest, text: &str) -> CheckedBatch {
        let place = (Incarnation(5), Sequence(sequence));
        let batch = Batch::sign(self.network, place, parent, vec![entry(text)], &key(owner));
        batch.unwrap().check().unwrap()
    }

    fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.said)
    }

    /// How often consensus was told to ask for this block.
    fn handed(&self, block: BlockHash) -> usize {
        let is_it = |e: &&Effect| matches!(e, Effect::Redeliver(_, b) if *b == block);
        self.said.iter().filter(is_it).count()
    }

    fn passed(&self) -> usize {
        self.said.iter().filter(|e| matches!(e, Effect::PassProposal(_))).count()
    }

    fn reports(&self, is_it: impl Fn(&Report) -> bool) -> usize {
        self.said.iter().filter(|e| matches!(e, Effect::Report(r) if is_it(r))).count()
    }

    fn answer(&self, id: ReplyId) -> Option<&Answer> {
        self.said.iter().find_map(|effect| match effect {
            Effect::Reply(to, answer) if *to == id => Some(answer),
            _ => None,
        })
    }
}
