//! A replica behind a verifying sidecar follows an honest sequencer, and refuses what a cheating one gossips.

use std::time::Duration;

use alloy_consensus::TxEip1559;
use alloy_eips::eip2930::AccessList;
use alloy_primitives::{Address, Bytes, TxKind, U256};

use lockstep_devnet::json_rpc::JsonRpc;
use lockstep_devnet::world::options::Verifiers;
use serde_json::{Value, json};

use crate::load::Load;
use crate::run::{PATIENCE, Run, head};

#[tokio::test(flavor = "multi_thread")]
async fn replica_refuses_what_left_its_slice_and_never_forks() {
    let run =
        Run::start("verifying", &[(901, 1)], |options| options.verifiers = Verifiers::Checked)
            .await;
    run.head_at(901, 12, PATIENCE).await;
    let load = Load::start(run.chain(901), &run.accounts[1..], 10);
    let verifier = run.chain(901).verifier.clone().expect("a replica");
    let honest = run.more_blocks(901, 15, PATIENCE).await.number;
    lockstep_devnet::world::until("the replica follows by gossip", PATIENCE, async || {
        (head(&verifier).await?.number >= honest).then_some(())
    })
    .await
    .unwrap();
    // The sequencer's operator turns Lockstep off and lets its engine fill blocks from the pool.
    let switch =
        JsonRpc::new(format!("http://127.0.0.1:{}", run.chain(901).sequencer.ports.health));
    let set = async |mode: &str| {
        let _: Value = switch
            .call("debug_setExecutionMode", json!([{ "execution_mode": mode }]))
            .await
            .expect("the switch");
    };
    set("disabled").await;
    let raw = run.accounts[0].sign(TxEip1559 {
        chain_id: 901,
        nonce: 0,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to: TxKind::Call(Address::repeat_byte(0x77)),
        value: U256::from(1),
        access_list: AccessList::default(),
        input: Bytes::new(),
    });
    let _: Value = run
        .chain(901)
        .sequencer
        .engine()
        .call("eth_sendRawTransaction", json!([raw]))
        .await
        .expect("the pool takes it");
    let foreign = run.landed(901, alloy_primitives::keccak256(&raw), PATIENCE).await;
    set("enabled").await;
    let foreign_count = async || {
        let text = reqwest::get(format!("http://127.0.0.1:{}/metrics", verifier.ports.health))
            .await
            .expect("metrics")
            .text()
            .await
            .expect("text");
        crate::run::Metrics(text).get("lockstep_sidecar_foreign_total")
    };
    lockstep_devnet::world::until("the replica refuses the block", PATIENCE, async || {
        (foreign_count().await >= 1.0).then_some(())
    })
    .await
    .unwrap();
    // L1 is the truth: once derived, the block is taken, and the replica goes on.
    run.safe_at(&verifier, foreign + 5, Duration::from_secs(120)).await;
    run.expect_same(901, foreign + 5).await;
    load.stop(PATIENCE).await;
    run.end().await;
}
