//! Bitmap pages: which pages of the page file are in use.
//!
//! With *B* bits in a page's body, bitmap page *k* has the page id *k · B* and says so for the ids
//! from *k · B* to *(k + 1) · B - 1*: bit *i* of the body (byte *i / 8*, bit *i % 8*) stands for page
//! *k · B + i*. Bit 0 is the bitmap page itself and always set. Positions in this file are bits.
//!
//! Only `Allocate` and `Release` change a bitmap page, so its `page_lsn` is the highest LSN at which
//! one of its pages was allocated or freed.

use std::ops::Range;

use seawall_wal::PageId;
use seawall_wal::codec::{DecodeError, to_u64, to_usize};
use seawall_wal::record::Extent;

use super::bytes::u8_at;
use super::header::{HEADER_BYTES, PageView};

/// Pages that one bitmap page covers, itself among them.
#[must_use]
pub const fn pages_per_bitmap(page_bytes: usize) -> usize {
    (page_bytes - HEADER_BYTES) * 8
}

/// The bitmap page that covers `page`.
#[must_use]
pub fn page_of(page_bytes: usize, page: PageId) -> PageId {
    PageId::new(page.get() - to_u64(index_of(page_bytes, page)))
}

/// The bit of `page` on its bitmap page.
#[must_use]
pub fn index_of(page_bytes: usize, page: PageId) -> usize {
    to_usize(page.get() % to_u64(pages_per_bitmap(page_bytes)))
}

/// A bitmap page. Copying it copies a reference.
#[derive(Clone, Copy, Debug)]
pub struct BitmapView<'a> {
    bytes: &'a [u8],
}

impl<'a> BitmapView<'a> {
    /// Looks at a bitmap page; the caller has checked the kind.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The header.
    #[must_use]
    pub const fn page(self) -> PageView<'a> {
        PageView::new(self.bytes)
    }

    /// How many pages it covers.
    #[must_use]
    pub const fn len(self) -> usize {
        pages_per_bitmap(self.bytes.len())
    }

    /// Whether it covers no pages, which is never so.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether the page at `index` is in use; indices beyond the end are.
    #[must_use]
    pub fn is_allocated(self, index: usize) -> bool {
        index >= self.len() || u8_at(self.bytes, HEADER_BYTES + index / 8) & (1 << (index % 8)) != 0
    }

    /// The page that a bit stands for.
    #[must_use]
    pub fn page_at(self, index: usize) -> PageId {
        PageId::new(self.page().page_id().get().saturating_add(to_u64(index)))
    }

    /// How many pages are in use.
    #[must_use]
    pub fn count(self) -> usize {
        let body = self.bytes.get(HEADER_BYTES..).unwrap_or_default();
        to_usize(body.iter().map(|byte| u64::from(byte.count_ones())).sum())
    }

    /// The first free page at or behind `from`.
    #[must_use]
    pub fn find_free(self, from: usize) -> Option<usize> {
        self.next_free(from).filter(|&index| index < self.len())
    }

    /// The first run of `count` free pages at or behind `from`.
    #[must_use]
    pub fn find_free_run(self, from: usize, count: usize) -> Option<usize> {
        let mut start = self.find_free(from)?;
        while start + count <= self.len() {
            match self.next_allocated(start, start + count) {
                None => return Some(start),
                Some(used) => start = self.find_free(used)?,
            }
        }
        None
    }

    /// The bits of an extent; `None` when it does not lie on this page or is empty.
    #[must_use]
    pub fn indices_of(self, extent: &Extent) -> Option<Range<usize>> {
        let start = extent.first.get().checked_sub(self.page().page_id().get())?;
        let end = start.checked_add(extent.count)?;
        (extent.count > 0 && end <= to_u64(self.len())).then(|| to_usize(start)..to_usize(end))
    }

    /// The first free page at or behind `from`, or an index beyond the last page's.
    fn next_free(self, from: usize) -> Option<usize> {
        let body = self.bytes.get(HEADER_BYTES..)?;
        let first = body.get(from / 8)? | below(from % 8);
        if first != u8::MAX {
            return Some(from / 8 * 8 + trailing_ones(first));
        }
        let rest = body.get(from / 8 + 1..)?;
        let byte = from / 8 + 1 + rest.iter().position(|&byte| byte != u8::MAX)?;
        Some(byte * 8 + trailing_ones(body[byte]))
    }

    /// The first page in use in `from..to`.
    fn next_allocated(self, from: usize, to: usize) -> Option<usize> {
        let mut index = from;
        while index < to {
            let is_free_byte =
                index.is_multiple_of(8) && u8_at(self.bytes, HEADER_BYTES + index / 8) == 0;
            if is_free_byte {
                index += 8;
            } else if self.is_allocated(index) {
                return Some(index);
            } else {
                index += 1;
            }
        }
        None
    }
}

/// A byte with the `count` lowest bits set.
const fn below(count: usize) -> u8 {
    (1 << count) - 1
}

fn trailing_ones(byte: u8) -> usize {
    to_usize(u64::from(byte.trailing_ones()))
}

/// Checks that a bitmap page stands where bitmap pages stand and marks itself as used.
pub(super) fn verify(bytes: &[u8]) -> Result<(), DecodeError> {
    let page = PageView::new(bytes).page_id();
    if page_of(bytes.len(), page) != page {
        let place = format!("a multiple of {}", pages_per_bitmap(bytes.len()));
        return Err(DecodeError::new(super::header::IMAGE_START, place, page.to_string()));
    }
    if bytes[HEADER_BYTES] & 1 == 0 {
        return Err(DecodeError::new(HEADER_BYTES, "the bitmap page's own bit set", "it clear"));
    }
    Ok(())
}

