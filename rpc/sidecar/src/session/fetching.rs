//! Takes a job's block from the engine when op-node asks for it, and builds it again if the engine lost it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Poll, ready};

use lockstep_core::window::Place;

use super::attempts::{Attempts, Order};
use super::context::Context;
use super::effect::Note;
use super::error::{JobError, NotTaken};
use super::job::{BuiltJob, Taken};
use super::state::State;
use super::taking::Taking;
use crate::build::{self, Build, BuildError};

/// Builds of one block at most, where an engine loses each.
const REBUILDS_MAX: usize = 8;

/// The fetching of one block.
#[derive(Debug)]
pub struct Fetching {
    /// The version of `getPayload` that op-node uses.
    method: String,
    order: Order,
    built: BuiltJob,
    rounds: usize,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Taking(Box<Taking>),
    /// The engine has no payload: it was restarted, or it is strict and found the items bad while it built.
    Rebuilding(Box<Attempts>),
    /// The last resort: what the engine refused before.
    Closing(BTreeSet<Place>, Box<Attempts>),
}

impl Fetching {
    /// Asks the engine for the block.
    #[must_use]
    pub fn new(
        cx: &mut Context<'_>,
        state: &State,
        method: &str,
        order: Order,
        built: &BuiltJob,
    ) -> Self {
        let built = BuiltJob { imported: None, ..built.clone() };
        let doing = Doing::Taking(Box::new(take(cx, state, method, &order, &built)));
        Self { method: method.to_owned(), order, built, rounds: 1, doing }
    }

    /// Goes on; the block, or why there is none.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Result<(BuiltJob, Taken), JobError>> {
        loop {
            match &mut self.doing {
                Doing::Taking(taking) => match ready!(taking.poll(cx, state)) {
                    Ok((build, taken)) => {
                        return Poll::Ready(Ok((BuiltJob { build, ..self.built.clone() }, taken)));
                    }
                    Err(NotTaken::Engine(error)) if error.refusal().is_some() => self.rebuild()?,
                    Err(error) => return Poll::Ready(Err(error.into())),
                },
                Doing::Rebuilding(attempts) => match ready!(attempts.poll(cx, state)) {
                    Ok(build) => {
                        let guesses = self.built.build.guesses.clone();
                        self.built.build = Build { guesses, ..build };
                        self.take(cx, state);
                    }
                    Err(BuildError::TooManyRefusals(refused)) => {
                        let refused = build::places(&self.built.items, &refused);
                        let reason = BuildError::TooManyRefusals(BTreeSet::new()).into();
                        let parent = self.order.parent;
                        cx.note(Note::NothingOffered { parent, refused: refused.len(), reason });
                        let attempts = Attempts::at_deposits(self.order.clone());
                        self.doing = Doing::Closing(refused, Box::new(attempts));
                    }
                    Err(error) => return Poll::Ready(Err(error.into())),
                },
                Doing::Closing(refused, attempts) => {
                    let build = ready!(attempts.poll(cx, state))?;
                    let refused = core::mem::take(refused);
                    self.built = BuiltJob::of_deposits(build, refused, cx.now.instant);
                    self.take(cx, state);
                }
            }
        }
    }

    fn take(&mut self, cx: &mut Context<'_>, state: &State) {
        self.doing =
            Doing::Taking(Box::new(take(cx, state, &self.method, &self.order, &self.built)));
    }

    fn rebuild(&mut self) -> Result<(), JobError> {
        if self.rounds >= REBUILDS_MAX {
            return Err(JobError::Lost);
        }
        self.rounds = self.rounds.saturating_add(1);
        let order = Order { probe: Some(self.method.clone()), ..self.order.clone() };
        let (items, build) = (Arc::clone(&self.built.items), &self.built.build);
        let attempts = Attempts::again(order, items, build, &BTreeSet::new());
        self.doing = Doing::Rebuilding(Box::new(attempts));
        Ok(())
    }
}

fn take(
    cx: &mut Context<'_>,
    state: &State,
    method: &str,
    order: &Order,
    built: &BuiltJob,
) -> Taking {
    let (how, items) = ((method, state.settings.hold()), Arc::clone(&built.items));
    Taking::new(cx, how, order.clone(), items, built.build.clone())
}
