//! A disk for tests: a file in memory that notes what is written behind its header, and when it is synced.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::file::Disk;
use super::{HEADER_BYTES, Log, OwnMessage, entry};

/// What the disk was asked, in order.
pub(crate) type Calls = Arc<Mutex<Vec<&'static str>>>;

#[derive(Debug)]
struct Fake {
    content: Cursor<Vec<u8>>,
    calls: Calls,
    fails: Arc<Mutex<&'static str>>,
}

impl Fake {
    fn note(&self, call: &'static str) -> io::Result<()> {
        self.calls.lock().unwrap().push(call);
        if call == *self.fails.lock().unwrap() {
            Err(io::Error::other("a bad disk"))
        } else {
            Ok(())
        }
    }
}

impl Read for Fake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer)
    }
}

impl Write for Fake {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.content.position() >= HEADER_BYTES as u64 {
            let mut rest = Bytes::copy_from_slice(bytes);
            while let Some(message) = entry(&mut rest) {
                self.note(match message {
                    Some((_, _, OwnMessage::Vote(_))) => "vote",
                    Some((_, _, OwnMessage::Proposal(_))) => "proposal",
                    None => "input",
                })?;
            }
        }
        self.content.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Fake {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.content.seek(to)
    }
}

impl Disk for Fake {
    fn length(&self) -> io::Result<u64> {
        Ok(self.content.get_ref().len() as u64)
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.content.get_mut().truncate(usize::try_from(bytes).unwrap());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.note("sync")
    }
}

fn over(path: &Path, fails: &'static str) -> (Log, Calls) {
    let (calls, failing) = (Calls::default(), Arc::<Mutex<_>>::default());
    let fake = Fake { content: Cursor::default(), calls: calls.clone(), fails: failing.clone() };
    let log = Log::over(path, Box::new(fake)).unwrap();
    // What its opening asks is not of interest.
    calls.lock().unwrap().clear();
    *failing.lock().unwrap() = fails;
    (log, calls)
}

/// A log on a disk that does what it is asked, and what that was.
pub(crate) fn log() -> (Log, Calls) {
    over(&std::env::temp_dir(), "")
}

/// A log on a disk where this fails, once it is open.
pub(crate) fn failing_log(fails: &'static str) -> Log {
    over(&std::env::temp_dir(), fails).0
}

/// A log that takes the file at `path` for its own.
pub(crate) fn log_at(path: &Path) -> Log {
    over(path, "").0
}
