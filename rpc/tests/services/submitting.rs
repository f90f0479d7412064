//! Submit calls: accepted once, refused with code, field, reason and advice, and waited for.

use std::time::Duration;

use lockstep_core::entry::{Body, Entry};
use lockstep_core::signing::Signature;
use lockstep_core::types::UnixMillis;
use lockstep_proto::convert::ingress::{Milestone, Wait};
use lockstep_proto::v1;
use lockstep_proto::v1::ingress_client::IngressClient as RawClient;
use lockstep_rpc::client::ClientError;
use lockstep_rpc::config::ServerConfig;
use lockstep_rpc::node::{DropReason, Dropped, EntryState, ErrorCode, Refusal};
use lockstep_rpc::quota::QuotaConfig;
use tonic::Code;

use crate::network::{A, EVM, NONE, Node, bundle, entry, now, transaction};

fn wait(milestone: Milestone, timeout_ms: u64) -> Option<Wait> {
    Some(Wait { milestone, timeout_ms })
}

fn refusal(error: ClientError) -> Refusal {
    error.refusal().unwrap_or_else(|| panic!("not a refusal: {error}")).clone()
}

#[tokio::test]
async fn the_same_entry_in_every_form_is_one_submission() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let first = client.submit(&entry(A, b"one"), None).await.unwrap();
    assert!(!first.is_known && first.is_reached);
    assert_eq!(first.status.state, EntryState::Received);
    let again = client.submit(&entry(A, b"one"), None).await.unwrap();
    let structured = client.submit_transaction(&transaction(A, b"one"), (None, None), None).await;
    for second in [again, structured.unwrap()] {
        assert!(second.is_known);
        assert_eq!(second.status, first.status);
    }
    assert_eq!(node.ingress.pending(), [first.status.id]);
    node.ingress.decide();
    let decided = client.submit(&entry(A, b"one"), None).await.unwrap();
    assert!(decided.is_known);
    assert!(matches!(decided.status.state, EntryState::Decided(_)), "a duplicate is that decision");
}

#[tokio::test]
async fn a_bundle_is_decided_at_one_index_with_its_certificate() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let loose = client.submit(&entry(A, b"first"), None).await.unwrap();
    let submitted =
        client.submit_bundle(&bundle(b"x"), (Some(now().plus(9_000)), None), None).await;
    let id = submitted.unwrap().status.id;
    assert_ne!(id, loose.status.id);
    let height = node.ingress.decide();
    let submitted = client
        .submit_bundle(&bundle(b"x"), (None, None), wait(Milestone::Decided, 1))
        .await
        .unwrap();
    assert!(submitted.is_reached);
    let EntryState::Decided(decided) = submitted.status.state else { panic!("not decided") };
    let certified = node.log.certified(height);
    assert_eq!((decided.height, decided.index), (height, 1));
    assert_eq!(decided.block, certified.header.hash());
    assert_eq!(*decided.certificate, certified.certificate);
}

#[tokio::test]
async fn a_call_waits_for_the_decision() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let call = tokio::spawn(async move {
        client.submit(&entry(A, b"wait"), wait(Milestone::Decided, 8_000)).await
    });
    while node.ingress.pending().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    node.ingress.decide();
    let submitted = call.await.unwrap().unwrap();
    assert!(submitted.is_reached && matches!(submitted.status.state, EntryState::Decided(_)));
}

#[tokio::test]
async fn a_wait_that_is_over_answers_with_the_state_by_then() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let late = client.submit(&entry(A, b"late"), wait(Milestone::Decided, 20)).await.unwrap();
    assert!(!late.is_reached);
    assert_eq!(late.status.state, EntryState::Received);
    let received = client.submit(&entry(A, b"late"), wait(Milestone::Received, 20)).await.unwrap();
    assert!(received.is_reached && received.is_known);
    let dropped = Dropped { reason: DropReason::Expired, detail: "too late".to_owned() };
    node.ingress.drop_all(&dropped);
    let gone = client.submit(&entry(A, b"late"), wait(Milestone::Decided, 8_000)).await.unwrap();
    assert!(!gone.is_reached, "a dropped entry is not waited for");
    assert_eq!(gone.status.state, EntryState::Dropped(dropped));
}

