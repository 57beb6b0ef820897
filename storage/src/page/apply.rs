//! The one function that changes pages. Writers call it under the page's latch, redo calls it with
//! the operation read from the log, and both get the same bytes from the same bytes.
//!
//! An operation is checked before it changes anything: on an error the page is as it was. Redo makes
//! corruption of it; for a writer it is a broken invariant, as he has asked before
//! ([`LeafView::fits_put`], [`InnerView::fits_insert_child`], the fences).
//!
//! Bytes that become free are made zero at once: images leave the hole out, deleted data does not
//! linger in the file, and pages compress well. It costs one pass over bytes that are in the cache.
//! Space between cells is reused only by compaction, which lays the node out anew when the hole is
//! too small although the free bytes suffice.

use std::{error, fmt};

use seawall_wal::codec::DecodeError;
use seawall_wal::record::{Cell, Extent, Op};
use seawall_wal::{PageId, TreeId};

use super::bitmap::{self, BitmapView};
use super::build::{Composer, Full, NodeSpec, encode_slot};
use super::bytes::{PageBuf, PageRead, PageWrite, short};
use super::header::{
    GARBAGE, HEADER_BYTES, HEAP_START, IMAGE_START, PageKind, PageView, SLOT_COUNT,
};
use super::inner::{self, InnerView};
use super::key::Key;
use super::leaf::{self, EncodedTail, LeafView};
use super::node::{MAX_KEY_BYTES, NodeView, SLOT_BYTES};
use super::{split, verify};

/// Why an operation cannot be applied to a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// The page is not of the kind that the operation is for.
    WrongKind {
        /// What the page is.
        found: PageKind,
    },
    /// The page belongs to another tree.
    WrongTree {
        /// The tree it belongs to.
        found: TreeId,
    },
    /// The key or separator is not between the page's fences, or too long.
    OutsideFences,
    /// The page has no cell or child with the key.
    MissingKey,
    /// The page has a child that begins at the separator.
    DuplicateSeparator,
    /// The separator cannot part the page's children there.
    BadSeparator,
    /// The cell is larger than any may be.
    CellTooLarge,
    /// The content would not fit the page.
    Full,
    /// The pages to merge are no neighbours.
    NotNeighbours,
    /// The image is of another page.
    WrongPage {
        /// The page it is of.
        found: PageId,
    },
    /// The image is damaged.
    BadImage(DecodeError),
    /// The extent is not on this bitmap page.
    OutsideBitmap,
    /// A page of the extent is in use, or is free, already.
    WrongBit {
        /// That page.
        page: PageId,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongKind { found } => write!(f, "the page is of kind {found:?}"),
            Self::WrongTree { found } => write!(f, "the page belongs to tree {found}"),
            Self::OutsideFences => f.write_str("the key is outside the page's fences"),
            Self::MissingKey => f.write_str("the page does not have the key"),
            Self::DuplicateSeparator => f.write_str("the page has the separator already"),
            Self::BadSeparator => f.write_str("the separator does not part the page's content"),
            Self::CellTooLarge => f.write_str("the cell is larger than any may be"),
            Self::Full => f.write_str("the page has no room"),
            Self::NotNeighbours => f.write_str("the pages are no neighbours"),
            Self::WrongPage { found } => write!(f, "the image is of page {found}"),
            Self::BadImage(error) => write!(f, "the image is damaged {error}"),
            Self::OutsideBitmap => f.write_str("the extent is not on this bitmap page"),
            Self::WrongBit { page } => write!(f, "page {page} is in that state already"),
        }
    }
}

