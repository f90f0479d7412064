//! Processes of a devnet: started, watched, stopped and killed, also those that somebody started again by hand.
//!
//! It does not know what a process is for, nor when it is ready.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use eyre::{WrapErr as _, bail, ensure};
use lockstep_node::home::Home;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::layout::Place;

/// How long a process has to end by itself.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// How long the operating system has to end it.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of a log that are shown when a process ends.
const LOG_LINES: usize = 12;

/// What is run, and how it is told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Name in messages, unique in a devnet.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// Where standard output and standard error go.
    pub log: PathBuf,
    /// Directory that it locks while it runs ([`Home`]). Without one, it is known by its arguments: they should name
    /// something that no other devnet has.
    pub home: Option<PathBuf>,
}

impl Program {
    /// A validator.
    #[must_use]
    pub fn validator(lockstep: &Path, place: &Place) -> Self {
        Self {
            name: format!("validator-{}", place.index),
            file: lockstep.to_owned(),
            arguments: ["node", "--config"]
                .map(str::to_owned)
                .into_iter()
                .chain([place.config.display().to_string()])
                .collect(),
            log: place.log.clone(),
            home: Some(place.home.clone()),
        }
    }

    /// The command, as a shell takes it.
    #[must_use]
    pub fn command_line(&self) -> String {
        self.joined(" ")
    }

    fn joined(&self, separator: &str) -> String {
        let file = self.file.display().to_string();
        let words: Vec<String> =
            [&file].into_iter().chain(&self.arguments).map(|word| quoted(word)).collect();
        words.join(separator)
    }

    /// Runs it once, to its end.
    ///
    /// # Errors
    /// If it cannot be started or fails; the end of its log is in the message.
    pub async fn run_once(&self) -> eyre::Result<()> {
        let status = self.command()?.status().await;
        let status = status.wrap_err_with(|| format!("starting {}", self.name))?;
        if !status.success() {
            let (log, words) = (self.log.display(), self.last_words());
            bail!("{} failed ({status}); the end of {log}:\n{words}", self.name);
        }
        Ok(())
    }

    /// In a process group of its own: Ctrl-C is for us alone.
    fn command(&self) -> eyre::Result<Command> {
        let opened = OpenOptions::new().append(true).create(true).open(&self.log);
        let log = opened.wrap_err_with(|| format!("opening {}", self.log.display()))?;
        let mut command = Command::new(&self.file);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().wrap_err("opening the log")?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(LOG_LINES);
        lines.get(first..).unwrap_or_default().join("\n")
    }

    /// A process that somebody started by hand, and its id if that is known.
    fn started_by_hand(&self) -> Option<Option<u32>> {
        match &self.home {
            Some(home) => Home::owner(home),
            None => with_arguments(&self.arguments).map(Some),
        }
    }
}

/// A process that is started and ended here. It ends when this is dropped.
#[derive(Debug)]
pub struct Process {
    program: Program,
    script: Option<PathBuf>,
    child: Option<Child>,
}

impl Process {
    /// A process that is not running.
    #[must_use]
    pub const fn new(program: Program) -> Self {
        Self { program, script: None, child: None }
    }

