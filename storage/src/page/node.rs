//! The slotted, sorted body that leaves and inner nodes share.
//!
//! | part | place | content |
//! |---|---|---|
//! | slots | behind the header, upwards | in key order: key head (4, big-endian), cell offset (2), suffix length (2) |
//! | hole | between slots and cells | zero |
//! | cells | heap start to the fences, in no order, with garbage (zero) between them | key suffix, then what [`super::leaf`] and [`super::inner`] define |
//! | high fence | in front of the low fence | without the prefix |
//! | low fence | at the page's end | whole |
//!
//! The node's keys lie in `[low fence, high fence)`; without a high fence there is no upper bound.
//! The prefix is what both fences begin with (nothing without a high fence), hence what every key
//! between them begins with; keys are stored without it. It changes only when a fence does. A key
//! head is the first four bytes of the suffix, padded with zeros: most steps of a search (`search`)
//! compare heads, which lie side by side, and look at no cell.
//!
//! Space is counted by content: a node's *free bytes* are what would be contiguous after compaction.
//! Whether an operation fits depends on them alone, never on where the cells lie.

use std::cmp::Ordering;

use seawall_wal::PageId;

use super::bytes::{short_at, slice_at, u8_at, u32_be_at, u64_at};
use super::header::{
    FLAG_HIGH_FENCE, FLAGS, GARBAGE, HEADER_BYTES, HEAP_START, HIGH_LEN, LOW_LEN, PREFIX_LEN,
    PageKind, PageView, RIGHT_SIBLING, SLOT_COUNT,
};
use super::key::Key;
use super::search::{Slots, search};
use super::{inner, leaf};

pub use crate::limits::MAX_KEY_BYTES;

/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 8;
pub(super) const SLOT_OFFSET: usize = 4;
pub(super) const SLOT_SUFFIX_LEN: usize = 6;

/// Bytes a node has for fences, slots and cells.
#[must_use]
pub const fn content_bytes(page_bytes: usize) -> usize {
    page_bytes - HEADER_BYTES
}

/// Largest cell with its slot, counted with the whole key: one of them fits beside any two fences.
/// This is what makes every split possible: the proof is in the file `split`.
#[must_use]
pub const fn cell_bytes_max(page_bytes: usize) -> usize {
    content_bytes(page_bytes) - 2 * MAX_KEY_BYTES
}

/// The first four bytes of a key's suffix, padded with zeros, as a number that compares as they do.
#[inline]
pub(super) fn head_of(suffix: &[u8]) -> u32 {
    match suffix.first_chunk::<4>() {
        Some(head) => u32::from_be_bytes(*head),
        None => {
            let byte = |at: usize| u8_at(suffix, at);
            u32::from_be_bytes([byte(0), byte(1), byte(2), 0])
        }
    }
}

/// Where a key's cell is, and the start of the key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) head: u32,
    pub(super) offset: usize,
    pub(super) suffix_len: usize,
}

impl Slot {
    #[inline]
    pub(super) fn decode(bytes: &[u8; SLOT_BYTES]) -> Self {
        Self {
            head: u32_be_at(bytes, 0),
            offset: short_at(bytes, SLOT_OFFSET),
            suffix_len: short_at(bytes, SLOT_SUFFIX_LEN),
        }
    }
}

/// A leaf or an inner node: fences and keys. Copying it copies a reference.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    bytes: &'a [u8],
}

