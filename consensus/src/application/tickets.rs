//! Signed proposals that wait for the block they name to be handed over. Bounded per peer.
//!
//! Consensus pairs a proposal with a block by the block's hash alone. So it gets a proposal only together with the
//! verdict on that very (height, round, valid round, block). Signatures are not checked here: consensus does.

use std::collections::BTreeMap;

use libp2p::PeerId;
use lockstep_core::certificate::Proposal;
use lockstep_core::planted::{Bug, planted};
use lockstep_core::types::{Height, Round};
use lockstep_engine::ProposalTicket;

/// Proposals of one peer that wait: this height's rounds under way, and the next heights' first.
pub const TICKETS_PER_PEER_MAX: usize = 16;

/// The waiting proposals.
#[derive(Debug, Default)]
pub struct Tickets {
    waiting: BTreeMap<PeerId, Vec<(Proposal, ProposalTicket)>>,
}

impl Tickets {
    /// Keeps a proposal. One that is there already is dropped; if there is no room, the one farthest from (`height`,
    /// `round`) is.
    pub fn keep(
        &mut self,
        from: PeerId,
        proposal: Proposal,
        ticket: ProposalTicket,
        (height, round): (Height, Round),
    ) {
        let waiting = self.waiting.entry(from).or_default();
        if waiting.iter().any(|(known, _)| *known == proposal) {
            return;
        }
        waiting.push((proposal, ticket));
        if waiting.len() <= TICKETS_PER_PEER_MAX || planted(Bug::TicketsUnbounded) {
            return;
        }
        let distance = |(p, _): &(Proposal, ProposalTicket)| {
            let base = if p.height == height { round } else { Round(0) };
            (p.height.0.abs_diff(height.0), p.round.0.abs_diff(base.0))
        };
        let farthest = (0..waiting.len()).max_by_key(|place| waiting.get(*place).map(distance));
        if let Some(place) = farthest {
            waiting.remove(place);
        }
    }

    /// The waiting copies of a proposal.
    pub fn take(&mut self, proposal: &Proposal) -> Vec<ProposalTicket> {
        let mut taken = Vec::new();
        for waiting in self.waiting.values_mut() {
            let is_it = |(known, _): &mut (Proposal, ProposalTicket)| {
                known == proposal || planted(Bug::TicketByBlock) && known.block == proposal.block
            };
            taken.extend(waiting.extract_if(.., is_it).map(|(_, ticket)| ticket));
        }
        taken
    }

    /// How many wait, of all peers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Forgets proposals below `height`.
    pub fn advance(&mut self, height: Height) {
        for waiting in self.waiting.values_mut() {
            waiting.retain(|(proposal, _)| proposal.height >= height);
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
    }

    /// Forgets what a peer sent.
    pub fn forget(&mut self, peer: PeerId) {
        self.waiting.remove(&peer);
    }
}
