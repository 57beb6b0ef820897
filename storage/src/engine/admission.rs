//! Admission: what a writer waits for before it may log (pacing, memory for versions, dirty pages, log
//! credit), and what is told of the wait.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use seawall_wal::log::{Credit, CreditRequest, CreditWait, Purpose};
use seawall_wal::record::Extent;
use seawall_wal::sync::atomic::{AtomicU64, Ordering};
use seawall_wal::sync::{Instant, thread};
use seawall_wal::{Error, Result};

use super::Engine;
use crate::checkpoint::tables::listed_bytes;
use crate::pool::FrameProvider;
use crate::txn::{CommitCell, TxnSlot};
use crate::writeback::cleaner::{CleanerTarget, StepProvider};
use crate::{Event, StallReason};

type Pause = Box<dyn Fn() -> Duration + Send + Sync>;
type Act = Box<dyn Fn() -> Result<()> + Send + Sync>;
type Tell = Box<dyn Fn(&Event) + Send + Sync>;

/// What is told, and who is asked, when something has to wait.
#[derive(Default)]
pub(crate) struct Hooks {
    installed: OnceLock<Installed>,
    stalls: AtomicU64,
    stall_nanos: AtomicU64,
}

/// The hooks themselves.
struct Installed {
    pause: Pause,
    on_wal_full: Act,
    on_event: Tell,
}

/// A stall that lasts until this is dropped; its end is told and counted then.
#[must_use]
pub(crate) struct Stall<'h> {
    hooks: &'h Hooks,
    reason: StallReason,
    began: Instant,
}

impl Stall<'_> {
    /// How long it has lasted.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        let waited = self.began.elapsed();
        self.hooks.count_stall(waited);
        self.hooks.emit(&Event::StallEnd { reason: self.reason, waited });
    }
}

impl Hooks {
    /// Sets the three hooks, once: how long writers are held back for the recovery target; who makes
    /// log room, and says why when there is none; who is told of stalls. Before that nothing is held
    /// back, asked or told.
    pub(crate) fn set(
        &self,
        pause: impl Fn() -> Duration + Send + Sync + 'static,
        on_wal_full: impl Fn() -> Result<()> + Send + Sync + 'static,
        on_event: impl Fn(&Event) + Send + Sync + 'static,
    ) {
        let (pause, on_wal_full) = (Box::new(pause), Box::new(on_wal_full));
        let hooks = Installed { pause, on_wal_full, on_event: Box::new(on_event) };
        assert!(self.installed.set(hooks).is_ok(), "hooks are set once");
    }

    /// Holds a writer back so that the page cleaner keeps up.
    fn hold_back(&self) {
        let pause = self.installed.get().map_or(Duration::ZERO, |hooks| (hooks.pause)());
        if !pause.is_zero() {
            thread::park_timeout(pause);
        }
    }

    /// Tells that somebody has to wait now.
    pub(super) fn begin_stall(&self, reason: StallReason) -> Stall<'_> {
        self.emit(&Event::StallBegin { reason });
        Stall { hooks: self, reason, began: Instant::now() }
    }

    /// Counts a stall that somebody else tells of.
    pub(crate) fn count_stall(&self, waited: Duration) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.stall_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Stalls since the database was opened, and how long they took together.
    pub(crate) fn stalls(&self) -> (u64, Duration) {
        let nanos = self.stall_nanos.load(Ordering::Relaxed);
        (self.stalls.load(Ordering::Relaxed), Duration::from_nanos(nanos))
    }

    pub(super) fn emit(&self, event: &Event) {
        if let Some(hooks) = self.installed.get() {
            (hooks.on_event)(event);
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("is_set", &self.installed.get().is_some()).finish()
    }
}

/// The provider of frames that tells of it when somebody needs one and none is clean.
#[derive(Debug)]
pub(crate) struct TellingProvider {
    provider: StepProvider,
    hooks: Arc<Hooks>,
}

impl TellingProvider {
    pub(crate) const fn new(provider: StepProvider, hooks: Arc<Hooks>) -> Self {
        Self { provider, hooks }
    }
}

