//! Records of the guard's file: 256 bytes each, so no length can be wrong, and a record never spans two sectors.
//!
//! ```text
//! byte  0         kind: 1 head, 2 floor, 3 signed
//! byte  1         head: version (1); signed: step (1 proposal, 2 prevote, 3 precommit)
//! 2     u8        head: mark (0 none, 1 fresh, 2 lost)
//! 4     u64 BE    signed: height; head and floor: nothing is signed up to this height
//! 12    u32 BE    signed: round
//! 16    u32 BE    signed: 0 for no valid round, else valid round + 1
//! 20    32 bytes  signed: block hash, zero for nil; head: network id
//! 52    65 bytes  signed: signature; head: 20 bytes address, then u64 BE when the mark was made, ms since 1970
//! 117   65 bytes  proposal: signature over the first part
//! 182   37 bytes  zero
//! 219   32 bytes  chain: keccak256 of the record before's chain (zero for the first) and bytes 0..219
//! 251   u32 BE    CRC-32 of bytes 0..251
//! 255   0xa5      so that a record is never a prefix of itself followed by zeros
//! ```
//!
//! The first record is a head; no other is. Its mark holds until a floor follows; a fresh one also until a message does.

use alloy_primitives::{Address, B256, Keccak256};
use lockstep_core::signing::Signature;
use lockstep_core::types::{BlockHash, Height, NetworkId, Round, UnixMillis};

use super::{Mark, MessageId, Origin, Step};

/// Bytes of a record.
pub(super) const RECORD_BYTES: usize = 256;
/// The version of this layout.
pub(super) const VERSION: u8 = 1;
/// The last byte of a record.
pub(super) const END: u8 = 0xa5;

const CHAIN: usize = 219;
const CRC: usize = 251;
const _: () = assert!(CRC + 5 == RECORD_BYTES && CHAIN + 32 == CRC);

/// A message that was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedMessage {
    /// Height, round, step.
    pub id: MessageId,
    /// The block; zero for a nil vote.
    pub block: BlockHash,
    /// The valid round of a proposal.
    pub valid_round: Option<Round>,
    /// The signature.
    pub signature: Signature,
    /// The signature over the first part; proposals have it, votes do not.
    pub part: Option<Signature>,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// Whose file it is, in which version, the floor, and the mark it was made with.
    Head { version: u8, network: NetworkId, address: Address, floor: Height, mark: Option<Mark> },
    /// The floor is raised.
    Floor(Height),
    /// A message is signed.
    Signed(SignedMessage),
}

/// Writes bytes at an offset of a record.
fn put(bytes: &mut [u8; RECORD_BYTES], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// Reads bytes at an offset of a record.
fn get<const N: usize>(bytes: &[u8; RECORD_BYTES], at: usize) -> Option<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied()
}

fn chain_of(before: B256, body: &[u8]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(before);
    hasher.update(body);
    hasher.finalize()
}

impl Record {
    /// The record's bytes and its chain, behind a record with the chain `before`.
    pub(super) fn to_bytes(self, before: B256) -> ([u8; RECORD_BYTES], B256) {
        let mut bytes = [0; RECORD_BYTES];
        match self {
            Self::Head { version, network, address, floor, mark } => {
                put(&mut bytes, 0, &[1, version]);
                put_mark(&mut bytes, mark);
                put(&mut bytes, 4, &floor.0.to_be_bytes());
                put(&mut bytes, 20, network.0.as_slice());
                put(&mut bytes, 52, address.as_slice());
            }
            Self::Floor(floor) => {
                put(&mut bytes, 0, &[2]);
                put(&mut bytes, 4, &floor.0.to_be_bytes());
            }
            Self::Signed(message) => put_message(&mut bytes, &message),
        }
        let chain = chain_of(before, bytes.get(..CHAIN).unwrap_or_default());
        put(&mut bytes, CHAIN, chain.as_slice());
        let crc = crc32fast::hash(bytes.get(..CRC).unwrap_or_default());
        put(&mut bytes, CRC, &crc.to_be_bytes());
        put(&mut bytes, CRC.saturating_add(4), &[END]);
        (bytes, chain)
    }

    /// Reads a record behind one with the chain `before`, and its chain. `None` if a single bit of it is wrong: what
    /// is read must write the same bytes.
    pub(super) fn from_bytes(bytes: &[u8; RECORD_BYTES], before: B256) -> Option<(Self, B256)> {
        let number = |at| get(bytes, at).map(u64::from_be_bytes);
        let record = match bytes {
            [1, version, ..] => Self::Head {
                version: *version,
                network: NetworkId(B256::new(get(bytes, 20)?)),
                address: Address::new(get(bytes, 52)?),
                floor: Height(number(4)?),
                mark: get_mark(bytes)?,
            },
            [2, ..] => Self::Floor(Height(number(4)?)),
            [3, ..] => Self::Signed(get_message(bytes)?),
            _ => return None,
        };
        let (same, chain) = record.to_bytes(before);
        (same == *bytes).then_some((record, chain))
    }
}

