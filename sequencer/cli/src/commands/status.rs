//! `lockstep status`: how far an entry has come, as one node says.

use std::fmt::{self, Display, Formatter};

use alloy_primitives::B256;
use eyre::{Report, eyre};
use lockstep_core::record::SkipReason;
use lockstep_core::types::{ChainId, EntryId};
use lockstep_node::output::Output;
use lockstep_proto::convert::ingress::{
    EntryState, EntryStatus, LegState, LegStatus, Stage, StatusKey,
};
use lockstep_rpc::client::ClientError;
use serde::Serialize;

use super::endpoint::Endpoints;

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
    /// `received`, `dropped`, or as far as the least of the legs: `decided`, `skipped`, `included`, `safe`, `finalized`.
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
    /// What became of it on each of its chains.
    legs: Vec<LegShown>,
}

/// What became of an entry on one chain.
#[derive(Debug, Serialize)]
struct LegShown {
    chain: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_hash: Option<String>,
    /// Index of the first transaction in that block.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip_reason: Option<&'static str>,
    /// The furthest state that the node can tell.
    last_state: &'static str,
}

/// Why the entry will not be ordered.
#[derive(Debug, Serialize)]
struct DroppedShown {
    reason: String,
    detail: String,
}

/// A stage's name.
#[must_use]
pub const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Decided => "decided",
        Stage::Skipped => "skipped",
        Stage::Included => "included",
        Stage::Safe => "safe",
        Stage::Finalized => "finalized",
    }
}

const fn reason_name(reason: Option<SkipReason>) -> &'static str {
    match reason {
        None => "unknown",
        Some(SkipReason::Invalid) => "invalid",
        Some(SkipReason::Stale) => "stale",
        Some(SkipReason::TooLarge) => "too_large",
        Some(SkipReason::OverLimit) => "over_limit",
    }
}

impl LegShown {
    fn of(leg: &LegStatus) -> Self {
        let (index, skip_reason) = match leg.state {
            LegState::Decided => (None, None),
            LegState::Skipped { reason, .. } => (None, Some(reason_name(reason))),
            LegState::Included(at) | LegState::Safe(at) | LegState::Finalized(at) => {
                (at.index, None)
            }
        };
        let block = leg.state.block();
        Self {
            chain: leg.chain.0,
            state: stage_name(leg.state.stage()),
            block_number: block.map(|block| block.number),
            block_hash: block.map(|block| block.hash.to_string()),
            index,
            skip_reason,
            last_state: stage_name(leg.last),
        }
    }
}

impl Shown {
    /// What is printed of this state.
    #[must_use]
    pub fn of(status: &EntryStatus) -> Self {
        let id = status.id.to_string();
        match &status.state {
            EntryState::Received => Self { id, state: "received", decided: None, dropped: None },
            EntryState::Decided(decided) => {
                let state = stage_name(decided.stage());
                let decided = DecidedShown {
                    height: decided.height.0,
                    index: decided.index,
                    block: decided.block.to_string(),
                    round: decided.certificate.round.0,
                    signers: decided.certificate.signatures.len(),
                    legs: decided.legs.iter().map(LegShown::of).collect(),
                };
                Self { id, state, decided: Some(decided), dropped: None }
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

impl Display for LegShown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "chain {}: {}", self.chain, self.state)?;
        if let (Some(number), Some(hash)) = (&self.block_number, &self.block_hash) {
            let preposition = if self.skip_reason.is_some() { "by" } else { "in" };
            write!(f, " {preposition} block {number} {hash}")?;
        }
        if let Some(index) = self.index {
            write!(f, ", transaction {index}")?;
        }
        if let Some(reason) = self.skip_reason {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

impl Display for Shown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.id, self.state)?;
        if let Some(DecidedShown { height, index, block, round, signers, legs }) = &self.decided {
            write!(
                f,
                " at height {height}, index {index}; block {block}, round {round}, {signers} signatures"
            )?;
            for leg in legs {
                write!(f, "\n  {leg}")?;
            }
        }
        if let Some(DroppedShown { detail, .. }) = &self.dropped {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lockstep_core::certificate::Certificate;
    use lockstep_core::types::{BlockHash, Height, Round};
    use lockstep_proto::convert::ingress::{BlockId, Decided, Landing};

    use super::*;

    fn shown(states: &[LegState]) -> Shown {
        let certificate = Certificate {
            height: Height(7),
            round: Round(0),
            block: BlockHash::ZERO,
            signatures: Vec::new(),
        };
        let leg = |(chain, state): (u64, &LegState)| LegStatus {
            chain: ChainId(chain),
            state: *state,
            last: Stage::Finalized,
        };
        let decided = Decided {
            height: Height(7),
            index: 2,
            block: BlockHash::ZERO,
            certificate: Arc::new(certificate),
            legs: (901..).zip(states).map(leg).collect(),
        };
        Shown::of(&EntryStatus { id: EntryId::ZERO, state: EntryState::Decided(decided) })
    }

    #[test]
    fn each_leg_has_a_line_and_an_object() {
        let block = BlockId { number: 17, hash: B256::repeat_byte(1) };
        let hash = block.hash;
        let cases = [
            (LegState::Decided, "chain 901: decided".to_owned(), "decided"),
            (
                LegState::Skipped { block, reason: Some(SkipReason::TooLarge) },
                format!("chain 901: skipped by block 17 {hash}: too_large"),
                "skipped",
            ),
            (
                LegState::Included(Landing { block, index: None }),
                format!("chain 901: included in block 17 {hash}"),
                "included",
            ),
            (
                LegState::Finalized(Landing { block, index: Some(0) }),
                format!("chain 901: finalized in block 17 {hash}, transaction 0"),
                "finalized",
            ),
        ];
        for (state, line, name) in cases {
            let shown = shown(&[state]);
            assert_eq!(shown.to_string().lines().nth(1), Some(format!("  {line}").as_str()));
            let json = serde_json::to_value(&shown).expect("is json");
            assert_eq!((&json["state"], &json["legs"][0]["state"]), (&name.into(), &name.into()));
            assert_eq!(json["height"], 7, "where the log has it is there in every state");
            assert_eq!(json["legs"][0]["last_state"], "finalized");
        }
    }

    #[test]
    fn the_entry_has_come_as_far_as_the_least_of_its_legs() {
        let block = BlockId { number: 17, hash: B256::repeat_byte(1) };
        let at = Landing { block, index: Some(4) };
        let json = serde_json::to_value(shown(&[LegState::Safe(at), LegState::Included(at)]));
        let json = json.expect("is json");
        assert_eq!((&json["state"], &json["legs"][0]["index"]), (&"included".into(), &4.into()));
        assert_eq!(json["legs"].as_array().map(Vec::len), Some(2));
    }
}
