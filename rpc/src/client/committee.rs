//! Submits an entry to several validators, so that no single one can lose it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lockstep_core::entry::Entry;
use lockstep_proto::error::Refusal;

use super::submitter::Submitter;

/// The committee, to submit to.
pub struct Committee {
    validators: Arc<dyn Submitter>,
    first: AtomicUsize,
}

impl core::fmt::Debug for Committee {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Committee").field("count", &self.validators.count()).finish_non_exhaustive()
    }
}

impl Committee {
    /// The committee of these validators.
    #[must_use]
    pub const fn new(validators: Arc<dyn Submitter>) -> Self {
        Self { validators, first: AtomicUsize::new(0) }
    }

    /// How many validators are to hold an entry: f + 1 of n = 3f + 1, so that one of them is honest.
    fn wanted(&self) -> usize {
        (self.validators.count().saturating_sub(1) / 3).saturating_add(1)
    }

    /// Submits an entry until f + 1 validators took it, or all were asked; tells how many took it. Each call begins at
    /// another validator, so that doing it again reaches others.
    ///
    /// # Errors
    /// The first refusal, if none took it.
    pub async fn submit(&self, entry: &Entry) -> Result<usize, Refusal> {
        let count = self.validators.count().max(1);
        let first = self.first.fetch_add(1, Ordering::Relaxed);
        let mut order =
            (0..count).map(|step| first.wrapping_add(step).checked_rem(count).unwrap_or(0));
        let mut asked: FuturesUnordered<_> = order
            .by_ref()
            .take(self.wanted())
            .map(|index| self.validators.submit(index, entry.clone()))
            .collect();
        let (mut taken, mut refusal) = (0usize, None);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(_) => taken = taken.saturating_add(1),
                Err(error) => {
                    refusal.get_or_insert(error);
                    if let Some(index) = order.next() {
                        asked.push(self.validators.submit(index, entry.clone()));
                    }
                }
            }
        }
        match refusal {
            Some(refusal) if taken == 0 => Err(refusal),
            Some(_) | None => Ok(taken),
        }
    }
}
