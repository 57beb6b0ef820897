//! Where a node splits, and which neighbours merge. Both depend on logical content alone.
//!
//! **A split always succeeds.** Write *C* for a page's content bytes, *p* for the old prefix, and
//! count a cell with its slot. A node with at least two cells may be cut in front of any cell *j >=
//! 1* at a separator *s* that is, on a leaf, the shortest key above cell *j - 1* and not above cell
//! *j* (one byte more than both have in common), and on an inner node separator *j* itself.
//!
//! * *Left*: fences low and *s*, cells below *j*. The suffix of *s* is no longer than that of key
//!   *j*, whose cell left; so the left half is no larger than the node was without its old high
//!   fence.
//! * *Right*: fences *s* and high, cells from *j* on. On a leaf *s* is at most one byte longer than
//!   key *j - 1*, whose cell (suffix and more than one byte) is gone; on an inner node *s* is now
//!   the low fence and no longer a separator. The old low fence is gone but for *p* bytes of it.
//! * The prefixes of both halves are at least *p* long, as their fences lie between the old ones, so
//!   no cell grows.
//!
//! A leaf with one cell is cut between it and the incoming key. Any one cell fits any two fences
//! ([`cell_bytes_max`](super::cell_bytes_max)), so both halves, and the incoming cell on an empty
//! half, fit. A leaf with one cell that is being replaced always has room for the new content, for
//! the same reason. An inner node with one child has room for a second one between any two fences
//! ([`children_min`](super::children_min)), so a node that has to be split has at least two.
//!
//! The incoming entry fits its half wherever some cut allows that; otherwise the caller splits that
//! half again, and comes to an end since it has fewer cells each time.

use seawall_wal::record::Cell;

use super::build::NodeSpec;
use super::header::{PageKind, PageView};
use super::inner::{self, InnerView};
use super::key::Key;
use super::leaf;
use super::node::{NodeView, SLOT_BYTES, content_bytes};

/// What did not fit.
#[derive(Clone, Copy, Debug)]
pub enum Incoming<'a> {
    /// A leaf's cell.
    Cell {
        /// Its key.
        key: &'a [u8],
        /// Its content.
        cell: Cell<'a>,
    },
    /// A child of an inner node.
    Child {
        /// Lowest key of its range.
        separator: &'a [u8],
    },
}

impl<'a> Incoming<'a> {
    const fn key(&self) -> &'a [u8] {
        match self {
            Self::Cell { key, .. } => key,
            Self::Child { separator } => separator,
        }
    }

    /// Bytes it takes, with its slot, where `prefix_len` bytes of its key are not stored.
    fn bytes(&self, prefix_len: usize) -> usize {
        let suffix_len = self.key().len().saturating_sub(prefix_len);
        match self {
            Self::Cell { cell, .. } => leaf::slot_and_cell_bytes(suffix_len, cell),
            Self::Child { .. } => inner::slot_and_cell_bytes(suffix_len),
        }
    }
}

/// Where a node splits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitPlan {
    /// High fence of the left half and low fence of the right one.
    pub separator: Vec<u8>,
    /// The first slot that goes to the right.
    pub slot: usize,
}

/// A cut that was weighed.
#[derive(Clone, Copy)]
struct Cut<'a> {
    slot: usize,
    separator: Key<'a>,
    /// Bytes of the fuller half.
    fuller: usize,
    /// Whether both halves, the incoming entry included, fit.
    is_enough: bool,
}

/// Chooses where to split `page`, on which `incoming` does not fit.
///
/// Entries that arrive in ascending order leave full pages behind: an incoming key above all others
/// gets the right half to itself, or with as few cells as possible. Otherwise the cut with the
/// shortest separator near the middle is taken.
///
/// # Panics
/// When `incoming` fits, so that there may be no cut.
#[must_use]
pub fn split_plan(page: &[u8], incoming: &Incoming<'_>) -> SplitPlan {
    let cuts = weigh_cuts(page, incoming);
    let is_any_enough = cuts.iter().any(|cut| cut.is_enough);
    let candidates = || cuts.iter().filter(|cut| cut.is_enough || !is_any_enough);
    let best = if is_above_all(page, incoming.key()) {
        candidates().max_by_key(|cut| cut.slot)
    } else {
        let evenest = candidates().map(|cut| cut.fuller).min().unwrap_or(0);
        let slack = content_bytes(page.len()) / 8;
        candidates()
            .filter(|cut| cut.fuller <= evenest + slack)
            .min_by_key(|cut| (cut.separator.len(), cut.fuller))
    };
    let best = best.expect("a node that lacks room has cells to part");
    SplitPlan { separator: best.separator.to_vec(), slot: best.slot }
}

fn is_above_all(page: &[u8], key: &[u8]) -> bool {
    let node = NodeView::new(page);
    node.count() > 0 && node.key_at(node.count() - 1).compare(key).is_lt()
}

