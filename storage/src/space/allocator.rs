//! Allocation of pages, one by one and in runs.
//!
//! A page is given out in three steps: reserved in memory (so that nobody else picks it), marked in
//! its bitmap page by the record that also initialises and links it (invariant P5), and then the
//! reservation goes. The file reaches beyond a page, durably, before any record names it (W2).

use std::collections::HashSet;

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::record::Extent;
use seawall_wal::sync::{Mutex, MutexGuard};
use seawall_wal::{PageId, Result};

use crate::page::{BitmapView, PageRead, pages_per_bitmap};
use crate::pagefile::PageFile;
use crate::pool::Pool;
use crate::space::pending::PendingFrees;

/// Which pages are free, and which are about to be taken.
#[derive(Debug)]
pub(crate) struct Allocator {
    /// Pages that one bitmap page covers.
    pages_per_bitmap: u64,
    state: Mutex<State>,
    /// Held by whoever adds a bitmap page.
    adding: Mutex<()>,
    pending: PendingFrees,
}

#[derive(Debug)]
struct State {
    /// Bitmap pages that exist.
    bitmaps: u64,
    /// Picked, and not yet marked.
    reserved: HashSet<PageId>,
    /// Where the next search starts: pages below were taken when it was set.
    search_from: u64,
}

/// A page that nobody else will pick. Dropping it gives it back, unless its bitmap says otherwise.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    allocator: &'a Allocator,
    pub(crate) page: PageId,
    pub(crate) bitmap: PageId,
}

/// A run of pages under one bitmap page that nobody else will pick.
#[derive(Debug)]
pub(crate) struct ReservedRun<'a> {
    allocator: &'a Allocator,
    pages: Vec<PageId>,
    bitmap: PageId,
}

impl ReservedRun<'_> {
    pub(crate) fn pages(&self) -> &[PageId] {
        &self.pages
    }

    pub(crate) const fn bitmap(&self) -> PageId {
        self.bitmap
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent { first: self.pages[0], count: to_u64(self.pages.len()) }
    }
}

impl Drop for ReservedRun<'_> {
    fn drop(&mut self) {
        let mut state = self.allocator.state.lock();
        for page in &self.pages {
            state.reserved.remove(page);
        }
        state.search_from = state.search_from.min(self.pages[0].get());
    }
}

/// What [`Allocator::reserve`] found.
#[derive(Debug)]
pub(crate) enum Reserved<'a> {
    Page(Reservation<'a>),
    /// Every bitmap page is full: the caller logs the one with this id first.
    NeedsBitmap(PageId),
}

impl Allocator {
    /// `bitmaps` bitmap pages exist.
    pub(crate) fn new(page_bytes: usize, bitmaps: u64) -> Self {
        let pages_per_bitmap = to_u64(pages_per_bitmap(page_bytes));
        let state = State { bitmaps, reserved: HashSet::new(), search_from: 0 };
        Self {
            pages_per_bitmap,
            state: Mutex::new(state),
            adding: Mutex::new(()),
            pending: PendingFrees::default(),
        }
    }

    /// The bitmap page that covers `page`.
    pub(crate) fn bitmap_of(&self, page: PageId) -> PageId {
        PageId::new(page.get() - page.get() % self.pages_per_bitmap)
    }

    /// Bitmap pages that exist.
    pub(crate) fn bitmaps(&self) -> impl Iterator<Item = PageId> + use<> {
        let (bitmaps, step) = (self.state.lock().bitmaps, self.pages_per_bitmap);
        (0..bitmaps).map(move |index| PageId::new(index * step))
    }

