//! The light client: from one trusted set of validators to any header, slice, absence or transaction of the log.
//!
//! It trusts no node. It starts from the genesis, or from one header whose hash its user knows, and believes a header
//! that a quorum of the right validator set certified. The set changes only through *hand-overs*: the last header that
//! a set decides names the next set's hash. A header says since when its set decides (`set_since`), so a hand-over that
//! is left out shows.
//!
//! Trust ages: after [`TRUST_MS`] without a newer header, the validators may have left and have nothing to lose, and
//! only the user can trust anew. Older headers than the set's first are not certified by anybody it trusts: a
//! [`RangeProof`] that ends at a newer header shows them.
//!
//! It does not fetch, store, or read a clock. Source: design section 2, "Certificates".

use alloy_rlp::{RlpDecodable, RlpEncodable};

use crate::certificate::Certificate;
use crate::encoding::Canonical;
use crate::header::Header;
use crate::limits::{HANDOVERS_MAX, TRUST_MS};
use crate::params::{Genesis, InvalidGenesis};
use crate::proof::{
    AbsenceProof, CertifiedHeader, InvalidHeader, InvalidProof, RangeProof, SliceProof,
    TransactionProof,
};
use crate::slice::Slice;
use crate::types::{BlockHash, ChainId, Height, NetworkId, UnixMillis};
use crate::validator_set::ValidatorSet;

/// How one validator set hands over to the next.
///
/// A set's network addresses are in no hash: do not dial what a hand-over names.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Handover {
    /// The last header that the old set decides, certified by it.
    pub block: CertifiedHeader,
    /// The set whose hash is the header's `next_validators_hash`.
    pub next_set: ValidatorSet,
}

impl Canonical for Handover {}

/// Two certified headers that cannot both be of one log: more than a third of the voting power signed both sides.
///
/// `trusted` and `other` are of one height; or `other` is a later header which leads back, by parent hashes, to
/// another block at the height of `trusted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The header verified first.
    pub trusted: Header,
    /// Its certificate; `None` if the user named the header.
    pub trusted_certificate: Option<Certificate>,
    /// The one that conflicts, certified too.
    pub other: CertifiedHeader,
}

/// Why a light client could not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStart {
    /// The genesis is none. The user must mend it.
    #[error("genesis: {0}")]
    Genesis(#[from] InvalidGenesis),
    /// The header is not the one that the user trusts. Ask another node for it.
    #[error("header has hash {got}, expected {expected}")]
    Hash {
        /// The hash that the user named.
        expected: BlockHash,
        /// The header's.
        got: BlockHash,
    },
    /// The validators are not those of the header. Ask another node for them.
    #[error("validators are not those of the trusted header")]
    Validators,
}

/// Why something was not believed.
///
/// The sender is at fault, except for [`NotVerified::Stale`] and [`NotVerified::Fork`], which the user must hear of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// The trusted header is too old: the user must name a newer one.
    #[error(
        "trust is from {trusted_at} and older than {TRUST_MS} ms at {now}: name a newer header"
    )]
    Stale {
        /// Time of the trust.
        trusted_at: UnixMillis,
        /// The time given.
        now: UnixMillis,
    },
    /// Two certified headers contradict one another: more than a third of the voting power is dishonest. Stop.
    #[error("fork: two certified headers contradict one another at height {}", .0.trusted.height)]
    Fork(Box<Fork>),
    /// More than [`HANDOVERS_MAX`] hand-overs.
    #[error("{count} hand-overs, at most {HANDOVERS_MAX} are allowed")]
    TooManyHandovers {
        /// How many.
        count: usize,
    },
    /// A hand-over that hands over to the same set, or to another one than its header names, or before height 2.
    #[error("hand-over at height {height} does not lead to a new set")]
    Handover {
        /// Its height.
        height: Height,
    },
    /// A hand-over's header is not shown to be decided by the set before it.
    #[error("hand-over at height {height}: {error}")]
    HandoverHeader {
        /// Its height.
        height: Height,
        /// Why.
        error: InvalidHeader,
    },
    /// The set decides since another height than its hand-over says: one was left out.
    #[error("header {height} says its set decides since {got}, the hand-overs lead to {expected}")]
    OmittedHandover {
        /// The header's height.
        height: Height,
        /// First height of the set that the hand-overs lead to.
        expected: Height,
        /// What the header says.
        got: Height,
    },
    /// The header is older than the trusted set's first height: show it by a range that ends at a newer one.
    #[error("header {height} is before {since}, since when the trusted set decides")]
    TooOld {
        /// The header's height.
        height: Height,
        /// First height of the trusted set.
        since: Height,
    },
    /// The header is not shown to be decided.
    #[error("header {height}: {error}")]
    Header {
        /// Its height.
        height: Height,
        /// Why.
        error: InvalidHeader,
    },
    /// The header is believed, or not even looked at; what was to be shown under it is not shown.
    #[error("{0}")]
    Proof(#[from] InvalidProof),
}

