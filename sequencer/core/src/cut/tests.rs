//! Which way a lane may move, and how far.

use super::*;
use crate::block::fixtures::{keys, validators};

fn at(incarnation: u64, sequence: u64, digest: u8) -> LanePosition {
    LanePosition {
        owner: Address::ZERO,
        incarnation: Incarnation(incarnation),
        sequence: Sequence(sequence),
        digest: BatchDigest(B256::repeat_byte(digest)),
    }
}

#[test]
fn a_lane_moves_forward_along_a_run_or_to_a_higher_one() {
    let start = LanePosition::start(Address::ZERO);
    let owner = Address::ZERO;
    let backward = Err(InvalidCut::Backward { owner });
    let nothing = Err(InvalidCut::NoDigest { owner });
    // From, to, and the first sequence with its parent's digest.
    let cases = [
        (start, start, Ok(None)),
        (start, at(1, 0, 7), Ok(Some((0, 0)))),
        (start, at(1, 9, 7), Ok(Some((0, 0)))),
        (at(3, 4, 5), at(3, 4, 5), Ok(None)),
        (at(3, 4, 5), at(3, 5, 6), Ok(Some((5, 5)))),
        (at(3, 4, 5), at(3, 9, 6), Ok(Some((5, 5)))),
        (at(3, 4, 5), at(4, 0, 6), Ok(Some((0, 0)))),
        (at(3, 4, 5), at(9, 2, 6), Ok(Some((0, 0)))),
        (at(3, 4, 5), at(3, 4, 6), backward.clone()),
        (at(3, 4, 5), at(3, 3, 6), backward.clone()),
        (at(3, 4, 5), at(2, 9, 6), backward.clone()),
        (at(3, 4, 5), at(0, 0, 6), backward.clone()),
        // A run 0 does not exist: an owner's incarnations begin at 1.
        (start, at(0, 0, 6), backward.clone()),
        (start, at(0, 1, 6), backward),
        (at(3, 4, 5), at(3, 5, 0), nothing.clone()),
        (at(3, 4, 5), start, nothing.clone()),
        (start, at(1, 0, 0), nothing),
    ];
    for (from, to, expected) in cases {
        let expected = expected.map(|first| {
            first.map(|(first, parent)| LaneStep {
                owner,
                incarnation: to.incarnation,
                first: Sequence(first),
                last: to.sequence,
                parent: BatchDigest(B256::repeat_byte(parent)),
                tip: to.digest,
            })
        });
        assert_eq!(LaneStep::between(&from, &to), expected, "{from:?} to {to:?}");
    }
}

#[test]
fn a_step_counts_its_batches() {
    let step = |from, to| LaneStep::between(&from, &to).unwrap().unwrap().batch_count();
    assert_eq!(step(at(3, 4, 5), at(3, 5, 6)), 1);
    assert_eq!(step(at(3, 4, 5), at(4, 5, 6)), 6);
    assert_eq!(step(at(3, 4, 5), at(4, u64::MAX, 6)), u64::MAX);
}

fn from() -> Vec<LanePosition> {
    Cut::start(&validators(&keys(3))).lanes
}

fn moved(lengths: [u64; 3]) -> Cut {
    let lanes = from().into_iter().zip(lengths).map(|(lane, length)| match length {
        0 => lane,
        _ => LanePosition { owner: lane.owner, ..at(1, length - 1, 7) },
    });
    Cut { lanes: lanes.collect() }
}

#[test]
fn a_cut_names_exactly_the_lanes_of_the_set() {
    assert_eq!(moved([0; 3]).steps(&from()), Ok(vec![]));
    let refused = |cut: Cut| {
        let got = cut.lanes.len();
        assert_eq!(cut.steps(&from()), Err(InvalidCut::Lanes { expected: 3, got }));
    };
    let mut fewer = moved([1, 1, 1]);
    fewer.lanes.pop();
    refused(fewer);
    let mut more = moved([1, 1, 1]);
    more.lanes.push(at(1, 1, 1));
    refused(more);
    let mut other = moved([1, 1, 1]);
    other.lanes[2].owner = Address::repeat_byte(0xff);
    refused(other);
    let mut swapped = moved([1, 1, 1]);
    swapped.lanes.swap(0, 1);
    refused(swapped);
    refused(Cut { lanes: vec![] });
}

#[test]
fn steps_are_those_of_the_lanes_that_move() {
    let cut = moved([2, 0, 5]);
    let steps = cut.steps(&from()).unwrap();
    let shown: Vec<_> = steps.iter().map(|step| (step.owner, step.batch_count())).collect();
    assert_eq!(shown, [(from()[0].owner, 2), (from()[2].owner, 5)]);
    let owner = from()[1].owner;
    let mut back = moved([1, 1, 1]);
    back.lanes[1] = LanePosition { owner, ..at(0, 0, 7) };
    assert_eq!(back.steps(&from()), Err(InvalidCut::Backward { owner }));
}

#[test]
fn the_count_of_batches_holds_at_the_limit() {
    let most = CUT_BATCHES_MAX as u64;
    assert!(moved([most, 0, 0]).steps(&from()).is_ok());
    assert!(moved([most - 10, 9, 1]).steps(&from()).is_ok());
    let count = most + 1;
    assert_eq!(moved([most - 10, 9, 2]).steps(&from()), Err(InvalidCut::Batches { count }));
    let endless = moved([u64::MAX, u64::MAX, u64::MAX]).steps(&from());
    assert_eq!(endless, Err(InvalidCut::Batches { count: u64::MAX }));
}

#[test]
fn the_hash_commits_to_every_lane() {
    let hash = moved([2, 0, 5]).hash();
    assert_eq!(Cut::from_canonical(&moved([2, 0, 5]).to_canonical()).unwrap().hash(), hash);
    for lane in 0..3 {
        for change in 0..4 {
            let mut cut = moved([2, 0, 5]);
            let changed = &mut cut.lanes[lane];
            match change {
                0 => changed.owner.0[0] ^= 1,
                1 => changed.incarnation.0 += 1,
                2 => changed.sequence.0 += 1,
                _ => changed.digest.0[0] ^= 1,
            }
            assert_ne!(cut.hash(), hash);
        }
    }
}

#[test]
fn the_largest_cut_stays_below_its_limit() {
    let lane = LanePosition {
        owner: Address::repeat_byte(0xff),
        incarnation: Incarnation(u64::MAX),
        sequence: Sequence(u64::MAX),
        digest: BatchDigest(B256::repeat_byte(0xff)),
    };
    let cut = Cut { lanes: vec![lane; crate::limits::VALIDATORS_MAX] };
    assert!(cut.to_canonical().len() <= crate::limits::CUT_ENCODED_BYTES_MAX);
    assert_eq!(lane.batch().sequence, lane.sequence);
}
