//! Budgets: how much declared gas and how many bytes a chain may put into the log per second of log time.
//!
//! One bucket per chain, in the state. It is refilled by the log time since the parent, then spent in two passes: in
//! the first each lane may use its equal share, in the second whatever is left. On a chain that has gateways, entries
//! that none of them signed may use only a part of the bucket, shared alike, and wait for one another alone. This file
//! counts; in which order entries are tried is [`assemble`](crate::block::assemble)'s business.
//!
//! All divisions round down and nothing is carried, so a bucket gains at most what its rate gives, and less by under
//! one unit of gas and one byte per block.

use crate::state::ChainState;

/// Gas and bytes: what entries declare, or what a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Declared gas.
    pub gas: u64,
    /// Bytes of transactions.
    pub bytes: u64,
}

impl Amount {
    /// Whether both gas and bytes are at most those of `other`.
    #[must_use]
    pub const fn is_within(&self, other: &Self) -> bool {
        self.gas <= other.gas && self.bytes <= other.bytes
    }

    /// The sum; saturates at the greatest.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        let (gas, bytes) =
            (self.gas.saturating_add(other.gas), self.bytes.saturating_add(other.bytes));
        Self { gas, bytes }
    }

    /// The difference; saturates at zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        let (gas, bytes) =
            (self.gas.saturating_sub(other.gas), self.bytes.saturating_sub(other.bytes));
        Self { gas, bytes }
    }

    /// The greater gas and the greater bytes.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { gas: self.gas.max(other.gas), bytes: self.bytes.max(other.bytes) }
    }

    /// One of `count` equal shares, rounded down; nothing if `count` is 0.
    #[must_use]
    pub fn share(&self, count: u64) -> Self {
        let of = |amount: u64| amount.checked_div(count).unwrap_or_default();
        Self { gas: of(self.gas), bytes: of(self.bytes) }
    }

    /// `percent` of it, rounded down; all of it for 100 and more.
    #[must_use]
    pub fn percent(&self, percent: u64) -> Self {
        Self {
            gas: scaled(self.gas, percent.min(100), 100),
            bytes: scaled(self.bytes, percent.min(100), 100),
        }
    }
}

/// `floor(amount · times / per)`, where `per` is a constant and not 0; saturates at the greatest.
pub(crate) fn scaled(amount: u64, times: u64, per: u64) -> u64 {
    let product = u128::from(amount).saturating_mul(u128::from(times));
    let quotient = product.checked_div(u128::from(per)).expect("`per` is 100 or 1,000");
    u64::try_from(quotient).unwrap_or(u64::MAX)
}

/// What the chain's bucket can hold at most.
#[must_use]
pub fn capacity(chain: &ChainState) -> Amount {
    Amount { gas: chain.params.gas_capacity(), bytes: chain.params.bytes_capacity() }
}

/// What the chain's bucket holds `elapsed_ms` of log time later: `min(level + floor(rate · elapsed / 1000), capacity)`.
#[must_use]
pub fn refilled(chain: &ChainState, elapsed_ms: u64) -> Amount {
    let capacity = capacity(chain);
    let level = |level: u64, rate, capacity| {
        level.saturating_add(scaled(rate, elapsed_ms, 1_000)).min(capacity)
    };
    Amount {
        gas: level(chain.gas, chain.params.gas_per_second, capacity.gas),
        bytes: level(chain.bytes, chain.params.bytes_per_second, capacity.bytes),
    }
}

/// An entry's demand on one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Sum over the entry's transactions for the chain.
    pub amount: Amount,
    /// The chain has gateways and none of them signed the entry.
    pub is_open: bool,
}

/// Sum of demands on one chain, or what a lane may use of its bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of all entries.
    pub all: Amount,
    /// Of those among them that are [open](Demand::is_open).
    pub open: Amount,
}

impl Usage {
    /// The sum with one more demand.
    #[must_use]
    pub const fn plus(self, demand: &Demand) -> Self {
        let open = if demand.is_open { self.open.plus(demand.amount) } else { self.open };
        Self { all: self.all.plus(demand.amount), open }
    }

    /// The sum without a demand that is part of it.
    #[must_use]
    pub const fn minus(self, demand: &Demand) -> Self {
        let open = if demand.is_open { self.open.minus(demand.amount) } else { self.open };
        Self { all: self.all.minus(demand.amount), open }
    }

