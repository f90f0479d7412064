//! Two chains, and bundles of a transfer on each: all legs are in the log at one place, and land on both chains.

use std::time::Duration;

use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::entry::{Body, Entry};
use lockstep_core::params::ChainKind;
use lockstep_core::types::{ChainId, UnixMillis};
use lockstep_rpc::client::{Endpoint, IngressClient};

use alloy_primitives::{B256, Bytes, keccak256};

use crate::run::{PATIENCE, Run};

/// An entry of one transaction per chain, co-ordered.
fn bundle(legs: Vec<(u64, Bytes)>) -> Entry {
    let legs = legs
        .into_iter()
        .map(|(chain, bytes)| Leg {
            chain: ChainId(chain),
            kind: ChainKind::Evm,
            transactions: vec![bytes],
        })
        .collect();
    let bundle = Bundle::new(legs, Guarantee::CoOrdered).expect("a bundle");
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Entry::new(Body::Bundle(bundle), UnixMillis(now.as_millis() as u64 + 30_000), None)
        .expect("an entry")
}

#[tokio::test(flavor = "multi_thread")]
async fn tier_one_bundles_land_on_both_chains() {
    let run = Run::start("bundles", &[(901, 1), (902, 2)], |_| {}).await;
    for (id, number) in [(901, 12), (902, 6)] {
        run.head_at(id, number, PATIENCE).await;
    }
    let endpoint = run.world.endpoints().remove(0);
    let channel = Endpoint::new(endpoint).connect().await.expect("a validator");
    let mut ingress = IngressClient::new(channel);
    let mut sent: Vec<[B256; 2]> = Vec::new();
    for nonce in 0..10u64 {
        for account in 0..3 {
            let raw = [901, 902].map(|id| run.transfer(id, account, nonce));
            sent.push([keccak256(&raw[0]), keccak256(&raw[1])]);
            let entry = bundle(vec![(901, raw[0].clone()), (902, raw[1].clone())]);
            ingress.submit(&entry, None).await.expect("a validator takes the bundle");
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let mut blocks = Vec::new();
    for hashes in &sent {
        let one = run.landed(901, hashes[0], PATIENCE).await;
        let other = run.landed(902, hashes[1], PATIENCE).await;
        blocks.push((one, other));
    }
    println!(
        "{} bundles landed whole, the first in blocks {:?}, the last in {:?}",
        blocks.len(),
        blocks[0],
        blocks[blocks.len() - 1]
    );
    for (id, place) in [(901, 0), (902, 1)] {
        let hashes: Vec<B256> = sent.iter().map(|hashes| hashes[place]).collect();
        run.expect_landed_once(id, &hashes).await;
        run.expect_audited(id);
    }
    run.end().await;
}
