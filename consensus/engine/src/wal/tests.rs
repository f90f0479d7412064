//! The report against logs that malachite wrote, sound and damaged; and malachite against what is left.

use lockstep_core::signing::Signature;
use lockstep_core::types::{BlockHash, Round};
use malachitebft_app_channel::app::consensus::{Input, ProposedValue};
use malachitebft_app_channel::app::engine::wal::{encode_entry, log_entries};
use malachitebft_app_channel::app::types::core as mc;
use malachitebft_app_channel::app::wal::Log;
use tempfile::TempDir;

use super::*;
use crate::codec::EngineCodec;
use crate::context::{self, Context, ValidatorAddress, Value};

const HEIGHT: u64 = 7;
const ME: Address = Address::repeat_byte(1);
const OTHER: Address = Address::repeat_byte(2);

fn block() -> BlockHash {
    BlockHash(alloy_primitives::B256::repeat_byte(9))
}

fn vote(height: u64, validator: Address, vote_type: mc::VoteType) -> Input<Context> {
    let vote = context::Vote {
        height: context::Height(height),
        round: mc::Round::new(0),
        vote_type,
        value: mc::NilOrVal::Val(block()),
        validator: ValidatorAddress(validator),
    };
    Input::Vote(mc::SignedVote::new(vote, Signature([3; 65])))
}

fn proposal(validator: Address) -> Input<Context> {
    let proposal = context::Proposal {
        height: context::Height(HEIGHT),
        round: mc::Round::new(0),
        value: Value(block()),
        valid_round: mc::Round::Nil,
        validator: ValidatorAddress(validator),
    };
    Input::Proposal(mc::SignedProposal::new(proposal, Signature([4; 65])))
}

fn judged() -> Input<Context> {
    let value = ProposedValue {
        height: context::Height(HEIGHT),
        round: mc::Round::new(0),
        valid_round: mc::Round::Nil,
        proposer: ValidatorAddress(ME),
        value: Value(block()),
        validity: mc::Validity::Valid,
    };
    Input::ProposedValue(value, mc::ValueOrigin::Consensus)
}

fn polka() -> Input<Context> {
    Input::PolkaCertificate(mc::PolkaCertificate {
        height: context::Height(HEIGHT),
        round: mc::Round::new(0),
        value_id: block(),
        polka_signatures: vec![mc::PolkaSignature::new(
            ValidatorAddress(OTHER),
            Signature([5; 65]),
        )],
    })
}

/// One entry of every kind; the last one is our own vote.
fn inputs() -> Vec<Input<Context>> {
    vec![
        proposal(ME),
        judged(),
        vote(HEIGHT, ME, mc::VoteType::Prevote),
        vote(HEIGHT, OTHER, mc::VoteType::Prevote),
        Input::TimeoutElapsed(mc::Timeout::prevote(mc::Round::new(0))),
        polka(),
        vote(HEIGHT, ME, mc::VoteType::Precommit),
    ]
}

fn own(vote_type: lockstep_core::certificate::VoteType) -> OwnMessage {
    OwnMessage::Vote(Vote {
        height: Height(HEIGHT),
        round: Round(0),
        vote_type,
        block: Some(block()),
    })
}

fn own_messages() -> Vec<OwnMessage> {
    use lockstep_core::certificate::VoteType::{Precommit, Prevote};
    let proposal =
        Proposal { height: Height(HEIGHT), round: Round(0), valid_round: None, block: block() };
    vec![OwnMessage::Proposal(proposal), own(Prevote), own(Precommit)]
}

fn encoded(input: Input<Context>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_entry(input, &EngineCodec, &mut bytes).unwrap();
    bytes
}

/// A log as malachite writes it, and where each entry begins.
fn write_log(path: &Path, inputs: Vec<Input<Context>>) -> Vec<usize> {
    let mut log = Log::open(path).unwrap();
    log.reset(HEIGHT).unwrap();
    let mut starts = Vec::new();
    for input in inputs {
        starts.push(usize::try_from(log.size_bytes().unwrap()).unwrap());
        log.append(encoded(input)).unwrap();
    }
    log.flush().unwrap();
    starts
}

/// What malachite reads, as text: its inputs can't be compared.
fn malachite_reads(path: &Path) -> Vec<String> {
    let mut log = Log::open(path).unwrap();
    log_entries::<Context, _>(&mut log, &EngineCodec)
        .unwrap()
        .map(|entry| format!("{:?}", entry.expect("a sound entry")))
        .collect()
}

fn texts(inputs: &[Input<Context>]) -> Vec<String> {
    inputs.iter().map(|input| format!("{input:?}")).collect()
}

struct Case {
    _folder: TempDir,
    path: PathBuf,
    starts: Vec<usize>,
}

fn case() -> Case {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("consensus.wal");
    let starts = write_log(&path, inputs());
    Case { _folder: folder, path, starts }
}

