//! What the operating system and the nodes themselves say: CPU time, memory, disk, metrics.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use eyre::{OptionExt as _, WrapErr as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Milliseconds of a clock tick: Linux' `USER_HZ` is 100 on every architecture it matters for.
const TICK_MS: u64 = 10;

/// CPU time of processes since they began, user and system, in milliseconds.
#[must_use]
pub fn cpu_ms(pids: &[u32]) -> u64 {
    let ticks = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Fields 14 and 15, counted from 1; the name in parentheses may hold spaces.
        let rest = stat.rsplit_once(") ")?.1;
        let fields: Vec<&str> = rest.split(' ').collect();
        let user: u64 = fields.get(11)?.parse().ok()?;
        let system: u64 = fields.get(12)?.parse().ok()?;
        Some(user.saturating_add(system))
    };
    let all = pids.iter().filter_map(ticks).fold(0u64, u64::saturating_add);
    all.saturating_mul(TICK_MS)
}

/// Resident memory of the greatest of the processes, in KiB.
#[must_use]
pub fn resident_kib(pids: &[u32]) -> u64 {
    let resident = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    pids.iter().filter_map(resident).max().unwrap_or_default()
}

/// Bytes of all files below a directory.
#[must_use]
pub fn disk_bytes(directory: &Path) -> u64 {
    let Ok(files) = fs::read_dir(directory) else { return 0 };
    let size = |file: fs::DirEntry| match file.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&file.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    files.flatten().map(size).fold(0, u64::saturating_add)
}

/// A node's metrics, as it serves them.
///
/// # Errors
/// If it does not answer.
pub async fn metrics(port: u16) -> eyre::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect(address).await.wrap_err("asking for metrics")?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.wrap_err("asking for metrics")?;
    let mut answer = Vec::new();
    stream.take(8 << 20).read_to_end(&mut answer).await.wrap_err("reading metrics")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The whole number of a metric without labels.
///
/// # Errors
/// If there is no such metric.
pub fn value(metrics: &str, name: &str) -> eyre::Result<u64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.ok_or_eyre(format!("no metric {name}"))?;
    value.trim().parse().wrap_err_with(|| format!("metric {name}"))
}

/// Counts of a histogram's buckets, by their upper bound in microseconds, cumulative.
#[must_use]
pub fn buckets(metrics: &str, name: &str) -> Vec<(u64, u64)> {
    let prefix = format!("{name}_bucket{{le=\"");
    let bucket = |line: &str| {
        let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
        Some((micros(bound)?, count.trim().parse().ok()?))
    };
    metrics.lines().filter_map(bucket).collect()
}

/// Decimal seconds as whole microseconds; `+Inf` is none.
fn micros(seconds: &str) -> Option<u64> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)
}

/// The upper bound of the bucket that holds a percentile of what was counted between two readings.
#[must_use]
pub fn percentile(before: &[(u64, u64)], after: &[(u64, u64)], percent: u64) -> Option<u64> {
    let counts: Vec<(u64, u64)> = after
        .iter()
        .map(|(bound, count)| {
            let earlier = before.iter().find(|(b, _)| b == bound).map_or(0, |(_, count)| *count);
            (*bound, count.saturating_sub(earlier))
        })
        .collect();
    let total = counts.last()?.1;
    let wanted = total.saturating_mul(percent).div_ceil(100).max(1);
    counts.iter().find(|(_, count)| *count >= wanted).map(|(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_of_what_came_between_two_readings() {
        let text =
            "x_bucket{le=\"0.0005\"} 3\nx_bucket{le=\"0.001\"} 10\nx_bucket{le=\"+Inf\"} 10\n";
        let after = buckets(text, "x");
        assert_eq!(after, [(500, 3), (1_000, 10)]);
        assert_eq!(percentile(&[(500, 2), (1_000, 2)], &after, 50), Some(1_000));
        assert_eq!(percentile(&[], &after, 30), Some(500));
    }
}
