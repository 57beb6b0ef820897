//! Figures that the engine reports, for people and for machines.
//!
//! Each report displays as one aligned line per field, with units. With the feature `serde` it
//! serialises under its field names: LSNs as numbers, durations as seconds.

use std::fmt;
use std::time::Duration;

use crate::Lsn;

mod figures;

#[cfg(feature = "serde")]
pub(crate) use figures::seconds;
use figures::{Bytes, Lines, yes_no};

/// Where the database stands. Counters begin at zero with each open.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// End of the last record appended to the log.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub end_lsn: Lsn,
    /// Everything below is on stable storage.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub durable_lsn: Lsn,
    /// Commits up to here are seen by new snapshots.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub visible_lsn: Lsn,
    /// Redo would begin here if a checkpoint were taken now.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub redo_lsn: Lsn,
    /// Undo after a crash now would read the log from here; `end_lsn` where it needs none of it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub undo_lsn: Lsn,
    /// Space that the log takes on disk.
    pub wal_bytes: u64,
    /// Space that undo moved out of the log takes on disk.
    pub undo_bytes: u64,
    /// Length of the page file.
    pub page_file_bytes: u64,
    /// Pages that the cache has room for.
    pub cache_pages: u64,
    /// Pages with changes that are not yet in the page file.
    pub dirty_pages: u64,
    /// Page accesses that found the page in the cache.
    pub cache_hits: u64,
    /// Page accesses that had to read it.
    pub cache_misses: u64,
    /// Memory that old versions take.
    pub version_bytes: u64,
    /// Transactions that have begun and not ended.
    pub active_transactions: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Times that writers were held back.
    pub stalls: u64,
    /// Transactions and auto-commit writes that committed.
    pub commits: u64,
    /// Transactions that rolled back.
    pub rollbacks: u64,
    /// Conflicts given to a caller or retried.
    pub conflicts: u64,
    /// Syncs of the log, those of a synced write included.
    pub flushes: u64,
    /// Bytes written to the log, padding included.
    pub wal_bytes_written: u64,
    /// Bytes written to the page file.
    pub page_bytes_written: u64,
    /// How long recovery would take after a crash now.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::seconds"))]
    pub estimated_recovery: Duration,
    /// How long writers were held back in all.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::seconds"))]
    pub stall_time: Duration,
    /// Age of the oldest snapshot that is still held.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::optional_seconds"))]
    pub oldest_snapshot_age: Option<Duration>,
}

/// What opening the database found and did.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RecoveryReport {
    /// The database was created.
    pub created: bool,
    /// It had been shut down cleanly; nothing was recovered.
    pub clean: bool,
    /// Redo started here.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub redo_lsn: Lsn,
    /// End of the log that was found.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub end_lsn: Lsn,
    /// Bytes behind that end which a crash had left unfinished.
    pub tail_bytes_cut: u64,
    /// Log records read.
    pub records_scanned: u64,
    /// Log records that changed a page.
    pub records_redone: u64,
    /// Pages read.
    pub pages_read: u64,
    /// Torn pages restored from the doublewrite file.
    pub pages_restored: u64,
    /// Transactions that had not committed.
    pub losers: u64,
    /// Records of theirs that were undone.
    pub records_undone: u64,
    /// Bytes of log from the redo LSN to its end.
    pub log_bytes: u64,
    /// Time spent reading the log.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::seconds"))]
    pub analysis: Duration,
    /// Time spent on redo.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::seconds"))]
    pub redo: Duration,
    /// Time spent on undo.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::seconds"))]
    pub undo: Duration,
    /// Time from the start of the open to its return.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::seconds"))]
    pub total: Duration,
}

/// A checkpoint that was completed.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CheckpointReport {
    /// Its begin record.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub begin_lsn: Lsn,
    /// End of its end record.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub end_lsn: Lsn,
    /// Recovery would redo from here.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub redo_lsn: Lsn,
    /// Undo would read the log from here; `redo_lsn` where it needs none of it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub undo_lsn: Lsn,
    /// Entries of its dirty page table.
    pub dirty_pages: u64,
    /// Entries of its transaction table.
    pub active_transactions: u64,
    /// Log segments that it set free.
    pub segments_recycled: u64,
    /// How long it took.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::seconds"))]
    pub elapsed: Duration,
}

/// What a verification of every page and tree found.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct VerifyReport {
    /// Pages read.
    pub pages: u64,
    /// Keys and log records checked.
    pub records: u64,
    /// Trees walked.
    pub trees: u64,
    /// What is wrong, a sentence each; empty when nothing is.
    pub findings: Vec<String>,
    /// How long it took.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::seconds"))]
    pub elapsed: Duration,
}

/// How far a verification has come.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct VerifyProgress {
    /// Pages done.
    pub done: u64,
    /// Pages in all.
    pub total: u64,
}

