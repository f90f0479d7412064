//! This machine's clock, as the protocol counts time.

use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_core::types::UnixMillis;

/// Milliseconds since 1970; 0 on a machine that believes to be before.
#[must_use]
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
