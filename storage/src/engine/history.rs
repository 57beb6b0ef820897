//! Reading records back for undo, and for readers of what stamps replaced: those that were spilled
//! from the transaction's undo file, those of this epoch from the log, older ones, while recovery
//! runs, from the files it found.

use seawall_wal::codec::DecodeError;
use seawall_wal::log::{OwnedRecord, RecordPlace, RecordReader};
use seawall_wal::record::{Body, Op, Stamp};
use seawall_wal::{Error, Lsn, Result, TxnId};

use super::Engine;
use super::read::{Looked, StampSeen};
use crate::version::CellBuf;

impl Engine {
    /// Lets undo read the log of earlier epochs; `None` when recovery is done.
    pub(crate) fn set_history(&self, history: Option<RecordReader>) {
        *self.history.lock() = history;
    }

    /// The record at `lsn` of a transaction that is not over, or whose undo information readers may
    /// need.
    pub(super) fn read_undo(&self, txn: TxnId, lsn: Lsn) -> Result<OwnedRecord> {
        if let Some(record) = self.spills.read(txn, lsn)? {
            return Ok(record);
        }
        match self.read_record(lsn) {
            // A checkpoint may have moved it from the log to the undo file meanwhile.
            Err(error) => self.spills.read(txn, lsn)?.ok_or(error),
            found => found,
        }
    }

    /// What the key of a stamp had for a cell before its transaction wrote it.
    fn before_image(&self, stamp: &Stamp) -> Result<Option<CellBuf>> {
        let read = self.read_undo(stamp.txn, stamp.undo_lsn)?;
        let damaged = |error: DecodeError| self.damaged_record(&read, error);
        let body = read.body().map_err(damaged)?;
        let record = read.decode(&body).map_err(damaged)?;
        let refs = match record.body {
            Body::Update { ref refs } if record.txn == stamp.txn => refs,
            ref other => {
                let expected = format!("a write of transaction {}", stamp.txn);
                let found = format!("{:?} of transaction {}", other.kind(), record.txn);
                return Err(self.wrong_record(&read, expected, found));
            }
        };
        let before = refs.iter().flat_map(|page_ref| page_ref.ops.iter()).find_map(|op| match op {
            Op::Put { before, .. } => Some(before.map(CellBuf::from)),
            _ => None,
        });
        before.ok_or_else(|| self.wrong_record(&read, "a write of a key", "none"))
    }

    /// What was there before a stamp, to which the one first seen in a page led; `Gone` where the
    /// write behind that may have been undone since.
    pub(super) fn before_stamp(&self, stamp: &Stamp, seen: &StampSeen) -> Result<Looked> {
        if stamp.undo_lsn == Stamp::NOTHING_BEFORE {
            return Ok(Looked::Cell(None));
        }
        match self.before_image(stamp) {
            Err(_) if self.bulks.get(stamp.txn).is_none() || self.may_be_undone(seen) => {
                Ok(Looked::Gone)
            }
            before => before.map(Looked::Cell),
        }
    }

    fn read_record(&self, lsn: Lsn) -> Result<OwnedRecord> {
        if lsn >= self.log.epoch().start_lsn {
            return self.log.read(lsn);
        }
        let mut history = self.history.lock();
        let Some(history) = history.as_mut() else {
            let what = format!("the record at {lsn}, from before this database was opened,");
            return Err(Error::NotFound { what });
        };
        history.read_record(lsn, None)
    }

    /// A record whose checksum holds and whose content does not.
    pub(super) fn damaged_record(&self, read: &OwnedRecord, error: DecodeError) -> Error {
        let (file, offset) = match read.place {
            // It is in no file yet: where it will be.
            RecordPlace::Memory => (self.wal_dir.clone(), 0),
            RecordPlace::Log(at) => (self.log.path(at.segment), at.offset),
            RecordPlace::TxnFile(_) => return self.spills.damaged_record(read, error),
        };
        error.in_record(read.lsn).in_file(&file, offset)
    }

    /// A record that is not what led to it says, as damage of where it was read.
    pub(super) fn wrong_record(
        &self,
        read: &OwnedRecord,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        self.damaged_record(read, DecodeError::new(0, expected, found))
    }
}
