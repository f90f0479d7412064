//! Entries: what users put into a lane. A transaction, a bundle, or a record, with an expiry and perhaps a gateway's
//! signature.
//!
//! Two steps from bytes to trust: [`Entry::decode`] checks the shape (cheap), [`Entry::check`] checks every signature
//! (50 µs each, on a thread pool). Both look at the bytes alone: never at the registry, a budget or the time.
//!
//! Bytes: RLP `[expires_ms, gateway, kind, body]`; `gateway` is the empty string or 65 bytes; kind 1 is a
//! transaction `[chain, chain kind, bytes]`, 2 a bundle `[guarantee, legs]`, 3 a record; 4 is reserved for governance.

use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};

use crate::bundle::{Bundle, Guarantee, InvalidBundle, Leg};
use crate::encoding::{self, decode_list, encode_list, expect_end, tag};
use crate::limits::{ENTRY_BYTES_MAX, RECORD_BYTES_MAX};
use crate::params::ChainKind;
use crate::record::Record;
use crate::signing::{self, InvalidSignature, Signature, SigningKey};
use crate::transaction::{self, CheckedTransaction, InvalidTransaction, Known, Nothing};
use crate::types::{ChainId, EntryId, NetworkId, UnixMillis};

/// One transaction of one chain, outside any bundle.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Transaction {
    /// The chain; not 0.
    pub chain: ChainId,
    /// EVM or opaque; must be what the registry says.
    pub kind: ChainKind,
    /// EIP-2718 bytes, or opaque ones.
    pub bytes: Bytes,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Kind 1: one signed transaction of one chain, or opaque bytes.
    Transaction(Transaction),
    /// Kind 2: legs of several chains.
    Bundle(Bundle),
    /// Kind 3: a sequencer's record.
    Record(Record),
}

/// An entry of well-formed bytes; signatures are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    raw: Bytes,
    id: EntryId,
    body: Body,
    expires: UnixMillis,
    gateway: Option<Signature>,
}

/// Why an entry was refused. Every variant is permanent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// More than [`ENTRY_BYTES_MAX`].
    #[error("entry has {count} bytes, at most {ENTRY_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its bytes.
        count: usize,
    },
    /// Not canonical RLP of an entry.
    #[error("entry is not canonical RLP: {0}")]
    Encoding(alloy_rlp::Error),
    /// A kind this version does not know. 4 (governance) is reserved.
    #[error("entry kind {got} is not one of 1 (transaction), 2 (bundle), 3 (record)")]
    Kind {
        /// The kind.
        got: u8,
    },
    /// A transaction for chain 0, the network's own.
    #[error("transaction for chain 0, the network's own namespace")]
    NetworkChain,
    /// The record is too large.
    #[error("record has {count} bytes, at most {RECORD_BYTES_MAX} are allowed")]
    RecordTooLarge {
        /// Its bytes.
        count: usize,
    },
    /// The bundle's shape is wrong.
    #[error("{0}")]
    Bundle(#[from] InvalidBundle),
    /// A transaction is wrong.
    #[error("chain {chain}: {error}")]
    Transaction {
        /// The transaction's chain.
        chain: ChainId,
        /// Why.
        error: InvalidTransaction,
    },
    /// The gateway's signature is none.
    #[error("gateway's {0}")]
    Gateway(InvalidSignature),
    /// The record's signature is none.
    #[error("record's {0}")]
    Record(InvalidSignature),
}

impl From<alloy_rlp::Error> for InvalidEntry {
    fn from(error: alloy_rlp::Error) -> Self {
        Self::Encoding(error)
    }
}

impl Entry {
    /// An entry with this body. `expires` is in milliseconds since 1970.
    ///
    /// # Errors
    /// [`InvalidEntry`] if it is too large or its shape is wrong; signatures are not looked at.
    pub fn new(
        body: Body,
        expires: UnixMillis,
        gateway: Option<Signature>,
    ) -> Result<Self, InvalidEntry> {
        let mut raw = Vec::new();
        let gateway_bytes = gateway.map_or_else(Bytes::new, |s| Bytes::copy_from_slice(&s.0));
        let (kind, item) = body.parts();
        encode_list(&[&expires, &gateway_bytes, &kind, item], &mut raw);
        Self::decode(raw.into())
    }

    /// Reads an entry that fills `raw` exactly, and checks its shape.
    ///
    /// # Errors
    /// [`InvalidEntry`] on everything that the bytes alone show to be wrong, signatures excepted.
    pub fn decode(raw: Bytes) -> Result<Self, InvalidEntry> {
        if raw.len() > ENTRY_BYTES_MAX {
            return Err(InvalidEntry::TooLarge { count: raw.len() });
        }
        let mut rest = raw.as_ref();
        let payload = &mut decode_list(&mut rest)?;
        expect_end(rest)?;
        let expires = Decodable::decode(payload)?;
        let gateway = decode_gateway(payload)?;
        // The id commits to kind and body: exactly the bytes that are left.
        let id = EntryId(encoding::hash(tag::ENTRY, &[payload]));
        let body = Body::decode(payload)?;
        expect_end(payload)?;
        Ok(Self { raw, id, body, expires, gateway })
    }

    /// The entry's bytes.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Hash of kind and body, without expiry and gateway's signature.
    #[must_use]
    pub const fn id(&self) -> EntryId {
        self.id
    }

    /// What it carries.
    #[must_use]
    pub const fn body(&self) -> &Body {
        &self.body
    }

    /// From this log time on it can't be taken.
    #[must_use]
    pub const fn expires(&self) -> UnixMillis {
        self.expires
    }

    /// A gateway's signature, as it came.
    #[must_use]
    pub const fn gateway_signature(&self) -> Option<&Signature> {
        self.gateway.as_ref()
    }

