//! A log that does as it is told, and the nodes that serve it: [`MemoryLog`] with what was submitted to its endpoints.
//!
//! [`ScriptedEndpoint`] serves it over the real gRPC server, honestly or not.

use std::ops::Deref;
use std::sync::Arc;

use lockstep_core::entry::{Body, Entry};
use lockstep_core::params::Genesis;
use lockstep_core::record::{RecordBody, Sealed};
use lockstep_core::types::{Height, UnixMillis};
use lockstep_test_log::MemoryLog;

mod endpoint;
mod ingress;
mod lie;

pub use endpoint::{Manner, ScriptedEndpoint};
pub use ingress::ScriptedIngress;
pub use lie::Lie;

/// The log.
#[derive(Debug)]
pub struct ScriptedLog {
    log: Arc<MemoryLog>,
    /// What its endpoints were given.
    pub ingress: Arc<ScriptedIngress>,
}

impl Deref for ScriptedLog {
    type Target = MemoryLog;

    fn deref(&self) -> &MemoryLog {
        &self.log
    }
}

impl ScriptedLog {
    /// The log of a genesis whose validators are the [`committee`](lockstep_test_log::keys::committee).
    #[must_use]
    pub fn new(genesis: Genesis) -> Arc<Self> {
        let log = Arc::new(MemoryLog::new(genesis));
        Arc::new(Self { log, ingress: Arc::default() })
    }

    /// How often a height's slices were read, by all endpoints.
    #[must_use]
    pub fn slices_read(&self) -> usize {
        usize::try_from(self.reads().0).unwrap_or(usize::MAX)
    }

    /// Decides all that was submitted and not decided yet, each entry once.
    pub fn decide_submitted(&self, at: UnixMillis) -> Height {
        let entries = self.ingress.take();
        self.decide_at(at, &entries)
    }

    /// The `Sealed` records that were submitted, in the order in which they came first.
    #[must_use]
    pub fn sealed(&self) -> Vec<Sealed> {
        let sealed = |entry: &Entry| match entry.body() {
            Body::Record(record) => match &record.body {
                RecordBody::Sealed(sealed) => Some(sealed.clone()),
                RecordBody::Limits(_) | RecordBody::Prepared(_) => None,
            },
            Body::Transaction(_) | Body::Bundle(_) => None,
        };
        self.ingress.all().iter().filter_map(sealed).collect()
    }
}
