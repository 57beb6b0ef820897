//! The fate of a unit of writing, shared by everything that waits to learn it: heads of version
//! chains, size deltas of trees, freed extents.

use seawall_wal::Lsn;
use seawall_wal::sync::atomic::{AtomicU64, Ordering};

/// What became of the writes that point to a [`CommitCell`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not decided.
    Active,
    /// Committed; the timestamp is the END of the commit record.
    Committed(Lsn),
    /// Undone, or never logged.
    RolledBack,
}

const ACTIVE: u64 = 0;
const ROLLED_BACK: u64 = u64::MAX;

/// Decided once: [`Fate::Active`] becomes one of the other two.
///
/// A commit is stored between the reservation of the commit record and its publication, so whoever
/// sees `contiguous_lsn` beyond the record sees the cell decided. Stores and loads are SeqCst: a
/// cell is read against watermarks that other atomics hold.
#[derive(Debug)]
pub(crate) struct CommitCell {
    commit_lsn: AtomicU64,
}

impl CommitCell {
    pub(crate) fn new() -> Self {
        Self { commit_lsn: AtomicU64::new(ACTIVE) }
    }

    /// Decides for a commit whose record ends at `end`.
    pub(crate) fn commit(&self, end: Lsn) {
        debug_assert_eq!(self.fate(), Fate::Active);
        self.commit_lsn.store(end.get(), Ordering::SeqCst);
    }

    /// Decides against the writes. Called when the last of them is undone.
    pub(crate) fn roll_back(&self) {
        debug_assert_eq!(self.fate(), Fate::Active);
        self.commit_lsn.store(ROLLED_BACK, Ordering::SeqCst);
    }

    pub(crate) fn fate(&self) -> Fate {
        match self.commit_lsn.load(Ordering::SeqCst) {
            ACTIVE => Fate::Active,
            ROLLED_BACK => Fate::RolledBack,
            lsn => Fate::Committed(Lsn::new(lsn)),
        }
    }

    /// Whether a reader at `read_lsn` sees the writes.
    pub(crate) fn is_visible_at(&self, read_lsn: Lsn) -> bool {
        matches!(self.fate(), Fate::Committed(lsn) if lsn <= read_lsn)
    }
}
