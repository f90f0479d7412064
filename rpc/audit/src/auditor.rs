//! The audit of one chain, step by step: it drives the walks and gathers what they find.
//!
//! What a block was offered and what kind of block it is, core says. The walk needs no execution engine, so it cannot
//! tell whether a skipped item was valid: it reports those for which no record gives a reason.

use lockstep_core::light_client::LightClient;
use lockstep_core::params::{ChainKind, ChainParams, Genesis};
use lockstep_core::types::{ChainId, Height};
use lockstep_rpc::client::Endpoint;

use crate::bundles::Bundles;
use crate::error::AuditError;
use crate::finding::Finding;
use crate::log::LogReader;
use crate::rpc::ChainRpc;
use crate::start::{Search, Start};
use crate::summary::Summary;
use crate::walk::{Audited, Loose, Outcome, Step, Walk};

/// Where a chain's blocks are.
#[derive(Debug)]
pub struct ChainSource {
    /// The chain.
    pub chain: ChainId,
    /// Its endpoint.
    pub rpc: ChainRpc,
}

/// What is audited.
#[derive(Debug)]
pub struct Config {
    /// The network's genesis.
    pub genesis: Genesis,
    /// What is believed of its committee.
    pub trust: LightClient,
    /// Committee nodes, 1..=[`ENDPOINTS_MAX`](crate::limits::ENDPOINTS_MAX); none is trusted.
    pub endpoints: Vec<Endpoint>,
    /// The chain.
    pub chain: ChainSource,
    /// Other chains, on which the legs of its bundles are looked for.
    pub others: Vec<ChainSource>,
    /// First block; by default [`BLOCKS_BACK`](crate::start::BLOCKS_BACK) behind the head.
    pub from: Option<u64>,
    /// Last block; `None` is the head.
    pub to: Option<u64>,
    /// Whether it goes on with new blocks.
    pub is_live: bool,
}

/// What one step of an audit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It audited this block.
    Block(u64),
    /// It cannot go on until the chain or the log does.
    Waiting,
    /// All that was asked for is audited.
    Done,
}

/// An audit of one chain.
#[derive(Debug)]
pub struct Auditor {
    main: Walk,
    others: Vec<Walk>,
    bundles: Bundles,
    findings: Vec<Finding>,
    summary: Summary,
    /// The last block; `None` if it goes on with new ones.
    last: Option<u64>,
}

impl Auditor {
    /// Finds where the audit begins.
    ///
    /// # Errors
    /// [`AuditError`] if the chain or the log cannot be read, or there is nothing to audit.
    pub async fn start(config: Config) -> Result<Self, AuditError> {
        let Config { genesis, trust, endpoints, chain, others, from, to, is_live } = config;
        let common = Common { genesis: &genesis, trust: &trust, endpoints: &endpoints };
        let params = common.params(chain.chain)?;
        let id = params.id;
        let head = head(&chain.rpc, id).await?;
        let mut log = common.log(id);
        let audited = common.audited(params);
        let mut search = Search::new(&mut log, &chain.rpc, &audited);
        let start = search.find(from, &head).await?;
        let last = (!is_live).then(|| to.unwrap_or_else(|| head.number()));
        let parent =
            chain.rpc.header(start.parent).await?.ok_or(AuditError::NoBlock(start.parent))?;
        let mut walks = Vec::new();
        for other in others {
            walks.push(common.other(other, parent.timestamp()).await?);
        }
        Ok(Self {
            bundles: Bundles::new(id),
            findings: Vec::new(),
            summary: Summary::new(id.0, &start),
            main: Walk::new(audited, &start, log, chain.rpc),
            others: walks,
            last,
        })
    }

    /// The last block of the audit; `None` if it goes on with new ones.
    #[must_use]
    pub const fn last(&self) -> Option<u64> {
        self.last
    }

