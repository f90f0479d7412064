//! A node that lies to the verifying client: each lie is refused by its name, nothing of it is believed or handed over.

use alloy_primitives::keccak256;
use lockstep_core::certificate::Certificate;
use lockstep_core::proof::{
    Absence, AbsenceProof, CertifiedHeader, Neighbour, RangeBlock, SlicePlace, SlicePresence,
    SliceProof, TransactionProof,
};
use lockstep_core::slice::{Content, Slice, SliceSummary};
use lockstep_core::types::{ChainId, Height, Round, UnixMillis};
use lockstep_proto::convert::log::{Handovers, ProvenSlice, SliceRange};
use lockstep_rpc::client::verified::{Shown, VerifyError, VerifyingLog};
use lockstep_rpc::node::{BlockSlices, Log};
use lockstep_test_log::MemoryLog;
use lockstep_test_log::keys::{certify, set_of, strangers};

use crate::network::{A, B, Lies, NONE, Node, entry, fill, light_client};

/// A node of six heights: at odd ones [`A`] has two items and [`B`] one, at even ones [`B`] has one.
async fn node() -> Node {
    let node = Node::start().await;
    for height in 1..=6u8 {
        let of_b = entry(B, &[height]);
        match height % 2 {
            1 => node.log.decide(&[entry(A, &[height, 1]), entry(A, &[height, 2]), of_b]),
            _ => node.log.decide(&[of_b]),
        };
    }
    node
}

async fn lied_to(node: &Node, lies: Lies) -> VerifyingLog {
    VerifyingLog::new(node.liar(lies).await, light_client(&node.log))
}

fn assert_named(error: &VerifyError, expected: &str, what: &str) {
    let is_named = error.to_string().contains(expected);
    assert!(is_named, "{what}: expected \"{expected}\", got \"{error}\"");
    assert!(!matches!(error, VerifyError::Client(_)), "{what}: {error}");
}

/// A block's certified header, its summaries, and one chain's slice of it.
struct Truth {
    block: CertifiedHeader,
    summaries: Vec<SliceSummary>,
    slice: Option<Slice>,
}

/// What the log truly has.
fn truth(log: &MemoryLog, chain: ChainId, height: u64) -> Truth {
    let slices = log.slices(Height(height)).unwrap().unwrap();
    let slice = slices.of(chain).cloned();
    let BlockSlices { block, summaries, .. } = slices;
    Truth { block, summaries, slice }
}

/// What a verifying client shows of [`A`].
fn shown(log: &MemoryLog, height: u64) -> Shown {
    let Truth { block, slice, .. } = truth(log, A, height);
    (block.header, slice)
}

fn proven(log: &MemoryLog, chain: ChainId, height: u64) -> ProvenSlice {
    let Truth { block, summaries, slice } = truth(log, chain, height);
    match slice {
        Some(slice) => {
            let proof = SliceProof::build(block, &summaries, chain).unwrap();
            ProvenSlice::Present { slice, proof }
        }
        None => ProvenSlice::Absent(AbsenceProof::build(block, &summaries, chain).unwrap()),
    }
}

fn range_block(log: &MemoryLog, chain: ChainId, height: u64) -> RangeBlock {
    let Truth { block, summaries, slice } = truth(log, chain, height);
    let presence = SlicePresence::build(&summaries, chain, slice).unwrap();
    RangeBlock { header: block.header, presence }
}

fn present(told: &mut ProvenSlice) -> (&mut Slice, &mut SliceProof) {
    match told {
        ProvenSlice::Present { slice, proof } => (slice, proof),
        ProvenSlice::Absent(_) => panic!("the chain has a slice here"),
    }
}

fn absent(told: &mut ProvenSlice) -> &mut Absence {
    match told {
        ProvenSlice::Present { .. } => panic!("the chain has no slice here"),
        ProvenSlice::Absent(proof) => &mut proof.absence,
    }
}

/// The slice of a height of a range at which the chain has one.
fn slice_of(block: &mut RangeBlock) -> &mut Slice {
    match &mut block.presence {
        SlicePresence::Present { slice, .. } => slice,
        SlicePresence::Absent(_) => panic!("the chain has a slice here"),
    }
}