    /// Two times both sums; saturates at the greatest.
    #[must_use]
    pub const fn twice(self) -> Self {
        Self { all: self.all.plus(self.all), open: self.open.plus(self.open) }
    }

    /// Whether both sums are at most those of `share`.
    #[must_use]
    pub const fn is_within(&self, share: &Self) -> bool {
        self.all.is_within(&share.all) && self.open.is_within(&share.open)
    }
}

/// What each of `lanes` lanes may use of the chain's bucket, `elapsed_ms` of log time after `chain`, whatever the other
/// lanes use: the equal share of the first pass. Nothing if there are no lanes.
#[must_use]
pub fn lane_share(
    chain: &ChainState,
    elapsed_ms: u64,
    lanes: usize,
    open_share_percent: u64,
) -> Usage {
    let Usage { all, open } = level(chain, elapsed_ms, open_share_percent);
    Usage { all: all.share(lanes as u64), open: open.share(lanes as u64) }
}

/// What a block may take of the chain's bucket, `elapsed_ms` of log time after `chain`.
#[must_use]
pub fn level(chain: &ChainState, elapsed_ms: u64, open_share_percent: u64) -> Usage {
    let all = refilled(chain, elapsed_ms);
    Usage { all, open: all.percent(open_share_percent) }
}

/// Whether a full bucket has room for the demand; if not, no block ever takes it.
#[must_use]
pub fn can_ever_fit(chain: &ChainState, open_share_percent: u64, demand: &Demand) -> bool {
    let all = capacity(chain);
    let full = Usage { all, open: all.percent(open_share_percent) };
    Usage::default().plus(demand).is_within(&full)
}

/// Whose share an entry uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Each lane within its share.
    Shares,
    /// From what is left.
    Rest,
}

#[derive(Clone, Copy, Debug)]
struct LaneShare {
    rest: Amount,
    open_rest: Amount,
    /// Whether later open entries wait, and later entries that are not open.
    is_open_waiting: bool,
    is_waiting: bool,
}

impl LaneShare {
    const fn waits(&mut self, is_open: bool) -> &mut bool {
        if is_open { &mut self.is_open_waiting } else { &mut self.is_waiting }
    }
}

/// One chain's bucket while a block is assembled.
#[derive(Clone, Debug)]
pub(crate) struct ChainBudget {
    /// What the block may take at most.
    level: Usage,
    rest: Amount,
    open_rest: Amount,
    lanes: Vec<LaneShare>,
}

impl ChainBudget {
    /// The refilled bucket with its shares for `lanes` lanes.
    pub(crate) fn new(
        chain: &ChainState,
        elapsed_ms: u64,
        lanes: usize,
        open_share_percent: u64,
    ) -> Self {
        let level = level(chain, elapsed_ms, open_share_percent);
        let share = lane_share(chain, elapsed_ms, lanes, open_share_percent);
        let share = LaneShare {
            rest: share.all,
            open_rest: share.open,
            is_open_waiting: false,
            is_waiting: false,
        };
        Self { level, rest: level.all, open_rest: level.open, lanes: vec![share; lanes] }
    }

    /// What is left of the bucket.
    pub(crate) const fn rest(&self) -> Amount {
        self.rest
    }

    /// Whether the demand of an entry of `lane` fits in this pass.
    pub(crate) fn fits(&self, pass: Pass, lane: usize, demand: &Demand) -> bool {
        let fits = |rest: &Amount, open_rest: &Amount| {
            demand.amount.is_within(rest) && (!demand.is_open || demand.amount.is_within(open_rest))
        };
        let fits_lane = match pass {
            Pass::Shares => {
                self.lanes.get(lane).is_some_and(|share| fits(&share.rest, &share.open_rest))
            }
            Pass::Rest => true,
        };
        fits_lane && fits(&self.rest, &self.open_rest)
    }

    /// Takes a demand that fits.
    pub(crate) fn charge(&mut self, lane: usize, demand: &Demand) {
        self.rest = self.rest.minus(demand.amount);
        if demand.is_open {
            self.open_rest = self.open_rest.minus(demand.amount);
        }
        if let Some(share) = self.lanes.get_mut(lane) {
            share.rest = share.rest.minus(demand.amount);
            if demand.is_open {
                share.open_rest = share.open_rest.minus(demand.amount);
            }
        }
    }

    /// Whether the demand is more than this block may take, whatever else it takes.
    pub(crate) fn exceeds(&self, demand: &Demand) -> bool {
        !Usage::default().plus(demand).is_within(&self.level)
    }

