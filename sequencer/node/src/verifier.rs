//! Answers of an endpoint that nobody trusts, put to the light client: what they prove, or how the endpoint lied.
//!
//! It does not fetch: see [`session`]. What was asked (chain, heights) is the caller's argument, never the answer's own
//! claim; an answer about something else is a lie.

pub mod session;

use std::fmt::{self, Display, Formatter};

use lockstep_core::certificate::Certificate;
use lockstep_core::header::Header;
use lockstep_core::light_client::{Handover, LightClient, NotVerified};
use lockstep_core::proof::CertifiedHeader;
use lockstep_core::slice::{Content, Slice};
use lockstep_core::types::{ChainId, Height, UnixMillis};
use lockstep_proto::convert::log::{ProvenSlice, SliceRange};
use serde::Serialize;

/// Why nothing was proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The endpoint's answer is not the one that was asked for. Ask another endpoint.
    #[error("asked for {asked} of chain {chain}, it answered with {got}")]
    OtherAnswer {
        /// The chain asked for.
        chain: ChainId,
        /// What was asked.
        asked: String,
        /// What came.
        got: String,
    },
    /// The endpoint's proof proves nothing. Ask another endpoint.
    #[error("its proof for chain {chain} from height {first} on proves nothing: {reason}")]
    NotProven {
        /// The chain asked for.
        chain: ChainId,
        /// First height asked for.
        first: Height,
        /// The light client's reason.
        reason: Box<NotVerified>,
    },
    /// The user's trust is too old: name a newer header. Nobody lied.
    #[error("{0}")]
    Stale(Box<NotVerified>),
    /// More than a third of the voting power signed two logs. Stop, and tell everybody.
    #[error("{0}")]
    Fork(Box<NotVerified>),
}

impl Fault {
    fn of(chain: ChainId, first: Height, reason: NotVerified) -> Self {
        let reason = Box::new(reason);
        match *reason {
            NotVerified::Stale { .. } => Self::Stale(reason),
            NotVerified::Fork(_) => Self::Fork(reason),
            NotVerified::TooManyHandovers { .. }
            | NotVerified::Handover { .. }
            | NotVerified::HandoverHeader { .. }
            | NotVerified::OmittedHandover { .. }
            | NotVerified::TooOld { .. }
            | NotVerified::Header { .. }
            | NotVerified::Proof(_) => Self::NotProven { chain, first, reason },
        }
    }

    /// Whether the endpoint is at fault.
    #[must_use]
    pub const fn is_lie(&self) -> bool {
        match self {
            Self::OtherAnswer { .. } | Self::NotProven { .. } => true,
            Self::Stale(_) | Self::Fork(_) => false,
        }
    }
}

/// What an answer proved of one chain: everything that the chain has at these heights, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proven {
    /// The chain.
    pub chain: u64,
    /// First height.
    pub first: u64,
    /// Last height, inclusive.
    pub last: u64,
    /// Heights at which the chain provably has nothing.
    pub absent: u64,
    /// Items in all slices.
    pub items: u64,
    /// Transactions, those in legs included.
    pub transactions: u64,
    /// Legs of bundles.
    pub legs: u64,
    /// Legs that are the first of their bundle: over all chains of a network, its bundles.
    pub first_legs: u64,
    /// Records.
    pub records: u64,
    /// Hash of the last height's block.
    pub block: String,
    /// Its time, milliseconds since 1970.
    pub timestamp_ms: u64,
    /// What decided it.
    pub certificate: Decision,
}

/// A certificate that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The round that decided.
    pub round: u32,
    /// Validators whose precommits are in it.
    pub signers: u64,
    /// Their voting power.
    pub power: u64,
    /// Validators of the set.
    pub validators: u64,
    /// The set's voting power; the signers have more than two thirds of it.
    pub total_power: u64,
    /// First height that the set decides.
    pub set_since: u64,
    /// Hash of the set.
    pub set: String,
}

/// A light client and what is asked of it.
#[derive(Clone, Debug)]
pub struct Verifier {
    client: LightClient,
}

impl Verifier {
    /// A verifier that trusts what its light client trusts.
    #[must_use]
    pub const fn new(client: LightClient) -> Self {
        Self { client }
    }

    /// What the light client believes.
    #[must_use]
    pub const fn client(&self) -> &LightClient {
        &self.client
    }

