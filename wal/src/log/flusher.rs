//! The flusher: what the log needs done when nobody waits for it. A state machine whose `step` a
//! thread calls in a loop (or a test, one step at a time).
//!
//! In this order, a step
//!
//! 1. makes durable what was asked for (asynchronous commits, [`Log::request_flush`]),
//! 2. writes what has been in the ring for [`WRITE_INTERVAL`], twice that at most, so that a kill
//!    loses no more,
//! 3. syncs what was not durable for `flush_interval`, so that a power cut loses no more,
//! 4. makes a part of the next segment's file when one is due: no more than one write of it, so that
//!    1 to 3 are never late because of it,
//! 5. writes a stamp when the log has been idle for [`STAMP_DELAY`] after a flush.
//!
//! A frame that the books of credit do not allow for this purpose is put off; the next step tries
//! again. Where a file cannot be made, that is tried again after [`RETRY_DELAY`]; whoever waits for it in
//! person gets the error. With `is_stepped` in the options no clock is read and everything is due at
//! once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::sync::{Condvar, Mutex};
use crate::{Error, Lsn, Result};

use super::Log;
use super::books::Demand;
use super::frontier::Frontier;
use super::spares::Made;
use super::waiters::Goal;

/// Longest time a relaxed commit stays in the ring.
const WRITE_INTERVAL: Duration = Duration::from_millis(2);
/// How long the log is idle before a stamp.
const STAMP_DELAY: Duration = Duration::from_millis(50);
/// Time between two tries to make a spare segment.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Longest sleep.
const IDLE_SLEEP: Duration = Duration::from_secs(1);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlusherStep {
    /// Whether it did anything.
    pub is_busy: bool,
    /// How long the next step may wait, unless [`Log::wait_flusher`] returns before.
    pub sleep: Duration,
}

/// Wakes the flusher, and keeps what it is asked for.
#[derive(Debug)]
pub(super) struct Bell {
    request: Mutex<Request>,
    rung: Condvar,
    /// Set while the flusher sleeps longer than the write interval.
    is_dozing: AtomicBool,
}

#[derive(Debug, Default)]
struct Request {
    is_rung: bool,
    flush_to: Lsn,
}

impl Bell {
    /// Silent.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            request: Mutex::default(),
            rung: Condvar::new(),
            is_dozing: AtomicBool::new(false),
        })
    }

    /// Lets the flusher take its next step now.
    pub(super) fn ring(&self) {
        self.ask(Lsn::NONE);
    }

    /// Asks for everything below `lsn` to be durable.
    pub(super) fn ask(&self, lsn: Lsn) {
        let mut request = self.request.lock();
        request.flush_to = request.flush_to.max(lsn);
        request.is_rung = true;
        drop(request);
        self.rung.notify_all();
    }

    /// Rings only if the flusher would not look at a new record within the write interval.
    pub(super) fn rouse(&self) {
        // Pairs with the fence in `wait`: either the flusher sees the record, or this sees it doze.
        fence(Ordering::SeqCst);
        if self.is_dozing.load(Ordering::Relaxed) {
            self.ring();
        }
    }

    /// Whether it was rung since it was last looked at.
    #[cfg(test)]
    #[cfg(not(loom))]
    pub(super) fn take_ring(&self) -> bool {
        std::mem::take(&mut self.request.lock().is_rung)
    }

    fn requested(&self) -> Lsn {
        let mut request = self.request.lock();
        request.is_rung = false;
        request.flush_to
    }

    fn wait(&self, at_most: Duration, frontier: &Frontier) {
        if at_most > WRITE_INTERVAL {
            self.is_dozing.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
        let is_idle = frontier.contiguous() == frontier.durable();
        let at_most = if is_idle { at_most } else { at_most.min(WRITE_INTERVAL) };
        let mut request = self.request.lock();
        if !request.is_rung {
            self.rung.wait_for(&mut request, at_most);
        }
        drop(request);
        self.is_dozing.store(false, Ordering::Relaxed);
    }
}

/// What the flusher remembers from step to step.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// What is in the ring.
    unwritten: Option<Lag>,
    /// Since when something is not durable.
    undurable_since: Option<Instant>,
    /// The last durable LSN seen, and since when.
    settled: Option<(Lsn, Instant)>,
    /// No spare is made before.
    spare_not_before: Option<Instant>,
}

/// Records in the ring when it was looked at.
#[derive(Clone, Copy, Debug)]
struct Lag {
    /// Their end.
    upto: Lsn,
    since: Instant,
}

/// Says when something is due.
struct Clock {
    /// Absent when everything is due at once.
    now: Option<Instant>,
    sleep: Duration,
}

impl Clock {
    /// Whether `delay` has passed since `since`; if not, the flusher sleeps no longer than that.
    fn is_due(&mut self, since: &mut Option<Instant>, delay: Duration) -> bool {
        let Some(now) = self.now else { return true };
        let due = *since.get_or_insert(now) + delay;
        if due > now {
            self.sleep = self.sleep.min(due - now);
        }
        due <= now
    }
}

