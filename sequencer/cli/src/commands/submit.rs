//! `lockstep submit`: a transaction or a bundle, to one endpoint after the other until one takes it, or to all of them.
//!
//! The entry is made here, so every endpoint gets the same bytes and the same id: submitting twice is one submission.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use alloy_primitives::{Bytes, hex};
use clap::{Subcommand, ValueEnum};
use eyre::{WrapErr as _, bail, ensure, eyre};
use futures::future::join_all;
use lockstep_core::bundle::{Bundle, Guarantee, Leg};
use lockstep_core::entry::{Body, Entry, Transaction};
use lockstep_core::limits::{ENTRY_BYTES_MAX, EXPIRES_MS_MAX, TRANSACTION_BYTES_MAX};
use lockstep_core::params::ChainKind;
use lockstep_core::types::ChainId;
use lockstep_node::clock;
use lockstep_node::genesis::Kind;
use lockstep_node::output::Output;
use lockstep_proto::convert::ingress::{
    EntryState, EntryStatus, Milestone, Stage, WAIT_MS_MAX, Wait,
};
use serde::{Deserialize, Serialize};

use super::endpoint::{Endpoints, is_for_all};
use super::status::{Shown, stage_name};

/// Digits and white space of a transaction's text.
const TEXT_BYTES_MAX: u64 = 2 * TRANSACTION_BYTES_MAX as u64 + 1_024;
/// Bytes of a bundle's file: a bundle of the greatest size in hex.
const BUNDLE_FILE_BYTES_MAX: u64 = 2 * ENTRY_BYTES_MAX as u64 + (64 << 10);

/// What to submit.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One transaction of one chain
    Tx(TxArgs),
    /// Transactions of several chains: all in one log block, or none
    #[command(after_long_help = BUNDLE_HELP)]
    Bundle(BundleArgs),
}

const BUNDLE_HELP: &str = r#"The file:
  {
    "guarantee": "co_ordered",
    "legs": [
      { "chain": 901, "kind": "evm", "transactions": ["0x02f8…"] },
      { "chain": 902, "kind": "evm", "transactions": ["0x02f8…", "0x02f8…"] }
    ]
  }
2 to 16 legs, each of another chain, with 1 to 16 signed transactions in order. "kind" is "evm" (the default) or
"opaque"; "guarantee" is "co_ordered" (the default)."#;

/// Arguments of `submit tx`.
#[derive(Debug, clap::Args)]
pub struct TxArgs {
    /// Where and how to submit.
    #[command(flatten)]
    pub to: SubmitArgs,
    /// The chain's id
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub chain: u64,
    /// The signed transaction (EIP-2718 bytes) in hex
    #[arg(long, value_name = "HEX", group = "bytes")]
    pub raw: Option<String>,
    /// File of the signed transaction in hex, or of its bytes with --opaque
    #[arg(long, value_name = "FILE", group = "bytes")]
    pub raw_file: Option<PathBuf>,
    /// `-` reads standard input as --raw-file does
    #[arg(value_name = "-", value_parser = ["-"], group = "bytes", required_unless_present = "bytes")]
    pub stdin: Option<String>,
    /// The chain is registered as opaque: any bytes, nothing is checked
    #[arg(long)]
    pub opaque: bool,
}

/// Arguments of `submit bundle`.
#[derive(Debug, clap::Args)]
pub struct BundleArgs {
    /// Where and how to submit.
    #[command(flatten)]
    pub to: SubmitArgs,
    /// The bundle as JSON; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
}

/// Where and how to submit.
#[derive(Debug, clap::Args)]
pub struct SubmitArgs {
    /// The endpoints.
    #[command(flatten)]
    pub endpoints: Endpoints,
    /// Submit to all endpoints at once, not to one after the other until one takes it
    #[arg(long)]
    pub all: bool,
    /// How long the network may take, in milliseconds from now
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=EXPIRES_MS_MAX))]
    pub expires_ms: u64,
    /// Which state to wait for, on each of the entry's chains; it is also over when no other state can follow
    #[arg(long, value_enum, default_value_t = WaitFor::Received)]
    pub wait: WaitFor,
}

/// States to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// A node holds it; no promise
    Received,
    /// A log block has it
    Decided,
    /// A block of each of its chains has it
    Included,
    /// Those blocks can be derived from L1
    Safe,
    /// Those blocks can be derived from finalized L1 blocks
    Finalized,
}

impl WaitFor {
    const fn milestone(self) -> Milestone {
        match self {
            Self::Received => Milestone::Received,
            Self::Decided => Milestone::Decided,
            Self::Included => Milestone::Included,
            Self::Safe => Milestone::Safe,
            Self::Finalized => Milestone::Finalized,
        }
    }
}

