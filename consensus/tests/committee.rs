//! Four validators in one process over real loopback sockets and stores: they order what any of them is given.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::identity::Keypair;
use lockstep_consensus::guard::{Guard, Mark, Origin};
use lockstep_consensus::ingress::{Ingress, Refused, Submitter};
use lockstep_consensus::mesh::faults::Faults;
use lockstep_consensus::mesh::keypair_from_seed;
use lockstep_consensus::store::RecordKind;
use lockstep_consensus::tracker::EntryState;
use lockstep_consensus::validator::{Config, Validator};
use lockstep_core::admission::LeaveOut;
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::params::{ChainKind, ChainParams, Genesis, NetworkParams};
use lockstep_core::record::{Limits, Record, RecordBody};
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{ChainId, Height, UnixMillis};
use lockstep_core::validator_set::{Validator as Member, ValidatorSet};
use prometheus_client::registry::Registry;

const CHAIN: ChainId = ChainId(7);

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    UnixMillis(since.as_millis().try_into().expect("fits"))
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes([n; 32]).expect("a key")
}

/// The key that signs the chain's records.
fn sequencer() -> SigningKey {
    key(0x5e)
}

fn network_key(n: u8) -> Keypair {
    keypair_from_seed([n; 32])
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|l| l.local_addr().expect("bound").port()).collect()
}

fn genesis(ports: &[u16]) -> Genesis {
    let mut members: Vec<Member> = (1u8..)
        .zip(ports)
        .map(|(n, port)| Member {
            address: key(n).address(),
            public_key: key(n).public_key(),
            power: 1,
            network_address: format!(
                "/ip4/127.0.0.1/tcp/{port}/p2p/{}",
                network_key(n).public().to_peer_id()
            ),
        })
        .collect();
    members.sort_by_key(|member| member.address);
    Genesis {
        name: "test".to_owned(),
        timestamp: UnixMillis(now().0 - 1_000),
        params: NetworkParams { block_interval_ms: 50, ..NetworkParams::default() },
        validators: ValidatorSet::new(members).expect("a set"),
        chains: vec![ChainParams {
            id: CHAIN,
            kind: ChainKind::Opaque,
            block_time_ms: 0,
            gas_per_second: 0,
            bytes_per_second: 1 << 20,
            sequencers: vec![sequencer().address()],
            gateways: vec![],
            transaction_gas_max: 128_000_000,
            joins_at: 0,
        }],
    }
}

async fn start(n: u8, genesis: &Genesis, port: u16, dir: &Path) -> Validator {
    let home = dir.join(n.to_string());
    let mark = Mark { origin: Origin::Fresh, made_at: now() };
    let (guard, network) = (home.join("guard"), genesis.network_id());
    Guard::create(&guard, network, key(n).address(), mark).expect("a guard");
    let config = Config {
        genesis: genesis.clone(),
        key: key(n),
        network_key: network_key(n),
        listen: format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address"),
        data_dir: home.join("data"),
        guard_dir: guard,
        wal_dir: None,
        check_threads: 1,
        batch_delay: Duration::from_millis(5),
        status_interval: Duration::ZERO,
        faults: Faults::default(),
    };
    Validator::start(config, &mut Registry::default()).await.expect("starts")
}

fn entry(text: &str) -> Entry {
    let bytes = text.as_bytes().to_vec().into();
    let body = Body::Transaction(Transaction { chain: CHAIN, kind: ChainKind::Opaque, bytes });
    Entry::new(body, UnixMillis(now().0 + 30_000), None).expect("an entry")
}

fn record(genesis: &Genesis, signer: &SigningKey) -> Entry {
    let body = RecordBody::Limits(Limits { tx_bytes: 1, block_bytes: 2, ..Limits::default() });
    let record = Record::sign(genesis.network_id(), CHAIN, body, signer);
    Entry::new(Body::Record(record), UnixMillis(now().0 + 30_000), None).expect("an entry")
}

async fn until_height(validator: &Validator, height: Height) {
    let mut heads = validator.ledger.heads();
    let reached = heads.wait_for(|head| *head >= height);
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("in time").expect("runs");
}

async fn until_decided(validator: &Validator, entry: &Entry) -> EntryState {
    let mut watch = validator.ingress.watch(entry.id()).expect("tracked");
    let ended = watch.wait_for(EntryState::is_final);
    *tokio::time::timeout(Duration::from_secs(20), ended).await.expect("in time").expect("runs")
}

async fn submit(ingress: &Ingress, entry: Entry) -> Result<EntryState, Refused> {
    let mut answers = ingress.submit_many(Submitter::UNKNOWN, vec![entry]).await;
    answers.remove(0).map(|(state, _)| state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_order_what_any_of_them_is_given() {
    let dir = tempfile::tempdir().expect("a directory");
    let ports = free_ports(4);
    let genesis = genesis(&ports);
    let mut validators = Vec::new();
    for (n, port) in (1u8..).zip(&ports) {
        validators.push(start(n, &genesis, *port, dir.path()).await);
    }
    for validator in &validators {
        until_height(validator, Height(3)).await;
    }
    let shared = entry("sent to all four");
    for validator in &validators {
        submit(&validator.ingress, shared.clone()).await.expect("taken");
    }
    let single = entry("sent to one");
    submit(&validators[2].ingress, single.clone()).await.expect("taken");

    let first = until_decided(&validators[0], &shared).await;
    assert!(matches!(first, EntryState::Decided { .. }), "{first:?}");
    for validator in &validators {
        assert_eq!(until_decided(validator, &shared).await, first);
    }
    let decided = until_decided(&validators[2], &single).await;
    assert!(matches!(decided, EntryState::Decided { .. }), "{decided:?}");

    let strange = record(&genesis, &key(0x99));
    let refused = submit(&validators[1].ingress, strange.clone()).await;
    let reason = LeaveOut::NotSequencer { chain: CHAIN };
    assert_eq!(refused, Err(Refused::NotAdmitted(reason)));
    assert_eq!(validators[1].ingress.state(strange.id()), None);
    let record = record(&genesis, &sequencer());
    submit(&validators[1].ingress, record.clone()).await.expect("taken");
    let EntryState::Decided { decision, .. } = until_decided(&validators[1], &record).await else {
        panic!("the record was dropped")
    };
    let of = (CHAIN, RecordKind::Limits);
    let found = validators[1].ledger.store().record_heights(of, Height(u64::MAX), 9);
    assert_eq!(found, Ok(vec![decision.height]));

    let height = validators[0].ledger.state().height;
    for validator in &validators {
        until_height(validator, height).await;
        assert_eq!(validator.ledger.block_hash(height), validators[0].ledger.block_hash(height));
    }
    for validator in validators {
        validator.stop().await;
    }
}
