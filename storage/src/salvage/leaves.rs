//! Which leaf knows a key: of those whose range holds it, the one with the newest position.
//!
//! Nothing is reached from a root: inner nodes may be lost. All leaves of a tree are laid side by side
//! by their fences. Where pages are whole that gives the tree as it is, since whatever moved a range to
//! another leaf gave that a newer position; a range that no leaf holds is a gap.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use seawall_wal::{Lsn, PageId, TreeId};

use super::pages::{Pages, Version};
use crate::page::{LeafView, PageBuf, PageKind, PageRead, PageView};

/// Where a leaf is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Page(PageId),
    /// Of those that the log describes and no page holds.
    Loose(usize),
}

/// A leaf by its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) low: Vec<u8>,
    pub(super) high: Option<Vec<u8>>,
    pub(super) lsn: Lsn,
    pub(super) place: Place,
    /// Whether it is the newest version of its page.
    pub(super) is_newest: bool,
}

/// A part of a tree's keys, and the leaf that knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice<'l> {
    pub(super) low: &'l [u8],
    pub(super) high: Option<&'l [u8]>,
    pub(super) leaf: Option<&'l Leaf>,
}

/// The leaves of every tree.
pub(super) fn all(pages: &mut Pages, loose: &[PageBuf]) -> BTreeMap<TreeId, Vec<Leaf>> {
    let mut trees: BTreeMap<TreeId, Vec<Leaf>> = BTreeMap::new();
    for id in pages.ids() {
        let Some(Version { page, is_newest }) = pages.newest(id) else { continue };
        let view = PageView::new(page.bytes());
        if view.kind() == PageKind::Leaf && !pages.is_free(id, view.page_lsn()) {
            let leaf = leaf(&page, Place::Page(id), is_newest);
            trees.entry(view.tree()).or_default().push(leaf);
        }
    }
    for (index, page) in loose.iter().enumerate() {
        let tree = PageView::new(page.bytes()).tree();
        // It was merged into a page that is lost: that page may have changed since.
        trees.entry(tree).or_default().push(leaf(page, Place::Loose(index), false));
    }
    trees
}

fn leaf(page: &PageBuf, place: Place, is_newest: bool) -> Leaf {
    let view = LeafView::new(page.bytes());
    Leaf {
        low: view.low_fence().to_vec(),
        high: view.high_fence().map(|fence| fence.to_vec()),
        lsn: view.page().page_lsn(),
        place,
        is_newest,
    }
}

/// Cuts the keys of a tree into slices, in order and without a rest.
pub(super) fn slices(leaves: &[Leaf]) -> Vec<Slice<'_>> {
    let mut by_low: Vec<&Leaf> = leaves.iter().collect();
    by_low.sort_by(|one, two| two.low.cmp(&one.low));
    let lows = leaves.iter().map(|leaf| leaf.low.as_slice());
    let highs = leaves.iter().filter_map(|leaf| leaf.high.as_deref());
    let mut bounds: Vec<&[u8]> = lows.chain(highs).chain([&[][..]]).collect();
    bounds.sort_unstable();
    bounds.dedup();
    // The newest on top; those that have ended are taken away when they come to the top.
    let mut begun = BinaryHeap::new();
    let mut slices: Vec<Slice<'_>> = Vec::new();
    for (index, &low) in bounds.iter().enumerate() {
        while let Some(leaf) = by_low.pop_if(|leaf| leaf.low.as_slice() <= low) {
            begun.push((leaf.lsn, Reverse(leaf.low.as_slice()), ByRange(leaf)));
        }
        let has_ended = |leaf: &Leaf| leaf.high.as_deref().is_some_and(|high| high <= low);
        while begun.peek().is_some_and(|(_, _, ByRange(leaf))| has_ended(leaf)) {
            begun.pop();
        }
        let leaf = begun.peek().map(|(_, _, ByRange(leaf))| *leaf);
        let high = bounds.get(index + 1).copied();
        match slices.last_mut() {
            Some(last) if last.leaf.map(|it| it.place) == leaf.map(|it| it.place) => {
                last.high = high
            }
            _ => slices.push(Slice { low, high, leaf }),
        }
    }
    slices
}

/// Ordered by nothing of its own: two leaves of one position and one low fence are equal to a heap.
struct ByRange<'l>(&'l Leaf);

impl PartialEq for ByRange<'_> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ByRange<'_> {}

impl PartialOrd for ByRange<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByRange<'_> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(low: &str, high: &str, lsn: u64) -> Leaf {
        let high = (!high.is_empty()).then(|| high.into());
        let (lsn, place) = (Lsn::new(lsn), Place::Page(PageId::new(lsn)));
        Leaf { low: low.into(), high, lsn, place, is_newest: true }
    }

    /// Each slice as its bounds and the position of its leaf.
    fn cut(leaves: &[Leaf]) -> Vec<(String, String, u64)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let lsn = |leaf: Option<&Leaf>| leaf.map_or(0, |leaf| leaf.lsn.get());
        let slices = slices(leaves);
        let shown = |it: &Slice<'_>| (text(it.low), it.high.map_or("".into(), text), lsn(it.leaf));
        slices.iter().map(shown).collect()
    }

    fn expected(slices: &[(&str, &str, u64)]) -> Vec<(String, String, u64)> {
        slices.iter().map(|&(low, high, lsn)| (low.into(), high.into(), lsn)).collect()
    }

    #[test]
    fn of_two_leaves_that_hold_a_key_the_newer_one_counts() {
        let halves = [leaf("", "", 5), leaf("m", "", 9)];
        assert_eq!(cut(&halves), expected(&[("", "m", 5), ("m", "", 9)]));
        let merged = [leaf("", "", 9), leaf("m", "", 5)];
        assert_eq!(cut(&merged), expected(&[("", "", 9)]));
        let inside = [leaf("", "", 5), leaf("c", "f", 9), leaf("d", "e", 7), leaf("e", "g", 6)];
        let slices = expected(&[("", "c", 5), ("c", "f", 9), ("f", "g", 6), ("g", "", 5)]);
        assert_eq!(cut(&inside), slices);
    }

    #[test]
    fn what_no_leaf_holds_is_a_gap() {
        assert_eq!(cut(&[]), expected(&[("", "", 0)]));
        assert_eq!(
            cut(&[leaf("b", "d", 3)]),
            expected(&[("", "b", 0), ("b", "d", 3), ("d", "", 0)])
        );
        let apart = [leaf("", "b", 3), leaf("d", "", 4)];
        assert_eq!(cut(&apart), expected(&[("", "b", 3), ("b", "d", 0), ("d", "", 4)]));
    }
}