/// A backup that was completed.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BackupReport {
    /// The backup holds every commit up to here.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::lsn"))]
    pub lsn: Lsn,
    /// Bytes copied.
    pub bytes: u64,
    /// How long it took.
    #[cfg_attr(feature = "serde", serde(serialize_with = "figures::seconds"))]
    pub elapsed: Duration,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Lines::new(f)
            .line("end_lsn", self.end_lsn)
            .line("durable_lsn", self.durable_lsn)
            .line("visible_lsn", self.visible_lsn)
            .line("redo_lsn", self.redo_lsn)
            .line("undo_lsn", self.undo_lsn)
            .line("wal_bytes", Bytes(self.wal_bytes))
            .line("undo_bytes", Bytes(self.undo_bytes))
            .line("page_file_bytes", Bytes(self.page_file_bytes))
            .line("cache_pages", self.cache_pages)
            .line("dirty_pages", self.dirty_pages)
            .line("cache_hits", self.cache_hits)
            .line("cache_misses", self.cache_misses)
            .line("version_bytes", Bytes(self.version_bytes))
            .line("active_transactions", self.active_transactions)
            .line("checkpoints", self.checkpoints)
            .line("stalls", self.stalls)
            .line("commits", self.commits)
            .line("rollbacks", self.rollbacks)
            .line("conflicts", self.conflicts)
            .line("flushes", self.flushes)
            .line("wal_bytes_written", Bytes(self.wal_bytes_written))
            .line("page_bytes_written", Bytes(self.page_bytes_written))
            .duration("estimated_recovery", Some(self.estimated_recovery))
            .duration("stall_time", Some(self.stall_time))
            .duration("oldest_snapshot_age", self.oldest_snapshot_age)
            .finish()
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Lines::new(f)
            .line("created", yes_no(self.created))
            .line("clean", yes_no(self.clean))
            .line("redo_lsn", self.redo_lsn)
            .line("end_lsn", self.end_lsn)
            .line("tail_bytes_cut", Bytes(self.tail_bytes_cut))
            .line("records_scanned", self.records_scanned)
            .line("records_redone", self.records_redone)
            .line("pages_read", self.pages_read)
            .line("pages_restored", self.pages_restored)
            .line("losers", self.losers)
            .line("records_undone", self.records_undone)
            .line("log_bytes", Bytes(self.log_bytes))
            .duration("analysis", Some(self.analysis))
            .duration("redo", Some(self.redo))
            .duration("undo", Some(self.undo))
            .duration("total", Some(self.total))
            .finish()
    }
}

impl fmt::Display for CheckpointReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Lines::new(f)
            .line("begin_lsn", self.begin_lsn)
            .line("end_lsn", self.end_lsn)
            .line("redo_lsn", self.redo_lsn)
            .line("undo_lsn", self.undo_lsn)
            .line("dirty_pages", self.dirty_pages)
            .line("active_transactions", self.active_transactions)
            .line("segments_recycled", self.segments_recycled)
            .duration("elapsed", Some(self.elapsed))
            .finish()
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Lines::new(f)
            .line("pages", self.pages)
            .line("records", self.records)
            .line("trees", self.trees)
            .line("findings", self.findings.len())
            .duration("elapsed", Some(self.elapsed))
            .finish()?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

impl fmt::Display for VerifyProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} pages", self.done, self.total)
    }
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Lines::new(f)
            .line("lsn", self.lsn)
            .line("bytes", Bytes(self.bytes))
            .duration("elapsed", Some(self.elapsed))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BackupReport, RecoveryReport, VerifyProgress, VerifyReport};
    use crate::Lsn;

    #[test]
    fn a_report_is_one_aligned_line_a_field() {
        let report = BackupReport {
            lsn: Lsn::new(4_294_967_296),
            bytes: 3 << 20,
            elapsed: Duration::from_millis(1234),
        };
        let expected = "lsn                               4294967296\n\
                        bytes                                3.0 MiB\n\
                        elapsed                                 1.2s";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn every_line_of_a_report_ends_in_the_same_column() {
        let text = RecoveryReport::default().to_string();
        let ends: Vec<usize> = text.lines().map(str::len).collect();
        assert!(ends.iter().all(|&end| end == ends[0]), "{text}");
    }

    #[test]
    fn findings_follow_their_count() {
        let report =
            VerifyReport { findings: vec!["page 7 is unreachable".into()], ..Default::default() };
        assert!(report.to_string().ends_with("\n  page 7 is unreachable"));
        assert_eq!(VerifyProgress { done: 1, total: 2 }.to_string(), "1 of 2 pages");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_report_serialises_lsns_as_numbers_and_durations_as_seconds() {
        let stats = crate::Stats {
            redo_lsn: Lsn::new(7),
            stall_time: Duration::from_millis(250),
            ..Default::default()
        };
        let json = serde_json::to_value(stats).unwrap();
        assert_eq!(json["redo_lsn"], 7);
        assert_eq!(json["stall_time"], 0.25);
        assert!(json["oldest_snapshot_age"].is_null());
    }
}
