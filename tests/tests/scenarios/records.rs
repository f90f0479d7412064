//! A sequencer's records are ordered outside the chain's budget, found on every node, and nobody else's are taken.

use std::time::Duration;

use lockstep_core::limits::RECORDS_PER_CHAIN_MAX;
use lockstep_core::record::{Limits, RecordBody};
use lockstep_core::signing::SigningKey;
use lockstep_core::types::Height;
use lockstep_proto::convert::ingress::{EntryState, Milestone, Wait};
use lockstep_proto::convert::log::RecordKind;
use lockstep_proto::error::ErrorCode;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{OPAQUE, SEQUENCED, record, sequencer};

const ALL: [usize; 4] = [0, 1, 2, 3];
const PATIENCE: Duration = Duration::from_secs(20);

fn limits(tx_bytes: u64) -> RecordBody {
    RecordBody::Limits(Limits { tx_bytes, ..Limits::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_sequencer_are_ordered_and_found_and_nobody_elses() {
    let cluster = Cluster::of_four().await;
    let network = cluster.genesis.network_id();

    // Another key, and the right key for a chain that does not name it.
    let stranger = SigningKey::from_bytes([0x99; 32]).expect("a key");
    for (chain, key) in [(SEQUENCED, stranger), (OPAQUE, sequencer())] {
        let entry = record(network, chain, limits(1), &key);
        let refused = cluster.node(0).ingress().await.submit(&entry, None).await;
        let refused = refused.expect_err("not a sequencer of the chain");
        assert_eq!(refused.refusal().map(|refusal| refusal.code), Some(ErrorCode::NotAllowed));
        assert!(cluster.node(0).status(entry.id()).await.is_none(), "it is not tracked");
    }

    // More than one block takes: the rest comes in the next ones.
    let count = 3 * RECORDS_PER_CHAIN_MAX as u64;
    let key = sequencer();
    let entries: Vec<_> =
        (1..=count).map(|n| record(network, SEQUENCED, limits(n), &key)).collect();
    let mut ingress = cluster.node(0).ingress().await;
    for entry in &entries {
        ingress.submit(entry, None).await.expect("is accepted");
    }
    let mut last = Height(0);
    for entry in &entries {
        let wait = Some(Wait { milestone: Milestone::Decided, timeout_ms: 8_000 });
        let answer = ingress.submit(entry, wait).await.expect("is accepted");
        let EntryState::Decided(at) = answer.status.state else { panic!("{answer:?}") };
        last = last.max(at.height);
    }

    cluster.until_height(&ALL, last, PATIENCE).await;
    for index in ALL {
        let mut log = cluster.verified(index).await;
        let records = log.records(SEQUENCED, RecordKind::Limits, None, 256).await;
        let records = records.expect("are proved");
        assert_eq!(records.len() as u64, count);
        assert!(records.is_sorted_by(|a, b| (a.0.height, a.1) > (b.0.height, b.1)));
        for height in 1..=last.0 {
            let here = records.iter().filter(|(header, ..)| header.height.0 == height).count();
            assert!(here <= RECORDS_PER_CHAIN_MAX, "{here} at height {height}");
        }
        let none = log.records(SEQUENCED, RecordKind::Sealed, None, 256).await;
        assert_eq!(none.expect("there are none"), []);
    }
    cluster.assert_agreement(&ALL).await;
    cluster.assert_healthy(&ALL).await;
    cluster.finish().await;
}
