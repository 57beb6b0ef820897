//! The watermarks of the log, and everybody who waits for one.
//!
//! `durable <= written <= contiguous <= reserved` and `visible <= contiguous`; each only rises.
//!
//! * `reserved`: the next LSN to be given out, the one atomic of every reservation (W4).
//! * `contiguous`: everything below is published. Whoever publishes follows the links as far as they
//!   go, also those of others: the thread whose fence comes last in the order of fences sees all
//!   links, so no published record is left behind.
//! * `written`: everything below was handed to the system, synced or not.
//! * `durable`: everything below is on stable storage.
//! * `visible = min(contiguous, smallest pending bound)`, kept as a number of its own so that a
//!   reader loads one word and never sees it fall. It is computed from `contiguous` first and the
//!   pending set second: a synchronous commit below the first is in the second, or durable (T1).
//!
//! Poison freezes `visible` and wakes all waiters.

use std::sync::Arc;

use crate::codec::to_u64;
use crate::planted::{Bug, is_planted};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::{Error, Lsn, Result};

use super::pending::{Entry, PendingSet};
use super::ring::Ring;
use super::waiters::{Goal, Parker, Waiters, Wake};

/// An atomic in a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Watermark(AtomicU64);

impl Watermark {
    fn new(lsn: Lsn) -> Self {
        Self(AtomicU64::new(lsn.get()))
    }

    fn get(&self) -> Lsn {
        // Acquire: whoever sees a watermark sees what it covers.
        Lsn::new(self.0.load(Ordering::Acquire))
    }
}

/// The five watermarks, the commits that are pending, and those who wait; see the module.
#[derive(Debug)]
pub(super) struct Frontier {
    reserved: Watermark,
    contiguous: Watermark,
    written: Watermark,
    durable: Watermark,
    visible: Watermark,
    pending: PendingSet,
    waiters: Waiters,
    is_poisoned: AtomicBool,
    poison: Mutex<Option<Arc<Error>>>,
}

impl Frontier {
    /// All watermarks at `start`.
    pub(super) fn new(start: Lsn) -> Self {
        Self {
            reserved: Watermark::new(start),
            contiguous: Watermark::new(start),
            written: Watermark::new(start),
            durable: Watermark::new(start),
            visible: Watermark::new(start),
            pending: PendingSet::new(),
            waiters: Waiters::new(),
            is_poisoned: AtomicBool::new(false),
            poison: Mutex::new(None),
        }
    }

    pub(super) fn reserved(&self) -> Lsn {
        self.reserved.get()
    }

    pub(super) fn contiguous(&self) -> Lsn {
        self.contiguous.get()
    }

    pub(super) fn written(&self) -> Lsn {
        self.written.get()
    }

    pub(super) fn durable(&self) -> Lsn {
        self.durable.get()
    }

    pub(super) fn visible(&self) -> Lsn {
        self.visible.get()
    }

    pub(super) const fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Gives out the next `bytes` of the log and returns where they start.
    pub(super) fn reserve(&self, bytes: usize) -> Lsn {
        // AcqRel: a later pending bound that is below this reservation is no surprise to it.
        Lsn::new(self.reserved.0.fetch_add(to_u64(bytes), Ordering::AcqRel))
    }

    /// Publishes the record at `lsn`, whose words are written, and moves `contiguous` as far as the
    /// links go. True when it moved.
    pub(super) fn publish(&self, ring: &Ring, lsn: Lsn, length: usize, is_prepaid: bool) -> bool {
        ring.publish(lsn, length, is_prepaid);
        // Of two publishers, at least the one whose fence comes second sees both links.
        fence(Ordering::SeqCst);
        self.advance(ring)
    }

    fn advance(&self, ring: &Ring) -> bool {
        let mut has_moved = false;
        let mut at = self.contiguous();
        loop {
            let Some(link) = ring.link(at) else {
                // The link may be missing because the writer has passed it long ago.
                let now = self.contiguous();
                if now == at {
                    break;
                }
                at = now;
                continue;
            };
            let next = at.advance(to_u64(link.padded_length));
            // A link read at a position that others have left may belong to a later lap of the
            // ring; then the exchange fails, since no position comes twice.
            match self.contiguous.0.compare_exchange(
                at.get(),
                next.get(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    has_moved = true;
                    at = next;
                }
                Err(now) => at = Lsn::new(now),
            }
        }
        if has_moved {
            // Pairs with the fences of `refresh` and `Waiters::register`: either they see the new
            // contiguous, or the two calls below see what they have stored.
            fence(Ordering::SeqCst);
            self.raise_visible();
            self.waiters.published(at);
        }
        has_moved
    }

