//! `lockstep verify`: the light client against any endpoint, from the genesis or from a header that the user names.
//!
//! It prints what it proved, and exits with 1 when an endpoint lied, saying how. It trusts nothing that the endpoint
//! says of itself: also how far the log has come is only what is proven.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::process::ExitCode;

use alloy_primitives::B256;
use eyre::{WrapErr as _, bail, ensure};
use futures::StreamExt as _;
use futures::stream::{SelectAll, select_all};
use lockstep_core::light_client::LightClient;
use lockstep_core::types::{BlockHash, ChainId, Height};
use lockstep_node::clock;
use lockstep_node::genesis::GenesisFile;
use lockstep_node::output::{Output, Progress};
use lockstep_node::verifier::session::{Session, SessionError, trust_header};
use lockstep_node::verifier::{Fault, Proven};
use lockstep_rpc::client::ClientError;
use lockstep_rpc::client::remote::Remote;
use serde::Serialize;

use super::endpoint::DEFAULT;
use super::status::hash;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// gRPC endpoint of a node, http://host:port or https://host:port
    #[arg(long, value_name = "URL", default_value = DEFAULT)]
    pub endpoint: String,
    /// File (PEM) of the authority that signed the node's certificate; needed for https
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// What is trusted: the genesis file
    #[arg(long, value_name = "FILE", group = "trust", required_unless_present = "trust")]
    pub genesis: Option<PathBuf>,
    /// What is trusted: the hash of a decided block's header, not older than 14 days
    #[arg(long, value_name = "HASH", group = "trust", value_parser = hash)]
    pub trusted_header: Option<B256>,
    /// The user knows that the genesis' validators are still to be trusted, although it is older than 14 days
    #[arg(long, conflicts_with = "trusted_header")]
    pub trust_now: bool,
    /// A chain; may be given several times [default: all of the genesis]
    #[arg(long = "chain", value_name = "ID", required_unless_present = "genesis", value_parser = clap::value_parser!(u64).range(1..))]
    pub chains: Vec<u64>,
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

/// What was proven in all.
#[derive(Debug, Default, Serialize)]
struct Summary {
    is_proven: bool,
    endpoint: String,
    network: String,
    /// Heights of chains: two chains at one height are two.
    heights: u64,
    absent: u64,
    items: u64,
    transactions: u64,
    legs: u64,
    records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lie: Option<String>,
}

impl Summary {
    fn add(&mut self, proven: &Proven) {
        let Proven { first, last, absent, items, transactions, legs, records, .. } = proven;
        let heights = last.saturating_sub(*first).saturating_add(1);
        self.heights = self.heights.saturating_add(heights);
        self.absent = self.absent.saturating_add(*absent);
        self.items = self.items.saturating_add(*items);
        self.transactions = self.transactions.saturating_add(*transactions);
        self.legs = self.legs.saturating_add(*legs);
        self.records = self.records.saturating_add(*records);
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { endpoint, network, heights, absent, items, transactions, legs, records, .. } =
            self;
        match &self.lie {
            Some(lie) => write!(f, "NOT PROVEN: {endpoint}: {lie}\nbefore that: ")?,
            None => write!(f, "PROVEN: ")?,
        }
        write!(
            f,
            "network {network}: {items} items ({transactions} transactions, {legs} legs, {records} records) \
             and {absent} absences, complete over {heights} heights of chains"
        )
    }
}

