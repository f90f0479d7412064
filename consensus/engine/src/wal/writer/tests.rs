//! What reaches the disk of what malachite and the signer ask, and what the next start finds there.

use lockstep_core::signing::Signature;
use malachitebft_app_channel::app::types::core as mc;

use super::*;
use crate::context::{self, ValidatorAddress};
use crate::wal::{fake, inspect_wal};

const HEIGHT: Height = Height(7);

fn vote(by: u8) -> mc::SignedVote<Context> {
    let vote = context::Vote {
        height: HEIGHT,
        round: mc::Round::new(0),
        vote_type: mc::VoteType::Prevote,
        value: mc::NilOrVal::Nil,
        validator: ValidatorAddress(alloy_primitives::Address::repeat_byte(by)),
    };
    mc::SignedVote::new(vote, Signature([by; 65]))
}

async fn append(log: &ActorRef<Msg<Context>>, entry: Input<Context>) {
    ractor::call!(log, Msg::Append, HEIGHT, entry).unwrap().unwrap();
}

async fn flush(log: &ActorRef<Msg<Context>>) {
    ractor::call!(log, Msg::Flush).unwrap().unwrap();
}

async fn start(log: &ActorRef<Msg<Context>>, height: Height) -> Vec<Input<Context>> {
    let entries = ractor::call!(log, Msg::StartedHeight, height).unwrap().unwrap();
    entries.into_iter().collect::<Result<_, _>>().unwrap()
}

async fn started(log: &Log) -> ActorRef<Msg<Context>> {
    let (actor, _) = Actor::spawn(None, log.clone(), ()).await.unwrap();
    assert_eq!(start(&actor, HEIGHT).await, []);
    actor
}

#[tokio::test]
async fn own_message_is_appended_once_and_synced_by_the_next_signature_alone() {
    let (log, calls) = fake::log();
    let actor = started(&log).await;
    let taken = || std::mem::take(&mut *calls.lock().unwrap());
    taken();

    log.sync_to_sign().unwrap();
    log.append(HEIGHT, SignedConsensusMsg::Vote(vote(1))).unwrap();
    append(&actor, Input::Vote(vote(1))).await;
    flush(&actor).await;
    assert_eq!(taken(), ["sync"], "of what an older run left");

    log.sync_to_sign().unwrap();
    assert_eq!(taken(), ["vote", "sync"], "at most one own message is ahead of the log");
    log.sync_to_sign().unwrap();
    flush(&actor).await;
    assert_eq!(taken(), [""; 0], "nothing is to be synced");
}

#[tokio::test]
async fn what_others_sent_is_synced_when_malachite_asks_and_before_a_signature() {
    let (log, calls) = fake::log();
    let actor = started(&log).await;
    let taken = || std::mem::take(&mut *calls.lock().unwrap());
    log.sync_to_sign().unwrap();
    taken();

    append(&actor, Input::Vote(vote(2))).await;
    flush(&actor).await;
    assert_eq!(taken(), ["vote", "sync"]);
    append(&actor, Input::Vote(vote(3))).await;
    log.sync_to_sign().unwrap();
    flush(&actor).await;
    assert_eq!(taken(), ["vote", "sync"]);
}

#[tokio::test]
async fn next_start_replays_what_the_file_has_of_its_height() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("of/wal");
    let log = Log::open(&path).unwrap();
    let actor = started(&log).await;
    let entries = [2, 3].map(|by| Input::Vote(vote(by)));
    append(&actor, entries[0].clone()).await;
    append(&actor, entries[1].clone()).await;
    let other = Input::Vote(vote(4));
    ractor::call!(actor, Msg::Append, Height(8), other).unwrap().unwrap();
    assert_eq!(start(&actor, HEIGHT).await, [], "once for each height");
    assert!(Log::open(&path).is_err(), "it is in use");
    actor.stop_and_wait(None, None).await.unwrap();
    assert!(log.sync_to_sign().is_err(), "it is closed for the signer, too");

    let report = inspect_wal(&path, alloy_primitives::Address::ZERO).unwrap();
    assert_eq!((report.entries, report.set_aside), (2, None));
    let (actor, _) = Actor::spawn(None, Log::open(&path).unwrap(), ()).await.unwrap();
    assert_eq!(start(&actor, HEIGHT).await, entries);
    assert_eq!(start(&actor, Height(8)).await, []);
    append(&actor, Input::Vote(vote(5))).await;
    ractor::call!(actor, Msg::Reset, Height(9)).unwrap().unwrap();
    actor.stop_and_wait(None, None).await.unwrap();
    let report = inspect_wal(&path, alloy_primitives::Address::ZERO).unwrap();
    assert_eq!((report.height.unwrap().0, report.entries), (9, 0));
}

#[tokio::test]
async fn many_entries_are_written_before_they_are_synced() {
    let (log, calls) = fake::log();
    let actor = started(&log).await;
    log.sync_to_sign().unwrap();
    calls.lock().unwrap().clear();
    for _ in 0..1_000 {
        append(&actor, Input::Vote(vote(2))).await;
    }
    let calls = calls.lock().unwrap().clone();
    assert!(!calls.is_empty() && calls.iter().all(|call| *call == "vote"), "64 KiB are full");
}
