//! Space inside a node: cells are written into the hole, given back as zeros, and moved together when
//! the hole is too small although the free bytes suffice. Callers have checked that there is room;
//! nothing here fails but [`compose`].

use std::ops::Range;

use super::build::{Composer, Full, NodeSpec, encode_slot};
use super::bytes::{PageBuf, PageRead, PageWrite, short};
use super::header::{GARBAGE, HEADER_BYTES, HEAP_START, IMAGE_START, SLOT_COUNT};
use super::leaf::EncodedTail;
use super::node::{NodeView, SLOT_BYTES, SLOT_OFFSET};

/// Overwrites a cell behind its key with one that is not longer.
pub(super) fn write_in_place<P: PageWrite>(
    page: &mut P,
    slot: usize,
    old_len: usize,
    new_len: usize,
    tail: &EncodedTail<'_>,
) {
    let node = NodeView::new(page.bytes());
    let (at, garbage) = (node.slot(slot), node.garbage());
    let mut offset = at.offset + at.suffix_len;
    for piece in tail.pieces() {
        page.write(offset, piece);
        offset += piece.len();
    }
    page.fill_zero(offset..at.offset + old_len);
    if new_len < old_len {
        page.write(GARBAGE, &short(garbage + old_len - new_len));
    }
}

/// Takes a cell and its slot away; their bytes become zero.
pub(super) fn remove_slot<P: PageWrite>(page: &mut P, slot: usize) {
    let node = NodeView::new(page.bytes());
    let (offset, len) = (node.slot(slot).offset, node.cell_len(slot));
    let (count, slots_end) = (node.count(), node.slots_end());
    let (heap_start, garbage) = (node.heap_start(), node.garbage());
    page.fill_zero(offset..offset + len);
    let place = HEADER_BYTES + slot * SLOT_BYTES;
    page.copy_within(place + SLOT_BYTES..slots_end, place);
    page.fill_zero(slots_end - SLOT_BYTES..slots_end);
    page.write(SLOT_COUNT, &short(count - 1));
    if offset == heap_start {
        page.write(HEAP_START, &short(heap_start + len));
    } else {
        page.write(GARBAGE, &short(garbage + len));
    }
}

/// Puts a new cell of `len` bytes, for which there is room, at `slot`. Bytes of the cell behind the
/// pieces are zero.
pub(super) fn insert_slot<P: PageWrite>(
    page: &mut P,
    slot: usize,
    suffix: &[u8],
    tail: &[&[u8]],
    len: usize,
) {
    let node = NodeView::new(page.bytes());
    if node.heap_start() - node.slots_end() < SLOT_BYTES + len {
        compact(page);
    }
    let node = NodeView::new(page.bytes());
    let (count, slots_end) = (node.count(), node.slots_end());
    let offset = node.heap_start() - len;
    page.write(offset, suffix);
    let mut end = offset + suffix.len();
    for piece in tail {
        page.write(end, piece);
        end += piece.len();
    }
    let place = HEADER_BYTES + slot * SLOT_BYTES;
    page.copy_within(place..slots_end, place + SLOT_BYTES);
    page.write(place, &encode_slot(suffix, offset));
    page.write(SLOT_COUNT, &short(count + 1));
    page.write(HEAP_START, &short(offset));
}

/// Moves the cells together, in slot order from the end of the heap downwards.
fn compact<P: PageWrite>(page: &mut P) {
    let node = NodeView::new(page.bytes());
    let mut moved = PageBuf::copy_of(node.bytes());
    let mut heap_start = node.heap_end();
    for slot in 0..node.count() {
        let (offset, len) = (node.slot(slot).offset, node.cell_len(slot));
        heap_start -= len;
        moved.write(heap_start, &node.bytes()[offset..offset + len]);
        moved.write(HEADER_BYTES + slot * SLOT_BYTES + SLOT_OFFSET, &short(heap_start));
    }
    moved.fill_zero(node.slots_end()..heap_start);
    moved.write(HEAP_START, &short(heap_start));
    moved.write(GARBAGE, &short(0));
    replace(page, &moved);
}

/// Lays out a node of the cells that `parts` name, in this order.
///
/// # Errors
/// [`Full`] when they do not fit.
pub(super) fn compose(
    page_bytes: usize,
    spec: &NodeSpec<'_>,
    parts: &[(NodeView<'_>, Range<usize>)],
) -> Result<PageBuf, Full> {
    let mut composer = Composer::new(page_bytes, spec);
    for (node, slots) in parts {
        composer.push_all(*node, slots.clone())?;
    }
    Ok(composer.finish())
}

/// Replaces everything an image carries.
pub(super) fn replace<P: PageWrite>(page: &mut P, content: &PageBuf) {
    page.write(IMAGE_START, &content.bytes()[IMAGE_START..]);
}