/// Writes a head's mark; without one its bytes are zero.
fn put_mark(bytes: &mut [u8; RECORD_BYTES], mark: Option<Mark>) {
    let Some(Mark { origin, made_at }) = mark else { return };
    let origin = match origin {
        Origin::Fresh => 1,
        Origin::Lost => 2,
    };
    put(bytes, 2, &[origin]);
    put(bytes, 72, &made_at.0.to_be_bytes());
}

/// Reads a head's mark; the outer `None` if there is no such mark.
fn get_mark(bytes: &[u8; RECORD_BYTES]) -> Option<Option<Mark>> {
    let origin = match bytes {
        [_, _, 0, ..] => return Some(None),
        [_, _, 1, ..] => Origin::Fresh,
        [_, _, 2, ..] => Origin::Lost,
        _ => return None,
    };
    let made_at = UnixMillis(u64::from_be_bytes(get(bytes, 72)?));
    Some(Some(Mark { origin, made_at }))
}

fn put_message(bytes: &mut [u8; RECORD_BYTES], message: &SignedMessage) {
    let MessageId { height, round, step } = message.id;
    let step = match step {
        Step::Proposal => 1,
        Step::Prevote => 2,
        Step::Precommit => 3,
    };
    let valid_round = message.valid_round.map_or(0, |round| round.0.saturating_add(1));
    put(bytes, 0, &[3, step]);
    put(bytes, 4, &height.0.to_be_bytes());
    put(bytes, 12, &round.0.to_be_bytes());
    put(bytes, 16, &valid_round.to_be_bytes());
    put(bytes, 20, message.block.0.as_slice());
    put(bytes, 52, &message.signature.0);
    if let Some(part) = message.part {
        put(bytes, 117, &part.0);
    }
}

fn get_message(bytes: &[u8; RECORD_BYTES]) -> Option<SignedMessage> {
    let step = match bytes {
        [_, 1, ..] => Step::Proposal,
        [_, 2, ..] => Step::Prevote,
        [_, 3, ..] => Step::Precommit,
        _ => return None,
    };
    let height = Height(u64::from_be_bytes(get(bytes, 4)?));
    let round = Round(u32::from_be_bytes(get(bytes, 12)?));
    let part = match step {
        Step::Proposal => Some(Signature(get(bytes, 117)?)),
        Step::Prevote | Step::Precommit => None,
    };
    Some(SignedMessage {
        id: MessageId { height, round, step },
        block: BlockHash(B256::new(get(bytes, 20)?)),
        valid_round: u32::from_be_bytes(get(bytes, 16)?).checked_sub(1).map(Round),
        signature: Signature(get(bytes, 52)?),
        part,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let id = |step| MessageId { height: Height(7), round: Round(3), step };
        let message = |step, valid_round, part| {
            Record::Signed(SignedMessage {
                id: id(step),
                block: BlockHash(B256::repeat_byte(9)),
                valid_round,
                signature: Signature([0x11; 65]),
                part,
            })
        };
        let head = |mark| Record::Head {
            version: VERSION,
            network: NetworkId(B256::repeat_byte(1)),
            address: Address::repeat_byte(2),
            floor: Height(3),
            mark,
        };
        let marked = |origin| head(Some(Mark { origin, made_at: UnixMillis(0x0102_0304_0506) }));
        vec![
            head(None),
            marked(Origin::Fresh),
            marked(Origin::Lost),
            Record::Floor(Height(u64::MAX)),
            message(Step::Proposal, None, Some(Signature([0x22; 65]))),
            message(Step::Proposal, Some(Round(0)), Some(Signature([0x22; 65]))),
            message(Step::Prevote, None, None),
            message(Step::Precommit, None, None),
        ]
    }

    #[test]
    fn every_record_reads_back_behind_its_own_predecessor_alone() {
        for record in records() {
            let (bytes, chain) = record.to_bytes(B256::ZERO);
            assert_eq!(Record::from_bytes(&bytes, B256::ZERO), Some((record, chain)));
            assert_eq!(Record::from_bytes(&bytes, B256::repeat_byte(1)), None);
        }
    }

    #[test]
    fn every_single_bit_counts() {
        for record in records() {
            let (bytes, _) = record.to_bytes(B256::ZERO);
            for bit in 0..RECORD_BYTES * 8 {
                let mut wrong = bytes;
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Record::from_bytes(&wrong, B256::ZERO), None, "{record:?} bit {bit}");
            }
        }
    }
}
