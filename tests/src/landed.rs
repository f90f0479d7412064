//! Where the log has entries, as nodes tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lockstep_core::types::{EntryId, Height};
use lockstep_proto::convert::ingress::{EntryState, StatusKey};
use lockstep_rpc::client::IngressClient;

use crate::node::Node;
use crate::wait::until;

/// Height, and index in the block.
pub type Place = (Height, u32);

/// What a node says of an entry; `None` if it knows nothing of it.
pub async fn state(client: &mut IngressClient, id: EntryId) -> Option<EntryState> {
    match client.status(StatusKey::Id(id)).await {
        Ok(status) => Some(status.state),
        Err(error) if error.is_not_found() => None,
        Err(error) => panic!("status of {id}: {error}"),
    }
}

/// Where a node says that the log has an entry.
pub async fn place(client: &mut IngressClient, id: EntryId) -> Option<Place> {
    match state(client, id).await? {
        EntryState::Decided(decided) => Some((decided.height, decided.index)),
        EntryState::Received | EntryState::Dropped(_) => None,
    }
}

/// Waits until each of these nodes has all of these entries decided; fails unless all say the same place.
pub async fn until_landed(
    nodes: impl IntoIterator<Item = &Node>,
    ids: &[EntryId],
    patience: Duration,
) -> BTreeMap<EntryId, Place> {
    let begin = Instant::now();
    let mut places: BTreeMap<EntryId, BTreeSet<Place>> = BTreeMap::new();
    for node in nodes {
        let mut client = node.ingress().await;
        for id in ids {
            let what = format!("{} says that {id} is decided", node.name);
            let left = patience.saturating_sub(begin.elapsed());
            let at = until(&what, left, async || place(&mut client, *id).await).await;
            places.entry(*id).or_default().insert(at);
        }
    }
    let only = |(id, mut all): (EntryId, BTreeSet<Place>)| {
        assert_eq!(all.len(), 1, "nodes disagree on {id}: {all:?}");
        all.pop_first().map(|place| (id, place))
    };
    places.into_iter().filter_map(only).collect()
}
