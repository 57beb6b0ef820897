//! Which frame is used for the next page.
//!
//! A clock goes round the frames. A page that was asked for again since it was loaded survives a
//! few visits; one that a scan passed once does not. Only clean and unpinned frames are taken (a
//! page with an entry in the dirty table, in whatever state, is not clean): a foreground thread
//! never writes somebody's page to get a frame. Where no frame is clean, the [`FrameProvider`] is
//! asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use seawall_wal::sync::atomic::{AtomicUsize, Ordering};
use seawall_wal::sync::{Condvar, Mutex};
use seawall_wal::{Error, Result};

use super::Pool;
use super::arena::FrameIndex;
use super::frame::FrameState;

/// Where clean frames come from when there are none: wakes the page cleaner and waits for it, or
/// runs a step of it.
pub trait FrameProvider: std::fmt::Debug + Send + Sync {
    /// Tries to make frames clean. Called without latches and short mutexes. `Ok` does not promise
    /// that one is clean now.
    ///
    /// # Errors
    /// Those of the cleaner; the one who needs the frame gets them.
    fn provide(&self) -> Result<()>;
}

/// Rounds without a frame after which all of them are taken to be pinned for good.
const FRUITLESS_ROUNDS_MAX: u32 = 5000;
/// Wait between such rounds.
const FRUITLESS_PAUSE: Duration = Duration::from_millis(1);

/// Free frames, and the clock over the others.
#[derive(Debug)]
pub(super) struct Clock {
    free: Mutex<Vec<FrameIndex>>,
    freed: Condvar,
    hand: AtomicUsize,
}

impl Clock {
    /// All of `frames` are free.
    pub(super) fn new(frames: FrameIndex) -> Self {
        Self {
            free: Mutex::new((0..frames).rev().collect()),
            freed: Condvar::new(),
            hand: AtomicUsize::new(0),
        }
    }

    fn give_back(&self, frame: FrameIndex) {
        self.free.lock().push(frame);
        self.freed.notify_one();
    }

    /// Waits for a frame given back, or for a while.
    fn pause(&self) {
        let mut free = self.free.lock();
        if free.is_empty() {
            // Woken or not, the caller looks again.
            self.freed.wait_for(&mut free, FRUITLESS_PAUSE);
        }
    }
}

/// A frame that belongs to this thread until it is published; dropped, it is free again.
#[derive(Debug)]
#[must_use]
pub(super) struct ClaimedFrame<'p> {
    pool: &'p Pool,
    frame: FrameIndex,
}

impl ClaimedFrame<'_> {
    pub(super) const fn frame(&self) -> FrameIndex {
        self.frame
    }

    /// The frame is in the page table now, and no longer this thread's.
    pub(super) fn published(self) {
        std::mem::forget(self);
    }
}

impl Drop for ClaimedFrame<'_> {
    fn drop(&mut self) {
        self.pool.arena.exclusive(self.frame).set_page(None);
        self.pool.clock.give_back(self.frame);
    }
}

impl Pool {
    /// A frame that holds no page, waiting for the provider where none is free or clean.
    pub(super) fn claim_frame(&self) -> Result<ClaimedFrame<'_>> {
        for round in 0..FRUITLESS_ROUNDS_MAX {
            let free = self.clock.free.lock().pop();
            if let Some(frame) = free.or_else(|| self.sweep()) {
                return Ok(ClaimedFrame { pool: self, frame });
            }
            if let Some(provider) = self.provider.get() {
                provider.provide()?;
            }
            if round > 0 {
                self.clock.pause();
            }
        }
        let why = format!(
            "all {} pages of the cache are in use at once; raise cache_bytes",
            self.arena.frames()
        );
        let source = Arc::new(io::Error::new(io::ErrorKind::StorageFull, why));
        Err(Error::NoSpace { path: self.page_file.path().to_path_buf(), source })
    }

    /// Moves the hand until a page has gone, at most as far as every page must have had its chance.
    fn sweep(&self) -> Option<FrameIndex> {
        let frames = self.arena.frames();
        (0..frames * FrameState::visits_max()).find_map(|_| {
            let index = self.clock.hand.fetch_add(1, Ordering::Relaxed) % frames;
            let frame = FrameIndex::try_from(index).expect("frames are numbered by FrameIndex");
            let state = self.state(frame);
            if state.is_held() || !state.cool() {
                return None;
            }
            self.evict(frame).then_some(frame)
        })
    }

    /// Takes the page out of a frame, and claims the frame, if it is unpinned and clean.
    fn evict(&self, frame: FrameIndex) -> bool {
        let Some(page) = self.arena.page(frame) else { return false };
        let state = self.state(frame);
        self.table.evict(page, frame, || {
            if !state.try_claim() {
                return false;
            }
            // A page becomes dirty only under a pin, and nobody can pin it now.
            if self.dirty.contains(page) {
                state.unclaim();
                return false;
            }
            // Before the page can be loaded elsewhere and changed there: an optimistic reader that
            // comes by a hint must not take these bytes for the page any more.
            let mut bytes = self.arena.try_exclusive(frame).expect("a latch is held under a pin");
            bytes.set_page(None);
            true
        })
    }
}
