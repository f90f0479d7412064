//! `lockstep status`: how far an entry has come, as one node says.

use std::fmt::{self, Display, Formatter};

use alloy_primitives::B256;
use eyre::{Report, eyre};
use lockstep_core::types::{ChainId, EntryId};
use lockstep_proto::convert::ingress::{EntryState, EntryStatus, StatusKey};
use lockstep_rpc::client::ClientError;
use serde::Serialize;

use super::endpoint::Endpoints;
use crate::output::Output;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The endpoints.
    #[command(flatten)]
    pub endpoints: Endpoints,
    /// The entry's id, as `submit` prints it
    #[arg(value_name = "ID", value_parser = hash, required_unless_present = "tx", conflicts_with_all = ["tx", "chain"])]
    pub id: Option<B256>,
    /// The chain of the transaction
    #[arg(long, value_name = "ID", requires = "tx", value_parser = clap::value_parser!(u64).range(1..))]
    pub chain: Option<u64>,
    /// Hash of a decided transaction in the entry
    #[arg(long, value_name = "HASH", requires = "chain", value_parser = hash)]
    pub tx: Option<B256>,
}

/// Reads a hash or an id: 32 bytes in hex.
///
/// # Errors
/// If it is none.
pub fn hash(text: &str) -> Result<B256, String> {
    text.parse().map_err(|_| "expected 0x and 64 hex digits".to_owned())
}

/// Asks one endpoint after the other for the entry's state.
///
/// # Errors
/// If no endpoint knows the entry.
pub async fn run(args: Args, output: &mut Output) -> eyre::Result<()> {
    let key = match (args.id, args.chain, args.tx) {
        (None, Some(chain), Some(hash)) => StatusKey::Transaction(ChainId(chain), hash),
        (id, ..) => StatusKey::Id(EntryId(id.unwrap_or_default())),
    };
    let mut last = eyre!("no endpoint");
    for url in &args.endpoints.urls {
        match ask(&args.endpoints, url, key).await {
            Ok(status) => return Ok(output.show(&Shown::of(&status))?),
            Err(error) => last = Report::new(error).wrap_err(format!("asking {url}")),
        }
    }
    Err(last)
}

async fn ask(endpoints: &Endpoints, url: &str, key: StatusKey) -> Result<EntryStatus, ClientError> {
    endpoints.connect(url).await?.ingress().status(key).await
}

/// What is printed of an entry's state.
#[derive(Debug, Serialize)]
pub struct Shown {
    id: String,
    /// `received`, `decided`, `dropped`.
    state: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    decided: Option<DecidedShown>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    dropped: Option<DroppedShown>,
}

/// Where the log has the entry.
#[derive(Debug, Serialize)]
struct DecidedShown {
    height: u64,
    index: u32,
    block: String,
    /// The certificate's round and how many signed; `verify` checks them.
    round: u32,
    signers: usize,
}

/// Why the entry will not be ordered.
#[derive(Debug, Serialize)]
struct DroppedShown {
    reason: String,
    detail: String,
}

impl Shown {
    /// What is printed of this state.
    #[must_use]
    pub fn of(status: &EntryStatus) -> Self {
        let id = status.id.to_string();
        match &status.state {
            EntryState::Received => Self { id, state: "received", decided: None, dropped: None },
            EntryState::Decided(decided) => {
                let decided = DecidedShown {
                    height: decided.height.0,
                    index: decided.index,
                    block: decided.block.to_string(),
                    round: decided.certificate.round.0,
                    signers: decided.certificate.signatures.len(),
                };
                Self { id, state: "decided", decided: Some(decided), dropped: None }
            }
            EntryState::Dropped(dropped) => {
                let dropped = DroppedShown {
                    reason: format!("{:?}", dropped.reason),
                    detail: dropped.detail.clone(),
                };
                Self { id, state: "dropped", decided: None, dropped: Some(dropped) }
            }
        }
    }
}

impl Display for Shown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.id, self.state)?;
        if let Some(DecidedShown { height, index, block, round, signers }) = &self.decided {
            write!(
                f,
                " at height {height}, index {index}; block {block}, round {round}, {signers} signatures"
            )?;
        }
        if let Some(DroppedShown { detail, .. }) = &self.dropped {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}
