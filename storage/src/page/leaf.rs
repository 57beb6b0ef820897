//! Leaves: keys with their values.
//!
//! | part of a cell | size | content |
//! |---|---|---|
//! | suffix | from the slot | the key without the node's prefix |
//! | value length | 2 | |
//! | flags | 1 | 1 ghost, 2 overflow, 4 stamped, 8 capacity |
//! | stamp | 16 | transaction id, undo LSN; only with its flag |
//! | value | value length | the value, or the overflow link |
//! | kept capacity | its own content | only with its flag: the number of kept bytes, itself among them, then zeros |
//!
//! The number of kept bytes takes one byte below 128, else two: high bit and upper part, lower part.
//! It lies inside what it counts, so a cell that gives up *n* bytes and keeps them as capacity has
//! exactly its old length: a delete never needs space.

use std::ops::Range;

use seawall_wal::codec::DecodeError;
use seawall_wal::record::{Cell, Stamp};
use seawall_wal::{Lsn, PageId, TxnId};

use super::bytes::{short_at, slice_at, u8_at, u64_at};
use super::header::{PageKind, PageView};
use super::key::Key;
use super::node::{NodeView, SLOT_BYTES, Slot, cell_bytes_max, content_bytes};

pub(super) const VALUE_LEN: usize = 0;
pub(super) const CELL_FLAGS: usize = VALUE_LEN + 2;
/// Bytes of a cell between its key and its stamp or value.
pub(super) const TAIL_HEAD_BYTES: usize = CELL_FLAGS + 1;
/// Bytes of a stamp.
pub const STAMP_BYTES: usize = 16;

/// Place in a stamp of its undo LSN, behind the transaction's id.
const STAMP_UNDO_LSN: usize = 8;

const _: () = assert!(TAIL_HEAD_BYTES == 3 && STAMP_UNDO_LSN + 8 == STAMP_BYTES);

const GHOST: u8 = 1;
const OVERFLOW: u8 = 2;
const STAMPED: u8 = 4;
const CAPACITY: u8 = 8;

/// Where the parts of a cell's tail are, by the table above.
pub(super) struct Tail {
    pub(super) is_ghost: bool,
    pub(super) is_overflow: bool,
    /// The transaction's id, and the undo LSN.
    pub(super) stamp: Option<[usize; 2]>,
    pub(super) value: Range<usize>,
}

impl Tail {
    /// Of the tail that begins at `start` with these flags and this length of the value.
    #[inline]
    pub(super) const fn at(start: usize, flags: u8, value_len: usize) -> Self {
        let stamp = start + TAIL_HEAD_BYTES;
        let value = stamp + stamp_len(flags);
        Self {
            is_ghost: flags & GHOST != 0,
            is_overflow: flags & OVERFLOW != 0,
            stamp: if flags & STAMPED == 0 { None } else { Some([stamp, stamp + STAMP_UNDO_LSN]) },
            value: value..value + value_len,
        }
    }
}

/// The first byte of a longer capacity has this bit.
const CAPACITY_LONG: u8 = 0x80;
const CAPACITY_SHORT_MAX: usize = 127;
pub(super) const CAPACITY_MAX: usize = 0x7fff;

/// A link to an overflow extent has at most this many bytes, so that it fits beside any key.
pub const OVERFLOW_LINK_BYTES_MAX: usize = 64;

/// Longest value that is stored in a leaf beside a key of `key_len` bytes; longer ones go to
/// overflow pages.
///
/// A cell with its slot, key, stamp and value takes at most a quarter of the page's content, so that
/// a leaf between short fences holds four; a key so long that this would leave less than
/// [`OVERFLOW_LINK_BYTES_MAX`] gets that much, and then, on pages of 4 KiB between two fences of
/// 1024 bytes, a leaf may hold a single cell. It always holds one: see [`cell_bytes_max`].
#[must_use]
pub const fn inline_value_bytes_max(page_bytes: usize, key_len: usize) -> usize {
    let quarter = content_bytes(page_bytes) / 4;
    let beside_key =
        quarter.saturating_sub(SLOT_BYTES + TAIL_HEAD_BYTES + STAMP_BYTES).saturating_sub(key_len);
    if beside_key > OVERFLOW_LINK_BYTES_MAX { beside_key } else { OVERFLOW_LINK_BYTES_MAX }
}

/// Bytes of a cell that depend on its content and not on its key: what rollback must find again.
#[must_use]
pub const fn footprint_bytes(cell: &Cell<'_>) -> usize {
    let stamp = if cell.stamp.is_some() { STAMP_BYTES } else { 0 };
    stamp + cell.value.len() + cell.capacity_bytes
}

