//! Group commit: who writes the next frame, who waits for it, and how far the log is durable.
//!
//! There is no writer thread. Whoever needs the log to be written and finds a free write slot builds
//! a frame of everything contiguous and writes it itself; the others wait, and are woken when a
//! completion covers them, or, one of them, when it shall write the next frame:
//!
//! ```text
//!            contiguous, free slot                         prefix complete
//!   in the ring -- build (mutex) --> in flight -- complete --> written -- sync --> durable
//!                                        |                                          ^
//!                                        +---- written with sync, none before it ---+
//!                                              is only written
//! ```
//!
//! * `durable` moves over the contiguous prefix of completed frames. A frame is written and synced in
//!   one call while every frame before it is durable or on such a way itself. Once a frame was only
//!   written (relaxed commits), later ones are only written too, until a sync of every file with
//!   such frames has returned; a sync covers what was written when it began.
//! * No wake-up is lost: a waiter registers under the mutex, in the same turn in which it found
//!   nothing to do; every event that makes something possible (a completion, a sync, a frame that
//!   left records behind) designates a waiter for it, under the same mutex.
//! * A failed write or sync poisons (W2): nothing is retried and no watermark moves any more.
//! * Files are not made here: where the next segment is missing, which the flusher should have made,
//!   the one who wants a frame is told so, and makes it without the mutex. A file that cannot be made
//!   for lack of space fails those who wait, and is tried again by whoever comes next; the records
//!   stay in the ring.
//!
//! The mutex is held for sums and for copying a frame together, never while a disk is asked for
//! anything.
//!
//! Lock order: writer mutex, then the short ones of credit, pending set, waiters and bell.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::codec::{to_u64, to_usize};
use crate::control::EpochEntry;
use crate::disk::DiskFile;
use crate::planted::{Bug, is_planted};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::{Error, Lsn, Result};

use super::books::Demand;
use super::build::{Builder, Built, Frame, Space};
use super::credit::CreditPool;
use super::flusher::Bell;
use super::frontier::Frontier;
use super::ring::Ring;
use super::segment::SEGMENT_HEADER_BYTES;
use super::segments::Segments;
use super::spares::SharedSegments;
use super::waiters::{Designated, Goal, Parker, Wake};

/// Frames on their way to the disk at once: while one is written, the next is filled.
pub(super) const IN_FLIGHT_FRAMES: usize = 2;
const _: () = assert!(IN_FLIGHT_FRAMES <= super::frame::IN_FLIGHT_FRAMES_MAX);

/// A frame on its way.
#[derive(Debug)]
struct Flight {
    frame: Arc<Frame>,
    /// Its write makes it durable.
    is_synced: bool,
    is_done: bool,
}

/// A file with frames that were written but not synced.
#[derive(Debug)]
struct UnsyncedFile {
    file: Arc<dyn DiskFile>,
    segment: u64,
    /// End of the last such frame.
    end: Lsn,
}

#[derive(Debug)]
struct State<S> {
    builder: Builder<S>,
    in_flight: VecDeque<Flight>,
    /// Most frames in flight.
    slots: usize,
    unsynced: Vec<UnsyncedFile>,
    is_syncing: bool,
}

/// What a thread may do for its goal.
enum Work {
    /// Write this frame, with sync or without.
    Write(Arc<Frame>, bool),
    /// Sync these files; everything below the LSN was written.
    Sync(Vec<Arc<dyn DiskFile>>, Lsn),
    /// Nothing, others are at it.
    Wait,
    /// Nothing: a short frame that nobody waits for must be put off.
    PutOff,
    /// Nothing here: the next segment's file has to be made first.
    MakeFile,
}

/// What came of the wish for another frame.
enum Next {
    Work(Work),
    TooFarAhead,
    NotWorthIt,
    NeedsFile,
}

/// What came of the pursuit of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pursued {
    /// It is reached.
    Reached,
    /// A short frame that nobody waits for was put off.
    PutOff,
    /// The next segment's file has to be made first.
    NeedsFile,
}

/// What came of the wish to get bytes out of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// A frame was written, or older ones were synced so that it can be.
    Frame,
    /// Others are at it.
    Nothing,
    /// The next segment's file has to be made first.
    NeedsFile,
}

/// Numbers since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) frames: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) bytes_written: AtomicU64,
}

/// Has frames built, written and synced by whoever waits for them; see the module.
#[derive(Debug)]
pub(super) struct Writer<S> {
    frontier: Arc<Frontier>,
    ring: Arc<Ring>,
    credits: Arc<CreditPool>,
    bell: Arc<Bell>,
    state: Mutex<State<S>>,
    pub(super) counters: Counters,
}

