//! The one task that writes batches: groups what waits, syncs once, then acknowledges once.

use std::time::Duration;

use lockstep_core::batch::CheckedBatch;
use lockstep_core::lane::Inserted;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{error, warn};

use super::wire::LaneMessage;
use super::{Lanes, ToWrite};
use crate::mesh::class::Class;

/// Batches of one group commit.
const GROUP_MAX: usize = 64;
/// The least time between two group commits: each costs a sync here, and every other validator the check of an
/// acknowledgement. The first batch after a pause is not kept waiting.
const GROUP_INTERVAL: Duration = Duration::from_millis(20);

/// Runs until the store fails or nobody sends any more.
pub(super) async fn run(lanes: Lanes, mut writes: mpsc::Receiver<ToWrite>) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while writes.recv_many(&mut group, GROUP_MAX).await > 0 {
        let next = sleep(GROUP_INTERVAL);
        if !write_group(&lanes, std::mem::take(&mut group)).await {
            return;
        }
        next.await;
    }
}

async fn write_group(lanes: &Lanes, group: Vec<ToWrite>) -> bool {
    let fresh: Vec<CheckedBatch> = {
        let table = lanes.table();
        let is_wanted = |write: &&ToWrite| table.wants(&write.batch.position());
        group.iter().filter(is_wanted).map(|write| write.batch.clone()).collect()
    };
    let store = lanes.shared.store.clone();
    let to_store = fresh.clone();
    let result = tokio::task::spawn_blocking(move || store.put_batches(&to_store)).await;
    match result {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            error!(%error, "cannot store batches; the node stops");
            return false;
        }
        Err(_) => return false,
    }
    insert(lanes, fresh);
    for write in group {
        if write.is_own {
            let frame = LaneMessage::Batch(write.batch.raw().clone().into()).encode();
            // A peer whose queue is full, or who is down, asks for it when it sees our acknowledgement.
            drop(lanes.shared.mesh.broadcast(Class::Lanes, &frame));
        }
        if let Some(stored) = write.stored {
            // Whoever waited may be gone.
            stored.send(()).ok();
        }
    }
    lanes.acknowledge(None);
    lanes.shared.changed.send_modify(|count| *count = count.wrapping_add(1));
    true
}

pub(super) fn insert(lanes: &Lanes, batches: Vec<CheckedBatch>) {
    let mut table = lanes.table();
    for batch in batches {
        let position = batch.position();
        match table.insert(batch) {
            Some(Inserted::Equivocation(_)) => {
                warn!(?position, "a lane signed two batches at one position; the first is kept");
            }
            Some(Inserted::TooFarAhead) => warn!(?position, "a lane is too far ahead of the log"),
            Some(_) | None => {}
        }
    }
}
