//! Tests of the node's file: the sample, the defaults, and every refusal.

use super::*;
use crate::toml_file::FileError;
use std::path::Path;

const SAMPLE: &str = include_str!("../../../../deploy/config/node.toml");

const VALIDATOR: &str = r#"
home = "data"
genesis = "genesis.toml"
[validator]
validator_key = "keys/validator.key"
network_key = "keys/network.key"
"#;

const FOLLOWER: &str = r#"
home = "data"
genesis = "genesis.toml"
[follow]
endpoints = ["http://127.0.0.1:26601"]
"#;

fn check(text: &str) -> Result<NodeConfig, String> {
    let options: NodeOptions = toml::from_str(text).map_err(|error| error.to_string())?;
    options
        .validate(Path::new("/etc/lockstep"))
        .map_err(|(field, reason)| format!("{field}: {reason}"))
}

fn refused(text: &str, expected: &str) {
    let error = check(text).expect_err(text);
    assert!(error.contains(expected), "{text}\n{error}");
}

#[test]
fn sample_parses_and_names_every_option_and_its_default() {
    let sample: NodeOptions = toml::from_str(SAMPLE).expect("the sample parses");
    assert!(check(SAMPLE).is_ok());
    assert_eq!(sample.grpc, GrpcOptions { reflection: false, ..GrpcOptions::default() });
    assert_eq!(sample.http, HttpOptions::default());
    assert_eq!(sample.log, LogOptions::default());
    let validator = sample.validator.expect("the sample is a validator's");
    assert_eq!(validator.listen, default_mesh_listen());
    assert_eq!(validator.batch_delay_ms, default_batch_delay_ms());
    let names = [
        "home",
        "genesis",
        "check_threads",
        "[validator]",
        "validator_key",
        "network_key",
        "listen",
        "batch_delay_ms",
        "guard_dir",
        "[follow]",
        "endpoints",
        "[grpc]",
        "insecure",
        "reflection",
        "[grpc.tls]",
        "cert",
        "key",
        "[grpc.quota]",
        "submissions_per_second",
        "bytes_per_second",
        "[http]",
        "[log]",
        "filter",
        "format",
        "[faults]",
        "[[chain_rpc]]",
        "chain",
        "url",
    ];
    for name in names {
        assert!(SAMPLE.contains(name), "the sample does not show {name}");
    }
}

#[test]
fn relative_paths_are_from_the_files_directory() {
    let config = check(VALIDATOR).expect("is valid");
    assert_eq!(config.home, Path::new("/etc/lockstep/data"));
    assert_eq!(config.genesis, Path::new("/etc/lockstep/genesis.toml"));
    let Role::Validator(validator) = config.role else { panic!("a validator") };
    assert_eq!(validator.validator_key, Path::new("/etc/lockstep/keys/validator.key"));
    assert!(config.check_threads.get() >= 1);
}

#[test]
fn node_is_a_validator_or_a_follower() {
    assert!(matches!(check(FOLLOWER).expect("is valid").role, Role::Follower { .. }));
    let known =
        format!("{FOLLOWER}ca = \"ca.pem\"\nidentity = {{ cert = \"c.pem\", key = \"c.key\" }}\n");
    let Role::Follower { endpoints } = check(&known).expect("is valid").role else {
        panic!("a follower")
    };
    for endpoint in endpoints {
        assert!(endpoint.authority.is_some_and(|file| file.is_absolute()));
        assert!(endpoint.identity.is_some_and(|(c, k)| c.is_absolute() && k.is_absolute()));
    }
    refused(&format!("{VALIDATOR}[follow]\nendpoints = [\"http://a:1\"]"), "follow: a node is");
    refused("home = \"a\"\ngenesis = \"b\"", "validator: neither");
    refused(&FOLLOWER.replace("http://", ""), "follow.endpoints: \"127.0.0.1:26601\" is not");
    refused(&FOLLOWER.replace("\"http://127.0.0.1:26601\"", ""), "follow.endpoints: 0 endpoints");
    let loss = "[[faults.losses]]\nclass = \"votes\"";
    refused(&format!("{FOLLOWER}{loss}"), "faults: they are the mesh's");
}

#[test]
fn unknown_fields_are_refused_everywhere() {
    let tables = ["", "[grpc]\n", "[grpc.quota]\n", "[http]\n", "[log]\n", "[faults]\n"];
    for table in tables {
        let text = match table {
            "" => format!("nonsense = 1\n{VALIDATOR}"),
            table => format!("{VALIDATOR}{table}nonsense = 1"),
        };
        refused(&text, "unknown field `nonsense`");
    }
    refused(&format!("{VALIDATOR}nonsense = 1"), "unknown field `nonsense`");
    refused(&format!("{FOLLOWER}nonsense = 1"), "unknown field `nonsense`");
}

