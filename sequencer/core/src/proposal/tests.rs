//! Values there and back, and every bound of decoding.

use alloy_rlp::Encodable;
use proptest::prelude::*;

use super::*;
use crate::block::fixtures::*;
use crate::block::{build_header, verify};
use crate::cut::LanePosition;
use crate::encoding::VERSION;
use crate::types::Round;

fn value(batches: Vec<Bytes>) -> SyncedValue {
    let net = Net::new(2);
    let (cut, _) = net.cut(&[]);
    let assembly = net.try_assemble(FIRST, &cut, &[]).unwrap();
    let header = build_header(&net.state, Round(0), FIRST, &cut, &assembly);
    SyncedValue { header, cut, batches }
}

fn zeros(count: usize, size: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![0; size]); count]
}

#[test]
fn value_with_its_batches_survives_the_way_and_verifies() {
    let net = Net::new(2);
    let (cut, batches) = net.cut(&[vec![vec![tx(A, 1, 10)]], vec![vec![tx(B, 2, 10)]]]);
    let assembly = net.try_assemble(FIRST, &cut, &batches).unwrap();
    let header = build_header(&net.state, Round(0), FIRST, &cut, &assembly);
    let raw: Vec<_> = batches.iter().map(|batch| batch.raw().clone()).collect();
    let payload = Payload { header, cut, batches: raw };
    assert_eq!(Payload::decode(&payload.encode()), Ok(payload.clone()));
    let Payload { header, cut, batches } = payload;
    let synced = SyncedValue { header, cut, batches };
    let SyncedValue { header, cut, batches } = SyncedValue::decode(&synced.encode()).unwrap();
    let batches: Vec<_> = batches
        .into_iter()
        .map(|raw| crate::batch::Batch::decode(net.state.network_id, raw).unwrap().check().unwrap())
        .collect();
    assert_eq!(verify(&net.state, &net.dedup, &header, &cut, &batches), Ok(assembly));
}

#[test]
fn batches_are_slices_of_the_value() {
    let raw = value(zeros(2, 100)).encode();
    let decoded = SyncedValue::decode(&raw).unwrap();
    for batch in decoded.batches {
        assert!(raw.as_ptr_range().contains(&batch.as_ptr()));
    }
}

#[test]
fn odd_batches_keep_their_bytes() {
    for bytes in [&[][..], &[0], &[0x7f], &[0x80], &[1; 55], &[1; 56], &[1; 300]] {
        let value = value(vec![Bytes::copy_from_slice(bytes)]);
        assert_eq!(SyncedValue::decode(&value.encode()), Ok(value));
    }
}

#[test]
fn too_many_or_too_large_batches_are_refused_just_above_the_limits() {
    let cases = [
        (zeros(CUT_BATCHES_MAX, 100), None),
        (zeros(CUT_BATCHES_MAX + 1, 100), Some(InvalidValue::Batches)),
        (zeros(1, BATCH_BYTES_MAX), None),
        (
            zeros(2, BATCH_BYTES_MAX + 1),
            Some(InvalidValue::Batch { index: 0, count: BATCH_BYTES_MAX + 1 }),
        ),
        (zeros(8, BATCH_BYTES_MAX), None),
        (
            [zeros(8, BATCH_BYTES_MAX), zeros(1, 1)].concat(),
            Some(InvalidValue::Bytes { count: CUT_BYTES_MAX + 1 }),
        ),
    ];
    for (batches, error) in cases {
        let (count, size) = (batches.len(), batches[0].len());
        let value = value(batches);
        let expected = error.map_or(Ok(value.clone()), Err);
        assert_eq!(SyncedValue::decode(&value.encode()), expected, "{count} of {size} bytes");
    }
}

#[test]
fn greatest_valid_value_is_within_the_limit() {
    let mut value = value(zeros(CUT_BATCHES_MAX, CUT_BYTES_MAX / CUT_BATCHES_MAX));
    let lane = LanePosition {
        owner: key(1).address(),
        incarnation: crate::types::Incarnation(u64::MAX),
        sequence: crate::types::Sequence(u64::MAX),
        digest: crate::types::BatchDigest(alloy_primitives::B256::repeat_byte(0xff)),
    };
    value.cut.lanes = vec![lane; VALIDATORS_MAX];
    value.header.height.0 = u64::MAX;
    value.header.timestamp_ms.0 = u64::MAX;
    assert!(value.encode().len() <= SYNCED_VALUE_BYTES_MAX);
    assert_eq!(SyncedValue::decode(&value.encode()), Ok(value.clone()));
    value.cut.lanes.push(lane);
    let expected = InvalidValue::Lanes { count: VALIDATORS_MAX + 1 };
    assert_eq!(SyncedValue::decode(&value.encode()), Err(expected));
}

#[test]
fn bytes_that_are_no_value_are_refused() {
    let good = value(zeros(1, 10)).encode();
    let decode = |bytes: Vec<u8>| SyncedValue::decode(&bytes.into()).unwrap_err();
    assert_eq!(decode(Vec::new()), InvalidValue::Version);
    let mut wrong = good.to_vec();
    wrong[0] = VERSION + 1;
    assert_eq!(decode(wrong), InvalidValue::Version);
    let count = SYNCED_VALUE_BYTES_MAX + 1;
    assert_eq!(decode(vec![VERSION; count]), InvalidValue::TooLarge { count });
    for cut in 1..good.len() {
        let error = decode(good[..cut].to_vec());
        assert!(matches!(error, InvalidValue::Encoding(_)), "{cut} bytes: {error}");
    }
    let longer = [&good[..], &[0]].concat();
    assert!(matches!(decode(longer), InvalidValue::Encoding(_)));
    let mut items = Vec::new();
    let SyncedValue { header, cut, batches } = value(Vec::new());
    let extra = 1u8;
    items.push(VERSION);
    encode_list(&[&header, &cut, &batches, &extra], &mut items);
    assert!(matches!(decode(items), InvalidValue::Encoding(_)));
}

#[test]
fn batches_that_are_lists_are_refused() {
    let SyncedValue { header, cut, .. } = value(Vec::new());
    let mut bytes = vec![VERSION];
    let batches: Vec<Vec<u64>> = vec![vec![1]];
    encode_list(&[&header, &cut, &batches], &mut bytes);
    assert!(batches.length() > 1);
    assert!(matches!(Payload::decode(&bytes.into()), Err(InvalidValue::Encoding(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn value_decodes_to_what_was_encoded(
        batches in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
    ) {
        let value = value(batches.into_iter().map(Bytes::from).collect());
        prop_assert_eq!(SyncedValue::decode(&value.encode()), Ok(value));
    }

    #[test]
    fn damaged_value_is_refused_or_encodes_to_the_same_bytes(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = value(zeros(3, 60)).encode().to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let raw = Bytes::from(bytes);
        if let Ok(value) = Payload::decode(&raw) {
            prop_assert_eq!(value.encode(), raw);
        }
    }
}
