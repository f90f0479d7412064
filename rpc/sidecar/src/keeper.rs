//! Keeps what is known for the next start: every second if it changed, and at once where something must be on disk first.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use lockstep_core::light_client::LightClient;
use lockstep_core::reader::LogView;
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;
use tracing::{error, warn};

use crate::feed::Feed;
use crate::records::Records;
use crate::session::Session;
use crate::session::effect::Kept;
use crate::state_file::{Open, StateFile};

/// Between two looks at whether what is known has to be kept.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Where what is known is kept; cheap to clone.
#[derive(Clone, Debug)]
pub struct Keeper {
    feed: Feed,
    session: Arc<std::sync::Mutex<Session>>,
    records: Option<Records>,
    // Held while what is known is read and the file is written, so that an older one never replaces a newer one.
    file: Arc<Mutex<StateFile>>,
    safe: watch::Sender<Option<(B256, u64)>>,
}

impl Keeper {
    /// Keeps what these know in a file.
    #[must_use]
    pub fn new(
        feed: Feed,
        session: Arc<std::sync::Mutex<Session>>,
        records: Option<Records>,
        file: StateFile,
        safe: Option<(B256, u64)>,
    ) -> Self {
        let file = Arc::new(Mutex::new(file));
        Self { feed, session, records, file, safe: watch::Sender::new(safe) }
    }

    /// Keeps the highest safe head, by hash and number.
    pub fn note_safe(&self, safe: (B256, u64)) {
        self.safe.send_replace(Some(safe));
    }

    /// Keeps what is known now. Whether it is on disk; a failure is logged.
    pub async fn write(&self) -> bool {
        let file = Arc::clone(&self.file).lock_owned().await;
        let trust = self.feed.trust();
        let waiting = self.records.as_ref().map(Records::waiting_bodies).unwrap_or_default();
        let (kept, safe) = (self.kept(), *self.safe.borrow());
        let written = tokio::task::spawn_blocking(move || {
            file.write(&trust, &Open { kept: &kept, records: &waiting, safe })
        });
        match written.await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => warn!(%error, "cannot keep what is known"),
            Err(error) => error!(%error, "keeping what is known ended early"),
        }
        false
    }

    fn kept(&self) -> Kept {
        let mut session = self.session();
        self.feed
            .with_log(|book, newest, _| session.kept(LogView { book, newest: newest.timestamp }))
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        // A panic in a step is a fault of ours; what was known before it holds.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is known, whenever it changed.
    pub async fn run(self) {
        let mut last = (0, None, 0, None);
        loop {
            sleep(KEEP_INTERVAL).await;
            let Kept { blocks, closed } = self.kept();
            let newest = blocks.first().map(|(hash, _)| *hash);
            let waiting = self.records.as_ref().map_or(0, Records::waiting_count);
            let safe = *self.safe.borrow();
            let now = (closed.len(), newest, waiting, safe);
            if (now != last || is_minute(&self.feed.trust())) && self.write().await {
                last = now;
            }
        }
    }
}

/// Whether the trust is to be kept although no block was sealed: about once a minute of an idle chain.
fn is_minute(trust: &LightClient) -> bool {
    trust.head().is_some_and(|header| header.height.0 % 240 < 4)
}
