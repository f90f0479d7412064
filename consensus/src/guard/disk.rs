//! The guard's directory on disk, locked for one process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::GuardOpenError;
use super::journal::{FILE, FILE_BYTES_MAX, Files};

/// Name of the lock file. It holds the process id of who has the lock, for people.
const LOCK: &str = "lock";
/// Bytes of the lock file that are shown.
const HOLDER_BYTES_MAX: u64 = 32;

/// A directory whose lock is held until this is dropped. The lock is `flock(2)`: it is gone with its process.
#[derive(Debug)]
pub(super) struct DiskFiles {
    directory: PathBuf,
    /// Held, never read.
    _lock: File,
    /// The guard's file, open for appending: one `open` less for each signature.
    log: Option<File>,
}

impl DiskFiles {
    /// Makes the directory if it is not there, and locks it.
    pub(super) fn create(directory: &Path) -> Result<Self, GuardOpenError> {
        create_private(directory)
            .map_err(|error| GuardOpenError::Io { directory: directory.to_owned(), error })?;
        Self::open(directory)
    }

    /// Locks the directory, which must be there.
    pub(super) fn open(directory: &Path) -> Result<Self, GuardOpenError> {
        let io = |error| GuardOpenError::Io { directory: directory.to_owned(), error };
        if !directory.is_dir() {
            return Err(GuardOpenError::Missing { directory: directory.to_owned() });
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(directory.join(LOCK)).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock);
                return Err(GuardOpenError::InUse { directory: directory.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        lock.set_len(0).map_err(io)?;
        lock.write_all(std::process::id().to_string().as_bytes()).map_err(io)?;
        Ok(Self { directory: directory.to_owned(), _lock: lock, log: None })
    }

    /// The named file, open for appending.
    fn with<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut File) -> io::Result<T>,
    ) -> io::Result<T> {
        let path = self.directory.join(name);
        let open = || OpenOptions::new().append(true).create(true).open(path);
        if name != FILE {
            return work(&mut open()?);
        }
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(open()?),
        };
        work(log)
    }
}

/// Makes a directory that nobody else may read, and makes its own name durable.
fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if directory.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    match directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn holder(lock: &mut File) -> String {
    let mut holder = String::new();
    match lock.take(HOLDER_BYTES_MAX).read_to_string(&mut holder) {
        Ok(count) if count > 0 => holder,
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

impl Files for DiskFiles {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.directory.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        let count = file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(count).is_ok_and(|count| count > FILE_BYTES_MAX) {
            return Err(io::Error::other(format!("{name} is larger than {FILE_BYTES_MAX} bytes")));
        }
        Ok(Some(bytes))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.with(name, |file| file.write_all(bytes))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.with(name, |file| file.sync_data())
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.with(name, |file| file.set_len(length))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        // The open file is the one that loses its name.
        self.log = None;
        fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}
