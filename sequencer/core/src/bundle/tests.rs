//! The shape of a bundle, each rule at its limit.

use super::*;
use crate::limits::TRANSACTION_BYTES_MAX;

fn transactions(count: usize) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(vec![n as u8; 3])).collect()
}

fn leg(chain: u64, transactions: Vec<Bytes>) -> Leg {
    Leg { chain: ChainId(chain), kind: ChainKind::Opaque, transactions }
}

fn legs(count: usize) -> Vec<Leg> {
    (1..=count as u64).map(|chain| leg(chain, transactions(1))).collect()
}

#[test]
fn each_rule_holds_at_its_limit() {
    let chain = ChainId(2);
    let with = |second: Leg| vec![leg(1, transactions(1)), second];
    let of_size = |size| with(leg(2, vec![Bytes::from(vec![1; size])]));
    let transaction = |error| Some(InvalidBundle::Transaction { chain, error });
    let cases = [
        (legs(0), Some(InvalidBundle::LegCount { count: 0 })),
        (legs(1), Some(InvalidBundle::LegCount { count: 1 })),
        (legs(2), None),
        (legs(LEGS_MAX), None),
        (legs(LEGS_MAX + 1), Some(InvalidBundle::LegCount { count: 17 })),
        (with(leg(2, vec![])), Some(InvalidBundle::EmptyLeg { chain })),
        (with(leg(2, transactions(LEG_TRANSACTIONS_MAX))), None),
        (with(leg(2, transactions(17))), Some(InvalidBundle::LegTooLong { chain, count: 17 })),
        (with(leg(1, transactions(1))), Some(InvalidBundle::DuplicateLeg { chain: ChainId(1) })),
        (with(leg(0, transactions(1))), Some(InvalidBundle::NetworkLeg)),
        (
            with(leg(2, [transactions(2), transactions(1)].concat())),
            Some(InvalidBundle::DuplicateTransaction { chain }),
        ),
        (of_size(0), transaction(InvalidTransaction::Empty)),
        (of_size(TRANSACTION_BYTES_MAX), None),
        (
            of_size(TRANSACTION_BYTES_MAX + 1),
            transaction(InvalidTransaction::TooLarge { count: TRANSACTION_BYTES_MAX + 1 }),
        ),
    ];
    for (legs, expected) in cases {
        let bundle = Bundle::new(legs.clone(), Guarantee::CoOrdered);
        assert_eq!(bundle.as_ref().err(), expected.as_ref());
        if let Ok(bundle) = bundle {
            assert_eq!(bundle.legs(), legs);
        }
    }
}

#[test]
fn one_transaction_may_stand_in_two_legs() {
    // The same bytes on two opaque chains are two transactions.
    assert!(Bundle::new(legs(3), Guarantee::CoOrdered).is_ok());
}

#[test]
fn legs_keep_the_submitters_order() {
    let mut legs = legs(3);
    legs.reverse();
    let bundle = Bundle::new(legs.clone(), Guarantee::CoExecuted).unwrap();
    assert_eq!(bundle.legs(), legs);
    assert_eq!(bundle.guarantee(), Guarantee::CoExecuted);
    let bytes = alloy_rlp::encode(&bundle);
    assert_eq!(Bundle::decode_parts(&mut bytes.as_slice()), Ok((legs, Guarantee::CoExecuted)));
}

#[test]
fn unknown_guarantees_are_refused() {
    for (byte, expected) in
        [(1, Some(Guarantee::CoOrdered)), (2, Some(Guarantee::CoExecuted)), (3, None)]
    {
        assert_eq!(Guarantee::decode(&mut [byte].as_slice()).ok(), expected);
    }
}