/// A validator set, and the first height that it decides without a change since.
#[derive(Clone, Debug)]
struct Era {
    since: Height,
    set: ValidatorSet,
}

/// What a client of the log believes. See the module's docs.
#[derive(Clone, Debug)]
pub struct LightClient {
    network: NetworkId,
    era: Era,
    trusted_at: UnixMillis,
    head: Option<(Header, Option<Certificate>)>,
}

impl LightClient {
    /// A client that trusts a genesis: its set decides heights 1 and 2, at least.
    ///
    /// `trusted_at` is when the user knew the genesis' set to be the network's; the genesis' own time if in doubt.
    ///
    /// # Errors
    /// [`InvalidStart::Genesis`].
    pub fn from_genesis(genesis: &Genesis, trusted_at: UnixMillis) -> Result<Self, InvalidStart> {
        genesis.validate()?;
        let era = Era { since: Height(1), set: genesis.validators.clone() };
        Ok(Self { network: genesis.network_id(), era, trusted_at, head: None })
    }

    /// A client that trusts the header with this hash. Header and set may come from anybody.
    ///
    /// `trusted_at` is when the user knew the hash to be the network's; the header's own time if in doubt.
    ///
    /// # Errors
    /// [`InvalidStart::Hash`] and [`InvalidStart::Validators`].
    pub fn from_header(
        hash: BlockHash,
        header: Header,
        set: ValidatorSet,
        trusted_at: UnixMillis,
    ) -> Result<Self, InvalidStart> {
        let got = header.hash();
        if got != hash {
            return Err(InvalidStart::Hash { expected: hash, got });
        }
        if header.validators_hash != set.hash() {
            return Err(InvalidStart::Validators);
        }
        let era = Era { since: header.set_since, set };
        Ok(Self { network: header.network_id, era, trusted_at, head: Some((header, None)) })
    }

    /// The network.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    /// The newest header believed; `None` right after a start from the genesis.
    #[must_use]
    pub fn head(&self) -> Option<&Header> {
        self.head.as_ref().map(|(header, _)| header)
    }

    /// The trusted set, and the first height that it decides. The server sends the hand-overs from there on.
    #[must_use]
    pub const fn validators(&self) -> (Height, &ValidatorSet) {
        (self.era.since, &self.era.set)
    }

    /// Checks that a header is decided, and believes it from then on if it is the newest.
    ///
    /// `handovers` are all from the trusted set to the header's, in ascending order; older ones are passed over. On an
    /// error nothing is believed that was not before.
    ///
    /// # Errors
    /// [`NotVerified`] says why not, and who is at fault.
    pub fn verify_header(
        &mut self,
        block: &CertifiedHeader,
        handovers: &[Handover],
        now: UnixMillis,
    ) -> Result<(), NotVerified> {
        let era = self.era_of(block, handovers, now)?;
        self.check_fork(&block.header, block)?;
        self.believe(block, era, now);
        Ok(())
    }

    /// Checks that `slice` is all that its chain has at a height. The header is believed from then on.
    ///
    /// # Errors
    /// [`NotVerified`] says why not.
    pub fn verify_slice(
        &mut self,
        proof: &SliceProof,
        slice: &Slice,
        handovers: &[Handover],
        now: UnixMillis,
    ) -> Result<(), NotVerified> {
        proof.check(slice)?;
        self.verify_header(&proof.block, handovers, now)
    }

    /// Checks that `chain` has no slice at a height. The header is believed from then on.
    ///
    /// # Errors
    /// [`NotVerified`] says why not.
    pub fn verify_absence(
        &mut self,
        proof: &AbsenceProof,
        chain: ChainId,
        handovers: &[Handover],
        now: UnixMillis,
    ) -> Result<(), NotVerified> {
        proof.check(chain)?;
        self.verify_header(&proof.block, handovers, now)
    }

