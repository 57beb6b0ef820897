//! Credit: the promise, taken before any latch, that a record will find room in the ring and its
//! frame room in the files. After it, an append never waits.
//!
//! Ring: `ring_free` is what no credit holds and no unframed byte occupies. A frame gives back its
//! payload when it has been copied.
//!
//! Files: let `available` be what [`Segments::available_bytes`] can still place, less one frame
//! overhead for each segment of the bound (the frame that is cut to a segment's end may be short).
//! Write `o` for the largest overhead of a frame (header and padding), and count in sixteenths of a
//! byte. Every credit is charged 17/16 of its payload, and one `o` on top for a synchronous commit.
//! The charge stays until the payload is in a frame: `slack = available - charged`.
//!
//! * A frame of at least `16 o` payload bytes costs no more than the charge it releases, and neither
//!   does one with a prepaid record: slack does not fall. Prepayments beyond the first are refunded.
//! * Any other frame costs at most `o` more than it releases. The flusher's own frames may only take
//!   this from slack above both reserves; frames that somebody waits for may also take it from the
//!   frame reserve ([`FRAME_RESERVE`] overheads), and below that not at all ([`Error::NoSpace`]).
//! * A normal credit must leave both reserves in slack, and waits until it can. A credit of
//!   [`Purpose::Reserve`] may take all of it, and never waits for files: those who would make room
//!   ask for it, so nobody else will. One of [`Purpose::Rollback`] leaves both reserves and waits for
//!   log to be given up, ahead of all normal waiters: what it undoes does not need the log any more,
//!   so a checkpoint always helps. Where the file system has no room for another file it waits as
//!   well: a log that was given up keeps the files that it had when the writes were granted.
//!
//! The same sum is kept over what the segments *own*: the rest of the current one and the spares, files
//! that exist and are filled. A normal credit leaves both reserves there as well. Where that falls
//! short of what the bound allows, whoever asks makes a spare first, and gets [`Error::NoSpace`] when
//! the file system has none: so a full disk is met before anything was appended, and what was
//! appended, its rollback included, has its place (invariants W2, T2).
//!
//! So slack never falls below zero, and the sum of all placed frames never exceeds what the segments
//! have. What an emptied log needs first (checkpoint, purge, free and compensation records) always
//! finds the reserve.
//!
//! Poison and the end of the log wake all waiters with an error. Waiters of normal purpose are
//! served in the order of their arrival.
//!
//! [`Segments::available_bytes`]: super::Segments::available_bytes

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::codec::to_u64;
use crate::disk::BLOCK_BYTES;
use crate::record::{RECORD_ALIGN, RECORD_HEADER_BYTES};
use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::{Error, Result};

use super::frame::FRAME_HEADER_BYTES;

/// Overheads of frames that somebody waits for, kept beside the reserve of the options.
const FRAME_RESERVE: u64 = 64;
/// Largest overhead of a frame over its payload.
pub(super) const FRAME_OVERHEAD_MAX: u64 = to_u64(FRAME_HEADER_BYTES + BLOCK_BYTES - RECORD_ALIGN);
/// The unit of charges: parts of a byte.
const PARTS: u64 = 16;
/// Charge of one payload byte, in parts.
const CHARGE_PARTS: u64 = PARTS + 1;

/// What a credit is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Ordinary writes.
    #[default]
    Normal,
    /// Compensation records of a transaction whose undo information is not in the log any more.
    /// Waits for a checkpoint where the log is full, and does not fail where the disk is.
    Rollback,
    /// What empties a full log: checkpoint, purge, free and compensation records. Where even the
    /// reserve is used up it is [`Error::NoSpace`], at once.
    Reserve,
}

/// What an appender is going to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct CreditRequest {
    /// Upper bound of the padded lengths of all records, together.
    pub payload_bytes: u64,
    /// Whether somebody will wait for the last of them to be durable.
    pub is_sync_commit: bool,
    /// What it is for.
    pub purpose: Purpose,
}