fn forge(slice: &mut Slice) {
    slice.items[0].content = Content::Transaction { bytes: b"forged".to_vec().into() };
}

/// No slice in an empty table.
fn nothing() -> Absence {
    Absence { count: 0, place: 0, neighbours: Vec::new() }
}

/// [`A`] is absent at height 3, because the table begins with it.
fn absence_beside_itself(log: &MemoryLog) -> Absence {
    let summaries = truth(log, A, 3).summaries;
    let SlicePlace { summary, count, path, .. } = SlicePlace::build(&summaries, A).unwrap();
    Absence { count, place: 0, neighbours: vec![Neighbour { summary, path }] }
}

/// The lies are told by the liar, and not by the way to it.
#[tokio::test]
async fn the_truth_passed_on_is_believed() {
    let node = node().await;
    let mut log = lied_to(&node, Lies::NONE).await;
    assert_eq!(log.head().await.unwrap(), node.log.certified(Height(6)).header);
    assert_eq!(log.slice(A, Height(3)).await.unwrap(), shown(&node.log, 3));
    assert_eq!(log.slice(A, Height(4)).await.unwrap().1, None);
    let range = log.range(A, Height(1), Height(6)).await.unwrap();
    let all = (1..=6).map(|height| shown(&node.log, height));
    assert!(range.into_iter().eq(all));
    let proof = log.transaction(A, keccak256([3u8, 1])).await.unwrap();
    assert_eq!(proof.block, node.log.certified(Height(3)));
    let mut stream = log.follow(A, Height(3)).await.unwrap();
    assert_eq!(stream.next().await.unwrap(), shown(&node.log, 3));
}

