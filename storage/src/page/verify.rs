//! The check of a page that was read, or that an image in the log describes.
//!
//! A page is valid if and only if its checksum is right for its place, it names its own id, its kind
//! and format are known, reserved fields are zero, and
//!
//! * on a node: the low fence lies below the high one and the prefix is what they have in common;
//!   slots, hole, cells and fences lie apart from one another inside the page, no two cells overlap,
//!   and their lengths and the garbage add up to the heap; key heads are right, keys ascend strictly
//!   and lie between the fences;
//! * on a bitmap: it stands at a multiple of the pages it covers and marks itself as used;
//! * on an overflow page: payload and owner's key lie apart, with zeros between them.
//!
//! The accessors panic on no bytes at all, but only on a valid page do they say what was written, and
//! only on a valid page may [`super::apply()`], splits and merges be used. Bytes whose checksum is
//! right and that are wrong all the same come from outside the engine, or from a defect of it; they
//! are an error here like any other damage (invariant L2).

use std::ops::Range;
use std::path::Path;

use seawall_wal::codec::{DecodeError, to_u64};
use seawall_wal::planted::{Bug, is_planted};
use seawall_wal::{Error, PageId, Result};

use super::bytes::{short_at, u8_at, u32_at};
use super::header::{
    CHECKSUM, FLAG_HIGH_FENCE, FLAGS, FORMAT, FORMAT_VERSION, GARBAGE, HEADER_BYTES, HEAP_START,
    HIGH_LEN, KIND, LEVEL, LEVEL_MAX, LOW_LEN, PAGE_BYTES, PAGE_ID, PAGE_LSN, PAYLOAD_LEN,
    PREFIX_LEN, PageKind, PageView, RESERVED_FLAGS, RESERVED_LOW, RESERVED_MIDDLE, RIGHT_SIBLING,
    SLOT_COUNT, TREE_ID, checksum,
};
use super::node::{
    MAX_KEY_BYTES, NodeView, SLOT_BYTES, SLOT_OFFSET, SLOT_SUFFIX_LEN, Slot, cell_bytes_max,
    head_of,
};
use super::{bitmap, overflow};

/// What a page read from disk turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Every byte is zero: the page was never written.
    NeverWritten,
    /// The page is valid.
    Page(PageKind),
}

/// Checks a page as it was read from the page file (invariant P4).
///
/// # Errors
/// [`Error::Corrupt`] naming the field, its offset in `file`, and what stands there;
/// [`Error::UnsupportedFormat`] for the page of a later version.
pub fn verify(seed: u32, page_id: PageId, file: &Path, bytes: &[u8]) -> Result<Verified> {
    assert!(PAGE_BYTES.contains(&bytes.len()), "{} is no page size", bytes.len());
    // Page ids come from other pages: one that no file has must not overflow the place in a message.
    let last_offset = u64::MAX - to_u64(bytes.len());
    let base_offset = page_id.get().saturating_mul(to_u64(bytes.len())).min(last_offset);
    if is_zero(bytes) {
        return Ok(Verified::NeverWritten);
    }
    verify_place(seed, page_id, bytes).map_err(|error| error.in_file(file, base_offset))?;
    let format = PageView::new(bytes).format();
    if format > usize::from(FORMAT) {
        let found = u32_at(bytes, FORMAT_VERSION) & u32::from(u16::MAX);
        return Err(Error::UnsupportedFormat { found, supported: u32::from(FORMAT) });
    }
    verify_structure(bytes).map_err(|error| error.in_file(file, base_offset))?;
    Ok(Verified::Page(PageView::new(bytes).kind()))
}

/// Whether every byte is zero.
fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| *word == [0; 8]) && rest.iter().all(|&byte| byte == 0)
}

fn verify_place(seed: u32, page_id: PageId, bytes: &[u8]) -> Result<(), DecodeError> {
    let view = PageView::new(bytes);
    let sum = checksum(seed, page_id, bytes);
    if view.checksum() == sum && view.page_id() == page_id {
        return Ok(());
    }
    if view.page_id() != page_id && view.checksum() == checksum(seed, view.page_id(), bytes) {
        if is_planted(Bug::MisplacedPageAccepted) {
            return Ok(());
        }
        let found = format!("a valid page {}", view.page_id());
        return Err(DecodeError::new(PAGE_ID, format!("page {page_id}"), found));
    }
    let (expected, found) = (format!("checksum {sum:#010x}"), format!("{:#010x}", view.checksum()));
    Err(DecodeError::new(CHECKSUM, expected, found))
}