/// Why a credit was not granted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// The ring is full: a frame has to be built.
    Ring,
    /// The files are full up to the reserve: the log has to be truncated.
    Files,
    /// The files that exist are: one has to be made.
    Owned,
}

/// Room that was granted; what is not spent returns when it is dropped.
#[must_use = "dropping a credit gives it back"]
#[derive(Debug)]
pub struct Credit {
    pool: Arc<CreditPool>,
    bytes: u64,
    has_prepaid_frame: bool,
}

/// What happens while a credit is waited for.
#[derive(Clone, Copy)]
pub struct CreditWait<'a> {
    /// Called before a wait for file space, outside of all locks of the log: a checkpoint should run.
    pub on_full: &'a dyn Fn(),
    /// Asked before each wait: an error ends it. Must not block. See [`Log::recheck_credit`].
    ///
    /// [`Log::recheck_credit`]: super::Log::recheck_credit
    pub give_up: &'a dyn Fn() -> Option<Error>,
}

impl CreditWait<'_> {
    /// Tells nobody, and never gives up.
    pub const PATIENT: Self = Self { on_full: &|| {}, give_up: &|| None };
}

/// File room kept for later, without ring room: what a transaction's rollback will need.
#[must_use = "dropping it gives the room back"]
#[derive(Debug)]
pub struct SetAside {
    pool: Arc<CreditPool>,
    bytes: u64,
}

/// Sizes that a pool is made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct CreditLimits {
    /// What the ring has room for.
    pub(super) ring_bytes: u64,
    /// File bytes of the permanent reserve.
    pub(super) reserve_bytes: u64,
    /// Segments of the bound.
    pub(super) segment_count: u64,
    /// What an empty log has available.
    pub(super) capacity_bytes: u64,
}

/// What the segments can still place, in bytes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Within the bound, files not yet made included.
    pub(super) available: u64,
    /// In files that exist.
    pub(super) owned: u64,
}

impl Room {
    /// Everything within the bound exists.
    #[cfg(test)]
    pub(super) const fn whole(bytes: u64) -> Self {
        Self { available: bytes, owned: bytes }
    }
}

/// The books.
#[derive(Debug)]
pub(super) struct CreditPool {
    limits: CreditLimits,
    books: Mutex<Books>,
    changed: Condvar,
    /// Waiters for ring room, for publishers to look at without the mutex.
    ring_waiters: AtomicUsize,
}

#[derive(Debug)]
struct Books {
    ring_free: u64,
    room: Room,
    /// Charges of all credit not yet in a frame, in parts of a byte.
    charged_parts: u64,
    /// Tickets of waiters of normal purpose, in the order of their arrival.
    queue: VecDeque<u64>,
    next_ticket: u64,
    /// Counts every change that may help a waiter.
    changes: u64,
    /// Why nothing is granted any more.
    end: Option<Error>,
}

/// The error for a log that is full.
pub(super) fn no_space() -> Error {
    let why = "the log has reached its bound";
    Error::io(Path::new("wal"), io::Error::new(io::ErrorKind::StorageFull, why))
}

impl Books {
    fn slack_parts(&self, limits: &CreditLimits) -> u64 {
        let lost = limits.segment_count * FRAME_OVERHEAD_MAX;
        (self.room.available.saturating_sub(lost) * PARTS).saturating_sub(self.charged_parts)
    }

    fn owned_slack_parts(&self) -> u64 {
        (self.room.owned * PARTS).saturating_sub(self.charged_parts)
    }

    fn shortage(&self, request: &CreditRequest, limits: &CreditLimits) -> Option<Shortage> {
        if self.ring_free < request.payload_bytes {
            return Some(Shortage::Ring);
        }
        let wanted = request.charge_parts() + limits.kept_parts(request.purpose);
        if self.slack_parts(limits) < wanted {
            return Some(Shortage::Files);
        }
        match request.purpose {
            _ if self.owned_slack_parts() >= wanted => None,
            Purpose::Normal | Purpose::Rollback => Some(Shortage::Owned),
            Purpose::Reserve => None,
        }
    }
}

