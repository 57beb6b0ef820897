//! Credit: the promise, taken before any latch, that a record will find room in the ring and its
//! frame room in the files. After it, an append never waits.
//!
//! What may be promised is the business of [`books`](super::books); this module waits for it, and
//! hands it out and takes it back.
//!
//! * Who finds the ring full builds a frame himself, or waits until somebody has.
//! * Who finds the files full asks for a checkpoint, and waits for log to be given up. A credit of
//!   [`Purpose::Reserve`] does not wait: those who would make room ask for it. Neither does one of
//!   [`Purpose::Garbage`]: what it is for can be done later. One of [`Purpose::Rollback`] goes ahead
//!   of all normal waiters: what it undoes does not need the log any more, so a checkpoint always
//!   helps.
//! * Who finds the files full that exist makes one, and gets [`Error::NoSpace`] when the file system
//!   has no room for it: so a full disk is met before anything was appended, and what was appended, its
//!   rollback included, has its place (invariants W2, T2). A rollback waits for log to be given up
//!   instead: that keeps the files that it had when the writes were granted. Making a file here is the
//!   last resort: the flusher is woken when one is due, long before.
//!
//! Poison and the end of the log wake all waiters with an error. Waiters of normal purpose are
//! served in the order of their arrival.
//!
//! Nobody who finds the files full is forgotten. Who is asked for room goes on until there is more
//! than there was when he began, so the slack rises once more after each time that he is asked. Rises
//! are counted, and wake everybody. A waiter asks once; if he has what he needs at a rise, he takes
//! it, and if not, because it was too little or others were quicker, he asks again, once for each
//! rise. Those who are not next in the queue leave that to the one who is: they are woken when they
//! become it.
//!
//! Lock order: the pool's mutex, then that of the flusher's bell.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::to_u64;
use crate::record::{RECORD_ALIGN, RECORD_HEADER_BYTES};
use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::{Error, Result};

use super::books::{
    Books, CreditLimits, CreditRequest, Demand, FrameCost, Purpose, Room, Shortage,
};
use super::flusher::Bell;

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
    /// Who is asked must try, however long it takes, until there is more room than when he began, or
    /// have `give_up` say why there will be none.
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

/// The books, and those who wait for something in them to change.
#[derive(Debug)]
pub(super) struct CreditPool {
    state: Mutex<State>,
    changed: Condvar,
    /// Waiters for ring room, for publishers to look at without the mutex.
    ring_waiters: AtomicUsize,
    bell: Arc<Bell>,
    /// Where the log is, for errors.
    dir: PathBuf,
}

#[derive(Debug)]
struct State {
    books: Books,
    /// Tickets of waiters of normal purpose, in the order of their arrival.
    queue: VecDeque<u64>,
    next_ticket: u64,
    /// Counts every change that may help a waiter.
    changes: u64,
    /// Counts those by which the slack has grown.
    rises: u64,
    /// Whether the flusher knows that a file is due.
    is_file_due: bool,
    /// Why nothing is granted any more.
    end: Option<Error>,
}

/// The error for a log in `dir` that is full.
pub(super) fn no_space(dir: &Path) -> Error {
    let why =
        "the log has reached its bound, and nothing of it can be given up; raise max_wal_bytes";
    Error::io(dir, io::Error::new(io::ErrorKind::StorageFull, why))
}

/// A waiter's place, given up when dropped.
struct Ticket<'a> {
    pool: &'a CreditPool,
    number: Option<u64>,
    /// The count of rises when its holder last asked for room.
    asked_at: Option<u64>,
}

impl Ticket<'_> {
    /// Whether nobody is to be granted a credit before. Only those of normal purpose queue.
    fn is_next(&self, state: &State, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Reserve | Purpose::Garbage | Purpose::Rollback => true,
            Purpose::Normal => state.queue.front().is_none_or(|&first| self.number == Some(first)),
        }
    }

    /// Takes the last place in the queue, where there is one for the purpose, and keeps it.
    fn queue_up(&mut self, state: &mut State, purpose: Purpose) {
        if purpose == Purpose::Normal && self.number.is_none() {
            let number = state.next_ticket;
            state.next_ticket += 1;
            state.queue.push_back(number);
            self.number = Some(number);
        }
    }

    /// Whether to ask for room now, which it notes: once, and again when that has made room and it
    /// did not suffice.
    fn asks(&mut self, state: &State, is_next: bool) -> bool {
        let is_owed = self.asked_at == Some(state.rises) || self.asked_at.is_some() && !is_next;
        if !is_owed {
            self.asked_at = Some(state.rises);
        }
        !is_owed
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut state = self.pool.state.lock();
            state.queue.retain(|&waiting| waiting != number);
            self.pool.note_change(&mut state);
        }
    }
}

