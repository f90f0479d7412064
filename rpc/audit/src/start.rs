//! Where an audit begins: at the block with which the chain joined, or at a block whose cursor a record tells. It fetches;
//! with which records a walk may begin, core says ([`begins`]).
//!
//! A record is the word of the chain's own sequencer, so an audit from a record shows that the chain kept to its slices
//! since then, if it did before. From the joining block on, nothing of the sequencer's is believed. The limits in force
//! at a record are the newest that an endpoint names; an endpoint that names none may keep some to itself.

use alloy_primitives::B256;
use lockstep_core::header::Header;
use lockstep_core::reader::{Rules, join};
use lockstep_core::record::Record;
use lockstep_core::records::begins;
use lockstep_core::types::{ChainId, Height, UnixMillis};
use lockstep_core::window::Begin;
use lockstep_execution::blocks::BlockInfo;
use lockstep_proto::convert::log::RecordKind;
use serde::Serialize;

use crate::error::AuditError;
use crate::limits::RECORDS_LOOKED_AT;
use crate::log::LogReader;
use crate::rpc::ChainRpc;
use crate::walk::Audited;

/// Blocks behind the head at which an audit begins that is not told where.
pub const BLOCKS_BACK: u64 = 1_000;

/// How the cursor of the block before the first is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It is the block before the one with which the chain joined.
    Join,
    /// By its sequencer's record.
    Record,
}

/// Where an audit begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Number of the block before the first that is walked.
    pub parent: u64,
    /// Its hash.
    pub hash: B256,
    /// Where the offers of its children begin.
    pub begin: Begin,
    /// How that is known.
    pub origin: Origin,
    /// The first block of the report, at or after the first that is walked.
    pub first: u64,
    /// The newest limits below the height where they begin; none if none are known.
    pub limits: Vec<(Header, Record)>,
}

/// What a start is looked for with.
pub(crate) struct Search<'a> {
    log: &'a mut LogReader,
    rpc: &'a ChainRpc,
    chain: ChainId,
    rules: Rules,
}

impl<'a> Search<'a> {
    pub(crate) const fn new(log: &'a mut LogReader, rpc: &'a ChainRpc, audited: &Audited) -> Self {
        Self { log, rpc, chain: audited.params.id, rules: audited.rules }
    }

    /// The start of an audit from block `from` on; by default from [`BLOCKS_BACK`] behind `head`.
    pub(crate) async fn find(
        &mut self,
        from: Option<u64>,
        head: &BlockInfo,
    ) -> Result<Start, AuditError> {
        if head.timestamp() < self.rules.joins_at {
            return Err(AuditError::NotJoined { chain: self.chain, joins_at: self.rules.joins_at });
        }
        let from = from.unwrap_or_else(|| head.number().saturating_sub(BLOCKS_BACK)).max(1);
        let before = self.header(from.saturating_sub(1)).await?;
        if before.timestamp() >= self.rules.joins_at
            && let Some(start) = self.by_record(from, &before).await?
        {
            return Ok(start);
        }
        self.by_join(from, head).await
    }

    /// The block of another chain that is the last not later than a time in seconds.
    pub(crate) async fn last_before(
        &self,
        timestamp: u64,
        head: &BlockInfo,
    ) -> Result<BlockInfo, AuditError> {
        let (mut low, mut high) = (0, head.number());
        // Block `low` is not later, or is block 0; what is behind `high` is.
        while low < high {
            let middle = low.midpoint(high).saturating_add(1).min(high);
            match self.header(middle).await?.timestamp() <= timestamp {
                true => low = middle,
                false => high = middle.saturating_sub(1),
            }
        }
        self.header(low).await
    }

    async fn header(&self, number: u64) -> Result<BlockInfo, AuditError> {
        self.rpc.header(number).await?.ok_or(AuditError::NoBlock(number))
    }

    async fn by_join(&mut self, from: u64, head: &BlockInfo) -> Result<Start, AuditError> {
        // A chain that joins with its own genesis has no block before it: block 0 holds no transaction.
        let parent = self.last_before(self.rules.joins_at.saturating_sub(1), head).await?;
        let end = self.rules.end(parent.timestamp());
        let height =
            self.log.height_after(end).await?.ok_or(AuditError::AheadOfLog(parent.number()))?;
        Ok(Start {
            parent: parent.number(),
            hash: parent.hash,
            begin: join(height).into(),
            origin: Origin::Join,
            first: from.max(parent.number().saturating_add(1)),
            limits: self.limits(height).await?,
        })
    }

    /// The newest canonical record of a block before `from`, whose parent is `before`.
    async fn by_record(
        &mut self,
        from: u64,
        before: &BlockInfo,
    ) -> Result<Option<Start>, AuditError> {
        let time = UnixMillis(before.timestamp().saturating_mul(1_000)).plus(2_000);
        let height = self.log.height_after(time).await?;
        let records = self.log.records(RecordKind::Sealed, height, RECORDS_LOOKED_AT).await?;
        for candidate in begins(&records, from.saturating_sub(1)) {
            if self.rpc.hash(candidate.number).await? == Some(candidate.hash) {
                return Ok(Some(Start {
                    parent: candidate.number,
                    hash: candidate.hash,
                    begin: candidate.begin(),
                    origin: Origin::Record,
                    first: from,
                    limits: self.limits(candidate.cursor.height).await?,
                }));
            }
        }
        Ok(None)
    }

    /// The newest limits below a height: those at it are in the slices that are read.
    async fn limits(&mut self, height: Height) -> Result<Vec<(Header, Record)>, AuditError> {
        Ok(self.log.records(RecordKind::Limits, Some(height), 1).await?)
    }
}
