//! A validator that lies on its lane and sends garbage: the other three go on, agree, and decide nothing that is bad.

use std::time::Duration;

use alloy_primitives::B256;
use libp2p::PeerId;
use lockstep_consensus::lanes::wire::LaneMessage;
use lockstep_consensus::mesh::class::Class;
use lockstep_core::batch::{Acknowledged, Acknowledgement, Batch};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::ChainKind;
use lockstep_core::types::{BatchDigest, Incarnation, Sequence};
use lockstep_node::clock;
use lockstep_node::keys::{NETWORK_KEY, read_network_key};
use lockstep_proto::convert::ingress::EntryState;
use lockstep_tests::attacker::Attacker;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{EVM_A, expires_in, opaque, wallet};
use lockstep_tests::load::Load;
use lockstep_tests::raw::RawPeer;
use lockstep_tests::wait::until;

const OTHERS: [usize; 3] = [1, 2, 3];
const PATIENCE: Duration = Duration::from_secs(20);
/// Twelve heights of three validators, of which every fourth waits for a silent proposer: 3 s on a free machine.
const BOUND: Duration = Duration::from_secs(15);
const HEIGHTS: u64 = 12;

fn batch(attacker: &Attacker, run: u64, sequence: u64, parent: BatchDigest, entry: Entry) -> Batch {
    let place = (Incarnation(run), Sequence(sequence));
    Batch::sign(attacker.network, place, parent, vec![entry], &attacker.key).expect("a batch")
}

/// Says to all that the batch is stored here.
fn acknowledge(attacker: &Attacker, batch: &Batch) {
    let tip = Acknowledged { position: batch.header().position, digest: batch.digest() };
    let word = Acknowledgement::sign(attacker.network, vec![tip], &attacker.key);
    attacker.broadcast(Class::Lanes, LaneMessage::Acknowledgement(word).encode());
}

/// The others decide a dozen heights in time, with a load, and agree.
async fn assert_goes_on(cluster: &Cluster) {
    let load = Load::start(cluster.nodes.iter().skip(1));
    cluster.until_more(&OTHERS, HEIGHTS, BOUND).await;
    let accepted = load.stop().await;
    for id in accepted.keys().take(20) {
        until("the load is decided", PATIENCE, async || {
            matches!(cluster.node(1).status(*id).await, Some(EntryState::Decided(_))).then_some(())
        })
        .await;
    }
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_healthy(&OTHERS).await;
}

