//! Takes a block from the engine, and checks it before anybody gets it.

use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use lockstep_core::window::Offered;
use lockstep_execution::payload::Payload;
use serde_json::value::RawValue;

use super::attempts::{Attempts, Order};
use super::context::{Asking, Context, reply};
use super::effect::{EngineCall, Note, Question};
use super::error::NotTaken;
use super::job::Taken;
use super::state::State;
use crate::build::{self, Build, Outcome};

/// Builds of one block at most, where an engine tears legs.
const REBUILDS_MAX: usize = 64;

/// The taking of one block.
#[derive(Debug)]
pub struct Taking {
    /// The version of `getPayload`.
    method: String,
    /// How long the engine may take for each answer.
    patience: Duration,
    order: Order,
    items: Arc<[Offered]>,
    build: Build,
    rounds: usize,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Asking(Asking),
    Rebuilding(Box<Attempts>),
}

impl Taking {
    /// Asks for the block of a build.
    #[must_use]
    pub fn new(
        cx: &mut Context<'_>,
        (method, patience): (&str, Duration),
        order: Order,
        items: Arc<[Offered]>,
        build: Build,
    ) -> Self {
        let doing = Doing::Asking(ask(cx, method, patience, &build));
        Self { method: method.to_owned(), patience, order, items, build, rounds: 1, doing }
    }

    /// Goes on; the block and what it was built from in the end, or why it can't be had.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Result<(Build, Taken), NotTaken>> {
        loop {
            match &mut self.doing {
                Doing::Asking(asking) => {
                    let raw = reply!(asking, cx, Called).map_err(|_| NotTaken::Silent)??;
                    let payload = Payload::in_envelope(&raw).ok_or(NotTaken::Unreadable)?;
                    if let Some(taken) = self.check(cx, raw, payload)? {
                        return Poll::Ready(Ok((self.build.clone(), taken)));
                    }
                }
                Doing::Rebuilding(attempts) => {
                    let build = ready!(attempts.poll(cx, state))?;
                    // What was guessed is still left out, so the block has to prove it still.
                    self.build = Build { guesses: self.build.guesses.clone(), ..build };
                    self.doing = Doing::Asking(ask(cx, &self.method, self.patience, &self.build));
                }
            }
        }
    }

    /// The block if it is what it was to be; `None` if it is built again without torn legs.
    fn check(
        &mut self,
        cx: &mut Context<'_>,
        raw: Box<RawValue>,
        payload: Payload,
    ) -> Result<Option<Taken>, NotTaken> {
        let (attributes, left_out) = (&self.order.attributes, &self.build.left_out);
        match build::outcome(&payload, attributes, &self.items, left_out) {
            Outcome::Good(missing) => {
                Ok(Some(Taken { method: self.method.clone(), raw, payload, missing }))
            }
            Outcome::Torn(_) if self.rounds >= REBUILDS_MAX => Err(NotTaken::Torn),
            Outcome::Torn(torn) => {
                self.rounds = self.rounds.saturating_add(1);
                let (order, items) = (self.order.clone(), Arc::clone(&self.items));
                let attempts = Attempts::again(order, items, &self.build, &torn);
                self.doing = Doing::Rebuilding(Box::new(attempts));
                Ok(None)
            }
            Outcome::Foreign => {
                cx.note(Note::BuiltForeign(payload.hash));
                Err(NotTaken::Foreign)
            }
        }
    }
}

fn ask(cx: &mut Context<'_>, method: &str, patience: Duration, build: &Build) -> Asking {
    let (method, payload_id) = (method.to_owned(), build.payload_id.clone());
    cx.ask_for(Question::Call(EngineCall::GetPayload { method, payload_id }), patience)
}
