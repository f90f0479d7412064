//! Trials before engines that name what they refuse, or don't, or answer wrongly now and then.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};
use lockstep_core::slice::{Content, Item};
use lockstep_core::types::Height;
use lockstep_core::weight::{Weighed, Weight};
use lockstep_core::window::Place;

use super::*;
use crate::precheck::tests::{state, transaction};

/// Attempts after which a trial counts as endless.
const ATTEMPTS_MAX: usize = 20_000;

fn hash(index: usize) -> B256 {
    B256::with_last_byte(u8::try_from(index % 256).unwrap())
}

fn offer(count: usize) -> Vec<Offered> {
    let item = |number: u32| Offered {
        place: Place { height: Height(1), item: number },
        item: Arc::new(Weighed {
            item: Item { index: number, content: Content::Transaction { bytes: Bytes::new() } },
            weight: Weight::default(),
            hashes: vec![hash(number as usize)],
        }),
    };
    (0..u32::try_from(count).unwrap()).map(item).collect()
}

/// What an engine says to a list: which item it refuses, if any.
type Engine<'a> = &'a mut dyn FnMut(&[usize]) -> Option<Refused>;

/// How a trial ends: what is left out, and after how many refusals.
fn run(trial: &mut Trial, engine: Engine<'_>) -> Result<BTreeSet<usize>, Stuck> {
    for _ in 0..ATTEMPTS_MAX {
        match engine(&trial.attempt()) {
            None if trial.taken()? => return Ok(trial.left_out()),
            None => {}
            Some(which) => trial.refused(which)?,
        }
    }
    panic!("endless: {trial:?}")
}

fn set(items: &[usize]) -> BTreeSet<usize> {
    items.iter().copied().collect()
}

/// Tries `count` items without any rule that needs no engine.
fn judged(count: usize, engine: Engine<'_>) -> Result<BTreeSet<usize>, Stuck> {
    let (items, none, knows_nothing) = (offer(count), Guessing::none(), Precheck::default());
    let mut trial = Trial::new((items.into(), 1), knows_nothing, none, BTreeSet::new());
    run(&mut trial, engine)
}

fn first_of(bad: &[usize], tried: &[usize]) -> Option<usize> {
    tried.iter().copied().find(|item| bad.contains(item))
}

#[test]
fn what_is_refused_is_left_out_however_it_is_named() {
    for bad in [&[][..], &[0], &[4], &[0, 1, 2, 3, 4], &[1, 3]] {
        let by_hash = |tried: &[usize]| first_of(bad, tried).map(|item| Refused::Hash(hash(item)));
        let by_place = |tried: &[usize]| {
            let place = tried.iter().position(|item| bad.contains(item))?;
            Some(Refused::Index(place + 1))
        };
        let unnamed = |tried: &[usize]| first_of(bad, tried).map(|_| Refused::Unnamed);
        assert_eq!(judged(5, &mut { by_hash }), Ok(set(bad)), "by hash");
        assert_eq!(judged(5, &mut { by_place }), Ok(set(bad)), "by place");
        assert_eq!(judged(5, &mut { unnamed }), Ok(set(bad)), "unnamed");
    }
}

/// Whichever two answers are wrong, of however many items.
#[test]
fn two_wrong_answers_never_cost_a_valid_item() {
    for count in 1..=5 {
        for bad in [None, Some(count / 2)] {
            for (one, two) in (0..24).flat_map(|one| (0..one).map(move |two| (one, two))) {
                let mut asked = 0;
                let ended = judged(count, &mut |tried| {
                    asked += 1;
                    let is_wrong = [one, two].contains(&(asked - 1));
                    let is_bad = bad.is_some_and(|bad| tried.contains(&bad));
                    (is_wrong || is_bad).then_some(Refused::Unnamed)
                });
                let expected = bad.into_iter().collect::<BTreeSet<_>>();
                // The job is begun again where the engine refused a block without items.
                let is_right = ended == Ok(expected) || ended == Err(Stuck::NotItems);
                assert!(is_right, "{count} items, wrong: {two} and {one}: {ended:?}");
            }
        }
    }
}

#[test]
fn refusal_of_a_block_without_items_blames_none() {
    assert_eq!(judged(3, &mut |_| Some(Refused::Unnamed)), Err(Stuck::NotItems));
    assert_eq!(judged(0, &mut |_| Some(Refused::Unnamed)), Err(Stuck::NotItems));
    let stranger = Refused::Hash(B256::repeat_byte(0xff));
    assert_eq!(judged(3, &mut |_| Some(stranger)), Err(Stuck::NotItems));
}

