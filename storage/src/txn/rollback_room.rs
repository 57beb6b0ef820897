//! Log room for the compensation records of a transaction: set aside with each of its records, so
//! that its rollback can always finish (invariant T2).
//!
//! Once the undo information of a record has left the log for the transaction's undo file, its
//! compensation does not keep any log: a checkpoint can make room for it at any time. So its room is
//! given back, which is why a transaction may be larger than the log. Marks, one for each stretch of
//! log, say how much room belongs to the records below them.
//!
//! The room of the record that ends the rollback stays to the end: nothing else may stand between a
//! transaction that is undone and its locks.

use std::collections::VecDeque;

use seawall_wal::log::{Credit, Log, SetAside};
use seawall_wal::{Lsn, Result};

/// Log between two marks, in bytes.
const MARK_STEP_BYTES: u64 = 64 << 10;

/// Room for a rollback.
#[derive(Debug, Default)]
pub(crate) struct RollbackRoom {
    held: Option<SetAside>,
    /// For the record that says that everything is undone.
    end: Option<SetAside>,
    marks: VecDeque<Mark>,
    /// Room given back so far.
    released_bytes: u64,
    /// Records below have no room here any more.
    released_upto: Lsn,
    /// START of the newest record.
    last_lsn: Lsn,
}

/// Room, from the beginning of the transaction on, of its records that begin below `lsn`.
#[derive(Clone, Copy, Debug)]
struct Mark {
    lsn: Lsn,
    bytes: u64,
}

impl RollbackRoom {
    /// Keeps `room` for the compensation of the record at `start`.
    pub(crate) fn add(&mut self, room: SetAside, start: Lsn) {
        let is_far = |mark: &Mark| start.since(mark.lsn) >= MARK_STEP_BYTES;
        if self.marks.back().is_none_or(is_far) {
            self.marks.push_back(Mark { lsn: start, bytes: self.total_bytes() });
        }
        self.last_lsn = start;
        match &mut self.held {
            Some(held) => held.absorb(room),
            None => self.held = Some(room),
        }
    }

    /// Keeps `room` for the record that ends the rollback.
    pub(crate) fn keep_end(&mut self, room: SetAside) {
        self.end = Some(room);
    }

    /// Credit for the record that ends the rollback; `None` when no room was kept for it.
    pub(crate) fn take_end(&mut self, log: &Log) -> Option<Result<Credit>> {
        let mut end = self.end.take()?;
        let bytes = end.bytes();
        Some(log.credit_from(&mut end, bytes))
    }

    /// Room of all records so far.
    fn total_bytes(&self) -> u64 {
        self.released_bytes + self.held.as_ref().map_or(0, SetAside::bytes)
    }

    /// Gives back the room of records below `lsn`: of all, or of those below the last mark.
    pub(crate) fn release_below(&mut self, lsn: Lsn) {
        if lsn > self.last_lsn {
            // The next record begins at or beyond `lsn`.
            self.marks.clear();
            self.released_bytes = self.total_bytes();
            self.released_upto = lsn;
            self.held = None;
            return;
        }
        let Some(mark) = self.marks.iter().rev().find(|mark| mark.lsn <= lsn).copied() else {
            return;
        };
        self.marks.retain(|other| other.lsn >= mark.lsn);
        if let Some(held) = &mut self.held {
            held.release(mark.bytes.saturating_sub(self.released_bytes));
        }
        self.released_bytes = self.released_bytes.max(mark.bytes);
        self.released_upto = mark.lsn;
    }

    /// Credit of `bytes` for the compensation of the record at `lsn`, the newest that is not undone.
    /// `None` when its room was given back.
    pub(crate) fn take(&mut self, log: &Log, lsn: Lsn, bytes: u64) -> Option<Result<Credit>> {
        let held = self.held.as_mut().filter(|_| lsn >= self.released_upto)?;
        let credit = log.credit_from(held, bytes);
        let total_bytes = self.total_bytes();
        while self.marks.back().is_some_and(|mark| mark.bytes > total_bytes) {
            self.marks.pop_back();
        }
        Some(credit)
    }

    /// Takes back what [`Self::take`] gave for the record at `lsn`, which could not be undone: the next
    /// attempt needs it. Not where its room has been given back since, or was not taken from here.
    pub(crate) fn give_back(&mut self, credit: &mut Credit, lsn: Lsn) {
        if lsn >= self.released_upto
            && let Some(held) = &mut self.held
        {
            held.absorb(credit.set_aside(u64::MAX));
        }
    }
}
