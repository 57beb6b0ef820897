//! What recovery finds out and repeats: analysis and redo. Undo is the engine's, since it is the
//! same as a rollback's; the order of the steps is that of `open`.

mod analysis;
mod redo;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use seawall_wal::control::ControlState;
use seawall_wal::log::LogFiles;
use seawall_wal::{Lsn, Result, TreeId, TxnId};

pub(crate) use analysis::{Analysis, analyse};
pub(crate) use redo::{WORKERS, redo};

/// A transaction that recovery would undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loser {
    /// The transaction.
    pub txn: TxnId,
    /// Whether undo information of it was moved out of the log: its records below are not there.
    pub is_spilled: bool,
}

/// The transactions that recovery would undo, for those who only look: from the last checkpoint's
/// table of active transactions and the log in `dir` up to `end_lsn`. Changes nothing.
///
/// # Errors
/// [`Error::Corrupt`](seawall_wal::Error::Corrupt); those of reading.
pub fn losers(
    files: &Arc<LogFiles>,
    dir: &Path,
    state: &ControlState,
    end_lsn: Lsn,
) -> Result<Vec<Loser>> {
    // What the next tree's id is does not matter here.
    let first_tree = TreeId::CATALOGUE;
    let analysis = analyse(files, dir, state.master.as_ref(), first_tree, end_lsn)?;
    let losers = analysis.losers.values();
    Ok(losers.map(|txn| Loser { txn: txn.id, is_spilled: !txn.spilled_upto.is_none() }).collect())
}
