//! A proposer whose header lies in one field, or whose cut is unknown, backward or unbounded, is never decided: the
//! others decide the height in a later round without it.

use std::time::Duration;

use alloy_primitives::{Address, B256};
use lockstep_core::certificate::Proposal;
use lockstep_core::cut::Cut;
use lockstep_core::encoding::VERSION;
use lockstep_core::header::Header;
use lockstep_core::limits::CUT_BATCHES_MAX;
use lockstep_core::proposal::Payload;
use lockstep_core::state::State;
use lockstep_core::types::{
    BatchDigest, BlockHash, Height, Incarnation, NetworkId, Round, Sequence, UnixMillis,
};
use lockstep_proto::convert::ingress::{Milestone, Wait};
use lockstep_tests::attacker::Attacker;
use lockstep_tests::cluster::Cluster;
use lockstep_tests::entries;

const PATIENCE: Duration = Duration::from_secs(20);
const OTHERS: [usize; 3] = [1, 2, 3];

/// One lie for each field of the header. A field that is not in this list does not compile.
fn lies(good: &Header, state: &State) -> Vec<(&'static str, Header)> {
    let Header {
        network_id: _,
        height,
        round: _,
        parent: _,
        timestamp_ms: _,
        proposer,
        validators_hash: _,
        next_validators_hash: _,
        set_since,
        cut_hash: _,
        slices_root: _,
        state_hash: _,
    } = good.clone();
    let other = state.committed.validators.iter().map(|v| v.address).find(|a| *a != proposer);
    let hash = B256::repeat_byte(0xee);
    let lie = |change: &dyn Fn(&mut Header)| {
        let mut header = good.clone();
        change(&mut header);
        assert_ne!(header, *good);
        header
    };
    vec![
        ("network_id", lie(&|h| h.network_id = NetworkId(hash))),
        ("height, later", lie(&|h| h.height = height.next())),
        ("height, earlier", lie(&|h| h.height = height.previous().expect("above 0"))),
        ("round", lie(&|h| h.round = Round(1))),
        ("parent", lie(&|h| h.parent = BlockHash(hash))),
        ("timestamp_ms, the parent's", lie(&|h| h.timestamp_ms = state.timestamp)),
        ("timestamp_ms, an hour ahead", lie(&|h| h.timestamp_ms = h.timestamp_ms.plus(3_600_000))),
        ("timestamp_ms, greatest", lie(&|h| h.timestamp_ms = UnixMillis(u64::MAX))),
        ("proposer, another", lie(&|h| h.proposer = other.expect("there are others"))),
        ("proposer, nobody", lie(&|h| h.proposer = Address::ZERO)),
        ("validators_hash", lie(&|h| h.validators_hash = hash)),
        ("next_validators_hash", lie(&|h| h.next_validators_hash = hash)),
        ("set_since", lie(&|h| h.set_since = set_since.next())),
        ("cut_hash", lie(&|h| h.cut_hash = hash)),
        ("slices_root", lie(&|h| h.slices_root = hash)),
        ("state_hash", lie(&|h| h.state_hash = hash)),
    ]
}

/// Cuts that no honest proposer makes. The lane of `moved` has a decided batch.
fn cuts(good: &Cut, me: Address, moved: Address) -> Vec<(&'static str, Cut)> {
    let change = |owner: Address, run: u64, sequence: u64, digest: BatchDigest| {
        let mut cut = good.clone();
        let lane = cut.lanes.iter_mut().find(|lane| lane.owner == owner).expect("a lane");
        *lane = lockstep_core::cut::LanePosition {
            owner,
            incarnation: Incarnation(run),
            sequence: Sequence(sequence),
            digest,
        };
        assert_ne!(cut, *good);
        cut
    };
    let digest = BatchDigest(B256::repeat_byte(0xdd));
    let at = good.lanes.iter().find(|lane| lane.owner == moved).expect("a lane");
    let (run, sequence) = (at.incarnation.0, at.sequence.0);
    let mut fewer = good.clone();
    fewer.lanes.pop();
    let mut swapped = good.clone();
    swapped.lanes.reverse();
    vec![
        ("unknown batch of its own lane", change(me, u64::MAX / 2, 0, digest)),
        ("unknown batch of another's lane", change(moved, run, sequence + 1, digest)),
        ("backward to the start", change(moved, 0, 0, BatchDigest::ZERO)),
        ("sideways", change(moved, run, sequence, digest)),
        ("unbounded", change(me, u64::MAX / 2, CUT_BATCHES_MAX as u64, digest)),
        ("unbounded to the greatest", change(me, u64::MAX, u64::MAX, digest)),
        ("a lane too few", fewer),
        ("lanes out of order", swapped),
    ]
}

