//! The rules, case by case: what is certain is said, what is not is left to the engine.

use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, TxKind};

use super::*;

const A: Address = Address::repeat_byte(0xa);
const B: Address = Address::repeat_byte(0xb);

fn transaction(sender: Address, nonce: u64) -> Facts {
    Facts {
        sender,
        nonce,
        fee: 100,
        authorities: Vec::new(),
        to: None,
        value: U256::ZERO,
        cost: U256::from(10),
        is_impossible: false,
    }
}

/// Takes 10 wei beside its value.
fn transfer(sender: Address, nonce: u64, to: Address, value: u64) -> Facts {
    let cost = U256::from(value + 10);
    Facts { to: Some(to), value: U256::from(value), cost, ..transaction(sender, nonce) }
}

fn state(accounts: &[(Address, u64, bool)]) -> State {
    let accounts = accounts
        .iter()
        .map(|(address, nonce, has_code)| {
            let balance = U256::from(1_000);
            (*address, Account { nonce: *nonce, has_code: *has_code, balance })
        })
        .collect();
    State { accounts, base_fee: Some(50) }
}

fn check(items: &[&[Facts]], state: &State, expected: &[usize]) {
    let facts: Vec<_> = items.iter().map(|item| Some(item.to_vec())).collect();
    let found: Vec<usize> = hopeless(&facts, &[], state).into_iter().collect();
    assert_eq!(found, expected, "{items:?}");
}

#[test]
fn nonces_of_a_sender_follow_one_another() {
    let at_five = state(&[(A, 5, false), (B, 0, false)]);
    check(&[&[transaction(A, 5)], &[transaction(A, 6)], &[transaction(B, 0)]], &at_five, &[]);
    check(&[&[transaction(A, 4)], &[transaction(A, 5)]], &at_five, &[0]);
    check(&[&[transaction(A, 7)], &[transaction(A, 5)], &[transaction(A, 6)]], &at_five, &[0]);
    check(&[&[transaction(A, 6)], &[transaction(B, 0)], &[transaction(A, 7)]], &at_five, &[0, 2]);
}

#[test]
fn second_use_of_a_nonce_is_left_to_the_engine() {
    // The first may fail for its balance; then the second is good.
    check(&[&[transaction(A, 5)], &[transaction(A, 5)]], &state(&[(A, 5, false)]), &[]);
}

#[test]
fn leg_with_one_hopeless_transaction_is_hopeless_and_counts_for_nothing() {
    let zero = state(&[(A, 0, false), (B, 0, false)]);
    check(&[&[transaction(A, 0), transaction(B, 3)], &[transaction(A, 0)]], &zero, &[0]);
    check(&[&[transaction(A, 0), transaction(B, 3)], &[transaction(A, 1)]], &zero, &[0, 1]);
}

#[test]
fn fee_cap_below_the_base_fee_is_hopeless_and_at_it_is_not() {
    let zero = state(&[(A, 0, false)]);
    check(&[&[Facts { fee: 49, ..transaction(A, 0) }]], &zero, &[0]);
    check(&[&[Facts { fee: 50, ..transaction(A, 0) }]], &zero, &[]);
    let unknown = State { base_fee: None, ..zero };
    check(&[&[Facts { fee: 1, ..transaction(A, 0) }]], &unknown, &[]);
}

#[test]
fn what_is_bad_in_any_state_is_hopeless_and_what_follows_it_a_gap() {
    let zero = state(&[(A, 0, false)]);
    let impossible = [Facts { is_impossible: true, ..transaction(A, 0) }];
    check(&[&impossible, &[transaction(A, 1)]], &zero, &[0, 1]);
    check(&[&impossible, &[transaction(A, 0)], &[transaction(A, 1)]], &zero, &[0]);
}

#[test]
fn gas_below_what_a_transaction_takes_and_tips_above_the_cap_are_impossible() {
    let call = TxEip1559 {
        chain_id: 1,
        gas_limit: 21_000,
        max_fee_per_gas: 5,
        max_priority_fee_per_gas: 5,
        to: TxKind::Call(A),
        ..TxEip1559::default()
    };
    let is_bad = |transaction: TxEip1559| {
        let signature = alloy_primitives::Signature::test_signature();
        is_impossible(&transaction.into_signed(signature).into())
    };
    let with_gas =
        |gas_limit, transaction: &TxEip1559| TxEip1559 { gas_limit, ..transaction.clone() };
    let input = TxEip1559 { input: Bytes::from_static(&[0, 0, 1, 2, 3]), ..call.clone() };
    let create = TxEip1559 { to: TxKind::Create, ..call.clone() };
    let item = AccessListItem { address: A, storage_keys: vec![B256::ZERO; 2] };
    let access = TxEip1559 { access_list: AccessList(vec![item]), ..call.clone() };
    for (transaction, gas) in
        [(&call, 21_000), (&input, 21_056), (&create, 53_000), (&access, 27_200)]
    {
        assert!(is_bad(with_gas(gas - 1, transaction)), "{transaction:?}");
        assert!(!is_bad(with_gas(gas, transaction)), "{transaction:?}");
    }
    assert!(is_bad(TxEip1559 { max_priority_fee_per_gas: 6, ..call }));
}

#[test]
fn gap_is_not_certain_where_something_else_may_raise_the_nonce() {
    check(&[&[transaction(A, 7)]], &state(&[(A, 5, true)]), &[]);
    let authorized = Facts { authorities: vec![A], ..transaction(B, 0) };
    check(&[&[authorized], &[transaction(A, 7)]], &state(&[(A, 5, false), (B, 0, false)]), &[]);
    check(&[&[transaction(A, 7)]], &state(&[]), &[]);
}

#[test]
fn what_cannot_be_read_ends_the_check() {
    let facts = vec![Some(vec![transaction(A, 9)]), None, Some(vec![transaction(A, 9)])];
    let found = hopeless(&facts, &[], &state(&[(A, 0, false)]));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [0]);
}

fn check_money(balances: &[(Address, u64)], items: &[&[Facts]], expected: &[(usize, u64)]) {
    let accounts: Vec<_> = balances.iter().map(|(address, _)| (*address, 0, false)).collect();
    let mut state = state(&accounts);
    for (address, balance) in balances {
        state.accounts.get_mut(address).expect("is there").balance = U256::from(*balance);
    }
    let facts: Vec<_> = items.iter().map(|item| Some(item.to_vec())).collect();
    let found = guess(&facts, &[], &state, &hopeless(&facts, &[], &state));
    let cost = |guess: &Guess| match guess {
        Guess::Unfunded { cost, .. } => Some(*cost),
        Guess::Used { .. } => None,
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
        let balances = balances.iter().map(|(sender, it)| (*sender, U256::from(*it))).collect();
        unproven(&guesses, &absent.iter().copied().collect(), &balances).into_iter().collect()
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