impl Log {
    /// Takes the flusher's next step; see the source of this module for what there is to do. Any
    /// number of threads may call it; one is enough.
    ///
    /// # Errors
    /// [`Error::Poisoned`]: there is nothing left to do.
    pub fn step(&self) -> Result<FlusherStep> {
        self.frontier.check()?;
        let now = (!self.options.is_stepped).then(Instant::now);
        let mut clock = Clock { now, sleep: IDLE_SLEEP };
        let mut schedule = self.schedule.lock();
        match self.do_what_is_due(&mut schedule, &mut clock) {
            Ok(is_busy) => Ok(FlusherStep { is_busy, sleep: clock.sleep }),
            Err(Error::NoSpace { .. }) => Ok(FlusherStep { is_busy: false, sleep: RETRY_DELAY }),
            Err(error) => Err(error),
        }
    }

    fn do_what_is_due(&self, schedule: &mut Schedule, clock: &mut Clock) -> Result<bool> {
        let mut is_busy = self.flush_requested()?;
        is_busy |= self.write_relaxed(schedule, clock)?;
        is_busy |= self.sync_relaxed(schedule, clock)?;
        is_busy |= self.make_spare(schedule, clock)?;
        is_busy |= self.stamp_idle(schedule, clock)?;
        Ok(is_busy)
    }

    /// Sleeps until there may be something for [`Log::step`] to do, `at_most` as long as that said.
    pub fn wait_flusher(&self, at_most: Duration) {
        self.bell.wait(at_most, &self.frontier);
    }

    /// Lets [`Log::wait_flusher`] return.
    pub fn wake_flusher(&self) {
        self.bell.ring();
    }

    /// Asks the flusher to make everything below `lsn` durable, without waiting for it.
    pub fn request_flush(&self, lsn: Lsn) {
        if self.frontier.durable() < lsn {
            self.bell.ask(lsn);
        }
    }

    fn flush_requested(&self) -> Result<bool> {
        let target = self.bell.requested().min(self.frontier.contiguous());
        let is_needed = self.frontier.durable() < target;
        if is_needed {
            self.pursue(Goal::Durable, target, Demand::Waited)?;
        }
        Ok(is_needed)
    }

    fn write_relaxed(&self, schedule: &mut Schedule, clock: &mut Clock) -> Result<bool> {
        let contiguous = self.frontier.contiguous();
        let written = self.frontier.written();
        if written == contiguous {
            schedule.unwritten = None;
            return Ok(false);
        }
        // Others may have written what was there when it was looked at, and records have come since.
        // Were those as old, synchronous commits at full speed would find a frame of ours among them
        // every time, and have to sync the whole file for its sake.
        schedule.unwritten = schedule.unwritten.filter(|lag| lag.upto > written);
        if let Some(now) = clock.now {
            let lag = schedule.unwritten.get_or_insert(Lag { upto: contiguous, since: now });
            if !clock.is_due(&mut Some(lag.since), WRITE_INTERVAL) {
                return Ok(false);
            }
        }
        schedule.unwritten = None;
        let is_written = self.pursue(Goal::Written, contiguous, Demand::Idle)?;
        if !is_written {
            clock.sleep = clock.sleep.min(WRITE_INTERVAL);
        }
        Ok(is_written)
    }

    fn sync_relaxed(&self, schedule: &mut Schedule, clock: &mut Clock) -> Result<bool> {
        let contiguous = self.frontier.contiguous();
        if self.frontier.durable() == contiguous {
            schedule.undurable_since = None;
            return Ok(false);
        }
        if !clock.is_due(&mut schedule.undurable_since, self.options.flush_interval) {
            return Ok(false);
        }
        // What is appended from here on has a whole interval of its own.
        schedule.undurable_since = clock.now;
        if !self.pursue(Goal::Durable, contiguous, Demand::Idle)? {
            let written = self.frontier.written();
            self.pursue(Goal::Durable, written, Demand::Waited)?;
        }
        Ok(true)
    }

    fn make_spare(&self, schedule: &mut Schedule, clock: &mut Clock) -> Result<bool> {
        if schedule.spare_not_before.is_some()
            && !clock.is_due(&mut schedule.spare_not_before, Duration::ZERO)
        {
            return Ok(false);
        }
        schedule.spare_not_before = None;
        match self.maker.step(&self.writer, || self.credits.is_file_due()) {
            Ok(Some(Made::Part | Made::File)) => {
                clock.sleep = Duration::ZERO;
                Ok(true)
            }
            Ok(Some(Made::NoRoom) | None) => Ok(false),
            Err(Error::NoSpace { .. }) => {
                // The log does not own this space yet, so nothing is lost (W2). Should the file be
                // needed before it can be made, the one who needs it makes it, or gets the error.
                schedule.spare_not_before = clock.now.map(|now| now + RETRY_DELAY);
                // Whoever waits for this file makes one, and gets the error.
                self.credits.recheck();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn stamp_idle(&self, schedule: &mut Schedule, clock: &mut Clock) -> Result<bool> {
        let durable = self.frontier.durable();
        if !self.writer.wants_stamp() {
            schedule.settled = None;
            return Ok(false);
        }
        if schedule.settled.is_none_or(|(seen, _)| seen != durable) {
            schedule.settled = clock.now.map(|now| (durable, now));
        }
        let mut since = schedule.settled.map(|(_, since)| since);
        if !clock.is_due(&mut since, STAMP_DELAY) {
            return Ok(false);
        }
        self.writer.stamp()
    }
}
