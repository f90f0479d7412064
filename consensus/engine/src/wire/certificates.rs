//! Polka, round and commit certificates. Only their shape is checked here; signatures and quorum the engine checks.

use lockstep_core::limits::VALIDATORS_MAX;
use lockstep_core::signing::Signature;
use lockstep_proto::v1 as proto;
use malachitebft_app_channel::app::types::core as mc;
use mc::{PolkaSignature, RoundCertificateType, RoundSignature};

use super::messages::{vote_kind, vote_kind_number};
use super::{
    ROUND_SIGNATURES_MAX, WireError, address, block, copy, count, nil_or_block, nil_or_block_bytes,
    round, round_number, signature,
};
use crate::context::{Context, Height, ValidatorAddress};

pub(crate) type PolkaCertificate = mc::PolkaCertificate<Context>;
pub(crate) type RoundCertificate = mc::RoundCertificate<Context>;
pub(crate) type CommitCertificate = mc::ExtendedCommitCertificate<Context>;

fn addressed(validator: ValidatorAddress, signature: &Signature) -> proto::AddressedSignature {
    proto::AddressedSignature {
        validator: copy(validator.0.as_slice()),
        signature: copy(&signature.0),
    }
}

/// Both fields of each signature, of at most [`VALIDATORS_MAX`].
fn signatures(
    list: &[proto::AddressedSignature],
) -> Result<Vec<(ValidatorAddress, Signature)>, WireError> {
    count("signatures", list, VALIDATORS_MAX)?;
    list.iter()
        .map(|s| {
            let validator = address("signatures.validator", &s.validator)?;
            Ok((validator, signature("signatures.signature", &s.signature)?))
        })
        .collect()
}

pub(crate) fn polka(m: &proto::PolkaCertificate) -> Result<PolkaCertificate, WireError> {
    let signatures = signatures(&m.signatures)?;
    Ok(PolkaCertificate {
        height: Height(m.height),
        round: round("polka.round", m.round)?,
        value_id: block("polka.block", &m.block)?,
        polka_signatures: signatures.into_iter().map(|(a, s)| PolkaSignature::new(a, s)).collect(),
    })
}

pub(crate) fn polka_message(m: &PolkaCertificate) -> Result<proto::PolkaCertificate, WireError> {
    Ok(proto::PolkaCertificate {
        height: m.height.0,
        round: round_number("polka.round", m.round)?,
        block: copy(m.value_id.0.as_slice()),
        signatures: m.polka_signatures.iter().map(|s| addressed(s.address, &s.signature)).collect(),
    })
}

pub(crate) fn commit(m: &proto::CommitCertificate) -> Result<CommitCertificate, WireError> {
    let signatures = signatures(&m.signatures)?;
    Ok(CommitCertificate {
        height: Height(m.height),
        round: round("certificate.round", m.round)?,
        value_id: block("certificate.block", &m.block)?,
        commit_signatures: signatures
            .into_iter()
            .map(|(a, s)| mc::ExtendedCommitSignature::new(a, s, None))
            .collect(),
    })
}

pub(crate) fn commit_message(m: &CommitCertificate) -> Result<proto::CommitCertificate, WireError> {
    let signatures = m.commit_signatures.iter().map(|s| addressed(s.address, &s.signature));
    Ok(proto::CommitCertificate {
        height: m.height.0,
        round: round_number("certificate.round", m.round)?,
        block: copy(m.value_id.0.as_slice()),
        signatures: signatures.collect(),
    })
}

pub(crate) fn round_certificate(
    m: &proto::RoundCertificate,
) -> Result<RoundCertificate, WireError> {
    count("round.signatures", &m.signatures, ROUND_SIGNATURES_MAX)?;
    let cert_type = match proto::RoundReason::try_from(m.reason) {
        Ok(proto::RoundReason::Skip) => RoundCertificateType::Skip,
        Ok(proto::RoundReason::Precommit) => RoundCertificateType::Precommit,
        Ok(proto::RoundReason::Unspecified) | Err(_) => {
            let got = u64::from(m.reason.unsigned_abs());
            return Err(WireError::Range { field: "round.reason", got });
        }
    };
    let round_signatures: Result<Vec<_>, WireError> =
        m.signatures.iter().map(round_signature).collect();
    Ok(RoundCertificate {
        height: Height(m.height),
        round: round("round.round", m.round)?,
        cert_type,
        round_signatures: round_signatures?,
    })
}

fn round_signature(m: &proto::RoundSignature) -> Result<RoundSignature<Context>, WireError> {
    Ok(RoundSignature::new(
        vote_kind("round.signatures.kind", m.kind)?,
        nil_or_block("round.signatures.block", &m.block)?,
        address("round.signatures.validator", &m.validator)?,
        signature("round.signatures.signature", &m.signature)?,
    ))
}

pub(crate) fn round_message(m: &RoundCertificate) -> Result<proto::RoundCertificate, WireError> {
    let reason = match m.cert_type {
        RoundCertificateType::Skip => proto::RoundReason::Skip,
        RoundCertificateType::Precommit => proto::RoundReason::Precommit,
    };
    let signatures = m.round_signatures.iter().map(|s| proto::RoundSignature {
        kind: vote_kind_number(s.vote_type),
        block: nil_or_block_bytes(&s.value_id),
        validator: copy(s.address.0.as_slice()),
        signature: copy(&s.signature.0),
    });
    Ok(proto::RoundCertificate {
        height: m.height.0,
        round: round_number("round.round", m.round)?,
        reason: reason.into(),
        signatures: signatures.collect(),
    })
}
