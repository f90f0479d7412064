//! The guard against every crash, every damaged byte, and a second process.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use lockstep_core::signing;
use lockstep_core::types::UnixMillis;
use proptest::prelude::*;

use super::faults::{Crash, FaultFiles, Operation};
use super::journal::FILE;
use super::record::RECORD_BYTES;
use super::*;

fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

fn network() -> NetworkId {
    NetworkId(B256::repeat_byte(3))
}

fn block(number: u8) -> BlockHash {
    BlockHash(B256::repeat_byte(number))
}

/// Makes a guard with this mark.
fn make(files: &FaultFiles, mark: Option<Mark>) -> Result<(), GuardOpenError> {
    Journal::create(files.clone(), Path::new("guard"), (network(), key().address()), mark)
}

/// Opens what is there.
fn open_made(files: &FaultFiles) -> Result<(Guard, GuardReport), GuardOpenError> {
    Guard::on(Box::new(files.clone()), Path::new("guard"), network(), key())
}

/// Opens the guard; where there is none, makes one whose mark is used up.
fn open(files: &FaultFiles) -> Result<(Guard, GuardReport), GuardOpenError> {
    match open_made(files) {
        Err(GuardOpenError::Missing { .. }) => {
            make(files, None)?;
            open_made(files)
        }
        opened => opened,
    }
}

const FRESH: Mark = Mark { origin: Origin::Fresh, made_at: UnixMillis(1_000) };
const LOST: Mark = Mark { origin: Origin::Lost, made_at: UnixMillis(2_000) };

fn id(height: u64, round: u32, step: Step) -> MessageId {
    MessageId { height: Height(height), round: Round(round), step }
}

fn vote_of(id: MessageId, number: u8) -> Option<Vote> {
    let vote_type = match id.step {
        Step::Proposal => return None,
        Step::Prevote => VoteType::Prevote,
        Step::Precommit => VoteType::Precommit,
    };
    // Block 0 is a nil vote.
    let block = (number > 0).then(|| block(number));
    Some(Vote { height: id.height, round: id.round, vote_type, block })
}

fn proposal_of(id: MessageId, number: u8) -> Proposal {
    // The same block with another valid round is another proposal.
    let valid_round = number.is_multiple_of(2).then_some(Round(0));
    Proposal { height: id.height, round: id.round, valid_round, block: block(number / 2) }
}

/// Asks for any message; returns its signatures.
fn ask(guard: &Guard, id: MessageId, number: u8) -> Result<Vec<Signature>, SignError> {
    match vote_of(id, number) {
        Some(vote) => guard.sign_vote(&vote).map(|signature| vec![signature]),
        None => {
            let proposal = proposal_of(id, number);
            guard.sign_proposal(&proposal).map(|both| vec![both.proposal, both.part])
        }
    }
}

fn vote(guard: &Guard, id: MessageId, number: u8) -> Result<Signature, SignError> {
    ask(guard, id, number).map(|signatures| signatures[0])
}

/// What the guard gave out, as the network sees it.
#[derive(Default)]
struct Witness(BTreeMap<MessageId, (u8, Vec<Signature>)>);

impl Witness {
    fn ask(&mut self, guard: &Guard, id: MessageId, number: u8) -> Result<(), SignError> {
        let signatures = ask(guard, id, number)?;
        let first = self.0.entry(id).or_insert_with(|| (number, signatures.clone()));
        assert_eq!(*first, (number, signatures), "{id} was signed twice");
        Ok(())
    }

    /// Whatever was given out is refused with any other content.
    fn check(&self, guard: &Guard) {
        for (id, (number, _)) in &self.0 {
            assert!(ask(guard, *id, number + 2).is_err(), "{id} would be signed twice");
        }
    }
}

