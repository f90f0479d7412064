//! Bugs that the simulator plants, to see whether its rules find them.
//!
//! [`planted`] is a constant `false` unless the feature `planted-bugs` is on, which is the simulator's alone: no program
//! that ships has one of these. Each bug is a condition in the place where somebody could make it. A bug that no seed
//! finds means that a rule is missing, or that a fault is never drawn.

macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $bug:ident = $name:literal,)+) => {
        /// A bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $what])+ $bug,)+
        }

        /// Each bug with its name and what it does.
        pub const BUGS: &[(Bug, &str, &str)] = &[$((Bug::$bug, $name, concat!($($what),+)),)+];
    };
}

bugs! {
    // Faults that were in the code once and are put back.

    /// A proposal counts though the block was judged under another round.
    TicketByBlock = "ticket-by-block",
    /// The candidates of all proposers share one bound, and a full table refuses the next one.
    CandidatesShared = "candidates-shared",
    /// Candidates have no bound.
    CandidatesUnbounded = "candidates-unbounded",
    /// Another lane's copy that is left out for good ends the entry.
    OtherCopyEnds = "other-copy-ends",
    /// A dropped entry stays dropped when another lane's copy is decided.
    DroppedIsFinal = "dropped-is-final",
    /// The own lane does not wait for entries that may come back.
    LaneDoesNotWait = "lane-does-not-wait",
    /// A restart restores the own lane's entries in reverse.
    RestoredInReverse = "restored-in-reverse",
    /// Untimely blocks are written, and timely after a restart.
    UntimelyWritten = "untimely-written",
    /// A lost guard votes at once.
    LostGuardVotes = "lost-guard-votes",
    /// The store is not asked for the other batch of a fork.
    ForkNotRead = "fork-not-read",
    /// A block that is decided and not held is not fetched.
    DecidedNotFetched = "decided-not-fetched",
    /// A peer is blamed for a value whose height was decided meanwhile.
    OvertakenPeerBlamed = "overtaken-peer-blamed",
    /// The result of an earlier request of sync counts for the present one.
    StaleSyncCounts = "stale-sync-counts",
    /// A proposal that consensus never logged counts as a sign of a lost log.
    ProposalsMissed = "proposals-missed",
    /// A turn that comes to nothing leaves the engine's question open.
    QuestionLeftOpen = "question-left-open",

    // Whoever carries effects out: the simulator in place of the node's shell.

    /// Consensus has a peer's proposal at once, whatever was judged.
    ProposalsPassAtOnce = "proposals-pass-at-once",
    /// Votes are signed without the guard, and the consensus log is gone after a crash.
    NoGuard = "no-guard",
    /// The consensus log is gone after a crash, and nobody abstains.
    LogLost = "log-lost",

    // The guard.

    /// A signature leaves before the guard's file is synced.
    GuardUnsynced = "guard-unsynced",
    /// The guard signs although it signed something else.
    GuardSignsTwice = "guard-signs-twice",
    /// The guard forgets what it signed when it is opened.
    GuardForgets = "guard-forgets",
    /// The guard signs below its newest message.
    GuardSignsLower = "guard-signs-lower",

    // Written, then said.

    /// The consensus log is not synced.
    LogUnsynced = "log-unsynced",
    /// Blocks of others are handed to consensus and not written.
    BlockNotWritten = "block-not-written",
    /// An own block is signed and not written.
    OwnBlockNotWritten = "own-block-not-written",
    /// Batches are acknowledged before they are written.
    BatchNotWritten = "batch-not-written",
    /// An own batch is pushed before it is written.
    PushedNotWritten = "pushed-not-written",
    /// Batches that came with a proposal are not written.
    AttachedNotWritten = "attached-not-written",
    /// Evidence is not written.
    EvidenceLost = "evidence-lost",

    /// Batches and undecided blocks are written and not synced.
    StoreUnsynced = "store-unsynced",

    // What a vote waits for.

    /// Every fresh block is timely.
    AlwaysTimely = "always-timely",
    /// A block may be earlier than its parent.
    TimeGoesBack = "time-goes-back",
    /// A block may name any proposer.
    AnyProposer = "any-proposer",
    /// A block may have any parent.
    AnyParent = "any-parent",
    /// The state after a block is not compared.
    AnyState = "any-state",
    /// The slices of a block are not compared.
    AnySlices = "any-slices",
    /// A cut may move a lane back.
    CutGoesBack = "cut-goes-back",
    /// A fresh proposal's block may be of another round.
    RoundNotCompared = "round-not-compared",
    /// A payload may hold another block than the proposal names.
    OtherBlockOpened = "other-block-opened",
    /// The first part's signature is not checked.
    PartUnsigned = "part-unsigned",
    /// A peer's parts are put together whatever their stream.
    StreamsMixed = "streams-mixed",

    // Quorums and certificates.

    /// A third of the voting power is a quorum.
    ThirdIsQuorum = "third-is-quorum",
    /// The certificate of a synced value is not verified.
    SyncUnverified = "sync-unverified",
    /// A fetched value may be another block.
    OtherBlockFetched = "other-block-fetched",

    // Bounds.

    /// Signed proposals that wait have no bound.
    TicketsUnbounded = "tickets-unbounded",
    /// Proposals whose parts are missing have no bound.
    StreamsUnbounded = "streams-unbounded",
    /// Batches that wait to be checked have no bound.
    InboxUnbounded = "inbox-unbounded",

    // What is ordered.

    /// The dedup window is short.
    DedupShort = "dedup-short",
    /// The dedup window is empty after a start.
    DedupNotRestored = "dedup-not-restored",
    /// Expired entries are taken.
    ExpiryOff = "expiry-off",
    /// A bundle's last leg is in no slice.
    HalfBundle = "half-bundle",
    /// What is taken is not charged to the chain's bucket.
    NothingCharged = "nothing-charged",
    /// A lane's later entries do not wait for one that does not fit.
    ShortDoesNotWait = "short-does-not-wait",

    // The own lane.

    /// A restart takes the same run of the lane again.
    SameRunAgain = "same-run-again",
    /// Undecided entries are not restored after a restart.
    NotRestored = "not-restored",
    /// An entry that is left out for want of room is lost.
    CarriedLost = "carried-lost",
    /// An entry that comes back goes behind all others.
    CarriedBehind = "carried-behind",

    // What goes on.

    /// A second batch at a position takes the place of the first.
    SecondBatchHeld = "second-batch-held",
    /// Gaps in lanes are looked for once.
    RepairOnce = "repair-once",
    /// Only the first peer is asked for what is decided and not held.
    FetchOnce = "fetch-once",
    /// Others' blocks are not published again.
    RestreamIgnored = "restream-ignored",
    /// The own block is not published again.
    OwnRestreamIgnored = "own-restream-ignored",
    /// Who precommits nil is not shown what others locked.
    LocksHidden = "locks-hidden",
    /// Proposals of later heights are dropped.
    EarlyDropped = "early-dropped",
    /// Blocks that wait are not judged when their batches come.
    WaitingForgotten = "waiting-forgotten",
    /// Blocks that were written are forgotten at a restart.
    UndecidedForgotten = "undecided-forgotten",
}

#[cfg(not(feature = "planted-bugs"))]
mod switch {
    /// Whether this bug is planted: never.
    #[must_use]
    pub const fn planted(_: super::Bug) -> bool {
        false
    }
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether this bug is planted in this thread.
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Plants a bug in this thread, in place of the one before.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }
}

pub use switch::*;
