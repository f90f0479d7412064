//! What a start reads before anything can be sent or signed: guard, store, consensus log, undecided batches.

use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{Address, Bytes};
use lockstep_core::batch::CheckedBatch;
use lockstep_core::certificate::{Proposal, Vote, VoteType};
use lockstep_core::limits::LANE_AHEAD_BYTES_MAX;
use lockstep_core::state::State;
use lockstep_core::types::{Height, UnixMillis};
use lockstep_engine::{OwnMessage, WalReport, inspect_wal};
use tracing::{info, warn};

use super::{Config, StartError, io};
use crate::abstention::{Abstention, use_mark_up};
use crate::app::now;
use crate::checker::Checker;
use crate::guard::{Guard, Mark, MessageId, Step, WalView};
use crate::lanes::own::OwnLane;
use crate::lanes::table::Table;
use crate::ledger::Ledger;
use crate::store::LogStore;

/// Name of the consensus log's file.
pub const WAL_FILE: &str = "consensus.wal";

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| io("starting")(&e))
}

pub(super) async fn open_ledger(config: &Config) -> Result<Arc<Ledger>, StartError> {
    let (dir, genesis) = (config.data_dir.clone(), config.genesis.clone());
    blocking(move || {
        std::fs::create_dir_all(&dir).map_err(|e| io("creating the data directory")(&e))?;
        let store = LogStore::open(&dir.join("store"), &genesis)?;
        let ledger = Ledger::open(Arc::new(store))?;
        info!(height = %ledger.state().height, "store opened");
        Ok(Arc::new(ledger))
    })
    .await?
}

/// Opens the guard. Before the store: a start without a guard must leave no files behind that show an earlier life.
pub(super) async fn open_guard(config: &Config) -> Result<Arc<Guard>, StartError> {
    let (dir, key) = (config.guard_dir.clone(), config.key.clone());
    let network = config.genesis.network_id();
    blocking(move || {
        let (guard, report) = Guard::open(&dir, network, key)?;
        if let Some(torn) = &report.torn {
            warn!(?torn, "the guard's file had a torn tail; it was set aside");
        }
        check_clock(report.mark, now())?;
        Ok(Arc::new(guard))
    })
    .await?
}

/// The time that a marked guard waits for is late enough only if it was made in the past.
fn check_clock(mark: Option<Mark>, now: UnixMillis) -> Result<(), StartError> {
    match mark {
        Some(Mark { made_at, .. }) if now < made_at => Err(StartError::Clock { made_at, now }),
        Some(_) | None => Ok(()),
    }
}

/// Why this validator does not vote at first, if so: by the guard's mark, and by the consensus log beside it.
pub(super) async fn first_abstention(
    guard: &Arc<Guard>,
    ledger: &Arc<Ledger>,
    wal_path: &Path,
) -> Result<Option<Abstention>, StartError> {
    let (guard, ledger, wal_path) = (guard.clone(), ledger.clone(), wal_path.to_owned());
    blocking(move || {
        let state = ledger.state();
        let marked = use_mark_up(&guard, &state, false)?;
        let disputed = compare(&guard, &state, inspect_wal(&wal_path, guard.address())?);
        let why = marked.or(disputed.map(Abstention::Height));
        if let Some(why) = why {
            warn!(%why, "not voting");
        }
        Ok(why)
    })
    .await?
}

/// The height until whose decision the guard must sign nothing, because it and the consensus log disagree.
fn compare(guard: &Guard, state: &State, wal: WalReport) -> Option<Height> {
    if let Some(copy) = &wal.set_aside {
        warn!(copy = %copy.display(), "the consensus log had a damaged tail; it was set aside");
    }
    let next = state.height.next();
    let view = WalView {
        height: wal.height.unwrap_or(next),
        own: wal.own_messages.iter().map(message_id).collect(),
        is_empty: wal.entries == 0,
    };
    let abstain = guard.must_abstain(next, &view);
    if let Some(height) = abstain {
        let reason = if height > next {
            "what this validator signed or logged is ahead of the store"
        } else {
            "the guard knows more signatures than the consensus log"
        };
        warn!(%height, %reason, "abstaining");
        guard.abstain_until_decided(height);
    }
    abstain
}

