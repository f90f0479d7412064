//! The rules, case by case: what is certain is said, what is not is left to the engine.

use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_primitives::{Address, TxKind};

use super::*;

pub(crate) const A: Address = Address::repeat_byte(0xa);
pub(crate) const B: Address = Address::repeat_byte(0xb);

pub(crate) fn transaction(sender: Address, nonce: u64) -> Facts {
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

pub(crate) fn state(accounts: &[(Address, u64, bool)]) -> State {
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
    let found: Vec<usize> = hopeless(&facts, &BTreeSet::new(), &[], state).into_iter().collect();
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
fn gas_below_the_least_and_tips_above_the_cap_are_impossible() {
    let call = TxEip1559 {
        chain_id: 1,
        gas_limit: 30_999,
        max_fee_per_gas: 5,
        max_priority_fee_per_gas: 5,
        to: TxKind::Call(A),
        input: vec![0; 1_000].into(),
        ..TxEip1559::default()
    };
    let is_bad = |transaction: &TxEip1559, has_floor| {
        let signature = alloy_primitives::Signature::test_signature();
        is_impossible(&transaction.clone().into_signed(signature).into(), has_floor)
    };
    let with_gas = |gas_limit| TxEip1559 { gas_limit, ..call.clone() };
    for (gas, without_floor, with_floor) in
        [(24_999, true, true), (25_000, false, true), (30_999, false, true), (31_000, false, false)]
    {
        assert_eq!(is_bad(&with_gas(gas), false), without_floor, "{gas}");
        assert_eq!(is_bad(&with_gas(gas), true), with_floor, "{gas}");
    }
    assert!(is_bad(&TxEip1559 { max_priority_fee_per_gas: 6, ..with_gas(31_000) }, true));
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
    let found = hopeless(&facts, &BTreeSet::new(), &[], &state(&[(A, 0, false)]));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [0]);
}

#[test]
fn what_follows_a_refused_item_of_its_sender_is_a_gap_and_of_others_is_not() {
    let zero = state(&[(A, 0, false), (B, 0, false)]);
    let items = [
        vec![transaction(A, 0)],
        vec![transaction(B, 0)],
        vec![transaction(A, 1)],
        vec![transaction(B, 1), transaction(A, 2)],
        vec![transaction(B, 1)],
    ];
    let facts: Vec<_> = items.into_iter().map(Some).collect();
    let after = |refused: &[usize]| -> Vec<usize> {
        let refused = refused.iter().copied().collect();
        hopeless(&facts, &refused, &[], &zero).into_iter().collect()
    };
    assert_eq!(after(&[]), Vec::<usize>::new());
    assert_eq!(after(&[0]), [2, 3]);
    assert_eq!(after(&[1]), [3, 4]);
    // An authorization that is refused raises no nonce.
    let authorized = Facts { authorities: vec![A], ..transaction(B, 0) };
    let facts = [Some(vec![authorized]), Some(vec![transaction(A, 7)])];
    let found = |refused: &[usize]| {
        hopeless(&facts, &refused.iter().copied().collect(), &[], &zero).contains(&1)
    };
    assert_eq!((found(&[]), found(&[0])), (false, true));
}
