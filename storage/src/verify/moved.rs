//! Which pages changed owner, or were changed, while a verification ran; and which ones running
//! transactions hold for their undo.
//!
//! Whatever links, unlinks, allocates or frees a page is in the log and names it: as the page of a
//! reference, in an extent of `Allocate` or `Release`, in the link of an overflow value that a
//! `Put` writes or replaces, or among the extents that a commit frees. A page that no record of the
//! verification names had one owner, or none, all the time.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use seawall_wal::codec::DecodeError;
use seawall_wal::control::ControlState;
use seawall_wal::log::LogFiles;
use seawall_wal::record::{Body, Cell, Extent, Op, Record};
use seawall_wal::{Lsn, PageId, Result, TxnId};

use super::files::read_log;
use crate::engine::{OverflowLink, Spills};
use crate::txn::ActiveTxn;

/// The range of log to look at.
#[derive(Debug)]
pub(super) struct Window<'a> {
    pub(super) files: &'a Arc<LogFiles>,
    pub(super) state: &'a ControlState,
    /// The verification began here.
    pub(super) start: Lsn,
    /// And ended here.
    pub(super) end: Lsn,
    /// Transactions that ran at its end.
    pub(super) active: &'a [ActiveTxn],
    /// Undo information that is not in the log.
    pub(super) spills: &'a Spills,
}

impl Window<'_> {
    /// Those of `wanted` that the window names.
    pub(super) fn moved(&self, wanted: &BTreeSet<PageId>) -> Result<HashSet<PageId>> {
        let first = self.active.iter().map(ActiveTxn::needed_lsn).fold(self.start, Lsn::min);
        let active: HashSet<TxnId> = self.active.iter().map(|txn| txn.id).collect();
        let mut moved = Moved { wanted, found: HashSet::new() };
        read_log(self.files, self.state, first, self.end, |found, record| {
            if found.lsn >= self.start {
                moved.note_record(record);
            } else if active.contains(&record.txn) {
                moved.note_undo(record);
            }
        })?;
        for txn in self.active.iter().filter(|txn| txn.undo_file_bytes > 0) {
            let file = self.spills.file(txn.id);
            self.spills.check(&file, |read| {
                let damaged = |error: DecodeError| self.spills.damaged_record(read, error);
                let body = read.body().map_err(damaged)?;
                moved.note_undo(&read.decode(&body).map_err(damaged)?);
                Ok(())
            })?;
        }
        Ok(moved.found)
    }
}

struct Moved<'w> {
    wanted: &'w BTreeSet<PageId>,
    found: HashSet<PageId>,
}

impl Moved<'_> {
    fn note_record(&mut self, record: &Record<'_>) {
        for page_ref in record.body.page_refs() {
            self.note_page(page_ref.page);
            page_ref.ops.iter().for_each(|op| self.note_op(op));
        }
        match &record.body {
            Body::Commit(commit) | Body::AutoCommit { commit, .. } => {
                commit.freed.iter().for_each(|extent| self.note_extent(extent));
            }
            Body::CommitPart { freed, .. } => {
                freed.iter().for_each(|extent| self.note_extent(extent));
            }
            _ => {}
        }
    }

    /// What the undo of a running transaction would link or free again.
    fn note_undo(&mut self, record: &Record<'_>) {
        for page_ref in record.body.page_refs() {
            page_ref.ops.iter().for_each(|op| self.note_op(op));
        }
    }

    fn note_op(&mut self, op: &Op<'_>) {
        match op {
            Op::Allocate(extent) | Op::Release(extent) => self.note_extent(extent),
            Op::Put { after, before, .. } => {
                self.note_cell(after);
                before.iter().for_each(|cell| self.note_cell(cell));
            }
            _ => {}
        }
    }

    fn note_cell(&mut self, cell: &Cell<'_>) {
        if cell.is_overflow
            && !cell.is_ghost
            && let Ok(link) = OverflowLink::decode(cell.value)
        {
            link.extents.iter().for_each(|extent| self.note_extent(extent));
        }
    }

    fn note_extent(&mut self, extent: &Extent) {
        let end = PageId::new(extent.first.get().saturating_add(extent.count));
        self.found.extend(self.wanted.range(extent.first..end));
    }

    fn note_page(&mut self, page: PageId) {
        if self.wanted.contains(&page) {
            self.found.insert(page);
        }
    }
}
