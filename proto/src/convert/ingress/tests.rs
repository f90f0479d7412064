//! Submissions and states: each survives the wire, and each fault is named.

use alloy_primitives::Address;
use lockstep_core::certificate::{Certificate, CommitSignature};
use lockstep_core::limits::{ENTRY_BYTES_MAX, LEGS_MAX, TRANSACTION_BYTES_MAX};
use lockstep_core::types::{Height, Round};

use super::*;
use crate::error::ErrorCode;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn transaction() -> v1::Transaction {
    v1::Transaction { chain_id: 902, kind: v1::ChainKind::Opaque.into(), raw: vec![1, 2].into() }
}

fn bundle() -> v1::Bundle {
    let leg = |chain_id, byte: u8| v1::Leg {
        chain_id,
        kind: v1::ChainKind::Opaque.into(),
        transactions: vec![vec![byte].into()],
    };
    v1::Bundle { legs: vec![leg(901, 1), leg(902, 2)], guarantee: v1::Guarantee::CoOrdered.into() }
}

fn request() -> v1::SubmitTransactionRequest {
    v1::SubmitTransactionRequest { transaction: Some(transaction()), ..Default::default() }
}

#[test]
fn one_entry_comes_of_all_forms() {
    let structured = Submit::transaction(request(), NOW).unwrap();
    assert_eq!(structured.entry.expires(), NOW.plus(EXPIRES_MS_DEFAULT));
    assert_eq!((structured.form, structured.wait), (Form::Transaction, None));
    let bytes = v1::SubmitEntryRequest { entry: structured.entry.raw().0.clone(), wait: None };
    let raw = Submit::entry(&bytes).unwrap();
    assert_eq!((&raw.entry, raw.form), (&structured.entry, Form::Entry));
    for body in
        [v1::submission::Body::Transaction(transaction()), v1::submission::Body::Entry(bytes.entry)]
    {
        let message = v1::Submission { body: Some(body), ..Default::default() };
        assert_eq!(submission(message, NOW).unwrap().0, structured.entry);
    }
}

#[test]
fn expiry_and_gateway_are_taken_and_do_not_change_the_id() {
    let signed = v1::SubmitTransactionRequest {
        expires_ms: 5,
        gateway_signature: vec![7; 65].into(),
        ..request()
    };
    let (plain, signed) = (Submit::transaction(request(), NOW), Submit::transaction(signed, NOW));
    let (plain, signed) = (plain.unwrap().entry, signed.unwrap().entry);
    assert_eq!(signed.expires(), UnixMillis(5));
    assert!(signed.raw().windows(65).any(|bytes| bytes == [7; 65]));
    assert_eq!(plain.id(), signed.id());
}

#[test]
fn each_fault_of_a_submission_is_named() {
    fn check(code: ErrorCode, field: &str, spoil: impl FnOnce(&mut v1::SubmitTransactionRequest)) {
        let mut message = request();
        spoil(&mut message);
        let refusal = Submit::transaction(message, NOW).unwrap_err();
        assert_eq!((refusal.code, refusal.field.as_str()), (code, field), "{refusal}");
        assert!(!refusal.reason.is_empty() && !refusal.action.is_empty());
    }
    fn inner(spoil: fn(&mut v1::Transaction)) -> impl FnOnce(&mut v1::SubmitTransactionRequest) {
        move |request| spoil(request.transaction.as_mut().unwrap())
    }
    check(ErrorCode::Missing, "transaction", |r| r.transaction = None);
    check(ErrorCode::Missing, "transaction.chain_id", inner(|t| t.chain_id = 0));
    check(ErrorCode::Missing, "transaction.kind", inner(|t| t.kind = 0));
    check(ErrorCode::Missing, "transaction.raw", inner(|t| t.raw = Bytes::new()));
    check(
        ErrorCode::OutOfRange,
        "transaction.raw",
        inner(|t| {
            t.raw = vec![1; TRANSACTION_BYTES_MAX + 1].into();
        }),
    );
    check(ErrorCode::OutOfRange, "gateway_signature", |r| r.gateway_signature = vec![1; 64].into());
    let wait = |state: i32, timeout_ms| Some(v1::Wait { state, timeout_ms });
    check(ErrorCode::Missing, "wait.state", |r| r.wait = wait(0, 1));
    check(ErrorCode::OutOfRange, "wait.state", |r| r.wait = wait(v1::State::Dropped.into(), 1));
    check(ErrorCode::OutOfRange, "wait.state", |r| r.wait = wait(v1::State::Skipped.into(), 1));
    check(ErrorCode::OutOfRange, "wait.state", |r| r.wait = wait(4, 1));
    check(ErrorCode::OutOfRange, "wait.timeout_ms", |r| r.wait = wait(1, 0));
    check(ErrorCode::OutOfRange, "wait.timeout_ms", |r| r.wait = wait(2, WAIT_MS_MAX + 1));
}

