//! Recovering a database; the steps are those of the module above.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use seawall_wal::codec::{DecodeError, to_u64};
use seawall_wal::control::{Control, ControlState, Shutdown};
use seawall_wal::disk::{AlignedBuf, DirectoryLock, OpenMode};
use seawall_wal::log::{
    LogEnd, LogFiles, RecordReader, Segments, rewrite_tail, write_lost_headers,
};
use seawall_wal::{Error, PageId, Result, TreeId};

use super::create::FIRST_TREE;
use super::sizing::Sizing;
use super::{Base, Opened, Opening};
use crate::catalogue::row::{trail_of, tree_of};
use crate::catalogue::{CATALOGUE_ROOT, Registry, TrailRow, TreeInfo, TreeRow, TreeState};
use crate::checkpoint::Spill;
use crate::checkpoint::pacing::measured;
use crate::engine::{Engine, Undo};
use crate::page::{LeafView, PageRead, Verified, pages_per_bitmap};
use crate::pool::{Pool, SharedPage};
use crate::recovery::{Analysis, WORKERS, analyse, redo};
use crate::tree::{Descent, Seek};
use crate::txn::CommitCell;
use crate::version::KeySpan;
use crate::writeback::doublewrite::Slot;
use crate::writeback::restore::{find_log_end, restore};
use crate::{Event, RecoveryPhase, RecoveryReport};

/// What steps 1 and 2 found, before anything is changed.
pub(crate) struct Plan {
    pub(super) files: Arc<LogFiles>,
    pub(super) end: LogEnd,
    pub(super) slots: Vec<Slot>,
    pub(super) analysis: Analysis,
}

