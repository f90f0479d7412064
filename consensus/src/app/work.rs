//! Work that effects ask for: on the signature checker's pools, on blocking threads, on the mesh.
//!
//! Each function begins its work and returns; the result comes back as a [`Done`]. What fails for a reason of this node's
//! own (the disk, a task that ended early) comes back as a failure, and the node stops.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use lockstep_core::batch::{Acknowledged, Acknowledgement, Batch, BatchPosition, CheckedBatch};
use lockstep_core::block::CannotAssemble;
use lockstep_core::certificate::{Certificate, Proposal};
use lockstep_core::cut::{Cut, LanePosition};
use lockstep_core::dedup::Decision;
use lockstep_core::entry::{CheckedEntry, Entry};
use lockstep_core::header::Header;
use lockstep_core::lane::BatchRange;
use lockstep_core::limits::SYNC_RESPONSE_BYTES_MAX;
use lockstep_core::proposal::Payload;
use lockstep_core::types::{BlockHash, Height, Incarnation, Round, Sequence, UnixMillis};
use lockstep_engine::{EngineHandle, Evidence, FirstPart};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::{Context, Finished};
use crate::application::effect::{BatchesJob, BlockJob, CheckJob, PersistJob, ReplyId};
use crate::application::input::{Built, Committed, Done, Opened, Submitted, Verification};
use crate::checker::Payer;
use crate::evidence;
use crate::guard;
use crate::lanes::own::NextBatch;
use crate::lanes::wire::LaneMessage;
use crate::ledger::DecidedBlock;
use crate::mesh::class::Class;
use crate::publish;
use crate::store::{CommitError, LogStore, StoreError, Undecided};

type Shared = Arc<Context>;

impl Context {
    /// Sends a result back; the shell is gone only when the node stops.
    async fn finish(&self, done: Done) {
        drop(self.results.send(Finished::Done(Box::new(done))).await);
    }
}

/// Runs work on a blocking thread. `None` has no result.
fn blocking<E: core::fmt::Display>(
    context: &Shared,
    doing: &'static str,
    work: impl FnOnce(&Context) -> Result<Option<Done>, E> + Send + 'static,
) {
    let (context, this) = (context.clone(), context.clone());
    tokio::spawn(async move {
        let work = move || work(&this).map_err(|error| format!("{doing}: {error}"));
        let reason = match tokio::task::spawn_blocking(work).await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(done))) => return context.finish(done).await,
            Ok(Err(reason)) => reason,
            Err(error) => format!("{doing}: {error}"),
        };
        drop(context.results.send(Finished::Failed(reason)).await);
    });
}

pub(super) fn open_proposal(
    context: &Shared,
    (from, arrived): (PeerId, UnixMillis),
    first: FirstPart,
    payload: Bytes,
) {
    let context = context.clone();
    tokio::spawn(async move {
        let digest = first.proposal.part_digest(context.network);
        let signer = context.checker.recover(Payer::Peer(from), digest, first.signature).await;
        let payload = Payload::decode(&payload.into());
        let opened = Opened { from, first, arrived, signer, payload };
        context.finish(Done::ProposalOpened(Box::new(opened))).await;
    });
}

pub(super) fn check_batches(context: &Shared, job: CheckJob, raw: Vec<Bytes>) {
    let context = context.clone();
    tokio::spawn(async move {
        let batches = match job {
            CheckJob::Lane(from) => context.checker.check_batches(Payer::Peer(from), raw).await,
            CheckJob::Attached(_, from) => {
                let payer = from.map_or(Payer::Own, Payer::Peer);
                context.checker.check_urgent(payer, raw).await
            }
            CheckJob::Synced(_) | CheckJob::Decided(_) => {
                context.checker.check_urgent(Payer::Decided, raw).await
            }
        };
        context.finish(Done::BatchesChecked { job, batches }).await;
    });
}

pub(super) fn check_acknowledgement(
    context: &Shared,
    from: PeerId,
    acknowledgement: Acknowledgement,
) {
    let context = context.clone();
    tokio::spawn(async move {
        let signer = context.checker.signer(Payer::Peer(from), acknowledgement.clone()).await;
        let done = Done::AcknowledgementChecked { from, acknowledgement, signer };
        context.finish(done).await;
    });
}

