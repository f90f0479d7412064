//! Records: submitted like any entry, found by chain and kind, shown by their slices.

use lockstep_core::record::{Cursor, Limits, RecordBody, SealMode, Sealed};
use lockstep_core::types::{ChainId, Height};
use lockstep_proto::convert::ingress::{Milestone, Wait};
use lockstep_proto::convert::log::{RECORD_HEIGHTS_MAX, RecordHeightsQuery, RecordKind};
use lockstep_proto::v1;
use lockstep_rpc::client::ClientError;
use lockstep_rpc::client::verified::{VerifyError, VerifyingLog};
use lockstep_rpc::node::{EntryState, ErrorCode};

use crate::network::{A, B, Lies, Node, entry, light_client, record};

fn sealed(number: u64) -> RecordBody {
    RecordBody::Sealed(Sealed {
        number,
        hash: [1; 32].into(),
        parent: [2; 32].into(),
        timestamp: number,
        mode: SealMode::Offered,
        cursor: Cursor::default(),
        skipped: Vec::new(),
    })
}

fn limits(tx_bytes: u64) -> RecordBody {
    RecordBody::Limits(Limits { tx_bytes, ..Limits::default() })
}

/// Height 1: a transaction and two `Sealed` of [`A`]. 2: nothing. 3: `Limits` of [`A`], `Sealed` of [`B`]. 4: `Sealed`
/// of [`A`].
async fn node() -> Node {
    let node = Node::start().await;
    let of = |chain: ChainId, body| record(node.log.network(), chain, body);
    node.log.decide(&[entry(A, b"first"), of(A, sealed(1)), of(A, sealed(2))]);
    node.log.decide(&[]);
    node.log.decide(&[of(A, limits(7)), of(B, sealed(1))]);
    node.log.decide(&[of(A, sealed(3))]);
    node
}

/// What a liar does to heights.
type Lie = fn(&mut Vec<u64>);

async fn verifying(node: &Node, record_heights: Lie) -> VerifyingLog {
    let lies = Lies { record_heights, ..Lies::NONE };
    VerifyingLog::new(node.liar(lies).await, light_client(&node.log))
}

#[tokio::test]
async fn a_record_is_submitted_as_an_entry_and_decided() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let entry = record(node.log.network(), A, sealed(9));
    let received = client.submit(&entry, None).await.unwrap();
    assert_eq!((received.status.id, received.is_known), (entry.id(), false));
    let height = node.ingress.decide();
    let wait = Some(Wait { milestone: Milestone::Decided, timeout_ms: 8_000 });
    let decided = client.submit(&entry, wait).await.unwrap();
    let EntryState::Decided(at) = decided.status.state else { panic!("not decided") };
    assert_eq!((at.height, decided.is_known), (height, true));
    let mut log = verifying(&node, |_| {}).await;
    let records = log.records(A, RecordKind::Sealed, None, 1).await.unwrap();
    assert_eq!(records[0].2.body, sealed(9));
}

#[tokio::test]
async fn heights_of_records_are_found_by_chain_and_kind() {
    let node = node().await;
    let mut log = node.log_client().await;
    let cases = [
        (A, RecordKind::Sealed, None, 256, &[4, 1][..]),
        (A, RecordKind::Sealed, None, 1, &[4]),
        (A, RecordKind::Sealed, Some(4), 256, &[1]),
        (A, RecordKind::Sealed, Some(u64::MAX), 256, &[4, 1]),
        (A, RecordKind::Sealed, Some(1), 256, &[]),
        (A, RecordKind::Limits, None, 256, &[3]),
        (A, RecordKind::Prepared, None, 256, &[]),
        (B, RecordKind::Sealed, None, 256, &[3]),
    ];
    for (chain, kind, before, count, expected) in cases {
        let before = before.map(Height);
        let query = RecordHeightsQuery { chain, kind, before, count };
        let heights = log.record_heights(query).await.unwrap();
        assert!(heights.iter().map(|height| height.0).eq(expected.iter().copied()), "{query:?}");
    }
}

#[tokio::test]
async fn records_come_newest_first_with_header_and_place() {
    let node = node().await;
    let mut log = verifying(&node, |_| {}).await;
    let records = log.records(A, RecordKind::Sealed, None, 9).await.unwrap();
    let shown: Vec<_> = records
        .iter()
        .map(|(header, place, record)| (header.height.0, *place, &record.body))
        .collect();
    let (one, two, three) = (sealed(1), sealed(2), sealed(3));
    assert_eq!(shown, [(4, 0, &three), (1, 2, &two), (1, 1, &one)]);
    assert_eq!(records[0].0, node.log.certified(Height(4)).header);
    let records = log.records(A, RecordKind::Sealed, Some(Height(4)), 9).await.unwrap();
    assert_eq!(records.len(), 2);
    let records = log.records(A, RecordKind::Prepared, None, 9).await.unwrap();
    assert_eq!(records, []);
}

#[tokio::test]
async fn a_height_without_such_a_record_is_a_lie() {
    let node = node().await;
    // Nothing of the chain; another kind alone; the other chain's.
    for (height, lie) in [
        (2, (|heights: &mut Vec<u64>| *heights = vec![4, 2]) as Lie),
        (3, |heights| heights.insert(1, 3)),
    ] {
        let mut log = verifying(&node, lie).await;
        let error = log.records(A, RecordKind::Sealed, None, 9).await.unwrap_err();
        let (kind, height) = (RecordKind::Sealed, Height(height));
        assert_eq!(error, VerifyError::NoRecord { chain: A, kind, height });
    }
    let mut log = verifying(&node, |heights| *heights = vec![4]).await;
    let error = log.records(B, RecordKind::Sealed, None, 9).await.unwrap_err();
    let (kind, height) = (RecordKind::Sealed, Height(4));
    assert_eq!(error, VerifyError::NoRecord { chain: B, kind, height });
}

#[tokio::test]
async fn an_answer_out_of_order_or_bounds_makes_no_sense() {
    let node = node().await;
    let lies: [Lie; 4] = [
        |heights| heights.reverse(),
        |heights| heights.insert(0, 4),
        |heights| heights.push(0),
        |heights| heights.extend([3, 2]),
    ];
    for lie in lies {
        let mut log = verifying(&node, lie).await;
        let error = log.records(A, RecordKind::Sealed, Some(Height(5)), 2).await.unwrap_err();
        assert!(matches!(error, VerifyError::Client(ClientError::Answer(_))), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_question_names_its_field() {
    let node = node().await;
    let mut log = v1::log_client::LogClient::new(node.channel().await);
    let good = v1::GetRecordHeightsRequest { chain_id: A.0, kind: 1, before_height: 0, count: 1 };
    for (request, field) in [
        (v1::GetRecordHeightsRequest { chain_id: 0, ..good }, "chain_id"),
        (v1::GetRecordHeightsRequest { kind: 0, ..good }, "kind"),
        (v1::GetRecordHeightsRequest { count: RECORD_HEIGHTS_MAX + 1, ..good }, "count"),
    ] {
        let error = ClientError::from(log.get_record_heights(request).await.unwrap_err());
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.field, field);
        assert!(matches!(refusal.code, ErrorCode::Missing | ErrorCode::OutOfRange), "{error}");
    }
}