impl CreditRequest {
    fn charge_parts(&self) -> u64 {
        let frame = if self.is_sync_commit { FRAME_OVERHEAD_MAX * PARTS } else { 0 };
        self.payload_bytes * CHARGE_PARTS + frame
    }
}

impl CreditLimits {
    /// Slack that a credit for `purpose` must leave.
    const fn kept_parts(&self, purpose: Purpose) -> u64 {
        let frames = FRAME_RESERVE * FRAME_OVERHEAD_MAX;
        match purpose {
            Purpose::Normal | Purpose::Rollback => (self.reserve_bytes + frames) * PARTS,
            Purpose::Reserve => 0,
        }
    }
}

/// Who wants a frame to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Somebody waits for it.
    Waited,
    /// Nobody does; it is written for the sake of a kill or of a stamp.
    Idle,
}

/// A frame about to be placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameCost {
    /// Its payload.
    pub(super) payload_bytes: u64,
    /// Its records whose credit has prepaid a frame.
    pub(super) prepaid_count: u64,
    /// What it takes of the file.
    pub(super) frame_bytes: u64,
}

impl FrameCost {
    fn released_parts(&self) -> u64 {
        let prepaid = self.prepaid_count * FRAME_OVERHEAD_MAX;
        self.payload_bytes * CHARGE_PARTS + prepaid * PARTS
    }
}

/// A waiter's place, given up when dropped.
struct Ticket<'a> {
    pool: &'a CreditPool,
    number: Option<u64>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut books = self.pool.books.lock();
            books.queue.retain(|&waiting| waiting != number);
            self.pool.note_change(&mut books);
        }
    }
}

impl CreditPool {
    /// Nothing granted yet.
    pub(super) fn new(limits: CreditLimits, room: Room) -> Arc<Self> {
        Arc::new(Self {
            limits,
            books: Mutex::new(Books {
                ring_free: limits.ring_bytes,
                room,
                charged_parts: 0,
                queue: VecDeque::new(),
                next_ticket: 0,
                changes: 0,
                end: None,
            }),
            changed: Condvar::new(),
            ring_waiters: AtomicUsize::new(0),
        })
    }

    fn note_change(&self, books: &mut MutexGuard<'_, Books>) {
        books.changes += 1;
        self.changed.notify_all();
    }

    /// Payload bytes that could be granted, reserves included.
    pub(super) fn slack_bytes(&self) -> u64 {
        self.books.lock().slack_parts(&self.limits) / CHARGE_PARTS
    }

    /// Has everybody who waits ask whether to give up.
    pub(super) fn recheck(&self) {
        self.note_change(&mut self.books.lock());
    }

    fn grant(self: &Arc<Self>, books: &mut Books, request: &CreditRequest) -> Credit {
        books.ring_free -= request.payload_bytes;
        books.charged_parts += request.charge_parts();
        Credit {
            pool: Arc::clone(self),
            bytes: request.payload_bytes,
            has_prepaid_frame: request.is_sync_commit,
        }
    }

    fn check_possible(&self, request: &CreditRequest) -> Result<()> {
        let files = request.charge_parts() + self.limits.kept_parts(request.purpose);
        let lost = self.limits.segment_count * FRAME_OVERHEAD_MAX;
        let capacity = self.limits.capacity_bytes.saturating_sub(lost);
        if request.payload_bytes > self.limits.ring_bytes || files > capacity * PARTS {
            let why = format!("{} bytes of records never fit the log", request.payload_bytes);
            return Err(Error::InvalidArgument(why));
        }
        Ok(())
    }