/// Damages the log, and checks that what is left is its first `sound` entries, for us and for malachite.
fn check_damage(damage: impl FnOnce(&mut Vec<u8>, &[usize]), sound: usize) {
    let Case { _folder, path, starts } = case();
    let mut bytes = std::fs::read(&path).unwrap();
    damage(&mut bytes, &starts);
    std::fs::write(&path, &bytes).unwrap();

    let report = inspect_wal(&path, ME).unwrap();
    assert_eq!(report.height, Some(Height(HEIGHT)));
    assert_eq!(report.entries, sound);
    let aside = report.set_aside.expect("a damaged log is set aside");
    assert_eq!(std::fs::read(&aside).unwrap(), bytes, "the copy is whole");
    assert_eq!(malachite_reads(&path), texts(&inputs()[..sound]));

    let again = inspect_wal(&path, ME).unwrap();
    assert_eq!((again.entries, again.set_aside), (sound, None), "the second look finds it sound");
}

#[test]
fn log_that_is_not_there_is_an_empty_report() {
    let folder = tempfile::tempdir().unwrap();
    let report = inspect_wal(&folder.path().join("none"), ME).unwrap();
    assert_eq!(report, WalReport::empty());
}

#[test]
fn sound_log_is_reported_and_left_alone() {
    let Case { _folder, path, .. } = case();
    let before = std::fs::read(&path).unwrap();
    let report = inspect_wal(&path, ME).unwrap();
    assert_eq!(report.height, Some(Height(HEIGHT)));
    assert_eq!(report.entries, 7);
    assert_eq!(report.own_messages, own_messages());
    assert_eq!(report.set_aside, None);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(malachite_reads(&path), texts(&inputs()));
    assert_eq!(inspect_wal(&path, OTHER).unwrap().own_messages.len(), 1);
}

#[test]
fn tail_torn_at_any_byte_of_the_last_entry_is_cut_off() {
    let Case { starts, path, _folder } = case();
    let last = *starts.last().unwrap();
    let end = std::fs::read(path).unwrap().len();
    for length in last + 1..end {
        check_damage(|bytes, _| bytes.truncate(length), 6);
    }
}

#[test]
fn zero_filled_tail_is_cut_off() {
    for zeros in [1, 12, 13, 26, 4_096] {
        check_damage(|bytes, _| bytes.resize(bytes.len() + zeros, 0), 7);
    }
}

#[test]
fn entry_overwritten_by_zeros_is_cut_off() {
    check_damage(|bytes, starts| bytes[starts[6]..].fill(0), 6);
}

#[test]
fn any_flipped_bit_of_an_entry_cuts_the_log_off_before_it() {
    let Case { starts, path: _, _folder } = case();
    for place in starts[2]..starts[3] {
        for bit in 0..8 {
            check_damage(|bytes, _| bytes[place] ^= 1 << bit, 2);
        }
    }
}

#[test]
fn sound_checksum_over_what_malachite_cannot_decode_is_cut_off() {
    let junk: [&[u8]; 6] = [
        &[],
        &[3],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[2, 4, 0, 0, 0, 0, 0, 0, 0, 0],
        &[2, 1, 0, 0, 0, 0, 0, 0, 0],
        &[4, 255, 255, 255, 255, 255, 255, 255, 255],
    ];
    for payload in junk {
        let mut entry = vec![0];
        entry.extend((payload.len() as u64).to_be_bytes());
        entry.extend(crc32fast::hash(payload).to_be_bytes());
        entry.extend(payload);
        check_damage(|bytes, _| bytes.extend(entry), 7);
    }
}

#[test]
fn damaged_header_sets_the_whole_log_aside() {
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes[3] ^= 4,
        |bytes| bytes[11] ^= 1,
        |bytes| bytes.truncate(11),
        |bytes| bytes.fill(0),
    ];
    for damage in damages {
        let Case { _folder, path, .. } = case();
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let report = inspect_wal(&path, ME).unwrap();
        assert_eq!((report.height, report.entries), (None, 0));
        assert_eq!(report.own_messages, []);
        assert_eq!(std::fs::read(report.set_aside.unwrap()).unwrap(), bytes);
        assert_eq!(malachite_reads(&path), Vec::<String>::new());
    }
}

#[test]
fn log_in_use_is_refused() {
    let Case { _folder, path, .. } = case();
    let log = Log::open(&path).unwrap();
    assert!(matches!(inspect_wal(&path, ME), Err(WalError::InUse { .. })));
    drop(log);
    inspect_wal(&path, ME).unwrap();
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let content = [&1u32.to_be_bytes(), bytes.as_slice()].concat();
        let (_, sound_bytes) = read(&content.clone().into(), ME);
        assert!(sound_bytes <= content.len());
    }
}
