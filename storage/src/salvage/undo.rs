//! Transactions that had not committed: what their keys were before.
//!
//! The walk is that of [`engine::undo`](crate::engine), newest record first, and puts nothing back: it
//! remembers, for each key, what the transaction's oldest record that is not undone has found there. No
//! other transaction has written such a key since, so nothing is newer.

use std::collections::BTreeMap;
use std::path::Path;

use seawall_wal::disk::Disk;
use seawall_wal::log::{OwnedRecord, Survivors};
use seawall_wal::record::{Body, Op};
use seawall_wal::{DatabaseId, Lsn};

use super::log::{TreeKey, with_body};
use crate::spill::SpillReader;
use crate::txn::ActiveTxn;
use crate::version::CellBuf;

/// What keys were before transactions that are taken back; `None` where there was no cell.
pub(super) type Before = BTreeMap<TreeKey, Option<CellBuf>>;

/// Walks back over what a transaction has written.
///
/// # Errors
/// Says why the walk ended early; what was found up to there is in `before`.
pub(super) fn undo(
    disk: &dyn Disk,
    dir: &Path,
    database: DatabaseId,
    log: &mut Survivors,
    txn: &ActiveTxn,
    before: &mut Before,
) -> Result<(), String> {
    let mut spilled = None;
    let mut next = txn.undo_next_lsn;
    while !next.is_none() {
        let record = if next < txn.spilled_upto {
            let reader = match &mut spilled {
                Some(reader) => reader,
                none => {
                    let length = txn.undo_file_bytes;
                    let opened = SpillReader::open(disk, dir, database, txn.id, length);
                    none.insert(opened.map_err(|error| error.to_string())?)
                }
            };
            reader.read(next).map_err(|error| error.to_string())?
        } else {
            log.record(next).ok_or_else(|| format!("the record at {next} is lost"))?
        };
        let back = step(&record, txn, before)?;
        if back >= next {
            return Err(format!("the record at {next} names {back} as the one before"));
        }
        next = back;
    }
    Ok(())
}

/// Takes in one record, and says which one is next.
fn step(found: &OwnedRecord, txn: &ActiveTxn, before: &mut Before) -> Result<Lsn, String> {
    with_body(found, |record| {
        if record.txn != txn.id {
            return Err(format!("the record at {} is of transaction {}", found.lsn, record.txn));
        }
        match &record.body {
            Body::Compensation { undo_next_lsn, .. } => Ok(*undo_next_lsn),
            Body::Update { refs } => {
                for op in refs.iter().flat_map(|page_ref| page_ref.ops.iter()) {
                    if let Op::Put { tree, key, before: was, .. } = op {
                        before.insert((*tree, key.to_vec()), was.map(CellBuf::from));
                    }
                }
                Ok(record.prev_lsn)
            }
            _ => Ok(record.prev_lsn),
        }
    })?
}