    /// Grants a credit, or waits for it. While the ring is short, `write` is called, outside the
    /// mutex, to build a frame; it says whether it did. While the files are short, `on_full` is
    /// called, and again whenever anything has changed and does not suffice: whoever makes room cannot
    /// tell what is enough. `give_up` is asked before each call and each wait.
    ///
    /// While the files that exist are short, `grow` is called to make one; it says whether it did, or
    /// somebody else is making one.
    pub(super) fn take(
        self: &Arc<Self>,
        request: &CreditRequest,
        mut write: impl FnMut() -> Result<bool>,
        grow: impl Fn() -> Result<bool>,
        wait: &CreditWait<'_>,
    ) -> Result<Credit> {
        let mut ticket = Ticket { pool: self, number: None };
        let mut changes_when_asked = None;
        let mut is_checked = false;
        loop {
            let mut books = self.books.lock();
            if let Some(end) = &books.end {
                return Err(end.clone());
            }
            let is_next = match (request.purpose, ticket.number) {
                (Purpose::Reserve | Purpose::Rollback, _) => true,
                (Purpose::Normal, number) => {
                    books.queue.front().is_none_or(|&first| number == Some(first))
                }
            };
            let shortage = books.shortage(request, &self.limits);
            if is_next && shortage.is_none() {
                return Ok(self.grant(&mut books, request));
            }
            if !is_checked {
                drop(books);
                self.check_possible(request)?;
                is_checked = true;
                continue;
            }
            if request.purpose == Purpose::Normal && ticket.number.is_none() {
                ticket.number = Some(books.next_ticket);
                books.next_ticket += 1;
                let number = books.next_ticket - 1;
                books.queue.push_back(number);
            }
            match shortage {
                Some(Shortage::Files) if request.purpose == Purpose::Reserve => {
                    return Err(no_space());
                }
                Some(Shortage::Files) if changes_when_asked != Some(books.changes) => {
                    if let Some(error) = (wait.give_up)() {
                        return Err(error);
                    }
                    changes_when_asked = Some(books.changes);
                    drop(books);
                    (wait.on_full)();
                }
                Some(Shortage::Ring) => self.wait_for_ring(books, &mut write)?,
                Some(Shortage::Owned) if is_next => match self.wait_for_file(books, &grow) {
                    Err(Error::NoSpace { .. }) if request.purpose == Purpose::Rollback => {
                        self.wait_for_log(wait.on_full);
                    }
                    grown => grown?,
                },
                _ => match (wait.give_up)() {
                    Some(error) => return Err(error),
                    None => self.changed.wait(&mut books),
                },
            }
        }
    }

    /// Ring room for `payload_bytes` whose file room was set aside.
    pub(super) fn take_from(
        self: &Arc<Self>,
        set_aside: &mut SetAside,
        payload_bytes: u64,
        mut write: impl FnMut() -> Result<bool>,
    ) -> Result<Credit> {
        assert!(payload_bytes <= set_aside.bytes, "more than the bytes set aside");
        assert!(payload_bytes <= self.limits.ring_bytes, "more than the ring holds");
        loop {
            let mut books = self.books.lock();
            if let Some(end) = &books.end {
                return Err(end.clone());
            }
            if books.ring_free >= payload_bytes {
                books.ring_free -= payload_bytes;
                set_aside.bytes -= payload_bytes;
                let pool = Arc::clone(self);
                return Ok(Credit { pool, bytes: payload_bytes, has_prepaid_frame: false });
            }
            self.wait_for_ring(books, &mut write)?;
        }
    }

    /// Lets the caller build a frame; sleeps until the next change when it could not.
    fn wait_for_ring(
        &self,
        books: MutexGuard<'_, Books>,
        write: &mut impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let seen = books.changes;
        drop(books);
        self.ring_waiters.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence between a publisher's step of the frontier and its look at
        // `ring_waiters`: either it sees this waiter, or `write` sees its bytes.
        fence(Ordering::SeqCst);
        let written = write();
        if matches!(written, Ok(false)) {
            let mut books = self.books.lock();
            while books.changes == seen && books.end.is_none() {
                self.changed.wait(&mut books);
            }
        }
        self.ring_waiters.fetch_sub(1, Ordering::Relaxed);
        written.map(drop)
    }

