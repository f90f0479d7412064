//! A client of the log that trusts no node: every answer goes through the light client.
//!
//! It fetches and checks; what is true is [`LightClient`]'s to say. The node chooses nothing: chain and height are the
//! caller's, heights of a stream follow one another, and hand-overs are fetched where a header shows that the validator
//! set changed.

use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use futures::{Stream, StreamExt};
use lockstep_core::header::Header;
use lockstep_core::light_client::{Handover, LightClient, NotVerified};
use lockstep_core::limits::{HANDOVERS_MAX, SLICE_RANGE_MAX};
use lockstep_core::proof::{SlicePresence, TransactionProof};
use lockstep_core::record::Record;
use lockstep_core::slice::{Content, Slice};
use lockstep_core::types::{ChainId, Height, UnixMillis};
use lockstep_proto::convert::log::{
    ProvenSlice, RecordHeightsQuery, RecordKind, SliceRange, SlicesQuery,
};

use super::{ClientError, LogClient};

/// Why something was not proved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The node could not be asked, or refused.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The node's answer proves nothing: it lies, or the user's trust is too old, or the network has forked.
    #[error("{0}")]
    NotVerified(Box<NotVerified>),
    /// The node answered for another height than it was asked for.
    #[error("the node answered for height {got}, asked for was {expected}")]
    Height {
        /// Asked for.
        expected: Height,
        /// Answered.
        got: Height,
    },
    /// The node answered for another chain than it was asked for.
    #[error("the node answered for chain {got}, asked for was {expected}")]
    Chain {
        /// Asked for.
        expected: ChainId,
        /// Answered.
        got: ChainId,
    },
    /// The node says where to ask on, but not behind what it answered.
    #[error("the node's range ends at height {last} and goes on at {next}")]
    Continuation {
        /// Last height of the answer.
        last: Height,
        /// Where it says to ask on.
        next: Height,
    },
    /// The height that the node names is not the first one after a time.
    #[error("height {height} is not the first after {timestamp}: header {at} is of {got}")]
    NotFirstAfter {
        /// The time asked for.
        timestamp: UnixMillis,
        /// The height named.
        height: Height,
        /// The header that shows it: the height's own, or the one before.
        at: Height,
        /// That header's time.
        got: UnixMillis,
    },
    /// The node names a height at which the chain has no such record.
    #[error("the node names a {kind:?} record of chain {chain} at height {height}, which has none")]
    NoRecord {
        /// The chain.
        chain: ChainId,
        /// The kind of record.
        kind: RecordKind,
        /// The height named.
        height: Height,
    },
    /// The node says that more hand-overs happened than one client bridges.
    #[error("the node names more than {HANDOVERS_MAX} hand-overs")]
    TooManyHandovers,
}

impl From<NotVerified> for VerifyError {
    fn from(error: NotVerified) -> Self {
        Self::NotVerified(Box::new(error))
    }
}

/// What a chain has at a height, shown: the height's header, and the slice whole, or `None`.
pub type Shown = (Header, Option<Slice>);

/// A log whose every answer is verified.
#[derive(Clone, Debug)]
pub struct VerifyingLog {
    log: LogClient,
    light: LightClient,
}

impl VerifyingLog {
    /// Reads from `log` and believes only what `light` does.
    #[must_use]
    pub const fn new(log: LogClient, light: LightClient) -> Self {
        Self { log, light }
    }

    /// Goes on at another node with what is believed.
    pub fn move_to(&mut self, log: LogClient) {
        self.log = log;
    }

    /// What is believed.
    #[must_use]
    pub const fn light_client(&self) -> &LightClient {
        &self.light
    }

    /// The node's head, shown to be decided.
    ///
    /// # Errors
    /// [`VerifyError`] if it is not shown.
    pub async fn head(&mut self) -> Result<Header, VerifyError> {
        let block = self.log.head().await?;
        self.verify(block.header.height, |light, handovers, now| {
            light.verify_header(&block, handovers, now)
        })
        .await?;
        Ok(block.header)
    }

    /// What a chain has at a height, shown.
    ///
    /// # Errors
    /// [`VerifyError`] if it is not shown. A height below the trusted set's first is shown by [`VerifyingLog::range`].
    pub async fn slice(&mut self, chain: ChainId, height: Height) -> Result<Shown, VerifyError> {
        let proven = self.log.slice(chain, height).await?;
        self.verify_slice(chain, height, proven).await
    }

