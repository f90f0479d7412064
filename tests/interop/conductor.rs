//! Two sequencers of one chain, an op-conductor beside each: what the real one does in each state of a sidecar. The chain goes on at
//! the other side, on the same head, and nothing is lost or doubled.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockstep_devnet::world::conductor::Conducted;
use lockstep_devnet::world::options::{Options, Verifiers};
use lockstep_devnet::world::rollup::Side;
use lockstep_devnet::world::until;
use serde_json::{Value, json};

use crate::load::Load;
use crate::run::{PATIENCE, Run, head};

/// How both sides do; `None`: the side does not answer.
async fn look(side: &Side) -> Option<Conducted> {
    side.conductor.as_ref().expect("a conductor").look(side).await.ok()
}

/// Waits until this side makes the chain's blocks: it has made five more than the chain had. How long the first one took.
async fn makes_blocks(side: &Side, since: (Instant, u64), what: &str) -> Duration {
    let (begun, number) = since;
    let at = |wanted: u64| async move {
        until(
            &format!("{what}: block {wanted} by {}", side.process("op-node")),
            PATIENCE,
            async || {
                let is_turn = look(side).await.is_some_and(|one| one.is_leader && one.is_active);
                (is_turn && head(side).await?.number >= wanted).then_some(())
            },
        )
        .await
        .unwrap();
    };
    at(number + 1).await;
    let took = begun.elapsed();
    at(number + 5).await;
    println!("{what}: the other side's first block after {:.1} s", took.as_secs_f64());
    took
}

/// Waits until a side that does not lead is well again and has the other's head.
async fn follows(side: &Side, leader: &Side) {
    until(&format!("{} is well and follows", side.process("op-node")), PATIENCE, async || {
        let is_well =
            look(side).await? == Conducted { is_leader: false, is_healthy: true, is_active: false };
        let (own, other) = (head(side).await?, head(leader).await?);
        (is_well && own.number + 2 >= other.number).then_some(())
    })
    .await
    .unwrap();
}

async fn since(side: &Side) -> (Instant, u64) {
    (Instant::now(), head(side).await.expect("a head").number)
}

async fn switch(side: &Side, mode: &str) {
    let operators =
        lockstep_devnet::json_rpc::JsonRpc::new(&format!("http://127.0.0.1:{}", side.ports.health));
    let wanted = json!([{ "execution_mode": mode }]);
    let _: Value = operators.call("debug_setExecutionMode", wanted).await.expect("is set");
}

async fn transfer(from: &Side) {
    from.conductor.as_ref().expect("a conductor").transfer_leader().await.expect("a transfer");
}

/// A world in which the first side leads.
async fn conducted(name: &str) -> Run {
    let change = |options: &mut Options| options.verifiers = Verifiers::Conducted;
    let run = Run::start(name, &[(901, 1)], change).await;
    run.head_at(901, 12, PATIENCE).await;
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn conductor_hands_over_from_a_sidecar_that_is_not_well_and_back() {
    let mut run = conducted("conductor").await;
    let chain = run.chain(901).clone();
    let (first, second) = (&chain.sequencer, chain.verifier.as_ref().expect("a standby"));
    let led = Conducted { is_leader: true, is_healthy: true, is_active: true };
    assert_eq!(look(first).await, Some(led));
    follows(second, first).await;
    let load = Load::start(&chain, &run.accounts, 10);
    run.more_blocks(901, 8, PATIENCE).await;
    for program in ["op-geth", "sidecar"] {
        let name = first.process(program);
        let at = since(first).await;
        run.world.kill_process(&name).await.unwrap();
        makes_blocks(second, at, &format!("{program} killed")).await;
        run.world.start_process(&name).unwrap();
        let begun = Instant::now();
        follows(first, second).await;
        println!("{program} back: well and following after {:.1} s", begun.elapsed().as_secs_f64());
        let at = since(second).await;
        transfer(second).await;
        makes_blocks(first, at, "conductor_transferLeader").await;
        follows(second, first).await;
    }
    let at = since(first).await;
    switch(first, "disabled").await;
    makes_blocks(second, at, "switched off").await;
    switch(first, "enabled").await;
    follows(first, second).await;
    let at = since(second).await;
    transfer(second).await;
    makes_blocks(first, at, "conductor_transferLeader").await;
    let report = load.stop(PATIENCE).await;
    println!("{} transfers, {} refused meanwhile", report.sent.len(), report.refused.len());
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    let newest = head(second).await.expect("a head").number;
    run.expect_same(901, newest).await;
    // op-batcher asks the conductors, and so the side that leads.
    run.safe_at(second, newest, PATIENCE).await;
    run.end().await;
}

/// Stops the whole committee for some seconds, and starts it again; shows what the conductors did meanwhile.
async fn silence(run: &mut Run, length: Duration) {
    let names: Vec<String> =
        run.world.processes().iter().take(4).map(|process| process.name().to_owned()).collect();
    for name in &names {
        run.world.stop_process(name).await.unwrap();
    }
    let chain = run.chain(901).clone();
    let (first, second) = (&chain.sequencer, chain.verifier.as_ref().expect("a standby"));
    let (begun, mut last) = (Instant::now(), None);
    while begun.elapsed() < length {
        let now = (look(first).await, look(second).await);
        if last != Some(now) {
            println!("{:.1} s of silence: {now:?}", begun.elapsed().as_secs_f64());
        }
        last = Some(now);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for name in &names {
        run.world.start_process(name).unwrap();
    }
}

/// Whether this side's newest block is at most two seconds old.
async fn on_time(side: &Side) -> Option<()> {
    let head = head(side).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    (head.timestamp + 2 >= now).then_some(())
}

/// Both sidecars say 206 then, so leadership goes to and fro; when the log is back it stays, and the chain catches up.
#[tokio::test(flavor = "multi_thread")]
async fn conductors_end_well_after_a_silence_of_the_committee() {
    let mut run = conducted("conductor-silence").await;
    let chain = run.chain(901).clone();
    let (first, second) = (&chain.sequencer, chain.verifier.as_ref().expect("a standby"));
    let load = Load::start(&chain, &run.accounts, 10);
    run.more_blocks(901, 8, PATIENCE).await;
    let before = load.stop(PATIENCE).await;
    silence(&mut run, Duration::from_secs(30)).await;
    let back = Instant::now();
    until("the chain is on time again", PATIENCE, async || on_time(first).await).await.unwrap();
    println!("on time again {:.1} s after the committee's start", back.elapsed().as_secs_f64());
    // Soon: a sidecar that was asked for blocks in vain is well as soon as the chain goes on, whoever makes it go on.
    let is_first = until("one leads, both are well", Duration::from_secs(10), async || {
        let (one, other) = (look(first).await?, look(second).await?);
        let is_well = one.is_healthy && other.is_healthy && one.is_leader != other.is_leader;
        is_well.then_some(one.is_leader)
    });
    let is_first = is_first.await.unwrap();
    println!("both are well {:.1} s after it", back.elapsed().as_secs_f64());
    let load = Load::start(&chain, &run.accounts[20..], 10);
    run.more_blocks(901, 15, PATIENCE).await;
    assert_eq!(look(first).await.map(|one| one.is_leader), Some(is_first), "leadership stays");
    let after = load.stop(PATIENCE).await;
    run.expect_landed_once(901, &[before.sent, after.sent].concat()).await;
    run.expect_audited(901);
    run.end().await;
}
