//! Extents that commits have freed and that snapshots may still need.
//!
//! An extent enters before the commit record that frees it is reserved, with the writer's cell and
//! no position of its own; the commit decides both at once. It leaves when a redo-only record has
//! marked its pages as free, once the collection horizon has passed the commit.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Those whose writers' fate was open at the last look.
    undecided: Vec<Group>,
    /// Those of commits that are not parked, by END: the first is due first.
    committed: BTreeSet<(Lsn, PageId)>,
}

#[derive(Debug)]
struct Entry {
    extent: Extent,
    writer: Arc<CommitCell>,
}

/// Extents that one call has entered.
#[derive(Debug)]
struct Group {
    writer: Arc<CommitCell>,
    pages: Vec<PageId>,
}

impl Entries {
    /// Sorts those in whose writers' fate has been decided since the last look.
    fn settle(&mut self) {
        for group in self.undecided.extract_if(.., |group| group.writer.fate() != Fate::Active) {
            let fate = group.writer.fate();
            for page in group.pages {
                let is_last = |entry: &Entry| entry.is_of(&group.writer);
                if let Fate::Committed(lsn) = fate {
                    self.committed.insert((lsn, page));
                } else if self.by_page.get(&page).is_some_and(is_last) {
                    self.by_page.remove(&page);
                }
            }
        }
    }
}

impl Entry {
    fn is_of(&self, writer: &Arc<CommitCell>) -> bool {
        Arc::ptr_eq(&self.writer, writer)
    }
}

impl PendingFrees {
    /// Enters extents that the commit of `writer` will free.
    pub(crate) fn enter(&self, extents: &[Extent], writer: &Arc<CommitCell>) {
        let entry = |&extent: &Extent| Entry { extent, writer: Arc::clone(writer) };
        let by_page = extents.iter().map(|extent| (extent.first, entry(extent)));
        let pages = extents.iter().map(|extent| extent.first).collect();
        let mut entries = self.entries.lock();
        entries.by_page.extend(by_page);
        entries.undecided.push(Group { writer: Arc::clone(writer), pages });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().by_page.len()
    }

    /// The extent that was freed first, if its commit is at or below `horizon`, and it is not parked.
    /// Forgets those of rolled-back writers.
    pub(crate) fn first_due(&self, horizon: Lsn) -> Option<PendingFree> {
        let mut entries = self.entries.lock();
        entries.settle();
        let &(commit_lsn, page) = entries.committed.first().filter(|(lsn, _)| *lsn <= horizon)?;
        let extent = entries.by_page.get(&page).expect("it is there until it is freed").extent;
        Some(PendingFree { extent, commit_lsn })
    }

    /// Keeps an extent listed that cannot be freed before the next open.
    pub(crate) fn park(&self, free: &PendingFree) {
        self.entries.lock().committed.remove(&(free.commit_lsn, free.extent.first));
    }

    /// Removes an extent that is being freed.
    pub(crate) fn remove(&self, free: &PendingFree) {
        let mut entries = self.entries.lock();
        entries.committed.remove(&(free.commit_lsn, free.extent.first));
        entries.by_page.remove(&free.extent.first);
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
    fn extents_that_are_due_are_found_without_a_look_at_the_others() {
        let frees = PendingFrees::default();
        let writer = Arc::new(CommitCell::new());
        let count = 100_000;
        let extents: Vec<_> =
            (0..count).map(|i| Extent { first: PageId::new(3 * i), count: 2 }).collect();
        frees.enter(&extents, &writer);
        writer.commit(Lsn::new(10));
        let later = Arc::new(CommitCell::new());
        let extents: Vec<_> =
            (0..count).map(|i| Extent { first: PageId::new(3 * i + 2), count: 1 }).collect();
        frees.enter(&extents, &later);
        later.commit(Lsn::new(20));
        let started = Instant::now();
        let mut freed = 0;
        while let Some(due) = frees.first_due(Lsn::new(10)) {
            frees.remove(&due);
            freed += 1;
        }
        assert_eq!(freed, count);
        (0..10_000).for_each(|_| assert_eq!(frees.first_due(Lsn::new(19)), None));
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }

    #[test]
    fn an_extent_that_is_freed_once_more_behind_a_rollback_is_the_last_ones() {
        let frees = PendingFrees::default();
        let extent = Extent { first: PageId::new(7), count: 1 };
        let [first, second] = [(); 2].map(|()| Arc::new(CommitCell::new()));
        frees.enter(&[extent], &first);
        first.roll_back();
        frees.enter(&[extent], &second);
        assert_eq!(frees.first_due(Lsn::MAX), None);
        second.commit(Lsn::new(10));
        assert_eq!(
            frees.first_due(Lsn::MAX),
            Some(PendingFree { extent, commit_lsn: Lsn::new(10) })
        );
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