/// Checks everything but checksum, place and `page_lsn`: what an image must satisfy as well.
///
/// # Errors
/// What does not stand where it must, by offset in the page.
pub(super) fn verify_structure(bytes: &[u8]) -> Result<(), DecodeError> {
    let view = PageView::new(bytes);
    if view.format() != usize::from(FORMAT) {
        let found = view.format().to_string();
        return Err(DecodeError::new(FORMAT_VERSION, format!("format {FORMAT}"), found));
    }
    for (start, end) in
        [(RESERVED_LOW, PAGE_LSN), (RESERVED_FLAGS, PAYLOAD_LEN), (RESERVED_MIDDLE, HEADER_BYTES)]
    {
        expect_zero(bytes, start, end)?;
    }
    match PageKind::decode(u8_at(bytes, KIND)) {
        Some(PageKind::Bitmap) => {
            expect_zero(bytes, TREE_ID, KIND)?;
            expect_zero(bytes, LEVEL, FORMAT_VERSION)?;
            expect_zero(bytes, SLOT_COUNT, RESERVED_MIDDLE)?;
            bitmap::verify(bytes)
        }
        Some(PageKind::Inner | PageKind::Leaf) => {
            expect_zero(bytes, PAYLOAD_LEN, RESERVED_MIDDLE)?;
            verify_node(NodeView::new(bytes))
        }
        Some(PageKind::Overflow) => {
            expect_zero(bytes, RIGHT_SIBLING, KIND)?;
            expect_zero(bytes, LEVEL, FORMAT_VERSION)?;
            expect_zero(bytes, SLOT_COUNT, LOW_LEN)?;
            expect_zero(bytes, HIGH_LEN, RESERVED_FLAGS)?;
            overflow::verify(bytes)
        }
        Some(PageKind::Free) | None => {
            let found = format!("kind {}", u8_at(bytes, KIND));
            Err(DecodeError::new(KIND, "a known kind of page", found))
        }
    }
}

/// Checks that the bytes from `start` to `end` are zero.
pub(super) fn expect_zero(bytes: &[u8], start: usize, end: usize) -> Result<(), DecodeError> {
    match bytes[start..end].iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => {
            let found = format!("{:#04x}", bytes[start + at]);
            Err(DecodeError::new(start + at, "a zero byte", found))
        }
    }
}

/// Words of bits for the bytes of the largest page.
const COVERED_WORDS: usize = PAGE_BYTES[PAGE_BYTES.len() - 1] / 64;
type Covered = [u64; COVERED_WORDS];

fn verify_node(node: NodeView<'_>) -> Result<(), DecodeError> {
    verify_level(node)?;
    verify_fences(node)?;
    let bytes = node.bytes();
    let room = (bytes.len() - HEADER_BYTES) / SLOT_BYTES;
    let stored_count = short_at(bytes, SLOT_COUNT);
    if stored_count > room {
        return Err(expected(SLOT_COUNT, format!("at most {room} slots"), stored_count));
    }
    let (slots_end, heap_start, heap_end) = (node.slots_end(), node.heap_start(), node.heap_end());
    if heap_start < slots_end || heap_start > heap_end {
        let range = format!("a heap start from {slots_end} to {heap_end}");
        return Err(expected(HEAP_START, range, heap_start));
    }
    verify_cells(node)?;
    verify_order(node)
}

/// Checks that all cells are whole, lie apart from one another, and add up to the heap.
fn verify_cells(node: NodeView<'_>) -> Result<(), DecodeError> {
    let bounds = CellBounds {
        heap: node.heap_start()..node.heap_end(),
        suffix_len_max: MAX_KEY_BYTES - node.prefix_len(),
        len_max: cell_bytes_max(node.bytes().len()) - SLOT_BYTES - node.prefix_len(),
    };
    let mut used = node.garbage();
    let mut covered: Covered = [0; COVERED_WORDS];
    for (index, slot) in node.slots().iter().enumerate() {
        let slot = Slot::decode(slot);
        let len = bounds.verify(node, index, slot)?;
        if cover(&mut covered, slot.offset, slot.offset + len) {
            let place = slot_place(index) + SLOT_OFFSET;
            return Err(expected(place, "a cell apart from all others", slot.offset));
        }
        used += len;
    }
    if used != bounds.heap.len() {
        let sum = format!("cells and garbage of {} bytes", bounds.heap.len());
        return Err(expected(GARBAGE, sum, used));
    }
    Ok(())
}

