//! The invariants of one page, as code: run by tests, by the CLI and in debug builds.
//!
//! [`super::verify()`] checks on every read whatever a search, a change or a split relies on. This adds
//! what costs a pass over the bytes, or is no matter of safety.

use seawall_wal::PageId;
use seawall_wal::codec::DecodeError;

use super::header::{PageKind, PageView};
use super::inner::InnerView;
use super::leaf;
use super::node::NodeView;
use super::verify::{expect_zero, verify_structure};

/// What is wrong with a page, by offset in it.
pub type Finding = DecodeError;

/// Checks that a page is as this format says: everything that [`super::verify()`] does apart from the
/// checksum, and that every byte that is not in use is zero, that ghosts have no value, and that an
/// inner node's children are other pages.
///
/// # Errors
/// The first finding.
pub fn check(bytes: &[u8]) -> Result<(), Finding> {
    verify_structure(bytes)?;
    match PageView::new(bytes).kind() {
        PageKind::Inner | PageKind::Leaf => {
            let node = NodeView::new(bytes);
            (0..node.count()).try_for_each(|slot| check_cell(node, slot))?;
            check_unused(node)
        }
        PageKind::Free | PageKind::Bitmap | PageKind::Overflow => Ok(()),
    }
}

fn check_cell(node: NodeView<'_>, slot: usize) -> Result<(), Finding> {
    let at = node.slot(slot);
    if node.page().kind() == PageKind::Leaf {
        return leaf::check_cell(node.bytes(), at.offset + at.suffix_len);
    }
    let child = InnerView::new(node.bytes()).child_page(slot);
    if child == PageId::NONE || child == node.page().page_id() {
        return Err(Finding::new(at.offset, "another page as child", child.to_string()));
    }
    Ok(())
}

/// What no slot, cell or fence covers is zero.
fn check_unused(node: NodeView<'_>) -> Result<(), Finding> {
    let bytes = node.bytes();
    let mut cells: Vec<_> =
        (0..node.count()).map(|slot| (node.slot(slot).offset, node.cell_len(slot))).collect();
    cells.sort_unstable();
    let mut end = node.slots_end();
    for (offset, len) in cells {
        expect_zero(bytes, end, offset)?;
        end = offset + len;
    }
    expect_zero(bytes, end, node.heap_end())
}
