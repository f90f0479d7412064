//! What other validators send on the lanes: batches, acknowledgements, requests.
//!
//! A peer has at most [`CHECKS_PER_PEER_MAX`] batches being checked; its next ones wait in its stream. Batches of one
//! peer keep their order up to the writer's queue, as far as the checks end in order; gaps are kept and filled.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use lockstep_core::batch::{Acknowledgement, Batch, BatchPosition};
use lockstep_core::lane::BatchRange;
use lockstep_core::types::Sequence;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::warn;

use super::wire::LaneMessage;
use super::{Lanes, REQUEST_BATCHES_MAX, ToWrite, refuse};
use crate::mesh::Inbound;
use crate::mesh::class::Class;
use crate::store::{LogStore, StoreError};

/// Batches of one peer that are checked at a time.
const CHECKS_PER_PEER_MAX: usize = 8;

/// Runs until the mesh ends.
pub(super) async fn run(lanes: Lanes, mut inbound: mpsc::Receiver<Inbound>) {
    let mut permits: BTreeMap<PeerId, Arc<Semaphore>> = BTreeMap::new();
    while let Some(Inbound { from, body, .. }) = inbound.recv().await {
        let message = match LaneMessage::decode(body) {
            Ok(message) => message,
            Err(error) => {
                refuse(&lanes.shared.mesh, from, &error);
                continue;
            }
        };
        let semaphore = permits
            .entry(from)
            .or_insert_with(|| Arc::new(Semaphore::new(CHECKS_PER_PEER_MAX)))
            .clone();
        let Ok(permit) = semaphore.acquire_owned().await else { return };
        let lanes = lanes.clone();
        tokio::spawn(async move { handle(lanes, from, message, permit).await });
    }
}

async fn handle(lanes: Lanes, from: PeerId, message: LaneMessage, permit: OwnedSemaphorePermit) {
    match message {
        LaneMessage::Batch(raw) => on_batch(&lanes, from, raw).await,
        LaneMessage::Acknowledgement(ack) => on_acknowledgement(&lanes, from, ack).await,
        LaneMessage::Request(range) => on_request(&lanes, from, range).await,
    }
    drop(permit);
}

async fn on_batch(lanes: &Lanes, from: PeerId, raw: Bytes) {
    // The cheap half first: a batch that nobody wants costs no signature check.
    match Batch::decode(lanes.shared.config.network, raw.clone().into()) {
        Ok(batch) if !lanes.table().wants(&batch.header().position) => return,
        Ok(_) => {}
        Err(error) => return refuse(&lanes.shared.mesh, from, &error),
    }
    match lanes.shared.checker.check_batch(raw).await {
        Ok(batch) => {
            let write = ToWrite { batch, is_own: false, stored: None };
            // The writer is gone only when the node stops.
            drop(lanes.shared.to_writer.send(write).await);
        }
        Err(error) => warn!(%from, %error, "refused a batch"),
    }
}

async fn on_acknowledgement(lanes: &Lanes, from: PeerId, ack: Acknowledgement) {
    let Some(&validator) = lanes.shared.config.validators.get(&from) else { return };
    if ack.network != lanes.shared.config.network {
        return refuse(&lanes.shared.mesh, from, &"acknowledgement of another network");
    }
    match lanes.shared.checker.signer(ack.clone()).await {
        Ok(signer) if signer == validator => {
            lanes.table().acknowledge(validator, &ack);
            if lanes.waiting() > 0 {
                lanes.shared.own_wakes.notify_one();
            }
        }
        Ok(signer) => {
            let reason = format!("acknowledgement of {validator} is signed by {signer}");
            refuse(&lanes.shared.mesh, from, &reason);
        }
        Err(error) => refuse(&lanes.shared.mesh, from, &error),
    }
}

/// The batches of a range that are held, up to the first that is not.
fn read_range(
    store: &LogStore,
    range: &BatchRange,
    last: Sequence,
) -> Result<Vec<Bytes>, StoreError> {
    let BatchRange { owner, incarnation, first, .. } = *range;
    let mut batches = Vec::new();
    for sequence in (first.0..=last.0).map(Sequence) {
        match store.batch(&BatchPosition { owner, incarnation, sequence })? {
            Some(raw) => batches.push(raw.into()),
            None => break,
        }
    }
    Ok(batches)
}

async fn on_request(lanes: &Lanes, from: PeerId, range: BatchRange) {
    let last = range.first.0.saturating_add(REQUEST_BATCHES_MAX.saturating_sub(1));
    let last = Sequence(range.last.0.min(last));
    let store = lanes.shared.store.clone();
    let read = tokio::task::spawn_blocking(move || read_range(&store, &range, last)).await;
    let Ok(Ok(batches)) = read else {
        warn!(%from, "cannot read the batches that a peer asked for");
        return;
    };
    for raw in batches {
        let frame = LaneMessage::Batch(raw).encode();
        if lanes.shared.mesh.send(from, Class::Lanes, frame).is_err() {
            return; // It asks again for what it still lacks.
        }
    }
}
