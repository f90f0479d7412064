//! Makes a block of an offer, and brings it in ahead of time.
//!
//! op-node asks for a block 50 ms before its time, and executing it once more, as an engine does when it is brought back,
//! can take longer than that. So a block is taken and imported as soon as it is built: op-node's own calls then find it
//! done. This is ahead of time and nothing depends on it: where it fails, op-node's calls do the same later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;

use lockstep_core::window::Offered;
use lockstep_execution::client::EngineError;
use lockstep_execution::payload::{self, Imported};

use super::attempts::{Attempts, Order};
use super::context::{Asking, Context, reply};
use super::effect::{EngineCall, Measure, Note, Question};
use super::error::JobError;
use super::job::Taken;
use super::state::State;
use super::taking::Taking;
use crate::build::Build;
use crate::limits::STATE_TIMEOUT;
use crate::precheck::{self, Facts, Guessing, Precheck};
use serde_json::value::RawValue;

/// A block, and itself if the engine has imported it.
pub type Made = (Build, Option<Arc<Taken>>);

/// The making of one block.
#[derive(Debug)]
pub struct Making {
    order: Order,
    items: Arc<[Offered]>,
    /// The parent's number, if it need not be the engine's head.
    number: Option<u64>,
    /// The version of `getPayload` to take the block with; `None` while op-node has not used one.
    get_payload: Option<String>,
    begun: Instant,
    precheck: Precheck,
    guessing: Guessing,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    /// What the rules need of the transactions.
    Reading(Asking),
    /// And of the state.
    Looking(Vec<Option<Vec<Facts>>>, Asking),
    Building(Instant, Box<Attempts>),
    Taking(Build, Box<Taking>),
    Importing(Build, Box<Taken>, Asking),
    Proving(Build, Arc<Taken>, Asking),
}

impl Making {
    /// Begins to make a block of these items.
    #[must_use]
    pub fn new(
        cx: &mut Context<'_>,
        order: Order,
        items: Arc<[Offered]>,
        number: Option<u64>,
        get_payload: Option<String>,
    ) -> Self {
        let guessing = match get_payload {
            Some(_) => Guessing::default(),
            None => Guessing::none(),
        };
        let (precheck, begun) = (Precheck::default(), cx.now.instant);
        let doing = match items.is_empty() {
            false => {
                let deposits = order.attributes.transactions.clone();
                Doing::Reading(cx.ask(Question::Facts { items: Arc::clone(&items), deposits }))
            }
            true => build(cx, &order, &items, &precheck, &guessing),
        };
        Self { order, items, number, get_payload, begun, precheck, guessing, doing }
    }

