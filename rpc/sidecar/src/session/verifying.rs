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
use std::task::{Poll, ready};

use alloy_primitives::B256;
use lockstep_core::cursor::Kind;
use lockstep_core::deposit::is_deposit;
use lockstep_core::reader::{Judged, Unresolved};
use lockstep_core::record::SkipReason;
use lockstep_execution::attributes::Attributes;
use lockstep_execution::payload::{self, Payload};
use serde_json::value::RawValue;

use super::attempts::Order;
use super::context::Context;
use super::error::{JobError, NotFound};
use super::finding::{Finding, Judging};
use super::making::Making;
use super::state::State;

/// What a block is to its slice.
#[derive(Debug)]
pub enum Verdict {
    /// It is what the log says.
    Good,
    /// It is not, and why.
    Bad(String),
    /// That cannot be told now.
    Unknown(JobError),
}

/// A block that is compared with the log.
#[derive(Debug)]
pub struct Verifying {
    /// The version of `newPayload` that brought it.
    method: String,
    payload: Payload,
    /// All parameters, the payload first and the root of the beacon block third.
    params: Vec<Box<RawValue>>,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Beginning,
    Finding(Finding),
    Judging(Judging),
    /// Whether the own engine comes to the same block from the whole offer. Somebody who left a valid item out is found.
    Building(Box<Making>),
}

impl Verifying {
    /// The comparing of a block.
    #[must_use]
    pub const fn new(method: String, payload: Payload, params: Vec<Box<RawValue>>) -> Self {
        Self { method, payload, params, doing: Doing::Beginning }
    }

    /// Hash of the block.
    #[must_use]
    pub const fn block(&self) -> B256 {
        self.payload.hash
    }

    /// Goes on, to the verdict.
    pub fn poll(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<Verdict> {
        loop {
            match &mut self.doing {
                Doing::Beginning => {
                    let has_users = self.payload.transactions.iter().any(|it| !is_deposit(it));
                    if !has_users || self.payload.timestamp < state.settings.params.joins_at {
                        return Poll::Ready(Verdict::Good);
                    }
                    self.doing = Doing::Finding(Finding::new(self.payload.parent));
                }
                Doing::Finding(finding) => match ready!(finding.poll(cx, state)) {
                    Ok(found) => {
                        let judging = Judging::new(self.payload.clone().into(), found.begin);
                        self.doing = Doing::Judging(judging);
                    }
                    Err(reason) => return Poll::Ready(unresolved(reason)),
                },
                Doing::Judging(judging) => match ready!(judging.poll(cx, state)) {
                    Ok(judged) => {
                        if let Some(verdict) = self.judge(cx, &judged) {
                            return Poll::Ready(verdict);
                        }
                    }
                    Err(reason) => return Poll::Ready(unresolved(reason)),
                },
                Doing::Building(making) => {
                    return Poll::Ready(match ready!(making.poll(cx, state)) {
                        Ok((_, Some(taken))) => compare(taken.payload.hash, self.payload.hash),
                        // The engine gives no block to compare it with.
                        Ok((_, None)) => Verdict::Unknown(JobError::Lost),
                        Err(reason) => Verdict::Unknown(reason),
                    });
                }
            }
        }
    }

    fn judge(&mut self, cx: &mut Context<'_>, judged: &Judged) -> Option<Verdict> {
        match &judged.kind {
            Kind::Foreign { index, hash } => Some(Verdict::Bad(format!(
                "transaction {index} ({hash}) was not offered to this block"
            ))),
            Kind::Offered(outcome)
                if outcome.skipped.iter().any(|skipped| skipped.reason == SkipReason::Invalid) =>
            {
                self.build_again(cx, judged)
            }
            Kind::Offered(_) | Kind::Closed | Kind::Ambiguous => Some(Verdict::Good),
        }
    }

    fn build_again(&mut self, cx: &mut Context<'_>, judged: &Judged) -> Option<Verdict> {
        let root = self.params.get(2).map(|raw| &**raw);
        let attributes = self.params.first().and_then(|raw| payload::attributes(raw, root));
        let attributes = attributes.and_then(|raw| Attributes::read(&raw).ok());
        let Some(attributes) = attributes else {
            return Some(Verdict::Bad("its header has no attributes".to_owned()));
        };
        let order = Order {
            method: "engine_forkchoiceUpdatedV3".to_owned(),
            parent: judged.block.parent,
            attributes: Arc::new(attributes),
            probe: None,
        };
        let (items, number) = (judged.offer.items.clone().into(), judged.block.number);
        let get_payload = Some(self.method.replace("newPayload", "getPayload"));
        let making = Making::new(cx, order, items, number.checked_sub(1), get_payload);
        self.doing = Doing::Building(Box::new(making));
        None
    }
}

fn unresolved(reason: NotFound) -> Verdict {
    match reason {
        // op-node asks for blocks whose parent the engine lacks, and is told by it what it lacks.
        NotFound::Unresolved(Unresolved::NoBlock(_)) => Verdict::Good,
        reason @ (NotFound::Unresolved(_) | NotFound::Engine(_) | NotFound::Feed(_)) => {
            Verdict::Unknown(reason.into())
        }
    }
}

fn compare(own: B256, block: B256) -> Verdict {
    match own == block {
        true => Verdict::Good,
        false => Verdict::Bad(format!(
            "items that are valid were left out: the block of the whole offer is {own}"
        )),
    }
}
