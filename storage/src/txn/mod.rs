//! Transactions below the public interface: the transaction table, appenders, snapshots, the fate of
//! a unit of writing, and the validation of serializable transactions.

mod appenders;
mod commit_cell;
mod gate;
#[cfg(all(test, loom))]
mod loom_models;
mod read_set;
mod rollback_room;
mod slots;
mod snapshots;

pub(crate) use appenders::{AppenderGuard, Appenders};
pub(crate) use commit_cell::{CommitCell, Fate};
pub(crate) use gate::{CommitGate, CommitPass, ValidatedPass, Validation, Written};
pub(crate) use read_set::{ReadRange, ReadSet};
pub(crate) use rollback_room::RollbackRoom;
pub(crate) use slots::{ActiveTxn, TxnSlot, TxnTable};
pub(crate) use snapshots::{SnapshotSlot, Snapshots};
