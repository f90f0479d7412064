//! A validator that lies on its lane and sends garbage: the other three go on, agree, and decide nothing that is bad.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::B256;
use libp2p::PeerId;
use lockstep_consensus::lanes::wire::LaneMessage;
use lockstep_consensus::mesh::Inbound;
use lockstep_consensus::mesh::class::Class;
use lockstep_core::batch::{Batch, BatchPosition};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::limits::LANE_AHEAD_BATCHES_MAX;
use lockstep_core::params::ChainKind;
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{BatchDigest, EntryId, Incarnation, Sequence};
use lockstep_node::clock;
use lockstep_node::keys::{NETWORK_KEY, read_network_key};
use lockstep_tests::attacker::Attacker;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{EVM_A, expires_in, opaque, wallet};
use lockstep_tests::landed::{self, Place, until_landed};
use lockstep_tests::load::{Load, assert_order};
use lockstep_tests::node::Node;
use lockstep_tests::raw::RawPeer;
use lockstep_tests::wait::until;
use tokio::sync::mpsc;

const OTHERS: [usize; 3] = [1, 2, 3];
const PATIENCE: Duration = Duration::from_secs(20);
/// Twelve heights of three validators, of which every fourth waits for a silent proposer: 3 s on a free machine.
const BOUND: Duration = Duration::from_secs(15);
const HEIGHTS: u64 = 12;

fn others(cluster: &Cluster) -> [&Node; 3] {
    OTHERS.map(|index| cluster.node(index))
}

/// The others decide a dozen heights in time, with a load, and agree.
async fn assert_goes_on(cluster: &Cluster) {
    let load = Load::start(cluster.nodes.iter().skip(1));
    cluster.until_more(&OTHERS, HEIGHTS, BOUND).await;
    let accepted = load.stop().await;
    let ids: Vec<EntryId> = accepted.keys().copied().collect();
    assert!(!ids.is_empty());
    let places = until_landed(others(cluster), &ids, PATIENCE).await;
    assert_order(&accepted, &places);
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_healthy(&OTHERS).await;
}

/// Where the others have an entry decided, if they do; fails unless all say the same.
async fn place(cluster: &Cluster, entry: &Entry) -> Option<Place> {
    let mut told = BTreeSet::new();
    for index in OTHERS {
        told.insert(landed::place(&mut cluster.node(index).ingress().await, entry.id()).await);
    }
    assert_eq!(told.len(), 1, "they disagree on {}: {told:?}", entry.id());
    told.pop_first().flatten()
}

/// Waits until the others have all of these entries decided, each at one place.
async fn until_decided(cluster: &Cluster, entries: &[Entry]) -> BTreeMap<EntryId, Place> {
    let ids: Vec<EntryId> = entries.iter().map(Entry::id).collect();
    until_landed(others(cluster), &ids, PATIENCE).await
}

/// How often a node's log says this.
fn said(cluster: &Cluster, index: usize, what: &str) -> usize {
    cluster.node(index).log().matches(what).count()
}

/// Fails if somebody acknowledged two batches of one position.
fn assert_one_word_each(lanes: &mut mpsc::Receiver<Inbound>) {
    let mut words: BTreeMap<(PeerId, BatchPosition), BTreeSet<BatchDigest>> = BTreeMap::new();
    while let Ok(frame) = lanes.try_recv() {
        let Ok(LaneMessage::Acknowledgement(word)) = LaneMessage::decode(frame.body) else {
            continue;
        };
        for tip in word.tips {
            words.entry((frame.from, tip.position)).or_default().insert(tip.digest);
        }
    }
    assert!(words.len() > OTHERS.len(), "it heard next to nothing: {words:?}");
    for ((peer, position), digests) in words {
        assert_eq!(digests.len(), 1, "{peer} acknowledged two batches of {position:?}");
    }
}

/// Sends what is asked for, as the lane's owner should, for ever.
async fn serve(attacker: &Attacker, lanes: &mut mpsc::Receiver<Inbound>, batches: &[Batch]) {
    while let Some(frame) = lanes.recv().await {
        let Ok(LaneMessage::Request(range)) = LaneMessage::decode(frame.body) else { continue };
        let is_asked = |batch: &&Batch| {
            let position = batch.header().position;
            (position.owner, position.incarnation) == (range.owner, range.incarnation)
                && (range.first..=range.last).contains(&position.sequence)
        };
        batches.iter().filter(is_asked).for_each(|batch| attacker.push(frame.from, batch));
    }
}

const TWICE: &str = "a lane signed two batches at one position";

