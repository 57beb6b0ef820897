//! Analysis: what the log says about transactions, pages and trees at the moment of the crash.
//!
//! It reads and changes nothing, so its result is a plan that can be printed before it is carried
//! out. The tables of the last checkpoint describe the state around its begin record; every record
//! from there on is then accounted for, so it does not matter that the tables were copied while
//! transactions ran (the checkpoint is fuzzy).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use seawall_wal::codec::DecodeError;
use seawall_wal::control::MasterRecord;
use seawall_wal::log::{LogFiles, LogRecord, RecordPlace, RecordReader};
use seawall_wal::record::{
    Body, CheckpointEnd, CommitInfo, Extent, Op, PageRef, Record, TreeDelta,
};
use seawall_wal::{Error, Lsn, PageId, Result, TreeId, TxnId};

use crate::catalogue::row::tree_of;
use crate::checkpoint::tables::{Tables, chunk_checksum};
use crate::txn::ActiveTxn;
use crate::writeback::doublewrite::BatchId;

/// What analysis found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Analysis {
    /// Redo reads the log from here.
    pub(crate) redo_lsn: Lsn,
    /// End of the log.
    pub(crate) end_lsn: Lsn,
    /// Transactions to be undone.
    pub(crate) losers: BTreeMap<TxnId, ActiveTxn>,
    /// Pages that may lack changes, and from where on.
    pub(crate) dirty: HashMap<PageId, Lsn>,
    /// START of the last record that gave a page its whole content, or freed it: what lies below
    /// does not matter for the page.
    pub(crate) last_inits: HashMap<PageId, Lsn>,
    /// Keys of each tree.
    pub(crate) sizes: HashMap<TreeId, i64>,
    /// Extents freed by commits and still marked as used, with the END of the commit.
    pub(crate) pending_frees: BTreeMap<Extent, Lsn>,
    /// No tree has had this id or a higher one.
    pub(crate) next_tree: TreeId,
    /// Wall time of the newest commit.
    pub(crate) wall_ms: u64,
    /// Doublewrite batches of the checkpoint's epoch up to this one are in place.
    pub(crate) doublewrite: Option<(seawall_wal::Epoch, u64)>,
    /// Records read.
    pub(crate) records: u64,
    /// Bytes of log from the redo point on.
    pub(crate) log_bytes: u64,
}

/// Reads the log from the last checkpoint, or from its beginning, up to `end_lsn`.
pub(crate) fn analyse(
    files: &Arc<LogFiles>,
    master: Option<&MasterRecord>,
    first_tree: TreeId,
    end_lsn: Lsn,
) -> Result<Analysis> {
    let mut analysis = Analysis { end_lsn, next_tree: first_tree, ..Analysis::default() };
    let begin_lsn = match master {
        Some(master) => {
            analysis.take_checkpoint(files, master)?;
            analysis.redo_lsn = master.redo_lsn;
            master.begin_lsn
        }
        None => {
            analysis.redo_lsn = files.epochs()[0].entry.start_lsn;
            analysis.redo_lsn
        }
    };
    let mut reader = files.reader(analysis.redo_lsn, None, Some(end_lsn))?;
    let mut parts = RecordReader::new(Arc::clone(files));
    while let Some(found) = reader.next_record()? {
        let damaged = |error| files.damaged_record(found.lsn, found.frame_at, error);
        let body = found.body().map_err(damaged)?;
        let record = found.decode(&body).map_err(damaged)?;
        analysis.log_bytes += found.end_lsn.since(found.lsn);
        analysis.records += 1;
        analysis.note_inits(found.lsn, record.body.page_refs());
        if found.lsn >= begin_lsn {
            analysis.note_record(&found, &record, &mut parts, files)?;
        }
    }
    Ok(analysis)
}

impl Analysis {
    /// The doublewrite batch up to which the checkpoint found every page in place.
    pub(crate) fn synced_batch(&self) -> Option<BatchId> {
        self.doublewrite.map(|(epoch, number)| BatchId { epoch, number })
    }

    /// Takes over the tables of the checkpoint that the master record names.
    fn take_checkpoint(&mut self, files: &Arc<LogFiles>, master: &MasterRecord) -> Result<()> {
        let mut reader =
            files.reader(master.begin_lsn, Some(master.begin_at), Some(master.end_lsn))?;
        let mut tables = Tables::default();
        let (mut chunks, mut checksum) = (0, 0);
        let mut ended = None;
        while let Some(found) = reader.next_record()? {
            let damaged = |error| files.damaged_record(found.lsn, found.frame_at, error);
            let body = found.body().map_err(damaged)?;
            match found.decode(&body).map_err(damaged)?.body {
                Body::CheckpointChunk(chunk) => {
                    chunks += 1;
                    checksum = chunk_checksum(checksum, chunk.data);
                    tables.decode_chunk(chunk.section, chunk.data).map_err(damaged)?;
                }
                Body::CheckpointEnd(end) => ended = Some(end),
                _ => {}
            }
        }
        let damaged = |expected: String, found: String| {
            let begin_at = master.begin_at;
            Error::corrupt(&files.path(begin_at.segment), begin_at.offset, expected, found)
        };
        let Some(end) = ended.filter(|end| end.begin_lsn == master.begin_lsn) else {
            let expected = format!("the end of the checkpoint that began at {}", master.begin_lsn);
            return Err(damaged(expected, "none".into()));
        };
        if (end.chunks, end.chunks_checksum) != (chunks, checksum) {
            let expected =
                format!("{} chunks with checksum {:#x}", end.chunks, end.chunks_checksum);
            let found = format!("{chunks} chunks with checksum {checksum:#x}");
            return Err(damaged(expected, found));
        }
        self.take_tables(tables, &end);
        Ok(())
    }