#[test]
fn each_fault_of_raw_bytes_and_bundles_is_named() {
    fn check(code: ErrorCode, field: &str, message: v1::Submission) {
        let refusal = submission(message, NOW).unwrap_err();
        assert_eq!((refusal.code, refusal.field.as_str()), (code, field), "{refusal}");
    }
    fn entry(bytes: Vec<u8>) -> v1::Submission {
        let body = Some(v1::submission::Body::Entry(bytes.into()));
        v1::Submission { body, ..Default::default() }
    }
    let good = Submit::transaction(request(), NOW).unwrap().entry.raw().to_vec();
    check(ErrorCode::Missing, "body", v1::Submission::default());
    check(ErrorCode::Missing, "entry", entry(Vec::new()));
    check(ErrorCode::OutOfRange, "entry", entry(vec![0; ENTRY_BYTES_MAX + 1]));
    check(ErrorCode::InvalidEntry, "entry", entry(vec![0xc0]));
    check(ErrorCode::InvalidEntry, "entry", entry([good.as_slice(), &[0]].concat()));
    check(
        ErrorCode::OutOfRange,
        "expires_ms",
        v1::Submission { expires_ms: 1, ..entry(good.clone()) },
    );
    let signed = v1::Submission { gateway_signature: vec![1; 65].into(), ..entry(good) };
    check(ErrorCode::OutOfRange, "gateway_signature", signed);
    let mut twice = bundle();
    twice.legs[1].chain_id = 901;
    let body = Some(v1::submission::Body::Bundle(twice.clone()));
    check(ErrorCode::InvalidBundle, "bundle.legs", v1::Submission { body, ..Default::default() });
    let call = v1::SubmitBundleRequest { bundle: Some(twice), ..Default::default() };
    assert_eq!(Submit::bundle(call, NOW).unwrap_err().field, "bundle.legs");
    let call = v1::SubmitBundleRequest { bundle: Some(bundle()), ..Default::default() };
    assert_eq!(Submit::bundle(call, NOW).unwrap().form, Form::Bundle);
    assert_eq!(
        Submit::bundle(v1::SubmitBundleRequest::default(), NOW).unwrap_err().field,
        "bundle"
    );
}

#[test]
fn a_bundle_over_the_limit_of_an_entry_is_refused_as_a_bundle() {
    let mut large = bundle();
    for (place, leg) in large.legs.iter_mut().enumerate() {
        let byte = u8::try_from(place).unwrap();
        leg.transactions = vec![vec![byte; 100_000].into(), vec![byte + 9; 100_000].into()];
    }
    let call = v1::SubmitBundleRequest { bundle: Some(large), ..Default::default() };
    let refusal = Submit::bundle(call, NOW).unwrap_err();
    assert_eq!((refusal.code, refusal.field.as_str()), (ErrorCode::InvalidEntry, "bundle"));
}

#[test]
fn a_refusal_of_the_node_is_placed_by_the_form() {
    let cases = [
        (ErrorCode::InvalidTransaction, Form::Transaction, "transaction"),
        (ErrorCode::InvalidTransaction, Form::Bundle, "bundle"),
        (ErrorCode::UnknownChain, Form::Entry, "entry"),
        (ErrorCode::InvalidSignature, Form::Bundle, "gateway_signature"),
        (ErrorCode::InvalidSignature, Form::Entry, "entry"),
        (ErrorCode::Expired, Form::Transaction, "expires_ms"),
        (ErrorCode::ExpiresTooLate, Form::Entry, "entry"),
        (ErrorCode::Overloaded, Form::Transaction, ""),
        (ErrorCode::NotReady, Form::Entry, ""),
    ];
    for (code, form, field) in cases {
        assert_eq!(form.place(Refusal::new(code, "why")).field, field, "{code:?} {form:?}");
    }
    let named = Refusal::new(ErrorCode::InvalidEntry, "why").of_field("x");
    assert_eq!(Form::Entry.place(named).field, "x");
}

#[test]
fn counts_of_submissions_are_bounded() {
    assert_eq!(check_submission_count(0).unwrap_err().field, "submissions");
    assert!(check_submission_count(1).is_ok() && check_submission_count(SUBMISSIONS_MAX).is_ok());
    let refusal = check_submission_count(SUBMISSIONS_MAX + 1).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::OutOfRange);
}

