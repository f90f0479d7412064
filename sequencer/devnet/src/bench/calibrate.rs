//! What this machine's cores do now: how long one signature check takes.

use std::time::{Duration, Instant};

use alloy_primitives::B256;
use lockstep_core::params::ChainKind;
use lockstep_core::transaction;
use lockstep_core::types::ChainId;

use crate::load::wallet::Wallet;

/// Transfers that are checked over and over.
const SAMPLE: usize = 512;

/// The machine's speed.
#[derive(Clone, Copy, Debug)]
pub struct Calibration {
    /// Checks of 110-byte transfers (decode, hash, recover) per second of one core.
    pub checks_per_second: u64,
    /// Cores.
    pub cores: u64,
}

impl Calibration {
    /// Measures for `duration` on one core.
    #[must_use]
    pub fn measure(duration: Duration) -> Self {
        let chain = ChainId(901);
        let mut wallet = Wallet::new(chain, 16, B256::repeat_byte(7));
        let transfers: Vec<_> = (0..SAMPLE).map(|_| wallet.transfer()).collect();
        let (start, mut checked) = (Instant::now(), 0u128);
        while start.elapsed() < duration {
            for transfer in &transfers {
                let is_valid = transaction::check(chain, ChainKind::Evm, transfer).is_ok();
                checked = checked.saturating_add(u128::from(is_valid));
            }
        }
        let micros = start.elapsed().as_micros().max(1);
        let rate = checked.saturating_mul(1_000_000).checked_div(micros).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { checks_per_second: u64::try_from(rate).unwrap_or(u64::MAX), cores: cores as u64 }
    }

    /// Transactions per second if the cores did nothing but check each of them `validators` times.
    #[must_use]
    pub fn bound(&self, validators: u64) -> u64 {
        let all = self.checks_per_second.saturating_mul(self.cores);
        all.checked_div(validators).unwrap_or_default()
    }
}
