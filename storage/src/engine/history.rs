//! Reading records back for undo: those of this epoch from the log, older ones, while recovery runs,
//! from the files it found.

use seawall_wal::codec::DecodeError;
use seawall_wal::log::{OwnedRecord, RecordReader};
use seawall_wal::{Error, Lsn, Result};

use super::Engine;

impl Engine {
    /// Lets undo read the log of earlier epochs; `None` when recovery is done.
    pub(crate) fn set_history(&self, history: Option<RecordReader>) {
        *self.history.lock() = history;
    }

    pub(super) fn read_record(&self, lsn: Lsn) -> Result<OwnedRecord> {
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
    pub(super) fn damaged_record(&self, lsn: Lsn, error: DecodeError) -> Error {
        self.wrong_record(lsn, error.expected, error.found)
    }

    pub(super) fn wrong_record(
        &self,
        lsn: Lsn,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        let expected = format!("{} in the record at {lsn}", expected.into());
        Error::corrupt(&self.wal_dir, 0, expected, found)
    }
}