#[test]
fn off_loopback_only_with_tls_or_an_explicit_flag() {
    let at = |rest: &str| format!("{VALIDATOR}[grpc]\nlisten = \"0.0.0.0:26601\"\n{rest}");
    refused(&at(""), "grpc.listen: 0.0.0.0:26601 is not on loopback");
    let tls = "[grpc.tls]\ncert = \"a.pem\"\nkey = \"b.pem\"";
    let config = check(&at(tls)).expect("is valid");
    assert_eq!(config.grpc.tls.expect("is set").key, Path::new("/etc/lockstep/b.pem"));
    assert!(check(&at("insecure = true")).is_ok());
    refused(&at(&format!("insecure = true\n{tls}")), "grpc.insecure: plain text");
    let http = format!("{VALIDATOR}[http]\nlisten = \"10.0.0.1:26602\"");
    refused(&http, "http.listen: 10.0.0.1:26602 is not on loopback");
    assert!(check(&format!("{http}\ninsecure = true")).is_ok());
}

#[test]
fn listeners_have_a_port_each() {
    let http = |port| format!("{VALIDATOR}[http]\nlisten = \"127.0.0.1:{port}\"");
    refused(&http(26_601), "http.listen: port 26601");
    refused(&http(26_600), "http.listen: port 26600");
    assert!(check(&http(26_603)).is_ok());
    let zeros = format!("{}\n[grpc]\nlisten = \"127.0.0.1:0\"", http(0));
    assert!(check(&zeros).is_ok(), "port 0 takes a free one");
}

#[test]
fn numbers_have_ranges() {
    refused(&format!("check_threads = 257\n{VALIDATOR}"), "check_threads: 257, expected 0..=256");
    assert!(check(&format!("check_threads = 256\n{VALIDATOR}")).is_ok());
    let delay = |ms| format!("{VALIDATOR}batch_delay_ms = {ms}");
    refused(&delay(1_001), "validator.batch_delay_ms: 1001, expected 0..=1000");
    assert!(check(&delay(1_000)).is_ok());
    let quota = |line: &str| format!("{VALIDATOR}[grpc.quota]\n{line}");
    refused(&quota("submissions_per_second = 0"), "grpc.quota.submissions_per_second: 0");
    refused(
        &quota("submissions_per_second = 1000001"),
        "grpc.quota.submissions_per_second: 1000001",
    );
    refused(&quota("bytes_per_second = 0"), "grpc.quota.bytes_per_second: 0");
    refused(&quota("bytes_per_second = 1073741825"), "grpc.quota.bytes_per_second: 1073741825");
}

#[test]
fn mesh_listens_on_an_ip_address_and_a_port() {
    let at = |listen: &str| format!("{VALIDATOR}listen = \"{listen}\"");
    for listen in [
        "127.0.0.1:1",
        "/ip4/1.2.3.4",
        "/dns4/a/tcp/1",
        "/ip4/1.2.3.4/udp/1",
        "/ip4/1.2.3.4/tcp/1/ws",
    ] {
        refused(&at(listen), "validator.listen:");
    }
    assert!(check(&at("/ip6/::1/tcp/0")).is_ok());
}

#[test]
fn faults_are_read_and_checked() {
    let peer = libp2p::PeerId::random();
    let faults = |text: &str| format!("{VALIDATOR}[[faults.delays]]\n{text}");
    let good = faults(&format!("class = \"parts\"\nfrom = \"{peer}\"\ndelay_ms = 600000"));
    let Role::Validator(validator) = check(&good).expect("is valid").role else {
        panic!("a validator")
    };
    let mesh = validator.faults.to_mesh().expect("is valid");
    assert_eq!(mesh.delays.first().expect("one").from, Some(peer));
    refused(&faults("class = \"parts\"\ndelay_ms = 0"), "faults.delays.delay_ms: 0");
    refused(&faults("class = \"parts\"\ndelay_ms = 600001"), "faults.delays.delay_ms: 600001");
    refused(&faults("class = \"parts\"\nfrom = \"x\"\ndelay_ms = 1"), "faults.delays.from: \"x\"");
    refused(&faults("class = \"noise\"\ndelay_ms = 1"), "unknown variant `noise`");
    let losses = format!("{VALIDATOR}{}", "[[faults.losses]]\nclass = \"lanes\"\n".repeat(257));
    refused(&losses, "faults.losses: 257 rules");
}

