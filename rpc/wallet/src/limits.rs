//! Every bound of the wallets' port, with the reason for it. They protect the gateway; none changes what is valid.

use std::time::Duration;

use lockstep_core::limits::{EXPIRES_MS_MAX, TRANSACTION_BYTES_MAX};

/// Bytes of one HTTP body or WebSocket message from a client: three transactions of the greatest size, in hex.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Calls of one batch.
pub const BATCH_MAX: usize = 100;
/// Connections at a time.
pub const CONNECTIONS_MAX: usize = 2_048;
/// Connections at a time of one client (an IPv4 address, or an IPv6 /64). A proxy in front counts as one.
pub const CONNECTIONS_PER_CLIENT_MAX: usize = 256;
/// Requests that are being answered, over HTTP and WebSocket.
pub const IN_FLIGHT_MAX: usize = 512;
/// Answers of the engine that are held in memory at a time, because they are taken apart; the others are streamed.
pub const BUFFERED_ANSWERS_MAX: usize = 16;
/// Bytes of such an answer, and of one WebSocket message from the engine.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Signatures that are being checked or made; each takes 50 µs of one core.
pub const SIGNATURES_IN_FLIGHT_MAX: usize = 64;

/// How long a client may take for its body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the engine may take for one answer, to its last byte.
pub const ENGINE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long connecting to the engine may take.
pub const ENGINE_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection may be silent in both directions.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long ending may take after a stop.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// WebSocket connections at a time; each has one of its own to the engine.
pub const SOCKETS_MAX: usize = 512;
/// Calls of one WebSocket connection that are answered here at a time.
pub const SOCKET_CALLS_MAX: usize = 32;
/// A WebSocket client is asked so often whether it lives.
pub const SOCKET_PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long either end of a WebSocket connection may take for one message.
pub const SOCKET_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pending transactions of all senders.
pub const PENDING_MAX: usize = 16_384;
/// Bytes of them.
pub const PENDING_BYTES_MAX: usize = 64 << 20;
/// Pending transactions of one sender without a gap, as geth's `accountslots` is 16 and `accountqueue` 64.
pub const PENDING_PER_SENDER_MAX: usize = 64;
/// Transactions of one sender behind a gap of nonces.
pub const HELD_PER_SENDER_MAX: usize = 16;
/// How long a transaction waits behind a gap, or for a first validator, in milliseconds.
pub const HELD_MS_MAX: u64 = 30_000;
/// How long an entry lives that is submitted, in milliseconds.
pub const EXPIRES_MS: u64 = 30_000;
/// An entry with less life left than this gets a new expiry before it is submitted again, in milliseconds.
pub const RENEW_MS: u64 = 15_000;
/// How long a transaction is submitted again and again while its nonce is open, in milliseconds.
pub const LIFE_MS_MAX: u64 = 300_000;
/// A decided transaction that the chain has not included this many milliseconds of the chain's time later was skipped.
pub const INCLUSION_MS_MAX: u64 = 30_000;

/// A transaction that is not decided is submitted again after so long, in milliseconds.
pub const RESUBMIT_MS: u64 = 2_000;
/// How often the background looks what is due, and asks the engine what was included.
pub const TICK: Duration = Duration::from_secs(1);
/// Senders whose transactions are submitted again side by side.
pub const RESUBMITTED_SENDERS_MAX: usize = 32;

/// Validators that can be configured.
pub const ENDPOINTS_MAX: usize = lockstep_core::limits::VALIDATORS_MAX;
/// How long a client waits for the first validator to take its transaction.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(20);

const _: () = assert!(SOCKETS_MAX <= CONNECTIONS_MAX);
const _: () = assert!(3 * 2 * TRANSACTION_BYTES_MAX < BODY_BYTES_MAX);
const _: () = assert!(EXPIRES_MS <= EXPIRES_MS_MAX && RENEW_MS < EXPIRES_MS);
const _: () = assert!(SOCKET_PING_INTERVAL.as_secs() * 2 < IDLE_TIMEOUT.as_secs());
const _: () = assert!(ENGINE_TIMEOUT.as_secs() < IDLE_TIMEOUT.as_secs());
