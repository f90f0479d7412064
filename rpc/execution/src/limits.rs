//! Every bound of the client, with the arithmetic that gave it. None changes what a block is.

use std::time::Duration;

/// Bytes of one answer of the engine: op-geth's response limit for the Engine API.
pub const ENGINE_ANSWER_BYTES_MAX: usize = 128 << 20;
/// Calls in one body to the engine: op-geth takes 2,000.
pub const BATCH_CALLS_MAX: usize = 1_000;
/// How long the engine may take for one call. op-node gives up after 10 s itself.
pub const ENGINE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it may take to look a block up. A job waits for it, so a lost answer is asked for again.
pub const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long connecting may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a chain's public JSON-RPC may take for one call of a node, which asks again.
pub const CHAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one answer of it: a block with 100,000 transaction hashes of 69 bytes, and some.
pub const CHAIN_ANSWER_BYTES_MAX: usize = 8 << 20;
/// Bytes of an engine's error that are shown.
pub const MESSAGE_BYTES_MAX: usize = 256;
