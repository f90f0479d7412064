//! What the answers of an endpoint that nobody trusts proved, counted; or what is to be said of one that lied.
//!
//! It checks nothing: `lockstep_rpc`'s verifying client does, which [`session`] asks.

pub mod session;

use std::fmt::{self, Display, Formatter};

use lockstep_core::certificate::Certificate;
use lockstep_core::header::Header;
use lockstep_core::light_client::{LightClient, NotVerified};
use lockstep_core::proof::CertifiedHeader;
use lockstep_core::slice::{Content, Slice};
use lockstep_core::types::{ChainId, Height};
use lockstep_rpc::client::verified::VerifyError;
use serde::Serialize;

/// Why nothing was proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The endpoint's answer does not prove what was asked for. Ask another endpoint.
    #[error("its proof for chain {chain} from height {first} on proves nothing: {reason}")]
    NotProven {
        /// The chain asked for.
        chain: ChainId,
        /// First height asked for.
        first: Height,
        /// What is wrong.
        reason: VerifyError,
    },
    /// The user's trust is too old: name a newer header. Nobody lied.
    #[error("{0}")]
    Stale(Box<NotVerified>),
    /// More than a third of the voting power signed two logs. Stop, and tell everybody.
    #[error("{0}")]
    Fork(Box<NotVerified>),
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

impl Decision {
    /// What decided a header that `client` believes.
    fn new(client: &LightClient, header: &Header, certificate: &Certificate) -> Self {
        let (_, set) = client.validators();
        let power = |sum: u64, validator| {
            sum.saturating_add(set.get(validator).map_or(0, |validator| validator.power))
        };
        let signers = certificate.signatures.iter().map(|signature| signature.validator);
        Self {
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
    /// Counts what `client` verified of a chain: its slices from height `first` to that of `last`.
    fn new<'a>(
        client: &LightClient,
        (chain, first): (ChainId, Height),
        last: &CertifiedHeader,
        slices: impl IntoIterator<Item = Option<&'a Slice>>,
    ) -> Self {
        let CertifiedHeader { header, certificate } = last;
        let mut proven = Self {
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
            certificate: Decision::new(client, header, certificate),
        };
        for slice in slices {
            proven.count(slice);
        }
        proven
    }

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
