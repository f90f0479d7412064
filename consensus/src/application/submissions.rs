//! The way into this validator's lane: refuse what can't be ordered, check the rest once, queue it.
//!
//! Refusals name the field and the reason. What depends on the registry is looked up in the newest state, so it may
//! change; whether a transaction is valid on its chain is never asked. Submitting twice is one submission.

use std::collections::BTreeMap;

use lockstep_core::admission;
use lockstep_core::entry::{Entry, InvalidEntry};
use lockstep_core::types::UnixMillis;

use super::Application;
use super::effect::{Answer, Effect, ReplyId};
use super::input::{Committed, Submitted};
use crate::ingress::{Refused, Submitter};
use crate::lanes::own::{GivenUp, Overtaken};
use crate::settle::{Place, Settled, settle};
use crate::tracker::{CopyId, EntryState, Receipt};

/// The state of an entry by now, and whether it was known; or why it was not taken.
type Outcome = Result<(EntryState, bool), Refused>;

/// Submissions whose signatures are being checked: whose they are, and an answer per entry, `None` for those in check.
#[derive(Debug, Default)]
pub(super) struct Submissions(BTreeMap<ReplyId, (Submitter, Vec<Option<Outcome>>)>);

impl Application {
    pub(super) fn on_submitted(
        &mut self,
        now: UnixMillis,
        (from, reply): (Submitter, ReplyId),
        entries: Vec<Entry>,
        effects: &mut Vec<Effect>,
    ) {
        let mut to_check = Vec::new();
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            let answer = self.answer_unchecked(now, from, &entry);
            if answer.is_none() {
                to_check.push(entry);
            }
            answers.push(answer);
        }
        if to_check.is_empty() {
            let answers = answers.into_iter().flatten().collect();
            return effects.push(Effect::Reply(reply, Answer::Submitted(answers)));
        }
        self.submissions.0.insert(reply, (from, answers));
        effects.push(Effect::CheckEntries(reply, to_check));
    }

    /// What can be answered without a signature check.
    fn answer_unchecked(&self, now: UnixMillis, from: Submitter, entry: &Entry) -> Option<Outcome> {
        if let Some(state) = self.tracker.known(CopyId::of(entry)) {
            return Some(Ok((state, true)));
        }
        let admitted = admission::check(&self.state.committed, now, entry).map_err(Refused::from);
        let room = || self.lanes.own.has_room(now, from, entry).map_err(Refused::Busy);
        admitted.and_then(|()| room()).err().map(Err)
    }

    pub(super) fn on_entries_checked(
        &mut self,
        now: UnixMillis,
        reply: ReplyId,
        checked: Vec<Result<Submitted, InvalidEntry>>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((from, answers)) = self.submissions.0.remove(&reply) else { return };
        let mut checked = checked.into_iter();
        let mut next = || {
            let checked = checked.next().expect("each entry in check has a result")?;
            self.queue(now, from, checked)
        };
        let answers = answers.into_iter().map(|answer| answer.unwrap_or_else(&mut next)).collect();
        effects.push(Effect::Reply(reply, Answer::Submitted(answers)));
        self.wake(effects);
    }

    fn queue(&mut self, now: UnixMillis, from: Submitter, submitted: Submitted) -> Outcome {
        let Submitted { checked, decided } = submitted;
        admission::needs(&self.state.committed, now, &checked)?;
        if let Some((decision, block)) = decided {
            return Ok((EntryState::Decided { decision, block }, true));
        }
        let (copy, expires) = (CopyId::of(checked.entry()), checked.entry().expires());
        match self.tracker.receive(copy, expires).ok_or(Refused::TooManyTracked)? {
            Receipt::Known(state) => Ok((state, true)),
            Receipt::New => match self.lanes.own.push(now, from, checked) {
                Ok(()) => Ok((EntryState::Received, false)),
                Err(busy) => {
                    self.tracker.forget(copy);
                    Err(Refused::Busy(busy))
                }
            },
        }
    }

    /// What a decided block means for the entries that were submitted here, and for the own lane.
    pub(super) fn settle(&mut self, committed: &Committed, effects: &mut Vec<Effect>) {
        let Committed { state, decided, earlier } = committed;
        let find = |place: &Place| earlier.get(place).copied();
        let Settled { mut changes, carried } = settle(decided, self.me, &mut self.tracker, find);
        let mut given_up = Vec::new();
        let overtaken = self.lanes.own.settle(state.clone(), &carried, &mut given_up);
        let time = decided.header.timestamp_ms;
        for GivenUp { entry, reason } in given_up {
            changes.extend(self.tracker.end_copy(CopyId::of(entry.entry()), reason, time));
        }
        if !changes.is_empty() {
            effects.push(Effect::TellStates(changes));
        }
        if let Some(Overtaken { decided }) = overtaken {
            effects.push(Effect::TakeIncarnation(decided));
        }
    }
}
