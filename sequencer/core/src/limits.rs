//! Every bound of the protocol, with the arithmetic that gave it. All nodes of a version share these; a
//! node's own options never change what is valid.

/// Milliseconds an entry may live after the block's time; also the length of the dedup window.
pub const EXPIRES_MS_MAX: u64 = 60_000;

/// Milliseconds of log time an item may lie before the end of a window and still be offered: it waits behind windows no
/// longer than an entry may wait before the log. So long may a block be unresolved, too, after its window closed.
pub const BACKLOG_MS_MAX: u64 = 60_000;

/// Bytes of one transaction: 128 KiB, op-geth's `txMaxSize`.
pub const TRANSACTION_BYTES_MAX: usize = 128 << 10;
/// Gas that one transaction counts for at least in an offer: no valid one declares less, and so no offer has more
/// transactions than its block's gas limit has room for, whatever junk declares.
pub const TRANSACTION_GAS_MIN: u64 = 21_000;
/// Gas that one transaction may declare unless its chain's parameters say otherwise: 2^24, the cap of EIP-7825. Declared gas
/// that is not used costs its sender nothing, and takes the place of others.
pub const TRANSACTION_GAS_MAX_DEFAULT: u64 = 1 << 24;
/// Legs of one bundle.
pub const LEGS_MAX: usize = 16;
/// Fewest legs of a bundle: one leg is a transaction list of one chain, which needs no bundle.
pub const LEGS_MIN: usize = 2;
/// Transactions of one leg.
pub const LEG_TRANSACTIONS_MAX: usize = 16;
/// Bytes of one entry's encoding, bundles included: two transactions of the greatest size, and some.
pub const ENTRY_BYTES_MAX: usize = 288 << 10;
/// Gas that one entry may declare on one chain: twice the largest OP block gas limit in use (60 M), rounded up.
pub const ENTRY_GAS_MAX: u64 = 128_000_000;
/// Bytes of one record's encoding: `Sealed` with [`RECORD_SKIPPED_MAX`] reasons of 8 bytes, and some.
pub const RECORD_BYTES_MAX: usize = 32 << 10;
/// Skipped items that one `Sealed` record names.
pub const RECORD_SKIPPED_MAX: usize = 2_048;
/// Refused items that blocks pass on to their descendants. They stand in each `Sealed` record, with as many other skipped
/// items.
pub const REFUSED_MAX: usize = RECORD_SKIPPED_MAX / 2;
/// Records of one chain in one log block.
pub const RECORDS_PER_CHAIN_MAX: usize = 16;

/// Entries of one batch.
pub const BATCH_ENTRIES_MAX: usize = 4_096;
/// Bytes of one batch's encoding. A lane's frame, and the unit that is stored as one value.
pub const BATCH_BYTES_MAX: usize = 512 << 10;
/// Bytes of a batch besides its entries: fixed fields, signature, RLP headers.
pub const BATCH_OVERHEAD_BYTES_MAX: usize = 512;

/// Batches that one cut may add, over all lanes.
pub const CUT_BATCHES_MAX: usize = 512;
/// Entries that one cut may add, over all lanes: 80,000 a second at an interval of 250 ms.
pub const CUT_ENTRIES_MAX: usize = 20_000;
/// Bytes of the batches that one cut may add, over all lanes: 16 MiB a second at an interval of 250 ms.
pub const CUT_BYTES_MAX: usize = 4 << 20;
/// Bytes per second of log time that each lane may add for nothing beside a share of the chains' budgets, which may be
/// next to nothing: some eighty copies of small entries that other lanes have, too.
pub const WASTE_BYTES_PER_SECOND: u64 = 16 << 10;

/// Bytes of batches a lane may be ahead of the log before validators stop acknowledging it.
pub const LANE_AHEAD_BYTES_MAX: usize = 32 << 20;
/// Batches a lane may be ahead of the log before validators stop acknowledging it.
pub const LANE_AHEAD_BATCHES_MAX: usize = 4_096;
/// Entries of batches a lane may be ahead of the log before validators stop acknowledging it. One takes some 600 bytes of
/// memory beside its own.
pub const LANE_AHEAD_ENTRIES_MAX: usize = 80_000;

