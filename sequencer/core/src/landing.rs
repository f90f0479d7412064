//! Where the items of an offer are in a block: the one answer to "is this leg in that block?". Pure.
//!
//! An item is in a block if all of its transactions are there, one behind the other, in its turn: behind those of the items
//! before it, and in front of nothing that belongs to no item. A leg is one item.
//!
//! | the block's users' transactions are | is |
//! |---|---|
//! | whole items in their order | [`Landed::Whole`] |
//! | items in their order, some of them in part | [`Landed::Torn`] |
//! | else | [`Landed::Foreign`] |
//!
//! Transactions are compared as whoever asks knows them: by bytes, by hash, or by a part of it. Deposits are no business of
//! this module, and neither is what a block's answer means for its cursor: see [`cursor`](crate::cursor).

use std::collections::BTreeSet;

/// What the users' transactions of a block are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landed {
    /// Whole items in their order: of each item, where its first transaction is among the users'; `None` if it is not there.
    Whole(Vec<Option<usize>>),
    /// Items in their order, but not all of them whole.
    Torn {
        /// The first transaction that is not in its turn.
        first: usize,
        /// Items of which only a part is there.
        items: BTreeSet<usize>,
    },
    /// Something else is there, too, or in another order.
    Foreign {
        /// The first transaction that is not in its turn.
        first: usize,
    },
}

/// Finds the items of an offer in a block's users' transactions: one after the other, each whole.
#[must_use]
pub fn land<T: PartialEq>(users: &[T], items: &[&[T]]) -> Landed {
    let mut walk = Walk { users, at: 0, items, next: 0 };
    let mut landed = vec![None; items.len()];
    while let Some((item, first)) = walk.next_item() {
        if let Some(landed) = landed.get_mut(item) {
            *landed = Some(first);
        }
    }
    let first = walk.at;
    if first >= users.len() {
        return Landed::Whole(landed);
    }
    match torn(users, items) {
        Some(items) => Landed::Torn { first, items },
        None => Landed::Foreign { first },
    }
}

/// The transactions of a block that are not in their turn, all of them: what [`land`] finds the first of.
#[must_use]
pub fn strays<T: PartialEq>(users: &[T], items: &[&[T]]) -> Vec<usize> {
    let mut walk = Walk { users, at: 0, items, next: 0 };
    let mut strays = Vec::new();
    loop {
        while walk.next_item().is_some() {}
        if walk.at >= users.len() {
            return strays;
        }
        strays.push(walk.at);
        walk.at = walk.at.saturating_add(1);
    }
}

/// Where an item is in a block, by its first transaction, if it is there whole; whether in its turn, only its offer says.
#[must_use]
pub fn find<T: PartialEq>(users: &[T], item: &[T]) -> Option<usize> {
    (0..users.len()).find(|at| is_at(users, *at, item))
}

/// Whether an item is whole at a place.
fn is_at<T: PartialEq>(users: &[T], at: usize, item: &[T]) -> bool {
    !item.is_empty() && users.get(at..).is_some_and(|rest| rest.starts_with(item))
}

/// The items of which a part is there, if the transactions are those of items in their order.
fn torn<T: PartialEq>(users: &[T], items: &[&[T]]) -> Option<BTreeSet<usize>> {
    let (mut rest, mut torn) = (users, BTreeSet::new());
    for (index, item) in items.iter().enumerate() {
        let mut found = 0usize;
        for transaction in *item {
            if let Some((first, behind)) = rest.split_first()
                && first == transaction
            {
                rest = behind;
                found = found.saturating_add(1);
            }
        }
        if found > 0 && found < item.len() {
            torn.insert(index);
        }
    }
    rest.is_empty().then_some(torn)
}

/// A way through a block beside its offer.
struct Walk<'a, T> {
    users: &'a [T],
    /// The next transaction.
    at: usize,
    items: &'a [&'a [T]],
    /// The next item that may come.
    next: usize,
}