const fn slot_place(slot: usize) -> usize {
    HEADER_BYTES + slot * SLOT_BYTES
}

/// Marks the bytes from `start` to `end`; says whether one of them was marked before.
fn cover(covered: &mut Covered, start: usize, end: usize) -> bool {
    let mut overlap = 0;
    let mut at = start;
    while at < end {
        let bit = at % 64;
        let count = (64 - bit).min(end - at);
        let mask = u64::MAX >> (64 - count) << bit;
        let word = &mut covered[at / 64];
        overlap |= *word & mask;
        *word |= mask;
        at += count;
    }
    overlap != 0
}

/// Where the cells of a node may lie, and how long they may be.
struct CellBounds {
    heap: Range<usize>,
    suffix_len_max: usize,
    len_max: usize,
}

impl CellBounds {
    /// Checks one slot and the bounds of its cell; gives the cell's length.
    fn verify(&self, node: NodeView<'_>, index: usize, slot: Slot) -> Result<usize, DecodeError> {
        let place = slot_place(index);
        if slot.suffix_len > self.suffix_len_max {
            let most = format!("a key suffix of at most {} bytes", self.suffix_len_max);
            return Err(expected(place + SLOT_SUFFIX_LEN, most, slot.suffix_len));
        }
        let whole = node
            .tail_len(slot.offset + slot.suffix_len)
            .map(|tail_len| slot.suffix_len + tail_len)
            .filter(|len| slot.offset >= self.heap.start && slot.offset + len <= self.heap.end);
        match whole {
            Some(len) if len <= self.len_max => Ok(len),
            Some(len) => {
                let most = format!("a cell of at most {} bytes", self.len_max);
                Err(expected(slot.offset, most, len))
            }
            None => {
                let range = format!("a whole cell in {:?}", self.heap);
                Err(expected(place + SLOT_OFFSET, range, slot.offset))
            }
        }
    }
}

/// Checks that heads are right, and that keys ascend strictly between the fences. All keys have the
/// prefix, so only suffixes are compared; the heads decide nearly always.
fn verify_order(node: NodeView<'_>) -> Result<(), DecodeError> {
    let is_inner = node.page().kind() == PageKind::Inner;
    let low = node.low_fence().suffix;
    let mut below = None;
    for (slot, stored) in node.slots().iter().enumerate() {
        let Slot { head, offset, suffix_len } = Slot::decode(stored);
        let suffix = &node.bytes()[offset..offset + suffix_len];
        if head != head_of(suffix) {
            let expected = format!("key head {:#010x}", head_of(suffix));
            return Err(DecodeError::new(slot_place(slot), expected, format!("{head:#010x}")));
        }
        let is_in_order = match below {
            // An inner node's first separator is the low fence and stored only there.
            None if is_inner => suffix.is_empty(),
            None => suffix >= low,
            Some((below_head, below)) if below_head == head => below < suffix,
            Some((below_head, _)) => below_head < head,
        };
        if !is_in_order {
            let found = "one that is not";
            return Err(DecodeError::new(slot_place(slot), "a key above the one before it", found));
        }
        let is_low_fence = is_inner && slot == 0;
        below = Some(if is_low_fence { (head_of(low), low) } else { (head, suffix) });
    }
    match (below, node.high_fence()) {
        (Some((_, last)), Some(high)) if last >= high.suffix => {
            let place = slot_place(node.count() - 1);
            Err(DecodeError::new(place, "a key below the high fence", "one that is not"))
        }
        _ => Ok(()),
    }
}

fn verify_level(node: NodeView<'_>) -> Result<(), DecodeError> {
    let level = node.page().level();
    let fits = match node.page().kind() {
        PageKind::Leaf => level == 0,
        _ => (1..=LEVEL_MAX).contains(&level),
    };
    if fits { Ok(()) } else { Err(expected(LEVEL, "a level of its kind", usize::from(level))) }
}

