//! Nonces, funds, room, who is given what, and when something is given up.

use alloy_consensus::TxEip1559;
use lockstep_core::entry::Body;

use super::*;
use crate::fixtures::{BASE_FEE, checked, gateway, key, sign, signed, transfer};

const NOW: UnixMillis = UnixMillis(1_000_000);
const QUORUM: usize = 2;

fn state() -> ChainState {
    ChainState {
        is_delegated: false,
        nonce: 0,
        balance: U256::from(1_000_000_000u64),
        base_fee: BASE_FEE,
        gas_limit: 30_000_000,
        l1_fee: U256::from(5),
    }
}

fn overlay() -> Overlay {
    Overlay::new(QUORUM)
}

fn entry(transaction: &Transaction, now: UnixMillis) -> Entry {
    let body = Body::Transaction(lockstep_core::entry::Transaction {
        chain: gateway().chain,
        kind: lockstep_core::params::ChainKind::Evm,
        bytes: transaction.bytes.clone(),
    });
    Entry::new(body, now.plus(30_000), None).unwrap()
}

fn admit_at(
    overlay: &mut Overlay,
    transaction: Transaction,
    state: &ChainState,
    now: UnixMillis,
) -> Result<Admission, Refused> {
    let entry = entry(&transaction, now);
    overlay.admit(transaction, entry, state, now)
}

fn admit(overlay: &mut Overlay, n: u8, nonce: u64) -> Result<Admission, Refused> {
    admit_at(overlay, checked(signed(n, nonce)), &state(), NOW)
}

fn hash(n: u8, nonce: u64) -> B256 {
    checked(signed(n, nonce)).hash
}

fn next(overlay: &Overlay, endpoint: usize, from: u64) -> Option<u64> {
    overlay.next(key(1).address(), endpoint, Round::First, from).map(|(nonce, ..)| nonce)
}

const HELD: Answer = Answer::Taken(Progress::Held);
const DECIDED: Answer = Answer::Taken(Progress::Decided);

#[test]
fn consecutive_nonces_are_ready_and_count() {
    let mut overlay = overlay();
    let sender = key(1).address();
    for nonce in 0..3 {
        assert_eq!(admit(&mut overlay, 1, nonce), Ok(Admission::Ready));
    }
    assert_eq!(overlay.next_nonce(sender, 0), 3);
    assert_eq!(overlay.next_nonce(sender, 2), 3);
    assert_eq!(overlay.next_nonce(sender, 7), 7, "the engine is ahead");
    assert_eq!(overlay.next_nonce(key(2).address(), 4), 4);
    assert_eq!(overlay.len(), 3);
}

#[test]
fn a_gap_holds_what_is_behind_it_until_it_is_filled() {
    let mut overlay = overlay();
    let sender = key(1).address();
    assert_eq!(admit(&mut overlay, 1, 2), Ok(Admission::Held));
    assert_eq!(admit(&mut overlay, 1, 1), Ok(Admission::Held));
    assert_eq!((overlay.next_nonce(sender, 0), next(&overlay, 0, 0)), (0, None));
    assert_eq!(admit(&mut overlay, 1, 0), Ok(Admission::Ready));
    assert_eq!((overlay.next_nonce(sender, 0), next(&overlay, 0, 0)), (3, Some(0)));
}

#[test]
fn what_the_chain_would_not_take_is_refused_in_geths_words() {
    let plain = || checked(signed(1, 4));
    let cases = [
        (ChainState { nonce: 5, ..state() }, "nonce too low: next nonce 5, tx nonce 4"),
        (
            ChainState { balance: U256::from(4_201_004), ..state() },
            "insufficient funds for gas * price + value: balance 4201004, tx cost 4201005, overshot 1",
        ),
        (ChainState { gas_limit: 20_999, ..state() }, "exceeds block gas limit"),
    ];
    for (state, expected) in cases {
        let refused = admit_at(&mut overlay(), plain(), &state, NOW).unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    let cheap = TxEip1559 { max_fee_per_gas: 99, ..transfer(0) };
    let refused = admit_at(&mut overlay(), checked(sign(cheap, &key(1))), &state(), NOW);
    let expected = format!(
        "max fee per gas less than block base fee: address {}, maxFeePerGas: 99, baseFee: 100",
        key(1).address()
    );
    assert_eq!(refused.unwrap_err().to_string(), expected);
    let exact = ChainState { balance: U256::from(4_201_005), gas_limit: 21_000, ..state() };
    assert!(admit_at(&mut overlay(), plain(), &exact, NOW).is_ok(), "all at the limit");
}

#[test]
fn all_pending_ones_must_be_payable_together() {
    let mut overlay = overlay();
    let state = ChainState { balance: U256::from(2 * 4_201_005 - 1), ..state() };
    admit_at(&mut overlay, checked(signed(1, 0)), &state, NOW).unwrap();
    let refused = admit_at(&mut overlay, checked(signed(1, 1)), &state, NOW).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "insufficient funds for gas * price + value: balance 8402009, queued cost 4201005, tx cost 4201005, overshot 1"
    );
    overlay.include(key(1).address(), 1);
    let state = ChainState { nonce: 1, balance: U256::from(4_201_005), ..state };
    assert!(admit_at(&mut overlay, checked(signed(1, 1)), &state, NOW).is_ok());
}

