//! The log: frames, segments, group commit, reading, and the decision where it ends.
//!
//! The append side, in the order in which a record passes it:
//!
//! 1. [`Log::credit`] promises room in the ring and in the files, and may wait. `Err`: poisoned, or
//!    the request can never fit.
//! 2. [`Log::begin_sync_commit`], for a synchronous commit, keeps readers below it.
//! 3. [`Log::reserve`] gives the record its place; from here to step 4 nothing waits or allocates.
//! 4. [`Log::publish`] seals it with its place and copies it into the ring.
//! 5. [`Log::wait_durable`] writes the log, alone or together with others. `Err`: whether the record
//!    survives is known only after the next open.
//! 6. [`Log::wait_visible`]: readers see it. A commit of any durability ends with this.

mod adopt;
mod books;
mod build;
mod credit;
mod files;
mod flusher;
pub mod frame;
mod frontier;
mod index;
mod lookup;
#[cfg(test)]
#[cfg(loom)]
mod models;
mod pending;
mod read;
mod reader;
mod ring;
pub mod segment;
mod segments;
mod sizes;
mod spares;
mod survivors;
mod tail;
#[cfg(test)]
#[cfg(not(loom))]
mod testing;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod waiters;
mod window;
mod writer;

pub use books::{CreditRequest, Purpose};
pub use credit::{Credit, CreditWait, SetAside};
pub use files::{LogEpoch, LogFiles, SegmentInfo};
pub use flusher::FlusherStep;
pub use index::FrameIndex;
pub use lookup::RecordReader;
pub use read::{OwnedRecord, RecordPlace};
pub use reader::{Frame, LogReader, LogRecord, LogStop};
pub use segments::{Place, Segments};
pub use sizes::SegmentOptions;
pub use survivors::{Hole, Survivors};
pub use tail::{
    LogEnd, TailCase, TailEvidence, TailQuery, find_end, rewrite_tail, write_lost_headers,
};

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::codec::to_u64;
use crate::control::{EpochEntry, LogPosition};
use crate::disk::Disk;
use crate::record::{Body, EncodedRecord, RecordEncoder, header};
use crate::sync::Mutex;
use crate::{DatabaseId, Error, Lsn, Result, TxnId};

use books::{CreditLimits, Demand};
use credit::CreditPool;
use flusher::{Bell, Schedule};
use frontier::Frontier;
use pending::Entry;
use read::FrameRead;
use ring::Ring;
use spares::{Made, SpareMaker};
use waiters::{Goal, Wake};
use writer::{Pursued, Writer, Wrote};

/// The ring holds at least this many of the longest records.
const RING_RECORDS_MIN: usize = 4;

/// How a log is run.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Page size of the database; it bounds the records.
    pub page_bytes: usize,
    /// Size of the ring between appenders and the disk; a power of two that holds at least four of
    /// the longest records.
    pub ring_bytes: usize,
    /// Longest time for which a relaxed commit is not durable.
    pub flush_interval: Duration,
    /// Sizes of the files, those that the [`Segments`] were opened with.
    pub segments: SegmentOptions,
    /// File bytes kept for [`Purpose::Reserve`].
    pub reserve_bytes: u64,
    /// For tests that drive every step: nothing depends on the time.
    #[doc(hidden)]
    pub is_stepped: bool,
    /// For tests that cut the power between any two records: each gets a frame of its own.
    #[doc(hidden)]
    pub is_record_alone: bool,
}

/// Numbers since the start of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Frames written.
    pub frames: u64,
    /// Syncs, those of a synced write included.
    pub flushes: u64,
    /// Bytes of the frames, headers and padding included.
    pub bytes_written: u64,
    /// Bytes of the records, reserved since the start.
    pub payload_bytes: u64,
}

/// A log that is being written. Shared by all threads of a database.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    entry: EpochEntry,
    log_identity: u64,
    epoch_seed: u32,
    frontier: Arc<Frontier>,
    ring: Arc<Ring>,
    credits: Arc<CreditPool>,
    bell: Arc<Bell>,
    writer: Writer<Segments>,
    maker: SpareMaker,
    schedule: Mutex<Schedule>,
    /// The frame that a record was last read from.
    frame_read: Mutex<Option<Arc<FrameRead>>>,
}

