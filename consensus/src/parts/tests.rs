//! Parts in any order, and every bound of a peer that sends too many, too long or contradictory ones.

use alloy_primitives::{Address, B256};
use lockstep_core::certificate::Proposal;
use lockstep_core::signing::Signature;
use lockstep_core::types::{BlockHash, Round};

use super::*;

const HEIGHT: Height = Height(10);
const NOW: UnixMillis = UnixMillis(1_000);

fn first_at(height: Height, bytes_total: usize) -> FirstPart {
    let block = BlockHash(B256::repeat_byte(1));
    let proposal = Proposal { height, round: Round(0), valid_round: None, block };
    let (proposer, signature) = (Address::ZERO, Signature([0; 65]));
    FirstPart { proposal, proposer, bytes_total: bytes_total as u64, signature }
}

fn first(bytes_total: usize) -> PartContent {
    PartContent::First(first_at(HEIGHT, bytes_total))
}

fn data(length: usize) -> PartContent {
    PartContent::Data(vec![7; length].into())
}

struct Bench(Assembler<u8>);

impl Bench {
    fn new() -> Self {
        Self(Assembler::new(HEIGHT))
    }

    fn put(
        &mut self,
        from: u8,
        stream: u8,
        (sequence, content): (u64, PartContent),
    ) -> Result<Progress, InvalidPart> {
        let stream = StreamId(Bytes::copy_from_slice(&[stream]));
        self.0.insert(NOW, from, PartMessage { stream, sequence, content })
    }

    fn pending(&mut self, from: u8, stream: u8, part: (u64, PartContent)) {
        assert_eq!(self.put(from, stream, part), Ok(Progress::Pending));
    }

    /// Whether the last part completes a stream of one byte whose other parts came before.
    fn completes(&mut self, from: u8, stream: u8) -> bool {
        matches!(self.put(from, stream, (2, PartContent::Fin)), Ok(Progress::Complete(_)))
    }
}

#[test]
fn parts_in_any_order_are_the_payload_and_its_time_is_that_of_the_first() {
    let payload: Bytes =
        (0..PART_BYTES_MAX * 2 + 5).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
    let parts = split(first_at(HEIGHT, payload.len()), &payload);
    assert_eq!(parts.len(), 5);
    for turn in 0..parts.len() {
        let mut order = parts.clone();
        order.rotate_left(turn);
        if turn % 2 == 0 {
            order.reverse();
        }
        let mut assembler = Assembler::new(HEIGHT);
        let (last, others) = order.split_last().unwrap();
        let mut at = NOW;
        let mut came = |part: &PartMessage| {
            at = at.plus(10);
            (at, assembler.insert(at, 1, part.clone()))
        };
        let mut arrived = None;
        for part in others {
            let (at, result) = came(part);
            assert_eq!(result, Ok(Progress::Pending));
            // The same part again changes nothing.
            let (_, again) = came(part);
            assert_eq!(again, Ok(Progress::Pending));
            arrived = arrived.or((part.sequence == 0).then_some(at));
        }
        let (at, result) = came(last);
        let Ok(Progress::Complete(complete)) = result else { panic!("{result:?}") };
        assert_eq!(complete.payload, payload);
        assert_eq!(complete.arrived, arrived.unwrap_or(at), "order {turn}");
    }
}

/// What others acknowledged meanwhile is not sent again, and what is left of the first time does not stand in its way.
#[test]
fn proposal_that_is_published_again_with_other_batches_is_put_together() {
    let mut assembler = Assembler::new(HEIGHT);
    let mut put = |part: &PartMessage| assembler.insert(NOW, 1, part.clone());
    let parts = |payload: &[u8]| {
        let payload = Bytes::copy_from_slice(payload);
        split(first_at(HEIGHT, payload.len()), &payload)
    };
    let (before, again) = (parts(b"with a batch"), parts(b"without"));
    // Its end is lost with the connection.
    assert!(before[..2].iter().all(|part| put(part) == Ok(Progress::Pending)));
    assert!(again[..2].iter().all(|part| put(part) == Ok(Progress::Pending)));
    assert!(matches!(put(&again[2]), Ok(Progress::Complete(_))));
}

