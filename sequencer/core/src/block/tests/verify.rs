//! A row per header field, and every rule of verification.

use alloy_primitives::{Address, B256};

use super::*;

type Lie = (&'static str, fn(&mut Header), fn(&InvalidBlock) -> bool);

/// One lie per field of the header, and the variant that names it. A new field fails to compile here.
fn lies(header: &Header) -> [Lie; 12] {
    let Header {
        network_id: _,
        height: _,
        round: _,
        parent: _,
        timestamp_ms: _,
        proposer: _,
        validators_hash: _,
        next_validators_hash: _,
        set_since: _,
        cut_hash: _,
        slices_root: _,
        state_hash: _,
    } = header;
    const OTHER: B256 = B256::repeat_byte(0xab);
    [
        (
            "network_id",
            |h| h.network_id = NetworkId(OTHER),
            |e| matches!(e, InvalidBlock::Network { .. }),
        ),
        ("height", |h| h.height = h.height.next(), |e| matches!(e, InvalidBlock::Height { .. })),
        ("round", |h| h.round.0 += 1, |e| matches!(e, InvalidBlock::Proposer { .. })),
        ("parent", |h| h.parent = BlockHash(OTHER), |e| matches!(e, InvalidBlock::Parent { .. })),
        (
            "timestamp_ms",
            |h| h.timestamp_ms.0 -= 7,
            |e| matches!(e, InvalidBlock::Timestamp { .. }),
        ),
        (
            "proposer",
            |h| h.proposer = Address::ZERO,
            |e| matches!(e, InvalidBlock::Proposer { .. }),
        ),
        (
            "validators_hash",
            |h| h.validators_hash = OTHER,
            |e| matches!(e, InvalidBlock::ValidatorsHash { .. }),
        ),
        (
            "next_validators_hash",
            |h| h.next_validators_hash = OTHER,
            |e| matches!(e, InvalidBlock::NextValidatorsHash { .. }),
        ),
        ("set_since", |h| h.set_since.0 += 1, |e| matches!(e, InvalidBlock::SetSince { .. })),
        ("cut_hash", |h| h.cut_hash = OTHER, |e| matches!(e, InvalidBlock::CutHash { .. })),
        (
            "slices_root",
            |h| h.slices_root = OTHER,
            |e| matches!(e, InvalidBlock::SlicesRoot { .. }),
        ),
        ("state_hash", |h| h.state_hash = OTHER, |e| matches!(e, InvalidBlock::StateHash { .. })),
    ]
}

fn block() -> (Net, Header, Cut, Vec<CheckedBatch>) {
    let mut net = Net::new(4);
    net.decide_entries(&[vec![tx(A, 1, 10)]], FIRST);
    let (cut, batches) =
        net.cut(&[vec![vec![tx(A, 2, 10)]], vec![vec![tx(A, 1, 10), tx(B, 3, 10)]]]);
    let timestamp = UnixMillis(FIRST.0 + 5);
    let assembly = net.try_assemble(timestamp, &cut, &batches).unwrap();
    let header = build_header(&net.state, Round(2), timestamp, &cut, &assembly);
    (net, header, cut, batches)
}

#[test]
fn lie_in_any_one_field_is_invalid_with_the_fields_variant() {
    let (net, header, cut, batches) = block();
    let verify = |header: &Header| verify(&net.state, &net.dedup, header, &cut, &batches);
    assert!(verify(&header).is_ok());
    for (field, lie, is_expected) in lies(&header) {
        let mut header = header.clone();
        lie(&mut header);
        let error = verify(&header).unwrap_err();
        assert!(is_expected(&error), "{field}: {error}");
        assert!(error.is_objective(), "{field}");
        let needs_batches = matches!(field, "slices_root" | "state_hash");
        assert_eq!(check_header(&net.state, &header, &cut).is_ok(), needs_batches, "{field}");
    }
}

#[test]
fn later_time_is_a_lie_that_the_state_hash_shows_where_a_bucket_is_not_full() {
    let (net, mut header, cut, batches) = block();
    header.timestamp_ms.0 += 1_000;
    let error = verify(&net.state, &net.dedup, &header, &cut, &batches).unwrap_err();
    assert!(matches!(error, InvalidBlock::StateHash { .. }), "{error}");
}

#[test]
fn time_must_be_above_the_parents() {
    let (net, mut header, cut, _) = block();
    header.timestamp_ms = FIRST;
    let expected = InvalidBlock::Timestamp { parent: FIRST, got: FIRST };
    assert_eq!(check_header(&net.state, &header, &cut), Err(expected));
    header.timestamp_ms.0 += 1;
    assert_eq!(check_header(&net.state, &header, &cut), Ok(()));
}

#[test]
fn error_names_what_was_expected_and_what_came() {
    let (net, mut header, cut, _) = block();
    let expected = header.proposer;
    header.proposer = Address::repeat_byte(3);
    let error = InvalidBlock::Proposer { expected, got: header.proposer };
    assert_eq!(check_header(&net.state, &header, &cut), Err(error));
    let set = &net.state.committed.validators;
    // Height 2, round 2 of four: the first in address order.
    assert_eq!(expected, set.at(0).unwrap().address);
}

#[test]
fn cut_that_breaks_a_rule_is_refused_without_batches() {
    let (net, mut header, mut cut, batches) = block();
    cut.lanes.swap(0, 1);
    header.cut_hash = cut.hash();
    let error = check_header(&net.state, &header, &cut).unwrap_err();
    assert!(matches!(
        error,
        InvalidBlock::Assembly(CannotAssemble::Cut(InvalidCut::Lanes { expected: 4, got: 4 }))
    ));
    assert_eq!(verify(&net.state, &net.dedup, &header, &cut, &batches), Err(error.clone()));
    assert!(error.is_objective());
}

#[test]
fn missing_batches_say_nothing_about_the_block() {
    let (net, header, cut, batches) = block();
    let error = verify(&net.state, &net.dedup, &header, &cut, &batches[..1]).unwrap_err();
    assert!(!error.is_objective(), "{error}");
}

#[test]
fn fresh_proposal_is_of_the_headers_round_and_no_header_is_of_a_later_one() {
    let (_, header, ..) = block();
    let cases = [
        // (proposal, valid round, is valid); the header is of round 2.
        (2, None, true),
        (3, None, false),
        (1, None, false),
        (3, Some(2), true),
        (9, Some(5), true),
        (1, Some(0), false),
        (2, Some(1), true),
    ];
    for (proposal, valid_round, is_valid) in cases {
        let (proposal, valid_round) = (Round(proposal), valid_round.map(Round));
        let got = check_round(&header, proposal, valid_round);
        let error = InvalidBlock::RoundMismatch { proposal, valid_round, got: Round(2) };
        assert_eq!(got, if is_valid { Ok(()) } else { Err(error) });
    }
}

#[test]
fn timely_is_within_drift_ahead_and_delay_and_drift_behind() {
    let params = NetworkParams { delay_ms: 1_000, drift_ms: 500, ..NetworkParams::default() };
    let now = 1_000_000;
    let cases = [
        (0, now + 500, true),
        (0, now + 501, false),
        (0, now, true),
        (0, now - 1_500, true),
        (0, now - 1_501, false),
        (1, now - 2_500, true),
        (1, now - 2_501, false),
        (1, now + 501, false),
        (7, now - 8_500, true),
        (7, now - 8_501, false),
        (u32::MAX, 0, true),
        (0, u64::MAX, false),
        (0, 0, false),
    ];
    for (round, timestamp, expected) in cases {
        let got = is_timely(&params, Round(round), UnixMillis(timestamp), UnixMillis(now));
        assert_eq!(got, expected, "round {round}, timestamp {timestamp}");
    }
}

#[test]
fn proposer_takes_now_but_later_than_the_parent() {
    let cases = [(10, 20, 20), (10, 11, 11), (10, 10, 11), (10, 5, 11)];
    for (parent, now, expected) in cases {
        let got = proposal_timestamp(UnixMillis(parent), UnixMillis(now));
        assert_eq!(got, UnixMillis(expected));
    }
}