    /// What is run.
    #[must_use]
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// What is run, to be changed before the next start.
    pub const fn program_mut(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Writes a script that starts it by hand, for commands that nobody would copy from a terminal.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_script(&mut self, directory: &Path) -> eyre::Result<()> {
        let Program { name, log, .. } = &self.program;
        let path = directory.join(name);
        let text = format!(
            "#!/bin/sh\n# Starts {name} again; what it says goes to the end of its log.\nexec {} >>{} 2>&1\n",
            self.program.joined(" \\\n    "),
            quoted(&log.display().to_string()),
        );
        let opened =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(&path);
        let written = opened.and_then(|mut file| {
            use std::io::Write as _;
            file.write_all(text.as_bytes())
        });
        written.wrap_err_with(|| format!("writing {}", path.display()))?;
        self.script = Some(path);
        Ok(())
    }

    /// What starts it by hand, as a shell takes it: its script, else its command.
    #[must_use]
    pub fn start_line(&self) -> String {
        match &self.script {
            Some(script) => quoted(&script.display().to_string()),
            None => self.program.command_line(),
        }
    }

    /// Starts it; whether it is ready is the caller's to find out.
    ///
    /// # Errors
    /// If it runs already, or cannot be started.
    pub fn start(&mut self) -> eyre::Result<()> {
        ensure!(!self.is_running(), "{} runs already", self.name());
        let started = self.program.command()?.spawn();
        let file = self.program.file.display();
        let child = started.wrap_err_with(|| format!("starting {}: {file}", self.name()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Whether it runs: the process started here, or one that somebody started by hand.
    pub fn is_running(&mut self) -> bool {
        let is_child_running = match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        };
        if !is_child_running {
            self.child = None;
        }
        is_child_running || self.program.started_by_hand().is_some()
    }

    /// The process started here, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    fn pids(&self) -> BTreeSet<u32> {
        let by_hand = self.program.started_by_hand().flatten();
        [self.pid(), by_hand].into_iter().flatten().collect()
    }

    /// Sends it a signal. A process that has just ended needs none.
    pub fn signal(&self, signal: Signal) {
        for pid in self.pids() {
            let Ok(pid) = i32::try_from(pid) else { continue };
            kill(Pid::from_raw(pid), signal).unwrap_or_default();
        }
    }

    /// Stops it: asks it to end, and after five seconds makes it.
    ///
    /// # Errors
    /// If it runs even then.
    pub async fn stop(&mut self) -> eyre::Result<()> {
        stop(std::slice::from_mut(self)).await
    }

    /// `kill -9`; returns when it is gone.
    ///
    /// # Errors
    /// If it runs even then.
    pub async fn kill(&mut self) -> eyre::Result<()> {
        self.signal(Signal::SIGKILL);
        let is_gone = ended(std::slice::from_mut(self), KILL_PATIENCE).await;
        ensure!(is_gone, "{} cannot be killed", self.name());
        Ok(())
    }
}

/// Stops all: asks them to end, and after five seconds makes them.
///
/// # Errors
/// Names a process that runs even then.
pub async fn stop(processes: &mut [Process]) -> eyre::Result<()> {
    for process in processes.iter() {
        process.signal(Signal::SIGTERM);
    }
    if ended(processes, TERM_PATIENCE).await {
        return Ok(());
    }
    for process in processes.iter_mut() {
        if process.is_running() {
            process.signal(Signal::SIGKILL);
        }
    }
    if ended(processes, KILL_PATIENCE).await {
        return Ok(());
    }
    for process in processes.iter_mut() {
        ensure!(!process.is_running(), "{} cannot be stopped", process.name());
    }
    Ok(())
}

async fn ended(processes: &mut [Process], patience: Duration) -> bool {
    let deadline = Instant::now().checked_add(patience);
    loop {
        let mut running = 0usize;
        for process in processes.iter_mut() {
            running = running.saturating_add(usize::from(process.is_running()));
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

/// This program.
///
/// # Errors
/// If it does not know its own path.
pub fn own_program() -> eyre::Result<PathBuf> {
    std::env::current_exe().wrap_err("finding this program's own path")
}

/// The running processes and the arguments of each, its name first. Those that just end are left out.
fn running() -> Vec<(u32, Vec<String>)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let of = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let arguments = line.strip_suffix('\0')?.split('\0').map(str::to_owned).collect();
        Some((pid, arguments))
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(of)
        .collect()
}

fn with_arguments(wanted: &[String]) -> Option<u32> {
    let is_it = |arguments: &[String]| arguments.get(1..).is_some_and(|rest| rest == wanted);
    running().into_iter().find(|(_, arguments)| is_it(arguments)).map(|(pid, _)| pid)
}

/// The processes of these programs (or with one of these names as first argument) that were told of a file in the
/// directory: id and name.
#[must_use]
pub fn using(directory: &Path, programs: &[&str]) -> Vec<(u32, String)> {
    let inside = format!("{}/", directory.display());
    let is_inside = |arguments: &[String]| arguments.iter().any(|text| text.contains(&inside));
    let named = |arguments: &[String]| {
        let file = arguments.first().map(Path::new).and_then(Path::file_name);
        let names = [file.and_then(|name| name.to_str()), arguments.get(1).map(String::as_str)];
        let name = names.into_iter().flatten().find(|name| programs.contains(name));
        name.map(str::to_owned)
    };
    let mut found = running();
    found.retain(|(pid, arguments)| *pid != std::process::id() && is_inside(arguments));
    found.into_iter().filter_map(|(pid, arguments)| Some((pid, named(&arguments)?))).collect()
}

/// A word as a shell takes it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