impl<S> State<S> {
    fn has_slot(&self) -> bool {
        self.in_flight.len() < self.slots
    }

    /// Whether a frame built now may be written and synced in one call.
    fn is_prefix_synced(&self) -> bool {
        self.unsynced.is_empty() && self.in_flight.iter().all(|flight| flight.is_synced)
    }

    fn note_unsynced(&mut self, frame: &Frame) {
        let segment = frame.place.segment;
        match self.unsynced.iter_mut().find(|unsynced| unsynced.segment == segment) {
            Some(unsynced) => unsynced.end = frame.end,
            None => self.unsynced.push(UnsyncedFile {
                file: Arc::clone(&frame.place.file),
                segment,
                end: frame.end,
            }),
        }
    }
}

impl<S: Space> State<S> {
    fn wants_stamp(&self, frontier: &Frontier) -> bool {
        let framed = self.builder.framed();
        self.in_flight.is_empty()
            && frontier.durable() == framed
            && frontier.contiguous() == framed
            && self.builder.stamped() < framed
            && self.builder.has_chain()
    }
}

impl SharedSegments for Writer<Segments> {
    fn with<R>(&self, f: impl FnOnce(&mut Segments) -> R) -> R {
        self.with_space(f)
    }
}

/// The error for a position at which no record starts.
pub(super) fn no_record(lsn: Lsn) -> Error {
    Error::InvalidArgument(format!("no record starts at {lsn}"))
}

impl<S: Space> Writer<S> {
    /// A writer of the epoch `entry`, all of whose log is still to come.
    pub(super) fn new(
        space: S,
        entry: &EpochEntry,
        identity: u64,
        frontier: Arc<Frontier>,
        ring: Arc<Ring>,
        credits: Arc<CreditPool>,
        bell: Arc<Bell>,
    ) -> Self {
        Self {
            frontier,
            ring,
            credits,
            bell,
            state: Mutex::new(State {
                builder: Builder::new(space, entry, identity),
                in_flight: VecDeque::new(),
                slots: IN_FLIGHT_FRAMES,
                unsynced: Vec::new(),
                is_syncing: false,
            }),
            counters: Counters::default(),
        }
    }

    /// The same, with a frame for each record if `yes`.
    pub(super) fn with_records_alone(self, yes: bool) -> Self {
        self.state.lock().builder.is_record_alone = yes;
        self
    }

    /// The same with another number of frames in flight.
    #[cfg(test)]
    #[cfg(loom)]
    pub(super) fn with_slots(self, slots: usize) -> Self {
        self.state.lock().slots = slots;
        self
    }

    /// Makes everything below `lsn`, which is published, written or durable.
    pub(super) fn pursue(&self, goal: Goal, lsn: Lsn, demand: Demand) -> Result<Pursued> {
        let mut sleeper = None;
        while self.frontier.watermark(goal) < lsn {
            let mut state = self.state.lock();
            match self.next_work(&mut state, goal, lsn, demand)? {
                Work::PutOff => return Ok(Pursued::PutOff),
                Work::MakeFile => return Ok(Pursued::NeedsFile),
                Work::Wait => {
                    let parker = sleeper.get_or_insert_with(Parker::new);
                    let wake = Wake::Thread(Arc::clone(parker));
                    let is_registered = self.frontier.register(goal, lsn, &wake);
                    drop(state);
                    if is_registered {
                        parker.park()?;
                    }
                }
                Work::Write(frame, is_synced) => {
                    drop(state);
                    self.write(frame, is_synced)?;
                }
                Work::Sync(files, written) => {
                    drop(state);
                    self.sync(&files, written)?;
                }
            }
        }
        Ok(Pursued::Reached)
    }

    /// Writes one frame if a slot is free, so that its bytes leave the ring.
    pub(super) fn write_some(&self) -> Result<Wrote> {
        let mut state = self.state.lock();
        let work = self.next_work(&mut state, Goal::Written, Lsn::MAX, Demand::Waited)?;
        drop(state);
        match work {
            Work::Write(frame, is_synced) => self.write(frame, is_synced).map(|()| Wrote::Frame),
            Work::Sync(files, written) => self.sync(&files, written).map(|()| Wrote::Frame),
            Work::Wait | Work::PutOff => Ok(Wrote::Nothing),
            Work::MakeFile => Ok(Wrote::NeedsFile),
        }
    }

