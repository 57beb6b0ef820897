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
//! * The prefixes of both halves are at least *p* long, as their fences lie between the old ones,
//!   so no cell grows.
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

use super::build::{Frame, NodeSpec};
use super::header::{PageKind, PageView};
use super::inner::{self, InnerView};
use super::key::Key;
use super::leaf;
use super::node::{NodeView, SLOT_BYTES, content_bytes};

/// A cut may be less even than the evenest by one part in this many of a page, for a shorter
/// separator.
const SLACK_SHARE: usize = 8;
/// A node is sparse when it uses less than one part in this many of its page.
const SPARSE_SHARE: usize = 4;
/// Neighbours merge where the page that they make keeps one part in this many free.
const MERGED_FREE_SHARE: usize = 4;

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
    /// Its key, or the lowest of its range.
    #[must_use]
    pub const fn key(&self) -> &'a [u8] {
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
    let goes_last = is_above_all(page, incoming.key());
    let slack = content_bytes(page.len()) / SLACK_SHARE;
    // Where the best cut lies if fences are short, and weighing the others takes nothing but time.
    let reach = 2 * (slack + incoming.bytes(0));
    let is_likely = |left: Half, right: Half| match goes_last {
        true => right.cells == 0,
        false => left.bytes.abs_diff(right.bytes) <= reach,
    };
    let likely = best_cut(&weigh_cuts(page, incoming, is_likely), goes_last, slack);
    let best = likely
        .filter(|cut| cut.is_enough)
        .or_else(|| best_cut(&weigh_cuts(page, incoming, |_, _| true), goes_last, slack))
        .expect("a node that lacks room has cells to part");
    SplitPlan { separator: best.separator.to_vec(), slot: best.slot }
}

fn best_cut<'a>(cuts: &[Cut<'a>], goes_last: bool, slack: usize) -> Option<Cut<'a>> {
    let is_any_enough = cuts.iter().any(|cut| cut.is_enough);
    let candidates = || cuts.iter().filter(|cut| cut.is_enough || !is_any_enough);
    if goes_last {
        return candidates().max_by_key(|cut| cut.slot).copied();
    }
    let evenest = candidates().map(|cut| cut.fuller).min()?;
    let even = candidates().filter(|cut| cut.fuller <= evenest + slack);
    even.min_by_key(|cut| (cut.separator.len(), cut.fuller)).copied()
}

fn is_above_all(page: &[u8], key: &[u8]) -> bool {
    let node = NodeView::new(page);
    node.count() > 0 && node.key_at(node.count() - 1).compare(key).is_lt()
}

/// Every cut whose halves fit without the incoming entry, and are as `is_wanted` says.
fn weigh_cuts<'a>(
    page: &'a [u8],
    incoming: &Incoming<'a>,
    is_wanted: impl Fn(Half, Half) -> bool,
) -> Vec<Cut<'a>> {
    let node = NodeView::new(page);
    let count = node.count();
    let spec = NodeSpec::of(node);
    let scale = Scale {
        node,
        spec,
        prefix_len: spec.prefix_len(),
        is_inner: PageView::new(page).kind() == PageKind::Inner,
        replaced: node.search(0, incoming.key()).ok().map(|slot| cell_bytes(node, slot)),
    };
    let total = node.used_bytes_logical() - spec.frame().fence_bytes;
    let mut cuts = Vec::new();
    let mut left_bytes = 0;
    for slot in 0..=count {
        let left = Half { cells: slot, bytes: left_bytes };
        let right = Half { cells: count - slot, bytes: total - left_bytes };
        if is_wanted(left, right)
            && let Some(separator) = separator_at(node, scale.is_inner, slot, incoming.key())
        {
            cuts.extend(scale.weigh(separator, left, right, incoming));
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
    is_inner: bool,
    slot: usize,
    incoming: &'a [u8],
) -> Option<Key<'a>> {
    let count = node.count();
    if is_inner {
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

/// What stays the same while cuts of a node are weighed.
struct Scale<'a> {
    node: NodeView<'a>,
    spec: NodeSpec<'a>,
    prefix_len: usize,
    is_inner: bool,
    /// Bytes of the cell that the incoming one replaces.
    replaced: Option<usize>,
}

impl<'a> Scale<'a> {
    /// `None` where a half does not fit.
    fn weigh(
        &self,
        separator: Key<'a>,
        left: Half,
        right: Half,
        incoming: &Incoming<'_>,
    ) -> Option<Cut<'a>> {
        let slot = left.cells;
        let frames = [
            NodeSpec { high: Some(separator), ..self.spec }.frame(),
            NodeSpec { low: separator, ..self.spec }.frame(),
        ];
        let halves = if self.is_inner {
            [left.without_first(0), right.without_first(self.node.suffix(slot).len())]
        } else {
            [left, right]
        };
        let mut bytes = [self.used(frames[0], halves[0]), self.used(frames[1], halves[1])];
        let content = content_bytes(self.node.bytes().len());
        if bytes[0].max(bytes[1]) > content {
            return None;
        }
        let side = usize::from(separator.compare(incoming.key()).is_le());
        bytes[side] += incoming.bytes(frames[side].prefix_len);
        if let Some(replaced) = self.replaced {
            bytes[side] -= replaced - (frames[side].prefix_len - self.prefix_len);
        }
        let fuller = bytes[0].max(bytes[1]);
        Some(Cut { slot, separator, fuller, is_enough: fuller <= content })
    }

    /// Bytes of a node with these cells, whose stored keys still lack only the old prefix.
    fn used(&self, frame: Frame, half: Half) -> usize {
        frame.fence_bytes + half.bytes - half.cells * (frame.prefix_len - self.prefix_len)
    }
}

