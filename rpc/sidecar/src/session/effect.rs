//! What to do: everything the session wants of the sidecar, in the order in which it must be begun.
//!
//! What is asked comes back as an [`Input::Replied`](super::input::Input::Replied), each once, however long it takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use lockstep_core::cursor::L2Header;
use lockstep_core::reader::Known;
use lockstep_core::record::{Limits, RecordBody, Sealed};
use lockstep_core::types::{Height, UnixMillis};
use lockstep_core::window::{Offered, Place};
use lockstep_execution::attributes::{Attributes, JobId};
use serde_json::value::RawValue;

use super::error::JobError;
use super::heads::Wanted;
use super::input::Forwarded;
use super::restoring::Brought;

/// Names a call of op-node. The sidecar makes it; the session gives it back, once, with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names a question. The session makes it; the sidecar gives it back with the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Find something out.
    Ask(AskId, Question),
    /// Answer a call of op-node.
    Answer(CallId, Answer),
    /// Bring a record into the log.
    Record(RecordBody),
    /// Bring limits into the log, if they are others than those said last.
    Limit {
        /// What the batcher wants.
        limits: Limits,
        /// The newest in the log.
        logged: Limits,
    },
    /// Keep the highest safe head for the next start.
    KeepSafe(B256, u64),
    /// Keep a payload that op-node brought.
    KeepPayload(B256, Arc<Brought>),
    /// Keep the heads that op-node wants, behind the payloads.
    KeepHeads(Wanted),
    /// Tell the wallets' port which transactions no block will hold.
    Skipped(Vec<B256>),
    /// Say to operators what happened.
    Note(Note),
    /// Say it in numbers.
    Measure(Measure),
}

/// An answer to op-node.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What the engine answered, as it is.
    Engine {
        /// The answer.
        forwarded: Forwarded,
        /// Whether the call waited for something else, so that its time says nothing of what the sidecar adds.
        is_held: bool,
    },
    /// A result.
    Result(Box<RawValue>),
    /// An error.
    Error {
        /// JSON-RPC's code.
        code: i64,
        /// For people.
        message: String,
    },
}

/// Something to find out, or to do and to hear of.
#[derive(Clone, Debug)]
pub enum Question {
    /// Carry a call of op-node to the engine: [`Reply::Forwarded`](super::input::Reply::Forwarded).
    Forward(CallId),
    /// Call the engine: [`Reply::Called`](super::input::Reply::Called).
    Call(EngineCall),
    /// The header of the engine's head: [`Reply::Header`](super::input::Reply::Header).
    Head,
    /// The header of a block that the engine has: [`Reply::Header`](super::input::Reply::Header).
    Header(B256),
    /// The content of a block that the engine has: [`Reply::Block`](super::input::Reply::Block).
    Block(L2Header),
    /// Slices of the log: [`Reply::Log`](super::input::Reply::Log).
    Log {
        /// From this height on,
        from: Height,
        /// up to the first that is later than this, which is decided.
        until: UnixMillis,
    },
    /// Bring all limits from a height on into the book: [`Reply::Limits`](super::input::Reply::Limits).
    Limits(Height),
    /// The first height after a log time: [`Reply::Height`](super::input::Reply::Height).
    HeightAfter(UnixMillis),
    /// What the pre-check needs of an offer's transactions, which takes a while: [`Reply::Facts`](super::input::Reply::Facts).
    Facts {
        /// The offer.
        items: Arc<[Offered]>,
        /// What stands in front of it.
        deposits: Vec<Bytes>,
    },
    /// Accounts at a block, and the base fee behind it: [`Reply::State`](super::input::Reply::State).
    State {
        /// The block.
        parent: B256,
        /// Its number, if it need not be the engine's head.
        number: Option<u64>,
        /// The accounts.
        senders: BTreeSet<Address>,
    },
    /// Accounts at the end of a block: [`Reply::Endings`](super::input::Reply::Endings).
    Endings {
        /// The block.
        block: B256,
        /// The accounts.
        senders: BTreeSet<Address>,
    },
    /// Bring to disk what is [`kept`](super::Session::kept) now, or later: [`Reply::Kept`](super::input::Reply::Kept).
    Keep,
}

/// What is kept for the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The newest cursors.
    pub blocks: Vec<(B256, Known)>,
    /// Blocks that were sealed closed and are not recorded yet, each with what the engine refused to it.
    pub closed: Vec<(B256, BTreeSet<Place>)>,
}

