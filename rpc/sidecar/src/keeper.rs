//! Keeps what is known for the next start: every second if it changed, and at once where something must be on disk first.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use lockstep_core::light_client::LightClient;
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;
use tracing::{error, warn};

use crate::chain::Chain;
use crate::records::Records;
use crate::state_file::{self, Open, StateFile};

/// Between two looks at whether what is known has to be kept.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Where what is known is kept; cheap to clone.
#[derive(Clone, Debug)]
pub struct Keeper {
    chain: Arc<Chain>,
    records: Option<Records>,
    // Held while the file is written: one is replaced after the other.
    file: Arc<Mutex<StateFile>>,
    safe: watch::Sender<Option<(B256, u64)>>,
}

impl Keeper {
    /// Keeps what these know in a file.
    #[must_use]
    pub fn new(
        chain: Arc<Chain>,
        records: Option<Records>,
        file: StateFile,
        safe: Option<(B256, u64)>,
    ) -> Self {
        let file = Arc::new(Mutex::new(file));
        Self { chain, records, file, safe: watch::Sender::new(safe) }
    }

    /// Keeps the highest safe head, by hash and number.
    pub fn note_safe(&self, safe: (B256, u64)) {
        self.safe.send_replace(Some(safe));
    }

    /// Keeps what is known now. Whether it is on disk; a failure is logged.
    pub async fn write(&self) -> bool {
        let file = Arc::clone(&self.file).lock_owned().await;
        let trust = self.chain.feed().trust();
        let blocks = state_file::newest(&self.chain.ledger());
        let waiting = self.records.as_ref().map(Records::waiting_bodies).unwrap_or_default();
        let closed = self.chain.closed_blocks();
        let safe = *self.safe.borrow();
        let written = tokio::task::spawn_blocking(move || {
            file.write(&trust, &blocks, &Open { records: &waiting, closed: &closed, safe })
        });
        match written.await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => warn!(%error, "cannot keep what is known"),
            Err(error) => error!(%error, "keeping what is known ended early"),
        }
        false
    }

    /// Keeps what is known, whenever it changed.
    pub async fn run(self) {
        let mut last = (0, None, 0, None);
        loop {
            sleep(KEEP_INTERVAL).await;
            let newest = self.chain.ledger().newest(1).next().map(|(hash, _)| hash);
            let waiting = self.records.as_ref().map_or(0, Records::waiting_count);
            let safe = *self.safe.borrow();
            let now = (self.chain.closed_blocks().len(), newest, waiting, safe);
            if (now != last || is_minute(&self.chain.feed().trust())) && self.write().await {
                last = now;
            }
        }
    }
}

/// Whether the trust is to be kept although no block was sealed: about once a minute of an idle chain.
fn is_minute(trust: &LightClient) -> bool {
    trust.head().is_some_and(|header| header.height.0 % 240 < 4)
}
