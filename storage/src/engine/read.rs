//! Reading keys and leaves, with the versions that the reader is to see.
//!
//! Cell and version are taken under one latch or not at all (invariant T3): a writer pushes the
//! version before it changes the cell, and holds the leaf exclusively while it does both. What is
//! found is copied out under the latch, so that no user code runs under it (L1).

use std::ops::{Bound, Range};

use seawall_wal::{Lsn, Result};

use super::Engine;
use super::append::page_lsn;
use crate::catalogue::TreeInfo;
use crate::page::{LeafView, PageRead};
use crate::pool::SharedPage;
use crate::tree::{Descent, Seek};
use crate::txn::CommitCell;
use crate::version::{Seen, VersionKey};

/// What a reader sees.
#[derive(Clone, Copy, Debug)]
pub(crate) enum View<'a> {
    /// What is visible at the moment the leaf is latched. The reader is not registered: what it
    /// needs cannot be collected, since the horizon never passes `visible_lsn`.
    Latest,
    /// A registered reader's view.
    At(ReadAt<'a>),
}

/// A registered reader's position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadAt<'a> {
    /// Commits at or below are seen.
    pub(crate) read_lsn: Lsn,
    /// A page at or below carries no change that is not seen.
    pub(crate) low_lsn: Lsn,
    /// The reading transaction, whose own writes are seen.
    pub(crate) own: Option<&'a CommitCell>,
}

/// Where a value was put, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The value itself.
    Inline,
    /// The link to its overflow extents.
    Overflow,
}

/// Pairs copied out of one leaf.
#[derive(Debug, Default)]
pub(crate) struct LeafPairs {
    bytes: Vec<u8>,
    pairs: Vec<PairAt>,
}

#[derive(Clone, Debug)]
struct PairAt {
    key: Range<usize>,
    value: Range<usize>,
    found: Found,
}

/// What remains of a range after one of its leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Done,
    /// The range continues at this key: forward from it on, backward below it.
    From(Vec<u8>),
}

impl LeafPairs {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.pairs.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Key, value or overflow link, and which of the two.
    pub(crate) fn get(&self, index: usize) -> (&[u8], &[u8], Found) {
        let pair = &self.pairs[index];
        (&self.bytes[pair.key.clone()], &self.bytes[pair.value.clone()], pair.found)
    }

    fn push(&mut self, leaf: LeafView<'_>, slot: usize, value: &[u8], found: Found) {
        let key_start = self.bytes.len();
        leaf.key_at(slot).append_to(&mut self.bytes);
        let value_start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let (key, value) = (key_start..value_start, value_start..self.bytes.len());
        self.pairs.push(PairAt { key, value, found });
    }
}