/// Every cut whose halves fit without the incoming entry.
fn weigh_cuts<'a>(page: &'a [u8], incoming: &Incoming<'a>) -> Vec<Cut<'a>> {
    let node = NodeView::new(page);
    let is_leaf = PageView::new(page).kind() == PageKind::Leaf;
    let count = node.count();
    let total: usize = (0..count).map(|slot| cell_bytes(node, slot)).sum();
    let mut cuts = Vec::with_capacity(count);
    let mut left_bytes = 0;
    for slot in 0..=count {
        if let Some(separator) = separator_at(node, is_leaf, slot, incoming.key()) {
            let left = Half { cells: slot, bytes: left_bytes };
            let right = Half { cells: count - slot, bytes: total - left_bytes };
            cuts.extend(weigh(node, separator, left, right, incoming));
        }
        if slot < count {
            left_bytes += cell_bytes(node, slot);
        }
    }
    cuts
}

/// The separator of a cut in front of `slot`; `None` where a cut would part nothing.
fn separator_at<'a>(
    node: NodeView<'a>,
    is_leaf: bool,
    slot: usize,
    incoming: &'a [u8],
) -> Option<Key<'a>> {
    let count = node.count();
    if !is_leaf {
        return (1..count).contains(&slot).then(|| InnerView::new(node.bytes()).separator(slot));
    }
    let above = if slot < count { node.key_at(slot) } else { Key::whole(incoming) };
    let below = if slot > 0 { node.key_at(slot - 1) } else { Key::whole(incoming) };
    if count == 0 || (slot == 0 && count > 1) || below.compare_key(above).is_ge() {
        return None;
    }
    Some(above.take(below.common_len(above) + 1))
}

/// Cells on one side of a cut: their bytes as the node stores them now, and how many of them have a
/// stored key.
#[derive(Clone, Copy)]
struct Half {
    cells: usize,
    bytes: usize,
}

impl Half {
    /// The half of an inner node, whose first separator is its low fence and stored only there.
    const fn without_first(self, suffix_len: usize) -> Self {
        Self { cells: self.cells - 1, bytes: self.bytes - suffix_len }
    }
}

fn weigh<'a>(
    node: NodeView<'a>,
    separator: Key<'a>,
    left: Half,
    right: Half,
    incoming: &Incoming<'a>,
) -> Option<Cut<'a>> {
    let old = NodeSpec::of(node);
    let left_spec = NodeSpec { high: Some(separator), ..old };
    let right_spec = NodeSpec { low: separator, ..old };
    let slot = left.cells;
    let is_inner = node.page().kind() == PageKind::Inner;
    let mut bytes = [
        used_bytes(&left_spec, &old, if is_inner { left.without_first(0) } else { left }),
        used_bytes(
            &right_spec,
            &old,
            if is_inner { right.without_first(node.suffix(slot).len()) } else { right },
        ),
    ];
    let content = content_bytes(node.bytes().len());
    if bytes[0].max(bytes[1]) > content {
        return None;
    }
    let goes_right = separator.compare(incoming.key()).is_le();
    let side = if goes_right { 1 } else { 0 };
    let spec = if goes_right { right_spec } else { left_spec };
    bytes[side] += incoming.bytes(spec.prefix_len());
    if let (Incoming::Cell { key, .. }, Ok(replaced)) = (incoming, node.search(0, incoming.key())) {
        debug_assert!(node.key_at(replaced) == **key);
        bytes[side] -= cell_bytes(node, replaced) - (spec.prefix_len() - old.prefix_len());
    }
    let fuller = bytes[0].max(bytes[1]);
    Some(Cut { slot, separator, fuller, is_enough: fuller <= content })
}

/// Bytes of a node with these cells, whose stored keys still lack only the old prefix.
fn used_bytes(spec: &NodeSpec<'_>, old: &NodeSpec<'_>, half: Half) -> usize {
    spec.fence_bytes() + half.bytes - half.cells * (spec.prefix_len() - old.prefix_len())
}

/// Bytes of a cell with its slot.
fn cell_bytes(node: NodeView<'_>, slot: usize) -> usize {
    SLOT_BYTES + node.cell_len(slot)
}

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

/// Whether two nodes of the same tree and level lie side by side.
pub(super) fn are_neighbours(left: &[u8], right: &[u8]) -> bool {
    let (a, b) = (NodeView::new(left), NodeView::new(right));
    left.len() == right.len()
        && a.page().kind() == b.page().kind()
        && a.page().level() == b.page().level()
        && a.page().tree() == b.page().tree()
        && a.right_sibling() == b.page().page_id()
        && a.high_fence().is_some_and(|high| high.compare_key(b.low_fence()).is_eq())
}

/// Bytes of the node that two neighbours would make.
pub(super) fn merged_bytes(left: &[u8], right: &[u8]) -> usize {
    let (a, b) = (NodeView::new(left), NodeView::new(right));
    let (a_spec, b_spec) = (NodeSpec::of(a), NodeSpec::of(b));
    let merged = NodeSpec { high: b_spec.high, ..a_spec };
    let prefix_len = merged.prefix_len();
    let grown = |node: NodeView<'_>, spec: &NodeSpec<'_>, stored: usize| {
        let cells = node.used_bytes_logical() - spec.fence_bytes();
        cells + stored * (spec.prefix_len() - prefix_len)
    };
    let is_inner = a.page().kind() == PageKind::Inner;
    let unstored = |node: NodeView<'_>| usize::from(is_inner && node.count() > 0);
    let middle = unstored(b) * unstored(a) * (b_spec.low.len() - prefix_len);
    merged.fence_bytes()
        + grown(a, &a_spec, a.count() - unstored(a))
        + grown(b, &b_spec, b.count() - unstored(b))
        + middle
}