#[test]
fn engine_that_contradicts_itself_is_given_up() {
    // It refuses what it is asked for twice, and then takes it.
    let (mut before, mut count) = (Vec::new(), 0);
    let ended = judged(2, &mut |tried: &[usize]| {
        count = if before == tried { count + 1 } else { 0 };
        before = tried.to_vec();
        let is_first = tried.len() == 1 && count == 0;
        (tried.len() == 2 || is_first).then_some(Refused::Unnamed)
    });
    assert_eq!(ended, Err(Stuck::Contradictions));
}

#[test]
fn too_many_refusals_tell_what_was_refused() {
    let count = REFUSALS_MAX + 20;
    let mut refused = 0;
    let ended = judged(count, &mut |tried: &[usize]| {
        refused += 1;
        let place = tried.iter().position(|_| true)?;
        Some(Refused::Index(place + 1))
    });
    assert_eq!(refused, REFUSALS_MAX + 1);
    assert_eq!(ended, Err(Stuck::TooManyRefusals((0..REFUSALS_MAX).collect())));
}

/// Five accounts with 64 items each: none can land once the first of each is refused.
#[test]
fn sender_costs_one_refusal_however_many_items_it_has() {
    let senders: Vec<Address> = (1..=5).map(Address::repeat_byte).collect();
    let accounts: Vec<_> = senders.iter().map(|sender| (*sender, 0, false)).collect();
    let facts: Vec<_> = (0..64)
        .flat_map(|nonce| senders.iter().map(move |sender| Some(vec![transaction(*sender, nonce)])))
        .collect();
    let items = offer(facts.len());
    let precheck = Precheck::new(facts, Vec::new(), state(&accounts));
    let none = Guessing::none();
    let mut trial = Trial::new((items.clone().into(), 1), precheck, none, BTreeSet::new());
    let all_are_bad = &mut |tried: &[usize]| tried.first().map(|_| Refused::Index(1));
    assert_eq!(run(&mut trial, all_are_bad), Ok((0..items.len()).collect()));
    assert_eq!(trial.refusals(), 5);
}

/// Code at the sender's address could raise its nonce otherwise, so the gaps are only guessed.
#[test]
fn sender_with_code_costs_one_refusal_where_guesses_are_proven() {
    let sender = Address::repeat_byte(1);
    let facts: Vec<_> = (0..64).map(|nonce| Some(vec![transaction(sender, nonce)])).collect();
    let items = offer(facts.len());
    let precheck = Precheck::new(facts, Vec::new(), state(&[(sender, 0, true)]));
    for (guessing, expected) in [(Guessing::default(), 1), (Guessing::none(), 64)] {
        let mut trial = Trial::new(
            (items.clone().into(), 1),
            precheck.clone(),
            guessing.clone(),
            BTreeSet::new(),
        );
        let all_are_bad = &mut |tried: &[usize]| tried.first().map(|_| Refused::Index(1));
        assert_eq!(run(&mut trial, all_are_bad), Ok((0..items.len()).collect()));
        assert_eq!(trial.refusals(), expected);
        assert_eq!(trial.checked().guesses.len(), if expected == 1 { 63 } else { 0 });
    }
}

/// The later of two items with one nonce is good once the earlier one is refused.
#[test]
fn what_was_guessed_because_of_a_refused_item_is_tried_again() {
    let senders: Vec<Address> = (1..=4).map(Address::repeat_byte).collect();
    let accounts: Vec<_> = senders.iter().map(|sender| (*sender, 0, false)).collect();
    let twice = senders.iter().chain(&senders);
    let facts: Vec<_> = twice.map(|sender| Some(vec![transaction(*sender, 0)])).collect();
    let items = offer(facts.len());
    let precheck = Precheck::new(facts, Vec::new(), state(&accounts));
    let guessing = Guessing::default();
    let mut trial = Trial::new((items.into(), 1), precheck, guessing, BTreeSet::new());
    assert_eq!(trial.left_out(), set(&[4, 5, 6, 7]));
    trial.refused(Refused::Index(1)).unwrap();
    assert!(trial.attempt().contains(&4));
}
