//! Nodes that are read without a latch, while they may be changing.
//!
//! The same layout as in `node`, `inner` and `leaf`, reached by loads of single words. What comes
//! out means something only when the loads are known to belong together, which whoever has the page
//! finds out afterwards; until then every answer may be nonsense, and none leads outside the page,
//! loops for ever or panics.

use std::cmp::Ordering;
use std::ops::Range;

use seawall_wal::record::Stamp;
use seawall_wal::{Lsn, PageId, TreeId, TxnId};

use super::bytes::PageLoad;
use super::header::{
    HEADER_BYTES, KIND, LOW_LEN, NodeLabel, PAGE_LSN, PREFIX_LEN, PageKind, SLOT_COUNT, TREE_ID,
};
use super::leaf::{CELL_FLAGS, Tail, VALUE_LEN};
use super::node::{SLOT_BYTES, Slot};
use super::search::{Slots, search};

/// A node that may be changing. Copying it copies a reference.
#[derive(Debug)]
pub struct OptimisticNode<'p, P> {
    page: &'p P,
}

impl<P> Clone for OptimisticNode<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for OptimisticNode<'_, P> {}

/// A cell of a leaf.
#[derive(Clone, Debug)]
pub struct OptimisticCell {
    /// Deleted.
    pub is_ghost: bool,
    /// The value is the link to overflow extents.
    pub is_overflow: bool,
    /// A huge transaction's stamp.
    pub stamp: Option<Stamp>,
    /// Where the value is.
    value: Range<usize>,
}

impl<'p, P: PageLoad> OptimisticNode<'p, P> {
    /// Looks at a page.
    #[inline]
    #[must_use]
    pub const fn new(page: &'p P) -> Self {
        Self { page }
    }

    /// What the page says it is.
    #[inline]
    #[must_use]
    pub fn label(self) -> NodeLabel {
        let [kind, level, ..] = self.page.load_u64(KIND).to_le_bytes();
        let tree = TreeId::new(self.page.load_u64(TREE_ID));
        NodeLabel { kind: PageKind::decode(kind).unwrap_or(PageKind::Free), level, tree }
    }

    /// END of the last record applied.
    #[inline]
    #[must_use]
    pub fn page_lsn(self) -> Lsn {
        Lsn::new(self.page.load_u64(PAGE_LSN))
    }

    /// Of an inner node: the child for `key`.
    #[inline]
    #[must_use]
    pub fn child_for(self, key: &[u8]) -> PageId {
        match self.find(1, key) {
            Ok(slot) => self.child(slot),
            Err(next) => self.child(next.saturating_sub(1)),
        }
    }

    /// Of an inner node: the child for the keys just below `key`, which lies above the low fence.
    #[must_use]
    pub fn child_below(self, key: &[u8]) -> PageId {
        let (Ok(next) | Err(next)) = self.find(1, key);
        self.child(next.saturating_sub(1))
    }

    /// Of an inner node: the last child.
    #[must_use]
    pub fn last_child(self) -> PageId {
        self.child(self.count().saturating_sub(1))
    }

    /// Of a leaf: the cell of `key`.
    #[inline]
    #[must_use]
    pub fn cell(self, key: &[u8]) -> Option<OptimisticCell> {
        let slot = self.slot(self.find(0, key).ok()?);
        let start = slot.offset + slot.suffix_len;
        let flags = self.page.load_u8(start + CELL_FLAGS);
        let Tail { is_ghost, is_overflow, stamp, value } =
            Tail::at(start, flags, self.short(start + VALUE_LEN));
        let stamp = stamp.map(|[txn, undo_lsn]| Stamp {
            txn: TxnId::new(self.page.load_u64(txn)),
            undo_lsn: Lsn::new(self.page.load_u64(undo_lsn)),
        });
        Some(OptimisticCell { is_ghost, is_overflow, stamp, value })
    }

    /// Appends the value of a cell to `out`.
    #[inline]
    pub fn append_value(self, cell: &OptimisticCell, out: &mut Vec<u8>) {
        self.page.append_to(cell.value.start, cell.value.len(), out);
    }

    /// [`PageId::NONE`] where there is no such slot, like [`super::InnerView::child_page`].
    #[inline]
    fn child(self, slot: usize) -> PageId {
        if slot >= self.count() {
            return PageId::NONE;
        }
        let slot = self.slot(slot);
        PageId::new(self.page.load_u64(slot.offset + slot.suffix_len))
    }

    fn short(self, offset: usize) -> usize {
        usize::from(self.page.load_u16(offset))
    }

    #[inline]
    fn find(self, first: usize, key: &[u8]) -> Result<usize, usize> {
        let low_len = self.short(LOW_LEN);
        let prefix_len = self.short(PREFIX_LEN).min(low_len);
        if prefix_len == 0 {
            return search(&self, first, key);
        }
        let (start, suffix) = key.split_at(prefix_len.min(key.len()));
        let low_start = self.page.page_bytes().saturating_sub(low_len);
        match self.page.compare(low_start, prefix_len, start) {
            Ordering::Equal => search(&self, first, suffix),
            Ordering::Greater => Err(first.min(self.count())),
            Ordering::Less => Err(self.count()),
        }
    }

