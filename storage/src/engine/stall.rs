//! Log credit, and what is told of those who have to wait for it.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use seawall_wal::log::{Credit, CreditRequest, CreditWait, Purpose};
use seawall_wal::sync::atomic::Ordering;
use seawall_wal::{Error, Result};

use super::Engine;
use crate::txn::TxnSlot;
use crate::{Event, StallReason};

type Pause = Box<dyn Fn() -> Duration + Send + Sync>;
type Act = Box<dyn Fn() + Send + Sync>;
type Tell = Box<dyn Fn(&Event) + Send + Sync>;

/// What is told, and who is asked, when something has to wait.
#[derive(Default)]
pub(crate) struct Hooks {
    pause: OnceLock<Pause>,
    on_wal_full: OnceLock<Act>,
    on_event: OnceLock<Tell>,
}

impl Hooks {
    /// Says how long writers are held back for the recovery target, whom to ask for log space, and
    /// whom to tell of stalls. Once; before, nobody is.
    pub(crate) fn set(
        &self,
        pause: impl Fn() -> Duration + Send + Sync + 'static,
        on_wal_full: impl Fn() + Send + Sync + 'static,
        on_event: impl Fn(&Event) + Send + Sync + 'static,
    ) {
        let is_first = self.pause.set(Box::new(pause)).is_ok()
            & self.on_wal_full.set(Box::new(on_wal_full)).is_ok()
            & self.on_event.set(Box::new(on_event)).is_ok();
        assert!(is_first, "hooks are set once");
    }

    /// Holds a writer back so that the page cleaner keeps up.
    fn hold_back(&self) {
        let pause = self.pause.get().map_or(Duration::ZERO, |pause| pause());
        if !pause.is_zero() {
            thread::park_timeout(pause);
        }
    }

    fn emit(&self, event: &Event) {
        if let Some(on_event) = self.on_event.get() {
            on_event(event);
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("is_set", &self.on_event.get().is_some()).finish()
    }
}

/// How long writers wait for a reader of old versions, before it has to begin again.
const VERSIONS_WAIT: Duration = Duration::from_secs(1);
/// Between two looks whether readers have gone.
const VERSIONS_POLL: Duration = Duration::from_millis(1);
/// Entries of each shard that one look goes through.
const VERSIONS_PER_LOOK: usize = 256;
/// When nothing helped, one part in this many of the bound may be added before the next try.
const VERSIONS_STEP: u64 = 16;

impl Engine {
    /// Memory that the versions of one transaction may take: less where versions are many.
    pub(super) fn versions_budget_bytes(&self) -> u64 {
        let is_scarce = self.versions.bytes() > self.versions_bytes_max / 2;
        if is_scarce { self.bulk_budget_bytes / VERSIONS_STEP } else { self.bulk_budget_bytes }
    }

    /// Keeps versions within their share of the memory: collects them, waits for the reader who holds
    /// them, and revokes its snapshot in the end. What transactions that are open hold is bounded by
    /// their budgets.
    fn bound_versions(&self) {
        let limit = self.versions_bytes_max.max(self.versions_step_at.load(Ordering::Relaxed));
        if self.versions.bytes() <= limit {
            return;
        }
        let mut stalled_at = None;
        loop {
            let horizon = self.refresh_horizon();
            let dropped = self.versions.collect(horizon, VERSIONS_PER_LOOK);
            if self.versions.bytes() <= self.versions_bytes_max {
                self.versions_step_at.store(0, Ordering::Relaxed);
                break;
            }
            if dropped > 0 {
                continue;
            }
            let began = *stalled_at.get_or_insert_with(|| {
                self.hooks.emit(&Event::StallBegin { reason: StallReason::VersionMemory });
                Instant::now()
            });
            let is_held = self.snapshots.holds_below(self.log.visible_lsn());
            if is_held && began.elapsed() < VERSIONS_WAIT {
                thread::park_timeout(VERSIONS_POLL);
            } else if !self.snapshots.revoke_oldest(self.log.visible_lsn()) {
                let step = self.versions_bytes_max / VERSIONS_STEP;
                self.versions_step_at.store(self.versions.bytes() + step, Ordering::Relaxed);
                break;
            }
        }
        if let Some(began) = stalled_at {
            let waited = began.elapsed();
            self.counters.stall(waited);
            self.hooks.emit(&Event::StallEnd { reason: StallReason::VersionMemory, waited });
        }
    }

    /// Log credit for work that belongs to no transaction.
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
        if request.purpose == Purpose::Normal {
            self.hooks.hold_back();
            self.bound_versions();
        }
        let stalled_at = Cell::new(None);
        let on_full = || {
            if stalled_at.get().is_none() {
                stalled_at.set(Some(Instant::now()));
                self.hooks.emit(&Event::StallBegin { reason: StallReason::WalBound });
            }
            if let Some(on_wal_full) = self.hooks.on_wal_full.get() {
                on_wal_full();
            }
        };
        let give_up = || {
            let is_doomed = slot.is_some_and(|slot| self.txns.is_doomed(slot));
            is_doomed.then_some(Error::TransactionTooOld)
        };
        let wait = CreditWait { on_full: &on_full, give_up: &give_up };
        let credit = self.log.credit(request, &wait);
        if let Some(stalled_at) = stalled_at.get() {
            let waited = stalled_at.elapsed();
            self.counters.stall(waited);
            self.hooks.emit(&Event::StallEnd { reason: StallReason::WalBound, waited });
        }
        credit
    }
}