    /// What a chain has at each height of `from..=to`, shown, for as many heights as the node has. One item per height,
    /// in order.
    ///
    /// # Errors
    /// [`VerifyError`] at the first height that is not shown.
    pub async fn range(
        &mut self,
        chain: ChainId,
        from: Height,
        to: Height,
    ) -> Result<Vec<Shown>, VerifyError> {
        let (mut next, mut slices) = (Some(from), Vec::new());
        while let Some(from) = next.filter(|from| *from <= to) {
            let part = self.part(chain, from, to).await?;
            next = part.next;
            let shown = part.proof.blocks.into_iter().map(|block| {
                let slice = match block.presence {
                    SlicePresence::Present { slice, .. } => Some(slice),
                    SlicePresence::Absent(_) => None,
                };
                (block.header, slice)
            });
            slices.extend(shown);
        }
        Ok(slices)
    }

    /// The first height whose block is later than a time, shown by its header and the one before it. `chain` may be any:
    /// the headers come with its slices.
    ///
    /// # Errors
    /// [`VerifyError::NotFirstAfter`] if it is another one. [`ClientError::is_not_found`] if the node's head is not
    /// later: a node may say so for ever, so ask another one after some time.
    pub async fn height_after(
        &mut self,
        chain: ChainId,
        timestamp: UnixMillis,
    ) -> Result<Height, VerifyError> {
        let height = self.log.height_after(timestamp).await?;
        let before = height.previous().filter(|before| *before > Height::GENESIS);
        let shown = self.range(chain, before.unwrap_or(height), height).await?;
        let last = shown.last().map_or(Height::GENESIS, |(header, _)| header.height);
        if last != height {
            return Err(VerifyError::Height { expected: height, got: last });
        }
        // Times ascend strictly, so no height further down needs to be looked at.
        for (header, _) in shown {
            let (at, got) = (header.height, header.timestamp_ms);
            if (got > timestamp) != (at == height) {
                return Err(VerifyError::NotFirstAfter { timestamp, height, at, got });
            }
        }
        Ok(height)
    }

    /// A chain's records of a kind below a height (`None`: from the head on) at no more than `count` heights, the newest
    /// first: each with its height's header and its place in the slice, all shown.
    ///
    /// That the node leaves none out is not shown. Who needs that reads the [`VerifyingLog::range`].
    ///
    /// # Errors
    /// [`VerifyError::NoRecord`] if the node names a height without one; [`VerifyError`] if a slice is not shown.
    pub async fn records(
        &mut self,
        chain: ChainId,
        kind: RecordKind,
        before: Option<Height>,
        count: u32,
    ) -> Result<Vec<(Header, u32, Record)>, VerifyError> {
        let query = RecordHeightsQuery { chain, kind, before, count };
        let mut records = Vec::new();
        for height in self.log.record_heights(query).await? {
            let (header, slice) = self.slice(chain, height).await?;
            let found = slice.map(|slice| records_of(slice, kind)).unwrap_or_default();
            if found.is_empty() {
                return Err(VerifyError::NoRecord { chain, kind, height });
            }
            let newest_first = found.into_iter().rev();
            records.extend(newest_first.map(|(place, record)| (header.clone(), place, record)));
        }
        Ok(records)
    }

    /// The same for as many heights as one answer has: all that is in it is shown, and `next` tells where the caller
    /// may ask on; `None` if the node has no more.
    ///
    /// # Errors
    /// [`VerifyError`] if one of the heights is not shown; nothing is believed then that was not before.
    pub async fn part(
        &mut self,
        chain: ChainId,
        from: Height,
        to: Height,
    ) -> Result<SliceRange, VerifyError> {
        let furthest = Height(from.0.saturating_add(SLICE_RANGE_MAX.saturating_sub(1)));
        let to = to.min(furthest);
        let mut range = self.log.slices(SlicesQuery { chain, from, to }).await?;
        let last = range.proof.blocks.last().map_or(Height::GENESIS, |block| block.header.height);
        if last > to {
            return Err(VerifyError::Height { expected: to, got: last });
        }
        if let Some(next) = range.next.filter(|next| *next != last.next()) {
            return Err(VerifyError::Continuation { last, next });
        }
        self.verify(last, |light, handovers, now| {
            light.verify_range(&range.proof, (chain, from), handovers, now)
        })
        .await?;
        if last == to {
            range.next = Some(last.next());
        }
        Ok(range)
    }

    /// Where a transaction is, shown.
    ///
    /// # Errors
    /// [`VerifyError`] if it is not shown.
    pub async fn transaction(
        &mut self,
        chain: ChainId,
        hash: B256,
    ) -> Result<TransactionProof, VerifyError> {
        let proof = self.log.transaction(chain, hash).await?;
        self.verify(proof.block.header.height, |light, handovers, now| {
            light.verify_transaction(&proof, (chain, hash), handovers, now)
        })
        .await?;
        Ok(proof)
    }