    /// Whether the lane's later entries for this chain wait: those that are open, or those that are not.
    pub(crate) fn is_waiting(&mut self, lane: usize, is_open: bool) -> bool {
        self.lanes.get_mut(lane).is_some_and(|share| *share.waits(is_open))
    }

    /// Makes the lane's later entries for this chain wait until the pass ends: those that are open, or those that are
    /// not.
    pub(crate) fn wait(&mut self, lane: usize, is_open: bool) {
        if let Some(share) = self.lanes.get_mut(lane) {
            *share.waits(is_open) = true;
        }
    }

    /// A new pass: no lane waits.
    pub(crate) fn begin_pass(&mut self) {
        for share in &mut self.lanes {
            (share.is_open_waiting, share.is_waiting) = (false, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;
    use crate::limits::{ENTRY_BYTES_MAX, ENTRY_GAS_MAX};
    use crate::params::{ChainKind, ChainParams};
    use crate::types::ChainId;

    const BIG: u64 = 1 << 30;

    fn chain(gas_per_second: u64, bytes_per_second: u64, gas: u64, bytes: u64) -> ChainState {
        let params = ChainParams {
            id: ChainId(10),
            kind: ChainKind::Evm,
            block_time_ms: 2_000,
            gas_per_second,
            bytes_per_second,
            transaction_gas_max: 0,
            sequencers: Vec::new(),
            gateways: vec![Address::repeat_byte(1)],
            joins_at: 0,
        };
        ChainState { params, gas, bytes }
    }

    fn amount(gas: u64, bytes: u64) -> Amount {
        Amount { gas, bytes }
    }

    fn demand(gas: u64, bytes: u64, is_open: bool) -> Demand {
        Demand { amount: amount(gas, bytes), is_open }
    }

    #[test]
    fn refill_is_the_floor_of_rate_times_elapsed_time_up_to_the_capacity() {
        let cases = [
            // (rate, level, elapsed ms, expected)
            (1_000, 5, 0, 5),
            (1_000, 5, 1, 6),
            (999, 5, 1, 5),
            (999, 5, 2, 6),
            (60_000_000, 0, 250, 15_000_000),
            (60_000_000, ENTRY_GAS_MAX - 1, 250, ENTRY_GAS_MAX),
            (BIG, 0, 2_000, 2 * BIG),
            (BIG, 0, 2_001, 2 * BIG),
            (BIG, 2 * BIG + 7, 0, 2 * BIG),
            (u64::MAX / 2, 1, u64::MAX, u64::MAX - 1),
        ];
        for (rate, level, elapsed_ms, expected) in cases {
            let got = refilled(&chain(rate, 1, level, 0), elapsed_ms).gas;
            assert_eq!(got, expected, "rate {rate}, level {level}, {elapsed_ms} ms");
        }
    }

    #[test]
    fn bytes_have_a_bucket_of_their_own() {
        let got = refilled(&chain(21_000, 4_000, 0, 10), 500);
        assert_eq!(got, amount(10_500, 2_010));
        assert_eq!(refilled(&chain(1, 1, 0, 0), u64::MAX).bytes, ENTRY_BYTES_MAX as u64);
    }

    #[test]
    fn shares_and_percents_round_down() {
        assert_eq!(amount(10, 7).share(4), amount(2, 1));
        assert_eq!(amount(10, 7).share(0), Amount::default());
        assert_eq!(amount(199, 99).percent(10), amount(19, 9));
        assert_eq!(amount(u64::MAX, 1).percent(100), amount(u64::MAX, 1));
        assert_eq!(amount(u64::MAX, 1).percent(0), Amount::default());
    }

    #[test]
    fn lane_fits_its_share_first_and_the_rest_later() {
        let mut budget = ChainBudget::new(&chain(1, 1, 100, 100), 0, 3, 10);
        assert!(budget.fits(Pass::Shares, 0, &demand(33, 1, false)));
        assert!(!budget.fits(Pass::Shares, 0, &demand(34, 1, false)));
        assert!(!budget.fits(Pass::Shares, 0, &demand(1, 34, false)));
        budget.charge(0, &demand(33, 1, false));
        assert!(!budget.fits(Pass::Shares, 0, &demand(1, 0, false)));
        assert!(budget.fits(Pass::Shares, 1, &demand(33, 33, false)));
        assert!(budget.fits(Pass::Rest, 0, &demand(67, 99, false)));
        assert!(!budget.fits(Pass::Rest, 0, &demand(68, 0, false)));
        assert!(!budget.fits(Pass::Rest, 0, &demand(0, 100, false)));
        assert_eq!(budget.rest(), amount(67, 99));
    }

    #[test]
    fn open_entries_fit_the_open_share_only() {
        let mut budget = ChainBudget::new(&chain(1, 1, 100, 100), 0, 2, 10);
        assert!(budget.fits(Pass::Shares, 0, &demand(5, 5, true)));
        assert!(!budget.fits(Pass::Shares, 0, &demand(6, 5, true)));
        assert!(budget.fits(Pass::Rest, 0, &demand(10, 10, true)));
        assert!(!budget.fits(Pass::Rest, 0, &demand(10, 11, true)));
        budget.charge(0, &demand(5, 5, true));
        assert!(!budget.fits(Pass::Rest, 1, &demand(6, 0, true)));
        assert!(budget.fits(Pass::Rest, 1, &demand(95, 0, false)));
    }

    #[test]
    fn entries_of_a_gateway_leave_the_open_share_alone_until_the_bucket_is_empty() {
        let mut budget = ChainBudget::new(&chain(1, 1, 100, 100), 0, 1, 10);
        budget.charge(0, &demand(90, 0, false));
        assert!(budget.fits(Pass::Rest, 0, &demand(10, 0, true)));
        budget.charge(0, &demand(5, 0, false));
        assert!(!budget.fits(Pass::Rest, 0, &demand(6, 0, true)));
        assert!(budget.fits(Pass::Rest, 0, &demand(5, 0, true)));
    }

    #[test]
    fn only_what_a_full_bucket_holds_can_ever_fit() {
        let chain = chain(1, 1, 0, 0);
        let cases = [
            (demand(ENTRY_GAS_MAX, ENTRY_BYTES_MAX as u64, false), true),
            (demand(ENTRY_GAS_MAX + 1, 1, false), false),
            (demand(ENTRY_GAS_MAX / 10, 1, true), true),
            (demand(ENTRY_GAS_MAX / 10 + 1, 1, true), false),
        ];
        for (demand, expected) in cases {
            assert_eq!(can_ever_fit(&chain, 10, &demand), expected, "{demand:?}");
        }
    }

    #[test]
    fn share_of_a_lane_is_what_the_first_pass_gives_it_and_bounds_open_entries_too() {
        let chain = chain(1_000, 1_000, 60, 100);
        let share = lane_share(&chain, 40, 4, 10);
        assert_eq!(share, Usage { all: amount(25, 35), open: amount(2, 3) });
        let budget = ChainBudget::new(&chain, 40, 4, 10);
        for (gas, is_open) in [(25, false), (26, false), (2, true), (3, true)] {
            let demand = demand(gas, 1, is_open);
            let usage = Usage::default().plus(&demand);
            assert_eq!(usage.is_within(&share), budget.fits(Pass::Shares, 3, &demand));
            assert_eq!(usage.minus(&demand), Usage::default());
        }
        assert_eq!(lane_share(&chain, 40, 0, 10), Usage::default());
    }

    #[test]
    fn waiting_ends_with_the_pass_and_is_one_lanes_and_one_class_alone() {
        let mut budget = ChainBudget::new(&chain(1, 1, 100, 100), 0, 2, 10);
        budget.wait(1, true);
        assert!(!budget.is_waiting(0, true) && budget.is_waiting(1, true));
        assert!(!budget.is_waiting(1, false));
        budget.wait(1, false);
        assert!(budget.is_waiting(1, false));
        budget.begin_pass();
        assert!(!budget.is_waiting(1, true) && !budget.is_waiting(1, false));
    }

    #[test]
    fn what_exceeds_the_level_is_more_than_the_bucket_has_though_nothing_is_taken() {
        let mut budget = ChainBudget::new(&chain(1, 1, 100, 50), 0, 2, 10);
        let cases = [
            (demand(100, 50, false), false),
            (demand(101, 1, false), true),
            (demand(1, 51, false), true),
            (demand(10, 5, true), false),
            (demand(11, 1, true), true),
        ];
        budget.charge(0, &demand(100, 50, false));
        for (demand, expected) in cases {
            assert_eq!(budget.exceeds(&demand), expected, "{demand:?}");
        }
    }
}
