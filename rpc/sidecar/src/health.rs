//! How the sidecar does, looked at once a second.

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::types::Height;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::ExecutionMode;
use crate::feed::{EndpointState, LogBlock};
use crate::limits::ENDPOINT_SILENT;
use crate::metrics::Metrics;
use crate::proxy::Proxy;

/// In which state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It looks for where its chain is in the log.
    Starting,
    /// All is well: the log goes on, and op-node gets blocks where it asks for them.
    Serving,
    /// The engine serves, but jobs are not filled from the log now.
    Partial,
    /// The engine is away.
    Down,
}

/// What it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// In which state it is.
    pub state: State,
    /// Whether jobs can be filled.
    pub is_ready: bool,
    /// Why, for people; empty while all is well.
    pub reason: String,
    /// Newest verified height of the log.
    pub log_height: u64,
    /// Each committee node and how it does.
    pub endpoints: Vec<(String, String)>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: State::Starting,
            is_ready: false,
            reason: "starting".to_owned(),
            log_height: 0,
            endpoints: Vec::new(),
        }
    }
}

/// Looks once a second, for ever.
pub async fn run(
    proxy: Arc<Proxy>,
    not_started: watch::Receiver<Option<String>>,
    health: watch::Sender<Health>,
    metrics: Metrics,
) {
    loop {
        let starting = not_started.borrow().clone();
        health.send_replace(look(&proxy, starting, &metrics).await);
        sleep(Duration::from_secs(1)).await;
    }
}

/// Age of the oldest item behind the newest block's cursor, in milliseconds of log time; 0 if nothing waits.
fn backlog_ms(proxy: &Proxy) -> u64 {
    let feed = proxy.feed();
    let newest = feed.newest().borrow().timestamp;
    let cursor = proxy.newest().map(|(_, known)| known.found.begin.cursor);
    let Some(cursor) = cursor else { return 0 };
    let before = cursor.height.previous().unwrap_or(Height::GENESIS);
    let blocks = feed.after(before);
    let waits = |block: &&Arc<LogBlock>| {
        let seen = if block.slice.height == cursor.height { cursor.items } else { 0 };
        block.slice.items.iter().skip(seen as usize).any(|item| !item.is_record())
    };
    blocks.iter().find(waits).map_or(0, |block| newest.since(block.slice.timestamp))
}

async fn look(proxy: &Arc<Proxy>, starting: Option<String>, metrics: &Metrics) -> Health {
    let feed = proxy.feed();
    let newest = *feed.newest().borrow();
    let mode = proxy.mode();
    let engine = proxy.blocks().head().await;
    let states = feed.endpoints();
    let serving = states.iter().filter(|(_, state)| *state == EndpointState::Serving).count();
    metrics.log_height.set(i64::try_from(newest.height.0).unwrap_or(i64::MAX));
    metrics.endpoints_serving.set(i64::try_from(serving).unwrap_or(i64::MAX));
    metrics.records_waiting.set(i64::try_from(proxy.records_waiting()).unwrap_or(i64::MAX));
    metrics.backlog_ms.set(i64::try_from(backlog_ms(proxy)).unwrap_or(i64::MAX));
    if engine.is_err() {
        proxy.note_engine_away();
    }
    let (state, reason) = match engine {
        Err(error) => (State::Down, error.to_string()),
        Ok(_) if newest.is_forked => {
            (State::Partial, "the committee's safety has failed".to_owned())
        }
        Ok(_) if proxy.is_locked_out() => {
            (State::Partial, "jwt: calls with another secret are refused".to_owned())
        }
        Ok(_) if let Some(reason) = starting => (State::Starting, reason),
        Ok(_) if feed.silence() > ENDPOINT_SILENT => {
            (State::Partial, format!("no log block for {} s", feed.silence().as_secs()))
        }
        Ok(_) if mode != ExecutionMode::Enabled => {
            (State::Partial, format!("execution mode is {}", mode.name()))
        }
        Ok(_) => match proxy.failing() {
            Some((since, reason)) => {
                (State::Partial, format!("no block for {} s: {reason}", since.as_secs()))
            }
            None => (State::Serving, String::new()),
        },
    };
    let shown = |state: EndpointState| match state {
        EndpointState::Connecting => "connecting".to_owned(),
        EndpointState::Serving => "serving".to_owned(),
        EndpointState::Away(reason) => format!("away: {reason}"),
        EndpointState::Lied(reason) => format!("lied: {reason}"),
    };
    Health {
        is_ready: state == State::Serving,
        state,
        reason,
        log_height: newest.height.0,
        endpoints: states.into_iter().map(|(url, state)| (url, shown(state))).collect(),
    }
}