/// A place in the log that its owner must fill by [`Log::publish`]: everything behind it waits. If
/// it is lost, by a panic, the log must be poisoned.
#[must_use = "a place that is not filled stops the log"]
#[derive(Debug)]
pub struct Reservation {
    start: Lsn,
    padded_length: usize,
    is_prepaid: bool,
}

impl Reservation {
    /// Position of the record's first byte.
    #[must_use]
    pub const fn start(&self) -> Lsn {
        self.start
    }

    /// Position behind the record and its padding.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.start.advance(to_u64(self.padded_length))
    }
}

/// A synchronous commit that readers must not see before it is durable (invariant T1). Without an
/// END it leaves the set when dropped, with one when it is durable.
#[must_use = "dropped before `set_end` it hides nothing"]
#[derive(Debug)]
pub struct PendingSync {
    frontier: Arc<Frontier>,
    entry: Arc<Entry>,
}

impl PendingSync {
    /// Tells where the commit record ends; between `reserve` and `publish`.
    pub fn set_end(&self, end: Lsn) {
        self.entry.set_end(end);
    }
}

impl Drop for PendingSync {
    fn drop(&mut self) {
        if self.entry.end().is_none() {
            self.frontier.abandon_pending(&self.entry);
        }
    }
}

impl Log {
    /// Starts appending in the epoch `entry`, which is durable in `control` already and begins where
    /// `segments` go on. The epoch's first record, [`Body::EpochStart`], is put into the ring; it is
    /// written with the first flush, whoever needs that, and nothing is written before.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when sizes of the options do not go together.
    pub fn start(
        disk: Arc<dyn Disk>,
        mut segments: Segments,
        entry: EpochEntry,
        database: DatabaseId,
        options: LogOptions,
    ) -> Result<Self> {
        options.check()?;
        let ring = Arc::new(Ring::new(options.ring_bytes));
        let limits = options.limits(&ring)?;
        let log_identity = database.log_identity(entry.nonce);
        segments.start_epoch(&entry, log_identity);
        let frontier = Arc::new(Frontier::new(entry.start_lsn));
        let bell = Bell::new();
        let credits = CreditPool::new(limits, segments.room(), Arc::clone(&bell), segments.dir());
        let maker = SpareMaker::new(Arc::clone(&disk), segments.dir());
        let writer = Writer::new(
            segments,
            &entry,
            log_identity,
            Arc::clone(&frontier),
            Arc::clone(&ring),
            Arc::clone(&credits),
            Arc::clone(&bell),
        )
        .with_records_alone(options.is_record_alone);
        let log = Self {
            disk,
            options,
            entry,
            log_identity,
            epoch_seed: header::epoch_seed(log_identity),
            frontier,
            ring,
            credits,
            bell,
            writer,
            maker,
            schedule: Mutex::default(),
            frame_read: Mutex::default(),
        };
        log.append_epoch_start()?;
        Ok(log)
    }

    fn append_epoch_start(&self) -> Result<()> {
        let mut encoder = RecordEncoder::new();
        let record = encoder.encode(TxnId::NONE, Lsn::NONE, &Body::EpochStart(self.entry));
        let request = CreditRequest {
            payload_bytes: to_u64(record.padded_length()),
            is_sync_commit: false,
            purpose: Purpose::Reserve,
        };
        let mut credit = self.credit(&request, &CreditWait::PATIENT)?;
        let reservation = self.reserve(&mut credit, record.padded_length());
        self.publish(reservation, record);
        Ok(())
    }

    /// The next LSN that will be given out.
    #[must_use]
    pub fn reserved_lsn(&self) -> Lsn {
        self.frontier.reserved()
    }

    /// Everything below is published.
    #[must_use]
    pub fn contiguous_lsn(&self) -> Lsn {
        self.frontier.contiguous()
    }

    /// Returns when everything below `lsn`, which is reserved, is published: when other threads have
    /// copied their records, without I/O. A poisoned log is not waited for.
    pub fn wait_contiguous(&self, lsn: Lsn) {
        debug_assert!(lsn <= self.frontier.reserved(), "{lsn} is not reserved");
        // Whoever goes on with a poisoned log is told by whatever it does next.
        drop(self.frontier.wait(Goal::Published, lsn));
    }