    /// Makes a file, or waits until somebody else has.
    fn wait_for_file(
        &self,
        books: MutexGuard<'_, Books>,
        grow: &impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let seen = books.changes;
        drop(books);
        if !grow()? {
            let mut books = self.books.lock();
            while books.changes == seen && books.end.is_none() {
                self.changed.wait(&mut books);
            }
        }
        Ok(())
    }

    /// Asks for log to be given up, and waits until that, or anything else, has changed the books.
    fn wait_for_log(&self, on_full: &dyn Fn()) {
        let seen = self.books.lock().changes;
        on_full();
        let mut books = self.books.lock();
        while books.changes == seen && books.end.is_none() {
            self.changed.wait(&mut books);
        }
    }

    /// Lets waiters for ring room look again: a frame can be built now. Called after a fence.
    pub(super) fn nudge_ring_waiters(&self) {
        if self.ring_waiters.load(Ordering::Relaxed) > 0 {
            let mut books = self.books.lock();
            self.note_change(&mut books);
        }
    }

    /// Whether the books allow a frame, see the module.
    pub(super) fn allows(&self, cost: &FrameCost, demand: Demand) -> bool {
        let books = self.books.lock();
        let cost_parts = cost.frame_bytes * PARTS;
        let missing = cost_parts.saturating_sub(cost.released_parts());
        let kept = match demand {
            Demand::Waited => 0,
            Demand::Idle => self.limits.kept_parts(Purpose::Normal),
        };
        missing == 0 || books.slack_parts(&self.limits) >= missing + kept
    }

    /// A frame was placed and its payload copied; `room` is what the segments can place now.
    pub(super) fn framed(&self, cost: &FrameCost, room: Room) {
        let mut books = self.books.lock();
        books.ring_free += cost.payload_bytes;
        books.charged_parts -= cost.released_parts();
        books.room = room;
        debug_assert!(books.ring_free <= self.limits.ring_bytes);
        self.note_change(&mut books);
    }

    /// `room` is what the segments can place now.
    pub(super) fn set_room(&self, room: Room) {
        let mut books = self.books.lock();
        if books.room != room {
            books.room = room;
            self.note_change(&mut books);
        }
    }

    /// Nothing is granted any more.
    pub(super) fn end(&self, error: Error) {
        let mut books = self.books.lock();
        books.end.get_or_insert(error);
        self.note_change(&mut books);
    }

    fn give_back(&self, ring_bytes: u64, charged_parts: u64) {
        if ring_bytes > 0 || charged_parts > 0 {
            let mut books = self.books.lock();
            books.ring_free += ring_bytes;
            books.charged_parts -= charged_parts;
            self.note_change(&mut books);
        }
    }
}

impl Credit {
    /// Payload bytes not yet spent.
    #[must_use]
    pub const fn remaining_bytes(&self) -> u64 {
        self.bytes
    }

    /// Spends `padded_length`; says whether a frame was prepaid, the first time.
    ///
    /// # Panics
    /// When the credit is too small, or the length is not that of a record.
    pub(super) fn spend(&mut self, padded_length: usize) -> bool {
        assert!(
            padded_length >= RECORD_HEADER_BYTES && padded_length.is_multiple_of(RECORD_ALIGN),
            "{padded_length} is not the padded length of a record"
        );
        let bytes = to_u64(padded_length);
        assert!(bytes <= self.bytes, "a record of {bytes} bytes on a credit of {}", self.bytes);
        self.bytes -= bytes;
        std::mem::take(&mut self.has_prepaid_frame)
    }

    /// Keeps the file room of up to `bytes` of this credit for later and gives their ring room back.
    pub fn set_aside(&mut self, bytes: u64) -> SetAside {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.pool.give_back(bytes, 0);
        SetAside { pool: Arc::clone(&self.pool), bytes }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        let frame = if self.has_prepaid_frame { FRAME_OVERHEAD_MAX * PARTS } else { 0 };
        self.pool.give_back(self.bytes, self.bytes * CHARGE_PARTS + frame);
    }
}

