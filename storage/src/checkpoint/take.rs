//! Taking a fuzzy checkpoint: it writes no page and stops no transaction (invariant C2).
//!
//! 0. Undo information that holds too much of the log is moved to undo files (`spill.rs`).
//! 1. The begin record is appended; its START is `begin_lsn`.
//! 2. After the appends that were under way have made their stores, the active transactions are
//!    copied: a commit below `begin_lsn` is not among them, and no `last_lsn` below it is missed.
//! 3. The dirty table is copied: every page changed below `begin_lsn` is in it, or on disk (C1).
//! 4. The tables go into the log in chunks, then the end record; the log is flushed up to it.
//! 5. The master record names the checkpoint. If we crash before, the one before still holds.
//! 6. The log below everything that either master record needs, and that nobody holds, is given up
//!    (C3).
//!
//! An error before step 5 leaves the checkpoint before in force; an error in step 5 poisons,
//! because what the next open will find is not known.

use std::sync::Arc;
use std::time::Instant;

use seawall_wal::codec::to_u64;
use seawall_wal::control::{Control, ControlState, MasterRecord};
use seawall_wal::log::{CreditRequest, Purpose};
use seawall_wal::record::{Body, CheckpointChunk, CheckpointEnd};
use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::{AtomicU64, Ordering};
use seawall_wal::{Lsn, Result};

use super::holds::{LogHold, LogHolds};
use super::spill::{Spill, spill_undo};
use super::tables::{Chunk, Tables, chunk_checksum};
use crate::CheckpointReport;
use crate::engine::{Appended, Chain, Engine};
use crate::planted::{Bug, Point, is_planted, reach};
use crate::txn::ActiveTxn;

/// Log bytes of a begin or end record, padding included.
const FENCE_RECORD_BYTES: u64 = 256;
/// Envelope, section, number, length and padding around a chunk's entries.
const CHUNK_OVERHEAD_BYTES: u64 = 64;
/// A hold on the log is revoked when less than this many eighths of the bound is left: the
/// permanent reserve, and the log up to the checkpoint after the next.
const HOLD_ROOM_EIGHTHS: u64 = 3;

/// Takes checkpoints, one at a time.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    engine: Arc<Engine>,
    control: Arc<Control>,
    turn: Mutex<()>,
    holds: LogHolds,
    max_wal_bytes: u64,
    /// Log that the undo of one transaction may hold.
    held_log_bytes: u64,
    /// END of the last checkpoint's end record.
    last_end: AtomicU64,
    /// Redo would start here: the redo point of the master record in force.
    redo_lsn: AtomicU64,
    /// The log below was given up, see [`Checkpointer::kept_lsn`].
    kept_lsn: AtomicU64,
    /// Log of earlier epochs that recovery worked off when the database was opened: as much as a
    /// page that is dirty since then may need again.
    earlier_bytes: u64,
}

/// The tables in the log, as the end record names them.
struct LoggedChunks {
    first_lsn: Lsn,
    count: u64,
    checksum: u32,
}

impl Checkpointer {
    /// For a log of `max_wal_bytes`, of which the undo of one transaction may hold
    /// `held_log_bytes`; `earlier_bytes`: log of earlier epochs that recovery has just worked off.
    pub(crate) fn new(
        engine: Arc<Engine>,
        control: Arc<Control>,
        (max_wal_bytes, held_log_bytes): (u64, u64),
        earlier_bytes: u64,
    ) -> Self {
        Self {
            engine,
            control,
            turn: Mutex::new(()),
            holds: LogHolds::default(),
            max_wal_bytes,
            held_log_bytes,
            last_end: AtomicU64::new(0),
            redo_lsn: AtomicU64::new(u64::MAX),
            kept_lsn: AtomicU64::new(0),
            earlier_bytes,
        }
    }