pub(super) fn check_entries(context: &Shared, reply: ReplyId, entries: Vec<Entry>) {
    let context = context.clone();
    tokio::spawn(async move {
        let checked = context.checker.check_entries(entries).await;
        let submitted = |checked: CheckedEntry| {
            let decision = context.ledger.decision_of(&checked);
            let block = |decision: Decision| context.ledger.block_hash(decision.height);
            let decided = decision.and_then(|decision| Some((decision, block(decision)?)));
            Submitted { checked, decided }
        };
        let entries = checked.into_iter().map(|entry| entry.map(submitted)).collect();
        context.finish(Done::EntriesChecked { reply, entries }).await;
    });
}

pub(super) fn verify_block(
    context: &Shared,
    job: BlockJob,
    (header, cut): (Header, Cut),
    batches: Arc<Vec<CheckedBatch>>,
) {
    blocking(context, "verifying a block", move |context| {
        let verification = match context.ledger.verify(&header, &cut, &batches) {
            None => Verification::Outdated,
            Some(Ok(assembly)) => Verification::Valid(Box::new(assembly)),
            Some(Err(reason)) => Verification::Invalid(reason),
        };
        Ok::<_, StoreError>(Some(Done::BlockVerified { job, verification }))
    });
}

pub(super) fn build_block(
    context: &Shared,
    (height, round): (Height, Round),
    timestamp: UnixMillis,
    cut: Cut,
    batches: Arc<Vec<CheckedBatch>>,
) {
    blocking(context, "building a block", move |context| {
        let built = context.ledger.build((height, round), timestamp, &cut, &batches)?;
        let Some((header, assembly)) = built else { return Ok(None) };
        let built = Built { round, header, cut, assembly, batches };
        Ok::<_, CannotAssemble>(Some(Done::BlockBuilt(Box::new(built))))
    });
}

/// The guard's refusal leaves the node healthy; that it can't write does not.
pub(super) fn sign_proposal(context: &Shared, proposal: Proposal) {
    blocking(context, "signing a proposal", move |context| {
        let signature = match context.guard.sign_proposal(&proposal) {
            Ok(signed) => Some(signed.part),
            Err(error @ (guard::SignError::Io(_) | guard::SignError::Stopped)) => {
                return Err(error);
            }
            Err(_) => None,
        };
        Ok(Some(Done::ProposalSigned { proposal, signature }))
    });
}

pub(super) fn sign_batch(context: &Shared, next: NextBatch) {
    blocking(context, "signing a batch", move |context| {
        let NextBatch { place, parent, entries } = next;
        let raw = entries.iter().map(|checked| checked.entry().clone()).collect();
        let batch = Batch::sign(context.network, place, parent, raw, &context.key)
            .and_then(|batch| batch.with_checked(entries));
        Ok::<_, StoreError>(Some(Done::BatchSigned { place, batch }))
    });
}

pub(super) fn take_incarnation(context: &Shared, decided: Incarnation) {
    blocking(context, "taking an incarnation", move |context| {
        let incarnation = context.ledger.store().next_incarnation(decided, super::now())?;
        warn!(decided = decided.0, next = incarnation.0, "the own lane begins a new run");
        Ok::<_, StoreError>(Some(Done::IncarnationTaken(incarnation)))
    });
}

pub(super) fn persist_block(
    context: &Shared,
    job: PersistJob,
    block: Undecided,
    batches: Arc<Vec<CheckedBatch>>,
) {
    blocking(context, "writing a block", move |context| {
        context.ledger.store().put_undecided(&block, &batches)?;
        Ok::<_, StoreError>(Some(Done::BlockPersisted { job }))
    });
}

pub(super) fn persist_batches(context: &Shared, job: BatchesJob, batches: Vec<CheckedBatch>) {
    blocking(context, "writing batches", move |context| {
        let aside = context.ledger.store().put_batches(&batches)?;
        Ok::<_, StoreError>(Some(Done::BatchesPersisted { job, batches, aside }))
    });
}

pub(super) fn commit_block(context: &Shared, decided: Box<DecidedBlock>) {
    blocking(context, "committing a block", move |context| {
        let (height, taken) = (decided.header.height, decided.assembly.taken.len());
        context.ledger.commit(&decided)?;
        let (state, earlier) = (context.ledger.state(), context.ledger.earlier(&decided));
        info!(%height, taken, "decided");
        context.metrics.decided(&decided);
        let committed = Committed { state, decided: *decided, earlier };
        Ok::<_, CommitError>(Some(Done::BlockCommitted(Box::new(committed))))
    });
}

pub(super) fn persist_certificate(
    context: &Shared,
    certificate: Certificate,
    evidence: Vec<Evidence>,
) {
    blocking(context, "writing a certificate", move |context| {
        let evidence: Vec<_> = evidence.iter().map(evidence::encode).collect();
        context.ledger.store().finalize(certificate, &evidence)?;
        Ok::<_, CommitError>(None)
    });
}

