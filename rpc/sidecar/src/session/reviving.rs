//! After the engine was away, op-node hears nothing of it until its heads are again what op-node wanted last. An engine that was killed
//! may come up with a much older head: op-node, which asks for the newest block wherever it is in doubt, would take that for
//! its own and make other blocks behind it.
//!
//! Its head is set by [`setting`](super::setting); what it lacks for that is given back by [`restoring`](super::restoring).

use std::task::{Poll, ready};

use alloy_primitives::B256;

use super::context::{Asking, Context, reply};
use super::effect::{CallId, Question};
use super::input::Call;
use super::restoring::{Restored, Restoring};
use super::setting::{Set, Setting};
use super::state::State;

/// Why the engine's head may be older than what op-node wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The sidecar has just started. What op-node wanted before that is known, but the engine may have gone on since.
    Started,
    /// The engine did not answer a call.
    Away,
}

/// A call that waits for the engine's heads.
#[derive(Debug)]
pub struct Held {
    /// Its name.
    pub id: CallId,
    /// What it wants.
    pub call: Call,
    /// Whether the engine has had it already, and lacked what it named.
    pub is_again: bool,
}

/// What came of it.
#[derive(Debug)]
pub enum Revived {
    /// The engine has the heads, or what it lacks is nothing to be done about: calls go on.
    Whole,
    /// The engine is away, or not done: calls are to be made again.
    Away(String),
}

/// The setting of the heads.
#[derive(Debug)]
pub struct Reviving {
    has_restored: bool,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    /// The engine's head is asked for.
    Looking(Asking),
    Setting(Setting),
    Restoring(Restoring),
}

impl Reviving {
    /// Begins.
    #[must_use]
    pub fn new(cx: &mut Context<'_>, state: &State, doubt: Doubt) -> Self {
        let wanted = state.heads.newest().map_or(B256::ZERO, |wanted| wanted.forkchoice.head);
        let doing = match doubt {
            Doubt::Started => Doing::Looking(cx.ask(Question::Head)),
            Doubt::Away => Doing::Setting(Setting::new(wanted)),
        };
        Self { has_restored: false, doing }
    }

    /// Goes on.
    pub fn poll(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<Revived> {
        let Some(wanted) = state.heads.newest().map(|wanted| wanted.forkchoice.head) else {
            return Poll::Ready(Revived::Whole);
        };
        loop {
            self.doing = match &mut self.doing {
                Doing::Looking(asking) => {
                    let Ok(head) = reply!(asking, cx, Header) else { return Poll::Pending };
                    let head = match head {
                        Ok(head) => head.map_or(0, |head| head.number),
                        Err(error) => return Poll::Ready(Revived::Away(error.to_string())),
                    };
                    let brought = state.brought.get(&wanted);
                    if brought.is_none_or(|brought| brought.number <= head) {
                        return Poll::Ready(Revived::Whole);
                    }
                    Doing::Setting(Setting::new(wanted))
                }
                Doing::Setting(setting) => match ready!(setting.poll(cx, state)) {
                    Set::Lacking if !self.has_restored => match Restoring::new(cx, state, wanted) {
                        Some(restoring) => Doing::Restoring(restoring),
                        None => return Poll::Ready(Revived::Whole),
                    },
                    Set::Lacking => {
                        state.has_given_up = true;
                        return Poll::Ready(Revived::Whole);
                    }
                    Set::Done | Set::Refused => return Poll::Ready(Revived::Whole),
                    Set::Away(words) => return Poll::Ready(Revived::Away(words)),
                },
                Doing::Restoring(restoring) => match ready!(restoring.poll(cx, state)) {
                    Restored::Unfinished => {
                        let words = "the engine is being given back blocks that it lost";
                        return Poll::Ready(Revived::Away(words.to_owned()));
                    }
                    Restored::Whole | Restored::Lacking => {
                        self.has_restored = true;
                        Doing::Setting(Setting::new(wanted))
                    }
                },
            };
        }
    }
}