fn message_id(message: &OwnMessage) -> MessageId {
    match message {
        OwnMessage::Vote(Vote { height, round, vote_type, .. }) => {
            let step = match vote_type {
                VoteType::Prevote => Step::Prevote,
                VoteType::Precommit => Step::Precommit,
            };
            MessageId { height: *height, round: *round, step }
        }
        OwnMessage::Proposal(Proposal { height, round, .. }) => {
            MessageId { height: *height, round: *round, step: Step::Proposal }
        }
    }
}

/// Undecided batches of the store, re-checked, and this validator's lane at the beginning of a run that carries its
/// undecided entries.
pub(super) async fn load_lanes(
    ledger: &Arc<Ledger>,
    checker: &Checker,
    me: Address,
) -> Result<(Table, OwnLane), StartError> {
    let state = ledger.state();
    let mut table = Table::new(me, &state.committed.lanes);
    let decided = state.committed.lanes.iter().find(|lane| lane.owner == me);
    let decided = decided.map(|lane| lane.incarnation).unwrap_or_default();
    let store = ledger.store().clone();
    let incarnation = blocking(move || store.next_incarnation(decided, now())).await??;
    let mut own = OwnLane::new(me, incarnation, state.clone());
    let batches = undecided_batches(ledger, checker, &state).await?;
    let passed = passed_batches(ledger, checker, me).await?;
    let mine = batches.iter().filter(|batch| batch.position().owner == me);
    let mine = passed.iter().chain(mine).flat_map(|batch| batch.entries().iter().cloned());
    own.restore(ledger.undecided(mine.collect()));
    for batch in batches {
        table.insert(batch);
    }
    Ok((table, own))
}

async fn undecided_batches(
    ledger: &Arc<Ledger>,
    checker: &Checker,
    state: &State,
) -> Result<Vec<CheckedBatch>, StartError> {
    let mut batches = Vec::new();
    for lane in state.committed.lanes.clone() {
        let store = ledger.store().clone();
        let raw = blocking(move || store.batches_after(&lane, LANE_AHEAD_BYTES_MAX)).await??;
        check(checker, raw, &mut batches).await;
    }
    Ok(batches)
}

/// What this validator's lane jumped over: a batch of a later run may be decided before it holds all that an earlier run's
/// batches held, and a crash then leaves the rest nowhere else.
async fn passed_batches(
    ledger: &Arc<Ledger>,
    checker: &Checker,
    me: Address,
) -> Result<Vec<CheckedBatch>, StartError> {
    let store = ledger.store().clone();
    let raw = blocking(move || store.batches_passed(me, LANE_AHEAD_BYTES_MAX)).await??;
    let mut batches = Vec::new();
    check(checker, raw, &mut batches).await;
    Ok(batches)
}

async fn check(checker: &Checker, raw: Vec<Bytes>, batches: &mut Vec<CheckedBatch>) {
    for raw in raw {
        match checker.check_batch(raw.into()).await {
            Ok(batch) => batches.push(batch),
            Err(reason) => warn!(%reason, "a stored batch is invalid"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::guard::Origin;

    use super::*;

    #[test]
    fn clock_before_the_making_of_a_marked_guard_is_refused() {
        let mark = |origin| Some(Mark { origin, made_at: UnixMillis(1_000) });
        for origin in [Origin::Fresh, Origin::Lost] {
            let error = check_clock(mark(origin), UnixMillis(999)).unwrap_err();
            assert!(matches!(error, StartError::Clock { .. }), "{error}");
            assert!(error.to_string().contains("set the clock"), "{error}");
            assert!(check_clock(mark(origin), UnixMillis(1_000)).is_ok());
        }
        assert!(check_clock(None, UnixMillis(0)).is_ok());
    }
}