fn decided() -> Decided {
    let signature =
        CommitSignature { validator: Address::repeat_byte(3), signature: Signature([4; 65]) };
    let certificate = Certificate {
        height: Height(9),
        round: Round(0),
        block: lockstep_core::types::BlockHash(B256::repeat_byte(5)),
        signatures: vec![signature],
    };
    Decided {
        height: Height(9),
        index: 3,
        block: certificate.block,
        certificate: certificate.into(),
        legs: Vec::new(),
    }
}

/// Decided, with a leg in each of these stages; the node tells all there is.
fn at_stages(stages: &[Stage]) -> Decided {
    let block = BlockId { number: 17, hash: B256::repeat_byte(8) };
    let landing = Landing { block, index: Some(2) };
    let leg = |(chain, stage): (u64, &Stage)| LegStatus {
        chain: ChainId(chain),
        state: match stage {
            Stage::Decided => LegState::Decided,
            Stage::Skipped => LegState::Skipped { block, reason: None },
            Stage::Included => LegState::Included(landing),
            Stage::Safe => LegState::Safe(landing),
            Stage::Finalized => LegState::Finalized(landing),
        },
        last: Stage::Finalized,
    };
    Decided { legs: (901..).zip(stages).map(leg).collect(), ..decided() }
}

#[test]
fn every_state_survives_the_wire() {
    let dropped = state::DROP_REASONS
        .iter()
        .map(|&reason| EntryState::Dropped(Dropped { reason, detail: "why".to_owned() }));
    let legs = [
        &[Stage::Decided][..],
        &[Stage::Included, Stage::Decided],
        &[Stage::Included, Stage::Skipped],
        &[Stage::Safe, Stage::Finalized],
        &[Stage::Finalized; LEGS_MAX],
    ];
    let legs = legs.into_iter().map(|stages| EntryState::Decided(at_stages(stages)));
    let states = [EntryState::Received, EntryState::Decided(decided())];
    for state in states.into_iter().chain(dropped).chain(legs) {
        let status = EntryStatus { id: EntryId(B256::repeat_byte(1)), state };
        assert_eq!(EntryStatus::try_from(v1::EntryStatus::from(&status)).unwrap(), status);
        let submitted = Submitted { status, is_known: true, is_reached: false };
        assert_eq!(Submitted::try_from(v1::SubmitResponse::from(&submitted)).unwrap(), submitted);
    }
}

#[test]
fn each_fault_of_a_state_is_named() {
    fn check(field: &str, spoil: impl FnOnce(&mut v1::EntryStatus)) {
        let state = EntryState::Decided(decided());
        let status = EntryStatus { id: EntryId(B256::repeat_byte(1)), state };
        let mut message = v1::EntryStatus::from(&status);
        spoil(&mut message);
        assert_eq!(EntryStatus::try_from(message).unwrap_err().field, field);
    }
    fn inner(spoil: fn(&mut v1::Decision)) -> impl FnOnce(&mut v1::EntryStatus) {
        move |status| spoil(status.decided.as_mut().unwrap())
    }
    check("id", |s| s.id = vec![1; 31].into());
    check("state", |s| s.state = 0);
    check("state", |s| s.state = 77);
    check("decided", |s| s.decided = None);
    check("dropped", |s| s.state = v1::State::Dropped.into());
    check("height", inner(|d| d.height = 0));
    check("block_hash", inner(|d| d.block_hash = Bytes::new()));
    check("certificate", inner(|d| d.certificate = vec![1].into()));
    check("legs", |s| s.legs = vec![v1::LegStatus::default(); LEGS_MAX + 1]);
    check("chain_id", |s| s.legs = vec![v1::LegStatus::default()]);
    check("state", |s| s.state = v1::State::Included.into());
    check("state", |s| s.legs = vec![(&at_stages(&[Stage::Safe]).legs[0]).into()]);
}

#[test]
fn an_entry_has_come_as_far_as_the_least_of_its_legs() {
    use Stage::{Decided, Finalized, Included, Safe, Skipped};
    // Stages of the legs; the entry's; whether it is included, safe, finalized; whether no other state follows.
    let cases: [(&[Stage], Stage, [bool; 3], bool); 9] = [
        (&[], Decided, [false; 3], true),
        (&[Decided], Decided, [false; 3], false),
        (&[Included], Included, [true, false, false], false),
        (&[Safe, Included], Included, [true, false, false], false),
        (&[Safe, Finalized], Safe, [true, true, false], false),
        (&[Finalized, Finalized], Finalized, [true; 3], true),
        (&[Skipped, Included], Skipped, [false; 3], false),
        (&[Skipped, Finalized], Skipped, [false; 3], true),
        (&[Skipped, Decided], Decided, [false; 3], false),
    ];
    for (stages, stage, reached, is_final) in cases {
        let decided = at_stages(stages);
        assert_eq!(decided.stage(), stage, "{stages:?}");
        let state = EntryState::Decided(decided);
        let milestones = [Milestone::Included, Milestone::Safe, Milestone::Finalized];
        assert_eq!(milestones.map(|milestone| state.has_reached(milestone)), reached, "{stages:?}");
        assert!(state.has_reached(Milestone::Decided));
        assert_eq!(state.is_final(), is_final, "{stages:?}");
    }
}

