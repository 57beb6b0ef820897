//! What becomes garbage, and goes: versions below the horizon, ghosts and kept capacity that nobody
//! needs, freed extents, and trees that were dropped.

use std::borrow::Cow;

use seawall_wal::codec::to_u64;
use seawall_wal::log::{CreditRequest, Purpose};
use seawall_wal::record::{Body, Op, PageRef};
use seawall_wal::sync::atomic::Ordering;
use seawall_wal::{Lsn, Result};

use super::Engine;
use super::append::{Chain, page_lsn};
use super::auto_commit::CHANGE_RECORD_BYTES;
use crate::page::{LeafView, PageRead, is_sparse};
use crate::pool::ExclusivePage;
use crate::tree::Seek;
use crate::version::VersionKey;

/// Entries of a shard of the version store that one step looks at.
const COLLECT_PER_STEP: usize = 256;
/// Keys whose leaves one step purges.
const PURGE_PER_STEP: usize = 64;

/// Extents that one step frees.
const FREE_PER_STEP: usize = 64;

/// What one step of the collector did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) versions: usize,
    pub(crate) purged_leaves: usize,
    pub(crate) freed_extents: usize,
    pub(crate) has_dismantled: bool,
}

impl Engine {
    /// Works out the horizon: no reader needs what a commit at or below it replaced.
    pub(crate) fn refresh_horizon(&self) -> Lsn {
        let horizon = self.snapshots.horizon(|| self.log.visible_lsn());
        self.horizon.fetch_max(horizon.get(), Ordering::SeqCst);
        horizon
    }

    /// The horizon as somebody worked it out lately.
    pub(super) fn horizon_hint(&self) -> Lsn {
        Lsn::new(self.horizon.load(Ordering::SeqCst))
    }

    /// How far changes of tree sizes may be folded.
    pub(super) fn fold_limit(&self) -> Lsn {
        let cap = Lsn::new(self.fold_cap.load(Ordering::SeqCst));
        self.horizon_hint().min(cap)
    }

    /// Keeps the size of every tree as of `lsn` answerable until [`Engine::release_sizes`].
    pub(crate) fn hold_sizes(&self, lsn: Lsn) {
        self.fold_cap.store(lsn.get(), Ordering::SeqCst);
    }

    pub(crate) fn release_sizes(&self) {
        self.fold_cap.store(u64::MAX, Ordering::SeqCst);
    }

    /// One step of the collector: drops versions, then cleans up a few leaves.
    pub(crate) fn collect_step(&self) -> Result<Collected> {
        self.reap_slots();
        let horizon = self.refresh_horizon();
        let versions = self.versions.collect(horizon, COLLECT_PER_STEP);
        let mut purged_leaves = 0;
        for key in self.versions.take_purgeable(PURGE_PER_STEP) {
            purged_leaves += usize::from(self.purge_leaf(&key, horizon)?);
        }
        let freed_extents = self.free_step(horizon, FREE_PER_STEP)?;
        let has_dismantled = self.dismantle_step(horizon)?;
        Ok(Collected { versions, purged_leaves, freed_extents, has_dismantled })
    }

    /// Removes every ghost on the key's leaf that nobody needs, and settles cells that keep capacity
    /// for a rollback that cannot come any more. Returns whether anything was done.
    fn purge_leaf(&self, due: &VersionKey, horizon: Lsn) -> Result<bool> {
        let Some(tree) = self.trees.get(due.tree()).filter(|tree| tree.dropped_lsn().is_none())
        else {
            return Ok(false);
        };
        // A drop that comes now finds the tree held, and takes it as any other conflict.
        let Ok(_shared) = tree.share(None) else { return Ok(false) };
        let mut credit = self.credit(&CreditRequest {
            payload_bytes: CHANGE_RECORD_BYTES + to_u64(self.page_bytes),
            is_sync_commit: false,
            purpose: Purpose::Reserve,
        })?;
        let mut appender = self.appenders.acquire();
        let mut page: ExclusivePage<'_> = self.descent(&tree).leaf(Seek::Key(due.key()))?;
        let leaf = LeafView::new(page.bytes());
        let mut version_key = VersionKey::new(tree.id, &[]);
        let mut keys = Vec::new();
        for slot in 0..leaf.count() {
            let cell = leaf.cell_at(slot);
            let is_due = cell.is_ghost || cell.capacity_bytes > 0;
            if is_due {
                version_key.set_key(&leaf.key_at(slot).to_vec());
                if !self.versions.is_needed(&version_key) {
                    keys.push((cell.is_ghost, version_key.key().to_vec()));
                }
            }
        }
        if keys.is_empty() {
            return Ok(false);
        }
        let ops = keys.iter().map(|(is_ghost, key)| match is_ghost {
            true => Op::Remove { tree: tree.id, key },
            false => Op::Settle { tree: tree.id, key },
        });
        let page_ref = PageRef {
            page: page.id(),
            page_prev_lsn: page_lsn(&page),
            is_init: false,
            ops: Cow::Owned(ops.collect()),
        };
        let body = Body::Purge { horizon, refs: vec![page_ref] };
        self.append(&mut appender, &mut credit, Chain::NONE, &body, &mut [&mut page], |_| {});
        let is_mergeable = is_sparse(page.bytes());
        drop(page);
        drop(appender);
        drop(credit);
        if is_mergeable {
            self.merge_sparse(&tree, due.key())?;
        }
        Ok(true)
    }
}