/// The capacity `after` has to keep so that `before` fits back in its place, whatever capacity it
/// names itself: with it the footprint of `after` is at least that of `before`.
#[must_use]
pub const fn kept_capacity_bytes(before: &Cell<'_>, after: &Cell<'_>) -> usize {
    let bare = footprint_bytes(after) - after.capacity_bytes;
    footprint_bytes(before).saturating_sub(bare)
}

/// Bytes of slot and cell for a key of which `suffix_len` bytes are stored.
pub(super) const fn slot_and_cell_bytes(suffix_len: usize, cell: &Cell<'_>) -> usize {
    SLOT_BYTES + suffix_len + TAIL_HEAD_BYTES + footprint_bytes(cell)
}

/// Whether a cell is small enough for any leaf.
pub(super) fn is_cell_allowed(page_bytes: usize, key_len: usize, cell: &Cell<'_>) -> bool {
    cell.capacity_bytes <= CAPACITY_MAX
        && slot_and_cell_bytes(key_len, cell) <= cell_bytes_max(page_bytes)
}

/// A leaf. Copying it copies a reference.
#[derive(Clone, Copy, Debug)]
pub struct LeafView<'a> {
    node: NodeView<'a>,
}

impl<'a> LeafView<'a> {
    /// Looks at a leaf. The caller has checked the kind: of other bytes the answers mean nothing, but
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

    /// How many cells there are, ghosts included.
    #[inline]
    #[must_use]
    pub fn count(self) -> usize {
        self.node.count()
    }

    /// The slot of `key`, or the slot it would take.
    #[inline]
    pub fn find(self, key: &[u8]) -> Result<usize, usize> {
        self.node.search(0, key)
    }

    /// The first slot whose key is not below `key`; [`Self::count`] when there is none.
    #[inline]
    #[must_use]
    pub fn lower_bound(self, key: &[u8]) -> usize {
        match self.find(key) {
            Ok(slot) | Err(slot) => slot,
        }
    }

    /// The key of a slot.
    #[inline]
    #[must_use]
    pub fn key_at(self, slot: usize) -> Key<'a> {
        self.node.key_at(slot)
    }

    /// The cell of a slot.
    #[inline]
    #[must_use]
    pub fn cell_at(self, slot: usize) -> Cell<'a> {
        let slot = self.node.slot(slot);
        decode_tail(self.node.bytes(), slot.offset + slot.suffix_len)
    }

    /// The cells of `slots` that are no ghosts: key, place of the value in the page, and whether that
    /// is the link to an overflow value. Stamps and kept capacity are passed over.
    pub fn live_cells(
        self,
        slots: Range<usize>,
    ) -> impl Iterator<Item = (Key<'a>, Range<usize>, bool)> {
        let (bytes, prefix) = (self.node.bytes(), self.node.prefix());
        let slots = self.node.slots().get(slots).unwrap_or_default();
        slots.iter().filter_map(move |slot| {
            let slot = Slot::decode(slot);
            let tail = slot.offset + slot.suffix_len;
            let suffix = slice_at(bytes, slot.offset..tail);
            let tail =
                Tail::at(tail, u8_at(bytes, tail + CELL_FLAGS), short_at(bytes, tail + VALUE_LEN));
            (!tail.is_ghost).then_some((Key { prefix, suffix }, tail.value, tail.is_overflow))
        })
    }

    /// The cell of `key`.
    #[inline]
    #[must_use]
    pub fn get(self, key: &[u8]) -> Option<Cell<'a>> {
        self.find(key).ok().map(|slot| self.cell_at(slot))
    }

    /// Lowest key the leaf may hold; empty on the leftmost leaf.
    #[must_use]
    pub fn low_fence(self) -> Key<'a> {
        self.node.low_fence()
    }

    /// First key beyond the leaf; `None` on the rightmost leaf.
    #[must_use]
    pub fn high_fence(self) -> Option<Key<'a>> {
        self.node.high_fence()
    }

    /// The next leaf, [`PageId::NONE`] behind the last.
    #[must_use]
    pub fn right_sibling(self) -> PageId {
        self.node.right_sibling()
    }

    /// Whether `key` belongs on this leaf: low fence <= key < high fence.
    #[must_use]
    pub fn contains_key_range(self, key: &[u8]) -> bool {
        self.node.contains_key_range(key)
    }

    /// Whether `Put` of this cell succeeds, apart from the key's range. Depends on content alone:
    /// leaves with equal cells and fences answer the same, whatever their history.
    #[must_use]
    pub fn fits_put(self, key: &[u8], cell: &Cell<'_>) -> bool {
        if !is_cell_allowed(self.node.bytes().len(), key.len(), cell) {
            return false;
        }
        let suffix_len = key.len().saturating_sub(self.node.prefix_len());
        let needed = slot_and_cell_bytes(suffix_len, cell);
        let replaced = self.find(key).map_or(0, |slot| SLOT_BYTES + self.node.cell_len(slot));
        needed <= self.node.free_bytes_logical() + replaced
    }

    /// Bytes for further cells and their slots.
    #[must_use]
    pub fn free_bytes_logical(self) -> usize {
        self.node.free_bytes_logical()
    }

    /// Checks that the page is a leaf.
    pub(super) fn of_kind(bytes: &'a [u8]) -> Option<Self> {
        (PageView::new(bytes).kind() == PageKind::Leaf).then(|| Self::new(bytes))
    }
}

