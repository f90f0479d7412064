//! What goes from the reader to the application past malachite: peers' proposals, and answers to fetches.
//!
//! The reader never waits. A peer may have [`PROPOSALS_PER_PEER_MAX`] proposals waiting; what finds no room is dropped
//! and counted. A lost proposal costs a round, not a height: rounds repeat.

use std::sync::Arc;

use alloy_primitives::Address;
use lockstep_core::certificate::Proposal;
use lockstep_core::limits::VALIDATORS_MAX;
use lockstep_core::signing::Signature;
use malachitebft_app_channel::app::types::core as mc;
use tokio::sync::mpsc;

use crate::context::{self, Context, ValidatorAddress, Value};
use crate::hub::FETCHES_MAX;
use crate::network::PeerId;
use crate::request::Request;

/// Proposals of one peer that may wait for the application. An honest peer sends one or two per round.
pub(crate) const PROPOSALS_PER_PEER_MAX: usize = 16;
/// What may wait in all: every validator has its share, and the fetches theirs.
const QUEUE: usize = PROPOSALS_PER_PEER_MAX * VALIDATORS_MAX + FETCHES_MAX;

/// A peer's signed proposal on its way through the application. [`crate::EngineHandle::pass_proposal`] gives it to
/// consensus; dropping it is as if it had never come. Its signature is checked by consensus, not before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalTicket {
    pub(crate) from: PeerId,
    pub(crate) proposal: mc::SignedProposal<Context>,
}

impl ProposalTicket {
    /// A ticket for `proposal`, as the reader makes it of a frame that `from` sent. `proposer` is whom the message names.
    #[must_use]
    pub fn new(from: PeerId, proposal: Proposal, proposer: Address, signature: Signature) -> Self {
        let message = context::Proposal {
            height: context::Height(proposal.height.0),
            round: mc::Round::new(proposal.round.0),
            value: Value(proposal.block),
            valid_round: proposal
                .valid_round
                .map_or(mc::Round::Nil, |round| mc::Round::new(round.0)),
            validator: ValidatorAddress(proposer),
        };
        Self { from, proposal: mc::SignedProposal::new(message, signature) }
    }

    /// What is proposed, and who proposes it as the message says.
    #[must_use]
    pub fn proposal(&self) -> (Proposal, Address) {
        described(&self.proposal)
    }
}

/// What a message proposes, and who it says proposes it.
pub(crate) fn described(signed: &mc::SignedProposal<Context>) -> (Proposal, Address) {
    let proposal = signed.message.to_core().expect("decoding refuses a proposal without round");
    (proposal, signed.message.validator.0)
}

/// How many proposals of one peer wait: a count of the [`Slot`]s that are held.
#[derive(Debug, Default)]
pub(crate) struct Slots(Arc<()>);

/// One proposal's place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot(#[expect(dead_code, reason = "only its count is looked at")] Arc<()>);

impl Slots {
    /// A place; `None` if all are taken.
    pub(crate) fn take(&self) -> Option<Slot> {
        let taken = Arc::strong_count(&self.0).saturating_sub(1);
        (taken < PROPOSALS_PER_PEER_MAX).then(|| Slot(self.0.clone()))
    }
}

/// A request that waits for the application, and the place it takes until then.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) request: Request,
    pub(crate) slot: Option<Slot>,
}

/// The reader's end.
#[derive(Clone, Debug)]
pub(crate) struct Inbox(mpsc::Sender<Waiting>);

pub(crate) fn inbox() -> (Inbox, mpsc::Receiver<Waiting>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Inbox(sender), receiver)
}

impl Inbox {
    /// Puts a request into the queue; `false` if there is no room, or the engine ends.
    pub(crate) fn offer(&self, request: Request, slot: Option<Slot>) -> bool {
        self.0.try_send(Waiting { request, slot }).is_ok()
    }
}
