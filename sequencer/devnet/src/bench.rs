//! `lockstep bench`: what four validators on this machine do, measured from outside.
//!
//! Everything is measured in one run, and calibrated in it: shares are of what this machine could do at that moment. The
//! load is open-loop: latency counts from the time a send was due, late sends are counted, and a row whose generator
//! lagged fails. Every validator checks every signature. One row needs no validator: what following a chain costs a core.

pub mod attackers;
pub mod attacks;
pub mod calibrate;
pub mod cluster;
pub mod delayed;
pub mod flood;
pub mod measure;
pub mod offers;
pub mod rows;

use std::path::PathBuf;
use std::time::Duration;

use lockstep_node::output::Output;
use lockstep_node::stop::StopSignals;

/// Arguments of `bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory of keys, data and logs; removed at the end
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub dir: PathBuf,
    /// A directory in memory, for what the decision rows write
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub memory_dir: PathBuf,
    /// Seconds of each load
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=600))]
    pub seconds: u64,
    /// Seconds of the load for memory and disk
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..=3_600))]
    pub soak_seconds: u64,
    /// Only rows with this in their name: offers, throughput, latency, decision, delayed, idle, soak. Or `attacks`, which
    /// nothing else measures: what clients that attack cost the others; `attacks NAME` for those with NAME in theirs
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Measure the delayed row in this network namespace, which was made for it
    #[arg(long, hide = true)]
    pub delay_line: bool,
}

impl Args {
    /// Whether a row is wanted.
    #[must_use]
    pub fn wants(&self, row: &str) -> bool {
        self.only.as_deref().is_none_or(|only| row.contains(only))
    }

    /// Whether attacks are wanted: what is to be in their names, which may be nothing.
    #[must_use]
    pub fn attacks(&self) -> Option<&str> {
        self.only.as_deref()?.strip_prefix("attacks").map(str::trim)
    }

    /// How long a load lasts.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Measures all rows, or until it is told to stop; then the validators stop with it.
///
/// # Errors
/// If a row can't be measured; the message says which and why.
pub async fn run(args: Args, output: &mut Output) -> eyre::Result<()> {
    let mut stop = StopSignals::new()?;
    tokio::select! {
        done = rows::all(&args, output) => done,
        () = stop.received() => {
            output.say("stopped; rows shown so far hold")?;
            Ok(())
        }
    }
}
