//! A directory that one process uses: a locked file in it, which names the process.
//!
//! The lock is the operating system's, so it ends with the process however that ends; a file left behind means nothing.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the locked file.
const LOCK: &str = "lock";
/// Digits of a process id.
const PID_BYTES_MAX: u64 = 20;

/// Why a directory was not taken.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process uses it: stop that one, or choose another directory.
    #[error("{} is in use by {}: stop it, or choose another directory", directory.display(), owner(*pid))]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The process, if its file names one.
        pid: Option<u32>,
    },
    /// The operating system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// A directory that this process uses until it drops this.
#[derive(Debug)]
pub struct Home {
    lock: File,
}

impl Drop for Home {
    /// Unlocks by name: closing alone would leave the lock with a child that another thread is just starting, which has
    /// a copy of every open file until it runs its own program.
    fn drop(&mut self) {
        // What fails here ends with the process at the latest.
        self.lock.unlock().ok();
    }
}

impl Home {
    /// Takes a directory, which is created (mode 0700) if it is not there.
    ///
    /// # Errors
    /// [`HomeError::InUse`] names the process that has it.
    pub fn lock(directory: &Path) -> Result<Self, HomeError> {
        let path = directory.join(LOCK);
        let io = |path: &Path, source| HomeError::Io { path: path.to_owned(), source };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| io(directory, source))?;
        let mut lock = open(&path).map_err(|source| io(&path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = pid_of(&mut lock);
                return Err(HomeError::InUse { directory: directory.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(io(&path, source)),
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| write!(lock, "{}", std::process::id()))
            .and_then(|()| lock.flush());
        written.map_err(|source| io(&path, source))?;
        Ok(Self { lock })
    }

    /// The process that has a directory: `None` if nobody has it or there is no such directory.
    ///
    /// The inner value is `None` if the process has not written its id yet.
    #[must_use]
    pub fn owner(directory: &Path) -> Option<Option<u32>> {
        let mut lock = File::open(directory.join(LOCK)).ok()?;
        // A shared lock: two who ask at once do not see one another.
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(pid_of(&mut lock)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn pid_of(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Removes a directory and all in it; one that is not there is removed already.
///
/// # Errors
/// What the operating system says.
pub fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_in_use_names_the_process_and_is_free_afterwards() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("a/b");
        assert_eq!(Home::owner(&directory), None);
        let home = Home::lock(&directory).expect("is free");
        assert_eq!(Home::owner(&directory), Some(Some(std::process::id())));
        let error = Home::lock(&directory).unwrap_err();
        let expected = format!("is in use by process {}", std::process::id());
        assert!(error.to_string().contains(&expected), "{error}");
        drop(home);
        assert_eq!(Home::owner(&directory), None);
        assert!(Home::lock(&directory).is_ok(), "the file that is left means nothing");
    }

    #[test]
    fn directory_is_free_though_a_child_in_its_start_has_the_open_file() {
        let parent = tempfile::tempdir().expect("a directory");
        let home = Home::lock(parent.path()).expect("is free");
        let _copy_of_the_child = home.lock.try_clone().expect("is copied, as `fork` does");
        drop(home);
        assert_eq!(Home::owner(parent.path()), None);
        assert!(Home::lock(parent.path()).is_ok());
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("a");
        drop(Home::lock(&directory).expect("is free"));
        remove(&directory).expect("removes");
        remove(&directory).expect("is removed already");
    }
}
