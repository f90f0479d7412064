//! A block that had a polka is proposed again seconds later, long after a fresh proposal of it would be refused as late:
//! all decide it, as it was.
//!
//! The attacker makes the polka that does not decide. It proposes a valid block to two of the other three, which see a
//! polka with its own prevote and lock; the third is frozen, so there are too few precommits for anything, and the height
//! stands until it goes on. Source: Tendermint (arXiv 1807.04938), algorithm 1, lines 28 to 33; design section 2, "timely".

use std::time::Duration;

use libp2p::PeerId;
use lockstep_core::block::is_timely;
use lockstep_core::header::Header;
use lockstep_core::types::{BlockHash, Height, Round};
use lockstep_node::clock;
use lockstep_node::genesis::ParamsEntry;
use lockstep_proto::convert::log::BlockAt;
use lockstep_proto::v1;
use lockstep_proto::v1::votes_frame::Message;
use lockstep_tests::attacker::Attacker;
use lockstep_tests::cluster::{Cluster, params};
use lockstep_tests::wait::during;

const PATIENCE: Duration = Duration::from_secs(40);
const OTHERS: [usize; 3] = [1, 2, 3];
/// How long the block waits for its second proposal. Less than the silence that ends a connection.
const HELD: Duration = Duration::from_secs(3);
/// Rounds in which a fresh proposal of its age would be refused: more than the test needs.
const ROUNDS_TOO_LATE: u32 = 3;

/// Fresh proposals are refused sooner than by default, and a proposer has longer for its own.
fn strict() -> ParamsEntry {
    ParamsEntry { delay_ms: 500, drift_ms: 250, propose_ms: 2_000, ..params() }
}

/// Waits until a validator has precommitted the block in round 0: it has seen the polka and is locked.
async fn until_locked(attacker: &Attacker, cluster: &Cluster, index: usize, header: &Header) {
    let (voter, block) = (cluster.address(index), header.hash());
    let what = format!("validator {index} precommits the block");
    attacker
        .until_heard(&what, PATIENCE, |message| {
            let (Message::Vote(vote) | Message::VoteAgain(vote)) = message else { return None };
            let is_it = vote.kind() == v1::VoteKind::Precommit
                && (vote.height, vote.round) == (header.height.0, 0)
                && vote.block.as_ref() == block.0.as_slice()
                && vote.validator.as_ref() == voter.as_slice();
            is_it.then_some(())
        })
        .await;
}

/// The round in which a block is proposed again because of its polka in round 0.
async fn until_proposed_again(attacker: &Attacker, height: Height, block: BlockHash) -> Round {
    attacker
        .until_heard("the block is proposed again", PATIENCE, |message| {
            let Message::Proposal(proposal) = message else { return None };
            let is_it = proposal.height == height.0
                && proposal.valid_round == Some(0)
                && proposal.block.as_ref() == block.0.as_slice();
            is_it.then_some(Round(proposal.round))
        })
        .await
}

/// Everybody has decided this block, in this round or a later one, with its header as it was.
async fn assert_decided(cluster: &Cluster, header: &Header, round: Round) {
    cluster.until_height(&OTHERS, header.height, PATIENCE).await;
    for index in OTHERS {
        let mut log = cluster.node(index).log_client().await;
        let block = log.block(BlockAt::Height(header.height)).await.expect("is decided").certified;
        assert_eq!(block.header, *header, "validator {index} decided another block");
        assert_eq!(block.certificate.block, header.hash());
        assert!(block.certificate.round >= round, "decided in round {}", block.certificate.round);
    }
    assert_eq!(header.round, Round(0));
}

/// Nobody called a block invalid, nor a proposal of this height late.
fn assert_nothing_is_refused(cluster: &Cluster, height: Height) {
    let of_height = format!("height={height}");
    let is_refusal = |line: &&str| {
        line.contains("is invalid") || (line.contains("is not timely") && line.contains(&of_height))
    };
    for index in OTHERS {
        let log = cluster.node(index).log();
        let refused: Vec<&str> = log.lines().filter(is_refusal).collect();
        assert!(refused.is_empty(), "validator {index}: {refused:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_with_a_polka_is_proposed_again_seconds_later_and_decided_as_it_was() {
    let (cluster, attacker) = Cluster::of_three_and_an_attacker_with(strict()).await;
    let state = attacker.until_turn(cluster.node(1)).await;
    let (header, cut) = attacker.valid_block(&state);
    let block = header.hash();
    // The two whose turns come next lock; the one whose turn is last is frozen.
    let of_round = |round| {
        cluster.index_of(state.committed.validators.proposer(header.height, Round(round)).address)
    };
    let (locked, frozen) = ([of_round(1), of_round(2)], of_round(3));
    cluster.node(frozen).freeze();
    let peers: Vec<PeerId> = locked.iter().map(|index| cluster.peer(*index).0).collect();
    attacker.propose_to(&peers, &header, &cut);
    attacker.prevote_to(&peers, header.height, Round(0), block);
    for index in locked {
        until_locked(&attacker, &cluster, index, &header).await;
    }
    during("the block is not decided", HELD, async || {
        cluster.node(locked[0]).height().await < header.height
            && cluster.node(locked[1]).height().await < header.height
    })
    .await;

    cluster.node(frozen).thaw();
    let params = &cluster.genesis.params;
    for round in 0..=ROUNDS_TOO_LATE {
        assert!(!is_timely(params, Round(round), header.timestamp_ms, clock::now()));
    }
    let again = until_proposed_again(&attacker, header.height, block).await;
    assert!((1..=ROUNDS_TOO_LATE).contains(&again.0), "proposed again in round {again}");
    assert_decided(&cluster, &header, again).await;

    cluster.until_more(&OTHERS, 4, PATIENCE).await;
    cluster.assert_agreement(&OTHERS).await;
    cluster.assert_no_evidence(&OTHERS).await;
    cluster.assert_healthy(&OTHERS).await;
    assert_nothing_is_refused(&cluster, header.height);
    cluster.finish().await;
}
