//! The invariants of one page, as code: run by tests, by the CLI and in debug builds. What a read
//! needs not to run out of bounds is in [`header::verify`](super::header::verify); this adds order
//! and exactness.

use seawall_wal::PageId;
use seawall_wal::codec::DecodeError;

use super::header::{self, HEADER_BYTES, PageKind, PageView, expect_zero};
use super::inner::InnerView;
use super::leaf;
use super::node::{NodeView, SLOT_BYTES, head_of};

/// What is wrong with a page, by offset in it.
pub type Finding = DecodeError;

/// Checks that a page is as this format says: offsets and lengths within bounds, keys in strictly
/// ascending order between the fences, heads and prefix right, cells apart from one another, every
/// byte that is not in use zero, and the space accounted for exactly. The checksum is not looked at.
///
/// # Errors
/// The first finding.
pub fn check(bytes: &[u8]) -> Result<(), Finding> {
    header::verify_structure(bytes)?;
    match PageView::new(bytes).kind() {
        PageKind::Inner | PageKind::Leaf => check_node(NodeView::new(bytes)),
        PageKind::Free | PageKind::Bitmap | PageKind::Overflow => Ok(()),
    }
}

fn check_node(node: NodeView<'_>) -> Result<(), Finding> {
    let is_inner = node.page().kind() == PageKind::Inner;
    for slot in 0..node.count() {
        check_slot(node, slot, is_inner)?;
    }
    check_space(node)
}

fn check_slot(node: NodeView<'_>, slot: usize, is_inner: bool) -> Result<(), Finding> {
    let place = HEADER_BYTES + slot * SLOT_BYTES;
    let stored = node.slot(slot);
    let head = head_of(node.suffix(slot));
    if stored.head != head {
        let (expected, found) =
            (format!("key head {head:#010x}"), format!("{:#010x}", stored.head));
        return Err(Finding::new(place, expected, found));
    }
    if is_inner && slot == 0 && stored.suffix_len != 0 {
        let found = format!("{} bytes", stored.suffix_len);
        return Err(Finding::new(place, "an empty first separator", found));
    }
    let key =
        if is_inner { InnerView::new(node.bytes()).separator(slot) } else { node.key_at(slot) };
    let is_in_order = match slot {
        0 => node.low_fence().compare_key(key).is_le(),
        1 if is_inner => node.low_fence().compare_key(key).is_lt(),
        _ => node.key_at(slot - 1).compare_key(key).is_lt(),
    };
    if !is_in_order {
        return Err(Finding::new(place, "a key above the one before it", "one that is not"));
    }
    if node.high_fence().is_some_and(|high| high.compare_key(key).is_le()) {
        return Err(Finding::new(place, "a key below the high fence", "one that is not"));
    }
    if is_inner {
        let child = InnerView::new(node.bytes()).child_page(slot);
        if child == PageId::NONE || child == node.page().page_id() {
            return Err(Finding::new(stored.offset, "another page as child", child.to_string()));
        }
        return Ok(());
    }
    leaf::check_cell(node.bytes(), stored.offset + stored.suffix_len)
}

/// Cells do not overlap, and what no cell covers is zero.
fn check_space(node: NodeView<'_>) -> Result<(), Finding> {
    let bytes = node.bytes();
    let mut cells: Vec<_> =
        (0..node.count()).map(|slot| (node.slot(slot).offset, node.cell_len(slot))).collect();
    cells.sort_unstable();
    let mut end = node.slots_end();
    for (offset, len) in cells {
        if offset < end {
            return Err(Finding::new(offset, format!("no cell before {end}"), "one"));
        }
        expect_zero(bytes, end, offset)?;
        end = offset + len;
    }
    expect_zero(bytes, end, node.heap_end())
}
