//! `kill -9` of each validator in turn under load: the others go on, it catches up, nobody signs twice, and what it had
//! stored is decided, in the order in which it was accepted.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_consensus::ledger::Ledger;
use lockstep_consensus::store::LogStore;
use lockstep_core::batch::Batch;
use lockstep_core::limits::LANE_AHEAD_BYTES_MAX;
use lockstep_core::types::{EntryId, Height};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::landed::{place, until_landed};
use lockstep_tests::load::{Accepted, Load, assert_order};
use lockstep_tests::wait::until;

const PATIENCE: Duration = Duration::from_secs(20);
/// An entry that was accepted so long before its node was killed is in a batch, which is stored: 25 ms on a free machine.
const STORED_AFTER: Duration = Duration::from_secs(1);
/// Entries accepted between two kills.
const ENTRIES: usize = 150;
const ALL: [usize; 4] = [0, 1, 2, 3];

/// A kill, and what the victim's disk held then.
struct Kill {
    victim: usize,
    at: Instant,
    /// Entries of its undecided batches.
    stored: BTreeSet<EntryId>,
}

impl Kill {
    /// Whether an entry may be gone with the victim's memory: it was accepted a moment before, and is in no batch.
    fn may_take(&self, id: &EntryId, accepted: &Accepted) -> bool {
        let before = self.at.saturating_duration_since(accepted.at);
        // What was answered before the kill may have been noted a moment after it.
        let is_before = accepted.at.saturating_duration_since(self.at) < STORED_AFTER / 2;
        accepted.node == self.victim
            && (is_before && before < STORED_AFTER)
            && !self.stored.contains(id)
    }
}

/// Entries of a stopped validator's undecided batches of its own lane. A copy of its store is opened, not the store.
fn stored(cluster: &Cluster, victim: usize) -> BTreeSet<EntryId> {
    let copy = tempfile::tempdir().expect("a directory");
    for file in fs::read_dir(cluster.node(victim).data().join("store")).expect("the store") {
        let file = file.expect("a file");
        fs::copy(file.path(), copy.path().join(file.file_name())).expect("a copy");
    }
    let store = LogStore::open(copy.path(), &cluster.genesis).expect("the store is whole");
    let ledger = Ledger::open(Arc::new(store)).expect("the store is whole");
    let state = ledger.state();
    let owner = cluster.address(victim);
    let lane = state.committed.lanes.iter().find(|lane| lane.owner == owner).expect("its lane");
    let batches = ledger.store().batches_after(lane, LANE_AHEAD_BYTES_MAX).expect("the batches");
    let entries = batches.into_iter().flat_map(|raw| {
        let batch = Batch::decode(state.network_id, raw).expect("an own batch");
        batch.entries().iter().map(|entry| entry.id()).collect::<Vec<_>>()
    });
    entries.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_validator_is_killed_under_load_and_catches_up() {
    let mut cluster = Cluster::of_four().await;
    let load = Load::start(cluster.nodes.iter());
    let mut kills: Vec<Kill> = Vec::new();
    for victim in ALL {
        let before = load.accepted();
        until("the load is accepted", PATIENCE, async || {
            (load.accepted() >= before + ENTRIES).then_some(())
        })
        .await;
        cluster.node_mut(victim).kill().await;
        let at = Instant::now();
        kills.push(Kill { victim, at, stored: stored(&cluster, victim) });
        let others: Vec<usize> = ALL.into_iter().filter(|index| *index != victim).collect();
        cluster.until_more(&others, 5, PATIENCE).await;
        cluster.assert_no_evidence(&others).await;

        cluster.start(&[victim]).await;
        let ahead = cluster.until_more(&others, 5, PATIENCE).await;
        cluster.until_height(&[victim], ahead, PATIENCE).await;
        cluster.assert_agreement(&ALL).await;
    }
    let accepted = load.stop().await;
    let may_be_lost = |id: &EntryId| kills.iter().any(|kill| kill.may_take(id, &accepted[id]));
    let (lost, kept): (Vec<EntryId>, _) = accepted.keys().copied().partition(may_be_lost);
    assert!(kept.len() >= 4 * ENTRIES);
    let mut places = until_landed(&cluster.nodes, &kept, PATIENCE).await;

    // Nothing is under way any more: what was lost is nowhere, and what was not is everywhere.
    cluster.until_more(&ALL, 3, PATIENCE).await;
    for id in lost {
        let mut told = BTreeSet::new();
        for node in &cluster.nodes {
            told.insert(place(&mut node.ingress().await, id).await);
        }
        assert_eq!(told.len(), 1, "nodes disagree on {id}: {told:?}");
        places.extend(told.pop_first().flatten().map(|place| (id, place)));
    }
    println!("{} of {} accepted entries are decided", places.len(), accepted.len());
    assert_order(&accepted, &places);
    assert!(cluster.assert_agreement(&ALL).await >= Height(40));
    cluster.assert_no_evidence(&ALL).await;
    cluster.assert_healthy(&ALL).await;
    cluster.finish().await;
}
