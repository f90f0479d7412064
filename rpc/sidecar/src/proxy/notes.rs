//! What happened, for operators: log lines and numbers.

use tracing::{debug, error, info, warn};

use crate::metrics::Metrics;
use crate::session::effect::{Measure, Note};
use crate::session::error::{JobError, Severity};

/// Counts something. `now_ms` are milliseconds since 1970.
pub(super) fn measure(measure: Measure, metrics: &Metrics, now_ms: u64) {
    match measure {
        Measure::JobBegun => {
            metrics.jobs.inc();
        }
        Measure::Offered(count) => {
            metrics.offered.inc_by(count as u64);
        }
        Measure::WindowClosed { due_ms } => metrics.margin(due_ms, now_ms),
        Measure::Built { time, refusals } => metrics.built(time, refusals),
        Measure::Held(time) => metrics.held(time),
        Measure::Unsealed => {
            metrics.unsealed.inc();
        }
        Measure::SealedClosed => {
            metrics.closed.inc();
        }
    }
}

/// Writes a line. `now_ms` are milliseconds since 1970.
pub(super) fn take(note: Note, metrics: &Metrics, now_ms: u64) {
    match note {
        Note::HeadRefused { parent, status } => {
            warn!(%parent, %status, "the engine does not take the head of a sequencing job");
        }
        Note::PutOff { parent, number, safe } => {
            warn!(%parent, number, safe, "a job on a parent older than a safe head: it is put off");
        }
        Note::Overtaken => {
            warn!("the engine has not answered a job: op-node's call overtakes it");
        }
        Note::ParentUnknown { parent, reason } => {
            warn!(%parent, %reason, "the cursor of a job's parent is not known yet");
        }
        Note::Unrecorded(block) => {
            warn!(%block, "no record says how this block was built: it is recorded as closed");
        }
        Note::Silent { parent } => {
            info!(%parent, "the committee is silent: a block of deposits only");
        }
        Note::NothingOffered { parent, refused, reason } => {
            error!(%parent, refused, %reason, "nothing is offered on this parent");
        }
        Note::BuiltForeign(hash) => {
            error!(%hash, "the engine built something else than deposits and offered items");
        }
        Note::Sealed { sealed, transactions, time } => {
            metrics.sealing(time);
            metrics.sealed(&sealed, now_ms);
            info!(number = sealed.number, hash = %sealed.hash, transactions,
                skipped = sealed.skipped.len(), "sealed a block");
        }
        Note::EngineAway { job, reason } => {
            metrics.engine_errors.inc();
            warn!(%job, %reason, "the engine cannot build now");
        }
        Note::Turned { head, block } => {
            info!(%head, %block, "the engine has blocks without states: it makes them again");
        }
        Note::Restored { head, count } => {
            info!(%head, count, "an engine that lost blocks has them again");
        }
        Note::JobEnded { job, parent, reason } => ended(&(job, parent), &reason),
        Note::Rehearsed { parent, items } => rehearsed(&parent, items),
        Note::Foreign { block, reason, is_refused } => {
            metrics.foreign.inc();
            match is_refused {
                true => error!(%block, %reason, "refused a block that is not of its slice"),
                false => error!(%block, %reason, "a block derived from L1 left its slice"),
            }
        }
        Note::NotAhead { parent: hash, reason }
        | Note::NotRecorded { block: hash, reason }
        | Note::NotFound { block: hash, reason } => debug!(%hash, %reason, "tried again later"),
        Note::NotComparable { block, reason } => {
            warn!(%block, %reason, "a block cannot be compared with the log yet");
        }
        Note::LimitsIgnored => {
            warn!("limits of the batcher are not recorded: this sidecar has no sequencer key");
        }
    }
}

fn ended((job, parent): &(impl core::fmt::Display, impl core::fmt::Display), reason: &JobError) {
    match reason.severity() {
        Severity::Critical => error!(%job, %parent, %reason, "a job ended without a block"),
        Severity::Temporary | Severity::Reset => {
            debug!(%job, %parent, %reason, "a job ended without a block");
        }
    }
}

fn rehearsed(parent: &impl core::fmt::Display, items: Result<usize, JobError>) {
    match items {
        Ok(items) => info!(%parent, items, "dry run: would be offered"),
        Err(reason) => debug!(%parent, %reason, "dry run: no offer"),
    }
}
