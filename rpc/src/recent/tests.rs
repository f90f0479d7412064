//! The memory of the last heights: what is held, what may be taken in, what goes first.

use super::*;

fn memory(heights: &[(u64, usize)]) -> Memory<u64> {
    let mut memory = Memory::default();
    for &(height, bytes) in heights {
        memory.take(Height(height), height);
        memory.grow(Height(height), bytes);
    }
    memory
}

fn slots(memory: &mut Memory<u64>, head: u64, heights: &[u64]) -> Vec<Slot<u64>> {
    heights.iter().map(|height| memory.slot(Height(*height), Height(head))).collect()
}

#[test]
fn the_last_heights_are_held_and_no_others() {
    let (last, mut memory) = (RECENT_HEIGHTS_MAX, memory(&[(1, 10), (2, 10)]));
    let free_or_held = [Slot::Held(1), Slot::Held(2), Slot::Free, Slot::Free];
    assert_eq!(slots(&mut memory, last, &[1, 2, 3, last]), free_or_held);
    assert_eq!(memory.slot(Height(last + 1), Height(last)), Slot::Closed, "it is not decided");
    let moved_on = [Slot::Closed, Slot::Held(2), Slot::Free];
    assert_eq!(slots(&mut memory, last + 1, &[1, 2, last + 1]), moved_on);
    assert_eq!((memory.heights.len(), memory.bytes), (1, 10));
    assert_eq!(memory.slot(Height(1), Height(last)), Slot::Closed, "it stays so");
}

#[test]
fn one_value_of_a_height_is_taken_and_the_next_ones_are_not() {
    let mut memory = memory(&[(5, 1)]);
    assert_eq!(memory.take(Height(5), 99), 5);
    memory.close(Height(5));
    assert_eq!(memory.slot(Height(5), Height(5)), Slot::Closed);
    assert_eq!(memory.take(Height(5), 99), 99);
    assert_eq!(memory.slot(Height(5), Height(5)), Slot::Closed);
}

#[test]
fn heights_go_when_the_bytes_are_too_many_and_are_not_taken_in_again() {
    let mut memory = memory(&[(1, 1), (2, RECENT_BYTES_MAX - 1)]);
    assert_eq!(slots(&mut memory, 3, &[1, 2, 3]), [Slot::Held(1), Slot::Held(2), Slot::Free]);
    memory.take(Height(3), 3);
    memory.grow(Height(3), 1);
    assert_eq!(slots(&mut memory, 3, &[1, 2, 3]), [Slot::Closed, Slot::Held(2), Slot::Held(3)]);
    memory.grow(Height(3), 1);
    assert_eq!(slots(&mut memory, 3, &[2, 3]), [Slot::Closed, Slot::Held(3)]);
    memory.take(Height(1), 1);
    memory.grow(Height(1), 1);
    assert_eq!((memory.slot(Height(1), Height(3)), memory.bytes), (Slot::Closed, 2));
}

#[test]
fn a_height_with_too_many_bytes_is_not_held() {
    let mut memory = memory(&[(1, 1), (2, RECENT_BYTES_MAX + 1)]);
    assert_eq!(slots(&mut memory, 3, &[1, 2, 3]), [Slot::Closed, Slot::Closed, Slot::Free]);
    assert_eq!(memory.bytes, 0);
}
