//! Tests of a world's files and commands. Nothing is started: that is the interop suite's.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lockstep_node::home::Home;

use super::rollup::Heads;
use super::*;

/// A directory with files that have the programs' names.
fn peers(directory: &Path) -> Peers {
    for name in ["anvil", "genesis", "op-batcher", "op-conductor", "op-geth", "op-node"] {
        fs::write(directory.join(name), "").expect("writes");
    }
    Peers::new(directory).expect("all are there")
}

fn options(parent: &Path, verifiers: Verifiers) -> Options {
    let programs = parent.join("bin");
    fs::create_dir_all(&programs).expect("makes it");
    let directory = parent.join("devnet");
    Options { verifiers, ..Options::new(directory, "/bin/lockstep".into(), Some(peers(&programs))) }
}

fn has(world: &World, process: &str, argument: &str) -> bool {
    let process = world.processes().iter().find(|one| one.name() == process).expect("is there");
    process.program().arguments.iter().any(|one| one == argument)
}

#[test]
fn world_has_every_process_and_a_script_for_each() {
    let parent = tempfile::tempdir().expect("a directory");
    let world = World::prepare(&options(parent.path(), Verifiers::Checked)).expect("is prepared");
    let names: Vec<&str> = world.processes().iter().map(Process::name).collect();
    assert_eq!(names.len(), 4 + 1 + 2 * 7, "{names:?}");
    for name in ["validator-3", "anvil", "op-batcher-902", "verifier-sidecar-901"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for name in &names {
        let script = world.layout.directory.join("run").join(name);
        let mode = fs::metadata(&script).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{name}");
    }
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    let lines: BTreeSet<_> =
        world.processes().iter().map(|one| one.program().command_line()).collect();
    assert_eq!(lines.len(), names.len(), "each is known by its arguments");
}

#[test]
fn chains_join_with_their_first_block_and_have_their_operators_keys() {
    let parent = tempfile::tempdir().expect("a directory");
    let mut options = options(parent.path(), Verifiers::None);
    options.chains = vec![
        ChainOptions { id: 901, block_time_seconds: 1 },
        ChainOptions { id: 950, block_time_seconds: 2 },
    ];
    let world = World::prepare(&options).expect("is prepared");
    let start = world.l1().expect("has one").genesis_time;
    for (chain, rollup) in world.layout.genesis.chains.iter().zip(world.rollups()) {
        let block_time = rollup.options.block_time_seconds;
        assert_eq!((chain.id.0, chain.block_time_ms), (rollup.id(), block_time * 1_000));
        assert_eq!(chain.joins_at, start + block_time);
        assert_eq!(chain.sequencers, [rollup.sequencer_key.address()]);
        assert_eq!(chain.gateways, [rollup.gateway_key.address()]);
        for (file, account) in
            [("sequencer.key", &rollup.sequencer_key), ("gateway.key", &rollup.gateway_key)]
        {
            let key = lockstep_node::keys::read_validator_key(&rollup.directory.join(file));
            assert_eq!(key.expect("is a key").address(), account.address());
        }
    }
    assert_eq!(world.rollup(950).expect("is there").id(), 950);
    assert!(world.rollup(902).is_err());
}

#[test]
fn sidecar_is_between_op_node_and_its_engine() {
    let parent = tempfile::tempdir().expect("a directory");
    let world = World::prepare(&options(parent.path(), Verifiers::Checked)).expect("is prepared");
    let rollup = world.rollup(901).expect("is there");
    for side in rollup.sides() {
        let text = fs::read_to_string(side.directory().join("sidecar.toml")).expect("is there");
        let file: toml::Table = text.parse().expect("is TOML");
        let address = |port: u16| format!("127.0.0.1:{port}");
        assert_eq!(file["chain"].as_integer(), Some(901));
        assert_eq!(file["listen"].as_str(), Some(address(side.ports.sidecar).as_str()));
        let engine = format!("http://{}", address(side.ports.engine));
        assert_eq!(file["engine_url"].as_str(), Some(engine.as_str()));
        assert_eq!(file["endpoints"].as_array().map(Vec::len), Some(4));
        let is_sequencer = side.role == rollup::Role::Sequencer;
        assert_eq!(file.contains_key("sequencer_key"), is_sequencer);
        assert_eq!(
            file["mode"].as_str(),
            Some(if is_sequencer { "sequencing" } else { "verifying" })
        );
        assert_eq!(file["when_silent"].as_str(), Some("halt"));
        let l2 = format!("--l2=http://{}", address(side.ports.sidecar));
        assert!(has(&world, &side.process("op-node"), &l2));
        let jwt = fs::metadata(rollup.jwt_file()).expect("is there").permissions().mode();
        assert_eq!(jwt & 0o777, 0o600);
    }
}

#[test]
fn stock_verifier_has_no_sidecar_and_knows_its_peer() {
    let parent = tempfile::tempdir().expect("a directory");
    let world = World::prepare(&options(parent.path(), Verifiers::Stock)).expect("is prepared");
    let rollup = world.rollup(902).expect("is there");
    let verifier = rollup.verifier.as_ref().expect("is there");
    let l2 = format!("--l2=http://127.0.0.1:{}", verifier.ports.engine);
    assert!(has(&world, "verifier-op-node-902", &l2));
    let peer = rollup.sequencer.gossip_key().peer_id().expect("has one");
    let port = rollup.sequencer.ports.gossip;
    let peer = format!("--p2p.static=/ip4/127.0.0.1/tcp/{port}/p2p/{peer}");
    assert!(has(&world, "verifier-op-node-902", &peer));
    assert!(!has(&world, "op-node-902", &peer));
    let wallets = format!("--rollup.sequencerhttp={}", rollup.wallet_url());
    assert!(has(&world, "verifier-op-geth-902", &wallets));
    assert!(!has(&world, "op-geth-902", &wallets));
    assert!(!world.processes().iter().any(|one| one.name() == "verifier-sidecar-902"));
}

#[test]
fn conductors_are_beside_both_sequencers_and_have_ports_of_their_own() {
    let parent = tempfile::tempdir().expect("a directory");
    let world = World::prepare(&options(parent.path(), Verifiers::Conducted)).expect("is prepared");
    let mut ports = BTreeSet::new();
    for rollup in world.rollups() {
        for side in rollup.sides() {
            let conductor = side.conductor.as_ref().expect("has one");
            let name = side.process("op-conductor");
            let health = format!("--execution.rpc=http://127.0.0.1:{}", side.ports.health);
            assert!(has(&world, &name, &health) && has(&world, &name, "--rollup-boost.enabled"));
            let begins = side.role == rollup::Role::Sequencer;
            assert_eq!(has(&world, &name, "--raft.bootstrap"), begins);
            let rpc = format!("--conductor.rpc={}", conductor.rpc().url());
            assert!(has(&world, &side.process("op-node"), &rpc));
            ports.insert(conductor.raft_address());
            ports.insert(conductor.rpc().url().trim_start_matches("http://").to_owned());
        }
    }
    assert_eq!(ports.len(), 8, "{ports:?}");
}

#[test]
fn log_alone_has_open_chains_and_only_it_can_be_kept() {
    let parent = tempfile::tempdir().expect("a directory");
    let with_rollups = Options { keep: true, ..options(parent.path(), Verifiers::None) };
    let error = World::prepare(&with_rollups).expect_err("cannot go on").to_string();
    assert!(error.contains("cannot go on later"), "{error}");
    let world = World::prepare(&Options { peers: None, ..with_rollups }).expect("is prepared");
    assert_eq!((world.processes().len(), world.rollups().len()), (4, 0));
    assert!(world.l1().is_none());
    assert!(world.layout.genesis.chains.iter().all(|chain| chain.gateways.is_empty()));
}

#[tokio::test]
async fn process_that_ends_at_its_start_is_named_with_its_last_words() {
    let parent = tempfile::tempdir().expect("a directory");
    // A program that refuses a validator's arguments, and says so.
    let lockstep = "/bin/ls".into();
    let options = Options { peers: None, lockstep, ..options(parent.path(), Verifiers::None) };
    let mut world = World::prepare(&options).expect("is prepared");
    let error = world.start(&mut |_| {}).await.expect_err("ends").to_string();
    assert!(
        error.contains("validator-0 ended at its start") && error.contains("option"),
        "{error}"
    );
    world.stop().await.expect("nothing is left");
    assert!(world.kill_process("op-node-7").await.is_err());
}

#[test]
fn part_of_a_killed_devnet_that_still_runs_is_named() {
    let parent = tempfile::tempdir().expect("a directory");
    let options = options(parent.path(), Verifiers::None);
    let world = World::prepare(&options).expect("is prepared");
    let file = world.layout.directory.join("logs/op-geth-901.log");
    fs::write(&file, "").expect("writes");
    drop(world);
    // `sidecar` as first argument is what tells ours; `tail -f` takes it for a file that is not there.
    let mut left = std::process::Command::new("tail")
        .args(["sidecar", "-f"])
        .arg(&file)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let expected = format!("kill {}", left.id());
    // It has its own arguments only after it was started for good.
    while process::using(&options.directory, &["sidecar"]).is_empty() {
        std::thread::yield_now();
    }
    let error = World::prepare(&options).expect_err("still runs").to_string();
    left.kill().expect("ends");
    left.wait().expect("ends");
    assert!(error.contains("sidecar") && error.contains(&expected), "{error}");
    assert_eq!(Home::owner(&options.directory), None);
    assert!(World::prepare(&options).is_ok());
}

#[test]
fn heads_are_read_from_what_op_node_says() {
    let hash = format!("0x{}", "ab".repeat(32));
    let status = format!(
        r#"{{"current_l1":{{"number":9}},
            "unsafe_l2":{{"hash":"{hash}","number":31,"l1origin":{{"number":8}}}},
            "safe_l2":{{"hash":"{hash}","number":28}}, "finalized_l2":{{"hash":"{hash}","number":0}}}}"#
    );
    let heads: Heads = serde_json::from_str(&status).expect("is read");
    assert_eq!((heads.unsafe_head.number, heads.safe_head.number), (31, 28));
    let shown = serde_json::to_value(heads).expect("is json");
    assert_eq!(shown["finalized_head"]["hash"], hash.as_str());
}