/// The bytes of the page's body that change when the bits of `range` become `value`, by offset.
/// `range` must not be empty.
pub(super) fn changed_bytes(bytes: &[u8], range: &Range<usize>, value: bool) -> (usize, Vec<u8>) {
    let (first, last) = (range.start / 8, (range.end - 1) / 8);
    let mut changed = bytes[HEADER_BYTES + first..=HEADER_BYTES + last].to_vec();
    for (at, byte) in changed.iter_mut().enumerate() {
        let start = (first + at) * 8;
        let from = range.start.max(start) - start;
        let to = range.end.min(start + 8) - start;
        let mask = if to == 8 { u8::MAX } else { below(to) } & !below(from);
        *byte = if value { *byte | mask } else { *byte & !mask };
    }
    (HEADER_BYTES + first, changed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seawall_wal::record::Op;

    use super::super::{ApplyError, PageBuf, PageRead, apply, check, empty_bitmap, image_of};
    use super::*;

    const PAGE: usize = 4096;

    fn extent(first: u64, count: u64) -> Extent {
        Extent { first: PageId::new(first), count }
    }

    #[test]
    fn pages_map_to_the_bitmap_that_covers_them() {
        let covered = to_u64(pages_per_bitmap(PAGE));
        assert_eq!(covered, (4096 - 120) * 8);
        for (page, bitmap, index) in
            [(0, 0, 0), (5, 0, 5), (covered - 1, 0, covered - 1), (covered, covered, 0)]
        {
            assert_eq!(page_of(PAGE, PageId::new(page)), PageId::new(bitmap));
            assert_eq!(to_u64(index_of(PAGE, PageId::new(page))), index);
        }
    }

    #[test]
    fn extents_that_do_not_lie_on_the_page_are_refused() {
        let covered = to_u64(pages_per_bitmap(PAGE));
        let id = PageId::new(covered);
        let mut page = empty_bitmap(PAGE, id);
        let outside = [
            extent(covered - 1, 2),
            extent(covered, 1),
            extent(covered + 1, 0),
            extent(covered * 2 - 1, 2),
            extent(covered + 1, u64::MAX),
            extent(u64::MAX, 2),
        ];
        for extent in outside {
            let result = apply(&mut page, id, &Op::Allocate(extent));
            assert_eq!(result, Err(ApplyError::OutsideBitmap), "{extent:?}");
        }
        assert!(page == empty_bitmap(PAGE, id));
    }

    #[test]
    fn a_page_is_not_allocated_or_freed_twice() {
        let id = PageId::NONE;
        let mut page = empty_bitmap(PAGE, id);
        apply(&mut page, id, &Op::Allocate(extent(10, 5))).unwrap();
        let twice = apply(&mut page, id, &Op::Allocate(extent(7, 4)));
        assert_eq!(twice, Err(ApplyError::WrongBit { page: PageId::new(10) }));
        apply(&mut page, id, &Op::Release(extent(12, 1))).unwrap();
        let twice = apply(&mut page, id, &Op::Release(extent(11, 2)));
        assert_eq!(twice, Err(ApplyError::WrongBit { page: PageId::new(12) }));
        assert_eq!(BitmapView::new(page.bytes()).count(), 1 + 4);
    }

    #[test]
    fn a_full_bitmap_has_no_free_page() {
        let id = PageId::NONE;
        let mut page = empty_bitmap(PAGE, id);
        let rest = to_u64(pages_per_bitmap(PAGE)) - 1;
        apply(&mut page, id, &Op::Allocate(extent(1, rest))).unwrap();
        let view = BitmapView::new(page.bytes());
        assert_eq!((view.find_free(0), view.find_free_run(0, 1)), (None, None));
        assert_eq!(view.count(), view.len());
        apply(&mut page, id, &Op::Release(extent(rest, 1))).unwrap();
        let view = BitmapView::new(page.bytes());
        assert_eq!(view.find_free(0), Some(view.len() - 1));
        assert_eq!(view.find_free_run(0, 2), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_bitmap_says_what_a_list_of_flags_says(
            steps in proptest::collection::vec((1_u64..300, 1_u64..40, any::<bool>()), 1..60),
            from in 0_usize..330,
            run in 1_usize..50,
        ) {
            let id = PageId::NONE;
            let mut page = empty_bitmap(PAGE, id);
            let mut flags = vec![false; pages_per_bitmap(PAGE)];
            flags[0] = true;
            for (first, count, value) in steps {
                let extent = extent(first, count);
                let range = to_usize(first)..to_usize(first + count);
                let op = if value { Op::Allocate(extent) } else { Op::Release(extent) };
                let is_allowed = flags[range.clone()].iter().all(|&flag| flag != value);
                prop_assert_eq!(apply(&mut page, id, &op).is_ok(), is_allowed);
                if is_allowed {
                    flags[range].fill(value);
                }
            }
            let view = BitmapView::new(page.bytes());
            for (index, &flag) in flags.iter().enumerate() {
                prop_assert_eq!(view.is_allocated(index), flag);
            }
            prop_assert_eq!(view.count(), flags.iter().filter(|&&flag| flag).count());
            let free = (from..flags.len()).find(|&index| !flags[index]);
            prop_assert_eq!(view.find_free(from), free);
            let run_start = (from..flags.len() - run).find(|&start| !flags[start..start + run].contains(&true));
            prop_assert_eq!(view.find_free_run(from, run), run_start);

            prop_assert_eq!(check(page.bytes()), Ok(()));
            let (low, high) = image_of(page.bytes());
            let mut copy = PageBuf::zeroed(PAGE);
            apply(&mut copy, id, &Op::Image { low, high }).unwrap();
            prop_assert!(copy == page);
        }
    }
}