#[test]
fn the_same_again_and_another_of_the_same_nonce_are_refused() {
    let mut overlay = overlay();
    admit(&mut overlay, 1, 0).unwrap();
    assert_eq!(admit(&mut overlay, 1, 0), Err(Refused::AlreadyKnown));
    let other = TxEip1559 { max_fee_per_gas: 1_000, ..transfer(0) };
    let refused = admit_at(&mut overlay, checked(sign(other, &key(1))), &state(), NOW);
    assert_eq!(refused, Err(Refused::Replacement));
}

#[test]
fn a_sender_has_so_much_room_before_a_gap_and_behind_it() {
    let mut overlay = overlay();
    for nonce in 0..PENDING_PER_SENDER_MAX as u64 {
        admit(&mut overlay, 1, nonce).unwrap();
    }
    assert_eq!(admit(&mut overlay, 1, 64), Err(Refused::AccountLimit));
    for nonce in 1..=HELD_PER_SENDER_MAX as u64 {
        assert_eq!(admit(&mut overlay, 2, nonce), Ok(Admission::Held));
    }
    assert_eq!(admit(&mut overlay, 2, 17), Err(Refused::AccountLimit));
    assert_eq!(admit(&mut overlay, 2, 0), Ok(Admission::Ready), "filling the gap needs no room");
    assert_eq!(admit(&mut overlay, 3, 65), Err(Refused::AccountLimit), "too far ahead");
    assert_eq!(admit(&mut overlay, 3, 64), Ok(Admission::Held));
}

#[test]
fn a_validator_is_given_a_nonce_only_after_those_before_it() {
    let mut overlay = overlay();
    for nonce in 0..3 {
        admit(&mut overlay, 1, nonce).unwrap();
    }
    overlay.answered(hash(1, 0), 0, HELD, NOW);
    overlay.answered(hash(1, 1), 0, HELD, NOW);
    assert_eq!((next(&overlay, 0, 0), next(&overlay, 1, 0)), (Some(2), Some(0)));
    // It lost one: it gets that one again before the others.
    overlay.answered(hash(1, 0), 0, Answer::NotNow, NOW);
    assert_eq!(next(&overlay, 0, 0), Some(0));
    // What the log has is out of the way.
    overlay.answered(hash(1, 0), 1, DECIDED, NOW);
    assert_eq!(next(&overlay, 0, 0), Some(0), "one validator alone is not believed");
    overlay.answered(hash(1, 0), 2, DECIDED, NOW);
    assert_eq!((next(&overlay, 0, 0), next(&overlay, 1, 0)), (Some(2), Some(1)));
}

#[test]
fn inclusion_frees_what_is_below_and_a_late_read_does_not_bring_it_back() {
    let mut overlay = overlay();
    let sender = key(1).address();
    for nonce in 0..3 {
        admit(&mut overlay, 1, nonce).unwrap();
    }
    overlay.include(sender, 2);
    assert_eq!(overlay.len(), 1);
    assert!(overlay.transaction(hash(1, 1)).is_none() && overlay.transaction(hash(1, 2)).is_some());
    let late = ChainState { nonce: 1, ..state() };
    let refused = admit_at(&mut overlay, checked(signed(1, 1)), &late, NOW);
    assert_eq!(refused, Err(Refused::NonceTooLow { next: 2, nonce: 1 }));
    overlay.include(sender, 3);
    assert_eq!((overlay.len(), overlay.bytes, overlay.knows_sender(sender)), (0, 0, false));
}

#[test]
fn a_nonce_goes_back_only_when_it_is_seen_twice() {
    let mut overlay = overlay();
    let sender = key(1).address();
    admit_at(&mut overlay, checked(signed(1, 5)), &ChainState { nonce: 5, ..state() }, NOW)
        .unwrap();
    overlay.include(sender, 4);
    assert_eq!(next(&overlay, 0, 0), Some(5), "it may be an old read");
    overlay.include(sender, 5);
    overlay.include(sender, 4);
    assert_eq!(next(&overlay, 0, 0), Some(5));
    overlay.include(sender, 4);
    assert_eq!(next(&overlay, 0, 0), None, "the chain went back, and 4 is missing");
}

