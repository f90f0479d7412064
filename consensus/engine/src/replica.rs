//! Malachite's core as a function: one [`Input`] in, effects out, in order and at once. For the simulator, which runs many
//! replicas in one thread and in virtual time; the engine itself runs malachite's actors.
//!
//! It does around the core what malachite's consensus actor (`arc-malachitebft-engine` 0.8.2 `consensus.rs`) and our own
//! [`crate::start`] do: log before message, sync before publication, replay of the log, inputs that come before the first
//! height. Bytes are real: votes are frames, log entries are encoded as in the file. It does not know what a block
//! holds, and has no clock: the caller keeps the timers, and asks peers for decided values.
//!
//! ```text
//!  frames, timers, answers ──Input──► Replica::step ──► Host::sign_*    may refuse: the replica ends
//!                                                  ├──► Host::open_log  what is to be replayed
//!                                                  └──► Host::carry_out Effect, in order
//! ```
//!
//! **A crash may come at any call of the host.** From then on the host ignores effects and refuses to sign; the caller drops
//! the replica. What the host did before stays.

mod effects;
pub mod frames;
mod log;
mod timer;

use std::collections::VecDeque;
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use lockstep_core::certificate::{Certificate, Proposal, Vote};
use lockstep_core::planted::{Bug, planted};
use lockstep_core::signing::Signature;
use lockstep_core::types::{BlockHash, Height, NetworkId, Round};
use malachitebft_app_channel::app::consensus as malachite;
use malachitebft_app_channel::app::consensus::process;
use malachitebft_app_channel::app::engine::wal::decode_entry;
use malachitebft_app_channel::app::metrics::Metrics;
use malachitebft_app_channel::app::types::core as mc;
use malachitebft_app_channel::app::types::{LocallyProposedValue, ProposedValue};
use mc::ValidatorSet as _;

use self::effects::thresholds;
use self::log::encoded;
pub use self::log::own_message;
pub use self::timer::{Timer, TimerStep};
use crate::app::{extended_certificate, proposed_value};
use crate::codec::EngineCodec;
use crate::context::{self, Context, LinearTimeouts, ValidatorAddress, Value};
use crate::failure::Failure;
use crate::gate::{Gate, Peers};
use crate::hub::malachite_id;
use crate::inbox::ProposalTicket;
use crate::locks::Locks;
use crate::network::PeerId;
use crate::request::{Evidence, ProposedBlock, StartHeight};
use crate::signing::{SignError, Verifier};
use crate::start::{FUTURE_HEIGHTS_MAX, FUTURE_MESSAGES_MAX};
use crate::wal::order::Order;
use crate::wire::votes::VotesMessage;

/// Inputs kept until the first height begins; malachite's actor keeps as many.
const WAITING_MAX: usize = 1_024;

/// What happens to a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// A height begins: the first one, or the answer to [`Effect::Finalized`]. Its target time is ignored: the caller
    /// begins the height when it wants it to.
    HeightStarted(StartHeight),
    /// A frame of class `Votes` came from a peer that is up.
    FrameReceived {
        /// The peer.
        from: PeerId,
        /// Its bytes.
        frame: Bytes,
    },
    /// The application passes a peer's proposal on.
    ProposalPassed(ProposalTicket),
    /// The answer to [`Effect::ValueRequested`].
    ValueProposed {
        /// The height.
        height: Height,
        /// The round.
        round: Round,
        /// The block.
        block: BlockHash,
    },
    /// The application hands over a block: the answer to [`Effect::RoundStarted`], or a block that became complete.
    BlockHanded(ProposedBlock),
    /// A peer's decided value, as value sync brings it. Its certificate is not verified.
    DecisionReceived {
        /// The peer.
        from: PeerId,
        /// The value.
        bytes: Bytes,
        /// Its certificate.
        certificate: Certificate,
    },
    /// The application judged the value of [`Effect::ValueSynced`].
    SyncedBlockHanded(ProposedBlock),
    /// A timer has run out. The caller has forgotten it.
    TimerFired(Timer),
}

