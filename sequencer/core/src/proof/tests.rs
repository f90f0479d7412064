//! What is built verifies; everything near it does not; each refusal by name.

use alloy_primitives::keccak256;
use proptest::prelude::*;

use super::fixtures::*;
use super::*;
use crate::certificate::InvalidCertificate;
use crate::encoding::Canonical;
use crate::header::Header;
use crate::slice::Item;
use crate::types::Round;

mod headers;
mod mutations;

fn log() -> Log {
    Log::small()
}

fn transactions(items: &[Item]) -> Vec<B256> {
    items.iter().flat_map(Item::transactions).map(keccak256).collect()
}

#[test]
fn every_slice_of_every_height_is_shown() {
    let log = log();
    for height in 1..=5 {
        for slice in log.slices(height) {
            let proof = log.slice_proof(height, slice.chain.0).unwrap();
            assert_eq!(proof.verify(log.network(), &log.set(height), slice), Ok(()));
            assert_eq!(SliceProof::from_canonical(&proof.to_canonical()), Ok(proof));
        }
    }
    assert_eq!(log.slice_proof(3, 20), None);
    assert_eq!(log.slice_proof(4, 10), None);
}

#[test]
fn a_slice_is_shown_whole_or_not_at_all() {
    let log = log();
    let whole = log.slice(1, 30).unwrap();
    let proof = log.slice_proof(1, 30).unwrap();
    let check = |slice: &Slice| proof.verify(log.network(), &log.set(1), slice);
    let expected = whole.summary();
    for at in 0..whole.items.len() {
        let mut fewer = whole.clone();
        fewer.items.remove(at);
        let got = fewer.summary();
        assert_eq!(check(&fewer), Err(InvalidProof::Summary { expected, got }));
    }
    let mut swapped = whole.clone();
    swapped.items.swap(0, 1);
    assert!(matches!(check(&swapped), Err(InvalidProof::Summary { .. })));
    let got = ChainId(30);
    let mut renamed = whole.clone();
    renamed.chain = ChainId(31);
    assert_eq!(check(&renamed), Err(InvalidProof::Chain { expected: ChainId(31), got }));
    let mut empty = whole.clone();
    empty.items.clear();
    assert!(matches!(check(&empty), Err(InvalidProof::Summary { .. })));
}

#[test]
fn a_table_with_an_empty_slice_is_refused() {
    let log = log();
    let empty = Slice { chain: ChainId(25), items: vec![] };
    let mut table = summaries(log.slices(1));
    table.insert(2, empty.summary());
    let root = crate::slice::slices_root(&table);
    let block = log.changed(1, |header| header.slices_root = root);
    let refused = Err(InvalidProof::EmptySlice { chain: ChainId(25) });
    let proof = SliceProof::build(block.clone(), &table, ChainId(25)).unwrap();
    assert_eq!(proof.check(&empty), refused);
    for chain in [ChainId(22), ChainId(27)] {
        let proof = AbsenceProof::build(block.clone(), &table, chain).unwrap();
        assert_eq!(proof.check(chain), refused);
    }
}

#[test]
fn absence_is_shown_at_every_place() {
    let log = log();
    // Height, absent chain, neighbours.
    let cases = [
        (1, 0, 1),
        (1, 9, 1),
        (1, 11, 2),
        (1, 19, 2),
        (1, 29, 2),
        (1, 31, 1),
        (1, u64::MAX, 1),
        (3, 20, 2),
        (4, 10, 0),
    ];
    for (height, chain, neighbours) in cases {
        let proof = log.absence_proof(height, chain).unwrap();
        assert_eq!(proof.absence.neighbours.len(), neighbours, "{chain}");
        let check = |chain| proof.verify(log.network(), &log.set(height), ChainId(chain));
        assert_eq!(check(chain), Ok(()), "{chain} at {height}");
        assert_eq!(AbsenceProof::from_canonical(&proof.to_canonical()), Ok(proof.clone()));
        for present in log.slices(height) {
            assert!(check(present.chain.0).is_err(), "{} by {chain}", present.chain);
        }
    }
    assert_eq!(log.absence_proof(1, 10), None);
    assert_eq!(log.absence_proof(3, 30), None);
}

