//! What a part of the session has at hand in one step: the time, the log, a reply that came, and where effects go.

use std::task::Poll;
use std::time::{Duration, Instant};

use lockstep_core::reader::LogView;

use super::effect::{Answer, AskId, CallId, Effect, Measure, Note, Question};
use super::input::{Log, Now, Reply};

/// One step.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time.
    pub now: Now,
    /// The log.
    pub log: Log<'a>,
    /// The reply that came, until somebody takes it.
    pub reply: Option<(AskId, Reply)>,
    /// When time alone changes something: the earliest.
    pub wake: Option<Instant>,
    /// Whether a part changed what another one waits for, so that all are to be looked at again.
    pub has_changed: bool,
    effects: &'a mut Vec<Effect>,
    next_ask: &'a mut u64,
}

impl<'a> Context<'a> {
    /// A step at this time, with this log.
    pub(super) const fn new(
        now: Now,
        log: Log<'a>,
        effects: &'a mut Vec<Effect>,
        next_ask: &'a mut u64,
    ) -> Self {
        Self { now, log, reply: None, wake: None, has_changed: false, effects, next_ask }
    }

    /// The log, for a reader.
    #[must_use]
    pub const fn view(&self) -> LogView<'a> {
        self.log.view()
    }

    /// Does something.
    pub fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Says that something happened.
    pub fn note(&mut self, note: Note) {
        self.push(Effect::Note(note));
    }

    /// The same in numbers.
    pub fn measure(&mut self, measure: Measure) {
        self.push(Effect::Measure(measure));
    }

    /// Answers op-node.
    pub fn answer(&mut self, call: CallId, answer: Answer) {
        self.push(Effect::Answer(call, answer));
    }

    /// Asks something, and waits for the reply however long it takes.
    pub fn ask(&mut self, question: Question) -> Asking {
        let id = AskId(*self.next_ask);
        *self.next_ask = self.next_ask.saturating_add(1);
        self.push(Effect::Ask(id, question));
        Asking { id, until: None }
    }

    /// Asks something, and waits for the reply no longer than that.
    pub fn ask_for(&mut self, question: Question, patience: Duration) -> Asking {
        Asking { until: Some(self.after(patience)), ..self.ask(question) }
    }

    /// The time in a while.
    #[must_use]
    pub fn after(&self, while_: Duration) -> Instant {
        self.now.instant.checked_add(while_).unwrap_or(self.now.instant)
    }

    /// How long ago something was.
    #[must_use]
    pub fn since(&self, begun: Instant) -> Duration {
        self.now.instant.saturating_duration_since(begun)
    }

    /// Whether it is that late.
    pub fn is_past(&mut self, at: Instant) -> bool {
        let is_past = self.now.instant >= at;
        if !is_past {
            self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        }
        is_past
    }
}

/// A question that is on its way.
#[derive(Debug)]
pub struct Asking {
    id: AskId,
    until: Option<Instant>,
}

/// No reply came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silent;

impl Asking {
    /// Its name.
    #[must_use]
    pub const fn id(&self) -> AskId {
        self.id
    }

    /// The reply, once it is there, or there is none in time. It is given once.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Reply, Silent>> {
        if let Some((_, reply)) = cx.reply.take_if(|(id, _)| *id == self.id) {
            return Poll::Ready(Ok(reply));
        }
        match self.until {
            Some(until) if cx.is_past(until) => Poll::Ready(Err(Silent)),
            Some(_) | None => Poll::Pending,
        }
    }
}

/// The reply to a question, with what it must be; a part of the session that was given another reply than it asked for is
/// wrong itself.
macro_rules! reply {
    ($asking:expr, $cx:expr, $kind:ident) => {
        match std::task::ready!($asking.poll($cx)) {
            Ok(crate::session::input::Reply::$kind(value)) => Ok(value),
            Ok(other) => unreachable!("{other:?} is no reply to this question"),
            Err(silent) => Err(silent),
        }
    };
}
pub(super) use reply;

/// A pause.
#[derive(Debug)]
pub struct Pause(Instant);

impl Pause {
    /// A pause of this length.
    #[must_use]
    pub fn new(cx: &Context<'_>, length: Duration) -> Self {
        Self(cx.after(length))
    }

    /// Whether it is over.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        match cx.is_past(self.0) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
