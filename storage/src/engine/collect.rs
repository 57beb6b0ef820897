//! What becomes garbage, and goes: versions below the horizon, ghosts and kept capacity that nobody
//! needs, freed extents, and trees that were dropped.

use std::borrow::Cow;

use seawall_wal::codec::to_u64;
use seawall_wal::log::{CreditRequest, Purpose};
use seawall_wal::record::{Body, Op, PageRef};
use seawall_wal::sync::atomic::Ordering;
use seawall_wal::{Error, Lsn, Result};

use super::Engine;
use super::append::{Chain, page_lsn};
use super::auto_commit::CHANGE_RECORD_BYTES;
use crate::catalogue::TreeInfo;
use crate::page::{LeafView, PageRead, is_sparse};
use crate::planted::{Bug, is_planted};
use crate::pool::ExclusivePage;
use crate::tree::Seek;
use crate::version::VersionKey;

/// Entries of a shard of the version store that one step looks at.
const COLLECT_PER_STEP: usize = 256;
/// Keys whose leaves one step purges.
const PURGE_PER_STEP: usize = 64;
/// Most bytes of the operations of a purge record, in pages. Keys are whole in it, and shortened in the
/// page, so those of a leaf may need several records.
const PURGE_PAGES: usize = 2;
/// Tag, tree and length around the key of such an operation, at most.
const PURGE_OP_BYTES: usize = 1 + 10 + 5;

/// Extents that one step frees.
const FREE_PER_STEP: usize = 64;

/// What one step of the collector did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) versions: usize,
    /// Keys whose leaves have been looked at.
    pub(crate) purged_keys: usize,
    pub(crate) swept_leaves: usize,
    pub(crate) freed_extents: usize,
    pub(crate) has_dismantled: bool,
}

/// A cell that can be purged.
struct Purgeable {
    is_ghost: bool,
    /// It takes room that it does not need; a mere stamp goes only when something else does.
    is_due: bool,
    key: Vec<u8>,
}

/// What became of a leaf.
#[derive(Debug, Default)]
pub(super) struct Purged {
    is_done: bool,
    /// One record did not take everything.
    has_more: bool,
    is_mergeable: bool,
    /// A change of the catalogue holds the tree: what is due there stays due.
    pub(super) is_held: bool,
    /// Where the leaf behind it begins.
    pub(super) rest: Option<Vec<u8>>,
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

    /// One step of the collector: drops versions, then cleans up a few leaves. What finds no room, in
    /// the log or on the disk, or cannot be read, is left as it is until the next checkpoint: before
    /// that there is hardly more, and trying would only keep the disk busy. (A failed write poisons
    /// where it happens.)
    pub(crate) fn collect_step(&self) -> Result<Collected> {
        self.reap_slots();
        let horizon = self.refresh_horizon();
        let versions = self.versions.collect(horizon, COLLECT_PER_STEP);
        let mut done = Collected { versions, ..Collected::default() };
        self.reap_bulks(horizon);
        self.reap_undo_files()?;
        let checkpoints = self.counters.read().checkpoints;
        if self.garbage_blocked_at_checkpoint.load(Ordering::SeqCst) == checkpoints {
            return Ok(done);
        }
        match self.clean_up(horizon, &mut done) {
            Err(Error::NoSpace { .. } | Error::Io { .. }) => {
                self.garbage_blocked_at_checkpoint.store(checkpoints, Ordering::SeqCst);
            }
            cleaned => cleaned?,
        }
        Ok(done)
    }

    /// What a step logs. Whatever fails stays due.
    fn clean_up(&self, horizon: Lsn, done: &mut Collected) -> Result<()> {
        self.take_up_aside();
        let mut due = self.versions.take_purgeable(PURGE_PER_STEP).into_iter();
        while let Some(key) = due.next() {
            match self.purge_leaf(&key, horizon) {
                Ok(purged) if purged.is_held => self.set_key_aside(key),
                Ok(_) => done.purged_keys += 1,
                // Nobody misses what is left there.
                Err(error) if self.tell_damage(&error) => done.purged_keys += 1,
                Err(error) => {
                    self.versions.put_back_purgeable(std::iter::once(key).chain(due));
                    return Err(error);
                }
            }
        }
        done.swept_leaves = self.sweep_step(horizon)?;
        done.freed_extents = self.free_step(horizon, FREE_PER_STEP)?;
        done.has_dismantled = self.dismantle_step(horizon)?;
        Ok(())
    }

