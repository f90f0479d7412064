//! What the session knows, whoever of its parts found it out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use lockstep_core::cursor::L2Block;
use lockstep_core::deposit::is_deposit;
use lockstep_core::limits::BACKLOG_MS_MAX;
use lockstep_core::params::ChainParams;
use lockstep_core::reader::{LogView, Reader, Rules};
use lockstep_core::recent::Recent;
use lockstep_core::record::Sealed;
use lockstep_core::window::Place;
use lockstep_execution::payload::Payload;

use super::context::{Asking, Context};
use super::effect::{Kept, Question};
use super::error::NotHead;
use super::heads::{Heads, Wanted};
use super::job::Jobs;
use super::restoring::Brought;
use super::reviving::Doubt;
use crate::config::{ExecutionMode, Role, WhenSilent};
use crate::failing::Failing;
use crate::limits::{
    BLOCK_BYTES_KEPT_MAX, BLOCKS_KEPT_MAX, BROUGHT_BYTES_KEPT_MAX, CURSORS_KEPT_MAX, FAILURES_MAX,
    HOLD_MAX, JOBS_MAX, PATIENCE_MIN,
};
use crate::safe_head::SafeHeads;

/// What is set at the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The chain.
    pub params: ChainParams,
    /// Milliseconds from a window's end to its block's timestamp.
    pub lead_ms: u64,
    /// In front of a sequencer or of a replica.
    pub role: Role,
    /// What to do while the committee is silent.
    pub when_silent: WhenSilent,
    /// Whether it can sign records.
    pub has_key: bool,
}

impl Settings {
    /// How long `getPayload` is held at most.
    #[must_use]
    pub fn hold(&self) -> Duration {
        Duration::from_millis(self.params.block_time_ms).min(HOLD_MAX)
    }

    /// How long before its timestamp a block's window ends.
    #[must_use]
    pub const fn lead(&self) -> Duration {
        Duration::from_millis(self.lead_ms)
    }

    /// How long jobs may come to no block before that is no hiccup: some block times, each job held for one.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.hold().saturating_mul(FAILURES_MAX).max(PATIENCE_MIN)
    }
}

/// What a start finds on disk.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The highest safe head, by hash and number.
    pub safe: Option<(B256, u64)>,
    /// What was kept of the session.
    pub kept: Kept,
    /// The heads that op-node wanted.
    pub heads: Option<Wanted>,
    /// The newest payloads that it brought, the oldest first.
    pub brought: Vec<(B256, Brought)>,
}

/// What is known.
#[derive(Debug)]
pub struct State {
    /// What was set at the start.
    pub settings: Settings,
    /// The switch.
    pub mode: ExecutionMode,
    /// What op-node wants the heads to be.
    pub heads: Heads,
    /// Why the engine's head may be older than that.
    pub doubt: Option<Doubt>,
    /// The engine lacks more than can be given back, as one that syncs from nothing: that is not tried again with each call.
    pub has_given_up: bool,
    /// The safe heads, for which jobs on older parents are put off.
    pub safe: SafeHeads,
    /// The chain's cursors.
    pub reader: Reader,
    /// Contents of blocks that came by, so that the engine need not be asked.
    pub blocks: Recent<B256, Arc<L2Block>>,
    /// Payloads as op-node brought them, to be given back to an engine that lost them.
    pub brought: Recent<B256, Arc<Brought>>,
    /// op-node's jobs.
    pub jobs: Jobs,
    /// Blocks that were handed to op-node and not yet taken by the engine, and when their windows had closed.
    pub sealing: Recent<B256, (Sealed, Instant)>,
    /// Blocks that came out of the engine's own `getPayload`.
    pub own: Recent<B256, ()>,
    /// The version of `getPayload` that op-node used last, to take the next block with.
    pub get_payload: Option<String>,
    /// Since when jobs come to no block.
    pub failing: Failing,
    /// Whether a block that was sealed closed became part of the chain, since that was looked at.
    pub has_taken_closed: bool,
}

