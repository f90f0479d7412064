//! A peer with a key that no validator has, and a validator of another network, are refused on the mesh.

use std::time::Duration;

use lockstep_consensus::mesh::keypair_from_seed;
use lockstep_core::types::NetworkId;
use lockstep_node::keys::{NETWORK_KEY, read_network_key};
use lockstep_tests::attacker::join;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::wait::{during, until};

/// Several dials, each refused.
const TIME: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stranger_and_validator_of_another_network_are_refused() {
    let mut cluster = Cluster::prepare(4).await;
    let others = [1, 2, 3];
    cluster.start(&others).await;
    cluster.until_more(&others, 3, PATIENCE).await;
    let port = cluster.node(0).ports.mesh;
    let keypair = read_network_key(&cluster.keys(0).join(NETWORK_KEY)).expect("a key");
    let network = cluster.genesis.network_id();

    let unknown = join(&cluster.genesis, network, &keypair_from_seed([7; 32]), port).await;
    during("a stranger is refused", TIME, async || unknown.handle.peers_up().is_empty()).await;
    unknown.running.shutdown().await;

    let foreign = join(&cluster.genesis, NetworkId::ZERO, &keypair, port).await;
    during("another network's is refused", TIME, async || foreign.handle.peers_up().is_empty())
        .await;
    foreign.running.shutdown().await;

    // The same key in the right network is let in, so it was not the harness.
    let known = join(&cluster.genesis, network, &keypair, port).await;
    until("a validator is let in", PATIENCE, async || {
        (known.handle.peers_up().len() == 3).then_some(())
    })
    .await;
    known.running.shutdown().await;

    cluster.until_more(&others, 3, PATIENCE).await;
    cluster.assert_agreement(&others).await;
    cluster.finish().await;
}