/// One thing to do. [`crate::Request`] says what the application owes for those that ask it something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "effects are carried out one at a time, none is kept"
)]
pub enum Effect {
    /// Send this frame of class `Votes` to every peer that is up.
    Broadcast(Bytes),
    /// Send this frame of class `Votes` to one peer.
    Send {
        /// The peer.
        to: PeerId,
        /// The frame.
        frame: Bytes,
    },
    /// Append an entry to the log.
    AppendLog(Bytes),
    /// Make the log's entries durable.
    SyncLog,
    /// Let the timer fire after so long.
    SetTimer(Timer, Duration),
    /// Forget the timer.
    CancelTimer(Timer),
    /// Forget all timers.
    CancelTimers,
    /// A round begins; [`crate::Request::StartedRound`].
    RoundStarted {
        /// The height.
        height: Height,
        /// The round.
        round: Round,
        /// Whose turn it is.
        proposer: Address,
    },
    /// It is this validator's turn; [`crate::Request::GetValue`].
    ValueRequested {
        /// The height.
        height: Height,
        /// The round.
        round: Round,
        /// How long the others wait.
        timeout: Duration,
    },
    /// [`crate::Request::ReceivedProposal`].
    ProposalReceived {
        /// Who sent it.
        from: PeerId,
        /// What is proposed.
        proposal: Proposal,
        /// Who proposes, as the message says.
        proposer: Address,
        /// The message.
        ticket: ProposalTicket,
    },
    /// A peer can serve these heights.
    StatusReceived {
        /// The peer.
        from: PeerId,
        /// Its newest height.
        tip: Height,
        /// Its oldest.
        oldest: Height,
    },
    /// [`crate::Request::Restream`].
    RestreamRequested {
        /// The height.
        height: Height,
        /// The round it is proposed in now.
        round: Round,
        /// The round in which it had a polka.
        valid_round: Option<Round>,
        /// Who proposes it in `round`.
        proposer: Address,
        /// The block.
        block: BlockHash,
    },
    /// [`crate::Request::Decided`].
    Decided(Certificate),
    /// [`crate::Request::Finalized`].
    Finalized(Certificate, Vec<Evidence>),
    /// [`crate::Request::ProcessSynced`].
    ValueSynced {
        /// The height.
        height: Height,
        /// The certificate's round.
        round: Round,
        /// Whose turn that round was.
        proposer: Address,
        /// The value.
        bytes: Bytes,
    },
    /// The certificate of a peer's decided value is invalid, or the application's block is not the certified one: ask
    /// another.
    SyncRefused(Height),
    /// The peer sent what no honest one sends.
    Disconnect {
        /// The peer.
        peer: PeerId,
        /// For the trace.
        reason: String,
    },
}

/// What a replica runs on. Calls come in order; each is done when it returns.
pub trait Host {
    /// Signs [`Vote::digest`]; see [`crate::ConsensusSigner`].
    ///
    /// # Errors
    /// [`SignError`]: the replica ends.
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, SignError>;

    /// Signs [`Proposal::digest`]; see [`crate::ConsensusSigner`].
    ///
    /// # Errors
    /// [`SignError`]: the replica ends.
    fn sign_proposal(&mut self, proposal: &Proposal) -> Result<Signature, SignError>;

    /// A height begins: the entries that the log has for it, as [`Effect::AppendLog`] gave them. If the log is for another
    /// height, or the replica does not vote at this one, the host empties it first and makes it be for this height.
    fn open_log(&mut self, height: Height, is_voter: bool) -> Vec<Bytes>;

    /// Carries one effect out.
    fn carry_out(&mut self, effect: Effect);
}

/// One node's consensus, from a start to a crash.
pub struct Replica {
    network: NetworkId,
    address: ValidatorAddress,
    /// `None` before the first height.
    core: Option<malachite::State<Context>>,
    metrics: Metrics,
    shell: Shell,
    /// What came before the first height.
    waiting: VecDeque<Input>,
    failure: Option<Failure>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.core.as_ref().map(|core| (core.height().0, core.round()));
        f.debug_struct("Replica").field("address", &self.address).field("at", &at).finish()
    }
}

/// What effects are carried out with, beside the host.
struct Shell {
    verifier: Verifier,
    gate: Gate,
    locks: Locks,
    timeouts: LinearTimeouts,
    /// Whether the log is being replayed: then nothing is appended or synced.
    is_replaying: bool,
    /// Whether this node is in the height's set. Others have no log.
    is_voter: bool,
    /// What its log holds beyond the last sync.
    order: Order,
    /// The decided value that the application judges.
    syncing: Option<Syncing>,
    /// Why the signer gave no signature.
    refused: Option<SignError>,
}

