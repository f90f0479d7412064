//! From bytes to validators, with an engine and validators of the tests' own.

use std::collections::BTreeSet;

use alloy_consensus::TxEip1559;

use super::*;
use crate::fixtures::{FakeEngine, Validators, checked, gateway, key, sign, signed, transfer};
use crate::limits::RESUBMIT_MS;

struct World {
    engine: FakeEngine,
    validators: Arc<Validators>,
    pool: Arc<Pool>,
}

async fn world(count: usize) -> World {
    let (engine, validators) = (FakeEngine::start().await, Validators::new(count));
    let pool = Pool::new(
        gateway(),
        Engine::new(&engine.http).unwrap(),
        Arc::clone(&validators) as Arc<dyn Submitter>,
        QuotaConfig { submissions_per_second: 10, ..QuotaConfig::default() },
        WalletMetrics::default(),
    );
    World { engine, validators, pool: Arc::new(pool) }
}

impl World {
    async fn send(&self, bytes: Bytes) -> Result<B256, Refused> {
        self.pool.send(Client::Others, bytes).await
    }

    /// Until the tasks that go on in the background have given so many in all.
    async fn given(&self, count: usize) -> std::collections::BTreeMap<usize, Vec<B256>> {
        for _ in 0..1_000 {
            let given = self.validators.given();
            if given.values().map(Vec::len).sum::<usize>() >= count {
                return given;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{:?}", self.validators.given());
    }

    /// The `n`th time, as if enough time passed before each.
    async fn resubmit(&self, n: u64) {
        let count = self.pool.submitter.count();
        let due = self.pool.overlay().take_due(now().plus(n * RESUBMIT_MS));
        for (sender, up_to, turn) in due {
            for endpoint in group(sender, turn, count, self.pool.quorum) {
                let round = Round::Again { up_to };
                let _refusal = Arc::clone(&self.pool).feed(sender, endpoint, round).await;
            }
        }
    }
}

fn hash(n: u8, nonce: u64) -> B256 {
    checked(signed(n, nonce)).hash
}

#[test]
fn one_more_than_may_lie_is_a_quorum() {
    let cases = [(0, 1), (1, 1), (3, 1), (4, 2), (6, 2), (7, 3), (100, 34)];
    for (count, expected) in cases {
        assert_eq!(quorum(count), expected, "{count}");
    }
}

#[test]
fn turns_reach_every_validator_and_begin_where_the_sender_says() {
    for n in 1..20 {
        let sender = key(n).address();
        let turn = |turn| group(sender, turn, 7, 3).collect::<Vec<_>>();
        assert!((0..3).all(|n| turn(n).iter().collect::<BTreeSet<_>>().len() == 3));
        assert_eq!((0..3).flat_map(turn).collect::<BTreeSet<_>>().len(), 7);
        assert_eq!(turn(0), turn(0));
    }
    let starts: BTreeSet<_> =
        (1..50).map(|n| group(key(n).address(), 0, 7, 3).next().unwrap()).collect();
    assert!(starts.len() > 3, "no validator has all the work: {starts:?}");
    assert_eq!(group(key(1).address(), 0, 0, 1).count(), 0);
}

#[tokio::test]
async fn a_transaction_goes_to_one_more_than_may_lie() {
    let world = world(4).await;
    assert_eq!(world.send(signed(1, 0)).await, Ok(hash(1, 0)));
    let given = world.given(2).await;
    assert_eq!(given.len(), 2);
    assert!(given.values().all(|hashes| *hashes == [hash(1, 0)]));
    assert_eq!(world.pool.metrics.admitted.get(), 1);
    assert_eq!(world.pool.metrics.pending.get(), 1);
}

#[tokio::test]
async fn several_at_once_and_out_of_order_reach_each_validator_in_order() {
    let world = world(4).await;
    let order = [3, 0, 2, 1, 4, 7, 6, 5];
    let sent = futures::future::join_all(order.map(|nonce| world.send(signed(1, nonce)))).await;
    assert_eq!(sent, order.map(|nonce| Ok(hash(1, nonce))));
    let given = world.given(16).await;
    let expected: Vec<B256> = (0..8).map(|nonce| hash(1, nonce)).collect();
    assert_eq!(given.len(), 2);
    assert!(given.values().all(|hashes| *hashes == expected), "{given:?}");
}

#[tokio::test]
async fn those_that_are_down_are_passed_over() {
    let world = world(4).await;
    let first: Vec<usize> = group(key(1).address(), 0, 4, 2).collect();
    world.validators.down.lock().unwrap().extend(first.iter().copied());
    assert_eq!(world.send(signed(1, 0)).await, Ok(hash(1, 0)));
    assert!(world.given(1).await.keys().all(|endpoint| !first.contains(endpoint)));
}

#[tokio::test]
async fn with_nobody_there_it_is_refused_and_may_come_again() {
    let world = world(4).await;
    world.validators.down.lock().unwrap().extend(0..4);
    let refused = world.send(signed(1, 0)).await.unwrap_err();
    assert_eq!(refused, Refused::Committee("down".to_owned()));
    assert_eq!(world.pool.overlay().len(), 0);
    world.validators.down.lock().unwrap().clear();
    assert_eq!(world.send(signed(1, 0)).await, Ok(hash(1, 0)));
}

#[tokio::test]
async fn a_refusal_for_good_is_told_rather_than_one_for_now() {
    let world = world(4).await;
    world.validators.down.lock().unwrap().extend([0, 1, 3]);
    world.validators.refusing.lock().unwrap().insert(2);
    let refused = world.send(signed(1, 0)).await.unwrap_err();
    assert_eq!(refused.to_string(), "not taken by the committee: unknown chain");
}

#[tokio::test]
async fn it_goes_to_the_next_ones_until_enough_say_that_it_is_decided() {
    let world = world(4).await;
    world.send(signed(1, 0)).await.unwrap();
    world.given(2).await;
    world.resubmit(1).await;
    let given = world.given(4).await;
    assert_eq!(given.len(), 4, "the other two have it, too");
    assert_eq!(world.pool.metrics.resubmitted.get(), 2);
    world.validators.deciding.lock().unwrap().extend(0..4);
    world.resubmit(2).await;
    world.given(6).await;
    world.resubmit(3).await;
    assert_eq!(world.validators.given().values().map(Vec::len).sum::<usize>(), 6, "no more");
    assert_eq!(world.pool.overlay().len(), 1, "it is not included yet");
}

#[tokio::test]
async fn an_old_entry_is_signed_anew_under_the_same_id() {
    let world = world(1).await;
    world.send(signed(1, 0)).await.unwrap();
    let (_, hash, entry) =
        world.pool.overlay().next(key(1).address(), 0, Round::Again { up_to: 0 }, 0).unwrap();
    assert_eq!(world.pool.renewed(hash, entry.clone()), entry);
    let old = world.pool.gateway.entry(entry.body().clone(), UnixMillis(1)).unwrap();
    let renewed = world.pool.renewed(hash, old.clone());
    assert_eq!(renewed.id(), old.id());
    assert!(renewed.expires() > now() && renewed.check(gateway().network).is_ok());
}

#[tokio::test]
async fn what_the_engine_includes_is_let_go() {
    let world = world(1).await;
    world.send(signed(1, 0)).await.unwrap();
    world.send(signed(1, 1)).await.unwrap();
    world.engine.book.set_nonce(key(1).address(), 1);
    world.pool.observe().await.unwrap();
    assert_eq!(world.pool.overlay().len(), 1);
    let refused = world.send(signed(1, 0)).await.unwrap_err();
    assert_eq!(refused.to_string(), "nonce too low: next nonce 1, tx nonce 0");
    world.pool.skipped(&[hash(1, 1), B256::ZERO]);
    assert_eq!(world.pool.overlay().len(), 0);
}

#[tokio::test]
async fn the_price_of_l1_is_part_of_the_cost() {
    let world = world(1).await;
    *world.engine.book.balance.lock().unwrap() = alloy_primitives::U256::from(4_201_006);
    *world.engine.book.l1_fee.lock().unwrap() = 7;
    let refused = world.send(signed(1, 0)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "insufficient funds for gas * price + value: balance 4201006, tx cost 4201007, overshot 1"
    );
    *world.engine.book.l1_fee.lock().unwrap() = 6;
    assert!(world.send(signed(1, 0)).await.is_ok());
}

#[tokio::test]
async fn the_least_tip_and_the_quota_are_kept() {
    let mut gateway = gateway();
    gateway.tip_min = 2;
    let refused = gateway.check(signed(1, 0)).unwrap_err();
    assert_eq!(refused.to_string(), "transaction underpriced: gas tip cap 1, minimum needed 2");
    let tipped = TxEip1559 { max_priority_fee_per_gas: 2, ..transfer(0) };
    assert!(gateway.check(sign(tipped, &key(1))).is_ok());

    let world = world(1).await;
    let mut refusals = Vec::new();
    for _ in 0..250 {
        refusals.push(world.send(Bytes::from_static(&[3])).await.unwrap_err());
    }
    let over = refusals.iter().find(|refused| matches!(refused, Refused::Quota(_))).unwrap();
    assert_eq!(over.code(), lockstep_execution::json_rpc::LIMIT_EXCEEDED);
    assert!(over.to_string().starts_with("limit exceeded: over this client's quota"));
    assert_eq!(refusals[0], Refused::Type);
}

/// The log leaves out for good what declares more.
#[test]
fn gas_above_what_the_network_takes_of_a_transaction_is_refused() {
    let gateway = gateway();
    let with_gas = |gas_limit| sign(TxEip1559 { gas_limit, ..transfer(0) }, &key(1));
    assert!(gateway.check(with_gas(gateway.gas_max)).is_ok());
    let refused = gateway.check(with_gas(gateway.gas_max + 1)).unwrap_err();
    let words = "transaction gas limit too high (cap: 16777216, tx: 16777217)";
    assert_eq!((refused.to_string().as_str(), refused.label()), (words, "gas"));
}

#[tokio::test]
async fn without_an_engine_nothing_is_admitted() {
    let engine = Engine::new("http://127.0.0.1:1").unwrap();
    let validators = Validators::new(1);
    let pool = Arc::new(Pool::new(
        gateway(),
        engine,
        Arc::clone(&validators) as Arc<dyn Submitter>,
        QuotaConfig::default(),
        WalletMetrics::default(),
    ));
    let refused = pool.send(Client::Others, signed(1, 0)).await.unwrap_err();
    assert!(matches!(refused, Refused::Engine(_)));
    assert!(!refused.to_string().contains("127.0.0.1"), "{refused}");
    assert!(validators.given().is_empty());
}
