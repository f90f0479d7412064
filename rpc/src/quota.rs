//! Quotas per client: a token bucket of submissions and one of bytes, refilled as time goes.
//!
//! Plain data: the time is an argument. A client is a certificate that the operator's authority signed, else an IPv4
//! address or an IPv6 /64, which is what one customer of a provider gets. Whoever is over its quota is told when to come back; a refused submission costs nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use alloy_primitives::{B256, keccak256};
use lockstep_core::limits::ENTRY_BYTES_MAX;
use lockstep_core::token_bucket::TokenBucket;
use lockstep_proto::error::{ErrorCode, Refusal};

use crate::limits::QUOTA_CLIENTS_MAX;

/// Seconds a bucket takes to fill: a client may send two seconds' worth at once.
const FILL_SECONDS: u64 = 2;

/// What one client may submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaConfig {
    /// Submissions per second, 1..=1,000,000; twice as many at once. Default 20,000.
    pub submissions_per_second: u64,
    /// Bytes of entries per second, 1..=2^30; twice as many at once, and always one entry of the greatest size.
    /// Default 16 MiB.
    pub bytes_per_second: u64,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self { submissions_per_second: 20_000, bytes_per_second: 16 << 20 }
    }
}

impl QuotaConfig {
    /// Greatest submissions per second.
    pub const SUBMISSIONS_PER_SECOND_MAX: u64 = 1_000_000;
    /// Greatest bytes per second.
    pub const BYTES_PER_SECOND_MAX: u64 = 1 << 30;

    /// Whether both rates are within their ranges.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        (1..=Self::SUBMISSIONS_PER_SECOND_MAX).contains(&self.submissions_per_second)
            && (1..=Self::BYTES_PER_SECOND_MAX).contains(&self.bytes_per_second)
    }
}

/// Whose quota it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// A known client: keccak256 of its TLS certificate in DER.
    Known(B256),
    /// A client known by its address.
    Address(IpAddr),
    /// All clients without an address, and those for whom there is no room.
    Others,
}

impl Client {
    /// The client with this certificate (DER), which was verified.
    #[must_use]
    pub fn known(certificate: &[u8]) -> Self {
        Self::Known(keccak256(certificate))
    }

    /// Whether it proved who it is.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }

    /// The client behind an address.
    #[must_use]
    pub fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Others,
            Some(IpAddr::V4(address)) => Self::Address(address.into()),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Address(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Account {
    submissions: TokenBucket,
    bytes: TokenBucket,
}

impl Account {
    fn full(config: &QuotaConfig) -> Self {
        let QuotaConfig { submissions_per_second, bytes_per_second } = *config;
        let at_once = |rate: u64| rate.saturating_mul(FILL_SECONDS);
        let entry = ENTRY_BYTES_MAX as u64;
        Self {
            submissions: TokenBucket::full(submissions_per_second, at_once(submissions_per_second)),
            bytes: TokenBucket::full(bytes_per_second, at_once(bytes_per_second).max(entry)),
        }
    }

    fn refill(&mut self, now: Duration) {
        self.submissions.refill(now);
        self.bytes.refill(now);
    }

    const fn is_full(&self) -> bool {
        self.submissions.is_full() && self.bytes.is_full()
    }

    fn take(&mut self, bytes: u64) -> Result<(), Refusal> {
        for (what, bucket, tokens) in
            [("submissions", &self.submissions, 1), ("bytes", &self.bytes, bytes)]
        {
            let wait = bucket.wait(tokens);
            if !wait.is_zero() {
                let rate = bucket.per_second();
                let reason = format!("over this client's quota of {rate} {what} per second");
                let wait_ms = wait.as_nanos().div_ceil(1_000_000);
                let wait_ms = u64::try_from(wait_ms).unwrap_or(u64::MAX);
                return Err(Refusal::new(ErrorCode::OverQuota, reason).retry_after(wait_ms));
            }
        }
        self.submissions.take(1);
        self.bytes.take(bytes);
        Ok(())
    }
}

/// The accounts of all clients; at most [`QUOTA_CLIENTS_MAX`], and one that the others share.
#[derive(Clone, Debug)]
pub struct Quotas {
    config: QuotaConfig,
    /// When the first was charged: the buckets count from here.
    start: Option<Instant>,
    accounts: BTreeMap<Client, Account>,
}

impl Quotas {
    /// No client has sent anything yet.
    #[must_use]
    pub const fn new(config: QuotaConfig) -> Self {
        Self { config, start: None, accounts: BTreeMap::new() }
    }

    /// Charges submissions of so many bytes each, one answer per submission. A refused one is not charged, so a small
    /// one behind a large one may still pass.
    pub fn take(
        &mut self,
        client: Client,
        now: Instant,
        sizes: impl IntoIterator<Item = u64>,
    ) -> Vec<Result<(), Refusal>> {
        let now = now.saturating_duration_since(*self.start.get_or_insert(now));
        let account = self.account(client, now);
        account.refill(now);
        sizes.into_iter().map(|bytes| account.take(bytes)).collect()
    }

    fn account(&mut self, client: Client, now: Duration) -> &mut Account {
        let is_full = self.accounts.len() >= QUOTA_CLIENTS_MAX;
        let client = if is_full && !self.accounts.contains_key(&client) {
            self.forget_idle(now);
            match self.accounts.len() < QUOTA_CLIENTS_MAX {
                true => client,
                false => Client::Others,
            }
        } else {
            client
        };
        let config = &self.config;
        self.accounts.entry(client).or_insert_with(|| Account::full(config))
    }

    /// A full account is as good as none.
    fn forget_idle(&mut self, now: Duration) {
        self.accounts.retain(|_, account| {
            account.refill(now);
            !account.is_full()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: QuotaConfig = QuotaConfig { submissions_per_second: 10, bytes_per_second: 1_000 };

    fn client(n: u32) -> Client {
        Client::of(Some(IpAddr::V4(n.into())))
    }

    fn accepted(results: &[Result<(), Refusal>]) -> usize {
        results.iter().filter(|result| result.is_ok()).count()
    }

    #[test]
    fn two_seconds_worth_pass_at_once_and_then_the_rate() {
        let (mut quotas, start) = (Quotas::new(CONFIG), Instant::now());
        let results = quotas.take(client(1), start, [1; 30]);
        assert_eq!(accepted(&results), 20);
        let refusal = results[20].clone().unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after_ms), (ErrorCode::OverQuota, Some(100)));
        let later = start + Duration::from_millis(99);
        assert_eq!(accepted(&quotas.take(client(1), later, [1])), 0);
        let later = start + Duration::from_millis(100);
        assert_eq!(accepted(&quotas.take(client(1), later, [1; 5])), 1);
        let later = later + Duration::from_secs(60);
        assert_eq!(accepted(&quotas.take(client(1), later, [1; 99])), 20);
    }

    #[test]
    fn bytes_are_counted_too_and_the_greatest_entry_fits_once() {
        let (mut quotas, start) = (Quotas::new(CONFIG), Instant::now());
        let entry = ENTRY_BYTES_MAX as u64;
        let results = quotas.take(client(1), start, [entry, 1, entry]);
        assert_eq!(accepted(&results), 1);
        assert_eq!(results[1].clone().unwrap_err().retry_after_ms, Some(1));
        assert!(results[2].clone().unwrap_err().reason.contains("bytes per second"));
    }

    #[test]
    fn a_refused_submission_costs_nothing() {
        let (mut quotas, start) = (Quotas::new(CONFIG), Instant::now());
        let entry = ENTRY_BYTES_MAX as u64;
        let results = quotas.take(client(1), start, [entry - 10, 11, 10]);
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn clients_do_not_share_but_one_ipv6_network_does() {
        let (mut quotas, start) = (Quotas::new(CONFIG), Instant::now());
        assert_eq!(accepted(&quotas.take(client(1), start, [1; 30])), 20);
        assert_eq!(accepted(&quotas.take(client(2), start, [1; 30])), 20);
        let of = |text: &str| Client::of(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_eq!(Client::of(None), Client::Others);
    }

    #[test]
    fn the_table_of_clients_is_bounded_and_forgets_the_idle() {
        let (mut quotas, start) = (Quotas::new(CONFIG), Instant::now());
        let many = u32::try_from(QUOTA_CLIENTS_MAX).unwrap() + 10;
        for n in 0..many {
            quotas.take(client(n), start, [1]);
        }
        assert!(quotas.accounts.len() <= QUOTA_CLIENTS_MAX + 1);
        assert!(quotas.accounts.contains_key(&Client::Others));
        quotas.take(client(many), start + Duration::from_secs(60), [1]);
        assert_eq!(quotas.accounts.len(), 1);
    }

    #[test]
    fn rates_out_of_range_are_not_valid() {
        assert!(QuotaConfig::default().is_valid() && CONFIG.is_valid());
        assert!(!QuotaConfig { submissions_per_second: 0, ..CONFIG }.is_valid());
        assert!(!QuotaConfig { bytes_per_second: (1 << 30) + 1, ..CONFIG }.is_valid());
    }
}
