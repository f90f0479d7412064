//! The guard: a validator's key, and the only way to sign with it in consensus. Persist before sign.
//!
//! It never lets two different messages of one (height, round, step) out, whatever crashes in between: a message and
//! its signature are written to an append-only file and synced; only then the caller gets the signature. Asked
//! again, it returns the stored signature of the identical message and refuses any other. Its file has a directory
//! of its own, so that a node whose data directory is wiped or restored still can't vote twice.
//!
//! ```text
//!  asked ──► abstaining, marked? ──► identical record? ──► below the newest or the floor? ──► sign ──► append ──► fdatasync ──► answer
//!                 refuse            stored signature             refuse
//! ```
//!
//! Opening never makes the file: a node without it may have signed anything, so only the operator makes one
//! ([`Guard::create`]), with a [`Mark`] under which nothing is signed until that is safe.
//!
//! What it does not do: it remembers what was signed, not what consensus was locked on. When the engine's write-ahead
//! log lacks more than one of the votes signed at a height ([`Guard::ahead_of`]), locks may be lost with them, and
//! the node must abstain until that height is decided ([`Guard::abstain_until_decided`]).
//!
//! Every call blocks (a `fdatasync`). After an input or output error it signs nothing until it is opened again.
//!
//! Sources: Tendermint (arXiv 1807.04938) algorithm 1 signs each message once per (height, round, step); the rule
//! that a lower one is never signed after a higher one is that of tmkms' state file.

mod disk;
mod error;
mod journal;
mod mark;
mod record;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_primitives::Address;
use lockstep_core::certificate::{Proposal, Vote, VoteType};
use lockstep_core::planted::{Bug, planted};
use lockstep_core::signing::{Signature, SigningKey};
use lockstep_core::types::{BlockHash, Height, NetworkId, Round};

use self::disk::DiskFiles;
pub use self::error::{GuardOpenError, SignError};
pub use self::journal::Files;
use self::journal::Journal;
pub use self::mark::{Mark, Origin};
use self::record::Record;
pub use self::record::SignedMessage;

/// Tendermint's steps in which a validator signs, in their order within a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The proposal and its first part.
    Proposal,
    /// The prevote.
    Prevote,
    /// The precommit.
    Precommit,
}

/// What a validator signs at most one message of. The order is that of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The height.
    pub height: Height,
    /// The round.
    pub round: Round,
    /// The step.
    pub step: Step,
}

impl core::fmt::Display for MessageId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let step = match self.step {
            Step::Proposal => "proposal",
            Step::Prevote => "prevote",
            Step::Precommit => "precommit",
        };
        write!(f, "{step} of height {} round {}", self.height, self.round)
    }
}

/// A proposer's two signatures over one proposal, each with a tag of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposalSignatures {
    /// Over [`Proposal::digest`], for consensus.
    pub proposal: Signature,
    /// Over [`Proposal::part_digest`], for the first part.
    pub part: Signature,
}

/// What was found when a guard was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardReport {
    /// The mark in force, if nothing was signed since the guard was made.
    pub mark: Option<Mark>,
    /// A torn end that was set aside: a record that was being written when the node stopped. Its signature was never
    /// given out.
    pub torn: Option<TornTail>,
    /// The newest signed message.
    pub newest: Option<MessageId>,
}

/// The end of the file that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Where it began.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// File that they were copied to.
    pub copy: PathBuf,
}

/// The own messages in the engine's write-ahead log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalView {
    /// The height the log is at; if there is no log, the height that is not decided yet.
    pub height: Height,
    /// Own proposals and votes in it, in any order. Those of other heights are ignored.
    pub own: Vec<MessageId>,
    /// Whether it has nothing at all that a start would replay.
    pub is_empty: bool,
}

/// How the guard's file stands to the engine's write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// Equal: go on.
    No,
    /// One vote is signed that the log lacks: ordinary after a crash between signing and logging. Go on.
    One,
    /// More than one is: the log was lost, and locks with it. Abstain until `height` is decided.
    More {
        /// Highest height with a signed vote that the log lacks.
        height: Height,
    },
    /// The log has an own message that the guard lacks: the guard's file was lost or restored. Abstain until
    /// `height` is decided.
    Behind {
        /// The log's height.
        height: Height,
    },
}

impl Ahead {
    /// The height until whose decision the node must abstain, if it must.
    #[must_use]
    pub const fn must_abstain(self) -> Option<Height> {
        match self {
            Self::No | Self::One => None,
            Self::More { height } | Self::Behind { height } => Some(height),
        }
    }
}

/// A validator's key behind its file. One lock: signing is a sequence of records.
#[derive(Debug)]
pub struct Guard {
    network: NetworkId,
    key: SigningKey,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    journal: Journal<Box<dyn Files>>,
    messages: BTreeMap<MessageId, SignedMessage>,
    floor: Height,
    abstain_until: Option<Height>,
    mark: Option<Mark>,
    /// The network is at its genesis: height 1 may be signed under a fresh mark. Not persisted.
    may_begin: bool,
}

