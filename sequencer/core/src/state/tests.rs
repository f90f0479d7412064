//! The state at the genesis, and what `state_hash` commits to.

use super::*;
use crate::block::fixtures::{A, B, Net, UNKNOWN, keys, validators};

fn committed() -> Committed {
    Net::new(3).state.committed
}

#[test]
fn the_genesis_has_full_buckets_and_empty_lanes() {
    let state = Net::new(3).state;
    assert_eq!((state.height, state.head.0), (Height::GENESIS, state.network_id.0));
    assert_eq!(state.committed.set_since, Height(1));
    assert!(state.committed.lanes.iter().all(LanePosition::is_start));
    assert_eq!(state.committed.lanes.len(), 3);
    assert_eq!(state.committed.wasted, [0; 3]);
    assert_eq!(state.committed.validators, state.committed.next_validators);
    for ChainState { params, gas, bytes } in &state.committed.chains {
        assert_eq!((*gas, *bytes), (params.gas_capacity(), params.bytes_capacity()));
    }
    assert_eq!(State::from_canonical(&state.to_canonical()), Ok(state));
}

#[test]
fn chains_are_found_by_id() {
    let committed = committed();
    assert_eq!(committed.chain(A).map(|chain| chain.params.id), Some(A));
    assert_eq!(committed.chain(B).map(|chain| chain.params.id), Some(B));
    assert_eq!(committed.chain(UNKNOWN), None);
}

/// One state per field, each with another value in that field alone.
macro_rules! each_field {
    ($($field:ident => $value:expr),+ $(,)?) => {{
        let Committed { $($field: _),+ } = committed();
        [$((stringify!($field), Committed { $field: $value, ..committed() })),+]
    }};
}

#[test]
fn the_hash_changes_with_each_field() {
    let mut lanes = committed().lanes;
    lanes[1].sequence.0 += 1;
    let mut chains = committed().chains;
    chains[0].bytes -= 1;
    let mut params = committed().params;
    params.drift_ms += 1;
    let vote = PendingVote { proposal: B256::ZERO, voters: vec![], expires: UnixMillis(1) };
    let missed = MissedTurns { validator: Address::ZERO, count: 1 };
    let table = each_field! {
        lanes => lanes,
        wasted => vec![0, 0, 1],
        chains => chains,
        params => params,
        validators => validators(&keys(4)),
        next_validators => validators(&keys(4)),
        set_since => Height(2),
        votes => vec![vote],
        missed => vec![missed],
    };
    let mut hashes = vec![committed().hash()];
    for (field, changed) in table {
        let bytes = changed.to_canonical();
        assert_eq!(Committed::from_canonical(&bytes), Ok(changed.clone()), "{field}");
        assert!(!hashes.contains(&changed.hash()), "{field}");
        hashes.push(changed.hash());
    }
}