#[test]
fn waits_survive_the_wire() {
    let all = [
        Milestone::Received,
        Milestone::Decided,
        Milestone::Included,
        Milestone::Safe,
        Milestone::Finalized,
    ];
    for milestone in all {
        let expected = Wait { milestone, timeout_ms: WAIT_MS_MAX };
        let message = v1::SubmitTransactionRequest { wait: Some(expected.into()), ..request() };
        assert_eq!(Submit::transaction(message, NOW).unwrap().wait, Some(expected));
    }
}

#[test]
fn milestones_are_reached_in_order_and_never_by_a_dropped_entry() {
    let dropped =
        EntryState::Dropped(Dropped { reason: DropReason::Expired, detail: String::new() });
    let decided = EntryState::Decided(decided());
    let cases = [
        (&EntryState::Received, true, false, false),
        (&decided, true, true, true),
        (&dropped, false, false, true),
    ];
    // A record has no legs: nothing follows its decision.
    for (state, received, is_decided, is_final) in cases {
        assert_eq!(state.has_reached(Milestone::Received), received);
        assert_eq!(state.has_reached(Milestone::Decided), is_decided);
        assert_eq!(state.is_final(), is_final);
    }
}

#[test]
fn drops_say_why_in_one_word_and_in_a_sentence() {
    use lockstep_core::admission::LeaveOut;
    let chain = ChainId(901);
    for reason in [LeaveOut::OverBudget { chain }, LeaveOut::RecordCap { chain }] {
        assert_eq!(Dropped::of(&reason).reason, DropReason::OverBudget);
    }
    assert_eq!(DropReason::OverBudget.code(), ErrorCode::Overloaded);
    let dropped = Dropped::of(&LeaveOut::UnknownChain { chain });
    assert_eq!(
        (dropped.reason, dropped.detail.as_str()),
        (DropReason::UnknownChain, "chain 901 is not registered")
    );
    assert_eq!(dropped.reason.code(), ErrorCode::UnknownChain);
    assert_eq!(DropReason::TooLarge.code(), ErrorCode::NotAllowed);
}

#[test]
fn status_keys_survive_the_wire_and_their_faults_are_named() {
    let hash = B256::repeat_byte(6);
    for key in [StatusKey::Id(EntryId(hash)), StatusKey::Transaction(ChainId(7), hash)] {
        assert_eq!(StatusKey::try_from(v1::GetStatusRequest::from(key)).unwrap(), key);
    }
    let check = |field: &str, key| {
        let error = StatusKey::try_from(v1::GetStatusRequest { key }).unwrap_err();
        assert_eq!(error.field, field);
    };
    check("key", None);
    check("id", Some(v1::get_status_request::Key::Id(vec![1; 33].into())));
    let by = |chain_id, bytes: usize| {
        let transaction_hash = vec![1; bytes].into();
        let key = v1::TransactionKey { chain_id, transaction_hash };
        Some(v1::get_status_request::Key::Transaction(key))
    };
    check("transaction.chain_id", by(0, 32));
    check("transaction.transaction_hash", by(1, 0));
}

#[test]
fn results_of_a_stream_survive_the_wire() {
    let id = EntryId(B256::repeat_byte(2));
    let accepted = result_from_v1(result_to_v1(Ok((id, &EntryState::Received, true)))).unwrap();
    assert_eq!(accepted, Ok(Accepted { id, state: v1::State::Received, is_known: true }));
    let refusal = Refusal::new(ErrorCode::OverQuota, "slowly").retry_after(7);
    assert_eq!(result_from_v1(result_to_v1(Err(&refusal))).unwrap(), Err(refusal));
    assert_eq!(result_from_v1(v1::SubmitResult::default()).unwrap_err().field, "result");
}

proptest::proptest! {
    #[test]
    fn conversion_never_panics(bytes: Vec<u8>, expires_ms: u64) {
        let body = Some(v1::submission::Body::Entry(bytes.into()));
        let message = v1::Submission { body, expires_ms, ..Default::default() };
        if let Ok((entry, _)) = submission(message, NOW) {
            assert!(!entry.raw().is_empty());
        }
    }
}
