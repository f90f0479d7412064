//! What the feed does not hold in memory, asked of the endpoints: older slices, records, the height of a time.

use std::sync::Arc;

use futures::future::join_all;
use lockstep_core::header::Header;
use lockstep_core::record::Record;
use lockstep_core::slice::Slice;
use lockstep_core::types::{Height, UnixMillis};
use lockstep_proto::convert::log::RecordKind;
use lockstep_rpc::client::verified::{VerifyError, VerifyingLog};
use lockstep_rpc::client::{ClientError, Endpoint, LogClient};
use tracing::{debug, error};

use super::shelf::{self, Shown};
use super::{EndpointState, Feed, FeedError, LogBlock, is_lie};
use crate::limits::{ENDPOINT_ANSWER, HEIGHTS_AT_ONCE, LIMITS_AT_ONCE};

/// A record with the header of the log block that holds it.
pub type Recorded = (Header, Record);

/// Asks one endpoint after the other until one shows an answer.
macro_rules! ask {
    ($feed:expr, $log:ident => $question:expr) => {{
        let mut reasons = Vec::new();
        for index in $feed.order() {
            let answer = match $feed.connect(index).await {
                Ok(mut $log) => $question.await.map_err(|error| $feed.blame(index, &error)),
                Err(reason) => Err(reason),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(FeedError::NoEndpoint(reasons.join("; ")))
    }};
}

impl Feed {
    /// The chain's log blocks from `from` on, up to the first one after log time `until`, which the caller waited for. Only
    /// those are asked for that are not in memory, and they are kept for the next question.
    ///
    /// # Errors
    /// [`FeedError`] if older ones are wanted than are in memory, and no endpoint has them.
    pub async fn blocks(
        &self,
        from: Height,
        until: UnixMillis,
    ) -> Result<Vec<Arc<LogBlock>>, FeedError> {
        let (mut all, mut next) = (Vec::new(), from);
        loop {
            let mut shown = self.shown(next, until);
            if shown.missing.is_some() {
                let _asking = self.asking.lock().await;
                // Somebody else may have asked for the same meanwhile.
                shown = self.shown(next, until);
                if let Some((first, last)) = shown.missing {
                    shown.blocks.extend(self.fetch(first, last).await?);
                }
            }
            let is_all = shown.missing.is_none();
            let within = shown.blocks.partition_point(|block| block.slice.timestamp <= until);
            let is_reached = within < shown.blocks.len();
            shown.blocks.truncate(within.saturating_add(1));
            all.append(&mut shown.blocks);
            if is_all || is_reached {
                return Ok(all);
            }
            next = all.last().map_or(next, |block| block.slice.height.next());
        }
    }

    fn shown(&self, from: Height, until: UnixMillis) -> Shown {
        let known = self.known();
        shelf::show((&known.blocks, &known.older), from, until, HEIGHTS_AT_ONCE)
    }

    async fn fetch(&self, from: Height, to: Height) -> Result<Vec<Arc<LogBlock>>, FeedError> {
        let range = self.range(from, to).await?;
        let wanted = range.into_iter().take_while(|(header, _)| header.height <= to);
        let blocks: Vec<Arc<LogBlock>> = wanted
            .map(|(header, slice)| Arc::new(LogBlock::new(&header, self.kind, slice)))
            .collect();
        let mut known = self.known();
        for block in &blocks {
            known.book.note(&block.slice);
            known.older.insert(Arc::clone(block));
        }
        drop(known);
        Ok(blocks)
    }

    async fn range(
        &self,
        from: Height,
        to: Height,
    ) -> Result<Vec<(Header, Option<Slice>)>, FeedError> {
        // What an earlier validator set decided is shown by a header of the trusted one.
        let last = to.max(self.trust().validators().0);
        ask!(self, log => async {
            let range = log.range(self.chain, from, last).await?;
            match range.last() {
                Some((header, _)) if header.height == last => Ok(range),
                // A node may have less than others, or keep it to itself.
                Some(_) | None => Err(ClientError::Ended.into()),
            }
        })
    }

    /// The newest header that some endpoint can show.
    ///
    /// # Errors
    /// [`FeedError`] if none can.
    pub async fn head(&self) -> Result<Header, FeedError> {
        ask!(self, log => log.head())
    }

    /// The first height after a log time.
    ///
    /// # Errors
    /// [`FeedError`] if no endpoint can show it.
    pub async fn height_after(&self, timestamp: UnixMillis) -> Result<Height, FeedError> {
        ask!(self, log => log.height_after(self.chain, timestamp))
    }

    /// The chain's newest records of a kind before a height, newest first. An endpoint may keep some to itself, so
    /// every one is asked and the answer with the newest record counts; those that were away lately are asked only if no
    /// other one answers, because a silent one takes its time.
    ///
    /// # Errors
    /// [`FeedError`] if no endpoint answers.
    pub async fn records(
        &self,
        kind: RecordKind,
        before: Option<Height>,
        count: u32,
    ) -> Result<Vec<Recorded>, FeedError> {
        let is_here = |index: &usize| {
            !matches!(self.state(*index), Some(EndpointState::Away(_) | EndpointState::Lied(_)))
        };
        let (here, away): (Vec<usize>, Vec<usize>) = self.order().into_iter().partition(is_here);
        let mut reasons = Vec::new();
        for indices in [here, away] {
            let answers = indices.into_iter().map(|index| async move {
                let mut log = self.connect(index).await?;
                let records = log.records(self.chain, kind, before, count).await;
                records.map_err(|error| self.blame(index, &error))
            });
            let mut best: Option<Vec<Recorded>> = None;
            for answer in join_all(answers).await {
                match answer {
                    Ok(records) => {
                        let records =
                            records.into_iter().map(|(header, _, record)| (header, record));
                        best = Some(newer(best, records.collect()));
                    }
                    Err(reason) => reasons.push(reason),
                }
            }
            if let Some(best) = best {
                return Ok(best);
            }
        }
        Err(FeedError::NoEndpoint(reasons.join("; ")))
    }

    /// Finds the limits that are in force where a walk begins, and all that come behind, unless they are known.
    ///
    /// # Errors
    /// [`FeedError`] if no endpoint can tell.
    pub async fn learn_limits(&self, height: Height) -> Result<(), FeedError> {
        let missing = || self.with_log(|book, _, _| book.limits_missing(height));
        if missing().is_none() {
            return Ok(());
        }
        let _asking = self.asking.lock().await;
        while let Some(below) = missing() {
            let count = LIMITS_AT_ONCE;
            // While nothing is known, what lies above the walk's begin comes with its slices.
            let before = below.unwrap_or(height);
            let records = self.records(RecordKind::Limits, Some(before), count).await?;
            let is_whole = u32::try_from(records.len()).is_ok_and(|found| found < count);
            self.known().book.note_limits(height, &records, is_whole);
        }
        Ok(())
    }

    /// The endpoints, those first that serve, those last that are away.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.endpoints.len()).collect();
        order.sort_by_key(|index| match self.state(*index) {
            Some(EndpointState::Serving) => 0,
            Some(EndpointState::Connecting) => 1,
            Some(EndpointState::Away(_) | EndpointState::Lied(_)) | None => 2,
        });
        order
    }

    /// A connection to one endpoint, unless it lied.
    async fn connect(&self, index: usize) -> Result<VerifyingLog, String> {
        let endpoint = self.endpoints.get(index).ok_or_else(|| "no such endpoint".to_owned())?;
        if let Some(EndpointState::Lied(reason)) = self.state(index) {
            return Err(format!("{} lied: {reason}", endpoint.url));
        }
        // One that is silent must not hold up what others can answer.
        let call_timeout = endpoint.call_timeout.min(ENDPOINT_ANSWER);
        let connect_timeout = endpoint.connect_timeout.min(ENDPOINT_ANSWER);
        let endpoint = Endpoint { call_timeout, connect_timeout, ..endpoint.clone() };
        let channel = endpoint.connect().await.map_err(|error| {
            self.pass_over(index, error.to_string());
            error.to_string()
        })?;
        Ok(VerifyingLog::new(LogClient::new(channel), self.trust()))
    }

    /// An endpoint that did not answer is asked last from now on, unless it is being followed.
    fn pass_over(&self, index: usize, reason: String) {
        if self.state(index) == Some(EndpointState::Connecting) {
            self.set_state(index, EndpointState::Away(reason));
        }
    }

    /// Remembers an endpoint that lied, and says why there is no answer.
    fn blame(&self, index: usize, error: &VerifyError) -> String {
        let url = self.endpoints.get(index).map_or("", |endpoint| &endpoint.url);
        if is_lie(error) {
            error!(endpoint = %url, reason = %error, "an endpoint lied and is not asked again");
            self.set_state(index, EndpointState::Lied(error.to_string()));
        } else {
            debug!(endpoint = %url, reason = %error, "an endpoint has no answer");
            if let VerifyError::Client(client) = error
                && !client.is_not_found()
            {
                self.pass_over(index, error.to_string());
            }
        }
        format!("{url}: {error}")
    }
}

/// Of two answers, the one with the newest record.
fn newer(best: Option<Vec<Recorded>>, other: Vec<Recorded>) -> Vec<Recorded> {
    let newest = |records: &[Recorded]| records.first().map(|(header, _)| header.height);
    match best {
        Some(best) if newest(&best) >= newest(&other) => best,
        Some(_) | None => other,
    }
}