    /// What a gateway signs to admit an entry: (network, id).
    #[must_use]
    pub fn gateway_digest(network: NetworkId, id: EntryId) -> B256 {
        encoding::hash(tag::GATEWAY, &[network.0.as_slice(), id.0.as_slice()])
    }

    /// The same entry, admitted by a gateway.
    ///
    /// # Errors
    /// [`InvalidEntry::TooLarge`] if the signature makes it so.
    pub fn admitted_by(&self, network: NetworkId, key: &SigningKey) -> Result<Self, InvalidEntry> {
        let signature = key.sign(Self::gateway_digest(network, self.id));
        Self::new(self.body.clone(), self.expires, Some(signature))
    }

    /// Checks every signature of the entry: transactions, gateway, record. About 50 µs of one core for each.
    ///
    /// # Errors
    /// [`InvalidEntry`] names the first that is wrong.
    pub fn check(self, network: NetworkId) -> Result<CheckedEntry, InvalidEntry> {
        self.check_knowing(network, &Nothing)
    }

    /// The same, but for what is known to have been checked: that is not checked again. The id commits to neither expiry nor
    /// gateway, and a transaction may come in many entries.
    ///
    /// # Errors
    /// As [`Entry::check`].
    pub fn check_knowing(
        self,
        network: NetworkId,
        known: &impl Known,
    ) -> Result<CheckedEntry, InvalidEntry> {
        let transactions = self.check_transactions(known)?;
        let gateway = self.check_gateway(network, known)?;
        let record_signer = match &self.body {
            Body::Record(record) => Some(record.signer(network).map_err(InvalidEntry::Record)?),
            Body::Transaction(_) | Body::Bundle(_) => None,
        };
        Ok(CheckedEntry { entry: self, transactions, gateway, record_signer })
    }

    fn check_gateway(
        &self,
        network: NetworkId,
        known: &impl Known,
    ) -> Result<Option<Address>, InvalidEntry> {
        let Some(signature) = &self.gateway else { return Ok(None) };
        let digest = Self::gateway_digest(network, self.id);
        if let Some(signer) = known.signer(digest, signature) {
            return Ok(Some(signer));
        }
        signing::recover(digest, signature).map(Some).map_err(InvalidEntry::Gateway)
    }

    fn check_transactions(
        &self,
        known: &impl Known,
    ) -> Result<Vec<CheckedTransaction>, InvalidEntry> {
        let check = |chain: ChainId, kind, bytes: &Bytes| {
            transaction::check_knowing(chain, kind, bytes, known)
                .map_err(|error| InvalidEntry::Transaction { chain, error })
        };
        match &self.body {
            Body::Transaction(t) => Ok(vec![check(t.chain, t.kind, &t.bytes)?]),
            Body::Bundle(bundle) => bundle
                .legs()
                .iter()
                .flat_map(|leg| leg.transactions.iter().map(move |bytes| (leg, bytes)))
                .map(|(leg, bytes)| check(leg.chain, leg.kind, bytes))
                .collect(),
            Body::Record(_) => Ok(Vec::new()),
        }
    }
}

/// An entry whose every signature was checked. [`Entry::check`] is the only way to get one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedEntry {
    entry: Entry,
    transactions: Vec<CheckedTransaction>,
    gateway: Option<Address>,
    record_signer: Option<Address>,
}

impl CheckedEntry {
    /// The entry.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its transactions, leg after leg, in order; none for a record.
    #[must_use]
    pub fn transactions(&self) -> &[CheckedTransaction] {
        &self.transactions
    }

    /// Who admitted it, if anybody did.
    #[must_use]
    pub const fn gateway(&self) -> Option<Address> {
        self.gateway
    }

    /// Who signed the record, if it is one.
    #[must_use]
    pub const fn record_signer(&self) -> Option<Address> {
        self.record_signer
    }
}

impl Body {
    const fn parts(&self) -> (u8, &dyn Encodable) {
        match self {
            Self::Transaction(transaction) => (1, transaction),
            Self::Bundle(bundle) => (2, bundle),
            Self::Record(record) => (3, record),
        }
    }

    fn decode(payload: &mut &[u8]) -> Result<Self, InvalidEntry> {
        match u8::decode(payload)? {
            1 => Self::decode_transaction(payload),
            2 => {
                let (legs, guarantee): (Vec<Leg>, Guarantee) = Bundle::decode_parts(payload)?;
                Ok(Self::Bundle(Bundle::new(legs, guarantee)?))
            }
            3 => {
                let before = payload.len();
                let record = Record::decode(payload)?;
                let count = before.saturating_sub(payload.len());
                if count > RECORD_BYTES_MAX {
                    return Err(InvalidEntry::RecordTooLarge { count });
                }
                Ok(Self::Record(record))
            }
            got => Err(InvalidEntry::Kind { got }),
        }
    }

    fn decode_transaction(payload: &mut &[u8]) -> Result<Self, InvalidEntry> {
        let transaction = Transaction::decode(payload)?;
        let chain = transaction.chain;
        if chain == ChainId::NETWORK {
            return Err(InvalidEntry::NetworkChain);
        }
        transaction::check_size(&transaction.bytes)
            .map_err(|error| InvalidEntry::Transaction { chain, error })?;
        Ok(Self::Transaction(transaction))
    }
}

fn decode_gateway(payload: &mut &[u8]) -> Result<Option<Signature>, InvalidEntry> {
    let bytes = Bytes::decode(payload)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let bytes = <[u8; 65]>::try_from(bytes.as_ref())
        .map_err(|_| alloy_rlp::Error::Custom("gateway is neither empty nor 65 bytes"))?;
    Ok(Some(Signature(bytes)))
}

#[cfg(test)]
mod tests;
