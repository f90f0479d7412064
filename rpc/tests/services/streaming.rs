//! The stream of submissions: answers in order, faults in their places, quotas in the middle.

use lockstep_core::entry::Entry;
use lockstep_proto::convert::ingress::SUBMISSIONS_MAX;
use lockstep_proto::v1;
use lockstep_rpc::config::ServerConfig;
use lockstep_rpc::node::ErrorCode;
use lockstep_rpc::quota::QuotaConfig;

use crate::network::{A, NONE, Node, bundle, entry};

fn raw(bytes: &[u8]) -> v1::Submission {
    let body = Some(v1::submission::Body::Entry(bytes.to_vec().into()));
    v1::Submission { body, ..v1::Submission::default() }
}

#[tokio::test]
async fn a_fault_in_the_middle_is_an_answer_in_its_place() {
    let node = Node::start().await;
    let (mut sender, mut receiver) = node.ingress_client().await.open_stream().await.unwrap();
    let (first, last) = (entry(A, b"first"), entry(A, b"last"));
    let submissions = vec![
        raw(first.raw()),
        raw(b"nonsense"),
        v1::Submission::default(),
        raw(entry(NONE, b"x").raw()),
        raw(last.raw()),
        raw(first.raw()),
    ];
    let sequence = sender.send_submissions(submissions).await.unwrap();
    let (answered, results) = receiver.next().await.unwrap().unwrap();
    assert_eq!((answered, results.len()), (sequence, 6));
    let accepted = |place: usize| *results[place].as_ref().unwrap();
    assert_eq!((accepted(0).id, accepted(0).is_known), (first.id(), false));
    assert_eq!((accepted(4).id, accepted(4).is_known), (last.id(), false));
    assert_eq!((accepted(5).id, accepted(5).is_known), (first.id(), true));
    let codes: Vec<_> =
        results[1..4].iter().map(|result| result.as_ref().unwrap_err().code).collect();
    assert_eq!(codes, [ErrorCode::InvalidEntry, ErrorCode::Missing, ErrorCode::UnknownChain]);
    assert_eq!(node.ingress.pending(), [first.id(), last.id()]);

    let next = sender.send(&[entry(A, b"next")]).await.unwrap();
    let (answered, results) = receiver.next().await.unwrap().unwrap();
    assert_eq!(answered, next, "the stream goes on");
    assert!(results[0].is_ok());
    drop(sender);
    assert_eq!(receiver.next().await, Ok(None));
}

#[tokio::test]
async fn all_forms_go_into_a_stream() {
    let node = Node::start().await;
    let (mut sender, mut receiver) = node.ingress_client().await.open_stream().await.unwrap();
    let transaction =
        v1::submission::Body::Transaction((&crate::network::transaction(A, b"structured")).into());
    let bundle = v1::submission::Body::Bundle((&bundle(b"y")).into());
    let submissions = [transaction, bundle]
        .map(|body| v1::Submission { body: Some(body), ..v1::Submission::default() });
    sender.send_submissions(submissions.to_vec()).await.unwrap();
    let (_, results) = receiver.next().await.unwrap().unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(node.ingress.pending().len(), 2);
}

#[tokio::test]
async fn many_messages_are_answered_in_order() {
    let node = Node::start().await;
    let (mut sender, mut receiver) = node.ingress_client().await.open_stream().await.unwrap();
    let sending = tokio::spawn(async move {
        for n in 0..50u32 {
            let entries: Vec<Entry> =
                (0..20u32).map(|k| entry(A, &(n * 100 + k).to_be_bytes())).collect();
            assert_eq!(sender.send(&entries).await.unwrap(), u64::from(n));
        }
    });
    for n in 0..50 {
        let (sequence, results) = receiver.next().await.unwrap().unwrap();
        assert_eq!((sequence, results.len()), (n, 20));
        assert!(results.iter().all(Result::is_ok));
    }
    sending.await.unwrap();
    assert_eq!(receiver.next().await, Ok(None));
    assert_eq!(node.ingress.pending().len(), 1_000);
}

#[tokio::test]
async fn a_message_of_too_many_submissions_is_refused_and_the_stream_goes_on() {
    let node = Node::start().await;
    let (mut sender, mut receiver) = node.ingress_client().await.open_stream().await.unwrap();
    for count in [0, SUBMISSIONS_MAX + 1] {
        sender.send_submissions(vec![v1::Submission::default(); count]).await.unwrap();
        let (_, results) = receiver.next().await.unwrap().unwrap();
        let refusal = results[0].as_ref().unwrap_err();
        assert_eq!((results.len(), refusal.field.as_str()), (1, "submissions"));
        assert_eq!(refusal.code, ErrorCode::OutOfRange);
    }
    sender.send(&[entry(A, b"x")]).await.unwrap();
    assert!(receiver.next().await.unwrap().unwrap().1[0].is_ok());
}

#[tokio::test]
async fn a_quota_refuses_the_rest_and_not_the_stream() {
    let quota = QuotaConfig { submissions_per_second: 2, ..QuotaConfig::default() };
    let node = Node::with(ServerConfig { quota, ..ServerConfig::default() }).await;
    let (mut sender, mut receiver) = node.ingress_client().await.open_stream().await.unwrap();
    let entries: Vec<Entry> = (0..9u8).map(|n| entry(A, &[n])).collect();
    sender.send(&entries).await.unwrap();
    let (_, results) = receiver.next().await.unwrap().unwrap();
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(accepted, 4, "two seconds' worth");
    let refusal = results[8].as_ref().unwrap_err();
    assert_eq!(refusal.code, ErrorCode::OverQuota);
    assert!(refusal.retry_after_ms.is_some_and(|ms| (1..=500).contains(&ms)));
    sender.send(&[entry(A, b"again")]).await.unwrap();
    assert!(receiver.next().await.unwrap().is_some(), "the stream goes on");
}

/// Another connection of the same client has no quota of its own.
#[tokio::test]
async fn a_quota_is_the_clients_and_not_the_connections() {
    let quota = QuotaConfig { submissions_per_second: 1, ..QuotaConfig::default() };
    let node = Node::with(ServerConfig { quota, ..ServerConfig::default() }).await;
    let mut refused = 0;
    for n in 0..5u8 {
        let mut client = node.ingress_client().await;
        refused += usize::from(client.submit(&entry(A, &[n]), None).await.is_err());
    }
    assert_eq!(refused, 3);
}