impl Opening<'_> {
    pub(super) fn recover(&self, control: Control, lock: Box<dyn DirectoryLock>) -> Result<Opened> {
        let state = control.state();
        let identity = state.identity;
        if let Some(asked) = self.options.page_bytes.filter(|&asked| asked != identity.page_bytes) {
            return Err(Error::InvalidArgument(format!(
                "the database has pages of {} bytes; it cannot be opened with {asked}",
                identity.page_bytes
            )));
        }
        let is_clean = matches!(state.shutdown, Shutdown::Clean { .. });
        if self.options.read_only && !is_clean {
            return Err(Error::RecoveryNeeded);
        }
        let sizing = self.sizing(identity.page_bytes)?;

        self.progress(RecoveryPhase::Analysis, 0, 0);
        let started = Instant::now();
        let plan = self.plan(&state, &sizing)?;
        let mut report = plan.report(is_clean);
        report.analysis = started.elapsed();
        let log_bytes = plan.analysis.log_bytes;
        self.progress(RecoveryPhase::Analysis, log_bytes, log_bytes);
        if self.options.read_only {
            return self.look_at(control, lock, &plan, sizing);
        }

        rewrite_tail(&plan.files, &plan.end)?;
        let segments = Segments::open(
            &*self.disk,
            &self.layout.wal,
            sizing.segments,
            plan.end.resume_at,
            plan.end.index.clone(),
        )?;
        let nonce = self.options.source.nonce(state.last_epoch().epoch.get())?;
        let resume_at = segments.next_position();
        let entry = control.try_update(|state| {
            state.start_epoch(nonce, plan.end.end_lsn, plan.end.last_accepted, resume_at)
        })?;
        let log_identity = identity.database.log_identity(nonce);
        write_lost_headers(&plan.files, &plan.end, &entry, log_identity)?;

        let file = self.page_file(OpenMode::ReadWrite, identity.database, &sizing)?;
        let slots = to_u64(plan.slots.len());
        self.progress(RecoveryPhase::Doublewrite, 0, slots);
        let synced = plan.analysis.synced_batch();
        let mut images = Vec::new();
        if !plan.slots.is_empty() {
            let doublewrite = self.doublewrite(identity.database, &sizing);
            doublewrite.make_durable()?;
            // What is durable now: what the page cache alone had when the plan was made may have gone.
            images = doublewrite.scan()?;
        }
        let restored = restore(&images, &file, synced, plan.end.end_lsn)?;
        report.pages_restored = to_u64(restored.len());
        self.progress(RecoveryPhase::Doublewrite, slots, slots);
        let file = file.with_epochs(&control.state().epochs);

        let base = self.base(segments, entry, identity.database, file, sizing)?;
        let started = Instant::now();
        self.progress(RecoveryPhase::Redo, 0, log_bytes);
        let workers = self.redo_workers();
        let redone = redo(&plan.files, &plan.analysis, &base.pool, workers, |done| {
            self.progress(RecoveryPhase::Redo, done, log_bytes);
        })?;
        report.records_redone = redone.applied;
        report.pages_read = base.pool.stats().misses;
        report.redo = started.elapsed();

        let started = Instant::now();
        let engine = self.engine(&base, &plan.analysis)?;
        engine.set_history(Some(RecordReader::new(Arc::clone(&plan.files))));
        let mut opened = base.opened(engine, control, lock, report);
        opened.report.records_undone = self.undo_losers(&opened, &plan.analysis)?;
        let engine = &*opened.engine;
        engine.set_history(None);
        for (id, row) in read_rows(&engine.pool)? {
            if let (TreeState::Dropping, Some(tree)) = (row.state, engine.trees.get(id)) {
                engine.doom_once(tree);
            }
        }
        visit_rows(&engine.pool, |key, value| {
            if let Some((tree, txn)) = trail_of(key) {
                engine.sweep_noted(tree, txn, TrailRow::decode(value)?);
            }
            Ok(())
        })?;
        opened.report.undo = started.elapsed();

        self.progress(RecoveryPhase::Checkpoint, 0, 1);
        opened.checkpointer.take(Spill::BeyondShare)?;
        self.progress(RecoveryPhase::Checkpoint, 1, 1);
        let rates = opened.checkpointer.control().state().rates;
        let rates = match self.options.source.has_clock() {
            true => measured(rates, &opened.report, redone.reading),
            false => rates,
        };
        opened.checkpointer.control().update(|state| state.rates = rates)?;
        opened.report.total = self.started.elapsed();
        Ok(opened)
    }

    /// One where a test drives every step: then a run follows from its calls.
    pub(super) fn redo_workers(&self) -> usize {
        if self.options.manual_background { 1 } else { WORKERS }
    }

    /// Steps 1 and 2.
    pub(super) fn plan(&self, state: &ControlState, sizing: &Sizing) -> Result<Plan> {
        let database = state.identity.database;
        let files = LogFiles::of(Arc::clone(&self.disk), &self.layout.wal, state)?;
        let slots = self.doublewrite(database, sizing).scan()?;
        let end = find_log_end(&files, state, &slots)?;
        let master = state.master.as_ref();
        let analysis = analyse(&files, master, FIRST_TREE, end.end_lsn)?;
        Ok(Plan { files, end, slots, analysis })
    }

    /// Puts the engine together once the pages are as they were at the crash.
    pub(super) fn engine(&self, base: &Base, analysis: &Analysis) -> Result<Engine> {
        let size = |id: TreeId| analysis.sizes.get(&id).copied().unwrap_or(0);
        let catalogue = TreeInfo::new(TreeId::CATALOGUE, CATALOGUE_ROOT, size(TreeId::CATALOGUE));
        let mut trees = vec![catalogue];
        for (id, row) in read_rows(&base.pool)? {
            trees.push(TreeInfo::new(id, row.root, size(id)));
        }
        let trees = Registry::new(analysis.next_tree, trees);
        let engine = self.put_together(base, trees, count_bitmaps(base)?, analysis.wall_ms)?;
        for (&extent, &commit_lsn) in &analysis.pending_frees {
            let writer = Arc::new(CommitCell::new());
            engine.space.pending().enter(&[extent], &writer);
            writer.commit(commit_lsn);
        }
        Ok(engine)
    }

    /// Undoes every transaction that had not committed, newest record first over all of them, as
    /// the log would be read backwards once. Returns the records undone.
    ///
    /// Losers may be larger than the log: checkpoints on the way keep room for their compensation
    /// records. If we crash behind one, the next recovery goes on where it says.
    fn undo_losers(&self, opened: &Opened, analysis: &Analysis) -> Result<u64> {
        let engine = &*opened.engine;
        analysis.losers.values().for_each(|loser| engine.spills.adopt(loser));
        engine.spills.remove_unknown()?;
        let total = to_u64(analysis.losers.len());
        self.progress(RecoveryPhase::Undo, 0, total);
        let mut undos = BTreeMap::new();
        for loser in analysis.losers.values() {
            let slot = engine.txns.adopt(loser)?;
            let (last_lsn, undo_next_lsn) = (loser.last_lsn, loser.undo_next_lsn);
            let undo = Undo { txn: loser.id, last_lsn, undo_next_lsn };
            undos.insert((undo_next_lsn, loser.id), (undo, slot));
        }
        opened.shorten_history()?;
        let (mut undone, mut ended) = (0, 0);
        let mut wanted_bytes = opened.undo_room_bytes;
        let mut emptied: BTreeMap<TreeId, KeySpan> = BTreeMap::new();
        while let Some((_, (mut undo, slot))) = undos.pop_last() {
            wanted_bytes = opened.make_room_for_undo(wanted_bytes)?;
            if undo.undo_next_lsn.is_none() {
                engine.log_rollback_end(undo.chain(), None)?;
                engine.txns.release(slot);
                ended += 1;
                self.progress(RecoveryPhase::Undo, ended, total);
                continue;
            }
            let store = |start, undo_next| engine.txns.set_undone(&slot, start, undo_next);
            if let Some(write) = engine.undo_step(&mut undo, None, store)? {
                undone += 1;
                let span = emptied.entry(write.tree).or_insert_with(|| KeySpan::of(&write.key));
                span.widen(&write.key);
            }
            undos.insert((undo.undo_next_lsn, undo.txn), (undo, slot));
        }
        emptied.remove(&TreeId::CATALOGUE);
        engine.sweep_all(emptied);
        Ok(undone)
    }

    fn progress(&self, phase: RecoveryPhase, done: u64, total: u64) {
        self.options.tell(&Event::RecoveryProgress { phase, done, total });
    }
}