/// Verifies until the end of what was asked for, or for ever.
///
/// # Errors
/// If nothing can be verified and the endpoint is not to blame: it does not answer, or the trust is too old.
pub async fn run(args: Args, output: &mut Output) -> eyre::Result<ExitCode> {
    if let Some(to) = args.to {
        ensure!(
            args.from <= to,
            "--from {} is after --to {to}: there is nothing to verify",
            args.from
        );
    }
    let remote = Remote::connect(&args.endpoint, args.ca.as_ref()).await?;
    let (client, chains) = trust(&args, &remote).await?;
    let endpoint = args.endpoint.clone();
    let mut summary =
        Summary { endpoint, network: client.network().to_string(), ..Summary::default() };
    let mut session = Session::new(remote, client);
    let ended = tokio::select! {
        ended = verify(&args, &chains, &mut session, &mut summary, output) => ended,
        // Who follows ends it so: what was proven until now is proven.
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(SessionError::from),
    };
    match ended {
        Ok(()) if summary.heights == 0 => {
            bail!("{} has no height from {} on: nothing was verified", args.endpoint, args.from);
        }
        Ok(()) => summary.is_proven = true,
        Err(SessionError::Fault(fault @ Fault::NotProven { .. })) => {
            summary.lie = Some(fault.to_string());
        }
        Err(SessionError::Fault(fault @ Fault::Fork(_))) => {
            summary.lie = Some(format!("{fault}: stop, and show this to all operators"));
        }
        Err(error @ SessionError::Fault(Fault::Stale(_))) => {
            return Err(error).wrap_err(
                "nobody lied, but the trust is too old: name a newer --trusted-header, or add --trust-now if the \
                 genesis' validators are still to be trusted",
            );
        }
        Err(error @ (SessionError::Client(_) | SessionError::Output(_))) => {
            return Err(error).wrap_err_with(|| format!("verifying at {}", args.endpoint));
        }
    }
    output.show(&summary)?;
    Ok(if summary.is_proven { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is trusted, and the chains asked for.
async fn trust(args: &Args, remote: &Remote) -> eyre::Result<(LightClient, Vec<ChainId>)> {
    let mut chains: Vec<ChainId> = args.chains.iter().copied().map(ChainId).collect();
    let client = match (&args.genesis, args.trusted_header) {
        (Some(file), _) => {
            let genesis = GenesisFile::load(file)?;
            if chains.is_empty() {
                chains = genesis.chains.iter().map(|chain| chain.id).collect();
            }
            let trusted_at = if args.trust_now { clock::now() } else { genesis.timestamp };
            LightClient::from_genesis(&genesis, trusted_at)?
        }
        (None, Some(hash)) => trust_header(remote, BlockHash(hash)).await?,
        (None, None) => bail!("nothing is trusted: --genesis or --trusted-header"),
    };
    chains.sort_unstable();
    chains.dedup();
    ensure!(!chains.is_empty(), "the genesis has no chain: nothing can be verified");
    Ok((client, chains))
}

async fn verify(
    args: &Args,
    chains: &[ChainId],
    session: &mut Session,
    summary: &mut Summary,
    output: &mut Output,
) -> Result<(), SessionError> {
    let head = match args.to {
        Some(to) => Height(to),
        None => session.claimed_head().await?,
    };
    let mut progress = Progress::default();
    let mut next = Vec::new();
    for &chain in chains {
        let mut from = Height(args.from);
        while from <= head {
            let proven = session.range(chain, from, head).await?;
            progress.clear();
            tell(&proven, summary, output)?;
            from = Height(proven.last).next();
            progress.update(format_args!("chain {chain}: height {} of {head}", proven.last));
        }
        next.push((chain, from));
    }
    if args.follow { follow(&next, session, summary, output).await } else { Ok(()) }
}

/// Every chain's slices as they are decided. Ends only by a fault, or when the endpoint ends a stream.
async fn follow(
    next: &[(ChainId, Height)],
    session: &mut Session,
    summary: &mut Summary,
    output: &mut Output,
) -> Result<(), SessionError> {
    let mut streams = Vec::new();
    for &(chain, from) in next {
        let stream = session.remote().log().stream_slices(chain, Some(from)).await?;
        let heights = futures::stream::iter(from.0..);
        streams.push(
            stream.zip(heights).map(move |(slice, height)| (chain, Height(height), slice)).boxed(),
        );
    }
    let mut slices: SelectAll<_> = select_all(streams);
    while let Some((chain, height, slice)) = slices.next().await {
        let proven = session.slice(chain, height, slice?).await?;
        tell(&proven, summary, output)?;
    }
    Err(ClientError::Ended.into())
}

fn tell(proven: &Proven, summary: &mut Summary, output: &mut Output) -> std::io::Result<()> {
    summary.add(proven);
    output.show(proven)
}
