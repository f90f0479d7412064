//! Twenty items that are invalid when their turn comes, in one window, among good ones: the good ones land in time.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use lockstep_devnet::world::accounts::Account;
use lockstep_rpc::client::{Endpoint, IngressClient};

use crate::run::{PATIENCE, Run};

#[tokio::test(flavor = "multi_thread")]
async fn tier_one_twenty_invalid_items_hold_nothing_up() {
    let run = Run::one("invalid-items", 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let mut raw: Vec<Bytes> = Vec::new();
    let (mut good, mut bad): (Vec<B256>, Vec<B256>) = (Vec::new(), Vec::new());
    for index in 0..40usize {
        let nobody = Address::repeat_byte(1);
        let (bytes, is_good) = match index % 8 {
            // No balance; a nonce too high; the nonce of the item before it.
            0 | 4 => {
                (Account::of_purpose(&format!("poor {index}")).transfer(901, 0, nobody, 1), false)
            }
            2 => (run.transfer(901, index, 7), false),
            6 => (run.accounts[index - 1].transfer(901, 0, nobody, 2), false),
            _ => (run.transfer(901, index, 0), true),
        };
        if is_good {
            good.push(keccak256(&bytes))
        } else {
            bad.push(keccak256(&bytes))
        }
        raw.push(bytes);
    }
    let before = run.metrics(901).await;
    let channel =
        Endpoint::new(run.world.endpoints().remove(0)).connect().await.expect("a validator");
    let mut ingress = IngressClient::new(channel);
    for bytes in raw {
        ingress.submit(&run.admitted(901, bytes), None).await.expect("a validator takes it");
    }
    for hash in &good {
        run.landed(901, *hash, PATIENCE).await;
    }
    run.more_blocks(901, 5, PATIENCE).await;
    run.expect_landed_once(901, &good).await;
    let side = &run.chain(901).sequencer;
    for hash in &bad {
        assert_eq!(side.landed(*hash).await.ok().flatten(), None, "{hash} is invalid and landed");
    }
    run.expect_audited(901);
    let metrics = run.metrics(901).await;
    let series = "lockstep_sidecar_skipped_total{reason=\"invalid\"}";
    assert_eq!(
        metrics.get(series) - before.get(series),
        bad.len() as f64,
        "skipped items are counted"
    );
    let since = metrics.since(&before);
    println!(
        "20 invalid items: {} refusals of the engine, build p99 <= {} s, {:.0} of {} blocks sealed in time",
        since.get("lockstep_sidecar_refusals_total"),
        since.quantile("lockstep_sidecar_build_seconds", 0.99),
        since.get("lockstep_sidecar_late_seconds_bucket{le=\"0.0\"}"),
        since.get("lockstep_sidecar_late_seconds_count"),
    );
    run.end().await;
}
