//! The log as an auditor reads it: from several committee nodes, one after the other, none of them trusted.
//!
//! A node that lied is named and not asked again. What a node can do unseen is to be behind, and to keep a record to itself
//! where the newest ones are asked for.

use lockstep_core::header::Header;
use lockstep_core::light_client::{LightClient, NotVerified};
use lockstep_core::proof::SlicePresence;
use lockstep_core::record::Record;
use lockstep_core::slice::Slice;
use lockstep_core::types::{ChainId, Height, UnixMillis};
use lockstep_proto::convert::log::RecordKind;
use lockstep_rpc::client::verified::{VerifyError, VerifyingLog};
use lockstep_rpc::client::{ClientError, Endpoint, LogClient};

use crate::limits::HEIGHTS_AT_ONCE;

/// Why the log cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// No endpoint shows it. Try again, or other endpoints.
    #[error("no endpoint shows {what}: {reasons}")]
    NoEndpoint {
        /// What was asked for.
        what: &'static str,
        /// What each said.
        reasons: String,
    },
    /// The trust is too old: a newer header must be named. Nobody lied.
    #[error("{0}")]
    Stale(Box<NotVerified>),
    /// The committee certified two logs: nothing of it can be believed.
    #[error("{0}: stop, and show this to all operators")]
    Fork(Box<NotVerified>),
}

/// A log block's header and the chain's slice of it; `None` if the chain has none there.
pub type Shown = (Header, Option<Slice>);

#[derive(Clone, Debug)]
struct Node {
    endpoint: Endpoint,
    client: Option<LogClient>,
    lie: Option<String>,
}

/// The slices of one chain.
#[derive(Clone, Debug)]
pub struct LogReader {
    chain: ChainId,
    nodes: Vec<Node>,
    light: LightClient,
}

/// How one node answered.
enum Answer<T> {
    Shown(T),
    /// It says that there is none, or not yet.
    None(String),
    /// It is away, or lied.
    Not(String),
}

impl LogReader {
    /// The slices of `chain` at these endpoints; believes what `light` does.
    #[must_use]
    pub fn new(chain: ChainId, endpoints: &[Endpoint], light: LightClient) -> Self {
        let node =
            |endpoint: &Endpoint| Node { endpoint: endpoint.clone(), client: None, lie: None };
        Self { chain, nodes: endpoints.iter().map(node).collect(), light }
    }

    /// The chain's slices from a height on, as many as one answer has; none if no endpoint has the height yet.
    ///
    /// # Errors
    /// [`LogError`] if no endpoint can say.
    pub async fn slices(&mut self, from: Height) -> Result<Vec<Shown>, LogError> {
        let (chain, to) = (self.chain, Height(from.0.saturating_add(HEIGHTS_AT_ONCE)));
        let shown = self
            .ask("slices", async |log| {
                let part = log.part(chain, from, to).await?;
                let shown = part.proof.blocks.into_iter().map(|block| match block.presence {
                    SlicePresence::Present { slice, .. } => (block.header, Some(slice)),
                    SlicePresence::Absent(_) => (block.header, None),
                });
                Ok(shown.collect::<Vec<_>>())
            })
            .await?;
        Ok(shown.unwrap_or_default())
    }

    /// The first height after a log time; `None` if the log has not come so far.
    ///
    /// # Errors
    /// [`LogError`] if no endpoint can say.
    pub async fn height_after(&mut self, time: UnixMillis) -> Result<Option<Height>, LogError> {
        let chain = self.chain;
        self.ask("the height of a time", async |log| log.height_after(chain, time).await).await
    }

