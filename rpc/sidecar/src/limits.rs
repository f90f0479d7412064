//! Every bound of the sidecar, with the arithmetic that gave it. None changes what a block is offered.

use std::time::Duration;

/// Bytes of one body from op-node: a payload of 15 MiB as hex, and some. op-geth's own limit for the Engine API is 128 MiB.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Calls from op-node that are being answered.
pub const CALLS_MAX: usize = 64;

/// The longest `getPayload` is held, with one block time: while it is held op-node does nothing else.
pub const HOLD_MAX: Duration = Duration::from_secs(2);
/// Holds of `getPayload` without a block after which health says so.
pub const FAILURES_MAX: u32 = 4;
/// The same as the least time: a chain of short blocks may stumble.
pub const PATIENCE_MIN: Duration = Duration::from_secs(5);
/// How long jobs on a parent older than a safe head seen before are put off, so that derivation comes first.
pub const OLD_PARENT_PAUSE: Duration = Duration::from_secs(5);
/// Jobs that are remembered: op-geth itself tracks 10 payloads.
pub const JOBS_MAX: usize = 16;
/// Times an engine may refuse one job's items before nothing is offered on that parent.
pub const REFUSALS_MAX: usize = 256;
/// Times an engine may take a list of items that it refused before, in one job, until it is asked again later.
pub const CONTRADICTIONS_MAX: usize = 3;
/// How long the engine may take to tell a state: a job waits for it, and its window closed 700 ms before its time.
pub const STATE_TIMEOUT: Duration = Duration::from_millis(300);
/// Between two looks at a parent whose cursor is not known yet, and at an engine that cannot build now.
pub const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Between two looks at whether a block that was sealed without the log can be recorded.
pub const RECORD_LATER: Duration = Duration::from_millis(500);
/// Fewest refusals that guesses must save: a block that is built to prove them, and does not, costs as much as one.
pub const GUESSES_MIN: usize = 4;

/// Blocks out of the engine's own `getPayload` that are remembered.
pub const BLOCKS_KEPT_MAX: usize = 256;
/// Bytes of blocks that came by which are kept, to walk without asking the engine: minutes of full blocks.
pub const BLOCK_BYTES_KEPT_MAX: usize = 32 << 20;
/// Bytes of payloads that are kept as op-node brought them, to be given back to an engine that lost them: some minutes of full
/// blocks, hours of small ones. An engine may lose what is not safe yet, and a batcher posts within minutes.
pub const BROUGHT_BYTES_KEPT_MAX: usize = 48 << 20;
/// Payloads that wait for the disk.
pub const PAYLOADS_WAITING_MAX: usize = 64;
/// How long blocks are given back to an engine within one call of op-node, which gives up after 10 s.
pub const RESTORE_PATIENCE: Duration = Duration::from_secs(8);
/// Cursors that are kept for the next start: what a restart needs, and a reorg of some minutes.
pub const CURSORS_KEPT_MAX: usize = 256;

/// Bytes of the newest log blocks that are kept in memory: an hour and more of an idle log, a minute at 1 MiB a second. Older
/// ones are asked for again.
pub const LOG_BYTES_KEPT_MAX: usize = 64 << 20;
/// Bytes of older log blocks that were asked for again: a chain that catches up walks through them.
pub const OLDER_BYTES_KEPT_MAX: usize = 64 << 20;
/// Heights that are asked for at a time: a minute of the log, which is no more than is kept at 1 MiB a second.
pub const HEIGHTS_AT_ONCE: u64 = 240;
/// Endpoints of committee nodes.
pub const ENDPOINTS_MAX: usize = 16;
/// An endpoint that gives no log block for so long is left alone while another one does.
pub const ENDPOINT_SILENT: Duration = Duration::from_secs(5);
/// How long an endpoint may take for one answer while another one can be asked: it builds a range for 3 s at most.
pub const ENDPOINT_ANSWER: Duration = Duration::from_secs(5);
/// Least and greatest pause before an endpoint is tried again.
pub const ENDPOINT_RETRY: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(10));

/// How long a job waits for another's record of a block without users' transactions, before this sidecar says what it was.
/// A record that was submitted before is decided within a few log blocks.
pub const RECORD_PATIENCE: Duration = Duration::from_secs(1);
/// Records that wait for the log.
pub const RECORDS_WAITING_MAX: usize = 4_096;
/// A record that the log does not show yet is submitted again so often.
pub const RECORD_RETRY: Duration = Duration::from_secs(2);
/// How long a record's entry may wait for a log block, in milliseconds.
pub const RECORD_EXPIRES_MS: u64 = 30_000;
/// Records of a chain that a cold start looks at before it walks from where the chain joined.
pub const RECORDS_LOOKED_AT_MAX: usize = 256;
/// Heights with limits that are asked for at a time, where a walk begins below what is known.
pub const LIMITS_AT_ONCE: u32 = 64;
/// Blocks whose skipped items the wallets' port has not heard of yet; more are not told, and its pending nonces free
/// themselves later.
pub const SKIPS_WAITING_MAX: usize = 64;

const _: () = assert!(
    LOG_BYTES_KEPT_MAX + OLDER_BYTES_KEPT_MAX + BLOCK_BYTES_KEPT_MAX + BROUGHT_BYTES_KEPT_MAX
        <= 208 << 20,
    "a sidecar stays below 256 MiB"
);
