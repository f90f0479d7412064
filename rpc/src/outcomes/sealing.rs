//! A `Sealed` record with its cursors as places of the log, so that entries can be compared with them.
//!
//! A record counts a chain's items; an entry knows its index among all chains'. The slices of the heights that the record
//! names lead from one to the other, once per record.

use std::sync::Arc;

use alloy_primitives::B256;
use lockstep_core::record::{Cursor, SealMode, Sealed, SkipReason};
use lockstep_core::types::Height;
use lockstep_proto::convert::ingress::BlockId;

/// A place in the log: in front of the entry with this index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Height of the log block.
    pub height: Height,
    /// Index in it over all chains, from 0.
    pub index: u32,
}

/// What a record says of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// The block.
    pub block: BlockId,
    /// Hash of its parent.
    pub parent: B256,
    /// Whether nothing was offered to it.
    pub is_closed: bool,
    /// Where the next block's offer begins.
    pub end: Place,
    /// Offered items that are not in it.
    pub skipped: Vec<(Place, SkipReason)>,
}

/// Indices of a chain's items at one height, ascending.
pub type Indices = Arc<[u32]>;

impl Sealing {
    /// Reads a record that stands at `at`. `indices` tells what the chain has at a height, `None` where the height is not
    /// held. Skipped items that the log does not have are left out; a record whose cursor lies nowhere in the log, or
    /// behind the record itself, says nothing: `None`.
    ///
    /// # Errors
    /// What `indices` fails with.
    pub fn read<E>(
        sealed: &Sealed,
        at: Place,
        mut indices: impl FnMut(Height) -> Result<Option<Indices>, E>,
    ) -> Result<Option<Self>, E> {
        let Some(end) = end_of(sealed.cursor, &mut indices)?.filter(|end| *end <= at) else {
            return Ok(None);
        };
        let mut skipped = Vec::with_capacity(sealed.skipped.len());
        let mut held: Option<(Height, Option<Indices>)> = None;
        for item in &sealed.skipped {
            // Items come in order, so the height is that of the item before, most often.
            let items = match held.take().filter(|(height, _)| *height == item.height) {
                Some((_, items)) => items,
                None => indices(item.height)?,
            };
            let index =
                items.as_deref().and_then(|items| items.get(usize::try_from(item.item).ok()?));
            if let Some(index) = index {
                skipped.push((Place { height: item.height, index: *index }, item.reason));
            }
            held = Some((item.height, items));
        }
        Ok(Some(Self {
            block: BlockId { number: sealed.number, hash: sealed.hash },
            parent: sealed.parent,
            is_closed: sealed.mode == SealMode::Closed,
            end,
            skipped,
        }))
    }
}

/// The place behind a cursor's items.
fn end_of<E>(
    Cursor { height, items }: Cursor,
    indices: &mut impl FnMut(Height) -> Result<Option<Indices>, E>,
) -> Result<Option<Place>, E> {
    let Some(last) = items.checked_sub(1) else {
        return Ok(Some(Place { height, index: 0 }));
    };
    let held = indices(height)?;
    let index = held.as_deref().and_then(|held| held.get(usize::try_from(last).ok()?));
    Ok(index.map(|index| Place { height, index: index.saturating_add(1) }))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use lockstep_core::record::Skipped;

    use super::*;

    fn place(height: u64, index: u32) -> Place {
        Place { height: Height(height), index }
    }

    fn sealed(height: u64, items: u32, skipped: &[(u64, u32)]) -> Sealed {
        let skip = |&(height, item): &(u64, u32)| Skipped {
            height: Height(height),
            item,
            reason: SkipReason::Stale,
        };
        Sealed {
            number: 7,
            hash: B256::repeat_byte(7),
            parent: B256::repeat_byte(6),
            timestamp: 14,
            mode: SealMode::Offered,
            cursor: Cursor { height: Height(height), items },
            skipped: skipped.iter().map(skip).collect(),
        }
    }

    /// The chain has the items 2, 5 and 6 of height 3, nothing at height 4, and item 0 of height 5.
    fn read(sealed: &Sealed, at: Place) -> Option<Sealing> {
        let indices = |height: Height| -> Result<Option<Indices>, Infallible> {
            Ok(match height.0 {
                3 => Some([2, 5, 6].into()),
                4 => Some([].into()),
                5 => Some([0].into()),
                _ => None,
            })
        };
        Sealing::read(sealed, at, indices).unwrap_or_else(|never| match never {})
    }

    #[test]
    fn a_cursor_becomes_the_place_behind_its_items() {
        for ((height, items), expected) in [
            ((3, 0), Some(place(3, 0))),
            ((3, 1), Some(place(3, 3))),
            ((3, 3), Some(place(3, 7))),
            ((3, 4), None),
            ((4, 0), Some(place(4, 0))),
            ((4, 1), None),
            ((5, 1), Some(place(5, 1))),
            ((9, 1), None),
            ((0, 0), Some(place(0, 0))),
        ] {
            let read = read(&sealed(height, items, &[]), place(6, 4));
            assert_eq!(read.map(|sealing| sealing.end), expected, "{height} {items}");
        }
    }

    #[test]
    fn a_cursor_behind_its_own_record_says_nothing() {
        assert!(read(&sealed(3, 1, &[]), place(3, 3)).is_some());
        assert_eq!(read(&sealed(3, 1, &[]), place(3, 2)), None);
        assert_eq!(read(&sealed(9, 0, &[]), place(6, 0)), None);
    }

    #[test]
    fn skipped_items_become_places_and_what_the_log_lacks_is_left_out() {
        let skipped = [(3, 0), (3, 2), (3, 3), (4, 0), (5, 0), (9, 0), (3, 1)];
        let read = read(&sealed(5, 1, &skipped), place(6, 0)).unwrap();
        let places: Vec<Place> = read.skipped.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [place(3, 2), place(3, 6), place(5, 0), place(3, 5)]);
    }

    #[test]
    fn a_closed_block_is_told_apart() {
        let closed = Sealed { mode: SealMode::Closed, ..sealed(3, 1, &[]) };
        assert!(read(&closed, place(6, 0)).unwrap().is_closed);
    }
}
