//! Records the blocks that were sealed closed, the oldest first, each once the log tells what it would have been offered.
//! While the log is silent it looks at one block, however many wait.

use std::collections::{BTreeSet, VecDeque};
use std::task::{Poll, ready};

use alloy_primitives::B256;
use lockstep_core::cursor::{L2Block, L2Header};
use lockstep_core::reader::Unresolved;
use lockstep_core::record::{RecordBody, Sealed};

use super::context::{Asking, Context, Pause, reply};
use super::effect::{Effect, Note, Question};
use super::error::NotFound;
use super::finding::{Finding, Judging};
use super::state::State;
use crate::limits::RECORD_LATER;

/// What records closed blocks. It never ends.
#[derive(Debug, Default)]
pub struct Recording {
    /// Those that were recorded, until the log shows it.
    recorded: BTreeSet<B256>,
    /// Those that are still to be looked at in this round.
    round: VecDeque<B256>,
    doing: Doing,
}

#[derive(Debug, Default)]
enum Doing {
    #[default]
    Beginning,
    /// Until it makes sense to look again, or another block became part of the chain.
    Pausing(Pause),
    Recording(Box<One>),
}

impl Recording {
    /// Goes on as far as it can.
    pub fn go_on(&mut self, cx: &mut Context<'_>, state: &mut State) {
        while self.step(cx, state).is_ready() {}
    }

    /// Whether it got on.
    fn step(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<()> {
        {
            match &mut self.doing {
                Doing::Beginning => {
                    self.round = self.due(cx, state);
                    self.doing = self.next(cx);
                }
                Doing::Pausing(pause) => {
                    if !core::mem::take(&mut state.has_taken_closed) {
                        ready!(pause.poll(cx));
                    }
                    self.doing = Doing::Beginning;
                }
                Doing::Recording(one) => {
                    let recorded = ready!(one.poll(cx, state));
                    let block = one.block;
                    match recorded {
                        Ok(Some(sealed)) => {
                            self.recorded.insert(block);
                            cx.push(Effect::Record(RecordBody::Sealed(sealed)));
                        }
                        Ok(None) => state.reader.drop_closed(&block),
                        // The log is not there yet for any later one.
                        Err(NotFound::Unresolved(Unresolved::AheadOfLog { .. })) => {
                            self.round.clear();
                        }
                        Err(reason) => {
                            cx.note(Note::NotRecorded { block, reason: reason.into() });
                        }
                    }
                    self.doing = self.next(cx);
                }
            }
        }
        Poll::Ready(())
    }

    fn due(&mut self, cx: &Context<'_>, state: &mut State) -> VecDeque<B256> {
        let closed: Vec<(B256, bool)> =
            state.reader.closed(cx.view()).map(|(hash, closed)| (*hash, closed.is_taken)).collect();
        self.recorded.retain(|hash| closed.iter().any(|(other, _)| other == hash));
        let is_due = |(hash, is_taken): &(B256, bool)| *is_taken && !self.recorded.contains(hash);
        closed.iter().filter(|it| is_due(it)).map(|(hash, _)| *hash).collect()
    }

    fn next(&mut self, cx: &Context<'_>) -> Doing {
        match self.round.pop_front() {
            Some(block) => Doing::Recording(Box::new(One::new(block))),
            None => Doing::Pausing(Pause::new(cx, RECORD_LATER)),
        }
    }
}

/// The way from a closed block to its record.
#[derive(Debug)]
struct One {
    block: B256,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Beginning,
    Header(Asking),
    Block(Asking),
    Finding(L2Block, Box<Finding>),
    Judging(Box<Judging>),
}

impl One {
    const fn new(block: B256) -> Self {
        Self { block, stage: Stage::Beginning }
    }

    /// The block's record; `None` if the engine lost the block, or nobody would heed the record any more.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Result<Option<Sealed>, NotFound>> {
        loop {
            match &mut self.stage {
                Stage::Beginning => match state.blocks.get(&self.block).cloned() {
                    Some(block) => self.find(cx, state, L2Block::clone(&block))?,
                    None => self.stage = Stage::Header(cx.ask(Question::Header(self.block))),
                },
                Stage::Header(asking) => {
                    let Ok(header) = reply!(asking, cx, Header) else { return Poll::Pending };
                    let Some(header) = header.map_err(NotFound::from)? else {
                        return Poll::Ready(Ok(None));
                    };
                    self.expect_log(cx, state, header)?;
                    self.stage = Stage::Block(cx.ask(Question::Block(header)));
                }
                Stage::Block(asking) => {
                    let Ok(block) = reply!(asking, cx, Block) else { return Poll::Pending };
                    let Some(block) = block.map_err(NotFound::from)? else {
                        return Poll::Ready(Ok(None));
                    };
                    self.find(cx, state, block)?;
                }
                Stage::Finding(block, finding) => {
                    let found = ready!(finding.poll(cx, state))?;
                    let judging = Judging::new(block.clone(), found.begin);
                    self.stage = Stage::Judging(Box::new(judging));
                }
                Stage::Judging(judging) => {
                    let judged = ready!(judging.poll(cx, state))?;
                    let record = state.reader.record_of(cx.view(), &judged);
                    return Poll::Ready(record.map_err(NotFound::from));
                }
            }
        }
    }

    fn find(&mut self, cx: &Context<'_>, state: &State, block: L2Block) -> Result<(), NotFound> {
        self.expect_log(cx, state, block.header())?;
        let finding = Finding::new(block.parent);
        self.stage = Stage::Finding(block, Box::new(finding));
        Ok(())
    }

    fn expect_log(
        &self,
        cx: &Context<'_>,
        state: &State,
        header: L2Header,
    ) -> Result<(), Unresolved> {
        let end = state.reader.rules().end(header.timestamp);
        match cx.view().is_closed(end) {
            true => Ok(()),
            false => Err(Unresolved::AheadOfLog { hash: self.block, end }),
        }
    }
}
