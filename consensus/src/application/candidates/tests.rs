//! What of a proposer is kept, and which of its proposals consensus is given.

use lockstep_core::types::{Height, NetworkId, UnixMillis};

use super::*;
use crate::fixtures::{Net, START};

fn proposer(n: u8) -> Address {
    Address::repeat_byte(n)
}

/// The block of a proposal is told apart by one byte.
fn proposed(n: u8, round: u32, block: u8) -> Proposed {
    let block = BlockHash(alloy_primitives::B256::repeat_byte(block));
    let proposal = Proposal { height: Height(1), round: Round(round), valid_round: None, block };
    Proposed { proposal, proposer: proposer(n), is_timely: true, first: None }
}

fn candidate(verdict: Verdict) -> Candidate {
    let hash = alloy_primitives::B256::ZERO;
    let header = Header {
        network_id: NetworkId(hash),
        height: Height(1),
        round: Round(0),
        parent: BlockHash(hash),
        timestamp_ms: UnixMillis(1),
        proposer: Address::ZERO,
        validators_hash: hash,
        next_validators_hash: hash,
        set_since: Height(1),
        cut_hash: hash,
        slices_root: hash,
        state_hash: hash,
    };
    let cut = Cut { lanes: Vec::new() };
    let attached = Attached::new();
    Candidate { header, cut, from: None, attached, verdict, is_read: false }
}

fn open(candidates: &mut Candidates, proposed: Proposed) -> Result<(), NotKept> {
    candidates.open(proposed, candidate(Verdict::Waiting))
}

fn valid() -> Verdict {
    let decided = Net::new(1).decide(START.plus(1), Vec::new());
    Verdict::Valid(Verified { assembly: decided.assembly, batches: decided.batches })
}

#[test]
fn third_proposal_of_a_proposer_in_one_round_is_not_kept_and_anothers_first_is() {
    let mut candidates = Candidates::default();
    for block in 0..PROPOSALS_PER_ROUND_MAX as u8 {
        assert_eq!(open(&mut candidates, proposed(1, 3, block)), Ok(()));
        assert_eq!(open(&mut candidates, proposed(1, 3, block)), Err(NotKept::Known));
    }
    assert_eq!(open(&mut candidates, proposed(1, 3, 9)), Err(NotKept::Full));
    assert_eq!(candidates.counts(), (PROPOSALS_PER_ROUND_MAX, PROPOSALS_PER_ROUND_MAX));
    assert_eq!(open(&mut candidates, proposed(2, 3, 9)), Ok(()));
    assert_eq!(open(&mut candidates, proposed(1, 4, 9)), Ok(()));
}

#[test]
fn nearer_proposal_takes_the_place_of_the_farthest_of_its_proposer() {
    let mut candidates = Candidates::default();
    candidates.begin_round(Round(20));
    open(&mut candidates, proposed(2, 90, 200)).unwrap();
    for n in 0..PROPOSALS_PER_PROPOSER_MAX as u8 {
        open(&mut candidates, proposed(1, 21 + u32::from(n), n)).unwrap();
    }
    let farthest = proposed(1, 20 + PROPOSALS_PER_PROPOSER_MAX as u32, 7);
    assert!(candidates.is_known(&farthest.proposal));
    let as_far = proposed(1, 20 - PROPOSALS_PER_PROPOSER_MAX as u32, 100);
    assert_eq!(open(&mut candidates, as_far), Err(NotKept::Full));
    assert_eq!(open(&mut candidates, proposed(1, 20, 101)), Ok(()));
    assert!(!candidates.is_known(&farthest.proposal));
    assert!(candidates.get(farthest.proposal.block).is_none(), "its block goes with it");
    assert!(candidates.is_known(&proposed(2, 90, 200).proposal), "another proposer's stays");
}

#[test]
fn block_stays_as_long_as_a_proposal_or_its_certificate_names_it() {
    for is_synced in [false, true] {
        let mut candidates = Candidates::default();
        let (first, again) = (proposed(1, 1, 5), proposed(2, 2, 5));
        open(&mut candidates, first).unwrap();
        open(&mut candidates, again).unwrap();
        if is_synced {
            candidates.sync(first.proposal.block, candidate(valid()));
        }
        candidates.remove(&first.proposal);
        assert!(candidates.get(first.proposal.block).is_some());
        candidates.remove(&again.proposal);
        assert_eq!(candidates.get(first.proposal.block).is_some(), is_synced);
    }
}

#[test]
fn timely_proposals_of_a_valid_block_are_handed_over_once_and_no_others() {
    let mut candidates = Candidates::default();
    let timely = proposed(1, 1, 5);
    let late = Proposed { is_timely: false, ..proposed(2, 2, 5) };
    let block = timely.proposal.block;
    open(&mut candidates, timely).unwrap();
    open(&mut candidates, late).unwrap();
    assert_eq!(candidates.take_to_persist(block), [], "it is not judged");
    candidates.judge(block, valid());
    assert_eq!(candidates.take_to_persist(block), [timely.proposal]);
    assert_eq!(candidates.take_to_persist(block), [], "it is being written");
    assert!(candidates.complete().is_empty() && candidates.fetch(block).is_none());
    assert!(candidates.hand_over(&timely.proposal));
    assert!(candidates.is_handed(&timely.proposal) && !candidates.is_handed(&late.proposal));
    assert_eq!(candidates.complete(), [candidates.fetch(block).unwrap()]);
    assert!(candidates.fetch(block).is_none(), "consensus asks as often as it is told to");
    candidates.remove(&timely.proposal);
    assert!(!candidates.hand_over(&timely.proposal), "it was dropped meanwhile");
}

#[test]
fn invalid_block_is_handed_over_as_invalid_with_each_of_its_proposals() {
    let mut candidates = Candidates::default();
    let (first, again) = (proposed(1, 1, 5), Proposed { is_timely: false, ..proposed(2, 2, 5) });
    let block = first.proposal.block;
    candidates.open(first, candidate(Verdict::Invalid)).unwrap();
    assert_eq!(candidates.hand_over_invalid(block), [first.proposal]);
    assert_eq!(candidates.hand_over_invalid(block), []);
    candidates.open(again, candidate(Verdict::Waiting)).unwrap();
    assert_eq!(candidates.hand_over_invalid(block), [again.proposal], "known to be invalid");
    assert!(candidates.take_to_persist(block).is_empty());
    let complete = candidates.complete();
    assert!(complete.len() == 2 && complete.iter().all(|proposed| !proposed.is_valid));
}