    #[inline]
    fn slot(self, slot: usize) -> Slot {
        Slot::decode(&self.page.load_u64(slot_offset(slot)).to_le_bytes())
    }
}

impl<P: PageLoad> Slots for OptimisticNode<'_, P> {
    #[inline]
    fn count(&self) -> usize {
        let room = (self.page.page_bytes() - HEADER_BYTES) / SLOT_BYTES;
        self.short(SLOT_COUNT).min(room)
    }

    #[inline]
    fn head(&self, slot: usize) -> u32 {
        let [a, b, c, d, ..] = self.page.load_u64(slot_offset(slot)).to_le_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    #[inline]
    fn compare(&self, slot: usize, suffix: &[u8]) -> Ordering {
        let slot = self.slot(slot);
        self.page.compare(slot.offset, slot.suffix_len, suffix)
    }
}

// A slot is one aligned word.
const _: () = assert!(HEADER_BYTES.is_multiple_of(8) && SLOT_BYTES == 8);

const fn slot_offset(slot: usize) -> usize {
    HEADER_BYTES + slot * SLOT_BYTES
}

#[cfg(test)]
impl PageLoad for super::PageBuf {
    fn page_bytes(&self) -> usize {
        super::PageRead::bytes(self).len()
    }

    fn load_u64(&self, offset: usize) -> u64 {
        let rest = super::PageRead::bytes(self).get(offset..).unwrap_or_default();
        let mut word = [0; 8];
        let count = rest.len().min(word.len());
        word[..count].copy_from_slice(&rest[..count]);
        u64::from_le_bytes(word)
    }

    fn append_to(&self, offset: usize, length: usize, out: &mut Vec<u8>) {
        let rest = super::PageRead::bytes(self).get(offset..).unwrap_or_default();
        out.extend_from_slice(&rest[..length.min(rest.len())]);
    }
}

/// Asserts that a node which does not change says the same to those who latch it and to those who do
/// not.
#[cfg(test)]
pub(super) fn check_agrees(page: &super::PageBuf) {
    use super::{InnerView, LeafView, PageRead, PageView};

    let (bytes, node) = (page.bytes(), OptimisticNode::new(page));
    let header = PageView::new(bytes);
    assert_eq!(node.label(), header.label());
    assert_eq!(node.page_lsn(), header.page_lsn());
    let (leaf, inner) = (LeafView::new(bytes), InnerView::new(bytes));
    if header.kind() == PageKind::Leaf {
        let live = leaf.live_cells(0..leaf.count());
        let live = live.map(|(key, value, link)| (key.to_vec(), bytes[value].to_vec(), link));
        let cells = (0..leaf.count()).map(|slot| (leaf.key_at(slot).to_vec(), leaf.cell_at(slot)));
        let cells = cells.filter(|(_, cell)| !cell.is_ghost);
        assert!(live.eq(cells.map(|(key, cell)| (key, cell.value.to_vec(), cell.is_overflow))));
    }
    let mut keys: Vec<_> = (0..leaf.count()).map(|slot| leaf.key_at(slot).to_vec()).collect();
    keys.extend(leaf.high_fence().map(super::Key::to_vec));
    keys.push(leaf.low_fence().to_vec());
    for key in &keys.clone() {
        let shorter = key.split_last().map_or(&[][..], |(_, start)| start);
        keys.extend([shorter.to_vec(), [key, &[0][..]].concat(), [key, &[0xff][..]].concat()]);
    }
    for key in keys {
        if header.kind() == PageKind::Leaf {
            let (cell, expected) = (node.cell(&key), leaf.get(&key));
            assert_eq!(cell.is_some(), expected.is_some(), "{key:?}");
            let (Some(cell), Some(expected)) = (cell, expected) else { continue };
            let mut value = Vec::new();
            node.append_value(&cell, &mut value);
            assert_eq!(value, expected.value);
            let flags = (cell.is_ghost, cell.is_overflow, cell.stamp);
            assert_eq!(flags, (expected.is_ghost, expected.is_overflow, expected.stamp));
        } else if inner.contains_key_range(&key) && inner.count() > 0 {
            assert_eq!(Some(node.child_for(&key)), inner.child_for(&key).map(|child| child.page));
            let (Ok(slot) | Err(slot)) = inner.find_separator(&key);
            let below = inner.child(slot.saturating_sub(1)).expect("there are children");
            assert_eq!(node.child_below(&key), below.page);
            let last = inner.child(inner.count() - 1).expect("there are children");
            assert_eq!(node.last_child(), last.page);
        }
    }
}