    /// Checks that the transaction with this hash is in the slice of `chain`. The header is believed from then on.
    ///
    /// # Errors
    /// [`NotVerified`] says why not.
    pub fn verify_transaction(
        &mut self,
        proof: &TransactionProof,
        (chain, transaction): (ChainId, alloy_primitives::B256),
        handovers: &[Handover],
        now: UnixMillis,
    ) -> Result<(), NotVerified> {
        proof.check(chain, transaction)?;
        self.verify_header(&proof.block, handovers, now)
    }

    /// Checks that a range is all that `chain` has from height `first` on. The last header is believed from then on.
    ///
    /// # Errors
    /// [`NotVerified`] says why not.
    pub fn verify_range(
        &mut self,
        proof: &RangeProof,
        (chain, first): (ChainId, Height),
        handovers: &[Handover],
        now: UnixMillis,
    ) -> Result<(), NotVerified> {
        proof.check(chain, first)?;
        let last = proof.last().ok_or(InvalidProof::RangeLength { count: 0 })?;
        let era = self.era_of(&last, handovers, now)?;
        for block in &proof.blocks {
            self.check_fork(&block.header, &last)?;
        }
        self.believe(&last, era, now);
        Ok(())
    }

    /// The era of a header that is shown to be decided.
    fn era_of(
        &self,
        block: &CertifiedHeader,
        handovers: &[Handover],
        now: UnixMillis,
    ) -> Result<Era, NotVerified> {
        if now.since(self.trusted_at) > TRUST_MS {
            return Err(NotVerified::Stale { trusted_at: self.trusted_at, now });
        }
        let count = handovers.len();
        if count > HANDOVERS_MAX {
            return Err(NotVerified::TooManyHandovers { count });
        }
        let Header { height, set_since: got, .. } = block.header;
        if height < self.era.since {
            return Err(NotVerified::TooOld { height, since: self.era.since });
        }
        let mut era = self.era.clone();
        for handover in handovers {
            let at = handover.block.header.height;
            if era.since <= at && at < height {
                era = self.follow(&era, handover)?;
            }
        }
        if era.since != got {
            return Err(NotVerified::OmittedHandover { height, expected: era.since, got });
        }
        block
            .verify(self.network, &era.set)
            .map_err(|error| NotVerified::Header { height, error })?;
        Ok(era)
    }

    /// The era after a hand-over, whose header the set of `era` must have decided.
    fn follow(&self, era: &Era, handover: &Handover) -> Result<Era, NotVerified> {
        let Handover { block, next_set } = handover;
        let Header { height, set_since: got, .. } = block.header;
        if got != era.since {
            return Err(NotVerified::OmittedHandover { height, expected: era.since, got });
        }
        block
            .verify(self.network, &era.set)
            .map_err(|error| NotVerified::HandoverHeader { height, error })?;
        self.check_fork(&block.header, block)?;
        let next = next_set.hash();
        // The genesis' set decides height 2 as well.
        if next != block.header.next_validators_hash
            || next == block.header.validators_hash
            || height < Height(2)
        {
            return Err(NotVerified::Handover { height });
        }
        Ok(Era { since: height.next(), set: next_set.clone() })
    }

    /// Compares a header that `other` certifies, by itself or by parent hashes, with the newest one believed.
    fn check_fork(&self, header: &Header, other: &CertifiedHeader) -> Result<(), NotVerified> {
        let Some((trusted, certificate)) = &self.head else {
            return Ok(());
        };
        let is_same = if header.height == trusted.height {
            header == trusted
        } else if header.height == trusted.height.next() {
            header.parent == trusted.hash()
        } else if header.height.next() == trusted.height {
            trusted.parent == header.hash()
        } else {
            true
        };
        if is_same {
            return Ok(());
        }
        Err(NotVerified::Fork(Box::new(Fork {
            trusted: trusted.clone(),
            trusted_certificate: certificate.clone(),
            other: other.clone(),
        })))
    }

    fn believe(&mut self, block: &CertifiedHeader, era: Era, now: UnixMillis) {
        let CertifiedHeader { header, certificate } = block;
        if self.head().is_some_and(|head| head.height >= header.height) {
            return;
        }
        // A header's time counts up to the present: a time in the future must not stretch the trust.
        self.trusted_at = self.trusted_at.max(header.timestamp_ms.min(now));
        self.era = era;
        self.head = Some((header.clone(), Some(certificate.clone())));
    }
}

#[cfg(test)]
mod tests;
