//! `lockstep audit`: compares a chain's blocks with its slices, over a range or as they come.
//!
//! Exit codes: 0 is clean, 1 is found something, 2 is a command line that means nothing (or a file of it that cannot be
//! used), 3 is could not audit: something cannot be reached, is not proven, or does not come.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use eyre::{Report, WrapErr as _, bail, ensure, eyre};
use lockstep_audit::finding::{Finding, Level};
use lockstep_audit::limits::ENDPOINTS_MAX;
use lockstep_audit::rpc::ChainRpc;
use lockstep_audit::{self as audit, AuditError, Auditor, ChainSource, Config, Summary};
use lockstep_core::light_client::LightClient;
use lockstep_core::params::Genesis;
use lockstep_core::types::{BlockHash, ChainId};
use lockstep_execution::jwt::Secret;
use lockstep_node::clock;
use lockstep_node::genesis::GenesisFile;
use lockstep_node::output::{self, Output, Progress};
use lockstep_node::verifier::session::trust_header;
use lockstep_rpc::client::Endpoint;
use serde::Serialize;
use tokio::time::sleep;

use super::endpoint::Endpoints;
use super::status::hash;
use crate::failure;

/// The program's end if nothing could be audited, or not all.
const NOT_AUDITED: u8 = 3;
/// The program's end if the command line means nothing.
const USAGE: u8 = 2;
/// Between two looks at a chain or a log that does not go on.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The endpoints; none of them is trusted.
    #[command(flatten)]
    pub endpoints: Endpoints,
    /// What is trusted: the genesis file
    #[arg(long, value_name = "FILE", group = "trust", required_unless_present = "trust")]
    pub genesis: Option<PathBuf>,
    /// What is trusted: the hash of a decided block's header, not older than 14 days
    #[arg(long, value_name = "HASH", group = "trust", value_parser = hash)]
    pub trusted_header: Option<B256>,
    /// The user knows that the genesis' validators are still to be trusted, although it is older than 14 days
    #[arg(long, conflicts_with = "trusted_header")]
    pub trust_now: bool,
    /// The chain's id
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub chain: u64,
    /// JSON-RPC of the chain, http://host:port: a public one, or with --jwt the engine's authenticated one
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub rpc: String,
    /// File of the engine's secret, 64 hex digits
    #[arg(long, value_name = "FILE")]
    pub jwt: Option<PathBuf>,
    /// Public JSON-RPC of another chain, to see where legs of bundles landed; may be given several times
    #[arg(long = "all-chains-rpc", value_name = "ID=URL", value_parser = chain_url)]
    pub others: Vec<(u64, String)>,
    /// First block [default: the one with which the chain joined, or 1,000 before the head]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,
    /// Last block, inclusive [default: the head]
    #[arg(long, value_name = "NUMBER", conflicts_with = "follow")]
    pub to: Option<u64>,
    /// Go on with each block as its window is closed
    #[arg(long)]
    pub follow: bool,
    /// Longest to wait for a chain or a log that does not go on, seconds; without --follow
    #[arg(long, value_name = "SECONDS", default_value_t = 75)]
    pub wait: u64,
}

/// Reads a URL that can be called here.
fn http_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://") {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("expected http://host:port; put a proxy before an endpoint of https".to_owned()),
    }
}

fn chain_url(text: &str) -> Result<(u64, String), String> {
    let (chain, url) = text.split_once('=').ok_or("expected ID=URL")?;
    let chain = chain.parse().ok().filter(|chain| *chain > 0);
    Ok((chain.ok_or("expected a chain's id, not 0, before `=`")?, http_url(url)?))
}

/// A finding as it is printed.
#[derive(Debug, Serialize)]
struct FindingShown<'a> {
    chain: u64,
    level: Level,
    #[serde(flatten)]
    finding: &'a Finding,
}

impl Display for FindingShown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.finding.fmt(f)
    }
}

/// The summary as it is printed.
#[derive(Debug, Serialize)]
struct SummaryShown {
    kind: &'static str,
    /// Whether all that was asked for was audited.
    is_complete: bool,
    /// Whether no block left its slices, as far as it was audited.
    is_clean: bool,
    #[serde(flatten)]
    summary: Summary,
}

impl Display for SummaryShown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.is_complete {
            write!(f, "NOT ALL AUDITED. As far as it was: ")?;
        }
        self.summary.fmt(f)
    }
}