    /// Whether the log is idle and its last header does not tell how far it is durable.
    pub(super) fn wants_stamp(&self) -> bool {
        self.state.lock().wants_stamp(&self.frontier)
    }

    /// Writes a frame without payload when the log wants it, and says whether it did.
    pub(super) fn stamp(&self) -> Result<bool> {
        let mut state = self.state.lock();
        self.frontier.check()?;
        if !state.wants_stamp(&self.frontier) {
            return Ok(false);
        }
        let framed = state.builder.framed();
        let next = self.build(&mut state, framed, true, Demand::Idle)?;
        drop(state);
        match next {
            Next::Work(Work::Write(frame, is_synced)) => {
                self.write(frame, is_synced).map(|()| true)
            }
            // A stamp can wait for space.
            _ => Ok(false),
        }
    }

    /// Calls `f` with what frames are placed in.
    pub(super) fn space<R>(&self, f: impl FnOnce(&S) -> R) -> R {
        f(&self.state.lock().builder.space)
    }

    /// Calls `f` with what frames are placed in, and notes what there is room for afterwards.
    pub(super) fn with_space<R>(&self, f: impl FnOnce(&mut S) -> R) -> R {
        let mut state = self.state.lock();
        let result = f(&mut state.builder.space);
        self.credits.set_room(state.builder.space.room());
        result
    }

    /// Copies the record at `lsn` to `out` when it is in the ring or in flight. False when it is
    /// written already.
    pub(super) fn copy_unwritten(&self, lsn: Lsn, out: &mut Vec<u8>) -> Result<bool> {
        let state = self.state.lock();
        let framed = state.builder.framed();
        if lsn >= framed {
            let link = if lsn < self.frontier.contiguous() { self.ring.link(lsn) } else { None };
            let Some(link) = link else { return Err(no_record(lsn)) };
            // Under the mutex nobody frames these bytes, so nobody overwrites them.
            out.resize(link.padded_length, 0);
            self.ring.read(lsn, out);
            return Ok(true);
        }
        let frames = state.in_flight.iter().map(|flight| &flight.frame);
        let Some(frame) = frames.into_iter().find(|frame| frame.lsn <= lsn && lsn < frame.end)
        else {
            return Ok(false);
        };
        out.extend_from_slice(&frame.payload()[to_usize(lsn.since(frame.lsn))..]);
        Ok(true)
    }

    /// What the caller should do next so that everything below `lsn` gets written, or durable.
    fn next_work(
        &self,
        state: &mut State<S>,
        goal: Goal,
        lsn: Lsn,
        demand: Demand,
    ) -> Result<Work> {
        self.frontier.check()?;
        let contiguous = self.frontier.contiguous();
        let framed = state.builder.framed();
        let written = self.frontier.written();
        let mut is_sync_needed = goal == Goal::Durable && written >= lsn;
        if lsn > framed && contiguous > framed && state.has_slot() {
            let is_synced = goal == Goal::Durable && state.is_prefix_synced();
            match self.build(state, contiguous, is_synced, demand) {
                Ok(Next::Work(work)) => return Ok(work),
                Ok(Next::NotWorthIt) => return Ok(Work::PutOff),
                Ok(Next::NeedsFile) => return Ok(Work::MakeFile),
                Ok(Next::TooFarAhead) => is_sync_needed = true,
                Err(error) => {
                    self.frontier.waiters().fail_threads(framed, &error);
                    return Err(error);
                }
            }
        }
        if is_sync_needed && !state.unsynced.is_empty() && !state.is_syncing {
            state.is_syncing = true;
            let files = state.unsynced.iter().map(|unsynced| Arc::clone(&unsynced.file)).collect();
            return Ok(Work::Sync(files, written));
        }
        Ok(Work::Wait)
    }

    /// Builds a frame and notes it as in flight.
    fn build(
        &self,
        state: &mut State<S>,
        contiguous: Lsn,
        is_synced: bool,
        demand: Demand,
    ) -> Result<Next> {
        let durable = self.frontier.durable();
        let built = state.builder.build(&self.ring, &self.credits, contiguous, durable, demand)?;
        let frame = match built {
            Built::Frame(frame) => Arc::new(frame),
            Built::TooFarAhead => return Ok(Next::TooFarAhead),
            Built::NotWorthIt => return Ok(Next::NotWorthIt),
            Built::NeedsFile => return Ok(Next::NeedsFile),
        };
        let flight = Flight { frame: Arc::clone(&frame), is_synced, is_done: false };
        state.in_flight.push_back(flight);
        if state.builder.framed() < contiguous {
            self.designate(state);
        }
        Ok(Next::Work(Work::Write(frame, is_synced)))
    }

