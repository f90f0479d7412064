//! Where results go, standard output, and progress, standard error.
//!
//! A result is text for people, or with `--json` one JSON object per line for programs. Logs are not here: see
//! [`telemetry`](crate::telemetry). How an error looks is the program's to say.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

/// How often progress is shown on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(100);
/// How often progress is shown where there is none.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Where results go.
#[expect(missing_debug_implementations, reason = "a writer has none")]
pub struct Output {
    writer: Box<dyn Write + Send>,
    is_json: bool,
    is_terminal: bool,
}

impl Output {
    /// Standard output.
    #[must_use]
    pub fn stdout(is_json: bool) -> Self {
        let is_terminal = io::stdout().is_terminal() && !is_json;
        Self { writer: Box::new(io::stdout()), is_json, is_terminal }
    }

    /// Any writer that is no terminal, for tests.
    #[must_use]
    pub fn to(writer: Box<dyn Write + Send>, is_json: bool) -> Self {
        Self { writer, is_json, is_terminal: false }
    }

    /// Whether programs read it.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether it can be redrawn.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// One result: its text, or its JSON in one line.
    ///
    /// # Errors
    /// If it cannot be written; [`io::ErrorKind::BrokenPipe`] when the reader has gone.
    pub fn show<T: Serialize + Display>(&mut self, value: &T) -> io::Result<()> {
        if self.is_json {
            let json = serde_json::to_string(value).map_err(io::Error::other)?;
            writeln!(self.writer, "{json}")?;
        } else {
            writeln!(self.writer, "{value}")?;
        }
        self.writer.flush()
    }

    /// A line for people; nothing with `--json`.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn say(&mut self, line: impl Display) -> io::Result<()> {
        if self.is_json {
            return Ok(());
        }
        writeln!(self.writer, "{line}")?;
        self.writer.flush()
    }

    /// Text as it is, with or without `--json`.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn raw(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())?;
        self.writer.flush()
    }
}

/// How far long work has come, on standard error: redrawn on a terminal, else a line every five seconds.
#[derive(Debug)]
pub struct Progress {
    is_terminal: bool,
    interval: Duration,
    /// When a line was shown last; at first, when the work began: short work shows nothing.
    shown: Instant,
    is_drawn: bool,
}

impl Default for Progress {
    fn default() -> Self {
        let is_terminal = io::stderr().is_terminal();
        let interval = if is_terminal { TERMINAL_INTERVAL } else { PLAIN_INTERVAL };
        Self { is_terminal, interval, shown: Instant::now(), is_drawn: false }
    }
}

impl Progress {
    /// Shows a line, unless one was shown just before.
    pub fn update(&mut self, line: impl Display) {
        let now = Instant::now();
        if now.saturating_duration_since(self.shown) < self.interval {
            return;
        }
        self.shown = now;
        if self.is_terminal {
            to_stderr(&format!("\r\x1b[2K{line}"));
            self.is_drawn = true;
        } else {
            to_stderr(&format!("{line}\n"));
        }
    }

    /// Removes the line from a terminal.
    pub fn clear(&mut self) {
        if self.is_drawn {
            to_stderr("\r\x1b[2K");
            self.is_drawn = false;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A line to people beside the results.
pub fn note(line: impl Display) {
    to_stderr(&format!("{line}\n"));
}

/// Text as it is, to standard error. If that is gone there is nobody left to tell.
pub fn to_stderr(text: &str) {
    let mut stderr = io::stderr().lock();
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).unwrap_or_default();
}