#[test]
fn each_wrong_absence_is_refused_by_name() {
    let log = log();
    let chain = ChainId(19);
    let good = log.absence_proof(1, chain.0).unwrap().absence;
    let root = log.block(1).header.slices_root;
    let with = |change: &dyn Fn(&mut Absence)| {
        let mut absence = good.clone();
        change(&mut absence);
        absence.check(root, chain)
    };
    assert_eq!(with(&|_| ()), Ok(()));
    let neighbours = |expected, got| Err(InvalidProof::Neighbours { expected, got });
    assert_eq!(with(&|a| drop(a.neighbours.pop())), neighbours(2, 1));
    assert_eq!(with(&|a| a.neighbours.clear()), neighbours(2, 0));
    assert_eq!(with(&|a| a.neighbours.push(a.neighbours[0].clone())), neighbours(2, 3));
    assert_eq!(with(&|a| a.place = 0), neighbours(1, 2));
    assert_eq!(with(&|a| a.place = 3), neighbours(1, 2));
    assert_eq!(with(&|a| (a.place, a.count) = (0, 0)), neighbours(0, 2));
    assert_eq!(with(&|a| a.place = 4), Err(InvalidProof::Place { place: 4, count: 3 }));
    assert!(matches!(with(&|a| a.place = 2), Err(InvalidProof::Path(_))));
    assert!(matches!(with(&|a| a.count = 4), Err(InvalidProof::Path(_))));
    assert!(matches!(with(&|a| a.neighbours.swap(0, 1)), Err(InvalidProof::Path(_))));

    let order =
        |chain, neighbour| Err(InvalidProof::Order { chain, neighbour: ChainId(neighbour) });
    for (chain, neighbour) in [(10, 10), (9, 10), (20, 20), (21, 20), (30, 20)] {
        let chain = ChainId(chain);
        assert_eq!(good.check(root, chain), order(chain, neighbour));
    }
    let none = Absence { count: 0, place: 0, neighbours: vec![] };
    assert_eq!(none.check(root, chain), Err(InvalidProof::NotEmpty));
    assert_eq!(none.check(merkle::root_of_none(), chain), Ok(()));
    assert_eq!(none.check(B256::ZERO, chain), Err(InvalidProof::NotEmpty));
    // One end leaf, where the table goes on.
    let first = log.absence_proof(1, 5).unwrap().absence;
    assert_eq!(first.check(root, ChainId(5)), Ok(()));
    let last = Absence { place: 3, ..first };
    assert!(matches!(last.check(root, ChainId(40)), Err(InvalidProof::Path(_))));
}

#[test]
fn an_unordered_table_is_refused_where_it_shows() {
    let table = summaries(&[slice(ChainId(10), 1), slice(ChainId(30), 2), slice(ChainId(20), 3)]);
    let root = crate::slice::slices_root(&table);
    let neighbour = |index| {
        let SlicePlace { summary, path, .. } = SlicePlace::at(&table, index).unwrap();
        Neighbour { summary, path }
    };
    let at = |place, neighbours| Absence { count: 3, place, neighbours };
    let order =
        |neighbour| Err(InvalidProof::Order { chain: ChainId(25), neighbour: ChainId(neighbour) });
    let chain = ChainId(25);
    assert_eq!(at(2, vec![neighbour(1), neighbour(2)]).check(root, chain), order(30));
    assert_eq!(at(0, vec![neighbour(0)]).check(root, chain), order(10));
    // The table's order is not the order of chains: what looks for a place finds none, or a wrong one.
    assert_eq!(SlicePlace::build(&table, ChainId(20)), None);
}

#[test]
fn ranges_show_every_height() {
    let log = log();
    for chain in [10, 20, 30, 99] {
        for (first, last) in [(1, 5), (1, 1), (3, 4), (5, 5)] {
            let proof = log.range_proof(first, last, chain);
            let check = |chain, first| {
                proof.verify(log.network(), &log.set(last), ChainId(chain), Height(first))
            };
            assert_eq!(check(chain, first), Ok(()));
            assert_eq!(RangeProof::from_canonical(&proof.to_canonical()), Ok(proof.clone()));
            for (height, block) in (first..).zip(&proof.blocks) {
                assert_eq!(block.presence.slice(), log.slice(height, chain));
            }
            let (expected, got) = (Height(first + 1), Height(first));
            let start = Err(InvalidProof::RangeStart { expected, got });
            assert_eq!(check(chain, first + 1), start);
        }
    }
}

