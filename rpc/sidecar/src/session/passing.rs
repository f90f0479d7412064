//! `getPayload` that is no job's: passes, and what the engine built is remembered.

use std::collections::BTreeSet;
use std::task::Poll;

use lockstep_execution::payload::Payload;

use super::context::{Asking, Context, reply};
use super::effect::{Answer, CallId, Question};
use super::importing::result;
use super::input::Forwarded;
use super::state::State;

/// A `getPayload` of the engine's own in work.
#[derive(Debug)]
pub struct Passing {
    call: CallId,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    Forwarding(Asking),
    /// That the block is closed is brought to disk before it is handed out.
    Keeping(Forwarded, Asking),
}

impl Passing {
    /// Begins with the call.
    #[must_use]
    pub fn new(cx: &mut Context<'_>, call: CallId) -> Self {
        Self { call, doing: Doing::Forwarding(cx.ask(Question::Forward(call))) }
    }

    /// Goes on, to the answer.
    pub fn poll(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<()> {
        let forwarded = match &self.doing {
            Doing::Forwarding(asking) => {
                let Ok(forwarded) = reply!(asking, cx, Forwarded) else { return Poll::Pending };
                match note(cx, state, &forwarded) {
                    None => forwarded,
                    Some(asking) => {
                        self.doing = Doing::Keeping(forwarded, asking);
                        return Poll::Pending;
                    }
                }
            }
            Doing::Keeping(forwarded, asking) => {
                let Ok(_) = reply!(asking, cx, Kept) else { return Poll::Pending };
                forwarded.clone()
            }
        };
        cx.answer(self.call, Answer::Engine { forwarded, is_held: false });
        Poll::Ready(())
    }
}

/// Remembers what the engine built; what is to be waited for before anybody gets it, if so.
fn note(cx: &mut Context<'_>, state: &mut State, forwarded: &Forwarded) -> Option<Asking> {
    let payload = Payload::in_envelope(&result(forwarded)?)?;
    state.own.insert(payload.hash, ());
    let is_closed = state.is_closed_by_op_node(cx, &payload);
    is_closed.then(|| state.note_closed(cx, payload.hash, BTreeSet::new()))
}