impl SetAside {
    /// Payload bytes set aside.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds what another one keeps.
    pub fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives `bytes` back, or all there is.
    pub fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.pool.give_back(0, bytes * CHARGE_PARTS);
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        self.pool.give_back(0, self.bytes * CHARGE_PARTS);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::log::frame::frame_bytes;

    const RESERVE: u64 = 64 << 10;

    fn pool(file_bytes: u64) -> Arc<CreditPool> {
        let limits = CreditLimits {
            ring_bytes: 1 << 20,
            reserve_bytes: RESERVE,
            segment_count: 0,
            capacity_bytes: file_bytes,
        };
        CreditPool::new(limits, Room::whole(file_bytes))
    }

    /// Takes a credit where it is to be had at once.
    fn try_take(pool: &Arc<CreditPool>, request: &CreditRequest) -> Option<Credit> {
        let mut books = pool.books.lock();
        let shortage = books.shortage(request, &pool.limits);
        shortage.is_none().then(|| pool.grant(&mut books, request))
    }

    /// A place for frames that must never run out.
    struct File {
        left: u64,
    }

    impl File {
        /// Builds a frame of these records: length, and whether it has prepaid a frame.
        fn frame(&mut self, pool: &CreditPool, records: &[(u64, bool)], demand: Demand) -> bool {
            let payload_bytes = records.iter().map(|(length, _)| length).sum();
            let cost = FrameCost {
                payload_bytes,
                prepaid_count: to_u64(records.iter().filter(|(_, is_prepaid)| *is_prepaid).count()),
                frame_bytes: to_u64(frame_bytes(crate::codec::to_usize(payload_bytes))),
            };
            if !pool.allows(&cost, demand) {
                return false;
            }
            self.left = self.left.checked_sub(cost.frame_bytes).expect("the file is full");
            pool.framed(&cost, Room::whole(self.left));
            true
        }
    }

    fn slack(pool: &CreditPool) -> u64 {
        pool.books.lock().slack_parts(&pool.limits)
    }

    #[test]
    fn every_synchronous_commit_granted_fits_in_a_frame_of_its_own() {
        let mut file = File { left: 1 << 20 };
        let pool = pool(file.left);
        let request =
            CreditRequest { payload_bytes: 40, is_sync_commit: true, ..Default::default() };
        let mut records = Vec::new();
        while let Some(mut credit) = try_take(&pool, &request) {
            records.push((40, credit.spend(40)));
        }
        assert!(records.len() > 100);
        let before = slack(&pool);
        for record in &records {
            assert!(file.frame(&pool, &[*record], Demand::Waited));
        }
        assert!(slack(&pool) >= before);
    }

    #[test]
    fn a_shared_frame_refunds_all_prepayments_but_one() {
        let mut file = File { left: 1 << 20 };
        let pool = pool(file.left);
        let request =
            CreditRequest { payload_bytes: 40, is_sync_commit: true, ..Default::default() };
        let empty = slack(&pool);
        let records: Vec<_> =
            (0..50).map(|_| (40, try_take(&pool, &request).unwrap().spend(40))).collect();
        assert!(file.frame(&pool, &records, Demand::Waited));
        assert_eq!(empty - slack(&pool), to_u64(frame_bytes(50 * 40)) * PARTS);
    }

    #[test]
    fn what_is_not_spent_returns() {
        let pool = pool(1 << 20);
        let empty = slack(&pool);
        let request =
            CreditRequest { payload_bytes: 4096, is_sync_commit: true, ..Default::default() };
        let mut credit = try_take(&pool, &request).unwrap();
        let set_aside = credit.set_aside(1024);
        assert!(slack(&pool) < empty);
        drop(credit);
        drop(set_aside);
        assert_eq!(slack(&pool), empty);
        assert_eq!(pool.books.lock().ring_free, 1 << 20);
    }