    fn take_tables(&mut self, tables: Tables, end: &CheckpointEnd) {
        self.losers = tables.active.into_iter().map(|txn| (txn.id, txn)).collect();
        self.dirty = tables.dirty.into_iter().map(|dirty| (dirty.page, dirty.rec_lsn)).collect();
        let frees = tables.pending_frees.into_iter();
        self.pending_frees = frees.map(|free| (free.extent, free.commit_lsn)).collect();
        let signed = |keys: u64| i64::try_from(keys).unwrap_or(i64::MAX);
        self.sizes = tables.sizes.into_iter().map(|(tree, keys)| (tree, signed(keys))).collect();
        self.next_tree = self.next_tree.max(tables.next_tree);
        self.wall_ms = end.wall_ms;
        self.doublewrite = Some((end.epoch, end.doublewrite_batch));
    }

    fn note_inits(&mut self, lsn: Lsn, refs: &[PageRef<'_>]) {
        for page_ref in refs {
            if page_ref.is_init {
                self.last_inits.insert(page_ref.page, lsn);
            }
            for op in &*page_ref.ops {
                if let Op::Release(extent) = op {
                    // What is dirty only later has nothing below to leave out: most pages of large values.
                    let dirty = extent.pages().filter(|page| self.dirty.contains_key(page));
                    self.last_inits.extend(dirty.map(|page| (page, lsn)));
                }
            }
        }
    }

    fn note_record(
        &mut self,
        found: &LogRecord<'_>,
        record: &Record<'_>,
        parts: &mut RecordReader,
        files: &LogFiles,
    ) -> Result<()> {
        for page_ref in record.body.page_refs() {
            self.dirty.entry(page_ref.page).or_insert(found.lsn);
            page_ref.ops.iter().for_each(|op| self.note_tree(op));
        }
        match &record.body {
            Body::Commit(commit) => {
                self.note_commit(found.end_lsn, commit);
                self.note_parts(found.end_lsn, record.prev_lsn, commit.parts, parts, files)?;
            }
            Body::AutoCommit { commit, .. } => self.note_commit(found.end_lsn, commit),
            Body::Free { refs, .. } => self.note_freed(refs),
            _ => {}
        }
        note_transaction(&mut self.losers, found.lsn, record);
        Ok(())
    }

    fn note_tree(&mut self, op: &Op<'_>) {
        if let Op::Put { tree: TreeId::CATALOGUE, key, .. } = op
            && let Some(tree) = tree_of(key)
        {
            self.next_tree = self.next_tree.max(TreeId::new(tree.get() + 1));
        }
    }

    fn note_commit(&mut self, end: Lsn, commit: &CommitInfo) {
        self.note_deltas(&commit.deltas);
        self.note_pending(end, &commit.freed);
        self.wall_ms = self.wall_ms.max(commit.wall_ms);
    }

    fn note_deltas(&mut self, deltas: &[TreeDelta]) {
        for delta in deltas {
            *self.sizes.entry(delta.tree).or_default() += delta.delta;
        }
    }

    fn note_pending(&mut self, commit_lsn: Lsn, freed: &[Extent]) {
        self.pending_frees.extend(freed.iter().map(|&extent| (extent, commit_lsn)));
    }

    /// Walks back over the parts of a commit, which may lie before the checkpoint.
    fn note_parts(
        &mut self,
        commit_lsn: Lsn,
        mut lsn: Lsn,
        parts: u64,
        reader: &mut RecordReader,
        files: &LogFiles,
    ) -> Result<()> {
        for _ in 0..parts {
            let read = reader.read_record(lsn, None)?;
            let RecordPlace::Log(frame_at) = read.place else {
                unreachable!("it was read from the files of the log");
            };
            let damaged = |error| files.damaged_record(lsn, frame_at, error);
            let body = read.body().map_err(damaged)?;
            let record = read.decode(&body).map_err(damaged)?;
            let Body::CommitPart { deltas, freed } = &record.body else {
                let found = format!("a record of kind {:?}", record.body.kind());
                return Err(damaged(DecodeError::new(0, "a part of a commit", found)));
            };
            self.note_deltas(deltas);
            self.note_pending(commit_lsn, freed);
            lsn = record.prev_lsn;
        }
        Ok(())
    }

    fn note_freed(&mut self, refs: &[PageRef<'_>]) {
        for op in refs.iter().flat_map(|page_ref| page_ref.ops.iter()) {
            if let Op::Release(extent) = op {
                self.pending_frees.remove(extent);
            }
        }
    }
}

/// What the record at `lsn` makes of its transaction: it has ended, or is to be undone from there on.
pub(crate) fn note_transaction(
    losers: &mut BTreeMap<TxnId, ActiveTxn>,
    lsn: Lsn,
    record: &Record<'_>,
) {
    match &record.body {
        Body::Commit(_) | Body::RollbackEnd => {
            losers.remove(&record.txn);
        }
        Body::AutoCommit { .. } | Body::Free { .. } => {}
        _ if !record.txn.is_none() => {
            let new = ActiveTxn::beginning(record.txn, lsn);
            let txn = losers.entry(record.txn).or_insert(new);
            txn.last_lsn = lsn;
            txn.undo_next_lsn = match &record.body {
                Body::Compensation { undo_next_lsn, .. } => *undo_next_lsn,
                _ => lsn,
            };
        }
        _ => {}
    }
}
