//! What a devnet shows while it runs: a table that is redrawn on a terminal, a line every few seconds elsewhere, an
//! object per line for programs.
//!
//! Heights and states of validators are what they say themselves; what is verified is what the light client proved.

use std::io;
use std::time::Duration;

use lockstep_node::output::Output;
use serde::Serialize;

use crate::bundles::{Landed, Landing};
use crate::health::Health;
use crate::world::rollup::Heads;

/// How often a terminal is redrawn.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(500);
/// How often a line is printed.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
/// Ends and begins that a terminal breaks long lines: a broken one would make the table longer than what is redrawn.
const UNBROKEN: (&str, &str) = ("\x1b[?7l", "\x1b[?7h");

/// Everything that is shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Picture {
    /// Seconds since the start.
    pub seconds: u64,
    /// Newest height that any validator has.
    pub height: u64,
    /// Verified transactions, those in bundles included.
    pub transactions: u64,
    /// Verified transactions per second, over the last interval.
    pub transactions_per_second: u64,
    /// Verified bundles.
    pub bundles: u64,
    /// Entries that nodes took from the load.
    pub accepted: u64,
    /// Entries that no node took.
    pub refused: u64,
    /// The validators.
    pub validators: Vec<ValidatorRow>,
    /// What the light client proved, and where the chains are.
    pub chains: Vec<ChainRow>,
    /// The last bundles that were followed into the chains' blocks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub landed: Vec<Landed>,
    /// Processes that do not run, the validators not counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<String>,
}

/// One validator.
#[derive(Clone, Debug, Serialize)]
pub struct ValidatorRow {
    /// Its number.
    pub index: u16,
    /// `up` or `down`.
    pub process: &'static str,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthRow>,
    /// Its gRPC endpoint.
    pub grpc: String,
    /// Where its health and metrics are.
    pub http: String,
}

/// What a validator says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct HealthRow {
    /// In one word.
    pub state: String,
    /// Why.
    pub reason: String,
    /// Newest height it has.
    pub height: u64,
}

/// Where a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadsRow {
    /// Its op-node does not answer.
    Silent,
    /// What its op-node says.
    At(Heads),
}

impl From<Option<Heads>> for HeadsRow {
    fn from(heads: Option<Heads>) -> Self {
        heads.map_or(Self::Silent, Self::At)
    }
}

/// One chain.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChainRow {
    /// Its id.
    pub chain: u64,
    /// Verified up to this height.
    pub height: u64,
    /// Verified transactions.
    pub transactions: u64,
    /// Verified legs of bundles.
    pub legs: u64,
    /// Where it is, if it has blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<HeadsRow>,
}

impl From<Health> for HealthRow {
    fn from(health: Health) -> Self {
        let Health { state, reason, height } = health;
        Self { state, reason, height }
    }
}

/// How long until the next picture is wanted.
#[must_use]
pub const fn interval(output: &Output) -> Duration {
    if output.is_terminal() { TERMINAL_INTERVAL } else { PLAIN_INTERVAL }
}

/// Shows pictures one after the other.
#[derive(Debug, Default)]
pub struct View {
    drawn: usize,
}

impl View {
    /// Shows a picture: over the last one, or below it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn show(&mut self, picture: &Picture, output: &mut Output) -> io::Result<()> {
        if output.is_json() {
            let line = serde_json::to_string(picture).map_err(io::Error::other)?;
            return output.raw(&format!("{line}\n"));
        }
        if !output.is_terminal() {
            return output.say(line(picture));
        }
        let lines = table(picture);
        let mut text = UNBROKEN.0.to_owned();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(UNBROKEN.1);
        self.drawn = lines.len();
        output.raw(&text)
    }
}

/// `h:mm:ss`.
fn clock(seconds: u64) -> String {
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    format!("{}:{:02}:{seconds:02}", minutes / 60, minutes % 60)
}

impl ValidatorRow {
    /// `down`, or what it says of itself.
    fn state(&self) -> &str {
        match &self.health {
            Some(health) => &health.state,
            None if self.process == "up" => "no answer",
            None => "down",
        }
    }
}

fn table(picture: &Picture) -> Vec<String> {
    let Picture { height, transactions, transactions_per_second, bundles, .. } = picture;
    let mut lines = vec![
        String::new(),
        format!(
            "{}  height {height}  transactions {transactions} ({transactions_per_second}/s)  \
             bundles {bundles}  sent {}  not taken {}",
            clock(picture.seconds),
            picture.accepted,
            picture.refused
        ),
    ];
    for row in &picture.chains {
        let ChainRow { chain, height, transactions, legs, heads } = row;
        let heads = heads.map_or_else(String::new, |row| format!("{}; ", heads_of(row)));
        lines.push(format!(
            "  chain {chain}      {heads}verified to height {height}: {transactions} transactions, {legs} legs"
        ));
    }
    lines.extend(picture.landed.iter().map(|one| format!("  {}", landed(one))));
    for row in &picture.validators {
        let mut line = format!("  validator {:<3} {:<12}", row.index, row.state());
        if let Some(health) = &row.health {
            line.push_str(&format!(" height {:<8} {}", health.height, health.reason));
        }
        lines.push(line.trim_end().to_owned());
    }
    if !picture.down.is_empty() {
        lines.push(format!("  down: {}", picture.down.join(", ")));
    }
    lines.push("Ctrl-C stops all".to_owned());
    lines
}

