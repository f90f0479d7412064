//! From a block's hash to where its children's offers begin, and from a block to what it is: carries out what the reader
//! needs by questions.

use std::sync::Arc;
use std::task::{Poll, ready};

use alloy_primitives::B256;
use lockstep_core::cursor::L2Block;
use lockstep_core::reader::{Found, Judged, Need, Next, Unresolved, Walk};
use lockstep_core::types::Height;
use lockstep_core::window::{Begin, LogSlice};

use super::context::{Asking, Context, reply};
use super::effect::Question;
use super::error::NotFound;
use super::input::Reply;
use super::state::State;
use crate::feed::LogBlock;

/// A walk to a block.
#[derive(Debug)]
pub struct Finding {
    walk: Walk,
    asking: Option<Asking>,
}

impl Finding {
    /// A walk to the block with this hash.
    #[must_use]
    pub const fn new(goal: B256) -> Self {
        Self { walk: Walk::new(goal), asking: None }
    }

    /// The block that the walk goes to.
    #[must_use]
    pub const fn goal(&self) -> B256 {
        self.walk.goal()
    }

    /// Goes on; the result, once the walk is at its goal or can't come to it now.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut State,
    ) -> Poll<Result<Found, NotFound>> {
        loop {
            if let Some(asking) = &self.asking {
                let Ok(reply) = ready!(asking.poll(cx)) else { return Poll::Pending };
                self.asking = None;
                self.take(cx, state, reply)?;
            }
            match self.walk.next(&mut state.reader, cx.view()).map_err(NotFound::from)? {
                Next::Found(found) => return Poll::Ready(Ok(found)),
                Next::Need(need) => self.fetch(cx, state, need)?,
            }
        }
    }

    fn fetch(&mut self, cx: &mut Context<'_>, state: &State, need: Need) -> Result<(), Unresolved> {
        let question = match need {
            Need::Header(hash) => match state.blocks.get(&hash) {
                Some(block) => {
                    let header = Some(block.header());
                    return self.walk.take_header(&state.reader, cx.view(), header);
                }
                None => Question::Header(hash),
            },
            Need::Block(header) => match state.blocks.get(&header.hash) {
                Some(block) => return self.walk.take_block(Some(L2Block::clone(block))),
                None => Question::Block(header),
            },
            Need::Limits(from) => Question::Limits(from),
            Need::Log { from, until } => Question::Log { from, until },
            Need::HeightAfter(time) => Question::HeightAfter(time),
        };
        self.asking = Some(cx.ask(question));
        Ok(())
    }

    fn take(&mut self, cx: &Context<'_>, state: &mut State, reply: Reply) -> Result<(), NotFound> {
        match reply {
            Reply::Header(header) => self.walk.take_header(&state.reader, cx.view(), header?)?,
            Reply::Block(block) => self.walk.take_block(block?)?,
            Reply::Limits(known) => known?,
            Reply::Height(height) => self.walk.take_height(height?),
            Reply::Log(blocks) => {
                let blocks = blocks?;
                self.walk.take_log(&mut state.reader, cx.view(), slices(&blocks))?;
            }
            other @ (Reply::Forwarded(_)
            | Reply::Called(_)
            | Reply::Facts(_)
            | Reply::State(_)
            | Reply::Endings(_)
            | Reply::Kept(_)) => unreachable!("{other:?} is nothing that a walk needs"),
        }
        Ok(())
    }
}

/// The slices of log blocks.
pub(super) fn slices(blocks: &[Arc<LogBlock>]) -> impl Iterator<Item = &LogSlice> {
    blocks.iter().map(|block| &block.slice)
}

/// The limits that are in force where an offer begins are in the book, or are asked for.
#[derive(Debug, Default)]
pub struct Learning(Option<Asking>);

impl Learning {
    /// Goes on.
    pub fn poll(&mut self, cx: &mut Context<'_>, from: Height) -> Poll<Result<(), NotFound>> {
        let Some(asking) = &self.0 else {
            if cx.log.book.limits_missing(from).is_none() {
                return Poll::Ready(Ok(()));
            }
            self.0 = Some(cx.ask(Question::Limits(from)));
            return Poll::Pending;
        };
        match reply!(asking, cx, Limits) {
            Ok(known) => Poll::Ready(known.map_err(NotFound::from)),
            Err(_) => Poll::Pending,
        }
    }
}

/// What a block is, on a parent that says where its offer begins.
#[derive(Debug)]
pub struct Judging {
    block: L2Block,
    begin: Begin,
    learning: Learning,
    asking: Option<Asking>,
}

impl Judging {
    /// The judging of a block.
    #[must_use]
    pub fn new(block: L2Block, begin: Begin) -> Self {
        Self { block, begin, learning: Learning::default(), asking: None }
    }

    /// Goes on; the result, once the log tells it or can't.
    pub fn poll(&mut self, cx: &mut Context<'_>, state: &State) -> Poll<Result<Judged, NotFound>> {
        let Some(asking) = &self.asking else {
            let from = self.begin.cursor.height;
            ready!(self.learning.poll(cx, from))?;
            let window = state.reader.window(cx.view(), &self.block).map_err(NotFound::from)?;
            if !cx.view().is_closed(window.end) {
                let hash = self.block.hash;
                return Poll::Ready(Err(Unresolved::AheadOfLog { hash, end: window.end }.into()));
            }
            if window.closed.is_some() {
                return Poll::Ready(self.judge(cx, state, &[]));
            }
            self.asking = Some(cx.ask(Question::Log { from, until: window.end }));
            return Poll::Pending;
        };
        match reply!(asking, cx, Log) {
            Ok(Ok(blocks)) => Poll::Ready(self.judge(cx, state, &blocks)),
            Ok(Err(error)) => Poll::Ready(Err(error.into())),
            Err(_) => Poll::Pending,
        }
    }

    fn judge(
        &self,
        cx: &Context<'_>,
        state: &State,
        blocks: &[Arc<LogBlock>],
    ) -> Result<Judged, NotFound> {
        let (block, begin) = (self.block.clone(), self.begin.clone());
        Ok(state.reader.judge(cx.view(), block, begin, slices(blocks))?)
    }
}
