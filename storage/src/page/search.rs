//! The search for a key among the sorted slots of a node: one for pages that do not change and for
//! pages that may change under it.
//!
//! Whatever the slots answer, the search ends and stays among them; that the answer is right takes
//! slots that belong together.

use std::cmp::Ordering;

use super::node::head_of;

/// Sorted slots.
pub(super) trait Slots {
    /// How many there are.
    fn count(&self) -> usize;
    /// The head of a slot's key, as a number that compares as its bytes do.
    fn head(&self, slot: usize) -> u32;
    /// How a slot's key, without the node's prefix, compares with this one.
    fn compare(&self, slot: usize, suffix: &[u8]) -> Ordering;
}

/// Where the key with this suffix is, or where it would go, among the slots from `first` on.
#[inline]
pub(super) fn search(slots: &impl Slots, first: usize, suffix: &[u8]) -> Result<usize, usize> {
    let head = head_of(suffix);
    let count = slots.count();
    let mut base = first.min(count);
    let mut len = count - base;
    // The position moves by a number, not by a jump: the branch would be mispredicted every second
    // time.
    while len > 1 {
        let half = len / 2;
        base += if slots.head(base + half - 1) < head { half } else { 0 };
        len -= half;
    }
    base += usize::from(len == 1 && slots.head(base) < head);

    // Usually one slot has this head. Where many do, they are searched by their suffixes.
    let has_head = |slot: usize| slot < count && slots.head(slot) == head;
    if !has_head(base) {
        return Err(base);
    }
    match slots.compare(base, suffix) {
        Ordering::Equal => return Ok(base),
        Ordering::Greater => return Err(base),
        Ordering::Less => base += 1,
    }
    if !has_head(base) {
        return Err(base);
    }
    let mut end = behind_head(slots, base, head);
    while base < end {
        let middle = base.midpoint(end);
        match slots.compare(middle, suffix) {
            Ordering::Less => base = middle + 1,
            Ordering::Greater => end = middle,
            Ordering::Equal => return Ok(middle),
        }
    }
    Err(base)
}

/// The slot behind the last one with this head; `from` has it.
fn behind_head(slots: &impl Slots, from: usize, head: u32) -> usize {
    let (mut low, mut high) = (from, slots.count());
    while low < high {
        let middle = low.midpoint(high);
        if slots.head(middle) == head {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
