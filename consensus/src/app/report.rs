//! What the application reports, for logs and metrics.

use tracing::{debug, error, info, warn};

use crate::application::effect::Report;
use crate::metrics::Metrics;

/// Logs and counts a report.
#[expect(clippy::too_many_lines, reason = "one arm per report")]
pub(super) fn note(metrics: &Metrics, report: &Report) {
    match report {
        Report::Started { height, peers } => info!(%height, peers, "consensus starts"),
        Report::Round { height, round } => {
            metrics.round(*round);
            debug!(%height, %round, "round starts");
        }
        Report::Proposing { height, block, batches } => {
            debug!(%height, %block, batches, "proposing");
        }
        Report::PartRefused { from, reason } => warn!(%from, %reason, "refused a proposal part"),
        Report::ProposalRefused { from, proposal, reason } => {
            let (height, round) = (proposal.height, proposal.round);
            warn!(%from, %height, %round, %reason, "refused a proposal");
        }
        Report::ProposalUntimely { proposal, timestamp, arrived } => {
            let (height, round) = (proposal.height, proposal.round);
            warn!(%height, %round, %timestamp, %arrived, "a proposal is not timely");
        }
        Report::BlockInvalid { height, block, reason } => {
            warn!(%height, %block, %reason, "proposed block is invalid");
        }
        Report::CutBroken { block, position } => {
            warn!(%block, ?position, "proposed block's cut is not a chain");
        }
        Report::BlockWaits { block, ranges } if ranges.is_empty() => {
            warn!(%block, "proposed block names another batch than is held");
        }
        Report::BlockWaits { block, ranges } => {
            debug!(%block, ?ranges, "proposed block waits for batches");
        }
        Report::LaneEquivocation(position) => {
            warn!(?position, "a lane signed two batches at one position; the first is kept");
        }
        Report::LaneTooFarAhead(position) => {
            warn!(?position, "a lane is too far ahead of the log");
        }
        Report::OwnBatchInvalid(reason) => {
            error!(%reason, "own batch is invalid; its entries are lost");
        }
        Report::AttachedInvalid(block, reason) => {
            warn!(%block, %reason, "a proposal carries an invalid batch");
        }
        Report::AttachedNotKept(position) => {
            warn!(?position, "a proposal carries more than is kept of its proposer");
        }
        Report::Equivocation(height, found) => {
            metrics.evidence();
            warn!(%height, ?found, "a validator signed two conflicting messages");
        }
        Report::SyncedWrong(height, reason) => {
            warn!(%height, %reason, "a synced value is wrong");
        }
        Report::ValueWrong(from, height, reason) => {
            warn!(%from, %height, %reason, "a fetched value is wrong");
        }
        Report::DecidedNotHeld(height, block) => {
            warn!(%height, %block, "decided a block that is not held; looking for it");
        }
        Report::ProposalNotSigned(proposal) => {
            let (height, round) = (proposal.height, proposal.round);
            warn!(%height, %round, "the guard refused to sign a proposal");
        }
        Report::CandidatesFull(proposal) => {
            let (height, round) = (proposal.height, proposal.round);
            warn!(%height, %round, "dropped a proposal: too many of its proposer");
        }
    }
}