impl Guard {
    /// Makes the guard of a validator's address in its directory, and the directory if it is not there. Nothing of an
    /// existing guard is changed.
    ///
    /// # Errors
    /// [`GuardOpenError::Exists`], [`GuardOpenError::InUse`] and [`GuardOpenError::Io`].
    pub fn create(
        directory: &Path,
        network: NetworkId,
        address: Address,
        mark: Mark,
    ) -> Result<(), GuardOpenError> {
        let files = DiskFiles::create(directory)?;
        Self::create_on(Box::new(files), directory, (network, address), mark)
    }

    /// The same over any directory: `directory` is its name in errors.
    ///
    /// # Errors
    /// [`GuardOpenError::Exists`] and [`GuardOpenError::Io`].
    pub fn create_on(
        files: Box<dyn Files>,
        directory: &Path,
        (network, address): (NetworkId, Address),
        mark: Mark,
    ) -> Result<(), GuardOpenError> {
        Journal::create(files, directory, (network, address), Some(mark))
    }

    /// Opens the guard of a key in its directory. The directory stays locked as long as the guard lives.
    ///
    /// # Errors
    /// [`GuardOpenError`]; [`GuardOpenError::Missing`] if nobody has made it.
    pub fn open(
        directory: &Path,
        network: NetworkId,
        key: SigningKey,
    ) -> Result<(Self, GuardReport), GuardOpenError> {
        let files = DiskFiles::open(directory)?;
        Self::on(Box::new(files), directory, network, key)
    }

    /// The same over any directory: `directory` is its name in errors.
    ///
    /// # Errors
    /// [`GuardOpenError`].
    pub fn on(
        files: Box<dyn Files>,
        directory: &Path,
        network: NetworkId,
        key: SigningKey,
    ) -> Result<(Self, GuardReport), GuardOpenError> {
        let (journal, found) = Journal::open(files, directory, network, key.address())?;
        let newest = found.messages.last_key_value().map(|(id, _)| *id);
        let report = GuardReport { mark: found.mark, torn: found.torn, newest };
        let inner = Inner {
            journal,
            messages: if planted(Bug::GuardForgets) { BTreeMap::new() } else { found.messages },
            floor: found.floor,
            abstain_until: None,
            mark: found.mark,
            may_begin: false,
        };
        Ok((Self { network, key, inner: Mutex::new(inner) }, report))
    }

