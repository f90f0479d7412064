//! In front of a replica: what its op-node got by gossip is compared with the log before the engine sees it.
//!
//! op-node uses one call for gossip and for what it derived from L1, and a refusal of a derived block forks the replica
//! for good. So a block that the own engine built passes always (L1 is the truth; the alarm is raised), and `INVALID` is
//! said only to one that it did not build. What is not known yet is an error that op-node tries again, never `INVALID`
//! or `SYNCING`. Source: design section 5.
//!
//! | the block | answer |
//! |---|---|
//! | has no user's transaction, or is from before the chain joined | passes |
//! | takes its whole offer | passes |
//! | leaves something of its offer out | is built again by the own engine: passes if the hash is the same, else `INVALID` |
//! | has anything else | `INVALID` |
//! | cannot be compared now | −32000 |

use std::sync::Arc;

use alloy_primitives::B256;
use lockstep_core::cursor::Kind;
use lockstep_core::record::SkipReason;
use lockstep_execution::attributes::Attributes;
use lockstep_execution::json_rpc::{self, Request, SERVER_ERROR};
use lockstep_execution::payload::{self, Payload};
use serde_json::value::{RawValue, to_raw_value};
use tracing::{error, warn};

use super::{Answer, Proxy, ok};
use crate::build::Order;
use crate::chain::{Judged, Unresolved};

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    status: &'a str,
    latest_valid_hash: Option<B256>,
    validation_error: &'a str,
}

/// What a block is to its slice.
enum Verdict {
    /// It is what the log says.
    Good,
    /// It is not, and why.
    Bad(String),
    /// That cannot be told now.
    Unknown(String),
}

impl Proxy {
    /// The answer to a payload that must not reach the engine; `None` if it may.
    pub(super) async fn judge_payload(
        self: &Arc<Self>,
        request: &Request<'_>,
        (payload, raw): (&Payload, &RawValue),
    ) -> Option<Answer> {
        let hash = payload.hash;
        if self.seen().own.contains(&hash) {
            // It passes whatever it is, so nothing is waited for.
            self.judge_own(request, (payload, raw));
            return None;
        }
        match self.verdict(&request.method, beacon_root(request), (payload, raw)).await {
            Verdict::Good => None,
            Verdict::Bad(reason) => {
                self.metrics.foreign.inc();
                error!(block = %hash, %reason, "refused a block that is not of its slice");
                let status = Status {
                    status: "INVALID",
                    latest_valid_hash: None,
                    validation_error: &reason,
                };
                let raw = to_raw_value(&status).unwrap_or_default();
                Some(ok(json_rpc::result(request.id, &raw)))
            }
            Verdict::Unknown(reason) => {
                warn!(block = %hash, %reason, "a block cannot be compared with the log yet");
                Some(ok(json_rpc::error(request.id, SERVER_ERROR, &reason, None)))
            }
        }
    }

    /// Judges a block that the own engine built, for the alarm alone, unless another one is being judged: a replica that
    /// derives a long chain builds faster than that.
    fn judge_own(self: &Arc<Self>, request: &Request<'_>, (payload, raw): (&Payload, &RawValue)) {
        let Ok(turn) = Arc::clone(&self.judging).try_acquire_owned() else { return };
        let (proxy, method) = (Arc::clone(self), request.method.clone().into_owned());
        let (root, payload, raw) = (beacon_root(request), payload.clone(), raw.to_owned());
        tokio::spawn(async move {
            if let Verdict::Bad(reason) = proxy.verdict(&method, root, (&payload, &raw)).await {
                proxy.metrics.foreign.inc();
                error!(block = %payload.hash, %reason, "a block derived from L1 left its slice");
            }
            drop(turn);
        });
    }

    async fn verdict(
        &self,
        method: &str,
        beacon_root: Option<Box<RawValue>>,
        (payload, raw): (&Payload, &RawValue),
    ) -> Verdict {
        let has_users = payload.transactions.iter().any(|bytes| bytes.first() != Some(&0x7e));
        if !has_users || payload.timestamp < self.chain.params().joins_at {
            return Verdict::Good;
        }
        let judged = match self.chain.begin_of(payload.parent).await {
            Ok(found) => self.chain.judge(payload.clone().into(), found.begin).await,
            Err(error) => Err(error),
        };
        let judged = match judged {
            Ok(judged) => judged,
            // op-node asks for blocks whose parent the engine lacks, and hears from it what it lacks.
            Err(Unresolved::NoBlock(_)) => return Verdict::Good,
            Err(error) => return Verdict::Unknown(error.to_string()),
        };
        match &judged.kind {
            Kind::Foreign { index, hash } => {
                Verdict::Bad(format!("transaction {index} ({hash}) was not offered to this block"))
            }
            Kind::Offered(outcome)
                if outcome.skipped.iter().any(|skipped| skipped.reason == SkipReason::Invalid) =>
            {
                self.build_again(method, beacon_root, raw, &judged).await
            }
            Kind::Offered(_) | Kind::Closed | Kind::Ambiguous => Verdict::Good,
        }
    }

    /// Whether the own engine comes to the same block from the whole offer. Somebody who left a valid item out is found.
    async fn build_again(
        &self,
        method: &str,
        beacon_root: Option<Box<RawValue>>,
        raw: &RawValue,
        judged: &Judged,
    ) -> Verdict {
        let unknown = |reason: &dyn core::fmt::Display| Verdict::Unknown(reason.to_string());
        let attributes = match payload::attributes(raw, beacon_root.as_deref()) {
            Some(raw) => Attributes::read(&raw),
            None => return Verdict::Bad("its header has no attributes".to_owned()),
        };
        let attributes = match attributes {
            Ok(attributes) => attributes,
            Err(error) => return unknown(&error),
        };
        let get_payload = method.replace("newPayload", "getPayload");
        let order = Order {
            method: "engine_forkchoiceUpdatedV3".to_owned(),
            parent: judged.block.parent,
            heads: Arc::clone(&self.heads),
            attributes,
            get_payload: None,
        };
        let (items, parent) = (&judged.offer.items, judged.block.number.checked_sub(1));
        let built = self.build_and_import(&order, items, parent, Some(&get_payload)).await;
        let own = match built {
            Ok((_, imported)) => imported.map(|taken| taken.payload.hash),
            Err(error) => return unknown(&error),
        };
        match own {
            Some(own) if own == judged.block.hash => Verdict::Good,
            Some(own) => Verdict::Bad(format!(
                "items that are valid were left out: the block of the whole offer is {own}"
            )),
            None => Verdict::Unknown("the engine gives no block to compare it with".to_owned()),
        }
    }
}

fn beacon_root(request: &Request<'_>) -> Option<Box<RawValue>> {
    request.positional().get(2).map(|raw| (*raw).to_owned())
}