impl error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::BadImage(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Full> for ApplyError {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// Does to a page what an operation says. `page_lsn` is set apart, once for all operations of a
/// record: [`set_page_lsn`](super::set_page_lsn).
///
/// # Errors
/// See [`ApplyError`]; the page is unchanged then.
pub fn apply<P: PageWrite>(page: &mut P, page_id: PageId, op: &Op<'_>) -> Result<(), ApplyError> {
    match op {
        Op::Image { low, high } => put_image(page, page_id, low, high),
        Op::Put { tree, key, after, .. } => put(page, *tree, key, after),
        Op::Remove { tree, key } => remove(page, *tree, key),
        Op::Settle { tree, key } => settle(page, *tree, key),
        Op::SplitOff { separator, right } => split_off(page, separator, *right),
        Op::Absorb { low, high } => absorb(page, low, high),
        Op::InsertChild { separator, child } => insert_child(page, separator, *child),
        Op::RemoveChild { separator } => remove_child(page, separator),
        Op::Allocate(extent) => set_bits(page, extent, true),
        Op::Release(extent) => set_bits(page, extent, false),
    }
}

/// Puts an image together; the result is a valid page apart from checksum and `page_lsn`.
///
/// # Errors
/// [`ApplyError::BadImage`].
fn page_of_image(page_bytes: usize, low: &[u8], high: &[u8]) -> Result<PageBuf, ApplyError> {
    let bytes = low.len() + high.len();
    let range = HEADER_BYTES - IMAGE_START..=page_bytes - IMAGE_START;
    if low.len() < *range.start() || bytes > *range.end() {
        let expected = format!("an image of {} to {} bytes", range.start(), range.end());
        return Err(ApplyError::BadImage(DecodeError::new(0, expected, bytes.to_string())));
    }
    let mut image = PageBuf::zeroed(page_bytes);
    image.write(IMAGE_START, low);
    image.write(page_bytes - high.len(), high);
    verify::verify_structure(image.bytes()).map_err(ApplyError::BadImage)?;
    Ok(image)
}

/// Replaces everything an image carries.
fn replace<P: PageWrite>(page: &mut P, content: &PageBuf) {
    page.write(IMAGE_START, &content.bytes()[IMAGE_START..]);
}

fn put_image<P: PageWrite>(
    page: &mut P,
    page_id: PageId,
    low: &[u8],
    high: &[u8],
) -> Result<(), ApplyError> {
    let image = page_of_image(page.bytes().len(), low, high)?;
    let found = PageView::new(image.bytes()).page_id();
    if found != page_id {
        return Err(ApplyError::WrongPage { found });
    }
    replace(page, &image);
    Ok(())
}

fn wrong_kind(bytes: &[u8]) -> ApplyError {
    ApplyError::WrongKind { found: PageView::new(bytes).kind() }
}

/// The leaf that an operation on `key` of `tree` is for.
fn leaf_for<'a>(bytes: &'a [u8], tree: TreeId, key: &[u8]) -> Result<LeafView<'a>, ApplyError> {
    let leaf = LeafView::of_kind(bytes).ok_or_else(|| wrong_kind(bytes))?;
    let found = leaf.page().tree();
    if found != tree {
        return Err(ApplyError::WrongTree { found });
    }
    if !leaf.contains_key_range(key) || key.len() > MAX_KEY_BYTES {
        return Err(ApplyError::OutsideFences);
    }
    Ok(leaf)
}

fn put<P: PageWrite>(
    page: &mut P,
    tree: TreeId,
    key: &[u8],
    cell: &Cell<'_>,
) -> Result<(), ApplyError> {
    let leaf = leaf_for(page.bytes(), tree, key)?;
    let found = leaf.find(key);
    put_at(page, key, found, cell)
}

/// Puts a cell at a slot that [`LeafView::find`] gave.
fn put_at<P: PageWrite>(
    page: &mut P,
    key: &[u8],
    found: Result<usize, usize>,
    cell: &Cell<'_>,
) -> Result<(), ApplyError> {
    let node = NodeView::new(page.bytes());
    if !leaf::is_cell_allowed(page.bytes().len(), key.len(), cell) {
        return Err(ApplyError::CellTooLarge);
    }
    let suffix = &key[node.prefix_len()..];
    let needed = leaf::slot_and_cell_bytes(suffix.len(), cell);
    let (new_len, tail) = (needed - SLOT_BYTES, EncodedTail::new(cell));
    let slot = match found {
        Ok(slot) => {
            let old_len = node.cell_len(slot);
            if new_len <= old_len {
                write_in_place(page, slot, old_len, new_len, &tail);
                return Ok(());
            }
            if new_len > node.free_bytes_logical() + old_len {
                return Err(ApplyError::Full);
            }
            remove_slot(page, slot);
            slot
        }
        Err(slot) if needed > node.free_bytes_logical() => {
            debug_assert!(slot <= node.count());
            return Err(ApplyError::Full);
        }
        Err(slot) => slot,
    };
    let [head, value, capacity] = tail.pieces();
    insert_slot(page, slot, suffix, &[head, value, capacity], new_len);
    Ok(())
}

