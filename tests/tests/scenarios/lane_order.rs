//! Entries of one account, sent to one validator for a chain that is over its budget, are decided in the order in which they
//! were sent: over many blocks, and over a `kill -9` of that validator.

use std::time::Duration;

use lockstep_core::entry::Entry;
use lockstep_core::types::EntryId;
use lockstep_rpc::client::ClientError;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{expires_in, tight};
use lockstep_tests::landed::{Place, place, until_landed};
use lockstep_tests::wait::until;

const PATIENCE: Duration = Duration::from_secs(40);
const ALL: [usize; 4] = [0, 1, 2, 3];
const OWNER: usize = 1;
const EXPIRES_MS: u64 = 55_000;
/// Entries of the account. Every third is large: where it has no room, the next would.
const ACCOUNT: u32 = 60;
const LARGE: usize = 9_000;
const SMALL: usize = 500;
/// Time between two of them, so that new ones come while others wait, are under way, and come back.
const INTERVAL: Duration = Duration::from_millis(20);
/// Of each other validator. The bucket holds 288 KiB, so with these it is as good as empty.
const OTHERS_BYTES: usize = 90_000;

/// Submits an entry, again if the node asks to wait.
async fn submit(cluster: &Cluster, index: usize, entry: &Entry) {
    let mut ingress = cluster.node(index).ingress().await;
    until("it is accepted", PATIENCE, async || match ingress.submit(entry, None).await {
        Ok(_) => Some(()),
        Err(ClientError::Refused(refusal)) if refusal.retry_after_ms.is_some() => None,
        Err(error) => panic!("{error}"),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_one_account_are_decided_in_order_over_budget_and_over_a_kill() {
    let mut cluster = Cluster::of_four().await;
    let expires = expires_in(EXPIRES_MS);
    let bytes = |number| if number % 3 == 0 { LARGE } else { SMALL };
    let account: Vec<Entry> =
        (0..ACCOUNT).map(|number| tight(number, bytes(number), expires)).collect();
    for (number, index) in (1_000..).zip([0, 2, 3]) {
        submit(&cluster, index, &tight(number, OTHERS_BYTES, expires)).await;
    }
    let mut ticks = tokio::time::interval(INTERVAL);
    for entry in &account {
        ticks.tick().await;
        submit(&cluster, OWNER, entry).await;
    }
    // Some are decided and most are not.
    let third = account[account.len() / 3].id();
    let mut client = cluster.node(OWNER).ingress().await;
    until("a third is decided", PATIENCE, async || place(&mut client, third).await.map(drop)).await;
    cluster.node_mut(OWNER).kill().await;
    let last = account.last().expect("there are some").id();
    let before = place(&mut cluster.node(0).ingress().await, last).await;
    assert_eq!(before, None, "nothing waited when it was killed, or the last has overtaken others");
    cluster.start(&[OWNER]).await;

    // Its memory is gone. The account sends all again, as it must: what the node has stored, or the log has, it knows.
    for entry in &account {
        submit(&cluster, OWNER, entry).await;
    }
    let ids: Vec<EntryId> = account.iter().map(Entry::id).collect();
    let places = until_landed(&cluster.nodes, &ids, PATIENCE).await;
    let in_order: Vec<Place> = ids.iter().map(|id| places[id]).collect();
    assert!(in_order.is_sorted(), "{in_order:?}");
    let heights = in_order.chunk_by(|a, b| a.0 == b.0).count();
    assert!(heights > 5, "{heights} blocks took all: nothing waited");
    cluster.assert_agreement(&ALL).await;
    cluster.assert_no_evidence(&ALL).await;
    cluster.assert_healthy(&ALL).await;
    cluster.finish().await;
}
