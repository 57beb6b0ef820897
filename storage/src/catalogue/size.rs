//! Number of keys of a tree: a base, and the changes by commits above the collection horizon.

use std::collections::VecDeque;
use std::sync::Arc;

use seawall_wal::Lsn;
use seawall_wal::sync::Mutex;

use crate::txn::{CommitCell, Fate};

/// Changes that may pile up before a push folds them.
const FOLD_AT: usize = 64;

/// Size of one tree.
#[derive(Debug, Default)]
pub(crate) struct TreeSize {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    base: i64,
    changes: VecDeque<(Arc<CommitCell>, i64)>,
    fold_at: usize,
}

impl TreeSize {
    pub(crate) fn new(base: i64) -> Self {
        let inner = Inner { base, changes: VecDeque::new(), fold_at: FOLD_AT };
        Self { inner: Mutex::new(inner) }
    }

    /// Adds a change that takes effect with the commit of `writer`. Before the commit record is
    /// reserved, so that a checkpoint that has waited for appends misses none. Changes at or below
    /// `fold_limit` may be folded into the base.
    pub(crate) fn push(&self, writer: &Arc<CommitCell>, delta: i64, fold_limit: Lsn) {
        let mut inner = self.inner.lock();
        inner.changes.push_back((Arc::clone(writer), delta));
        if inner.changes.len() >= inner.fold_at {
            inner.fold(fold_limit);
            inner.fold_at = (2 * inner.changes.len()).max(FOLD_AT);
        }
    }

    /// The size as of `lsn`, which is at or beyond every fold limit given so far.
    pub(crate) fn at(&self, lsn: Lsn) -> u64 {
        let inner = self.inner.lock();
        let seen = inner.changes.iter().filter(|(writer, _)| writer.is_visible_at(lsn));
        let size = inner.base + seen.map(|(_, delta)| delta).sum::<i64>();
        u64::try_from(size).expect("every delete of a key follows an insert")
    }
}

impl Inner {
    fn fold(&mut self, limit: Lsn) {
        let mut folded = 0;
        self.changes.retain(|(writer, delta)| match writer.fate() {
            Fate::Active => true,
            Fate::RolledBack => false,
            Fate::Committed(lsn) if lsn > limit => true,
            Fate::Committed(_) => {
                folded += delta;
                false
            }
        });
        self.base += folded;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_commits_and_ignores_what_is_open_or_rolled_back() {
        let size = TreeSize::new(10);
        let cells: Vec<_> = (0..3).map(|_| Arc::new(CommitCell::new())).collect();
        for cell in &cells {
            size.push(cell, 1, Lsn::NONE);
        }
        cells[0].commit(Lsn::new(100));
        cells[1].roll_back();
        assert_eq!(size.at(Lsn::new(99)), 10);
        assert_eq!(size.at(Lsn::new(100)), 11);
        cells[2].commit(Lsn::new(200));
        assert_eq!(size.at(Lsn::new(200)), 12);
    }

    #[test]
    fn folding_keeps_every_answer_at_or_beyond_the_limit() {
        let size = TreeSize::new(0);
        for i in 1..=1000 {
            let cell = Arc::new(CommitCell::new());
            size.push(&cell, if i % 3 == 0 { -1 } else { 1 }, Lsn::new(i / 2));
            cell.commit(Lsn::new(i));
        }
        assert!(size.inner.lock().changes.len() < 700, "old changes are folded");
        assert_eq!(size.at(Lsn::new(1000)), 667 - 333);
        assert_eq!(size.at(Lsn::new(999)), 667 - 333 - 1);
        assert_eq!(size.at(Lsn::new(500)), 334 - 166);
    }
}
