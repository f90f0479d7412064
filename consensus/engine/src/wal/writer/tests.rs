//! What reaches malachite's log of what malachite and the signer ask.

use lockstep_core::signing::Signature;
use malachitebft_app_channel::app::consensus::{Input, SignedConsensusMsg};
use malachitebft_app_channel::app::types::core as mc;

use super::*;
use crate::context::{self, ValidatorAddress};
use crate::wal::fake;

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

#[tokio::test]
async fn own_message_is_appended_once_and_synced_by_the_next_signature_alone() {
    let (log, calls) = fake::log().await;
    let (actor, _) = Actor::spawn(None, log.clone(), ()).await.unwrap();
    let taken = || std::mem::take(&mut *calls.lock().unwrap());

    log.sync_to_sign().await.unwrap();
    log.append(HEIGHT, SignedConsensusMsg::Vote(vote(1))).await.unwrap();
    append(&actor, Input::Vote(vote(1))).await;
    flush(&actor).await;
    assert_eq!(taken(), ["sync", "append vote"], "of what an older run left, and the vote");

    log.sync_to_sign().await.unwrap();
    assert_eq!(taken(), ["sync"], "at most one own message is ahead of the log");
    log.sync_to_sign().await.unwrap();
    flush(&actor).await;
    assert_eq!(taken(), Vec::<String>::new(), "nothing is to be synced");
}

#[tokio::test]
async fn what_others_sent_is_synced_when_malachite_asks_and_before_a_signature() {
    let (log, calls) = fake::log().await;
    let (actor, _) = Actor::spawn(None, log.clone(), ()).await.unwrap();
    let taken = || std::mem::take(&mut *calls.lock().unwrap());
    log.sync_to_sign().await.unwrap();
    taken();

    append(&actor, Input::Vote(vote(2))).await;
    flush(&actor).await;
    assert_eq!(taken(), ["append vote", "sync"]);
    append(&actor, Input::Vote(vote(3))).await;
    log.sync_to_sign().await.unwrap();
    flush(&actor).await;
    assert_eq!(taken(), ["append vote", "sync"]);
}