    /// Keeps the log from where the last checkpoint's recovery would begin, and returns what
    /// `control` says with that checkpoint. Waits for a checkpoint that is being taken.
    pub(crate) fn hold_log(&self) -> (LogHold<'_>, ControlState) {
        // Only a checkpoint gives log up, so the position is still there when the hold stands.
        let _turn = self.turn.lock();
        let state = self.control.state();
        let start_lsn = state.master.as_ref().map_or(Lsn::NONE, MasterRecord::start_lsn);
        (self.holds.hold(start_lsn), state)
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Log behind the redo point that recovery would start from.
    pub(crate) fn redo_bytes(&self) -> u64 {
        self.bytes_from(Lsn::new(self.redo_lsn.load(Ordering::SeqCst)))
    }

    /// What [`Checkpointer::redo_bytes`] would be after a checkpoint now.
    pub(crate) fn redo_bytes_after_checkpoint(&self) -> u64 {
        self.bytes_from(self.redo_lsn_now())
    }

    /// Where redo would begin after a checkpoint now.
    fn redo_lsn_now(&self) -> Lsn {
        let engine = &*self.engine;
        engine.dirty.min_rec_lsn().unwrap_or_else(|| engine.log.reserved_lsn())
    }

    /// Where the log begins that the undo of these transactions needs, or the parts of a commit that
    /// is still to come; [`Lsn::MAX`] when they need none.
    fn undo_lsn(&self, active: &[ActiveTxn], parts_lsn: Option<Lsn>) -> Lsn {
        let needed = active.iter().map(ActiveTxn::needed_lsn).chain(parts_lsn);
        needed.map(|lsn| lsn.max(self.kept_lsn())).min().unwrap_or(Lsn::MAX)
    }

    /// Bytes of log from `lsn` to its end. Between epochs positions jump without any log.
    fn bytes_from(&self, lsn: Lsn) -> u64 {
        let reserved = self.engine.log.reserved_lsn().get();
        let start_lsn = self.engine.log.epoch().start_lsn;
        if lsn >= start_lsn {
            return reserved.saturating_sub(lsn.get());
        }
        reserved.saturating_sub(start_lsn.get()) + self.earlier_bytes
    }

    /// Log reserved since the last checkpoint.
    pub(crate) fn bytes_since_last(&self) -> u64 {
        let last = self.last_end.load(Ordering::SeqCst);
        self.engine.log.reserved_lsn().get().saturating_sub(last)
    }

    /// Takes a checkpoint of the pages as they are, and moves undo information out of the log.
    pub(crate) fn take(&self, spill: Spill) -> Result<CheckpointReport> {
        self.take_and_tell(spill, |_| {})
    }

    /// [`Checkpointer::take`], which calls `tell` with the START of the begin record once that is
    /// appended.
    pub(crate) fn take_and_tell(
        &self,
        spill: Spill,
        tell: impl FnOnce(Lsn),
    ) -> Result<CheckpointReport> {
        let _turn = self.turn.lock();
        let started = Instant::now();
        let engine = &*self.engine;
        self.spill_undo(spill)?;
        engine.hold_sizes(engine.log.reserved_lsn());
        let logged = self.log_checkpoint(tell);
        engine.release_sizes();
        let (tables, end, appended) = logged?;
        engine.log.wait_durable(appended.end)?;
        let recycle_early = is_planted(Bug::RecycleSegmentEarly);
        if recycle_early {
            engine.log.truncate(needed_lsn(&end))?;
        }
        self.publish(&end, appended)?;
        let segments_recycled = self.truncate()?;
        self.last_end.store(appended.end.get(), Ordering::SeqCst);
        self.redo_lsn.store(end.redo_lsn.get(), Ordering::SeqCst);
        engine.reap_undo_files()?;
        engine.counters.checkpoint();
        Ok(report(&tables, &end, appended, segments_recycled, started))
    }

    /// Writes what `control` says into its other slot too, so that neither needs log from before the
    /// checkpoint in force, and gives that up. Returns the segments recycled.
    ///
    /// # Errors
    /// Those of writing `control`, and of recycling segments.
    pub(crate) fn confirm(&self) -> Result<u64> {
        let _turn = self.turn.lock();
        self.update_control(|_| ())?;
        self.truncate()
    }

    /// Moves undo information out of the log without a checkpoint: step 0 alone.
    pub(crate) fn spill(&self, spill: Spill) -> Result<()> {
        let _turn = self.turn.lock();
        self.spill_undo(spill)
    }

    fn spill_undo(&self, spill: Spill) -> Result<()> {
        let share_bytes = match spill {
            Spill::BeyondShare => self.held_log_bytes,
            Spill::Everything => 0,
        };
        // The collector does it as well, and may be waiting for the log that they hold.
        self.engine.reap_bulks(self.engine.refresh_horizon());
        spill_undo(&self.engine, &self.control, self.kept_lsn(), share_bytes)
    }

    /// Whether two checkpoints, one for each master record, would give up any log: nothing that
    /// they could name lies in the oldest segment.
    pub(crate) fn can_give_log_up(&self) -> bool {
        let engine = &*self.engine;
        let redo_lsn = self.redo_lsn_now();
        let undo_lsn = self.undo_lsn(&engine.active_txns(), engine.txns.min_parts_lsn());
        engine.log.can_truncate(redo_lsn.min(undo_lsn).min(self.held_by_committed()))
    }

    /// Where the log begins that readers need of huge transactions that have committed. What such a
    /// transaction has undone itself before is in no file and may be gone: nobody needs it.
    fn held_by_committed(&self) -> Lsn {
        let held = self.engine.committed_in_log().into_iter().map(|(_, needed_lsn)| needed_lsn);
        held.map(|lsn| lsn.max(self.kept_lsn())).min().unwrap_or(Lsn::MAX)
    }

    /// Step 6. Holds are kept while the log has room for writers without what they hold.
    fn truncate(&self) -> Result<u64> {
        let log = &self.engine.log;
        let keep_lsn = self.held_by_committed().min(self.control.needed_lsn());
        let held_lsn = self.holds.lowest();
        let recycled = log.truncate(keep_lsn.min(held_lsn))?;
        self.kept_lsn.fetch_max(keep_lsn.get(), Ordering::SeqCst);
        let room_bytes = self.max_wal_bytes / 8 * HOLD_ROOM_EIGHTHS;
        if held_lsn >= keep_lsn || log.available_bytes() >= room_bytes {
            return Ok(recycled);
        }
        self.holds.revoke_below(keep_lsn);
        Ok(recycled + log.truncate(keep_lsn)?)
    }

    /// Steps 1 to 4, but for the flush.
    fn log_checkpoint(&self, tell: impl FnOnce(Lsn)) -> Result<(Tables, CheckpointEnd, Appended)> {
        let engine = &*self.engine;
        // A commit that comes in behind the begin record, before the tables are copied, is neither active
        // nor pending there; analysis, which reads it, reads its parts. Those below `reserved_lsn` have
        // been noted once the appends under way are through.
        let reserved_lsn = engine.log.reserved_lsn();
        engine.appenders.wait_for_appends();
        let early_parts_lsn = engine.txns.min_parts_lsn();
        let begin_lsn = self.append(FENCE_RECORD_BYTES, &Body::CheckpointBegin)?.start;
        let parts_since_lsn = (reserved_lsn < begin_lsn).then_some(reserved_lsn);
        tell(begin_lsn);
        engine.appenders.wait_for_appends();
        let (tables, parts_lsn) = self.copy_tables(begin_lsn);
        // An extent that was on its way to be freed is in no table any more; the record that frees it is
        // to come in before the end record, lest a crash know this checkpoint and not that record.
        engine.appenders.wait_for_appends();
        let Tables { active, pending_frees, sizes, .. } = &tables;
        engine.reserve_listed(active.len(), pending_frees.len(), sizes.len());
        let chunks = self.log_tables(&tables)?;
        let parts_lsn = [early_parts_lsn, parts_since_lsn, parts_lsn].into_iter().flatten().min();
        let undo_lsn = self.undo_lsn(&tables.active, parts_lsn);
        let end = CheckpointEnd {
            begin_lsn,
            redo_lsn: tables.dirty.iter().map(|dirty| dirty.rec_lsn).fold(begin_lsn, Lsn::min),
            undo_lsn: if undo_lsn == Lsn::MAX { Lsn::NONE } else { undo_lsn },
            deferred_lsn: Lsn::NONE,
            first_chunk_lsn: chunks.first_lsn,
            chunks: chunks.count,
            chunks_checksum: chunks.checksum,
            epoch: engine.log.epoch().epoch,
            doublewrite_batch: engine.cleaner.writer().last_synced_batch(),
            wall_ms: engine.wall_floor_ms(),
        };
        let appended = self.append(FENCE_RECORD_BYTES, &Body::CheckpointEnd(end.clone()))?;
        Ok((tables, end, appended))
    }

    /// Steps 2 and 3, behind the stores of the appends that were under way: the transactions before
    /// the pages. Returns the tables, and where the parts begin of commits that are still to come.
    fn copy_tables(&self, begin_lsn: Lsn) -> (Tables, Option<Lsn>) {
        let engine = &*self.engine;
        let mut active = engine.active_txns();
        if is_planted(Bug::MissTransactionInCapture) {
            active.pop();
        }
        let parts_lsn = engine.txns.min_parts_lsn();
        let shards = 0..engine.dirty.shards();
        let dirty = shards.flat_map(|index| engine.dirty.copy_shard(index)).collect();
        let trees = engine.trees.all();
        let sizes = trees.iter().map(|tree| (tree.id, tree.size.at(begin_lsn))).collect();
        reach(Point::ListingFrees);
        let pending_frees = match is_planted(Bug::MissPendingFrees) {
            true => Vec::new(),
            false => engine.space.pending().as_of(begin_lsn),
        };
        let next_tree = engine.trees.peek_next_id();
        (Tables { active, dirty, pending_frees, sizes, next_tree }, parts_lsn)
    }

    /// The chunks of step 4.
    fn log_tables(&self, tables: &Tables) -> Result<LoggedChunks> {
        let chunks = tables.encode();
        let mut logged =
            LoggedChunks { first_lsn: Lsn::NONE, count: to_u64(chunks.len()), checksum: 0 };
        for (chunk, index) in chunks.iter().zip(0..) {
            let appended = self.append_chunk(chunk, index)?;
            if index == 0 {
                logged.first_lsn = appended.start;
            }
            logged.checksum = chunk_checksum(logged.checksum, &chunk.data);
        }
        Ok(logged)
    }

    /// The log below was given up. A position below it that a transaction still names counts as this
    /// one: what lay below is undone, or compensation, as with a transaction that has undone everything
    /// back into its undo file and then writes again.
    fn kept_lsn(&self) -> Lsn {
        Lsn::new(self.kept_lsn.load(Ordering::SeqCst))
    }

    fn append_chunk(&self, chunk: &Chunk, index: u64) -> Result<Appended> {
        let bytes = to_u64(chunk.data.len()) + CHUNK_OVERHEAD_BYTES;
        let body = Body::CheckpointChunk(CheckpointChunk {
            section: chunk.section,
            index,
            data: &chunk.data,
        });
        self.append(bytes, &body)
    }

    fn append(&self, payload_bytes: u64, body: &Body<'_>) -> Result<Appended> {
        let engine = &*self.engine;
        let purpose = Purpose::Reserve;
        let mut credit =
            engine.credit(&CreditRequest { payload_bytes, is_sync_commit: false, purpose })?;
        let mut appender = engine.appenders.acquire();
        Ok(engine.append(&mut appender, &mut credit, Chain::NONE, body, &mut [], |_| {}))
    }

    /// Step 5.
    fn publish(&self, end: &CheckpointEnd, appended: Appended) -> Result<()> {
        let engine = &*self.engine;
        let start_lsn = needed_lsn(end);
        let places = (engine.log.locate(end.begin_lsn), engine.log.locate(start_lsn));
        let (Some(begin_at), Some(start_at)) = places else {
            unreachable!("the log is kept from the oldest position that a checkpoint names");
        };
        let master = MasterRecord {
            begin_lsn: end.begin_lsn,
            end_lsn: appended.end,
            redo_lsn: end.redo_lsn,
            undo_lsn: end.undo_lsn,
            begin_at,
            start_at,
        };
        let first_epoch_lsn = start_lsn;
        self.update_control(|state| {
            state.master = Some(master);
            state.forget_epochs_below(first_epoch_lsn);
        })
    }

    /// An error poisons: what the next open will find is not known.
    fn update_control(&self, change: impl FnOnce(&mut ControlState)) -> Result<()> {
        let updated = self.control.update(change);
        updated.inspect_err(|error| self.engine.log.poison(error.clone()))
    }
}

/// Recovery from this checkpoint reads the log from here.
fn needed_lsn(end: &CheckpointEnd) -> Lsn {
    if end.undo_lsn.is_none() { end.redo_lsn } else { end.redo_lsn.min(end.undo_lsn) }
}

fn report(
    tables: &Tables,
    end: &CheckpointEnd,
    appended: Appended,
    segments_recycled: u64,
    started: Instant,
) -> CheckpointReport {
    CheckpointReport {
        begin_lsn: end.begin_lsn,
        end_lsn: appended.end,
        redo_lsn: end.redo_lsn,
        undo_lsn: if end.undo_lsn.is_none() { end.redo_lsn } else { end.undo_lsn },
        dirty_pages: to_u64(tables.dirty.len()),
        active_transactions: to_u64(tables.active.len()),
        segments_recycled,
        elapsed: started.elapsed(),
    }
}
