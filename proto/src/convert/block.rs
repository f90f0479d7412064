//! `block.proto`: decided headers, blocks, full blocks.

use bytes::Bytes;
use lockstep_core::certificate::Certificate;
use lockstep_core::cut::Cut;
use lockstep_core::header::Header;
use lockstep_core::limits::{
    CERTIFICATE_BYTES_MAX, CUT_ENCODED_BYTES_MAX, HEADER_BYTES_MAX, SYNCED_VALUE_BYTES_MAX,
};
use lockstep_core::proof::CertifiedHeader;
use lockstep_core::types::Height;

use super::{Field, address_bytes, canonical, hash_bytes};
use crate::error::InvalidMessage;
use crate::v1;

/// A decided block's header, certificate and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Header and certificate. Nothing is verified before
    /// [`CertifiedHeader::verify`](lockstep_core::proof::CertifiedHeader::verify).
    pub certified: CertifiedHeader,
    /// The cut that the header commits to.
    pub cut: Cut,
}

/// What a full node needs of one height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullBlock {
    /// The height.
    pub height: Height,
    /// Bytes of the block's [`SyncedValue`](lockstep_core::proposal::SyncedValue).
    pub synced_value: Bytes,
    /// The certificate.
    pub certificate: Certificate,
}

impl From<&CertifiedHeader> for v1::DecidedHeader {
    fn from(block: &CertifiedHeader) -> Self {
        let CertifiedHeader { header, certificate } = block;
        Self {
            header: canonical(header),
            certificate: canonical(certificate),
            height: header.height.0,
            block_hash: hash_bytes(header.hash().0),
            timestamp_ms: header.timestamp_ms.0,
            proposer: address_bytes(header.proposer),
            round: header.round.0,
        }
    }
}

impl TryFrom<v1::DecidedHeader> for CertifiedHeader {
    type Error = InvalidMessage;

    /// Reads the canonical bytes; the other fields only repeat them and are not looked at.
    fn try_from(block: v1::DecidedHeader) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "DecidedHeader";
        let header: Header = Field(MESSAGE, "header").canonical(&block.header, HEADER_BYTES_MAX)?;
        let certificate = certificate(Field(MESSAGE, "certificate"), &block.certificate)?;
        Ok(Self { header, certificate })
    }
}

impl From<&Block> for v1::Block {
    fn from(block: &Block) -> Self {
        Self {
            decided: Some((&block.certified).into()),
            cut: canonical(&block.cut),
            certificate: Some((&block.certified.certificate).into()),
        }
    }
}

impl TryFrom<v1::Block> for Block {
    type Error = InvalidMessage;

    fn try_from(block: v1::Block) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "Block";
        let decided = block.decided.ok_or_else(|| Field(MESSAGE, "decided").missing())?;
        let certified =
            decided.try_into().map_err(|e: InvalidMessage| e.inside(MESSAGE, "decided"))?;
        let cut = Field(MESSAGE, "cut").canonical(&block.cut, CUT_ENCODED_BYTES_MAX)?;
        Ok(Self { certified, cut })
    }
}

impl From<&FullBlock> for v1::FullBlock {
    fn from(block: &FullBlock) -> Self {
        Self {
            height: block.height.0,
            synced_value: block.synced_value.clone(),
            certificate: canonical(&block.certificate),
        }
    }
}

impl TryFrom<v1::FullBlock> for FullBlock {
    type Error = InvalidMessage;

    fn try_from(block: v1::FullBlock) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "FullBlock";
        let height = Height(Field(MESSAGE, "height").positive(block.height)?);
        Field(MESSAGE, "synced_value").sized(&block.synced_value, SYNCED_VALUE_BYTES_MAX)?;
        let certificate = certificate(Field(MESSAGE, "certificate"), &block.certificate)?;
        Ok(Self { height, synced_value: block.synced_value, certificate })
    }
}

/// A certificate from its canonical bytes.
pub(crate) fn certificate(field: Field, bytes: &[u8]) -> Result<Certificate, InvalidMessage> {
    field.canonical(bytes, CERTIFICATE_BYTES_MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use alloy_primitives::{Address, B256};
    use lockstep_core::certificate::CommitSignature;
    use lockstep_core::cut::LanePosition;
    use lockstep_core::signing::Signature;
    use lockstep_core::types::{BlockHash, NetworkId, Round, UnixMillis};

    pub(crate) fn certified() -> CertifiedHeader {
        let header = Header {
            network_id: NetworkId(B256::repeat_byte(1)),
            height: Height(7),
            round: Round(0),
            parent: BlockHash(B256::repeat_byte(2)),
            timestamp_ms: UnixMillis(1_700_000_000_000),
            proposer: Address::repeat_byte(3),
            validators_hash: B256::repeat_byte(4),
            next_validators_hash: B256::repeat_byte(5),
            set_since: Height(1),
            cut_hash: B256::repeat_byte(6),
            slices_root: B256::repeat_byte(7),
            state_hash: B256::repeat_byte(8),
        };
        let signature =
            CommitSignature { validator: Address::repeat_byte(9), signature: Signature([7; 65]) };
        let certificate = Certificate {
            height: Height(7),
            round: Round(2),
            block: header.hash(),
            signatures: vec![signature],
        };
        CertifiedHeader { header, certificate }
    }

    fn block() -> Block {
        let lanes = vec![LanePosition::start(Address::repeat_byte(3))];
        Block { certified: certified(), cut: Cut { lanes } }
    }

    #[test]
    fn blocks_survive_the_wire() {
        assert_eq!(Block::try_from(v1::Block::from(&block())).unwrap(), block());
        let full = FullBlock {
            height: Height(7),
            synced_value: vec![1, 2, 3].into(),
            certificate: certified().certificate,
        };
        assert_eq!(FullBlock::try_from(v1::FullBlock::from(&full)).unwrap(), full);
    }

    #[test]
    fn the_canonical_bytes_count_and_not_what_repeats_them() {
        let mut message = v1::DecidedHeader::from(&certified());
        message.height = 99;
        assert_eq!(CertifiedHeader::try_from(message).unwrap(), certified());
    }

    #[test]
    fn each_fault_is_named() {
        fn check(code: ErrorCode, field: &str, spoil: impl FnOnce(&mut v1::Block)) {
            let mut message = v1::Block::from(&block());
            spoil(&mut message);
            let error = Block::try_from(message).unwrap_err();
            assert_eq!((error.code, error.field.as_str()), (code, field), "{error}");
        }
        let decided = |m: &mut v1::Block, spoil: fn(&mut v1::DecidedHeader)| {
            spoil(m.decided.as_mut().unwrap());
        };
        check(ErrorCode::Missing, "decided", |m| m.decided = None);
        check(ErrorCode::Missing, "cut", |m| m.cut = Bytes::new());
        check(ErrorCode::Malformed, "cut", |m| m.cut = vec![1, 2, 3].into());
        check(ErrorCode::Missing, "decided.header", |m| decided(m, |d| d.header = Bytes::new()));
        check(ErrorCode::OutOfRange, "decided.header", |m| {
            decided(m, |d| d.header = vec![1; HEADER_BYTES_MAX + 1].into());
        });
        check(ErrorCode::Malformed, "decided.certificate", |m| {
            decided(m, |d| d.certificate = [d.certificate.as_ref(), &[0]].concat().into());
        });
    }
}