/// A bundle's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleFile {
    /// What is promised.
    #[serde(default)]
    guarantee: GuaranteeName,
    /// The legs.
    legs: Vec<LegFile>,
}

/// A leg of a bundle's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LegFile {
    /// The chain's id.
    chain: u64,
    /// EVM or opaque.
    #[serde(default)]
    kind: Kind,
    /// Signed transactions in hex.
    transactions: Vec<String>,
}

/// Names of guarantees.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GuaranteeName {
    #[default]
    CoOrdered,
    CoExecuted,
}

/// Submits a transaction or a bundle.
///
/// # Errors
/// If it cannot be read, if no endpoint takes it, or if it does not come as far as it is waited for.
pub async fn run(command: Command, output: &mut Output) -> eyre::Result<()> {
    let (body, to) = match command {
        Command::Tx(args) => (Body::Transaction(transaction(&args)?), args.to),
        Command::Bundle(args) => (Body::Bundle(bundle(&args.file)?), args.to),
    };
    let expires = clock::now().plus(to.expires_ms);
    let entry = Entry::new(body, expires, None).wrap_err("the entry is not valid")?;
    if to.all {
        return submit_to_all(&to, &entry, output).await;
    }
    let mut last = eyre!("no endpoint");
    for url in &to.endpoints.urls {
        match submit(&to, url, &entry).await {
            Ok(answer) => return finish(vec![answer], output),
            Err(error) if is_for_all(&error) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn submit_to_all(to: &SubmitArgs, entry: &Entry, output: &mut Output) -> eyre::Result<()> {
    let answers = join_all(to.endpoints.urls.iter().map(|url| submit(to, url, entry))).await;
    let (mut taken, mut refused) = (Vec::new(), None);
    for answer in answers {
        match answer {
            Ok(answer) => taken.push(answer),
            Err(error) => {
                lockstep_node::output::note(format_args!("{error:#}"));
                refused = refused.or(Some(error));
            }
        }
    }
    match refused {
        Some(error) if taken.is_empty() => Err(error),
        _ => finish(taken, output),
    }
}

/// What one endpoint answered.
#[derive(Debug, Serialize)]
struct Answer {
    endpoint: String,
    is_known: bool,
    #[serde(flatten)]
    status: Shown,
    /// Why it did not come as far as it was waited for.
    #[serde(skip)]
    failure: Option<String>,
}

impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if self.is_known { write!(f, "\nknown before by {}", self.endpoint) } else { Ok(()) }
    }
}

fn finish(answers: Vec<Answer>, output: &mut Output) -> eyre::Result<()> {
    let mut failure = None;
    for answer in answers {
        output.show(&answer)?;
        failure = failure.or(answer.failure);
    }
    failure.map_or(Ok(()), |failure| Err(eyre!(failure)))
}

async fn submit(to: &SubmitArgs, url: &str, entry: &Entry) -> eyre::Result<Answer> {
    let milestone = to.wait.milestone();
    let wait_for = match to.wait {
        WaitFor::Received => None,
        WaitFor::Decided | WaitFor::Included | WaitFor::Safe | WaitFor::Finalized => {
            Some(Wait { milestone, timeout_ms: WAIT_MS_MAX })
        }
    };
    let remote = to.endpoints.connect(url).await?;
    let context = || format!("submitting to {url}");
    let submitted = remote.ingress().submit(entry, wait_for).await.wrap_err_with(context)?;
    let is_over = submitted.is_reached || submitted.status.state.is_final();
    let status = match is_over {
        true => submitted.status,
        false => {
            let status = remote.status_at(entry.id(), milestone).await;
            status.wrap_err_with(|| format!("waiting at {url}"))?
        }
    };
    Ok(Answer {
        endpoint: url.to_owned(),
        is_known: submitted.is_known,
        failure: failure_of(&status, milestone),
        status: Shown::of(&status),
    })
}

/// Why an entry in a state that no other follows is not as far as it was waited for.
fn failure_of(status: &EntryStatus, milestone: Milestone) -> Option<String> {
    if status.state.has_reached(milestone) {
        return None;
    }
    match &status.state {
        EntryState::Dropped(dropped) => Some(format!("the entry was dropped: {}", dropped.detail)),
        EntryState::Received => None,
        EntryState::Decided(decided) => {
            let least = decided.legs.iter().min_by_key(|leg| leg.state.stage())?;
            let (chain, state) = (least.chain, stage_name(least.state.stage()));
            Some(match least.state.stage() {
                Stage::Skipped => format!("chain {chain} skipped it"),
                Stage::Decided | Stage::Included | Stage::Safe | Stage::Finalized => {
                    format!("it is {state} on chain {chain}, and this node can tell no more")
                }
            })
        }
    }
}

fn transaction(args: &TxArgs) -> eyre::Result<Transaction> {
    let kind = if args.opaque { ChainKind::Opaque } else { ChainKind::Evm };
    let text = match (&args.raw, &args.raw_file) {
        (Some(text), _) => {
            return Ok(Transaction {
                chain: ChainId(args.chain),
                kind,
                bytes: from_hex("--raw", text)?,
            });
        }
        (None, Some(file)) => read(file, TEXT_BYTES_MAX)?,
        (None, None) => read(Path::new("-"), TEXT_BYTES_MAX)?,
    };
    let bytes = if args.opaque {
        text.into()
    } else {
        let text = String::from_utf8(text).map_err(|_| eyre!("the transaction is not hex"))?;
        from_hex("the transaction", text.trim())?
    };
    Ok(Transaction { chain: ChainId(args.chain), kind, bytes })
}

fn bundle(file: &Path) -> eyre::Result<Bundle> {
    let text = read(file, BUNDLE_FILE_BYTES_MAX)?;
    parse_bundle(&text).wrap_err_with(|| format!("reading the bundle {}", file.display()))
}

fn parse_bundle(text: &[u8]) -> eyre::Result<Bundle> {
    let file: BundleFile = serde_json::from_slice(text)?;
    let mut legs = Vec::new();
    for (place, leg) in file.legs.iter().enumerate() {
        let mut transactions = Vec::new();
        for (number, text) in leg.transactions.iter().enumerate() {
            let field = format!("legs[{place}].transactions[{number}]");
            transactions.push(from_hex(&field, text)?);
        }
        legs.push(Leg { chain: ChainId(leg.chain), kind: leg.kind.into(), transactions });
    }
    let guarantee = match file.guarantee {
        GuaranteeName::CoOrdered => Guarantee::CoOrdered,
        GuaranteeName::CoExecuted => Guarantee::CoExecuted,
    };
    Ok(Bundle::new(legs, guarantee)?)
}

fn from_hex(field: &str, text: &str) -> eyre::Result<Bytes> {
    let bytes = hex::decode(text).map_err(|error| eyre!("{field} is not hex: {error}"))?;
    ensure!(!bytes.is_empty(), "{field} is empty");
    Ok(bytes.into())
}

/// Reads a file, or standard input for `-`.
fn read(file: &Path, bytes_max: u64) -> eyre::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = bytes_max.saturating_add(1);
    let read = if file == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.wrap_err_with(|| format!("reading {}", file.display()))?;
    if bytes.len() as u64 > bytes_max {
        bail!("{} has more than {bytes_max} bytes", file.display());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str, expected: &str) {
        let error = format!("{:#}", parse_bundle(json.as_bytes()).expect_err(json));
        assert!(error.contains(expected), "{json}\n{error}");
    }

    #[test]
    fn bundle_file_is_read_with_its_defaults() {
        let json = r#"{"legs": [{"chain": 901, "transactions": ["0x01"]},
            {"chain": 902, "kind": "opaque", "transactions": ["02", "0x03"]}]}"#;
        let bundle = parse_bundle(json.as_bytes()).expect("is one");
        assert_eq!(bundle.guarantee(), Guarantee::CoOrdered);
        assert_eq!(bundle.legs()[1].kind, ChainKind::Opaque);
        assert_eq!(bundle.legs()[1].transactions.len(), 2);
    }

    #[test]
    fn wrong_bundle_file_is_refused_by_name() {
        let leg = |chain| format!(r#"{{"chain": {chain}, "transactions": ["0x01"]}}"#);
        let of = |legs: &str| format!(r#"{{"legs": [{legs}]}}"#);
        refused("{", "EOF");
        refused(r#"{"legs": [], "leg": 1}"#, "unknown field `leg`");
        refused(&of(&leg(901)), "1 legs, expected 2..=16");
        refused(&of(&format!("{}, {}", leg(901), leg(901))), "two legs for chain 901");
        let empty = r#"{"chain": 902, "transactions": []}"#;
        refused(&of(&format!("{}, {empty}", leg(901))), "chain 902 is empty");
        let wrong = r#"{"chain": 902, "transactions": ["0x01", "0xzz"]}"#;
        refused(&of(&format!("{}, {wrong}", leg(901))), "legs[1].transactions[1] is not hex");
        let name = r#"{"guarantee": "atomic", "legs": []}"#;
        refused(name, "unknown variant `atomic`");
    }

    #[test]
    fn file_over_the_limit_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a");
        std::fs::write(&file, "0123456789").expect("writes");
        assert_eq!(read(&file, 10).expect("fits").len(), 10);
        assert!(read(&file, 9).unwrap_err().to_string().contains("more than 9 bytes"));
    }
}
