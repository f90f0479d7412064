//! Batches: the units of a validator's lane, and the acknowledgements of those who stored them.
//!
//! A batch's digest commits to its place `(network, owner, incarnation, sequence, parent)` and to a Merkle root over
//! its entries, so a proof that an entry was stored is small. Its validity depends on its bytes alone.
//!
//! Bytes: RLP `[network, owner, incarnation, sequence, parent, entries, signature]`, the version byte in front.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};

use crate::encoding::{self, VERSION, decode_list, expect_end, tag};
use crate::entry::{CheckedEntry, Entry, InvalidEntry};
use crate::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, VALIDATORS_MAX};
use crate::merkle;
use crate::signing::{self, InvalidSignature, Signature, SigningKey};
use crate::types::{BatchDigest, Incarnation, NetworkId, Sequence};

/// Where a batch stands: whose lane, which run, which place in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodable, RlpDecodable)]
pub struct BatchPosition {
    /// Whose lane.
    pub owner: Address,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// Place in the run, counted from 0.
    pub sequence: Sequence,
}

/// What a batch's digest commits to.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct BatchHeader {
    /// The network.
    pub network: NetworkId,
    /// Where it stands.
    pub position: BatchPosition,
    /// Digest of the batch before it in the run; zero for sequence 0.
    pub parent: BatchDigest,
    /// Merkle root over the entries' bytes.
    pub entries_root: B256,
    /// How many entries, 1..=[`BATCH_ENTRIES_MAX`].
    pub entry_count: u32,
}

impl BatchHeader {
    /// The batch's digest: what its owner signs, its successor and the cut name.
    #[must_use]
    pub fn digest(&self) -> BatchDigest {
        let mut bytes = Vec::with_capacity(self.length());
        self.encode(&mut bytes);
        BatchDigest(encoding::hash(tag::BATCH, &[&bytes]))
    }
}

/// Why a batch was refused. Permanent: whoever signed it is at fault, or nobody did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// More than [`BATCH_BYTES_MAX`].
    #[error("batch has {count} bytes, at most {BATCH_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its bytes.
        count: usize,
    },
    /// Not canonical RLP of a batch.
    #[error("batch is not canonical RLP: {0}")]
    Encoding(alloy_rlp::Error),
    /// The version byte is another one.
    #[error("batch has another encoding version than {VERSION}")]
    Version,
    /// No entries, or more than [`BATCH_ENTRIES_MAX`].
    #[error("batch has {count} entries, expected 1..={BATCH_ENTRIES_MAX}")]
    EntryCount {
        /// How many; at least so many where there are too many.
        count: usize,
    },
    /// Of another network.
    #[error("batch is of network {got}, expected {expected}")]
    Network {
        /// Ours.
        expected: NetworkId,
        /// The batch's.
        got: NetworkId,
    },
    /// Sequence 0 must have a zero parent, and only sequence 0 may.
    #[error("batch {sequence} of a run has the wrong kind of parent {parent}")]
    Parent {
        /// Its sequence.
        sequence: Sequence,
        /// Its parent.
        parent: BatchDigest,
    },
    /// An entry is wrong.
    #[error("entry {index} of the batch: {error}")]
    Entry {
        /// Which, counted from 0.
        index: usize,
        /// Why.
        error: InvalidEntry,
    },
    /// The owner's signature is none.
    #[error("batch's {0}")]
    Signature(#[from] InvalidSignature),
    /// Signed by somebody else.
    #[error("batch of {owner} is signed by {signer}")]
    NotOwner {
        /// Whose lane it claims.
        owner: Address,
        /// Who signed.
        signer: Address,
    },
}

impl From<alloy_rlp::Error> for InvalidBatch {
    fn from(error: alloy_rlp::Error) -> Self {
        Self::Encoding(error)
    }
}

/// A batch of well-formed bytes; no signature is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    raw: Bytes,
    header: BatchHeader,
    digest: BatchDigest,
    entries: Vec<Entry>,
    signature: Signature,
}

impl Batch {
    /// A batch of the owner's lane, signed.
    ///
    /// # Errors
    /// [`InvalidBatch`] if there are no or too many entries or bytes, or the parent is of the wrong kind.
    pub fn sign(
        network: NetworkId,
        (incarnation, sequence): (Incarnation, Sequence),
        parent: BatchDigest,
        entries: Vec<Entry>,
        key: &SigningKey,
    ) -> Result<Self, InvalidBatch> {
        let position = BatchPosition { owner: key.address(), incarnation, sequence };
        let header = header_of(network, position, parent, &entries)?;
        let digest = header.digest();
        let signature = key.sign(digest.0);
        let raw = encode(&header, &entries, &signature);
        if raw.len() > BATCH_BYTES_MAX {
            return Err(InvalidBatch::TooLarge { count: raw.len() });
        }
        Ok(Self { raw: raw.into(), header, digest, entries, signature })
    }

