//! The decided log as the gRPC services read it, over the ledger.

use std::sync::Arc;

use alloy_primitives::B256;
use lockstep_consensus::ledger::Ledger;
use lockstep_consensus::store::{RecordKind as StoredKind, StoreError, StoredBlock};
use lockstep_core::block::slices_of;
use lockstep_core::entry::Entry;
use lockstep_core::light_client::Handover;
use lockstep_core::params::Genesis;
use lockstep_core::proof::CertifiedHeader;
use lockstep_core::slice::Slice;
use lockstep_core::types::{ChainId, Height};
use lockstep_core::validator_set::ValidatorSet;
use lockstep_rpc::node::{
    Block, BlockAt, BlockSlices, Decided, FullBlock, Located, Log, ReadError, RecordHeightsQuery,
    RecordKind, Registry,
};
use tokio::sync::watch;

/// Reads for the services.
#[derive(Clone, Debug)]
pub(crate) struct LogView(pub(crate) Arc<Ledger>);

fn unreadable(error: StoreError) -> ReadError {
    ReadError(error.to_string())
}

fn certified(block: StoredBlock) -> CertifiedHeader {
    CertifiedHeader { header: block.header, certificate: block.certificate }
}

impl LogView {
    fn stored(&self, height: Height) -> Result<Option<StoredBlock>, ReadError> {
        self.0.store().block(height).map_err(unreadable)
    }

    /// The entry at a place of the log.
    pub(crate) fn entry(&self, height: Height, index: u32) -> Result<Option<Entry>, ReadError> {
        self.0.store().entry_at(height, index).map_err(unreadable)
    }

    /// The entries of a block; none if it is not held here.
    pub(crate) fn entries(&self, height: Height) -> Result<Vec<Entry>, ReadError> {
        Ok(self.0.store().entries(height).map_err(unreadable)?.unwrap_or_default())
    }

    /// What a decided entry's submitter is told, but for its legs.
    pub(crate) fn decided(&self, height: Height, index: u32) -> Result<Option<Decided>, ReadError> {
        Ok(self.stored(height)?.map(|block| Decided {
            height,
            index,
            block: block.header.hash(),
            certificate: Arc::new(block.certificate),
            legs: Vec::new(),
        }))
    }
}

impl Log for LogView {
    fn heads(&self) -> watch::Receiver<Height> {
        self.0.heads()
    }

    fn earliest(&self) -> Height {
        self.0.store().earliest()
    }

    fn block(&self, at: BlockAt) -> Result<Option<Block>, ReadError> {
        let height = match at {
            BlockAt::Height(height) => Some(height),
            BlockAt::Hash(hash) => self.0.store().height_of(hash).map_err(unreadable)?,
        };
        let Some(height) = height else { return Ok(None) };
        Ok(self.stored(height)?.map(|block| {
            let cut = block.cut.clone();
            Block { certified: certified(block), cut }
        }))
    }

    fn slices(&self, height: Height) -> Result<Option<BlockSlices>, ReadError> {
        let Some(block) = self.stored(height)? else { return Ok(None) };
        let Some(entries) = self.0.store().entries(height).map_err(unreadable)? else {
            return Ok(None);
        };
        let slices = slices_of((0u32..).zip(&entries));
        let summaries = slices.iter().map(Slice::summary).collect();
        Ok(Some(BlockSlices { block: certified(block), summaries, slices }))
    }

    fn full_block(&self, height: Height) -> Result<Option<FullBlock>, ReadError> {
        let value = self.0.synced_value(height).map_err(unreadable)?;
        Ok(value.map(|(synced_value, certificate)| FullBlock { height, synced_value, certificate }))
    }

    fn locate(&self, chain: ChainId, transaction: B256) -> Result<Option<Located>, ReadError> {
        let store = self.0.store();
        let Some(at) = store.find_transaction(chain, transaction).map_err(unreadable)? else {
            return Ok(None);
        };
        let entry = store.entry_at(at.height, at.index).map_err(unreadable)?;
        let (Some(entry), Some(decided)) = (entry, self.decided(at.height, at.index)?) else {
            return Ok(None);
        };
        Ok(Some(Located { id: entry.id(), decided }))
    }

    fn record_heights(&self, query: RecordHeightsQuery) -> Result<Vec<Height>, ReadError> {
        let kind = match query.kind {
            RecordKind::Sealed => StoredKind::Sealed,
            RecordKind::Limits => StoredKind::Limits,
            RecordKind::Prepared => StoredKind::Prepared,
        };
        let before = query.before.unwrap_or_else(|| self.0.state().height.next());
        let count = usize::try_from(query.count).unwrap_or(usize::MAX);
        let heights = self.0.store().record_heights((query.chain, kind), before, count);
        heights.map_err(unreadable)
    }

    fn validator_set(&self, height: Height) -> Result<Option<ValidatorSet>, ReadError> {
        self.0.store().validators(height).map_err(unreadable)
    }

    fn handovers(&self, _: Height, _: Height, _: usize) -> Result<Vec<Handover>, ReadError> {
        // The set of the genesis decides every height of this version.
        Ok(Vec::new())
    }

    fn registry(&self) -> Registry {
        let state = self.0.state();
        Registry {
            chains: state.committed.chains.iter().map(|chain| chain.params.clone()).collect(),
            params: state.committed.params.clone(),
        }
    }

    fn genesis(&self) -> Arc<Genesis> {
        Arc::new(self.0.store().genesis().clone())
    }
}