    /// Computes `visible` anew; the order of the two loads matters, see the module.
    fn raise_visible(&self) -> Lsn {
        let contiguous = self.contiguous();
        let visible = if is_planted(Bug::VisibleBeforeDurable) {
            contiguous
        } else {
            contiguous.min(self.pending.smallest())
        };
        if self.is_poisoned() {
            return self.visible();
        }
        let before = self.visible.0.fetch_max(visible.get(), Ordering::AcqRel);
        visible.max(Lsn::new(before))
    }

    /// Everything below was written. Called in ascending order, under the writer's mutex;
    /// [`Frontier::refresh`] follows.
    pub(super) fn set_written(&self, written: Lsn) {
        debug_assert!(self.written() <= written && written <= self.contiguous());
        self.written.0.store(written.get(), Ordering::Release);
    }

    /// Everything below has reached stable storage. Called in ascending order, under the writer's
    /// mutex; [`Frontier::refresh`] follows.
    pub(super) fn set_durable(&self, durable: Lsn) {
        debug_assert!(self.durable() <= durable && durable <= self.written());
        self.durable.0.store(durable.get(), Ordering::Release);
    }

    /// Looks at the pending set anew, raises `visible`, then wakes whom the watermarks cover.
    pub(super) fn refresh(&self) {
        self.pending.settle(self.durable());
        fence(Ordering::SeqCst);
        let visible = self.raise_visible();
        self.waiters.settled(self.written(), self.durable(), visible);
    }

    /// Whether the pending-sync set has any commit; momentary.
    pub(super) fn has_pending(&self) -> bool {
        self.pending.smallest() != Lsn::MAX
    }

    /// Enters the pending-sync set.
    pub(super) fn enter_pending(&self) -> Arc<Entry> {
        self.pending.enter(&self.reserved.0)
    }

    /// Takes out a commit that never got a place.
    pub(super) fn abandon_pending(&self, entry: &Arc<Entry>) {
        self.pending.abandon(entry);
        self.refresh();
    }

    /// Whether a commit that is not durable hides what is below `lsn`.
    pub(super) fn is_hidden(&self, lsn: Lsn) -> bool {
        self.pending.settle(self.durable());
        fence(Ordering::SeqCst);
        self.raise_visible() < lsn.min(self.contiguous())
    }

    /// The watermark that `goal` waits for.
    pub(super) fn watermark(&self, goal: Goal) -> Lsn {
        match goal {
            Goal::Published => self.contiguous(),
            Goal::Visible => self.raise_visible(),
            Goal::Written => self.written(),
            Goal::Durable => self.durable(),
        }
    }

    fn is_reached(&self, goal: Goal, lsn: Lsn) -> bool {
        self.watermark(goal) >= lsn || self.is_poisoned()
    }

    /// Registers a waiter; false when there is nothing to wait for (reached, or poisoned).
    pub(super) fn register(&self, goal: Goal, lsn: Lsn, wake: &Wake) -> bool {
        self.waiters.register(goal, lsn, wake, || self.is_reached(goal, lsn))
    }

    /// Waits until a watermark covers `lsn`, without doing anything for it.
    pub(super) fn wait(&self, goal: Goal, lsn: Lsn) -> Result<()> {
        let mut sleeper = None;
        while !self.is_reached(goal, lsn) {
            let parker = sleeper.get_or_insert_with(Parker::new);
            if self.register(goal, lsn, &Wake::Thread(Arc::clone(parker))) {
                parker.park()?;
            }
        }
        if self.watermark(goal) >= lsn { Ok(()) } else { self.check() }
    }

    /// Whether an earlier failure forbids further writes.
    pub(super) fn is_poisoned(&self) -> bool {
        self.is_poisoned.load(Ordering::Acquire)
    }

    /// The error for calls after the failure.
    pub(super) fn poisoned(&self) -> Option<Error> {
        self.is_poisoned()
            .then(|| Error::Poisoned { source: self.poison.lock().as_ref().map(Arc::clone) })
    }

    /// Fails when poisoned.
    pub(super) fn check(&self) -> Result<()> {
        self.poisoned().map_or(Ok(()), Err)
    }

    /// Notes the failure, unless there was one before, and wakes everybody.
    pub(super) fn poison(&self, error: Error) {
        let mut poison = self.poison.lock();
        if poison.is_none() {
            *poison = Some(match error {
                Error::Poisoned { source: Some(source) } => source,
                other => Arc::new(other),
            });
        }
        self.is_poisoned.store(true, Ordering::Release);
        drop(poison);
        self.waiters.wake_all();
    }
}
