//! Tests of the verifier with a log of one validator: what honest answers prove, and that each lie is named.

use super::*;
use alloy_primitives::{B256, Bytes};
use lockstep_core::bundle::Guarantee;
use lockstep_core::certificate::{CommitSignature, Vote, VoteType};
use lockstep_core::params::{Genesis, NetworkParams};
use lockstep_core::proof::{
    Absence, AbsenceProof, RangeBlock, RangeProof, SlicePresence, SliceProof,
};
use lockstep_core::signing::SigningKey;
use lockstep_core::slice::{Item, SliceSummary, slices_root};
use lockstep_core::types::{BlockHash, EntryId, Round};
use lockstep_core::validator_set::{Validator, ValidatorSet};

const CHAIN: ChainId = ChainId(901);
const OTHER: ChainId = ChainId(902);
const NOW: UnixMillis = UnixMillis(1_000_000);

/// A log of one validator, in which [`CHAIN`] has a slice at odd heights.
struct Log {
    key: SigningKey,
    genesis: Genesis,
    blocks: Vec<(CertifiedHeader, Vec<SliceSummary>, Option<Slice>)>,
}

fn slice(height: u64) -> Slice {
    let bytes = Bytes::from(height.to_be_bytes().to_vec());
    let loose = Item { index: 0, content: Content::Transaction { bytes: bytes.clone() } };
    let content = Content::Leg {
        bundle: EntryId(B256::repeat_byte(1)),
        leg: 0,
        legs: 2,
        guarantee: Guarantee::CoOrdered,
        transactions: vec![bytes.clone(), bytes],
    };
    Slice { chain: CHAIN, items: vec![loose, Item { index: 1, content }] }
}

impl Log {
    fn new(key: u8, heights: u64) -> Self {
        let key = SigningKey::from_bytes([key; 32]).expect("is a key");
        let validator = Validator {
            address: key.address(),
            public_key: key.public_key(),
            power: 5,
            network_address: String::new(),
        };
        let genesis = Genesis {
            name: "test".to_owned(),
            timestamp: UnixMillis(1),
            params: NetworkParams::default(),
            validators: ValidatorSet::new(vec![validator]).expect("is a set"),
            chains: Vec::new(),
        };
        let mut log = Self { key, genesis, blocks: Vec::new() };
        for height in 1..=heights {
            log.decide(height);
        }
        log
    }

    fn decide(&mut self, height: u64) {
        let slice = (height % 2 == 1).then(|| slice(height));
        let summaries: Vec<SliceSummary> = slice.iter().map(Slice::summary).collect();
        let network_id = self.genesis.network_id();
        let parent =
            self.blocks.last().map_or(BlockHash(network_id.0), |(block, ..)| block.header.hash());
        let set = self.genesis.validators.hash();
        let header = Header {
            network_id,
            height: Height(height),
            round: Round(0),
            parent,
            timestamp_ms: UnixMillis(1_000 + height),
            proposer: self.key.address(),
            validators_hash: set,
            next_validators_hash: set,
            set_since: Height(1),
            cut_hash: B256::ZERO,
            slices_root: slices_root(&summaries),
            state_hash: B256::ZERO,
        };
        let certificate = self.certificate(&header);
        self.blocks.push((CertifiedHeader { header, certificate }, summaries, slice));
    }

    fn certificate(&self, header: &Header) -> Certificate {
        let (height, round, block) = (header.height, header.round, header.hash());
        let vote = Vote { height, round, vote_type: VoteType::Precommit, block: Some(block) };
        let signature = self.key.sign(vote.digest(header.network_id));
        let signatures = vec![CommitSignature { validator: self.key.address(), signature }];
        Certificate { height, round, block, signatures }
    }

    fn verifier(&self) -> Verifier {
        let client = LightClient::from_genesis(&self.genesis, self.genesis.timestamp);
        Verifier::new(client.expect("is valid"))
    }

    fn answer(&self, height: u64) -> ProvenSlice {
        let (block, summaries, slice) = &self.blocks[height as usize - 1];
        match slice {
            Some(slice) => ProvenSlice::Present {
                slice: slice.clone(),
                proof: SliceProof::build(block.clone(), summaries, CHAIN).expect("has one"),
            },
            None => ProvenSlice::Absent(AbsenceProof {
                block: block.clone(),
                absence: Absence::build(summaries, CHAIN).expect("has none"),
            }),
        }
    }

    fn range(&self, first: u64, last: u64) -> SliceRange {
        let of =
            |(block, summaries, slice): &(CertifiedHeader, Vec<SliceSummary>, Option<Slice>)| {
                let presence =
                    SlicePresence::build(summaries, CHAIN, slice.clone()).expect("agrees");
                RangeBlock { header: block.header.clone(), presence }
            };
        let blocks = self.blocks[first as usize - 1..last as usize].iter().map(of).collect();
        let certificate = self.blocks[last as usize - 1].0.certificate.clone();
        let proof = RangeProof::build(blocks, certificate).expect("is a range");
        SliceRange { proof, next: None }
    }
}