    /// Goes on; the block, or why there is none.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Result<Made, JobError>> {
        loop {
            match &mut self.doing {
                Doing::Reading(asking) => {
                    let Ok(facts) = reply!(asking, cx, Facts) else { return Poll::Pending };
                    self.look(cx, facts);
                }
                Doing::Looking(facts, asking) => {
                    if let Ok(Some(accounts)) = reply!(asking, cx, State) {
                        let deposits = self.order.attributes.transactions.clone();
                        self.precheck = Precheck::new(core::mem::take(facts), deposits, accounts);
                    }
                    self.build(cx);
                }
                Doing::Building(begun, attempts) => {
                    let build = ready!(attempts.poll(cx, state))?;
                    cx.measure(Measure::Built { time: cx.since(*begun), refusals: build.refusals });
                    match self.get_payload.clone() {
                        None => return Poll::Ready(Ok((build, None))),
                        Some(method) => self.take(cx, state, &method, build),
                    }
                }
                Doing::Taking(build, taking) => match ready!(taking.poll(cx, state)) {
                    Ok((build, taken)) => {
                        if let Some(made) = self.import(cx, state, build, taken) {
                            return Poll::Ready(Ok(made));
                        }
                    }
                    Err(reason) => {
                        let (parent, build) = (self.order.parent, build.clone());
                        cx.note(Note::NotAhead { parent, reason: reason.into() });
                        if let Some(made) = self.without_proof(cx, build) {
                            return Poll::Ready(Ok(made));
                        }
                    }
                },
                Doing::Importing(build, taken, asking) => {
                    let answer = reply!(asking, cx, Called);
                    let (build, taken) = (build.clone(), Taken::clone(taken));
                    if let Some(made) = self.imported(cx, answer.ok(), build, taken)? {
                        return Poll::Ready(Ok(made));
                    }
                }
                Doing::Proving(build, taken, asking) => {
                    let endings = reply!(asking, cx, Endings).unwrap_or_default();
                    let (build, taken) = (build.clone(), Arc::clone(taken));
                    let absent = build.left_out.union(&taken.missing).copied().collect();
                    let has_time = cx.since(self.begun) < state.settings.lead().div_f64(4.0);
                    if self.guessing.is_settled(&build.guesses, &absent, &endings, has_time) {
                        return Poll::Ready(Ok((build, Some(taken))));
                    }
                    self.build(cx);
                }
            }
        }
    }

    fn look(&mut self, cx: &mut Context<'_>, facts: Vec<Option<Vec<Facts>>>) {
        let (parent, number) = (self.order.parent, self.number);
        let senders = precheck::senders(&facts);
        let question = Question::State { parent, number, senders };
        self.doing = Doing::Looking(facts, cx.ask_for(question, STATE_TIMEOUT));
    }

    fn build(&mut self, cx: &Context<'_>) {
        self.doing = build(cx, &self.order, &self.items, &self.precheck, &self.guessing);
    }

    fn take(&mut self, cx: &mut Context<'_>, state: &State, method: &str, build: Build) {
        // Shorter than op-node's own call may be held, so that a silent engine leaves it time to ask by itself.
        let how = (method, state.settings.hold().div_f64(4.0));
        let (order, items) = (self.order.clone(), Arc::clone(&self.items));
        let taking = Taking::new(cx, how, order, items, build.clone());
        self.doing = Doing::Taking(build, Box::new(taking));
    }

    /// Brings a block in; it is made if the engine's version has no way to.
    fn import(
        &mut self,
        cx: &mut Context<'_>,
        state: &State,
        build: Build,
        taken: Taken,
    ) -> Option<Made> {
        let Some((method, params)) = payload::import(&taken.method, &taken.raw) else {
            return self.without_proof(cx, build);
        };
        let question = Question::Call(EngineCall::NewPayload { method, params });
        let asking = cx.ask_for(question, state.settings.hold().div_f64(2.0));
        self.doing = Doing::Importing(build, Box::new(taken), asking);
        None
    }

    fn imported(
        &mut self,
        cx: &mut Context<'_>,
        answer: Option<Result<Box<RawValue>, EngineError>>,
        build: Build,
        taken: Taken,
    ) -> Result<Option<Made>, JobError> {
        let imported = match answer {
            Some(Ok(raw)) => payload::imported(&raw, taken.payload.parent),
            Some(Err(_)) | None => None,
        };
        match imported {
            // It would be said to op-node, too.
            Some(Imported::Invalid(words)) => Err(JobError::NotImported(words)),
            None => Ok(self.without_proof(cx, build)),
            Some(Imported::Valid) if build.guesses.is_empty() => {
                Ok(Some((build, Some(Arc::new(taken)))))
            }
            Some(Imported::Valid) => {
                let (block, senders) = (taken.payload.hash, precheck::accounts(&build.guesses));
                let question = Question::Endings { block, senders };
                let asking = cx.ask_for(question, STATE_TIMEOUT);
                self.doing = Doing::Proving(build, Arc::new(taken), asking);
                Ok(None)
            }
        }
    }

    /// A block that the engine does not have proves no guess: it is made if it needs no proof.
    fn without_proof(&mut self, cx: &Context<'_>, build: Build) -> Option<Made> {
        if build.guesses.is_empty() {
            return Some((build, None));
        }
        self.guessing.end();
        self.build(cx);
        None
    }
}

fn build(
    cx: &Context<'_>,
    order: &Order,
    items: &Arc<[Offered]>,
    precheck: &Precheck,
    guessing: &Guessing,
) -> Doing {
    let (order, items) = (order.clone(), Arc::clone(items));
    let attempts = Attempts::new(order, items, BTreeSet::new(), precheck.clone(), guessing.clone());
    Doing::Building(cx.now.instant, Box::new(attempts))
}
