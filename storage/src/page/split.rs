//! Where a node splits. It depends on logical content alone.
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
//! half again, and comes to an end since it has fewer cells, or shorter fences, each time.
//!
//! **Trees of long keys stay low.** Keys that share a thousand bytes have separators that long, and
//! between two long fences that share nothing, an inner node of 4 KiB has room for two children only:
//! it splits into one and one, and a tree of such nodes would grow a level with every few keys. So a
//! cut with a much longer separator than necessary is not taken, wherever it lies. Among the gaps
//! between neighbouring keys of a node, fences included, the lowest one has a separator one byte
//! longer than what the fences share; a cut there adds a byte to the fences of either half. Long
//! separators stay at the bottom of the tree, between keys that share them and take them off as their
//! prefix; the levels above part at short ones.

use seawall_wal::record::Cell;

use super::cut::{Cut, weigh_cuts};
use super::header::PageKind;
use super::node::{NodeView, content_bytes};
use super::{inner, leaf};

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
    pub(super) const fn key(&self) -> &'a [u8] {
        match self {
            Self::Cell { key, .. } => key,
            Self::Child { separator } => separator,
        }
    }

    /// Bytes it takes, with its slot, where `prefix_len` bytes of its key are not stored.
    pub(super) fn bytes(&self, prefix_len: usize) -> usize {
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

/// Chooses where to split `page`, on which `incoming` does not fit.
///
/// Entries that arrive in order leave full pages behind: an incoming key above all others gets the
/// right half to itself, or with as few cells as possible, and one below all others the left half.
/// Otherwise the cut with the shortest separator near the middle is taken.
///
/// # Panics
/// When `incoming` fits, so that there may be no cut.
#[must_use]
pub fn split_plan(page: &[u8], incoming: &Incoming<'_>) -> SplitPlan {
    let content = content_bytes(page.len());
    let mut cuts = weigh_cuts(page, incoming);
    keep(&mut cuts, |cut| cut.is_enough);
    let shortest = cuts.iter().map(|cut| cut.separator.len()).min().unwrap_or(0);
    keep(&mut cuts, |cut| cut.separator.len() <= shortest + content / 16);
    keep(&mut cuts, |cut| !cut.is_at_fence);

    let best = match place_of(page, incoming.key()) {
        Place::AboveAll => cuts.iter().max_by_key(|cut| cut.slot),
        Place::BelowAll => cuts.iter().min_by_key(|cut| cut.slot),
        Place::Between => {
            let evenest = cuts.iter().map(|cut| cut.fuller).min().unwrap_or(0);
            cuts.iter()
                .filter(|cut| cut.fuller <= evenest + content / 8)
                .min_by_key(|cut| (cut.separator.len(), cut.fuller))
        }
    };
    let best = best.expect("a node that lacks room has cells to part");
    SplitPlan { separator: best.separator.to_vec(), slot: best.slot }
}

/// Drops the cuts that are not `good`, unless none is.
fn keep(cuts: &mut Vec<Cut<'_>>, good: impl Fn(&Cut<'_>) -> bool) {
    if cuts.iter().any(&good) {
        cuts.retain(good);
    }
}

/// Where an incoming key goes.
enum Place {
    AboveAll,
    BelowAll,
    Between,
}

fn place_of(page: &[u8], key: &[u8]) -> Place {
    let node = NodeView::new(page);
    // The first separator of an inner node is its low fence, which is below everything.
    let first = usize::from(node.page().kind() == PageKind::Inner);
    match node.search(first, key) {
        Err(slot) if slot == node.count() => Place::AboveAll,
        Err(slot) if slot == first => Place::BelowAll,
        _ => Place::Between,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seawall_wal::record::{Op, WriteKind};
    use seawall_wal::{PageId, TreeId};

    use super::super::build::NodeSpec;
    use super::super::cut::check_cuts;
    use super::super::merge::{can_merge, merged_bytes};
    use super::super::node::{MAX_KEY_BYTES, SLOT_BYTES, cell_bytes_max};
    use super::super::{
        InnerView, Key, LeafView, PAGE_BYTES, PageBuf, PageRead, apply, check, empty_leaf,
        inner_with_child, right_half,
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
                    let node = NodeView::new(pages[at].bytes());
                    let (count, used) = (node.count(), node.used_bytes_logical());
                    let incoming = Incoming::Cell { key: &key, cell: Cell::inline(&value) };
                    let (left, right, plan) = split(&pages[at], &incoming);
                    let counts = [&left, &right].map(|half| NodeView::new(half.bytes()).count());
                    prop_assert_eq!(counts[0] + counts[1], count);
                    pages[at] = left;
                    pages.insert(at + 1, right);
                    at += usize::from(plan.separator <= key);
                    prop_assert!(NodeView::new(pages[at].bytes()).used_bytes_logical() < used);
                }
                put(&mut pages[at], &key, &value);
            }
        }
    }
}