impl FrameProvider for TellingProvider {
    fn provide(&self) -> Result<()> {
        let _stall = self.hooks.begin_stall(StallReason::NoCleanFrame);
        self.provider.provide()
    }
}

/// The log that is kept for what checkpoints list grows in steps of so many bytes.
const LISTED_STEP_BYTES: u64 = 16 << 10;

impl Engine {
    /// Notes extents that the commit of `writer` will free, and keeps log for the checkpoints that will
    /// list them.
    pub(super) fn enter_frees(&self, extents: &[Extent], writer: &Arc<CommitCell>) {
        if extents.is_empty() {
            return;
        }
        self.space.pending().enter(extents, writer);
        let mut reserved = self.listed_reserve_bytes.lock();
        let listed_bytes = listed_bytes(0, self.space.pending().len(), self.trees.len());
        if 2 * listed_bytes >= *reserved + LISTED_STEP_BYTES {
            self.reserve_for(&mut reserved, listed_bytes);
        }
    }

    /// Keeps log for the checkpoints behind one that lists so many transactions, extents and trees, and for
    /// what commits have freed since it listed them.
    pub(crate) fn reserve_listed(&self, active: usize, frees: usize, trees: usize) {
        let mut reserved = self.listed_reserve_bytes.lock();
        let frees = frees.max(self.space.pending().len());
        self.reserve_for(&mut reserved, listed_bytes(active, frees, trees));
    }

    /// Keeps log, beside the permanent reserve, for two checkpoints that each list so much beside dirty
    /// pages: behind the second one a full log is given up.
    fn reserve_for(&self, reserved: &mut u64, listed_bytes: u64) {
        let steps = 2 * listed_bytes / LISTED_STEP_BYTES;
        let bytes = if steps == 0 { 0 } else { (steps + 1) * LISTED_STEP_BYTES };
        if std::mem::replace(reserved, bytes) != bytes {
            self.log.set_more_reserve(bytes);
        }
    }

    /// Keeps the dirty pages so few that a checkpoint that lists them fits the permanent reserve:
    /// cleans some where there are more. Called before any latch.
    fn bound_dirty(&self) -> Result<()> {
        if self.dirty.len() < self.dirty_max {
            return Ok(());
        }
        let _stall = self.hooks.begin_stall(StallReason::NoCleanFrame);
        let target = CleanerTarget::CleanFrames(self.pool.frames() - self.dirty_max + 1);
        self.cleaner.reach(target)
    }

    /// Log credit for work that belongs to no transaction. It gives up when the database is closed: the
    /// thread that makes room ends then.
    pub(crate) fn credit(&self, request: &CreditRequest) -> Result<Credit> {
        self.credit_for(request, None)
    }

    /// Log credit for a transaction, which gives up when it is doomed: the log it holds back may be
    /// what it waits for.
    pub(crate) fn credit_for(
        &self,
        request: &CreditRequest,
        slot: Option<&TxnSlot>,
    ) -> Result<Credit> {
        match request.purpose {
            Purpose::Normal => {
                self.hooks.hold_back();
                self.bound_versions();
                self.bound_dirty()?;
            }
            Purpose::Garbage => self.bound_dirty()?,
            Purpose::Reserve | Purpose::Rollback => {}
        }
        let stall = OnceCell::new();
        let no_room = Cell::new(None);
        let on_full = || {
            stall.get_or_init(|| self.hooks.begin_stall(StallReason::WalBound));
            if let Some(hooks) = self.hooks.installed.get() {
                no_room.set((hooks.on_wal_full)().err());
            }
        };
        let give_up = || match slot {
            Some(slot) if self.txns.is_doomed(slot) => Some(Error::TransactionTooOld),
            // What is undone is undone to the end.
            None if request.purpose != Purpose::Rollback && self.check_open().is_err() => {
                Some(Error::Closed)
            }
            _ => no_room.take(),
        };
        let wait = CreditWait { on_full: &on_full, give_up: &give_up };
        self.log.credit(request, &wait)
    }
}
