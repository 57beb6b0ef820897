//! Which neighbours merge. It depends on logical content alone.

use super::build::NodeSpec;
use super::header::PageKind;
use super::node::{NodeView, content_bytes};

/// Whether `page` is so empty that a merge with a neighbour is worth a look: below a quarter full.
#[must_use]
pub fn is_sparse(page: &[u8]) -> bool {
    NodeView::new(page).used_bytes_logical() < content_bytes(page.len()) / 4
}

/// Whether `left` may absorb its right neighbour: the result is at most three quarters full, so that
/// neither a few inserts split it again nor a few deletes make it [`is_sparse`].
#[must_use]
pub fn can_merge(left: &[u8], right: &[u8]) -> bool {
    let content = content_bytes(left.len());
    are_neighbours(left, right) && merged_bytes(left, right) <= content - content / 4
}

/// Whether two nodes of the same tree and level lie side by side. Inner nodes without children, which
/// are being dismantled, are nobody's neighbours.
pub(super) fn are_neighbours(left: &[u8], right: &[u8]) -> bool {
    let (a, b) = (NodeView::new(left), NodeView::new(right));
    left.len() == right.len()
        && a.page().kind() == b.page().kind()
        && a.page().level() == b.page().level()
        && a.page().tree() == b.page().tree()
        && (a.page().kind() == PageKind::Leaf || a.count().min(b.count()) > 0)
        && a.right_sibling() == b.page().page_id()
        && a.high_fence().is_some_and(|high| high.compare_key(b.low_fence()).is_eq())
}

/// Bytes of the node that two neighbours would make.
pub(super) fn merged_bytes(left: &[u8], right: &[u8]) -> usize {
    let (a, b) = (NodeView::new(left), NodeView::new(right));
    let merged = NodeSpec { high: b.high_fence(), ..NodeSpec::of(a) }.frame();
    let grown = |node: NodeView<'_>, stored: usize| {
        let old = NodeSpec::of(node).frame();
        let cells = node.used_bytes_logical() - old.fence_bytes;
        cells + stored * (old.prefix_len - merged.prefix_len)
    };
    // Inner nodes do not store their first separator; that of the right one is stored from now on.
    let (first, middle) = match a.page().kind() {
        PageKind::Inner => (1, b.low_fence().len() - merged.prefix_len),
        _ => (0, 0),
    };
    merged.fence_bytes + grown(a, a.count() - first) + grown(b, b.count() - first) + middle
}