fn verify_fences(node: NodeView<'_>) -> Result<(), DecodeError> {
    let bytes = node.bytes();
    let flags = u8_at(bytes, FLAGS);
    if flags & !FLAG_HIGH_FENCE != 0 {
        return Err(expected(FLAGS, "known flags", usize::from(flags)));
    }
    let (low, high) = (short_at(bytes, LOW_LEN), short_at(bytes, HIGH_LEN));
    for (field, len) in [(LOW_LEN, low), (HIGH_LEN, high)] {
        if len > MAX_KEY_BYTES {
            return Err(expected(field, format!("at most {MAX_KEY_BYTES} bytes"), len));
        }
    }
    if !node.has_high_fence() && high != 0 {
        return Err(expected(HIGH_LEN, "no high fence", high));
    }
    let prefix_max = low.min(high);
    if node.prefix_len() > prefix_max {
        return Err(expected(PREFIX_LEN, format!("at most {prefix_max} bytes"), node.prefix_len()));
    }
    let low_fence = node.low_fence();
    let Some(high_fence) = node.high_fence() else { return Ok(()) };
    if low_fence.compare_key(high_fence).is_ge() {
        return Err(DecodeError::new(LOW_LEN, "a low fence below the high fence", "another order"));
    }
    let common = low_fence.common_len(high_fence);
    if common != node.prefix_len() {
        let prefix = format!("a prefix of the {common} bytes both fences begin with");
        return Err(expected(PREFIX_LEN, prefix, node.prefix_len()));
    }
    Ok(())
}

fn expected(offset: usize, expected: impl Into<String>, found: usize) -> DecodeError {
    DecodeError::new(offset, expected, found.to_string())
}

#[cfg(test)]
mod tests {
    use seawall_wal::Lsn;
    use seawall_wal::record::Cell;

    use super::super::hostile::{SEED, TREE, put, samples, seal_page, verify_page};
    use super::super::*;
    use super::*;