    /// Follows a chain from a height on. Heights come one after the other; a gap is an error.
    ///
    /// # Errors
    /// [`VerifyError::Client`] if the node refuses.
    pub async fn follow(
        &mut self,
        chain: ChainId,
        from: Height,
    ) -> Result<VerifiedStream<'_>, VerifyError> {
        let slices = Box::pin(self.log.stream_slices(chain, Some(from)).await?);
        Ok(VerifiedStream { log: self, slices, chain, next: from })
    }

    /// The same as [`VerifyingLog::slice`] for what the node said already, in a stream perhaps.
    ///
    /// # Errors
    /// [`VerifyError`] if it is not shown; nothing is believed then that was not before.
    pub async fn verify_slice(
        &mut self,
        chain: ChainId,
        height: Height,
        proven: ProvenSlice,
    ) -> Result<Shown, VerifyError> {
        let got = proven.block().header.height;
        if got != height {
            return Err(VerifyError::Height { expected: height, got });
        }
        match proven {
            ProvenSlice::Present { slice, proof } => {
                if slice.chain != chain {
                    return Err(VerifyError::Chain { expected: chain, got: slice.chain });
                }
                self.verify(height, |light, handovers, now| {
                    light.verify_slice(&proof, &slice, handovers, now)
                })
                .await?;
                Ok((proof.block.header, Some(slice)))
            }
            ProvenSlice::Absent(proof) => {
                self.verify(height, |light, handovers, now| {
                    light.verify_absence(&proof, chain, handovers, now)
                })
                .await?;
                Ok((proof.block.header, None))
            }
        }
    }

    /// Verifies something at `height`; fetches hand-overs where the header shows that there were some.
    async fn verify(
        &mut self,
        height: Height,
        verify: impl Fn(&mut LightClient, &[Handover], UnixMillis) -> Result<(), NotVerified>,
    ) -> Result<(), VerifyError> {
        match verify(&mut self.light, &[], now()) {
            Ok(()) => Ok(()),
            Err(NotVerified::OmittedHandover { .. }) => {
                let handovers = self.handovers(height).await?;
                Ok(verify(&mut self.light, &handovers, now())?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// All hand-overs from the trusted set to the set of `height`.
    async fn handovers(&mut self, height: Height) -> Result<Vec<Handover>, VerifyError> {
        let (since, _) = self.light.validators();
        let Some(to) = height.previous().filter(|to| *to >= since) else {
            return Ok(Vec::new());
        };
        let (mut from, mut all) = (since, Vec::new());
        loop {
            let answer = self.log.handovers(from, to).await?;
            // A node with nothing to say may not have itself asked on and on.
            let is_empty = answer.handovers.is_empty();
            all.extend(answer.handovers);
            if all.len() > HANDOVERS_MAX {
                return Err(VerifyError::TooManyHandovers);
            }
            match answer.next {
                None => return Ok(all),
                Some(next) if is_empty || next <= from => {
                    return Err(VerifyError::Continuation { last: from, next });
                }
                Some(next) => from = next,
            }
        }
    }
}

/// A chain's slices, one height after the other, each verified.
pub struct VerifiedStream<'a> {
    log: &'a mut VerifyingLog,
    slices: Pin<Box<dyn Stream<Item = Result<ProvenSlice, ClientError>> + Send>>,
    chain: ChainId,
    next: Height,
}

impl core::fmt::Debug for VerifiedStream<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { chain, next, .. } = self;
        f.debug_struct("VerifiedStream")
            .field("chain", chain)
            .field("next", next)
            .finish_non_exhaustive()
    }
}

impl VerifiedStream<'_> {
    /// What is believed after the slices so far.
    #[must_use]
    pub const fn light_client(&self) -> &LightClient {
        &self.log.light
    }

    /// The next height's header, and what the chain has there. Waits until it is decided.
    ///
    /// # Errors
    /// [`VerifyError`] if it is not shown, or the node ended the stream.
    pub async fn next(&mut self) -> Result<Shown, VerifyError> {
        let proven = self.slices.next().await.ok_or(ClientError::Ended)??;
        let shown = self.log.verify_slice(self.chain, self.next, proven).await?;
        self.next = self.next.next();
        Ok(shown)
    }
}

/// The slice's records of a kind and their places, in order.
fn records_of(slice: Slice, kind: RecordKind) -> Vec<(u32, Record)> {
    let records = (0u32..).zip(slice.items).filter_map(|(place, item)| match item.content {
        Content::Record(record) => Some((place, record)),
        Content::Transaction { .. } | Content::Leg { .. } => None,
    });
    records.filter(|(_, record)| RecordKind::of(&record.body) == kind).collect()
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