/// What of the command line needs no network.
struct Prepared {
    genesis: Option<Genesis>,
    chain: ChainSource,
    others: Vec<ChainSource>,
}

/// Audits until the end of what was asked for, or for ever.
///
/// # Errors
/// If what was found cannot be told. All else is an exit code.
pub async fn run(args: Args, output: &mut Output) -> eyre::Result<ExitCode> {
    let ended = match prepare(&args) {
        Ok(prepared) => audit(&args, prepared, output).await,
        Err(error) => {
            failure::show_error(&error, output.is_json());
            return Ok(ExitCode::from(USAGE));
        }
    };
    match ended {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error) if failure::is_broken_pipe(&error) => Err(error),
        Err(error) => {
            failure::show_error(&error, output.is_json());
            Ok(ExitCode::from(exit_code(&error)))
        }
    }
}

fn exit_code(error: &Report) -> u8 {
    match error.downcast_ref::<AuditError>() {
        Some(AuditError::UnknownChain(_) | AuditError::Opaque(_)) => USAGE,
        _ => NOT_AUDITED,
    }
}

fn prepare(args: &Args) -> eyre::Result<Prepared> {
    if let (Some(from), Some(to)) = (args.from, args.to) {
        ensure!(from <= to, "--from {from} is after --to {to}: there is nothing to audit");
    }
    let count = args.endpoints.urls.len();
    ensure!(count <= ENDPOINTS_MAX, "{count} endpoints, at most {ENDPOINTS_MAX} are asked");
    let mut known = vec![args.chain];
    for (chain, _) in &args.others {
        ensure!(!known.contains(chain), "chain {chain} is named twice");
        known.push(*chain);
    }
    let secret = args.jwt.as_ref().map(|file| Secret::read(file)).transpose().wrap_err("--jwt")?;
    let source = |chain: u64, url: &str, secret| {
        let rpc = ChainRpc::new(url, secret)?;
        Ok::<_, Report>(ChainSource { chain: ChainId(chain), rpc })
    };
    let others = args.others.iter().map(|(chain, url)| source(*chain, url, None));
    Ok(Prepared {
        genesis: args.genesis.as_ref().map(|file| GenesisFile::load(file)).transpose()?,
        others: others.collect::<Result<_, _>>()?,
        chain: source(args.chain, &args.rpc, secret)?,
    })
}

/// Whether the chain kept to its slices.
async fn audit(args: &Args, prepared: Prepared, output: &mut Output) -> eyre::Result<bool> {
    let Prepared { genesis, chain, others } = prepared;
    let (genesis, trust) = trust(args, genesis).await?;
    let authority = args.endpoints.ca.as_ref();
    let endpoint =
        |url: &String| Endpoint { authority: authority.cloned(), ..Endpoint::new(url.as_str()) };
    let config = Config {
        genesis,
        trust,
        endpoints: args.endpoints.urls.iter().map(endpoint).collect(),
        chain,
        others,
        from: args.from,
        to: args.to,
        is_live: args.follow,
    };
    let mut auditor = Box::pin(Auditor::start(config)).await?;
    let mut said = Said::default();
    let ended = tokio::select! {
        ended = walk(args, &mut auditor, &mut said, output) => ended,
        // Who follows ends it so: what was audited until now is audited.
        interrupted = tokio::signal::ctrl_c() => match args.follow {
            true => interrupted.map_err(Report::from),
            false => Err(eyre!("interrupted")),
        },
    };
    if ended.as_ref().is_err_and(failure::is_broken_pipe) {
        return ended.map(|()| false);
    }
    auditor.finish();
    tell(&mut auditor, args.chain, &mut said, output)?;
    let summary = auditor.summary();
    let (is_complete, is_clean) = (ended.is_ok(), summary.is_clean());
    output.show(&SummaryShown { kind: "summary", is_complete, is_clean, summary })?;
    ended.map(|()| is_clean)
}