    /// Removes every ghost on the key's leaf that nobody needs, and settles cells that keep capacity
    /// for a rollback that cannot come any more. Stamps that everybody sees go with them.
    pub(super) fn purge_leaf(&self, due: &VersionKey, horizon: Lsn) -> Result<Purged> {
        let Some(tree) = self.trees.get(due.tree()).filter(|tree| tree.dropped_lsn().is_none())
        else {
            return Ok(Purged::default());
        };
        // A drop that comes now waits.
        let Ok(_collected) = tree.collect() else {
            return Ok(Purged { is_held: true, ..Purged::default() });
        };
        let mut purged = Purged::default();
        loop {
            let round = self.purge_some(&tree, due.key(), horizon)?;
            purged = Purged { is_done: purged.is_done || round.is_done, ..round };
            if !purged.has_more {
                break;
            }
        }
        if purged.is_mergeable {
            match self.merge_sparse(&tree, due.key()) {
                Err(error) if self.tell_damage(&error) => {}
                merged => merged?,
            }
        }
        Ok(purged)
    }

    /// Purges as much of the key's leaf as one record takes.
    fn purge_some(&self, tree: &TreeInfo, key: &[u8], horizon: Lsn) -> Result<Purged> {
        let ops_bytes_max = PURGE_PAGES * self.page_bytes;
        let mut credit = self.credit(&CreditRequest {
            payload_bytes: CHANGE_RECORD_BYTES + to_u64(ops_bytes_max),
            is_sync_commit: false,
            purpose: Purpose::Garbage,
        })?;
        let mut appender = self.appenders.acquire();
        let mut page: ExclusivePage<'_> = self.descent(tree).leaf(Seek::Key(key))?;
        let leaf = LeafView::new(page.bytes());
        let rest = leaf.high_fence().map(|fence| fence.to_vec());
        let mut keys = self.purgeable(tree, leaf);
        let is_done = keys.iter().any(|purgeable| purgeable.is_due);
        let count = count_within(&keys, ops_bytes_max);
        let has_more = is_done && count < keys.len();
        keys.truncate(count);
        if is_done {
            let ops = keys.iter().map(|Purgeable { is_ghost, key, .. }| match is_ghost {
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
        }
        let is_mergeable = is_sparse(page.bytes());
        Ok(Purged { is_done, has_more, is_mergeable, is_held: false, rest })
    }

    /// Cells of a leaf that nobody needs as they are.
    fn purgeable(&self, tree: &TreeInfo, leaf: LeafView<'_>) -> Vec<Purgeable> {
        let mut version_key = VersionKey::new(tree.id, &[]);
        let mut found = Vec::new();
        for slot in 0..leaf.count() {
            let cell = leaf.cell_at(slot);
            let is_due = cell.is_ghost || cell.capacity_bytes > 0;
            if !is_due && cell.stamp.is_none() {
                continue;
            }
            version_key.set_key(&leaf.key_at(slot).to_vec());
            let is_open = cell.stamp.is_some_and(|stamp| self.bulks.get(stamp.txn).is_some());
            let is_needed =
                self.versions.is_needed(&version_key) && !is_planted(Bug::PurgeGhostEarly);
            if !is_open && !is_needed {
                let key = version_key.key().to_vec();
                found.push(Purgeable { is_ghost: cell.is_ghost, is_due, key });
            }
        }
        found
    }
}

/// How many of these go into one record whose operations take at most `bytes_max`.
fn count_within(keys: &[Purgeable], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = keys.iter().take_while(|purgeable| {
        bytes += PURGE_OP_BYTES + purgeable.key.len();
        bytes <= bytes_max
    });
    fits.count()
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::Arc;

    use seawall_wal::disk::SimDisk;
    use seawall_wal::disk::sim::CrashPlan;
    use seawall_wal::log::{CreditRequest, CreditWait, Purpose, SetAside};

    use super::Error;
    use crate::{Database, Durability, Options, Result};

    fn open(disk: &SimDisk, bulk_budget_bytes: u64) -> Result<Database> {
        let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
        options.page_bytes(8192).bulk_budget_bytes(bulk_budget_bytes).open("/db")
    }

    /// A leaf holds hundreds of these: what its fences have in common is stored once. That is little
    /// on the last leaf, so they come in another order than their own.
    fn key(i: u32) -> Vec<u8> {
        format!("{:490}{:010}", "", i * 7919 % 2000).into_bytes()
    }

    /// Collects all there is, commits behind it, and opens what a power cut leaves.
    fn collect_and_crash(disk: &SimDisk, database: Database) -> Result<Database> {
        while database.shared_core().collect_step()? {}
        database.sync()?;
        database.tree("other")?.insert("acknowledged", "behind the purge")?;
        let crashed = disk.crash(CrashPlan::NothingUnsynced);
        drop(database);
        let database = open(&crashed, 0)?;
        assert!(database.tree("other")?.contains_key("acknowledged")?);
        assert!(database.verify(|_| {})?.findings.is_empty());
        Ok(database)
    }

    #[test]
    fn the_purge_of_a_leaf_of_long_keys_can_be_read_again() -> Result<()> {
        let disk = SimDisk::new();
        let database = open(&disk, 1 << 30)?;
        let tree = database.tree("t")?;
        for i in 0..2000 {
            tree.insert_with(key(i), "v", Durability::Relaxed)?;
        }
        let mut transaction = database.begin()?;
        assert_eq!(transaction.remove_range(&tree, ..)?, 2000);
        transaction.commit()?;
        let database = collect_and_crash(&disk, database)?;
        let tree = database.tree("t")?;
        assert_eq!((tree.len()?, tree.range(..)?.count()), (0, 0));
        Ok(())
    }

    #[test]
    fn stamps_of_a_leaf_of_long_keys_go_in_records_that_can_be_read_again() -> Result<()> {
        let disk = SimDisk::new();
        let database = open(&disk, 0)?;
        let tree = database.tree("t")?;
        let mut load = database.begin()?;
        (0..2000).try_for_each(|i| load.insert(&tree, key(i), "v"))?;
        load.commit()?;
        // Until then the stamps belong to a transaction that somebody may have to look up.
        while database.shared_core().collect_step()? {}
        for i in (0..2000).step_by(100) {
            assert!(tree.remove(key(i))?);
        }
        let database = collect_and_crash(&disk, database)?;
        let tree = database.tree("t")?;
        assert_eq!((tree.len()?, tree.range(..)?.count()), (1980, 1980));
        Ok(())
    }

    /// Takes all the log credit there is for `purpose`.
    fn take_all(database: &Database, purpose: Purpose) -> Vec<SetAside> {
        let log = &database.shared_core().engine.log;
        let give_up = || Some(Error::TransactionTooOld);
        let wait = CreditWait { give_up: &give_up, ..CreditWait::PATIENT };
        let sizes = [4096, 64].into_iter();
        let taken = sizes.flat_map(|payload_bytes| {
            let request = CreditRequest { payload_bytes, purpose, ..CreditRequest::default() };
            std::iter::from_fn(move || Some(log.credit(&request, &wait).ok()?.set_aside(u64::MAX)))
        });
        taken.collect()
    }

    #[test]
    fn garbage_leaves_the_reserve_of_a_full_log_to_checkpoints() -> Result<()> {
        let options = Options::new().disk_injected(Arc::new(SimDisk::new()));
        let options = options.manual_background(true).unchecked_limits().page_bytes(4096);
        let database = options.cache_bytes(8 << 20).max_wal_bytes(4 << 20).open("/db")?;
        let core = database.shared_core();
        let tree = database.tree("t")?;
        let long_key = |i: u32| format!("{i:0400}");
        for i in 0..6000 {
            tree.insert_with(long_key(i), "v", Durability::Relaxed)?;
        }
        let reader = database.snapshot()?;
        reader.contains_key(&tree, "k")?;
        // No leaf is emptied so far that it would be merged.
        for i in (0..6000).step_by(2) {
            tree.remove_with(long_key(i), Durability::Relaxed)?;
        }
        database.checkpoint()?;
        let taken = take_all(&database, Purpose::Normal);
        let reserve_bytes = core.engine.log.room_bytes();
        drop(reader);
        while core.collect_step()? {}
        let left_bytes = core.engine.log.room_bytes();
        assert!(left_bytes >= reserve_bytes / 2, "{left_bytes} of {reserve_bytes} are left");
        assert!(!core.collect_step()?, "it is not tried again at once");
        assert_eq!(core.engine.log.room_bytes(), left_bytes);
        drop(taken);
        assert!(!core.collect_step()?, "and not before the next checkpoint");
        database.checkpoint()?;
        assert!(core.collect_step()?, "then it goes on");
        // It fills the log itself, and more than once.
        for _ in 0..4 {
            while core.collect_step()? {}
            database.checkpoint()?;
        }
        let due = core.engine.versions.take_purgeable(1);
        assert!(due.is_empty(), "to the end");
        assert!(database.verify(|_| {})?.findings.is_empty());
        assert_eq!(tree.range(..)?.count(), 3000);
        tree.insert("after", "not poisoned")
    }
}
