//! The program itself, run as a user runs it: results, messages, exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Where nobody listens: the port of `tcpmux`.
const NOBODY: &str = "http://127.0.0.1:1";

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(directory: &Path, arguments: &str) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .output()
        .expect("the program runs");
    let Output { status, stdout, stderr } = output;
    Ran {
        code: status.code().expect("it was not killed"),
        stdout: String::from_utf8(stdout).expect("is text"),
        stderr: String::from_utf8(stderr).expect("is text"),
    }
}

fn ok(directory: &Path, arguments: &str) -> String {
    let ran = run(directory, arguments);
    assert_eq!(ran.code, 0, "{arguments}\n{}", ran.stderr);
    ran.stdout
}

fn json(directory: &Path, arguments: &str) -> Value {
    serde_json::from_str(&ok(directory, &format!("{arguments} --json"))).expect("is json")
}

fn fails(directory: &Path, code: i32, arguments: &str, expected: &[&str]) {
    let ran = run(directory, arguments);
    assert_eq!(ran.code, code, "{arguments}\n{}{}", ran.stdout, ran.stderr);
    for expected in expected {
        assert!(ran.stderr.contains(expected), "{arguments}: {expected}\n{}", ran.stderr);
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn version_and_help_are_results() {
    let here = directory();
    assert_eq!(
        ok(here.path(), "--version").trim(),
        format!("lockstep {}", env!("CARGO_PKG_VERSION"))
    );
    let help = ok(here.path(), "--help");
    for command in
        ["keys", "genesis", "node", "submit", "status", "watch", "slice", "verify", "devnet"]
    {
        assert!(help.contains(command), "{command}\n{help}");
    }
    assert!(ok(here.path(), "completions bash").contains("_lockstep()"));
}

#[test]
fn command_line_that_means_nothing_exits_with_2() {
    let here = directory();
    fails(here.path(), 2, "", &["Usage"]);
    fails(here.path(), 2, "frobnicate", &["frobnicate"]);
    fails(here.path(), 2, "submit tx --raw 0x01", &["--chain"]);
}

#[test]
fn keys_are_made_shown_and_never_overwritten_or_printed() {
    let here = directory();
    let made = json(here.path(), "keys generate --out a/keys");
    assert_eq!(made, json(here.path(), "keys show --keys a/keys"));
    let text = ok(here.path(), "keys show --keys a/keys");
    for field in ["address", "public_key", "peer_id"] {
        assert!(text.contains(made[field].as_str().expect("is text")), "{field}\n{text}");
    }
    for name in ["validator.key", "network.key"] {
        let path = here.path().join("a/keys").join(name);
        let secret = fs::read_to_string(&path).expect("is there");
        assert!(!text.contains(secret.trim()), "{name} is printed");
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    fails(
        here.path(),
        1,
        "keys generate --out a/keys",
        &["validator.key exists", "never overwritten"],
    );
    let key = here.path().join("a/keys/network.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("is ours");
    fails(here.path(), 1, "keys show --keys a/keys", &["network.key has mode 0644", "chmod 600"]);
    fails(here.path(), 1, "keys show --keys b", &["b/validator.key"]);
}

/// A genesis of two validators in `genesis.toml`; what `genesis new` printed.
fn genesis(here: &Path) -> Value {
    for name in ["a", "b"] {
        ok(here, &format!("keys generate --out {name}"));
        let entry =
            format!("genesis validator-entry --keys {name} --address /ip4/127.0.0.1/tcp/26600");
        fs::write(here.join(format!("{name}.toml")), ok(here, &entry)).expect("writes");
    }
    let new = "genesis new --name test --validators a.toml --validators b.toml --chain 901 --chain 7:opaque";
    json(here, new)
}

#[test]
fn genesis_is_made_from_entries_and_shown() {
    let here = directory();
    let made = genesis(here.path());
    assert_eq!(made, json(here.path(), "genesis show"));
    assert_eq!(made["chains"][0]["id"], 7);
    assert_eq!(made["chains"][0]["kind"], "opaque");
    assert_eq!(made["validators"].as_array().expect("a list").len(), 2);
    let text = ok(here.path(), "genesis show --genesis genesis.toml");
    assert!(text.contains(made["network_id"].as_str().expect("is text")), "{text}");
    let again = "genesis new --name test --validators a.toml --validators b.toml";
    fails(here.path(), 1, again, &["genesis.toml exists"]);
}

#[test]
fn wrong_genesis_is_refused_by_file_field_and_reason() {
    let here = directory();
    genesis(here.path());
    let path = here.path().join("genesis.toml");
    let good = fs::read_to_string(&path).expect("is there");
    let cases = [
        (
            "block_interval_ms = 250",
            "block_interval_ms = 1",
            "block_interval_ms is 1, expected 10..=10000",
        ),
        ("power = 1", "power = 0", "voting power of validator"),
        ("kind = \"opaque\"", "kind = \"wasm\"", "unknown variant `wasm`"),
        ("name = \"test\"", "nom = \"test\"", "unknown field `nom`"),
        ("/p2p/", "/p2q/", "validators[0].network_address"),
    ];
    for (from, to, expected) in cases {
        assert!(good.contains(from), "{from}");
        fs::write(&path, good.replacen(from, to, 1)).expect("writes");
        fails(here.path(), 1, "genesis show", &["genesis.toml: ", expected]);
    }
    let twice = "genesis new --name test --validators a.toml --validators a.toml --out c.toml";
    fails(here.path(), 1, twice, &["another validator's already"]);
    assert!(!here.path().join("c.toml").exists());
    let address = "genesis validator-entry --keys a --address 127.0.0.1:26600";
    fails(here.path(), 1, address, &["--address", "expected /ip4"]);
}

#[test]
fn wrong_node_options_are_refused_by_file_field_and_reason() {
    let here = directory();
    let write = |text: &str| fs::write(here.path().join("node.toml"), text).expect("writes");
    let node = "node --config node.toml";
    fails(here.path(), 1, node, &["cannot read node.toml"]);
    let good = "home = \"data\"\ngenesis = \"genesis.toml\"\n[validator]\n\
        validator_key = \"validator.key\"\nnetwork_key = \"network.key\"\n";
    write(&format!("{good}bach_delay_ms = 5"));
    fails(here.path(), 1, node, &["node.toml: ", "unknown field `bach_delay_ms`"]);
    write(&format!("{good}[grpc]\nlisten = \"0.0.0.0:26601\""));
    fails(here.path(), 1, node, &["node.toml: grpc.listen: 0.0.0.0:26601 is not on loopback"]);
    write(good);
    fails(here.path(), 1, node, &["cannot read", "genesis.toml"]);
}

/// Keys, genesis and options of one validator, whose home is `home`.
fn validator(here: &Path) {
    ok(here, "keys generate --out keys");
    let entry = ok(here, "genesis validator-entry --keys keys --address /ip4/127.0.0.1/tcp/26600");
    fs::write(here.join("entry.toml"), entry).expect("writes");
    ok(here, "genesis new --name test --validators entry.toml --chain 901");
    let options = "home = \"home\"\ngenesis = \"genesis.toml\"\n[validator]\n\
        validator_key = \"keys/validator.key\"\nnetwork_key = \"keys/network.key\"\n";
    fs::write(here.join("node.toml"), options).expect("writes");
}

#[test]
fn validator_without_a_guard_does_not_start_and_leaves_no_data() {
    let here = directory();
    validator(here.path());
    let expected =
        ["no guard in", "home/guard", "set `guard_dir`", "`lockstep init --lost`", "lost-data.md"];
    fails(here.path(), 1, "node --config node.toml", &expected);
    assert!(!here.path().join("home/data").exists());
    ok(here.path(), "init --config node.toml");
}

#[test]
fn init_makes_a_guard_once_and_says_what_it_waits_for() {
    let here = directory();
    validator(here.path());
    let made = json(here.path(), "init --config node.toml");
    assert_eq!(made["origin"], "fresh");
    let at = made["made_at_ms"].as_u64().expect("is a time");
    assert_eq!(made["signs_after_ms"].as_u64(), Some(at + 1_000));
    assert!(here.path().join("home/guard/guard.log").is_file());
    let bytes = fs::read(here.path().join("home/guard/guard.log")).expect("reads");
    fails(here.path(), 1, "init --config node.toml", &["guard.log is there", "--lost"]);
    fails(
        here.path(),
        1,
        "init --config node.toml --lost",
        &["guard.log exists and is not replaced"],
    );
    assert_eq!(fs::read(here.path().join("home/guard/guard.log")).expect("reads"), bytes);
    fs::remove_dir_all(here.path().join("home/guard")).expect("removes");
    let text = ok(here.path(), "init --config node.toml --lost");
    for expected in ["lost, made at", "above the first decided block", "500 ms behind"] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn fresh_guard_is_refused_where_a_node_ran_and_a_lost_one_is_not() {
    for file in
        ["home/data/store/CURRENT", "home/data/consensus.wal", "home/guard/guard.log.torn-at-256"]
    {
        let here = directory();
        validator(here.path());
        let path = here.path().join(file);
        fs::create_dir_all(path.parent().expect("has one")).expect("makes");
        fs::write(&path, "x").expect("writes");
        fails(here.path(), 1, "init --config node.toml", &["so a node has run here", "--lost"]);
        assert!(!here.path().join("home/guard/guard.log").exists());
        ok(here.path(), "init --config node.toml --lost");
    }
    let here = directory();
    validator(here.path());
    let options = fs::read_to_string(here.path().join("node.toml")).expect("reads");
    fs::write(here.path().join("node.toml"), format!("{options}wal_dir = \"wal\""))
        .expect("writes");
    fs::create_dir(here.path().join("wal")).expect("makes");
    fs::write(here.path().join("wal/consensus.wal.follower"), "x").expect("writes");
    fails(here.path(), 1, "init --config node.toml", &["wal/consensus.wal.follower is there"]);
}

#[test]
fn init_is_refused_while_the_node_runs_and_for_a_node_that_follows() {
    let here = directory();
    validator(here.path());
    let home = lockstep_node::home::Home::lock(&here.path().join("home")).expect("is free");
    fails(here.path(), 1, "init --config node.toml --lost", &["in use by process"]);
    drop(home);
    let text =
        "home = \"home\"\ngenesis = \"genesis.toml\"\n[follow]\nendpoints = [\"http://a:1\"]";
    fs::write(here.path().join("node.toml"), text).expect("writes");
    fails(here.path(), 1, "init --config node.toml", &["signs nothing and has no guard"]);
}

#[test]
fn node_whose_home_is_in_use_names_the_process() {
    let here = directory();
    let text =
        "home = \"data\"\ngenesis = \"genesis.toml\"\n[follow]\nendpoints = [\"http://a:1\"]";
    fs::write(here.path().join("node.toml"), text).expect("writes");
    let _home = lockstep_node::home::Home::lock(&here.path().join("data")).expect("is free");
    let expected = format!("in use by process {}", std::process::id());
    fails(here.path(), 1, "node --config node.toml", &[&expected]);
}

#[test]
fn endpoint_where_nobody_listens_is_named() {
    let here = directory();
    let tx = format!("submit tx --chain 901 --raw 0x01 --endpoint {NOBODY}");
    fails(here.path(), 1, &tx, &["error: ", NOBODY]);
    let slice = format!("slice --chain 901 --endpoint {NOBODY}");
    fails(here.path(), 1, &slice, &["error: ", NOBODY]);
    fails(here.path(), 1, "slice --chain 901 --from 9 --to 8", &["--from 9 is after --to 8"]);
    let ran = run(here.path(), &format!("{tx} --json"));
    let error: Value = serde_json::from_str(ran.stderr.trim()).expect("is json");
    assert!(error["error"]["reason"].as_str().expect("is text").contains(NOBODY), "{error}");
}

#[test]
fn wrong_submissions_are_refused_before_anything_is_sent() {
    let here = directory();
    let tx = |raw: &str| format!("submit tx --chain 901 --raw {raw} --endpoint {NOBODY}");
    fails(here.path(), 1, &tx("0xzz"), &["--raw is not hex"]);
    fails(here.path(), 1, &tx("0x"), &["--raw is empty"]);
    fs::write(here.path().join("bundle.json"), "{\"legs\": []}").expect("writes");
    let bundle = format!("submit bundle --file bundle.json --endpoint {NOBODY}");
    fails(here.path(), 1, &bundle, &["bundle.json", "0 legs, expected 2..=16"]);
    fails(here.path(), 1, "submit bundle --file nothing.json", &["reading nothing.json"]);
}

#[test]
fn devnet_leaves_other_peoples_directories_alone() {
    let here = directory();
    fs::create_dir(here.path().join("photos")).expect("makes it");
    fs::write(here.path().join("photos/cat.jpg"), "meow").expect("writes");
    fails(here.path(), 1, "devnet --log-only --dir photos", &["photos has files in it", "--dir"]);
    assert!(here.path().join("photos/cat.jpg").exists());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("has one").port();
    let taken = format!("devnet --log-only --dir d --base-port {port}");
    fails(here.path(), 1, &taken, &[&format!("port {port} is taken")]);
}
