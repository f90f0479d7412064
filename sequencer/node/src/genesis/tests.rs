//! Tests of the genesis file: the sample, order, and every refusal.

use super::*;
use std::fs;

const SAMPLE: &str = include_str!("../../../../deploy/config/genesis.toml");

fn sample() -> GenesisFile {
    toml::from_str(SAMPLE).expect("the sample parses")
}

fn check(file: &GenesisFile) -> Result<Genesis, String> {
    file.to_genesis(Path::new("g.toml")).map_err(|error| error.to_string())
}

fn refused(change: impl FnOnce(&mut GenesisFile), expected: &str) {
    let mut file = sample();
    change(&mut file);
    let error = check(&file).expect_err(expected);
    assert!(error.starts_with("g.toml: ") && error.contains(expected), "{expected}\n{error}");
}

#[test]
fn sample_is_valid_and_shows_every_default() {
    let genesis = check(&sample()).expect("is valid");
    assert_eq!(genesis.validators.len(), 4);
    assert_eq!(genesis.params, lockstep_core::params::NetworkParams::default());
    let short = sample().chains.into_iter().map(|chain| chain.id).collect::<Vec<_>>();
    assert_eq!(short, [901, 902]);
}

#[test]
fn params_left_out_are_the_defaults() {
    let mut file = sample();
    let (before, _) = SAMPLE.split_once("[params]").expect("the sample has params");
    let (_, after) = SAMPLE.split_once("[[validators]]").expect("the sample has validators");
    let without: GenesisFile =
        toml::from_str(&format!("{before}[[validators]]{after}")).expect("parses");
    file.params = ParamsEntry::default();
    assert_eq!(without, file);
}

#[test]
fn order_in_the_file_means_nothing() {
    let network = |file: &GenesisFile| check(file).expect("is valid").network_id();
    let mut file = sample();
    file.chains[0].gateways = vec![format!("{:#042x}", 2), format!("{:#042x}", 1)];
    let id = network(&file);
    file.validators.reverse();
    file.chains.reverse();
    file.chains[1].gateways.reverse();
    assert_eq!(network(&file), id);
    file.chains[1].gateways.pop();
    assert_ne!(network(&file), id);
}

#[test]
fn genesis_survives_its_file() {
    let genesis = check(&sample()).expect("is valid");
    let text = toml::to_string(&GenesisFile::from_genesis(&genesis)).expect("writes");
    let again: GenesisFile = toml::from_str(&text).expect("parses");
    assert_eq!(check(&again).expect("is valid"), genesis);
}

#[test]
fn every_wrong_field_is_named() {
    refused(|file| file.name.clear(), "name is 0");
    refused(|file| file.timestamp_ms = 0, "timestamp_ms: is 0, expected at least 1000000000000");
    refused(|file| file.timestamp_ms /= 1_000, "timestamp_ms: is 1767225600, expected at least");
    refused(
        |file| file.chains[0].joins_at_seconds = 1_767_225_600_000,
        "chains[0].joins_at_seconds: is 1767225600000, expected 0..=20000000000",
    );
    refused(
        |file| file.chains[0].block_time_ms = 2,
        "chains[0].block_time_ms: is 2, expected 0 or at least 100",
    );
    refused(
        |file| file.params.block_interval_ms = 9,
        "block_interval_ms is 9, expected 10..=10000",
    );
    refused(|file| file.validators.clear(), "0 validators");
    refused(|file| file.validators[2].address = "0x12".into(), "validators[2].address: \"0x12\"");
    refused(
        |file| file.validators[1].public_key = "0x12".into(),
        "validators[1].public_key: \"0x12\"",
    );
    refused(|file| file.validators[3].power = 0, "voting power of validator");
    refused(|file| file.chains[1].id = 901, "chain 901 is not after the one before it");
    refused(|file| file.chains[0].id = 0, "id is 0");
    refused(|file| file.chains[0].gas_per_second = 1, "gas_per_second is 1");
    refused(|file| file.chains[1].gateways = vec!["x".into()], "chains[1].gateways[0]: \"x\"");
    let twice = vec![format!("{:#042x}", 1); 2];
    refused(|file| file.chains[1].sequencers = twice, "sequencers of chain 902");
}

#[test]
fn key_of_another_validator_is_refused() {
    let other = sample().validators[0].public_key.clone();
    refused(|file| file.validators[1].public_key = other, "does not belong to its address");
    let other = sample().validators[0].clone();
    refused(|file| file.validators[1] = other, "is another validator's already");
    let other = sample().validators[0].address.clone();
    refused(|file| file.validators[1].address = other, "is not after the one before it");
}

#[test]
fn network_address_names_host_port_and_peer() {
    let peer = PeerId::random();
    for host in ["/ip4/1.2.3.4", "/ip6/::1", "/dns/a.b", "/dns4/a.b", "/dns6/a.b"] {
        let text = format!("{host}/tcp/26600/p2p/{peer}");
        let (address, got) = split_network_address(&text).expect("is one");
        assert_eq!((address.to_string(), got), (format!("{host}/tcp/26600"), peer));
    }
    let wrong = [
        "1.2.3.4:26600".to_owned(),
        "/ip4/1.2.3.4/tcp/26600".to_owned(),
        format!("/p2p/{peer}"),
        format!("/ip4/1.2.3.4/p2p/{peer}"),
        format!("/ip4/1.2.3.4/udp/26600/p2p/{peer}"),
        format!("/ip4/1.2.3.4/tcp/26600/ws/p2p/{peer}"),
        format!("/ip4/1.2.3.4/tcp/26600/p2p/{peer}/p2p-circuit"),
    ];
    for text in wrong {
        assert!(split_network_address(&text).is_err(), "{text}");
    }
    refused(
        |file| file.validators[0].network_address = "x".into(),
        "validators[0].network_address",
    );
}

#[test]
fn unknown_fields_are_refused_everywhere() {
    for (table, line) in [("[params]", 1), ("[[validators]]", 1), ("[[chains]]", 1)] {
        let text = SAMPLE.replacen(table, &format!("{table}\nnonsense = {line}"), 1);
        let error = toml::from_str::<GenesisFile>(&text).unwrap_err().to_string();
        assert!(error.contains("unknown field `nonsense`"), "{table}: {error}");
    }
    assert!(toml::from_str::<GenesisFile>(&format!("nonsense = 1\n{SAMPLE}")).is_err());
}

#[test]
fn file_is_named_in_every_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("genesis.toml");
    assert!(matches!(GenesisFile::load(&file), Err(GenesisError::File(FileError::Read { .. }))));
    fs::write(&file, "name = 1").expect("writes");
    let error = GenesisFile::load(&file).unwrap_err();
    assert!(
        matches!(error, GenesisError::File(FileError::Syntax { .. }))
            && error.to_string().contains("genesis.toml")
    );
    fs::write(&file, vec![b'#'; (4 << 20) + 1]).expect("writes");
    assert!(matches!(
        GenesisFile::load(&file),
        Err(GenesisError::File(FileError::TooLarge { .. }))
    ));
    fs::write(&file, SAMPLE).expect("writes");
    assert_eq!(GenesisFile::load(&file).expect("is valid"), check(&sample()).expect("is valid"));
}
