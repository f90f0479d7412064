//! What it costs one core to follow a chain: from slices, as a node tells them, to what the chain's blocks are offered.
//!
//! All in memory, by the core's own functions and in the order in which a sidecar calls them: the light client verifies
//! each height with its certificate, the slice is weighed, and an offer is made for every second of log time. Decoding
//! messages and calling an engine are not in it. The transactions have the shape of transfers and nobody's signature,
//! which nothing here looks at: signatures were the committee's to check.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use eyre::{WrapErr as _, ensure, eyre};
use lockstep_core::certificate::{Certificate, CommitSignature, Vote, VoteType};
use lockstep_core::header::Header;
use lockstep_core::light_client::LightClient;
use lockstep_core::params::{ChainKind, Genesis, NetworkParams};
use lockstep_core::proof::{CertifiedHeader, SliceProof};
use lockstep_core::record::{Cursor, Limits};
use lockstep_core::signing::SigningKey;
use lockstep_core::slice::{Content, Item, Slice, slices_root};
use lockstep_core::types::{BlockHash, ChainId, Height, Round, UnixMillis};
use lockstep_core::validator_set::{Validator, ValidatorSet};
use lockstep_core::window::{self, LogSlice, Window};

use crate::layout::FIRST_CHAIN;

/// The chain that is followed.
const CHAIN: ChainId = ChainId(FIRST_CHAIN);
/// Validators that sign every certificate.
const VALIDATORS: u8 = 4;
/// Time of the genesis, milliseconds since 1970; a whole second.
const START: UnixMillis = UnixMillis(1_700_000_000_000);
/// Between two log blocks, milliseconds.
const INTERVAL_MS: u64 = 250;
/// Between the ends of two windows, milliseconds.
const WINDOW_MS: u64 = 1_000;
/// Gas of a plain transfer.
const TRANSFER_GAS: u64 = 21_000;
/// Fees of a transfer, in wei per gas; plausible, and paid to nobody.
const FEE: u128 = 1_000_000_000;

/// How much is followed.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Log blocks.
    pub heights: u64,
    /// Transactions of the chain in each.
    pub transactions: u32,
    /// How often the same log is followed.
    pub rounds: u32,
}

impl Size {
    /// 200 log blocks of 1,000 transactions, five times: some seconds.
    pub const ROW: Self = Self { heights: 200, transactions: 1_000, rounds: 5 };

    fn total(self) -> u64 {
        self.heights.saturating_mul(u64::from(self.transactions))
    }
}

/// What was measured, over all rounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offers {
    /// Transactions that came from a slice to an offer.
    pub transactions: u64,
    /// Time of the light client.
    pub verify: Duration,
    /// Time of weighing.
    pub weigh: Duration,
    /// Time of making offers.
    pub offer: Duration,
}

impl Offers {
    /// Measures on the calling thread.
    ///
    /// # Errors
    /// If the log does not verify, or is not offered whole: then nothing was measured.
    pub fn measure(size: Size) -> eyre::Result<Self> {
        let log = Log::new(size)?;
        let mut measured = Self::default();
        for _ in 0..size.rounds {
            measured.follow(&log, size)?;
        }
        Ok(measured)
    }

    fn follow(&mut self, log: &Log, size: Size) -> eyre::Result<()> {
        let mut light =
            LightClient::from_genesis(&log.genesis, START).wrap_err("trusting the genesis")?;
        let begun = Instant::now();
        for (proof, slice) in &log.heights {
            let now = proof.block.header.timestamp_ms;
            light.verify_slice(proof, slice, &[], now).wrap_err("verifying a slice")?;
        }
        self.verify = self.verify.saturating_add(begun.elapsed());

        let slices: Vec<(Height, UnixMillis, Vec<Item>)> = log
            .heights
            .iter()
            .map(|(proof, slice)| {
                let header = &proof.block.header;
                (header.height, header.timestamp_ms, slice.items.clone())
            })
            .collect();
        let begun = Instant::now();
        let mut slices: Vec<LogSlice> = slices
            .into_iter()
            .map(|(height, time, items)| LogSlice::new(height, time, ChainKind::Evm, items))
            .collect();
        self.weigh = self.weigh.saturating_add(begun.elapsed());

        slices.push(log.last());
        let begun = Instant::now();
        let offered = offer(&slices)?;
        self.offer = self.offer.saturating_add(begun.elapsed());
        let expected = size.total();
        ensure!(offered == expected, "{offered} transactions were offered, expected {expected}");
        self.transactions = self.transactions.saturating_add(offered);
        Ok(())
    }
}

impl Display for Offers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { transactions, verify, weigh, offer } = *self;
        let rate = |time| per_second(transactions, time);
        let all = verify.saturating_add(weigh).saturating_add(offer);
        write!(
            f,
            "{} tx/s of one core from proven slices to offers: verify {} tx/s, weigh {} tx/s, offer {} tx/s",
            rate(all),
            rate(verify),
            rate(weigh),
            rate(offer),
        )
    }
}

fn per_second(count: u64, time: Duration) -> u128 {
    let micros = time.as_micros().max(1);
    u128::from(count).saturating_mul(1_000_000).checked_div(micros).unwrap_or_default()
}