/// Whether a node's log has the entry.
async fn is_decided(cluster: &Cluster, entry: &Entry) -> bool {
    matches!(cluster.node(1).status(entry.id()).await, Some(EntryState::Decided(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lane_that_signs_two_batches_at_one_position_stops_nobody() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker().await;
    let peers: Vec<PeerId> = attacker.mesh.peers_up();
    let run = clock::now().0;

    // An honest batch of this lane is decided, so it is not the harness that keeps the others out.
    let honest = opaque("honest");
    let first = batch(&attacker, run, 0, BatchDigest::ZERO, honest.clone());
    for peer in &peers {
        attacker.push(*peer, &first);
    }
    until("an honest batch is decided", PATIENCE, async || {
        is_decided(&cluster, &honest).await.then_some(())
    })
    .await;

    // Two batches at one position, each to some; three times, so that each of the three is once alone with its own.
    let mut parents = vec![first.digest()];
    for (sequence, alone) in (1u64..).zip(&peers) {
        let parent = parents.last().copied().expect("the first");
        let left = batch(&attacker, run, sequence, parent, opaque(&format!("left {sequence}")));
        let right = batch(&attacker, run, sequence, parent, opaque(&format!("right {sequence}")));
        for peer in &peers {
            attacker.push(*peer, if peer == alone { &right } else { &left });
        }
        // It acknowledges what it pushed, so that nobody attaches the batch to a proposal for its sake.
        acknowledge(&attacker, &left);
        assert_goes_on(&cluster).await;
        let (left_entry, right_entry) =
            (opaque(&format!("left {sequence}")), opaque(&format!("right {sequence}")));
        let both =
            (is_decided(&cluster, &left_entry).await, is_decided(&cluster, &right_entry).await);
        assert_ne!(both, (true, true), "two batches of one position are decided");
        parents.push(if both.1 { right.digest() } else { left.digest() });
    }
    cluster.assert_no_evidence(&OTHERS).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batch_with_one_bad_entry_is_never_decided() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker().await;
    let run = clock::now().0;
    let mut wallet = wallet(EVM_A, 9);
    let mut raw = wallet.transfer().to_vec();
    let end = raw.len();
    raw[end - 40..].fill(0xff);
    let bytes = raw.into();
    let body = Body::Transaction(Transaction { chain: EVM_A, kind: ChainKind::Evm, bytes });
    let bad = Entry::new(body, expires_in(30_000), None).expect("its shape is right");
    assert!(bad.clone().check(attacker.network).is_err());
    let good = opaque("in one batch with a bad one");
    let place = (Incarnation(run), Sequence(0));
    let entries = vec![good.clone(), bad.clone(), opaque("behind a bad one")];
    let bad_batch = Batch::sign(attacker.network, place, BatchDigest::ZERO, entries, &attacker.key);
    let bad_batch = bad_batch.expect("a batch");
    for peer in attacker.mesh.peers_up() {
        attacker.push(peer, &bad_batch);
    }
    assert_goes_on(&cluster).await;
    assert!(!is_decided(&cluster, &bad).await);
    assert!(!is_decided(&cluster, &good).await, "the batch stands or falls as a whole");
    cluster.finish().await;
}

/// How often a node has kept the peer out.
async fn penalties(cluster: &Cluster, index: usize, peer: PeerId) -> u64 {
    let name = format!("lockstep_mesh_penalties_total{{peer=\"{peer}\"}}");
    cluster.node(index).metric(&name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_any_class_and_silence_stop_nobody() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker().await;
    let me = attacker.mesh.local_peer_id();
    for class in Class::ALL {
        attacker.until_connected(3).await;
        let noise: Vec<u8> = (0..5_000u32)
            .flat_map(|n| B256::from(alloy_primitives::keccak256(n.to_be_bytes())).0)
            .collect();
        let lengths = [1, 7, 100, 1_000, class.frame_bytes_max().min(noise.len())];
        for index in OTHERS {
            let (peer, _) = cluster.peer(index);
            let before = penalties(&cluster, index, me).await;
            // Again, because a node does not look at frames of a peer whose streams are not all open yet.
            until("garbage keeps its sender out", PATIENCE, async || {
                for length in lengths {
                    // A peer that has had enough of it is gone already.
                    attacker.mesh.send(peer, class, noise[..length].to_vec().into()).ok();
                }
                (penalties(&cluster, index, me).await > before).then_some(())
            })
            .await;
        }
        cluster.until_more(&OTHERS, HEIGHTS, BOUND).await;
    }
    // From here on it is connected and says nothing.
    attacker.until_connected(3).await;
    assert_goes_on(&cluster).await;
    for index in OTHERS {
        for honest in OTHERS.into_iter().filter(|other| *other != index) {
            assert_eq!(penalties(&cluster, index, cluster.peer(honest).0).await, 0);
        }
    }
    cluster.assert_no_evidence(&OTHERS).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_longer_than_its_class_allows_keeps_its_sender_out_and_stops_nobody() {
    let mut cluster = Cluster::prepare(4).await;
    cluster.start(&OTHERS).await;
    cluster.until_more(&OTHERS, 2, PATIENCE).await;
    let keypair = read_network_key(&cluster.keys(0).join(NETWORK_KEY)).expect("a key");
    let me = keypair.public().to_peer_id();
    for index in OTHERS {
        assert_eq!(penalties(&cluster, index, me).await, 0);
        let network = cluster.genesis.network_id();
        let mut raw = RawPeer::connect(&keypair, network, cluster.peer(index)).await;
        let (class, max) = (raw.class, raw.class.frame_bytes_max());
        let length = u32::try_from(max + 1).expect("fits");
        raw.write(&length.to_le_bytes()).await;
        raw.until_ended().await;
        let reason = format!("{class}: a frame of {length} bytes, {max} at most");
        until(&reason, PATIENCE, async || {
            let is_said = cluster.node(index).log().contains(&reason);
            (is_said && penalties(&cluster, index, me).await == 1).then_some(())
        })
        .await;
    }
    assert_goes_on(&cluster).await;

    // Once it keeps to the rules it is let in again.
    let attacker = cluster.attacker(0).await;
    attacker.until_connected(3).await;
    for index in OTHERS {
        assert_eq!(penalties(&cluster, index, me).await, 1);
    }
    cluster.assert_no_evidence(&OTHERS).await;
    cluster.finish().await;
}
