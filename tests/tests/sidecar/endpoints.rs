//! The committee's nodes, none of them trusted: one that lies is dropped and named, one that is silent or gone is no loss,
//! and without any the chain does what it was configured to do.

use std::time::{Duration, Instant};

use alloy_primitives::Bytes;
use lockstep_core::record::SealMode;
use lockstep_sidecar::config::WhenSilent;
use lockstep_tests::scripted_log::{Lie, Manner};
use lockstep_tests::wait::until;
use serde_json::Value;

use crate::op_node::Head;
use crate::rig::{Rig, SOON, Setup};

const LIES: [Lie; 5] =
    [Lie::ForgedItem, Lie::MissingItem, Lie::WrongCertificate, Lie::WrongSet, Lie::OtherHeight];

async fn rig_of(manners: &[Manner]) -> Rig {
    Rig::start(Setup { manners: manners.to_vec(), ..Setup::default() }).await
}

/// What `/healthz` says of an endpoint.
fn said(health: &Value, index: usize) -> &str {
    health["endpoints"][index][1].as_str().unwrap()
}

async fn until_said(rig: &Rig, index: usize, beginning: &str) {
    let what = format!("endpoint {index} is {beginning}");
    rig.until_health(&what, |_, health| said(health, index).starts_with(beginning)).await;
}

