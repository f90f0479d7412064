//! A full node's log: decided blocks come from anywhere, and each is checked as if everybody lied.
//!
//! The certificate is checked against the set of the height, every batch and entry is checked, the block is assembled
//! again and compared field by field. Where the blocks come from is not its business.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_core::batch::InvalidBatch;
use lockstep_core::block::InvalidBlock;
use lockstep_core::certificate::{Certificate, InvalidCertificate};
use lockstep_core::params::Genesis;
use lockstep_core::proposal::{InvalidValue, SyncedValue};
use lockstep_core::types::{BlockHash, Height};

use crate::checker::Checker;
use crate::ledger::{DecidedBlock, Ledger};
use crate::store::{CommitError, LogStore, StoreError};
use crate::validator::StartError;

/// A full node's log.
#[derive(Clone, Debug)]
pub struct Follower {
    /// What was followed so far.
    pub ledger: Arc<Ledger>,
    checker: Checker,
}

/// Why a block was not applied.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Not the next height: nobody's fault, ask for the right one.
    #[error("block has height {got}, expected {expected}")]
    Height {
        /// The next height.
        expected: Height,
        /// The block's.
        got: Height,
    },
    /// The bytes are no value. The source lied.
    #[error("value: {0}")]
    Value(#[from] InvalidValue),
    /// The certificate is of another block. The source lied.
    #[error("certificate is of block {got}, the value is {expected}")]
    OtherBlock {
        /// The value's hash.
        expected: BlockHash,
        /// The certificate's.
        got: BlockHash,
    },
    /// The certificate proves nothing. The source lied.
    #[error("certificate: {0}")]
    Certificate(#[from] InvalidCertificate),
    /// A batch is wrong. The source lied.
    #[error("batch: {0}")]
    Batch(#[from] InvalidBatch),
    /// The block breaks a rule. The source lied, or a quorum did.
    #[error("block: {0}")]
    Block(#[from] InvalidBlock),
    /// The store failed: the node must stop.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The block can't be written: the node must stop.
    #[error("commit: {0}")]
    Commit(#[from] CommitError),
    /// The runtime is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl FollowError {
    /// Whether the node itself failed, not the source of the block.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        match self {
            Self::Store(_) | Self::Commit(_) | Self::Stopping => true,
            Self::Height { .. }
            | Self::Value(_)
            | Self::OtherBlock { .. }
            | Self::Certificate(_)
            | Self::Batch(_)
            | Self::Block(_) => false,
        }
    }
}

impl Follower {
    /// Opens the log in `data_dir`, which is made where it is missing.
    ///
    /// # Errors
    /// [`StartError`] says what to mend.
    pub async fn open(
        genesis: Genesis,
        data_dir: &Path,
        check_threads: usize,
    ) -> Result<Self, StartError> {
        genesis.validate()?;
        let checker = Checker::new(genesis.network_id(), check_threads).map_err(|error| {
            StartError::Io { doing: "checker threads", reason: error.to_string() }
        })?;
        let dir = data_dir.to_owned();
        let open = move || -> Result<Arc<Ledger>, StartError> {
            std::fs::create_dir_all(&dir).map_err(|error| StartError::Io {
                doing: "creating the data directory",
                reason: error.to_string(),
            })?;
            let store = LogStore::open(&dir.join("store"), &genesis)?;
            Ok(Arc::new(Ledger::open(Arc::new(store))?))
        };
        let ledger = tokio::task::spawn_blocking(open)
            .await
            .map_err(|error| StartError::Io { doing: "opening", reason: error.to_string() })??;
        Ok(Self { ledger, checker })
    }

    /// Checks the next block and appends it.
    ///
    /// # Errors
    /// [`FollowError`]; [`FollowError::is_own`] tells a lying source from a failing node.
    pub async fn apply(
        &self,
        value: Bytes,
        certificate: Certificate,
    ) -> Result<Height, FollowError> {
        let SyncedValue { header, cut, batches: raw } = SyncedValue::decode(&value.into())?;
        let state = self.ledger.state();
        let (expected, got) = (state.height.next(), header.height);
        if expected != got {
            return Err(FollowError::Height { expected, got });
        }
        let hash = header.hash();
        if (certificate.block, certificate.height) != (hash, got) {
            return Err(FollowError::OtherBlock { expected: hash, got: certificate.block });
        }
        certificate.verify(state.network_id, &state.committed.validators)?;
        let mut batches = Vec::with_capacity(raw.len());
        for raw in raw {
            batches.push(self.checker.check_batch(raw.into()).await?);
        }
        let ledger = self.ledger.clone();
        let apply = move || -> Result<Height, FollowError> {
            let (expected, got) = (ledger.state().height.next(), header.height);
            let verified = ledger.verify(&header, &cut, &batches);
            let assembly = Arc::new(verified.ok_or(FollowError::Height { expected, got })??);
            ledger.store().put_batches(&batches)?;
            let batches = Arc::new(batches);
            let decided = DecidedBlock { header, cut, certificate, assembly, batches };
            ledger.commit(&decided)?;
            Ok(decided.header.height)
        };
        tokio::task::spawn_blocking(apply).await.map_err(|_| FollowError::Stopping)?
    }
}
