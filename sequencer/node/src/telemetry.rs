//! Logs: `tracing` events to standard error, as text or JSON, at most so many of a kind. Metrics are served elsewhere.

mod limit;

use std::io::IsTerminal as _;

use eyre::{WrapErr as _, eyre};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::limit::Limit;
use crate::config::{LogFormat, LogOptions};

/// Begins to log, for the rest of the process. The variable `RUST_LOG` goes before the configured filter.
///
/// # Errors
/// If the filter is none, or if the process logs already.
pub fn init(options: &LogOptions) -> eyre::Result<()> {
    let filter = filter(options)?;
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let limit = Limit::default();
    let counted = limit.clone();
    let started = match options.format {
        LogFormat::Text => logger.finish().with(limit).try_init(),
        LogFormat::Json => logger.json().flatten_event(true).finish().with(limit).try_init(),
    };
    started.map_err(|error| eyre!("cannot start the log: {error}"))?;
    counted.tell().wrap_err("cannot start the log")
}

fn filter(options: &LogOptions) -> eyre::Result<EnvFilter> {
    match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(directives) if !directives.is_empty() => {
            EnvFilter::try_new(&directives).wrap_err_with(|| format!("RUST_LOG {directives:?}"))
        }
        _ => EnvFilter::try_new(&options.filter)
            .wrap_err_with(|| format!("log.filter {:?}", options.filter)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_that_is_none_is_refused_by_name() {
        let options = LogOptions { filter: "lockstep=loud".to_owned(), format: LogFormat::Text };
        let error = filter(&options).unwrap_err().to_string();
        assert!(error.contains("log.filter \"lockstep=loud\""), "{error}");
        assert!(filter(&LogOptions::default()).is_ok());
    }
}
