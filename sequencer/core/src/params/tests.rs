//! Ranges of every parameter, at both ends; the network id commits to all of them.

use super::*;
use crate::block::fixtures::{key, keys, validators};

fn genesis() -> Genesis {
    let chain = |id: u64, kind| ChainParams {
        id: ChainId(id),
        kind,
        block_time_ms: 2_000,
        gas_per_second: 21_000,
        bytes_per_second: 1_000,
        transaction_gas_max: 21_000,
        sequencers: vec![key(9).address()],
        gateways: Vec::new(),
        joins_at: 0,
    };
    Genesis {
        name: "test".to_owned(),
        timestamp: UnixMillis(1),
        params: NetworkParams::default(),
        validators: validators(&keys(3)),
        chains: vec![chain(901, ChainKind::Evm), chain(902, ChainKind::Opaque)],
    }
}

type Set = fn(&mut Genesis, u64);

/// Every number with a range: its name, least, greatest, and how to set it.
const RANGES: [(&str, u64, u64, Set); 20] = [
    ("block_interval_ms", 10, 10_000, |g, n| g.params.block_interval_ms = n),
    ("delay_ms", 1, 60_000, |g, n| g.params.delay_ms = n),
    ("drift_ms", 1, 60_000, |g, n| g.params.drift_ms = n),
    ("propose_ms", 10, 8_000, |g, n| g.params.propose_ms = n),
    ("prevote_ms", 10, 8_000, |g, n| g.params.prevote_ms = n),
    ("precommit_ms", 10, 8_000, |g, n| g.params.precommit_ms = n),
    ("timeout_delta_ms", 1, 8_000, |g, n| g.params.timeout_delta_ms = n),
    ("open_share_percent", 0, 100, |g, n| g.params.open_share_percent = n),
    ("lead_ms", 1, 10_000, |g, n| g.params.lead_ms = n),
    ("name", 1, 64, |g, n| g.name = "x".repeat(n as usize)),
    ("timestamp", 1, 1 << 44, |g, n| g.timestamp = UnixMillis(n)),
    ("id", 1, 901, |g, n| g.chains[0].id = ChainId(n)),
    ("gas_per_second", 21_000, 1 << 40, |g, n| g.chains[0].gas_per_second = n),
    ("gas_per_second", 0, 1 << 40, |g, n| g.chains[1].gas_per_second = n),
    ("bytes_per_second", 1, 1 << 32, |g, n| g.chains[0].bytes_per_second = n),
    ("transaction_gas_max", 21_000, 128_000_000, |g, n| g.chains[0].transaction_gas_max = n),
    ("transaction_gas_max", 0, 128_000_000, |g, n| g.chains[1].transaction_gas_max = n),
    ("block_time_ms", 0, 60_000, |g, n| g.chains[0].block_time_ms = n),
    ("sequencers", 0, 16, |g, n| g.chains[0].sequencers = addresses(n)),
    ("gateways", 0, 16, |g, n| g.chains[0].gateways = addresses(n)),
];

fn addresses(count: u64) -> Vec<Address> {
    (1..=count).map(|n| Address::with_last_byte(n as u8)).collect()
}

fn with(set: Set, n: u64) -> Result<(), InvalidGenesis> {
    let mut genesis = genesis();
    set(&mut genesis, n);
    genesis.validate()
}

#[test]
fn every_range_holds_at_both_ends() {
    assert_eq!(genesis().validate(), Ok(()));
    for (field, min, max, set) in RANGES {
        assert_eq!(with(set, min), Ok(()), "{field} {min}");
        assert_eq!(with(set, max), Ok(()), "{field} {max}");
        if min > 0 {
            let got = min - 1;
            let error = with(set, got).unwrap_err();
            let is_named = matches!(error, InvalidGenesis::OutOfRange { field: f, got: g, .. } if f == field && g == got);
            assert!(is_named, "{field} {got}: {error}");
        }
        if field != "id" {
            let got = max + 1;
            assert_eq!(with(set, got), Err(InvalidGenesis::OutOfRange { field, got, min, max }));
        }
    }
}

#[test]
fn timeouts_stay_below_the_greatest() {
    let mut genesis = genesis();
    for (ms, is_valid) in [(99, false), (400, true), (399, false), (60_000, true), (60_001, false)]
    {
        genesis.params.timeout_ms_max = ms;
        assert_eq!(genesis.validate().is_ok(), is_valid, "{ms}");
    }
}