/// Validators of a set.
pub const VALIDATORS_MAX: usize = 100;
/// Registered chains.
pub const CHAINS_MAX: usize = 1_024;
/// Sequencer keys, and gateways, of one chain.
pub const CHAIN_KEYS_MAX: usize = 16;

/// Bytes of a header's encoding: six hashes, two addresses' worth of small numbers, and some.
pub const HEADER_BYTES_MAX: usize = 512;
/// Bytes of a cut's encoding: 100 lanes of address, two numbers and digest.
pub const CUT_ENCODED_BYTES_MAX: usize = 100 * VALIDATORS_MAX;
/// Bytes of a certificate's encoding: 100 signatures of address and 65 bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 128 * VALIDATORS_MAX;

/// Bytes of a synced value: header, cut, and every batch of the cut.
pub const SYNCED_VALUE_BYTES_MAX: usize =
    HEADER_BYTES_MAX + CUT_ENCODED_BYTES_MAX + CUT_BYTES_MAX + 16 * CUT_BATCHES_MAX;
/// Bytes of one part of a proposal.
pub const PART_BYTES_MAX: usize = 256 << 10;
/// Parts of one proposal, the first one and the end included.
pub const PARTS_MAX: usize = SYNCED_VALUE_BYTES_MAX / PART_BYTES_MAX + 3;
/// Bytes of one answer to a value sync request: one value of the greatest size always fits.
pub const SYNC_RESPONSE_BYTES_MAX: usize = 10 << 20;
/// Bytes of one frame between validators.
pub const FRAME_BYTES_MAX: usize = 12 << 20;

/// Items of one slice: an entry puts at most one into a chain's slice.
pub const SLICE_ITEMS_MAX: usize = CUT_ENTRIES_MAX;
/// Heights of one slice range request.
pub const SLICE_RANGE_MAX: u64 = 1_000;

/// Validator set changes that one light client request bridges.
pub const HANDOVERS_MAX: usize = 1_000;
/// Age of a light client's trusted header, in milliseconds: 14 days.
pub const TRUST_MS: u64 = 14 * 24 * 3_600 * 1_000;

/// Blocks, records and limits of a chain that its reader remembers: over two hours at a block time of one second, and deeper
/// than any reorg of unsafe blocks within the sequencing window's usual use. Older ones are found by records.
pub const READER_BLOCKS_MAX: usize = 8_192;
/// Blocks that are walked at most from one whose cursor is known to another: 18 hours at a block time of one second, 7 MiB of
/// headers. What is behind that needs a record.
pub const READER_WALK_MAX: usize = 1 << 16;

const _: () =
    assert!(BACKLOG_MS_MAX <= EXPIRES_MS_MAX, "an offer spans no more than the dedup window");
const _: () = assert!(TRANSACTION_BYTES_MAX * 2 < ENTRY_BYTES_MAX);
const _: () = assert!(TRANSACTION_GAS_MAX_DEFAULT <= ENTRY_GAS_MAX);
const _: () = assert!(RECORD_BYTES_MAX < ENTRY_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_MAX + BATCH_OVERHEAD_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= CUT_BYTES_MAX, "a single batch always fits a cut");
const _: () = assert!(BATCH_ENTRIES_MAX <= CUT_ENTRIES_MAX);
const _: () = assert!(CUT_BYTES_MAX * 4 <= LANE_AHEAD_BYTES_MAX);
const _: () = assert!(CUT_ENTRIES_MAX * 4 <= LANE_AHEAD_ENTRIES_MAX);
const _: () = assert!(SYNCED_VALUE_BYTES_MAX + CERTIFICATE_BYTES_MAX <= SYNC_RESPONSE_BYTES_MAX);
const _: () = assert!(SYNC_RESPONSE_BYTES_MAX + (64 << 10) <= FRAME_BYTES_MAX);
const _: () = assert!(PART_BYTES_MAX < FRAME_BYTES_MAX);