/// Overwrites a cell behind its key with one that is not longer.
fn write_in_place<P: PageWrite>(
    page: &mut P,
    slot: usize,
    old_len: usize,
    new_len: usize,
    tail: &EncodedTail<'_>,
) {
    let node = NodeView::new(page.bytes());
    let (at, garbage) = (node.slot(slot), node.garbage());
    let mut offset = at.offset + at.suffix_len;
    for piece in tail.pieces() {
        page.write(offset, piece);
        offset += piece.len();
    }
    page.fill_zero(offset..at.offset + old_len);
    if new_len < old_len {
        page.write(GARBAGE, &short(garbage + old_len - new_len));
    }
}

fn remove<P: PageWrite>(page: &mut P, tree: TreeId, key: &[u8]) -> Result<(), ApplyError> {
    let leaf = leaf_for(page.bytes(), tree, key)?;
    let slot = leaf.find(key).map_err(|_| ApplyError::MissingKey)?;
    remove_slot(page, slot);
    Ok(())
}

fn settle<P: PageWrite>(page: &mut P, tree: TreeId, key: &[u8]) -> Result<(), ApplyError> {
    let leaf = leaf_for(page.bytes(), tree, key)?;
    let slot = leaf.find(key).map_err(|_| ApplyError::MissingKey)?;
    let value = leaf.cell_at(slot).value.to_vec();
    let old = leaf.cell_at(slot);
    let cell =
        Cell { is_ghost: old.is_ghost, is_overflow: old.is_overflow, ..Cell::inline(&value) };
    put_at(page, key, Ok(slot), &cell)
}

/// Takes a cell and its slot away; their bytes become zero.
fn remove_slot<P: PageWrite>(page: &mut P, slot: usize) {
    let node = NodeView::new(page.bytes());
    let (offset, len) = (node.slot(slot).offset, node.cell_len(slot));
    let (count, slots_end) = (node.count(), node.slots_end());
    let (heap_start, garbage) = (node.heap_start(), node.garbage());
    page.fill_zero(offset..offset + len);
    let place = HEADER_BYTES + slot * SLOT_BYTES;
    page.copy_within(place + SLOT_BYTES..slots_end, place);
    page.fill_zero(slots_end - SLOT_BYTES..slots_end);
    page.write(SLOT_COUNT, &short(count - 1));
    if offset == heap_start {
        page.write(HEAP_START, &short(heap_start + len));
    } else {
        page.write(GARBAGE, &short(garbage + len));
    }
}

/// Puts a new cell of `len` bytes, for which there is room, at `slot`. Bytes of the cell behind the
/// pieces are zero.
fn insert_slot<P: PageWrite>(page: &mut P, slot: usize, suffix: &[u8], tail: &[&[u8]], len: usize) {
    let node = NodeView::new(page.bytes());
    if node.heap_start() - node.slots_end() < SLOT_BYTES + len {
        compact(page);
    }
    let node = NodeView::new(page.bytes());
    let (count, slots_end) = (node.count(), node.slots_end());
    let offset = node.heap_start() - len;
    page.write(offset, suffix);
    let mut end = offset + suffix.len();
    for piece in tail {
        page.write(end, piece);
        end += piece.len();
    }
    let place = HEADER_BYTES + slot * SLOT_BYTES;
    page.copy_within(place..slots_end, place + SLOT_BYTES);
    page.write(place, &encode_slot(suffix, offset));
    page.write(SLOT_COUNT, &short(count + 1));
    page.write(HEAP_START, &short(offset));
}

/// Lays the node out anew, without garbage.
fn compact<P: PageWrite>(page: &mut P) {
    let node = NodeView::new(page.bytes());
    let composed = compose(node.bytes().len(), &NodeSpec::of(node), &[(node, 0..node.count())]);
    replace(page, &composed.expect("a node's content fits the page it is on"));
}