#[test]
fn honest_range_proves_items_and_absences() {
    let log = Log::new(1, 9);
    let mut verifier = log.verifier();
    let asked = (CHAIN, Height(1), Height(9));
    let proven = verifier.range(asked, &log.range(1, 9), &[], NOW).expect("is proven");
    assert_eq!((proven.first, proven.last, proven.absent), (1, 9, 4));
    assert_eq!((proven.items, proven.transactions, proven.legs, proven.first_legs), (10, 15, 5, 5));
    let Decision { signers, power, validators, total_power, .. } = proven.certificate;
    assert_eq!((signers, power, validators, total_power), (1, 5, 1, 5));
    assert!(proven.to_string().contains("heights 1..=9: 10 items (15 transactions, 5 legs"));
    assert_eq!(verifier.client().head().expect("believes it").height, Height(9));
}

#[test]
fn honest_slices_prove_presence_and_absence() {
    let log = Log::new(1, 4);
    let mut verifier = log.verifier();
    for height in 1..=4 {
        let answer = log.answer(height);
        let proven = verifier.slice((CHAIN, Height(height)), &answer, &[], NOW).expect("is proven");
        assert_eq!((proven.items, proven.absent), if height % 2 == 1 { (2, 0) } else { (0, 1) });
    }
}

#[test]
fn answer_about_something_else_is_a_lie() {
    let log = Log::new(1, 9);
    let mut verifier = log.verifier();
    let mut lies = vec![
        verifier.slice((CHAIN, Height(3)), &log.answer(5), &[], NOW).unwrap_err(),
        verifier.slice((OTHER, Height(3)), &log.answer(3), &[], NOW).unwrap_err(),
    ];
    let asked = (CHAIN, Height(2), Height(5));
    lies.push(verifier.range(asked, &log.range(2, 6), &[], NOW).unwrap_err());
    lies.push(verifier.range(asked, &log.range(3, 5), &[], NOW).unwrap_err());
    let skipping = SliceRange { next: Some(Height(5)), ..log.range(2, 3) };
    lies.push(verifier.range(asked, &skipping, &[], NOW).unwrap_err());
    let expected = ["height 5", "chain 901's", "up to 6", "begins at height 3", "elsewhere"];
    for (lie, expected) in lies.iter().zip(expected) {
        assert!(lie.is_lie() && lie.to_string().contains(expected), "{expected}: {lie}");
    }
    assert!(verifier.client().head().is_none(), "a lie is not believed");
}

#[test]
fn items_left_out_added_or_changed_are_a_lie() {
    let log = Log::new(1, 3);
    let mut verifier = log.verifier();
    let changes: [fn(&mut Slice); 3] = [
        |slice| drop(slice.items.pop()),
        |slice| slice.items.push(Item { index: 2, ..slice.items[0].clone() }),
        |slice| slice.items[0].content = Content::Transaction { bytes: Bytes::from_static(b"x") },
    ];
    for change in changes {
        let ProvenSlice::Present { mut slice, proof } = log.answer(3) else { panic!("has one") };
        change(&mut slice);
        let answer = ProvenSlice::Present { slice, proof };
        let lie = verifier.slice((CHAIN, Height(3)), &answer, &[], NOW).unwrap_err();
        assert!(lie.is_lie() && lie.to_string().contains("not the one of its summary"), "{lie}");
    }
    let absent = SlicePresence::Absent(Absence { count: 0, place: 0, neighbours: Vec::new() });
    let mut range = log.range(1, 3);
    range.proof.blocks[2].presence = absent;
    let asked = (CHAIN, Height(1), Height(3));
    let lie = verifier.range(asked, &range, &[], NOW).unwrap_err();
    assert!(lie.is_lie() && lie.to_string().contains("not that of an empty table"), "{lie}");
}

#[test]
fn blocks_of_another_committee_are_a_lie() {
    let (log, other) = (Log::new(1, 3), Log::new(2, 3));
    let mut verifier = log.verifier();
    let lie = verifier.slice((CHAIN, Height(3)), &other.answer(3), &[], NOW).unwrap_err();
    assert!(lie.is_lie() && lie.to_string().contains("header is of network"), "{lie}");
}

#[test]
fn forks_and_old_trust_are_not_the_endpoints_lies() {
    let mut log = Log::new(1, 2);
    let mut verifier = log.verifier();
    verifier.slice((CHAIN, Height(2)), &log.answer(2), &[], NOW).expect("is proven");
    let (mut block, ..) = log.blocks.pop().expect("has two");
    block.header.state_hash = B256::repeat_byte(9);
    block.certificate = log.certificate(&block.header);
    log.blocks.push((block, Vec::new(), None));
    let fork = verifier.slice((CHAIN, Height(2)), &log.answer(2), &[], NOW).unwrap_err();
    assert!(matches!(fork, Fault::Fork(_)) && !fork.is_lie());
    let late = NOW.plus(lockstep_core::limits::TRUST_MS);
    let stale = log.verifier().slice((CHAIN, Height(1)), &log.answer(1), &[], late).unwrap_err();
    assert!(matches!(stale, Fault::Stale(_)) && !stale.is_lie());
}