#[test]
fn chains_and_keys_are_unique_and_ascending() {
    let mut twice = genesis();
    twice.chains[1].id = ChainId(901);
    assert_eq!(twice.validate(), Err(InvalidGenesis::ChainOrder { id: ChainId(901) }));
    let mut backward = genesis();
    backward.chains.reverse();
    assert_eq!(backward.validate(), Err(InvalidGenesis::ChainOrder { id: ChainId(901) }));

    let [a, b] = [Address::with_last_byte(1), Address::with_last_byte(2)];
    for keys in [vec![a, a], vec![b, a]] {
        let id = ChainId(901);
        let mut genesis = genesis();
        genesis.chains[0].sequencers = keys.clone();
        let expected = InvalidGenesis::KeyOrder { id, field: "sequencers" };
        assert_eq!(genesis.validate(), Err(expected));
        genesis.chains[0].sequencers = vec![a, b];
        genesis.chains[0].gateways = keys;
        assert_eq!(genesis.validate(), Err(InvalidGenesis::KeyOrder { id, field: "gateways" }));
    }
    let mut many = genesis();
    let chain = many.chains[1].clone();
    many.chains = (1..=CHAINS_MAX as u64)
        .map(|id| ChainParams { id: ChainId(id), ..chain.clone() })
        .collect();
    assert_eq!(many.validate(), Ok(()));
    many.chains.push(ChainParams { id: ChainId(5_000), ..chain });
    let expected = InvalidGenesis::OutOfRange { field: "chains", got: 1_025, min: 0, max: 1_024 };
    assert_eq!(many.validate(), Err(expected));
}

#[test]
fn a_genesis_of_no_validators_does_not_decode() {
    let refused = InvalidGenesis::from(InvalidValidatorSet::Count { count: 0 });
    assert_eq!(refused.to_string(), "validators: 0 validators, expected 1..=100");
    let bytes = genesis().to_canonical();
    assert_eq!(Genesis::from_canonical(&bytes), Ok(genesis()));
    let set = alloy_rlp::encode(genesis().validators);
    let at = bytes.windows(set.len()).position(|window| window == set).unwrap();
    let mut none = vec![0xc0];
    let (before, after) = (&bytes[4..at], &bytes[at + set.len()..]);
    none = [before, &none, after].concat();
    let mut whole = vec![1];
    alloy_rlp::Header { list: true, payload_length: none.len() }.encode(&mut whole);
    whole.extend(none);
    let error = Genesis::from_canonical(&whole).unwrap_err();
    assert_eq!(error.to_string(), "not canonical RLP: not a validator set");
}

#[test]
fn the_network_id_commits_to_every_parameter() {
    let mut ids = vec![genesis().network_id()];
    let mut add = |set: &dyn Fn(&mut Genesis)| {
        let mut genesis = genesis();
        set(&mut genesis);
        ids.push(genesis.network_id());
    };
    for (_, _, max, set) in RANGES {
        add(&|genesis| set(genesis, max));
    }
    add(&|genesis| genesis.params.timeout_ms_max += 1);
    add(&|genesis| genesis.chains[0].kind = ChainKind::Opaque);
    add(&|genesis| genesis.chains[0].joins_at += 1);
    add(&|genesis| genesis.validators = validators(&keys(4)));
    add(&|genesis| {
        genesis.chains.pop();
    });
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    // Chain 901 has the id 901 and the kind EVM already: setting its greatest id changes nothing.
    assert_eq!(ids.len(), count - 1);
}

#[test]
fn a_bucket_holds_two_seconds_or_the_largest_entry() {
    let mut chain = genesis().chains[0].clone();
    assert_eq!(chain.gas_capacity(), ENTRY_GAS_MAX);
    assert_eq!(chain.bytes_capacity(), ENTRY_BYTES_MAX as u64);
    chain.gas_per_second = ENTRY_GAS_MAX;
    chain.bytes_per_second = 1 << 20;
    assert_eq!(chain.gas_capacity(), 2 * ENTRY_GAS_MAX);
    assert_eq!(chain.bytes_capacity(), 2 << 20);
}

#[test]
fn unknown_kinds_of_chain_are_refused() {
    for (byte, expected) in [(1u8, Some(ChainKind::Evm)), (2, Some(ChainKind::Opaque)), (3, None)] {
        assert_eq!(ChainKind::decode(&mut [byte].as_slice()).ok(), expected);
    }
    assert!(ChainKind::decode(&mut [0x80].as_slice()).is_err());
}