fn compose(
    page_bytes: usize,
    spec: &NodeSpec<'_>,
    parts: &[(NodeView<'_>, std::ops::Range<usize>)],
) -> Result<PageBuf, Full> {
    let mut composer = Composer::new(page_bytes, spec);
    for (node, slots) in parts {
        composer.push_all(*node, slots.clone())?;
    }
    Ok(composer.finish())
}

fn split_off<P: PageWrite>(
    page: &mut P,
    separator: &[u8],
    right: PageId,
) -> Result<(), ApplyError> {
    let bytes = page.bytes();
    let node = NodeView::new(bytes);
    if separator.len() > MAX_KEY_BYTES
        || !node.contains_key_range(separator)
        || node.low_fence().compare(separator).is_eq()
    {
        return Err(ApplyError::OutsideFences);
    }
    let end = match node.page().kind() {
        PageKind::Leaf => LeafView::new(bytes).lower_bound(separator),
        PageKind::Inner => match InnerView::new(bytes).find_separator(separator) {
            Ok(slot) => slot,
            Err(_) => return Err(ApplyError::BadSeparator),
        },
        _ => return Err(wrong_kind(bytes)),
    };
    let spec =
        NodeSpec { high: Some(Key::whole(separator)), right_sibling: right, ..NodeSpec::of(node) };
    let half = compose(bytes.len(), &spec, &[(node, 0..end)])?;
    replace(page, &half);
    Ok(())
}

fn absorb<P: PageWrite>(page: &mut P, low: &[u8], high: &[u8]) -> Result<(), ApplyError> {
    let bytes = page.bytes();
    if !matches!(PageView::new(bytes).kind(), PageKind::Leaf | PageKind::Inner) {
        return Err(wrong_kind(bytes));
    }
    let right = page_of_image(bytes.len(), low, high)?;
    if !split::are_neighbours(bytes, right.bytes()) {
        return Err(ApplyError::NotNeighbours);
    }
    let (left, right) = (NodeView::new(bytes), NodeView::new(right.bytes()));
    let spec = NodeSpec {
        high: right.high_fence(),
        right_sibling: right.right_sibling(),
        ..NodeSpec::of(left)
    };
    let merged =
        compose(bytes.len(), &spec, &[(left, 0..left.count()), (right, 0..right.count())])?;
    replace(page, &merged);
    Ok(())
}

fn inner_for<'a>(bytes: &'a [u8], separator: &[u8]) -> Result<InnerView<'a>, ApplyError> {
    let inner = InnerView::of_kind(bytes).ok_or_else(|| wrong_kind(bytes))?;
    if !inner.contains_key_range(separator) || separator.len() > MAX_KEY_BYTES {
        return Err(ApplyError::OutsideFences);
    }
    Ok(inner)
}

fn insert_child<P: PageWrite>(
    page: &mut P,
    separator: &[u8],
    child: PageId,
) -> Result<(), ApplyError> {
    let inner = inner_for(page.bytes(), separator)?;
    let slot = match inner.find_separator(separator) {
        Ok(_) => return Err(ApplyError::DuplicateSeparator),
        Err(slot) => slot,
    };
    let is_low_fence = inner.low_fence().compare(separator).is_eq();
    if (slot == 0) != is_low_fence {
        return Err(ApplyError::BadSeparator);
    }
    if !inner.fits_insert_child(separator) {
        return Err(ApplyError::Full);
    }
    let suffix = if slot == 0 { &[] } else { &separator[inner.node().prefix_len()..] };
    let len = suffix.len() + inner::TAIL_BYTES;
    insert_slot(page, slot, suffix, &[&child.get().to_le_bytes()], len);
    Ok(())
}

fn remove_child<P: PageWrite>(page: &mut P, separator: &[u8]) -> Result<(), ApplyError> {
    let inner = inner_for(page.bytes(), separator)?;
    let slot = inner.find_separator(separator).map_err(|_| ApplyError::MissingKey)?;
    if slot == 0 && inner.count() > 1 {
        // The children behind it would be left without one that begins at the low fence.
        return Err(ApplyError::BadSeparator);
    }
    remove_slot(page, slot);
    Ok(())
}

fn set_bits<P: PageWrite>(page: &mut P, extent: &Extent, value: bool) -> Result<(), ApplyError> {
    let bytes = page.bytes();
    if PageView::new(bytes).kind() != PageKind::Bitmap {
        return Err(wrong_kind(bytes));
    }
    let view = BitmapView::new(bytes);
    let range = view.indices_of(extent).ok_or(ApplyError::OutsideBitmap)?;
    if range.start == 0 {
        return Err(ApplyError::OutsideBitmap);
    }
    if let Some(index) = range.clone().find(|&index| view.is_allocated(index) == value) {
        return Err(ApplyError::WrongBit { page: view.page_at(index) });
    }
    let (offset, changed) = bitmap::changed_bytes(bytes, &range, value);
    page.write(offset, &changed);
    Ok(())
}