#[test]
fn a_forgotten_one_frees_its_nonce() {
    let mut overlay = overlay();
    let sender = key(1).address();
    admit(&mut overlay, 1, 0).unwrap();
    admit(&mut overlay, 1, 1).unwrap();
    assert!(overlay.forget(hash(1, 0)).is_some() && overlay.forget(hash(1, 0)).is_none());
    assert_eq!((overlay.next_nonce(sender, 0), next(&overlay, 0, 0)), (0, None));
    admit(&mut overlay, 1, 0).unwrap();
    assert_eq!(overlay.next_nonce(sender, 0), 2);
}

#[test]
fn due_ones_are_taken_once_and_each_time_another_turn() {
    let mut overlay = overlay();
    let sender = key(1).address();
    admit(&mut overlay, 1, 0).unwrap();
    admit_at(&mut overlay, checked(signed(1, 1)), &state(), NOW.plus(1_000)).unwrap();
    assert!(overlay.take_due(NOW.plus(RESUBMIT_MS - 1)).is_empty());
    assert_eq!(overlay.take_due(NOW.plus(RESUBMIT_MS)), [(sender, 0, 1)]);
    assert!(overlay.take_due(NOW.plus(RESUBMIT_MS)).is_empty());
    assert_eq!(overlay.take_due(NOW.plus(3_000)), [(sender, 1, 2)]);
    let again = |endpoint, up_to, from| {
        overlay.next(sender, endpoint, Round::Again { up_to }, from).map(|(nonce, ..)| nonce)
    };
    assert_eq!((again(0, 0, 0), again(0, 0, 1), again(0, 1, 1)), (Some(0), None, Some(1)));
}

#[test]
fn what_nobody_takes_and_what_is_never_decided_is_given_up() {
    let why = |overlay: &mut Overlay, ms, head| {
        let dropped = overlay.drop_stale(NOW.plus(ms), head);
        dropped.into_iter().map(|(transaction, why)| (transaction.nonce, why)).collect::<Vec<_>>()
    };
    let head = NOW;
    let mut overlay = overlay();
    admit(&mut overlay, 1, 0).unwrap();
    admit(&mut overlay, 1, 2).unwrap();
    overlay.answered(hash(1, 0), 3, HELD, NOW);
    assert_eq!(why(&mut overlay, HELD_MS_MAX, head), []);
    assert_eq!(why(&mut overlay, HELD_MS_MAX + 1, head), [(2, Dropped::Held)]);
    assert_eq!(why(&mut overlay, LIFE_MS_MAX, head), []);
    assert_eq!(why(&mut overlay, LIFE_MS_MAX + 1, head), [(0, Dropped::Expired)]);
    admit(&mut overlay, 1, 0).unwrap();
    overlay.answered(hash(1, 0), 0, Answer::Never, NOW);
    assert_eq!(why(&mut overlay, 0, head), []);
    overlay.answered(hash(1, 0), 1, Answer::Never, NOW);
    assert_eq!(why(&mut overlay, 0, head), [(0, Dropped::Refused)]);
}

#[test]
fn a_decided_one_was_skipped_once_the_chains_time_says_so() {
    let mut overlay = overlay();
    admit(&mut overlay, 1, 0).unwrap();
    overlay.answered(hash(1, 0), 0, DECIDED, NOW);
    overlay.answered(hash(1, 0), 1, DECIDED, NOW);
    let late = NOW.plus(LIFE_MS_MAX * 2);
    assert!(overlay.drop_stale(late, NOW.plus(INCLUSION_MS_MAX)).is_empty(), "the chain stands");
    let dropped = overlay.drop_stale(late, NOW.plus(INCLUSION_MS_MAX + 1));
    assert_eq!(dropped.len(), 1);
    assert_eq!(dropped[0].1, Dropped::Skipped);
}

/// Whoever may call an account by EIP-7702 can take what the transactions behind the first need.
#[test]
fn a_delegated_account_has_one_pending_transaction() {
    let mut overlay = overlay();
    let state = ChainState { is_delegated: true, ..state() };
    let mut send =
        |nonce, state: &ChainState| admit_at(&mut overlay, checked(signed(1, nonce)), state, NOW);
    assert_eq!(send(1, &state), Err(Refused::DelegatedGap));
    assert_eq!(send(0, &state), Ok(Admission::Ready));
    assert_eq!(send(1, &state), Err(Refused::DelegatedLimit));
    // The first one is in a block.
    assert_eq!(send(1, &ChainState { nonce: 1, ..state }), Ok(Admission::Ready));
}
