//! The one function that changes pages. Writers call it under the page's latch, redo calls it with
//! the operation read from the log, and both get the same bytes from the same bytes.
//!
//! An operation is checked before it changes anything: on an error the page is as it was. Redo makes
//! corruption of it; for a writer it is a broken invariant, as he has asked before
//! ([`LeafView::fits_put`], [`InnerView::fits_insert_child`], the fences).
//!
//! Bytes that become free are made zero at once: images leave the hole out, deleted data does not
//! linger in the file, and pages compress well. It costs one pass over bytes that are in the cache.

use std::{error, fmt};

use seawall_wal::codec::DecodeError;
use seawall_wal::record::{Cell, Extent, Op};
use seawall_wal::{PageId, TreeId};

use super::bitmap::{self, BitmapView};
use super::build::{Full, NodeSpec};
use super::bytes::{PageBuf, PageRead, PageWrite};
use super::header::{HEADER_BYTES, IMAGE_START, PageKind, PageView};
use super::inner::{self, InnerView};
use super::key::Key;
use super::leaf::{self, EncodedTail, LeafView};
use super::node::{MAX_KEY_BYTES, NodeView, SLOT_BYTES};
use super::space::{compose, insert_slot, remove_slot, replace, write_in_place};
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

/// The leaf or inner node that a structure change is for.
fn node_of(bytes: &[u8]) -> Result<NodeView<'_>, ApplyError> {
    match PageView::new(bytes).kind() {
        PageKind::Leaf | PageKind::Inner => Ok(NodeView::new(bytes)),
        PageKind::Free | PageKind::Bitmap | PageKind::Overflow => Err(wrong_kind(bytes)),
    }
}

fn split_off<P: PageWrite>(
    page: &mut P,
    separator: &[u8],
    right: PageId,
) -> Result<(), ApplyError> {
    let bytes = page.bytes();
    let node = node_of(bytes)?;
    if separator.len() > MAX_KEY_BYTES
        || !node.contains_key_range(separator)
        || node.low_fence().compare(separator).is_eq()
    {
        return Err(ApplyError::OutsideFences);
    }
    let end = match InnerView::of_kind(bytes) {
        None => LeafView::new(bytes).lower_bound(separator),
        Some(inner) => inner.find_separator(separator).map_err(|_| ApplyError::BadSeparator)?,
    };
    let spec =
        NodeSpec { high: Some(Key::whole(separator)), right_sibling: right, ..NodeSpec::of(node) };
    let half = compose(bytes.len(), &spec, &[(node, 0..end)])?;
    replace(page, &half);
    Ok(())
}