pub(super) fn read_undecided(
    context: &Shared,
    (height, block): (Height, BlockHash),
    lanes: Vec<LanePosition>,
) {
    blocking(context, "reading a decided block", move |context| {
        let found = undecided(context.ledger.store(), (height, block), &lanes)?.map(Box::new);
        Ok::<_, StoreError>(Some(Done::UndecidedRead { block, found }))
    });
}

/// A block that was written before it was decided, and all its batches, wherever they are kept.
pub(crate) fn undecided(
    store: &LogStore,
    (height, block): (Height, BlockHash),
    lanes: &[LanePosition],
) -> Result<Option<(Header, Cut, Vec<Bytes>)>, StoreError> {
    let held = store.undecided(height)?.into_iter().find(|held| held.header.hash() == block);
    let Some(Undecided { header, cut, .. }) = held else { return Ok(None) };
    let Ok(steps) = cut.steps(lanes) else { return Ok(None) };
    let mut batches = Vec::new();
    for step in &steps {
        let Some(of_step) = store.batches_of(step)? else { return Ok(None) };
        batches.extend(of_step.into_iter().map(Bytes::from));
    }
    Ok(Some((header, cut, batches)))
}

/// A peer syncs from us: values and certificates of the heights it asks for.
pub(super) fn read_decided(
    context: &Shared,
    first: Height,
    last: Height,
    reply: oneshot::Sender<Vec<(Bytes, Certificate)>>,
) {
    let context = context.clone();
    tokio::task::spawn_blocking(move || {
        let (mut values, mut bytes) = (Vec::new(), 0usize);
        for height in (first.0..=last.0).map(Height) {
            match context.ledger.synced_value(height) {
                Ok(Some(value)) => {
                    bytes = bytes.saturating_add(value.0.len());
                    values.push(value);
                    // The engine sends no more than that.
                    if bytes >= SYNC_RESPONSE_BYTES_MAX {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    warn!(%height, %error, "cannot read a decided value");
                    break;
                }
            }
        }
        reply.send(values).ok();
    });
}

pub(super) async fn publish(engine: EngineHandle, first: FirstPart, payload: Payload) {
    let payload = Bytes::from(payload.encode());
    let first = FirstPart { bytes_total: payload.len() as u64, ..first };
    publish::publish(&engine, first, &payload).await;
}

pub(super) fn push_batch(context: &Context, batch: &CheckedBatch) {
    let frame = LaneMessage::Batch(batch.raw().clone().into()).encode();
    // A peer whose queue is full, or who is down, asks for it when it sees our acknowledgement.
    drop(context.mesh.broadcast(Class::Lanes, &frame));
}

pub(super) fn acknowledge(context: &Context, to: Option<PeerId>, tips: Vec<Acknowledged>) {
    let acknowledgement = Acknowledgement::sign(context.network, tips, &context.key);
    let frame = LaneMessage::Acknowledgement(acknowledgement).encode();
    let lost = match to {
        Some(peer) => context.mesh.send(peer, Class::Lanes, frame).err().into_iter().count(),
        None => context.mesh.broadcast(Class::Lanes, &frame).len(),
    };
    if lost > 0 {
        debug!(lost, "acknowledgement not sent to all; it is part of the next one");
    }
}

pub(super) fn ask_batches(context: &Context, to: PeerId, range: BatchRange) {
    if let Err(error) = context.mesh.send(to, Class::Lanes, LaneMessage::Request(range).encode()) {
        debug!(%error, "request not sent; it is repeated");
    }
}

pub(super) fn send_batches(context: &Shared, to: PeerId, range: BatchRange) {
    blocking(context, "reading batches for a peer", move |context| {
        let BatchRange { owner, incarnation, first, last } = range;
        for sequence in (first.0..=last.0).map(Sequence) {
            let position = BatchPosition { owner, incarnation, sequence };
            let Some(raw) = context.ledger.store().batch(&position)? else { break };
            let frame = LaneMessage::Batch(raw.into()).encode();
            if context.mesh.send(to, Class::Lanes, frame).is_err() {
                break; // It asks again for what it still lacks.
            }
        }
        Ok::<_, StoreError>(Some(Done::BatchesSent(to)))
    });
}

/// Logs that a peer sent what no honest validator sends, and closes its connection.
pub(super) fn disconnect(context: &Context, from: PeerId, reason: &dyn core::fmt::Display) {
    warn!(%from, %reason, "refused a lane message");
    context.mesh.disconnect(from);
}
