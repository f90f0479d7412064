//! Submitters who fill a chain's windows with items that its engine refuses, while others send transfers: every honest one lands,
//! and blocks are in time.
//!
//! They come past the wallets' port, as from a gateway that does not look. `make interop ARGS=attack` runs these alone.

use std::time::{Duration, Instant};

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, Bytes, TxKind, U256};
use lockstep_devnet::world::accounts::{Account, FEE_MAX, TRANSFER_GAS};
use lockstep_rpc::client::{Endpoint, IngressClient};
use tokio::time::{MissedTickBehavior, interval};

use crate::load::Load;
use crate::run::{Metrics, PATIENCE, Run, balance};

/// Honest transfers per second, each second one of as many accounts.
const HONEST: usize = 20;
/// Between two waves of an attack.
const WAVE: Duration = Duration::from_secs(3);

/// What some blocks were like.
struct Phase {
    metrics: Metrics,
    /// Of the engine, in percent of a core.
    engine: f64,
}

impl Phase {
    /// Waits for as many blocks.
    async fn of(run: &Run, blocks: u64) -> Self {
        let engine = run.chain(901).sequencer.process("op-geth");
        let before = run.metrics(901).await;
        let (cpu, begun) = (run.cpu_seconds(&engine), Instant::now());
        run.more_blocks(901, blocks, PATIENCE).await;
        let engine = (run.cpu_seconds(&engine) - cpu) / begun.elapsed().as_secs_f64() * 100.0;
        Self { metrics: run.metrics(901).await.since(&before), engine }
    }

    fn sealed(&self) -> f64 {
        self.metrics.get("lockstep_sidecar_late_seconds_count")
    }

    fn in_time(&self) -> f64 {
        self.metrics.get("lockstep_sidecar_late_seconds_bucket{le=\"0.0\"}")
    }

    fn shown(&self, name: &str) -> String {
        format!(
            "{name}: {} of {} blocks in time, build p99 <= {} s, {} refusals, {} items skipped, engine {:.1} % of a core",
            self.in_time(),
            self.sealed(),
            self.metrics.quantile("lockstep_sidecar_build_seconds", 0.99),
            self.metrics.get("lockstep_sidecar_refusals_total"),
            self.metrics.get("lockstep_sidecar_skipped_total{reason=\"invalid\"}"),
            self.engine,
        )
    }
}

/// Submits a wave of items every three seconds, for ever.
async fn submit(run: &Run, mut wave: impl AsyncFnMut(&Run, usize) -> Vec<Bytes>) {
    let channel = Endpoint::new(run.world.endpoints().remove(0)).connect().await;
    let mut ingress = IngressClient::new(channel.expect("a validator"));
    let mut ticks = interval(WAVE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        ticks.tick().await;
        for bytes in wave(run, number).await {
            // A budget that is used up is part of the defence.
            if let Err(error) = ingress.submit(&run.admitted(901, bytes), None).await {
                eprintln!("wave {number}: {error}");
                break;
            }
        }
    }
}

async fn attack(name: &str, wave: impl AsyncFnMut(&Run, usize) -> Vec<Bytes>) {
    let run = Run::one(name, 1).await;
    run.head_at(901, 12, PATIENCE).await;
    let load = Load::start(run.chain(901), &run.accounts, HONEST);
    run.more_blocks(901, 3, PATIENCE).await;
    let before = Phase::of(&run, 15).await;
    let during = tokio::select! {
        phase = Phase::of(&run, 30) => phase,
        () = submit(&run, wave) => unreachable!("waves never end"),
    };
    let after = Phase::of(&run, 10).await;
    let report = load.stop(PATIENCE).await;
    println!(
        "{name}\n  {}\n  {}\n  {}\n  {} of {} honest transfers in a block, p50 {} ms, p99 {} ms, {} refused",
        before.shown("before"),
        during.shown("during"),
        after.shown("after"),
        report.times.len(),
        report.sent.len(),
        report.quantile(0.5).as_millis(),
        report.quantile(0.99).as_millis(),
        report.refused.len(),
    );
    run.expect_landed_once(901, &report.sent).await;
    run.expect_audited(901);
    assert!(during.metrics.get("lockstep_sidecar_skipped_total{reason=\"invalid\"}") > 50.0);
    assert!(during.in_time() >= during.sealed() * 0.95, "{}", during.shown("during"));
    run.end().await;
}

/// All that an account has but one wei, at once: what it sends behind that cannot be paid.
async fn drained(run: &Run, account: &Account) -> Vec<Bytes> {
    let has = balance(&run.chain(901).sequencer, account.address()).await;
    let fee = U256::from(FEE_MAX) * U256::from(TRANSFER_GAS);
    let all = account.sign(TxEip1559 {
        chain_id: 901,
        gas_limit: TRANSFER_GAS,
        max_fee_per_gas: FEE_MAX,
        to: TxKind::Call(Address::repeat_byte(0x66)),
        value: has.saturating_sub(fee),
        ..TxEip1559::default()
    });
    let nobody = Address::repeat_byte(0x66);
    let behind = (1..64).map(|nonce| account.transfer(901, nonce, nobody, 1 << 60));
    [all].into_iter().chain(behind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_of_five_accounts_that_spend_all_and_send_on() {
    attack("attack-five-accounts", async |run: &Run, number| {
        let first = HONEST + number * 5;
        let mut items = Vec::new();
        for account in run.accounts.iter().skip(first).take(5) {
            items.extend(drained(run, account).await);
        }
        items
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_of_sixty_four_accounts_that_have_nothing() {
    attack("attack-sixty-four-accounts", async |_: &Run, number| {
        let poor = (0..64).map(|index| Account::of_purpose(&format!("poor {number} {index}")));
        let nobody = Address::repeat_byte(0x66);
        let items =
            |account: Account| (0..5).map(move |nonce| account.transfer(901, nonce, nobody, 1));
        poor.flat_map(items).collect()
    })
    .await;
}

/// Code that is larger than an engine deploys (EIP-3860): nothing that needs no engine shows it.
fn oversized(account: &Account, nonce: u64, variant: u8) -> Bytes {
    let mut code = vec![0; 49_153];
    code[0] = variant;
    account.sign(TxEip1559 {
        chain_id: 901,
        nonce,
        gas_limit: 2_000_000,
        max_fee_per_gas: FEE_MAX,
        to: TxKind::Create,
        input: code.into(),
        ..TxEip1559::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_with_items_that_only_the_engine_refuses() {
    attack("attack-engine-only", async |run: &Run, number| {
        let variant = u8::try_from(number % 256).unwrap_or_default();
        let accounts = run.accounts.iter().skip(HONEST).take(20);
        accounts.map(|account| oversized(account, 0, variant)).collect()
    })
    .await;
}
