//! The page table: which page is in which frame, and which one is being loaded.
//!
//! A page is in at most one frame, because a frame is published and evicted under the lock of the
//! page's shard. Of several threads that miss a page one gets a [`LoadTicket`] and the others wait
//! for it to end, by publication or by failure. The shard locks are short mutexes, ranked below
//! latches and above the dirty table's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use seawall_wal::PageId;
use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::sync::{Condvar, Mutex};

use super::arena::FrameIndex;
use super::hash::{ByPageId, spread};

const SHARDS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Resident(FrameIndex),
    Loading,
}

/// Which pages are where.
#[derive(Debug)]
pub(super) struct PageTable {
    shards: Box<[TableShard]>,
}

/// Aligned so that neighbours do not share a cache line, nor a pair of lines fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct TableShard {
    pages: Mutex<Pages>,
    load_ended: Condvar,
}

#[derive(Debug, Default)]
struct Pages {
    places: HashMap<PageId, Place, ByPageId>,
    // Counted here because the lock is held anyway.
    hits: u64,
    misses: u64,
}

/// What became of a search.
#[derive(Debug)]
pub(super) enum Found<'t, T> {
    /// The page is resident; the closure's answer.
    Resident(T),
    /// It is not, and the caller is the one who loads it.
    Missing(LoadTicket<'t>),
    /// Somebody else is loading it.
    Loading,
}

/// Totals of the table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TableCounts {
    pub(super) hits: u64,
    pub(super) misses: u64,
}

impl PageTable {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| TableShard::default()).collect() }
    }

    /// Looks for a page; `use_frame` runs under the shard lock, so the page cannot be evicted before
    /// it has pinned the frame. The misser gets the ticket.
    pub(super) fn find_or_load<T>(
        &self,
        page: PageId,
        use_frame: impl FnOnce(FrameIndex) -> T,
    ) -> Found<'_, T> {
        let mut pages = self.shard(page).pages.lock();
        let place = match pages.places.entry(page) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                entry.insert(Place::Loading);
                pages.misses += 1;
                return Found::Missing(LoadTicket { table: self, page, is_open: true });
            }
        };
        match place {
            Place::Resident(frame) => {
                pages.hits += 1;
                Found::Resident(use_frame(frame))
            }
            Place::Loading => Found::Loading,
        }
    }

    /// Looks for a resident page.
    pub(super) fn find<T>(
        &self,
        page: PageId,
        use_frame: impl FnOnce(FrameIndex) -> T,
    ) -> Option<T> {
        let mut pages = self.shard(page).pages.lock();
        let Place::Resident(frame) = *pages.places.get(&page)? else { return None };
        pages.hits += 1;
        Some(use_frame(frame))
    }

    /// Waits while somebody loads the page.
    pub(super) fn wait_for_load(&self, page: PageId) {
        let shard = self.shard(page);
        let mut pages = shard.pages.lock();
        while pages.places.get(&page) == Some(&Place::Loading) {
            shard.load_ended.wait(&mut pages);
        }
    }

    /// Takes a page out of its frame if `may_go`, which runs under the shard lock, agrees.
    pub(super) fn evict(
        &self,
        page: PageId,
        frame: FrameIndex,
        may_go: impl FnOnce() -> bool,
    ) -> bool {
        let mut pages = self.shard(page).pages.lock();
        let goes = pages.places.get(&page) == Some(&Place::Resident(frame)) && may_go();
        if goes {
            pages.places.remove(&page);
        }
        goes
    }

    pub(super) fn counts(&self) -> TableCounts {
        let mut counts = TableCounts::default();
        for shard in &self.shards {
            let pages = shard.pages.lock();
            counts.hits += pages.hits;
            counts.misses += pages.misses;
        }
        counts
    }

    /// Pages in frames.
    #[cfg(test)]
    pub(super) fn resident_count(&self) -> usize {
        let is_resident = |place: &&Place| matches!(place, Place::Resident(_));
        let count =
            |shard: &TableShard| shard.pages.lock().places.values().filter(is_resident).count();
        self.shards.iter().map(count).sum()
    }

    fn shard(&self, page: PageId) -> &TableShard {
        &self.shards[to_usize(spread(page) % to_u64(self.shards.len()))]
    }
}

/// The right and duty to load a page. Dropped without a publication, it says that the load failed,
/// and one of those that wait tries.
#[derive(Debug)]
#[must_use]
pub(super) struct LoadTicket<'t> {
    table: &'t PageTable,
    page: PageId,
    is_open: bool,
}

impl LoadTicket<'_> {
    /// The page to load.
    pub(super) const fn page(&self) -> PageId {
        self.page
    }

    /// The page is in `frame` from now on; `publish` runs under the shard lock.
    pub(super) fn publish(mut self, frame: FrameIndex, publish: impl FnOnce()) {
        let shard = self.table.shard(self.page);
        let mut pages = shard.pages.lock();
        publish();
        let before = pages.places.insert(self.page, Place::Resident(frame));
        debug_assert_eq!(before, Some(Place::Loading), "a page under load stays so");
        self.is_open = false;
        shard.load_ended.notify_all();
    }
}

impl Drop for LoadTicket<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let shard = self.table.shard(self.page);
            shard.pages.lock().places.remove(&self.page);
            shard.load_ended.notify_all();
        }
    }
}