    /// Reads a batch that fills `raw` exactly and checks everything but signatures.
    ///
    /// # Errors
    /// [`InvalidBatch`] on everything that the bytes alone show to be wrong, signatures excepted.
    pub fn decode(network: NetworkId, raw: Bytes) -> Result<Self, InvalidBatch> {
        if raw.len() > BATCH_BYTES_MAX {
            return Err(InvalidBatch::TooLarge { count: raw.len() });
        }
        let mut rest = match raw.split_first() {
            Some((&VERSION, rest)) => rest,
            _ => return Err(InvalidBatch::Version),
        };
        let payload = &mut decode_list(&mut rest)?;
        expect_end(rest)?;
        let got: NetworkId = Decodable::decode(payload)?;
        if got != network {
            return Err(InvalidBatch::Network { expected: network, got });
        }
        let position = BatchPosition {
            owner: Decodable::decode(payload)?,
            incarnation: Decodable::decode(payload)?,
            sequence: Decodable::decode(payload)?,
        };
        let parent = Decodable::decode(payload)?;
        let entries = decode_entries(&raw, decode_list(payload)?)?;
        let signature = Decodable::decode(payload)?;
        expect_end(payload)?;
        let header = header_of(network, position, parent, &entries)?;
        let digest = header.digest();
        Ok(Self { raw, header, digest, entries, signature })
    }

    /// The position that a batch's bytes claim, without looking at the rest of them; `None` if they are not a batch's.
    #[must_use]
    pub fn position_of(raw: &[u8]) -> Option<BatchPosition> {
        let mut rest = raw.strip_prefix(&[VERSION])?;
        let payload = &mut decode_list(&mut rest).ok()?;
        NetworkId::decode(payload).ok()?;
        Some(BatchPosition {
            owner: Decodable::decode(payload).ok()?,
            incarnation: Decodable::decode(payload).ok()?,
            sequence: Decodable::decode(payload).ok()?,
        })
    }

    /// The batch's bytes.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// What its digest commits to.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Its digest.
    #[must_use]
    pub const fn digest(&self) -> BatchDigest {
        self.digest
    }

    /// Its entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Checks that the owner signed it.
    ///
    /// # Errors
    /// [`InvalidBatch::Signature`] and [`InvalidBatch::NotOwner`].
    pub fn check_owner(&self) -> Result<(), InvalidBatch> {
        let (owner, signer) =
            (self.header.position.owner, signing::recover(self.digest.0, &self.signature)?);
        if owner == signer { Ok(()) } else { Err(InvalidBatch::NotOwner { owner, signer }) }
    }

    /// Checks the owner's signature and every entry, one after the other.
    ///
    /// A node spreads the entries over a pool instead and ends with [`Batch::with_checked`].
    ///
    /// # Errors
    /// [`InvalidBatch`] names the first thing that is wrong.
    pub fn check(self) -> Result<CheckedBatch, InvalidBatch> {
        let network = self.header.network;
        let checked = self
            .entries
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                entry.clone().check(network).map_err(|error| InvalidBatch::Entry { index, error })
            })
            .collect::<Result<_, _>>()?;
        self.with_checked(checked)
    }

    /// Checks the owner's signature and joins the batch with its entries, which were checked elsewhere.
    ///
    /// # Errors
    /// [`InvalidBatch::NotOwner`] and [`InvalidBatch::Signature`]; [`InvalidBatch::EntryCount`] if `checked` are
    /// not this batch's entries in order.
    pub fn with_checked(self, checked: Vec<CheckedEntry>) -> Result<CheckedBatch, InvalidBatch> {
        self.check_owner()?;
        let is_same = checked.len() == self.entries.len()
            && checked.iter().zip(&self.entries).all(|(a, b)| a.entry().raw() == b.raw());
        if !is_same {
            return Err(InvalidBatch::EntryCount { count: checked.len() });
        }
        Ok(CheckedBatch {
            raw: self.raw,
            header: self.header,
            digest: self.digest,
            entries: checked.into(),
        })
    }
}

/// A batch whose every signature was checked; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedBatch {
    raw: Bytes,
    header: BatchHeader,
    digest: BatchDigest,
    entries: Arc<[CheckedEntry]>,
}

impl CheckedBatch {
    /// The batch's bytes.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// What its digest commits to.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Where it stands.
    #[must_use]
    pub const fn position(&self) -> BatchPosition {
        self.header.position
    }

