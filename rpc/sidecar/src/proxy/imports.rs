//! Payloads that pass through: remembered, so that the next block's cursor needs no question to the engine.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy_primitives::B256;
use bytes::Bytes;
use lockstep_core::deposit::is_deposit;
use lockstep_core::limits::BACKLOG_MS_MAX;
use lockstep_execution::client::{Reply, result_of};
use lockstep_execution::json_rpc::Request;
use lockstep_execution::payload::{self, Imported, Payload};
use serde_json::value::RawValue;
use tracing::debug;

use super::{Answer, Proxy};
use crate::config::{ExecutionMode, Role};
use crate::limits::BLOCKS_KEPT_MAX;

impl Proxy {
    /// Passes a payload on, and remembers it if the engine takes it.
    pub(super) async fn new_payload(
        self: &Arc<Self>,
        request: &Request<'_>,
        params: &[&RawValue],
        body: Bytes,
    ) -> Answer {
        let payload = params.first().and_then(|raw| Payload::read(raw));
        if self.role == Role::Verifying
            && *self.mode.borrow() == ExecutionMode::Enabled
            && let (Some(payload), Some(raw)) = (&payload, params.first())
            && let Some(answer) = self.judge_payload(request, (payload, raw)).await
        {
            return answer;
        }
        let answer = self.pass(body).await;
        if let Some(payload) = payload {
            match imported(&answer, payload.parent) {
                Some(Imported::Valid) => {
                    self.chain.blocks().keep(&payload);
                    self.note_taken(&payload);
                    self.keep_up(payload.hash);
                }
                // The same job would come to the same block, so it begins anew and finds out ahead of op-node.
                Some(Imported::Invalid(words)) => self.jobs.fail(payload.parent, &words),
                None => {}
            }
        }
        answer
    }

    /// Finds the cursor of a block that somebody else made, so that a standby, a replica, or a sidecar that is switched on
    /// later need not walk far. Where the log does not know enough yet, or another walk is on its way, a later block finds it.
    fn keep_up(self: &Arc<Self>, hash: B256) {
        if self.chain.ledger().get(&hash).is_some() {
            return;
        }
        let Ok(turn) = Arc::clone(&self.walking).try_acquire_owned() else { return };
        let chain = Arc::clone(&self.chain);
        tokio::spawn(async move {
            if let Err(reason) = chain.begin_of(hash).await {
                debug!(block = %hash, %reason, "the cursor of an imported block is not known yet");
            }
            drop(turn);
        });
    }

    /// Passes a `getPayload` on that is no job's, and remembers what the engine built.
    pub(super) async fn get_own_payload(&self, body: Bytes) -> Answer {
        let answer = self.pass(body).await;
        let reply = Reply { status: answer.status, body: answer.body.clone() };
        if let Ok(raw) = result_of(&reply)
            && let Some(payload) = Payload::in_envelope(&raw)
        {
            self.note_own(payload.hash);
            if self.is_closed_by_op_node(&payload) {
                self.note_closed(payload.hash, BTreeSet::new()).await;
            }
        }
        answer
    }

    /// Whether op-node made a block of deposits only, past the sidecar: it recovers, or the sidecar is switched off. Only a
    /// record tells such a block from one whose every item was bad. One that comes too late for a record needs none.
    fn is_closed_by_op_node(&self, payload: &Payload) -> bool {
        let has_users = payload.transactions.iter().any(|bytes| !is_deposit(bytes));
        let end = self.chain.end(payload.timestamp);
        let newest = self.chain.feed().newest().borrow().timestamp;
        self.role == Role::Sequencing
            && self.records.is_some()
            && !has_users
            && payload.timestamp >= self.chain.params().joins_at
            && newest <= end.plus(BACKLOG_MS_MAX)
    }

    /// Remembers that a block came out of this engine's own `getPayload`.
    pub(super) fn note_own(&self, hash: B256) {
        let mut seen = self.seen();
        seen.own.push_back(hash);
        while seen.own.len() > BLOCKS_KEPT_MAX {
            seen.own.pop_front();
        }
    }
}

fn imported(answer: &Answer, parent: B256) -> Option<Imported> {
    let reply = Reply { status: answer.status, body: answer.body.clone() };
    payload::imported(&result_of(&reply).ok()?, parent)
}