#[tokio::test]
async fn a_watch_that_the_node_ends_does_not_end_the_wait_badly() {
    let node = Node::start().await;
    let mut client = node.ingress_client().await;
    let call = tokio::spawn(async move {
        client.submit(&entry(A, b"x"), wait(Milestone::Decided, 8_000)).await
    });
    while node.ingress.pending().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.ingress.forget();
    let submitted = call.await.unwrap().unwrap();
    assert!(!submitted.is_reached);
    assert_eq!(submitted.status.state, EntryState::Received);
}

/// Every refusal of a submit call: gRPC code, our code, field; reason and advice are there.
#[tokio::test]
async fn each_refusal_has_code_field_reason_and_action() {
    let node = Node::start().await;
    let mut client = RawClient::new(node.channel().await);
    let good = || v1::SubmitTransactionRequest {
        transaction: Some((&transaction(A, b"x")).into()),
        ..Default::default()
    };
    let with = |spoil: fn(&mut v1::Transaction)| {
        let mut request = good();
        spoil(request.transaction.as_mut().unwrap());
        request
    };
    let evm = v1::ChainKind::Evm;
    let cases = [
        (v1::SubmitTransactionRequest::default(), ErrorCode::Missing, "transaction"),
        (with(|t| t.chain_id = 0), ErrorCode::Missing, "transaction.chain_id"),
        (with(|t| t.kind = 9), ErrorCode::OutOfRange, "transaction.kind"),
        (with(|t| t.chain_id = NONE.0), ErrorCode::UnknownChain, "transaction"),
        (
            v1::SubmitTransactionRequest {
                transaction: Some(v1::Transaction {
                    chain_id: EVM.0,
                    kind: evm.into(),
                    raw: vec![0x02, 0xc0].into(),
                }),
                ..Default::default()
            },
            ErrorCode::InvalidTransaction,
            "transaction",
        ),
        (
            v1::SubmitTransactionRequest { gateway_signature: vec![0; 65].into(), ..good() },
            ErrorCode::InvalidSignature,
            "gateway_signature",
        ),
    ];
    for (request, code, field) in cases {
        let status = client.submit_transaction(request).await.unwrap_err();
        let refusal = Refusal::from_status(&status);
        assert_eq!((refusal.code, refusal.field.as_str()), (code, field), "{status}");
        assert_eq!(status.code(), code.status());
        assert!(!refusal.reason.is_empty() && !refusal.action.is_empty());
        assert_eq!(refusal.retry_after_ms, None);
    }
    assert!(node.ingress.pending().is_empty());
}

#[tokio::test]
async fn raw_bytes_that_are_no_entry_are_refused() {
    let node = Node::start().await;
    let mut client = RawClient::new(node.channel().await);
    let request = v1::SubmitEntryRequest { entry: vec![0xc0].into(), wait: None };
    let status = client.submit_entry(request).await.unwrap_err();
    let refusal = Refusal::from_status(&status);
    assert_eq!((refusal.code, refusal.field.as_str()), (ErrorCode::InvalidEntry, "entry"));
    let broken = Entry::new(
        Body::Transaction(transaction(A, b"x")),
        UnixMillis(1),
        Some(Signature([1; 65])),
    );
    let mut client = node.ingress_client().await;
    let refused = refusal_of(client.submit(&broken.unwrap(), None).await);
    assert_eq!((refused.code, refused.field.as_str()), (ErrorCode::InvalidSignature, "entry"));
}

fn refusal_of<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Refusal {
    refusal(result.unwrap_err())
}

#[tokio::test]
async fn who_is_over_quota_is_told_when_to_come_back() {
    let quota = QuotaConfig { submissions_per_second: 5, ..QuotaConfig::default() };
    let node = Node::with(ServerConfig { quota, ..ServerConfig::default() }).await;
    let mut client = node.ingress_client().await;
    for n in 0..10u8 {
        client.submit(&entry(A, &[n]), None).await.unwrap();
    }
    let refused = refusal_of(client.submit(&entry(A, b"more"), None).await);
    assert_eq!(refused.code, ErrorCode::OverQuota);
    assert_eq!(refused.code.status(), Code::ResourceExhausted);
    let hint = refused.retry_after_ms.expect("a hint");
    assert!((1..=200).contains(&hint), "{hint}");
    tokio::time::sleep(Duration::from_millis(hint + 5)).await;
    client.submit(&entry(A, b"more"), None).await.unwrap();
}
