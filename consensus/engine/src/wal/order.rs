//! What must be durable in a validator's write-ahead log before it signs and before it publishes. Pure.
//!
//! ```text
//!  inputs ──► log ──► sync ──► signer (durable) ──► log ──► peers
//! ```
//!
//! **What led to a message is durable before the message is signed.** Then a crash between signer and log is harmless: the
//! replay leads to the same message, and the signer, asked again, gives the signature it remembers. Were an input lost
//! (malachite alone syncs after it has signed), the replay could lead elsewhere; the signer would refuse, and the validator
//! abstain until others decide the height. With f silent validators beside it nobody would.
//!
//! **The own message itself is not synced for its publication**: the signer holds it, durably. So there are as many syncs as
//! malachite makes. The next signature syncs it, so at most one own vote is ahead of the log. A proposal may be missing for good:
//! the application has it signed when its block is written, and malachite passes it over if its round is past that step.
//!
//! **The signer writes what it signed to the log**, because malachite appends nothing during a replay: a message that is
//! signed there would be missing for as long as the height lasts. Malachite's own append of it is left out.

use malachitebft_app_channel::app::consensus::{Input, SignedConsensusMsg};

use crate::context::Context;

/// What the log holds beyond its last sync.
#[derive(Debug)]
pub(crate) struct Order {
    has_inputs: bool,
    has_own: bool,
    /// The newest message that the signer has written.
    own: Option<SignedConsensusMsg<Context>>,
}

impl Order {
    /// A log that was just opened. What it holds may be in the system's memory alone, from before a crash of the process.
    pub(crate) const fn opened() -> Self {
        Self { has_inputs: true, has_own: false, own: None }
    }

    /// Whether to sync before a signature.
    pub(crate) const fn must_sync_to_sign(&self) -> bool {
        self.has_inputs || self.has_own
    }

    /// Whether to sync when malachite asks for it: before it publishes, begins a round or decides.
    pub(crate) const fn must_sync_on_request(&self) -> bool {
        self.has_inputs
    }

    /// The log is synced.
    pub(crate) const fn synced(&mut self) {
        (self.has_inputs, self.has_own) = (false, false);
    }

    /// The signer has written a message.
    pub(crate) fn signed(&mut self, message: SignedConsensusMsg<Context>) {
        self.has_own = true;
        self.own = Some(message);
    }

    /// Malachite wants an entry appended: whether to do so.
    pub(crate) fn must_append(&mut self, entry: &Input<Context>) -> bool {
        let is_own = match (entry, &self.own) {
            (Input::Vote(vote), Some(SignedConsensusMsg::Vote(own))) => vote == own,
            (Input::Proposal(proposal), Some(SignedConsensusMsg::Proposal(own))) => proposal == own,
            _ => false,
        };
        self.has_inputs |= !is_own;
        !is_own
    }
}

/// A signed message as an entry of the log.
pub(crate) fn entry_of(message: SignedConsensusMsg<Context>) -> Input<Context> {
    match message {
        SignedConsensusMsg::Vote(vote) => Input::Vote(vote),
        SignedConsensusMsg::Proposal(proposal) => Input::Proposal(proposal),
    }
}
