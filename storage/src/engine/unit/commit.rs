//! A unit's commit: its record, and before it the parts that would not go into one.
//!
//! What must hold: the record is reserved while the commit gate is held, so a validation misses no
//! commit (`txn/gate.rs`), and the sizes of trees and the freed extents are noted before anybody can
//! see the commit. If we crash behind a part and before the record, the unit is rolled back: undo
//! steps over the parts (R3). A commit that fails before its record is logged rolls back. Nobody is
//! told of a commit before its end is visible (T1), which is the caller's to wait for.

use std::sync::Arc;

use seawall_wal::codec::to_u64;
use seawall_wal::log::{CreditRequest, Purpose};
use seawall_wal::record::{Body, CommitInfo, Extent, TreeDelta};
use seawall_wal::{Lsn, Result};

use super::Unit;
use crate::Durability;
use crate::engine::auto_commit::CHANGE_RECORD_BYTES;
use crate::engine::{Appended, Engine};
use crate::planted::{Bug, Point, is_planted, reach};
use crate::txn::{CommitPass, ValidatedPass};

/// Bytes of a tree's delta or a freed extent in a commit record, at most.
const COMMIT_ENTRY_BYTES: u64 = 20;
/// Freed extents, and trees' deltas, that one commit record carries; more go before it in parts.
const FREED_PER_RECORD: usize = 1024;
const DELTAS_PER_RECORD: usize = 1024;

impl Engine {
    /// Commits the unit. Returns the position that has to be visible before anyone is told.
    pub(crate) fn commit_unit(&self, mut unit: Unit, durability: Durability) -> Result<Lsn> {
        if let Err(error) = self.flush_inserts(&mut unit) {
            self.roll_back_unit(unit)?;
            return Err(error);
        }
        if !unit.has_written() {
            let read_lsn = unit.snapshot.as_ref().map_or(Lsn::NONE, |snapshot| snapshot.read_lsn);
            self.end_reading(&mut unit);
            return Ok(read_lsn);
        }
        match self.log_commit(&mut unit, durability) {
            Ok(end) => {
                self.counters.commit();
                self.end_committed(unit, end);
                Ok(end)
            }
            Err(error) => {
                self.roll_back_unit(unit)?;
                Err(error)
            }
        }
    }

    fn log_commit(&self, unit: &mut Unit, durability: Durability) -> Result<Lsn> {
        let is_sync = durability == Durability::Sync;
        self.note_trails(unit)?;
        let Parts { count: parts, first_lsn: first_part_lsn, deltas, freed } =
            self.log_commit_parts(unit)?;
        let entries = deltas.len() + freed.len();
        let request = CreditRequest {
            payload_bytes: CHANGE_RECORD_BYTES + COMMIT_ENTRY_BYTES * to_u64(entries),
            is_sync_commit: is_sync,
            purpose: Purpose::Normal,
        };
        let mut credit = self.credit_for(&request, unit.slot.as_ref())?;
        let mut validation = self.validate(unit)?;
        reach(Point::Validated);
        let mut appender = self.appenders.acquire();
        for TreeDelta { tree, delta } in unit.changed_sizes() {
            if let Some(tree) = self.trees.get(tree) {
                tree.size.push(&unit.writer, delta, self.fold_limit());
            }
        }
        let commit =
            CommitInfo { wall_ms: self.wall_ms(), origin: 0, deltas, freed, parts, first_part_lsn };
        self.enter_frees(&commit.freed, &unit.writer);
        let body = Body::Commit(commit);
        let pass = match &mut validation {
            Some(validation) => {
                let reads = unit.reads.lock();
                let pass = validation.finish(|written| reads.meets(written), unit.written());
                Pass::Validated(pass.ok_or_else(|| self.conflict())?)
            }
            None => Pass::Plain(self.gate.pass(|| unit.written())),
        };
        let mut pending = is_sync.then(|| self.log.begin_sync_commit());
        let slot = unit.slot.as_ref().expect("a unit that has written has a slot");
        let appended =
            self.append(&mut appender, &mut credit, unit.chain(), &body, &mut [], |appended| {
                // Whoever reads at or beyond this commit finds the trees dropped.
                unit.dropped.iter().for_each(|(_, tree)| tree.set_dropped(appended.end));
                unit.writer.commit(appended.end);
                if !is_planted(Bug::CommitStaysActive) {
                    self.txns.set_commit_lsn(slot, appended.end);
                }
                if let Some(pending) = &mut pending {
                    pending.set_end(appended.end);
                }
            });
        drop(pass);
        Ok(appended.end)
    }