/// Asks in every way there is, and gives why nothing was shown.
async fn all_refusals(log: &mut VerifyingLog) -> [(&'static str, VerifyError); 6] {
    let mut stream = log.follow(A, Height(3)).await.unwrap();
    let streamed = stream.next().await.unwrap_err();
    [
        ("streamed", streamed),
        ("head", log.head().await.unwrap_err()),
        ("slice", log.slice(A, Height(3)).await.unwrap_err()),
        ("absence", log.slice(A, Height(4)).await.unwrap_err()),
        ("range", log.range(A, Height(1), Height(6)).await.unwrap_err()),
        ("transaction", log.transaction(A, keccak256([3u8, 1])).await.unwrap_err()),
    ]
}

type BlockLie = (&'static str, fn(&MemoryLog, &mut CertifiedHeader));

const CERTIFICATE_LIES: [BlockLie; 7] = [
    ("certificate is of height 2", |log, block| {
        block.certificate = log.certified(Height(2)).certificate;
    }),
    ("certificate is of block", |log, block| {
        let height = block.header.height;
        block.certificate = Certificate { height, ..log.certified(Height(2)).certificate };
    }),
    // Whom a signature over other bytes recovers to is chance.
    ("signature of", |log, block| {
        block.certificate.signatures = log.certified(Height(2)).certificate.signatures;
    }),
    ("signature of", |_, block| block.certificate.round = Round(1)),
    ("voting power 2 of 4", |_, block| block.certificate.signatures.truncate(2)),
    ("is not after the one before it", |_, block| {
        block.certificate.signatures[1] = block.certificate.signatures[0];
    }),
    ("signature of", |_, block| block.certificate.signatures[0].signature.0[3] ^= 1),
];

const STRANGERS_LIES: [BlockLie; 3] = [
    ("is not in the height's validator set", |_, block| {
        block.certificate = certify(&strangers(), &block.header);
    }),
    ("recovers to", |_, block| {
        let theirs = certify(&strangers(), &block.header).signatures;
        for (ours, theirs) in block.certificate.signatures.iter_mut().zip(theirs) {
            ours.signature = theirs.signature;
        }
    }),
    ("header names validator set", |_, block| {
        block.header.validators_hash = set_of(&strangers()).hash();
        block.certificate = certify(&strangers(), &block.header);
    }),
];

const HEADER_LIES: [BlockLie; 4] = [
    ("the header's hash is", |_, block| block.header.timestamp_ms = UnixMillis(1)),
    ("signature of", |_, block| {
        block.header.timestamp_ms = UnixMillis(1);
        block.certificate.block = block.header.hash();
    }),
    ("header was proposed by", |_, block| {
        block.header.proposer = strangers()[0].address();
        block.certificate.block = block.header.hash();
    }),
    ("says its set decides since 3", |_, block| block.header.set_since = Height(3)),
];

#[tokio::test]
async fn a_header_that_is_not_shown_to_be_decided_shows_nothing() {
    let node = node().await;
    let lies = CERTIFICATE_LIES.into_iter().chain(STRANGERS_LIES).chain(HEADER_LIES);
    for (expected, block) in lies {
        let mut log = lied_to(&node, Lies { block, ..Lies::NONE }).await;
        for (asked, error) in all_refusals(&mut log).await {
            assert_named(&error, expected, asked);
        }
        assert_eq!(log.light_client().head(), None, "{expected}: it is believed");
    }
}

type SliceLie = (&'static str, fn(&MemoryLog, &mut ProvenSlice));

/// Of height 3, where the chain has a slice.
const LIES_OF_A_SLICE: [SliceLie; 12] = [
    ("slice is not the one of its summary", |_, told| forge(present(told).0)),
    ("slice is not the one of its summary", |_, told| drop(present(told).0.items.pop())),
    ("slice is not the one of its summary", |_, told| {
        let items = &mut present(told).0.items;
        let mut twice = items[1].clone();
        twice.index += 1;
        items.push(twice);
    }),
    ("slice is not the one of its summary", |_, told| {
        let items = &mut present(told).0.items;
        let first = items[0].content.clone();
        items[0].content = std::mem::replace(&mut items[1].content, first);
    }),
    ("path ends at root", |_, told| {
        let (slice, proof) = present(told);
        forge(slice);
        proof.place.summary = slice.summary();
    }),
    ("answered for chain 903, asked for was 902", |log, told| *told = proven(log, B, 3)),
    ("proof is about chain 903, expected 902", |log, told| {
        *told = proven(log, B, 3);
        present(told).0.chain = A;
    }),
    ("path ends at root", |log, told| {
        *told = proven(log, B, 3);
        let (slice, proof) = present(told);
        slice.chain = A;
        proof.place.summary = slice.summary();
    }),
    ("answered for height 5, asked for was 3", |log, told| *told = proven(log, A, 5)),
    ("path ends at root", |log, told| {
        *told = proven(log, A, 5);
        present(told).1.block = log.certified(Height(3));
    }),
    ("slices root is not that of an empty table", |log, told| {
        let block = log.certified(Height(3));
        *told = ProvenSlice::Absent(AbsenceProof { block, absence: nothing() });
    }),
    ("absence has 1 neighbours, expected 2", |log, told| {
        let (block, mut absence) = (log.certified(Height(3)), absence_beside_itself(log));
        absence.place = 1;
        *told = ProvenSlice::Absent(AbsenceProof { block, absence });
    }),
];

/// Of height 3 too.
const LIES_OF_ABSENCE_BESIDE_OTHERS: [SliceLie; 2] = [
    ("chain 902 does not belong beside chain 902", |log, told| {
        let (block, absence) = (log.certified(Height(3)), absence_beside_itself(log));
        *told = ProvenSlice::Absent(AbsenceProof { block, absence });
    }),
    ("path ends at root", |log, told| {
        *told = proven(log, A, 4);
        let absence = absent(told).clone();
        *told = ProvenSlice::Absent(AbsenceProof { block: log.certified(Height(3)), absence });
    }),
];

/// Of height 4, where the chain has none.
const LIES_OF_AN_ABSENCE: [SliceLie; 4] = [
    ("path ends at root", |log, told| {
        *told = proven(log, A, 3);
        present(told).1.block = log.certified(Height(4));
    }),
    ("answered for height 3, asked for was 4", |log, told| *told = proven(log, A, 3)),
    ("chain 902 does not belong beside chain 903", |log, told| *told = proven(log, NONE, 4)),
    ("absence has 0 neighbours, expected 1", |_, told| absent(told).neighbours.clear()),
];

#[tokio::test]
async fn a_lie_about_what_a_chain_has_at_a_height_is_refused() {
    let node = node().await;
    let at_3 = LIES_OF_A_SLICE.into_iter().chain(LIES_OF_ABSENCE_BESIDE_OTHERS).map(|lie| (3, lie));
    let at_4 = LIES_OF_AN_ABSENCE.into_iter().map(|lie| (4, lie));
    for (height, (expected, slice)) in at_3.chain(at_4) {
        let slice_at = Some(Height(height));
        let mut log = lied_to(&node, Lies { slice, slice_at, ..Lies::NONE }).await;
        let error = log.slice(A, Height(height)).await.unwrap_err();
        assert_named(&error, expected, "asked for");
        let error = log.follow(A, Height(height)).await.unwrap().next().await.unwrap_err();
        assert_named(&error, expected, "streamed");
        assert_eq!(log.light_client().head(), None, "{expected}: it is believed");
    }
}

type RangeLie = (&'static str, fn(&MemoryLog, &mut SliceRange));

const LIES_OF_SLICES: [RangeLie; 10] = [
    ("path ends at root", |_, told| forge(slice_of(&mut told.proof.blocks[2]))),
    ("path ends at root", |_, told| {
        drop(slice_of(&mut told.proof.blocks[2]).items.pop());
    }),
    ("path ends at root", |_, told| {
        let third = told.proof.blocks[2].presence.clone();
        let fifth = std::mem::replace(&mut told.proof.blocks[4].presence, third);
        told.proof.blocks[2].presence = fifth;
    }),
    ("path ends at root", |log, told| {
        told.proof.blocks[2].presence = range_block(log, A, 5).presence;
    }),
    ("proof is about chain 903, expected 902", |log, told| {
        told.proof.blocks[2].presence = range_block(log, B, 3).presence;
    }),
    ("path ends at root", |log, told| {
        told.proof.blocks[2].presence = range_block(log, B, 3).presence;
        slice_of(&mut told.proof.blocks[2]).chain = A;
    }),
    ("slices root is not that of an empty table", |_, told| {
        told.proof.blocks[2].presence = SlicePresence::Absent(nothing());
    }),
    ("chain 902 does not belong beside chain 902", |log, told| {
        told.proof.blocks[2].presence = SlicePresence::Absent(absence_beside_itself(log));
    }),
    ("path ends at root", |log, told| {
        told.proof.blocks[3].presence = range_block(log, A, 3).presence;
    }),
    ("path ends at root", |log, told| {
        told.proof.blocks[3].presence = range_block(log, A, 6).presence;
    }),
];

const LIES_OF_HEIGHTS: [RangeLie; 10] = [
    ("header 4 of the range does not follow", |_, told| drop(told.proof.blocks.remove(2))),
    ("header 3 of the range does not follow", |_, told| {
        let twice = told.proof.blocks[2].clone();
        told.proof.blocks.insert(2, twice);
    }),
    ("header 4 of the range does not follow", |_, told| told.proof.blocks.swap(2, 3)),
    ("header 5 of the range does not follow", |log, told| {
        told.proof.blocks[2] = range_block(log, A, 5);
    }),
    ("header 4 of the range does not follow", |_, told| {
        told.proof.blocks[2].header.timestamp_ms = UnixMillis(1);
    }),
    ("range begins at height 2, expected 1", |_, told| drop(told.proof.blocks.remove(0))),
    ("certificate is of height 6, the header of 4", |_, told| told.proof.blocks.truncate(4)),
    ("range has 0 heights", |_, told| told.proof.blocks.clear()),
    ("ends at height 6 and goes on at 8", |_, told| told.next = Some(Height(8))),
    ("ends at height 6 and goes on at 6", |_, told| told.next = Some(Height(6))),
];

#[tokio::test]
async fn a_lie_about_a_range_is_refused() {
    let node = node().await;
    for (expected, range) in LIES_OF_SLICES.into_iter().chain(LIES_OF_HEIGHTS) {
        let mut log = lied_to(&node, Lies { range, ..Lies::NONE }).await;
        let error = log.range(A, Height(1), Height(6)).await.unwrap_err();
        assert_named(&error, expected, "range");
        assert_eq!(log.light_client().head(), None, "{expected}: it is believed");
    }
}

#[tokio::test]
async fn a_range_longer_than_asked_for_is_refused() {
    let node = node().await;
    let range = |log: &MemoryLog, told: &mut SliceRange| {
        told.proof.blocks.push(range_block(log, A, 5));
        told.proof.certificate = log.certified(Height(5)).certificate;
    };
    let mut log = lied_to(&node, Lies { range, ..Lies::NONE }).await;
    let error = log.range(A, Height(1), Height(4)).await.unwrap_err();
    assert_eq!(error, VerifyError::Height { expected: Height(4), got: Height(5) });
    assert_eq!(log.light_client().head(), None);
}

fn first(told: &SliceRange) -> u64 {
    told.proof.blocks[0].header.height.0
}

/// Ends a range after two heights, as a node does that has much to say.
fn cut_to_two(log: &MemoryLog, told: &mut SliceRange) {
    if told.proof.blocks.len() > 2 {
        told.proof.blocks.truncate(2);
        let last = Height(first(told) + 1);
        told.proof.certificate = log.certified(last).certificate;
        told.next = Some(last.next());
    }
}

#[tokio::test]
async fn a_range_answered_in_parts_is_whole() {
    let node = node().await;
    let mut log = lied_to(&node, Lies { range: cut_to_two, ..Lies::NONE }).await;
    let range = log.range(A, Height(1), Height(6)).await.unwrap();
    let all = (1..=6).map(|height| shown(&node.log, height));
    assert!(range.into_iter().eq(all));
}

/// What was shown before is believed, and still nothing is handed over.
#[tokio::test]
async fn a_range_that_ends_early_must_go_on_where_it_ended() {
    let lies: [RangeLie; 4] = [
        ("ends at height 2 and goes on at 4", |log, told| {
            cut_to_two(log, told);
            told.next = told.next.map(Height::next);
        }),
        ("range begins at height 4, expected 3", |log, told| match first(told) {
            1 => cut_to_two(log, told),
            _ => drop(told.proof.blocks.remove(0)),
        }),
        ("range begins at height 2, expected 3", |log, told| match first(told) {
            1 => cut_to_two(log, told),
            _ => told.proof.blocks.insert(0, range_block(log, A, 2)),
        }),
        ("proof is about chain 903, expected 902", |log, told| match first(told) {
            1 => cut_to_two(log, told),
            _ => told.proof.blocks[0] = range_block(log, B, 3),
        }),
    ];
    let node = node().await;
    for (place, (expected, range)) in lies.into_iter().enumerate() {
        let mut log = lied_to(&node, Lies { range, ..Lies::NONE }).await;
        let error = log.range(A, Height(1), Height(6)).await.unwrap_err();
        assert_named(&error, expected, "range");
        let head = log.light_client().head().map(|header| header.height);
        assert_eq!(head, (place > 0).then_some(Height(2)), "{expected}");
    }
}

/// A node may claim that the log ends: the caller sees by the heights that it was not given more.
#[tokio::test]
async fn a_range_that_is_said_to_be_over_hands_over_only_what_was_shown() {
    let node = node().await;
    let range = |log: &MemoryLog, told: &mut SliceRange| {
        cut_to_two(log, told);
        told.next = None;
    };
    let mut log = lied_to(&node, Lies { range, ..Lies::NONE }).await;
    let range = log.range(A, Height(1), Height(6)).await.unwrap();
    assert!(range.into_iter().eq((1..=2).map(|height| shown(&node.log, height))));
}

/// The heights a stream gives instead of the next ones; the first wrong one, expected and got.
type OrderLie = (fn(u64) -> u64, u64, u64);

#[tokio::test]
async fn a_stream_out_of_order_is_refused_at_the_first_wrong_height() {
    let lies: [OrderLie; 3] = [
        (|height| if height < 3 { height } else { height + 1 }, 3, 4),
        (|height| if height < 4 { height } else { height - 1 }, 4, 3),
        (|height| [1, 2, 4, 3, 5, 6][usize::try_from(height - 1).unwrap() % 6], 3, 4),
    ];
    let node = node().await;
    for (order, expected, got) in lies {
        let mut log = lied_to(&node, Lies { order, ..Lies::NONE }).await;
        let mut stream = log.follow(A, Height(1)).await.unwrap();
        for height in 1..expected {
            assert_eq!(stream.next().await.unwrap(), shown(&node.log, height));
        }
        let error = VerifyError::Height { expected: Height(expected), got: Height(got) };
        assert_eq!(stream.next().await.unwrap_err(), error);
    }
}

#[tokio::test]
async fn a_transaction_is_shown_by_its_own_item_only() {
    let node = node().await;
    let hash = keccak256([3u8, 1]);
    let forged = Lies {
        transaction: |_, told| {
            told.item.content = Content::Transaction { bytes: b"forged".to_vec().into() };
        },
        ..Lies::NONE
    };
    let another = Lies {
        transaction: |log, told| {
            let Truth { block, summaries, slice } = truth(log, A, 3);
            let (slice, second) = (slice.unwrap(), keccak256([3u8, 2]));
            *told = TransactionProof::build(block, &summaries, &slice, second).unwrap();
        },
        ..Lies::NONE
    };
    let of_another_chain = Lies {
        transaction: |log, told| {
            let summaries = truth(log, B, 3).summaries;
            told.place = SlicePlace::build(&summaries, B).unwrap();
        },
        ..Lies::NONE
    };
    let cases = [
        (forged, "path ends at root"),
        (another, "item does not hold transaction"),
        (of_another_chain, "proof is about chain 903, expected 902"),
    ];
    for (lies, expected) in cases {
        let mut log = lied_to(&node, lies).await;
        assert_named(&log.transaction(A, hash).await.unwrap_err(), expected, "transaction");
        assert_eq!(log.light_client().head(), None);
    }
}

type HandoverLie = (&'static str, fn(Height, &mut Handovers));

#[tokio::test]
async fn a_lie_about_a_handover_is_refused() {
    let node = node().await;
    node.log.hand_over();
    fill(&node.log, 10);
    let honest = lied_to(&node, Lies::NONE).await.slice(A, Height(10)).await;
    assert_eq!(honest.unwrap().1, None);
    let lies: [HandoverLie; 4] = [
        ("the hand-overs lead to 1", |_, told| told.handovers.clear()),
        ("ends at height 1 and goes on at 2", |from, told| {
            told.handovers.clear();
            told.next = Some(from.next());
        }),
        ("is not in the height's validator set", |_, told| {
            let block = &mut told.handovers[0].block;
            block.certificate = certify(&strangers(), &block.header);
        }),
        ("hand-over at height 7 does not lead to a new set", |_, told| {
            told.handovers[0].next_set = set_of(&strangers());
        }),
    ];
    for (expected, handovers) in lies {
        let mut log = lied_to(&node, Lies { handovers, ..Lies::NONE }).await;
        for height in [9, 10] {
            let error = log.slice(A, Height(height)).await.unwrap_err();
            assert_named(&error, expected, "slice");
        }
        assert_eq!(log.light_client().head(), None, "{expected}: it is believed");
    }
}

/// More than a third of the voting power signs two logs: the client that saw one of them holds both in its hands.
#[tokio::test]
async fn a_fork_shows_to_who_has_seen_the_other_side() {
    let node = node().await;
    let mut log = VerifyingLog::new(node.log_client().await, light_client(&node.log));
    let seen = log.head().await.unwrap();
    let block = |log: &MemoryLog, told: &mut CertifiedHeader| {
        told.header.timestamp_ms = told.header.timestamp_ms.plus(1);
        told.certificate = log.certify(&told.header);
    };
    log.move_to(node.liar(Lies { block, ..Lies::NONE }).await);
    for error in [log.head().await.unwrap_err(), log.slice(A, Height(5)).await.unwrap_err()] {
        assert_named(&error, "two certified headers contradict one another at height 6", "fork");
    }
    assert_eq!(log.light_client().head(), Some(&seen));
}
