//! Validators as processes of their own: started, watched, and stopped, also those that somebody started again by hand.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use eyre::{WrapErr as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::layout::Place;
use crate::home::Home;

/// How long a validator has to end by itself.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// How long the operating system has to end it.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of a log that are shown when a validator ends.
const LOG_LINES: usize = 12;

/// One validator's process.
#[derive(Debug)]
pub struct Validator {
    /// Where its things are.
    pub place: Place,
    child: Option<Child>,
}

impl Validator {
    /// A validator that is not running.
    #[must_use]
    pub const fn new(place: Place) -> Self {
        Self { place, child: None }
    }

    /// The command that runs it.
    ///
    /// # Errors
    /// If this program does not know its own path.
    pub fn command(&self) -> eyre::Result<String> {
        let program = program()?;
        Ok(format!("{} node --config {}", quoted(&program), quoted(&self.place.config)))
    }

    /// Starts it, in a process group of its own: Ctrl-C is for us alone.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self) -> eyre::Result<()> {
        let log = &self.place.log;
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(log)
            .wrap_err_with(|| format!("opening {}", log.display()))?;
        let child = Command::new(program()?)
            .arg("node")
            .arg("--config")
            .arg(&self.place.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().wrap_err("opening the log")?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .wrap_err_with(|| format!("starting validator {}", self.place.index))?;
        self.child = Some(child);
        Ok(())
    }

    /// Whether a process runs: the one started here, or one that somebody started by hand.
    pub fn is_running(&mut self) -> bool {
        let is_child_running = match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        };
        if !is_child_running {
            self.child = None;
        }
        is_child_running || Home::owner(&self.place.home).is_some()
    }

    /// The process started here, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    fn pids(&self) -> BTreeSet<u32> {
        let owner = Home::owner(&self.place.home).flatten();
        [self.pid(), owner].into_iter().flatten().collect()
    }

    fn signal(&self, signal: Signal) {
        for pid in self.pids() {
            let Ok(pid) = i32::try_from(pid) else { continue };
            // One that has just ended needs no signal.
            kill(Pid::from_raw(pid), signal).unwrap_or_default();
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.place.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(LOG_LINES);
        lines.get(first..).unwrap_or_default().join("\n")
    }
}

/// Stops all: asks them to end, and after five seconds makes them.
///
/// # Errors
/// Names a validator that runs even then.
pub async fn stop(validators: &mut [Validator]) -> eyre::Result<()> {
    for validator in validators.iter() {
        validator.signal(Signal::SIGTERM);
    }
    if ended(validators, TERM_PATIENCE).await {
        return Ok(());
    }
    for validator in validators.iter_mut() {
        if validator.is_running() {
            validator.signal(Signal::SIGKILL);
        }
    }
    if ended(validators, KILL_PATIENCE).await {
        return Ok(());
    }
    for validator in validators.iter_mut() {
        ensure!(!validator.is_running(), "validator {} cannot be stopped", validator.place.index);
    }
    Ok(())
}

async fn ended(validators: &mut [Validator], patience: Duration) -> bool {
    let deadline = Instant::now().checked_add(patience);
    loop {
        let mut running = 0usize;
        for validator in validators.iter_mut() {
            running = running.saturating_add(usize::from(validator.is_running()));
        }
        if running == 0 {
            return true;
        }
        if deadline.is_none_or(|deadline| Instant::now() >= deadline) {
            return false;
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn program() -> eyre::Result<PathBuf> {
    std::env::current_exe().wrap_err("finding this program's own path")
}

/// This program, as a shell takes it.
///
/// # Errors
/// If it does not know its own path.
pub fn program_quoted() -> eyre::Result<String> {
    Ok(quoted(&program()?))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_quoted_where_a_shell_needs_it() {
        let cases = [
            ("/a/b-1.toml", "/a/b-1.toml"),
            ("/a b/c", "'/a b/c'"),
            ("/it's", "'/it'\\''s'"),
            ("$HOME", "'$HOME'"),
        ];
        for (path, expected) in cases {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