/// A decided value whose certificate is verified.
#[derive(Clone, Copy)]
struct Syncing {
    height: Height,
    round: mc::Round,
    block: BlockHash,
}

impl Replica {
    /// A replica that voted at no height of this run. `address` is the validator's; `None` follows and never signs.
    #[must_use]
    pub fn new(network: NetworkId, address: Option<Address>, peers: Peers) -> Self {
        let verifier = Verifier::new(network);
        let shell = Shell {
            gate: Gate::new(peers, verifier.clone()),
            locks: Locks::new(verifier.clone()),
            verifier,
            timeouts: LinearTimeouts::default(),
            is_replaying: false,
            is_voter: false,
            order: Order::opened(),
            syncing: None,
            refused: None,
        };
        Self {
            network,
            address: ValidatorAddress(address.unwrap_or(Address::ZERO)),
            core: None,
            metrics: Metrics::new(),
            shell,
            waiting: VecDeque::new(),
            failure: None,
        }
    }

    /// Height and round; `None` before the first height.
    #[must_use]
    pub fn position(&self) -> Option<(Height, Option<Round>)> {
        let core = self.core.as_ref()?;
        Some((core.height().into(), core.round().as_u32().map(Round)))
    }

    /// The network whose signatures it accepts.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    /// Takes one input and has the host do what follows from it.
    ///
    /// # Errors
    /// [`Failure`]: the replica has ended. It takes no further input and returns the same again.
    pub fn step(&mut self, input: Input, host: &mut dyn Host) -> Result<(), Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let stepped = self.take(input, host);
        self.failure = stepped.clone().err();
        stepped
    }

    fn take(&mut self, input: Input, host: &mut dyn Host) -> Result<(), Failure> {
        match input {
            Input::HeightStarted(start) => self.start_height(start, host),
            input if self.core.is_none() => {
                if self.waiting.len() < WAITING_MAX {
                    self.waiting.push_back(input);
                }
                Ok(())
            }
            Input::FrameReceived { from, frame } => self.frame(from, frame, host),
            Input::ProposalPassed(ticket) => {
                self.process(malachite::Input::Proposal(ticket.proposal), host)
            }
            Input::ValueProposed { height, round, block } => {
                let round = mc::Round::new(round.0);
                let value = LocallyProposedValue::new(height.into(), round, Value(block));
                self.process(malachite::Input::Propose(value), host)
            }
            Input::BlockHanded(block) => self.value(proposed_value(block), None, host),
            Input::DecisionReceived { from, bytes, certificate } => {
                let Some(peer) = malachite_id(from) else { return Ok(()) };
                let certificate = extended_certificate(&certificate);
                let response = mc::ValueResponse::new(peer, bytes, certificate);
                self.process(malachite::Input::SyncValueResponse(response), host)
            }
            Input::SyncedBlockHanded(block) => self.synced(block, host),
            Input::TimerFired(timer) => {
                self.process(malachite::Input::TimeoutElapsed(timer.to_malachite()), host)
            }
        }
    }

    fn start_height(&mut self, start: StartHeight, host: &mut dyn Host) -> Result<(), Failure> {
        let height = context::Height::from(start.height);
        let set = context::ValidatorSet::new(start.validators);
        self.shell.is_voter = set.get_by_address(&self.address).is_some();
        self.shell.timeouts = start.timeouts.into();
        self.shell.syncing = None;
        if self.core.is_none() {
            self.core = Some(malachite::State::new(
                Context,
                height,
                set.clone(),
                malachite::Params {
                    address: self.address,
                    threshold_params: thresholds(),
                    value_payload: mc::ValuePayload::ProposalAndParts,
                    enabled: true,
                },
                FUTURE_HEIGHTS_MAX,
                FUTURE_MESSAGES_MAX,
            ));
        }
        let entries = host.open_log(start.height, self.shell.is_voter);
        let policy = mc::VoteExtensionPolicy::Disabled;
        self.process(malachite::Input::StartHeight(height, set, false, None, policy), host)?;
        self.replay(&entries, host)?;
        while let Some(input) = self.waiting.pop_front() {
            self.take(input, host)?;
        }
        Ok(())
    }

    /// Feeds the log's entries in. What this node signed then is not signed again.
    fn replay(&mut self, entries: &[Bytes], host: &mut dyn Host) -> Result<(), Failure> {
        let decode = |entry: &Bytes| decode_entry(&EngineCodec, entry.as_ref());
        let entries: Result<Vec<_>, _> = entries.iter().map(decode).collect();
        let entries = entries.map_err(|error| Failure::Unsafe { reason: error.to_string() })?;
        let Some(core) = self.core.as_mut().filter(|_| !entries.is_empty()) else { return Ok(()) };
        core.index_wal_entries(&entries);
        self.shell.is_replaying = true;
        for entry in entries {
            self.process(entry, host).map_err(|failure| match failure {
                Failure::Stopped { reason } => Failure::Unsafe { reason },
                Failure::Signer(_) | Failure::Unsafe { .. } | Failure::Transport => failure,
            })?;
        }
        self.shell.is_replaying = false;
        if let Some(core) = &mut self.core {
            core.reset_entries_index();
        }
        Ok(())
    }

    /// What the engine's reader does with a frame of class `Votes`.
    fn frame(&mut self, from: PeerId, frame: Bytes, host: &mut dyn Host) -> Result<(), Failure> {
        let message = match self.shell.gate.read(from, frame) {
            Ok(message) => message,
            Err(unread) => {
                host.carry_out(Effect::Disconnect { peer: from, reason: unread.to_string() });
                return Ok(());
            }
        };
        if let Some(vote) = message.vote()
            && let Some(frame) = self.shell.locks.received(from, &vote.message)
            && !planted(Bug::LocksHidden)
        {
            host.carry_out(Effect::Send { to: from, frame });
        }
        match message {
            VotesMessage::Consensus(malachite::SignedConsensusMsg::Vote(vote))
            | VotesMessage::Liveness(malachite::LivenessMsg::Vote(vote)) => {
                self.process(malachite::Input::Vote(vote), host)
            }
            VotesMessage::Consensus(malachite::SignedConsensusMsg::Proposal(signed)) => {
                let (proposal, proposer) = crate::inbox::described(&signed);
                let ticket = ProposalTicket { from, proposal: signed };
                host.carry_out(Effect::ProposalReceived { from, proposal, proposer, ticket });
                Ok(())
            }
            VotesMessage::Liveness(malachite::LivenessMsg::PolkaCertificate(certificate)) => {
                self.process(malachite::Input::PolkaCertificate(certificate), host)
            }
            VotesMessage::Liveness(malachite::LivenessMsg::SkipRoundCertificate(certificate)) => {
                self.process(malachite::Input::RoundCertificate(certificate), host)
            }
            VotesMessage::Status(status) => {
                let (tip, oldest) = (status.tip_height.into(), status.history_min_height.into());
                host.carry_out(Effect::StatusReceived { from, tip, oldest });
                Ok(())
            }
        }
    }

    /// The application's verdict on a decided value. Like malachite's actor it takes the certificate's round, not the
    /// block's.
    fn synced(&mut self, block: ProposedBlock, host: &mut dyn Host) -> Result<(), Failure> {
        let Some(syncing) = self.shell.syncing.take() else { return Ok(()) };
        if (block.height, block.block) != (syncing.height, syncing.block) {
            host.carry_out(Effect::SyncRefused(syncing.height));
            return Ok(());
        }
        self.value(proposed_value(block), Some(syncing.round), host)
    }

    fn value(
        &mut self,
        mut value: ProposedValue<Context>,
        certified: Option<mc::Round>,
        host: &mut dyn Host,
    ) -> Result<(), Failure> {
        let origin = match certified {
            None => mc::ValueOrigin::Consensus,
            Some(round) => {
                value.round = round;
                mc::ValueOrigin::Sync
            }
        };
        self.process(malachite::Input::ProposedValue(value, origin), host)
    }

    /// Steps the core and carries out what it wants.
    fn process(
        &mut self,
        input: malachite::Input<Context>,
        host: &mut dyn Host,
    ) -> Result<(), Failure> {
        let Self { core, metrics, shell, .. } = self;
        let core = core.as_mut().expect("inputs wait until the first height begins");
        let result: Result<(), malachite::Error<Context>> = process!(
            input: input,
            state: core,
            metrics: metrics,
            with: effect => shell.carry_out(effect, host)
        );
        match (shell.refused.take(), result) {
            (Some(error), _) => Err(Failure::Signer(error)),
            (None, Ok(())) => Ok(()),
            (None, Err(error)) => Err(Failure::Stopped { reason: error.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests;