    /// The chain's newest records of a kind below a height, newest first. Every endpoint is asked, and the answer with the
    /// newest record counts.
    ///
    /// # Errors
    /// [`LogError`] if no endpoint can say.
    pub async fn records(
        &mut self,
        kind: RecordKind,
        before: Option<Height>,
        count: u32,
    ) -> Result<Vec<(Header, Record)>, LogError> {
        let chain = self.chain;
        let (mut best, mut has_answer, mut reasons) = (Vec::new(), false, Vec::new());
        for index in 0..self.nodes.len() {
            let mut records =
                async |log: &mut VerifyingLog| log.records(chain, kind, before, count).await;
            match self.ask_node(index, &mut records).await? {
                Answer::Shown(records) => {
                    has_answer = true;
                    let newest = |records: &[(Header, u32, Record)]| {
                        records.first().map(|(header, ..)| header.height)
                    };
                    if newest(&records) > newest(&best) {
                        best = records;
                    }
                }
                Answer::None(reason) | Answer::Not(reason) => reasons.push(reason),
            }
        }
        if !has_answer {
            return Err(LogError::NoEndpoint { what: "records", reasons: reasons.join("; ") });
        }
        Ok(best.into_iter().map(|(header, _, record)| (header, record)).collect())
    }

    /// The endpoints that lied, and how.
    #[must_use]
    pub fn lies(&self) -> Vec<String> {
        let lie = |node: &Node| Some(format!("{} lied: {}", node.endpoint.url, node.lie.as_ref()?));
        self.nodes.iter().filter_map(lie).collect()
    }

    /// Asks one node after the other until one shows an answer; `None` if none does and one says that there is none.
    async fn ask<T>(
        &mut self,
        what: &'static str,
        mut question: impl AsyncFnMut(&mut VerifyingLog) -> Result<T, VerifyError>,
    ) -> Result<Option<T>, LogError> {
        let (mut is_none, mut reasons) = (false, Vec::new());
        for index in 0..self.nodes.len() {
            match self.ask_node(index, &mut question).await? {
                Answer::Shown(shown) => return Ok(Some(shown)),
                Answer::None(_) => is_none = true,
                Answer::Not(reason) => reasons.push(reason),
            }
        }
        match is_none {
            true => Ok(None),
            false => Err(LogError::NoEndpoint { what, reasons: reasons.join("; ") }),
        }
    }

    async fn ask_node<T>(
        &mut self,
        index: usize,
        question: &mut impl AsyncFnMut(&mut VerifyingLog) -> Result<T, VerifyError>,
    ) -> Result<Answer<T>, LogError> {
        let Some(node) = self.nodes.get_mut(index) else {
            return Ok(Answer::Not("no such endpoint".to_owned()));
        };
        let url = node.endpoint.url.clone();
        if let Some(lie) = &node.lie {
            return Ok(Answer::Not(format!("{url} lied: {lie}")));
        }
        let client = match node.client.clone() {
            Some(client) => client,
            None => match node.endpoint.connect().await {
                Ok(channel) => node.client.insert(LogClient::new(channel)).clone(),
                Err(error) => return Ok(Answer::Not(error.to_string())),
            },
        };
        let mut log = VerifyingLog::new(client, self.light.clone());
        let error = match question(&mut log).await {
            Ok(shown) => {
                self.light = log.light_client().clone();
                return Ok(Answer::Shown(shown));
            }
            Err(error) => error,
        };
        let reason = format!("{url}: {error}");
        match error {
            VerifyError::Client(error) if error.is_not_found() => Ok(Answer::None(reason)),
            VerifyError::Client(ClientError::Answer(_)) => Ok(self.blame(index, reason)),
            VerifyError::Client(_) => Ok(Answer::Not(reason)),
            VerifyError::NotVerified(error) if matches!(*error, NotVerified::Stale { .. }) => {
                Err(LogError::Stale(error))
            }
            VerifyError::NotVerified(error) if matches!(*error, NotVerified::Fork(_)) => {
                Err(LogError::Fork(error))
            }
            VerifyError::NotVerified(_)
            | VerifyError::Height { .. }
            | VerifyError::Chain { .. }
            | VerifyError::Continuation { .. }
            | VerifyError::NotFirstAfter { .. }
            | VerifyError::NoRecord { .. }
            | VerifyError::TooManyHandovers => Ok(self.blame(index, reason)),
        }
    }

    fn blame<T>(&mut self, index: usize, reason: String) -> Answer<T> {
        if let Some(node) = self.nodes.get_mut(index) {
            node.lie = Some(reason.clone());
        }
        Answer::Not(reason)
    }
}
