//! What is guessed, what is not because nothing could prove it, and what a block proves.

use super::*;
use crate::precheck::hopeless;
use crate::precheck::tests::{A, B, state, transaction};

/// Takes 10 wei beside its value.
fn transfer(sender: Address, nonce: u64, to: Address, value: u64) -> Facts {
    let cost = U256::from(value + 10);
    Facts { to: Some(to), value: U256::from(value), cost, ..transaction(sender, nonce) }
}

fn check_money(balances: &[(Address, u64)], items: &[&[Facts]], expected: &[(usize, u64)]) {
    let accounts: Vec<_> = balances.iter().map(|(address, _)| (*address, 0, false)).collect();
    let mut state = state(&accounts);
    for (address, balance) in balances {
        state.accounts.get_mut(address).expect("is there").balance = U256::from(*balance);
    }
    let facts: Vec<_> = items.iter().map(|item| Some(item.to_vec())).collect();
    let found = guess(&facts, &[], &state, &hopeless(&facts, &BTreeSet::new(), &[], &state));
    let cost = |guess: &Guess| match guess {
        Guess::Unfunded { cost, .. } => Some(*cost),
        Guess::Used { .. } | Guess::Gap { .. } => None,
    };
    let found: Vec<_> =
        found.iter().filter_map(|(index, guess)| Some((*index, cost(guess)?))).collect();
    let expected: Vec<_> =
        expected.iter().map(|(index, cost)| (*index, U256::from(*cost))).collect();
    assert_eq!(found, expected, "{items:?}");
}

#[test]
fn who_has_less_than_value_and_gas_is_unfunded_and_so_is_what_follows() {
    check_money(&[(A, 59)], &[&[transfer(A, 0, B, 50)]], &[(0, 60)]);
    check_money(&[(A, 60)], &[&[transfer(A, 0, B, 50)]], &[]);
    let three = [transfer(A, 0, B, 50), transfer(A, 1, B, 0), transfer(A, 2, B, 0)];
    let items: Vec<&[Facts]> = three.iter().map(std::slice::from_ref).collect();
    check_money(&[(A, 59)], &items, &[(0, 60), (1, 60), (2, 60)]);
}

#[test]
fn what_a_sender_spends_and_gets_in_the_block_counts() {
    check_money(&[(A, 100)], &[&[transfer(A, 0, B, 50)], &[transfer(A, 1, B, 45)]], &[(1, 55)]);
    check_money(
        &[(A, 100), (B, 0)],
        &[&[transfer(A, 0, B, 50)], &[transfer(B, 0, A, 40)], &[transfer(B, 1, A, 20)]],
        &[(2, 30)],
    );
}

#[test]
fn no_money_is_guessed_of_who_sends_something_behind_it() {
    // The second pays with the same nonce, so the balance at the block's end says nothing of the first.
    let (dear, cheap) = ([transfer(A, 0, B, 50)], [transfer(A, 0, B, 1)]);
    check_money(&[(A, 20)], &[&dear, &cheap], &[]);
    let leg = [transaction(B, 0), cheap[0].clone()];
    check_money(&[(A, 20), (B, 90)], &[&dear, &leg], &[]);
}