impl Plan {
    pub(super) const fn end(&self) -> &LogEnd {
        &self.end
    }

    pub(super) const fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    pub(super) fn report(&self, is_clean: bool) -> RecoveryReport {
        RecoveryReport {
            clean: is_clean,
            redo_lsn: self.analysis.redo_lsn,
            end_lsn: self.end.end_lsn,
            tail_bytes_cut: self.end.cut_bytes,
            records_scanned: self.analysis.records,
            losers: to_u64(self.analysis.losers.len()),
            log_bytes: self.analysis.log_bytes,
            ..RecoveryReport::default()
        }
    }
}

/// Every tree's row as it stands on the pages, committed or not: undo needs the roots of trees
/// whose creation it is about to undo.
fn read_rows(pool: &Pool) -> Result<Vec<(TreeId, TreeRow)>> {
    let mut rows = Vec::new();
    visit_rows(pool, |key, value| {
        if let Some(id) = tree_of(key) {
            rows.push((id, TreeRow::decode(value)?));
        }
        Ok(())
    })?;
    Ok(rows)
}

/// Calls `take` with each key and value of the catalogue.
fn visit_rows(
    pool: &Pool,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), DecodeError>,
) -> Result<()> {
    let descent = Descent { pool, tree: TreeId::CATALOGUE, root: CATALOGUE_ROOT };
    let mut from = Vec::new();
    loop {
        let page: SharedPage<'_> = descent.leaf(Seek::Key(&from))?;
        let leaf = LeafView::new(page.bytes());
        for slot in 0..leaf.count() {
            let (key, cell) = (leaf.key_at(slot).to_vec(), leaf.cell_at(slot));
            if !cell.is_ghost {
                let file = pool.page_file();
                take(&key, cell.value)
                    .map_err(|error| error.in_file(file.path(), file.offset(page.id())))?;
            }
        }
        match leaf.high_fence() {
            Some(fence) => from = fence.to_vec(),
            None => return Ok(()),
        }
    }
}

/// Bitmap pages are made in order, so the first one that is not there ends the count.
fn count_bitmaps(base: &Base) -> Result<u64> {
    let step = to_u64(pages_per_bitmap(base.sizing.page_bytes));
    let mut count = 0;
    let mut buffer = AlignedBuf::new(base.sizing.page_bytes);
    while count * step < base.file.pages() {
        let page = PageId::new(count * step);
        let is_written = base.pool.pin_resident(page).is_some()
            || base.file.read_page(page, &mut buffer)? != Verified::NeverWritten;
        if !is_written {
            break;
        }
        count += 1;
    }
    Ok(count)
}
