//! The store on RocksDB.
//!
//! Two column families over one write-ahead log. `batches` holds the batches, uncompressed (transactions are mostly
//! signatures and do not shrink), as blobs: a value is written to the log and once more to a blob file, and no
//! compaction rewrites it. Everything else is in the default family, compressed with LZ4.
//!
//! Recovery takes the log up to the first record that is torn or damaged and drops the rest: what comes back is
//! always the writes up to some point, whole. That may be less than what was synced only if the disk lost or changed
//! bytes; the node then syncs the missing heights again, and the guard keeps it from voting twice.

use std::path::{Path, PathBuf};

use ::rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, IteratorMode, LogLevel, Options, ReadOptions, WriteOptions,
};
use alloy_primitives::Bytes;

use super::memory::take_bounded;
use super::open::OpenError;
use super::schema::Space;
use super::{Change, Direction, Durability, Item, Scan, Store, StoreError, WriteBatch};

/// Bytes of the block cache, both families together. Four nodes run on one small machine.
const CACHE_BYTES: usize = 32 << 20;
/// Bytes of one memtable of the default family.
const WRITE_BUFFER_BYTES: usize = 8 << 20;
/// Bytes of one memtable of the batches: 16 of the largest.
const BATCH_WRITE_BUFFER_BYTES: usize = 8 << 20;
/// Memtables of a family: one is filled while another is flushed.
const WRITE_BUFFERS: i32 = 2;
/// Bytes of write-ahead logs from which on memtables are flushed, so that opening reads no more than this.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Files that RocksDB keeps open.
const OPEN_FILES_MAX: i32 = 256;
/// Bytes from which on a value goes to a blob file.
const BLOB_BYTES_MIN: u64 = 4 << 10;
/// Bytes of one blob file.
const BLOB_FILE_BYTES: u64 = 64 << 20;
/// Bits of the Bloom filter per key: 1 % false positives.
const BLOOM_BITS: f64 = 10.0;
/// Name of the batches' column family.
const BATCHES: &str = "batches";
/// Name of RocksDB's lock file.
const LOCK: &str = "LOCK";

/// A store in a directory of its own.
pub struct RocksStore {
    db: DB,
    path: PathBuf,
}

impl core::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RocksStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RocksStore {
    /// Opens the directory, and creates it if it is not there.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if another process has it open, [`OpenError::Store`] for everything else.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let families = [
            ColumnFamilyDescriptor::new(
                ::rocksdb::DEFAULT_COLUMN_FAMILY_NAME,
                family_options(&cache, WRITE_BUFFER_BYTES),
            ),
            ColumnFamilyDescriptor::new(BATCHES, batch_options(&cache)),
        ];
        let db = DB::open_cf_descriptors(&database_options(), path, families)
            .map_err(|error| open_error(path, error))?;
        Ok(Self { db, path: path.to_owned() })
    }

    fn family(&self, space: Space) -> Result<&ColumnFamily, StoreError> {
        let name = match space {
            Space::Batch | Space::Conflict => BATCHES,
            Space::Meta
            | Space::Block
            | Space::Body
            | Space::Undecided
            | Space::Validators
            | Space::Evidence
            | Space::Passed
            | Space::Lookup
            | Space::Segment
            | Space::Shard
            | Space::Record => ::rocksdb::DEFAULT_COLUMN_FAMILY_NAME,
        };
        let missing = || StoreError::Backend { message: format!("no column family {name}") };
        self.db.cf_handle(name).ok_or_else(missing)
    }

    fn to_rocksdb(&self, batch: &WriteBatch) -> Result<::rocksdb::WriteBatch, StoreError> {
        let mut changes = ::rocksdb::WriteBatch::default();
        for change in batch.changes() {
            match change {
                Change::Put(space, key, value) => {
                    changes.put_cf(self.family(*space)?, tagged(*space, key), value);
                }
                Change::Delete(space, key) => {
                    changes.delete_cf(self.family(*space)?, tagged(*space, key));
                }
                Change::DeleteRange(space, from, to) if from < to => {
                    let family = self.family(*space)?;
                    changes.delete_range_cf(family, tagged(*space, from), tagged(*space, to));
                }
                Change::DeleteRange(..) => {}
            }
        }
        Ok(changes)
    }
}

impl Store for RocksStore {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.db.get_cf(self.family(space)?, tagged(space, key)).map_err(backend)?;
        Ok(value.map(Bytes::from))
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Item>, StoreError> {
        if scan.from >= scan.to {
            return Ok(Vec::new());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(tagged(scan.space, &scan.from));
        options.set_iterate_upper_bound(tagged(scan.space, &scan.to));
        let mode = match scan.direction {
            Direction::Forward => IteratorMode::Start,
            Direction::Backward => IteratorMode::End,
        };
        let mut failed = None;
        let items = self
            .db
            .iterator_cf_opt(self.family(scan.space)?, options, mode)
            .map_while(|item| item.map_err(|error| failed = Some(backend(error))).ok());
        let items = items.map(|(key, value)| {
            (key.get(1..).unwrap_or_default().to_vec(), Bytes::from(value.into_vec()))
        });
        let items = take_bounded(scan, items);
        failed.map_or(Ok(items), Err)
    }

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        self.db.write_opt(self.to_rocksdb(batch)?, &options).map_err(backend)
    }

    fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        let failed = |error: std::io::Error| StoreError::Backend { message: error.to_string() };
        let mut bytes = 0u64;
        for file in std::fs::read_dir(&self.path).map_err(failed)? {
            // RocksDB removes files at any time: one that is gone by now has no bytes.
            let length = file.map_err(failed)?.metadata().map_or(0, |metadata| metadata.len());
            bytes = bytes.saturating_add(length);
        }
        Ok(bytes)
    }
}

fn tagged(space: Space, key: &[u8]) -> Vec<u8> {
    let mut tagged = Vec::with_capacity(key.len().saturating_add(1));
    tagged.push(space.tag());
    tagged.extend_from_slice(key);
    tagged
}

fn backend(error: ::rocksdb::Error) -> StoreError {
    StoreError::Backend { message: error.into_string() }
}

fn open_error(path: &Path, error: ::rocksdb::Error) -> OpenError {
    let message = error.into_string();
    let directory = path.to_owned();
    // RocksDB has no error kind for it; both messages it has name the lock file.
    let is_lock = message.contains("lock") && message.contains(&format!("/{LOCK}"));
    if is_lock { OpenError::InUse { directory } } else { StoreError::Backend { message }.into() }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(LOG_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(2);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options
}

fn family_options(cache: &Cache, write_buffer_bytes: usize) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_bloom_filter(BLOOM_BITS, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(write_buffer_bytes);
    options.set_max_write_buffer_number(WRITE_BUFFERS);
    options
}

fn batch_options(cache: &Cache) -> Options {
    let mut options = family_options(cache, BATCH_WRITE_BUFFER_BYTES);
    options.set_compression_type(DBCompressionType::None);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(BLOB_BYTES_MIN);
    options.set_blob_file_size(BLOB_FILE_BYTES);
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_enable_blob_gc(true);
    options
}