    #[test]
    fn released_room_returns_and_the_rest_stays_set_aside() {
        let pool = pool(1 << 20);
        let empty = slack(&pool);
        let request = CreditRequest { payload_bytes: 4096, ..Default::default() };
        let mut set_aside = try_take(&pool, &request).unwrap().set_aside(1024);
        set_aside.release(1000);
        assert_eq!((set_aside.bytes(), empty - slack(&pool)), (24, 24 * CHARGE_PARTS));
        set_aside.release(1000);
        assert_eq!((set_aside.bytes(), slack(&pool)), (0, empty));
    }

    #[test]
    fn a_rollback_passes_normal_waiters_and_waits_for_log_where_the_disk_has_no_room_for_a_file() {
        let pool = pool(1 << 20);
        pool.set_room(Room { available: 1 << 20, owned: RESERVE });
        let request =
            CreditRequest { payload_bytes: 40, purpose: Purpose::Rollback, is_sync_commit: false };
        pool.books.lock().queue.push_back(u64::MAX);
        let asked = std::cell::Cell::new(0);
        let on_full = || {
            asked.set(asked.get() + 1);
            pool.set_room(Room::whole(1 << 20));
        };
        let wait = CreditWait { on_full: &on_full, give_up: &|| None };
        let full = || io::Error::new(io::ErrorKind::StorageFull, "no room");
        let grow = || Err(Error::io(Path::new("wal"), full()));
        let credit = pool.take(&request, || Ok(false), grow, &wait).unwrap();
        assert_eq!((credit.remaining_bytes(), asked.get()), (40, 1));
    }

    #[test]
    fn short_frames_that_nobody_waits_for_leave_both_reserves() {
        let mut file = File { left: 1 << 20 };
        let pool = pool(file.left);
        let request = CreditRequest { payload_bytes: 40, ..Default::default() };
        let mut count = 0;
        while let Some(mut credit) = try_take(&pool, &request) {
            let record = (40, credit.spend(40));
            if !file.frame(&pool, &[record], Demand::Idle) {
                assert!(file.frame(&pool, &[record], Demand::Waited));
                break;
            }
            count += 1;
        }
        assert!(count > 100);
        assert!(file.left >= RESERVE + (FRAME_RESERVE - 1) * FRAME_OVERHEAD_MAX);
    }

    #[test]
    fn whatever_is_granted_and_framed_the_file_never_runs_out() {
        for seed in 1..200_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let mut file = File { left: 600 << 10 };
            let pool = pool(file.left);
            let mut waiting: Vec<(u64, bool)> = Vec::new();
            let mut kept = Vec::new();
            for _ in 0..2000 {
                let purpose = if random(10) == 0 { Purpose::Reserve } else { Purpose::Normal };
                let is_sync_commit = random(2) == 0;
                let words = if random(20) == 0 { 20_000 } else { 200 };
                let payload_bytes = 40 + random(words) * 8;
                let request = CreditRequest { payload_bytes, is_sync_commit, purpose };
                if let Some(mut credit) = try_take(&pool, &request) {
                    let length = 40 + random((payload_bytes - 40) / 8 + 1) * 8;
                    let is_prepaid = credit.spend(crate::codec::to_usize(length));
                    waiting.push((length, is_prepaid));
                    if random(5) == 0 {
                        kept.push(credit);
                    }
                }
                if random(3) == 0 && !waiting.is_empty() {
                    let count = crate::codec::to_usize(random(to_u64(waiting.len())) + 1);
                    let demand = if random(2) == 0 { Demand::Idle } else { Demand::Waited };
                    if file.frame(&pool, &waiting[..count], demand) {
                        waiting.drain(..count);
                    }
                }
                if random(50) == 0 {
                    kept.clear();
                }
            }
            // All that is left fits in one go, whatever was done before.
            assert!(
                waiting.is_empty()
                    || slack(&pool) < FRAME_OVERHEAD_MAX * PARTS
                    || file.frame(&pool, &waiting, Demand::Waited),
                "seed {seed}"
            );
        }
    }
}