impl<T: PartialEq> Walk<'_, T> {
    /// Goes over the item that is whole at this place, if one is: its index, and where it begins.
    fn next_item(&mut self) -> Option<(usize, usize)> {
        let first = self.at;
        let later = self.items.get(self.next..)?;
        let skipped = later.iter().position(|item| is_at(self.users, first, item))?;
        let index = self.next.saturating_add(skipped);
        self.at = first.saturating_add(later.get(skipped)?.len());
        self.next = index.saturating_add(1);
        Some((index, first))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A transaction, a leg of two, one of three, and a transaction that is the leg's first one, too.
    const ITEMS: [&[u32]; 4] = [&[1], &[2, 3], &[4, 5, 6], &[2]];

    fn torn(first: usize, items: &[usize]) -> Landed {
        Landed::Torn { first, items: items.iter().copied().collect() }
    }

    #[test]
    fn block_is_whole_items_or_torn_or_foreign() {
        let foreign = |first| Landed::Foreign { first };
        for (users, expected) in [
            (&[][..], Landed::Whole(vec![None; 4])),
            (&[1], Landed::Whole(vec![Some(0), None, None, None])),
            (&[1, 2, 3, 4, 5, 6, 2], Landed::Whole(vec![Some(0), Some(1), Some(3), Some(6)])),
            (&[4, 5, 6], Landed::Whole(vec![None, None, Some(0), None])),
            // The leg's first transaction is an item of its own, so the block is whole without the leg.
            (&[1, 2], Landed::Whole(vec![Some(0), None, None, Some(1)])),
            (&[1, 3], torn(1, &[1])),
            // So it is here, and the next one is what is not in its turn; but a part of the leg explains all.
            (&[2, 4, 5, 6], torn(1, &[1])),
            (&[2, 5], torn(1, &[1, 2])),
            (&[1, 4, 6], torn(1, &[2])),
            (&[9], foreign(0)),
            (&[1, 9, 2, 3], foreign(1)),
            (&[2, 9, 3], foreign(1)),
            (&[2, 3, 1], foreign(2)),
            (&[3, 2, 2], foreign(0)),
            (&[1, 1], foreign(1)),
            (&[1, 2, 3, 9], foreign(3)),
        ] {
            assert_eq!(land(users, &ITEMS), expected, "{users:?}");
        }
    }

    #[test]
    fn every_transaction_that_is_not_in_its_turn_is_a_stray() {
        for (users, expected) in [
            (&[1, 2, 3, 2][..], vec![]),
            (&[9, 1, 8, 2, 3], vec![0, 2]),
            (&[4, 5, 6, 1, 2], vec![3]),
            (&[1, 3, 4, 5, 7], vec![1, 2, 3, 4]),
        ] {
            assert_eq!(strays(users, &ITEMS), expected, "{users:?}");
        }
    }

    #[test]
    fn leg_is_found_whole_and_in_order_or_not_at_all() {
        let users = [7, 4, 5, 4, 5, 6, 1];
        for (item, expected) in [
            (&[7][..], Some(0)),
            (&[4, 5, 6], Some(3)),
            (&[4, 5], Some(1)),
            (&[5, 4, 6], None),
            (&[4, 6], None),
            (&[6, 1, 2], None),
            (&[], None),
        ] {
            assert_eq!(find(&users, item), expected, "{item:?}");
        }
    }

    proptest! {
        /// Where no transaction is in two items, the block says which items it was built from, and what was torn out of it.
        #[test]
        fn built_block_is_whole_and_one_that_lost_a_transaction_is_not_foreign(
            sizes in proptest::collection::vec(1usize..4, 0..8),
            taken in any::<u8>(),
            lost in any::<prop::sample::Index>(),
        ) {
            let mut next = 0u32..;
            let items: Vec<Vec<u32>> =
                sizes.iter().map(|size| next.by_ref().take(*size).collect()).collect();
            let items: Vec<&[u32]> = items.iter().map(Vec::as_slice).collect();
            let is_taken = |index: usize| taken >> index & 1 == 1;
            let chosen = items.iter().enumerate().filter(|(index, _)| is_taken(*index));
            let mut built: Vec<u32> = chosen.flat_map(|(_, item)| item.to_vec()).collect();
            let Landed::Whole(places) = land(&built, &items) else { panic!("{built:?}") };
            for (index, place) in places.iter().enumerate() {
                prop_assert_eq!(place.is_some(), is_taken(index));
                prop_assert_eq!(*place, find(&built, items[index]));
            }
            if !built.is_empty() {
                built.remove(lost.index(built.len()));
                prop_assert!(!matches!(land(&built, &items), Landed::Foreign { .. }), "{built:?}");
            }
        }

        #[test]
        fn first_stray_is_the_one_that_is_named(
            users in proptest::collection::vec(1u32..8, 0..9),
            items in proptest::collection::vec(proptest::collection::vec(1u32..8, 1..3), 0..6),
        ) {
            let items: Vec<&[u32]> = items.iter().map(Vec::as_slice).collect();
            let first = match land(&users, &items) {
                Landed::Whole(_) => None,
                Landed::Torn { first, .. } | Landed::Foreign { first } => Some(first),
            };
            prop_assert_eq!(first, strays(&users, &items).first().copied());
        }
    }
}