    fn file() -> &'static Path {
        Path::new("pages")
    }

    #[test]
    fn sealed_pages_of_every_kind_and_size_are_valid() {
        let kinds = [PageKind::Leaf, PageKind::Inner, PageKind::Bitmap, PageKind::Overflow];
        for page_bytes in PAGE_BYTES {
            for (page, kind) in samples(page_bytes).iter().zip(kinds) {
                assert_eq!(verify_page(page).unwrap(), Verified::Page(kind));
                assert_eq!(check(page.bytes()), Ok(()));
                assert_eq!(PageView::new(page.bytes()).page_lsn(), Lsn::new(12_345));
            }
        }
    }

    /// If this fails, databases that exist cannot be read any more: count the format up.
    #[test]
    fn pages_of_format_1_have_the_bytes_they_always_had() {
        let pages = samples(4096);
        let sums = pages.iter().map(|page| PageView::new(page.bytes()).checksum());
        assert_eq!(sums.collect::<Vec<_>>(), [0xe524_7579, 0x757a_8574, 0x2beb_5b5e, 0x4102_767d]);
    }

    #[test]
    fn a_page_of_zeros_was_never_written() {
        let page = PageBuf::zeroed(4096);
        let verified = verify(SEED, PageId::new(4), file(), page.bytes()).unwrap();
        assert_eq!(verified, Verified::NeverWritten);
    }

    #[test]
    fn every_changed_byte_is_found() {
        for page in samples(4096) {
            let id = PageView::new(page.bytes()).page_id();
            for offset in 0..4096 {
                for flip in [0x01, 0x80, 0xff] {
                    let mut damaged = page.clone();
                    damaged.bytes_mut()[offset] ^= flip;
                    let result = verify(SEED, id, file(), damaged.bytes());
                    assert!(matches!(result, Err(Error::Corrupt { .. })), "byte {offset}");
                }
            }
        }
    }

    #[test]
    fn a_page_in_the_place_of_another_is_named() {
        let [leaf, ..] = &samples(4096)[..] else { unreachable!() };
        match verify(SEED, PageId::new(8), file(), leaf.bytes()) {
            Err(Error::Corrupt { offset, expected, found, .. }) => {
                assert_eq!(offset, 8 * 4096 + to_u64(PAGE_ID));
                assert_eq!((&*expected, &*found), ("page 8", "a valid page 9"));
            }
            other => panic!("{other:?}"),
        }
        assert!(verify(SEED + 1, PageId::new(9), file(), leaf.bytes()).is_err());
    }

    #[test]
    fn a_page_of_a_later_format_is_told_apart_from_damage() {
        let mut page = samples(4096).remove(0);
        page.write(FORMAT_VERSION, &9_u16.to_le_bytes());
        seal_page(&mut page);
        let result = verify_page(&page);
        assert!(matches!(result, Err(Error::UnsupportedFormat { found: 9, supported: 1 })));
    }

    #[test]
    fn wrong_fields_under_a_right_checksum_are_found_where_they_stand() {
        // (page of the samples, field, value, offset of the finding)
        let leaf_slot = HEADER_BYTES + 3 * SLOT_BYTES;
        let cases: [(usize, usize, &[u8], usize); 18] = [
            (0, RESERVED_LOW, &[1], RESERVED_LOW),
            (0, HEADER_BYTES - 1, &[1], HEADER_BYTES - 1),
            (0, KIND, &[5], KIND),
            (0, KIND, &[0], KIND),
            (0, LEVEL, &[1], LEVEL),
            (1, LEVEL, &[0], LEVEL),
            (1, LEVEL, &[65], LEVEL),
            (0, SLOT_COUNT, &[0xff, 0xff], SLOT_COUNT),
            (0, HEAP_START, &[0, 0], HEAP_START),
            (0, HEAP_START, &[0xff, 0xff], HEAP_START),
            (0, GARBAGE, &[1], GARBAGE),
            (0, PREFIX_LEN, &[9], PREFIX_LEN),
            (0, LOW_LEN, &[0xff, 0xff], LOW_LEN),
            (0, FLAGS, &[0], HIGH_LEN),
            (0, leaf_slot, &[0xff], leaf_slot),
            (0, leaf_slot + SLOT_OFFSET, &[0, 0], leaf_slot + SLOT_OFFSET),
            (2, HEADER_BYTES, &[0], HEADER_BYTES),
            (3, PAYLOAD_LEN, &[0xff, 0xff], PAYLOAD_LEN),
        ];
        for (sample, field, value, place) in cases {
            let mut page = samples(4096).swap_remove(sample);
            page.write(field, value);
            seal_page(&mut page);
            let base = PageView::new(page.bytes()).page_id().get() * 4096;
            match verify_page(&page) {
                Err(Error::Corrupt { offset, .. }) => {
                    assert_eq!(offset, base + to_u64(place), "field {field} = {value:?}");
                }
                other => panic!("field {field} = {value:?}: {other:?}"),
            }
        }
    }

    /// A leaf for the keys from `b` to `m` with `d` and `e`, whose values are `value` and nothing.
    fn small_leaf(value: &[u8]) -> PageBuf {
        let mut page = empty_leaf(
            4096,
            &NodeSpec {
                low: Key::whole(b"b"),
                high: Some(Key::whole(b"m")),
                ..NodeSpec::root(PageId::new(2), TREE, 0)
            },
        );
        apply(&mut page, PageId::new(2), &put(b"d", value)).unwrap();
        apply(&mut page, PageId::new(2), &put(b"e", b"")).unwrap();
        page
    }

    /// Gives the key in `slot` another byte, in the cell and in the head.
    fn rename_key(page: &mut PageBuf, slot: usize, key: u8) {
        let offset = NodeView::new(page.bytes()).slot(slot).offset;
        page.write(offset, &[key]);
        page.write(slot_place(slot), &[key]);
    }

    #[test]
    fn keys_outside_the_fences_or_out_of_order_are_found() {
        for (slot, key, is_valid) in [
            (0, b'b', true),
            (0, b'a', false),
            (0, b'e', false),
            (0, b'f', false),
            (1, b'l', true),
            (1, b'm', false),
            (1, b'd', false),
        ] {
            let mut page = small_leaf(b"value");
            rename_key(&mut page, slot, key);
            assert_eq!(verify_structure(page.bytes()).is_ok(), is_valid, "{slot} {key}");
        }
    }

    #[test]
    fn a_cell_inside_another_one_is_found() {
        let cell_of_e = b"e\0\0\0";
        let mut page = small_leaf(cell_of_e);
        let outer = NodeView::new(page.bytes()).slot(0).offset;
        let inside = outer + 1 + crate::page::leaf::TAIL_HEAD_BYTES;
        page.write(slot_place(1) + SLOT_OFFSET, &crate::page::bytes::short(inside));
        let leaf = LeafView::new(page.bytes());
        assert_eq!(leaf.get(b"e"), Some(Cell::inline(b"")), "it looks like any other cell");
        let finding = verify_structure(page.bytes()).unwrap_err();
        assert_eq!(finding.offset, slot_place(1) + SLOT_OFFSET);
    }
}
