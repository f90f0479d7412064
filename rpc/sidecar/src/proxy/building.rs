//! Building: from an offer to a block that the engine has imported already.
//!
//! op-node asks for a block 50 ms before its time, and executing it once more, as an engine does when it is brought back,
//! can take longer than that. So a block is taken and imported as soon as it is built: op-node's own calls then find it
//! done. This is ahead of time and nothing depends on it: where it fails, op-node's calls do the same later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_core::record::SealMode;
use lockstep_core::window::{Offered, Place};
use lockstep_execution::payload::{self, Imported, Payload};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use super::Proxy;
use super::sealing::NotTaken;
use super::sequencing::{LOOK_AGAIN, Plan};
use crate::build::{self, Build, BuildError, Known, Order, Outcome};
use crate::jobs::{BuiltJob, Job, Taken};
use crate::precheck::{self, Guessing, Precheck};

/// Builds of one block at most, where an engine tears legs.
const REBUILDS_MAX: usize = 64;

/// Why there is no block.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotBuilt {
    /// The engine does not build it.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// It built the block, and calls it invalid.
    #[error("the engine does not take the block that it built: {0}")]
    NotImported(String),
}

impl Proxy {
    /// Makes the block of a plan, and imports it if op-node's version of `getPayload` is known: it is from the second on.
    pub(super) async fn make(&self, job: &Job, plan: Plan) -> Result<BuiltJob, String> {
        let order = self.order(job);
        loop {
            let get_payload = self.seen().get_payload.clone();
            match self.build_and_import(&order, &plan.items, None, get_payload.as_deref()).await {
                Ok((build, imported)) => {
                    let Plan { items, passed, mode, begin, until, closed } = plan;
                    let refused = BTreeSet::new();
                    return Ok(BuiltJob {
                        build,
                        items,
                        passed,
                        mode,
                        begin,
                        until,
                        refused,
                        closed,
                        imported,
                    });
                }
                Err(NotBuilt::Build(BuildError::Engine(reason))) => {
                    self.metrics.engine_errors.inc();
                    warn!(job = %job.id, %reason, "the engine cannot build now");
                    sleep(LOOK_AGAIN).await;
                }
                Err(NotBuilt::Build(error @ BuildError::NotHead(_))) => {
                    return Err(error.to_string());
                }
                Err(NotBuilt::Build(BuildError::TooManyRefusals(refused))) => {
                    let reason = BuildError::TooManyRefusals(BTreeSet::new()).to_string();
                    let refused = places(&plan.items, &refused);
                    return self.build_closed(job, &order, refused, &reason).await;
                }
                Err(error @ NotBuilt::NotImported(_)) if !plan.items.is_empty() => {
                    let reason = error.to_string();
                    return self.build_closed(job, &order, BTreeSet::new(), &reason).await;
                }
                Err(error) => {
                    error!(job = %job.id, %error, "the engine refuses a block without anything of the log");
                    return Err(error.to_string());
                }
            }
        }
    }

    /// Builds from an offer; with a version of `getPayload` also takes the block and lets the engine import it. `number` is
    /// the parent's, if it need not be the engine's head.
    pub(super) async fn build_and_import(
        &self,
        order: &Order,
        items: &[Offered],
        number: Option<u64>,
        get_payload: Option<&str>,
    ) -> Result<(Build, Option<Arc<Taken>>), NotBuilt> {
        let chain = self.chain.params().id;
        let precheck = precheck::look(&self.engine, chain, order, number, items).await;
        let Some(get_payload) = get_payload else {
            let known = Known { precheck: &precheck, guessing: &Guessing::none() };
            return Ok((self.build(order, items, known).await?, None));
        };
        let (started, mut guessing) = (Instant::now(), Guessing::default());
        loop {
            let known = Known { precheck: &precheck, guessing: &guessing };
            let build = self.build(order, items, known).await?;
            let (build, imported) = self.bring_in(order, items, get_payload, build).await?;
            let proof = imported.as_ref().map(|taken| {
                let absent = build.left_out.union(&taken.missing).copied().collect();
                (taken.payload.hash, absent)
            });
            let has_time = started.elapsed() < self.chain.lead().div_f64(4.0);
            if guessing.is_settled(&self.engine, &build.guesses, proof, has_time).await {
                return Ok((build, imported));
            }
        }
    }

