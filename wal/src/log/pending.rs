//! The pending-sync set: synchronous commits that are not durable yet, and therefore not visible
//! (invariant T1).
//!
//! A commit enters before it reserves, with the reserved LSN of that moment as its bound: its record
//! will start at or above. Once it has its place, its bound is the last position below its END,
//! since a snapshot sees the commit from END on. It leaves when `durable_lsn` covers END.
//!
//! `smallest` repeats the smallest bound outside the mutex. It may lag behind by being too small
//! (a bound that was raised since), never by being too large: bounds only rise, and a new entry is
//! never below one that is there.
//!
//! It never waits for anything but its short mutex, and `set_end`, which is called between reserve
//! and publish, not even for that (invariant W3).

use std::sync::Arc;

use crate::Lsn;
use crate::codec::to_u64;
use crate::record::RECORD_ALIGN;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// One synchronous commit.
#[derive(Debug)]
pub(super) struct Entry {
    /// Reserved LSN when it entered.
    entered_at: Lsn,
    /// END of its record, 0 while it has no place.
    end: AtomicU64,
}

impl Entry {
    /// END of the record, once known.
    pub(super) fn end(&self) -> Option<Lsn> {
        // Acquire: pairs with `set_end`, so that who saw END sees a reserved LSN beyond it.
        match self.end.load(Ordering::Acquire) {
            0 => None,
            end => Some(Lsn::new(end)),
        }
    }

    /// The record has its place.
    pub(super) fn set_end(&self, end: Lsn) {
        self.end.store(end.get(), Ordering::Release);
    }

    /// Nothing at or below may be hidden because of this entry.
    fn bound(&self) -> Lsn {
        self.end().map_or(self.entered_at, |end| Lsn::new(end.get() - to_u64(RECORD_ALIGN)))
    }
}

/// The set.
#[derive(Debug)]
pub(super) struct PendingSet {
    entries: Mutex<Vec<Arc<Entry>>>,
    smallest: AtomicU64,
}

impl PendingSet {
    /// Nothing pending.
    pub(super) fn new() -> Self {
        Self { entries: Mutex::new(Vec::new()), smallest: AtomicU64::new(u64::MAX) }
    }

    /// Adds a commit. `reserved` is the counter of reserved bytes.
    pub(super) fn enter(&self, reserved: &AtomicU64) -> Arc<Entry> {
        let mut entries = self.entries.lock();
        let entered_at = Lsn::new(reserved.load(Ordering::Acquire));
        let entry = Arc::new(Entry { entered_at, end: AtomicU64::new(0) });
        if entries.is_empty() {
            // Release: who sees this commit's record published sees this bound or a later one.
            self.smallest.store(entered_at.get(), Ordering::Release);
        }
        entries.push(Arc::clone(&entry));
        entry
    }

    /// Lowest bound of all; [`Lsn::MAX`] when nothing is pending.
    pub(super) fn smallest(&self) -> Lsn {
        Lsn::new(self.smallest.load(Ordering::Acquire))
    }

    /// Lets go of the commits that `durable` covers and looks at the others' bounds anew.
    pub(super) fn settle(&self, durable: Lsn) {
        let mut entries = self.entries.lock();
        entries.retain(|entry| entry.end().is_none_or(|end| end > durable));
        self.store_smallest(&entries);
    }

    /// Takes out a commit that never got a place.
    pub(super) fn abandon(&self, abandoned: &Arc<Entry>) {
        let mut entries = self.entries.lock();
        entries.retain(|entry| !Arc::ptr_eq(entry, abandoned));
        self.store_smallest(&entries);
    }

    fn store_smallest(&self, entries: &[Arc<Entry>]) {
        let smallest = entries.iter().map(|entry| entry.bound()).min().unwrap_or(Lsn::MAX);
        self.smallest.store(smallest.get(), Ordering::Release);
    }
}
