//! `lockstep slice`: reads a chain's slices and prints their items. Nothing is verified here: see `lockstep verify`.

use std::fmt::{self, Display, Formatter};

use alloy_primitives::{hex, keccak256};
use eyre::{Report, WrapErr as _, ensure, eyre};
use futures::StreamExt as _;
use lockstep_core::limits::SLICE_RANGE_MAX;
use lockstep_core::slice::{Content, Item, Slice};
use lockstep_core::types::{ChainId, Height};
use lockstep_node::output::{Output, Progress};
use lockstep_proto::convert::log::{ProvenSlice, SlicesQuery};
use lockstep_rpc::client::{ClientError, LogClient};
use serde::Serialize;

use super::endpoint::Endpoints;

/// Arguments of `slice`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The endpoints.
    #[command(flatten)]
    pub endpoints: Endpoints,
    /// The chain's id
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub chain: u64,
    /// First height
    #[arg(long, value_name = "HEIGHT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub from: u64,
    /// Last height, inclusive [default: the newest]
    #[arg(long, value_name = "HEIGHT", conflicts_with = "follow")]
    pub to: Option<u64>,
    /// Go on with each height as it is decided
    #[arg(long)]
    pub follow: bool,
}

/// One item as it is printed.
#[derive(Debug, Serialize)]
struct ItemShown {
    chain: u64,
    height: u64,
    /// Index in the log block, over all chains.
    index: u32,
    /// `transaction`, `leg`, `record`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leg: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    legs: Option<u32>,
    transactions: Vec<TransactionShown>,
}

/// One transaction as it is printed.
#[derive(Debug, Serialize)]
struct TransactionShown {
    hash: String,
    raw: String,
}

impl ItemShown {
    fn of(chain: ChainId, height: Height, item: &Item) -> Self {
        let (kind, bundle, leg, legs) = match &item.content {
            Content::Transaction { .. } => ("transaction", None, None, None),
            Content::Leg { bundle, leg, legs, .. } => {
                ("leg", Some(bundle.to_string()), Some(*leg), Some(*legs))
            }
            Content::Record(_) => ("record", None, None, None),
        };
        let transactions = item.transactions().iter().map(|bytes| TransactionShown {
            hash: keccak256(bytes).to_string(),
            raw: hex::encode_prefixed(bytes),
        });
        let transactions = transactions.collect();
        Self {
            chain: chain.0,
            height: height.0,
            index: item.index,
            kind,
            bundle,
            leg,
            legs,
            transactions,
        }
    }
}

impl Display for ItemShown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}  {}", self.height, self.index, self.kind)?;
        if let (Some(bundle), Some(leg), Some(legs)) = (&self.bundle, self.leg, self.legs) {
            write!(f, " {} of {legs} of bundle {bundle}", leg.saturating_add(1))?;
        }
        for TransactionShown { hash, raw } in &self.transactions {
            write!(f, "  {hash} ({} bytes)", raw.len().saturating_sub(2) / 2)?;
        }
        Ok(())
    }
}

/// Prints the items of a chain's slices.
///
/// # Errors
/// If no endpoint answers, or one ends the stream.
pub async fn run(args: Args, output: &mut Output) -> eyre::Result<()> {
    if let Some(to) = args.to {
        ensure!(
            args.from <= to,
            "--from {} is after --to {to}: there is nothing to read",
            args.from
        );
    }
    let mut last = eyre!("no endpoint");
    for url in &args.endpoints.urls {
        let (mut log, head) = match open(&args.endpoints, url).await {
            Ok(opened) => opened,
            Err(error) => {
                last = Report::new(error).wrap_err(format!("asking {url}"));
                continue;
            }
        };
        let read = match args.follow {
            true => follow(&args, &mut log, output).await,
            false => history(&args, args.to.map_or(head, Height), &mut log, output).await,
        };
        return read.wrap_err_with(|| format!("reading slices at {url}"));
    }
    Err(last)
}

/// A client of the endpoint's log, and the newest height that it has.
async fn open(endpoints: &Endpoints, url: &str) -> Result<(LogClient, Height), ClientError> {
    let mut log = endpoints.connect(url).await?.log();
    let head = log.head().await?;
    Ok((log, head.header.height))
}

async fn history(
    args: &Args,
    to: Height,
    log: &mut LogClient,
    output: &mut Output,
) -> eyre::Result<()> {
    let chain = ChainId(args.chain);
    let mut from = Height(args.from);
    let mut progress = Progress::default();
    while from <= to {
        let end = Height(from.0.saturating_add(SLICE_RANGE_MAX.saturating_sub(1))).min(to);
        let range = log.slices(SlicesQuery { chain, from, to: end }).await?;
        progress.clear();
        for block in &range.proof.blocks {
            show(chain, block.header.height, block.presence.slice(), output)?;
        }
        let Some(last) = range.proof.blocks.last() else { break };
        let reached = last.header.height;
        if reached < end && range.next.is_none() {
            break;
        }
        from = reached.next().max(from.next());
        progress.update(format_args!("height {reached} of {to}"));
    }
    Ok(())
}

async fn follow(args: &Args, log: &mut LogClient, output: &mut Output) -> eyre::Result<()> {
    let chain = ChainId(args.chain);
    let mut slices = log.stream_slices(chain, Some(Height(args.from))).await?;
    while let Some(slice) = slices.next().await {
        let slice = slice?;
        let height = slice.block().header.height;
        let present = match &slice {
            ProvenSlice::Present { slice, .. } => Some(slice),
            ProvenSlice::Absent(_) => None,
        };
        show(chain, height, present, output)?;
    }
    eyre::bail!("the node ended the stream")
}

fn show(
    chain: ChainId,
    height: Height,
    slice: Option<&Slice>,
    output: &mut Output,
) -> std::io::Result<()> {
    for item in slice.map_or(&[][..], |slice| &slice.items) {
        output.show(&ItemShown::of(chain, height, item))?;
    }
    Ok(())
}
