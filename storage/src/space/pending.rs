//! Extents that commits have freed and that snapshots may still need.
//!
//! An extent enters before the commit record that frees it is reserved, with the writer's cell and
//! no position of its own; the commit decides both at once. It leaves when a redo-only record has
//! marked its pages as free, once the collection horizon has passed the commit.

use std::sync::Arc;

use seawall_wal::Lsn;
use seawall_wal::record::Extent;
use seawall_wal::sync::Mutex;

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
    entries: Mutex<Vec<Entry>>,
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
        self.entries.lock().extend(extents.iter().map(entry));
    }

    /// An extent whose commit is at or below `horizon`, and that is not parked. Forgets those of
    /// rolled-back writers.
    pub(crate) fn first_due(&self, horizon: Lsn) -> Option<PendingFree> {
        let mut entries = self.entries.lock();
        entries.retain(|entry| entry.writer.fate() != Fate::RolledBack);
        entries.iter().find_map(|entry| match entry.writer.fate() {
            Fate::Committed(commit_lsn) if commit_lsn <= horizon && !entry.is_parked => {
                Some(PendingFree { extent: entry.extent, commit_lsn })
            }
            _ => None,
        })
    }

    /// Keeps an extent listed that cannot be freed.
    pub(crate) fn park(&self, free: &PendingFree) {
        let mut entries = self.entries.lock();
        let parked = entries.iter_mut().filter(|entry| entry.extent == free.extent);
        parked.for_each(|entry| entry.is_parked = true);
    }

    /// Removes an extent that is being freed.
    pub(crate) fn remove(&self, free: &PendingFree) {
        self.entries.lock().retain(|entry| entry.extent != free.extent);
    }

    /// Every extent whose commit has been decided, and not been undone.
    pub(crate) fn committed(&self) -> Vec<PendingFree> {
        self.as_of(Lsn::MAX)
    }

    /// Extents whose commit is at or below `lsn`, for a checkpoint.
    pub(crate) fn as_of(&self, lsn: Lsn) -> Vec<PendingFree> {
        let entries = self.entries.lock();
        let freed = entries.iter().filter_map(|entry| match entry.writer.fate() {
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
    use super::*;
    use seawall_wal::PageId;

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
