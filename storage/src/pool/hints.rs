//! Where pages were seen last: a page table that readers look into without a lock.
//!
//! Eight entries share a cache line; a page has one in the line that its id leads to, or none. An
//! entry is a hint and never an answer: whoever follows it asks the frame itself which page it
//! holds, under a pin, a latch or a version. So entries are stored and overwritten as they come,
//! relaxed and without a word to anybody; one that is lost or stale costs a look into the table.
//!
//! Each inner node could keep hints to its children. One table for all pages does the same with the
//! same single line per step, also for roots and for pages that nobody descends to, and has nothing to
//! move when children do.

use seawall_wal::PageId;
use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::sync::atomic::{AtomicU64, Ordering};

use super::arena::FrameIndex;
use super::hash::spread;

/// Entries of a line.
const WAYS: usize = 8;
/// Entries for each frame, 16 to 32 bytes: few lines have more pages than ways then.
const ENTRIES_PER_FRAME: usize = 2;
/// An entry is the low half of a page id above a frame's number plus one; 0 is none.
const TAG_SHIFT: u32 = 32;
const EMPTY: u64 = 0;

/// The hints.
#[derive(Debug)]
pub(super) struct FrameHints {
    lines: Box<[Line]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; WAYS]);

impl FrameHints {
    pub(super) fn new(frames: usize) -> Self {
        let lines = (frames * ENTRIES_PER_FRAME / WAYS).next_power_of_two();
        Self { lines: (0..lines).map(|_| Line::default()).collect() }
    }

    /// The frame that the page was seen in last, if that is known.
    #[inline]
    pub(super) fn find(&self, page: PageId) -> Option<FrameIndex> {
        let tag = tag_of(page);
        let entries = self.line(page).0.iter().map(|entry| entry.load(Ordering::Relaxed));
        entries.filter(|&entry| entry != EMPTY && entry >> TAG_SHIFT == tag).find_map(frame_of)
    }

    /// Notes that the page is in this frame. Where its line is full, another page's entry goes.
    pub(super) fn note(&self, page: PageId, frame: FrameIndex) {
        let ways = &self.line(page).0;
        let tag = tag_of(page);
        let fits = |way: &&AtomicU64| {
            let entry = way.load(Ordering::Relaxed);
            entry == EMPTY || entry >> TAG_SHIFT == tag
        };
        let way = ways.iter().find(fits).unwrap_or_else(|| &ways[to_usize(page.get()) % WAYS]);
        way.store(tag << TAG_SHIFT | (u64::from(frame) + 1), Ordering::Relaxed);
    }

    fn line(&self, page: PageId) -> &Line {
        &self.lines[to_usize(spread(page)) & (self.lines.len() - 1)]
    }
}

fn tag_of(page: PageId) -> u64 {
    page.get() & (to_u64(1 << TAG_SHIFT) - 1)
}

fn frame_of(entry: u64) -> Option<FrameIndex> {
    let low = entry & ((1 << TAG_SHIFT) - 1);
    FrameIndex::try_from(low.checked_sub(1)?).ok()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_where_it_was_noted_last() {
        let hints = FrameHints::new(64);
        for number in 0..64 {
            assert_eq!(hints.find(PageId::new(number)), None);
        }
        hints.note(PageId::new(0), 0);
        hints.note(PageId::new(7), 3);
        hints.note(PageId::new(7), 63);
        assert_eq!(hints.find(PageId::new(0)), Some(0));
        assert_eq!(hints.find(PageId::new(7)), Some(63));
        assert_eq!(hints.find(PageId::new(8)), None);
    }

    #[test]
    fn a_cache_full_of_pages_has_hints_to_nearly_all() {
        let frames = 1 << 12;
        let hints = FrameHints::new(frames);
        // Ids as a file has them that is larger than the cache.
        let pages = (0..u32::try_from(frames).unwrap()).map(|frame| (frame, u64::from(frame) * 3));
        for (frame, page) in pages.clone() {
            hints.note(PageId::new(page), frame);
        }
        let found = pages.filter(|&(frame, page)| hints.find(PageId::new(page)) == Some(frame));
        let found = found.count();
        assert!(found > frames * 9 / 10, "{found} of {frames}");
    }

    #[test]
    fn a_full_line_takes_the_page_that_came_last() {
        let hints = FrameHints::new(1);
        for number in 0..100 {
            hints.note(PageId::new(number), 0);
            assert_eq!(hints.find(PageId::new(number)), Some(0));
        }
    }
}