/// The block that the others decided at a height; the attacker's is `lie`.
async fn assert_refused(cluster: &Cluster, what: &str, height: Height, lie: BlockHash) {
    cluster.until_height(&OTHERS, height, PATIENCE).await;
    for index in OTHERS {
        let mut log = cluster.node(index).log_client().await;
        let at = lockstep_proto::convert::log::BlockAt::Height(height);
        let block = log.block(at).await.expect("is decided").certified;
        assert_ne!(block.header.hash(), lie, "{what} was decided");
        assert!(block.certificate.round > Round(0), "{what}: decided in round 0");
        assert!(block.header.round > Round(0), "{what}: decided a block of round 0");
    }
}

async fn assert_lie_is_refused(cluster: &Cluster, attacker: &Attacker, lie: Lie<'_>) {
    // It is kept out for a while after a lie that no honest proposer could tell.
    attacker.until_connected(OTHERS.len()).await;
    let state = attacker.until_turn(cluster.node(1)).await;
    let height = state.height.next();
    let (header, cut) = attacker.valid_block(&state);
    let (what, header, cut) = lie(&header, &cut, &state);
    attacker.propose(height, &header, &cut);
    assert_refused(cluster, what, height, header.hash()).await;
}

type Lie<'a> = &'a dyn Fn(&Header, &Cut, &State) -> (&'static str, Header, Cut);

/// Its own valid block is decided in round 0: what is refused is refused for the lie alone. On a busy machine it may be late for
/// a turn, but not for each of five.
async fn assert_truth_is_decided(cluster: &Cluster, attacker: &Attacker) {
    for _ in 0..5 {
        if is_truth_decided(cluster, attacker).await {
            return;
        }
    }
    panic!("no valid block is decided");
}

async fn is_truth_decided(cluster: &Cluster, attacker: &Attacker) -> bool {
    attacker.until_connected(OTHERS.len()).await;
    let state = attacker.until_turn(cluster.node(1)).await;
    let (header, cut) = attacker.valid_block(&state);
    attacker.propose(header.height, &header, &cut);
    cluster.until_height(&OTHERS, header.height, PATIENCE).await;
    let headers = cluster.headers(1).await;
    let decided = headers.iter().find(|decided| decided.height == header.height);
    decided.map(Header::hash) == Some(header.hash())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_that_lies_in_any_one_field_is_never_decided() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker().await;
    assert_truth_is_decided(&cluster, &attacker).await;
    let state = attacker.until_turn(cluster.node(1)).await;
    let count = lies(&attacker.valid_block(&state).0, &state).len();
    for place in 0..count {
        let lie = |header: &Header, cut: &Cut, state: &State| {
            let (what, header) = lies(header, state).swap_remove(place);
            (what, header, cut.clone())
        };
        assert_lie_is_refused(&cluster, &attacker, &lie).await;
    }

    // The version, which is the encoding's first byte.
    let state = attacker.until_turn(cluster.node(1)).await;
    let (header, cut) = attacker.valid_block(&state);
    let (height, block) = (header.height, header.hash());
    let mut payload = Payload { header, cut, batches: Vec::new() }.encode().to_vec();
    payload[0] = VERSION + 1;
    let proposal = Proposal { height, round: Round(0), valid_round: None, block };
    attacker.propose_payload(proposal, payload.into());
    assert_refused(&cluster, "version", height, block).await;

    assert_truth_is_decided(&cluster, &attacker).await;
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_no_evidence(&OTHERS).await;
    cluster.assert_healthy(&OTHERS).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_that_is_unknown_backward_or_unbounded_is_never_decided() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker().await;
    let wait = Some(Wait { milestone: Milestone::Decided, timeout_ms: 8_000 });
    let mut client = cluster.node(1).ingress().await;
    let answer = client.submit(&entries::opaque("moves the lane"), wait).await;
    assert!(answer.expect("is accepted").is_reached);
    let state = attacker.until_turn(cluster.node(1)).await;
    let moved = state.committed.lanes.iter().find(|lane| !lane.is_start()).expect("a lane moved");
    let (me, moved) = (attacker.key.address(), moved.owner);
    let count = cuts(&Cut { lanes: state.committed.lanes.clone() }, me, moved).len();
    for place in 0..count {
        let lie = |header: &Header, cut: &Cut, _: &State| {
            let (what, cut) = cuts(cut, me, moved).swap_remove(place);
            (what, Header { cut_hash: cut.hash(), ..header.clone() }, cut)
        };
        assert_lie_is_refused(&cluster, &attacker, &lie).await;
    }
    assert_truth_is_decided(&cluster, &attacker).await;
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_no_evidence(&OTHERS).await;
    cluster.assert_healthy(&OTHERS).await;
    cluster.finish().await;
}