    /// Everything below is on stable storage.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.frontier.durable()
    }

    /// Everything below is published, and no synchronous commit below is not durable. A commit is
    /// visible when its END is at or below. It may lie inside of a record, just below the END of a
    /// synchronous commit that is not durable.
    #[must_use]
    pub fn visible_lsn(&self) -> Lsn {
        self.frontier.visible()
    }

    /// The epoch that is being written.
    #[must_use]
    pub const fn epoch(&self) -> &EpochEntry {
        &self.entry
    }

    /// Promises room for records, and waits for it where it must; never to be called under a latch.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Closed`] after [`Log::shutdown`], [`Error::NoSpace`] when the
    /// ring is full and cannot be written for lack of space, or the reserve is used up,
    /// [`Error::InvalidArgument`] when the request can never be granted, and what `wait` gives up
    /// with.
    pub fn credit(&self, request: &CreditRequest, wait: &CreditWait<'_>) -> Result<Credit> {
        self.credits.take(request, || self.write_some(), || self.make_file(), wait)
    }

    /// Has everybody who waits for a credit ask whether to give up.
    pub fn recheck_credit(&self) {
        self.credits.recheck();
    }

    /// Promises ring room for records whose file room was set aside; waits for ring room only.
    ///
    /// # Errors
    /// As [`Log::credit`].
    ///
    /// # Panics
    /// When less than `payload_bytes` is set aside.
    pub fn credit_from(&self, set_aside: &mut SetAside, payload_bytes: u64) -> Result<Credit> {
        self.credits.take_from(set_aside, payload_bytes, || self.write_some())
    }

    /// Enters the pending-sync set; to be called before [`Log::reserve`] of a synchronous commit.
    pub fn begin_sync_commit(&self) -> PendingSync {
        PendingSync { frontier: Arc::clone(&self.frontier), entry: self.frontier.enter_pending() }
    }

    /// Whether a synchronous commit is on its way, whose writer waits for the disk; momentary.
    #[must_use]
    pub fn is_commit_awaited(&self) -> bool {
        self.frontier.has_pending()
    }

    /// Gives a record of `padded_length` bytes its place. Never waits and never allocates (W3).
    ///
    /// # Panics
    /// When the credit is too small or the length is not that of a record; nothing is reserved then.
    pub fn reserve(&self, credit: &mut Credit, padded_length: usize) -> Reservation {
        let is_prepaid = credit.spend(padded_length);
        Reservation { start: self.frontier.reserve(padded_length), padded_length, is_prepaid }
    }

    /// Puts the record into its place and everybody up to date. Never waits and never allocates,
    /// unless somebody is to be woken (W3).
    ///
    /// # Panics
    /// When the record has another length than the one reserved.
    #[expect(clippy::needless_pass_by_value, reason = "a place can be filled once")]
    pub fn publish(&self, reservation: Reservation, record: EncodedRecord<'_>) {
        let Reservation { start, padded_length, is_prepaid } = reservation;
        assert_eq!(record.padded_length(), padded_length, "a record as long as its place");
        let checksum = header::checksum(self.epoch_seed, start, record.content_checksum);
        self.ring.write(start, record, checksum);
        if self.frontier.publish(&self.ring, start, padded_length, is_prepaid) {
            self.credits.nudge_ring_waiters();
        }
    }

    /// Returns when everything below `lsn` is on stable storage; the calling thread writes the log
    /// itself where a write slot is free. A synchronous commit calls [`Log::wait_visible`] behind
    /// it.
    ///
    /// # Errors
    /// [`Error::Poisoned`]; [`Error::NoSpace`] when the log cannot be extended: then what is below
    /// `lsn` may still become durable, with a later call.
    pub fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        self.wait_for(Goal::Durable, lsn)
    }

    /// Hands everything below `contiguous_lsn` to the operating system, without sync.
    ///
    /// # Errors
    /// As [`Log::wait_durable`].
    #[cfg(test)]
    #[cfg(not(loom))]
    pub(crate) fn write_out(&self) -> Result<()> {
        self.wait_for(Goal::Written, self.frontier.contiguous())
    }

    fn wait_for(&self, goal: Goal, lsn: Lsn) -> Result<()> {
        if self.frontier.watermark(goal) >= lsn {
            return Ok(());
        }
        assert!(lsn <= self.frontier.reserved(), "waiting for {lsn}, which nobody has reserved");
        self.frontier.wait(Goal::Published, lsn)?;
        self.pursue(goal, lsn, Demand::Waited).map(drop)
    }

    /// Makes everything below `lsn`, which is published, written or durable; makes the next segment's
    /// file on the way where nobody has in time. False when a short frame that nobody waits for was
    /// put off.
    fn pursue(&self, goal: Goal, lsn: Lsn, demand: Demand) -> Result<bool> {
        loop {
            match self.writer.pursue(goal, lsn, demand)? {
                Pursued::Reached => return Ok(true),
                Pursued::PutOff => return Ok(false),
                Pursued::NeedsFile => self.make_next_file()?,
            }
        }
    }

    /// Writes a frame if a slot is free, so that its bytes leave the ring. Says whether it did.
    fn write_some(&self) -> Result<bool> {
        loop {
            match self.writer.write_some()? {
                Wrote::Frame => return Ok(true),
                Wrote::Nothing => return Ok(false),
                Wrote::NeedsFile => self.make_next_file()?,
            }
        }
    }

    /// Makes the file that the next frame goes to, unless somebody else is quicker.
    fn make_next_file(&self) -> Result<()> {
        let made = self.make_file_while(|| self.writer.space(|s| s.next_room_bytes().is_none()));
        let error = match made {
            Ok(true) => return Ok(()),
            Ok(false) => self.credits.no_space(),
            Err(error) => error,
        };
        if matches!(error, Error::NoSpace { .. }) {
            self.writer.fail_waiters(&error);
        }
        Err(error)
    }

    /// Makes one more file for those who need room in files that exist, unless somebody else is
    /// quicker. `false` when the bound leaves no room for one.
    fn make_file(&self) -> Result<bool> {
        let added_before = self.writer.space(Segments::added_count);
        self.make_file_while(|| self.writer.space(Segments::added_count) == added_before)
    }

    /// Makes a file, step by step, for as long as it is wanted.
    fn make_file_while(&self, is_wanted: impl Fn() -> bool) -> Result<bool> {
        loop {
            self.frontier.check()?;
            match self.maker.step(&self.writer, &is_wanted)? {
                Some(Made::Part) => {}
                Some(Made::File) | None => return Ok(true),
                Some(Made::NoRoom) => return Ok(false),
            }
        }
    }

    /// Returns when `visible_lsn` covers `lsn`; flushes the log itself where a synchronous commit
    /// that is not durable hides it.
    ///
    /// # Errors
    /// As [`Log::wait_durable`].
    pub fn wait_visible(&self, lsn: Lsn) -> Result<()> {
        if self.frontier.visible() >= lsn {
            self.rouse_flusher(lsn);
            return Ok(());
        }
        assert!(lsn <= self.frontier.reserved(), "waiting for {lsn}, which nobody has reserved");
        self.frontier.wait(Goal::Published, lsn)?;
        while self.frontier.is_hidden(lsn) && self.frontier.durable() < lsn {
            self.pursue(Goal::Durable, lsn, Demand::Waited)?;
        }
        self.rouse_flusher(lsn);
        self.frontier.wait(Goal::Visible, lsn)
    }

    /// Whether `lsn` is visible, and durable if asked for. If not, the waker is called once that may
    /// have changed; the flusher sees to it.
    pub fn poll_visible(&self, lsn: Lsn, durable: bool, waker: &Waker) -> Poll<Result<()>> {
        let wake = Wake::Task(waker.clone());
        loop {
            let is_visible = self.frontier.watermark(Goal::Visible) >= lsn;
            let is_durable = self.frontier.durable() >= lsn;
            if is_visible && (is_durable || !durable) {
                self.rouse_flusher(lsn);
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = self.frontier.poisoned() {
                return Poll::Ready(Err(error));
            }
            let goal = if self.frontier.contiguous() < lsn {
                Goal::Published
            } else if is_durable || !durable && !self.frontier.is_hidden(lsn) {
                Goal::Visible
            } else {
                Goal::Durable
            };
            if self.frontier.register(goal, lsn, &wake) {
                self.request_flush(if durable || goal == Goal::Durable { lsn } else { Lsn::NONE });
                return Poll::Pending;
            }
        }
    }

    /// A relaxed commit is not written yet: the flusher must look within its write interval.
    fn rouse_flusher(&self, lsn: Lsn) {
        if self.frontier.written() < lsn {
            self.bell.rouse();
        }
    }

    /// Gives up the segments wholly below `lsn`, which no durable master record needs any more
    /// (C3); returns their number.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when the new names of the files could not be made durable.
    pub fn truncate(&self, lsn: Lsn) -> Result<u64> {
        self.frontier.check()?;
        self.maker.recycle(&self.writer, lsn).map_err(|error| self.writer.poison(error))
    }

    /// Whether [`Log::truncate`] would give up a segment.
    #[must_use]
    pub fn can_truncate(&self, lsn: Lsn) -> bool {
        self.writer.space(|segments| segments.has_any_below(lsn))
    }

    /// Bytes allocated to the files of the log.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        self.writer.space(|segments| segments.wal_bytes())
    }

    /// Frame bytes that can still be placed under the bound.
    #[must_use]
    pub fn available_bytes(&self) -> u64 {
        self.writer.space(|segments| segments.available_bytes())
    }

    /// Keeps so many bytes beside the permanent reserve for what empties a full log, up to half of it.
    pub fn set_more_reserve(&self, bytes: u64) {
        self.credits.set_more_reserve(bytes);
    }

    /// Record bytes for which credit is left, the permanent reserve included.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        self.credits.slack_bytes()
    }

    /// Where a frame begins at or before the one that holds `lsn`.
    #[must_use]
    pub fn locate(&self, lsn: Lsn) -> Option<LogPosition> {
        self.writer.space(|segments| segments.locate(lsn))
    }

    /// Refuses all writing from now on: a failure has left memory and disk apart. The first error is
    /// kept.
    pub fn poison(&self, error: Error) {
        self.writer.poison(error);
    }

    /// The error that writes get, once the log is poisoned.
    #[must_use]
    pub fn poisoned(&self) -> Option<Error> {
        self.frontier.poisoned()
    }

    /// Numbers since the start.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let counters = &self.writer.counters;
        LogStats {
            frames: counters.frames.load(Ordering::Relaxed),
            flushes: counters.syncs.load(Ordering::Relaxed),
            bytes_written: counters.bytes_written.load(Ordering::Relaxed),
            payload_bytes: self.frontier.reserved().since(self.entry.start_lsn),
        }
    }

    /// Makes everything durable and writes a stamp that says so; no more credit is granted. Nobody
    /// may be between `reserve` and `publish`. Returns the LSN for the clean-shutdown mark.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::NoSpace`]: then the shutdown is not clean.
    pub fn shutdown(&self) -> Result<Lsn> {
        self.credits.end(Error::Closed);
        let end = self.frontier.reserved();
        self.wait_for(Goal::Durable, end)?;
        self.writer.stamp()?;
        self.maker.stop(&self.writer);
        self.frontier.check()?;
        Ok(end)
    }
}

impl LogOptions {
    fn check(&self) -> Result<()> {
        let least = RING_RECORDS_MIN * self.record_bytes_max();
        if !self.ring_bytes.is_power_of_two() || self.ring_bytes < least {
            let why = format!("a ring is a power of two of at least {least} bytes");
            return Err(Error::InvalidArgument(why));
        }
        Ok(())
    }

    fn limits(&self, ring: &Ring) -> Result<CreditLimits> {
        let capacity_bytes = self.segments.capacity_bytes();
        if self.reserve_bytes >= capacity_bytes {
            let why = format!("the reserve leaves nothing of {capacity_bytes} bytes of log");
            return Err(Error::InvalidArgument(why));
        }
        Ok(CreditLimits {
            ring_bytes: to_u64(ring.room_bytes()),
            reserve_bytes: self.reserve_bytes,
            capacity_bytes,
        })
    }

    /// Longest record of the database.
    fn record_bytes_max(&self) -> usize {
        crate::record::record_bytes_max(self.page_bytes)
    }
}

const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Log>();
    is_shared::<Credit>();
    is_shared::<PendingSync>();
};