#[test]
fn signatures_are_the_keys_and_both_of_a_proposal_are_there() {
    let (guard, report) = open(&FaultFiles::default()).unwrap();
    assert_eq!(report, GuardReport { mark: None, torn: None, newest: None });
    let proposal = proposal_of(id(1, 0, Step::Proposal), 3);
    let both = guard.sign_proposal(&proposal).unwrap();
    let signed =
        [(proposal.digest(network()), both.proposal), (proposal.part_digest(network()), both.part)];
    for (digest, signature) in signed {
        assert_eq!(signing::recover(digest, &signature), Ok(key().address()));
    }
    let prevote = vote_of(id(1, 0, Step::Prevote), 3).unwrap();
    let signature = guard.sign_vote(&prevote).unwrap();
    assert_eq!(signing::recover(prevote.digest(network()), &signature), Ok(key().address()));
    assert_eq!(guard.address(), key().address());
}

#[test]
fn an_identical_message_gets_the_stored_signature_and_any_other_is_refused() {
    let files = FaultFiles::default();
    let prevote = id(5, 1, Step::Prevote);
    let first = {
        let (guard, _) = open(&files).unwrap();
        vote(&guard, prevote, 1).unwrap()
    };
    let (guard, report) = open(&files).unwrap();
    assert_eq!(report, GuardReport { mark: None, torn: None, newest: Some(prevote) });
    assert_eq!(vote(&guard, prevote, 1).unwrap(), first);
    for other in [0, 2] {
        let refused = vote(&guard, prevote, other).unwrap_err();
        assert!(matches!(refused, SignError::Conflict { .. }), "{refused}");
    }
}

#[test]
fn a_proposal_with_another_valid_round_is_another_proposal() {
    let (guard, _) = open(&FaultFiles::default()).unwrap();
    let proposal =
        |valid_round| Proposal { height: Height(2), round: Round(3), valid_round, block: block(1) };
    guard.sign_proposal(&proposal(None)).unwrap();
    let refused = guard.sign_proposal(&proposal(Some(Round(0)))).unwrap_err();
    assert!(matches!(refused, SignError::Conflict { .. }), "{refused}");
    guard.sign_proposal(&proposal(None)).unwrap();
}

#[test]
fn nothing_new_is_signed_below_the_newest() {
    let (guard, _) = open(&FaultFiles::default()).unwrap();
    let newest = id(5, 2, Step::Prevote);
    vote(&guard, newest, 1).unwrap();
    let lower = [
        id(5, 2, Step::Proposal),
        id(5, 1, Step::Precommit),
        id(5, 0, Step::Prevote),
        id(4, 9, Step::Precommit),
    ];
    for lower in lower {
        let refused = ask(&guard, lower, 1).unwrap_err();
        assert!(matches!(refused, SignError::Lower { .. }), "{refused}");
    }
    for higher in [id(5, 2, Step::Precommit), id(5, 3, Step::Proposal), id(6, 0, Step::Prevote)] {
        ask(&guard, higher, 1).unwrap();
    }
}

#[test]
fn it_never_signs_twice_whatever_write_it_is_killed_in() {
    let script = [
        (id(1, 0, Step::Proposal), 3),
        (id(1, 0, Step::Prevote), 1),
        (id(2, 1, Step::Precommit), 2),
        (id(3, 0, Step::Prevote), 0),
    ];
    let run = |files: &FaultFiles, witness: &mut Witness, offset: u8| -> Result<(), ()> {
        let (guard, _) = open(files).map_err(|_| ())?;
        for (id, number) in script {
            // Small, so that compaction is among the operations.
            guard.lock().journal.set_compact_at(3 * RECORD_BYTES as u64);
            let _refused = witness.ask(&guard, id, number + offset);
        }
        if files.is_dead() {
            return Err(());
        }
        witness.check(&guard);
        Ok(())
    };
    let counted = FaultFiles::default();
    run(&counted, &mut Witness::default(), 0).unwrap();
    let operations = counted.operations();
    assert!(operations.len() > 15, "{operations:?}");

    let mut crashes = 0;
    for (at, operation) in operations.into_iter().enumerate() {
        for crash in crashes_in(at, operation) {
            let (files, mut witness) = (FaultFiles::default(), Witness::default());
            files.crash(crash);
            assert!(run(&files, &mut witness, 0).is_err(), "{crash:?}");
            files.restart();
            // The next process wants to sign something else everywhere.
            run(&files, &mut witness, 2).unwrap_or_else(|()| panic!("no start: {crash:?}"));
            let (guard, _) = open(&files).unwrap();
            vote(&guard, id(9, 0, Step::Prevote), 1).unwrap();
            crashes += 1;
        }
    }
    assert!(crashes > 4_000, "{crashes}");
}

