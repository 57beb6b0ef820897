//! What the engine tells [`Options::on_event`](crate::Options::on_event) while it works.

use std::fmt;
use std::time::Duration;

use crate::{CheckpointReport, Error, Lsn};

/// Something that happened in the background, or that is taking its time.
///
/// Delivered on the thread where it happens: one of the database's own, or one that is in the
/// middle of a call, such as a write that waits for room in the log or a read that waits for room in
/// the cache. No latch is held, but a slow receiver slows that thread down, and a receiver must not
/// wait for anything that the thread is about to do. It may look at
/// [`Database::stats`](crate::Database::stats). It must not read or write the database, take a
/// checkpoint of it, verify it, back it up or close it, nor use a transaction that may be in the
/// call.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Event {
    /// A fuzzy checkpoint has begun.
    CheckpointBegin {
        /// LSN of its begin record.
        begin_lsn: Lsn,
    },
    /// A fuzzy checkpoint is complete and published.
    CheckpointEnd(CheckpointReport),
    /// Recovery has come further.
    RecoveryProgress {
        /// What it is doing.
        phase: RecoveryPhase,
        /// How much of `total` is done, in units of the phase.
        done: u64,
        /// The whole of the phase; 0 as long as it is not known.
        total: u64,
    },
    /// Writers are being held back.
    StallBegin {
        /// By what.
        reason: StallReason,
    },
    /// Writers go on.
    StallEnd {
        /// What held them back.
        reason: StallReason,
        /// For how long.
        waited: Duration,
    },
    /// The database refuses writes until it is opened again. Told once.
    Poisoned {
        /// What failed first.
        error: Error,
    },
    /// Work in the background has met a damaged page. It leaves what it had to do there, and goes on
    /// with the rest; whoever reads the page gets the same error, and
    /// [`Database::verify`](crate::Database::verify) tells of all damage. Or it could not write the undo
    /// file of a long transaction, which then holds the log. Told once for each page or file, of the
    /// first 64.
    Damaged {
        /// [`Error::Corrupt`], which names the page, or [`Error::Io`], which names the file.
        error: Error,
    },
    /// The last handle of the database has gone, and it could not be shut down cleanly: the next
    /// open recovers. (Where [`Database::close`](crate::Database::close) is called, that returns
    /// the error instead.)
    CloseFailed {
        /// What stood in the way.
        error: Error,
    },
}

/// Step of recovery, in order. `done` and `total` of [`Event::RecoveryProgress`] count the unit
/// given with each; the last report of a phase has them equal.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecoveryPhase {
    /// Reading the log to find its end and what must be done; bytes of log.
    Analysis,
    /// Restoring torn pages from the doublewrite file; slots.
    Doublewrite,
    /// Applying changes that the pages lack; bytes of log.
    Redo,
    /// Rolling back transactions that did not commit; transactions.
    Undo,
    /// The checkpoint that ends recovery; checkpoints, of which there is one.
    Checkpoint,
}

impl fmt::Display for RecoveryPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Analysis => "analysis",
            Self::Doublewrite => "doublewrite",
            Self::Redo => "redo",
            Self::Undo => "undo",
            Self::Checkpoint => "checkpoint",
        })
    }
}

/// Why writers wait.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StallReason {
    /// The log comes near `max_wal_bytes`, and each writer is slowed; or it has reached the bound
    /// and nothing can be recycled yet, and a writer waits.
    WalBound,
    /// Recovery from here would take longer than `recovery_target`.
    RecoveryTarget,
    /// Every page in the cache is in use or waits to be written.
    NoCleanFrame,
    /// Old versions, kept for snapshots, have reached their share of memory.
    VersionMemory,
}

impl fmt::Display for StallReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::WalBound => "the log is near its bound",
            Self::RecoveryTarget => "recovery would take longer than its target",
            Self::NoCleanFrame => "no page of the cache is free",
            Self::VersionMemory => "old versions fill their share of memory",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CheckpointBegin { begin_lsn } => write!(f, "checkpoint begun at {begin_lsn}"),
            Self::CheckpointEnd(report) => write!(
                f,
                "checkpoint of {} done in {:.1?}; redo starts at {}",
                report.begin_lsn, report.elapsed, report.redo_lsn
            ),
            Self::RecoveryProgress { phase, done, total } => {
                write!(f, "recovery, {phase}: {done} of {total}")
            }
            Self::StallBegin { reason } => write!(f, "writers wait: {reason}"),
            Self::StallEnd { reason, waited } => {
                write!(f, "writers go on after {waited:.1?}: {reason}")
            }
            Self::Poisoned { error } => write!(f, "no more writes: {error}"),
            Self::Damaged { error } => write!(f, "met in the background: {error}"),
            Self::CloseFailed { error } => write!(f, "not shut down cleanly: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Event, RecoveryPhase, StallReason};

    #[test]
    fn events_read_as_sentences() {
        let progress = Event::RecoveryProgress { phase: RecoveryPhase::Redo, done: 3, total: 9 };
        assert_eq!(progress.to_string(), "recovery, redo: 3 of 9");
        let waited = Duration::from_millis(1500);
        let stall = Event::StallEnd { reason: StallReason::WalBound, waited };
        assert_eq!(stall.to_string(), "writers go on after 1.5s: the log is near its bound");
    }
}
