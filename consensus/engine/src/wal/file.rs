//! The file of a write-ahead log: what is appended is held in memory until it is synced, then written in one go.
//!
//! What was not synced would be lost by a power cut in any case, and nothing is signed before what led to it is synced.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use malachitebft_app_channel::app::wal::Storage;

/// Bytes that are held in memory; more are written, and not synced.
const TAIL_BYTES_MAX: usize = 1 << 16;

/// What a log is written to.
pub(crate) trait Disk: Read + Write + Seek + Debug + Send {
    /// Its length.
    fn length(&self) -> io::Result<u64>;

    /// Cuts it to this length.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;

    /// Makes everything durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for File {
    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A disk, and what will be behind its end.
#[derive(Debug)]
pub(crate) struct Buffered {
    disk: Box<dyn Disk>,
    tail: Vec<u8>,
    /// Whether the next byte goes behind the tail; else the tail is empty.
    is_at_end: bool,
}

impl Buffered {
    /// Writes the tail. If that fails, the disk is as it was, as far as it lets itself be cut.
    fn write_tail(&mut self) -> io::Result<()> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let end = self.disk.seek(SeekFrom::End(0))?;
        if let Err(error) = self.disk.write_all(&self.tail) {
            self.disk.cut(end)?;
            return Err(error);
        }
        self.tail.clear();
        Ok(())
    }
}

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_at_end { Ok(0) } else { self.disk.read(buffer) }
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_at_end {
            return self.disk.write(bytes);
        }
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > TAIL_BYTES_MAX {
            self.write_tail()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Buffered {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.is_at_end = to == SeekFrom::End(0);
        if self.is_at_end {
            return self.size_bytes();
        }
        self.write_tail()?;
        self.disk.seek(to)
    }
}

impl Storage for Buffered {
    type OpenOptions = Box<dyn Disk>;

    fn open_with(_: impl AsRef<Path>, disk: Self::OpenOptions) -> io::Result<Self> {
        Ok(Self { disk, tail: Vec::new(), is_at_end: false })
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.length()?.saturating_add(self.tail.len() as u64))
    }

    fn truncate_to(&mut self, bytes: u64) -> io::Result<()> {
        self.write_tail()?;
        self.disk.cut(bytes)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.write_tail()?;
        self.disk.sync()
    }
}
