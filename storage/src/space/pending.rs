//! Extents that commits have freed and that snapshots may still need.
//!
//! An extent enters before the commit record that frees it is reserved, with the writer's cell and
//! no position of its own; the commit decides both at once. It leaves when a redo-only record has
//! marked its pages as free, once the collection horizon has passed the commit.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use seawall_wal::record::Extent;
use seawall_wal::sync::Mutex;
use seawall_wal::{Lsn, PageId};

use crate::txn::{CommitCell, Fate};

/// An extent that a commit freed and that snapshots may still need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingFree {
    pub(crate) extent: Extent,
    /// END of the commit that freed it.
    pub(crate) commit_lsn: Lsn,
}

/// The extents.
#[derive(Debug, Default)]
pub(crate) struct PendingFrees {
    entries: Mutex<Entries>,
}

/// By their first pages. Of those with the same one only the last was not rolled back.
#[derive(Debug, Default)]
struct Entries {
    by_page: BTreeMap<PageId, Entry>,
    /// The search for one that is due goes on behind this: where many are, each is found at once.
    searched: PageId,
}

#[derive(Debug)]
struct Entry {
    extent: Extent,
    writer: Arc<CommitCell>,
    /// It cannot be freed before the next open.
    is_parked: bool,
}

impl PendingFrees {
    /// Enters extents that the commit of `writer` will free.
    pub(crate) fn enter(&self, extents: &[Extent], writer: &Arc<CommitCell>) {
        let entry =
            |&extent: &Extent| Entry { extent, writer: Arc::clone(writer), is_parked: false };
        let entries = extents.iter().map(|extent| (extent.first, entry(extent)));
        self.entries.lock().by_page.extend(entries);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().by_page.len()
    }

    /// An extent whose commit is at or below `horizon`, and that is not parked. Forgets those of
    /// rolled-back writers.
    pub(crate) fn first_due(&self, horizon: Lsn) -> Option<PendingFree> {
        let mut entries = self.entries.lock();
        let Entries { by_page, searched } = &mut *entries;
        let from = *searched;
        let mut undone = Vec::new();
        let mut due = |(&page, entry): (&PageId, &Entry)| match entry.writer.fate() {
            Fate::Committed(commit_lsn) if commit_lsn <= horizon && !entry.is_parked => {
                *searched = page;
                Some(PendingFree { extent: entry.extent, commit_lsn })
            }
            Fate::RolledBack => {
                undone.push(page);
                None
            }
            Fate::Active | Fate::Committed(_) => None,
        };
        let behind = by_page.range((Bound::Excluded(from), Bound::Unbounded)).find_map(&mut due);
        let found = behind.or_else(|| by_page.range(..=from).find_map(&mut due));
        for page in undone {
            by_page.remove(&page);
        }
        found
    }

    /// Keeps an extent listed that cannot be freed.
    pub(crate) fn park(&self, free: &PendingFree) {
        if let Some(parked) = self.entries.lock().by_page.get_mut(&free.extent.first) {
            parked.is_parked = true;
        }
    }

    /// Removes an extent that is being freed.
    pub(crate) fn remove(&self, free: &PendingFree) {
        self.entries.lock().by_page.remove(&free.extent.first);
    }

    /// Every extent whose commit has been decided, and not been undone.
    pub(crate) fn committed(&self) -> Vec<PendingFree> {
        self.as_of(Lsn::MAX)
    }

    /// Extents whose commit is at or below `lsn`, for a checkpoint.
    pub(crate) fn as_of(&self, lsn: Lsn) -> Vec<PendingFree> {
        let entries = self.entries.lock();
        let freed = entries.by_page.values().filter_map(|entry| match entry.writer.fate() {
            Fate::Committed(commit_lsn) if commit_lsn <= lsn => {
                Some(PendingFree { extent: entry.extent, commit_lsn })
            }
            _ => None,
        });
        freed.collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn each_of_many_extents_that_are_due_is_found_without_a_look_at_the_others() {
        let frees = PendingFrees::default();
        let writer = Arc::new(CommitCell::new());
        let count = 100_000;
        let extents: Vec<_> =
            (0..count).map(|i| Extent { first: PageId::new(3 * i), count: 2 }).collect();
        frees.enter(&extents, &writer);
        writer.commit(Lsn::new(10));
        let started = Instant::now();
        let mut freed = 0;
        while let Some(due) = frees.first_due(Lsn::new(10)) {
            frees.remove(&due);
            freed += 1;
        }
        assert_eq!(freed, count);
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }

    #[test]
    fn an_extent_is_due_when_the_horizon_passes_the_commit_that_freed_it() {
        let frees = PendingFrees::default();
        let extent = |first| Extent { first: PageId::new(first), count: 1 };
        let cells: Vec<_> = (0..3).map(|_| Arc::new(CommitCell::new())).collect();
        for (cell, first) in cells.iter().zip(1..) {
            frees.enter(&[extent(first)], cell);
        }
        cells[0].commit(Lsn::new(10));
        cells[1].roll_back();
        let free = PendingFree { extent: extent(1), commit_lsn: Lsn::new(10) };
        assert_eq!(frees.as_of(Lsn::new(9)), []);
        assert_eq!(frees.as_of(Lsn::new(10)), [free]);
        assert_eq!(frees.first_due(Lsn::new(9)), None);
        assert_eq!(frees.first_due(Lsn::new(10)), Some(free));
        frees.remove(&free);
        cells[2].commit(Lsn::new(20));
        assert_eq!(frees.first_due(Lsn::new(30)).map(|free| free.extent), Some(extent(3)));
        frees.remove(&PendingFree { extent: extent(3), commit_lsn: Lsn::new(20) });
        assert_eq!(frees.first_due(Lsn::new(30)), None);
    }
}