/// A call of the Engine API.
#[derive(Clone, Debug)]
pub enum EngineCall {
    /// Set the heads.
    SetHeads {
        /// The version of `forkchoiceUpdated`.
        method: String,
        /// The heads.
        forkchoice: Box<RawValue>,
    },
    /// Set the heads and begin a block.
    Build {
        /// The version of `forkchoiceUpdated`.
        method: String,
        /// The heads.
        forkchoice: Box<RawValue>,
        /// What op-node wants in the block.
        attributes: Arc<Attributes>,
        /// What may follow.
        items: Arc<[Offered]>,
        /// Those that do, by their place, in order.
        kept: Vec<usize>,
    },
    /// Take a block.
    GetPayload {
        /// The version of `getPayload`.
        method: String,
        /// Which.
        payload_id: Box<RawValue>,
    },
    /// Bring a block in.
    NewPayload {
        /// The version of `newPayload`.
        method: String,
        /// Its parameters.
        params: Vec<Box<RawValue>>,
    },
}

/// Something that happened, for operators. The session decides nothing by it.
#[derive(Clone, Debug)]
pub enum Note {
    /// The engine does not take the head of a sequencing job.
    HeadRefused {
        /// The head.
        parent: B256,
        /// The engine's status.
        status: String,
    },
    /// A job is put off: its parent is older than a safe head.
    PutOff {
        /// The parent.
        parent: B256,
        /// Its number.
        number: u64,
        /// The safe head's.
        safe: u64,
    },
    /// op-node's call goes on although a job's has not been answered.
    Overtaken,
    /// A parent's cursor is not known yet.
    ParentUnknown {
        /// The parent.
        parent: B256,
        /// Why.
        reason: JobError,
    },
    /// No record says how a block was built in time: it is recorded as closed.
    Unrecorded(B256),
    /// A job would have been offered items.
    Rehearsed {
        /// Its parent.
        parent: B256,
        /// How many, or why that is not known.
        items: Result<usize, JobError>,
    },
    /// The committee is silent: the block of a job is of deposits only.
    Silent {
        /// Its parent.
        parent: B256,
    },
    /// The engine cannot build now; it is tried again.
    EngineAway {
        /// The job.
        job: JobId,
        /// Why.
        reason: JobError,
    },
    /// No block with items can be had: nothing is offered on a parent.
    NothingOffered {
        /// The parent.
        parent: B256,
        /// How many items the engine refused.
        refused: usize,
        /// Why.
        reason: JobError,
    },
    /// The engine built something else than deposits and offered items.
    BuiltForeign(B256),
    /// A block is not taken, or not brought in, ahead of time.
    NotAhead {
        /// Its parent.
        parent: B256,
        /// Why.
        reason: JobError,
    },
    /// The engine has blocks without states: a sibling is made its head for a moment.
    Turned {
        /// The head.
        head: B256,
        /// The block above it, of which it is a sibling.
        block: B256,
    },
    /// An engine that lost blocks has them again.
    Restored {
        /// The newest of them.
        head: B256,
        /// How many.
        count: usize,
    },
    /// A job ended without a block.
    JobEnded {
        /// The job.
        job: JobId,
        /// Its parent.
        parent: B256,
        /// Why.
        reason: JobError,
    },
    /// A block that took its offer is the chain's now.
    Sealed {
        /// Its record.
        sealed: Sealed,
        /// How many transactions it has.
        transactions: usize,
        /// How long ago its window had closed.
        time: Duration,
    },
    /// A closed block is not recorded yet.
    NotRecorded {
        /// The block.
        block: B256,
        /// Why.
        reason: JobError,
    },
    /// The cursor of a block that came in is not known yet.
    NotFound {
        /// The block.
        block: B256,
        /// Why.
        reason: JobError,
    },
    /// A block is not of its slice: it was refused, or passed because it was derived from L1.
    Foreign {
        /// The block.
        block: B256,
        /// Why.
        reason: String,
        /// Whether it was refused.
        is_refused: bool,
    },
    /// A block cannot be compared with the log yet.
    NotComparable {
        /// The block.
        block: B256,
        /// Why.
        reason: JobError,
    },
    /// Limits of the batcher are not recorded, without a key.
    LimitsIgnored,
}

/// Something that happened, for numbers alone. The session decides nothing by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A job was begun.
    JobBegun,
    /// A window closed while a job waited for it.
    WindowClosed {
        /// When its block is due, milliseconds since 1970.
        due_ms: u64,
    },
    /// Items were offered.
    Offered(usize),
    /// The engine built.
    Built {
        /// How long that took.
        time: Duration,
        /// How often it refused.
        refusals: usize,
    },
    /// `getPayload` was held.
    Held(Duration),
    /// `getPayload` gave no block.
    Unsealed,
    /// A closed block is the chain's now.
    SealedClosed,
}
