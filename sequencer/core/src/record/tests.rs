//! Formats and signatures of the three records.

use super::*;
use crate::encoding::Canonical as _;
use crate::slice::{Content, Item};

const CHAIN: ChainId = ChainId(901);
const NETWORK: NetworkId = NetworkId(B256::repeat_byte(9));

fn key() -> SigningKey {
    SigningKey::from_bytes([4; 32]).unwrap()
}

fn sealed(skipped: usize) -> Sealed {
    let skipped = (0..skipped)
        .map(|n| Skipped { height: Height(n as u64), item: 3, reason: SkipReason::Stale })
        .collect();
    Sealed {
        number: 1_000,
        hash: B256::repeat_byte(1),
        parent: B256::repeat_byte(2),
        timestamp: 1_700_000_000,
        mode: SealMode::Closed,
        cursor: Cursor { height: Height(70), items: 5 },
        skipped,
    }
}

fn bodies() -> [RecordBody; 3] {
    let preparations = vec![
        Preparation { bundle: EntryId(B256::repeat_byte(5)), is_ok: true },
        Preparation { bundle: EntryId(B256::repeat_byte(6)), is_ok: false },
    ];
    let [parent, attributes] = [B256::repeat_byte(3), B256::repeat_byte(4)];
    [
        RecordBody::Sealed(sealed(2)),
        RecordBody::Limits(Limits { tx_bytes: 0, block_bytes: 120_000, set_at_ms: UnixMillis(7) }),
        RecordBody::Prepared(Prepared { number: 8, parent, attributes, preparations }),
    ]
}

fn decoded(bytes: &[u8]) -> alloy_rlp::Result<RecordBody> {
    RecordBody::decode(&mut &*bytes)
}

#[test]
fn each_body_survives_its_encoding() {
    for (kind, body) in (1u8..).zip(bodies()) {
        let bytes = alloy_rlp::encode(&body);
        assert_eq!(bytes.len(), body.length());
        assert_eq!(decoded(&bytes), Ok(body.clone()));
        let payload = decode_list(&mut bytes.as_slice()).unwrap();
        assert_eq!(payload[0], kind);
        let record = Record::sign(NETWORK, CHAIN, body, &key());
        let item = Item { index: 1, content: Content::Record(record) };
        assert_eq!(Item::from_canonical(&item.to_canonical()), Ok(item));
    }
}

#[test]
fn the_signature_is_over_network_chain_and_body() {
    for body in bodies() {
        let record = Record::sign(NETWORK, CHAIN, body, &key());
        assert_eq!(record.signer(NETWORK), Ok(key().address()));
        assert_ne!(record.signer(NetworkId::ZERO), Ok(key().address()));
        let elsewhere = Record { chain: ChainId(902), ..record.clone() };
        assert_ne!(elsewhere.signer(NETWORK), Ok(key().address()));
        let limits =
            RecordBody::Limits(Limits { tx_bytes: 1, block_bytes: 1, set_at_ms: UnixMillis(1) });
        let other = Record { body: limits, ..record.clone() };
        assert_ne!(other.signer(NETWORK), Ok(key().address()));
        let mut signature = record.signature;
        signature.0[64] = 0;
        let unsigned = Record { signature, ..record };
        assert_eq!(unsigned.signer(NETWORK), Err(InvalidSignature::RecoveryId { v: 0 }));
    }
}

#[test]
fn each_byte_of_a_body_is_signed() {
    for body in bodies() {
        let bytes = alloy_rlp::encode(&body);
        let digest = Record::digest(NETWORK, CHAIN, &body);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Ok(other) = decoded(&changed) {
                assert_ne!(Record::digest(NETWORK, CHAIN, &other), digest, "byte {at}");
            }
        }
    }
}

#[test]
fn skipped_items_hold_at_the_limit() {
    let of = |count| decoded(&alloy_rlp::encode(RecordBody::Sealed(sealed(count)))).is_ok();
    assert!(of(RECORD_SKIPPED_MAX));
    assert!(!of(RECORD_SKIPPED_MAX + 1));
}

#[test]
fn unknown_bytes_are_refused() {
    let limits = Limits { tx_bytes: 1, block_bytes: 2, set_at_ms: UnixMillis(3) };
    for (kind, is_known) in [(0u8, false), (1, false), (2, true), (3, false), (4, false)] {
        let mut bytes = Vec::new();
        encode_list(&[&kind, &limits], &mut bytes);
        assert_eq!(decoded(&bytes).is_ok(), is_known, "kind {kind}");
    }
    let mut longer = Vec::new();
    encode_list(&[&2u8, &limits, &1u8], &mut longer);
    assert!(decoded(&longer).is_err());
    for byte in [0x80, 3, 9] {
        assert!(SealMode::decode(&mut [byte].as_slice()).is_err());
    }
    for byte in [0x80, 5, 9] {
        assert!(SkipReason::decode(&mut [byte].as_slice()).is_err());
    }
    assert_eq!(SkipReason::decode(&mut [3].as_slice()), Ok(SkipReason::TooLarge));
    assert_eq!(SkipReason::decode(&mut [4].as_slice()), Ok(SkipReason::OverLimit));
}
