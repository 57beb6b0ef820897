//! What recovery finds out and repeats: analysis and redo. Undo is the engine's, since it is the
//! same as a rollback's; the order of the steps is that of `open`.

mod analysis;
mod redo;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use seawall_wal::control::ControlState;
use seawall_wal::disk::Disk;
use seawall_wal::log::LogFiles;
use seawall_wal::{DatabaseId, Error, Lsn, PageId, Result, TreeId, TxnId};

use crate::spill;
use crate::txn::ActiveTxn;
use crate::writeback::doublewrite::BatchId;

pub(crate) use analysis::{Analysis, analyse, note_transaction};
use redo::is_needed;
pub(crate) use redo::{WORKERS, redo};

/// A transaction that recovery would undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loser {
    /// The transaction.
    pub txn: TxnId,
    /// Whether undo information of it was moved out of the log: its records below are not there.
    pub is_spilled: bool,
}

/// What recovery would do, for those who only look.
#[derive(Clone, Debug)]
pub struct Outlook(Analysis);

impl Outlook {
    /// Takes stock as recovery does: of the last checkpoint's tables and the log up to `end_lsn`. Changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; those of reading.
    pub fn make(files: &Arc<LogFiles>, state: &ControlState, end_lsn: Lsn) -> Result<Self> {
        // What the next tree's id is does not matter here.
        let first_tree = TreeId::CATALOGUE;
        analyse(files, state.master.as_ref(), first_tree, end_lsn).map(Self)
    }

    /// The transactions that would be undone.
    #[must_use]
    pub fn losers(&self) -> Vec<Loser> {
        let losers = self.0.losers.values();
        let loser =
            |txn: &ActiveTxn| Loser { txn: txn.id, is_spilled: !txn.spilled_upto.is_none() };
        losers.map(loser).collect()
    }

    /// What is wrong with the undo files that would be read, each up to where the checkpoint knows it; of
    /// a file the first damage.
    #[must_use]
    pub fn undo_findings(&self, disk: &dyn Disk, dir: &Path, database: DatabaseId) -> Vec<Error> {
        let is_read = |txn: &&ActiveTxn| txn.undo_file_bytes > 0 && !txn.undo_next_lsn.is_none();
        let check = |txn: &ActiveTxn| {
            spill::check(disk, dir, database, txn.id, txn.undo_file_bytes, |_| Ok(())).err()
        };
        self.0.losers.values().filter(is_read).filter_map(check).collect()
    }

    /// Batches of the doublewrite file up to this one are left alone: their pages are in place.
    #[must_use]
    pub fn synced_batch(&self) -> Option<BatchId> {
        self.0.synced_batch()
    }

    /// Whether redo looks at what the record at `lsn` does to `page`.
    #[must_use]
    pub fn redoes(&self, page: PageId, lsn: Lsn) -> bool {
        is_needed(&self.0, page, lsn)
    }
}
