//! Where an audit begins: at the block with which the chain joined, or at a block whose cursor a record tells.
//!
//! A record is the word of the chain's own sequencer, so an audit from a record shows that the chain kept to its slices
//! since then, if it did before. From the joining block on, nothing of the sequencer's is believed. The limits in force
//! at a record are the newest that an endpoint names; an endpoint that names none may keep some to itself.

use alloy_primitives::B256;
use lockstep_core::params::ChainParams;
use lockstep_core::record::{Cursor, Limits, Record, RecordBody, SealMode, Sealed};
use lockstep_core::types::{Height, UnixMillis};
use lockstep_core::window::{self, Begin};
use lockstep_execution::blocks::BlockInfo;
use lockstep_proto::convert::log::RecordKind;
use serde::Serialize;

use crate::error::AuditError;
use crate::limits::RECORDS_LOOKED_AT;
use crate::log::LogReader;
use crate::rpc::ChainRpc;

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
    /// Limits in force there, and since when, if any are known.
    pub limits: Option<(UnixMillis, Limits)>,
}

/// What a start is looked for with.
pub(crate) struct Search<'a> {
    pub(crate) log: &'a mut LogReader,
    pub(crate) rpc: &'a ChainRpc,
    pub(crate) params: &'a ChainParams,
    pub(crate) lead_ms: u64,
}

impl Search<'_> {
    /// The start of an audit from block `from` on; by default from [`BLOCKS_BACK`] behind `head`.
    pub(crate) async fn find(
        &mut self,
        from: Option<u64>,
        head: &BlockInfo,
    ) -> Result<Start, AuditError> {
        if head.timestamp() < self.params.joins_at {
            return Err(AuditError::NotJoined {
                chain: self.params.id,
                joins_at: self.params.joins_at,
            });
        }
        let from = from.unwrap_or_else(|| head.number().saturating_sub(BLOCKS_BACK)).max(1);
        let before = self.header(from.saturating_sub(1)).await?;
        if before.timestamp() >= self.params.joins_at
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
        let parent = self.last_before(self.params.joins_at.saturating_sub(1), head).await?;
        let end = window::end(parent.timestamp(), self.lead_ms);
        let height =
            self.log.height_after(end).await?.ok_or(AuditError::AheadOfLog(parent.number()))?;
        Ok(Start {
            parent: parent.number(),
            hash: parent.hash,
            begin: Cursor { height, items: 0 }.into(),
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
        let sealed: Vec<&Sealed> =
            records.iter().filter_map(|(_, record)| sealed(record)).collect();
        for candidate in &sealed {
            if is_usable(candidate, &sealed, from)
                && self.rpc.hash(candidate.number).await? == Some(candidate.hash)
            {
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
    async fn limits(&mut self, height: Height) -> Result<Option<(UnixMillis, Limits)>, AuditError> {
        let records = self.log.records(RecordKind::Limits, Some(height), 1).await?;
        let limits = records.first().and_then(|(header, record)| match &record.body {
            RecordBody::Limits(limits) => Some((header.timestamp_ms, *limits)),
            RecordBody::Sealed(_) | RecordBody::Prepared(_) => None,
        });
        Ok(limits)
    }
}

const fn sealed(record: &Record) -> Option<&Sealed> {
    match &record.body {
        RecordBody::Sealed(sealed) => Some(sealed),
        RecordBody::Limits(_) | RecordBody::Prepared(_) => None,
    }
}

/// Whether a record tells the cursor of a block before `from`. One that says closed may have come too late to count, and
/// one that another record contradicts is no word at all.
fn is_usable(candidate: &Sealed, all: &[&Sealed], from: u64) -> bool {
    let contradicts = |other: &Sealed| {
        other.hash == candidate.hash
            && (other.mode, other.cursor) != (candidate.mode, candidate.cursor)
    };
    candidate.number < from
        && candidate.mode == SealMode::Offered
        && !all.iter().any(|other| contradicts(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, mode: SealMode, items: u32) -> Sealed {
        Sealed {
            number,
            hash: B256::with_last_byte(u8::try_from(number).expect("is small")),
            parent: B256::ZERO,
            timestamp: number,
            mode,
            cursor: Cursor { height: Height(5), items },
            skipped: Vec::new(),
        }
    }

    #[test]
    fn record_to_begin_with_is_of_an_offered_block_before_the_first_and_undisputed() {
        let candidate = record(6, SealMode::Offered, 1);
        for (from, others, expected) in [
            (7, vec![], true),
            (6, vec![], false),
            (7, vec![record(5, SealMode::Closed, 0)], true),
            (7, vec![candidate.clone()], true),
            (7, vec![record(6, SealMode::Closed, 1)], false),
            (7, vec![record(6, SealMode::Offered, 2)], false),
        ] {
            let all: Vec<&Sealed> = others.iter().collect();
            assert_eq!(is_usable(&candidate, &all, from), expected, "{from} {others:?}");
        }
        assert!(!is_usable(&record(6, SealMode::Closed, 1), &[], 7));
    }
}
