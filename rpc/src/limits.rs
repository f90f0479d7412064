//! Every bound of the services, with the arithmetic that gave it. They protect a node; none changes what is valid.

use std::time::Duration;

use lockstep_core::limits::{CERTIFICATE_BYTES_MAX, SYNCED_VALUE_BYTES_MAX};
use lockstep_proto::convert::ingress::WAIT_MS_MAX;
use lockstep_proto::convert::log::{PROOF_BYTES_MAX, RANGE_BYTES_MAX, SLICE_BYTES_MAX};

/// Bytes of one message from a client: three entries of the greatest size, or 9,000 small transactions.
pub const MESSAGE_IN_BYTES_MAX: usize = 1 << 20;
/// Bytes of one message to a client: a range of slices is the greatest.
pub const MESSAGE_OUT_BYTES_MAX: usize = RANGE_BYTES_MAX + (64 << 10);

/// gRPC connections at a time; the node allows fewer where it has few file descriptors.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Connections at a time of one client (an IPv4 address, or an IPv6 /64).
pub const CONNECTIONS_PER_CLIENT_MAX: usize = 64;
/// HTTP/2 streams of one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Calls of one connection that are being answered; more are refused at once.
pub const CALLS_PER_CONNECTION_MAX: usize = 64;
/// The gRPC library's own limit of them, behind ours so that ours gives the typed answer.
pub const CALLS_PER_CONNECTION_BACKSTOP: usize = 2 * CALLS_PER_CONNECTION_MAX;
/// Long-lived server streams (slices, blocks, states) at a time, over all connections.
pub const STREAMS_MAX: usize = 1_024;
/// Of the streams: those of one client.
pub const STREAMS_PER_CLIENT_MAX: usize = 256;
/// Of the streams: those that only known clients may have.
pub const STREAMS_RESERVED: usize = 256;
/// Hint for a client for whom there is no call or stream left, in milliseconds.
pub const RETRY_AFTER_MS: u64 = 1_000;