/// Bytes of a cell with its slot.
fn cell_bytes(node: NodeView<'_>, slot: usize) -> usize {
    SLOT_BYTES + node.cell_len(slot)
}

/// Whether `page` is so empty that a merge with a neighbour is worth a look: below a quarter full.
#[must_use]
pub fn is_sparse(page: &[u8]) -> bool {
    NodeView::new(page).used_bytes_logical() < content_bytes(page.len()) / SPARSE_SHARE
}

/// Whether `left` may absorb its right neighbour: the result is at most three quarters full, so
/// that neither a few inserts split it again nor a few deletes make it [`is_sparse`].
#[must_use]
pub fn can_merge(left: &[u8], right: &[u8]) -> bool {
    let content = content_bytes(left.len());
    are_neighbours(left, right)
        && merged_bytes(left, right) <= content - content / MERGED_FREE_SHARE
}

/// Whether two nodes of the same tree and level lie side by side. Inner nodes without children,
/// which are being dismantled, are nobody's neighbours.
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

/// Makes every cut that was weighed and checks that its halves take what the weighing said.
#[cfg(test)]
pub(super) fn check_cuts(page: &[u8], incoming: &Incoming<'_>) {
    use super::{PageBuf, PageRead, apply, check, right_half};
    use seawall_wal::PageId;
    use seawall_wal::record::{Op, WriteKind};

    let (view, right_id, child) = (PageView::new(page), PageId::new(1 << 40), PageId::new(1 << 41));
    let cuts = weigh_cuts(page, incoming, |_, _| true);
    assert!(!cuts.is_empty(), "a node that lacks room has a cut");
    for cut in cuts {
        let plan = SplitPlan { separator: cut.separator.to_vec(), slot: cut.slot };
        let mut right = right_half(page, &plan, right_id);
        let mut left = PageBuf::copy_of(page);
        let separator = &plan.separator;
        apply(&mut left, view.page_id(), &Op::SplitOff { separator, right: right_id }).unwrap();
        let op = match *incoming {
            Incoming::Cell { key, cell } => {
                let (tree, kind) = (view.tree(), WriteKind::Insert);
                Op::Put { tree, key, kind, after: cell, before: None }
            }
            Incoming::Child { separator } => Op::InsertChild { separator, child },
        };
        let (half, id) = match cut.separator.compare(incoming.key()).is_le() {
            true => (&mut right, right_id),
            false => (&mut left, view.page_id()),
        };
        assert_eq!(apply(half, id, &op).is_ok(), cut.is_enough);
        check(left.bytes()).unwrap();
        check(right.bytes()).unwrap();
        if cut.is_enough {
            let used = [&left, &right].map(|half| NodeView::new(half.bytes()).used_bytes_logical());
            assert_eq!(used[0].max(used[1]), cut.fuller);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seawall_wal::record::{Op, WriteKind};
    use seawall_wal::{PageId, TreeId};

    use super::super::node::{MAX_KEY_BYTES, cell_bytes_max};
    use super::super::{
        LeafView, PAGE_BYTES, PageBuf, PageRead, apply, check, empty_leaf, inner_with_child,
        right_half,
    };
    use super::*;

    const TREE: TreeId = TreeId::new(4);
    const LEFT: PageId = PageId::new(2);
    const RIGHT: PageId = PageId::new(3);

    fn put(page: &mut PageBuf, key: &[u8], value: &[u8]) {
        let after = Cell::inline(value);
        let op = Op::Put { tree: TREE, key, kind: WriteKind::Insert, after, before: None };
        apply(page, LEFT, &op).unwrap();
    }

    fn split(page: &PageBuf, incoming: &Incoming<'_>) -> (PageBuf, PageBuf, SplitPlan) {
        check_cuts(page.bytes(), incoming);
        let plan = split_plan(page.bytes(), incoming);
        let right = right_half(page.bytes(), &plan, RIGHT);
        let mut left = page.clone();
        apply(&mut left, LEFT, &Op::SplitOff { separator: &plan.separator, right: RIGHT }).unwrap();
        check(left.bytes()).unwrap();
        check(right.bytes()).unwrap();
        (left, right, plan)
    }

    fn numbered(number: u32) -> Vec<u8> {
        format!("account:{number:06}").into_bytes()
    }

    /// Fills a leaf with the keys that `next` gives until one does not fit.
    fn fill(spec: &NodeSpec<'_>, mut next: impl FnMut(u32) -> Vec<u8>) -> (PageBuf, Vec<u8>) {
        let mut page = empty_leaf(4096, spec);
        for number in 0.. {
            let key = next(number);
            if !LeafView::new(page.bytes()).fits_put(&key, &Cell::inline(&[0; 90])) {
                return (page, key);
            }
            put(&mut page, &key, &[0; 90]);
        }
        unreachable!("a leaf is finite")
    }

    #[test]
    fn ascending_keys_leave_full_leaves_behind() {
        let (page, key) = fill(&NodeSpec::root(LEFT, TREE, 0), numbered);
        let count = LeafView::new(page.bytes()).count();
        let incoming = Incoming::Cell { key: &key, cell: Cell::inline(&[0; 90]) };
        let (left, right, _) = split(&page, &incoming);
        assert!(LeafView::new(left.bytes()).count() >= count - 1);
        assert!(LeafView::new(right.bytes()).fits_put(&key, &Cell::inline(&[0; 90])));
    }

    #[test]
    fn other_keys_split_near_the_middle_and_at_a_short_separator() {
        let (page, key) =
            fill(&NodeSpec::root(LEFT, TREE, 0), |number| numbered(number * 7919 % 1000));
        let incoming = Incoming::Cell { key: &key, cell: Cell::inline(&[0; 90]) };
        let (left, right, plan) = split(&page, &incoming);
        for half in [&left, &right] {
            let used = NodeView::new(half.bytes()).used_bytes_logical();
            assert!(used > content_bytes(4096) / 3, "{used} bytes used");
        }
        assert!(plan.separator.len() <= b"account:0000".len(), "{:?}", plan.separator);
    }

    #[test]
    fn splits_take_the_prefix_off_the_keys() {
        let (low, high) = (b"account:0".as_slice(), b"zebra".as_slice());
        let spec = NodeSpec {
            low: Key::whole(low),
            high: Some(Key::whole(high)),
            ..NodeSpec::root(LEFT, TREE, 0)
        };
        let (page, key) = fill(&spec, |number| numbered(number * 7919 % 1000));
        assert_eq!(NodeView::new(page.bytes()).prefix(), b"");
        let incoming = Incoming::Cell { key: &key, cell: Cell::inline(&[0; 90]) };
        let (left, right, _) = split(&page, &incoming);
        assert!(NodeView::new(left.bytes()).prefix().starts_with(b"account:"));
        assert_eq!(NodeView::new(right.bytes()).prefix(), b"");
    }

    /// Two keys of the longest kind that differ in their last byte alone.
    fn longest(first: u8, last: u8) -> Vec<u8> {
        let mut key = vec![first; MAX_KEY_BYTES];
        key[MAX_KEY_BYTES - 1] = last;
        key
    }

    #[test]
    fn the_largest_cells_between_the_longest_fences_split_one_by_one() {
        for page_bytes in PAGE_BYTES {
            let (low, high) = (longest(b'a', 0), longest(b'c', 0));
            let spec = NodeSpec {
                low: Key::whole(&low),
                high: Some(Key::whole(&high)),
                ..NodeSpec::root(LEFT, TREE, 0)
            };
            let overhead = SLOT_BYTES + leaf::TAIL_HEAD_BYTES + MAX_KEY_BYTES;
            let value = vec![1; cell_bytes_max(page_bytes) - overhead];
            let cell = Cell::inline(&value);
            let mut page = empty_leaf(page_bytes, &spec);
            let key = longest(b'b', 5);
            assert!(LeafView::new(page.bytes()).fits_put(&key, &cell), "one always fits");
            put(&mut page, &key, &value);
            assert_eq!(LeafView::new(page.bytes()).free_bytes_logical(), 0);
            let too_large = [&value[..], &[0]].concat();
            assert!(!LeafView::new(page.bytes()).fits_put(&key, &Cell::inline(&too_large)));

            for other in [longest(b'b', 4), longest(b'b', 6)] {
                let (left, right, plan) = split(&page, &Incoming::Cell { key: &other, cell });
                assert_eq!(plan.separator.len(), MAX_KEY_BYTES);
                let half = if plan.separator <= other { right } else { left };
                assert_eq!(LeafView::new(half.bytes()).count(), 0);
                assert!(LeafView::new(half.bytes()).fits_put(&other, &cell));
            }
        }
    }

    #[test]
    fn inner_nodes_of_the_longest_separators_split_and_take_the_incoming_one() {
        for page_bytes in PAGE_BYTES {
            let (low, high) = (longest(b'a', 0), longest(b'z', 0));
            let spec = NodeSpec {
                low: Key::whole(&low),
                high: Some(Key::whole(&high)),
                ..NodeSpec::root(LEFT, TREE, 1)
            };
            for reverse in [false, true] {
                let mut page = inner_with_child(page_bytes, &spec, PageId::new(9));
                let mut letters: Vec<u8> = (b'b'..=b'y').collect();
                if reverse {
                    letters.reverse();
                }
                let incoming = letters.iter().map(|&letter| longest(letter, 7)).find(|separator| {
                    if !InnerView::new(page.bytes()).fits_insert_child(separator) {
                        return true;
                    }
                    let op = Op::InsertChild { separator, child: PageId::new(10) };
                    apply(&mut page, LEFT, &op).unwrap();
                    false
                });
                let Some(separator) = incoming else { continue };
                let count = InnerView::new(page.bytes()).count();
                assert!(count >= inner::children_min(page_bytes), "{count} children");
                let (left, right, plan) = split(&page, &Incoming::Child { separator: &separator });
                let half = if plan.separator <= separator { right } else { left };
                assert!(InnerView::new(half.bytes()).fits_insert_child(&separator));
            }
        }
    }

    #[test]
    fn neighbours_merge_only_below_three_quarters_and_only_as_neighbours() {
        let (page, key) =
            fill(&NodeSpec::root(LEFT, TREE, 0), |number| numbered(number * 77 % 100));
        let incoming = Incoming::Cell { key: &key, cell: Cell::inline(&[0; 90]) };
        let (mut left, right, _) = split(&page, &incoming);
        assert!(!can_merge(left.bytes(), right.bytes()), "a fresh split is not undone");
        assert!(!can_merge(right.bytes(), left.bytes()));
        while !can_merge(left.bytes(), right.bytes()) {
            let key = LeafView::new(left.bytes()).key_at(0).to_vec();
            apply(&mut left, LEFT, &Op::Remove { tree: TREE, key: &key }).unwrap();
        }
        let content = content_bytes(4096);
        let merged = merged_bytes(left.bytes(), right.bytes());
        assert!(merged <= content * 3 / 4 && merged > content / 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The proof above, by example: any cells between any fences.
        #[test]
        fn any_leaf_that_lacks_room_splits(
            pieces in proptest::collection::vec((0_u8..3, 0_usize..1023, 0_u8..4, 0_usize..900), 2..40),
            low_len in 0_usize..1024,
            high_len in 0_usize..1024,
            bounded in any::<bool>(),
        ) {
            let key = |first: u8, len: usize, last: u8| {
                let mut key = vec![b'k'; len];
                key.insert(0, b'b' + first);
                *key.last_mut().unwrap() = b'b' + last + first;
                key
            };
            let (low, high) = (vec![b'a'; low_len], [b"z", &vec![b'x'; high_len][..]].concat());
            let spec = NodeSpec {
                low: Key::whole(&low),
                high: bounded.then_some(Key::whole(&high)),
                ..NodeSpec::root(LEFT, TREE, 0)
            };
            let mut pages = vec![empty_leaf(4096, &spec)];
            for (first, len, last, value_len) in pieces {
                let key = key(first, len, last);
                let room = cell_bytes_max(4096) - SLOT_BYTES - leaf::TAIL_HEAD_BYTES - key.len();
                let value = vec![1; value_len.min(room)];
                let is_for = |page: &PageBuf| NodeView::new(page.bytes()).contains_key_range(&key);
                let mut at = pages.iter().position(is_for).unwrap();
                while !LeafView::new(pages[at].bytes()).fits_put(&key, &Cell::inline(&value)) {
                    let count = LeafView::new(pages[at].bytes()).count();
                    let incoming = Incoming::Cell { key: &key, cell: Cell::inline(&value) };
                    let (left, right, plan) = split(&pages[at], &incoming);
                    let counts = [&left, &right].map(|half| NodeView::new(half.bytes()).count());
                    prop_assert_eq!(counts[0] + counts[1], count);
                    pages[at] = left;
                    pages.insert(at + 1, right);
                    at += usize::from(plan.separator <= key);
                    prop_assert!(NodeView::new(pages[at].bytes()).count() < count);
                }
                put(&mut pages[at], &key, &value);
            }
        }
    }
}
