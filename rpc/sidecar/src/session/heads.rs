//! The forkchoice that op-node wants, for jobs that call the engine later than op-node called.
//!
//! A job's `forkchoiceUpdated` carries heads, too, so one that is late could move the engine's head back. Two things
//! prevent that: a job takes the newest heads before each of its calls, and only if its parent is still the head; and
//! op-node's own call waits until a job's that is on its way has been answered.

use alloy_primitives::B256;
use lockstep_execution::attributes::Forkchoice;

use super::effect::AskId;
use super::error::NotHead;

/// Heads that op-node wants, and by which method it said so.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The version of `forkchoiceUpdated`.
    pub method: String,
    /// The heads.
    pub forkchoice: Forkchoice,
}

/// The heads.
#[derive(Debug, Default)]
pub struct Heads {
    newest: Option<Wanted>,
    /// A job's call that is on its way.
    turn: Option<AskId>,
}

impl Heads {
    /// What op-node wants from now on. Gives what it wanted before.
    pub const fn note(&mut self, wanted: Wanted) -> Option<Wanted> {
        self.newest.replace(wanted)
    }

    /// What op-node wants.
    #[must_use]
    pub const fn newest(&self) -> Option<&Wanted> {
        self.newest.as_ref()
    }

    /// The newest forkchoice, if its head is `parent`.
    ///
    /// # Errors
    /// [`NotHead`] if it is not.
    pub fn on(&self, parent: B256) -> Result<&Forkchoice, NotHead> {
        let newest = self.newest.as_ref().map(|wanted| &wanted.forkchoice);
        newest.filter(|forkchoice| forkchoice.head == parent).ok_or(NotHead(parent))
    }

    /// Whether a job's call is on its way.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.turn.is_some()
    }

    /// A job's call is on its way. Nobody else's is.
    ///
    /// # Panics
    /// If another one is: both would carry heads.
    pub fn take_turn(&mut self, ask: AskId) {
        assert!(!self.is_taken(), "one job at a time calls the engine with heads");
        self.turn = Some(ask);
    }

    /// A question was answered; if it was a job's call, the next one may follow.
    pub fn end_turn(&mut self, ask: AskId) {
        self.turn.take_if(|turn| *turn == ask);
    }
}
