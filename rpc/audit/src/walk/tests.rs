//! How far a cursor carries on a chain that is quiet.

use super::*;
use crate::judge::tests::{loose, slice};

fn check(items: u32, end: u64) -> Option<u64> {
    let slices = VecDeque::from([
        slice(4, 5, vec![]),
        slice(5, 10, vec![loose(1), loose(2)]),
        slice(6, 20, vec![]),
        slice(7, 30, vec![loose(3)]),
        slice(8, 40, vec![]),
    ]);
    let cursor = Cursor { height: Height(5), items };
    passed(&slices, cursor, UnixMillis(end)).map(|height| height.0)
}

#[test]
fn passed_is_up_to_the_first_item_behind_the_cursor_or_the_windows_end() {
    for (items, end, expected) in
        [(1, 35, Some(5)), (2, 35, Some(7)), (2, 29, Some(7)), (2, 19, Some(6)), (2, 9, Some(5))]
    {
        assert_eq!(check(items, end), expected, "{items} {end}");
    }
}

#[test]
fn all_that_was_read_is_passed_where_nothing_waits() {
    let slices = VecDeque::from([slice(5, 10, vec![loose(1)]), slice(6, 20, vec![])]);
    let cursor = Cursor { height: Height(5), items: 1 };
    assert_eq!(passed(&slices, cursor, UnixMillis(99)), None);
}