fn absorb<P: PageWrite>(page: &mut P, low: &[u8], high: &[u8]) -> Result<(), ApplyError> {
    let bytes = page.bytes();
    let left = node_of(bytes)?;
    let right = page_of_image(bytes.len(), low, high)?;
    if !split::are_neighbours(bytes, right.bytes()) {
        return Err(ApplyError::NotNeighbours);
    }
    let right = NodeView::new(right.bytes());
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

#[cfg(test)]
mod tests {
    use seawall_wal::record::WriteKind;

    use super::super::{
        LeafView, check, collapse_root, empty_bitmap, empty_leaf, image_of, inner_with_child,
        overflow_page,
    };
    use super::*;

    const PAGE: usize = 4096;
    const TREE: TreeId = TreeId::new(4);
    const ID: PageId = PageId::new(2);
    const RIGHT: PageId = PageId::new(3);

    fn put_op<'a>(key: &'a [u8], value: &'a [u8]) -> Op<'a> {
        let after = Cell::inline(value);
        Op::Put { tree: TREE, key, kind: WriteKind::Insert, after, before: None }
    }

    fn spec<'a>(page: PageId, low: &'a [u8], high: &'a [u8], right: PageId) -> NodeSpec<'a> {
        NodeSpec {
            page,
            tree: TREE,
            level: 0,
            low: Key::whole(low),
            high: Some(Key::whole(high)),
            right_sibling: right,
        }
    }

    /// A leaf for the keys from `b` to `m` with two of them.
    fn leaf() -> PageBuf {
        let mut page = empty_leaf(PAGE, &spec(ID, b"b", b"m", RIGHT));
        for key in [&b"c"[..], b"d"] {
            apply(&mut page, ID, &put_op(key, b"value")).unwrap();
        }
        page
    }

    /// An inner node for the same keys with children from `b`, `d` and `f` on.
    fn inner() -> PageBuf {
        let spec = NodeSpec { level: 1, ..spec(ID, b"b", b"m", RIGHT) };
        let mut page = inner_with_child(PAGE, &spec, PageId::new(10));
        for (separator, child) in [(&b"d"[..], 11), (b"f", 12)] {
            let child = PageId::new(child);
            apply(&mut page, ID, &Op::InsertChild { separator, child }).unwrap();
        }
        page
    }

    fn refused(page: &PageBuf, op: &Op<'_>) -> ApplyError {
        let mut copy = page.clone();
        let error = apply(&mut copy, ID, op).unwrap_err();
        assert!(copy == *page, "a refused operation changes nothing");
        assert!(!error.to_string().is_empty());
        error
    }

    #[test]
    fn operations_on_a_page_of_another_kind_are_refused() {
        let key = &b"c"[..];
        let for_leaves = [put_op(key, b""), Op::Remove { tree: TREE, key }];
        let for_inner =
            [Op::InsertChild { separator: key, child: RIGHT }, Op::RemoveChild { separator: key }];
        let for_bitmaps = [Op::Allocate(Extent { first: RIGHT, count: 1 })];
        let for_nodes =
            [Op::SplitOff { separator: b"c", right: RIGHT }, Op::Absorb { low: &[], high: &[] }];
        let bitmap = empty_bitmap(PAGE, PageId::NONE);
        let overflow = overflow_page(PAGE, ID, TREE, b"", b"");
        let (leaf, inner, zeros) = (leaf(), inner(), PageBuf::zeroed(PAGE));
        let is_wrong = |page: &PageBuf, ops: &[Op<'_>]| {
            for op in ops {
                let found = PageView::new(page.bytes()).kind();
                let (error, expected) = (refused(page, op), ApplyError::WrongKind { found });
                assert_eq!(error, expected, "{op:?}");
            }
        };
        for page in [&bitmap, &overflow, &zeros] {
            is_wrong(page, &for_leaves);
            is_wrong(page, &for_inner);
            is_wrong(page, &for_nodes);
        }
        is_wrong(&inner, &for_leaves);
        is_wrong(&leaf, &for_inner);
        is_wrong(&leaf, &for_bitmaps);
    }

    #[test]
    fn keys_of_other_pages_and_trees_are_refused() {
        let leaf = leaf();
        for key in [&b"a"[..], b"m", b"z", b""] {
            assert_eq!(refused(&leaf, &put_op(key, b"")), ApplyError::OutsideFences);
        }
        let long = [b'c'; MAX_KEY_BYTES + 1];
        assert_eq!(refused(&leaf, &put_op(&long, b"")), ApplyError::OutsideFences);
        let tree = TreeId::new(9);
        let error = refused(&leaf, &Op::Remove { tree, key: b"c" });
        assert_eq!(error, ApplyError::WrongTree { found: TREE });
        for op in [Op::Remove { tree: TREE, key: b"e" }, Op::Settle { tree: TREE, key: b"e" }] {
            assert_eq!(refused(&leaf, &op), ApplyError::MissingKey);
        }
        let large = vec![0; PAGE];
        assert_eq!(refused(&leaf, &put_op(b"c", &large)), ApplyError::CellTooLarge);
    }

    #[test]
    fn separators_that_part_nothing_are_refused() {
        let (leaf, inner) = (leaf(), inner());
        let split = |separator| Op::SplitOff { separator, right: RIGHT };
        for separator in [&b"a"[..], b"b", b"m", b"z"] {
            assert_eq!(refused(&leaf, &split(separator)), ApplyError::OutsideFences);
            assert_eq!(refused(&inner, &split(separator)), ApplyError::OutsideFences);
        }
        assert_eq!(refused(&inner, &split(b"e")), ApplyError::BadSeparator);
        let insert = |separator| Op::InsertChild { separator, child: RIGHT };
        assert_eq!(refused(&inner, &insert(b"d")), ApplyError::DuplicateSeparator);
        assert_eq!(refused(&inner, &insert(b"b")), ApplyError::DuplicateSeparator);
        assert_eq!(refused(&inner, &insert(b"m")), ApplyError::OutsideFences);
        let remove = |separator| Op::RemoveChild { separator };
        assert_eq!(refused(&inner, &remove(b"e")), ApplyError::MissingKey);
        assert_eq!(refused(&inner, &remove(b"b")), ApplyError::BadSeparator);
    }

    #[test]
    fn an_inner_node_is_dismantled_from_the_right_and_filled_from_the_left() {
        let mut page = inner();
        for separator in [&b"d"[..], b"f", b"b"] {
            apply(&mut page, ID, &Op::RemoveChild { separator }).unwrap();
            check(page.bytes()).unwrap();
        }
        let view = InnerView::new(page.bytes());
        assert!(view.child_for(b"c").is_none() && view.count() == 0);
        let error = refused(&page, &Op::InsertChild { separator: b"d", child: RIGHT });
        assert_eq!(error, ApplyError::BadSeparator);
        apply(&mut page, ID, &Op::InsertChild { separator: b"b", child: RIGHT }).unwrap();
        assert_eq!(InnerView::new(page.bytes()).child_for(b"k").unwrap().page, RIGHT);
    }

    #[test]
    fn only_the_right_neighbour_is_absorbed() {
        let leaf = leaf();
        let strangers = [
            empty_leaf(PAGE, &spec(PageId::new(8), b"m", b"x", PageId::NONE)),
            empty_leaf(PAGE, &spec(RIGHT, b"n", b"x", PageId::NONE)),
            empty_leaf(
                PAGE,
                &NodeSpec { tree: TreeId::new(9), ..spec(RIGHT, b"m", b"x", PageId::NONE) },
            ),
            inner_with_child(
                PAGE,
                &NodeSpec { level: 1, ..spec(RIGHT, b"m", b"x", PageId::NONE) },
                ID,
            ),
        ];
        for stranger in strangers {
            let (low, high) = image_of(stranger.bytes());
            assert_eq!(refused(&leaf, &Op::Absorb { low, high }), ApplyError::NotNeighbours);
        }
        let right = empty_leaf(PAGE, &spec(RIGHT, b"m", b"x", PageId::new(77)));
        let (low, high) = image_of(right.bytes());
        let mut page = leaf;
        apply(&mut page, ID, &Op::Absorb { low, high }).unwrap();
        let merged = LeafView::new(page.bytes());
        assert_eq!((merged.count(), merged.right_sibling()), (2, PageId::new(77)));
        assert!(merged.high_fence().unwrap() == b"x"[..]);
    }

    #[test]
    fn neighbours_that_do_not_fit_one_page_are_not_merged() {
        let mut left = leaf();
        let mut right = empty_leaf(PAGE, &spec(RIGHT, b"m", b"x", PageId::NONE));
        for number in 0..20 {
            let value = [7; 150];
            apply(&mut left, ID, &put_op(format!("c{number}").as_bytes(), &value)).unwrap();
            apply(&mut right, RIGHT, &put_op(format!("m{number}").as_bytes(), &value)).unwrap();
        }
        let (low, high) = image_of(right.bytes());
        assert_eq!(refused(&left, &Op::Absorb { low, high }), ApplyError::Full);
    }

    #[test]
    fn images_that_are_damaged_or_of_another_page_are_refused() {
        let page = leaf();
        let other = collapse_root(page.bytes(), PageId::new(8));
        let (low, high) = image_of(other.bytes());
        let found = PageId::new(8);
        assert_eq!(refused(&page, &Op::Image { low, high }), ApplyError::WrongPage { found });
        let (low, high) = image_of(page.bytes());
        let long = [0; PAGE];
        for (low, high) in [(&low[..50], high), (low, &high[1..]), (low, &long[..]), (&[], &[])] {
            let error = refused(&page, &Op::Image { low, high });
            assert!(matches!(error, ApplyError::BadImage(_)), "{error}");
        }
    }

    #[test]
    fn nothing_of_a_removed_value_lingers() {
        let mut page = leaf();
        let has_secret = |page: &PageBuf| page.bytes().windows(6).any(|bytes| bytes == b"secret");
        apply(&mut page, ID, &put_op(b"e", b"secret")).unwrap();
        apply(&mut page, ID, &put_op(b"f", b"other")).unwrap();
        assert!(has_secret(&page));
        let mut shortened = page.clone();
        apply(&mut shortened, ID, &put_op(b"e", b"x")).unwrap();
        assert!(!has_secret(&shortened));
        apply(&mut page, ID, &Op::Remove { tree: TREE, key: b"e" }).unwrap();
        assert!(!has_secret(&page));
    }
}
