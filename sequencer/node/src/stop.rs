//! The signals on which a program that started processes stops them, and then itself.

use eyre::WrapErr as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, SIGTERM, and the end of the terminal.
#[derive(Debug)]
pub struct StopSignals {
    signals: [Signal; 3],
}

impl StopSignals {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the runtime has no signal driver.
    pub fn new() -> eyre::Result<Self> {
        let of = |kind| signal(kind).wrap_err("listening for signals");
        let signals =
            [of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?];
        Ok(Self { signals })
    }

    /// Waits for the first of them.
    pub async fn received(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