/// How long a client may take for its first bytes, and for a TLS handshake.
pub const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that count as a beginning: the length of HTTP/2's preface.
pub const FIRST_BYTES: usize = 24;
/// How long a call may take to its first answer. Streams live on.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The gRPC library's own timeout, behind ours so that ours gives the typed answer.
pub const CALL_TIMEOUT_BACKSTOP: Duration = Duration::from_secs(12);
/// After so long without a call that is being answered, a connection is closed. Clients open another by themselves.
pub const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// A silent connection is asked so often whether it lives.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to answer that.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long a connection takes no new calls, and the client opens another. Its streams go on to their end: there
/// is no grace period after which they would be cut.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// Bytes of all connections that clients may have sent and no service has read.
pub const UNREAD_BYTES_MAX: usize = 1 << 30;
/// Of them, those of one connection: 2.5 MB/s at a round trip of 100 ms.
pub const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// Of them, those of one stream: one that its service does not read may stop its own connection, and no other.
pub const STREAM_WINDOW_BYTES: u32 = CONNECTION_WINDOW_BYTES;
/// Bytes of one answer that may be on the way to our own client unread.
pub const CLIENT_STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of one connection that may be on the way to our own client unread.
pub const CLIENT_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How long our own client may take to connect to a validator.
pub const ENDPOINT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a validator may take for one submission.
pub const ENDPOINT_CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// A validator that did not answer is left alone for so long.
pub const ENDPOINT_REST: Duration = Duration::from_secs(2);
/// Submissions to one validator at a time, below what it refuses.
pub const ENDPOINT_CALLS_MAX: usize = 48;
/// Bytes of all headers of one call.
pub const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Streams that a client reset before they were accepted (CVE-2023-44487).
pub const PENDING_RESET_STREAMS_MAX: usize = 20;
/// Streams that this side reset because the client broke the protocol.
pub const LOCAL_RESET_STREAMS_MAX: usize = 1_024;
/// How long shutting down waits for calls and streams to end.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads of the store at a time: more would only wait for the same disk.
pub const READS_MAX: usize = 32;
/// Of the reads at a time: those of one client.
pub const READS_PER_CLIENT_MAX: usize = 8;
/// Of the reads at a time: those that only known clients may have.
pub const READS_RESERVED: usize = 8;
/// Heights, the head and those before it, of which each is read once for all streams and calls: 16 s of the log.
pub const RECENT_HEIGHTS_MAX: u64 = 64;
/// Bytes of the slices of those heights that are held, with the messages made of them; and as many of the full blocks.
/// Half a MiB per height, or two heights of the greatest size.
pub const RECENT_BYTES_MAX: usize = 32 << 20;
/// Searches of the store for an id at a time. One that finds nothing looks everywhere, with a lock that commits wait for.
pub const SEARCHES_MAX: usize = 4;
/// Of the searches at a time: those of one client.
pub const SEARCHES_PER_CLIENT_MAX: usize = 1;
/// Of the searches at a time: those that only known clients may have.
pub const SEARCHES_RESERVED: usize = 1;
/// Entries at a time whose signatures the node is given to check: one message of the greatest size, 0.2 s of one core.
pub const CHECKS_MAX: usize = 4_096;
/// Of the checks at a time: those of one client, unless one message of it has more.
pub const CHECKS_PER_CLIENT_MAX: usize = 2_048;
/// Of the checks at a time: those that only known clients may have.
pub const CHECKS_RESERVED: usize = 1_024;
/// Reads that wait for their turn, and as many messages whose checks do.
pub const WAITING_MAX: usize = 8_192;
/// Of what waits: that of one client. All its streams may wait for a read, and as many calls beside.
pub const WAITING_PER_CLIENT_MAX: usize = 2 * STREAMS_PER_CLIENT_MAX;
/// Of what waits: that which only known clients may have.
pub const WAITING_RESERVED: usize = 2_048;
/// Messages of one submission stream that are being worked on.
pub const STREAM_IN_FLIGHT_MAX: usize = 8;
/// Messages that wait for a slow reader of a stream: the next is not even read from the store before.
pub const STREAM_QUEUE_MAX: usize = 1;
/// How long the reason for which a stream ends waits for its reader.
pub const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a reader of a stream may take for one message.
pub const READER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a watched entry may show nothing new before a chain has it: five times as long as an entry lives.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(300);
/// The same from then on: a chain's batches and L1's finality take their time.
pub const WATCH_OUTCOME_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Bytes of a range answer after which the rest is left for the next call; one slice of the greatest size may follow.
pub const RANGE_BYTES_TARGET: usize = 1 << 20;
/// How long one range answer may be built before the rest is left for the next call.
pub const RANGE_BUILD_TIMEOUT: Duration = Duration::from_secs(3);

/// Clients whose quota is counted one by one; those beyond share one.
pub const QUOTA_CLIENTS_MAX: usize = 16_384;

/// Connections for health and metrics at a time.
pub const HTTP_CONNECTIONS_MAX: usize = 64;
/// Those of one client.
pub const HTTP_CONNECTIONS_PER_CLIENT_MAX: usize = 16;
/// How long a connection for health and metrics may take for its one request and answer.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = assert!(CONNECTIONS_MAX * CONNECTION_WINDOW_BYTES as usize <= UNREAD_BYTES_MAX);
const _: () = assert!(ENDPOINT_CALLS_MAX < CALLS_PER_CONNECTION_MAX);
const _: () = assert!(SYNCED_VALUE_BYTES_MAX + CERTIFICATE_BYTES_MAX < MESSAGE_OUT_BYTES_MAX);
const _: () = assert!(RANGE_BYTES_TARGET + SLICE_BYTES_MAX + PROOF_BYTES_MAX < RANGE_BYTES_MAX);
const _: () = assert!(WAIT_MS_MAX < CALL_TIMEOUT.as_secs() * 1_000, "a wait ends before its call");
const _: () = assert!(RECENT_BYTES_MAX >= 2 * (2 * SLICE_BYTES_MAX + PROOF_BYTES_MAX));