/// Bytes of the stamp of a cell with these flags.
const fn stamp_len(flags: u8) -> usize {
    if flags & STAMPED == 0 { 0 } else { STAMP_BYTES }
}

/// The number of kept bytes at `start`, and how many bytes the number takes.
fn decode_capacity(bytes: &[u8], start: usize) -> (usize, usize) {
    let first = u8_at(bytes, start);
    if first & CAPACITY_LONG == 0 {
        (usize::from(first), 1)
    } else {
        (usize::from(first & !CAPACITY_LONG) << 8 | usize::from(u8_at(bytes, start + 1)), 2)
    }
}

/// Length of the cell tail at `start`; `None` where it cannot be one: unknown flags, a capacity in
/// the longer form or of nothing, the end of the page.
pub(super) fn tail_len(bytes: &[u8], start: usize) -> Option<usize> {
    let flags = u8_at(bytes, start + CELL_FLAGS);
    if flags & !(GHOST | OVERFLOW | STAMPED | CAPACITY) != 0 {
        return None;
    }
    let bare = TAIL_HEAD_BYTES + stamp_len(flags) + short_at(bytes, start + VALUE_LEN);
    let len = if flags & CAPACITY == 0 {
        bare
    } else {
        let (capacity, number_len) = decode_capacity(bytes, start + bare);
        if capacity == 0 || (number_len == 2) != (capacity > CAPACITY_SHORT_MAX) {
            return None;
        }
        bare + capacity
    };
    (start + len <= bytes.len()).then_some(len)
}

/// The cell whose tail is at `start`.
#[inline]
fn decode_tail(bytes: &[u8], start: usize) -> Cell<'_> {
    let flags = u8_at(bytes, start + CELL_FLAGS);
    let tail = Tail::at(start, flags, short_at(bytes, start + VALUE_LEN));
    let end = tail.value.end;
    Cell {
        is_ghost: tail.is_ghost,
        is_overflow: tail.is_overflow,
        stamp: tail.stamp.map(|[txn, undo_lsn]| Stamp {
            txn: TxnId::new(u64_at(bytes, txn)),
            undo_lsn: Lsn::new(u64_at(bytes, undo_lsn)),
        }),
        capacity_bytes: if flags & CAPACITY == 0 { 0 } else { decode_capacity(bytes, end).0 },
        value: slice_at(bytes, tail.value),
    }
}

/// Pieces of a cell's tail as they are stored, without the zeros of the kept capacity.
pub(super) struct EncodedTail<'a> {
    head: [u8; TAIL_HEAD_BYTES + STAMP_BYTES],
    head_len: usize,
    value: &'a [u8],
    capacity: [u8; 2],
    capacity_len: usize,
}

impl<'a> EncodedTail<'a> {
    /// Encodes a cell that [`is_cell_allowed`].
    pub(super) fn new(cell: &Cell<'a>) -> Self {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(cell.is_ghost, GHOST)
            | flag(cell.is_overflow, OVERFLOW)
            | flag(cell.stamp.is_some(), STAMPED)
            | flag(cell.capacity_bytes > 0, CAPACITY);
        let mut head = [0; TAIL_HEAD_BYTES + STAMP_BYTES];
        head[..CELL_FLAGS].copy_from_slice(&super::bytes::short(cell.value.len()));
        head[CELL_FLAGS] = flags;
        if let Some(stamp) = cell.stamp {
            let (txn, lsn) = head[TAIL_HEAD_BYTES..].split_at_mut(STAMP_UNDO_LSN);
            txn.copy_from_slice(&stamp.txn.get().to_le_bytes());
            lsn.copy_from_slice(&stamp.undo_lsn.get().to_le_bytes());
        }
        let capacity =
            u16::try_from(cell.capacity_bytes).expect("a capacity is shorter than a page");
        let [upper, lower] = capacity.to_be_bytes();
        let (capacity, capacity_len) = match cell.capacity_bytes {
            0 => ([0, 0], 0),
            1..=CAPACITY_SHORT_MAX => ([lower, 0], 1),
            _ => ([upper | CAPACITY_LONG, lower], 2),
        };
        let head_len = TAIL_HEAD_BYTES + stamp_len(flags);
        Self { head, head_len, value: cell.value, capacity, capacity_len }
    }