fn line(picture: &Picture) -> String {
    let Picture { height, transactions, transactions_per_second, bundles, .. } = picture;
    let mut line = format!(
        "{} height {height}, {transactions} transactions ({transactions_per_second}/s), {bundles} bundles",
        clock(picture.seconds)
    );
    for ChainRow { chain, height, heads, .. } in &picture.chains {
        line.push_str(&format!("; {chain} verified to {height}"));
        if let Some(heads) = heads {
            line.push_str(&format!(", {}", heads_of(*heads)));
        }
    }
    line.push_str("; validators");
    for row in &picture.validators {
        line.push_str(&format!(" {}:{}", row.index, row.state()));
    }
    if !picture.down.is_empty() {
        line.push_str(&format!("; down: {}", picture.down.join(", ")));
    }
    line
}

fn heads_of(row: HeadsRow) -> String {
    match row {
        HeadsRow::Silent => "op-node does not answer".to_owned(),
        HeadsRow::At(Heads { unsafe_head, safe_head, .. }) => {
            format!("block {}, safe {}", unsafe_head.number, safe_head.number)
        }
    }
}

/// One bundle: where its legs are.
#[must_use]
pub fn landed(bundle: &Landed) -> String {
    let Landed { index, milliseconds, legs, failure, .. } = bundle;
    let place = |leg: &Landing| match leg.block {
        Some(block) => format!("{} in block {block}", leg.chain),
        None => format!("{} in no block", leg.chain),
    };
    let mut line = format!("bundle {index}");
    if !legs.is_empty() {
        let places: Vec<String> = legs.iter().map(place).collect();
        line.push_str(&format!(": {}", places.join(", ")));
    }
    let (seconds, tenths) = (milliseconds / 1_000, milliseconds % 1_000 / 100);
    line.push_str(&format!("; {seconds}.{tenths} s"));
    if !failure.is_empty() {
        line.push_str(&format!("; {failure}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::rollup::Block;
    use alloy_primitives::B256;

    fn bundle() -> Landed {
        let leg = |chain, block| Landing { chain, transaction: B256::ZERO, block };
        Landed {
            index: 7,
            id: String::new(),
            milliseconds: 3_150,
            legs: vec![leg(901, Some(30)), leg(902, None)],
            failure: "too late".to_owned(),
        }
    }

    fn picture() -> Picture {
        let row = |index, process, health| ValidatorRow {
            index,
            process,
            health,
            grpc: "http://127.0.0.1:1".to_owned(),
            http: "http://127.0.0.1:2".to_owned(),
        };
        let serving = HealthRow { state: "serving".to_owned(), reason: String::new(), height: 41 };
        Picture {
            seconds: 3_725,
            height: 41,
            transactions: 820,
            transactions_per_second: 20,
            bundles: 41,
            validators: vec![row(0, "up", Some(serving)), row(1, "down", None), row(2, "up", None)],
            chains: vec![ChainRow {
                chain: 901,
                height: 40,
                transactions: 500,
                legs: 41,
                heads: None,
            }],
            ..Picture::default()
        }
    }

    #[test]
    fn line_has_height_counts_verification_and_every_validator() {
        let expected = "1:02:05 height 41, 820 transactions (20/s), 41 bundles; 901 verified to 40; \
            validators 0:serving 1:down 2:no answer";
        assert_eq!(line(&picture()), expected);
    }

    #[test]
    fn table_has_a_row_for_each_validator_and_chain() {
        let lines = table(&picture());
        assert_eq!(lines.len(), 7);
        assert!(lines.iter().any(|line| line.starts_with("  validator 1   down")));
    }

    #[test]
    fn chain_with_blocks_has_its_heads_and_what_is_down_is_named() {
        let block = |number| Block { number, ..Block::default() };
        let heads = Heads { unsafe_head: block(31), safe_head: block(28), ..Heads::default() };
        let mut picture = picture();
        picture.chains[0].heads = Some(Some(heads).into());
        picture.down = vec!["op-node-902".to_owned()];
        picture.landed.push(bundle());
        let plain = line(&picture);
        assert!(plain.contains("901 verified to 40, block 31, safe 28;"), "{plain}");
        assert!(plain.ends_with("; down: op-node-902"), "{plain}");
        let lines = table(&picture).join("\n");
        assert!(lines.contains("block 31, safe 28; verified to height 40"), "{lines}");
        assert!(lines.contains("bundle 7: 901 in block 30, 902 in no block"), "{lines}");
        picture.chains[0].heads = Some(None.into());
        assert!(line(&picture).contains("901 verified to 40, op-node does not answer"));
    }

    #[test]
    fn bundle_has_the_block_of_each_leg() {
        assert_eq!(
            landed(&bundle()),
            "bundle 7: 901 in block 30, 902 in no block; 3.1 s; too late"
        );
    }

    #[test]
    fn programs_get_one_object_per_picture() {
        let json = serde_json::to_value(picture()).expect("is json");
        assert_eq!(json["validators"][1]["process"], "down");
        assert_eq!(json["chains"][0]["height"], 40);
    }
}