impl CreditPool {
    /// Nothing granted yet.
    pub(super) fn new(limits: CreditLimits, room: Room, bell: Arc<Bell>, dir: &Path) -> Arc<Self> {
        let books = Books::new(limits, room);
        Arc::new(Self {
            state: Mutex::new(State {
                is_file_due: books.is_file_due(),
                books,
                queue: VecDeque::new(),
                next_ticket: 0,
                changes: 0,
                rises: 0,
                end: None,
            }),
            changed: Condvar::new(),
            ring_waiters: AtomicUsize::new(0),
            bell,
            dir: dir.to_path_buf(),
        })
    }

    /// The error for a log that is full.
    pub(super) fn no_space(&self) -> Error {
        no_space(&self.dir)
    }

    /// Changes the books, and wakes those whom it may help.
    fn change(&self, state: &mut MutexGuard<'_, State>, change: impl FnOnce(&mut Books)) {
        let slack = state.books.slack_bytes();
        change(&mut state.books);
        state.rises += u64::from(state.books.slack_bytes() > slack);
        self.note_change(state);
    }

    fn note_change(&self, state: &mut MutexGuard<'_, State>) {
        state.changes += 1;
        self.changed.notify_all();
        self.note_file_due(state);
    }

    /// Wakes the flusher when a file has become due.
    fn note_file_due(&self, state: &mut State) {
        let was_due = std::mem::replace(&mut state.is_file_due, state.books.is_file_due());
        if state.is_file_due && !was_due {
            self.bell.ring();
        }
    }

    /// Whether the next file should be made now.
    pub(super) fn is_file_due(&self) -> bool {
        self.state.lock().is_file_due
    }

    /// Payload bytes that could be granted, reserves included.
    pub(super) fn slack_bytes(&self) -> u64 {
        self.state.lock().books.slack_bytes()
    }

    /// Has everybody who waits ask whether to give up.
    pub(super) fn recheck(&self) {
        self.note_change(&mut self.state.lock());
    }

    fn grant(self: &Arc<Self>, state: &mut State, request: &CreditRequest) -> Credit {
        state.books.promise(request);
        self.note_file_due(state);
        Credit {
            pool: Arc::clone(self),
            bytes: request.payload_bytes,
            has_prepaid_frame: request.is_sync_commit,
        }
    }