/// Every way in which one operation may be cut short.
fn crashes_in(at: usize, operation: Operation) -> Vec<Crash> {
    let mut crashes = Vec::new();
    for kept in 0..=RECORD_BYTES {
        for (zeros, keeps_names) in [(0, false), (RECORD_BYTES, true)] {
            // Bytes on their way to the disk: appended and not synced.
            let has_effect = operation == Operation::Append;
            crashes.push(Crash { at, kept, zeros, has_effect, keeps_names });
        }
    }
    if operation == Operation::Other {
        crashes.truncate(2);
    }
    for keeps_names in [false, true] {
        let has_effect = operation != Operation::Append;
        crashes.push(Crash { at, kept: 0, zeros: 0, has_effect, keeps_names });
    }
    crashes
}

#[derive(Clone, Debug)]
enum Action {
    Sign(MessageId, u8),
    Restart(Option<Crash>),
    Compact,
    Floor(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let step = prop_oneof![Just(Step::Proposal), Just(Step::Prevote), Just(Step::Precommit)];
    let sign =
        (1u64..6, 0u32..3, step, 0u8..4).prop_map(|(h, r, s, n)| Action::Sign(id(h, r, s), n));
    let crash = (0usize..14, 0..=RECORD_BYTES, 0..=RECORD_BYTES, any::<bool>(), any::<bool>())
        .prop_map(|(at, kept, zeros, has_effect, keeps_names)| {
            Action::Restart(Some(Crash { at, kept, zeros, has_effect, keeps_names }))
        });
    let action = prop_oneof![
        12 => sign,
        2 => crash,
        1 => Just(Action::Restart(None)),
        1 => Just(Action::Compact),
        1 => (1u64..4).prop_map(Action::Floor),
    ];
    prop::collection::vec(action, 1..80)
}

/// Opens, and survives crashes while opening.
fn reopen(files: &FaultFiles) -> Guard {
    for _ in 0..3 {
        match open(files) {
            Ok((guard, _)) => return guard,
            Err(error) if files.is_dead() => {
                drop(error);
                files.restart();
            }
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("one crash at a time")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_sequence_of_requests_and_crashes_makes_it_sign_twice(actions in actions()) {
        let (files, mut witness) = (FaultFiles::default(), Witness::default());
        let mut guard = reopen(&files);
        let mut floor = 0;
        for action in actions {
            match action {
                Action::Sign(id, number) => {
                    let is_new = !guard.lock().messages.contains_key(&id);
                    let signed = witness.ask(&guard, id, number);
                    prop_assert!(signed.is_err() || !is_new || id.height.0 > floor);
                }
                Action::Restart(crash) => {
                    drop(guard);
                    files.restart();
                    if let Some(crash) = crash {
                        files.crash(crash);
                    }
                    guard = reopen(&files);
                }
                Action::Compact => guard.lock().journal.set_compact_at(0),
                Action::Floor(height) => {
                    if guard.raise_floor(Height(height)).is_ok() {
                        floor = floor.max(height);
                    }
                }
            }
            if files.is_dead() {
                prop_assert!(matches!(vote(&guard, id(9, 0, Step::Prevote), 1), Err(SignError::Io(_) | SignError::Stopped)));
                drop(guard);
                files.restart();
                guard = reopen(&files);
            }
            witness.check(&guard);
        }
        drop(guard);
        files.restart();
        let guard = reopen(&files);
        prop_assert!(vote(&guard, id(99, 0, Step::Prevote), 1).is_ok());
    }
}

/// A file with three messages, as bytes.
fn written() -> Vec<u8> {
    let files = FaultFiles::default();
    let (guard, _) = open(&files).unwrap();
    for (step, number) in [(Step::Proposal, 3), (Step::Prevote, 1), (Step::Precommit, 1)] {
        ask(&guard, id(4, 0, step), number).unwrap();
    }
    files.content(FILE).unwrap()
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let bytes = written();
    assert_eq!(bytes.len(), 4 * RECORD_BYTES);
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let error = open(&FaultFiles::with_file(FILE, wrong)).unwrap_err();
        let GuardOpenError::Damaged { file, offset } = &error else { panic!("{error}") };
        assert_eq!(
            (file.as_path(), *offset),
            (Path::new("guard/guard.log"), (bit / 2048 * 256) as u64)
        );
        assert!(error.to_string().contains("runbooks/guard.md"));
    }
}

#[test]
fn a_torn_end_is_set_aside_and_reported_at_every_byte() {
    let bytes = written();
    let whole = 3 * RECORD_BYTES;
    for length in whole + 1..bytes.len() {
        for zeros in [0, bytes.len() - length, 3 * RECORD_BYTES] {
            let torn = [&bytes[..length], vec![0; zeros].as_slice()].concat();
            let size = torn.len();
            let files = FaultFiles::with_file(FILE, torn.clone());
            let (guard, report) = open(&files).unwrap();
            let copy = PathBuf::from("guard/guard.log.torn-at-768");
            let tail = TornTail { offset: whole as u64, bytes: (size - whole) as u64, copy };
            assert_eq!(report.torn, Some(tail));
            assert_eq!(report.newest, Some(id(4, 0, Step::Prevote)));
            assert_eq!(files.content("guard.log.torn-at-768").unwrap(), torn[whole..]);
            ask(&guard, id(4, 0, Step::Precommit), 2).unwrap();
            drop(guard);
            assert_eq!(open(&files).unwrap().1.torn, None);
        }
    }
}

#[test]
fn a_zero_filled_end_is_set_aside() {
    for zeros in [1, RECORD_BYTES, 40 * RECORD_BYTES + 1] {
        let files = FaultFiles::with_file(FILE, [written(), vec![0; zeros]].concat());
        let (_, report) = open(&files).unwrap();
        assert_eq!(report.torn.unwrap().bytes, zeros as u64);
        assert_eq!(report.newest, Some(id(4, 0, Step::Precommit)));
    }
}

#[test]
fn a_removed_swapped_or_foreign_record_is_found() {
    let bytes = written();
    let record = |place: usize| &bytes[place * RECORD_BYTES..(place + 1) * RECORD_BYTES];
    let cases: [(&str, Vec<u8>); 5] = [
        ("removed", [record(0), record(2), record(3)].concat()),
        ("swapped", [record(0), record(2), record(1), record(3)].concat()),
        ("twice", [record(0), record(1), record(1)].concat()),
        ("no head", record(1).to_vec()),
        ("empty", Vec::new()),
    ];
    for (case, bytes) in cases {
        let opened = open(&FaultFiles::with_file(FILE, bytes));
        assert!(matches!(opened, Err(GuardOpenError::Damaged { .. })), "{case}");
    }
}

#[test]
fn another_network_or_key_is_refused() {
    let files = FaultFiles::with_file(FILE, written());
    let other_key = SigningKey::from_bytes([8; 32]).unwrap();
    let other_network = NetworkId(B256::repeat_byte(4));
    for (network, key, expected) in
        [(other_network, key(), "network"), (network(), other_key, "validator")]
    {
        let opened = Guard::on(Box::new(files.clone()), Path::new("guard"), network, key);
        let Err(GuardOpenError::Foreign { what, .. }) = opened else { panic!("{opened:?}") };
        assert_eq!(what, expected);
    }
}

#[test]
fn compaction_keeps_two_heights_and_a_floor_for_the_rest() {
    let files = FaultFiles::default();
    let (guard, _) = open(&files).unwrap();
    for height in 1..=2_000 {
        vote(&guard, id(height, 0, Step::Prevote), 1).unwrap();
        vote(&guard, id(height, 0, Step::Precommit), 1).unwrap();
    }
    let before = vote(&guard, id(2_000, 0, Step::Precommit), 1).unwrap();
    assert_eq!(files.content(FILE).unwrap().len(), 4_001 * RECORD_BYTES);
    for height in 2_001..=2_060 {
        vote(&guard, id(height, 0, Step::Prevote), 1).unwrap();
        vote(&guard, id(height, 0, Step::Precommit), 1).unwrap();
    }
    assert!(files.content(FILE).unwrap().len() < 100 * RECORD_BYTES);
    drop(guard);
    let (guard, report) = open(&files).unwrap();
    assert_eq!(report.newest, Some(id(2_060, 0, Step::Precommit)));
    for height in [1, 2_000, 2_040] {
        let refused = vote(&guard, id(height, 5, Step::Precommit), 1).unwrap_err();
        assert!(matches!(refused, SignError::Floor { .. }), "{refused}");
    }
    assert_ne!(before, vote(&guard, id(2_060, 0, Step::Precommit), 1).unwrap());
}

#[test]
fn a_height_of_many_rounds_does_not_compact_at_every_signature() {
    let (guard, _) = open(&FaultFiles::default()).unwrap();
    for round in 0..6_000 {
        vote(&guard, id(3, round, Step::Prevote), 0).unwrap();
    }
    // The first record is still known: nothing of the height is ever forgotten.
    vote(&guard, id(3, 0, Step::Prevote), 0).unwrap();
    assert!(matches!(vote(&guard, id(3, 0, Step::Prevote), 1), Err(SignError::Conflict { .. })));
}

#[test]
fn a_raised_floor_stays_after_a_restart() {
    let files = FaultFiles::default();
    let (guard, _) = open(&files).unwrap();
    guard.raise_floor(Height(7)).unwrap();
    guard.raise_floor(Height(3)).unwrap();
    drop(guard);
    let (guard, _) = open(&files).unwrap();
    let refused = vote(&guard, id(7, 0, Step::Prevote), 1).unwrap_err();
    assert!(matches!(refused, SignError::Floor { floor: Height(7), .. }), "{refused}");
    vote(&guard, id(8, 0, Step::Prevote), 1).unwrap();
}

#[test]
fn it_abstains_up_to_the_height_and_resumes_by_itself() {
    let (guard, _) = open(&FaultFiles::default()).unwrap();
    vote(&guard, id(7, 0, Step::Prevote), 1).unwrap();
    guard.abstain_until_decided(Height(7));
    guard.abstain_until_decided(Height(6));
    assert_eq!(guard.abstaining(), Some(Height(7)));
    for (id, number) in [
        (id(7, 0, Step::Prevote), 1),
        (id(7, 0, Step::Precommit), 1),
        (id(7, 1, Step::Proposal), 1),
    ] {
        let refused = ask(&guard, id, number).unwrap_err();
        assert!(matches!(refused, SignError::Abstaining { until: Height(7), .. }), "{refused}");
    }
    vote(&guard, id(8, 0, Step::Prevote), 1).unwrap();
}

#[test]
fn ahead_of_the_log_by_one_is_ordinary_and_by_more_is_not() {
    let (guard, _) = open(&FaultFiles::default()).unwrap();
    let proposal = id(7, 0, Step::Proposal);
    let (prevote, precommit) = (id(7, 0, Step::Prevote), id(7, 0, Step::Precommit));
    let ahead = |height, own: &[MessageId]| {
        guard.ahead_of(&WalView { height: Height(height), own: own.to_vec(), is_empty: false })
    };
    assert_eq!(ahead(7, &[]), Ahead::No);
    vote(&guard, id(6, 0, Step::Precommit), 1).unwrap();
    assert_eq!(ahead(7, &[]), Ahead::No);
    ask(&guard, proposal, 1).unwrap();
    assert_eq!(ahead(7, &[]), Ahead::No, "a block that was too late for its round");
    vote(&guard, prevote, 1).unwrap();
    assert_eq!(ahead(7, &[]), Ahead::One, "the proposal does not count");
    vote(&guard, precommit, 1).unwrap();
    assert_eq!(ahead(7, &[proposal, prevote]), Ahead::One);
    assert_eq!(ahead(7, &[precommit, proposal, prevote]), Ahead::No);
    assert_eq!(ahead(7, &[proposal]), Ahead::More { height: Height(7) });
    assert_eq!(ahead(6, &[id(6, 0, Step::Precommit)]), Ahead::More { height: Height(7) });
    assert_eq!(ahead(8, &[]), Ahead::No);
    assert_eq!(ahead(8, &[id(7, 3, Step::Prevote)]), Ahead::No);
    assert_eq!(ahead(8, &[id(8, 0, Step::Prevote)]), Ahead::Behind { height: Height(8) });
    assert_eq!(Ahead::One.must_abstain(), None);
    assert_eq!(ahead(7, &[]).must_abstain(), Some(Height(7)));
}

#[test]
fn who_signed_above_where_it_starts_abstains_whatever_its_log_has_kept() {
    let (guard, _) = open(&FaultFiles::default()).unwrap();
    let prevote = id(7, 0, Step::Prevote);
    let must = |next, log, own: &[MessageId]| {
        let is_empty = own.is_empty();
        guard.must_abstain(
            Height(next),
            &WalView { height: Height(log), own: own.to_vec(), is_empty },
        )
    };
    assert_eq!(must(7, 7, &[]), None);
    vote(&guard, prevote, 1).unwrap();
    assert_eq!(must(7, 7, &[]), None, "one vote may be ahead of the log");
    assert_eq!(must(8, 7, &[prevote]), None, "its height is decided");
    assert_eq!(must(5, 7, &[prevote]), Some(Height(7)), "the store lost heights");
    assert_eq!(must(5, 7, &[]), Some(Height(7)), "and the log its vote");
    assert_eq!(must(5, 5, &[]), Some(Height(7)), "and its height");
    let inputs = WalView { height: Height(8), own: Vec::new(), is_empty: false };
    assert_eq!(guard.must_abstain(Height(5), &inputs), Some(Height(8)), "it would be replayed");
    assert_eq!(guard.must_abstain(Height(8), &inputs), None);
    vote(&guard, id(7, 0, Step::Precommit), 1).unwrap();
    assert_eq!(must(7, 7, &[]), Some(Height(7)), "locks are lost");
    assert_eq!(must(8, 7, &[]), None);
    assert_eq!(must(9, 9, &[id(9, 0, Step::Prevote)]), Some(Height(9)), "the guard lost a vote");
}

#[test]
fn on_disk_it_survives_a_restart_and_a_second_one_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("a/guard");
    Guard::create(&directory, network(), key().address(), FRESH).unwrap();
    let (guard, report) = Guard::open(&directory, network(), key()).unwrap();
    assert_eq!(report.mark, Some(FRESH));
    guard.begin();
    let signature = vote(&guard, id(1, 0, Step::Prevote), 1).unwrap();
    // `flock` belongs to the open file: a second opening in this process meets it like one in another.
    let error = Guard::open(&directory, network(), key()).unwrap_err();
    let GuardOpenError::InUse { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(*holder, std::process::id().to_string());
    assert!(error.to_string().contains(&directory.display().to_string()), "{error}");
    drop(guard);

    let (guard, report) = Guard::open(&directory, network(), key()).unwrap();
    assert_eq!(report.newest, Some(id(1, 0, Step::Prevote)));
    assert_eq!(vote(&guard, id(1, 0, Step::Prevote), 1).unwrap(), signature);
    guard.lock().journal.set_compact_at(0);
    vote(&guard, id(4, 0, Step::Prevote), 1).unwrap();
    vote(&guard, id(5, 0, Step::Prevote), 1).unwrap();
    drop(guard);

    let path = directory.join(FILE);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (guard, report) = Guard::open(&directory, network(), key()).unwrap();
    let torn = report.torn.unwrap();
    assert_eq!(std::fs::read(&torn.copy).unwrap().len() as u64, torn.bytes);
    assert_eq!(guard.newest(), Some(id(4, 0, Step::Prevote)));
}

#[test]
fn the_directory_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("guard");
    Guard::create(&directory, network(), key().address(), FRESH).unwrap();
    assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn after_a_failed_write_nothing_is_signed_any_more() {
    let files = FaultFiles::default();
    let (guard, _) = open(&files).unwrap();
    vote(&guard, id(1, 0, Step::Prevote), 1).unwrap();
    files.crash(Crash { at: files.operations().len() + 1, has_effect: true, ..Crash::default() });
    assert!(matches!(vote(&guard, id(1, 0, Step::Precommit), 1), Err(SignError::Io(_))));
    assert!(guard.is_stopped());
    files.restart();
    // The disk is well again: it must not be trusted before the file is read again.
    for id in [id(1, 0, Step::Prevote), id(1, 0, Step::Precommit), id(2, 0, Step::Prevote)] {
        assert!(matches!(vote(&guard, id, 1), Err(SignError::Stopped)));
    }
    assert!(matches!(guard.raise_floor(Height(9)), Err(SignError::Stopped)));
}

/// Every message of the first two heights is refused because of the mark.
fn assert_signs_nothing(guard: &Guard, expected: Origin) {
    for id in [id(1, 0, Step::Proposal), id(1, 0, Step::Prevote), id(2, 3, Step::Precommit)] {
        let refused = ask(guard, id, 1).unwrap_err();
        let SignError::Marked { origin, .. } = refused else { panic!("{refused}") };
        assert_eq!(origin, expected);
    }
}

#[test]
fn a_guard_that_nobody_made_is_not_opened_and_not_made() {
    let files = FaultFiles::default();
    let error = open_made(&files).unwrap_err();
    assert!(matches!(error, GuardOpenError::Missing { .. }), "{error}");
    for expected in
        ["no guard in guard", "set `guard_dir`", "`lockstep init --lost`", "lost-data.md"]
    {
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(files.content(FILE), None);

    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("guard");
    let error = Guard::open(&directory, network(), key()).unwrap_err();
    assert!(matches!(error, GuardOpenError::Missing { .. }), "{error}");
    assert!(!directory.exists());
}

#[test]
fn a_guard_that_is_there_is_not_made_anew_whatever_it_holds() {
    for bytes in [written(), Vec::new(), vec![7; 3]] {
        let files = FaultFiles::with_file(FILE, bytes.clone());
        for mark in [FRESH, LOST] {
            let error = make(&files, Some(mark)).unwrap_err();
            assert!(matches!(error, GuardOpenError::Exists { .. }), "{error}");
        }
        assert_eq!(files.content(FILE), Some(bytes));
    }
}

#[test]
fn a_fresh_guard_signs_nothing_before_it_may_begin_and_then_the_first_height_alone() {
    let files = FaultFiles::default();
    make(&files, Some(FRESH)).unwrap();
    let (guard, report) = open_made(&files).unwrap();
    assert_eq!(report.mark, Some(FRESH));
    assert_signs_nothing(&guard, Origin::Fresh);
    guard.begin();
    let refused = vote(&guard, id(2, 0, Step::Prevote), 1).unwrap_err();
    assert!(matches!(refused, SignError::Marked { .. }), "{refused}");
    vote(&guard, id(1, 0, Step::Prevote), 1).unwrap();
    assert_eq!(guard.mark(), None);
    vote(&guard, id(2, 0, Step::Prevote), 1).unwrap();
}

#[test]
fn the_first_signature_uses_a_fresh_mark_up_for_good() {
    let files = FaultFiles::default();
    make(&files, Some(FRESH)).unwrap();
    // That it may begin is not kept.
    open_made(&files).unwrap().0.begin();
    let (guard, report) = open_made(&files).unwrap();
    assert_eq!(report.mark, Some(FRESH));
    assert_signs_nothing(&guard, Origin::Fresh);
    guard.begin();
    vote(&guard, id(1, 0, Step::Prevote), 1).unwrap();
    drop(guard);
    let (guard, report) = open_made(&files).unwrap();
    assert_eq!(
        report,
        GuardReport { mark: None, torn: None, newest: Some(id(1, 0, Step::Prevote)) }
    );
    vote(&guard, id(1, 0, Step::Precommit), 1).unwrap();
}

#[test]
fn a_lost_guard_signs_nothing_until_its_floor_and_then_above_it() {
    let files = FaultFiles::default();
    make(&files, Some(LOST)).unwrap();
    for _ in 0..2 {
        // The mark outlives a restart, and the network's genesis means nothing to it.
        let (guard, report) = open_made(&files).unwrap();
        assert_eq!((report.mark, report.newest), (Some(LOST), None));
        guard.begin();
        assert_signs_nothing(&guard, Origin::Lost);
    }
    let (guard, _) = open_made(&files).unwrap();
    guard.raise_floor(Height(7)).unwrap();
    drop(guard);
    let (guard, report) = open_made(&files).unwrap();
    assert_eq!(report.mark, None);
    let refused = vote(&guard, id(7, 9, Step::Precommit), 1).unwrap_err();
    assert!(matches!(refused, SignError::Floor { floor: Height(7), .. }), "{refused}");
    vote(&guard, id(8, 0, Step::Prevote), 1).unwrap();
}

#[test]
fn a_floor_that_is_torn_leaves_the_guard_lost() {
    let files = FaultFiles::default();
    make(&files, Some(LOST)).unwrap();
    let (guard, _) = open_made(&files).unwrap();
    files.crash(Crash { at: files.operations().len() + 1, kept: 100, ..Crash::default() });
    assert!(guard.raise_floor(Height(7)).is_err());
    drop(guard);
    files.restart();
    let (guard, report) = open_made(&files).unwrap();
    assert_eq!(report.mark, Some(LOST));
    assert_signs_nothing(&guard, Origin::Lost);
}

#[test]
fn a_crash_while_a_guard_is_made_leaves_none_or_the_whole() {
    let counted = FaultFiles::default();
    make(&counted, Some(LOST)).unwrap();
    for (at, operation) in counted.operations().into_iter().enumerate() {
        for crash in crashes_in(at, operation) {
            let files = FaultFiles::default();
            files.crash(crash);
            assert!(make(&files, Some(LOST)).is_err(), "{crash:?}");
            files.restart();
            match open_made(&files) {
                Ok((guard, report)) => {
                    assert_eq!(report.mark, Some(LOST));
                    assert_signs_nothing(&guard, Origin::Lost);
                }
                Err(GuardOpenError::Missing { .. }) => make(&files, Some(FRESH)).unwrap(),
                Err(error) => panic!("{crash:?}: {error}"),
            }
        }
    }
}

#[test]
fn the_wait_of_a_lost_guard_is_twice_the_drift() {
    assert_eq!(LOST.lost_until(500), UnixMillis(3_000));
    let late = Mark { made_at: UnixMillis(u64::MAX), ..LOST };
    assert_eq!(late.lost_until(500), UnixMillis(u64::MAX));
}
