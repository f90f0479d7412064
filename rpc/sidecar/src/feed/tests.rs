//! Which blocks the feed takes, and when it says that the committee has failed.

use alloy_primitives::{Address, B256};
use lockstep_core::params::{Genesis, NetworkParams};
use lockstep_core::signing::SigningKey;
use lockstep_core::types::{NetworkId, Round};
use lockstep_core::validator_set::{Validator, ValidatorSet};

use super::*;

fn feed() -> Feed {
    let key = SigningKey::from_bytes([1; 32]).expect("a key");
    let (address, public_key) = (key.address(), key.public_key());
    let validator = Validator { address, public_key, power: 1, network_address: String::new() };
    let genesis = Genesis {
        name: "feed".to_owned(),
        timestamp: UnixMillis(1),
        params: NetworkParams::default(),
        validators: ValidatorSet::new(vec![validator]).expect("a set"),
        chains: Vec::new(),
    };
    let trust = LightClient::from_genesis(&genesis, UnixMillis(1)).expect("is valid");
    Feed::new((ChainId(901), ChainKind::Evm), Vec::new(), trust)
}

/// Headers of one height differ by `variant`.
fn header(height: u64, variant: u8) -> Header {
    Header {
        network_id: NetworkId(B256::repeat_byte(1)),
        height: Height(height),
        round: Round(0),
        parent: BlockHash(B256::repeat_byte(3)),
        timestamp_ms: UnixMillis(height * 250),
        proposer: Address::repeat_byte(4),
        validators_hash: B256::repeat_byte(5),
        next_validators_hash: B256::repeat_byte(6),
        set_since: Height(1),
        cut_hash: B256::repeat_byte(7),
        slices_root: B256::repeat_byte(8),
        state_hash: B256::repeat_byte(variant),
    }
}

fn take(feed: &Feed, header: &Header) {
    feed.insert(header, None, &feed.trust());
}

#[test]
fn heights_come_in_order_and_each_once() {
    let feed = feed();
    for height in [2, 1, 1, 3, 2, 5] {
        take(&feed, &header(height, 0));
    }
    let newest = *feed.newest().borrow();
    assert_eq!(newest, Newest { height: Height(2), timestamp: UnixMillis(500), is_forked: false });
    assert_eq!(feed.after(Height(1)).len(), 1);
}

#[test]
fn two_blocks_of_one_height_are_a_fork() {
    let feed = feed();
    take(&feed, &header(1, 0));
    take(&feed, &header(2, 0));
    take(&feed, &header(1, 1));
    assert!(feed.newest().borrow().is_forked);
}

/// Two endpoints bring them in the same moment: both were new when they were looked at first.
#[test]
fn two_blocks_of_one_height_at_once_are_a_fork() {
    let feed = feed();
    for variant in [0, 1] {
        let header = header(1, variant);
        feed.put(&header, LogBlock::new(&header, feed.kind, None), &feed.trust());
    }
    assert!(feed.newest().borrow().is_forked);
}