    /// Grants a credit, or waits for it. While the ring is short, `write` is called, outside the
    /// mutex, to build a frame; it says whether it did. While the files are short, `on_full` is
    /// called, and again when there was more room since and it is not there, or not enough; `give_up`
    /// is asked before that, and before each wait.
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
        let mut ticket = Ticket { pool: self, number: None, asked_at: None };
        let mut is_checked = false;
        loop {
            let mut state = self.state.lock();
            if let Some(end) = &state.end {
                return Err(end.clone());
            }
            let is_next = ticket.is_next(&state, request.purpose);
            let shortage = state.books.shortage(request);
            if is_next && shortage.is_none() {
                return Ok(self.grant(&mut state, request));
            }
            if !is_checked {
                state.books.check_possible(request)?;
                is_checked = true;
            }
            ticket.queue_up(&mut state, request.purpose);
            match shortage {
                Some(Shortage::Files)
                    if matches!(request.purpose, Purpose::Reserve | Purpose::Garbage) =>
                {
                    return Err(self.no_space());
                }
                Some(Shortage::Ring) => self.wait_for_ring(state, &mut write)?,
                Some(Shortage::Owned) if is_next => match self.wait_for_file(state, &grow) {
                    Err(Error::NoSpace { .. }) if request.purpose == Purpose::Rollback => {
                        self.wait_for_log(wait)?;
                    }
                    grown => grown?,
                },
                _ => {
                    if let Some(error) = (wait.give_up)() {
                        return Err(error);
                    }
                    if shortage == Some(Shortage::Files) && ticket.asks(&state, is_next) {
                        drop(state);
                        (wait.on_full)();
                    } else {
                        self.changed.wait(&mut state);
                    }
                }
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
        loop {
            let mut state = self.state.lock();
            if let Some(end) = &state.end {
                return Err(end.clone());
            }
            if state.books.promise_ring(payload_bytes) {
                set_aside.bytes -= payload_bytes;
                let pool = Arc::clone(self);
                return Ok(Credit { pool, bytes: payload_bytes, has_prepaid_frame: false });
            }
            self.wait_for_ring(state, &mut write)?;
        }
    }

    /// Lets the caller build a frame; sleeps until the next change when it could not.
    fn wait_for_ring(
        &self,
        state: MutexGuard<'_, State>,
        write: &mut impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let seen = state.changes;
        drop(state);
        self.ring_waiters.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence between a publisher's step of the frontier and its look at
        // `ring_waiters`: either it sees this waiter, or `write` sees its bytes.
        fence(Ordering::SeqCst);
        let written = write();
        if matches!(written, Ok(false)) {
            let mut state = self.state.lock();
            while state.changes == seen && state.end.is_none() {
                self.changed.wait(&mut state);
            }
        }
        self.ring_waiters.fetch_sub(1, Ordering::Relaxed);
        written.map(drop)
    }

    /// Makes a file, or waits until somebody else has.
    fn wait_for_file(
        &self,
        state: MutexGuard<'_, State>,
        grow: &impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let seen = state.changes;
        drop(state);
        if !grow()? {
            let mut state = self.state.lock();
            while state.changes == seen && state.end.is_none() {
                self.changed.wait(&mut state);
            }
        }
        Ok(())
    }

    /// Asks for log to be given up, and waits until that, or anything else, has changed the books.
    fn wait_for_log(&self, wait: &CreditWait<'_>) -> Result<()> {
        let seen = self.state.lock().changes;
        (wait.on_full)();
        let mut state = self.state.lock();
        while state.changes == seen && state.end.is_none() {
            if let Some(error) = (wait.give_up)() {
                return Err(error);
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }

    /// Lets waiters for ring room look again: a frame can be built now. Called after a fence.
    pub(super) fn nudge_ring_waiters(&self) {
        if self.ring_waiters.load(Ordering::Relaxed) > 0 {
            self.note_change(&mut self.state.lock());
        }
    }

    /// Whether the books allow a frame.
    pub(super) fn allows(&self, cost: &FrameCost, demand: Demand) -> bool {
        self.state.lock().books.allows(cost, demand)
    }

    /// A frame was placed and its payload copied; `room` is what the segments can place now.
    pub(super) fn framed(&self, cost: &FrameCost, room: Room) {
        self.change(&mut self.state.lock(), |books| books.framed(cost, room));
    }

    /// Keeps so much beside the permanent reserve.
    pub(super) fn set_more_reserve(&self, bytes: u64) {
        self.change(&mut self.state.lock(), |books| books.set_more_reserve(bytes));
    }

    /// `room` is what the segments can place now.
    pub(super) fn set_room(&self, room: Room) {
        let mut state = self.state.lock();
        if state.books.room() != room {
            self.change(&mut state, |books| books.set_room(room));
        }
    }

    /// Nothing is granted any more.
    pub(super) fn end(&self, error: Error) {
        let mut state = self.state.lock();
        state.end.get_or_insert(error);
        self.note_change(&mut state);
    }

    fn take_back(&self, ring_bytes: u64, payload_bytes: u64, prepaid_count: u64) {
        if ring_bytes > 0 || payload_bytes > 0 || prepaid_count > 0 {
            let take_back =
                |books: &mut Books| books.take_back(ring_bytes, payload_bytes, prepaid_count);
            self.change(&mut self.state.lock(), take_back);
        }
    }
}

impl Credit {
    /// Payload bytes not yet spent.
    #[cfg(test)]
    #[cfg(not(loom))]
    pub(super) const fn remaining_bytes(&self) -> u64 {
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
        self.pool.take_back(bytes, 0, 0);
        SetAside { pool: Arc::clone(&self.pool), bytes }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.pool.take_back(self.bytes, self.bytes, u64::from(self.has_prepaid_frame));
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
        self.pool.take_back(0, bytes, 0);
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        self.pool.take_back(0, self.bytes, 0);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    const FILES: u64 = 1 << 20;
    const RESERVE: u64 = 64 << 10;

    const LIMITS: CreditLimits =
        CreditLimits { ring_bytes: 1 << 20, reserve_bytes: RESERVE, capacity_bytes: FILES };

    fn pool() -> Arc<CreditPool> {
        CreditPool::new(LIMITS, Room::whole(FILES), Bell::new(), Path::new("wal"))
    }

    /// Takes a credit that is to be had at once.
    fn take(pool: &Arc<CreditPool>, request: &CreditRequest) -> Credit {
        let write = || unreachable!("the ring has room");
        let grow = || unreachable!("the files have room");
        let on_full = || unreachable!("the log has room");
        let wait = CreditWait { on_full: &on_full, ..CreditWait::PATIENT };
        pool.take(request, write, grow, &wait).unwrap()
    }

    fn request(payload_bytes: u64, purpose: Purpose) -> CreditRequest {
        CreditRequest { payload_bytes, is_sync_commit: true, purpose }
    }

    fn is_as_new(pool: &CreditPool) -> bool {
        pool.state.lock().books == Books::new(LIMITS, Room::whole(FILES))
    }

    #[test]
    fn what_is_not_spent_returns() {
        let pool = pool();
        let mut credit = take(&pool, &request(4096, Purpose::Normal));
        let set_aside = credit.set_aside(1024);
        assert_eq!((credit.remaining_bytes(), set_aside.bytes()), (3072, 1024));
        drop(credit);
        assert!(!is_as_new(&pool));
        drop(set_aside);
        assert!(is_as_new(&pool));
    }

    #[test]
    fn released_room_returns_and_the_rest_stays_set_aside() {
        let pool = pool();
        let mut set_aside = take(&pool, &request(4096, Purpose::Normal)).set_aside(1024);
        set_aside.release(1000);
        assert_eq!(set_aside.bytes(), 24);
        assert!(!is_as_new(&pool));
        set_aside.release(1000);
        assert_eq!(set_aside.bytes(), 0);
        assert!(is_as_new(&pool));
    }

    #[test]
    fn a_rollback_passes_normal_waiters_and_waits_for_log_where_the_disk_has_no_room_for_a_file() {
        let pool = pool();
        pool.set_room(Room { owned: RESERVE, ..Room::whole(FILES) });
        pool.state.lock().queue.push_back(u64::MAX);
        let asked = Cell::new(0);
        let on_full = || {
            asked.set(asked.get() + 1);
            pool.set_room(Room::whole(FILES));
        };
        let wait = CreditWait { on_full: &on_full, give_up: &|| None };
        let grow = || Err(pool.no_space());
        let credit = pool.take(&request(40, Purpose::Rollback), || Ok(false), grow, &wait).unwrap();
        assert_eq!((credit.remaining_bytes(), asked.get()), (40, 1));
    }

    #[test]
    fn who_finds_the_files_short_makes_one_and_gets_the_error_where_that_fails() {
        let pool = pool();
        pool.set_room(Room { owned: RESERVE, ..Room::whole(FILES) });
        let made = Cell::new(0);
        let grow = || {
            made.set(made.get() + 1);
            pool.set_room(Room::whole(FILES));
            Ok(true)
        };
        let normal = request(40, Purpose::Normal);
        drop(pool.take(&normal, || Ok(false), grow, &CreditWait::PATIENT).unwrap());
        assert_eq!(made.get(), 1);
        pool.set_room(Room { owned: RESERVE, ..Room::whole(FILES) });
        let fail = || Err(pool.no_space());
        let refused = pool.take(&normal, || Ok(false), fail, &CreditWait::PATIENT);
        assert!(matches!(refused, Err(Error::NoSpace { .. })));
        assert!(pool.state.lock().queue.is_empty(), "who was refused waits no longer");
    }

    #[test]
    fn garbage_waits_for_nobody_and_makes_files_while_it_can() {
        let pool = pool();
        let garbage = request(40, Purpose::Garbage);
        let on_full = || unreachable!("it asks nobody for room");
        let wait = CreditWait { on_full: &on_full, ..CreditWait::PATIENT };
        let write = || unreachable!("the ring has room");
        pool.set_room(Room { owned: RESERVE, ..Room::whole(FILES) });
        let fail = || Err(pool.no_space());
        let refused = pool.take(&garbage, write, fail, &wait);
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "the disk is full");
        let grow = || {
            pool.set_room(Room::whole(FILES));
            Ok(true)
        };
        drop(pool.take(&garbage, write, grow, &wait).unwrap());
        pool.set_room(Room { available: RESERVE, ..Room::whole(FILES) });
        let grow = || unreachable!("a file would not help");
        let refused = pool.take(&garbage, write, grow, &wait);
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "the log is full");
    }

    #[test]
    fn who_waits_for_log_asks_again_when_there_is_more_and_gives_up_before_it_asks() {
        let pool = pool();
        let full = take(&pool, &request(600 << 10, Purpose::Normal));
        let held = Cell::new(Some(take(&pool, &request(40, Purpose::Normal))));
        let (asked, is_doomed) = (Cell::new(0), Cell::new(false));
        let on_full = || {
            asked.set(asked.get() + 1);
            match asked.get() {
                // Room for a few bytes more, although nothing was given up.
                1 => drop(held.take()),
                // None.
                2 => is_doomed.set(true),
                _ => unreachable!("asked again for nothing"),
            }
        };
        let give_up = || is_doomed.get().then_some(Error::TransactionTooOld);
        let wait = CreditWait { on_full: &on_full, give_up: &give_up };
        let grow = || unreachable!("all files exist");
        let write = || unreachable!("the ring has room");
        let refused = pool.take(&request(400 << 10, Purpose::Normal), write, grow, &wait);
        assert!(matches!(refused, Err(Error::TransactionTooOld)), "{refused:?}");
        assert_eq!(asked.get(), 2);
        drop(full);
        assert!(is_as_new(&pool));
    }

    #[test]
    fn who_waits_for_log_asks_again_when_others_have_used_up_what_was_made() {
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let pool = pool();
            let full = Cell::new(Some(take(&pool, &request(300 << 10, Purpose::Normal))));
            let held = Cell::new(Some(take(&pool, &request(200 << 10, Purpose::Normal))));
            let asked = Cell::new(0);
            let on_full = || {
                asked.set(asked.get() + 1);
                if asked.get() == 1 {
                    // Room was made, and is gone before the waiter has looked.
                    drop(held.take());
                    held.set(Some(take(&pool, &request(200 << 10, Purpose::Normal))));
                } else {
                    drop(full.take());
                }
            };
            let wait = CreditWait { on_full: &on_full, give_up: &|| None };
            let unreachable = || unreachable!("ring and files have room");
            let credit =
                pool.take(&request(200 << 10, Purpose::Rollback), unreachable, unreachable, &wait);
            done.send((credit.map(drop), asked.get())).unwrap();
        });
        let (granted, asked) = ended.recv_timeout(Duration::from_secs(30)).expect("it is asked");
        assert!(granted.is_ok() && asked == 2, "{granted:?} after {asked}");
    }

