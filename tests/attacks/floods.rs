//! Attacks by more than a peer's share: votes, proposals and requests. Each goes on until it is dropped.

use std::time::Duration;

use alloy_primitives::B256;
use futures::join;
use lockstep_consensus::lanes::wire::LaneMessage;
use lockstep_consensus::mesh::class::Class;
use lockstep_core::batch::Batch;
use lockstep_core::certificate::{Vote, VoteType};
use lockstep_core::lane::BatchRange;
use lockstep_core::state::State;
use lockstep_core::types::{BatchDigest, BlockHash, Height, Incarnation, Round, Sequence};
use lockstep_node::clock;
use lockstep_tests::attacker::Attacker;
use lockstep_tests::attacker::forged::{invalid_transfer, unsigned_transfers};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries::{EVM_A, expires_in, wallet};
use tokio::time::interval;

use crate::attacks::{beside_turns, long, peers, push, take_turns};

/// Heights ahead whose votes consensus keeps, and one more.
const HEIGHTS: u64 = 11;
/// Sets of batches that are proposed in turn: more transactions than validators remember as checked.
const SETS: u64 = 4;
/// Batches of a set, and transfers of a batch: together as many bytes as a block may add.
const BATCHES: u64 = 7;
const TRANSFERS: u64 = 3_300;
/// Batches that are asked for at once, 100 kB each.
const ASKED: u64 = 64;

/// A vote of this number, for one of the heights after `height`.
fn vote(height: Height, number: u64) -> Vote {
    let vote_type = [VoteType::Prevote, VoteType::Precommit][usize::from(number.is_multiple_of(2))];
    let block = (!number.is_multiple_of(5))
        .then(|| BlockHash(B256::left_padding_from(&number.to_be_bytes())));
    let round = Round(u32::try_from(number % 64).expect("few"));
    Vote { height: Height(height.0 + 1 + number % HEIGHTS), round, vote_type, block }
}

/// Votes of its own, each well signed and each for something else: twenty times a peer's quota.
pub(crate) async fn own_votes(cluster: &Cluster, attacker: &Attacker) {
    let act = |number: u64| {
        let height = attacker.state().height;
        for vote in (20 * number..20 * number + 20).map(|number| vote(height, number)) {
            attacker.broadcast(Class::Votes, attacker.vote_frame(vote));
        }
    };
    beside_turns(cluster, attacker, 10, act).await;
}

/// Votes of others that it heard, and some of its own that are wrongly signed. It comes back whenever it is let in.
pub(crate) async fn false_votes(cluster: &Cluster, attacker: &Attacker) {
    let act = |number: u64| {
        for frame in attacker.take_heard_votes() {
            attacker.broadcast(Class::Votes, frame);
        }
        let vote = vote(attacker.state().height, number);
        attacker.broadcast(Class::Votes, attacker.wrong_vote_frame(vote));
    };
    beside_turns(cluster, attacker, 10, act).await;
}

/// At its turns two get the block, and one of these gets its vote: that one alone sees a polka, and locks.
pub(crate) async fn hidden_lock(cluster: &Cluster, attacker: &Attacker) {
    let peers = peers(cluster);
    let mut proposed = Vec::new();
    let propose = async |state: &State| {
        if attacker.is_turn(state) {
            let is_locked = proposed.iter().any(|block| attacker.has_heard_precommit(*block));
            assert!(is_locked || proposed.len() < 5, "nobody locks");
            let (header, cut) = attacker.valid_block(state);
            attacker.propose_to(&peers[..2], &header, &cut);
            attacker.prevote_to(&peers[..1], header.height, Round(0), header.hash());
            proposed.push(header.hash());
        }
    };
    attacker.at_each_height(cluster.node(1), propose).await;
}

/// First parts for all its rounds with the signature of another proposal.
pub(crate) async fn false_parts(cluster: &Cluster, attacker: &Attacker) {
    let act = async {
        let mut ticks = interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            attacker.propose_signed_by_another(&attacker.state());
        }
    };
    join!(take_turns(cluster, attacker), act);
}

/// Proposals with as many batches as a block may add, full of transfers that nobody signed, the last of each invalid.
pub(crate) async fn false_batches(cluster: &Cluster, attacker: &Attacker) {
    let sets: Vec<Vec<Batch>> = (0..SETS).map(|set| false_set(attacker, set)).collect();
    let act = |number: u64| {
        let set = &sets[usize::try_from(number % SETS).expect("few")];
        attacker.propose_with_batches(&attacker.state(), set, number);
    };
    beside_turns(cluster, attacker, 200, act).await;
}