    /// Logs all but the last of the freed extents and of the trees' deltas, where they are too many for
    /// one record.
    fn log_commit_parts(&self, unit: &mut Unit) -> Result<Parts> {
        let (mut parts, mut first_part_lsn) = (0, Lsn::NONE);
        let mut deltas: Vec<_> = unit.changed_sizes().collect();
        deltas.sort_unstable_by_key(|delta| delta.tree);
        let mut all_freed: Vec<_> = unit.freed.iter().map(|&(_, extent)| extent).collect();
        while all_freed.len() > FREED_PER_RECORD || deltas.len() > DELTAS_PER_RECORD {
            let freed: Vec<_> = first_of(&mut all_freed, FREED_PER_RECORD);
            let part_deltas = first_of(&mut deltas, DELTAS_PER_RECORD);
            let entries = to_u64(freed.len() + part_deltas.len());
            let request = CreditRequest {
                payload_bytes: CHANGE_RECORD_BYTES + COMMIT_ENTRY_BYTES * entries,
                is_sync_commit: false,
                purpose: Purpose::Normal,
            };
            let mut credit = self.credit_for(&request, unit.slot.as_ref())?;
            let mut appender = self.appenders.acquire();
            self.enter_frees(&freed, &unit.writer);
            let body = Body::CommitPart { deltas: part_deltas, freed };
            let slot = unit.slot.as_ref().expect("a unit that has written has a slot");
            let store = |appended: Appended| {
                self.txns.set_last_lsn(slot, appended.start);
                if parts == 0 {
                    self.txns.set_parts_lsn(slot, appended.start);
                }
            };
            let appended =
                self.append(&mut appender, &mut credit, unit.chain(), &body, &mut [], store);
            unit.last_lsn = appended.start;
            if parts == 0 {
                first_part_lsn = appended.start;
            }
            parts += 1;
        }
        Ok(Parts { count: parts, first_lsn: first_part_lsn, deltas, freed: all_freed })
    }

    /// Lets go of everything a committed unit holds but its slot, which keeps down `low_lsn` until
    /// the commit is visible.
    fn end_committed(&self, mut unit: Unit, end: Lsn) {
        for (_, tree) in &unit.dropped {
            self.doom(Arc::clone(tree), end);
        }
        self.end_reading(&mut unit);
        if let Some(slot) = unit.slot.take() {
            self.retire_slot(slot, end);
        }
        drop(unit);
        self.txns.announce_end();
    }
}

/// The parts that were logged before a commit's record, and what is left for that.
struct Parts {
    count: u64,
    /// Where the first one begins.
    first_lsn: Lsn,
    deltas: Vec<TreeDelta>,
    freed: Vec<Extent>,
}

/// How a commit holds the gate.
enum Pass<'a> {
    #[expect(dead_code, reason = "held for its drop")]
    Plain(CommitPass<'a>),
    #[expect(dead_code, reason = "held for its drop")]
    Validated(ValidatedPass<'a>),
}

/// Takes the first `count` away where there are more.
fn first_of<T>(list: &mut Vec<T>, count: usize) -> Vec<T> {
    if list.len() > count { list.drain(..count).collect() } else { Vec::new() }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use seawall_wal::disk::SimDisk;
    use seawall_wal::disk::sim::CrashPlan;

    use seawall_wal::TreeId;

    use super::*;
    use crate::engine::Decision;
    use crate::{Database, Error, Isolation, Options};

    fn open(disk: &SimDisk) -> Result<Database> {
        let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
        options.cache_bytes(2 << 20).open("/db")
    }

    /// As one that was dropped behind its caller's look, before the unit holds it shared.
    #[test]
    fn a_tree_that_was_dropped_takes_no_write_of_a_unit() -> Result<()> {
        let database = open(&SimDisk::new())?;
        let tree = database.tree("t")?;
        let engine = &database.shared_core().engine;
        let info = engine.trees.get(TreeId::new(1)).expect("made above");
        assert!(database.drop_tree(tree.name())?);
        let mut unit = Unit::new(Isolation::Snapshot);
        let written = engine.unit_write(&mut unit, &info, b"key", 5, |_| Decision::Put(b"value"));
        assert!(matches!(written, Err(Error::NotFound { .. })), "{written:?}");
        engine.roll_back_unit(unit)
    }

    #[test]
    fn a_commit_in_more_trees_than_one_record_names_keeps_all_their_sizes() -> Result<()> {
        let disk = SimDisk::new();
        let database = open(&disk)?;
        let tree = database.tree("t")?;
        let engine = &database.shared_core().engine;
        let mut unit = Unit::new(Isolation::Snapshot);
        let info = engine.trees.get(TreeId::new(1)).expect("made above");
        engine.unit_write(&mut unit, &info, b"key", 5, |_| Decision::Put(b"value"))?;
        // As if it had written to so many other trees as well.
        unit.deltas.extend((0..20_000).map(|i| (TreeId::new(1000 + i), 1_i64 << 20)));
        engine.commit_unit(unit, Durability::Sync)?;
        database.sync()?;
        assert_eq!(tree.len()?, 1);
        drop(tree);
        let crashed = disk.crash(CrashPlan::NothingUnsynced);
        drop(database);
        let database = open(&crashed)?;
        assert_eq!(database.tree("t")?.len()?, 1);
        assert!(database.verify(|_| {})?.findings.is_empty());
        Ok(())
    }
}