#[test]
fn each_wrong_range_is_refused_by_name() {
    let log = log();
    let good = log.range_proof(1, 5, 20);
    let with = |change: &dyn Fn(&mut RangeProof)| {
        let mut proof = good.clone();
        change(&mut proof);
        proof.verify(log.network(), &log.set(5), ChainId(20), Height(1))
    };
    assert_eq!(with(&|_| ()), Ok(()));
    let length = |count| Err(InvalidProof::RangeLength { count });
    assert_eq!(with(&|p| p.blocks.clear()), length(0));
    assert_eq!(good.check(ChainId(20), Height(1)), Ok(()));
    let link = |height| Err(InvalidProof::Link { height: Height(height) });
    assert_eq!(with(&|p| drop(p.blocks.remove(2))), link(4));
    assert_eq!(with(&|p| p.blocks.insert(2, p.blocks[2].clone())), link(3));
    assert_eq!(with(&|p| p.blocks.swap(1, 2)), link(3));
    assert_eq!(with(&|p| p.blocks[1].header.cut_hash.0[0] ^= 1), link(3));
    assert_eq!(with(&|p| p.blocks[3].header.parent.0.0[0] ^= 1), link(4));
    // The first header is bound by the second's parent, the last one by the certificate.
    assert_eq!(with(&|p| p.blocks[0].header.slices_root.0[0] ^= 1), link(2));
    let last = with(&|p| p.blocks[4].header.state_hash.0[0] ^= 1);
    assert!(matches!(last, Err(InvalidProof::Header(InvalidHeader::Block { .. }))));
    let short = with(&|p| drop(p.blocks.pop()));
    assert!(matches!(short, Err(InvalidProof::Header(InvalidHeader::Height { .. }))));
    let start = with(&|p| drop(p.blocks.remove(0)));
    assert_eq!(start, Err(InvalidProof::RangeStart { expected: Height(1), got: Height(2) }));

    // Absent where there is a slice, present where there is none, another height's slice.
    let absent = good.blocks[3].presence.clone();
    assert!(with(&|p| p.blocks[0].presence = absent.clone()).is_err());
    let present = good.blocks[0].presence.clone();
    assert!(matches!(
        with(&|p| p.blocks[2].presence = present.clone()),
        Err(InvalidProof::Path(_))
    ));
    let other = log.range_proof(1, 1, 10).blocks[0].presence.clone();
    let chain = Err(InvalidProof::Chain { expected: ChainId(20), got: ChainId(10) });
    assert_eq!(with(&|p| p.blocks[0].presence = other.clone()), chain);
    let fewer = with(&|p| match &mut p.blocks[0].presence {
        SlicePresence::Present { slice, .. } => drop(slice.items.pop()),
        SlicePresence::Absent(_) => unreachable!("chain 20 is there"),
    });
    assert!(fewer.is_err());
    let wrong =
        SlicePresence::build(&summaries(log.slices(1)), ChainId(20), log.slice(1, 10).cloned());
    assert_eq!(wrong, None);
    assert_eq!(SlicePresence::build(&summaries(log.slices(1)), ChainId(20), None), None);
}

#[test]
fn the_length_of_a_range_holds_at_the_limit() {
    let block = |parent: Option<&Header>| {
        let log = log();
        let mut header = log.block(4).header.clone();
        if let Some(parent) = parent {
            header.height = parent.height.next();
            header.parent = parent.hash();
        }
        let absence = Absence { count: 0, place: 0, neighbours: vec![] };
        RangeBlock { header, presence: SlicePresence::Absent(absence) }
    };
    let first = block(None);
    let mut blocks = vec![first.clone()];
    while blocks.len() < SLICE_RANGE_MAX as usize {
        let parent = &blocks[blocks.len() - 1].header;
        let mut next = first.clone();
        (next.header.height, next.header.parent) = (parent.height.next(), parent.hash());
        blocks.push(next);
    }
    let certificate = log().block(4).certificate.clone();
    let most = RangeProof::build(blocks.clone(), certificate.clone()).unwrap();
    assert_eq!(most.check(ChainId(1), Height(4)), Ok(()));
    blocks.push(block(blocks.last().map(|block| &block.header)));
    let refused = Err(InvalidProof::RangeLength { count: 1_001 });
    assert_eq!(RangeProof::build(blocks, certificate.clone()), refused);
    let none = Err(InvalidProof::RangeLength { count: 0 });
    assert_eq!(RangeProof::build(vec![], certificate), none);
}

