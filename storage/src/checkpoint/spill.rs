//! Moving undo information out of the log, so that no transaction, however long, keeps the log from
//! being given up ("Spilling" in ARCHITECTURE.md).
//!
//! It is the first step of a checkpoint:
//!
//! 1. Transactions whose undo information reaches back further than their share of the log are
//!    chosen, and committed huge ones that older readers may look behind.
//! 2. The durable log from the oldest of them on is read once, and their records are appended to
//!    their undo files. If we crash here, what was appended lies behind the files' marks: nobody
//!    reads it.
//! 3. The files are synced, with their names. The checkpoint that follows names the marks; until
//!    its master record is durable the log keeps what it had.
//! 4. The room that was set aside for compensations of what was spilled is given back: those do not
//!    need the log to be kept, so a checkpoint can always make room for them.
//!
//! Where a file cannot be written its transaction stays in the log, where it is what
//! `TransactionTooOld` is for; a disk that is not full is told of. An error of reading the log fails the
//! checkpoint.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use seawall_wal::control::Control;
use seawall_wal::log::LogFiles;
use seawall_wal::record::Kind;
use seawall_wal::{Error, Lsn, Result, TxnId};

use crate::engine::{Engine, UndoFile};

/// What is to be spilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spill {
    /// What holds more than its share of the log.
    BeyondShare,
    /// Everything: writers wait for the log.
    Everything,
}

/// A transaction to be spilled.
struct Chosen {
    file: Arc<UndoFile>,
    /// Its records below are spilled already.
    from: Lsn,
    has_failed: bool,
}

/// Spills undo information of transactions that hold more than `share_bytes` of the log, which is
/// kept from `kept_lsn` on.
pub(super) fn spill_undo(
    engine: &Engine,
    control: &Control,
    kept_lsn: Lsn,
    share_bytes: u64,
) -> Result<()> {
    let reserved = engine.log.reserved_lsn();
    let limit = Lsn::new(reserved.get().saturating_sub(share_bytes));
    let mut chosen = choose(engine, limit);
    let Some(from) = chosen.values().map(|chosen| chosen.from).min() else { return Ok(()) };
    let from = from.max(kept_lsn);
    let upto = engine.log.durable_lsn();
    if upto <= from {
        return Ok(());
    }
    let read = read_into(engine, control, from..upto, &mut chosen);
    let spilled = read.and_then(|()| sync_all(engine, &chosen, upto));
    if spilled.is_err() {
        // Whatever one of them met, the next checkpoint appends from the marks of all of them on.
        chosen.values().for_each(|chosen| engine.spills.forget_unsynced(&chosen.file));
    }
    spilled
}

/// Steps 3 and 4.
fn sync_all(engine: &Engine, chosen: &BTreeMap<TxnId, Chosen>, upto: Lsn) -> Result<()> {
    for chosen in chosen.values().filter(|chosen| !chosen.has_failed) {
        if let Err(error) = engine.spills.sync(&chosen.file, upto) {
            leave_in_log(engine, &chosen.file, &error);
            continue;
        }
        if let Some(room) = engine.txns.room(chosen.file.txn()) {
            room.lock().release_below(upto);
        }
    }
    Ok(())
}

/// Step 1.
fn choose(engine: &Engine, limit: Lsn) -> BTreeMap<TxnId, Chosen> {
    let active = engine.active_txns().into_iter().map(|txn| (txn.id, txn.needed_lsn()));
    active
        .chain(engine.committed_in_log())
        .filter(|&(_, needed_lsn)| needed_lsn < limit)
        .map(|(id, from)| {
            let file = engine.spills.file(id);
            (id, Chosen { file, from, has_failed: false })
        })
        .collect()
}

/// Step 2.
fn read_into(
    engine: &Engine,
    control: &Control,
    lsns: Range<Lsn>,
    chosen: &mut BTreeMap<TxnId, Chosen>,
) -> Result<()> {
    let state = control.state();
    let files = LogFiles::of(engine.spills.disk(), engine.wal_dir(), &state)?;
    let at = engine.log.locate(lsns.start);
    let mut reader = files.reader(lsns.start, at, Some(lsns.end))?;
    while let Some(found) = reader.next_record()? {
        let Some(chosen) = chosen.get_mut(&found.header.txn) else { continue };
        let is_undoable = Kind::decode(found.header.kind)
            .is_ok_and(|kind| matches!(kind, Kind::Update | Kind::CommitPart));
        if chosen.has_failed || !is_undoable || found.lsn < chosen.from {
            continue;
        }
        if let Err(error) = engine.spills.append(&chosen.file, found.lsn, found.bytes) {
            leave_in_log(engine, &chosen.file, &error);
            chosen.has_failed = true;
        }
    }
    Ok(())
}

/// What was not written is tried again from the file's mark on.
fn leave_in_log(engine: &Engine, file: &UndoFile, error: &Error) {
    engine.spills.forget_unsynced(file);
    if !matches!(error, Error::NoSpace { .. }) {
        engine.tell_unwritable(error);
    }
}
