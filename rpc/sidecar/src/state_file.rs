//! What is kept between starts: whom to believe, the newest cursors, and records that the log does not show yet.
//!
//! A cache: without it, or with an older one, a start takes longer and comes to the same. It is replaced whole, so a
//! crash leaves the one before. A file that cannot be read is set aside.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use alloy_primitives::{B256, Bytes};
use alloy_rlp::Decodable;
use lockstep_core::encoding::Canonical;
use lockstep_core::header::Header;
use lockstep_core::light_client::LightClient;
use lockstep_core::reader::{Found, Known};
use lockstep_core::record::{Cursor, RecordBody};
use lockstep_core::types::{Height, NetworkId, UnixMillis};
use lockstep_core::validator_set::ValidatorSet;
use lockstep_core::window::{Begin, Place};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::session::effect::Kept;

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    network: B256,
    chain: u64,
    header: Bytes,
    validators: Bytes,
    blocks: Vec<Block>,
    records: Vec<Bytes>,
    #[serde(default)]
    safe: Option<(B256, u64)>,
    #[serde(default)]
    closed: Vec<ClosedBlock>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ClosedBlock {
    hash: B256,
    refused: Vec<(u64, u32)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Block {
    hash: B256,
    number: u64,
    parent: B256,
    timestamp: u64,
    height: u64,
    items: u32,
    refused: Vec<(u64, u32)>,
}

/// What is kept beside the trust.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// What the session knows.
    pub kept: &'a Kept,
    /// Records that the log does not show.
    pub records: &'a [RecordBody],
    /// The highest safe head, by hash and number.
    pub safe: Option<(B256, u64)>,
}

/// What a start finds.
#[derive(Debug, Default)]
pub struct Start {
    /// Whom to believe.
    pub trust: Option<LightClient>,
    /// What the session knew.
    pub kept: Kept,
    /// The highest safe head, by hash and number.
    pub safe: Option<(B256, u64)>,
    /// Records that the log did not show.
    pub records: Vec<RecordBody>,
}

/// The file of one chain of one network.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    network: NetworkId,
    chain: u64,
}

impl StateFile {
    /// The file in a directory, which is made.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn new(directory: &Path, network: NetworkId, chain: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { path: directory.join("sidecar.json"), network, chain })
    }

    /// What was kept; nothing if there is no file, or none of this network and chain.
    #[must_use]
    pub fn read(&self) -> Start {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Start::default(),
            Err(error) => {
                warn!(path = %self.path.display(), %error, "cannot read what was kept; it is fetched anew");
                return Start::default();
            }
        };
        let file: Option<File> = serde_json::from_slice(&bytes).ok();
        match file.filter(|file| file.network == self.network.0 && file.chain == self.chain) {
            Some(file) => start(file),
            None => {
                warn!(path = %self.path.display(), "what was kept is not of this chain, or torn; it is fetched anew");
                Start::default()
            }
        }
    }

    /// Keeps what is known now.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, trust: &LightClient, open: &Open<'_>) -> io::Result<()> {
        let Some(header) = trust.head() else {
            return Ok(());
        };
        let (_, validators) = trust.validators();
        let file = File {
            network: self.network.0,
            chain: self.chain,
            header: header.to_canonical().into(),
            validators: alloy_rlp::encode(validators).into(),
            blocks: open.kept.blocks.iter().map(|(hash, known)| block(*hash, known)).collect(),
            safe: open.safe,
            records: open.records.iter().map(|body| alloy_rlp::encode(body).into()).collect(),
            closed: open
                .kept
                .closed
                .iter()
                .map(|(hash, refused)| ClosedBlock { hash: *hash, refused: numbers(refused) })
                .collect(),
        };
        let new = self.path.with_extension("json.new");
        let mut written = fs::File::create(&new)?;
        written.write_all(&serde_json::to_vec(&file)?)?;
        written.sync_all()?;
        fs::rename(&new, &self.path)?;
        // The name is on disk once the directory is.
        self.path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
    }
}

fn numbers(places: &BTreeSet<Place>) -> Vec<(u64, u32)> {
    places.iter().map(|place| (place.height.0, place.item)).collect()
}

fn places(numbers: &[(u64, u32)]) -> BTreeSet<Place> {
    numbers.iter().map(|&(height, item)| Place { height: Height(height), item }).collect()
}

fn block(hash: B256, known: &Known) -> Block {
    let Begin { cursor, refused } = &known.found.begin;
    Block {
        hash,
        number: known.number,
        parent: known.parent,
        timestamp: known.timestamp,
        height: cursor.height.0,
        items: cursor.items,
        refused: numbers(refused),
    }
}

fn start(file: File) -> Start {
    let known = |block: &Block| Known {
        number: block.number,
        parent: block.parent,
        timestamp: block.timestamp,
        found: Found::from(Begin {
            cursor: Cursor { height: Height(block.height), items: block.items },
            refused: places(&block.refused),
        }),
    };
    let blocks = file.blocks.iter().map(|block| (block.hash, known(block))).collect();
    let closed = file.closed.iter().map(|block| (block.hash, places(&block.refused))).collect();
    Start {
        trust: trust(&file),
        kept: Kept { blocks, closed },
        safe: file.safe,
        records: file
            .records
            .iter()
            .filter_map(|bytes| RecordBody::decode(&mut bytes.as_ref()).ok())
            .collect(),
    }
}

fn trust(file: &File) -> Option<LightClient> {
    let header = Header::from_canonical(&file.header).ok()?;
    let validators = ValidatorSet::decode(&mut file.validators.as_ref()).ok()?;
    let time: UnixMillis = header.timestamp_ms;
    LightClient::from_header(header.hash(), header, validators, time).ok()
}