    /// The pieces, in their order.
    pub(super) fn pieces(&self) -> [&[u8]; 3] {
        [&self.head[..self.head_len], self.value, &self.capacity[..self.capacity_len]]
    }
}

/// Checks what a cell says beyond its bounds: a ghost has no value.
pub(super) fn check_cell(bytes: &[u8], start: usize) -> Result<(), DecodeError> {
    let cell = decode_tail(bytes, start);
    if cell.is_ghost && (cell.is_overflow || !cell.value.is_empty()) {
        return Err(DecodeError::new(start, "a ghost without a value", "a value"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::PAGE_BYTES;
    use super::super::node::MAX_KEY_BYTES;
    use super::*;

    #[test]
    fn inline_values_leave_room_for_four_cells_and_always_for_one() {
        for page_bytes in PAGE_BYTES {
            for key_len in 1..=MAX_KEY_BYTES {
                let value = vec![0; inline_value_bytes_max(page_bytes, key_len)];
                let stamp = Some(Stamp { txn: TxnId::new(1), undo_lsn: Lsn::new(1) });
                let cell = Cell { stamp, ..Cell::inline(&value) };
                let bytes = slot_and_cell_bytes(key_len, &cell);
                assert!(is_cell_allowed(page_bytes, key_len, &cell), "{page_bytes} {key_len}");
                assert!(bytes <= content_bytes(page_bytes) / 4 || value.len() == 64);
            }
        }
    }

    #[test]
    fn kept_capacity_gives_the_footprint_back() {
        let stamp = Some(Stamp { txn: TxnId::new(3), undo_lsn: Lsn::new(9) });
        let contents = [b"".as_slice(), b"v", &[1; 40], &[2; 126], &[3; 127], &[4; 300]];
        let mut cells = Vec::new();
        for value in contents {
            for stamp in [None, stamp] {
                for capacity_bytes in [0, 1, 127, 128, 500] {
                    cells.push(Cell { stamp, capacity_bytes, ..Cell::inline(value) });
                }
            }
        }
        for before in &cells {
            for after in &cells {
                let capacity_bytes = kept_capacity_bytes(before, after);
                let kept = Cell { capacity_bytes, ..*after };
                let longer =
                    footprint_bytes(before).max(footprint_bytes(after) - after.capacity_bytes);
                assert_eq!(footprint_bytes(&kept), longer);
            }
        }
    }

    #[test]
    fn every_tail_decodes_to_the_cell_it_was_made_of() {
        for capacity_bytes in [0, 1, 2, 127, 128, 129, 1000] {
            for (is_ghost, is_overflow) in [(false, false), (true, false), (false, true)] {
                for stamp in [None, Some(Stamp { txn: TxnId::new(7), undo_lsn: Lsn::new(8) })] {
                    let value: &[u8] = if is_ghost { b"" } else { b"some value" };
                    let cell = Cell { is_ghost, is_overflow, stamp, capacity_bytes, value };
                    let mut bytes = EncodedTail::new(&cell).pieces().concat();
                    let len = TAIL_HEAD_BYTES + footprint_bytes(&cell);
                    assert!(bytes.len() <= len);
                    bytes.resize(len, 0);
                    assert_eq!(tail_len(&bytes, 0), Some(len));
                    assert_eq!(decode_tail(&bytes, 0), cell);
                    assert_eq!(tail_len(&bytes[..len - 1], 0), None, "a cut tail is none");
                }
            }
        }
    }

    #[test]
    fn a_capacity_has_one_encoding() {
        let long_form_of_a_short_number = [0, 0, CAPACITY, CAPACITY_LONG, 100];
        let mut bytes = long_form_of_a_short_number.to_vec();
        bytes.resize(300, 0);
        assert_eq!(tail_len(&bytes, 0), None);
        bytes[3] = 0;
        assert_eq!(tail_len(&bytes, 0), None, "no capacity, but its flag");
        bytes[2] = 16;
        assert_eq!(tail_len(&bytes, 0), None, "an unknown flag");
    }
}
