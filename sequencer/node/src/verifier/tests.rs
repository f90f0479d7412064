//! What verified answers count, and what is said of those that are not.

use super::session::SessionError;
use super::*;
use alloy_primitives::{B256, Bytes};
use lockstep_core::bundle::Guarantee;
use lockstep_core::certificate::CommitSignature;
use lockstep_core::light_client::Fork;
use lockstep_core::params::{Genesis, NetworkParams};
use lockstep_core::signing::{Signature, SigningKey};
use lockstep_core::slice::Item;
use lockstep_core::types::{BlockHash, EntryId, Round, UnixMillis};
use lockstep_core::validator_set::{Validator, ValidatorSet};
use lockstep_rpc::client::ClientError;

const CHAIN: ChainId = ChainId(901);

fn genesis() -> Genesis {
    let key = SigningKey::from_bytes([1; 32]).expect("is a key");
    let validator = Validator {
        address: key.address(),
        public_key: key.public_key(),
        power: 5,
        network_address: String::new(),
    };
    Genesis {
        name: "test".to_owned(),
        timestamp: UnixMillis(1),
        params: NetworkParams::default(),
        validators: ValidatorSet::new(vec![validator]).expect("is a set"),
        chains: Vec::new(),
    }
}

/// A header and a certificate that somebody has verified.
fn verified(genesis: &Genesis, height: u64) -> CertifiedHeader {
    let (height, round) = (Height(height), Round(0));
    let validator = genesis.validators.proposer(height, round).address;
    let set = genesis.validators.hash();
    let header = Header {
        network_id: genesis.network_id(),
        height,
        round,
        parent: BlockHash::ZERO,
        timestamp_ms: UnixMillis(1_000),
        proposer: validator,
        validators_hash: set,
        next_validators_hash: set,
        set_since: Height(1),
        cut_hash: B256::ZERO,
        slices_root: B256::ZERO,
        state_hash: B256::ZERO,
    };
    let signatures = vec![CommitSignature { validator, signature: Signature([1; 65]) }];
    let certificate = Certificate { height, round, block: header.hash(), signatures };
    CertifiedHeader { header, certificate }
}

fn slice(height: u64) -> Slice {
    let bytes = Bytes::from(height.to_be_bytes().to_vec());
    let loose = Item { index: 0, content: Content::Transaction { bytes: bytes.clone() } };
    let content = |leg| Content::Leg {
        bundle: EntryId(B256::repeat_byte(1)),
        leg,
        legs: 2,
        guarantee: Guarantee::CoOrdered,
        transactions: vec![bytes.clone(), bytes.clone()],
    };
    let items =
        vec![loose, Item { index: 1, content: content(0) }, Item { index: 2, content: content(1) }];
    Slice { chain: CHAIN, items }
}

#[test]
fn what_was_proven_is_counted() {
    let genesis = genesis();
    let client = LightClient::from_genesis(&genesis, genesis.timestamp).expect("is valid");
    let slices: Vec<Option<Slice>> =
        (1..=9).map(|height| (height % 2 == 1).then(|| slice(height))).collect();
    let asked = (CHAIN, Height(1));
    let end = verified(&genesis, 9);
    let proven = Proven::new(&client, asked, &end, slices.iter().map(Option::as_ref));
    assert_eq!((proven.first, proven.last, proven.absent), (1, 9, 4));
    let counted = (proven.items, proven.transactions, proven.legs, proven.first_legs);
    assert_eq!(counted, (15, 25, 10, 5));
    assert_eq!(proven.block, end.header.hash().to_string());
    let Decision { signers, power, validators, total_power, .. } = proven.certificate;
    assert_eq!((signers, power, validators, total_power), (1, 5, 1, 5));
    assert!(proven.to_string().contains("heights 1..=9: 15 items (25 transactions, 10 legs"));
}

#[test]
fn a_lie_names_what_was_asked_for_and_what_is_wrong() {
    let reason = VerifyError::Height { expected: Height(3), got: Height(5) };
    let error = SessionError::of(CHAIN, Height(3), reason);
    assert!(matches!(error, SessionError::Fault(Fault::NotProven { .. })), "{error}");
    let text = error.to_string();
    for part in ["chain 901", "from height 3 on", "answered for height 5"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn forks_old_trust_and_silence_are_not_the_endpoints_lies() {
    let of = |error| SessionError::of(CHAIN, Height(1), error);
    let CertifiedHeader { header, .. } = verified(&genesis(), 2);
    let other = verified(&genesis(), 2);
    let fork = Fork { trusted: header, trusted_certificate: None, other };
    let fork = of(NotVerified::Fork(Box::new(fork)).into());
    assert!(matches!(fork, SessionError::Fault(Fault::Fork(_))), "{fork}");
    let stale = NotVerified::Stale { trusted_at: UnixMillis(1), now: UnixMillis(u64::MAX) };
    let stale = of(stale.into());
    assert!(matches!(stale, SessionError::Fault(Fault::Stale(_))), "{stale}");
    let silent = of(ClientError::Ended.into());
    assert!(matches!(silent, SessionError::Client(ClientError::Ended)), "{silent}");
}