/// Two batches of one position are no evidence yet, as two votes are: whoever gets both says so in its log. What holds is
/// that all take one of the two, the same, and nothing of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lane_that_signs_two_batches_at_one_position_is_cut_at_one_of_them_by_all() {
    let (cluster, mut attacker) = Cluster::of_three_and_an_attacker().await;
    let peers = OTHERS.map(|index| cluster.peer(index).0);
    let run = clock::now().0;

    // An honest batch of this lane is decided, so it is not the harness that keeps the others out.
    let honest = opaque("honest");
    let first = attacker.batch(run, 0, BatchDigest::ZERO, vec![honest.clone()]);
    for peer in peers {
        attacker.push(peer, &first);
    }
    until_decided(&cluster, &[honest]).await;

    // Two batches at one position, each to some; three times, so that each of the three is once alone with its own.
    let mut parent = first.digest();
    for (sequence, alone) in (1u64..).zip(OTHERS) {
        let (left, right) =
            (opaque(&format!("left {sequence}")), opaque(&format!("right {sequence}")));
        let left_batch = attacker.batch(run, sequence, parent, vec![left.clone()]);
        let right_batch = attacker.batch(run, sequence, parent, vec![right.clone()]);
        let before: usize = OTHERS.iter().map(|index| said(&cluster, *index, TWICE)).sum();
        for (index, peer) in OTHERS.into_iter().zip(peers) {
            attacker.push(peer, if index == alone { &right_batch } else { &left_batch });
        }
        // It acknowledges what it pushed, so that nobody attaches the batch to a proposal for its sake.
        attacker.acknowledge(&left_batch);
        let decided = until("one of the two is decided", PATIENCE, async || {
            let mut client = cluster.node(1).ingress().await;
            let left = landed::place(&mut client, left.id()).await;
            let right = landed::place(&mut client, right.id()).await;
            left.or(right)
        })
        .await;
        cluster.until_height(&OTHERS, decided.0, PATIENCE).await;
        assert_goes_on(&cluster).await;
        let both = (place(&cluster, &left).await, place(&cluster, &right).await);
        assert!(matches!(both, (Some(_), None) | (None, Some(_))), "{both:?}");
        let after: usize = OTHERS.iter().map(|index| said(&cluster, *index, TWICE)).sum();
        assert!(after > before, "nobody says that position {sequence} was signed twice");
        parent = if both.0.is_some() { left_batch.digest() } else { right_batch.digest() };
    }
    // The lane goes on behind the branch that was taken.
    let next = opaque("next");
    let next_batch = attacker.batch(run, 4, parent, vec![next.clone()]);
    for peer in peers {
        attacker.push(peer, &next_batch);
    }
    until_decided(&cluster, &[next]).await;
    assert_one_word_each(&mut attacker.take_lanes());
    cluster.assert_no_evidence(&OTHERS).await;
    cluster.finish().await;
}

/// Batches of one validator's lane, more than are checked, wait or are written at a time, in one go and backward.
const FLOOD: u64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_gap_far_batches_and_those_of_a_stranger_stop_nobody() {
    let (cluster, mut attacker) = Cluster::of_three_and_an_attacker().await;
    let mut lanes = attacker.take_lanes();
    let peers = OTHERS.map(|index| cluster.peer(index).0);
    let push = |batches: &[Batch]| {
        for batch in batches.iter().rev() {
            peers.iter().for_each(|peer| attacker.push(*peer, batch));
        }
    };
    let entries = |what: &str, count| -> Vec<Entry> {
        (0..count).map(|n| opaque(&format!("{what} {n}"))).collect()
    };
    let chain = |attacker: &Attacker, run, first: u64, entries: &[Entry]| -> Vec<Batch> {
        let mut parent = match first {
            0 => BatchDigest::ZERO,
            _ => BatchDigest(B256::repeat_byte(0xdd)),
        };
        let next = |(sequence, entry): (u64, &Entry)| {
            let batch = attacker.batch(run, sequence, parent, vec![entry.clone()]);
            parent = batch.digest();
            batch
        };
        (first..).zip(entries).map(next).collect()
    };

    // A stranger's lane.
    let run = clock::now().0;
    let key = SigningKey::from_bytes([0x77; 32]).expect("a key");
    let stranger = opaque("a stranger's");
    let place_of = (Incarnation(run), Sequence(0));
    let entry = vec![stranger.clone()];
    let strange = Batch::sign(attacker.network, place_of, BatchDigest::ZERO, entry, &key);
    push(&[strange.expect("a batch")]);

    // Nothing can follow in the lane: the batch before is missing, the place too far ahead, or the run not begun.
    let (gap, far) = (entries("behind a gap", 5), entries("far", 5));
    push(&chain(&attacker, run, 1, &gap));
    push(&chain(&attacker, run, LANE_AHEAD_BATCHES_MAX as u64, &far));
    push(&chain(&attacker, run + 1, LANE_AHEAD_BATCHES_MAX as u64, &entries("farther", 5)));
    assert_goes_on(&cluster).await;

    // A flood that is in order when it is all there: those that were dropped are asked for, of those who have them.
    let flood = entries("flood", FLOOD);
    let flooding = chain(&attacker, run + 2, 0, &flood);
    push(&flooding);
    let decided = async {
        assert_goes_on(&cluster).await;
        until_decided(&cluster, &flood).await
    };
    let places = tokio::select! {
        places = decided => places,
        () = serve(&attacker, &mut lanes, &flooding) => panic!("the mesh has ended"),
    };
    let in_order: Vec<Place> = flood.iter().map(|entry| places[&entry.id()]).collect();
    assert!(in_order.is_sorted(), "{in_order:?}");
    for entry in gap.iter().chain(&far).chain([&stranger]) {
        assert_eq!(place(&cluster, entry).await, None, "{} is decided", entry.id());
    }
    cluster.assert_agreement(&OTHERS).await;
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
    let entries = vec![good.clone(), bad.clone(), opaque("behind a bad one")];
    let bad_batch = attacker.batch(run, 0, BatchDigest::ZERO, entries);
    for peer in attacker.mesh.peers_up() {
        attacker.push(peer, &bad_batch);
    }
    assert_goes_on(&cluster).await;
    assert_eq!(place(&cluster, &bad).await, None);
    assert_eq!(place(&cluster, &good).await, None, "the batch stands or falls as a whole");
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