    /// Its digest.
    #[must_use]
    pub const fn digest(&self) -> BatchDigest {
        self.digest
    }

    /// Its entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[CheckedEntry] {
        &self.entries
    }
}

fn header_of(
    network: NetworkId,
    position: BatchPosition,
    parent: BatchDigest,
    entries: &[Entry],
) -> Result<BatchHeader, InvalidBatch> {
    let count = entries.len();
    if count == 0 || count > BATCH_ENTRIES_MAX {
        return Err(InvalidBatch::EntryCount { count });
    }
    let sequence = position.sequence;
    if (sequence == Sequence(0)) != (parent == BatchDigest::ZERO) {
        return Err(InvalidBatch::Parent { sequence, parent });
    }
    let entries_root = merkle::root(entries.iter().map(|entry| merkle::leaf(entry.raw())));
    let entry_count = u32::try_from(count).expect("at most BATCH_ENTRIES_MAX");
    Ok(BatchHeader { network, position, parent, entries_root, entry_count })
}

fn encode(header: &BatchHeader, entries: &[Entry], signature: &Signature) -> Vec<u8> {
    struct Entries<'a>(&'a [Entry]);
    impl Entries<'_> {
        fn payload_length(&self) -> usize {
            self.0.iter().fold(0, |sum: usize, e| sum.saturating_add(e.raw().len()))
        }
    }
    impl Encodable for Entries<'_> {
        fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
            alloy_rlp::Header { list: true, payload_length: self.payload_length() }.encode(out);
            self.0.iter().for_each(|entry| out.put_slice(entry.raw()));
        }
        fn length(&self) -> usize {
            let payload = self.payload_length();
            payload.saturating_add(alloy_rlp::length_of_length(payload))
        }
    }
    let p = &header.position;
    let mut out = vec![VERSION];
    encoding::encode_list(
        &[
            &header.network,
            &p.owner,
            &p.incarnation,
            &p.sequence,
            &header.parent,
            &Entries(entries),
            signature,
        ],
        &mut out,
    );
    out
}

/// Reads the entries as slices of `raw`, without copying.
fn decode_entries(raw: &Bytes, mut payload: &[u8]) -> Result<Vec<Entry>, InvalidBatch> {
    let mut entries = Vec::new();
    while !payload.is_empty() {
        let index = entries.len();
        if index >= BATCH_ENTRIES_MAX {
            return Err(InvalidBatch::EntryCount { count: index.saturating_add(1) });
        }
        let item = payload;
        decode_list(&mut payload)?;
        let length = item.len().saturating_sub(payload.len());
        let item = item.get(..length).expect("what was read of it is its beginning");
        let entry = Entry::decode(raw.slice_ref(item))
            .map_err(|error| InvalidBatch::Entry { index, error })?;
        entries.push(entry);
    }
    Ok(entries)
}

/// One batch that a validator says it stores durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Acknowledged {
    /// Where the batch stands.
    pub position: BatchPosition,
    /// Its digest.
    pub digest: BatchDigest,
}

/// A validator's word that it stores, durably, these batches and all before them in their runs.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Acknowledgement {
    /// The network.
    pub network: NetworkId,
    /// At most one batch per lane, in ascending order of owner.
    pub tips: Vec<Acknowledged>,
    /// By the validator, over network and tips.
    pub signature: Signature,
}

impl Acknowledgement {
    fn digest(network: NetworkId, tips: &Vec<Acknowledged>) -> B256 {
        let mut bytes = Vec::with_capacity(tips.length());
        tips.encode(&mut bytes);
        encoding::hash(tag::ACKNOWLEDGEMENT, &[network.0.as_slice(), &bytes])
    }

    /// Signs a vector of tips.
    #[must_use]
    pub fn sign(network: NetworkId, tips: Vec<Acknowledged>, key: &SigningKey) -> Self {
        let signature = key.sign(Self::digest(network, &tips));
        Self { network, tips, signature }
    }

    /// Who acknowledged. The order of the tips is checked, too.
    ///
    /// # Errors
    /// [`InvalidSignature`] if nobody signed these bytes, or they are not a vector of one tip per lane.
    pub fn signer(&self) -> Result<Address, InvalidSignature> {
        let is_ordered = self
            .tips
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a.position.owner < b.position.owner));
        if !is_ordered || self.tips.len() > VALIDATORS_MAX {
            return Err(InvalidSignature::Unrecoverable);
        }
        signing::recover(Self::digest(self.network, &self.tips), &self.signature)
    }
}

impl encoding::Canonical for Acknowledgement {}

#[cfg(test)]
mod tests;