fn false_set(attacker: &Attacker, set: u64) -> Vec<Batch> {
    let (run, mut parent) = (clock::now().0 + set, BatchDigest::ZERO);
    let expires = expires_in(50_000);
    let batch = |sequence| {
        let mut wallet = wallet(EVM_A, u8::try_from(100 + BATCHES * set + sequence).expect("few"));
        let mut entries = unsigned_transfers(&mut wallet, TRANSFERS, expires);
        entries.push(invalid_transfer(&mut wallet, expires));
        let batch = attacker.batch(run, sequence, parent, entries);
        parent = batch.digest();
        batch
    };
    (0..BATCHES).map(batch).collect()
}

/// Puts 6 MB into its lane, and asks for all of it a thousand times a second. It reads the answers, but slowly.
pub(crate) async fn batch_requests(cluster: &Cluster, attacker: &mut Attacker) {
    let mut lanes = attacker.take_lanes();
    let attacker = &*attacker;
    let (run, mut parent) = (clock::now().0, BatchDigest::ZERO);
    for sequence in 0..ASKED {
        let batch = attacker.batch(
            run,
            sequence,
            parent,
            vec![long(&format!("asked {sequence}"), 100_000)],
        );
        parent = batch.digest();
        push(attacker, &batch);
    }
    let owner = attacker.key.address();
    let incarnation = Incarnation(run);
    let range = BatchRange { owner, incarnation, first: Sequence(0), last: Sequence(ASKED - 1) };
    let read = async {
        let mut ticks = interval(Duration::from_millis(10));
        while lanes.recv().await.is_some() {
            ticks.tick().await;
        }
    };
    let act = |_| (0..10).for_each(|_| attacker.ask_batches(range));
    join!(beside_turns(cluster, attacker, 10, act), read);
}

/// Asks for the whole log a thousand times a second.
pub(crate) async fn value_requests(cluster: &Cluster, attacker: &Attacker) {
    let act = |number: u64| {
        let last = Height(attacker.state().height.0.clamp(1, 100));
        (10 * number..10 * number + 10).for_each(|number| attacker.ask_values(number, last));
    };
    beside_turns(cluster, attacker, 10, act).await;
}

/// Proposals with as many batches as a block may add, each time of another run of its lane.
pub(crate) async fn new_runs(cluster: &Cluster, attacker: &Attacker) {
    let run = clock::now().0;
    let act = |number: u64| {
        let batches = long_batches(attacker, (run + number, 0), 100_000, &format!("run {number}"));
        attacker.propose_with_batches(&attacker.state(), &batches, number);
    };
    beside_turns(cluster, attacker, 200, act).await;
}

/// Seven batches of five entries of so many bytes, from a place of its lane on.
fn long_batches(
    attacker: &Attacker,
    (run, first): (u64, u64),
    bytes: usize,
    name: &str,
) -> Vec<Batch> {
    let mut parent = if first == 0 { BatchDigest::ZERO } else { BatchDigest(B256::repeat_byte(7)) };
    let batch = |sequence| {
        let entry = |place| long(&format!("{name} {sequence} {place}"), bytes);
        let batch = attacker.batch(run, sequence, parent, (0..5).map(entry).collect());
        parent = batch.digest();
        batch
    };
    (first..first + BATCHES).map(batch).collect()
}

/// Its proposals bring second batches of positions that everybody holds, until no more are kept, nor smaller ones. Then it
/// gives each of the others another batch at the beginning of a run, so that no two hold the same.
pub(crate) async fn forks_beyond_the_bound(cluster: &Cluster, attacker: &Attacker) {
    let (run, peers) = (clock::now().0, peers(cluster));
    let far = run + 1_000_000;
    for batch in long_batches(attacker, (far, 1), 100, "held") {
        push(attacker, &batch);
    }
    let act = async {
        let mut ticks = interval(Duration::from_millis(150));
        for number in 0..60 {
            ticks.tick().await;
            let bytes = if number < 40 { 100_000 } else { 8_000 };
            let twins = long_batches(attacker, (far, 1), bytes, &format!("twin {number}"));
            attacker.propose_with_batches(&attacker.state(), &twins, number);
        }
        for number in 0.. {
            ticks.tick().await;
            for peer in peers {
                let entry = long(&format!("{number} for {peer}"), 60_000);
                let batch = attacker.batch(run + number, 0, BatchDigest::ZERO, vec![entry]);
                let frame = LaneMessage::Batch(batch.raw().0.clone()).encode();
                attacker.mesh.send(peer, Class::Lanes, frame).ok();
            }
        }
    };
    join!(attacker.at_each_height(cluster.node(1), async |_| {}), act);
}