    /// Checks the answer to a question for the slices of `chain` from `first` to at most `last`.
    ///
    /// # Errors
    /// [`Fault`]; nothing is believed then that was not before.
    pub fn range(
        &mut self,
        (chain, first, last): (ChainId, Height, Height),
        answer: &SliceRange,
        handovers: &[Handover],
        now: UnixMillis,
    ) -> Result<Proven, Fault> {
        let asked = || format!("heights {first} to {last}");
        let other = |got| Fault::OtherAnswer { chain, asked: asked(), got };
        let Some(end) = answer.proof.last() else {
            return Err(other("no height".to_owned()));
        };
        let got = end.header.height;
        if got > last {
            return Err(other(format!("heights up to {got}")));
        }
        if answer.next.is_some_and(|next| next != got.next()) {
            return Err(other(format!("heights up to {got}, to be continued elsewhere")));
        }
        self.client
            .verify_range(&answer.proof, (chain, first), handovers, now)
            .map_err(|reason| Fault::of(chain, first, reason))?;
        let mut proven = self.proven(chain, first, &end);
        for block in &answer.proof.blocks {
            proven.count(block.presence.slice());
        }
        Ok(proven)
    }

    /// Checks the answer to a question for the slice of `chain` at `height`.
    ///
    /// # Errors
    /// [`Fault`]; nothing is believed then that was not before.
    pub fn slice(
        &mut self,
        (chain, height): (ChainId, Height),
        answer: &ProvenSlice,
        handovers: &[Handover],
        now: UnixMillis,
    ) -> Result<Proven, Fault> {
        let block = answer.block();
        let got = block.header.height;
        if got != height {
            let (asked, got) = (format!("height {height}"), format!("height {got}"));
            return Err(Fault::OtherAnswer { chain, asked, got });
        }
        let (verified, slice) = match answer {
            ProvenSlice::Present { slice, proof } => {
                if slice.chain != chain {
                    let (asked, got) = ("its slice".to_owned(), format!("chain {}'s", slice.chain));
                    return Err(Fault::OtherAnswer { chain, asked, got });
                }
                (self.client.verify_slice(proof, slice, handovers, now), Some(slice))
            }
            ProvenSlice::Absent(proof) => {
                (self.client.verify_absence(proof, chain, handovers, now), None)
            }
        };
        verified.map_err(|reason| Fault::of(chain, height, reason))?;
        let mut proven = self.proven(chain, height, block);
        proven.count(slice);
        Ok(proven)
    }

    /// Nothing counted yet, up to a block that was verified.
    fn proven(&self, chain: ChainId, first: Height, last: &CertifiedHeader) -> Proven {
        let CertifiedHeader { header, certificate } = last;
        Proven {
            chain: chain.0,
            first: first.0,
            last: header.height.0,
            absent: 0,
            items: 0,
            transactions: 0,
            legs: 0,
            first_legs: 0,
            records: 0,
            block: header.hash().to_string(),
            timestamp_ms: header.timestamp_ms.0,
            certificate: self.decision(header, certificate),
        }
    }

    fn decision(&self, header: &Header, certificate: &Certificate) -> Decision {
        let (_, set) = self.client.validators();
        let power = |sum: u64, validator| {
            sum.saturating_add(set.get(validator).map_or(0, |validator| validator.power))
        };
        let signers = certificate.signatures.iter().map(|signature| signature.validator);
        Decision {
            round: certificate.round.0,
            signers: certificate.signatures.len() as u64,
            power: signers.fold(0, power),
            validators: set.len() as u64,
            total_power: set.total_power(),
            set_since: header.set_since.0,
            set: header.validators_hash.to_string(),
        }
    }
}

impl Proven {
    fn count(&mut self, slice: Option<&Slice>) {
        let add = |sum: &mut u64, more: usize| *sum = sum.saturating_add(more as u64);
        let Some(slice) = slice else {
            return add(&mut self.absent, 1);
        };
        for item in &slice.items {
            add(&mut self.items, 1);
            add(&mut self.transactions, item.transactions().len());
            match &item.content {
                Content::Transaction { .. } => {}
                Content::Leg { leg, .. } => {
                    add(&mut self.legs, 1);
                    add(&mut self.first_legs, usize::from(*leg == 0));
                }
                Content::Record(_) => add(&mut self.records, 1),
            }
        }
    }
}

impl Display for Proven {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { chain, first, last, absent, items, transactions, legs, records, .. } = self;
        let Decision { round, signers, power, validators, total_power, .. } = &self.certificate;
        write!(
            f,
            "chain {chain}  heights {first}..={last}: {items} items ({transactions} transactions, {legs} legs, \
             {records} records), nothing at {absent} heights; certificate of height {last} in round {round} \
             by {signers} of {validators} validators (power {power} of {total_power})"
        )
    }
}

#[cfg(test)]
mod tests;