    /// The turn to add a bitmap page; the holder asks [`Allocator::has_bitmap`] once more.
    pub(crate) fn bitmap_turn(&self) -> MutexGuard<'_, ()> {
        self.adding.lock()
    }

    pub(crate) fn has_bitmap(&self, bitmap: PageId) -> bool {
        bitmap.get() / self.pages_per_bitmap < self.state.lock().bitmaps
    }

    /// Extents that wait until no snapshot needs them.
    pub(crate) fn pending(&self) -> &PendingFrees {
        &self.pending
    }

    /// Notes that the next bitmap page exists.
    pub(crate) fn add_bitmap(&self, bitmap: PageId) {
        let mut state = self.state.lock();
        state.bitmaps = state.bitmaps.max(bitmap.get() / self.pages_per_bitmap + 1);
    }

    /// Picks a free page and makes the file reach beyond it. Does I/O: no latch is held.
    pub(crate) fn reserve(&self, pool: &Pool, file: &PageFile) -> Result<Reserved<'_>> {
        loop {
            let (search_from, bitmaps) = {
                let state = self.state.lock();
                (state.search_from, state.bitmaps)
            };
            let first = search_from / self.pages_per_bitmap;
            let mut picked = None;
            for index in first..bitmaps {
                let bitmap = PageId::new(index * self.pages_per_bitmap);
                let from = search_from.saturating_sub(bitmap.get()).min(self.pages_per_bitmap);
                picked = self.pick(pool, bitmap, from, search_from)?;
                if picked.is_some() {
                    break;
                }
            }
            if let Some(reservation) = picked {
                file.grow_to(reservation.page.get() + 1)?;
                return Ok(Reserved::Page(reservation));
            }
            let mut state = self.state.lock();
            if state.bitmaps == bitmaps && state.search_from == search_from {
                let next = PageId::new(bitmaps * self.pages_per_bitmap);
                return Ok(Reserved::NeedsBitmap(next));
            }
            // Somebody freed a page or added a bitmap while this search ran.
            state.search_from = state.search_from.min(search_from);
        }
    }

    /// Picks a run of `count` free pages, or as many as a bitmap page covers, and makes the file reach
    /// beyond it. `Err(bitmap)` inside of the result: there is none, and the bitmap page with this id
    /// is to be logged first.
    pub(crate) fn reserve_run(
        &self,
        pool: &Pool,
        file: &PageFile,
        count: usize,
    ) -> Result<Result<ReservedRun<'_>, PageId>> {
        let bitmaps: Vec<_> = self.bitmaps().collect();
        let most = to_usize(self.pages_per_bitmap) - 1;
        // Where no bitmap page has the whole run, a fresh one has: it keeps values in one piece.
        let wanted = count.min(most);
        for &bitmap in &bitmaps {
            if let Some(run) = self.pick_run(pool, bitmap, wanted)? {
                let last = run.pages[run.pages.len() - 1];
                file.grow_to(last.get() + 1)?;
                return Ok(Ok(run));
            }
        }
        Ok(Err(PageId::new(to_u64(bitmaps.len()) * self.pages_per_bitmap)))
    }

    fn pick_run(
        &self,
        pool: &Pool,
        bitmap: PageId,
        count: usize,
    ) -> Result<Option<ReservedRun<'_>>> {
        let page = pool.pin(bitmap)?.into_shared();
        let view = BitmapView::new(page.bytes());
        let mut state = self.state.lock();
        let mut from = 0;
        while let Some(start) = view.find_free_run(from, count) {
            let ids = start..start + count;
            let pages: Vec<_> =
                ids.map(|index| PageId::new(bitmap.get() + to_u64(index))).collect();
            match pages.iter().rposition(|page| state.reserved.contains(page)) {
                Some(taken) => from = start + taken + 1,
                None => {
                    state.reserved.extend(&pages);
                    return Ok(Some(ReservedRun { allocator: self, pages, bitmap }));
                }
            }
        }
        Ok(None)
    }

    /// Picks a free page of a bitmap from `from` on, in a search that began at `search_from`.
    fn pick(
        &self,
        pool: &Pool,
        bitmap: PageId,
        from: u64,
        search_from: u64,
    ) -> Result<Option<Reservation<'_>>> {
        let page = pool.pin(bitmap)?.into_shared();
        let view = BitmapView::new(page.bytes());
        let mut state = self.state.lock();
        let mut index = to_usize(from);
        while let Some(free) = view.find_free(index) {
            let id = PageId::new(bitmap.get() + to_u64(free));
            if state.reserved.insert(id) {
                // Else a page below was freed meanwhile.
                if state.search_from == search_from {
                    state.search_from = id.get() + 1;
                }
                return Ok(Some(Reservation { allocator: self, page: id, bitmap }));
            }
            index = free + 1;
        }
        Ok(None)
    }

    /// Notes that pages from `page` on were freed in their bitmap.
    pub(crate) fn freed(&self, page: PageId) {
        let mut state = self.state.lock();
        state.search_from = state.search_from.min(page.get());
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.allocator.state.lock();
        state.reserved.remove(&self.page);
        // Where the page was not taken after all, the next search must find it again.
        state.search_from = state.search_from.min(self.page.get());
    }
}