#[test]
fn nonce_that_an_earlier_item_uses_is_guessed_to_be_gone_and_the_next_is_no_gap() {
    let zero = state(&[(A, 0, false), (B, 0, false)]);
    let items = [
        vec![transfer(A, 0, B, 1)],
        vec![transfer(A, 0, B, 2)],
        vec![transfer(A, 1, B, 1)],
        vec![transaction(B, 0), transaction(A, 2)],
        vec![transfer(A, 2, B, 3)],
    ];
    let facts: Vec<_> = items.into_iter().map(Some).collect();
    let found = guess(&facts, &[], &zero, &BTreeSet::new());
    let expected = [(1, Guess::Used { by: 0 }), (4, Guess::Used { by: 3 })];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn guess_is_proven_by_the_block_without_it() {
    let poor = |sender| Guess::Unfunded { sender, cost: U256::from(60) };
    let guesses = BTreeMap::from([(1, poor(A)), (2, poor(B)), (4, Guess::Used { by: 0 })]);
    let found = |absent: &[usize], balances: &[(Address, u64)]| -> Vec<usize> {
        let ending = |balance| Ending { balance: U256::from(balance), nonce: 0 };
        let endings = balances.iter().map(|(sender, it)| (*sender, ending(*it))).collect();
        unproven(&guesses, &absent.iter().copied().collect(), &endings).into_iter().collect()
    };
    assert_eq!(found(&[1, 2, 4], &[(A, 59), (B, 0)]), Vec::<usize>::new());
    assert_eq!(found(&[1, 2, 4], &[(A, 60), (B, 0)]), [1]);
    assert_eq!(found(&[1, 2, 4], &[(A, 59)]), [2]);
    assert_eq!(found(&[0, 1, 2, 4], &[(A, 59), (B, 0)]), [4]);
}

#[test]
fn nothing_is_guessed_of_an_offer_that_is_not_wholly_read() {
    let zero = state(&[(A, 0, false)]);
    let facts = vec![Some(vec![transfer(A, 0, B, 5_000)]), None];
    assert_eq!(guess(&facts, &[], &zero, &BTreeSet::new()).len(), 0);
    assert_eq!(guess(&facts[..1], &[], &zero, &BTreeSet::new()).len(), 1);
}

/// The leg's own first sender may be put back, and then the leg spends what the earlier item was guessed to lack.
#[test]
fn no_money_is_guessed_of_who_sends_in_the_middle_of_a_leg_even_of_one_that_is_left_out() {
    let leg = [transfer(B, 0, A, 50), transaction(A, 0)];
    check_money(&[(A, 0), (B, 0)], &[&[transaction(A, 0)], &leg], &[(1, 60)]);
    check_money(&[(A, 0), (B, 0)], &[&[transaction(A, 0)], &leg[..1]], &[(0, 10), (1, 60)]);
}

#[test]
fn nothing_is_guessed_of_code_authorizations_and_second_transactions() {
    let poor = |has_code| State {
        accounts: BTreeMap::from([
            (A, Account { nonce: 0, has_code, balance: U256::ZERO }),
            (B, Account { nonce: 0, has_code: false, balance: U256::from(99) }),
        ]),
        base_fee: None,
    };
    let guessed = |state: &State, items: &[&[Facts]]| {
        let facts: Vec<_> = items.iter().map(|item| Some(item.to_vec())).collect();
        guess(&facts, &[], state, &BTreeSet::new()).len()
    };
    assert_eq!(guessed(&poor(false), &[&[transaction(A, 0)]]), 1);
    assert_eq!(guessed(&poor(true), &[&[transaction(A, 0)]]), 0);
    let authorized = Facts { authorities: vec![A], ..transaction(B, 0) };
    assert_eq!(guessed(&poor(false), &[&[authorized], &[transaction(A, 0)]]), 0);
    // An earlier transaction of the same leg may bring the money, and the block does not show it.
    assert_eq!(guessed(&poor(false), &[&[transaction(B, 0), transaction(A, 0)]]), 0);
}

#[test]
fn gap_is_guessed_of_whom_something_else_may_help_and_proven_by_the_nonce_at_the_end() {
    let with_code = state(&[(A, 5, true), (B, 0, false)]);
    let facts: Vec<_> = [transaction(A, 5), transaction(A, 7), transaction(A, 6)]
        .map(|facts| Some(vec![facts]))
        .into();
    let found = guess(&facts, &[], &with_code, &BTreeSet::new());
    let gap = |nonce| Guess::Gap { sender: A, nonce };
    assert_eq!(found, BTreeMap::from([(1, gap(7))]));
    // Without the first, the others are gaps, too.
    let found = guess(&facts, &[], &with_code, &BTreeSet::from([0]));
    assert_eq!(found, BTreeMap::from([(1, gap(7)), (2, gap(6))]));
    let unproven = |nonce| {
        let endings = BTreeMap::from([(A, Ending { balance: U256::ZERO, nonce })]);
        unproven(&found, &BTreeSet::new(), &endings).into_iter().collect::<Vec<_>>()
    };
    assert!(unproven(5).is_empty());
    assert_eq!(unproven(6), [2]);
    assert_eq!(unproven(7), [1, 2]);
}

#[test]
fn few_guesses_are_not_worth_a_block_and_those_of_one_sender_save_one_refusal() {
    let unfunded = |sender, item| (item, Guess::Unfunded { sender, cost: U256::from(1) });
    let of = |count: u8, sender: &dyn Fn(u8) -> Address| -> BTreeMap<usize, Guess> {
        (0..count).map(|n| unfunded(sender(n), usize::from(n))).collect()
    };
    let count = u8::try_from(GUESSES_MIN).expect("is small");
    let made = |guesses: BTreeMap<usize, Guess>| Guessing::default().worthwhile(guesses).len();
    assert_eq!(made(of(count - 1, &Address::repeat_byte)), 0);
    assert_eq!(made(of(count, &Address::repeat_byte)), GUESSES_MIN);
    assert_eq!(made(of(count, &|_| A)), 0);
    let used = (0..GUESSES_MIN).map(|item| (item + 1, Guess::Used { by: 0 })).collect();
    assert_eq!(made(used), GUESSES_MIN);
}

/// A contract that fills accounts within the block makes guesses wrong: it must not make blocks late.
#[test]
fn guesses_end_after_two_blocks_or_when_time_is_short() {
    let guesses: BTreeMap<usize, Guess> =
        (0..9).map(|item| (item + 1, Guess::Used { by: 0 })).collect();
    let mut guessing = Guessing::default();
    guessing.give_up(&BTreeSet::from([1, 2]), true);
    assert_eq!(guessing.worthwhile(guesses.clone()).len(), 7);
    guessing.give_up(&BTreeSet::from([3]), true);
    assert_eq!(guessing.worthwhile(guesses.clone()).len(), 0);
    let mut guessing = Guessing::default();
    guessing.give_up(&BTreeSet::from([1, 2]), false);
    assert_eq!(guessing.worthwhile(guesses.clone()).len(), 0);
    assert_eq!(Guessing::none().worthwhile(guesses).len(), 0);
}
