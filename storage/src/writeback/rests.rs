//! The rests of a batch that is written in pieces. What a piece has given the disk goes with the next flush
//! of the log, and the commit behind that hardly notices one piece: so a flush is to end between two of
//! them, where one comes soon. It may have begun before the disk had the piece, and the next one carries
//! two: to wait for a second end costs more, since a checkpoint then meets more commits.

use std::time::Duration;

use seawall_wal::Lsn;
use seawall_wal::sync::atomic::{AtomicUsize, Ordering};
use seawall_wal::sync::thread;

use super::writer::LogWatermark;

/// A rest looks at the log every so often, and so many times: with what schedulers add, a millisecond in
/// all.
const POLL: Duration = Duration::from_micros(10);
const POLLS: usize = if cfg!(any(loom, seawall_shuttle)) { 1 } else { 16 };

/// Callers that want no batch to rest.
#[derive(Debug, Default)]
pub(super) struct Hurried(AtomicUsize);

impl Hurried {
    /// Has all batches go on without rests, for as long as it is kept.
    pub(super) fn hurry(&self) -> Hurry<'_> {
        // Relaxed, as all looks at it: one that comes too late costs a rest, and nothing is read on its strength.
        self.0.fetch_add(1, Ordering::Relaxed);
        Hurry(&self.0)
    }

    fn is_hurried(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// No batch rests while one of these is there.
#[derive(Debug)]
#[must_use]
pub(super) struct Hurry<'h>(&'h AtomicUsize);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The rests of one batch.
#[derive(Debug)]
pub(super) struct Rests<'w> {
    log: &'w dyn LogWatermark,
    hurried: &'w Hurried,
    /// Where the log was durable when the last one began.
    seen: Lsn,
}

impl<'w> Rests<'w> {
    pub(super) fn new(log: &'w dyn LogWatermark, hurried: &'w Hurried) -> Self {
        Self { log, hurried, seen: log.durable_lsn() }
    }

    /// Lets a flush of the log end while others commit.
    pub(super) fn rest(&mut self) {
        let durable = self.log.durable_lsn();
        let is_quiet = std::mem::replace(&mut self.seen, durable) == durable;
        if is_quiet && !self.log.is_commit_awaited() {
            return;
        }
        for _ in 0..POLLS {
            if self.hurried.is_hurried() || self.log.durable_lsn() != durable {
                return;
            }
            thread::park_timeout(POLL);
        }
    }
}