impl Engine {
    pub(crate) fn descent(&self, tree: &TreeInfo) -> Descent<'_> {
        Descent { pool: &self.pool, tree: tree.id, root: tree.root }
    }

    /// Looks up `key`; appends its value, or the link to it, to `out`.
    pub(crate) fn lookup(
        &self,
        tree: &TreeInfo,
        key: &[u8],
        view: View<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Found>> {
        let page: SharedPage<'_> = self.descent(tree).leaf(Seek::Key(key))?;
        let leaf = LeafView::new(page.bytes());
        let at = self.read_at(view);
        let mut found = None;
        if let Ok(slot) = leaf.find(key) {
            let version_key = || VersionKey::new(tree.id, key);
            self.see_cell(&page, slot, at, version_key, |value, kind| {
                out.extend_from_slice(value);
                found = Some(kind);
            });
        }
        Ok(found)
    }

    /// The position that a view means once its leaf is latched.
    fn read_at<'a>(&self, view: View<'a>) -> ReadAt<'a> {
        match view {
            View::At(at) => at,
            View::Latest => {
                ReadAt { read_lsn: self.log.visible_lsn(), low_lsn: Lsn::NONE, own: None }
            }
        }
    }

    /// Calls `found` with what the reader sees in `slot`, if it sees a live cell.
    fn see_cell(
        &self,
        page: &SharedPage<'_>,
        slot: usize,
        at: ReadAt<'_>,
        key: impl FnOnce() -> VersionKey,
        found: impl FnOnce(&[u8], Found),
    ) {
        let seen = if page_lsn(page) <= at.low_lsn {
            Seen::Page
        } else {
            self.versions.see(&key(), at.read_lsn, at.own)
        };
        let before;
        let cell = match seen {
            Seen::Page => LeafView::new(page.bytes()).cell_at(slot),
            Seen::Before(None) => return,
            Seen::Before(Some(cell)) => {
                before = cell;
                before.as_cell()
            }
        };
        if !cell.is_ghost {
            found(cell.value, if cell.is_overflow { Found::Overflow } else { Found::Inline });
        }
    }

    /// How many keys of a leaf, from `from` on, the reader sees.
    pub(crate) fn count_seen(
        &self,
        tree: &TreeInfo,
        page: &SharedPage<'_>,
        from: &[u8],
        at: ReadAt<'_>,
    ) -> u64 {
        let leaf = LeafView::new(page.bytes());
        let mut count = 0;
        for slot in leaf.lower_bound(from)..leaf.count() {
            let key = || VersionKey::new(tree.id, &leaf.key_at(slot).to_vec());
            self.see_cell(page, slot, at, key, |_, _| count += 1);
        }
        count
    }

    /// Copies what the reader sees of the first leaf of the range, in ascending order.
    pub(crate) fn copy_first_leaf(
        &self,
        tree: &TreeInfo,
        (lower, upper): (Bound<&[u8]>, Bound<&[u8]>),
        view: View<'_>,
        out: &mut LeafPairs,
    ) -> Result<Rest> {
        let start = match lower {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        let page: SharedPage<'_> = self.descent(tree).leaf(Seek::Key(start))?;
        let leaf = LeafView::new(page.bytes());
        let first = match (lower, leaf.find(start)) {
            (Bound::Excluded(_), Ok(slot)) => slot + 1,
            (_, Ok(slot) | Err(slot)) => slot,
        };
        let end = end_slot(leaf, upper);
        self.copy_slots(tree, &page, first..end, view, out);
        Ok(match leaf.high_fence() {
            Some(fence) if end == leaf.count() && is_below(&fence.to_vec(), upper) => {
                Rest::From(fence.to_vec())
            }
            _ => Rest::Done,
        })
    }

    /// Copies what the reader sees of the last leaf of the range, in ascending order.
    pub(crate) fn copy_last_leaf(
        &self,
        tree: &TreeInfo,
        (lower, upper): (Bound<&[u8]>, Bound<&[u8]>),
        view: View<'_>,
        out: &mut LeafPairs,
    ) -> Result<Rest> {
        let seek = match upper {
            Bound::Included(key) => Seek::Key(key),
            Bound::Excluded(key) => Seek::Below(key),
            Bound::Unbounded => Seek::Last,
        };
        let page: SharedPage<'_> = self.descent(tree).leaf(seek)?;
        let leaf = LeafView::new(page.bytes());
        let first = match lower {
            Bound::Included(key) => leaf.lower_bound(key),
            Bound::Excluded(key) => leaf.find(key).map_or_else(|slot| slot, |slot| slot + 1),
            Bound::Unbounded => 0,
        };
        self.copy_slots(tree, &page, first..end_slot(leaf, upper), view, out);
        let fence = leaf.low_fence().to_vec();
        let is_more = match lower {
            Bound::Included(key) | Bound::Excluded(key) => key < &fence[..],
            Bound::Unbounded => !fence.is_empty(),
        };
        Ok(if is_more { Rest::From(fence) } else { Rest::Done })
    }

    fn copy_slots(
        &self,
        tree: &TreeInfo,
        page: &SharedPage<'_>,
        slots: Range<usize>,
        view: View<'_>,
        out: &mut LeafPairs,
    ) {
        let leaf = LeafView::new(page.bytes());
        let at = self.read_at(view);
        let mut version_key = VersionKey::new(tree.id, &[]);
        for slot in slots {
            let key = || {
                version_key.set_key(&leaf.key_at(slot).to_vec());
                version_key.clone()
            };
            self.see_cell(page, slot, at, key, |value, found| out.push(leaf, slot, value, found));
        }
    }
}

/// The slot behind the last one within `upper`.
fn end_slot(leaf: LeafView<'_>, upper: Bound<&[u8]>) -> usize {
    match upper {
        Bound::Included(key) => leaf.find(key).map_or_else(|slot| slot, |slot| slot + 1),
        Bound::Excluded(key) => leaf.lower_bound(key),
        Bound::Unbounded => leaf.count(),
    }
}

fn is_below(key: &[u8], upper: Bound<&[u8]>) -> bool {
    match upper {
        Bound::Included(upper) => key <= upper,
        Bound::Excluded(upper) => key < upper,
        Bound::Unbounded => true,
    }
}