#[tokio::test]
async fn an_endpoint_that_lies_is_dropped_and_named_and_the_block_is_made() {
    for lie in LIES {
        let mut rig = rig_of(&[Manner::Lying(lie), Manner::Honest, Manner::Honest]).await;
        rig.filled_block(1, 3).await;
        until_said(&rig, 0, "lied: ").await;
        let health = rig.until_health("it serves", |status, _| status == 200).await;
        assert_eq!((said(&health, 1), said(&health, 2)), ("serving", "serving"), "{lie:?}");
        assert_eq!(health["endpoints"][0][0], rig.endpoints[0].url(), "{lie:?}");
        rig.filled_block(2, 2).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_begins_to_lie_is_dropped_and_no_block_misses_anything() {
    let mut rig = rig_of(&[Manner::Honest, Manner::Honest]).await;
    rig.filled_block(1, 2).await;
    rig.endpoints[0].turn(Manner::Lying(Lie::ForgedItem)).await;
    rig.filled_block(2, 2).await;
    let what = "the endpoint is asked again, and lies";
    let mut number = 3;
    until(what, SOON, async || {
        rig.filled_block(number, 1).await;
        number += 1;
        let (_, text) = rig.get("/healthz").await;
        let health: Value = serde_json::from_str(&text).unwrap();
        said(&health, 0).starts_with("lied: ").then_some(())
    })
    .await;
}

/// Where it lied does not matter: true slices of the same endpoint do not make it serve again.
#[tokio::test]
async fn an_endpoint_that_lied_to_a_question_is_not_followed() {
    let mut rig = rig_of(&[Manner::Lying(Lie::ForgedRange), Manner::Honest]).await;
    rig.filled_block(1, 2).await;
    rig.until_ready().await;
    let health = rig.until_health("it serves", |status, _| status == 200).await;
    assert!(said(&health, 0).starts_with("lied: "), "{health}");
    assert_eq!(said(&health, 1), "serving");
}

#[tokio::test]
async fn of_liars_alone_nothing_is_believed() {
    let mut rig = rig_of(&[Manner::Lying(Lie::ForgedItem), Manner::Lying(Lie::WrongSet)]).await;
    let items = rig.fill(1, 2);
    let id = rig.node.start_job().await.id();
    let reply = rig.node.get_payload(&id).await;
    assert_eq!(reply.code(), Some(-32000), "{}", reply.text());
    for index in 0..2 {
        until_said(&rig, index, "lied: ").await;
    }
    assert_eq!(rig.engine.calls().iter().filter(|call| call.is_job()).count(), 0);
    // A restart asks them again, and one has come to its senses.
    rig.endpoints[1].turn(Manner::Honest).await;
    rig.revive().await;
    let block = until_block(&mut rig).await;
    assert_eq!(block, items);
}

/// Repeats the job until there is a block; gives its users' transactions.
async fn until_block(rig: &mut Rig) -> Vec<Bytes> {
    let node = &mut rig.node;
    let envelope = until("there is a block", SOON, async || {
        let job = node.start_job().await;
        let id = job.code().is_none().then(|| job.id())?;
        let reply = node.get_payload(&id).await;
        reply.code().is_none().then(|| reply.result())
    });
    let envelope = envelope.await;
    node.adopt(envelope).await.users
}

/// Of several nodes one may say nothing at all, from the first question on.
#[tokio::test]
async fn a_silent_endpoint_does_not_delay_a_start() {
    let mut rig =
        Rig::prepare(Setup { manners: vec![Manner::Silent, Manner::Honest], ..Setup::default() })
            .await;
    let items = rig.fill(1, 2);
    let begun = Instant::now();
    rig.revive().await;
    assert_eq!(until_block(&mut rig).await, items);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_endpoint_that_falls_silent_or_goes_leaves_no_gap() {
    for manner in [Manner::Silent, Manner::Gone] {
        let mut rig = rig_of(&[Manner::Honest, Manner::Honest]).await;
        rig.filled_block(1, 1).await;
        rig.until_ready().await;
        rig.endpoints[0].turn(manner).await;
        for number in 2..=5 {
            let begun = Instant::now();
            rig.filled_block(number, 2).await;
            assert!(
                begun.elapsed() < Duration::from_millis(900),
                "{manner:?}: {:?}",
                begun.elapsed()
            );
        }
        // The other one comes back before the first goes: what was missed is caught up.
        rig.endpoints[0].turn(Manner::Honest).await;
        until_said(&rig, 0, "serving").await;
        rig.endpoints[1].turn(manner).await;
        rig.filled_block(6, 2).await;
    }
}

#[tokio::test]
async fn without_endpoints_a_halting_chain_waits_and_goes_on_by_itself() {
    let mut rig = rig_of(&[Manner::Honest, Manner::Honest]).await;
    rig.filled_block(1, 1).await;
    for endpoint in &mut rig.endpoints {
        endpoint.turn(Manner::Gone).await;
    }
    let items = rig.fill(2, 3);
    for _ in 0..2 {
        let id = rig.node.start_job().await.id();
        let reply = rig.node.get_payload(&id).await;
        assert_eq!(reply.code(), Some(-32000), "{}", reply.text());
    }
    let health = rig.until_health("they are away", |_, health| {
        (0..2).all(|index| said(health, index).starts_with("away: "))
    });
    health.await;
    for endpoint in &mut rig.endpoints {
        endpoint.turn(Manner::Honest).await;
    }
    assert_eq!(until_block(&mut rig).await, items);
    rig.filled_block(3, 1).await;
}

#[tokio::test]
async fn without_endpoints_a_chain_may_go_on_with_deposits_and_offer_later_what_waited() {
    let setup = Setup {
        manners: vec![Manner::Honest, Manner::Honest],
        when_silent: WhenSilent::DepositsOnly,
        ..Setup::default()
    };
    let mut rig = Rig::start(setup).await;
    rig.filled_block(1, 1).await;
    for endpoint in &mut rig.endpoints {
        endpoint.turn(Manner::Gone).await;
    }
    let mut items = rig.fill(2, 2);
    let mut closed = Vec::new();
    for _ in 2..=4 {
        let begun = Instant::now();
        let block = rig.node.block().await;
        assert!(block.users.is_empty(), "{:?}", block.users);
        assert!(begun.elapsed() < Duration::from_millis(2_600), "{:?}", begun.elapsed());
        closed.push(block);
    }
    items.extend(rig.fill(4, 2));
    for endpoint in &mut rig.endpoints {
        endpoint.turn(Manner::Honest).await;
    }
    // Its records say how these blocks were built, so that everybody comes to the same cursor.
    for block in &closed {
        assert_eq!(rig.until_sealed(block).await.mode, SealMode::Closed);
    }
    rig.close(5);
    until_said(&rig, 0, "serving").await;
    assert_eq!(until_block(&mut rig).await, items);
    rig.filled_block(6, 1).await;
}

/// A block of deposits only looks like one whose every item was bad; that it was sealed in silence is kept on disk.
#[tokio::test]
async fn a_restart_while_the_committee_is_silent_forgets_no_block_that_was_sealed_in_it() {
    let setup = Setup { when_silent: WhenSilent::DepositsOnly, ..Setup::default() };
    let mut rig = Rig::start(setup).await;
    rig.filled_block(1, 1).await;
    rig.endpoints[0].turn(Manner::Gone).await;
    let items = rig.fill(2, 2);
    let closed = rig.node.block().await;
    assert!(closed.users.is_empty(), "{:?}", closed.users);
    rig.until_kept(&closed).await;
    rig.kill();
    rig.revive().await;
    rig.endpoints[0].turn(Manner::Honest).await;
    assert_eq!(rig.until_sealed(&closed).await.mode, SealMode::Closed);
    // On a busy machine the log may be silent for another block.
    for number in 3..=6 {
        rig.close(number);
        let users = until_block(&mut rig).await;
        if !users.is_empty() {
            return assert_eq!(users, items);
        }
    }
    panic!("what waited is never offered");
}

/// A node may keep heights to itself, and nothing shows it: another one is asked.
#[tokio::test]
async fn older_heights_that_one_endpoint_keeps_to_itself_are_asked_of_another() {
    let mut rig = rig_of(&[Manner::Lying(Lie::ShortRange), Manner::Honest]).await;
    let first = rig.filled_block(1, 2).await;
    let second = rig.filled_block(2, 2).await;
    rig.filled_block(3, 2).await;
    let newest = rig.filled_block(4, 2).await;
    rig.until_kept(&newest).await;
    rig.revive().await;
    (rig.node.head, rig.node.entropy) = (Head::from(&first), 0xe1);
    assert_eq!(until_block(&mut rig).await, second.users);
}

/// Older heights than the trusted set's first are certified by nobody it knows; whoever is asked for them is no liar.
#[tokio::test]
async fn after_a_change_of_the_validators_no_honest_endpoint_is_called_a_liar() {
    let mut rig = rig_of(&[Manner::Honest, Manner::Honest]).await;
    let first = rig.filled_block(1, 2).await;
    let second = rig.filled_block(2, 2).await;
    for block in [&first, &second] {
        rig.until_sealed(block).await;
    }
    rig.offer_records(3);
    rig.log.hand_over();
    rig.close(3);
    rig.node.block().await;
    let newest = rig.filled_block(4, 2).await;
    rig.until_kept(&newest).await;
    rig.revive().await;
    rig.filled_block(5, 1).await;
    (rig.node.head, rig.node.entropy) = (Head::from(&first), 0xe1);
    assert_eq!(until_block(&mut rig).await, second.users);
    let health = rig.until_health("they serve", |status, _| status == 200).await;
    assert_eq!((said(&health, 0), said(&health, 1)), ("serving", "serving"));
}

/// An offer depends on the log and the block alone, and on nobody's clock.
#[tokio::test]
async fn two_seconds_of_clock_skew_change_no_block() {
    for skew_ms in [-2_000, 0, 2_000] {
        let mut rig = Rig::start(Setup { skew_ms, ..Setup::default() }).await;
        let items = rig.transfers(6);
        rig.offer(1, &rig.entries(&items[..2]));
        rig.log.decide_at(rig.end(1), &rig.entries(&items[2..3]));
        rig.log.decide_at(rig.end(1).plus(1), &rig.entries(&items[3..5]));
        rig.offer(2, &rig.entries(&items[5..]));
        rig.close(3);
        let mut blocks = Vec::new();
        for _ in 0..3 {
            blocks.push(rig.node.block().await.users);
        }
        assert_eq!(blocks, [&items[..3], &items[3..], &[]], "{skew_ms}");
    }
}