impl State {
    /// What is known at a start.
    #[must_use]
    pub fn new(settings: Settings, before: Before) -> Self {
        let rules = Rules { lead_ms: settings.lead_ms, joins_at: settings.params.joins_at };
        let mut reader = Reader::new(rules);
        for (hash, known) in before.kept.blocks.into_iter().rev() {
            reader.insert(hash, known);
        }
        for (hash, refused) in before.kept.closed {
            reader.note_closed(hash, refused);
            // If op-node never brought it back, the engine will not have it.
            reader.take_closed(&hash);
        }
        let mut brought = Recent::new(BROUGHT_BYTES_KEPT_MAX);
        for (hash, payload) in before.brought {
            let bytes = payload.bytes();
            brought.insert_weighed(hash, Arc::new(payload), bytes);
        }
        let doubt = before.heads.is_some().then_some(Doubt::Started);
        let mut heads = Heads::default();
        if let Some(wanted) = before.heads {
            heads.note(wanted);
        }
        Self {
            settings,
            mode: ExecutionMode::Enabled,
            heads,
            doubt,
            has_given_up: false,
            safe: SafeHeads::new(before.safe),
            reader,
            blocks: Recent::new(BLOCK_BYTES_KEPT_MAX),
            brought,
            jobs: Jobs::default(),
            sealing: Recent::new(JOBS_MAX),
            own: Recent::new(BLOCKS_KEPT_MAX),
            get_payload: None,
            failing: Failing::default(),
            has_taken_closed: false,
        }
    }

    /// The engine may have an older head than op-node wants.
    pub fn doubt(&mut self) {
        if self.heads.newest().is_some() && !self.has_given_up {
            self.doubt.get_or_insert(Doubt::Away);
        }
    }

    /// Whether an engine that lacks a block can be given it.
    #[must_use]
    pub fn can_give_back(&self, block: &B256) -> bool {
        !self.has_given_up && self.brought.contains(block)
    }

    /// Keeps the content of a payload.
    pub fn keep(&mut self, payload: &Payload) {
        let block = L2Block::from(payload.clone());
        let bytes = block.transactions.iter().map(|bytes| bytes.len().saturating_add(64));
        let weight = bytes.fold(256, usize::saturating_add);
        self.blocks.insert_weighed(block.hash, Arc::new(block), weight);
    }

    /// Remembers that a block was sealed closed, and asks that this be brought to disk. It looks like one whose every item was
    /// bad, so a sidecar that forgot it would take it for an offered one.
    pub fn note_closed(
        &mut self,
        cx: &mut Context<'_>,
        hash: B256,
        refused: BTreeSet<Place>,
    ) -> Asking {
        self.reader.note_closed(hash, refused);
        cx.ask(Question::Keep)
    }

    /// What is kept for the next start.
    pub fn kept(&mut self, log: LogView<'_>) -> Kept {
        let blocks = self.reader.newest(CURSORS_KEPT_MAX);
        let closed = self.reader.closed(log);
        let closed = closed.map(|(hash, closed)| (*hash, closed.refused.clone())).collect();
        Kept { blocks, closed }
    }

    /// Whether a job may go on: its parent is the head that op-node wants.
    ///
    /// # Errors
    /// [`NotHead`] if it is not.
    pub fn expect_head(&self, parent: B256) -> Result<(), NotHead> {
        self.heads.on(parent).map(|_| ())
    }

    /// Whether op-node made a block of deposits only, past the sidecar: it recovers, or the sidecar is switched off. Only a
    /// record tells such a block from one whose every item was bad. One that comes too late for a record needs none.
    #[must_use]
    pub fn is_closed_by_op_node(&self, cx: &Context<'_>, payload: &Payload) -> bool {
        let settings = &self.settings;
        let has_users = payload.transactions.iter().any(|bytes| !is_deposit(bytes));
        let end = self.reader.rules().end(payload.timestamp);
        settings.role == Role::Sequencing
            && settings.has_key
            && !has_users
            && payload.timestamp >= settings.params.joins_at
            && cx.log.newest.timestamp <= end.plus(BACKLOG_MS_MAX)
    }
}