/// What is trusted: the genesis, and the committee by it or by a header.
async fn trust(args: &Args, genesis: Option<Genesis>) -> eyre::Result<(Genesis, LightClient)> {
    match (genesis, args.trusted_header) {
        (Some(genesis), _) => {
            let trusted_at = if args.trust_now { clock::now() } else { genesis.timestamp };
            let light = LightClient::from_genesis(&genesis, trusted_at)?;
            Ok((genesis, light))
        }
        (None, Some(hash)) => {
            let mut last = eyre!("no endpoint");
            for url in &args.endpoints.urls {
                match trusted_at(args, url, BlockHash(hash)).await {
                    Ok(trusted) => return Ok(trusted),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        (None, None) => bail!("nothing is trusted: --genesis or --trusted-header"),
    }
}

/// The header's committee and its network's genesis, as an endpoint has them; both are checked.
async fn trusted_at(
    args: &Args,
    url: &str,
    hash: BlockHash,
) -> eyre::Result<(Genesis, LightClient)> {
    let remote = args.endpoints.connect(url).await?;
    let light = trust_header(&remote, hash).await?;
    let genesis =
        remote.log().genesis().await.wrap_err_with(|| format!("asking {url} for the genesis"))?;
    ensure!(genesis.network_id() == light.network(), "{url} lied about the genesis");
    Ok((genesis, light))
}

/// What was said on standard error.
#[derive(Debug, Default)]
struct Said {
    lies: BTreeSet<String>,
    trouble: String,
}

async fn walk(
    args: &Args,
    auditor: &mut Auditor,
    said: &mut Said,
    output: &mut Output,
) -> eyre::Result<()> {
    let patience = Duration::from_secs(args.wait);
    let mut progress = Progress::default();
    let mut moved = Instant::now();
    loop {
        let step = Box::pin(auditor.step()).await;
        progress.clear();
        tell(auditor, args.chain, said, output)?;
        let has_patience = args.follow || moved.elapsed() < patience;
        match step {
            Ok(audit::Progress::Done) => return Ok(()),
            Ok(audit::Progress::Block(number)) => {
                moved = Instant::now();
                said.trouble.clear();
                match auditor.last() {
                    Some(last) => progress.update(format_args!("block {number} of {last}")),
                    None => progress.update(format_args!("block {number}")),
                }
                continue;
            }
            Ok(audit::Progress::Waiting) if has_patience => {}
            // What is still waited for is counted as not known.
            Ok(audit::Progress::Waiting) if auditor.is_at_end() => return Ok(()),
            Ok(audit::Progress::Waiting) => {
                let waits = args.wait;
                bail!(
                    "neither the chain nor the log went on for {waits} s: the last blocks are not audited"
                );
            }
            Err(error) if error.may_pass() && has_patience => {
                let trouble = error.to_string();
                if trouble != said.trouble {
                    output::note(format_args!("trying again: {trouble}"));
                    said.trouble = trouble;
                }
            }
            Err(error) => return Err(error.into()),
        }
        sleep(POLL).await;
    }
}

fn tell(
    auditor: &mut Auditor,
    chain: u64,
    said: &mut Said,
    output: &mut Output,
) -> std::io::Result<()> {
    for lie in auditor.lies() {
        if !said.lies.contains(&lie) {
            output::note(&lie);
            said.lies.insert(lie);
        }
    }
    for finding in auditor.take_findings() {
        output.show(&FindingShown { chain, level: finding.level(), finding: &finding })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_of_a_chain_is_read() {
        assert_eq!(chain_url("902=http://a:1"), Ok((902, "http://a:1".to_owned())));
        for wrong in
            ["902", "=http://a:1", "0=http://a:1", "x=http://a:1", "902=https://a:1", "902=http://"]
        {
            assert!(chain_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn chain_that_is_not_registered_is_a_fault_of_the_command_line() {
        let code = |error: AuditError| exit_code(&Report::from(error));
        assert_eq!(code(AuditError::UnknownChain(ChainId(9))), USAGE);
        assert_eq!(code(AuditError::Opaque(ChainId(9))), USAGE);
        assert_eq!(code(AuditError::NoBlock(9)), NOT_AUDITED);
        assert_eq!(exit_code(&eyre!("interrupted")), NOT_AUDITED);
    }

    #[test]
    fn finding_is_one_json_object_with_its_level() {
        let finding = Finding::NotCanonical {
            number: 7,
            record: lockstep_audit::finding::RecordId {
                recorded: lockstep_audit::finding::At { height: 5, item: 1 },
                block: B256::ZERO,
                parent: B256::ZERO,
                signer: None,
            },
            canonical: B256::ZERO,
        };
        let shown = FindingShown { chain: 901, level: finding.level(), finding: &finding };
        let json = serde_json::to_value(&shown).expect("is json");
        assert_eq!(json["kind"], "not-canonical");
        assert_eq!((&json["level"], &json["chain"]), (&"info".into(), &901.into()));
        assert_eq!((&json["number"], &json["recorded"]["height"]), (&7.into(), &5.into()));
    }
}
