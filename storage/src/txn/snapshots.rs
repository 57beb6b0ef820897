//! Registered snapshots and the collection horizon.
//!
//! A reader registers a provisional position, and only then reads the watermark that it will read
//! at. The collector reads `visible_lsn` first and scans the registrations afterwards. So either the
//! scan finds the registration, or the reader's watermark is at or beyond the collector's: in both
//! cases no version that the reader needs lies below the horizon (invariant T3).
//!
//! Where versions take too much memory the oldest registration is *revoked*: it does not hold the
//! horizon down any more. Its reader looks for that behind every look at a page or a version, since
//! the mark is set before anything that the reader may need is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seawall_wal::Lsn;
use seawall_wal::planted::{Bug, Point, is_planted, reach};
use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::{AtomicBool, Ordering};

/// Positions of the readers that are open.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    taken: Vec<Option<Registration>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Registration {
    /// At or below the reader's `read_lsn`.
    position: Lsn,
    since: Instant,
    is_revoked: Arc<AtomicBool>,
}

impl Registration {
    fn has_been_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::SeqCst)
    }
}

/// A registered reader's slot.
#[derive(Debug)]
pub(crate) struct SnapshotSlot {
    index: usize,
    is_revoked: Arc<AtomicBool>,
}

impl SnapshotSlot {
    /// Set when what the reader needs may be gone.
    pub(crate) const fn revoked(&self) -> &Arc<AtomicBool> {
        &self.is_revoked
    }
}

impl Snapshots {
    /// Registers a reader at what `watermark` says, then asks again: the second answer is the
    /// position to read at.
    pub(crate) fn register(&self, watermark: impl Fn() -> Lsn) -> (SnapshotSlot, Lsn) {
        let early = is_planted(Bug::RegisterSnapshotLate).then(&watermark);
        reach(Point::RegisteringSnapshot);
        let mut slots = self.slots.lock();
        let index = slots.free.pop().unwrap_or_else(|| {
            slots.taken.push(None);
            slots.taken.len() - 1
        });
        let since = Instant::now();
        let is_revoked = Arc::new(AtomicBool::new(false));
        let revoked = Arc::clone(&is_revoked);
        slots.taken[index] =
            Some(Registration { position: watermark(), since, is_revoked: revoked });
        drop(slots);
        reach(Point::RegisteringSnapshot);
        (SnapshotSlot { index, is_revoked }, early.unwrap_or_else(watermark))
    }

    /// Ends a registration.
    pub(crate) fn release(&self, slot: SnapshotSlot) {
        let mut slots = self.slots.lock();
        slots.taken[slot.index] = None;
        slots.free.push(slot.index);
    }

    /// Nothing that a reader may still need was overwritten by a commit at or below the result.
    /// `visible` is asked before the scan.
    pub(crate) fn horizon(&self, visible: impl Fn() -> Lsn) -> Lsn {
        let scan = || {
            let slots = self.slots.lock();
            let standing = slots.taken.iter().flatten().filter(|taken| !taken.has_been_revoked());
            standing.map(|taken| taken.position).fold(Lsn::MAX, Lsn::min)
        };
        let before = visible();
        let early_scan = is_planted(Bug::HorizonAfterScan).then(scan);
        reach(Point::WorkingOutHorizon);
        early_scan.map_or_else(|| scan().min(before), |position| position.min(visible()))
    }

    /// Whether a registration holds the horizon below `lsn`.
    pub(crate) fn holds_below(&self, lsn: Lsn) -> bool {
        self.horizon(|| lsn) < lsn
    }

    /// Revokes the oldest registration, if its position is below `lsn`. Returns whether there was one.
    pub(crate) fn revoke_oldest(&self, lsn: Lsn) -> bool {
        let slots = self.slots.lock();
        let standing = slots.taken.iter().flatten().filter(|taken| !taken.has_been_revoked());
        let oldest = standing.min_by_key(|taken| taken.position);
        let Some(oldest) = oldest.filter(|taken| taken.position < lsn) else { return false };
        oldest.is_revoked.store(true, Ordering::SeqCst);
        true
    }

    /// Age of the oldest registered reader.
    pub(crate) fn oldest_age(&self) -> Option<Duration> {
        let slots = self.slots.lock();
        slots.taken.iter().flatten().map(|taken| taken.since.elapsed()).max()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_reader_learns_of_it_and_does_not_hold_the_horizon() {
        let snapshots = Snapshots::default();
        let (old, _) = snapshots.register(|| Lsn::new(10));
        let (young, _) = snapshots.register(|| Lsn::new(20));
        assert!(snapshots.revoke_oldest(Lsn::new(20)));
        assert!(old.revoked().load(Ordering::SeqCst) && !young.revoked().load(Ordering::SeqCst));
        assert_eq!(snapshots.horizon(|| Lsn::new(30)), Lsn::new(20));
        assert!(!snapshots.revoke_oldest(Lsn::new(20)), "who reads at it is not below it");
    }

    #[test]
    fn the_horizon_stops_at_the_oldest_registered_reader() {
        let snapshots = Snapshots::default();
        let (old, old_lsn) = snapshots.register(|| Lsn::new(10));
        let (young, _) = snapshots.register(|| Lsn::new(20));
        assert_eq!(old_lsn, Lsn::new(10));
        assert_eq!(snapshots.horizon(|| Lsn::new(30)), Lsn::new(10));
        snapshots.release(old);
        assert_eq!(snapshots.horizon(|| Lsn::new(30)), Lsn::new(20));
        snapshots.release(young);
        assert_eq!(snapshots.horizon(|| Lsn::new(30)), Lsn::new(30));
        assert!(snapshots.oldest_age().is_none());
    }
}
