//! A unit's rollback, of all of it or back to a savepoint: its records from the newest to the oldest,
//! each by a compensation record (`engine/undo.rs`).
//!
//! What must hold: it always has log room, which was set aside with the writes, or a checkpoint can
//! make it (T2). Keys stay locked until all is undone and the end of the rollback is logged; if we
//! crash before that record, recovery undoes what is left. A rollback that fails poisons the log.

use seawall_wal::log::{CreditRequest, Purpose};
use seawall_wal::record::{Body, WriteKind};
use seawall_wal::sync::Mutex;
use seawall_wal::{Error, Lsn, Result};

use super::{Unit, UnitMark};
use crate::engine::auto_commit::{CHANGE_RECORD_BYTES, delta_of};
use crate::engine::{Chain, Engine, Undo};
use crate::txn::RollbackRoom;
use crate::version::VersionKey;

impl Engine {
    /// Undoes the unit and lets go of everything it holds. What cannot be undone now, because the
    /// database is poisoned, recovery undoes.
    pub(crate) fn roll_back_unit(&self, mut unit: Unit) -> Result<()> {
        self.end_reading(&mut unit);
        let Some(slot) = &unit.slot else { return Ok(()) };
        // Nobody will look for the parts of a commit that does not come.
        self.txns.set_parts_lsn(slot, Lsn::NONE);
        let undone = self
            .undo_unit_to(&mut unit, Lsn::NONE)
            .and_then(|()| self.log_rollback_end(unit.chain(), Some(&unit.room)));
        if undone.is_ok() {
            for key in &unit.written {
                self.versions.remove_head(key, &unit.writer);
            }
            unit.writer.roll_back();
            if let Some(bulk) = unit.bulk.take() {
                self.bulks.remove(bulk.id);
                self.sweep_all(bulk.take_spans());
            }
            if let Some(slot) = unit.slot.take() {
                self.txns.release(slot);
            }
            self.counters.rollback();
        }
        drop(unit);
        self.txns.announce_end();
        // Its keys stay locked, and nobody but recovery can undo what it wrote.
        undone.inspect_err(|error| self.log.poison(error.clone()))
    }

    /// Undoes what the unit wrote since `mark`. Its keys stay its own. Where that fails, a part is
    /// undone, and what is left could be committed.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a mark before which the unit was undone already; those of undo.
    pub(crate) fn undo_unit_to_mark(&self, unit: &mut Unit, mark: UnitMark) -> Result<()> {
        if unit.has_undone(mark) {
            let why = "a rollback to an earlier savepoint has undone what was before this one";
            return Err(Error::InvalidArgument(why.into()));
        }
        unit.inserts.clear();
        let newest = unit.last_lsn;
        let undone = self.undo_unit_to(unit, mark.last_lsn);
        unit.note_undone(unit.last_lsn, newest);
        undone
    }

    /// Does what takes several records: all of it, or, where it fails, nothing. A unit that half of
    /// it were left of could not be committed any more; where that half cannot be undone, the log is
    /// poisoned, as by any rollback that fails.
    pub(in crate::engine) fn unit_whole<T>(
        &self,
        unit: &mut Unit,
        act: impl FnOnce(&mut Unit) -> Result<T>,
    ) -> Result<T> {
        let start_lsn = unit.last_lsn;
        let done = act(unit);
        if done.is_err() {
            self.undo_unit_to(unit, start_lsn).inspect_err(|why| self.log.poison(why.clone()))?;
        }
        done
    }

    /// Undoes the unit's records from the newest back to, and without, the one at `until`.
    fn undo_unit_to(&self, unit: &mut Unit, until: Lsn) -> Result<()> {
        let Some(slot) = unit.slot.as_ref() else { return Ok(()) };
        let mut undo = Undo { txn: slot.id, last_lsn: unit.last_lsn, undo_next_lsn: unit.last_lsn };
        while undo.undo_next_lsn > until {
            let store = |start, undo_next| self.txns.set_undone(slot, start, undo_next);
            let undone = self.undo_step(&mut undo, Some(&unit.room), store);
            unit.last_lsn = undo.undo_next_lsn;
            pop_behind(&mut unit.freed, unit.last_lsn);
            pop_behind(&mut unit.dropped, unit.last_lsn);
            // Of a record that was stepped over nothing else tells.
            self.txns.set_undo_next(slot, undo.undo_next_lsn);
            if let Some(write) = undone? {
                *unit.deltas.entry(write.tree).or_default() -= delta_of(write.kind);
                // The answer of a removal was a read. Where the key bears nothing of the unit any more, nothing
                // else keeps others from it.
                if write.kind == WriteKind::Delete
                    && unit.is_serializable()
                    && unit.view().is_some()
                {
                    unit.reads.lock().add_point(VersionKey::new(write.tree, &write.key));
                }
            }
        }
        Ok(())
    }

    /// Logs that a transaction is undone: in the room that was kept for it, or, in recovery, of the
    /// reserve.
    pub(crate) fn log_rollback_end(
        &self,
        chain: Chain,
        room: Option<&Mutex<RollbackRoom>>,
    ) -> Result<()> {
        let kept = room.and_then(|room| room.lock().take_end(&self.log));
        let mut credit = kept.unwrap_or_else(|| {
            self.credit(&CreditRequest {
                payload_bytes: CHANGE_RECORD_BYTES,
                is_sync_commit: false,
                purpose: Purpose::Reserve,
            })
        })?;
        let mut appender = self.appenders.acquire();
        let body = Body::RollbackEnd;
        self.append(&mut appender, &mut credit, chain, &body, &mut [], |_| {});
        Ok(())
    }
}

/// Forgets what a commit would have done for records that begin behind `last_lsn`, which are undone.
fn pop_behind<T>(list: &mut Vec<(Lsn, T)>, last_lsn: Lsn) {
    while list.last().is_some_and(|(lsn, _)| *lsn > last_lsn) {
        list.pop();
    }
}
