//! Figures that only ever grow, for [`Stats`](crate::Stats). They begin at zero with each open, and order
//! nothing: all accesses are relaxed.

use seawall_wal::sync::atomic::{AtomicU64, Ordering};

/// Counts of what happened since the database was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    rollbacks: AtomicU64,
    conflicts: AtomicU64,
    checkpoints: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) commits: u64,
    pub(crate) rollbacks: u64,
    pub(crate) conflicts: u64,
    pub(crate) checkpoints: u64,
}

impl Counters {
    pub(crate) fn commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rollback(&self) {
        self.rollbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn checkpoint(&self) {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counted {
        Counted {
            commits: self.commits.load(Ordering::Relaxed),
            rollbacks: self.rollbacks.load(Ordering::Relaxed),
            conflicts: self.conflicts.load(Ordering::Relaxed),
            checkpoints: self.checkpoints.load(Ordering::Relaxed),
        }
    }
}