    #[test]
    fn the_flusher_is_woken_once_when_a_file_becomes_due() {
        let pool = pool();
        pool.set_room(Room { lead_bytes: FILES / 2, ..Room::whole(FILES) });
        assert!(!pool.is_file_due() && !pool.bell.take_ring());
        let held = take(&pool, &request(FILES / 4, Purpose::Normal));
        assert!(pool.is_file_due() && pool.bell.take_ring());
        drop(take(&pool, &request(40, Purpose::Normal)));
        assert!(!pool.bell.take_ring(), "it knows");
        drop(held);
        assert!(!pool.is_file_due());
        pool.set_room(Room { lead_bytes: u64::MAX, ..Room::whole(FILES) });
        assert!(pool.is_file_due() && pool.bell.take_ring());
    }

    #[test]
    fn a_request_that_never_fits_is_refused_whatever_it_is_for() {
        let pool = pool();
        for purpose in [Purpose::Normal, Purpose::Rollback, Purpose::Garbage, Purpose::Reserve] {
            let write = || unreachable!("nothing would help");
            let grow = || unreachable!("nothing would help");
            for bytes in [1 << 30, 1 << 40] {
                let refused =
                    pool.take(&request(bytes, purpose), write, grow, &CreditWait::PATIENT);
                assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{purpose:?}");
            }
        }
    }
}