/// A stream of parts, of which the last is refused: the rest of the stream is forgotten with it.
#[test]
fn each_wrong_part_is_refused_with_its_stream() {
    let cases: Vec<(Vec<(u64, PartContent)>, InvalidPart)> = vec![
        (vec![(PARTS_MAX as u64, data(1))], InvalidPart::TooMany { sequence: PARTS_MAX as u64 }),
        (vec![(1, first(1))], InvalidPart::Place { sequence: 1 }),
        (vec![(0, data(1))], InvalidPart::Place { sequence: 0 }),
        (
            vec![(0, first(9)), (2, data(1)), (2, PartContent::Fin)],
            InvalidPart::Place { sequence: 2 },
        ),
        (vec![(1, data(0))], InvalidPart::PartBytes { count: 0 }),
        (vec![(1, data(PART_BYTES_MAX + 1))], InvalidPart::PartBytes { count: PART_BYTES_MAX + 1 }),
        (
            vec![(0, first(SYNCED_VALUE_BYTES_MAX + 1))],
            InvalidPart::Announced { count: SYNCED_VALUE_BYTES_MAX as u64 + 1 },
        ),
        (vec![(0, first(1)), (0, first(2))], InvalidPart::Twice { sequence: 0 }),
        (vec![(1, data(1)), (1, data(2))], InvalidPart::Twice { sequence: 1 }),
        (vec![(2, PartContent::Fin), (3, PartContent::Fin)], InvalidPart::Twice { sequence: 3 }),
        (vec![(0, first(3)), (1, data(4))], InvalidPart::Length { expected: 3, got: 4 }),
        (
            vec![(0, first(3)), (1, data(2)), (2, PartContent::Fin)],
            InvalidPart::Length { expected: 3, got: 2 },
        ),
    ];
    for (mut parts, expected) in cases {
        let mut bench = Bench::new();
        let last = parts.pop().unwrap();
        parts.into_iter().for_each(|part| bench.pending(1, 1, part));
        assert_eq!(bench.put(1, 1, last), Err(expected.clone()));
        assert!(bench.0.streams.is_empty(), "{expected}");
    }
}

#[test]
fn parts_at_the_limits_are_taken() {
    let mut bench = Bench::new();
    bench.pending(1, 1, (0, first(SYNCED_VALUE_BYTES_MAX)));
    bench.pending(1, 1, (PARTS_MAX as u64 - 1, data(PART_BYTES_MAX)));
    bench.pending(1, 1, (1, data(1)));
}

#[test]
fn oldest_stream_of_a_peer_gives_way_and_no_other_peers() {
    let mut bench = Bench::new();
    bench.pending(2, 0, (0, first(1)));
    bench.pending(2, 0, (1, data(1)));
    for stream in 0..STREAMS_PER_PEER_MAX as u8 + 1 {
        bench.pending(1, stream, (0, first(1)));
        bench.pending(1, stream, (1, data(1)));
    }
    assert_eq!(bench.0.streams.len(), STREAMS_PER_PEER_MAX + 1);
    assert!(bench.completes(2, 0), "another peer's");
    assert!(bench.completes(1, 1), "the second oldest");
    assert!(!bench.completes(1, 0), "the oldest is gone");
}

#[test]
fn heights_that_are_decided_or_too_far_ahead_are_not_kept() {
    let mut bench = Bench::new();
    for (height, is_kept) in [(9, false), (10, true), (14, true), (15, false)] {
        let part = (0, PartContent::First(first_at(Height(height), 1)));
        let expected = if is_kept { Progress::Pending } else { Progress::Stale };
        assert_eq!(bench.put(1, height as u8, part), Ok(expected), "height {height}");
    }
    assert_eq!(bench.0.streams.len(), 2);
    bench.0.advance(Height(11));
    assert_eq!(bench.0.streams.len(), 1, "height 10 is decided");
    assert_eq!(HEIGHTS_AHEAD_MAX, 4);
}

/// Its proposer was a height ahead of us when it sent the first part, which is slower than the rest.
#[test]
fn height_that_begins_between_the_parts_of_its_proposal_keeps_them() {
    for (first_of, height, is_whole) in
        [(10, 10, true), (11, 11, true), (14, 11, true), (10, 11, false)]
    {
        let mut parts = split(first_at(Height(first_of), 1), &Bytes::from_static(&[7]));
        let mut assembler = Assembler::new(HEIGHT);
        let mut put = |part| assembler.insert(NOW, 1, part);
        let first = parts.remove(0);
        assert!(parts.into_iter().all(|part| put(part) == Ok(Progress::Pending)));
        assembler.advance(Height(height));
        let result = assembler.insert(NOW, 1, first);
        assert_eq!(matches!(result, Ok(Progress::Complete(_))), is_whole, "{first_of} at {height}");
    }
}

#[test]
fn stream_of_no_known_height_is_forgotten_when_a_height_begins() {
    let mut bench = Bench::new();
    bench.pending(1, 1, (1, data(1)));
    bench.0.advance(Height(11));
    assert_eq!(bench.0.streams.len(), 0);
}
