//! Registered snapshots and the collection horizon.
//!
//! A reader registers a provisional position, and only then reads the watermark that it will read
//! at. The collector reads `visible_lsn` first and scans the registrations afterwards. So either the
//! scan finds the registration, or the reader's watermark is at or beyond the collector's: in both
//! cases no version that the reader needs lies below the horizon (invariant T3).

use std::time::{Duration, Instant};

use seawall_wal::Lsn;
use seawall_wal::planted::{Bug, Point, is_planted, reach};
use seawall_wal::sync::Mutex;

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

#[derive(Clone, Copy, Debug)]
struct Registration {
    /// At or below the reader's `read_lsn`.
    position: Lsn,
    since: Instant,
}

/// A registered reader's slot.
#[derive(Debug)]
pub(crate) struct SnapshotSlot(usize);

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
        slots.taken[index] = Some(Registration { position: watermark(), since });
        drop(slots);
        reach(Point::RegisteringSnapshot);
        (SnapshotSlot(index), early.unwrap_or_else(watermark))
    }

    /// Ends a registration.
    pub(crate) fn release(&self, slot: SnapshotSlot) {
        let mut slots = self.slots.lock();
        slots.taken[slot.0] = None;
        slots.free.push(slot.0);
    }

    /// Nothing that a reader may still need was overwritten by a commit at or below the result.
    /// `visible` is asked before the scan.
    pub(crate) fn horizon(&self, visible: impl Fn() -> Lsn) -> Lsn {
        let scan = || {
            let slots = self.slots.lock();
            slots.taken.iter().flatten().map(|taken| taken.position).fold(Lsn::MAX, Lsn::min)
        };
        let before = visible();
        let early_scan = is_planted(Bug::HorizonAfterScan).then(scan);
        reach(Point::WorkingOutHorizon);
        early_scan.map_or_else(|| scan().min(before), |position| position.min(visible()))
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
