//! The bound of the memory for old versions.

use std::time::Duration;

use seawall_wal::sync::atomic::Ordering;
use seawall_wal::sync::thread;

use super::Engine;
use crate::StallReason;

/// How long writers wait for a reader of old versions, before it has to begin again.
const VERSIONS_WAIT: Duration = Duration::from_secs(1);
/// Between two looks whether readers have gone.
const VERSIONS_POLL: Duration = Duration::from_millis(1);
/// Entries of each shard that one look goes through.
const VERSIONS_PER_LOOK: usize = 256;
/// Versions are scarce when they fill more than one part in this many of the bound.
const VERSIONS_SCARCE_SHARE: u64 = 2;
/// Where versions are scarce, a transaction gets one part in this many of its budget.
const BUDGET_SCARCE_SHARE: u64 = 16;
/// When nothing helped, one part in this many of the bound may be added before the next try.
const VERSIONS_STEP: u64 = 16;

impl Engine {
    /// Memory that the versions of one transaction may take: less where versions are many.
    pub(super) fn versions_budget_bytes(&self) -> u64 {
        match self.versions.bytes() > self.versions_bytes_max / VERSIONS_SCARCE_SHARE {
            true => self.bulk_budget_bytes / BUDGET_SCARCE_SHARE,
            false => self.bulk_budget_bytes,
        }
    }

    /// Keeps versions within their share of the memory: collects them, waits for the reader who holds
    /// them, and revokes its snapshot in the end. What transactions that are open hold is bounded by
    /// their budgets.
    pub(super) fn bound_versions(&self) {
        let raised_max = self.versions_bytes_raised_max.load(Ordering::Relaxed);
        let limit = self.versions_bytes_max.max(raised_max);
        if self.versions.bytes() <= limit {
            return;
        }
        let mut stall = None;
        loop {
            let horizon = self.refresh_horizon();
            let dropped = self.versions.collect(horizon, VERSIONS_PER_LOOK);
            if self.versions.bytes() <= self.versions_bytes_max {
                self.versions_bytes_raised_max.store(0, Ordering::Relaxed);
                return;
            }
            if dropped > 0 {
                continue;
            }
            let stall =
                stall.get_or_insert_with(|| self.hooks.begin_stall(StallReason::VersionMemory));
            let is_held = self.snapshots.holds_below(self.log.visible_lsn());
            if is_held && stall.elapsed() < VERSIONS_WAIT {
                thread::park_timeout(VERSIONS_POLL);
            } else if !self.snapshots.revoke_oldest(self.log.visible_lsn()) {
                let step = self.versions_bytes_max / VERSIONS_STEP;
                let raised_max = self.versions.bytes() + step;
                self.versions_bytes_raised_max.store(raised_max, Ordering::Relaxed);
                return;
            }
        }
    }
}