#[test]
fn engines_are_read_and_checked() {
    let engine =
        |chain: u64, url: &str| format!("[[chain_rpc]]\nchain = {chain}\nurl = \"{url}\"\n");
    let url = "http://127.0.0.1:8545";
    for role in [VALIDATOR, FOLLOWER] {
        let two = format!("{role}{}{}", engine(901, url), engine(902, url));
        let config = check(&two).expect("is valid");
        assert_eq!(
            config.chain_rpc.iter().map(|engine| engine.chain).collect::<Vec<_>>(),
            [901, 902]
        );
        assert_eq!(config.chain_rpc[1].url, url);
        assert_eq!(check(role).expect("is valid").chain_rpc, []);
    }
    let with = |engines: &str| format!("{VALIDATOR}{engines}");
    refused(&with(&engine(0, url)), "chain_rpc.chain: 0 is");
    refused(&with(&engine(901, url).repeat(2)), "chain_rpc.chain: 901 has two engines");
    refused(&with(&engine(901, "https://a:1")), "chain_rpc.url: \"https://a:1\" is not http");
    refused(&with(&engine(901, "127.0.0.1:8545")), "chain_rpc.url:");
    let engines = |count| (1..=count).map(|chain| engine(chain, url)).collect::<String>();
    refused(&with(&engines(65)), "chain_rpc: 65 engines, expected 0..=64");
    assert!(check(&with(&engines(64))).is_ok());
    refused(&with(&format!("{}nonsense = 1", engine(901, url))), "unknown field `nonsense`");
}

#[test]
fn file_is_named_in_every_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.toml");
    let error = NodeConfig::load(&file).unwrap_err();
    assert!(matches!(error, FileError::Read { .. }) && error.to_string().contains("node.toml"));
    std::fs::write(&file, "home = 1").expect("writes");
    let error = NodeConfig::load(&file).unwrap_err();
    assert!(matches!(error, FileError::Syntax { .. }) && error.to_string().contains("node.toml"));
    std::fs::write(&file, format!("check_threads = 999\n{VALIDATOR}")).expect("writes");
    let error = NodeConfig::load(&file).unwrap_err().to_string();
    assert!(error.contains("node.toml: check_threads: 999"), "{error}");
    std::fs::write(&file, "#".repeat(1 << 20)).expect("writes");
    assert!(matches!(NodeConfig::load(&file), Err(FileError::Syntax { .. })), "just at the limit");
    std::fs::write(&file, "#".repeat((1 << 20) + 1)).expect("writes");
    assert!(matches!(NodeConfig::load(&file), Err(FileError::TooLarge { .. })));
    std::fs::write(&file, VALIDATOR).expect("writes");
    assert!(NodeConfig::load(&file).expect("is valid").home.starts_with(directory.path()));
}

#[test]
fn options_survive_their_file() {
    let options: NodeOptions = toml::from_str(VALIDATOR).expect("parses");
    let text = toml::to_string(&options).expect("writes");
    assert_eq!(toml::from_str::<NodeOptions>(&text).expect("parses"), options);
}

#[test]
fn guard_is_beside_the_data_unless_it_is_named() {
    let guard = |text: &str| match check(text).expect("is valid").role {
        Role::Validator(validator) => validator.guard_dir,
        Role::Follower { .. } => panic!("a validator"),
    };
    assert_eq!(guard(VALIDATOR), Path::new("/etc/lockstep/data/guard"));
    assert_eq!(
        check(VALIDATOR).expect("is valid").data_dir(),
        Path::new("/etc/lockstep/data/data")
    );
    let named = format!("{VALIDATOR}guard_dir = \"../guard\"");
    assert_eq!(guard(&named), Path::new("/etc/lockstep/../guard"));
}

#[test]
fn guard_and_data_that_contain_one_another_are_refused_with_both_paths() {
    let data = "/etc/lockstep/data/data";
    for inside in
        [data, "data/data", "data/data/guard", "data/./data/x/../guard", "guard/../data/data"]
    {
        let text = format!("{VALIDATOR}guard_dir = \"{inside}\"");
        refused(&text, "validator.guard_dir: the guard in /etc/lockstep/data/data");
        refused(&text, "and the data in /etc/lockstep/data/data must lie apart");
    }
    for around in ["data", "/etc/lockstep", "/"] {
        refused(&format!("{VALIDATOR}guard_dir = \"{around}\""), "must lie apart");
    }
    let wal = |guard: &str| format!("{VALIDATOR}wal_dir = \"wal\"\nguard_dir = \"{guard}\"");
    refused(&wal("wal/guard"), "the data in /etc/lockstep/wal must lie apart");
    for apart in ["guard", "data/guard", "data/data-guard", "wal-guard"] {
        assert!(check(&wal(apart)).is_ok(), "{apart}");
    }
}
