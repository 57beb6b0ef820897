//! Inner nodes: separators with the children whose keys begin there.
//!
//! | part of a cell | size | content |
//! |---|---|---|
//! | suffix | from the slot | the separator without the node's prefix; empty in slot 0 |
//! | child | 8 | page id |
//!
//! Child *i* has the keys from separator *i* up to separator *i + 1*, the last one up to the high
//! fence. Separator 0 is the low fence, which the node stores anyway, so slot 0 has an empty suffix
//! and a search begins at slot 1. A node that is being dismantled may have no child at all.

use std::cmp::Ordering;

use seawall_wal::PageId;

use super::bytes::u64_at;
use super::header::{PageKind, PageView};
use super::key::Key;
use super::node::{MAX_KEY_BYTES, NodeView, SLOT_BYTES, content_bytes};

/// Bytes of a cell behind its key.
pub(super) const TAIL_BYTES: usize = 8;

// Any inner node has room for two children between two fences of the longest keys, so that a node
// split down to one child takes the child that made it split. From 8 KiB on it has room for four.
const _: () = assert!(children_min(4096) == 2);
const _: () = assert!(children_min(8192) >= 4 && children_min(32768) >= 4);

/// How many children fit an inner node whose fences and separators are all of the longest kind and
/// share nothing.
#[must_use]
pub const fn children_min(page_bytes: usize) -> usize {
    let beside_first = content_bytes(page_bytes) - 2 * MAX_KEY_BYTES - SLOT_BYTES - TAIL_BYTES;
    1 + beside_first / (SLOT_BYTES + MAX_KEY_BYTES + TAIL_BYTES)
}

/// A child of an inner node.
#[derive(Clone, Copy, Debug)]
pub struct Child<'a> {
    /// Its slot.
    pub slot: usize,
    /// Its page.
    pub page: PageId,
    /// Lowest key of its range.
    pub low: Key<'a>,
    /// First key beyond its range; `None` for the last child of a rightmost node.
    pub high: Option<Key<'a>>,
}

/// An inner node. Copying it copies a reference.
#[derive(Clone, Copy, Debug)]
pub struct InnerView<'a> {
    node: NodeView<'a>,
}

impl<'a> InnerView<'a> {
    /// Looks at an inner node. The caller has checked the kind: of other bytes the answers mean nothing, but
    /// none panics.
    #[inline]
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { node: NodeView::new(bytes) }
    }

    /// The header.
    #[inline]
    #[must_use]
    pub const fn page(self) -> PageView<'a> {
        self.node.page()
    }

    /// Keys and fences.
    #[inline]
    #[must_use]
    pub const fn node(self) -> NodeView<'a> {
        self.node
    }

    /// How many children there are.
    #[inline]
    #[must_use]
    pub fn count(self) -> usize {
        self.node.count()
    }

    /// The slot of the child for `key`, which lies within the fences; 0 also for a key below them.
    #[inline]
    #[must_use]
    pub fn slot_for(self, key: &[u8]) -> usize {
        match self.node.search(1, key) {
            Ok(slot) => slot,
            Err(next) => next.saturating_sub(1),
        }
    }

    /// The child for `key`, which lies within the fences; `None` when there is no child.
    #[inline]
    #[must_use]
    pub fn child_for(self, key: &[u8]) -> Option<Child<'a>> {
        self.child(self.slot_for(key))
    }

    /// The child in a slot.
    #[inline]
    #[must_use]
    pub fn child(self, slot: usize) -> Option<Child<'a>> {
        (slot < self.count()).then(|| Child {
            slot,
            page: self.child_page(slot),
            low: self.separator(slot),
            high: self.next_separator(slot),
        })
    }

    /// The page of the child in a slot; [`PageId::NONE`] when there is none.
    #[inline]
    #[must_use]
    pub fn child_page(self, slot: usize) -> PageId {
        let slot = self.node.slot(slot);
        PageId::new(u64_at(self.node.bytes(), slot.offset + slot.suffix_len))
    }

    /// Lowest key of the range of the child in a slot.
    #[inline]
    #[must_use]
    pub fn separator(self, slot: usize) -> Key<'a> {
        if slot == 0 { self.node.low_fence() } else { self.node.key_at(slot) }
    }

    /// First key beyond the range of the child in a slot; `None` when that is unbounded.
    #[inline]
    #[must_use]
    pub fn next_separator(self, slot: usize) -> Option<Key<'a>> {
        let next = slot + 1;
        if next < self.count() { Some(self.node.key_at(next)) } else { self.node.high_fence() }
    }

    /// The slot of the child whose range begins exactly at `separator`, or the slot it would take.
    pub fn find_separator(self, separator: &[u8]) -> Result<usize, usize> {
        if self.count() == 0 {
            return Err(0);
        }
        match self.node.low_fence().compare(separator) {
            Ordering::Equal => Ok(0),
            Ordering::Greater => Err(0),
            Ordering::Less => self.node.search(1, separator),
        }
    }

    /// Whether `InsertChild` with this separator succeeds, apart from its range. Depends on content
    /// alone.
    #[must_use]
    pub fn fits_insert_child(self, separator: &[u8]) -> bool {
        let suffix_len = if self.count() == 0 {
            0
        } else {
            separator.len().saturating_sub(self.node.prefix_len())
        };
        slot_and_cell_bytes(suffix_len) <= self.node.free_bytes_logical()
    }

    /// Whether a separator of any length fits.
    #[cfg(test)]
    pub(crate) fn fits_any_child(self) -> bool {
        slot_and_cell_bytes(MAX_KEY_BYTES - self.node.prefix_len().min(MAX_KEY_BYTES))
            <= self.node.free_bytes_logical()
    }

    /// Lowest key the node may hold; empty on the leftmost node of a level.
    #[must_use]
    pub fn low_fence(self) -> Key<'a> {
        self.node.low_fence()
    }

    /// First key beyond the node; `None` on the rightmost node of a level.
    #[must_use]
    pub fn high_fence(self) -> Option<Key<'a>> {
        self.node.high_fence()
    }

    /// Whether `key` belongs below this node: low fence <= key < high fence.
    #[must_use]
    pub fn contains_key_range(self, key: &[u8]) -> bool {
        self.node.contains_key_range(key)
    }

    /// Bytes for further children and their slots.
    #[must_use]
    pub fn free_bytes_logical(self) -> usize {
        self.node.free_bytes_logical()
    }

    /// Checks that the page is an inner node.
    pub(super) fn of_kind(bytes: &'a [u8]) -> Option<Self> {
        (PageView::new(bytes).kind() == PageKind::Inner).then(|| Self::new(bytes))
    }
}

/// Bytes of slot and cell for a separator of which `suffix_len` bytes are stored.
pub(super) const fn slot_and_cell_bytes(suffix_len: usize) -> usize {
    SLOT_BYTES + suffix_len + TAIL_BYTES
}
