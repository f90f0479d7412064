//! The way into this validator's lane: refuse what can't be ordered, check the rest once, queue it.
//!
//! Refusals name the field and the reason. What depends on the registry is looked up in the newest state, so it may
//! change; whether a transaction is valid on its chain is never asked. Submitting twice is one submission.

use std::collections::BTreeMap;

use lockstep_core::entry::{Entry, InvalidEntry};
use lockstep_core::types::UnixMillis;

use super::Application;
use super::effect::{Answer, Effect, ReplyId};
use super::input::Submitted;
use crate::ingress::{Refused, admit, check_sequencer};
use crate::settle::Settled;
use crate::tracker::EntryState;

/// The state of an entry by now, and whether it was known; or why it was not taken.
type Outcome = Result<(EntryState, bool), Refused>;

/// Submissions whose signatures are being checked: an answer per entry, `None` for those in check.
#[derive(Debug, Default)]
pub(super) struct Submissions(BTreeMap<ReplyId, Vec<Option<Outcome>>>);

impl Application {
    pub(super) fn on_submitted(
        &mut self,
        now: UnixMillis,
        reply: ReplyId,
        entries: Vec<Entry>,
        effects: &mut Vec<Effect>,
    ) {
        let mut to_check = Vec::new();
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            let answer = self.answer_unchecked(now, &entry);
            if answer.is_none() {
                to_check.push(entry);
            }
            answers.push(answer);
        }
        if to_check.is_empty() {
            let answers = answers.into_iter().flatten().collect();
            return effects.push(Effect::Reply(reply, Answer::Submitted(answers)));
        }
        self.submissions.0.insert(reply, answers);
        effects.push(Effect::CheckEntries(reply, to_check));
    }

    /// What can be answered without a signature check.
    fn answer_unchecked(&self, now: UnixMillis, entry: &Entry) -> Option<Outcome> {
        let known = self.tracker.state(entry.id());
        if let Some(state) = known.filter(|state| !matches!(state, EntryState::Dropped(_))) {
            return Some(Ok((state, true)));
        }
        let room = || self.lanes.own.has_room(entry.raw().len()).map_err(Refused::Busy);
        admit(&self.state, entry, now).and_then(|()| room()).err().map(Err)
    }

    pub(super) fn on_entries_checked(
        &mut self,
        reply: ReplyId,
        checked: Vec<Result<Submitted, InvalidEntry>>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(answers) = self.submissions.0.remove(&reply) else { return };
        let mut checked = checked.into_iter();
        let mut next = || {
            let checked = checked.next().expect("each entry in check has a result")?;
            self.queue(checked)
        };
        let answers = answers.into_iter().map(|answer| answer.unwrap_or_else(&mut next)).collect();
        effects.push(Effect::Reply(reply, Answer::Submitted(answers)));
        self.wake(effects);
    }

    fn queue(&mut self, Submitted { checked, decided }: Submitted) -> Outcome {
        if let Some(signer) = checked.record_signer() {
            check_sequencer(&self.state, &checked, signer)?;
        }
        if let Some((decision, block)) = decided {
            return Ok((EntryState::Decided { decision, block }, true));
        }
        let (id, expires) = (checked.entry().id(), checked.entry().expires());
        let (state, is_new) = self.tracker.receive(id, expires).ok_or(Refused::TooManyTracked)?;
        if is_new && let Err(full) = self.lanes.own.push(checked) {
            self.tracker.forget(id);
            return Err(Refused::Busy(full));
        }
        Ok((state, !is_new))
    }

    /// What a decided block means for the entries that were submitted here, and for the own lane.
    pub(super) fn settle(&mut self, settled: Settled, effects: &mut Vec<Effect>) {
        for (id, state) in settled.ended {
            if self.tracker.end(id, state) {
                effects.push(Effect::TellState(id, state));
            }
        }
        for (id, state) in self.tracker.expire(self.state.timestamp) {
            effects.push(Effect::TellState(id, state));
        }
        self.lanes.own.carry(settled.carried);
    }
}