    async fn build(
        &self,
        order: &Order,
        items: &[Offered],
        known: Known<'_>,
    ) -> Result<Build, BuildError> {
        let started = Instant::now();
        let build = build::build(&self.engine, order, items, BTreeSet::new(), known).await?;
        self.metrics.built(started.elapsed(), build.refusals);
        Ok(build)
    }

    /// The last resort, where no block with items can be had of the engine. What it refused on the way goes into the block's
    /// record: no later block is offered it, so the chain gets on.
    pub(super) async fn build_closed(
        &self,
        job: &Job,
        order: &Order,
        refused: BTreeSet<Place>,
        reason: &str,
    ) -> Result<BuiltJob, String> {
        error!(job = %job.id, parent = %job.parent, refused = refused.len(), %reason,
            "nothing is offered on this parent");
        let known = Known { precheck: &Precheck::default(), guessing: &Guessing::none() };
        let build = build::build(&self.engine, order, &[], BTreeSet::new(), known).await;
        Ok(BuiltJob {
            build: build.map_err(|error| error.to_string())?,
            items: Vec::new(),
            passed: Vec::new(),
            mode: SealMode::Closed,
            begin: None,
            until: None,
            refused,
            closed: Instant::now(),
            imported: None,
        })
    }

    /// Takes a block from the engine and lets it import it. Gives the block if the engine has it now.
    async fn bring_in(
        &self,
        order: &Order,
        items: &[Offered],
        get_payload: &str,
        build: Build,
    ) -> Result<(Build, Option<Arc<Taken>>), NotBuilt> {
        // Shorter than op-node's own call may be held, so that a silent engine leaves it time to ask by itself.
        let how = (get_payload, self.hold().div_f64(4.0));
        let (build, taken) = match self.take(how, order, items, &build).await {
            Ok(taken) => taken,
            Err(reason) => {
                debug!(parent = %order.parent, %reason, "a block is not taken ahead of time");
                return Ok((build, None));
            }
        };
        match timeout(self.hold().div_f64(2.0), self.import(&taken)).await {
            Ok(Some(Imported::Valid)) => Ok((build, Some(Arc::new(taken)))),
            // It would be said to op-node, too.
            Ok(Some(Imported::Invalid(words))) => Err(NotBuilt::NotImported(words)),
            Ok(None) | Err(_) => Ok((build, None)),
        }
    }

    async fn import(&self, taken: &Taken) -> Option<Imported> {
        let (method, params) = payload::import(&taken.method, &taken.raw)?;
        match self.engine.call(&method, params).await {
            Ok(raw) => payload::imported(&raw, taken.payload.parent),
            Err(error) => {
                debug!(block = %taken.payload.hash, %error, "a block is not imported ahead of time");
                None
            }
        }
    }

    /// Takes a block from the engine, and checks it before anybody gets it. Gives what it was built from in the end.
    pub(super) async fn take(
        &self,
        (get_payload, patience): (&str, Duration),
        order: &Order,
        items: &[Offered],
        build: &Build,
    ) -> Result<(Build, Taken), NotTaken> {
        let mut build = build.clone();
        for _ in 0..REBUILDS_MAX {
            let asked = self.engine.call(get_payload, (&build.payload_id,));
            let raw = timeout(patience, asked).await.map_err(|_| NotTaken::Silent)??;
            let payload = Payload::in_envelope(&raw).ok_or(NotTaken::Unreadable)?;
            match build::outcome(&payload, &order.attributes, items, &build.left_out) {
                Outcome::Good(missing) => {
                    let method = get_payload.to_owned();
                    return Ok((build, Taken { method, raw, payload, missing }));
                }
                Outcome::Torn(torn) => {
                    build = build::rebuild(&self.engine, order, items, &build, &torn).await?;
                }
                Outcome::Foreign => {
                    error!(hash = %payload.hash, "the engine built something else than deposits and offered items");
                    return Err(NotTaken::Foreign);
                }
            }
        }
        Err(NotTaken::Torn)
    }

    pub(super) fn order(&self, job: &Job) -> Order {
        Order {
            method: job.method.clone(),
            parent: job.parent,
            heads: Arc::clone(&self.heads),
            attributes: job.attributes.clone(),
            get_payload: None,
        }
    }
}

/// Where some of the items are in the log.
pub(super) fn places(items: &[Offered], which: &BTreeSet<usize>) -> BTreeSet<Place> {
    which.iter().filter_map(|index| items.get(*index)).map(|item| item.place).collect()
}
