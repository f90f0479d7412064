//! Every rule of admission, before and after signatures are checked.

use super::*;
use crate::block::fixtures::{
    A, B, EVM, EXPIRES, GATED, Net, START, UNKNOWN, admitted, bundle, evm, expiring, key, leg,
    loose, opaque, record, sequencer, tx,
};
use crate::bundle::{Bundle, Leg};
use crate::limits::{ENTRY_BYTES_MAX, ENTRY_GAS_MAX};

/// What both calls answer: before, after.
fn asked(net: &Net, entry: &Entry) -> (Option<LeaveOut>, Option<LeaveOut>) {
    let checked = entry.clone().check(net.state.network_id).unwrap();
    let committed = &net.state.committed;
    let before = check(committed, START, entry).err();
    (before, needs(committed, START, &checked).err())
}

#[test]
fn rules_that_need_no_signature_answer_the_same_before_and_after() {
    let net = Net::new(1);
    let legs = |second| vec![leg(A, &[opaque(1, 10)]), second];
    let late = UnixMillis(START.0 + EXPIRES_MS_MAX + 1);
    let entry = tx(A, 1, 10);
    let co_executed = Bundle::new(legs(leg(B, &[opaque(2, 10)])), Guarantee::CoExecuted).unwrap();
    let co_executed = Entry::new(Body::Bundle(co_executed), EXPIRES, None).unwrap();
    let cases = [
        (entry.clone(), None),
        (expiring(&entry, START), Some(LeaveOut::Expired { expires: START, timestamp: START })),
        (expiring(&entry, UnixMillis(START.0 + 1)), None),
        (expiring(&entry, UnixMillis(late.0 - 1)), None),
        (
            expiring(&entry, late),
            Some(LeaveOut::ExpiresTooLate { expires: late, timestamp: START }),
        ),
        (tx(UNKNOWN, 1, 10), Some(LeaveOut::UnknownChain { chain: UNKNOWN })),
        (tx(EVM, 1, 10), Some(LeaveOut::Kind { chain: EVM })),
        (bundle(legs(leg(B, &[opaque(2, 10)]))), None),
        (bundle(legs(leg(EVM, &[opaque(2, 10)]))), Some(LeaveOut::Kind { chain: EVM })),
        (co_executed, Some(LeaveOut::UnsupportedGuarantee)),
        (record(&net, A, 1, &sequencer()), None),
        (record(&net, UNKNOWN, 1, &sequencer()), Some(LeaveOut::UnknownChain { chain: UNKNOWN })),
    ];
    for (entry, expected) in cases {
        assert_eq!(asked(&net, &entry), (expected, expected), "{entry:?}");
    }
}

#[test]
fn rules_that_need_signatures_answer_only_after() {
    let net = Net::new(1);
    let most = (ENTRY_BYTES_MAX / 4) as u64;
    let wide = tx(GATED, 1, ENTRY_BYTES_MAX / 4);
    let evm_bytes = |nonce, gas| evm(EVM, nonce, gas);
    let evm = |gas| loose(EVM, ChainKind::Evm, evm_bytes(0, gas));
    let first = evm_bytes(0, ENTRY_GAS_MAX);
    let evm_leg = Leg { kind: ChainKind::Evm, ..leg(EVM, &[first, evm_bytes(1, 21_000)]) };
    let wide_bundle = bundle(vec![leg(A, &[opaque(1, 10)]), evm_leg]);
    let mut capped = Net::new(1);
    let max = 1 << 24;
    for chain in &mut capped.state.committed.chains {
        chain.params.transaction_gas_max = max;
    }
    let over = |got| LeaveOut::TransactionGas { chain: EVM, got, max };
    let in_leg =
        Leg { kind: ChainKind::Evm, ..leg(EVM, &[evm_bytes(0, 21_000), evm_bytes(1, max + 1)]) };
    let in_leg = bundle(vec![leg(A, &[opaque(1, 10)]), in_leg]);
    for (entry, expected) in
        [(evm(max), None), (evm(max + 1), Some(over(max + 1))), (in_leg, Some(over(max + 1)))]
    {
        assert_eq!(asked(&capped, &entry), (None, expected), "{entry:?}");
    }
    let cases = [
        (record(&net, A, 1, &key(1)), Some(LeaveOut::NotSequencer { chain: A })),
        (evm(ENTRY_GAS_MAX), None),
        (wide_bundle, Some(LeaveOut::TooLarge { chain: EVM })),
        (wide.clone(), Some(LeaveOut::TooLarge { chain: GATED })),
        (admitted(&net, &wide), None),
    ];
    for (entry, expected) in cases {
        assert_eq!(asked(&net, &entry), (None, expected), "{entry:?}");
    }
    let needs = |entry: Entry| {
        let checked = entry.check(net.state.network_id).unwrap();
        needs_of(&net.state.committed, &checked)
    };
    let demand = |is_open| Demand { amount: Amount { gas: 0, bytes: most }, is_open };
    let need = |is_open| Needs::Budget(vec![Need { chain: GATED, demand: demand(is_open) }]);
    assert_eq!(needs(wide.clone()), Ok(need(true)));
    assert_eq!(needs(admitted(&net, &wide)), Ok(need(false)));
    assert_eq!(needs(record(&net, A, 1, &key(1))), Ok(Needs::Record(A)));
}
