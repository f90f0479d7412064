//! Who is served next, whose entries keep their order, and what waits.

use super::*;

const ONE: Load = Load { amount: Amount { gas: 0, bytes: 10 }, entries: 1, bytes: 12 };

fn client(n: u8) -> Source {
    Source::Client(Submitter(alloy_primitives::B256::with_last_byte(n)))
}

/// Serves the next entry of the source whose turn it is; each costs 10.
fn serve(turns: &mut Turns) -> Option<Place> {
    let (_, source) = turns.behind(None)?;
    let place = turns.heads(source).next()?;
    turns.serve(source, 10);
    turns.remove(place, source, &[None], ONE);
    Some(place)
}

fn order(turns: &mut Turns) -> Vec<Place> {
    std::iter::from_fn(|| serve(turns)).collect()
}

#[test]
fn sources_are_served_in_turn_and_each_in_its_order() {
    let mut turns = Turns::default();
    for (place, n) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 3), (5, 2)] {
        turns.insert(place, client(n), &[None], ONE);
    }
    assert_eq!(order(&mut turns), [0, 3, 4, 1, 5, 2]);
}

#[test]
fn who_comes_later_is_served_next_and_is_owed_nothing_for_its_absence() {
    let mut turns = Turns::default();
    for place in 0..6 {
        turns.insert(place, client(2), &[None], ONE);
    }
    assert_eq!([serve(&mut turns), serve(&mut turns)], [Some(0), Some(1)]);
    for place in 6..9 {
        turns.insert(place, client(1), &[None], ONE);
    }
    assert_eq!(order(&mut turns), [6, 7, 2, 8, 3, 4, 5]);
}

#[test]
fn one_that_sends_again_when_it_was_served_waits_for_its_turn() {
    let mut turns = Turns::default();
    for place in 0..3 {
        turns.insert(place, client(2), &[None], ONE);
    }
    turns.insert(10, client(1), &[None], ONE);
    assert_eq!(serve(&mut turns), Some(10));
    turns.insert(11, client(1), &[None], ONE);
    assert_eq!(order(&mut turns), [0, 11, 1, 2], "its second starts where its first ended");
}

#[test]
fn accounts_of_a_source_go_by_the_place_of_their_first_and_keep_their_order() {
    let mut turns = Turns::default();
    let [first, second] = [1, 2].map(|n| Some(Address::with_last_byte(n)));
    let heads = |turns: &Turns| turns.heads(client(1)).collect::<Vec<_>>();
    turns.insert(0, client(1), &[first], ONE);
    turns.insert(1, client(1), &[first, second], ONE);
    turns.insert(2, client(1), &[second], ONE);
    assert_eq!(heads(&turns), [0, 1]);
    assert!(!turns.is_head(1, &client(1), &[first, second]), "the first account has one before");
    turns.remove(0, client(1), &[first], ONE);
    assert!(turns.is_head(1, &client(1), &[first, second]));
    turns.insert(0, client(1), &[first], ONE);
    turns.remove(0, client(1), &[first], ONE);
    turns.remove(1, client(1), &[first, second], ONE);
    assert_eq!(heads(&turns), [2]);
}

#[test]
fn load_is_what_waits() {
    let mut turns = Turns::default();
    turns.insert(0, client(1), &[None], ONE);
    turns.insert(1, client(2), &[None], ONE);
    let two = ONE.plus(ONE);
    assert_eq!(turns.load(&client(1)), (two, ONE));
    assert_eq!(turns.load(&client(3)), (two, Load::default()));
    turns.remove(0, client(1), &[None], ONE);
    turns.remove(1, client(2), &[None], ONE);
    assert!(turns.is_empty());
    assert_eq!(turns.load(&client(1)), (Load::default(), Load::default()));
}