/// Makes one offer after the other, each where the one before ended; how many transactions they hold. The last slice
/// closes the last window.
fn offer(slices: &[LogSlice]) -> eyre::Result<u64> {
    let newest = slices.last().map_or(START, |slice| slice.timestamp);
    let (mut cursor, mut offered) = (Cursor { height: Height(1), items: 0 }, 0u64);
    let mut end = START.plus(WINDOW_MS);
    while window::is_closed(end, newest) {
        let window = Window {
            end,
            gas: u64::MAX,
            gas_max: u64::MAX,
            bytes_max: u64::MAX,
            limits: Limits::default(),
            closed: None,
        };
        let before = usize::try_from(cursor.height.0.saturating_sub(1)).unwrap_or(usize::MAX);
        let offer = window::offer(cursor, slices.iter().skip(before), &window)
            .wrap_err("making an offer")?;
        let count = offer.items.iter().map(|item| item.item.hashes.len() as u64).sum();
        offered = offered.saturating_add(count);
        cursor = offer.end;
        end = end.plus(WINDOW_MS);
    }
    Ok(offered)
}

/// A decided log that has slices of one chain alone.
struct Log {
    genesis: Genesis,
    heights: Vec<(SliceProof, Slice)>,
}

impl Log {
    fn new(size: Size) -> eyre::Result<Self> {
        let keys = keys()?;
        let genesis = genesis(&keys)?;
        let mut parent = BlockHash(genesis.network_id().0);
        let mut heights = Vec::new();
        let mut nonce = 0u64;
        for height in (1..=size.heights).map(Height) {
            let items = (0..size.transactions).map(|index| {
                nonce = nonce.saturating_add(1);
                Item { index, content: Content::Transaction { bytes: transfer(nonce) } }
            });
            let slice = Slice { chain: CHAIN, items: items.collect() };
            let summaries = [slice.summary()];
            let header = header(&genesis, height, parent, slices_root(&summaries));
            parent = header.hash();
            let block = certify(header, &keys);
            let proof = SliceProof::build(block, &summaries, CHAIN);
            heights.push((proof.ok_or_else(|| eyre!("the slice has no proof"))?, slice));
        }
        Ok(Self { genesis, heights })
    }

    /// An empty slice, late enough to close the window of the last height.
    fn last(&self) -> LogSlice {
        let newest = self.heights.last().map(|(proof, _)| &proof.block.header);
        let (height, time) =
            newest.map_or((Height::GENESIS, START), |header| (header.height, header.timestamp_ms));
        LogSlice::new(height.next(), time.plus(WINDOW_MS), ChainKind::Evm, Vec::new())
    }
}

/// The validators' keys, in ascending order of address.
fn keys() -> eyre::Result<Vec<SigningKey>> {
    let key = |n| SigningKey::from_bytes([n; 32]).wrap_err("making a key");
    let mut keys = (1..=VALIDATORS).map(key).collect::<eyre::Result<Vec<_>>>()?;
    keys.sort_by_key(SigningKey::address);
    Ok(keys)
}

fn genesis(keys: &[SigningKey]) -> eyre::Result<Genesis> {
    let validator = |key: &SigningKey| Validator {
        address: key.address(),
        public_key: key.public_key(),
        power: 1,
        network_address: String::new(),
    };
    let validators = ValidatorSet::new(keys.iter().map(validator).collect());
    Ok(Genesis {
        name: "bench".to_owned(),
        timestamp: START,
        params: NetworkParams { block_interval_ms: INTERVAL_MS, ..NetworkParams::default() },
        validators: validators.wrap_err("making a validator set")?,
        chains: Vec::new(),
    })
}

fn header(genesis: &Genesis, height: Height, parent: BlockHash, slices_root: B256) -> Header {
    let set = &genesis.validators;
    Header {
        network_id: genesis.network_id(),
        height,
        round: Round(0),
        parent,
        timestamp_ms: START.plus(height.0.saturating_mul(INTERVAL_MS)),
        proposer: set.proposer(height, Round(0)).address,
        validators_hash: set.hash(),
        next_validators_hash: set.hash(),
        set_since: Height(1),
        cut_hash: B256::ZERO,
        slices_root,
        state_hash: B256::ZERO,
    }
}

fn certify(header: Header, keys: &[SigningKey]) -> CertifiedHeader {
    let (height, round, block) = (header.height, header.round, header.hash());
    let vote = Vote { height, round, vote_type: VoteType::Precommit, block: Some(block) };
    let digest = vote.digest(header.network_id);
    let sign = |key: &SigningKey| CommitSignature {
        validator: key.address(),
        signature: key.sign(digest),
    };
    let signatures = keys.iter().map(sign).collect();
    CertifiedHeader { header, certificate: Certificate { height, round, block, signatures } }
}

/// EIP-2718 bytes in the shape of a signed transfer, about 110 of them; address and signature are noise, which does not
/// compress better than real ones.
fn transfer(nonce: u64) -> Bytes {
    let noise = |n: u8| keccak256([nonce.to_be_bytes().as_slice(), &[n]].concat());
    let transaction = TxEip1559 {
        chain_id: CHAIN.0,
        nonce,
        gas_limit: TRANSFER_GAS,
        max_fee_per_gas: FEE,
        max_priority_fee_per_gas: FEE,
        to: TxKind::Call(Address::from_word(noise(0))),
        value: U256::from(nonce),
        access_list: Default::default(),
        input: Bytes::new(),
    };
    let signature = Signature::new(noise(1).into(), noise(2).into(), false);
    transaction.into_signed(signature).encoded_2718().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transaction_of_the_log_is_verified_and_offered() {
        for heights in [1, 4, 9] {
            let offers = Offers::measure(Size { heights, transactions: 3, rounds: 2 });
            assert_eq!(offers.expect("measures").transactions, heights * 3 * 2);
        }
    }

    #[test]
    fn transfers_have_the_size_of_real_ones() {
        assert!((105..=125).contains(&transfer(70_000).len()), "{}", transfer(70_000).len());
    }
}