#[test]
fn every_transaction_is_shown() {
    let log = Log::new(vec![(1, crate::block::fixtures::keys(3))], 1, |_| vec![5, 6, 7, 8, 9, 10]);
    let mut count = 0;
    for slice in log.slices(1) {
        for hash in transactions(&slice.items) {
            let chain = slice.chain.0;
            let proof = log.transaction_proof(1, chain, hash).unwrap();
            let check = |chain, hash| proof.verify(log.network(), &log.set(1), chain, hash);
            assert_eq!(check(slice.chain, hash), Ok(()));
            assert_eq!(TransactionProof::from_canonical(&proof.to_canonical()), Ok(proof.clone()));
            let other = B256::repeat_byte(1);
            let refused = Err(InvalidProof::NoTransaction { hash: other });
            assert_eq!(check(slice.chain, other), refused);
            let expected = ChainId(99);
            let refused = Err(InvalidProof::Chain { expected, got: slice.chain });
            assert_eq!(check(expected, hash), refused);
            count += 1;
        }
    }
    assert!(count > 20);
    assert_eq!(log.transaction_proof(1, 10, B256::ZERO), None);
    assert_eq!(log.transaction_proof(1, 99, B256::ZERO), None);
}

#[test]
fn each_wrong_transaction_proof_is_refused() {
    let log = log();
    let slice = log.slice(1, 30).unwrap();
    let hash = transactions(&slice.items)[1];
    let good = log.transaction_proof(1, 30, hash).unwrap();
    let with = |change: &dyn Fn(&mut TransactionProof)| {
        let mut proof = good.clone();
        change(&mut proof);
        proof.verify(log.network(), &log.set(1), ChainId(30), hash)
    };
    assert_eq!(with(&|_| ()), Ok(()));
    assert!(matches!(with(&|p| p.item_place = 0), Err(InvalidProof::Path(_))));
    assert!(matches!(
        with(&|p| p.item_place = 9),
        Err(InvalidProof::Path(InvalidPath::Index { .. }))
    ));
    assert!(matches!(with(&|p| p.item.index = 0), Err(InvalidProof::Path(_))));
    assert!(matches!(with(&|p| p.item = slice.items[0].clone()), Err(InvalidProof::Path(_))));
    assert!(matches!(with(&|p| p.item_path.truncate(1)), Err(InvalidProof::Path(_))));
    assert!(matches!(with(&|p| p.place.index = 0), Err(InvalidProof::Path(_))));
    assert!(matches!(with(&|p| p.place.summary.bytes += 1), Err(InvalidProof::Path(_))));
    assert!(matches!(with(&|p| p.block = log.block(3).clone()), Err(InvalidProof::Path(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_chain_is_shown_present_or_absent_and_never_both(
        chains in proptest::collection::btree_set(0u64..150, 0..70),
        asked in 0u64..150,
    ) {
        let chains: Vec<u64> = chains.into_iter().collect();
        let slices: Vec<Slice> =
            chains.iter().map(|chain| slice(ChainId(*chain), 1 + *chain as u32 % 3)).collect();
        let table = summaries(&slices);
        let root = slices_root_of(&slices);
        let asked = ChainId(asked);
        let own = slices.iter().find(|slice| slice.chain == asked);
        let place = SlicePlace::build(&table, asked);
        let absence = Absence::build(&table, asked);
        prop_assert_eq!(place.is_some(), own.is_some());
        prop_assert_eq!(absence.is_some(), own.is_none());
        if let Some(place) = place {
            prop_assert_eq!(place.check(root, asked), Ok(()));
        }
        if let Some(absence) = absence {
            prop_assert_eq!(absence.check(root, asked), Ok(()));
            for chain in chains {
                prop_assert!(absence.check(root, ChainId(chain)).is_err());
            }
        }
        let presence = SlicePresence::build(&table, asked, own.cloned()).unwrap();
        prop_assert_eq!(presence.check(root, asked), Ok(()));
        prop_assert!(presence.check(B256::ZERO, asked).is_err());
    }
}
