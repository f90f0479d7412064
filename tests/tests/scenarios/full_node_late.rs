//! A full node that joins late: endpoints that lie are left, it catches up, and what it serves is verified.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_core::certificate::Certificate;
use lockstep_core::encoding::Canonical as _;
use lockstep_core::types::Height;
use lockstep_proto::convert::ingress::{EntryState, Milestone, Wait};
use lockstep_proto::error::ErrorCode;
use lockstep_proto::v1;
use lockstep_rpc::client::Endpoint;
use lockstep_test_log::{Lies, liar};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{EVM_A, OPAQUE, opaque};
use lockstep_tests::load::Load;
use lockstep_tests::wait::until;
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(30);
/// The liars tell the truth below this height.
const HONEST_BELOW: u64 = 5;

type Lie = fn(&mut v1::FullBlock);

/// Serves a liar over a real node for as long as the test's runtime lives; its endpoint.
async fn serve(real: &str, full_block: Lie) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let at = listener.local_addr().expect("is bound");
    let real = Endpoint::new(real).connect().await.expect("it serves");
    let lies = Lies { full_block, ..Lies::NONE };
    tokio::spawn(liar::serve(listener, real, Arc::new(()), lies));
    format!("http://{at}")
}

fn other_bytes(block: &mut v1::FullBlock) {
    if block.height < HONEST_BELOW {
        return;
    }
    let mut bytes = block.synced_value.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    block.synced_value = Bytes::from(bytes);
}

fn change_certificate(block: &mut v1::FullBlock, change: impl FnOnce(&mut Certificate)) {
    let mut certificate = Certificate::from_canonical(&block.certificate).expect("a certificate");
    change(&mut certificate);
    block.certificate = certificate.to_canonical().into();
}

fn fewer_signatures(block: &mut v1::FullBlock) {
    if block.height < HONEST_BELOW {
        return;
    }
    change_certificate(block, |certificate| certificate.signatures.truncate(2));
}

fn other_signature(block: &mut v1::FullBlock) {
    if block.height < HONEST_BELOW {
        return;
    }
    change_certificate(block, |certificate| {
        let other = certificate.signatures[1].signature;
        certificate.signatures[0].signature = other;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_node_that_joins_late_leaves_liars_and_catches_up() {
    let mut cluster = Cluster::of_four().await;
    let all = [0, 1, 2, 3];
    let load = Load::start(cluster.nodes.iter());
    cluster.until_height(&all, Height(20), PATIENCE).await;

    let real = cluster.node(1).endpoint();
    let mut endpoints = Vec::new();
    for lie in [other_bytes as Lie, fewer_signatures, other_signature] {
        endpoints.push(serve(&real, lie).await);
    }
    let liars = endpoints.clone();
    endpoints.push(real);
    let full = cluster.add_full_node(endpoints);
    cluster.start(&[full]).await;

    let height = cluster.until_more(&all, 5, PATIENCE).await;
    cluster.node(full).until_height(height, PATIENCE).await;
    let log = cluster.node(full).log();
    for liar in liars {
        let is_left = |line: &str| line.contains(&liar) && line.contains("it lied");
        assert!(log.lines().any(is_left), "{liar} was not left for its lie:\n{log}");
    }
    assert!(cluster.assert_agreement(&[0, 1, 2, 3, full]).await >= height);
    drop(load.stop().await);

    // What it serves is verified from the genesis, and is what the validators decided.
    let entry = opaque("for the full node");
    let wait = Some(Wait { milestone: Milestone::Decided, timeout_ms: 8_000 });
    let answer = cluster.node(2).ingress().await.submit(&entry, wait).await.expect("is accepted");
    let EntryState::Decided(decided) = answer.status.state else { panic!("{answer:?}") };
    cluster.node(full).until_height(decided.height, PATIENCE).await;
    let mut verified = cluster.verified(full).await;
    let (_, slice) = verified.slice(OPAQUE, decided.height).await.expect("is proved");
    let slice = slice.expect("has a slice");
    assert!(slice.items.iter().any(|item| item.index == decided.index), "{slice:?}");
    let to = decided.height;
    let here = verified.range(EVM_A, Height(1), to).await.expect("is proved");
    let there = cluster.verified(3).await.range(EVM_A, Height(1), to).await.expect("is proved");
    assert_eq!(here, there);
    let status = cluster.node(full).status(entry.id()).await;
    let Some(EntryState::Decided(here)) = status else { panic!("{status:?}") };
    // Each node keeps the certificate that it saw; any quorum's is one.
    assert_eq!(
        (here.height, here.index, here.block),
        (decided.height, decided.index, decided.block)
    );
    assert_eq!(here.certificate.block, decided.block);

    // It takes nothing.
    let refused = cluster.node(full).ingress().await.submit(&opaque("refused"), None).await;
    let refused = refused.expect_err("a full node takes no entries");
    assert_eq!(refused.refusal().map(|refusal| refusal.code), Some(ErrorCode::NotReady));
    until("the full node is ready", PATIENCE, async || {
        (cluster.node(full).get("/readyz").await.status == 200).then_some(())
    })
    .await;
    cluster.finish().await;
}
