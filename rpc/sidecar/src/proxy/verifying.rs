//! In front of a replica: what its op-node got by gossip is compared with the log before the engine sees it.
//!
//! op-node uses one call for gossip and for what it derived from L1, and a refusal of a derived block forks the replica
//! for good. So a block that the own engine built passes always (L1 is the truth; the alarm is raised), and `INVALID` is
//! said only to one that it did not build. What is not known yet is an error that op-node tries again, never `INVALID`
//! or `SYNCING`. Source: design section 5; `poc/interop/RESULTS.md` section 5.

use std::sync::Arc;

use lockstep_core::cursor::Kind;
use serde_json::value::to_raw_value;
use tracing::{error, warn};

use super::{Answer, Proxy, ok};
use crate::chain::Unresolved;
use crate::json_rpc::{self, Request, SERVER_ERROR};
use crate::payload::Payload;

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    status: &'a str,
    latest_valid_hash: Option<alloy_primitives::B256>,
    validation_error: &'a str,
}

impl Proxy {
    /// The answer to a payload that must not reach the engine; `None` if it may.
    pub(super) async fn judge_payload(
        self: &Arc<Self>,
        request: &Request<'_>,
        payload: &Payload,
    ) -> Option<Answer> {
        let is_own = self.seen().own.contains(&payload.hash);
        let has_users = payload.transactions.iter().any(|bytes| bytes.first() != Some(&0x7e));
        if !has_users || payload.timestamp < self.chain.params().joins_at {
            return None;
        }
        let judged = match self.chain.cursor_of(payload.parent).await {
            Ok(cursor) => self.chain.judge(payload.clone().into(), cursor).await,
            Err(error) => Err(error),
        };
        match judged {
            Ok(judged) => {
                let Kind::Foreign { hash, .. } = judged.kind else {
                    return None;
                };
                self.metrics.foreign.inc();
                if is_own {
                    error!(block = %payload.hash, transaction = %hash, "a block derived from L1 left its slice");
                    return None;
                }
                error!(block = %payload.hash, transaction = %hash, "refused a block that is not of its slice");
                let words = format!("transaction {hash} was not offered to this block");
                let status =
                    Status { status: "INVALID", latest_valid_hash: None, validation_error: &words };
                let raw = to_raw_value(&status).unwrap_or_default();
                Some(ok(json_rpc::result(request.id, &raw)))
            }
            Err(_) if is_own => None,
            Err(Unresolved::NoBlock(_)) => None,
            Err(error) => {
                warn!(block = %payload.hash, %error, "a block cannot be compared with the log yet");
                Some(ok(json_rpc::error(request.id, SERVER_ERROR, &error.to_string())))
            }
        }
    }
}
