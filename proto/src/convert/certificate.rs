//! `certificate.proto`: certificates, decoded for those who cannot read RLP.

use bytes::Bytes;
use lockstep_core::certificate::{Certificate, CommitSignature};
use lockstep_core::limits::VALIDATORS_MAX;
use lockstep_core::signing::Signature;
use lockstep_core::types::{BlockHash, Height, Round};

use super::{Field, address_bytes, hash_bytes};
use crate::error::InvalidMessage;
use crate::v1;

impl From<&Certificate> for v1::Certificate {
    fn from(certificate: &Certificate) -> Self {
        let signatures = certificate
            .signatures
            .iter()
            .map(|CommitSignature { validator, signature }| v1::CommitSignature {
                validator: address_bytes(*validator),
                signature: Bytes::copy_from_slice(&signature.0),
            })
            .collect();
        Self {
            height: certificate.height.0,
            round: certificate.round.0,
            block_hash: hash_bytes(certificate.block.0),
            signatures,
        }
    }
}

impl TryFrom<v1::Certificate> for Certificate {
    type Error = InvalidMessage;

    fn try_from(certificate: v1::Certificate) -> Result<Self, InvalidMessage> {
        const MESSAGE: &str = "Certificate";
        let count = certificate.signatures.len();
        Field(MESSAGE, "signatures").counted(count, 0, VALIDATORS_MAX)?;
        let signatures = certificate
            .signatures
            .iter()
            .map(|one| {
                Ok(CommitSignature {
                    validator: Field(MESSAGE, "signatures.validator").address(&one.validator)?,
                    signature: Signature(
                        Field(MESSAGE, "signatures.signature").fixed(&one.signature)?,
                    ),
                })
            })
            .collect::<Result<_, InvalidMessage>>()?;
        Ok(Self {
            height: Height(certificate.height),
            round: Round(certificate.round),
            block: BlockHash(Field(MESSAGE, "block_hash").hash(&certificate.block_hash)?),
            signatures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use alloy_primitives::{Address, B256};

    fn certificate(count: usize) -> Certificate {
        let signature =
            CommitSignature { validator: Address::repeat_byte(9), signature: Signature([7; 65]) };
        Certificate {
            height: Height(3),
            round: Round(1),
            block: BlockHash(B256::repeat_byte(5)),
            signatures: vec![signature; count],
        }
    }

    #[test]
    fn a_certificate_survives_the_wire() {
        let certificate = certificate(4);
        assert_eq!(
            Certificate::try_from(v1::Certificate::from(&certificate)).unwrap(),
            certificate
        );
    }

    #[test]
    fn each_fault_is_named() {
        fn check(code: ErrorCode, field: &str, message: v1::Certificate) {
            let error = Certificate::try_from(message).unwrap_err();
            assert_eq!((error.code, error.field.as_str()), (code, field));
        }
        let good = v1::Certificate::from(&certificate(1));
        check(
            ErrorCode::Missing,
            "block_hash",
            v1::Certificate { block_hash: Bytes::new(), ..good.clone() },
        );
        let many = v1::Certificate::from(&certificate(VALIDATORS_MAX + 1));
        check(ErrorCode::OutOfRange, "signatures", many);
        let mut short = good;
        short.signatures[0].signature = vec![1; 64].into();
        check(ErrorCode::OutOfRange, "signatures.signature", short.clone());
        short.signatures[0].validator = Bytes::new();
        check(ErrorCode::Missing, "signatures.validator", short);
    }
}