    /// The next segment's file cannot be made: hands the error to those who wait for a frame.
    pub(super) fn fail_waiters(&self, error: &Error) {
        let framed = self.state.lock().builder.framed();
        self.frontier.waiters().fail_threads(framed, error);
    }

    fn write(&self, frame: Arc<Frame>, is_synced: bool) -> Result<()> {
        let file = &frame.place.file;
        let (mut bytes, mut offset) = frame.write();
        if is_planted(Bug::SkipSegmentHeaderSync) && frame.place.begins.is_some() {
            let (header, rest) = bytes.split_at(SEGMENT_HEADER_BYTES);
            file.write_at(header, offset).map_err(|error| self.poison_io(file.as_ref(), error))?;
            (bytes, offset) = (rest, frame.place.offset);
        }
        let result = if is_synced && !is_planted(Bug::AcknowledgeBeforeSync) {
            file.write_sync_at(bytes, offset)
        } else {
            file.write_at(bytes, offset)
        };
        if let Err(error) = result {
            return Err(self.poison_io(file.as_ref(), error));
        }
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
        self.counters.syncs.fetch_add(u64::from(is_synced), Ordering::Relaxed);
        self.counters.bytes_written.fetch_add(to_u64(bytes.len()), Ordering::Relaxed);
        self.complete(frame)
    }

    /// Notes a frame as written and moves the watermarks over the complete prefix.
    fn complete(&self, frame: Arc<Frame>) -> Result<()> {
        let mut state = self.state.lock();
        self.frontier.check()?;
        let flight = state.in_flight.iter_mut().find(|flight| Arc::ptr_eq(&flight.frame, &frame));
        flight.expect("a frame is in flight until it is completed").is_done = true;
        drop(frame);
        let mut written = self.frontier.written();
        let mut durable = None;
        while state.in_flight.front().is_some_and(|flight| flight.is_done)
            && let Some(flight) = state.in_flight.pop_front()
        {
            written = flight.frame.end;
            if !flight.is_synced {
                state.note_unsynced(&flight.frame);
            } else if state.unsynced.is_empty() {
                durable = Some(written);
            }
            state.builder.recycle(flight.frame);
        }
        self.frontier.set_written(written);
        if let Some(durable) = durable {
            self.frontier.set_durable(durable);
        }
        self.after_progress(state);
        Ok(())
    }

    fn sync(&self, files: &[Arc<dyn DiskFile>], written: Lsn) -> Result<()> {
        for file in files {
            let mut synced = file.sync();
            if is_planted(Bug::RetryFailedSync) {
                synced = synced.or_else(|_| file.sync());
            }
            if let Err(error) = synced {
                return Err(self.poison_io(file.as_ref(), error));
            }
        }
        self.counters.syncs.fetch_add(to_u64(files.len()), Ordering::Relaxed);
        let mut state = self.state.lock();
        self.frontier.check()?;
        state.is_syncing = false;
        state.unsynced.retain(|unsynced| unsynced.end > written);
        self.frontier.set_durable(written);
        self.after_progress(state);
        Ok(())
    }

    /// Lets others see and use what has become possible.
    fn after_progress(&self, state: MutexGuard<'_, State<S>>) {
        self.designate(&state);
        drop(state);
        self.frontier.refresh();
    }

    /// Finds somebody for a frame or a sync that is possible now.
    fn designate(&self, state: &State<S>) {
        let waiters = self.frontier.waiters();
        let framed = state.builder.framed();
        if state.has_slot() && self.frontier.contiguous() > framed {
            if waiters.designate_writer(framed) == Designated::Flusher {
                self.bell.ring();
            }
            self.credits.nudge_ring_waiters();
        }
        let (durable, written) = (self.frontier.durable(), self.frontier.written());
        if !state.unsynced.is_empty()
            && !state.is_syncing
            && written > durable
            && waiters.designate_syncer(durable, written) == Designated::Flusher
        {
            self.bell.ring();
        }
    }

    fn poison_io(&self, file: &dyn DiskFile, error: io::Error) -> Error {
        self.poison(Error::io(file.path(), error))
    }

    /// Refuses everything from now on, and wakes everybody. Returns the error for the caller.
    pub(super) fn poison(&self, error: Error) -> Error {
        self.frontier.poison(error);
        let poisoned = self.frontier.poisoned().expect("it was poisoned above");
        self.credits.end(poisoned.clone());
        self.bell.ring();
        poisoned
    }
}