impl<'a> NodeView<'a> {
    /// Looks at a leaf or an inner node.
    #[inline]
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The header.
    #[inline]
    #[must_use]
    pub const fn page(self) -> PageView<'a> {
        PageView::new(self.bytes)
    }

    /// The next node on the same level, [`PageId::NONE`] behind the last.
    #[inline]
    #[must_use]
    pub fn right_sibling(self) -> PageId {
        PageId::new(u64_at(self.bytes, RIGHT_SIBLING))
    }

    /// How many keys there are.
    #[inline]
    #[must_use]
    pub fn count(self) -> usize {
        let room = self.bytes.len().saturating_sub(HEADER_BYTES) / SLOT_BYTES;
        short_at(self.bytes, SLOT_COUNT).min(room)
    }

    /// Lowest key the node may hold; empty on the leftmost node of a level.
    #[inline]
    #[must_use]
    pub fn low_fence(self) -> Key<'a> {
        let low = self.low();
        let (prefix, suffix) = low.split_at(self.prefix_len().min(low.len()));
        Key { prefix, suffix }
    }

    /// First key beyond the node; `None` on the rightmost node of a level.
    #[inline]
    #[must_use]
    pub fn high_fence(self) -> Option<Key<'a>> {
        if !self.has_high_fence() {
            return None;
        }
        let low_start = self.bytes.len().saturating_sub(short_at(self.bytes, LOW_LEN));
        let len = short_at(self.bytes, HIGH_LEN).saturating_sub(self.prefix_len());
        let suffix = slice_at(self.bytes, low_start.saturating_sub(len)..low_start);
        Some(Key { prefix: self.prefix(), suffix })
    }

    /// What every key of the node begins with.
    #[inline]
    #[must_use]
    pub fn prefix(self) -> &'a [u8] {
        self.low_fence().prefix
    }

    /// Whether `key` belongs on this node: low fence <= key < high fence.
    #[must_use]
    pub fn contains_key_range(self, key: &[u8]) -> bool {
        self.low() <= key && self.high_fence().is_none_or(|high| high.compare(key).is_gt())
    }

    /// The key of a slot. Slot 0 of an inner node stands for the low fence: see
    /// [`super::InnerView::separator`].
    #[inline]
    #[must_use]
    pub fn key_at(self, slot: usize) -> Key<'a> {
        Key { prefix: self.prefix(), suffix: self.suffix(slot) }
    }

    /// Bytes for further keys: what is contiguous after compaction.
    #[must_use]
    pub fn free_bytes_logical(self) -> usize {
        (self.heap_start() + self.garbage()).saturating_sub(self.slots_end())
    }

    /// Bytes that fences, slots and cells take.
    #[must_use]
    pub fn used_bytes_logical(self) -> usize {
        content_bytes(self.bytes.len()).saturating_sub(self.free_bytes_logical())
    }

    /// Where `key` is, or where it would go, among the slots from `first` on.
    #[inline]
    pub(super) fn search(self, first: usize, key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        let (start, suffix) = key.split_at(prefix.len().min(key.len()));
        match start.cmp(prefix) {
            Ordering::Less => return Err(first.min(self.count())),
            Ordering::Greater => return Err(self.count()),
            Ordering::Equal => {}
        }
        search(&ViewSlots { node: self, slots: self.slots() }, first, suffix)
    }

    pub(super) const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn has_high_fence(self) -> bool {
        u8_at(self.bytes, FLAGS) & FLAG_HIGH_FENCE != 0
    }

    pub(super) fn prefix_len(self) -> usize {
        short_at(self.bytes, PREFIX_LEN)
    }

    pub(super) fn heap_start(self) -> usize {
        short_at(self.bytes, HEAP_START)
    }

    pub(super) fn garbage(self) -> usize {
        short_at(self.bytes, GARBAGE)
    }

    pub(super) fn slots_end(self) -> usize {
        HEADER_BYTES + self.count() * SLOT_BYTES
    }

    /// Where the cells end and the fences begin.
    pub(super) fn heap_end(self) -> usize {
        let low = short_at(self.bytes, LOW_LEN);
        let high = short_at(self.bytes, HIGH_LEN).saturating_sub(self.prefix_len());
        self.bytes.len().saturating_sub(low + high)
    }

    pub(super) fn slot(self, slot: usize) -> Slot {
        match self.slots().get(slot) {
            Some(bytes) => Slot::decode(bytes),
            // Behind the last slot there is an empty key at the page's end, where every field is 0.
            None => Slot { head: 0, offset: self.bytes.len(), suffix_len: 0 },
        }
    }

    #[inline]
    pub(super) fn suffix(self, slot: usize) -> &'a [u8] {
        let slot = self.slot(slot);
        slice_at(self.bytes, slot.offset..slot.offset + slot.suffix_len)
    }

    /// What follows the key in a slot's cell: the same bytes on every page, whatever its prefix.
    pub(super) fn tail(self, slot: usize) -> &'a [u8] {
        let slot = self.slot(slot);
        let start = slot.offset + slot.suffix_len;
        slice_at(self.bytes, start..start + self.tail_len(start).unwrap_or(0))
    }

    /// A slot's cell: what is stored of the key, and the tail.
    pub(super) fn cell(self, slot: usize) -> &'a [u8] {
        let offset = self.slot(slot).offset;
        slice_at(self.bytes, offset..offset + self.cell_len(slot))
    }

    /// Bytes of a slot's cell.
    pub(super) fn cell_len(self, slot: usize) -> usize {
        let slot = self.slot(slot);
        slot.suffix_len + self.tail_len(slot.offset + slot.suffix_len).unwrap_or(0)
    }

    /// Length of the cell tail at `start`; `None` where it cannot be one.
    pub(super) fn tail_len(self, start: usize) -> Option<usize> {
        match self.page().kind() {
            PageKind::Leaf => leaf::tail_len(self.bytes, start),
            _ => Some(inner::TAIL_BYTES),
        }
    }

    fn low(self) -> &'a [u8] {
        let len = short_at(self.bytes, LOW_LEN);
        slice_at(self.bytes, self.bytes.len().saturating_sub(len)..self.bytes.len())
    }

    pub(super) fn slots(self) -> &'a [[u8; SLOT_BYTES]] {
        let body = self.bytes.get(HEADER_BYTES..).unwrap_or_default();
        body.as_chunks().0.get(..self.count()).unwrap_or_default()
    }
}

/// The slots of a page that does not change.
struct ViewSlots<'a> {
    node: NodeView<'a>,
    slots: &'a [[u8; SLOT_BYTES]],
}

impl Slots for ViewSlots<'_> {
    #[inline]
    fn count(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    fn head(&self, slot: usize) -> u32 {
        self.slots.get(slot).map_or(0, |slot| u32_be_at(slot, 0))
    }

    #[inline]
    fn compare(&self, slot: usize, suffix: &[u8]) -> Ordering {
        self.node.suffix(slot).cmp(suffix)
    }
}