    /// Signs a vote. May be called again with the same vote, also after a restart: the signature is the same.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign_vote(&self, vote: &Vote) -> Result<Signature, SignError> {
        let step = match vote.vote_type {
            VoteType::Prevote => Step::Prevote,
            VoteType::Precommit => Step::Precommit,
        };
        let id = MessageId { height: vote.height, round: vote.round, step };
        let block = vote.block.unwrap_or(BlockHash::ZERO);
        let sign = || (self.key.sign(vote.digest(self.network)), None);
        Ok(self.sign(id, block, None, sign)?.signature)
    }

    /// Signs a proposal, and its first part with it: two signatures, one record. May be called again.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign_proposal(&self, proposal: &Proposal) -> Result<ProposalSignatures, SignError> {
        let Proposal { height, round, valid_round, block } = *proposal;
        let id = MessageId { height, round, step: Step::Proposal };
        let sign = || {
            let part = self.key.sign(proposal.part_digest(self.network));
            (self.key.sign(proposal.digest(self.network)), Some(part))
        };
        let SignedMessage { signature, part, .. } = self.sign(id, block, valid_round, sign)?;
        Ok(ProposalSignatures { proposal: signature, part: part.unwrap_or(signature) })
    }

    fn sign(
        &self,
        id: MessageId,
        block: BlockHash,
        valid_round: Option<Round>,
        sign: impl FnOnce() -> (Signature, Option<Signature>),
    ) -> Result<SignedMessage, SignError> {
        let mut inner = self.lock();
        if let Some(signed) = inner.find(id, block, valid_round)? {
            return Ok(signed);
        }
        let (signature, part) = sign();
        let message = SignedMessage { id, block, valid_round, signature, part };
        inner.keep(message)?;
        Ok(message)
    }

    /// Compares with the engine's write-ahead log. Call it at start, before anything is signed.
    ///
    /// Votes are counted alone. A proposal is signed when its block is written; consensus logs it when it publishes it, and never
    /// if the block was too late for its round. It carries no lock.
    #[must_use]
    pub fn ahead_of(&self, wal: &WalView) -> Ahead {
        let inner = self.lock();
        let height = wal.height;
        let of_height = wal.own.iter().filter(|id| id.height == height);
        if of_height.clone().any(|id| !inner.messages.contains_key(id)) {
            return Ahead::Behind { height };
        }
        let first = MessageId { height, round: Round(0), step: Step::Proposal };
        let lacking: Vec<MessageId> = inner
            .messages
            .range(first..)
            .map(|(id, _)| *id)
            .filter(|id| id.step != Step::Proposal || planted(Bug::ProposalsMissed))
            .filter(|id| !of_height.clone().any(|own| own == id))
            .collect();
        match lacking.as_slice() {
            [] => Ahead::No,
            [_] => Ahead::One,
            [.., newest] => Ahead::More { height: newest.height },
        }
    }

    /// The height until whose decision a node must sign nothing that starts at `next`: its locks may be lost with what its log
    /// lacks ([`Guard::ahead_of`]), or it signed above, or its log is of a height above, whose blocks the store has lost.
    #[must_use]
    pub fn must_abstain(&self, next: Height, wal: &WalView) -> Option<Height> {
        let logged = (!wal.is_empty).then_some(wal.height);
        let newest = logged.max(self.newest().map(|id| id.height)).filter(|height| *height > next);
        self.ahead_of(wal).must_abstain().max(newest).filter(|height| *height >= next)
    }

    /// Signs nothing up to this height, whatever is asked, for as long as the guard lives; above it, everything as
    /// usual. A higher height that was set before stays. Not persisted: the next start compares again.
    pub fn abstain_until_decided(&self, height: Height) {
        let mut inner = self.lock();
        inner.abstain_until = inner.abstain_until.max(Some(height));
    }

    /// The height up to which the guard abstains, if it was told to.
    #[must_use]
    pub fn abstaining(&self) -> Option<Height> {
        self.lock().abstain_until
    }

    /// The mark in force. While there is one, nothing is signed but height 1 after [`Guard::begin`].
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.lock().mark
    }

    /// Lets a fresh guard sign at height 1: the caller saw that the network is at its genesis. Changes nothing for any
    /// other guard. Not persisted: until the first signature, the next start must see it again.
    pub fn begin(&self) {
        self.lock().may_begin = true;
    }

    /// Never signs anything new up to this height again, also after a restart, and uses the mark up. For a marked
    /// guard: the caller saw `height` decided after [`Mark::lost_until`]. Without a mark, a lower floor than the one in
    /// force changes nothing.
    ///
    /// # Errors
    /// [`SignError::Io`] and [`SignError::Stopped`].
    pub fn raise_floor(&self, height: Height) -> Result<(), SignError> {
        let mut inner = self.lock();
        if height <= inner.floor && inner.mark.is_none() {
            return Ok(());
        }
        inner.journal.append(&Record::Floor(height))?;
        inner.floor = inner.floor.max(height);
        inner.mark = None;
        Ok(())
    }

    /// The newest signed message.
    #[must_use]
    pub fn newest(&self) -> Option<MessageId> {
        self.lock().messages.last_key_value().map(|(id, _)| *id)
    }

    /// The validator's address.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.key.address()
    }

    /// Whether an input or output error has stopped it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().journal.is_stopped()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The identical message's record; `None` if the message may be signed now.
    fn find(
        &self,
        id: MessageId,
        block: BlockHash,
        valid_round: Option<Round>,
    ) -> Result<Option<SignedMessage>, SignError> {
        if self.journal.is_stopped() {
            return Err(SignError::Stopped);
        }
        if let Some(until) = self.abstain_until.filter(|until| id.height <= *until) {
            return Err(SignError::Abstaining { id, until });
        }
        if let Some(mark) = self.mark.filter(|mark| !self.is_first(*mark, id)) {
            return Err(SignError::Marked { id, origin: mark.origin });
        }
        if let Some(signed) = self.messages.get(&id) {
            if signed.block == block && signed.valid_round == valid_round {
                return Ok(Some(*signed));
            }
            if planted(Bug::GuardSignsTwice) {
                return Ok(None);
            }
            return Err(SignError::Conflict { id, signed: signed.block, asked: block });
        }
        if id.height <= self.floor {
            return Err(SignError::Floor { id, floor: self.floor });
        }
        match self.messages.last_key_value() {
            Some((newest, _)) if id < *newest && !planted(Bug::GuardSignsLower) => {
                Err(SignError::Lower { id, newest: *newest })
            }
            _ => Ok(None),
        }
    }

    /// Whether a message is one of the network's first height, of a key that has never signed.
    fn is_first(&self, mark: Mark, id: MessageId) -> bool {
        self.may_begin && mark.origin == Origin::Fresh && id.height == Height::GENESIS.next()
    }

    /// Makes a message durable and remembers it; compacts the file when it has grown.
    fn keep(&mut self, message: SignedMessage) -> Result<(), SignError> {
        self.journal.append(&Record::Signed(message))?;
        self.mark = None;
        self.messages.insert(message.id, message);
        if self.journal.is_due() {
            self.compact(message.id.height)?;
        }
        Ok(())
    }

    /// Rewrites the file with the newest two heights alone; the floor stands for what is left out.
    fn compact(&mut self, newest: Height) -> Result<(), SignError> {
        let kept_from = newest.previous().unwrap_or_default();
        let floor = self.floor.max(kept_from.previous().unwrap_or_default());
        let first = MessageId { height: kept_from, round: Round(0), step: Step::Proposal };
        let kept = self.messages.split_off(&first);
        self.messages = kept;
        self.journal.rewrite((floor, self.mark), self.messages.values())?;
        self.floor = floor;
        Ok(())
    }
}
