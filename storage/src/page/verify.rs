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

use std::path::Path;

use seawall_wal::codec::{DecodeError, to_u64};
use seawall_wal::{Error, PageId, Result};

use super::bytes::{short_at, u8_at, u32_at};
use super::header::{
    CHECKSUM, FLAG_HIGH_FENCE, FLAGS, FORMAT, FORMAT_VERSION, GARBAGE, HEADER_BYTES, HEAP_START,
    HIGH_LEN, KIND, LEVEL, LEVEL_MAX, LOW_LEN, PAGE_BYTES, PAGE_ID, PAGE_LSN, PAYLOAD_LEN,
    PREFIX_LEN, PageKind, PageView, RESERVED_FLAGS, RESERVED_LOW, RESERVED_MIDDLE, RIGHT_SIBLING,
    SLOT_COUNT, TREE_ID, checksum,
};
use super::node::{
    MAX_KEY_BYTES, NodeView, SLOT_BYTES, SLOT_OFFSET, SLOT_SUFFIX_LEN, cell_bytes_max, head_of,
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
    let base_offset = page_id.get().saturating_mul(to_u64(bytes.len()));
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

/// Bits for the bytes of the largest page.
type Covered = [u64; 32768 / 64];

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
    let mut used = node.garbage();
    let mut covered: Covered = [0; 512];
    for slot in 0..node.count() {
        let (offset, len) = verify_cell(node, slot)?;
        if cover(&mut covered, offset, offset + len) {
            let place = slot_place(slot) + SLOT_OFFSET;
            return Err(expected(place, "a cell apart from all others", offset));
        }
        used += len;
    }
    if used != heap_end - heap_start {
        let sum = format!("cells and garbage of {} bytes", heap_end - heap_start);
        return Err(expected(GARBAGE, sum, used));
    }
    verify_order(node)
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

/// Checks one slot and the bounds of its cell; gives the cell's offset and length.
fn verify_cell(node: NodeView<'_>, index: usize) -> Result<(usize, usize), DecodeError> {
    let slot = node.slot(index);
    let place = slot_place(index);
    let (start, end) = (node.heap_start(), node.heap_end());
    let suffix_max = MAX_KEY_BYTES - node.prefix_len();
    if slot.suffix_len > suffix_max {
        let most = format!("a key suffix of at most {suffix_max} bytes");
        return Err(expected(place + SLOT_SUFFIX_LEN, most, slot.suffix_len));
    }
    let tail_start = slot.offset + slot.suffix_len;
    let whole = node
        .tail_len(tail_start)
        .map(|tail| (slot.offset, slot.suffix_len + tail))
        .filter(|&(offset, len)| offset >= start && offset + len <= end);
    let Some((offset, len)) = whole else {
        let range = format!("a whole cell between {start} and {end}");
        return Err(expected(place + SLOT_OFFSET, range, slot.offset));
    };
    let len_max = cell_bytes_max(node.bytes().len()) - SLOT_BYTES - node.prefix_len();
    if len > len_max {
        return Err(expected(offset, format!("a cell of at most {len_max} bytes"), len));
    }
    Ok((offset, len))
}

/// Checks that heads are right, and that keys ascend strictly between the fences. All keys have the
/// prefix, so only suffixes are compared; the heads decide nearly always.
fn verify_order(node: NodeView<'_>) -> Result<(), DecodeError> {
    let is_inner = node.page().kind() == PageKind::Inner;
    let low = node.low_fence().suffix;
    let mut below = None;
    for slot in 0..node.count() {
        let (head, suffix) = (node.slot(slot).head, node.suffix(slot));
        if head != head_of(suffix) {
            let expected = format!("key head {:#010x}", head_of(suffix));
            return Err(DecodeError::new(slot_place(slot), expected, format!("{head:#010x}")));
        }
        let is_in_order = match below {
            // An inner node's first separator is the low fence and stored only there.
            None if is_inner => suffix.is_empty(),
            None => suffix >= low,
            Some((below_head, below)) => (below_head, below) < (head, suffix),
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