    /// What was counted so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            bundles: self.bundles.counts(),
            read_to_height: self.main.read_to().0,
            unsettled: self.summary.unsettled.saturating_add(self.main.unsettled()),
            ..self.summary.clone()
        }
    }

    /// What was found since the last time.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        core::mem::take(&mut self.findings)
    }

    /// The committee's nodes that lied, and how.
    #[must_use]
    pub fn lies(&self) -> Vec<String> {
        let mut lies: Vec<String> =
            self.others.iter().chain([&self.main]).flat_map(Walk::lies).collect();
        lies.sort_unstable();
        lies.dedup();
        lies
    }

    /// Audits the next block, or sees whether the log says more of those that were audited.
    ///
    /// # Errors
    /// [`AuditError`]; after one that [may pass](AuditError::may_pass), it may be called again.
    pub async fn step(&mut self) -> Result<Progress, AuditError> {
        let step = self.main.step(self.last.unwrap_or(u64::MAX)).await?;
        let progress = match step {
            Step::Judged(outcome) => {
                let number = outcome.judged.block.number;
                self.take(*outcome);
                Progress::Block(number)
            }
            Step::WentBack(number) => {
                self.bundles.forget(self.main.params().id, number);
                self.summary.went_back(number);
                Progress::Waiting
            }
            Step::NoBlock | Step::NoLog => {
                self.main.read_on().await?;
                Progress::Waiting
            }
        };
        let loose = self.main.take_loose();
        self.take_loose(loose);
        let others = self.follow_others().await?;
        let below = self.others.iter().chain([&self.main]).map(|walk| walk.reached().passed).min();
        let found = self.bundles.close_below(below.unwrap_or(Height::GENESIS));
        self.found(found);
        match progress {
            Progress::Waiting if self.is_done() => Ok(Progress::Done),
            Progress::Waiting if others => Ok(Progress::Block(self.main.reached().number)),
            Progress::Waiting | Progress::Block(_) | Progress::Done => Ok(progress),
        }
    }

    /// Ends the audit: what is not known by now stays unknown.
    pub fn finish(&mut self) {
        let rest = self.main.take_rest();
        self.take_loose(rest);
        let found = self.bundles.close_all();
        self.found(found);
    }

    /// Whether the last block is audited. Records, and legs on other chains, may still be waited for.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.last.is_some_and(|last| self.main.reached().number >= last)
    }

    fn is_done(&self) -> bool {
        let wanted = self.bundles.newest();
        let is_past = |walk: &Walk| wanted.is_none_or(|height| walk.reached().passed > height);
        self.is_at_end() && !self.main.waits_for_records() && self.others.iter().all(is_past)
    }

    fn take(&mut self, outcome: Outcome) {
        let Outcome { judged, findings, legs } = outcome;
        let (chain, number) = (self.main.params().id, judged.block.number);
        if number < self.summary.first {
            return;
        }
        self.summary.add(&judged);
        for leg in legs {
            self.bundles.note(chain, number, leg);
        }
        self.found(findings);
    }

    fn take_loose(&mut self, loose: Loose) {
        let first = self.summary.first;
        self.found(loose.findings);
        for (_, settled) in loose.settled.into_iter().filter(|(number, _)| *number >= first) {
            self.summary.settled(&settled);
            self.found(settled.findings);
        }
    }

    fn found(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            if finding.number().is_none_or(|number| number >= self.summary.first) {
                self.summary.found(&finding);
                self.findings.push(finding);
            }
        }
    }

    /// Walks the other chains as far as this one; whether one of them moved.
    async fn follow_others(&mut self) -> Result<bool, AuditError> {
        let until = self.main.reached().passed;
        let mut has_moved = false;
        for walk in &mut self.others {
            while walk.reached().passed <= until {
                match walk.step(u64::MAX).await? {
                    Step::Judged(outcome) => {
                        has_moved = true;
                        for leg in outcome.legs {
                            self.bundles.note(walk.params().id, outcome.judged.block.number, leg);
                        }
                    }
                    Step::WentBack(number) => self.bundles.forget(walk.params().id, number),
                    Step::NoBlock | Step::NoLog => break,
                }
            }
            // Only its legs are of interest.
            drop(walk.take_loose());
        }
        Ok(has_moved)
    }
}

/// What the walks of all chains have in common.
struct Common<'a> {
    genesis: &'a Genesis,
    trust: &'a LightClient,
    endpoints: &'a [Endpoint],
}

impl Common<'_> {
    fn params(&self, chain: ChainId) -> Result<ChainParams, AuditError> {
        let params = self.genesis.chains.iter().find(|params| params.id == chain);
        let params = params.ok_or(AuditError::UnknownChain(chain))?.clone();
        match params.kind {
            ChainKind::Evm => Ok(params),
            ChainKind::Opaque => Err(AuditError::Opaque(chain)),
        }
    }

    fn audited(&self, params: ChainParams) -> Audited {
        Audited::new(self.genesis.network_id(), params, self.genesis.params.lead_ms)
    }

    fn log(&self, chain: ChainId) -> LogReader {
        LogReader::new(chain, self.endpoints, self.trust.clone())
    }

    /// The walk of another chain, from its block at a time in seconds on.
    async fn other(&self, source: ChainSource, timestamp: u64) -> Result<Walk, AuditError> {
        let ChainSource { chain, rpc } = source;
        let params = self.params(chain)?;
        let mut log = self.log(chain);
        let audited = self.audited(params);
        let head = head(&rpc, chain).await?;
        let mut search = Search::new(&mut log, &rpc, &audited);
        let from = search.last_before(timestamp, &head).await?.number();
        let start: Start = search.find(Some(from), &head).await?;
        Ok(Walk::new(audited, &start, log, rpc))
    }
}

/// The head of a chain, by an endpoint that is of it.
async fn head(
    rpc: &ChainRpc,
    chain: ChainId,
) -> Result<lockstep_execution::blocks::BlockInfo, AuditError> {
    if !rpc.is_of(chain.0).await? {
        return Err(AuditError::WrongChain { url: rpc.url().to_owned(), chain });
    }
    rpc.head().await?.ok_or_else(|| AuditError::NoHead(rpc.url().to_owned()))
}
